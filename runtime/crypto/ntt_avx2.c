/*
 * The transform with AVX2 and FMA: four residues a register, as doubles.
 *
 * A product y * w mod q is exact in doubles: h = y * w rounded, l = its error by FMA, n = an integer
 * next to y * (w/q); h - n * q is a small multiple of h's last bit, so the FMA gives it exactly, and
 * adding l gives y * w - n * q. n is rounded by adding 1.5 * 2^52, whose last bit is 1, and subtracting
 * it again. With |y| <= 2^52 and |w| <= q/2, n is off by at most 3/4, and the result lies within 3/4 q; at
 * |y| < 2^45 within 0.51 q. So a forward level adds at most 0.51 q to a value, and twelve of them end
 * within 7.2 q < 2^43; an inverse level doubles a value: 2^12 q <= 2^52. (The idea of transforms in doubles is
 * that of FLINT's fft_small.)
 *
 * Layout. A transform has n = 4^k coefficients, n/4 columns: column c holds x[c], x[c + n/4], x[c + n/2] and
 * x[c + 3n/4]. The first two levels combine what is in one column and leave four groups that have nothing
 * more to do with each other; so from there on the four lanes of a register are the four groups, and no
 * level needs to move numbers between lanes. Registers of the columns 4i + e (e < 4) stand at e * n/4 + 4i:
 * where the four registers came from that were read for them, so all is done in place.
 *
 *     first pass      reads four registers, does two levels, turns 4 x 4 numbers
 *     middle passes   two levels each, at distances of 4 columns or more: on each quarter alone
 *     last pass       distances 2 and 1, between four registers at the same place of the quarters;
 *                     turns 4 x 4 numbers back
 *
 * Level m >= 4 of the heap of factors (ntt_path.h) has a quarter of its groups in each lane. So factors of
 * group i of each quarter lie side by side, at m + 4i.
 *
 * Secrets pass through here, so times must not depend on them. What makes floating point slow for some
 * operands is denormal numbers, overflow, not-a-numbers, division and roots. None occurs: every operand
 * and result is an integer below 2^92 or a product of one by w/q or 1/q, that is 0 or at least 1/q >
 * 2^-41 in magnitude, and there is no division. test_ntt.c checks that no operation raises the
 * processor's flags for any of these. Additions, products, FMA and comparison of such numbers have one
 * latency on the processors that have AVX2. Where a tap stands is public, what it holds is not.
 */
#include "runtime/crypto/ntt_path.h"

#if NTT_VECTORS
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define LANES 4
#define TWO52 0x1p52

struct factor4 {
    __m256d w, quotient;
};
struct modulus {
    __m256d q, inverse, half; /* q, 1/q, 1.5 * 2^52 */
};

INLINE struct modulus modulus_of(const struct ntt *t)
{
    return (struct modulus){_mm256_set1_pd((double)t->q), _mm256_set1_pd(1 / (double)t->q),
                            _mm256_set1_pd(1.5 * TWO52)};
}

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

INLINE __m256d spread(const uint64_t *p)
{
    return _mm256_castsi256_pd(_mm256_set1_epi64x((long long)*p));
}

INLINE struct factor4 all(struct ntt_factor f)
{
    return (struct factor4){spread(&f.w), spread(&f.quotient)};
}

INLINE struct factor4 factor_at(const uint64_t *w, const uint64_t *quotient, size_t i)
{
    return (struct factor4){spread(w + i), spread(quotient + i)};
}

INLINE struct factor4 lanes_at(const uint64_t *w, const uint64_t *quotient, size_t i)
{
    return (struct factor4){load(w + i), load(quotient + i)};
}

/* round(y * z) for a product up to 2^51. */
INLINE __m256d rounded(__m256d y, __m256d z, const struct modulus *m)
{
    return _mm256_sub_pd(_mm256_fmadd_pd(y, z, m->half), m->half);
}

/* y * w - n q, within 3/4 q for |y| <= 2^52; h + l is y * w exactly. */
INLINE __m256d times(__m256d y, struct factor4 f, const struct modulus *m)
{
    __m256d h = _mm256_mul_pd(y, f.w), l = _mm256_fmsub_pd(y, f.w, h);

    return _mm256_add_pd(_mm256_fnmadd_pd(rounded(y, f.quotient, m), m->q, h), l);
}

