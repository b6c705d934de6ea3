/* runtime/ntt: against the schoolbook product, and the same bits on every path of this CPU. */
#include "runtime/crypto/ntt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#if defined __x86_64__
#include <xmmintrin.h>
#endif

#include "core/base/mem.h"
#include "core/graph/rng.h"

#define SEED 20261125

static const uint64_t primes[] = {1099511480321, 1099510890497, 1099510824961, 1099510054913,
                                  114689 /* small */};

static uint64_t *draw(struct rng *r, uint64_t q, int extreme)
{
    uint64_t *x = mem_aligned(NTT_N, sizeof *x);

    assert_non_null(x);
    for (int i = 0; i < NTT_N; i++) {
        uint64_t v = (uint64_t)rng_u32(r) << 32;
        v |= rng_u32(r);
        x[i] = extreme ? (v % 3 == 0 ? 0 : q - 1) : v % q;
    }
    return x;
}

/* Coefficient k of a * b mod X^N + 1. */
static uint64_t schoolbook(const uint64_t *a, const uint64_t *b, int k, uint64_t q)
{
    uint64_t sum = 0;

    for (int i = 0; i < NTT_N; i++) {
        uint64_t p = ntt_mul(a[i], b[(k - i + NTT_N) % NTT_N], q);
        sum = i <= k ? (sum + p) % q : (sum + q - p) % q;
    }
    return sum;
}

static void check_product(uint64_t q, enum ntt_path path, int extreme)
{
    struct rng r = rng_at(SEED, RNG_TEST, 1, q + (uint64_t)path);
    struct ntt *t = NULL;
    uint64_t *a = draw(&r, q, extreme), *b = draw(&r, q, extreme);
    uint64_t *x = mem_aligned(NTT_N, 8), *y = mem_aligned(NTT_N, 8);
    struct ntt_sum *sum = mem_aligned(1, sizeof *sum);

    assert_int_equal(ntt_new(q, path, &t), 0);
    memcpy(x, a, NTT_N * 8);
    memcpy(y, b, NTT_N * 8);
    ntt_forward(t, x);
    ntt_forward(t, y);
    ntt_sum_add(t, sum, x, y);
    ntt_sum_get(t, y, sum);
    ntt_inverse(t, y);
    for (int k = 0; k < NTT_N; k += k < 4 || k > NTT_N - 4 ? 1 : 509)
        assert_int_equal(y[k], schoolbook(a, b, k, q));
    ntt_inverse(t, x);
    assert_memory_equal(x, a, NTT_N * 8);
    mem_free(a);
    mem_free(b);
    mem_free(x);
    mem_free(y);
    mem_free(sum);
    ntt_free(t);
}

static void test_product_equals_schoolbook(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof primes / sizeof primes[0]; i++)
        for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++)
            for (int extreme = 0; extreme < 2; extreme++)
                check_product(primes[i], (enum ntt_path)path, extreme);
}

/* Index i holds the value at psi^(2 bitreverse(i) + 1): checked on X, whose values are the points. */
static void test_points_are_odd_powers(void **state)
{
    struct ntt *t = NULL;
    uint64_t q = primes[0], *x = mem_aligned(NTT_N, 8);

    (void)state;
    assert_int_equal(ntt_new(q, NTT_PLAIN, &t), 0);
    x[1] = 1;
    ntt_forward(t, x);
    for (uint32_t i = 0; i < NTT_N; i++) {
        uint32_t back = 0;
        for (int k = 0; k < NTT_LOG; k++)
            back |= (i >> k & 1) << (NTT_LOG - 1 - k);
        assert_int_equal(x[i], ntt_pow(x[0], 2 * back + 1, q));
    }
    assert_int_equal(ntt_pow(x[0], NTT_N, q), q - 1);
    mem_free(x);
    ntt_free(t);
}

/* Transform, inverse, and the longest sum of the largest terms. */
static void path_bits(enum ntt_path path, uint64_t q, int extreme, uint64_t *forward,
                      uint64_t *inverse, uint64_t *total)
{
    struct rng r = rng_at(SEED, RNG_TEST, 2, q + (uint64_t)extreme);
    struct ntt *t = NULL;
    uint64_t *a = draw(&r, q, extreme);
    struct ntt_sum *sum = mem_aligned(1, sizeof *sum);

    assert_int_equal(ntt_new(q, path, &t), 0);
    memcpy(forward, a, NTT_N * 8);
    ntt_forward(t, forward);
    memcpy(inverse, a, NTT_N * 8);
    ntt_inverse(t, inverse);
    for (int i = 0; i < (extreme ? NTT_MAX_TERMS : 5); i++)
        ntt_sum_add(t, sum, a, a);
    ntt_sum_get(t, total, sum);
    mem_free(a);
    mem_free(sum);
    ntt_free(t);
}

