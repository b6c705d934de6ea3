/*
 * Small-field VOLE (Roy, SoftSpokenOT, CRYPTO 2022, section 3) over Z_2^104 with sums in place of exclusive
 * or (vole.h). alpha = 5 digits D_j of 8 bits. For each of them the prover grows a tree of 256 leaves,
 * of which the verifier learns all but leaf D_j. With the leaves' streams G_x as words mod 2^104:
 *
 *     prover     U_j = sum of G_x      V_j = sum of x G_x       sends c_j = U_j - w
 *     verifier   W_j = sum of (x - D_j) G_x = V_j - D_j U_j     leaf D_j counts 0 times
 *     both       V_j = (W_j + D_j c_j) + D_j w
 *
 * so t = sum of 256^j V_j and k = sum of 256^j (W_j + D_j c_j). c_j says nothing about w: U_j contains
 * the stream of a leaf that the verifier lacks.
 *
 * Trees. A node's children are the first 32 bytes of its stream, a leaf is the seed of its own. At each
 * level the prover sends the exclusive or of all left children under the key for choice 1 and that of all right
 * ones under the key for choice 0: the verifier, whose path takes the side that its choice bit says, opens
 * the other side's sum, hence the path's sibling (level d of tree j: transfer 8 j + 7 - d). Places in
 * memory that the verifier touches do not depend on alpha: the hole is filled with what the level gave, and
 * its stream drops out of W_j.
 *
 * Words are worked on PIECE at a time; a leaf gives 16 bytes a word, of which 104 bits count.
 */
#include "runtime/crypto/vole.h"

#include <string.h>

#include "core/base/mem.h"

#define DEPTH 8
#define LEAVES (1 << DEPTH)
#define TREES (VOLE_ALPHA / DEPTH)
#define PIECE ((size_t)256)
_Static_assert(TREES *VOLE_BYTES == VOLE_WORD_BYTES, "a correction a tree");
_Static_assert(TREES *DEPTH * 2 * sizeof(struct block) == VOLE_SETUP_BYTES, "two sums a level");

struct work { /* of one piece */
    vole_word stream[PIECE], sum[PIECE], weighed[PIECE];
    uint8_t packed[TREES][PIECE * VOLE_BYTES];
};
struct trees {
    struct prg *leaf[TREES][LEAVES];
    struct work *work;
};
struct vole_prover {
    struct trees trees;
};
struct vole_verifier {
    struct trees trees;
    uint64_t alpha;
};

/* ---- bytes -------------------------------------------------------------------------------- */

void vole_pack(uint8_t *bytes, const vole_word *w, size_t n)
{
    for (size_t i = 0; i < n; i++, bytes += VOLE_BYTES)
        for (int b = 0; b < VOLE_BYTES; b++)
            bytes[b] = (uint8_t)(w[i] >> 8 * b);
}

void vole_unpack(vole_word *w, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++, bytes += VOLE_BYTES) {
        w[i] = 0;
        for (int b = 0; b < VOLE_BYTES; b++)
            w[i] |= (vole_word)bytes[b] << 8 * b;
    }
}

/* ---- trees -------------------------------------------------------------------------------- */

/* The 2 * count children of nodes [count], in place. */
static void expand(struct prg *stream, struct block *nodes, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        const struct block node = nodes[i];

        prg_restart(stream, (const uint8_t *)&node);
        prg_bytes(stream, &nodes[2 * i], 2 * sizeof *nodes);
    }
}

/* The prover's tree; message: the masked sums of its levels. */
static void grow(struct prg *stream, struct block keys[][2], struct block level[LEAVES],
                 struct block message[DEPTH][2])
{
    for (int d = 0; d < DEPTH; d++) {
        expand(stream, level, 1 << d);
        message[d][0] = keys[DEPTH - 1 - d][1];
        message[d][1] = keys[DEPTH - 1 - d][0];
        for (int i = 0; i < 2 << d; i++)
            block_add(&message[d][i % 2], level[i], UINT64_MAX);
    }
}

