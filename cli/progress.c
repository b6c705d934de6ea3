/*
 * One line about a long job: a bar that is rewritten on a terminal, else a line every ten seconds. On a
 * terminal it is cut to the width that the window has at that moment: a line that wraps cannot be rewritten.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "core/base/cpu.h"

#define BAR_CELLS 24
#define NARROW_CELLS 8
#define NARROW_COLUMNS 60 /* below: a short bar */
#define TINY_COLUMNS 36   /* below: none */
#define USUAL_COLUMNS 80  /* of a terminal that does not tell */
#define LINE_BYTES 512
#define BAR_SECONDS 0.1
#define PLAIN_SECONDS 10.0
#define GREEN "\033[32m"
#define PLAIN "\033[0m"

/* ---- the terminal ------------------------------------------------------------------------- */

static bool is_terminal(void)
{
    const char *term = getenv("TERM");

    return isatty(STDERR_FILENO) && term != NULL && strcmp(term, "dumb") != 0;
}

bool cli_has_colour(void)
{
    const char *no_color = getenv("NO_COLOR");

    return is_terminal() && (no_color == NULL || *no_color == '\0');
}

static int columns(void)
{
    struct winsize w = {0};

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : USUAL_COLUMNS;
}

static enum cli_progress_mode choose_mode(const struct cli_common *c)
{
    if (c->quiet)
        return CLI_PROGRESS_NONE;
    if (c->progress != CLI_PROGRESS_AUTO)
        return (enum cli_progress_mode)c->progress;
    return is_terminal() ? CLI_PROGRESS_BAR : CLI_PROGRESS_PLAIN;
}

/* ---- the line ----------------------------------------------------------------------------- */

/* Bytes of the first so many characters. */
static int cut(const char *text, int most)
{
    int n = 0;

    while (text[n] != '\0' && ((text[n] & 0xc0) == 0x80 || most-- > 0))
        n++;
    return n;
}

static void format_eta(double seconds, char *out, size_t room)
{
    long s = seconds < 0 || seconds > 3.6e6 ? 0 : (long)(seconds + 0.5);

    if (s >= 3600)
        snprintf(out, room, "%ldh%02ldm", s / 3600, s / 60 % 60);
    else
        snprintf(out, room, "%ldm%02lds", s / 60, s % 60);
}

/* "teacher [####    ]  37% eta 12m05s epoch 3/12 ...", one column short of the window: some wrap in the
 * last one. */
static void draw_bar(const struct cli_progress *p, double done, const char *eta, const char *text)
{
    static const char signs[BAR_CELLS + 1] = "########################";
    const int width = columns() - 1;
    const int cells = width < TINY_COLUMNS ? 0 : width < NARROW_COLUMNS ? NARROW_CELLS : BAR_CELLS;
    const int filled = (int)(done * cells);
    const int at = cells > 0 ? (int)strlen(p->label) + 2 : 0; /* of the cells */
    char line[LINE_BYTES];

    if (cells > 0)
        snprintf(line, sizeof line, "%s [%-*.*s] %3.0f%% eta %s %s", p->label, cells, filled, signs,
                 done * 100, eta, text);
    else
        snprintf(line, sizeof line, "%s %.0f%% eta %s %s", p->label, done * 100, eta, text);
    const int n = cut(line, width);
    if (cells > 0 && n > at + cells && cli_has_colour())
        fprintf(stderr, "\r\033[K%.*s" GREEN "%.*s" PLAIN "%.*s", at, line, cells, line + at,
                n - at - cells, line + at + cells);
    else
        fprintf(stderr, "\r\033[K%.*s", n, line);
}

/* ---- progress ----------------------------------------------------------------------------- */

void cli_progress_begin(struct cli_progress *p, const struct cli_common *c, const char *label)
{
    double now = cpu_seconds();

    *p = (struct cli_progress){
        .mode = choose_mode(c), .label = label, .start = now, .last = now, .left = -1};
}

void cli_progress_left(struct cli_progress *p, double seconds)
{
    p->left = seconds;
}

void cli_progress_at(struct cli_progress *p, double done, const char *fmt, ...)
{
    double now = cpu_seconds(), wait = p->mode == CLI_PROGRESS_BAR ? BAR_SECONDS : PLAIN_SECONDS;
    char text[160], eta[32];
    va_list ap;

    if (p->mode == CLI_PROGRESS_NONE || now - p->last < wait)
        return;
    p->last = now;
    done = done < 0 ? 0 : done > 1 ? 1 : done;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    format_eta(p->left >= 0 ? p->left
               : done > 0   ? (now - p->start) * (1 - done) / done
                            : 0,
               eta, sizeof eta);
    if (p->mode == CLI_PROGRESS_BAR)
        draw_bar(p, done, eta, text);
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
