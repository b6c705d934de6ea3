/* Line emulation (link.h). */
#include "runtime/net/link.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/base/mem.h"

#define PIECE ((size_t)1 << 15)
#define HEAD 12
#define SECOND 1000000000u

struct line {
    struct transport inner;
    double ns_per_byte;
    uint64_t delay, free_at;     /* ns; free_at: when the line has sent what it was given */
    uint64_t due;                /* of the piece that is being read */
    size_t left;                 /* of it */
    uint8_t piece[HEAD + PIECE]; /* being collected */
    size_t used;
};

/* ---- names -------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    double factor;
};
static const struct unit rates[] = {{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}, {0}};
static const struct unit times[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {0}};

/* number, unit; *end: what follows. */
static bool quantity(const char *text, const struct unit *u, double *value, const char **end)
{
    char *after;
    double v = strtod(text, &after);

    for (; after != text && u->name != NULL; u++)
        if (strncmp(after, u->name, strlen(u->name)) == 0) {
            *value = v * u->factor;
            *end = after + strlen(u->name);
            return v >= 0;
        }
    return false;
}

const struct link *link_list(void)
{
    static const struct link links[] = {
        {"lan", 3e9, 0.3e-3}, {"wan", 400e6, 40e-3}, {"mobile", 50e6, 50e-3}, {NULL, 0, 0}};

    return links;
}

const struct link *link_loopback(void)
{
    static const struct link loopback = {"loopback", 1e15, 0};

    return &loopback;
}

int link_parse(const char *text, struct link *out)
{
    const char *at;

    for (const struct link *l = link_list(); l->name != NULL; l++)
        if (strcmp(l->name, text) == 0) {
            *out = *l;
            return 0;
        }
    out->name = text;
    if (quantity(text, rates, &out->bits_per_second, &at) && *at == ',' &&
        quantity(at + 1, times, &out->rtt, &at) && *at == '\0' && out->bits_per_second >= 1000 &&
        out->rtt <= 60)
        return 0;
    return fail(
        ERR_ARG,
        "link '%s': lan (3 Gbit/s, 0.3 ms), wan (400 Mbit/s, 40 ms), mobile (50 Mbit/s, 50 ms) or RATE,RTT as in 100Mbit,20ms",
        text);
}

/* ---- the line ----------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t ns)
{
    struct timespec t = {(time_t)(ns / SECOND), (long)(ns % SECOND)};

    while (now_ns() < ns)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static int send_piece(struct line *l)
{
    uint64_t now = now_ns(), due;
    uint32_t n = (uint32_t)l->used;

    if (n == 0)
        return 0;
    l->free_at = (l->free_at > now ? l->free_at : now) + (uint64_t)(n * l->ns_per_byte);
    due = l->free_at + l->delay;
    memcpy(l->piece, &due, sizeof due);
    memcpy(l->piece + sizeof due, &n, sizeof n);
    l->used = 0;
    return transport_send(&l->inner, l->piece, HEAD + n);
}

static int link_send(void *ctx, const void *bytes, size_t n)
{
    struct line *l = ctx;
    const uint8_t *from = bytes;

    while (n > 0) {
        size_t take = n < PIECE - l->used ? n : PIECE - l->used;
        memcpy(l->piece + HEAD + l->used, from, take);
        l->used += take;
        from += take;
        n -= take;
        if (l->used == PIECE)
            TRY(send_piece(l));
    }
    return 0;
}

static int link_flush(void *ctx)
{
    struct line *l = ctx;

    TRY(send_piece(l));
    return transport_flush(&l->inner);
}

/* When a piece of n bytes can be due: after it and the one before have passed the line. The peer cannot
 * make this side sleep for longer. */
static uint64_t latest_due(const struct line *l, uint64_t before, uint32_t n)
{
    uint64_t soonest = now_ns() + l->delay, from = before > soonest ? before : soonest;

    return from + (uint64_t)(n * l->ns_per_byte) + SECOND / 100;
}

static int next_piece(struct line *l)
{
    uint8_t head[HEAD];
    uint64_t before = l->due;
    uint32_t n;

    TRY(transport_recv(&l->inner, head, sizeof head));
    memcpy(&l->due, head, sizeof l->due);
    memcpy(&n, head + sizeof l->due, sizeof n);
    if (n == 0 || n > PIECE)
        return fail(ERR_PEER, "emulated link: bad piece");
    if (l->due > latest_due(l, before, n))
        return fail(
            ERR_PEER,
            "emulated link: a piece is due later than this side's --link allows; give both sides the same");
    l->left = n;
    sleep_until(l->due);
    return 0;
}

static int link_recv(void *ctx, void *bytes, size_t n)
{
    struct line *l = ctx;
    uint8_t *to = bytes;

    while (n > 0) {
        size_t take;
        if (l->left == 0)
            TRY(next_piece(l));
        take = n < l->left ? n : l->left;
        TRY(transport_recv(&l->inner, to, take));
        l->left -= take;
        to += take;
        n -= take;
    }
    return 0;
}

static void link_close(void *ctx)
{
    struct line *l = ctx;

    transport_close(&l->inner);
    mem_free(l);
}

static void link_limit(void *ctx, double seconds)
{
    transport_limit(&((struct line *)ctx)->inner, seconds);
}

int link_wrap(struct transport *t, double bits_per_second, double rtt)
{
    struct line *l = mem_array(1, sizeof *l);

    if (l == NULL)
        return ERR_NOMEM;
    /* Linux wakes sleepers up to 50 us late unless told otherwise: a sixth of a LAN's round trip. */
    (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    l->inner = *t;
    l->ns_per_byte = 8e9 / bits_per_second;
    l->delay = (uint64_t)(rtt * 1e9 / 2);
    *t = (struct transport){.send = link_send,
                            .recv = link_recv,
                            .flush = link_flush,
                            .close = link_close,
                            .limit = link_limit,
                            .ctx = l,
                            .count = l->inner.count,
                            .last = l->inner.last};
    return 0;
}
