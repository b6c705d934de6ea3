/*
 * Products of uploads and weights in the coefficients (rlwe_direct.h).
 *
 * A weight polynomial with taps w_k at places p_k times an upload is the sum of w_k * X^(p_k) * upload,
 * and X^p only shifts: coefficient j of it is x[j - p], where x goes on before its beginning with
 * -x[j + 4096] (X^4096 = -1). So an answer's polynomial is a row of weights times a matrix whose rows
 * are shifted uploads: an exact product of 40-bit residues and 16-bit integers (ring/byte_product.h).
 *
 * Four uploads whose taps have the same places (one kind, rlwe_layout.h) make a group; a step of the
 * product is one place of one group. Digits of a group lie so that a step reads 64 bytes in a row:
 *
 *     [half: c, a][prime][group][digit][reach + 4096 positions][4 uploads]
 *
 * Position i is coefficient i - reach, reach the largest place of any tap; residues before coefficient
 * 0 are q - x. A panel is gathered once for 16 coefficients, and all answers are multiplied by it.
 *
 * Reduction: with classes of a sum put together, low + 2^24 high, both below 2^48 in magnitude, and q =
 * 2^40 - c, c < 2^20: x = x mod 2^40 + c floor(x / 2^40) modulo q, by integers alone.
 */
#include "runtime/linear/rlwe_direct.h"

#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/crypto/ntt.h"
#include "runtime/ring/byte_product.h"

#define MOST_TAPS 64
#define RESIDUE_BITS 40
#define LOW_BITS (((uint64_t)1 << RESIDUE_BITS) - 1)
#define MOST_DEFECT ((uint64_t)1 << 20) /* 2^40 - q */
#define HALVES 2
#define BLOCKS (RLWE_N / BYTE_COLUMNS)

/* No object is made where the CPU lacks these. */
#if defined __x86_64__
#define VECTORS __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#else
#define VECTORS
#endif

/* Nanoseconds on one core of a Sapphire Rapids: one step of four uploads for one answer (from the times of
 * whole layers by tests/bench_rlwe.c in a lot of 64); a product of a transformed pair and a transform of
 * weights, which that program prints together. */
#define STEP_NS 2400.0
#define PRODUCT_NS 6000.0
#define TRANSFORM_NS 16000.0

struct step {
    int32_t group, place;
};
struct rlwe_direct {
    int64_t groups, rows;          /* rows of weights: answers */
    int32_t (*member)[BYTE_TERMS]; /* uploads of a group, -1: none */
    size_t steps;
    struct step *step;
    int64_t reach;
    int8_t *weight; /* [rows][steps][2][4] */
};

/* ---- groups and steps --------------------------------------------------------------------- */

/* Uploads of one kind, four by four. Returns the groups so far. */
static int64_t group_kind(struct rlwe_direct *d, const struct rlwe_layout *l, int64_t kind,
                          int64_t groups)
{
    int n = 0;

    for (int64_t in = 0; in < l->in_polys; in++) {
        if (rlwe_layout_kind(l, in) != kind)
            continue;
        if (n == 0)
            memset(d->member[groups++], -1, sizeof *d->member);
        d->member[groups - 1][n] = (int32_t)in;
        n = (n + 1) % BYTE_TERMS;
    }
    return groups;
}

static int64_t taps_of(const struct rlwe_layout *l, const int16_t *w, int64_t in, int64_t out,
                       int32_t place[MOST_TAPS], int16_t value[MOST_TAPS])
{
    return rlwe_layout_taps(l, w, in, out, MOST_TAPS, place, value);
}

/* Steps of every group; false where a polynomial has too many taps. */
static bool list_steps(struct rlwe_direct *d, const struct rlwe_layout *l, const int16_t *w)
{
    int32_t place[MOST_TAPS];
    int16_t value[MOST_TAPS];

    for (int64_t g = 0; g < d->groups; g++) {
        int64_t n = taps_of(l, w, d->member[g][0], 0, place, value);
        if (n > MOST_TAPS || d->steps + (size_t)n > BYTE_MOST_STEPS)
            return false;
        for (int64_t k = 0; k < n; k++) {
            d->step[d->steps++] = (struct step){(int32_t)g, place[k]};
            d->reach = place[k] > d->reach ? place[k] : d->reach;
        }
    }
    return true;
}

