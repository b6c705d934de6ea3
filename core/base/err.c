/*
 * The message of the last failure, one per thread, and the names of the codes.
 *
 * A message longer than the buffer is cut, never lost. errno survives fail(), so a caller may
 * still look at it. An argument may be err_message() itself: the text is built beside the old one.
 * Messages quote names out of files, which must neither drive the terminal nor look like a line of ours.
 */
#include "core/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define ERR_TEXT 1024 /* two paths of ordinary length and the sentence around them */

static _Thread_local char message[ERR_TEXT];

static const char *const names[ERR_ORDINAL_END] = {[ERR_ORDINAL_NONE] = "no error",
#define X(name, text) [ERR_ORDINAL_##name] = text,
                                                   ERR_LIST(X)
#undef X
};

void err_plain(char *text)
{
    for (unsigned char *p = (unsigned char *)text; *p != '\0'; p++)
        if (*p < 0x20 || *p == 0x7f)
            *p = '?';
        else if (*p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) /* U+0080 ... U+009F */
            p[0] = p[1] = '?';
}

/* text becomes the message; errno as it was. */
static int keep(int code, char text[ERR_TEXT], int saved)
{
    assert(code < 0);
    err_plain(text);
    memcpy(message, text, sizeof message);
    errno = saved;
    return code;
}

int fail(int code, const char *fmt, ...)
{
    char text[ERR_TEXT];
    int saved = errno;
    va_list ap;

    va_start(ap, fmt);
    if (vsnprintf(text, sizeof text, fmt, ap) < 0)
        snprintf(text, sizeof text, "%s", err_name(code));
    va_end(ap);
    return keep(code, text, saved);
}

int fail_context(int code, const char *fmt, ...)
{
    char text[ERR_TEXT];
    int saved = errno;
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    size_t at = n < 0 ? 0 : (size_t)n;
    for (const char *s = ": "; *s != '\0' && at < sizeof text - 1; s++)
        text[at++] = *s;
    for (const char *s = message; *s != '\0' && at < sizeof text - 1; s++)
        text[at++] = *s;
    text[at < sizeof text ? at : sizeof text - 1] = '\0';
    return keep(code, text, saved);
}

const char *err_message(void)
{
    return message;
}

const char *err_name(int code)
{
    if (code > 0 || code <= -(int)ERR_ORDINAL_END)
        return "unknown error";
    return names[-code];
}
