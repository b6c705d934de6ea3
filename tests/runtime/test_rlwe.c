/* runtime/rlwe: exact products, noise within its budget, distributions, refusals. */
#include "runtime/crypto/rlwe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"

#define SEED 20261127
#define CHI2_255 385.0 /* 255 degrees of freedom: p = 1e-6 is 374 */

static struct prg *seeded(uint8_t number)
{
    const uint8_t seed[PRG_SEED] = {number, 77};
    struct prg *p = NULL;

    assert_int_equal(prg_new(seed, &p), 0);
    return p;
}

/* Both sides of one multiplication. */
struct setup {
    struct rlwe *r;
    struct rlwe_secret *secret;
    struct rlwe_work *work;
    struct prg *client, *server;
    uint64_t *key, *key_a, *c, *a, *m, *mask, *u, *w;
    int16_t *coefficient;
    int32_t *place;
    int64_t *noise; /* without the server's eps */
    int32_t *eps;
    uint8_t *half, *values;
    uint8_t answers; /* seeds what hides an answer */
};

static void *words(size_t n)
{
    void *p = mem_aligned(n, 8);

    assert_non_null(p);
    return p;
}

static struct setup setup_new(enum ntt_path path)
{
    struct setup s = {.client = seeded(1), .server = seeded(2)};

    assert_int_equal(rlwe_new(path, &s.r), 0);
    assert_int_equal(rlwe_secret_new(s.r, s.client, &s.secret), 0);
    assert_int_equal(rlwe_work_new(&s.work), 0);
    s.key = words(RLWE_POLY_WORDS);
    s.key_a = words(RLWE_POLY_WORDS);
    s.c = words(RLWE_POLY_WORDS);
    s.a = words(RLWE_POLY_WORDS);
    s.m = words(RLWE_N);
    s.mask = words(RLWE_N);
    s.u = words(RLWE_N);
    s.w = words(RLWE_N);
    s.noise = words(RLWE_N);
    s.eps = words(RLWE_N / 2);
    s.coefficient = words(RLWE_N);
    s.place = words(RLWE_N);
    s.half = words(RLWE_N * 2);
    s.values = words(RLWE_N * 2);
    for (int32_t i = 0; i < RLWE_N; i++)
        s.place[i] = i;
    rlwe_random(s.r, s.client, s.key_a);
    assert_int_equal(rlwe_encrypt(s.r, s.secret, s.key_a, NULL, s.client, s.key), 0);
    return s;
}

static void setup_release(struct setup *s)
{
    void *all[] = {s->key, s->key_a, s->c,   s->a,           s->m,     s->mask, s->u,
                   s->w,   s->noise, s->eps, s->coefficient, s->place, s->half, s->values};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    rlwe_work_free(s->work);
    rlwe_secret_free(s->secret);
    rlwe_free(s->r);
    prg_free(s->client);
    prg_free(s->server);
    assert_int_equal(secret_alive(), 0);
}

static void answer(struct setup *s)
{
    struct prg *hidden = seeded(++s->answers), *twin = seeded(s->answers);

    rlwe_answer(s->work, s->r, hidden, s->place, s->mask, RLWE_N, s->half, s->values);
    prg_bytes(twin, s->eps, RLWE_N * sizeof *s->eps);
    prg_free(hidden);
    prg_free(twin);
}

/* m -> encrypted -> times coefficient -> opened, at every place. */
static void multiply(struct setup *s)
{
    rlwe_random(s->r, s->client, s->a);
    assert_int_equal(rlwe_encrypt(s->r, s->secret, s->a, s->m, s->client, s->c), 0);
    prg_bytes(s->server, s->mask, RLWE_N * 8);
    rlwe_work_start(s->work, s->server);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)i * RLWE_N;
        rlwe_weight(s->r, i, s->coefficient, s->w);
        rlwe_work_add(s->work, s->r, i, s->c + at, s->a + at, s->w);
        rlwe_work_close(s->work, s->r, i, s->key + at, s->key_a + at);
    }
    answer(s);
    assert_int_equal(
        rlwe_open(s->r, s->secret, s->half, s->values, s->place, RLWE_N, s->u, s->noise), 0);
    for (int j = 0; j < RLWE_N; j++) /* mod 2^32 */
        s->noise[j] = (int32_t)((uint32_t)s->noise[j] - (uint32_t)s->eps[j]);
}

