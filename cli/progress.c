/* One line about a long job: a bar that is rewritten on a terminal, else a line every ten seconds. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/base/cpu.h"

#define BAR_CELLS 24
#define BAR_SECONDS 0.1
#define PLAIN_SECONDS 10.0

static enum cli_progress_mode choose_mode(const struct cli_common *c)
{
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

    if (c->quiet)
        return CLI_PROGRESS_NONE;
    if (c->progress != CLI_PROGRESS_AUTO)
        return (enum cli_progress_mode)c->progress;
    if (!isatty(STDERR_FILENO) || term == NULL || strcmp(term, "dumb") == 0)
        return CLI_PROGRESS_PLAIN;
    return no_color != NULL && *no_color != '\0' ? CLI_PROGRESS_PLAIN : CLI_PROGRESS_BAR;
}

void cli_progress_begin(struct cli_progress *p, const struct cli_common *c, const char *label)
{
    double now = cpu_seconds();

    *p = (struct cli_progress){choose_mode(c), label, now, now, false};
}

static void format_eta(double seconds, char *out, size_t room)
{
    long s = seconds < 0 || seconds > 3.6e6 ? 0 : (long)(seconds + 0.5);

    if (s >= 3600)
        snprintf(out, room, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, room, "%ldm%02lds", s / 60, s % 60);
}

void cli_progress_at(struct cli_progress *p, double done, const char *fmt, ...)
{
    static const char cells[BAR_CELLS + 1] = "########################";
    double now = cpu_seconds(), wait = p->mode == CLI_PROGRESS_BAR ? BAR_SECONDS : PLAIN_SECONDS;
    char text[160], eta[32];
    int filled = (int)(done * BAR_CELLS);
    va_list ap;

    if (p->mode == CLI_PROGRESS_NONE || now - p->last < wait)
        return;
    p->last = now;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    format_eta(done > 0 ? (now - p->start) * (1 - done) / done : 0, eta, sizeof eta);
    filled = filled < 0 ? 0 : filled > BAR_CELLS ? BAR_CELLS : filled;
    if (p->mode == CLI_PROGRESS_BAR)
        fprintf(stderr, "\r\033[K%s [%-*.*s] %3.0f%% eta %s %s", p->label, BAR_CELLS, filled, cells,
                done * 100, eta, text);
    else
        fprintf(stderr, "%s %.0f%% eta %s %s\n", p->label, done * 100, eta, text);
    fflush(stderr);
    p->drawn = true;
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->drawn && p->mode == CLI_PROGRESS_BAR)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}
