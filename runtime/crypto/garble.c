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
 *
 * Pairs (garble.h). With v = (b0, b1), W_v = W_00 ^ b0 sigma(D) ^ b1 D, and L0 under v is l0 ^ b0 D. The colour of a
 * word is two bits, the lowest of lo and of hi; those of D are (1, h), those of sigma(D) (1 ^ h, 1), which are
 * independent for either h, so the four words have the four colours. Row c:
 *
 *     T_c = H(W_v, j) ^ l0 ^ b0 D     for the v whose word has colour c
 *
 * and T_0 = 0 makes l0, so that three rows are sent. The evaluator finds L0 = H(W, j) ^ T_c and L1 = W ^ sigma(L0): the
 * zero label of the second bit is W_00 ^ sigma(l0), whatever b0 is. The other words differ from the one it
 * holds by D, sigma(D) and D ^ sigma(D), all one to one in D (sigma and 1 ^ sigma are invertible): the hash has to
 * hide D for these three offsets as half-gates need it for D. hash_blocks does, P(P(x) ^ j) ^ P(x). A hash
 * that applies a sigma of its own before P, as permutation_hash does, would not: sigma^3 = 1, so an offset could
 * cancel the D of a row.
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

/* ---- pairs -------------------------------------------------------------------------------- */

static inline label sigma(label x)
{
    const label none = {0, 0};

    return __builtin_shufflevector(x, x, 1, 0) ^ __builtin_shufflevector(x, none, 0, 2);
}

/* All ones if the colour of a word is c. */
static inline label has_colour(label word, uint64_t c)
{
    uint64_t other = ((word[0] & 1) | (word[1] & 1) << 1) ^ c; /* below 4 */
    uint64_t mask = (uint64_t)0 - (((other | other >> 1) & 1) ^ 1);

    return (label){mask, mask};
}

/* One strip: x [v][n] gets the words, then what row c has to hide. */
static void garble_pairs(const struct strip *s, struct block tweak, struct block *a,
                         struct block *table)
{
    const size_t n = s->n;
    const label d = get(&s->delta), none = {0, 0};
    const label offset[4] = {none, sigma(d), d, sigma(d) ^ d}; /* v = b0 | b1 << 1 */

    for (size_t v = 0; v < 4; v++) {
        for (size_t k = 0; k < n; k++)
            put(&s->x[v * n + k], get(&a[s->stride + k]) ^ offset[v]);
        hash_blocks(s->h, s->x + v * n, s->x + v * n, n, tweak);
    }
    for (size_t k = 0; k < n; k++) {
        label word = get(&a[s->stride + k]), row[4] = {none, none, none, none};

        for (size_t v = 0; v < 4; v++) {
            label hidden = get(&s->x[v * n + k]) ^ (v & 1 ? d : none);
            for (size_t c = 0; c < 4; c++)
                row[c] ^= hidden & has_colour(word ^ offset[v], c);
        }
        for (size_t c = 1; c < 4; c++)
            put(&table[(c - 1) * s->stride + k], row[c] ^ row[0]);
        put(&a[k], row[0]);
        put(&a[s->stride + k], word ^ sigma(row[0]));
    }
}

void garble_pair(struct hasher *h, size_t n, int pair, struct block delta, uint64_t batch,
                 uint64_t first, struct block *a, struct block *table, struct block *scratch)
{
    for (size_t at = 0; at < n; at += STRIP) {
        struct strip s = strip_at(h, n, at, scratch);

        s.delta = delta;
        garble_pairs(&s, garble_tweak(batch, GARBLE_SLOT_PAIR + (uint64_t)pair, first + at), a + at,
                     table + at);
    }
}

void garble_pair_word(struct block *word, uint64_t bits, struct block delta)
{
    const label d = get(&delta);
    uint64_t low = (uint64_t)0 - (bits & 1), high = (uint64_t)0 - (bits >> 1 & 1);

    put(word, get(word) ^ (sigma(d) & (label){low, low}) ^ (d & (label){high, high}));
}

void garble_open_pair(struct hasher *h, size_t n, int pair, uint64_t batch, uint64_t first,
                      struct block *a, const struct block *table, struct block *scratch)
{
    for (size_t at = 0; at < n; at += STRIP) {
        struct strip s = strip_at(h, n, at, scratch);
        struct block tweak = garble_tweak(batch, GARBLE_SLOT_PAIR + (uint64_t)pair, first + at);

        hash_blocks(h, s.x, a + n + at, s.n, tweak);
        for (size_t k = 0; k < s.n; k++) {
            label word = get(&a[n + at + k]), low = get(&s.x[k]);

            for (size_t c = 1; c < 4; c++)
                low ^= get(&table[(c - 1) * n + at + k]) & has_colour(word, c);
            put(&a[at + k], low);
            put(&a[n + at + k], word ^ sigma(low));
        }
    }
}

void garble_output(size_t n, const struct block *a, const struct block *b, struct block *carry)
{
    for (size_t k = 0; k < n; k++)
        put(&carry[k], get(&carry[k]) ^ get(&a[k]) ^ get(&b[k]));
}