/* Digits of answer `out`; false where a weight does not fit. */
static bool fill_row(struct rlwe_direct *d, const struct rlwe_layout *l, const int16_t *w,
                     int64_t out)
{
    int8_t *to = d->weight + (size_t)out * d->steps * BYTE_ROW_STEP;
    int32_t place[MOST_TAPS];
    int16_t value[MOST_TAPS];
    bool fits = true;

    for (int64_t g = 0; g < d->groups; g++) {
        int64_t n = 0;
        for (int t = 0; t < BYTE_TERMS && d->member[g][t] >= 0; t++) {
            n = taps_of(l, w, d->member[g][t], out, place, value);
            for (int64_t k = 0; k < n; k++) {
                int8_t *at = to + k * BYTE_ROW_STEP + t;
                fits &= byte_digits(value[k], at, at + BYTE_TERMS);
            }
        }
        to += n * BYTE_ROW_STEP;
    }
    return fits;
}

static bool fill_rows(struct rlwe_direct *d, const struct rlwe_layout *l, const int16_t *w)
{
    int bad = 0;

#pragma omp parallel for num_threads(cpu_threads()) reduction(+ : bad)
    for (int64_t out = 0; out < l->out_polys; out++)
        bad += !fill_row(d, l, w, out);
    return bad == 0;
}

/* ---- choice ------------------------------------------------------------------------------- */

/* Bands that share one transform of weights: as rlwe_party.c tiles them, at most. */
static bool faster(const struct rlwe_direct *d, const struct rlwe_layout *l)
{
    int64_t bands = rlwe_layout_bands(l);
    double shared = (double)(bands < 8 ? bands : 8);
    double transform = rlwe_layout_constant(l) ? 0 : TRANSFORM_NS / shared;

    return (double)d->steps * STEP_NS < (double)l->in_polys * (PRODUCT_NS + transform);
}

static bool suits(const struct rlwe *r, const struct rlwe_layout *l)
{
    if (!byte_product_fast() || l->group > 1)
        return false;
    for (int i = 0; i < RLWE_PRIMES; i++)
        if (((uint64_t)1 << RESIDUE_BITS) - ntt_prime(rlwe_prime(r, i)) >= MOST_DEFECT)
            return false;
    return rlwe_layout_taps(l, NULL, 0, 0, 0, NULL, NULL) <= MOST_TAPS;
}

void rlwe_direct_free(struct rlwe_direct *d)
{
    if (d == NULL)
        return;
    mem_free(d->member);
    mem_free(d->step);
    secret_free(d->weight);
    mem_free(d);
}

/* Groups and steps. 0 with d->steps = 0 where transforms are better. */
static int plan_steps(struct rlwe_direct *d, const struct rlwe_layout *l, const int16_t *w)
{
    int64_t kinds = rlwe_layout_kinds(l), most = l->in_polys / BYTE_TERMS + kinds;

    d->rows = l->out_polys;
    d->member = mem_array((size_t)most, sizeof *d->member);
    d->step = mem_array((size_t)(most * MOST_TAPS), sizeof *d->step);
    if (d->member == NULL || d->step == NULL)
        return ERR_NOMEM;
    for (int64_t kind = 0; kind < kinds; kind++)
        d->groups = group_kind(d, l, kind, d->groups);
    if (!list_steps(d, l, w) || !faster(d, l))
        d->steps = 0;
    return 0;
}

int rlwe_direct_new(const struct rlwe *r, const struct rlwe_layout *l, const int16_t *weight,
                    struct rlwe_direct **out)
{
    struct rlwe_direct *d;
    int rc;

