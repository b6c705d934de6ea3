/*
 * What each party sees, online and offline, is uniform and independent of the other's secret, measured
 * with fixed seeds, the parties' own included: a run gives the same figures every time.
 *
 * The other party's secret changes between two samples; all bytes that a party receives, but for the
 * few that are public, are counted. Chi-square over the 256 values of a byte (255 degrees of freedom):
 * accepted while p > 1e-6. Each test states its number of samples. Comparisons come from gc and ot.
 * Linear steps move nothing online; offline they come from the dealer, from ring-LWE, or, where only
 * what the client ends up with matters, from the open.
 */
#include "tests/two_parties.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/graph/rng.h"
#include "runtime/linear/rlwe_party.h"

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

#define STATUS 8 /* bytes; pieces up to this size are counters, answers and states, all public */
#define POINT 65
#define PIECES 4096
#define ROOM ((size_t)1 << 21)

/* A transport that keeps what arrives, piece by piece. */
struct tap {
    struct transport inner;
    uint8_t *bytes;
    size_t used, pieces, end[PIECES];
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    return transport_send(&((struct tap *)ctx)->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    struct tap *t = ctx;

    TRY(transport_recv(&t->inner, bytes, n));
    assert_true(t->used + n <= ROOM && t->pieces < PIECES);
    memcpy(t->bytes + t->used, bytes, n);
    t->used += n;
    t->end[t->pieces++] = t->used;
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

static void tap_wrap(struct tap *t, struct transport *line)
{
    t->inner = *line;
    *line = (struct transport){tap_send, tap_recv, tap_flush, tap_close, NULL, t, {0}, 0, 0};
}

enum backend { OPEN, DEALER, RLWE };

/* A connection, tapped on one side. */
struct session {
    struct served server;
    struct party_options o;
    struct transport t;
    struct party *p;
    struct tap tap;
    bool of_client;
};

static void session_open(struct session *s, const struct parties *b,
                         const struct relu_backend *relu, enum backend linear, int64_t seed,
                         bool of_client)
{
    *s = (struct session){.server = {.o = parties_options(b, relu, false)},
                          .o = parties_options(b, relu, true),
                          .of_client = of_client};
    s->server.o.test_seed = s->o.test_seed = seed;
    if (linear == RLWE)
        s->server.o.linear = s->o.linear = &linear_rlwe;
    s->tap.bytes = mem_array(ROOM, 1);
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

    s->tap.used = s->tap.pieces = 0;
    assert_int_equal(party_query(s->p, x, y), 0);
    *n = (size_t)((s->of_client ? online->received : online->sent) - before);
    return s->tap.bytes + s->tap.used - *n;
}

/* The pieces before the last n bytes, those of the offline phase: first the request or its answer,
 * which is public, then what is counted; not the points of base OTs, where a lot begins. */
static void count_offline(struct histogram *h, const struct tap *t, size_t n)
{
    for (size_t i = 1; i < t->pieces && t->end[i] <= t->used - n; i++)
        if (t->end[i] - t->end[i - 1] > STATUS && t->end[i] - t->end[i - 1] != POINT)
            count_bytes(h, t->bytes + t->end[i - 1], t->end[i] - t->end[i - 1]);
}

static void report_and_check(const char *what, const struct histogram h[2])
{
    double first = uniform_p(&h[0]), second = uniform_p(&h[1]), equal = equal_p(&h[0], &h[1]);

    print_message("%s, %llu + %llu bytes: uniform p = %.3g, %.3g, equal p = %.3g\n", what,
                  (unsigned long long)h[0].n, (unsigned long long)h[1].n, first, second, equal);
    assert_true(first > 1e-6 && second > 1e-6 && equal > 1e-6);
}

/* Two images as different as images can be. */
static void extreme_image(int i, uint64_t x[PARTIES_INPUTS])
{
    for (int k = 0; k < PARTIES_INPUTS; k++)
        x[k] = i % 2 == 0 ? 0 : (uint64_t)(int64_t)(k % 2 == 0 ? 8191 : -8191);
}

#define RUNS 32    /* queries of each sample: 8,192 bytes of shares, 32 of each value */
#define OFFLINE 16 /* of the offline phases, which are longer */

/* The server's view online for two images: x - r, and what comparisons send. */
static void check_server_view(const struct relu_backend *relu)
{
    struct parties b;
    struct session s;
    struct histogram all[2] = {{{0}, 0}, {{0}, 0}}, input[2] = {{{0}, 0}, {{0}, 0}};

    parties_open(&b, 64, 0, 3);
    session_open(&s, &b, relu, OPEN, 1001, false);
    for (int i = 0; i < 2 * RUNS; i++) {
        uint64_t x[PARTIES_INPUTS];
        const uint8_t *view;
        size_t n;
        extreme_image(i, x);
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
 * completes its output. */
static void check_client_view(const struct relu_backend *relu)
{
    struct histogram h[2] = {{{0}, 0}, {{0}, 0}};
    uint64_t x[PARTIES_INPUTS] = {1, 2, 3};

    for (int k = 0; k < 2; k++) {
        struct parties b;
        struct session s;
        parties_open(&b, 64, 0, 3 + (uint64_t)k);
        session_open(&s, &b, relu, OPEN, 1002 + k, true);
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

/* ---- offline ------------------------------------------------------------------------------ */

static const char *const names[] = {"linear steps in the open", "a dealer", "ring-LWE"};

/* x - r, received online, and r - rho, which the dealer's protocol sent before: their sum, x - rho, is
 * as uniform as each of them. */
static void count_sums(struct histogram *h, const struct tap *t, const uint8_t *input)
{
    uint64_t a[PARTIES_INPUTS], b[PARTIES_INPUTS];
    size_t i = 1;

    while (t->end[i] - t->end[i - 1] != sizeof a)
        i++;
    memcpy(a, t->bytes + t->end[i - 1], sizeof a);
    memcpy(b, input, sizeof b);
    for (int k = 0; k < PARTIES_INPUTS; k++)
        a[k] += b[k];
    count_bytes(h, (const uint8_t *)a, sizeof a);
}

/* The server's view of the offline phases of two images, the first query (with the set-up) left out;
 * runs queries of each. */
static void check_server_offline(const struct relu_backend *relu, enum backend linear, int runs)
{
    struct parties b;
    struct session s;
    struct histogram h[2] = {{{0}, 0}, {{0}, 0}}, sum[2] = {{{0}, 0}, {{0}, 0}};

    parties_open(&b, 64, linear == DEALER ? 2 * runs + 1 : 0, 3);
    session_open(&s, &b, relu, linear, 1010, false);
    for (int i = 0; i <= 2 * runs; i++) {
        uint64_t x[PARTIES_INPUTS];
        const uint8_t *view;
        size_t n;
        extreme_image(i, x);
        view = run_query(&s, x, &n);
        if (i == 0)
            continue;
        count_offline(&h[i % 2], &s.tap, n);
        if (linear == DEALER)
            count_sums(&sum[i % 2], &s.tap, view);
    }
    session_close(&s);
    print_message("%s, %s, %d + %d queries: ", relu->name, names[linear], runs, runs);
    report_and_check("what the server receives offline", h);
    if (linear == DEALER)
        report_and_check("    x - r + (r - rho)", sum);
    parties_close(&b);
}

/* The client's view of the offline phases with two servers whose weights differ. */
static void check_client_offline(const struct relu_backend *relu, enum backend linear, int runs)
{
    struct histogram h[2] = {{{0}, 0}, {{0}, 0}};

    for (int k = 0; k < 2; k++) {
        struct parties b;
        struct session s;
        uint64_t x[PARTIES_INPUTS] = {1, 2, 3};
        size_t n;
        parties_open(&b, 64, linear == DEALER ? runs + 1 : 0, 3 + (uint64_t)k);
        session_open(&s, &b, relu, linear, 1020 + k, true);
        run_query(&s, x, &n);
        for (int i = 0; i < runs; i++) {
            run_query(&s, x, &n);
            count_offline(&h[k], &s.tap, n);
        }
        session_close(&s);
        parties_close(&b);
    }
    print_message("%s, %s, %d + %d queries: ", relu->name, names[linear], runs, runs);
    report_and_check("what the client receives offline", h);
}

static void test_the_server_learns_nothing_offline(void **state)
{
    (void)state;
    check_server_offline(&relu_gc, DEALER, OFFLINE);
    check_server_offline(&relu_ot, DEALER, OFFLINE);
    check_server_offline(&relu_gc, RLWE, 5);
}

static void test_the_client_learns_nothing_offline(void **state)
{
    (void)state;
    check_client_offline(&relu_gc, OPEN, OFFLINE);
    check_client_offline(&relu_ot, OPEN, OFFLINE);
    check_client_offline(&relu_gc, RLWE, 5);
}

/* The piece of exactly n bytes. */
static const uint8_t *find_piece(const struct tap *t, size_t n)
{
    const uint8_t *found = NULL;

    for (size_t i = 1; i < t->pieces; i++)
        if (t->end[i] - t->end[i - 1] == n) {
            assert_null(found);
            found = t->bytes + t->end[i - 1];
        }
    assert_non_null(found);
    return found;
}

/* F = W - A of a dealer, which a client receives once a deal: DEALS deals of each of two sets of
 * weights. */
#define DEALS 10
static void test_masked_weights_are_uniform(void **state)
{
    struct histogram h[2] = {{{0}, 0}, {{0}, 0}};

    (void)state;
    for (int i = 0; i < 2 * DEALS; i++) {
        struct parties b;
        struct session s;
        uint64_t x[PARTIES_INPUTS] = {1, 2, 3};
        size_t n, bytes = 0;
        parties_open(&b, 1, 0, 3 + (uint64_t)(i % 2));
        parties_deal(&b, 1, 1100 + i);
        for (int32_t k = 0; k < b.plan->n_step; k++)
            bytes += 8 * (size_t)(b.weights->matrix[k].rows * b.weights->matrix[k].columns);
        session_open(&s, &b, &relu_gc, DEALER, 1030, true);
        run_query(&s, x, &n);
        count_bytes(&h[i % 2], find_piece(&s.tap, bytes), bytes);
        session_close(&s);
        parties_close(&b);
    }
    report_and_check("masked weights", h);
}

/* Every query of a connection moves as many bytes as any other, whatever the image. */
static void test_sizes_depend_on_nothing_secret(void **state)
{
    struct parties b;
    struct session s;
    size_t used = 0, online = 0;

    (void)state;
    parties_open(&b, 16, 0, 3);
    session_open(&s, &b, &relu_gc, OPEN, 1000, true);
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
        cmocka_unit_test(test_the_server_learns_nothing_offline),
        cmocka_unit_test(test_the_client_learns_nothing_offline),
        cmocka_unit_test(test_masked_weights_are_uniform),
        cmocka_unit_test(test_sizes_depend_on_nothing_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