/* To [0, q) from an integer below 2^52 in magnitude. */
INLINE __m256d reduced(__m256d y, const struct modulus *m)
{
    __m256d r = _mm256_fnmadd_pd(rounded(y, m->inverse, m), m->q, y);
    __m256d negative = _mm256_cmp_pd(r, _mm256_setzero_pd(), _CMP_LT_OQ);

    return _mm256_add_pd(r, _mm256_and_pd(negative, m->q));
}

INLINE void forward2(__m256d *a, __m256d *b, struct factor4 f, const struct modulus *m)
{
    __m256d y = times(*b, f, m), base = *a;

    *a = _mm256_add_pd(base, y);
    *b = _mm256_sub_pd(base, y);
}

INLINE void inverse2(__m256d *a, __m256d *b, struct factor4 f, const struct modulus *m)
{
    __m256d difference = _mm256_sub_pd(*a, *b);

    *a = _mm256_add_pd(*a, *b);
    *b = times(difference, f, m);
}

/* Two levels of four numbers: factor f between (0, 2) and (1, 3), then g between (0, 1), h between (2, 3). */
INLINE void forward4(__m256d v[4], struct factor4 f, struct factor4 g, struct factor4 h,
                     const struct modulus *m)
{
    forward2(&v[0], &v[2], f, m);
    forward2(&v[1], &v[3], f, m);
    forward2(&v[0], &v[1], g, m);
    forward2(&v[2], &v[3], h, m);
}

INLINE void inverse4(__m256d v[4], struct factor4 f, struct factor4 g, struct factor4 h,
                     const struct modulus *m)
{
    inverse2(&v[0], &v[1], g, m);
    inverse2(&v[2], &v[3], h, m);
    inverse2(&v[0], &v[2], f, m);
    inverse2(&v[1], &v[3], f, m);
}

/* Number j of register i becomes number i of register j. */
INLINE void turn(__m256d v[4])
{
    __m256d a = _mm256_unpacklo_pd(v[0], v[1]), b = _mm256_unpackhi_pd(v[0], v[1]);
    __m256d c = _mm256_unpacklo_pd(v[2], v[3]), d = _mm256_unpackhi_pd(v[2], v[3]);

    v[0] = _mm256_permute2f128_pd(a, c, 0x20);
    v[1] = _mm256_permute2f128_pd(b, d, 0x20);
    v[2] = _mm256_permute2f128_pd(a, c, 0x31);
    v[3] = _mm256_permute2f128_pd(b, d, 0x31);
}

INLINE void load4(__m256d v[4], const uint64_t *x, size_t apart)
{
    for (size_t e = 0; e < 4; e++)
        v[e] = load(x + e * apart);
}

INLINE void store4(uint64_t *x, size_t apart, const __m256d v[4])
{
    for (size_t e = 0; e < 4; e++)
        store(x + e * apart, v[e]);
}

/* ---- forward ------------------------------------------------------------------------------ */

/* Levels 1 and 2 of residues. */
TARGET static void forward_first(const struct ntt *t, uint64_t *x, size_t n,
                                 const struct modulus *m)
{
    struct factor4 f = factor_at(t->w, t->w_quotient, 1), g = factor_at(t->w, t->w_quotient, 2);
    struct factor4 h = factor_at(t->w, t->w_quotient, 3);

    for (size_t i = 0; i < n / 4; i += LANES) {
        __m256d v[4];
        for (size_t e = 0; e < 4; e++)
            v[e] = load_integers(x + e * (n / 4) + i);
        forward4(v, f, g, h, m);
        turn(v);
        store4(x + i, n / 4, v);
    }
}

/* Levels `level` and 2 * level, at distances of 2 * step and step columns, of one quarter. */
TARGET static void forward_pair(const struct ntt *t, uint64_t *x, size_t level, size_t step,
                                const struct modulus *m)
{
    for (size_t k = 0; k < level; k += LANES, x += 4 * step) {
        struct factor4 f = lanes_at(t->w, t->w_quotient, level + k);
        struct factor4 g = lanes_at(t->w, t->w_quotient, 2 * level + 2 * k);
        struct factor4 h = lanes_at(t->w, t->w_quotient, 2 * level + 2 * k + LANES);
        for (size_t i = 0; i < step; i += LANES) {
            __m256d v[4];
            load4(v, x + i, step);
            forward4(v, f, g, h, m);
            store4(x + i, step, v);
        }
    }
}

