/* runtime/rlwe: products and their error, distributions, refusals. */
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
#include "tests/rlwe_product.h"

#define SEED 20261127
#define CHI2_255 385.0 /* 255 degrees of freedom: p = 1e-6 is 374 */

static const uint8_t seed[RLWE_SEED] = {9};

static struct prg *seeded(uint8_t number)
{
    const uint8_t secret[PRG_SEED] = {number, 77};
    struct prg *p = NULL;

    assert_int_equal(prg_new(secret, &p), 0);
    return p;
}

/* Both sides of one multiplication. */
struct setup {
    struct rlwe *r;
    struct rlwe_secret *secret;
    struct rlwe_work *work;
    struct prg *client, *server;
    uint64_t *key, *key_a, *c, *a, *m, *mask, *u;
    int16_t *coefficient;
    int32_t *place;
    uint8_t *half, *values;
    uint32_t poly; /* next */
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
    s.coefficient = words(RLWE_N);
    s.place = words(RLWE_N);
    s.half = words(RLWE_N);
    s.values = words(RLWE_N);
    for (int32_t i = 0; i < RLWE_N; i++)
        s.place[i] = i;
    assert_int_equal(rlwe_random(s.r, seed, 0, s.poly++, s.key_a), 0);
    assert_int_equal(rlwe_encrypt(s.r, s.secret, s.key_a, NULL, s.client, s.key), 0);
    return s;
}

static void setup_release(struct setup *s)
{
    void *all[] = {s->key, s->key_a,       s->c,     s->a,    s->m,     s->mask,
                   s->u,   s->coefficient, s->place, s->half, s->values};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    rlwe_work_free(s->work);
    rlwe_secret_free(s->secret);
    rlwe_free(s->r);
    prg_free(s->client);
    prg_free(s->server);
    assert_int_equal(secret_alive(), 0);
}

/* m -> encrypted -> times coefficient -> opened, at every place. */
static void multiply(struct setup *s)
{
    assert_int_equal(rlwe_random(s->r, seed, 1, s->poly++, s->a), 0);
    assert_int_equal(rlwe_encrypt(s->r, s->secret, s->a, s->m, s->client, s->c), 0);
    prg_bytes(s->server, s->mask, RLWE_N * 8);
    rlwe_work_start(s->work, s->server);
    for (int i = 0; i < RLWE_PRIMES; i++) {
        size_t at = (size_t)i * RLWE_N;
        rlwe_product_add(s->work, s->r, i, s->c + at, s->a + at, s->coefficient, 1);
        rlwe_work_close(s->work, s->r, i, s->key + at, s->key_a + at);
    }
    rlwe_answer(s->work, s->r, s->place, s->mask, RLWE_N, s->half, s->values);
    assert_int_equal(rlwe_open(s->r, s->secret, s->half, s->values, s->place, RLWE_N, s->u), 0);
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

static int64_t error_at(const struct setup *s, int k)
{
    return (int64_t)(s->u[k] + s->mask[k] - schoolbook(s, k));
}

static double norm(const struct setup *s, int power)
{
    double sum = 0;

    for (int i = 0; i < RLWE_N; i++)
        sum += pow(fabs((double)s->coefficient[i]), power);
    return power == 1 ? sum : sqrt(sum);
}

static void test_products_equal_schoolbook(void **state)
{
    (void)state;
    for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++) {
        struct setup s = setup_new((enum ntt_path)path);
        struct rng g = rng_at(SEED, RNG_TEST, 1, 0);
        for (int extreme = 0; extreme < 2; extreme++) {
            draw(&s, &g, extreme, 2000);
            multiply(&s);
            for (int k = 0; k < RLWE_N; k += 23)
                assert_true((double)llabs(error_at(&s, k)) <= rlwe_error(norm(&s, 1), norm(&s, 2)));
        }
        setup_release(&s);
    }
}

