/* Two parties for tests (two_parties.h). */
#include "tests/two_parties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/plan_sample.h"
#include "runtime/linear/dealer.h"
#include "runtime/crypto/store.h"

/* ---- linear steps in the open: the client sends r, the server answers W r - s -------------- */

struct plain {
    const struct prepared *m;
    struct transport *t;
    uint64_t *x, *y;
    double *scratch;
};

static int64_t count_of(const struct plain *p, int32_t tensor)
{
    return p->m->plan->tensor[tensor].count;
}

static int plain_server(void *ctx, int32_t step, int64_t images, uint64_t *s)
{
    struct plain *p = ctx;
    const struct plan_step *st = &p->m->plan->step[step];
    int64_t n = count_of(p, st->out);

    for (int64_t k = 0; k < images; k++, s += n) {
        TRY(transport_recv(p->t, p->x, (size_t)count_of(p, st->in[0]) * sizeof *p->x));
        prepared_product(p->m, step, p->y, p->x, p->scratch);
        for (int64_t i = 0; i < n; i++)
            p->y[i] -= s[i];
        TRY(transport_send(p->t, p->y, (size_t)n * sizeof *p->y));
    }
    return transport_flush(p->t);
}

static int plain_client(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    struct plain *p = ctx;
    const struct plan_step *st = &p->m->plan->step[step];

    TRY(transport_send(p->t, r, (size_t)(images * count_of(p, st->in[0])) * sizeof *r));
    return transport_recv(p->t, u, (size_t)(images * count_of(p, st->out)) * sizeof *u);
}

static void plain_close(void *ctx)
{
    struct plain *p = ctx;

    mem_free(p->x);
    mem_free(p->y);
    mem_free(p->scratch);
    mem_free(p);
}

static int plain_open(const struct linear_setup *o, struct linear_party *out)
{
    struct plain *p = mem_array(1, sizeof *p);
    size_t n = o->prepared->slots;

    assert_non_null(p);
    *p = (struct plain){o->prepared, o->t, mem_array(n, 8), mem_array(n, 8),
                        mem_aligned(o->prepared->scratch, sizeof(double))};
    assert_true(p->x && p->y && p->scratch);
    *out = (struct linear_party){p, plain_server, plain_client, plain_close};
    return 0;
}

static const struct linear_backend plain_linear = {.code = 2, .name = "plain", .open = plain_open};

/* ---- both parties ------------------------------------------------------------------------- */

void parties_open(struct parties *b, int kept, int deals, uint64_t weights_seed)
{
    parties_open_plan(b, plan_sample(kept), deals, weights_seed);
}

void parties_open_plan(struct parties *b, struct plan *plan, int deals, uint64_t weights_seed)
{
    b->plan = plan;
    b->weights = plan_sample_weights(b->plan, weights_seed);
    assert_int_equal(pi_prepare(b->plan, b->weights, PI_SIM2PC, &b->sim), 0);
    assert_int_equal(prepared_new(b->plan, b->weights, false, &b->server), 0);
    assert_int_equal(prepared_new(b->plan, NULL, false, &b->client), 0);
    b->dealer = false;
    pi_simulate(b->sim, PARTIES_SEED, deals > 0 ? &linear_dealer : NULL, 1);
    memset(b->hash, 0x5a, sizeof b->hash);
    scratch_open(b->dir);
    scratch_path(b->dir, "dealt-client", b->dealt_client);
    scratch_path(b->dir, "dealt-server", b->dealt_server);
    scratch_path(b->dir, "client", b->bundles_client);
    scratch_path(b->dir, "server", b->bundles_server);
    assert_int_equal(store_folder(b->bundles_client), 0);
    assert_int_equal(store_folder(b->bundles_server), 0);
    if (deals > 0)
        parties_deal(b, deals, PARTIES_SEED);
}

void parties_deal(struct parties *b, int deals, int64_t seed)
{
    b->dealer = true;
    assert_int_equal(
        dealer_deal(b->plan, b->hash, deals, seed, b->dealt_client, b->dealt_server, NULL, NULL),
        0);
}

void parties_close(struct parties *b)
{
    const char *const folders[] = {b->dealt_client, b->dealt_server, b->bundles_client,
                                   b->bundles_server};

    pi_close(b->sim);
    prepared_free(b->server);
    prepared_free(b->client);
    plan_weights_free(b->weights);
    plan_free(b->plan);
    for (int i = b->dealer ? 0 : 2; i < 4; i++)
        assert_int_equal(store_remove(folders[i]), 0);
    scratch_close(b->dir);
    assert_int_equal(secret_alive(), 0);
}

struct party_options parties_options(const struct parties *b, const struct relu_backend *relu,
                                     bool client)
{
    struct party_options o = {.model = client ? b->client : b->server,
                              .client = client,
                              .linear = b->dealer ? &linear_dealer : &plain_linear,
                              .test_seed = PARTIES_SEED,
                              .max_bundles = PARTIES_IMAGES,
                              .relu = relu};

    if (b->dealer)
        o.dealer = client ? b->dealt_client : b->dealt_server;
    memcpy(o.hash, b->hash, sizeof o.hash);
    return o;
}

void parties_image(int i, float image[PARTIES_INPUTS], uint64_t x[PARTIES_INPUTS])
{
    for (int k = 0; k < PARTIES_INPUTS; k++) {
        image[k] = (float)((i * 37 + k * 11) % 64 - 32) / 16;
        x[k] = (uint64_t)(int64_t)(image[k] * 4096);
    }
}

void parties_expect(struct parties *b, int64_t y[PARTIES_IMAGES][PARTIES_CLASSES])
{
    float image[PARTIES_IMAGES][PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];

    for (int i = 0; i < PARTIES_IMAGES; i++)
        parties_image(i, image[i], x);
    assert_int_equal(pi_run_fixed(b->sim, PI_NORMALIZED, image, PARTIES_IMAGES, *y), 0);
}

int parties_best(const int64_t *y)
{
    int top = 0;

    for (int i = 1; i < PARTIES_CLASSES; i++)
        top = y[i] > y[top] ? i : top;
    return top;
}

static void *serve(void *arg)
{
    struct served *s = arg;
    struct party *p = NULL;

    if ((s->rc = party_open(&s->o, &s->t, &p)) == 0) {
        while ((s->rc = party_answer(p, NULL, NULL)) > 0)
            ;
        memcpy(s->phase, party_account(p)->phase, sizeof s->phase);
    }
    snprintf(s->message, sizeof s->message, "%s", s->rc < 0 ? err_message() : "");
    party_close(p);
    transport_close(&s->t);
    return NULL;
}

void served_start(struct served *s)
{
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

void served_join(struct served *s)
{
    pthread_join(s->thread, NULL);
}
