/*
 * The tree of "less than" (andtree.h). One AND of shared bits x, y with a triple (D. Beaver,
 * "Efficient Multiparty Protocols Using Circuit Randomization", CRYPTO 1991):
 *
 *     both open d = x ^ a, e = y ^ b;   x & y = c ^ (d & b) ^ (e & a) ^ (d & e), the last by one party
 *
 * A level's ANDs: for pair i the one of lt, then (not for pair 0) the one of eq. Its message: rows
 * d, e of every AND in that order, packed (bits.h).
 *
 * Turns. A party may open level l once level l-1 is closed, and close it once the peer's bits of l
 * are there. So with levels 0, 1, ...: server 0, client 0 and 1, server 1 and 2, client 2 and 3, ...
 */
#include "runtime/relu/andtree.h"

#include <string.h>

#include "runtime/ring/bits.h"

static int groups_at(int digits, int level)
{
    for (int l = 0; l < level; l++)
        digits = (digits + 1) / 2;
    return digits;
}

int andtree_levels(int digits)
{
    int levels = 0;

    while (groups_at(digits, levels) > 1)
        levels++;
    return levels;
}

int andtree_level_ands(int digits, int level)
{
    return groups_at(digits, level) / 2 * 2 - 1;
}

int andtree_ands(int digits)
{
    return 2 * (digits - 1) - andtree_levels(digits);
}

static size_t level_bytes(int digits, int level, size_t n)
{
    return bits_packed_size(2 * (size_t)andtree_level_ands(digits, level), n);
}

uint64_t andtree_bytes(int digits, size_t n)
{
    uint64_t sum = 0;

    for (int l = 0; l < andtree_levels(digits); l++)
        sum += level_bytes(digits, l, n);
    return sum;
}

/* ---- levels ------------------------------------------------------------------------------- */

struct run {
    struct andtree *tree;
    struct transport *t;
    size_t words;           /* of a row */
    const uint64_t *triple; /* of the level to close next */
    uint64_t *mine, *theirs[2];
    uint8_t *packed;
};

/* Rows x and y of AND number k of a level. */
static void operands(const struct run *r, size_t k, const uint64_t **x, const uint64_t **y)
{
    size_t pair = (k + 1) / 2, lo = 2 * pair, hi = lo + 1;
    int is_lt = k == 0 || k % 2 == 1;

    *x = r->tree->eq + hi * r->words;
    *y = (is_lt ? r->tree->lt : r->tree->eq) + lo * r->words;
}

static int open_level(struct run *r, int level)
{
    size_t ands = (size_t)andtree_level_ands(r->tree->digits, level), w = r->words;

    for (size_t k = 0; k < ands; k++) {
        const uint64_t *x, *y, *a = r->triple + 3 * k * w, *b = a + w;
        uint64_t *d = r->mine + 2 * k * w, *e = d + w;

        operands(r, k, &x, &y);
        for (size_t i = 0; i < w; i++) {
            d[i] = x[i] ^ a[i];
            e[i] = y[i] ^ b[i];
        }
    }
    bits_pack(r->packed, (uint8_t *)r->mine, w * 8, 2 * ands, r->tree->n);
    return transport_send(r->t, r->packed, level_bytes(r->tree->digits, level, r->tree->n));
}

static int receive_level(struct run *r, int level)
{
    size_t ands = (size_t)andtree_level_ands(r->tree->digits, level);

    TRY(transport_recv(r->t, r->packed, level_bytes(r->tree->digits, level, r->tree->n)));
    bits_unpack((uint8_t *)r->theirs[level % 2], r->words * 8, 2 * ands, r->tree->n, r->packed);
    return 0;
}

/* to = x & y of AND number k; x and y are not needed any more. */
static void finish_and(const struct run *r, const uint64_t *theirs, size_t k, uint64_t *to)
{
    const size_t w = r->words;
    const uint64_t *a = r->triple + 3 * k * w, *b = a + w, *c = b + w;
    uint64_t once = r->tree->is_client ? 0 : UINT64_MAX;

    for (size_t i = 0; i < w; i++) {
        uint64_t d = r->mine[2 * k * w + i] ^ theirs[2 * k * w + i];
        uint64_t e = r->mine[(2 * k + 1) * w + i] ^ theirs[(2 * k + 1) * w + i];

        to[i] = c[i] ^ (d & b[i]) ^ (e & a[i]) ^ (d & e & once);
    }
}

static void close_level(struct run *r, int level)
{
    size_t groups = (size_t)groups_at(r->tree->digits, level), w = r->words, k = 0;
    uint64_t *lt = r->tree->lt, *eq = r->tree->eq, *theirs = r->theirs[level % 2];

    for (size_t pair = 0; pair < groups / 2; pair++) {
        uint64_t *to = lt + pair * w, *hi = lt + (2 * pair + 1) * w;

        finish_and(r, theirs, k++, lt + 2 * pair * w);
        for (size_t i = 0; i < w; i++)
            to[i] = lt[2 * pair * w + i] ^ hi[i];
        if (pair > 0)
            finish_and(r, theirs, k++, eq + pair * w);
    }
    if (groups % 2 == 1) {
        memmove(lt + groups / 2 * w, lt + (groups - 1) * w, w * 8);
        memmove(eq + groups / 2 * w, eq + (groups - 1) * w, w * 8);
    }
    r->triple += 3 * k * w;
}

static int take_turns(struct run *r)
{
    int levels = andtree_levels(r->tree->digits), sent = 0, got = 0, closed = 0;

    if (!r->tree->is_client && levels > 0)
        TRY(open_level(r, sent++));
    while (closed < levels) {
        int upto = sent + 1 < levels ? sent + 1 : levels;

        for (; got < upto; got++)
            TRY(receive_level(r, got));
        for (; closed < got; closed++) {
            if (sent == closed)
                TRY(open_level(r, sent++));
            close_level(r, closed);
        }
        if (sent == closed && sent < levels)
            TRY(open_level(r, sent++));
    }
    return 0;
}

int andtree_run(struct andtree *tree, struct transport *t)
{
    size_t words = bits_words(tree->n), most = 2 * (size_t)tree->digits; /* rows of a level */
    SECRET uint64_t *memory = secret_array(4 * most * words, sizeof *memory);

    if (memory == NULL)
        return ERR_NOMEM;
    struct run r = {.tree = tree, .t = t, .words = words, .triple = tree->triple};
    r.mine = memory;
    r.theirs[0] = r.mine + most * words;
    r.theirs[1] = r.theirs[0] + most * words;
    r.packed = (uint8_t *)(r.theirs[1] + most * words);
    return take_turns(&r);
}