/* The verifier's: right but for the leaf `digit`. */
static void regrow(struct prg *stream, const struct block *keys, uint64_t digit,
                   struct block level[LEAVES], struct block message[DEPTH][2])
{
    for (int d = 0; d < DEPTH; d++) {
        uint64_t side = digit >> (DEPTH - 1 - d) & 1, mask = (uint64_t)0 - side;
        uint64_t hole = digit >> (DEPTH - d);
        struct block opened = keys[DEPTH - 1 - d];

        expand(stream, level, 1 << d);
        block_add(&opened, message[d][0], mask);
        block_add(&opened, message[d][1], ~mask);
        for (int i = 0; i < 2 << d; i++)
            block_add(&opened, level[i],
                      ~equal_mask((uint64_t)i / 2, hole) & ~equal_mask((uint64_t)i % 2, side));
        for (int i = 0; i < 2 << d; i++) {
            uint64_t here = equal_mask((uint64_t)i, 2 * hole + 1 - side);
            level[i].lo = (level[i].lo & ~here) | (opened.lo & here);
            level[i].hi = (level[i].hi & ~here) | (opened.hi & here);
        }
        wipe(&opened, sizeof opened);
    }
}

static int open_leaves(struct prg *leaf[LEAVES], const struct block seed[LEAVES])
{
    for (int x = 0; x < LEAVES; x++)
        TRY(prg_new((const uint8_t *)&seed[x], &leaf[x]));
    return 0;
}

static void release(struct trees *y)
{
    for (int j = 0; j < TREES; j++)
        for (int x = 0; x < LEAVES; x++)
            prg_free(y->leaf[j][x]);
    secret_free(y->work);
}

void vole_prover_free(struct vole_prover *p)
{
    if (p != NULL)
        release(&p->trees);
    secret_free(p);
}

void vole_verifier_free(struct vole_verifier *v)
{
    if (v != NULL)
        release(&v->trees);
    secret_free(v);
}

uint64_t vole_alpha(const struct vole_verifier *v)
{
    return v->alpha;
}

/* ---- set-up ------------------------------------------------------------------------------- */

struct setup {
    struct block level[LEAVES], message[TREES][DEPTH][2];
};

static int make_trees(struct trees *y, struct prg *rng, struct block keys[VOLE_ALPHA][2],
                      struct prg *stream, struct setup *s)
{
    for (int j = 0; j < TREES; j++) {
        prg_bytes(rng, s->level, sizeof *s->level);
        grow(stream, &keys[DEPTH * j], s->level, s->message[j]);
        TRY(open_leaves(y->leaf[j], s->level));
    }
    return 0;
}

/* What both set-ups need; a stream that takes any seed. */
static int take_memory(struct trees *y, struct setup **s, struct prg **stream)
{
    static const uint8_t none[PRG_SEED];

    y->work = secret_array(1, sizeof *y->work);
    *s = secret_array(1, sizeof **s);
    if (y->work == NULL || *s == NULL)
        return ERR_NOMEM;
    return prg_new(none, stream);
}

int vole_prover_new(struct transport *t, struct prg *rng, struct block keys[VOLE_ALPHA][2],
                    struct vole_prover **out)
{
    SCOPED(vole_prover_free_at) struct vole_prover *p = secret_array(1, sizeof *p);
    SCOPED(prg_free_at) struct prg *stream = NULL;
    SECRET struct setup *s = NULL;

    if (p == NULL)
        return ERR_NOMEM;
    TRY(take_memory(&p->trees, &s, &stream));
    TRY(make_trees(&p->trees, rng, keys, stream, s));
    TRY(transport_send(t, s->message, sizeof s->message));
    TRY(transport_flush(t));
    *out = mem_hand_on(&p);
    return 0;
}

static uint64_t digit_of(uint64_t alpha, int tree)
{
    return alpha >> DEPTH * tree & (LEAVES - 1);
}

