/*
 * The garbled comparison (garble.h): half-gates of S. Zahur, M. Rosulek, D. Evans ("Two Halves Make
 * a Whole", EUROCRYPT 2015) with free XOR.
 *
 * Circuit, a loop over the bits from the lowest, c = 0 at first:
 *
 *     c = ((a_i ^ c) & (b_i ^ c)) ^ c     i = 0 ... m-2: c is the carry into bit i+1
 *     out = a_(m-1) ^ b_(m-1) ^ c
 *
 * The constant 0 has the label 0 on both sides. One gate, zero labels A and B, D = delta, tweaks j
 * and j+1, pa and pb the colours of A and B:
 *
 *     garbler    TG = H(A,j) ^ H(A^D,j) ^ pb*D            WG = H(A,j) ^ pa*TG
 *                TE = H(B,j+1) ^ H(B^D,j+1) ^ A           WE = H(B,j+1) ^ pb*(TE ^ A)
 *     evaluator  W = H(A,j) ^ colour(A)*TG ^ H(B,j+1) ^ colour(B)*(TE ^ A)   A, B as held
 *
 * Both get W (WG ^ WE) as the output's label. Gate i has slots 2i and 2i+1; its table is TG [n] then
 * TE [n].
 */
#include "runtime/crypto/garble.h"

#include <string.h>

struct block garble_tweak(uint64_t batch, uint64_t slot, uint64_t k)
{
    return (struct block){slot << 48 | k, batch};
}

/* Comparisons that go through all gates together: their labels in flight stay in the first cache. */
#define STRIP ((size_t)256)
struct strip {
    struct hasher *h;
    size_t n, stride;   /* comparisons; those of the whole call */
    struct block delta; /* garbler only */
    struct block *x;    /* scratch [4][n] */
};

size_t garble_scratch(size_t n)
{
    return 4 * (n < STRIP ? n : STRIP);
}

typedef uint64_t label __attribute__((vector_size(16))); /* a block as the CPU likes it */

static inline label get(const struct block *b)
{
    label v;

    memcpy(&v, b, sizeof v);
    return v;
}

static inline void put(struct block *b, label v)
{
    memcpy(b, &v, sizeof v);
}

/* a if the lowest bit of v is set, else 0. */
static inline label if_colour(label v, label a)
{
    const label one = {1, 1};

    return a & -(__builtin_shufflevector(v, v, 0, 0) & one);
}

/* One gate: c = ((a ^ c) & (b ^ c)) ^ c on zero labels; table: TG, and TE a stride further. */
static void garble_gate(const struct strip *s, const struct block tweak[2], const struct block *a,
                        const struct block *b, struct block *c, struct block *table)
{
    const size_t n = s->n;
    struct block *a0 = s->x, *a1 = a0 + n, *b0 = a1 + n, *b1 = b0 + n;
    const label d = get(&s->delta);

    for (size_t k = 0; k < n; k++) {
        label left = get(&a[k]) ^ get(&c[k]), right = get(&b[k]) ^ get(&c[k]);

        put(&a0[k], left);
        put(&b0[k], right);
        put(&a1[k], left ^ d);
        put(&b1[k], right ^ d);
    }
    hash_blocks(s->h, a0, a0, n, tweak[0]);
    hash_blocks(s->h, a1, a1, n, tweak[0]);
    hash_blocks(s->h, b0, b0, n, tweak[1]);
    hash_blocks(s->h, b1, b1, n, tweak[1]);
    for (size_t k = 0; k < n; k++) {
        label old = get(&c[k]), left = get(&a[k]) ^ old, right = get(&b[k]) ^ old;
        label tg = get(&a0[k]) ^ get(&a1[k]) ^ if_colour(right, d);
        label te = get(&b0[k]) ^ get(&b1[k]) ^ left;
        label wg = get(&a0[k]) ^ if_colour(left, tg);
        label we = get(&b0[k]) ^ if_colour(right, te ^ left);

        put(&table[k], tg);
        put(&table[s->stride + k], te);
        put(&c[k], old ^ wg ^ we);
    }
}

static void evaluate_gate(const struct strip *s, const struct block tweak[2], const struct block *a,
                          const struct block *b, struct block *c, const struct block *table)
{
    const size_t n = s->n;
    struct block *ha = s->x, *hb = ha + n;

    for (size_t k = 0; k < n; k++) {
        put(&ha[k], get(&a[k]) ^ get(&c[k]));
        put(&hb[k], get(&b[k]) ^ get(&c[k]));
    }
    hash_blocks(s->h, ha, ha, n, tweak[0]);
    hash_blocks(s->h, hb, hb, n, tweak[1]);
    for (size_t k = 0; k < n; k++) {
        label old = get(&c[k]), left = get(&a[k]) ^ old, right = get(&b[k]) ^ old;
        label w = get(&ha[k]) ^ get(&hb[k]) ^ if_colour(left, get(&table[k]));

        put(&c[k], old ^ w ^ if_colour(right, get(&table[s->stride + k]) ^ left));
    }
}

static struct strip strip_at(struct hasher *h, size_t n, size_t at, struct block *scratch)
{
    return (struct strip){.h = h, .n = n - at < STRIP ? n - at : STRIP, .stride = n, .x = scratch};
}

void garble_sign(struct hasher *h, size_t n, int m, struct block delta, uint64_t batch,
                 uint64_t first, const struct block *a, const struct block *b, struct block *tables,
                 struct block *out, struct block *scratch)
{
    const size_t top = (size_t)(m - 1) * n;

    memset(out, 0, n * sizeof *out);
    for (size_t at = 0; at < n; at += STRIP) {
        struct strip s = strip_at(h, n, at, scratch);

        s.delta = delta;
        for (size_t i = 0; i + 1 < (size_t)m; i++) {
            struct block tweak[2] = {garble_tweak(batch, 2 * i, first + at),
                                     garble_tweak(batch, 2 * i + 1, first + at)};

            garble_gate(&s, tweak, a + i * n + at, b + i * n + at, out + at,
                        tables + 2 * i * n + at);
        }
    }
    garble_output(n, a + top, b + top, out);
}

void garble_evaluate_gate(struct hasher *h, size_t n, int i, uint64_t batch, uint64_t first,
                          const struct block *a, const struct block *b, const struct block *table,
                          struct block *carry, struct block *scratch)
{
    uint64_t slot = 2 * (uint64_t)i;

    for (size_t at = 0; at < n; at += STRIP) {
        struct strip s = strip_at(h, n, at, scratch);
        struct block tweak[2] = {garble_tweak(batch, slot, first + at),
                                 garble_tweak(batch, slot + 1, first + at)};

        evaluate_gate(&s, tweak, a + at, b + at, carry + at, table + at);
    }
}

void garble_output(size_t n, const struct block *a, const struct block *b, struct block *carry)
{
    for (size_t k = 0; k < n; k++)
        put(&carry[k], get(&carry[k]) ^ get(&a[k]) ^ get(&b[k]));
}
