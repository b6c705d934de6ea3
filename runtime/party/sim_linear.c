/*
 * The server's half of every call runs in a thread of its own (sim_linear.h). Where one half fails, its
 * end of the pair is closed, so that the other one ends too; the failure that is no consequence of the
 * other's is the one that is reported.
 */
#include "runtime/party/sim_linear.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/mem.h"

struct half {
    struct transport t;
    struct prg *rng;
    struct linear_party linear;
    int rc;
};
struct sim_linear {
    const struct linear_backend *backend;
    const struct prepared *model;
    struct half server, client;
    char why[256]; /* of the server's failure */
    /* of the call at work */
    int32_t step; /* below 0: opening */
    int64_t images;
    uint64_t *s;
    struct sim_error error;
};

static int open_half(const struct sim_linear *l, struct half *h, bool client)
{
    const struct linear_setup o = {
        .prepared = l->model, .client = client, .t = &h->t, .rng = h->rng};

    return l->backend->open(&o, &h->linear);
}

static int run_server(struct sim_linear *l)
{
    struct half *h = &l->server;

    if (l->step >= 0)
        return h->linear.server(h->linear.ctx, l->step, l->images, l->s);
    return open_half(l, h, false);
}

static void *server_thread(void *arg)
{
    struct sim_linear *l = arg;

    if ((l->server.rc = run_server(l)) < 0) {
        snprintf(l->why, sizeof l->why, "%s", err_message());
        transport_close(&l->server.t);
    }
    return NULL;
}

static int run_client(struct sim_linear *l, const uint64_t *r, uint64_t *u)
{
    struct half *h = &l->client;

    if (l->step >= 0)
        return h->linear.client(h->linear.ctx, l->step, l->images, r, u);
    return open_half(l, h, true);
}

/* The peer that went away is a consequence. */
static bool is_cause(int rc)
{
    return rc < 0 && rc != ERR_PEER && rc != ERR_NET;
}

static int run_both(struct sim_linear *l, const uint64_t *r, uint64_t *u)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, server_thread, l) != 0)
        return fail(ERR_NOMEM, "no thread for the simulated server");
    if ((l->client.rc = run_client(l, r, u)) < 0)
        transport_close(&l->client.t);
    pthread_join(thread, NULL);
    if (l->server.rc < 0 && !is_cause(l->client.rc))
        return fail(l->server.rc, "%s", l->why);
    return l->client.rc;
}

int sim_linear_open(const struct linear_backend *b, const struct prepared *m,
                    const struct share_rng *shares, struct sim_linear **out)
{
    SCOPED(sim_linear_close_at) struct sim_linear *l = mem_array(1, sizeof *l);

    if (l == NULL)
        return ERR_NOMEM;
    *l = (struct sim_linear){.backend = b, .model = m, .step = -1};
    TRY(transport_pair(&l->server.t, &l->client.t));
    transport_pair_patience(&l->client.t, 0);
    TRY(share_rng_open(shares, SHARE_LINEAR, 0, 0, &l->server.rng));
    TRY(share_rng_open(shares, SHARE_LINEAR, 0, 1, &l->client.rng));
    TRY(run_both(l, NULL, NULL));
    *out = mem_hand_on(&l);
    return 0;
}

static void close_half(struct half *h)
{
    if (h->linear.close != NULL)
        h->linear.close(h->linear.ctx);
    prg_free(h->rng);
    transport_close(&h->t);
}

void sim_linear_close(struct sim_linear *l)
{
    if (l == NULL)
        return;
    close_half(&l->client);
    close_half(&l->server);
    mem_free(l);
}

static void note_error(struct sim_error *e, uint64_t difference)
{
    int64_t v = (int64_t)difference;

    e->n++;
    e->largest = llabs(v) > e->largest ? llabs(v) : e->largest;
    e->squares += (double)v * (double)v;
}

int sim_linear_step(struct sim_linear *l, int32_t step, int64_t images, uint64_t *s,
                    const uint64_t *r, const uint64_t *exact, uint64_t *u)
{
    const struct plan *p = l->model->plan;
    int64_t n = images * p->tensor[p->step[step].out].count;

    l->step = step;
    l->images = images;
    l->s = s;
    TRY(run_both(l, r, u));
    for (int64_t i = 0; i < n; i++)
        note_error(&l->error, u[i] + s[i] - exact[i]);
    return 0;
}

struct sim_error sim_linear_error(const struct sim_linear *l)
{
    return l != NULL ? l->error : (struct sim_error){0};
}
