/*
 * What each party sees is uniform and independent of the other's secret, measured with fixed seeds of
 * the tests and fresh randomness of the parties.
 *
 * One party's randomness and input stay the same while the other's secret changes from run to run; all
 * bytes that the first party receives, but for the few that are public, are counted. Chi-square over
 * the 256 values of a byte (255 degrees of freedom): accepted while p > 1e-6. Each test states its
 * number of samples. Comparisons come from gc and ot; linear steps are open here, and
 * move nothing online.
 */
#include "two_parties.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/rng.h"

/* ---- statistics --------------------------------------------------------------------------- */

/* Upper tail of chi-square with 255 degrees of freedom, by Wilson and Hilferty's cube root: good to a
 * few per cent of the exponent where it matters here. */
static double chi_square_p(double x)
{
    const double k = 255, s = 2 / (9 * k);

    return 0.5 * erfc((cbrt(x / k) - (1 - s)) / sqrt(2 * s));
}

struct histogram {
    uint64_t count[256], n;
};

static void count_bytes(struct histogram *h, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h->count[bytes[i]]++;
    h->n += n;
}

static double uniform_p(const struct histogram *h)
{
    double expected = (double)h->n / 256, x = 0;

    for (int i = 0; i < 256; i++)
        x += pow((double)h->count[i] - expected, 2) / expected;
    return chi_square_p(x);
}

/* Two samples of the same distribution? */
static double equal_p(const struct histogram *a, const struct histogram *b)
{
    double ka = sqrt((double)b->n / (double)a->n), kb = 1 / ka, x = 0;

    for (int i = 0; i < 256; i++) {
        double sum = (double)(a->count[i] + b->count[i]);
        if (sum > 0)
            x += pow(ka * (double)a->count[i] - kb * (double)b->count[i], 2) / sum;
    }
    return chi_square_p(x);
}

static void test_statistics_tell_uniform_from_biased(void **state)
{
    struct rng r = rng_at(1, RNG_TEST, 0, 0);
    struct histogram even = {{0}, 0}, biased = {{0}, 0};

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint8_t v = (uint8_t)rng_u32(&r), w = rng_u32(&r) % 32 == 0 ? 0 : (uint8_t)rng_u32(&r);
        count_bytes(&even, &v, 1);
        count_bytes(&biased, &w, 1);
    }
    assert_true(uniform_p(&even) > 1e-6);
    assert_true(uniform_p(&biased) < 1e-6);
    assert_true(equal_p(&even, &biased) < 1e-6);
    assert_true(fabs(chi_square_p(255) - 0.488) < 0.01);
}

/* ---- what a party receives ---------------------------------------------------------------- */

/* A transport that keeps what arrives. */
struct tap {
    struct transport inner;
    uint8_t *bytes;
    size_t used, room;
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    return transport_send(&((struct tap *)ctx)->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    struct tap *t = ctx;

    TRY(transport_recv(&t->inner, bytes, n));
    assert_true(t->used + n <= t->room);
    memcpy(t->bytes + t->used, bytes, n);
    t->used += n;
    return 0;
}

static int tap_flush(void *ctx)
{
    return transport_flush(&((struct tap *)ctx)->inner);
}

static void tap_close(void *ctx)
{
    transport_close(&((struct tap *)ctx)->inner);
}

#define ROOM ((size_t)1 << 21)
static void tap_wrap(struct tap *t, struct transport *line)
{
    t->inner = *line;
    t->used = 0;
    *line = (struct transport){tap_send, tap_recv, tap_flush, tap_close, t, {0}, 0, 0};
}

/* A connection with fresh randomness, tapped on one side. */
struct session {
    struct served server;
    struct party_options o;
    struct transport t;
    struct party *p;
    struct tap tap;
    bool of_client;
};

static void session_open(struct session *s, const struct parties *b,
                         const struct relu_backend *relu, bool of_client)
{
    *s = (struct session){.server = {.o = parties_options(b, relu, false)},
                          .o = parties_options(b, relu, true),
                          .of_client = of_client};
    s->server.o.test_seed = s->o.test_seed = -1;
    s->tap = (struct tap){.bytes = mem_array(ROOM, 1), .room = ROOM};
    assert_non_null(s->tap.bytes);
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    tap_wrap(&s->tap, of_client ? &s->t : &s->server.t);
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &s->p), 0);
}

static void session_close(struct session *s)
{
    party_close(s->p);
    transport_close(&s->t);
    served_join(&s->server);
    assert_int_equal(s->server.rc, 0);
    mem_free(s->tap.bytes);
}

