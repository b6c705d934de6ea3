/*
 * The transform with AVX-512 IFMA: eight residues a register, products of 52-bit numbers.
 *
 * The factors' quotients are those of 2^52; a product by a factor lies in [0, 2q) for every y below
 * 2^52. Forward values stay below 25 q < 2^45. An inverse level doubles: 2^12 q < 2^52 after the last
 * one. Levels with distance 8, 4, 2, 1 are done together on blocks of 16 numbers in two registers, the
 * eight levels before in pairs.
 */
#include "runtime/crypto/ntt_path.h"

#if NTT_VECTORS
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512ifma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES 8

struct factor8 {
    __m512i w, quotient;
};
struct modulus {
    __m512i q, twice, negative, mask; /* q, 2q, 2^52 - q, 2^52 - 1 */
};

INLINE struct modulus modulus_of(const struct ntt *t)
{
    uint64_t q = t->q, wrap = (uint64_t)1 << 52;

    return (struct modulus){_mm512_set1_epi64((long long)q), _mm512_set1_epi64((long long)(2 * q)),
                            _mm512_set1_epi64((long long)(wrap - q)),
                            _mm512_set1_epi64((long long)(wrap - 1))};
}

INLINE __m512i load(const uint64_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void store(uint64_t *p, __m512i v)
{
    _mm512_storeu_si512(p, v);
}

INLINE struct factor8 all(uint64_t w, uint64_t quotient)
{
    return (struct factor8){_mm512_set1_epi64((long long)w),
                            _mm512_set1_epi64((long long)quotient)};
}

/* In [0, 2q), y below 2^52. */
INLINE __m512i times(__m512i y, struct factor8 f, const struct modulus *m)
{
    __m512i zero = _mm512_setzero_si512();
    __m512i high = _mm512_madd52hi_epu64(zero, y, f.quotient);
    __m512i low = _mm512_madd52lo_epu64(zero, y, f.w);

    return _mm512_and_si512(_mm512_madd52lo_epu64(low, high, m->negative), m->mask);
}

/* From [0, 2q) to [0, q): y - q wraps to a huge number where y < q. */
INLINE __m512i once(__m512i y, const struct modulus *m)
{
    return _mm512_min_epu64(y, _mm512_sub_epi64(y, m->q));
}

INLINE void forward2(__m512i *a, __m512i *b, struct factor8 f, const struct modulus *m)
{
    __m512i y = times(*b, f, m), base = *a;

    *a = _mm512_add_epi64(base, y);
    *b = _mm512_sub_epi64(_mm512_add_epi64(base, m->twice), y);
}

/* bound: a multiple of q above b. */
INLINE void inverse2(__m512i *a, __m512i *b, struct factor8 f, __m512i bound,
                     const struct modulus *m)
{
    __m512i difference = _mm512_sub_epi64(_mm512_add_epi64(*a, bound), *b);

    *a = _mm512_add_epi64(*a, *b);
    *b = times(difference, f, m);
}

/* ---- blocks of 16 ------------------------------------------------------------------------- */

/*
 * The last four levels of a forward transform stay inside blocks of 16 numbers, two registers a and b. A
 * level multiplies b and adds it to a, so before each one the numbers that belong together must stand in
 * one lane of a and b. The numbers of a block, 0 ... f, lie like this (backwards in the inverse):
 *
 *     loaded         a 01234567   b 89abcdef   distance 8   one factor for all lanes
 *     swap_halves    a 012389ab   b 4567cdef   distance 4   two, four lanes each (spread2)
 *     swap_pairs     a 014589cd   b 2367abef   distance 2   four, two lanes each (spread4)
 *     swap_single    a 02468ace   b 13579bdf   distance 1   eight
 *     swap_single    a 014589cd   b 2367abef
 *     zip_pairs      a 01234567   b 89abcdef   to be stored
 */

/* 128-bit pairs (x0 y0 x2 y2) and (x1 y1 x3 y3): its own inverse. */
INLINE void swap_pairs(__m512i *x, __m512i *y)
{
    __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    __m512i odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), first = *x;

    *x = _mm512_permutex2var_epi64(first, even, *y);
    *y = _mm512_permutex2var_epi64(first, odd, *y);
}

INLINE void swap_single(__m512i *x, __m512i *y) /* its own inverse */
{
    __m512i first = *x;

    *x = _mm512_unpacklo_epi64(first, *y);
    *y = _mm512_unpackhi_epi64(first, *y);
}

INLINE void swap_halves(__m512i *x, __m512i *y) /* its own inverse */
{
    __m512i first = *x;

    *x = _mm512_shuffle_i64x2(first, *y, 0x44);
    *y = _mm512_shuffle_i64x2(first, *y, 0xEE);
}

/* (x0 y0 x1 y1), (x2 y2 x3 y3) of 128-bit pairs, and back. */
INLINE void zip_pairs(__m512i *x, __m512i *y)
{
    __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), first = *x;

    *x = _mm512_permutex2var_epi64(first, low, *y);
    *y = _mm512_permutex2var_epi64(first, high, *y);
}