/* The last two levels of columns i ... i + 3; numbers are in their own order again. */
INLINE void forward_last(const struct ntt *t, const uint64_t *x, size_t n, size_t i, __m256d v[4],
                         const struct modulus *m)
{
    load4(v, x + i, n / 4);
    forward4(v, lanes_at(t->w, t->w_quotient, n / 4 + i),
             lanes_at(t->w, t->w_quotient, n / 2 + 2 * i),
             lanes_at(t->w, t->w_quotient, n / 2 + 2 * i + 4), m);
    turn(v);
}

/* The levels between, from `level` on, quarter by quarter: 8 KiB stay in the first cache. */
TARGET static void forward_middle(const struct ntt *t, uint64_t *x, size_t n, size_t level,
                                  const struct modulus *m)
{
    for (size_t e = 0; e < 4; e++, x += n / 4)
        for (size_t l = level; l < n / 4; l *= 4)
            forward_pair(t, x, l, n / 4 / l, m);
}

TARGET void ntt_forward_avx2(const struct ntt *t, uint64_t *x)
{
    struct modulus m = modulus_of(t);

    forward_first(t, x, NTT_N, &m);
    forward_middle(t, x, NTT_N, 4, &m);
    for (size_t i = 0; i < NTT_N / 4; i += LANES) {
        __m256d v[4];
        forward_last(t, x, NTT_N, i, v, &m);
        for (size_t e = 0; e < 4; e++)
            store_integers(x + e * (NTT_N / 4) + i, reduced(v[e], &m));
    }
}

/* ---- weights ------------------------------------------------------------------------------ */

/*
 * Levels 1, 2, 4 and 8 of a polynomial that is zero but for its taps. Group k of the sixteen that they
 * leave holds the polynomial mod X^(n/16) - z_k: a tap in row r adds its value times z_k^r to its column. The
 * table has z_k^r = high + low, high a multiple of 2^20 and |low| <= 2^19, so that the sums of up to
 * sixteen taps, below 2^58 and 2^38, are exact, and only one reduction a sum is left.
 */
INLINE void add_taps(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                     size_t column, __m256d high[4], __m256d low[4])
{
    for (size_t k = 0; k < 4; k++)
        high[k] = low[k] = _mm256_setzero_pd();
    for (int i = taps->start[column]; i < taps->start[column + 1]; i++) {
        const double *z = t->powers[taps->tap[i].row];
        __m256d v = _mm256_set1_pd(value[taps->tap[i].source]);
        for (size_t k = 0; k < 4; k++) {
            high[k] = _mm256_fmadd_pd(v, _mm256_loadu_pd(z + LANES * k), high[k]);
            low[k] = _mm256_fmadd_pd(v, _mm256_loadu_pd(z + NTT_ROWS + LANES * k), low[k]);
        }
    }
}

/* Quarter by quarter, so that lines of the caches are written at once. */
TARGET static void forward_taps(const struct ntt *t, const struct ntt_taps *taps,
                                const int16_t *value, uint64_t *x, size_t n,
                                const struct modulus *m)
{
    size_t columns = n / NTT_ROWS;

    for (size_t e = 0; e < 4; e++, x += n / 4)
        for (size_t i = 0; i < columns; i += LANES) {
            __m256d high[4], low[4];
            add_taps(t, taps, value, i + e, high, low);
            for (size_t k = 0; k < 4; k++) {
                __m256d turns = rounded(high[k], m->inverse, m);
                __m256d y = _mm256_fnmadd_pd(turns, m->q, high[k]);
                store(x + k * columns + i, _mm256_add_pd(y, low[k]));
            }
        }
}

