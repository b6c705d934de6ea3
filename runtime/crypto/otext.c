/*
 * SoftSpoken OT extension with k = 4 (L. Roy, "SoftSpokenOT: Communication-Computation Tradeoffs in
 * OT Extension", CRYPTO 2022), semi-honest: no consistency check. Two steps there: small-field VOLE
 * from puncturable PRFs, then a repetition code over the 32 of them.
 *
 * Set-up. delta = 32 digits D_j of 4 bits. Tree j of the receiver has 16 leaves: a seed's children
 * are the halves of its stream. The sender learns every leaf of tree j except number D_j:
 *
 *     level d = 0 ... 3     S_side = xor of all children on that side of the level; the path to the
 *                           leaf D_j takes side c = bit 3-d of D_j
 *     base OT 4j + 3 - d    the sender chooses c, gets key_c of (key_0, key_1)
 *     receiver -> sender    S_0 ^ key_1, S_1 ^ key_0: opens S_(1-c), hence the path's sibling
 *
 * Transfers. With streams G of the leaves, as bits, for each transfer:
 *
 *     receiver   u_j = xor over x of G(leaf x)    v_j = xor over x of x * G(leaf x), 4 bit planes
 *     sender     w_j = xor over x of (D_j ^ x) * G(leaf x) = D_j * u_j ^ v_j; leaf D_j counts 0 times
 *     receiver   sends c_j = u_j ^ b for all j, where b are its bits; for random bits b = u_0, and
 *                c_0 = 0 is not sent
 *     sender     w_j ^ D_j * c_j = v_j ^ D_j * b
 *
 * Planes 4j ... 4j+3 of all j, transposed, are rows with q = t ^ b * delta. The c_j reveal nothing:
 * every u_j contains the stream of a leaf that the sender lacks.
 *
 * The sender keeps leaf D_j ^ y at place y, so that no address depends on delta later on; set-up
 * computes with all places under masks. A message is the planes c_j of up to CHUNK transfers as
 * packed by bits.h; chunks follow one another.
 */
#include "runtime/crypto/otext.h"

#include <string.h>

#include "runtime/crypto/baseot.h"
#include "runtime/ring/bits.h"

#define DIGIT 4 /* k */
#define LEAVES (1 << DIGIT)
#define TREES 32
#define BASE_OTS (TREES * DIGIT) /* also bits of delta */
#define CHUNK ((size_t)32768)    /* transfers in flight; a multiple of 128 */
#define PLANE (CHUNK / 8 + 64)   /* bytes of a plane; odd multiples of 64 spread over the cache */

struct work { /* planes of one chunk */
    uint8_t leaf[LEAVES][PLANE], plane[BASE_OTS][PLANE], mask[TREES][PLANE];
    uint8_t packed[TREES * PLANE];
    struct block row[128];
    enum cpu_path path;
};
struct otext_sender {
    struct block delta;
    struct prg *leaf[TREES][LEAVES]; /* place 0 stays empty */
    struct work *work;
};
struct otext_receiver {
    struct prg *leaf[TREES][LEAVES];
    struct work *work;
};

/* ---- trees -------------------------------------------------------------------------------- */

static void xor_block(struct block *a, struct block b, uint64_t mask)
{
    a->lo ^= b.lo & mask;
    a->hi ^= b.hi & mask;
}

/* All ones if a = b, else 0; both below 2^63. */
static uint64_t equal_mask(uint64_t a, uint64_t b)
{
    return ((a ^ b) - 1) >> 63 ? UINT64_MAX : 0;
}

/* The 2 * count children of nodes [count]. */
static int expand(struct block *children, const struct block *nodes, int count)
{
    for (int i = 0; i < count; i++) {
        struct prg *p = NULL;

        TRY(prg_new((const uint8_t *)&nodes[i], &p));
        prg_bytes(p, &children[2 * i], 2 * sizeof *children);
        prg_free(p);
    }
    return 0;
}