static void draw(struct setup *s, struct rng *g, int extreme, int terms)
{
    memset(s->coefficient, 0, RLWE_N * sizeof *s->coefficient);
    for (int i = 0; i < terms; i++)
        s->coefficient[rng_below(g, RLWE_N)] =
            extreme ? (int16_t)(rng_u32(g) & 1 ? INT16_MIN : INT16_MAX) : (int16_t)rng_u32(g);
    for (int i = 0; i < RLWE_N; i++) {
        uint64_t v = (uint64_t)rng_u32(g) << 32;
        v |= rng_u32(g);
        s->m[i] = !extreme ? v : v % 3 == 0 ? (uint64_t)1 << 63 : v % 3 == 1 ? UINT64_MAX : v % 7;
    }
}

static uint64_t schoolbook(const struct setup *s, int k)
{
    uint64_t sum = 0;

    for (int i = 0; i < RLWE_N; i++) {
        uint64_t p = (uint64_t)(int64_t)s->coefficient[i] * s->m[(k - i + RLWE_N) % RLWE_N];
        sum += i <= k ? p : 0 - p;
    }
    return sum;
}

static void test_products_equal_schoolbook(void **state)
{
    (void)state;
    for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++) {
        struct setup s = setup_new((enum ntt_path)path);
        struct rng g = rng_at(SEED, RNG_TEST, 1, 0);
        for (int extreme = 0; extreme < 2; extreme++) {
            draw(&s, &g, extreme, 4608);
            multiply(&s);
            for (int k = 0; k < RLWE_N; k += 23)
                assert_int_equal(s.u[k] + s.mask[k], schoolbook(&s, k));
        }
        setup_release(&s);
    }
}

/* The whole exchange is the same bytes on every path. */
static void test_paths_give_equal_bytes(void **state)
{
    uint8_t *half = words(RLWE_N * 2), *values = words(RLWE_N * 2);

    (void)state;
    for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++) {
        struct setup s = setup_new((enum ntt_path)path);
        struct rng g = rng_at(SEED, RNG_TEST, 2, 0);
        draw(&s, &g, 0, 100);
        multiply(&s);
        if (path > NTT_PLAIN) {
            assert_memory_equal(half, s.half, RLWE_HALF_BYTES);
            assert_memory_equal(values, s.values, RLWE_HALF_BYTES);
        }
        memcpy(half, s.half, RLWE_HALF_BYTES);
        memcpy(values, s.values, RLWE_HALF_BYTES);
        setup_release(&s);
    }
    mem_free(half);
    mem_free(values);
}

/* ---- noise -------------------------------------------------------------------------------- */

/* LINNET_PRODUCTS=10000 is the long run (tests/long/run.sh). Half a unit of the result is 2^31. */
static void test_noise_stays_20_bits_below_the_limit(void **state)
{
    const char *asked = getenv("LINNET_PRODUCTS");
    long products = asked != NULL ? strtol(asked, NULL, 10) : 60;
    struct setup s = setup_new(ntt_best_path());
    struct rng g = rng_at(SEED, RNG_TEST, 3, 0);
    int64_t largest = 0;

    (void)state;
    for (long n = 0; n < products; n++) {
        draw(&s, &g, (int)(n & 1), 4608);
        multiply(&s);
        int k = (int)rng_below(&g, RLWE_N);
        assert_int_equal(s.u[k] + s.mask[k], schoolbook(&s, k));
        for (int i = 0; i < RLWE_N; i++)
            largest = llabs(s.noise[i]) > largest ? llabs(s.noise[i]) : largest;
    }
    print_message("largest noise of %ld products: %lld, %.2f bits below the limit\n", products,
                  (long long)largest, 31 - log2((double)largest));
    assert_true(largest < (int64_t)1 << 11);
    assert_true(largest > 32); /* the switch rounds: sigma 21 */
    setup_release(&s);
}

/* ---- distributions ------------------------------------------------------------------------ */

static double chi2(const int64_t *count, int bins, int64_t total)
{
    double expected = (double)total / bins, sum = 0;

    for (int i = 0; i < bins; i++)
        sum += ((double)count[i] - expected) * ((double)count[i] - expected) / expected;
    return sum;
}

static void count_byte(int64_t count[256], const uint8_t *bytes, size_t n, size_t stride, int at)
{
    memset(count, 0, 256 * sizeof *count);
    for (size_t i = 0; i < n; i++)
        count[bytes[i * stride + (size_t)at]]++;
}