    *out = NULL;
    if (!suits(r, l))
        return 0;
    if ((d = mem_array(1, sizeof *d)) == NULL)
        return ERR_NOMEM;
    if ((rc = plan_steps(d, l, weight)) == 0 && d->steps > 0) {
        d->weight = secret_array((size_t)d->rows * d->steps, BYTE_ROW_STEP);
        rc = d->weight == NULL ? ERR_NOMEM : 0;
        if (rc == 0 && fill_rows(d, l, weight)) {
            *out = d;
            return 0;
        }
    }
    rlwe_direct_free(d);
    return rc;
}

size_t rlwe_direct_weight_bytes(const struct rlwe_direct *d)
{
    return (size_t)d->rows * d->steps * BYTE_ROW_STEP;
}

/* ---- operands ----------------------------------------------------------------------------- */

static size_t positions(const struct rlwe_direct *d)
{
    return (size_t)d->reach + RLWE_N;
}

static size_t digit_bytes(const struct rlwe_direct *d) /* of one digit of a group */
{
    return positions(d) * BYTE_TERMS;
}

size_t rlwe_direct_bytes(const struct rlwe_direct *d)
{
    return HALVES * RLWE_PRIMES * (size_t)d->groups * BYTE_DIGITS * digit_bytes(d);
}

int64_t rlwe_direct_groups(const struct rlwe_direct *d)
{
    return d->groups;
}

/* Digits of one group of one half and prime: row i of `digits` is the group, in panels of memory. */
static const uint8_t *group_at(const struct rlwe_direct *d, const uint8_t *digits, int half,
                               int prime, int64_t group)
{
    size_t number = (size_t)((half * RLWE_PRIMES + prime) * d->groups + group);

    return digits + number * BYTE_DIGITS * digit_bytes(d);
}

/* Four residues into their digits. */
VECTORS static inline void split(uint8_t *to, size_t apart, const uint64_t x[BYTE_TERMS])
{
    for (int k = 0; k < BYTE_DIGITS; k++) {
        uint32_t four = 0;
        for (int t = 0; t < BYTE_TERMS; t++)
            four |= (uint32_t)(x[t] >> 8 * k & 0xff) << 8 * t;
        memcpy(to + (size_t)k * apart, &four, sizeof four);
    }
}

/* x[t]: coefficients of an upload of the group, of one prime. */
VECTORS static void load_positions(const struct rlwe_direct *d, uint64_t q,
                                   const uint64_t *const x[BYTE_TERMS], uint8_t *to)
{
    size_t apart = digit_bytes(d), reach = (size_t)d->reach;

    for (size_t j = 0; j < reach; j++, to += BYTE_TERMS) {
        uint64_t before[BYTE_TERMS];
        for (int t = 0; t < BYTE_TERMS; t++) {
            uint64_t v = q - x[t][RLWE_N - reach + j], whole = 0 - (uint64_t)(v == q);
            before[t] = v & ~whole;
        }
        split(to, apart, before);
    }
    for (size_t j = 0; j < RLWE_N; j++, to += BYTE_TERMS)
        split(to, apart, (const uint64_t[BYTE_TERMS]){x[0][j], x[1][j], x[2][j], x[3][j]});
}

void rlwe_direct_load(const struct rlwe_direct *d, const struct rlwe *r, int64_t group,
                      const uint64_t *c, const uint64_t *a, uint8_t *digits)
{
    static const uint64_t none[RLWE_N];

    for (int half = 0; half < HALVES; half++)
        for (int i = 0; i < RLWE_PRIMES; i++) {
            const uint64_t *from = half == 0 ? c : a, *x[BYTE_TERMS];
            for (int t = 0; t < BYTE_TERMS; t++) {
                int32_t in = d->member[group][t];
                x[t] = in < 0 ? none : from + ((size_t)in * RLWE_PRIMES + (size_t)i) * RLWE_N;
            }
            load_positions(d, ntt_prime(rlwe_prime(r, i)), x,
                           (uint8_t *)(uintptr_t)group_at(d, digits, half, i, group));
        }
}

/* ---- products ----------------------------------------------------------------------------- */

