/*
 * A client that uploads what is no encryption of its operand and reads the server's weights from the
 * answers; it leaves before the online phase.
 *
 * The upload is -a s + e + 2^k m' with small m' where an honest one has round(Q m / 2^64); ring-LWE
 * makes the two indistinguishable. For k = 29 the answer, before it is hidden, is 2^13 (W m' + an error
 * below 0.15). A masking that leaves bits open shows W m' in them. Up to revision 290443b answers had 96
 * bits, the mask began at bit 32, a flood ended below bit 11: bits 11 to 31 were open. old_answer is
 * that masking on today's 64 bits. m' is one impulse per step: the products are weights.
 *
 * The test defines all of runtime/crypto/rlwe.c itself, so that one switch turns the masking of the whole
 * server from the product's to the old one: against that the attack must succeed, or the test could
 * not see it.
 */
#define rlwe_answer product_answer
#include "runtime/crypto/rlwe.c"
#undef rlwe_answer

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/graph/rng.h"
#include "tests/plain_relu.h"
#include "tests/plan_sample.h"
#include "tests/rlwe_product.h"
#include "runtime/linear/rlwe_party.h"
#include "runtime/linear/rlwe_layout.h"
#include "runtime/net/tcp.h"
#include "tests/two_parties.h"

#define SEED 20261128
#define CHI2_255 385.0 /* 255 degrees of freedom: p = 1e-6 is 374 */
#define GAP_SHIFT 29   /* of the upload; the answer shows it 16 bits lower */

/* ---- two maskings ------------------------------------------------------------------------- */

static bool old_masking;

/* A flood in [-2^10, 2^10), mask * 2^32. */
static void old_answer(struct rlwe_work *k, const struct rlwe *r, const int32_t *place,
                       const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values)
{
    uint64_t *open = mem_array((size_t)n, sizeof *open);

    assert_non_null(open);
    for (int64_t at = 0; at < n; at++)
        open[at] = (mask[at] << 32) - (mask[at] >> 53) + 1024;
    product_answer(k, r, place, open, n, half, values);
    mem_free(open);
}

void rlwe_answer(struct rlwe_work *k, const struct rlwe *r, const int32_t *place,
                 const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values);
void rlwe_answer(struct rlwe_work *k, const struct rlwe *r, const int32_t *place,
                 const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values)
{
    (old_masking ? old_answer : product_answer)(k, r, place, mask, n, half, values);
}

/* ---- the attacker ------------------------------------------------------------------------- */

static struct prg *seeded(uint8_t number)
{
    const uint8_t seed[PRG_SEED] = {number, 78};
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    return p;
}