/* Every byte of uploads and answers is uniform, for the smallest and for the largest operands. */
static void test_messages_look_uniform(void **state)
{
    struct setup s = setup_new(ntt_best_path());
    struct rng g = rng_at(SEED, RNG_TEST, 4, 0);
    uint8_t *bytes = words(RLWE_POLY_WORDS);
    int64_t count[256];

    (void)state;
    for (int round = 0; round < 4; round++) {
        draw(&s, &g, 1, round < 2 ? 0 : 4608);
        if (round == 0)
            memset(s.m, 0, RLWE_N * 8);
        multiply(&s);
        rlwe_pack(bytes, s.c);
        for (int at = 0; at < RLWE_RESIDUE_BYTES; at++) {
            count_byte(count, bytes, RLWE_POLY_WORDS, RLWE_RESIDUE_BYTES, at);
            assert_true(chi2(count, 256, (int64_t)RLWE_POLY_WORDS) < CHI2_255);
        }
        for (int at = 0; at < RLWE_ANSWER_BYTES; at++) {
            count_byte(count, s.half, RLWE_N, RLWE_ANSWER_BYTES, at);
            assert_true(chi2(count, 256, RLWE_N) < CHI2_255);
            count_byte(count, s.values, RLWE_N, RLWE_ANSWER_BYTES, at);
            assert_true(chi2(count, 256, RLWE_N) < CHI2_255);
        }
    }
    mem_free(bytes);
    setup_release(&s);
}

/* With a = 0 the ciphertext of 0 is the error itself; with a = 1000 it is e - 1000 s. */
static int64_t small_value(const struct setup *s, const uint64_t *c, int i, int j)
{
    uint64_t q = ntt_prime(rlwe_prime(s->r, i));
    uint64_t v = c[(size_t)i * RLWE_N + (size_t)j];

    return v > q / 2 ? (int64_t)(v - q) : (int64_t)v;
}

static void encrypt_zero(struct setup *s, uint64_t a)
{
    for (size_t i = 0; i < RLWE_POLY_WORDS; i++)
        s->a[i] = a;
    assert_int_equal(rlwe_encrypt(s->r, s->secret, s->a, NULL, s->client, s->c), 0);
    for (int i = 0; i < RLWE_PRIMES; i++)
        ntt_inverse(rlwe_prime(s->r, i), s->c + (size_t)i * RLWE_N);
}

static void test_errors_are_binomial(void **state)
{
    struct setup s = setup_new(ntt_best_path());
    int64_t count[43] = {0};
    double p = exp2(-42), sum = 0;

    (void)state;
    for (int round = 0; round < 20; round++) {
        encrypt_zero(&s, 0);
        for (int j = 0; j < RLWE_N; j++) {
            int64_t e = small_value(&s, s.c, 0, j);
            assert_true(e >= -21 && e <= 21);
            for (int i = 1; i < RLWE_PRIMES; i++)
                assert_int_equal(small_value(&s, s.c, i, j), e);
            count[e + 21]++;
        }
    }
    for (int k = 0; k <= 42; k++) { /* p = C(42,k) / 2^42 */
        double expected = p * 20 * RLWE_N;
        if (expected > 20)
            sum += ((double)count[k] - expected) * ((double)count[k] - expected) / expected;
        p = p * (42 - k) / (k + 1);
    }
    assert_true(sum < 75); /* about 25 degrees of freedom: p = 1e-6 is 73 */
    setup_release(&s);
}

static void test_secret_is_uniform_ternary(void **state)
{
    struct setup s = setup_new(ntt_best_path());
    int64_t count[3] = {0};

    (void)state;
    encrypt_zero(&s, 1000);
    for (int j = 0; j < RLWE_N; j++) {
        int64_t v = -(int64_t)lrint((double)small_value(&s, s.c, 0, j) / 1000);
        assert_true(v >= -1 && v <= 1);
        count[v + 1]++;
    }
    assert_true(chi2(count, 3, RLWE_N) < 28); /* 2 degrees of freedom: p = 1e-6 is 27.6 */
    setup_release(&s);
}