INLINE void unzip_pairs(__m512i *x, __m512i *y)
{
    __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13);
    __m512i odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15), first = *x;

    *x = _mm512_permutex2var_epi64(first, even, *y);
    *y = _mm512_permutex2var_epi64(first, odd, *y);
}

/* Two factors, four times each; four factors, twice each; eight factors. */
INLINE __m512i spread2(const uint64_t *w)
{
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1),
                                    _mm512_castsi128_si512(_mm_loadu_si128((const void *)w)));
}

INLINE __m512i spread4(const uint64_t *w)
{
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3),
                                    _mm512_castsi256_si512(_mm256_loadu_si256((const void *)w)));
}

/* Factors of block i at distance 8, 4, 2, 1. */
INLINE void block_factors(struct factor8 f[4], const uint64_t *w, const uint64_t *quotient, int i)
{
    int n = NTT_N / 16;

    f[0] = all(w[n + i], quotient[n + i]);
    f[1] = (struct factor8){spread2(w + 2 * (n + i)), spread2(quotient + 2 * (n + i))};
    f[2] = (struct factor8){spread4(w + 4 * (n + i)), spread4(quotient + 4 * (n + i))};
    f[3] = (struct factor8){load(w + 8 * (n + i)), load(quotient + 8 * (n + i))};
}

TARGET static void forward_blocks(const struct ntt *t, uint64_t *x, const struct modulus *m)
{
    struct factor8 f[4], one = all(t->one.w, t->one.quotient);

    for (int i = 0; i < NTT_N / 16; i++, x += 16) {
        __m512i a = load(x), b = load(x + LANES);
        block_factors(f, t->w, t->w_quotient, i);
        forward2(&a, &b, f[0], m);
        swap_halves(&a, &b);
        forward2(&a, &b, f[1], m);
        swap_pairs(&a, &b);
        forward2(&a, &b, f[2], m);
        swap_single(&a, &b);
        forward2(&a, &b, f[3], m);
        swap_single(&a, &b);
        zip_pairs(&a, &b);
        store(x, once(times(a, one, m), m));
        store(x + LANES, once(times(b, one, m), m));
    }
}

TARGET static void inverse_blocks(const struct ntt *t, uint64_t *x, const struct modulus *m)
{
    struct factor8 f[4];
    __m512i bound[4];

    for (int k = 0; k < 4; k++) /* values below q, 2q, 4q, 8q */
        bound[k] = _mm512_slli_epi64(m->q, (unsigned)k);
    for (int i = 0; i < NTT_N / 16; i++, x += 16) {
        __m512i a = load(x), b = load(x + LANES);
        block_factors(f, t->v, t->v_quotient, i);
        unzip_pairs(&a, &b);
        swap_single(&a, &b);
        inverse2(&a, &b, f[3], bound[0], m);
        swap_single(&a, &b);
        inverse2(&a, &b, f[2], bound[1], m);
        swap_pairs(&a, &b);
        inverse2(&a, &b, f[1], bound[2], m);
        swap_halves(&a, &b);
        inverse2(&a, &b, f[0], bound[3], m);
        store(x, a);
        store(x + LANES, b);
    }
}

/* ---- longer distances --------------------------------------------------------------------- */

/* Levels `level` and 2 * level in one pass over memory: distance 2 * step, then step. A group of the first
 * level is 4 * step numbers, a b c d; factor k belongs to (a, c) and (b, d), its children 2k and 2k + 1
 * in the heap to (a, b) and (c, d). step is 16 or more, a multiple of the lanes. Values grow by 2q a
 * level and are not reduced. */
TARGET static void forward_pair(const struct ntt *t, uint64_t *x, uint64_t level, uint64_t step,
                                const struct modulus *m)
{
    for (uint64_t i = 0; i < level; i++) {
        uint64_t k = level + i, *p = x + 4 * i * step;
        struct factor8 f = all(t->w[k], t->w_quotient[k]);
        struct factor8 g = all(t->w[2 * k], t->w_quotient[2 * k]);
        struct factor8 h = all(t->w[2 * k + 1], t->w_quotient[2 * k + 1]);
        for (uint64_t j = 0; j < step; j += LANES) {
            __m512i a = load(p + j), b = load(p + step + j);
            __m512i c = load(p + 2 * step + j), d = load(p + 3 * step + j);
            forward2(&a, &c, f, m);
            forward2(&b, &d, f, m);
            forward2(&a, &b, g, m);
            forward2(&c, &d, h, m);
            store(p + j, a);
            store(p + step + j, b);
            store(p + 2 * step + j, c);
            store(p + 3 * step + j, d);
        }
    }
}

/* The same two levels backwards. Values are below 2^shift * q before and below 2^(shift + 2) * q after: a
 * sum doubles the bound, a product is below 2q whatever came in. The bounds that are added keep a
 * difference positive, and with 2^12 q < 2^52 it never leaves what `times` takes. */
