/*
 * Counters of every transport, and the in-memory pair (transport.h).
 *
 * The pair is two one-way pipes of PIPE_BYTES each, shared by its ends and freed by the later close.
 * A pipe is bounded like a socket's buffers. Where both ends wait to send, a pipe grows up to PIPE_MOST, as
 * sockets keep what arrives meanwhile (tcp.c); a protocol that needs more blocks in a test as it would on a network,
 * and PIPE_SECONDS later it fails.
 */
#include "runtime/net/transport.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "core/base/mem.h"

#define PIPE_BYTES ((size_t)1 << 20)
#define PIPE_MOST ((size_t)16 << 20)
#define PIPE_SECONDS 60

/* ---- counters ----------------------------------------------------------------------------- */

static int usable(const struct transport *t)
{
    if (t->ctx == NULL || t->dead)
        return fail(ERR_NET, "the connection is closed");
    return 0;
}

static void turn(struct transport *t, int8_t direction)
{
    t->count.flips += t->last != 0 && t->last != direction;
    t->last = direction;
}

int transport_send(struct transport *t, const void *bytes, size_t n)
{
    int rc;

    if (n == 0)
        return 0;
    TRY(usable(t));
    if ((rc = t->send(t->ctx, bytes, n)) < 0) {
        t->dead = 1;
        return rc;
    }
    turn(t, 1);
    t->count.sent += n;
    return 0;
}

int transport_flush(struct transport *t)
{
    int rc = 0;

    TRY(usable(t));
    if (t->flush != NULL && (rc = t->flush(t->ctx)) < 0)
        t->dead = 1;
    return rc;
}

int transport_recv(struct transport *t, void *bytes, size_t n)
{
    int rc;

    if (n == 0)
        return 0;
    TRY(transport_flush(t));
    if ((rc = t->recv(t->ctx, bytes, n)) < 0) {
        t->dead = 1;
        return rc;
    }
    turn(t, -1);
    t->count.received += n;
    return 0;
}

void transport_limit(struct transport *t, double seconds)
{
    if (t->ctx != NULL && t->limit != NULL)
        t->limit(t->ctx, seconds);
}

void transport_close(struct transport *t)
{
    if (t->ctx != NULL && t->close != NULL)
        t->close(t->ctx);
    *t = (struct transport){0};
}

/* ---- the pair ----------------------------------------------------------------------------- */

struct pipe {
    uint8_t *ring;
    size_t at, used, size;
};
struct pair {
    pthread_mutex_t lock;
    pthread_cond_t moved;    /* bytes were put or taken, or an end was closed */
    struct pipe pipe[2];     /* pipe[i]: what end i sends */
    bool closed[2], full[2]; /* full: end i waits for room in its pipe */
    int patience;            /* seconds; 0: no end */
};
struct pair_end {
    struct pair *pair;
    int side;
};

static void pair_free(struct pair *p)
{
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->pipe[0].ring);
    mem_free(p->pipe[1].ring);
    mem_free(p);
}

/* Waits with the lock held; ERR_NET when nothing moved for so long. */
static int wait_move(struct pair *p)
{
    struct timespec until;

    if (p->patience == 0) {
        pthread_cond_wait(&p->moved, &p->lock);
        return 0;
    }
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += p->patience;
    if (pthread_cond_timedwait(&p->moved, &p->lock, &until) != 0)
        return fail(ERR_NET, "the other end was silent for %d s", p->patience);
    return 0;
}

static size_t pipe_put(struct pipe *q, const uint8_t *from, size_t n)
{
    size_t end = (q->at + q->used) % q->size, room = q->size - q->used;
    size_t take = n < room ? n : room, first = q->size - end;

    first = take < first ? take : first;
    memcpy(q->ring + end, from, first);
    memcpy(q->ring, from + first, take - first);
    q->used += take;
    return take;
}

static size_t pipe_take(struct pipe *q, uint8_t *to, size_t n)
{
    size_t take = n < q->used ? n : q->used, first = q->size - q->at;

    first = take < first ? take : first;
    memcpy(to, q->ring + q->at, first);
    memcpy(to + first, q->ring, take - first);
    q->at = (q->at + take) % q->size;
    q->used -= take;
    return take;
}

