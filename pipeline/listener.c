/* Texts for the listener; longer ones than the buffer are cut. */
#include "pipeline/listener.h"

#include <stdarg.h>
#include <stdio.h>

#define MESSAGE_BYTES 8192 /* a line of metrics, a warning with two paths */
#define PROGRESS_BYTES 160

static void say(const struct linnet_listener *l, enum linnet_level level, const char *fmt,
                va_list ap)
{
    char text[MESSAGE_BYTES];

    if (l == NULL || l->message == NULL)
        return;
    vsnprintf(text, sizeof text, fmt, ap);
    l->message(l->ctx, level, text);
}

void listener_note(const struct linnet_listener *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(l, LINNET_NOTE, fmt, ap);
    va_end(ap);
}

void listener_detail(const struct linnet_listener *l, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(l, LINNET_DETAIL, fmt, ap);
    va_end(ap);
}

void listener_begin(const struct linnet_listener *l, const char *task)
{
    if (l != NULL && l->progress != NULL)
        l->progress(l->ctx, task, 0, "");
}

void listener_progress(const struct linnet_listener *l, const char *task, double done,
                       const char *fmt, ...)
{
    char text[PROGRESS_BYTES];
    va_list ap;

    if (l == NULL || l->progress == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->progress(l->ctx, task, done, text);
}

void listener_end(const struct linnet_listener *l, const char *task)
{
    if (l != NULL && l->progress != NULL)
        l->progress(l->ctx, task, 1, NULL);
}

void listener_plan(const struct linnet_listener *l, const struct linnet_stage *stage, int n)
{
    if (l != NULL && l->plan != NULL)
        l->plan(l->ctx, stage, n);
}

bool listener_stops(const struct linnet_listener *l)
{
    return l != NULL && l->interrupted != NULL && l->interrupted(l->ctx) != 0;
}
