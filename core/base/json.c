/* Building JSON without holes; see json.h. */
#include "core/base/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/file.h"
#include "core/base/mem.h"

#define MOST_TEXT ((size_t)1 << 30) /* bytes */

static void settle(json_t **whole, bool done)
{
    if (done)
        return;
    json_decref(*whole);
    *whole = NULL;
}

void json_put(json_t **o, const char *key, json_t *value)
{
    settle(o, json_object_set_new(*o, key, value) == 0); /* frees value if it fails */
}

void json_add(json_t **list, json_t *value)
{
    settle(list, json_array_append_new(*list, value) == 0);
}

/* Bytes of the character that text begins with, 0 where it is none. */
static size_t character(const char *text)
{
    json_t *s = NULL;

    for (size_t n = 1; n <= 4 && text[n - 1] != '\0' && s == NULL; n++)
        if ((s = json_stringn(text, n)) != NULL) {
            json_decref(s);
            return n;
        }
    return 0;
}

json_t *json_text(const char *text)
{
    json_t *s = json_string(text);
    char *clean, *to;

    if (s != NULL || (clean = mem_array(strlen(text) + 1, sizeof "\\xHH" - 1)) == NULL)
        return s;
    to = clean;
    while (*text != '\0') {
        const size_t n = character(text);

        if (n == 0)
            to += sprintf(to, "\\x%02x", (unsigned)(unsigned char)*text++);
        for (size_t i = 0; i < n; i++)
            *to++ = *text++;
    }
    *to = '\0';
    s = json_string(clean);
    mem_free(clean);
    return s;
}

static int append(const char *bytes, size_t n, void *text)
{
    buf_put_bytes(text, bytes, n);
    return buf_status(text) < 0 ? -1 : 0;
}

static char *spell(const json_t *root, size_t flags, const char *end)
{
    struct buf_writer text = buf_writer_to(MOST_TEXT);
    const bool done = root != NULL && json_dump_callback(root, append, &text, flags) == 0;

    buf_put_bytes(&text, end, strlen(end) + 1);
    if (!done || buf_status(&text) < 0)
        buf_release(&text);
    return (char *)text.data;
}

char *json_spell(const json_t *root, size_t flags)
{
    return spell(root, flags, "");
}

char *json_report(const json_t *root)
{
    return spell(root, JSON_SORT_KEYS | JSON_INDENT(2) | JSON_REAL_PRECISION(17), "\n");
}

json_t *json_finite(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

int json_read(const char *path, size_t limit, json_t **out)
{
    OWNED uint8_t *bytes = NULL;
    size_t len;
    json_error_t e;

    TRY(file_read(path, limit, &bytes, &len));
    *out = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &e);
    return *out != NULL ? 0 : fail(ERR_FORMAT, "'%s', line %d: %s", path, e.line, e.text);
}