TARGET static void inverse_pair(const struct ntt *t, uint64_t *x, uint64_t level, uint64_t step,
                                unsigned shift, const struct modulus *m)
{
    __m512i low = _mm512_slli_epi64(m->q, shift), high = _mm512_slli_epi64(m->q, shift + 1);

    for (uint64_t i = 0; i < level; i++) {
        uint64_t k = level + i, *p = x + 4 * i * step;
        struct factor8 f = all(t->v[k], t->v_quotient[k]);
        struct factor8 g = all(t->v[2 * k], t->v_quotient[2 * k]);
        struct factor8 h = all(t->v[2 * k + 1], t->v_quotient[2 * k + 1]);
        for (uint64_t j = 0; j < step; j += LANES) {
            __m512i a = load(p + j), b = load(p + step + j);
            __m512i c = load(p + 2 * step + j), d = load(p + 3 * step + j);
            inverse2(&a, &b, g, low, m);
            inverse2(&c, &d, h, low, m);
            inverse2(&a, &c, f, high, m);
            inverse2(&b, &d, f, high, m);
            store(p + j, a);
            store(p + step + j, b);
            store(p + 2 * step + j, c);
            store(p + 3 * step + j, d);
        }
    }
}

TARGET void ntt_forward_ifma(const struct ntt *t, uint64_t *x)
{
    struct modulus m = modulus_of(t);

    for (uint64_t level = 1; level < NTT_N / 16; level *= 4)
        forward_pair(t, x, level, NTT_N / 4 / level, &m);
    forward_blocks(t, x, &m);
}

TARGET void ntt_inverse_ifma(const struct ntt *t, uint64_t *x)
{
    struct modulus m = modulus_of(t);
    struct factor8 scale = all(t->scale.w, t->scale.quotient);
    unsigned shift = 4;

    inverse_blocks(t, x, &m);
    for (uint64_t level = NTT_N / 64; level > 0; level /= 4, shift += 2)
        inverse_pair(t, x, level, NTT_N / 4 / level, shift, &m);
    for (int i = 0; i < NTT_N; i += LANES)
        store(x + i, once(times(load(x + i), scale, &m), &m));
}

/* ---- sums --------------------------------------------------------------------------------- */

/* low and high hold the sums of the products' lower and upper 52 bits: a term adds less than 2^52 to
 * either, so 4096 terms fit into 64 bits, and no carry is needed on the way. */
TARGET void ntt_sum_add_ifma(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a,
                             const uint64_t *b)
{
    (void)t;
    for (int i = 0; i < NTT_N; i += LANES) {
        __m512i x = load(a + i), y = load(b + i);
        store(sum->low + i, _mm512_madd52lo_epu64(load(sum->low + i), x, y));
        store(sum->high + i, _mm512_madd52hi_epu64(load(sum->high + i), x, y));
    }
}

/* Sums stay in registers for all terms. */
INLINE void add_terms(struct ntt_sum *x, struct ntt_sum *y, int n, const uint64_t *const *a,
                      const uint64_t *const *b, const uint64_t *const *w)
{
    for (int i = 0; i < NTT_N; i += LANES) {
        __m512i xl = load(x->low + i), xh = load(x->high + i);
        __m512i yl = load(y->low + i), yh = load(y->high + i);
        for (int k = 0; k < n; k++) {
            __m512i f = load(w[k] + i), u = load(a[k] + i), v = load(b[k] + i);
            xl = _mm512_madd52lo_epu64(xl, u, f);
            xh = _mm512_madd52hi_epu64(xh, u, f);
            yl = _mm512_madd52lo_epu64(yl, v, f);
            yh = _mm512_madd52hi_epu64(yh, v, f);
        }
        store(x->low + i, xl);
        store(x->high + i, xh);
        store(y->low + i, yl);
        store(y->high + i, yh);
    }
}

TARGET void ntt_sum_add_pairs_ifma(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                                   const uint64_t *const *a, const uint64_t *const *b,
                                   const uint64_t *const *w)
{
    (void)t;
    if (n == NTT_BATCH)
        add_terms(x, y, NTT_BATCH, a, b, w); /* unrolled */
    else
        add_terms(x, y, n, a, b, w);
}

/* low < 2^64 is cut at bit 52, so that every factor meets a number below 2^52. */
TARGET void ntt_sum_get_ifma(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum)
{
    struct modulus m = modulus_of(t);
    struct factor8 one = all(t->one.w, t->one.quotient), wrap = all(t->wrap.w, t->wrap.quotient);

    for (int i = 0; i < NTT_N; i += LANES) {
        __m512i low = load(sum->low + i);
        __m512i high = _mm512_add_epi64(load(sum->high + i), _mm512_srli_epi64(low, 52));
        __m512i a = times(_mm512_and_si512(low, m.mask), one, &m), b = times(high, wrap, &m);
        store(y + i, once(times(_mm512_add_epi64(a, b), one, &m), &m));
    }
}
#endif