/* Where taps are many: residues at their places. */
static void place_taps(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                       uint64_t *x, size_t n)
{
    memset(x, 0, n * sizeof *x);
    for (int i = 0; i < taps->n; i++)
        x[taps->place[i] >> taps->gap] = ntt_residue(value[i], t->q);
}

TARGET void ntt_weight_avx2(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                            uint64_t *w)
{
    struct modulus m = modulus_of(t);
    size_t n = (size_t)NTT_N >> taps->gap;

    if (n == 1) {
        double v = value[0];
        memcpy(w, &v, sizeof v);
        return;
    }
    if (taps->many) {
        place_taps(t, taps, value, w, n);
        forward_first(t, w, n, &m);
    } else
        forward_taps(t, taps, value, w, n, &m);
    forward_middle(t, w, n, taps->many ? 4 : NTT_ROWS, &m);
    for (size_t i = 0; i < n / 4; i += LANES) {
        __m256d v[4];
        forward_last(t, w, n, i, v, &m);
        store4(w + i, n / 4, v);
    }
}

TARGET void ntt_operand_avx2(uint64_t *x)
{
    for (int i = 0; i < NTT_N; i += LANES)
        store(x + i, load_integers(x + i));
}

/* ---- inverse ------------------------------------------------------------------------------ */

TARGET static void inverse_first(const struct ntt *t, uint64_t *x, const struct modulus *m)
{
    size_t quarter = NTT_N / 4;

    for (size_t i = 0; i < quarter; i += LANES) {
        __m256d v[4];
        for (size_t e = 0; e < 4; e++)
            v[e] = load_integers(x + e * quarter + i);
        turn(v);
        inverse4(v, lanes_at(t->v, t->v_quotient, quarter + i),
                 lanes_at(t->v, t->v_quotient, 2 * quarter + 2 * i),
                 lanes_at(t->v, t->v_quotient, 2 * quarter + 2 * i + 4), m);
        store4(x + i, quarter, v);
    }
}

TARGET static void inverse_pair(const struct ntt *t, uint64_t *x, size_t level, size_t step,
                                const struct modulus *m)
{
    for (size_t k = 0; k < level / 4; k++) {
        struct factor4 f = lanes_at(t->v, t->v_quotient, level + 4 * k);
        struct factor4 g = lanes_at(t->v, t->v_quotient, 2 * level + 8 * k);
        struct factor4 h = lanes_at(t->v, t->v_quotient, 2 * level + 8 * k + 4);
        for (size_t e = 0; e < 4; e++) {
            uint64_t *p = x + e * (NTT_N / 4) + 4 * k * step;
            for (size_t i = 0; i < step; i += LANES) {
                __m256d v[4];
                load4(v, p + i, step);
                inverse4(v, f, g, h, m);
                store4(p + i, step, v);
            }
        }
    }
}

/* Levels 2 and 1, and the division by N: that of differences is in the last factor. */
TARGET static void inverse_last(const struct ntt *t, uint64_t *x, const struct modulus *m)
{
    struct factor4 scale = all(t->scale), last = all(t->last);
    struct factor4 g = factor_at(t->v, t->v_quotient, 2), h = factor_at(t->v, t->v_quotient, 3);
    size_t quarter = NTT_N / 4;

    for (size_t i = 0; i < quarter; i += LANES) {
        __m256d v[4];
        load4(v, x + i, quarter);
        turn(v);
        inverse2(&v[0], &v[1], g, m);
        inverse2(&v[2], &v[3], h, m);
        inverse2(&v[0], &v[2], last, m);
        inverse2(&v[1], &v[3], last, m);
        v[0] = times(v[0], scale, m);
        v[1] = times(v[1], scale, m);
        for (size_t e = 0; e < 4; e++)
            store_integers(x + e * quarter + i, reduced(v[e], m));
    }
}

TARGET void ntt_inverse_avx2(const struct ntt *t, uint64_t *x)
{
    struct modulus m = modulus_of(t);

    inverse_first(t, x, &m);
    for (size_t level = NTT_N / 16, step = LANES; level >= 4; level /= 4, step *= 4)
        inverse_pair(t, x, level, step, &m);
    inverse_last(t, x, &m);
}

/* ---- sums --------------------------------------------------------------------------------- */

