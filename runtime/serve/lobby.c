/* Clients who wait (lobby.h). */
#include "runtime/serve/lobby.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"

#define LOOK_MS 200 /* how late a stop may be noticed */

struct seat {
    struct tcp *s;
    double since;
    bool spoke;
};
struct lobby {
    struct tcp_listener *listener;
    double seconds;
    int n; /* seats taken: the first n, in the order of arrival */
    int64_t sent_away;
    struct seat seat[LOBBY_SEATS];
};

int lobby_open(struct tcp_listener *l, double seconds, struct lobby **out)
{
    struct lobby *b = mem_array(1, sizeof *b);

    if (b == NULL)
        return ERR_NOMEM;
    b->listener = l;
    b->seconds = seconds;
    *out = b;
    return 0;
}

void lobby_close(struct lobby *b)
{
    if (b == NULL)
        return;
    for (int i = 0; i < b->n; i++)
        tcp_close(b->seat[i].s);
    mem_free(b);
}

/* The endpoint is the caller's. */
static struct tcp *leave(struct lobby *b, int i)
{
    struct tcp *s = b->seat[i].s;

    b->n--;
    memmove(b->seat + i, b->seat + i + 1, (size_t)(b->n - i) * sizeof *b->seat);
    return s;
}

static void send_away(struct lobby *b, int i)
{
    tcp_close(leave(b, i));
    b->sent_away++;
}

/* Who spoke, at most ms milliseconds later; a new client at the door ends the wait as well. */
static int listen_to_all(struct lobby *b, int ms)
{
    struct pollfd p[LOBBY_SEATS + 1];

    for (int i = 0; i < b->n; i++)
        p[i] = (struct pollfd){.fd = tcp_fd(b->seat[i].s), .events = POLLIN};
    p[b->n] = (struct pollfd){.fd = tcp_listener_fd(b->listener), .events = POLLIN};
    if (poll(p, (nfds_t)b->n + 1, ms) < 0 && errno != EINTR)
        return fail(ERR_NET, "poll: %s", strerror(errno));
    for (int i = 0; i < b->n; i++)
        b->seat[i].spoke = b->seat[i].spoke || p[i].revents != 0;
    return 0;
}

static int first(const struct lobby *b, bool spoke)
{
    for (int i = 0; i < b->n; i++)
        if (b->seat[i].spoke == spoke)
            return i;
    return -1;
}

/* Lets in who is at the door. Where nobody silent is left to give up a seat, the door stays shut. */
static int let_in(struct lobby *b)
{
    for (;;) {
        struct tcp *s = NULL;
        int silent = first(b, false);
        if (b->n == LOBBY_SEATS && silent < 0)
            return 0;
        TRY(tcp_accept_now(b->listener, b->seconds, &s));
        if (s == NULL)
            return 0;
        if (b->n == LOBBY_SEATS)
            send_away(b, silent);
        b->seat[b->n++] = (struct seat){.s = s, .since = cpu_seconds()};
    }
}

static int look(struct lobby *b, int ms)
{
    double now;

    TRY(listen_to_all(b, ms));
    now = cpu_seconds();
    for (int i = b->n - 1; i >= 0; i--)
        if (!b->seat[i].spoke && now - b->seat[i].since > LOBBY_SILENCE)
            send_away(b, i);
    TRY(let_in(b));
    return listen_to_all(b, 0);
}

int lobby_next(struct lobby *b, tcp_stop *stop, void *ctx, struct tcp **out)
{
    int i;

    while ((i = first(b, true)) < 0) {
        if (stop != NULL && stop(ctx))
            return fail(ERR_INTERRUPTED, "stopped while waiting");
        TRY(look(b, LOOK_MS));
    }
    *out = leave(b, i);
    return 0;
}

int lobby_busy(struct lobby *b, bool *busy)
{
    *busy = false;
    TRY(look(b, 0));
    *busy = first(b, true) >= 0;
    return 0;
}

int64_t lobby_sent_away(const struct lobby *b)
{
    return b->sent_away;
}