/* c := -a s + e + 2^shift m', m' [RLWE_N] small. */
static int evil_encrypt(const struct rlwe *r, const struct rlwe_secret *s, const uint64_t *a,
                        const uint64_t *m, int shift, struct prg *rng, uint64_t *c)
{
    uint64_t *t = mem_aligned(RLWE_N, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    TRY(rlwe_encrypt(r, s, a, NULL, rng, c));
    for (int i = 0; i < RLWE_PRIMES; i++, c += RLWE_N) {
        const struct ntt *n = rlwe_prime(r, i);
        uint64_t q = ntt_prime(n), power = ntt_pow(2, (uint64_t)shift, q);
        for (int j = 0; j < RLWE_N; j++)
            t[j] = ntt_mul(power, m[j] % q, q);
        ntt_forward(n, t);
        for (int j = 0; j < RLWE_N; j++)
            c[j] = (c[j] + t[j]) % q;
    }
    mem_free(t);
    return 0;
}

/* W m' from the low 32 bits of an opened value. */
static int64_t read_gap(uint64_t opened)
{
    int64_t step = (int64_t)1 << (GAP_SHIFT - 16), low = (int32_t)(uint32_t)opened;

    return (low + (low < 0 ? -step / 2 : step / 2)) / step;
}

/* ---- one ciphertext ----------------------------------------------------------------------- */

struct lab {
    struct rlwe *r;
    struct rlwe_secret *secret;
    struct rlwe_work *work;
    struct prg *client, *server;
    uint64_t *key, *key_a, *a, *c, *m, *mask, *u;
    int16_t *weight;
    int32_t *place;
    uint8_t *half, *values;
};

static void *words(size_t n)
{
    void *p = mem_aligned(n, 8);

    assert_non_null(p);
    return p;
}

static void random_polynomial(const struct rlwe *r, struct prg *rng, uint64_t *a)
{
    uint8_t seed[RLWE_SEED];

    prg_bytes(rng, seed, sizeof seed);
    assert_int_equal(rlwe_random(r, seed, 0, 0, a), 0);
}

static struct lab lab_new(void)
{
    struct lab l = {.client = seeded(1), .server = seeded(2)};
    struct rng g = rng_at(SEED, RNG_TEST, 0, 0);

    assert_int_equal(rlwe_new(ntt_best_path(), &l.r), 0);
    assert_int_equal(rlwe_secret_new(l.r, l.client, &l.secret), 0);
    assert_int_equal(rlwe_work_new(&l.work), 0);
    uint64_t **poly[] = {&l.key, &l.key_a, &l.a, &l.c};
    for (size_t i = 0; i < sizeof poly / sizeof poly[0]; i++)
        *poly[i] = words(RLWE_POLY_WORDS);
    l.m = words(RLWE_N);
    l.mask = words(RLWE_N);
    l.u = words(RLWE_N);
    l.weight = words(RLWE_N);
    l.place = words(RLWE_N);
    l.half = words(RLWE_N);
    l.values = words(RLWE_N);
    for (int32_t i = 0; i < RLWE_N; i++) {
        l.place[i] = i;
        l.weight[i] = (int16_t)rng_u32(&g);
    }
    random_polynomial(l.r, l.client, l.key_a);
    assert_int_equal(rlwe_encrypt(l.r, l.secret, l.key_a, NULL, l.client, l.key), 0);
    return l;
}

static void lab_free(struct lab *l)
{
    void *all[] = {l->key, l->key_a,  l->a,     l->c,    l->m,     l->mask,
                   l->u,   l->weight, l->place, l->half, l->values};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    rlwe_work_free(l->work);
    rlwe_secret_free(l->secret);
    rlwe_free(l->r);
    prg_free(l->client);
    prg_free(l->server);
    assert_int_equal(secret_alive(), 0);
}

/* What the server makes of c, opened with the client's secret. */
static void exchange(struct lab *l)
{
    prg_bytes(l->server, l->mask, RLWE_N * 8);
    rlwe_work_start(l->work, l->server);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)i * RLWE_N;
        rlwe_product_add(l->work, l->r, i, l->c + at, l->a + at, l->weight, 1);
        rlwe_work_close(l->work, l->r, i, l->key + at, l->key_a + at);
    }
    rlwe_answer(l->work, l->r, l->place, l->mask, RLWE_N, l->half, l->values);
    assert_int_equal(rlwe_open(l->r, l->secret, l->half, l->values, l->place, RLWE_N, l->u), 0);
}

static void evil_exchange(struct lab *l, int shift)
{
    memset(l->m, 0, RLWE_N * 8);
    l->m[0] = 1;
    random_polynomial(l->r, l->client, l->a);
    assert_int_equal(evil_encrypt(l->r, l->secret, l->a, l->m, shift, l->client, l->c), 0);
    exchange(l);
}

static int recovered(const struct lab *l)
{
    int hits = 0;

    for (int i = 0; i < RLWE_N; i++)
        hits += read_gap(l->u[i]) == l->weight[i];
    return hits;
}

static void test_the_old_masking_shows_every_weight(void **state)
{
    struct lab l = lab_new();

    (void)state;
    old_masking = true;
    evil_exchange(&l, GAP_SHIFT);
    old_masking = false;
    assert_int_equal(recovered(&l), RLWE_N);
    lab_free(&l);
}

