/*
 * The transform in plain C, its tables, and the choice of a path (ntt.h).
 *
 * Forward: decimation in time (Cooley-Tukey) from natural to bit-reversed order, with the powers of
 * psi merged into the factors; inverse: Gentleman-Sande back. Longa and Naehrig, "Speeding up the
 * Number Theoretic Transform for Faster Ideal Lattice-Based Cryptography" (CANS 2016).
 *
 * A factor w is multiplied by Shoup's method: with w' = floor(w * 2^64 / q),
 *
 *     y * w - floor(y * w' / 2^64) * q   lies in [0, 2q) for every y < 2^64.
 *
 * With q < 2^40 nothing needs reducing on the way: a forward level adds at most 2q to a value (25 q
 * after 12 levels), an inverse level doubles it (2^12 q < 2^52).
 */
#include "runtime/crypto/ntt.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/crypto/ntt_path.h"

#define MAX_PRIME ((uint64_t)1 << 40)
#define MOST_GAP 6 /* NTT_N >> 6: four columns of NTT_ROWS, the shortest transform of ntt_avx2.c */

typedef unsigned __int128 u128;

/* ---- numbers ------------------------------------------------------------------------------ */

uint64_t ntt_mul(uint64_t a, uint64_t b, uint64_t q)
{
    return (uint64_t)((u128)a * b % q);
}

uint64_t ntt_pow(uint64_t a, uint64_t n, uint64_t q)
{
    uint64_t y = 1;

    for (; n > 0; n >>= 1, a = ntt_mul(a, a, q))
        if (n & 1)
            y = ntt_mul(y, a, q);
    return y;
}

/* In [0, 2q). */
static inline uint64_t times(uint64_t y, uint64_t w, uint64_t quotient, uint64_t q)
{
    return y * w - (uint64_t)((u128)y * quotient >> 64) * q;
}

/* From [0, 2q) to [0, q) without a branch. */
static inline uint64_t once(uint64_t y, uint64_t q)
{
    uint64_t z = y - q;

    return z + (q & (0 - (z >> 63)));
}

/* ---- tables ------------------------------------------------------------------------------- */

static bool is_prime(uint64_t n) /* Miller-Rabin, these bases decide below 2^64 */
{
    static const uint64_t bases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
    uint64_t odd = n - 1;
    int twos = 0;

    for (; odd % 2 == 0; odd /= 2)
        twos++;
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++) {
        uint64_t x = ntt_pow(bases[i], odd, n);
        bool witness = x != 1 && x != n - 1;
        for (int k = 1; k < twos && witness; k++) {
            x = ntt_mul(x, x, n);
            witness = x != n - 1;
        }
        if (witness)
            return false;
    }
    return true;
}

static uint32_t reversed(uint32_t i)
{
    uint32_t r = 0;

    for (int k = 0; k < NTT_LOG; k++)
        r |= (i >> k & 1) << (NTT_LOG - 1 - k);
    return r;
}