/* low holds doubles; a term is within q of zero, so 4096 terms stay below 2^52. */
TARGET void ntt_sum_add_avx2(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a,
                             const uint64_t *b)
{
    struct modulus m = modulus_of(t);

    for (int i = 0; i < NTT_N; i += LANES) {
        __m256d x = load_integers(a + i), y = load_integers(b + i);
        struct factor4 f = {y, _mm256_mul_pd(y, m.inverse)};
        store(sum->low + i, _mm256_add_pd(load(sum->low + i), times(x, f, &m)));
    }
}

/*
 * A batch of products, eight at most, is added up before it is reduced. |w| < 2^43 and a, b < 2^40, so
 * their sum stays below 2^86, and 1.5 * 2^88 plus it is a number whose last bit is 2^36: an FMA adds a
 * product rounded to a multiple of that, the difference to before is what was added, h, and a second FMA
 * gives the rest of the product, at most 2^35, exactly. The sum of all h, n q less, is an integer within
 * 0.6 q, and the FMA that makes it is exact too. With the rests a batch is within 0.85 q: 4096 of
 * them stay below 2^52.
 */
struct lazy {
    __m256d high, low;
};
#define LAZY 0x1.8p88
_Static_assert(NTT_BATCH <= 8, "the bounds of a batch");

INLINE void lazy_add(struct lazy *s, __m256d a, __m256d w)
{
    __m256d high = _mm256_fmadd_pd(a, w, s->high), h = _mm256_sub_pd(high, s->high);

    s->high = high;
    s->low = _mm256_add_pd(s->low, _mm256_fmsub_pd(a, w, h));
}

INLINE void lazy_end(uint64_t *sum, const struct lazy *s, const struct modulus *m)
{
    __m256d h = _mm256_sub_pd(s->high, _mm256_set1_pd(LAZY));
    __m256d r = _mm256_fnmadd_pd(rounded(h, m->inverse, m), m->q, h);

    store(sum, _mm256_add_pd(load(sum), _mm256_add_pd(r, s->low)));
}

/* Two registers at a time, a line of the caches. */
INLINE void add_pairs(const struct modulus *m, struct ntt_sum *x, struct ntt_sum *y, int n,
                      const uint64_t *const *a, const uint64_t *const *b, const uint64_t *const *w,
                      int gap)
{
    for (int i = 0; i < NTT_N; i += 2 * LANES) {
        struct lazy s[4];
        for (int e = 0; e < 4; e++)
            s[e] = (struct lazy){_mm256_set1_pd(LAZY), _mm256_setzero_pd()};
        for (int k = 0; k < n; k++) {
            const uint64_t *p = w[k] + (i >> gap);
            __m256d v = gap == 0 ? load(p) : spread(p);
            __m256d u = gap == 0 ? load(p + LANES) : gap == 2 ? spread(p + 1) : v;
            lazy_add(&s[0], load(a[k] + i), v);
            lazy_add(&s[1], load(a[k] + i + LANES), u);
            lazy_add(&s[2], load(b[k] + i), v);
            lazy_add(&s[3], load(b[k] + i + LANES), u);
        }
        lazy_end(x->low + i, &s[0], m);
        lazy_end(x->low + i + LANES, &s[1], m);
        lazy_end(y->low + i, &s[2], m);
        lazy_end(y->low + i + LANES, &s[3], m);
    }
}

TARGET void ntt_sum_add_pairs_avx2(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                                   const uint64_t *const *a, const uint64_t *const *b,
                                   const uint64_t *const *w, int gap)
{
    struct modulus m = modulus_of(t);

    if (gap == 2)
        add_pairs(&m, x, y, n, a, b, w, 2);
    else if (gap > 2)
        add_pairs(&m, x, y, n, a, b, w, gap);
    else if (n == NTT_BATCH)
        add_pairs(&m, x, y, NTT_BATCH, a, b, w, 0); /* unrolled */
    else
        add_pairs(&m, x, y, n, a, b, w, 0);
}

TARGET void ntt_sum_get_avx2(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum)
{
    struct modulus m = modulus_of(t);

    for (int i = 0; i < NTT_N; i += LANES)
        store_integers(y + i, reduced(load(sum->low + i), &m));
}
#endif