static void test_the_product_shows_none(void **state)
{
    struct lab l = lab_new();

    (void)state;
    evil_exchange(&l, GAP_SHIFT);
    assert_true(recovered(&l) <= 2); /* by chance 4096 * 2^-19 */
    lab_free(&l);
}

static double chi2(const uint8_t *bytes, size_t n, size_t stride)
{
    double expected = (double)n / 256, sum = 0;
    int64_t count[256] = {0};

    for (size_t i = 0; i < n; i++)
        count[bytes[i * stride]]++;
    for (int i = 0; i < 256; i++)
        sum += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    return sum;
}

/* Bytes of opened values: what the client sees after it has taken its own second half away. Returns the
 * largest chi-square of the eight. */
static double worst_byte(const struct lab *l)
{
    double worst = 0;

    for (size_t at = 0; at < 8; at++)
        worst = fmax(worst, chi2((const uint8_t *)l->u + at, RLWE_N, 8));
    return worst;
}

/* Whatever is uploaded, what arrives is uniform. */
static void test_answers_to_any_upload_are_uniform(void **state)
{
    struct lab l = lab_new();

    (void)state;
    old_masking = true;
    evil_exchange(&l, GAP_SHIFT);
    assert_true(worst_byte(&l) > 1000); /* the measure sees the old masking */
    old_masking = false;
    for (int j = 0; j < 80; j++) {
        evil_exchange(&l, j);
        assert_true(worst_byte(&l) < CHI2_255);
    }
    for (int i = 0; i < 4; i++) { /* random residues; then under a public key of zeros */
        random_polynomial(l.r, l.client, l.c);
        random_polynomial(l.r, l.client, l.a);
        if (i == 2)
            memset(l.key, 0, RLWE_POLY_WORDS * 8);
        exchange(&l);
        assert_true(worst_byte(&l) < CHI2_255);
    }
    memset(l.c, 0, RLWE_POLY_WORDS * 8); /* nothing at all */
    exchange(&l);
    assert_true(worst_byte(&l) < CHI2_255);
    lab_free(&l);
}

/* 2^15 opened values in 256 cells: the bits between the old flood and the old mask. */
static void test_the_gap_is_uniform(void **state)
{
    struct lab l = lab_new();
    uint8_t *cell = words(RLWE_N);

    (void)state;
    for (int round = 0; round < 8; round++) {
        evil_exchange(&l, GAP_SHIFT);
        for (int i = 0; i < RLWE_N; i++)
            cell[round * RLWE_N + i] = (uint8_t)((uint32_t)l.u[i] >> 13);
    }
    assert_true(chi2(cell, 8 * RLWE_N, 1) < CHI2_255);
    mem_free(cell);
    lab_free(&l);
}

/* ---- over sockets ------------------------------------------------------------------------- */

struct evil {
    struct transport *t;
    struct prg *rng;
    uint8_t stream[RLWE_SEED];
    uint64_t call;
    struct rlwe *r;
    struct rlwe_secret *secret;
    struct spy *spy;
};
struct spy { /* what all connections have seen */
    const struct plan *plan;
    const struct plan_weights *weights;
    int64_t impulse; /* element of each step's operand that is 1 */
    int hits, wrong;
    int8_t *seen; /* [step][weight]: 1 where it was read correctly once */
    int64_t stride;
};

static int evil_send(struct evil *e, const uint64_t *m, uint32_t poly)
{
    uint64_t *a = words(RLWE_POLY_WORDS), *c = words(RLWE_POLY_WORDS);
    uint8_t *bytes = words(RLWE_POLY_WORDS);
    int rc;

    TRY(rlwe_random(e->r, e->stream, e->call, poly, a));
    rc = evil_encrypt(e->r, e->secret, a, m, GAP_SHIFT, e->rng, c);
    rlwe_pack(bytes, c);
    if (rc == 0)
        rc = transport_send(e->t, bytes, RLWE_POLY_BYTES);
    mem_free(a);
    mem_free(c);
    mem_free(bytes);
    return rc;
}