static void test_paths_give_equal_bits(void **state)
{
    uint64_t *want[3], *got[3];

    (void)state;
    for (int k = 0; k < 3; k++) {
        want[k] = mem_aligned(NTT_N, 8);
        got[k] = mem_aligned(NTT_N, 8);
    }
    for (size_t i = 0; i < sizeof primes / sizeof primes[0]; i++)
        for (int extreme = 0; extreme < 2; extreme++) {
            path_bits(NTT_PLAIN, primes[i], extreme, want[0], want[1], want[2]);
            for (int path = NTT_AVX2; path <= (int)ntt_best_path(); path++) {
                path_bits((enum ntt_path)path, primes[i], extreme, got[0], got[1], got[2]);
                for (int k = 0; k < 3; k++)
                    assert_memory_equal(want[k], got[k], NTT_N * 8);
            }
        }
    for (int k = 0; k < 3; k++) {
        mem_free(want[k]);
        mem_free(got[k]);
    }
}

/* Places of taps: all of them, few and many at multiples of a step, a square window, one. */
static int64_t draw_places(int kind, int32_t *place)
{
    static const int32_t step[] = {1, 2, 4, 12, 16, 48, 49, 64, 196, 1024, 2048};
    int n_steps = (int)(sizeof step / sizeof step[0]);
    int64_t n = 0;

    if (kind < n_steps)
        for (int32_t j = 0; j < NTT_N; j += step[kind])
            place[n++] = j;
    else if (kind == n_steps)
        for (int32_t j = 0; j < 3000; j++)
            if (j / 15 % 15 < 3 && j % 15 < 3)
                place[n++] = j;
    if (kind > n_steps)
        place[n++] = kind > n_steps + 1 ? 77 : 0;
    return n;
}
#define PLACES 14

struct weights { /* two batches of uploads, one of weights, and their transforms one by one */
    uint64_t *a[NTT_BATCH], *b[NTT_BATCH], *w[NTT_BATCH], *a_form[NTT_BATCH], *b_form[NTT_BATCH],
        *w_form[NTT_BATCH];
};

static void fill_weights(struct weights *v, const struct ntt *t, const struct ntt_taps *taps,
                         const int32_t *place, int64_t n, int extreme, struct rng *r)
{
    uint64_t q = ntt_prime(t);

    for (int k = 0; k < NTT_BATCH; k++) {
        int16_t *value = mem_aligned(NTT_N, sizeof *value);
        v->a[k] = draw(r, q, extreme);
        v->b[k] = draw(r, q, 0);
        v->w[k] = mem_aligned(NTT_N, 8);
        for (int64_t i = 0; i < n; i++) {
            value[i] =
                extreme ? (int16_t)(rng_u32(r) & 1 ? INT16_MIN : INT16_MAX) : (int16_t)rng_u32(r);
            v->w[k][place[i]] = (uint64_t)((int64_t)q + value[i] % (int64_t)q) % q;
        }
        ntt_forward(t, v->w[k]);
        v->w_form[k] = mem_aligned(NTT_N, 8);
        ntt_weight(t, taps, value, v->w_form[k]);
        memcpy(v->a_form[k] = mem_aligned(NTT_N, 8), v->a[k], NTT_N * 8);
        memcpy(v->b_form[k] = mem_aligned(NTT_N, 8), v->b[k], NTT_N * 8);
        ntt_operand(t, v->a_form[k]);
        ntt_operand(t, v->b_form[k]);
        mem_free(value);
    }
}

