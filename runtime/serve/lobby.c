/* Clients who wait (lobby.h). */
#include "runtime/serve/lobby.h"

#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/party/message.h"

#define PAUSE 0.1    /* seconds that the door stays shut when the system is short of something */
#define PARTIAL 0.05 /* and that part of a greeting is not looked at again */
#define RECORD 5     /* head of a TLS record */
#define RECORD_MOST (1 << 14)
#define HANDSHAKE 22 /* its first byte */

struct seat {
    struct tcp *s;
    uint8_t source[TCP_SOURCE];
    double since, quiet; /* quiet: not looked at before */
    bool whole;
};
struct lobby {
    struct tcp_listener *listener; /* NULL: shut */
    bool tls;
    double seconds, door; /* door: shut until then */
    int n, unfinished;
    struct lobby_totals totals;
    struct seat seat[LOBBY_SEATS + LOBBY_QUEUE]; /* in the order of arrival */
};

int lobby_open(struct tcp_listener *l, bool tls, double seconds, struct lobby **out)
{
    struct lobby *b = mem_array(1, sizeof *b);

    if (b == NULL)
        return ERR_NOMEM;
    b->listener = l;
    b->tls = tls;
    b->seconds = seconds;
    *out = b;
    return 0;
}

void lobby_shut(struct lobby *b)
{
    b->listener = NULL;
}

void lobby_close(struct lobby *b)
{
    if (b == NULL)
        return;
    for (int i = 0; i < b->n; i++)
        tcp_close(b->seat[i].s);
    mem_free(b);
}

struct lobby_totals lobby_totals(const struct lobby *b)
{
    return b->totals;
}

int lobby_waiting(const struct lobby *b)
{
    return b->n - b->unfinished;
}

/* The endpoint is the caller's. */
static struct tcp *leave(struct lobby *b, int i)
{
    struct tcp *s = b->seat[i].s;

    b->unfinished -= !b->seat[i].whole;
    b->n--;
    memmove(b->seat + i, b->seat + i + 1, (size_t)(b->n - i) * sizeof *b->seat);
    return s;
}

static void send_away(struct lobby *b, int i)
{
    tcp_close(leave(b, i));
    b->totals.silent++;
}

static bool same(const uint8_t a[TCP_SOURCE], const uint8_t b[TCP_SOURCE])
{
    return memcmp(a, b, TCP_SOURCE) == 0;
}

/* ---- greetings ---------------------------------------------------------------------------- */

/* Bytes of a first message that begins so, as far as they tell; what is no greeting is whole as it is,
 * so that whoever serves it can say what is wrong. */
static size_t first_message(const struct lobby *b, const uint8_t *bytes, size_t n)
{
    size_t record;

    if (!b->tls)
        return HELLO_BYTES;
    if (bytes[0] != HANDSHAKE)
        return 1;
    if (n < RECORD)
        return RECORD;
    record = (size_t)bytes[3] << 8 | bytes[4];
    return record > RECORD_MOST ? RECORD : RECORD + record;
}

/* false: it is gone. */
static bool look_at(struct lobby *b, struct seat *a, double now)
{
    uint8_t bytes[RECORD + RECORD_MOST];
    size_t n;

    if (tcp_peek(a->s, bytes, sizeof bytes, &n) < 0 || now - a->since > LOBBY_GREETING)
        return false;
    if (n > 0 && n >= first_message(b, bytes, n)) {
        a->whole = true;
        b->unfinished--;
        b->totals.clients++;
    } else if (n > 0) {
        a->quiet = now + PARTIAL; /* poll would say again and again that there is something */
    }
    return true;
}

/* ---- the door ----------------------------------------------------------------------------- */

static int unfinished_of(const struct lobby *b, const uint8_t source[TCP_SOURCE])
{
    int n = 0;

    for (int i = 0; i < b->n; i++)
        n += !b->seat[i].whole && same(b->seat[i].source, source);
    return n;
}