/* Notes what output `o` says about the weight between it and the impulse. */
static void note(struct spy *y, int32_t step, int64_t output, int64_t value)
{
    const struct plan_step *s = &y->plan->step[step];
    const struct plan_tensor *in = &y->plan->tensor[s->in[0]], *out = &y->plan->tensor[s->out];
    const struct plan_matrix *w = &y->weights->matrix[step];
    int64_t row = output, column = y->impulse;

    if (s->kind == PLAN_CONV) {
        const struct plan_linear *l = &s->u.linear;
        const int64_t *d = in->dim, *od = out->dim, area = od[1] * od[2];
        int64_t a = y->impulse / d[2] % d[1] + l->pad[0] - output % area / od[2] * l->stride[0];
        int64_t b = y->impulse % d[2] + l->pad[1] - output % od[2] * l->stride[1];
        if (a < 0 || b < 0 || a >= l->kernel[0] || b >= l->kernel[1])
            return;
        row = output / area;
        column = (y->impulse / (d[1] * d[2]) * l->kernel[0] + a) * l->kernel[1] + b;
    }
    bool right = value == w->weight[row * w->columns + column];
    y->wrong += !right;
    y->hits += right && !y->seen[step * y->stride + row * w->columns + column];
    y->seen[step * y->stride + row * w->columns + column] |= right;
}

static int evil_step(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    struct evil *e = ctx;
    const struct plan *p = e->spy->plan;
    const struct plan_step *s = &p->step[step];
    int64_t inputs = p->tensor[s->in[0]].count;
    uint64_t *m = words(RLWE_N), *x = words((size_t)inputs), *got = words(RLWE_N);
    int64_t *element = words(RLWE_N);
    int32_t *place = words(RLWE_N);
    uint8_t *bytes = words(2 * RLWE_N);
    struct rlwe_layout l;
    uint32_t header[2] = {(uint32_t)step, 0};

    (void)r;
    (void)u;
    memset(x, 0, (size_t)inputs * 8);
    if (e->spy->impulse < inputs)
        x[e->spy->impulse] = 1;
    e->call++;
    TRY(rlwe_layout_of(p, s, images, &l));
    header[1] = (uint32_t)(rlwe_layout_bands(&l) * l.in_polys);
    TRY(transport_send(e->t, header, sizeof header));
    for (int64_t i = 0; i < header[1]; i++) {
        rlwe_layout_input(&l, i / l.in_polys, i % l.in_polys, x, m);
        TRY(evil_send(e, m, (uint32_t)i));
    }
    TRY(transport_recv(e->t, header, sizeof header));
    for (int64_t i = 0; i < header[1]; i++) {
        int64_t bands = rlwe_layout_bands(&l);
        int64_t n = rlwe_layout_outputs(&l, i % bands, i / bands, place, element);
        TRY(transport_recv(e->t, bytes, RLWE_HALF_BYTES + (size_t)n * RLWE_ANSWER_BYTES));
        TRY(rlwe_open(e->r, e->secret, bytes, bytes + RLWE_HALF_BYTES, place, n, got));
        for (int64_t k = 0; k < n && e->spy->impulse < inputs; k++)
            note(e->spy, step, element[k], read_gap(got[k]));
    }
    void *all[] = {m, x, got, element, place, bytes};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    /* the last linear step was the last thing it wanted */
    return step == GEMM ? ERR_INTERRUPTED : 0;
}

static void evil_close(void *ctx)
{
    struct evil *e = ctx;

    rlwe_secret_free(e->secret);
    rlwe_free(e->r);
    mem_free(e);
}

static struct spy *the_spy; /* the hook below takes no context */