/* A whole tree from a random root; writes the message [DIGIT][2] of its levels. keys: base OTs of
 * this tree. */
static int grow(struct prg *rng, uint8_t (*keys)[2][BASEOT_KEY], struct block leaves[LEAVES],
                struct block message[DIGIT][2])
{
    struct block level[LEAVES], below[LEAVES];
    int rc = 0;

    prg_bytes(rng, level, sizeof *level);
    for (int d = 0; d < DIGIT && rc == 0; d++) {
        if ((rc = expand(below, level, 1 << d)) < 0)
            break;
        memcpy(&message[d][0], keys[DIGIT - 1 - d][1], BASEOT_KEY);
        memcpy(&message[d][1], keys[DIGIT - 1 - d][0], BASEOT_KEY);
        for (int i = 0; i < 2 << d; i++)
            xor_block(&message[d][i % 2], below[i], UINT64_MAX);
        memcpy(level, below, sizeof level);
    }
    memcpy(leaves, level, sizeof level);
    wipe(level, sizeof level);
    wipe(below, sizeof below);
    return rc;
}

/* One level of a tree with a hole at node `hole` of `level`: its children become those of level,
 * with the hole at 2 * hole + side. opened: xor of all children on the other side. */
static void fill_level(struct block *children, int count, uint64_t hole, uint64_t side,
                       struct block opened)
{
    for (int i = 0; i < 2 * count; i++) {
        uint64_t known = ~equal_mask((uint64_t)i / 2, hole);

        children[i].lo &= known;
        children[i].hi &= known;
        xor_block(&opened, children[i], known & ~equal_mask((uint64_t)i % 2, side));
    }
    for (int i = 0; i < 2 * count; i++)
        xor_block(&children[i], opened, equal_mask((uint64_t)i, 2 * hole + 1 - side));
}

/* All leaves but number `digit`, leaf digit ^ y at place y; place 0 is worthless. */
static int regrow(uint64_t digit, uint8_t (*keys)[BASEOT_KEY], struct block message[DIGIT][2],
                  struct block places[LEAVES])
{
    struct block level[LEAVES] = {{0}}, below[LEAVES];
    int rc = 0;

    for (int d = 0; d < DIGIT; d++) {
        uint64_t side = digit >> (DIGIT - 1 - d) & 1, mask = (uint64_t)0 - side;
        struct block opened;

        if ((rc = expand(below, level, 1 << d)) < 0)
            break;
        memcpy(&opened, keys[DIGIT - 1 - d], sizeof opened);
        xor_block(&opened, message[d][0], mask);
        xor_block(&opened, message[d][1], ~mask);
        fill_level(below, 1 << d, digit >> (DIGIT - d), side, opened);
        memcpy(level, below, sizeof level);
        wipe(&opened, sizeof opened);
    }
    memset(places, 0, LEAVES * sizeof *places);
    for (uint64_t y = 0; y < LEAVES; y++)
        for (uint64_t x = 0; x < LEAVES; x++)
            xor_block(&places[y], level[x], equal_mask(x, digit ^ y));
    wipe(level, sizeof level);
    wipe(below, sizeof below);
    return rc;
}

static int open_streams(struct prg *stream[LEAVES], const struct block seed[LEAVES], int from)
{
    for (int x = from; x < LEAVES; x++)
        TRY(prg_new((const uint8_t *)&seed[x], &stream[x]));
    return 0;
}

static void close_streams(struct prg *stream[TREES][LEAVES])
{
    for (int j = 0; j < TREES; j++)
        for (int x = 0; x < LEAVES; x++)
            prg_free(stream[j][x]);
}

/* ---- set-up ------------------------------------------------------------------------------- */

/* What lives during set-up only. */
struct setup {
    uint8_t both[BASE_OTS][2][BASEOT_KEY], mine[BASE_OTS][BASEOT_KEY], choice[BASE_OTS];
    struct block leaves[LEAVES], message[TREES][DIGIT][2];
};

