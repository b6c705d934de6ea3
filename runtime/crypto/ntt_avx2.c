/*
 * The transform with AVX2 and FMA: four residues a register, as doubles.
 *
 * A product y * w mod q is exact in doubles: h = y * w rounded, l = its error by FMA, n = the
 * integer next to y * (w/q); h - n * q is a small multiple of h's last bit, so the FMA gives it
 * exactly, and adding l gives y * w - n * q. |y| stays below 2^52 and |w| <= q/2, so n is off by at
 * most two and the result lies within 3q; at |y| < 2^45 within q. A forward level adds at most q
 * to a value, an inverse level doubles it: 2^12 * q/2 <= 2^52. (The idea of transforms in doubles
 * is that of FLINT's fft_small.)
 *
 * Secrets pass through here, so times must not depend on them. What makes floating point slow for some
 * operands is denormal numbers, overflow, not-a-numbers, division and roots. None occurs: every operand
 * and result is an integer below 2^53 or a product of one by w/q, that is 0 or at least 1/q > 2^-41 in
 * magnitude, and there is no division. test_ntt.c checks that no operation raises the processor's flags
 * for any of these. Additions, products, FMA, rounding and comparison of such numbers have one latency
 * on the processors that have AVX2.
 */
#include "runtime/crypto/ntt_path.h"

#if NTT_VECTORS
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES 4
#define ROUND (_MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define TWO52 0x1p52

struct factor4 {
    __m256d w, quotient;
};

/* Doubles live in the memory of uint64_t arrays during a transform. */
INLINE __m256d load(const uint64_t *p)
{
    return _mm256_castsi256_pd(_mm256_loadu_si256((const void *)p));
}

INLINE void store(uint64_t *p, __m256d v)
{
    _mm256_storeu_si256((void *)p, _mm256_castpd_si256(v));
}

/* Integers below 2^52 to doubles: put the exponent of 2^52 above them, subtract it. */
INLINE __m256d load_integers(const uint64_t *p)
{
    __m256d base = _mm256_set1_pd(TWO52);

    return _mm256_sub_pd(_mm256_or_pd(load(p), base), base);
}

INLINE void store_integers(uint64_t *p, __m256d v)
{
    __m256d base = _mm256_set1_pd(TWO52);

    store(p, _mm256_xor_pd(_mm256_add_pd(v, base), base));
}

INLINE struct factor4 all(uint64_t w, uint64_t quotient)
{
    return (struct factor4){_mm256_castsi256_pd(_mm256_set1_epi64x((long long)w)),
                            _mm256_castsi256_pd(_mm256_set1_epi64x((long long)quotient))};
}

/* y * w - n q, within 3q for |y| < 2^52; h + l is y * w exactly. */
INLINE __m256d times(__m256d y, struct factor4 f, __m256d q)
{
    __m256d h = _mm256_mul_pd(y, f.w), l = _mm256_fmsub_pd(y, f.w, h);
    __m256d n = _mm256_round_pd(_mm256_mul_pd(y, f.quotient), ROUND);

    return _mm256_add_pd(_mm256_fnmadd_pd(n, q, h), l);
}

/* To [0, q) from an integer below 2^52 in magnitude. */
INLINE __m256d reduced(__m256d y, __m256d q, __m256d inverse)
{
    __m256d r = _mm256_fnmadd_pd(_mm256_round_pd(_mm256_mul_pd(y, inverse), ROUND), q, y);
    __m256d negative = _mm256_cmp_pd(r, _mm256_setzero_pd(), _CMP_LT_OQ);

    return _mm256_add_pd(r, _mm256_and_pd(negative, q));
}

INLINE void forward2(__m256d *a, __m256d *b, struct factor4 f, __m256d q)
{
    __m256d y = times(*b, f, q), base = *a;

    *a = _mm256_add_pd(base, y);
    *b = _mm256_sub_pd(base, y);
}

INLINE void inverse2(__m256d *a, __m256d *b, struct factor4 f, __m256d q)
{
    __m256d difference = _mm256_sub_pd(*a, *b);

    *a = _mm256_add_pd(*a, *b);
    *b = times(difference, f, q);
}

/* ---- distances 2 and 1: blocks of 8 ------------------------------------------------------- */

/*
 * The last two levels stay inside blocks of 8 numbers, two registers a and b, whose lanes must pair what a
 * level combines (backwards in the inverse):
 *
 *     loaded         a 0123   b 4567
 *     swap_halves    a 0145   b 2367   distance 2   two factors, two lanes each (spread2)
 *     swap_single    a 0246   b 1357   distance 1   four factors
 *     swap_single, swap_halves         as loaded
 */

INLINE void swap_halves(__m256d *x, __m256d *y) /* its own inverse */
{
    __m256d first = *x;

    *x = _mm256_permute2f128_pd(first, *y, 0x20);
    *y = _mm256_permute2f128_pd(first, *y, 0x31);
}

INLINE void swap_single(__m256d *x, __m256d *y) /* its own inverse */
{
    __m256d first = *x;

    *x = _mm256_unpacklo_pd(first, *y);
    *y = _mm256_unpackhi_pd(first, *y);
}

INLINE __m256d spread2(const uint64_t *w)
{
    __m256d v = _mm256_castpd128_pd256(_mm_castsi128_pd(_mm_loadu_si128((const void *)w)));

    return _mm256_permute4x64_pd(v, 0x50); /* 0 0 1 1 */
}