static int take_trees(struct vole_verifier *v, const struct block keys[VOLE_ALPHA],
                      struct prg *stream, struct setup *s)
{
    for (int j = 0; j < TREES; j++) {
        memset(s->level, 0, sizeof *s->level);
        regrow(stream, &keys[DEPTH * j], digit_of(v->alpha, j), s->level, s->message[j]);
        TRY(open_leaves(v->trees.leaf[j], s->level));
    }
    return 0;
}

int vole_verifier_new(struct transport *t, uint64_t alpha, const struct block keys[VOLE_ALPHA],
                      struct vole_verifier **out)
{
    SCOPED(vole_verifier_free_at) struct vole_verifier *v = secret_array(1, sizeof *v);
    SCOPED(prg_free_at) struct prg *stream = NULL;
    SECRET struct setup *s = NULL;

    if (v == NULL)
        return ERR_NOMEM;
    v->alpha = alpha & ((UINT64_C(1) << VOLE_ALPHA) - 1);
    TRY(take_memory(&v->trees, &s, &stream));
    TRY(transport_recv(t, s->message, sizeof s->message));
    TRY(take_trees(v, keys, stream, s));
    *out = mem_hand_on(&v);
    return 0;
}

/* ---- words -------------------------------------------------------------------------------- */

/* sum = sum of G_x, weighed = sum of x G_x, of n words: from the last leaf down, so that each one is
 * counted once more with every leaf that follows. Not reduced. */
static void add_leaves(struct work *w, struct prg *const leaf[LEAVES], size_t n)
{
    memset(w->sum, 0, n * sizeof *w->sum);
    memset(w->weighed, 0, n * sizeof *w->weighed);
    for (int x = LEAVES - 1; x >= 0; x--) {
        prg_bytes(leaf[x], w->stream, n * sizeof *w->stream);
        for (size_t i = 0; i < n; i++)
            w->sum[i] += w->stream[i];
        for (size_t i = 0; x > 0 && i < n; i++)
            w->weighed[i] += w->sum[i];
    }
}

static int give_piece(struct vole_prover *p, struct transport *t, size_t n, const vole_word *w,
                      vole_word *tag)
{
    struct work *k = p->trees.work;

    memset(tag, 0, n * sizeof *tag);
    for (int j = 0; j < TREES; j++) {
        add_leaves(k, p->trees.leaf[j], n);
        for (size_t i = 0; i < n; i++) {
            tag[i] = (tag[i] + (k->weighed[i] << DEPTH * j)) & VOLE_MASK;
            k->sum[i] -= w[i];
        }
        vole_pack(k->packed[j], k->sum, n);
    }
    for (int j = 0; j < TREES; j++)
        TRY(transport_send(t, k->packed[j], n * VOLE_BYTES));
    return 0;
}

static int take_piece(struct vole_verifier *v, struct transport *t, size_t n, vole_word *key)
{
    struct work *k = v->trees.work;

    memset(key, 0, n * sizeof *key);
    for (int j = 0; j < TREES; j++) {
        const vole_word digit = digit_of(v->alpha, j);

        add_leaves(k, v->trees.leaf[j], n);
        TRY(transport_recv(t, k->packed[j], n * VOLE_BYTES));
        vole_unpack(k->stream, k->packed[j], n);
        for (size_t i = 0; i < n; i++) {
            vole_word one = k->weighed[i] + digit * (k->stream[i] - k->sum[i]);
            key[i] = (key[i] + (one << DEPTH * j)) & VOLE_MASK;
        }
    }
    return 0;
}

int vole_give(struct vole_prover *p, struct transport *t, size_t n, const vole_word *w,
              vole_word *tag)
{
    for (size_t at = 0; at < n; at += PIECE)
        TRY(give_piece(p, t, n - at < PIECE ? n - at : PIECE, w + at, tag + at));
    return 0;
}

int vole_take(struct vole_verifier *v, struct transport *t, size_t n, vole_word *k)
{
    for (size_t at = 0; at < n; at += PIECE)
        TRY(take_piece(v, t, n - at < PIECE ? n - at : PIECE, k + at));
    return 0;
}