uint64_t otext_setup_bytes(int from_sender)
{
    return baseot_bytes(BASE_OTS, !from_sender) +
           (from_sender ? 0 : sizeof((struct setup *)0)->message);
}

static uint64_t delta_bit(struct block delta, int i)
{
    return (i < 64 ? delta.lo >> i : delta.hi >> (i - 64)) & 1;
}

static void draw_delta(struct otext_sender *s, struct prg *rng, uint8_t choice[BASE_OTS])
{
    prg_bytes(rng, &s->delta, sizeof s->delta);
    s->delta.lo |= 1;
    for (int i = 0; i < BASE_OTS; i++)
        choice[i] = (uint8_t)delta_bit(s->delta, i);
}

static uint64_t digit_of(struct block delta, int tree)
{
    uint64_t half = tree < TREES / 2 ? delta.lo : delta.hi;

    return half >> DIGIT * (tree % (TREES / 2)) & (LEAVES - 1);
}

int otext_sender_new(struct transport *t, struct prg *rng, struct otext_sender **out)
{
    struct otext_sender *s = secret_array(1, sizeof *s);
    struct setup *w = secret_array(1, sizeof *w);
    int rc = ERR_NOMEM;

    if (s == NULL || w == NULL || (s->work = secret_array(1, sizeof *s->work)) == NULL)
        goto out;
    s->work->path = cpu_best_path();
    draw_delta(s, rng, w->choice);
    if ((rc = baseot_receive(t, rng, BASE_OTS, w->choice, w->mine)) < 0 ||
        (rc = transport_recv(t, w->message, sizeof w->message)) < 0)
        goto out;
    for (int j = 0; j < TREES; j++)
        if ((rc = regrow(digit_of(s->delta, j), &w->mine[DIGIT * j], w->message[j], w->leaves)) <
                0 ||
            (rc = open_streams(s->leaf[j], w->leaves, 1)) < 0)
            goto out;
    *out = s;
    s = NULL;
out:
    otext_sender_free(s);
    secret_free(w);
    return rc;
}

int otext_receiver_new(struct transport *t, struct prg *rng, struct otext_receiver **out)
{
    struct otext_receiver *r = secret_array(1, sizeof *r);
    struct setup *w = secret_array(1, sizeof *w);
    int rc = ERR_NOMEM;

    if (r == NULL || w == NULL || (r->work = secret_array(1, sizeof *r->work)) == NULL)
        goto out;
    r->work->path = cpu_best_path();
    if ((rc = baseot_send(t, rng, BASE_OTS, w->both)) < 0)
        goto out;
    for (int j = 0; j < TREES; j++)
        if ((rc = grow(rng, &w->both[DIGIT * j], w->leaves, w->message[j])) < 0 ||
            (rc = open_streams(r->leaf[j], w->leaves, 0)) < 0)
            goto out;
    if ((rc = transport_send(t, w->message, sizeof w->message)) < 0 ||
        (rc = transport_flush(t)) < 0)
        goto out;
    *out = r;
    r = NULL;
out:
    otext_receiver_free(r);
    secret_free(w);
    return rc;
}

void otext_sender_free(struct otext_sender *s)
{
    if (s == NULL)
        return;
    close_streams(s->leaf);
    secret_free(s->work);
    secret_free(s);
}

void otext_receiver_free(struct otext_receiver *r)
{
    if (r == NULL)
        return;
    close_streams(r->leaf);
    secret_free(r->work);
    secret_free(r);
}

struct block otext_delta(const struct otext_sender *s)
{
    return s->delta;
}

/* ---- transfers ---------------------------------------------------------------------------- */

uint64_t otext_bytes(size_t n, int chosen)
{
    return bits_packed_size(TREES - !chosen, n); /* chunks end at whole bytes */
}

/* Bytes of a plane of n transfers, to whole rows of 128. */
static size_t plane_bytes(size_t n)
{
    return (n + 127) / 128 * 16;
}