static uint64_t bits_of(double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static double centred(const struct ntt *t, uint64_t w)
{
    return w > t->q / 2 ? -(double)(t->q - w) : (double)w;
}

static struct ntt_factor factor(const struct ntt *t, uint64_t w)
{
    switch (t->path) {
    case NTT_AVX2:
        return (struct ntt_factor){bits_of(centred(t, w)), bits_of(centred(t, w) / (double)t->q)};
    case NTT_IFMA:
        return (struct ntt_factor){w, (uint64_t)(((u128)w << 52) / t->q)};
    default:
        return (struct ntt_factor){w, (uint64_t)(((u128)w << 64) / t->q)};
    }
}

/* A number of order exactly 2N: g^((q-1)/2N) for the first g where its N-th power is -1. */
static uint64_t root(uint64_t q)
{
    for (uint64_t g = 2;; g++) {
        uint64_t psi = ntt_pow(g, (q - 1) / (2 * NTT_N), q);
        if (ntt_pow(psi, NTT_N, q) == q - 1)
            return psi;
    }
}

/* Where entry i of the heap lies: from level m = 4 on, AVX2 has one group of each quarter of them side by side. */
static uint32_t place_of(const struct ntt *t, uint32_t i)
{
    uint32_t m = 4;

    if (t->path != NTT_AVX2 || i < 4)
        return i;
    while (2 * m <= i)
        m *= 2;
    return m + (i - m) % (m / 4) * 4 + (i - m) / (m / 4);
}

static void fill(const struct ntt *t, uint64_t psi, uint64_t *w, uint64_t *quotient)
{
    uint64_t power = 1;

    for (uint32_t i = 0; i < NTT_N; i++, power = ntt_mul(power, psi, t->q)) {
        struct ntt_factor f = factor(t, power);
        uint32_t at = place_of(t, reversed(i));
        w[at] = f.w;
        quotient[at] = f.quotient;
    }
}

/* Powers of z_k for the sixteen groups k that the first four levels leave (forward_taps, ntt_avx2.c): group k / 2
 * of level 8 has z_k = w for its first half and -w for the other. In the order of the lanes, as above. */
static void fill_powers(const struct ntt *t, uint64_t psi)
{
    for (uint32_t k = 0; k < NTT_ROWS; k++) {
        uint64_t w = ntt_pow(psi, reversed(NTT_ROWS / 2 + k / 2), t->q), power = 1;
        uint64_t z = k % 2 == 0 ? w : t->q - w;
        for (uint32_t r = 0; r < NTT_ROWS; r++, power = ntt_mul(power, z, t->q)) {
            double v = centred(t, power), high = nearbyint(v * 0x1p-20) * 0x1p20;
            t->powers[r][k % 4 * 4 + k / 4] = high;
            t->powers[r][NTT_ROWS + k % 4 * 4 + k / 4] = v - high;
        }
    }
}

static void fill_all(struct ntt *t, uint64_t *tables)
{
    uint64_t q = t->q, psi = root(q), inverse = ntt_pow(psi, q - 2, q),
             n = ntt_pow(NTT_N, q - 2, q);

    t->w = tables;
    t->w_quotient = tables + NTT_N;
    t->v = tables + 2 * NTT_N;
    t->v_quotient = tables + 3 * NTT_N;
    fill(t, psi, t->w, t->w_quotient);
    fill(t, inverse, t->v, t->v_quotient);
    t->one = factor(t, 1);
    t->scale = factor(t, n);
    t->last = factor(t, ntt_mul(n, ntt_pow(inverse, NTT_N / 2, q), q));
    t->powers = (void *)(tables + 4 * NTT_N);
    fill_powers(t, psi);
    t->wrap = factor(t, ntt_pow(2, t->path == NTT_IFMA ? 52 : 64, q));
}

enum ntt_path ntt_best_path(void)
{
    enum cpu_path best = cpu_best_path();

    if (NTT_VECTORS && best == CPU_AVX512 && cpu_has_ifma())
        return NTT_IFMA;
    return NTT_VECTORS && best >= CPU_AVX2 ? NTT_AVX2 : NTT_PLAIN;
}

int ntt_new(uint64_t q, enum ntt_path path, struct ntt **out)
{
    struct ntt *t;
    uint64_t *tables;

    if (q < 3 || q >= MAX_PRIME || q % (2 * NTT_N) != 1 || !is_prime(q))
        return fail(ERR_ARG, "modulus %llu: not a prime below 2^40 that is 1 mod %d",
                    (unsigned long long)q, 2 * NTT_N);
    if (path > ntt_best_path())
        return fail(ERR_ARG, "this CPU does not have transform path %d", (int)path);
    if ((t = mem_array(1, sizeof *t)) == NULL)
        return ERR_NOMEM;
    if ((tables = mem_aligned(4 * NTT_N + NTT_ROWS * 2 * NTT_ROWS, sizeof *tables)) == NULL) {
        mem_free(t);
        return ERR_NOMEM;
    }
    t->q = q;
    t->path = path;
    fill_all(t, tables);
    *out = t;
    return 0;
}

void ntt_free(struct ntt *t)
{
    if (t == NULL)
        return;
    mem_free(t->w);
    mem_free(t);
}

uint64_t ntt_prime(const struct ntt *t)
{
    return t->q;
}

/* ---- plain C ------------------------------------------------------------------------------ */

/* Level m has m groups of 2 * step numbers, one factor each: entry m + i of the heap. a and b are its
 * halves. a < (1 + 2 l) q before level l, so a + 2q - y never wraps. */
static void forward_plain(const struct ntt *t, uint64_t *x)
{
    uint64_t q = t->q, step = NTT_N / 2;

    for (uint64_t m = 1; m < NTT_N; m *= 2, step /= 2)
        for (uint64_t i = 0; i < m; i++) {
            uint64_t w = t->w[m + i], quotient = t->w_quotient[m + i];
            uint64_t *a = x + 2 * i * step, *b = a + step;
            for (uint64_t j = 0; j < step; j++) {
                uint64_t y = times(b[j], w, quotient, q);
                b[j] = a[j] + 2 * q - y;
                a[j] += y;
            }
        }
    for (int i = 0; i < NTT_N; i++)
        x[i] = once(times(x[i], 1, t->one.quotient, q), q);
}

/* The levels backwards. Before the one of distance `step` values are below step * q (below 2q at first: a
 * product is), so that a + step * q - b is not negative; the sum doubles the bound. */
static void inverse_plain(const struct ntt *t, uint64_t *x)
{
    uint64_t q = t->q, step = 1;

    for (uint64_t m = NTT_N / 2; m > 0; m /= 2, step *= 2)
        for (uint64_t i = 0; i < m; i++) {
            uint64_t v = t->v[m + i], quotient = t->v_quotient[m + i];
            uint64_t *a = x + 2 * i * step, *b = a + step;
            for (uint64_t j = 0; j < step; j++) {
                uint64_t y = a[j] + (step < 2 ? 2 : step) * q - b[j]; /* b below step * q, or 2q */
                a[j] += b[j];
                b[j] = times(y, v, quotient, q);
            }
        }
    for (int i = 0; i < NTT_N; i++)
        x[i] = once(times(x[i], t->scale.w, t->scale.quotient, q), q);
}

static void sum_add_plain(struct ntt_sum *sum, const uint64_t *a, const uint64_t *b)
{
    for (int i = 0; i < NTT_N; i++) {
        u128 s = ((u128)sum->high[i] << 64 | sum->low[i]) + (u128)a[i] * b[i];
        sum->low[i] = (uint64_t)s;
        sum->high[i] = (uint64_t)(s >> 64);
    }
}

static void sum_add_pairs_plain(struct ntt_sum *x, struct ntt_sum *y, int n,
                                const uint64_t *const *a, const uint64_t *const *b,
                                const uint64_t *const *w)
{
    for (int k = 0; k < n; k++) {
        sum_add_plain(x, a[k], w[k]);
        sum_add_plain(y, b[k], w[k]);
    }
}

static void sum_get_plain(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum)
{
    uint64_t q = t->q;

    for (int i = 0; i < NTT_N; i++) {
        uint64_t low = times(sum->low[i], 1, t->one.quotient, q);
        uint64_t high = times(sum->high[i], t->wrap.w, t->wrap.quotient, q);
        y[i] = once(times(low + high, 1, t->one.quotient, q), q);
    }
}

/* ---- taps --------------------------------------------------------------------------------- */

/* Other paths keep all values. AVX2 needs a power of four; one value, or NTT_N >> MOST_GAP. */
int ntt_gap(const struct ntt *t, const int32_t *place, int64_t n)
{
    int gap = t->path == NTT_AVX2 ? NTT_LOG : 0;

    for (int64_t i = 0; i < n; i++)
        while (place[i] % (1 << gap) != 0)
            gap -= 2;
    return gap < NTT_LOG && gap > MOST_GAP ? MOST_GAP : gap;
}

static void sort_taps(struct ntt_taps *taps)
{
    int columns = (NTT_N >> taps->gap) / NTT_ROWS, n = 0;

    for (int c = 0; c < columns; c++) {
        for (int i = 0; i < taps->n; i++) {
            int at = taps->place[i] >> taps->gap;
            if (at % columns != c)
                continue;
            taps->tap[n].row = at / columns;
            taps->tap[n++].source = i;
        }
        taps->start[c + 1] = n;
    }
}

int ntt_taps_new(const int32_t *place, int64_t n, int gap, struct ntt_taps **out)
{
    struct ntt_taps *taps;

    if (n > NTT_N >> gap)
        return fail(ERR_LIMIT, "%lld taps for %d places", (long long)n, NTT_N >> gap);
    if ((taps = mem_array(1, sizeof *taps)) == NULL)
        return ERR_NOMEM;
    taps->n = (int)n;
    taps->gap = gap;
    taps->many = n > (NTT_N >> gap) / 5; /* where both ways take the same time */
    memcpy(taps->place, place, (size_t)n * sizeof *place);
    if (!taps->many)
        sort_taps(taps);
    *out = taps;
    return 0;
}

void ntt_taps_free(struct ntt_taps *taps)
{
    mem_free(taps);
}

/* Residues at their places, transformed; the transform of a constant is that constant everywhere. */
static void weight_any(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                       uint64_t *w)
{
    bool constant = taps->n == 1 && taps->place[0] == 0;
    uint64_t rest = constant ? ntt_residue(value[0], t->q) : 0;

    for (int i = 0; i < NTT_N; i++)
        w[i] = rest;
    for (int i = 0; i < taps->n; i++)
        w[taps->place[i]] = ntt_residue(value[i], t->q);
    if (!constant)
        ntt_forward(t, w);
}

/* ---- by path ------------------------------------------------------------------------------ */

#if NTT_VECTORS
#define DISPATCH(t, plain, avx2, ifma)                                                             \
    do {                                                                                           \
        if ((t)->path == NTT_IFMA)                                                                 \
            ifma;                                                                                  \
        else if ((t)->path == NTT_AVX2)                                                            \
            avx2;                                                                                  \
        else                                                                                       \
            plain;                                                                                 \
    } while (0)
#else
#define DISPATCH(t, plain, avx2, ifma)                                                             \
    do {                                                                                           \
        (void)(t);                                                                                 \
        plain;                                                                                     \
    } while (0)
#endif

void ntt_forward(const struct ntt *t, uint64_t *x)
{
    DISPATCH(t, forward_plain(t, x), ntt_forward_avx2(t, x), ntt_forward_ifma(t, x));
}

void ntt_inverse(const struct ntt *t, uint64_t *x)
{
    DISPATCH(t, inverse_plain(t, x), ntt_inverse_avx2(t, x), ntt_inverse_ifma(t, x));
}

void ntt_sum_add(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a, const uint64_t *b)
{
    DISPATCH(t, sum_add_plain(sum, a, b), ntt_sum_add_avx2(t, sum, a, b),
             ntt_sum_add_ifma(t, sum, a, b));
}

void ntt_sum_add_pairs(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                       const uint64_t *const *a, const uint64_t *const *b, const uint64_t *const *w,
                       int gap)
{
    (void)gap;
    DISPATCH(t, sum_add_pairs_plain(x, y, n, a, b, w),
             ntt_sum_add_pairs_avx2(t, x, y, n, a, b, w, gap),
             ntt_sum_add_pairs_ifma(t, x, y, n, a, b, w));
}

void ntt_operand(const struct ntt *t, uint64_t *x)
{
    (void)x;
    DISPATCH(t, (void)0, ntt_operand_avx2(x), (void)0);
}

void ntt_weight(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value, uint64_t *w)
{
    DISPATCH(t, weight_any(t, taps, value, w), ntt_weight_avx2(t, taps, value, w),
             weight_any(t, taps, value, w));
}

void ntt_sum_get(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum)
{
    DISPATCH(t, sum_get_plain(t, y, sum), ntt_sum_get_avx2(t, y, sum), ntt_sum_get_ifma(t, y, sum));
}