size_t rlwe_direct_panel_bytes(const struct rlwe_direct *d)
{
    return d->steps * BYTE_PANEL_STEP;
}

/* 16 coefficients from `first` on of all shifted uploads. */
static void gather(const struct rlwe_direct *d, const uint8_t *digits, int half, int prime,
                   int64_t first, uint8_t *panel)
{
    size_t apart = digit_bytes(d), row = BYTE_COLUMNS * BYTE_TERMS;

    for (size_t s = 0; s < d->steps; s++) {
        const uint8_t *from = group_at(d, digits, half, prime, d->step[s].group) +
                              (size_t)(first + d->reach - d->step[s].place) * BYTE_TERMS;
        for (int k = 0; k < BYTE_DIGITS; k++, panel += row, from += apart)
            memcpy(panel, from, row);
    }
}

VECTORS static inline uint64_t fold(uint64_t x, uint64_t defect)
{
    return (x & LOW_BITS) + (x >> RESIDUE_BITS) * defect;
}

/* 16 sums modulo q. Three classes are below 2^48, so that 2^9 q makes them positive and below 2^50. */
VECTORS static void reduce(const int32_t class[BYTE_CLASSES][BYTE_COLUMNS], uint64_t q,
                           uint64_t *to)
{
    uint64_t defect = ((uint64_t)1 << RESIDUE_BITS) - q, positive = q << 9;

    for (int j = 0; j < BYTE_COLUMNS; j++) {
        int64_t low = class[0][j] + 256 * (int64_t) class[1][j] + 65536 * (int64_t) class[2][j];
        int64_t high = class[3][j] + 256 * (int64_t) class[4][j] + 65536 * (int64_t) class[5][j];
        uint64_t h = fold((uint64_t)high + positive, defect); /* below 2^40 + 2^30 */
        uint64_t v, z;

        h = fold(h << 12, defect); /* 2^40 + 2^33 */
        h = fold(h << 12, defect);
        v = fold(fold((uint64_t)low + positive, defect) + h, defect); /* 2^40 + 2^21 */
        z = v - q;
        to[j] = z + (q & (0 - (z >> 63)));
    }
}

struct products {
    const struct rlwe_direct *d;
    const struct rlwe *r;
    const uint8_t *digits;
    int64_t first, n;
    uint64_t *sum;
};

/* 16 coefficients of one half and prime, of all answers. */
static void block(const struct products *p, int half, int prime, int64_t at, uint8_t *panel)
{
    const struct rlwe_direct *d = p->d;
    size_t apart = d->steps * BYTE_ROW_STEP;
    uint64_t q = ntt_prime(rlwe_prime(p->r, prime));
    int32_t classes[BYTE_ROWS][BYTE_CLASSES][BYTE_COLUMNS];

    gather(d, p->digits, half, prime, at, panel);
    for (int64_t out = 0; out < p->n; out += BYTE_ROWS) {
        int rows = p->n - out < BYTE_ROWS ? (int)(p->n - out) : BYTE_ROWS;

        byte_product(classes, panel, d->weight + (size_t)(p->first + out) * apart, apart, rows,
                     d->steps);
        for (int k = 0; k < rows; k++)
            reduce((const int32_t(*)[BYTE_COLUMNS])classes[k], q,
                   p->sum + (((out + k) * HALVES + half) * RLWE_PRIMES + prime) * RLWE_N + at);
    }
}

void rlwe_direct_products(const struct rlwe_direct *d, const struct rlwe *r, const uint8_t *digits,
                          int64_t first, int64_t n, int threads, uint8_t *panel, uint64_t *sum)
{
    const struct products p = {d, r, digits, first, n, sum};
    size_t own = rlwe_direct_panel_bytes(d);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (int k = 0; k < HALVES * RLWE_PRIMES * BLOCKS; k++)
        block(&p, k / BLOCKS / RLWE_PRIMES, k / BLOCKS % RLWE_PRIMES, k % BLOCKS * BYTE_COLUMNS,
              panel + (size_t)cpu_thread_index() * own);
}