/* Draws the streams of all trees for n transfers. */
static void draw(struct work *w, struct prg *stream[TREES][LEAVES], size_t n)
{
    size_t bytes = plane_bytes(n);

    for (int j = 0; j < TREES; j++) {
        for (int x = 0; x < LEAVES; x++)
            if (stream[j][x] != NULL)
                prg_bytes(stream[j][x], w->leaf[x], bytes);
        bits_weigh(w->path, w->mask[j], w->plane[DIGIT * j], w->leaf[0], PLANE, bytes);
    }
}

static void rows_out(struct work *w, size_t n, struct block *rows)
{
    size_t whole = n / 128 * 128;

    bits_transpose(w->path, rows, w->plane[0], PLANE, whole);
    if (n > whole) {
        bits_transpose(w->path, w->row, w->plane[0] + whole / 8, PLANE, 128);
        memcpy(rows + whole, w->row, (n - whole) * sizeof *rows);
    }
}

static void expand_chunk(struct otext_sender *s, const uint8_t *message, size_t n, int chosen,
                         struct block *q)
{
    struct work *w = s->work;
    size_t bytes = plane_bytes(n), first = chosen ? 0 : 1;

    draw(w, s->leaf, n);
    memset(w->mask[0], 0, bytes);
    bits_unpack(w->mask[first], PLANE, TREES - first, n, message);
    for (int i = 0; i < BASE_OTS; i++)
        bits_add_masked(w->path, w->plane[i], w->mask[i / DIGIT], 0 - delta_bit(s->delta, i),
                        bytes);
    rows_out(w, n, q);
}

/* b: the receiver's bits, whole rows of 128. */
static int receive_chunk(struct otext_receiver *r, struct transport *t, size_t n, int chosen,
                         const uint8_t *b, struct block *rows)
{
    struct work *w = r->work;
    size_t bytes = plane_bytes(n), first = chosen ? 0 : 1;

    for (size_t j = first; j < TREES; j++)
        bits_add_masked(w->path, w->mask[j], b, UINT64_MAX, bytes);
    bits_pack(w->packed, w->mask[first], PLANE, TREES - first, n);
    TRY(transport_send(t, w->packed, bits_packed_size(TREES - first, n)));
    rows_out(w, n, rows);
    return 0;
}

void otext_expand(struct otext_sender *s, const uint8_t *message, size_t n, int chosen,
                  struct block *q)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        expand_chunk(s, message, piece, chosen, q + at);
        message += otext_bytes(piece, chosen);
    }
}

int otext_send(struct otext_sender *s, struct transport *t, size_t n, int chosen, struct block *q)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        TRY(transport_recv(t, s->work->packed, otext_bytes(piece, chosen)));
        expand_chunk(s, s->work->packed, piece, chosen, q + at);
    }
    return 0;
}

int otext_receive_chosen(struct otext_receiver *r, struct transport *t, size_t n,
                         const uint64_t *bits, struct block *rows)
{
    uint8_t *b = r->work->leaf[0]; /* free again once the streams are combined */

    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        draw(r->work, r->leaf, piece);
        memset(b, 0, plane_bytes(piece));
        memcpy(b, bits + at / 64, (piece + 63) / 64 * 8);
        TRY(receive_chunk(r, t, piece, 1, b, rows + at));
    }
    return 0;
}

int otext_receive_random(struct otext_receiver *r, struct transport *t, size_t n, uint64_t *bits,
                         struct block *rows)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        draw(r->work, r->leaf, piece);
        memcpy(bits + at / 64, r->work->mask[0], (piece + 63) / 64 * 8);
        if (piece % 64 != 0)
            bits[(at + piece) / 64] &= ((uint64_t)1 << piece % 64) - 1;
        TRY(receive_chunk(r, t, piece, 0, r->work->mask[0], rows + at));
    }
    return 0;
}
