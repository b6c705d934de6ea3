/*
 * Lanes as threads of which one runs at a time (lanes.h). `turn` is the lane that may work; it hands on where
 * its direction turns, and at its end. The failure of one lane ends the others at their next call.
 */
#include "runtime/net/lanes.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/base/mem.h"

enum direction { NONE, SENDS, RECEIVES };
struct lanes;
struct lane {
    struct lanes *of;
    int64_t number;
    struct transport t;
    enum direction last;
    bool done;
    pthread_t thread;
};
struct lanes {
    struct transport *inner;
    int (*run)(void *arg, int64_t lane, struct transport *);
    void *arg;
    struct lane *lane;
    int64_t n, turn;
    bool stream;
    int rc; /* of the first lane that failed */
    char why[256];
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

/* The next lane that is not done works; under the lock. */
static void hand_on(struct lanes *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        l->turn = (l->turn + 1) % l->n;
        if (!l->lane[l->turn].done)
            break;
    }
    pthread_cond_broadcast(&l->moved);
}

static void wait_turn(struct lane *k)
{
    while (k->of->turn != k->number)
        pthread_cond_wait(&k->of->moved, &k->of->lock);
}

/* Before this lane goes that way. */
static int turn_to(struct lane *k, enum direction d)
{
    struct lanes *l = k->of;

    if (k->last != d && k->last != NONE && !(l->stream && d == SENDS)) {
        pthread_mutex_lock(&l->lock);
        hand_on(l);
        wait_turn(k);
        pthread_mutex_unlock(&l->lock);
    }
    k->last = d;
    return l->rc < 0 ? ERR_NET : 0;
}

static int lane_send(void *ctx, const void *bytes, size_t n)
{
    struct lane *k = ctx;

    TRY(turn_to(k, SENDS));
    return transport_send(k->of->inner, bytes, n);
}

static int lane_recv(void *ctx, void *bytes, size_t n)
{
    struct lane *k = ctx;

    TRY(turn_to(k, RECEIVES));
    return transport_recv(k->of->inner, bytes, n);
}

static void *work(void *arg)
{
    struct lane *k = arg;
    struct lanes *l = k->of;
    int rc;

    pthread_mutex_lock(&l->lock);
    wait_turn(k);
    pthread_mutex_unlock(&l->lock);
    rc = l->rc < 0 ? 0 : l->run(l->arg, k->number, &k->t);
    pthread_mutex_lock(&l->lock);
    if (rc < 0 && l->rc == 0) {
        l->rc = rc;
        snprintf(l->why, sizeof l->why, "%s", err_message());
    }
    k->done = true;
    hand_on(l);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* A lane has no flush of its own: what it has sent goes with what the others send, when one of them receives or
 * lanes_run ends. */
static int start(struct lanes *l)
{
    for (int64_t i = 0; i < l->n; i++) {
        struct lane *k = &l->lane[i];
        *k = (struct lane){.of = l, .number = i};
        k->t = (struct transport){
            .send = lane_send, .recv = lane_recv, .ctx = k, .last = l->inner->last};
    }
    for (int64_t i = 0; i < l->n; i++)
        if (pthread_create(&l->lane[i].thread, NULL, work, &l->lane[i]) != 0) {
            pthread_mutex_lock(&l->lock); /* those that are there end without work */
            l->rc = fail(ERR_NOMEM, "no thread for an image of a batch");
            for (int64_t k = i; k < l->n; k++)
                l->lane[k].done = true;
            l->turn = l->n - 1;
            hand_on(l);
            pthread_mutex_unlock(&l->lock);
            return (int)i;
        }
    return (int)l->n;
}

bool lanes_in(const struct transport *t)
{
    return t->send == lane_send;
}

int lanes_run(struct transport *t, int64_t lanes, bool stream,
              int (*run)(void *arg, int64_t lane, struct transport *), void *arg)
{
    struct lanes l = {.inner = t, .run = run, .arg = arg, .n = lanes, .turn = -1, .stream = stream};
    uint32_t flips = t->count.flips;
    int started;

    if (lanes == 1)
        return run(arg, 0, t);
    if ((l.lane = mem_array((size_t)lanes, sizeof *l.lane)) == NULL)
        return ERR_NOMEM;
    pthread_mutex_init(&l.lock, NULL);
    pthread_cond_init(&l.moved, NULL);
    started = start(&l);
    pthread_mutex_lock(&l.lock);
    if (l.turn < 0) {
        l.turn = 0;
        pthread_cond_broadcast(&l.moved);
    }
    pthread_mutex_unlock(&l.lock);
    for (int i = 0; i < started; i++)
        pthread_join(l.lane[i].thread, NULL);
    pthread_cond_destroy(&l.moved);
    pthread_mutex_destroy(&l.lock);
    t->count.flips = flips + l.lane[0].t.count.flips;
    mem_free(l.lane);
    if (l.rc < 0)
        return *l.why != '\0' ? fail(l.rc, "%s", l.why) : l.rc;
    return transport_flush(t);
}