/* The unfinished one that is oldest among those of the address; NULL: of the address with most. */
static int oldest_unfinished(const struct lobby *b, const uint8_t *source)
{
    int best = -1, most = 0;

    for (int i = 0; i < b->n; i++) {
        const struct seat *a = &b->seat[i];
        if (a->whole || (source != NULL && !same(a->source, source)))
            continue;
        if (source != NULL)
            return i;
        int n = unfinished_of(b, a->source);
        if (n > most) {
            best = i;
            most = n;
        }
    }
    return best;
}

static void take_seat(struct lobby *b, struct tcp *s)
{
    struct seat a = {.s = s, .since = cpu_seconds()};

    tcp_source(s, a.source);
    if (unfinished_of(b, a.source) >= LOBBY_SHARE)
        send_away(b, oldest_unfinished(b, a.source));
    else if (b->unfinished >= LOBBY_SEATS)
        send_away(b, oldest_unfinished(b, NULL));
    b->seat[b->n++] = a;
    b->unfinished++;
}

static bool door_open(const struct lobby *b)
{
    return b->listener != NULL && lobby_waiting(b) < LOBBY_QUEUE && b->door <= cpu_seconds();
}

/* No more at once than there are seats: those who came are looked at before others push them out. */
static int let_in(struct lobby *b)
{
    for (int i = 0; i < LOBBY_SHARE && door_open(b); i++) {
        struct tcp *s = NULL;
        int rc = tcp_accept_now(b->listener, b->seconds, &s);
        if (rc > 0 || rc == ERR_NOMEM) {
            b->door = cpu_seconds() + PAUSE;
            b->totals.shut++;
            return 0;
        }
        TRY(rc);
        if (s == NULL)
            return 0;
        take_seat(b, s);
    }
    return 0;
}

static void look_at_all(struct lobby *b)
{
    const double now = cpu_seconds();

    for (int i = b->n - 1; i >= 0; i--) {
        struct seat *a = &b->seat[i];
        bool due = a->quiet <= now || now - a->since > LOBBY_GREETING;
        if (!a->whole && due && !look_at(b, a, now))
            send_away(b, i);
    }
}

int lobby_look(struct lobby *b)
{
    look_at_all(b);
    TRY(let_in(b));
    look_at_all(b);
    return 0;
}

static void lower(int *ms, double seconds)
{
    int wait = seconds <= 0 ? 0 : (int)(seconds * 1e3) + 1;

    if (wait < *ms)
        *ms = wait;
}

int lobby_polls(const struct lobby *b, struct pollfd p[LOBBY_POLLS], int *ms)
{
    double now = cpu_seconds();
    int n = 0;

    for (int i = 0; i < b->n; i++) {
        const struct seat *a = &b->seat[i];
        if (a->whole)
            continue;
        lower(ms, a->since + LOBBY_GREETING - now);
        if (a->quiet > now)
            lower(ms, a->quiet - now);
        else
            p[n++] = (struct pollfd){.fd = tcp_fd(a->s), .events = POLLIN};
    }
    if (door_open(b))
        p[n++] = (struct pollfd){.fd = tcp_listener_fd(b->listener), .events = POLLIN};
    else if (b->listener != NULL && b->door > now)
        lower(ms, b->door - now);
    return n;
}

/* ---- those who wait ----------------------------------------------------------------------- */

static int first_whole(const struct lobby *b)
{
    for (int i = 0; i < b->n; i++)
        if (b->seat[i].whole)
            return i;
    return -1;
}

double lobby_longest(const struct lobby *b)
{
    int i = first_whole(b);

    return i < 0 ? 0 : cpu_seconds() - b->seat[i].since;
}

struct tcp *lobby_oldest(struct lobby *b)
{
    int i = first_whole(b);

    return i < 0 ? NULL : leave(b, i);
}

struct tcp *lobby_next(struct lobby *b, lobby_served *served, void *ctx)
{
    int best = -1, fewest = 0;

    for (int i = 0; i < b->n; i++) {
        int n = b->seat[i].whole ? served(ctx, b->seat[i].source) : 0;
        if (b->seat[i].whole && (best < 0 || n < fewest)) {
            best = i;
            fewest = n;
        }
    }
    return best < 0 ? NULL : leave(b, best);
}