/* One query. What the tapped side received online lies at the end of what it received: the other side
 * waits for the next request now. */
static const uint8_t *run_query(struct session *s, const uint64_t *x, size_t *n)
{
    const struct cost_count *online = &party_account(s->p)->phase[PHASE_ONLINE];
    uint64_t before = s->of_client ? online->received : online->sent, y[PARTIES_CLASSES];

    s->tap.used = 0;
    assert_int_equal(party_query(s->p, x, y), 0);
    *n = (size_t)((s->of_client ? online->received : online->sent) - before);
    return s->tap.bytes + s->tap.used - *n;
}

static void report_and_check(const char *what, const struct histogram h[2])
{
    double first = uniform_p(&h[0]), second = uniform_p(&h[1]), equal = equal_p(&h[0], &h[1]);

    print_message("%s, %llu + %llu bytes: uniform p = %.3g, %.3g, equal p = %.3g\n", what,
                  (unsigned long long)h[0].n, (unsigned long long)h[1].n, first, second, equal);
    assert_true(first > 1e-6 && second > 1e-6 && equal > 1e-6);
}

#define RUNS 200

/* The server's view online for two images as different as images can be: x - r, and what comparisons
 * send. Samples: RUNS queries of each. */
static void check_server_view(const struct relu_backend *relu)
{
    struct parties b;
    struct session s;
    struct histogram all[2] = {{{0}, 0}, {{0}, 0}}, input[2] = {{{0}, 0}, {{0}, 0}};

    parties_open(&b, 64, 0, 3);
    session_open(&s, &b, relu, false);
    for (int i = 0; i < 2 * RUNS; i++) {
        uint64_t x[PARTIES_INPUTS];
        const uint8_t *view;
        size_t n;
        for (int k = 0; k < PARTIES_INPUTS; k++)
            x[k] = i % 2 == 0 ? 0 : (uint64_t)(int64_t)(k % 2 == 0 ? 8191 : -8191);
        view = run_query(&s, x, &n);
        count_bytes(&all[i % 2], view, n);
        count_bytes(&input[i % 2], view, 8 * PARTIES_INPUTS);
    }
    session_close(&s);
    print_message("%s: ", relu->name);
    report_and_check("what the server receives online", all);
    report_and_check("    its share of the image", input);
    parties_close(&b);
}

/* The client's view online with two servers whose weights differ: all but the last message, which
 * completes its output. Samples: RUNS queries of each. */
static void check_client_view(const struct relu_backend *relu)
{
    struct histogram h[2] = {{{0}, 0}, {{0}, 0}};
    uint64_t x[PARTIES_INPUTS] = {1, 2, 3};

    for (int k = 0; k < 2; k++) {
        struct parties b;
        struct session s;
        parties_open(&b, 64, 0, 3 + (uint64_t)k);
        session_open(&s, &b, relu, true);
        for (int i = 0; i < RUNS; i++) {
            size_t n;
            const uint8_t *view = run_query(&s, x, &n);
            count_bytes(&h[k], view, n - 8 * PARTIES_CLASSES);
        }
        session_close(&s);
        parties_close(&b);
    }
    print_message("%s: ", relu->name);
    report_and_check("what the client receives online", h);
}

static void test_what_the_server_sees_does_not_depend_on_the_image(void **state)
{
    (void)state;
    check_server_view(&relu_gc);
    check_server_view(&relu_ot);
}

static void test_what_the_client_sees_does_not_depend_on_the_weights(void **state)
{
    (void)state;
    check_client_view(&relu_gc);
    check_client_view(&relu_ot);
}

/* Every query of a connection moves as many bytes as any other, whatever the image. */
static void test_sizes_depend_on_nothing_secret(void **state)
{
    struct parties b;
    struct session s;
    size_t used = 0, online = 0;

    (void)state;
    parties_open(&b, 16, 0, 3);
    session_open(&s, &b, &relu_gc, true);
    for (int i = 0; i < 5; i++) {
        float image[PARTIES_INPUTS];
        uint64_t x[PARTIES_INPUTS];
        size_t n;
        parties_image(i, image, x);
        run_query(&s, x, &n);
        if (i > 1) /* the first one holds the set-up */
            assert_true(s.tap.used == used && n == online);
        used = s.tap.used;
        online = n;
    }
    session_close(&s);
    parties_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statistics_tell_uniform_from_biased),
        cmocka_unit_test(test_what_the_server_sees_does_not_depend_on_the_image),
        cmocka_unit_test(test_what_the_client_sees_does_not_depend_on_the_weights),
        cmocka_unit_test(test_sizes_depend_on_nothing_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