/* An answer without products under a key of (0, X): the first half is what hides it, the second v X. */
static void test_answers_are_hidden_and_randomised(void **state)
{
    struct setup s = setup_new(ntt_best_path());
    int64_t ternary[3] = {0};

    (void)state;
    memset(s.key, 0, RLWE_POLY_WORDS * 8);
    for (int i = 0; i < RLWE_PRIMES; i++) { /* X = 1000 * 2^64: 1000 after switching, nearly */
        uint64_t q = ntt_prime(rlwe_prime(s.r, i)), x = ntt_mul(1000, ntt_pow(2, 64, q), q);
        for (size_t j = 0; j < RLWE_N; j++)
            s.key_a[(size_t)i * RLWE_N + j] = x;
    }
    rlwe_work_start(s.work, s.server);
    for (int i = 0; i < RLWE_PRIMES; i++)
        rlwe_work_close(s.work, s.r, i, s.key + (size_t)i * RLWE_N, s.key_a + (size_t)i * RLWE_N);
    prg_bytes(s.server, s.mask, RLWE_N * 8);
    answer(&s);
    for (size_t j = 0; j < RLWE_N; j++) { /* 96 bits: mask and eps, and nothing else */
        uint64_t low = 0, high, borrow = s.eps[j] < 0;
        int32_t v;
        memcpy(&low, s.values + j * RLWE_ANSWER_BYTES, 4);
        memcpy(&high, s.values + j * RLWE_ANSWER_BYTES + 4, 8);
        assert_int_equal((int32_t)low, s.eps[j]);
        assert_int_equal(high, 0 - s.mask[j] - borrow);
        memcpy(&v, s.half + j * RLWE_ANSWER_BYTES, 4);
        assert_true(v == 0 || v == 1000 || v == -1000);
        ternary[v / 1000 + 1]++;
    }
    assert_true(chi2(ternary, 3, RLWE_N) < 28);
    setup_release(&s);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void test_bytes_round_trip_and_hostile_residues(void **state)
{
    struct setup s = setup_new(NTT_PLAIN);
    uint8_t *bytes = words(RLWE_POLY_WORDS);

    (void)state;
    rlwe_pack(bytes, s.key);
    assert_int_equal(rlwe_unpack(s.r, s.c, bytes), 0);
    assert_memory_equal(s.c, s.key, RLWE_POLY_WORDS * 8);
    for (int i = 0; i < RLWE_PRIMES; i++)
        for (int over = 0; over < 2; over++) {
            size_t at = (size_t)(i + 1) * RLWE_N - 1;
            memcpy(s.c, s.key, RLWE_POLY_WORDS * 8);
            s.c[at] = over ? ((uint64_t)1 << 40) - 1 : ntt_prime(rlwe_prime(s.r, i));
            rlwe_pack(bytes, s.c);
            assert_int_equal(rlwe_unpack(s.r, s.c, bytes), ERR_PEER);
        }
    mem_free(bytes);
    setup_release(&s);
}

static void test_weak_parameters_are_refused(void **state)
{
    struct rlwe_parameters p = rlwe_parameters(), bad[5];

    (void)state;
    assert_int_equal(rlwe_parameters_check(&p, 4608), 0);
    assert_int_equal(rlwe_parameters_check(&p, (int64_t)1 << 40), 0);
    assert_int_equal(rlwe_parameters_check(&p, (int64_t)1 << 57), ERR_UNSUPPORTED); /* window */
    for (int i = 0; i < 5; i++)
        bad[i] = p;
    bad[0].n = 4096;           /* less than 128 bits */
    bad[1].n = 8000;           /* not in the table */
    bad[2].modulus_bits = 219; /* less than 128 bits */
    bad[3].error_bound = 8;    /* errors too small */
    bad[4].answer_bits = 80;   /* too close to the limit */
    for (int i = 0; i < 5; i++)
        assert_int_equal(rlwe_parameters_check(&bad[i], 4608), ERR_UNSUPPORTED);
}

static void test_allocation_failures(void **state)
{
    struct setup s = setup_new(NTT_PLAIN);
    struct rlwe *r = NULL;
    struct rlwe_secret *secret = NULL;
    struct rlwe_work *work = NULL;

    (void)state;
    for (long n = 1; n <= 9; n++) {
        mem_fail_at(n);
        assert_int_equal(rlwe_new(NTT_PLAIN, &r), ERR_NOMEM);
    }
    for (long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_int_equal(rlwe_secret_new(s.r, s.client, &secret), ERR_NOMEM);
    }
    mem_fail_at(1);
    assert_int_equal(rlwe_work_new(&work), ERR_NOMEM);
    mem_fail_at(1);
    assert_int_equal(rlwe_encrypt(s.r, s.secret, s.a, NULL, s.client, s.c), ERR_NOMEM);
    mem_fail_at(1);
    assert_int_equal(rlwe_open(s.r, s.secret, s.half, s.values, s.place, 1, s.u, NULL), ERR_NOMEM);
    mem_fail_at(0);
    setup_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_schoolbook),
        cmocka_unit_test(test_paths_give_equal_bytes),
        cmocka_unit_test(test_noise_stays_20_bits_below_the_limit),
        cmocka_unit_test(test_messages_look_uniform),
        cmocka_unit_test(test_errors_are_binomial),
        cmocka_unit_test(test_secret_is_uniform_ternary),
        cmocka_unit_test(test_answers_are_hidden_and_randomised),
        cmocka_unit_test(test_bytes_round_trip_and_hostile_residues),
        cmocka_unit_test(test_weak_parameters_are_refused),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