static int evil_open(const struct linear_setup *o, struct linear_party *out)
{
    struct transport *t = o->t;
    struct prg *rng = o->rng;
    struct evil *e = mem_array(1, sizeof *e);
    uint64_t *zero = words(RLWE_N);

    assert_non_null(e);
    *e = (struct evil){.t = t, .rng = rng, .spy = the_spy};
    if (!o->client) {
        mem_free(zero);
        evil_close(e);
        return linear_rlwe.open(o, out);
    }
    assert_int_equal(rlwe_new(ntt_best_path(), &e->r), 0);
    assert_int_equal(rlwe_secret_new(e->r, rng, &e->secret), 0);
    TRY(transport_recv(t, e->stream + PRG_SEED,
                       PRG_SEED)); /* the server's nonce; its own seed: zeros */
    TRY(transport_send(t, e->stream, PRG_SEED));
    memset(zero, 0, RLWE_N * 8);
    TRY(evil_send(e, zero, 0)); /* the public key: an encryption of 0 */
    mem_free(zero);
    *out = (struct linear_party){.ctx = e, .client = evil_step, .close = evil_close};
    return transport_flush(t);
}

static const struct linear_backend evil_linear = {.code = 2, .name = "evil", .open = evil_open};

static void connect_over_tcp(struct transport *client, struct transport *server)
{
    struct tcp_address at;
    struct tcp_listener *l = NULL;
    struct tcp *a, *b;

    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    assert_int_equal(tcp_listen(&at, &l), 0);
    snprintf(at.port, sizeof at.port, "%d", tcp_listener_port(l));
    assert_int_equal(tcp_connect(&at, 20, &a), 0);
    assert_int_equal(tcp_accept(l, 20, NULL, NULL, &b), 0);
    tcp_listener_close(l);
    tcp_transport(a, client);
    tcp_transport(b, server);
}

/* One connection: hello, set-up, the offline phase of one query; the client leaves before the rest. */
static void attack(const struct parties *b, struct spy *spy)
{
    struct served server = {.o = parties_options(b, &plain_relu, false)};
    struct party_options o = parties_options(b, &plain_relu, true);
    struct transport t;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    the_spy = spy;
    server.o.linear = o.linear = &evil_linear;
    connect_over_tcp(&t, &server.t);
    served_start(&server);
    assert_int_equal(party_open(&o, &t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_INTERRUPTED);
    transport_close(&t);
    party_close(p);
    served_join(&server);
    assert_true(server.rc < 0);
}

/* Weights read correctly in so many connections; of all. */
static int spy_on(int connections, bool old, int *all)
{
    struct parties b;
    struct spy spy = {0};
    int64_t most = 0;

    parties_open(&b, 32, 0, 5);
    *all = 0;
    for (int32_t i = 0; i < b.plan->n_step; i++) {
        int64_t n = b.weights->matrix[i].rows * b.weights->matrix[i].columns;
        *all += (int)n;
        most = n > most ? n : most;
    }
    spy = (struct spy){.plan = b.plan, .weights = b.weights, .stride = most};
    spy.seen = mem_array((size_t)(b.plan->n_step * most), 1);
    assert_non_null(spy.seen);
    old_masking = old;
    for (int k = 0; k < connections; k++) {
        spy.impulse = connections == 1 ? 5 : k; /* 5: row 1, column 1 of channel 0 */
        attack(&b, &spy);
    }
    old_masking = false;
    if (old)
        assert_int_equal(spy.wrong, 0);
    mem_free(spy.seen);
    parties_close(&b);
    return spy.hits;
}

static void test_a_client_that_leaves_learns_nothing(void **state)
{
    int all;

    (void)state;
    assert_int_equal(spy_on(1, true, &all), 2 * 4 * 9); /* one channel of both convolutions */
    assert_int_equal(spy_on(64, true, &all), all);
    assert_true(spy_on(1, false, &all) <= 1);
    assert_true(spy_on(64, false, &all) <= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_old_masking_shows_every_weight),
        cmocka_unit_test(test_the_product_shows_none),
        cmocka_unit_test(test_answers_to_any_upload_are_uniform),
        cmocka_unit_test(test_the_gap_is_uniform),
        cmocka_unit_test(test_a_client_that_leaves_learns_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