/* Factors of block i at distance 2 and 1. */
INLINE void block_factors(struct factor4 f[2], const uint64_t *w, const uint64_t *quotient, int i)
{
    int n = NTT_N / 8;

    f[0] = (struct factor4){spread2(w + 2 * (n + i)), spread2(quotient + 2 * (n + i))};
    f[1] = (struct factor4){load(w + 4 * (n + i)), load(quotient + 4 * (n + i))};
}

/* ---- transforms --------------------------------------------------------------------------- */

TARGET void ntt_forward_avx2(const struct ntt *t, uint64_t *x)
{
    __m256d q = _mm256_set1_pd((double)t->q), inverse = _mm256_set1_pd(1 / (double)t->q);

    for (int i = 0; i < NTT_N; i += LANES)
        store(x + i, load_integers(x + i));
    for (uint64_t m = 1, step = NTT_N / 2; step >= LANES; m *= 2, step /= 2)
        for (uint64_t i = 0; i < m; i++) {
            struct factor4 f = all(t->w[m + i], t->w_quotient[m + i]);
            for (uint64_t *p = x + 2 * i * step, *end = p + step; p < end; p += LANES) {
                __m256d a = load(p), b = load(p + step);
                forward2(&a, &b, f, q);
                store(p, a);
                store(p + step, b);
            }
        }
    for (int i = 0; i < NTT_N / 8; i++, x += 8) {
        struct factor4 f[2];
        __m256d a = load(x), b = load(x + LANES);
        block_factors(f, t->w, t->w_quotient, i);
        swap_halves(&a, &b);
        forward2(&a, &b, f[0], q);
        swap_single(&a, &b);
        forward2(&a, &b, f[1], q);
        swap_single(&a, &b);
        swap_halves(&a, &b);
        store_integers(x, reduced(a, q, inverse));
        store_integers(x + LANES, reduced(b, q, inverse));
    }
}

TARGET void ntt_inverse_avx2(const struct ntt *t, uint64_t *x)
{
    __m256d q = _mm256_set1_pd((double)t->q), inverse = _mm256_set1_pd(1 / (double)t->q);
    struct factor4 scale = all(t->scale.w, t->scale.quotient);

    for (int i = 0; i < NTT_N / 8; i++) {
        struct factor4 f[2];
        __m256d a = load_integers(x + 8 * i), b = load_integers(x + 8 * i + LANES);
        block_factors(f, t->v, t->v_quotient, i);
        swap_halves(&a, &b);
        swap_single(&a, &b);
        inverse2(&a, &b, f[1], q);
        swap_single(&a, &b);
        inverse2(&a, &b, f[0], q);
        swap_halves(&a, &b);
        store(x + 8 * i, a);
        store(x + 8 * i + LANES, b);
    }
    for (uint64_t m = NTT_N / 8, step = LANES; m > 0; m /= 2, step *= 2)
        for (uint64_t i = 0; i < m; i++) {
            struct factor4 f = all(t->v[m + i], t->v_quotient[m + i]);
            for (uint64_t *p = x + 2 * i * step, *end = p + step; p < end; p += LANES) {
                __m256d a = load(p), b = load(p + step);
                inverse2(&a, &b, f, q);
                store(p, a);
                store(p + step, b);
            }
        }
    for (int i = 0; i < NTT_N; i += LANES)
        store_integers(x + i, reduced(times(load(x + i), scale, q), q, inverse));
}

/* ---- sums --------------------------------------------------------------------------------- */

/* low holds doubles; a term is within q of zero, so 4096 terms stay below 2^52. */
TARGET void ntt_sum_add_avx2(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a,
                             const uint64_t *b)
{
    __m256d q = _mm256_set1_pd((double)t->q), inverse = _mm256_set1_pd(1 / (double)t->q);

    for (int i = 0; i < NTT_N; i += LANES) {
        __m256d x = load_integers(a + i), y = load_integers(b + i);
        struct factor4 f = {y, _mm256_mul_pd(y, inverse)};
        store(sum->low + i, _mm256_add_pd(load(sum->low + i), times(x, f, q)));
    }
}

TARGET void ntt_sum_add_pairs_avx2(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                                   const uint64_t *const *a, const uint64_t *const *b,
                                   const uint64_t *const *w)
{
    __m256d q = _mm256_set1_pd((double)t->q), inverse = _mm256_set1_pd(1 / (double)t->q);

    for (int i = 0; i < NTT_N; i += LANES) {
        __m256d first = load(x->low + i), second = load(y->low + i);
        for (int k = 0; k < n; k++) {
            __m256d v = load_integers(w[k] + i);
            struct factor4 f = {v, _mm256_mul_pd(v, inverse)};
            first = _mm256_add_pd(first, times(load_integers(a[k] + i), f, q));
            second = _mm256_add_pd(second, times(load_integers(b[k] + i), f, q));
        }
        store(x->low + i, first);
        store(y->low + i, second);
    }
}

TARGET void ntt_sum_get_avx2(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum)
{
    __m256d q = _mm256_set1_pd((double)t->q), inverse = _mm256_set1_pd(1 / (double)t->q);

    for (int i = 0; i < NTT_N; i += LANES)
        store_integers(y + i, reduced(load(sum->low + i), q, inverse));
}
#endif