/* The whole exchange is the same bytes on every path. */
static void test_paths_give_equal_bytes(void **state)
{
    uint8_t *half = words(RLWE_N), *values = words(RLWE_N);

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

/* ---- the error ---------------------------------------------------------------------------- */

/* Root of the mean square of the errors over products with `terms` weights; *largest in bounds. */
static double spread(struct setup *s, struct rng *g, long products, int terms, int64_t *largest)
{
    double squares = 0;
    int64_t n = 0;

    for (long i = 0; i < products; i++) {
        draw(s, g, 0, terms);
        multiply(s);
        for (int k = (int)rng_below(g, 16); k < RLWE_N; k += 16, n++) {
            int64_t e = error_at(s, k);
            squares += (double)e * (double)e;
            *largest = llabs(e) > *largest ? llabs(e) : *largest;
            assert_true((double)llabs(e) <= rlwe_error(norm(s, 1), norm(s, 2)));
        }
    }
    return sqrt(squares / (double)n);
}

/* LINNET_PRODUCTS=10000 is the long run (tests/long/run.sh). Switching alone: sigma^2 = 4096 * 2/3 / 12
 * and 1/12 for either rounding; each weight adds w^2 (10.5 + 1/12) / 2^32. */
static void test_error_is_as_small_as_said(void **state)
{
    const char *asked = getenv("LINNET_PRODUCTS");
    long products = asked != NULL ? strtol(asked, NULL, 10) : 20;
    struct setup s = setup_new(ntt_best_path());
    struct rng g = rng_at(SEED, RNG_TEST, 3, 0);
    double switched = sqrt(RLWE_N * 2 / 36.0), w = 0x1p16 / sqrt(12), product, got;
    int64_t largest = 0;

    (void)state;
    got = spread(&s, &g, products, 1, &largest);
    print_message("error of %ld products, one weight: sigma %.2f (%.2f), largest %lld\n", products,
                  got, switched, (long long)largest);
    assert_true(fabs(got / switched - 1) < 0.05); /* the secret has 2731 +- 30 ones */
    largest = 0;
    product = sqrt(4096 * (1 - exp(-1)) * (10.5 + 1 / 12.0)) * w / 65536; /* some places twice */
    got = spread(&s, &g, products, 4096, &largest);
    print_message("4,096 weights of 16 bits: sigma %.1f (%.1f), largest %lld\n", got,
                  hypot(product, switched), (long long)largest);
    assert_true(fabs(got / hypot(product, switched) - 1) < 0.05);
    setup_release(&s);
}

static void test_error_bounds(void **state)
{
    (void)state;
    assert_float_equal(rlwe_product_error(65536, 65536), 21.5,
                       1e-9); /* one weight: the worst case */
    assert_float_equal(rlwe_product_error(4608 * 512.0, 512 * sqrt(4608)), 17.25, 0.01);
    assert_true(rlwe_product_error(3946 * 32768.0, 32768 * sqrt(3946)) < RLWE_ERROR_LIMIT);
    assert_true(rlwe_product_error(3970 * 32768.0, 32768 * sqrt(3970)) > RLWE_ERROR_LIMIT);
    assert_float_equal(rlwe_error(0, 0), 2.625 + 0.5 + 184.75, 0.01);
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
        draw(&s, &g, 1, round < 2 ? 0 : 4096);
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

/* An answer without products under a key of (0, X): the first half is the mask, the second v X. */
static void test_answers_are_hidden_and_randomised(void **state)
{
    struct setup s = setup_new(ntt_best_path());
    int64_t ternary[3] = {0};

    (void)state;
    memset(s.key, 0, RLWE_POLY_WORDS * 8);
    for (int i = 0; i < RLWE_PRIMES; i++) { /* X = 1000 * 2^16: 1000 after switching, nearly */
        uint64_t q = ntt_prime(rlwe_prime(s.r, i)), x = ntt_mul(1000, ntt_pow(2, 16, q), q);
        for (size_t j = 0; j < RLWE_N; j++)
            s.key_a[(size_t)i * RLWE_N + j] = x;
    }
    rlwe_work_start(s.work, s.server);
    for (int i = 0; i < RLWE_PRIMES; i++)
        rlwe_work_close(s.work, s.r, i, s.key + (size_t)i * RLWE_N, s.key_a + (size_t)i * RLWE_N);
    prg_bytes(s.server, s.mask, RLWE_N * 8);
    rlwe_answer(s.work, s.r, s.place, s.mask, RLWE_N, s.half, s.values);
    for (size_t j = 0; j < RLWE_N; j++) { /* 64 bits: the mask, and nothing else */
        int64_t v;
        uint64_t value;
        memcpy(&value, s.values + j * RLWE_ANSWER_BYTES, 8);
        assert_int_equal(value, 0 - s.mask[j]);
        memcpy(&v, s.half + j * RLWE_ANSWER_BYTES, 8);
        assert_true(v == 0 || v == 1000 || v == -1000);
        ternary[v / 1000 + 1]++;
    }
    assert_true(chi2(ternary, 3, RLWE_N) < 28);
    setup_release(&s);
}

/* The random halves: other places, other streams; the same place, the same stream. */
static void test_random_halves_are_a_function_of_their_place(void **state)
{
    struct setup s = setup_new(NTT_PLAIN);
    const uint8_t other[RLWE_SEED] = {9, [RLWE_SEED - 1] = 1};

    (void)state;
    assert_int_equal(rlwe_random(s.r, seed, 5, 6, s.a), 0);
    assert_int_equal(rlwe_random(s.r, seed, 5, 6, s.c), 0);
    assert_memory_equal(s.a, s.c, RLWE_POLY_WORDS * 8);
    assert_memory_not_equal(s.a, s.a + RLWE_N, RLWE_N * 8);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(
            rlwe_random(s.r, k == 0 ? other : seed, k == 1 ? 4 : 5, k == 2 ? 5 : 6, s.c), 0);
        for (size_t i = 0; i < RLWE_PRIMES; i++)
            assert_memory_not_equal(s.a + i * RLWE_N, s.c + i * RLWE_N, 64);
    }
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
    struct rlwe_parameters p = rlwe_parameters(), bad[4];

    (void)state;
    assert_int_equal(rlwe_parameters_check(&p), 0);
    for (int i = 0; i < 4; i++)
        bad[i] = p;
    bad[0].n = 2048;           /* less than 128 bits */
    bad[1].n = 4000;           /* not in the table */
    bad[2].modulus_bits = 120; /* three primes: less than 128 bits */
    bad[3].error_bound = 8;    /* errors too small */
    for (int i = 0; i < 4; i++)
        assert_int_equal(rlwe_parameters_check(&bad[i]), ERR_UNSUPPORTED);
}

static void test_allocation_failures(void **state)
{
    struct setup s = setup_new(NTT_PLAIN);
    struct rlwe *r = NULL;
    struct rlwe_secret *secret = NULL;
    struct rlwe_work *work = NULL;

    (void)state;
    for (long n = 1; n <= 5; n++) {
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
    assert_int_equal(rlwe_open(s.r, s.secret, s.half, s.values, s.place, 1, s.u), ERR_NOMEM);
    mem_fail_at(0);
    setup_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products_equal_schoolbook),
        cmocka_unit_test(test_paths_give_equal_bytes),
        cmocka_unit_test(test_error_is_as_small_as_said),
        cmocka_unit_test(test_error_bounds),
        cmocka_unit_test(test_messages_look_uniform),
        cmocka_unit_test(test_errors_are_binomial),
        cmocka_unit_test(test_secret_is_uniform_ternary),
        cmocka_unit_test(test_answers_are_hidden_and_randomised),
        cmocka_unit_test(test_random_halves_are_a_function_of_their_place),
        cmocka_unit_test(test_bytes_round_trip_and_hostile_residues),
        cmocka_unit_test(test_weak_parameters_are_refused),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