/* A larger ring with the same bytes; false at the limit. */
static bool pipe_grow(struct pipe *q)
{
    struct pipe larger = {.used = q->used, .size = 2 * q->size};

    if (larger.size > PIPE_MOST || (larger.ring = mem_array(larger.size, 1)) == NULL)
        return false;
    (void)pipe_take(q, larger.ring, larger.used);
    mem_free(q->ring);
    *q = larger;
    return true;
}

/* Nothing could be put: waits, or makes room where the other end waits for the same. */
static int wait_room(struct pair *p, int side)
{
    int rc;

    if (p->full[1 - side] && pipe_grow(&p->pipe[side]))
        return 0;
    if (p->full[1 - side] && p->pipe[1 - side].size < PIPE_MOST)
        pthread_cond_broadcast(&p->moved); /* the other pipe can grow */
    p->full[side] = true;
    rc = wait_move(p);
    p->full[side] = false;
    return rc;
}

static int pair_send(void *ctx, const void *bytes, size_t n)
{
    struct pair_end *e = ctx;
    struct pair *p = e->pair;
    const uint8_t *from = bytes;
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    while (n > 0 && rc == 0) {
        if (p->closed[1 - e->side]) {
            rc = fail(ERR_NET, "the other end is closed");
            break;
        }
        size_t put = pipe_put(&p->pipe[e->side], from, n);
        from += put;
        n -= put;
        if (put > 0)
            pthread_cond_broadcast(&p->moved);
        else
            rc = wait_room(p, e->side);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static int pair_recv(void *ctx, void *bytes, size_t n)
{
    struct pair_end *e = ctx;
    struct pair *p = e->pair;
    uint8_t *to = bytes;
    int rc = 0;

    pthread_mutex_lock(&p->lock);
    while (n > 0 && rc == 0) {
        size_t got = pipe_take(&p->pipe[1 - e->side], to, n);
        to += got;
        n -= got;
        if (got > 0)
            pthread_cond_broadcast(&p->moved);
        else if (p->closed[1 - e->side])
            rc = fail(ERR_PEER, "the other end closed with %zu bytes outstanding", n);
        else
            rc = wait_move(p);
    }
    pthread_mutex_unlock(&p->lock);
    return rc;
}

static void pair_close(void *ctx)
{
    struct pair_end *e = ctx;
    struct pair *p = e->pair;
    bool both;

    pthread_mutex_lock(&p->lock);
    p->closed[e->side] = true;
    both = p->closed[1 - e->side];
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
    if (both)
        pair_free(p);
    mem_free(e);
}

static void pair_end_init(struct transport *t, struct pair_end *e, struct pair *p, int side)
{
    *e = (struct pair_end){p, side};
    *t = (struct transport){.send = pair_send, .recv = pair_recv, .close = pair_close, .ctx = e};
}

void transport_pair_patience(struct transport *end, int seconds)
{
    struct pair *p = ((struct pair_end *)end->ctx)->pair;

    pthread_mutex_lock(&p->lock);
    p->patience = seconds;
    pthread_mutex_unlock(&p->lock);
}

int transport_pair(struct transport *a, struct transport *b)
{
    OWNED struct pair *p = mem_array(1, sizeof *p);
    OWNED uint8_t *there = mem_array(PIPE_BYTES, 1), *back = mem_array(PIPE_BYTES, 1);
    OWNED struct pair_end *ea = mem_array(1, sizeof *ea), *eb = mem_array(1, sizeof *eb);

    if (p == NULL || there == NULL || back == NULL || ea == NULL || eb == NULL)
        return ERR_NOMEM;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
    p->patience = PIPE_SECONDS;
    p->pipe[0] = (struct pipe){.ring = mem_hand_on(&there), .size = PIPE_BYTES};
    p->pipe[1] = (struct pipe){.ring = mem_hand_on(&back), .size = PIPE_BYTES};
    pair_end_init(a, mem_hand_on(&ea), p, 0);
    pair_end_init(b, mem_hand_on(&eb), mem_hand_on(&p), 1);
    return 0;
}