/* Batches of n products of weights: sums, against the transforms of their residues, one by one. */
static void check_weights(const struct ntt *t, int kind, int extreme, int n)
{
    struct rng r = rng_at(SEED, RNG_TEST, 3, (uint64_t)kind);
    int32_t *place = mem_aligned(NTT_N, sizeof *place);
    int64_t taps_n = draw_places(kind, place);
    int gap = ntt_gap(t, place, taps_n);
    struct ntt_sum *sum[4];
    struct ntt_taps *taps = NULL;
    struct weights v;
    uint64_t *one = mem_aligned(NTT_N, 8), *many = mem_aligned(NTT_N, 8);

    assert_int_equal(ntt_taps_new(place, taps_n, gap, &taps), 0);
    fill_weights(&v, t, taps, place, taps_n, extreme, &r);
    for (int i = 0; i < 4; i++)
        assert_non_null(sum[i] = mem_aligned(1, sizeof *sum[i]));
    for (int k = 0; k < n; k++) {
        ntt_sum_add(t, sum[0], v.a[k], v.w[k]);
        ntt_sum_add(t, sum[1], v.b[k], v.w[k]);
    }
    ntt_sum_add_pairs(t, sum[2], sum[3], n, (const uint64_t *const *)v.a_form,
                      (const uint64_t *const *)v.b_form, (const uint64_t *const *)v.w_form, gap);
    for (int i = 0; i < 2; i++) {
        ntt_sum_get(t, one, sum[i]);
        ntt_sum_get(t, many, sum[2 + i]);
        assert_memory_equal(one, many, NTT_N * 8);
    }
    for (int k = 0; k < NTT_BATCH; k++) {
        uint64_t *all[] = {v.a[k], v.b[k], v.w[k], v.a_form[k], v.b_form[k], v.w_form[k]};
        for (int i = 0; i < 6; i++)
            mem_free(all[i]);
    }
    for (int i = 0; i < 4; i++)
        mem_free(sum[i]);
    ntt_taps_free(taps);
    mem_free(place);
    mem_free(one);
    mem_free(many);
}

static void check_all_weights(enum ntt_path path, uint64_t q)
{
    struct ntt *t = NULL;

    assert_int_equal(ntt_new(q, path, &t), 0);
    for (int kind = 0; kind < PLACES; kind++)
        for (int extreme = 0; extreme < 2; extreme++)
            check_weights(t, kind, extreme, kind % 2 ? NTT_BATCH : 1 + kind % NTT_BATCH);
    ntt_free(t);
}

static void test_weights_are_their_residues(void **state)
{
    (void)state;
    for (int path = NTT_PLAIN; path <= (int)ntt_best_path(); path++)
        for (size_t i = 0; i < sizeof primes / sizeof primes[0]; i++)
            check_all_weights((enum ntt_path)path, primes[i]);
}

#if defined __x86_64__
/* The flags of a denormal operand, of overflow, underflow and invalid operations, in MXCSR. */
#define SLOW_FLAGS 0x1bU

/* Transforms in doubles see no number whose arithmetic takes longer than that of others (ntt_avx2.c). */
static void test_doubles_raise_no_flag(void **state)
{
    uint64_t *x[3];
    volatile double tiny = 0x1p-1040;

    (void)state;
    _mm_setcsr(_mm_getcsr() & ~0x3fU);
    tiny *= 0.5;
    assert_true(tiny < 1);
    assert_true((_mm_getcsr() & SLOW_FLAGS) != 0); /* the flags work */
    for (int k = 0; k < 3; k++)
        x[k] = mem_aligned(NTT_N, 8);
    for (size_t i = 0; i < sizeof primes / sizeof primes[0] && ntt_best_path() >= NTT_AVX2; i++)
        for (int extreme = 0; extreme < 2; extreme++) {
            _mm_setcsr(_mm_getcsr() & ~0x3fU);
            path_bits(NTT_AVX2, primes[i], extreme, x[0], x[1], x[2]);
            check_all_weights(NTT_AVX2, primes[i]);
            assert_int_equal(_mm_getcsr() & SLOW_FLAGS, 0);
        }
    for (int k = 0; k < 3; k++)
        mem_free(x[k]);
}
#endif

static void test_bad_moduli_are_refused(void **state)
{
    static const uint64_t bad[] = {0,
                                   1,
                                   2,
                                   16385 /* 5 * 29 * 113 */,
                                   1099511627689 /* not 1 mod 2N */,
                                   ((uint64_t)1 << 41) + 1,
                                   UINT64_MAX};
    struct ntt *t = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ntt_new(bad[i], NTT_PLAIN, &t), ERR_ARG);
    assert_null(t);
    for (long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_int_equal(ntt_new(primes[0], NTT_PLAIN, &t), ERR_NOMEM);
        mem_fail_at(0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_product_equals_schoolbook),
        cmocka_unit_test(test_points_are_odd_powers),
        cmocka_unit_test(test_paths_give_equal_bits),
        cmocka_unit_test(test_weights_are_their_residues),
#if defined __x86_64__
        cmocka_unit_test(test_doubles_raise_no_flag),
#endif
        cmocka_unit_test(test_bad_moduli_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
