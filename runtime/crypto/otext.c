/*
 * SoftSpoken OT extension with k = 4 (L. Roy, "SoftSpokenOT: Communication-Computation Tradeoffs in
 * OT Extension", CRYPTO 2022, eprint 2022/192), with its two checks against a receiver that deviates.
 * Two steps there: small-field VOLE from puncturable PRFs, then a repetition code over the 32 of them.
 *
 * Set-up. delta = 32 digits D_j of 4 bits. Tree j of the receiver has 16 leaves: a seed's children
 * are the halves of its stream. The sender learns every leaf of tree j except number D_j:
 *
 *     level d = 0 ... 3     S_side = xor of all children on that side of the level; the path to the
 *                           leaf D_j takes side c = bit 3-d of D_j
 *     base OT 4j + 3 - d    the sender chooses c, gets key_c of (key_0, key_1)
 *     receiver -> sender    S_0 ^ key_1, S_1 ^ key_0: opens S_(1-c), hence the path's sibling
 *
 * A leaf's stream begins with three blocks: the seed of the stream G that is used from here on, and two
 * check blocks. Tree check: the receiver sends, for each tree, the xor of its leaves' check blocks, and
 * one SHA-256 over all check blocks. The sender completes its own with the xor and compares the hash.
 * If the receiver sent trees that do not hang together, the leaves that the sender computes depend on
 * D_j, the hash fits one of the possibilities only (two seeds with equal check blocks, or two lists with
 * one hash, cannot be found), and going on is right with a chance of 2^-g where g bits of delta decide
 * which one. What the sender learns on top, the check blocks of the leaf it lacks, says nothing about
 * that leaf's G.
 *
 * Transfers. With the streams G as bits, for each transfer:
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
 * Consistency check. A receiver may use another b in some trees. Both sides therefore fold their planes,
 * 128 transfers at a time, in GF(2^128): bit k of a block of a plane is the coefficient of X^k. With
 * challenges chi (one a block) and psi (one a plane), hashed from all that the receiver has sent,
 *
 *     h(plane) = sum over blocks of chi_B * plane_B
 *     receiver   after 128 more random transfers: X = h(b), T = sum over p of psi_p * h(v_p)
 *     sender     sum over p of psi_p * h(w_p) = T + X * sum over p of delta_p * psi_p ?
 *
 * The 128 extra transfers, of which nothing else is used, make X uniform; T follows from it for who
 * knows delta, so that the sender learns nothing. Soundness: say tree j used b ^ e_j, with e_j fixed
 * when the challenges are drawn, and the receiver sent X = h(b) ^ D. Then the sender's equation is
 *
 *     sum over j of (h(e_j) ^ D) * (sum over the planes p of tree j of psi_p * delta_p) = T'
 *
 * with T' chosen by the receiver. Different e_j have different h(e_j), but for 2^-128: so D is right for
 * one group of trees with equal e_j, which counts as honest, and in the other ones every bit of delta
 * has a non-zero factor of its own times psi_p. As the psi are independent, these factors are linearly
 * independent over one bit but for 2^(4 g - 128), g the number of other trees: all 4 g bits of their
 * digits are decided by T'. So a deviation in g trees survives with 2^-(4 g) over delta (twice that if
 * tree 0 is among them: the lowest bit is no secret), and tells the receiver just those bits; a hash can be tried more often than once, but gains a bit only with chance
 * 2^-(128 - 4 g) a try. (Folding rows with chi_B X^k instead, without the psi, is not enough: errors of
 * different trees in neighbouring transfers then share their factor, one guess of 4 bits carries all 32
 * trees through the check, and each of these transfers tells a digit of delta. Powers of one challenge in place of
 * independent psi would do: a sum over some of the planes p of psi^p h is a polynomial of degree 128 at most in psi, which
 * is drawn after the h are fixed, so it vanishes with 2^-121 (Schwartz-Zippel) and the 4 g factors are independent but for
 * 2^(4 g - 121), also against selective failure: 7 bits for no gain here. What matters is that every plane has its own
 * factor, and every block: with powers of one chi in h the bound 2^-128 on h(e_j) = h(e_i) becomes blocks / 2^128.)
 *
 * The challenges of a chunk depend on all before it and on itself, so a chunk is folded when it is
 * there. A failed check of either kind is ERR_PEER; delta and the leaves are wiped at once.
 *
 * The sender keeps leaf D_j ^ y at place y, so that no address depends on delta later on; set-up
 * computes with all places under masks. A message is the planes c_j of up to CHUNK transfers as
 * packed by bits.h; chunks follow one another.
 */
#include "runtime/crypto/otext.h"

#include <string.h>

#include "core/base/sha256.h"
#include "runtime/crypto/baseot.h"
#include "runtime/crypto/gf128.h"
#include "runtime/ring/bits.h"

#define DIGIT 4 /* k */
#define LEAVES (1 << DIGIT)
#define TREES 32
#define BASE_OTS (TREES * DIGIT) /* also bits of delta */
#define CHUNK ((size_t)32768)    /* transfers in flight; a multiple of 128 */
#define PLANE (CHUNK / 8 + 64)   /* bytes of a plane; odd multiples of 64 spread over the cache */
#define BLOCK_BITS 128           /* transfers that one challenge folds */
#define EXTRA 128                /* transfers given up for a check */

struct work { /* planes of one chunk; what has been folded since the last check */
    uint8_t leaf[LEAVES][PLANE], plane[BASE_OTS][PLANE], mask[TREES][PLANE];
    uint8_t packed[TREES * PLANE];
    struct block row[BLOCK_BITS];
    enum cpu_path path;
    uint8_t transcript[SHA256_SIZE]; /* of all that the receiver has sent */
    struct block challenge[CHUNK / BLOCK_BITS];
    struct block folded[BASE_OTS], folded_bits; /* bits: receiver */
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
            block_add(&message[d][i % 2], below[i], UINT64_MAX);
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
        block_add(&opened, children[i], known & ~equal_mask((uint64_t)i % 2, side));
    }
    for (int i = 0; i < 2 * count; i++)
        block_add(&children[i], opened, equal_mask((uint64_t)i, 2 * hole + 1 - side));
}

/* All leaves but number `digit`, whose place holds nothing of worth. */
static int regrow(uint64_t digit, uint8_t (*keys)[BASEOT_KEY], struct block message[DIGIT][2],
                  struct block leaves[LEAVES])
{
    struct block level[LEAVES] = {{0}}, below[LEAVES];
    int rc = 0;

    for (int d = 0; d < DIGIT; d++) {
        uint64_t side = digit >> (DIGIT - 1 - d) & 1, mask = (uint64_t)0 - side;
        struct block opened;

        if ((rc = expand(below, level, 1 << d)) < 0)
            break;
        memcpy(&opened, keys[DIGIT - 1 - d], sizeof opened);
        block_add(&opened, message[d][0], mask);
        block_add(&opened, message[d][1], ~mask);
        fill_level(below, 1 << d, digit >> (DIGIT - d), side, opened);
        memcpy(level, below, sizeof level);
        wipe(&opened, sizeof opened);
    }
    memcpy(leaves, level, sizeof level);
    wipe(level, sizeof level);
    wipe(below, sizeof below);
    return rc;
}

/* Leaves become the seeds of their streams; their check blocks. */
static int split(struct block leaves[LEAVES], struct block check[LEAVES][2])
{
    for (int x = 0; x < LEAVES; x++) {
        struct prg *p = NULL;

        TRY(prg_new((const uint8_t *)&leaves[x], &p));
        prg_bytes(p, &leaves[x], sizeof leaves[x]);
        prg_bytes(p, check[x], sizeof check[x]);
        prg_free(p);
    }
    return 0;
}

static void sum_checks(struct block check[LEAVES][2], struct block sum[2])
{
    memset(sum, 0, 2 * sizeof *sum);
    for (int x = 0; x < LEAVES; x++)
        for (int i = 0; i < 2; i++)
            block_add(&sum[i], check[x][i], UINT64_MAX);
}

/* The check blocks of leaf `digit`, whatever is there, become what makes the sum right. */
static void complete_checks(uint64_t digit, const struct block sum[2],
                            struct block check[LEAVES][2])
{
    struct block missing[2];

    for (uint64_t x = 0; x < LEAVES; x++)
        for (int i = 0; i < 2; i++) {
            uint64_t known = ~equal_mask(x, digit);

            check[x][i].lo &= known;
            check[x][i].hi &= known;
        }
    sum_checks(check, missing);
    for (int i = 0; i < 2; i++)
        block_add(&missing[i], sum[i], UINT64_MAX);
    for (uint64_t x = 0; x < LEAVES; x++)
        for (int i = 0; i < 2; i++)
            block_add(&check[x][i], missing[i], equal_mask(x, digit));
}

/* Seed digit ^ y to place y. */
static void place_seeds(uint64_t digit, const struct block seeds[LEAVES],
                        struct block places[LEAVES])
{
    memset(places, 0, LEAVES * sizeof *places);
    for (uint64_t y = 0; y < LEAVES; y++)
        for (uint64_t x = 0; x < LEAVES; x++)
            block_add(&places[y], seeds[x], equal_mask(x, digit ^ y));
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

/* The receiver's messages after the base OTs. */
struct trees {
    struct block opening[TREES][DIGIT][2];
    struct block sum[TREES][2]; /* of check blocks */
    uint8_t hash[SHA256_SIZE];  /* of all check blocks */
};
_Static_assert(sizeof(struct trees) == 4096 + 1024 + 32, "sent as it lies in memory");

/* What lives during set-up only. */
struct setup {
    uint8_t both[BASE_OTS][2][BASEOT_KEY], mine[BASE_OTS][BASEOT_KEY], choice[BASE_OTS];
    struct block leaves[LEAVES], places[LEAVES], check[TREES][LEAVES][2];
    struct trees message;
};

uint64_t otext_setup_bytes(int from_sender)
{
    return baseot_bytes(BASE_OTS, !from_sender) + (from_sender ? 0 : sizeof(struct trees));
}

/* The transcript goes on with a message. */
static int absorb(uint8_t transcript[SHA256_SIZE], const void *message, size_t n)
{
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    TRY(sha256_new(&h));
    TRY(sha256_add(h, transcript, SHA256_SIZE));
    TRY(sha256_add(h, message, n));
    return sha256_end(h, transcript);
}

static int start_transcript(struct work *w, const struct trees *message)
{
    static const char name[] = "linnet ot check";

    memcpy(w->transcript, name, sizeof name);
    return absorb(w->transcript, message, sizeof *message);
}

static struct work *work_new(void)
{
    struct work *w = secret_array(1, sizeof *w);

    if (w != NULL)
        w->path = cpu_best_path();
    return w;
}

static int equal_bytes(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t diff = 0;

    for (size_t i = 0; i < n; i++)
        diff |= a[i] ^ b[i];
    return diff == 0;
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

/* Streams of all trees from what the receiver sent; *ok: its trees hang together. */
static int open_trees(struct otext_sender *s, struct setup *w, int *ok)
{
    uint8_t hash[SHA256_SIZE];

    for (int j = 0; j < TREES; j++) {
        uint64_t digit = digit_of(s->delta, j);

        TRY(regrow(digit, &w->mine[DIGIT * j], w->message.opening[j], w->leaves));
        TRY(split(w->leaves, w->check[j]));
        complete_checks(digit, w->message.sum[j], w->check[j]);
        place_seeds(digit, w->leaves, w->places);
        TRY(open_streams(s->leaf[j], w->places, 1));
    }
    TRY(sha256_bytes(w->check, sizeof w->check, hash));
    *ok = equal_bytes(hash, w->message.hash, sizeof hash);
    return 0;
}

/* A failed check of either kind: what the peer may have learned about delta is worth nothing. */
static int refuse(struct otext_sender *s, const char *what)
{
    close_streams(s->leaf);
    memset(s->leaf, 0, sizeof s->leaf);
    wipe(&s->delta, sizeof s->delta);
    return fail(ERR_PEER, "OT extension: the peer's %s fail the consistency check", what);
}

int otext_sender_new(struct transport *t, struct prg *rng, struct otext_sender **out)
{
    SCOPED(otext_sender_free_at) struct otext_sender *s = secret_array(1, sizeof *s);
    SECRET struct setup *w = secret_array(1, sizeof *w);
    int ok = 0;

    if (s == NULL || w == NULL || (s->work = work_new()) == NULL)
        return ERR_NOMEM;
    draw_delta(s, rng, w->choice);
    TRY(baseot_receive(t, rng, BASE_OTS, w->choice, w->mine));
    TRY(transport_recv(t, &w->message, sizeof w->message));
    TRY(start_transcript(s->work, &w->message));
    TRY(open_trees(s, w, &ok));
    if (!ok)
        return refuse(s, "trees");
    *out = mem_hand_on(&s);
    return 0;
}

/* The receiver's trees and its message about them. */
static int make_trees(struct otext_receiver *r, struct prg *rng, struct setup *w)
{
    for (int j = 0; j < TREES; j++) {
        TRY(grow(rng, &w->both[DIGIT * j], w->leaves, w->message.opening[j]));
        TRY(split(w->leaves, w->check[j]));
        sum_checks(w->check[j], w->message.sum[j]);
        TRY(open_streams(r->leaf[j], w->leaves, 0));
    }
    return sha256_bytes(w->check, sizeof w->check, w->message.hash);
}

int otext_receiver_new(struct transport *t, struct prg *rng, struct otext_receiver **out)
{
    SCOPED(otext_receiver_free_at) struct otext_receiver *r = secret_array(1, sizeof *r);
    SECRET struct setup *w = secret_array(1, sizeof *w);

    if (r == NULL || w == NULL || (r->work = work_new()) == NULL)
        return ERR_NOMEM;
    TRY(baseot_send(t, rng, BASE_OTS, w->both));
    TRY(make_trees(r, rng, w));
    TRY(transport_send(t, &w->message, sizeof w->message));
    TRY(transport_flush(t));
    TRY(start_transcript(r->work, &w->message));
    *out = mem_hand_on(&r);
    return 0;
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

/* *to += h(plane), of `blocks` blocks. */
static void fold(const struct work *w, const uint8_t *plane, size_t blocks, struct block *to)
{
    block_add(to, gf128_dot(w->path, w->challenge, (const void *)plane, blocks), UINT64_MAX);
}

/* Bits beyond n, up to whole blocks, become 0: both sides must fold the same. */
static void clip(uint8_t *plane, size_t n)
{
    size_t whole = n / 8;

    if (n % BLOCK_BITS == 0)
        return;
    plane[whole] &= (uint8_t)((1 << n % 8) - 1);
    memset(plane + whole + 1, 0, plane_bytes(n) - whole - 1);
}

/* n challenges that follow from the transcript. */
static int challenges(const struct work *w, struct block *out, size_t n)
{
    SCOPED(prg_free_at) struct prg *p = NULL;

    TRY(prg_new(w->transcript, &p));
    prg_bytes(p, out, n * sizeof *out);
    return 0;
}

/* Folds the planes of n transfers with challenges that depend on their message. */
static int fold_planes(struct work *w, size_t n, const uint8_t *message, size_t bytes)
{
    size_t blocks = plane_bytes(n) / sizeof(struct block);

    TRY(absorb(w->transcript, message, bytes));
    TRY(challenges(w, w->challenge, blocks));
    for (int i = 0; i < BASE_OTS; i++) {
        clip(w->plane[i], n);
        fold(w, w->plane[i], blocks, &w->folded[i]);
    }
    return 0;
}

static int expand_chunk(struct otext_sender *s, const uint8_t *message, size_t n, int chosen,
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
    TRY(fold_planes(w, n, message, bits_packed_size(TREES - first, n)));
    rows_out(w, n, q);
    return 0;
}

/* b: the receiver's bits, whole rows of 128; in the work. */
static int receive_chunk(struct otext_receiver *r, struct transport *t, size_t n, int chosen,
                         uint8_t *b, struct block *rows)
{
    struct work *w = r->work;
    size_t bytes = plane_bytes(n), first = chosen ? 0 : 1;
    size_t message = bits_packed_size(TREES - first, n);

    for (size_t j = first; j < TREES; j++)
        bits_add_masked(w->path, w->mask[j], b, UINT64_MAX, bytes);
    bits_pack(w->packed, w->mask[first], PLANE, TREES - first, n);
    TRY(transport_send(t, w->packed, message));
    TRY(fold_planes(w, n, w->packed, message));
    clip(b, n);
    fold(w, b, bytes / sizeof(struct block), &w->folded_bits);
    rows_out(w, n, rows);
    return 0;
}

int otext_expand(struct otext_sender *s, const uint8_t *message, size_t n, int chosen,
                 struct block *q)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        TRY(expand_chunk(s, message, piece, chosen, q + at));
        message += otext_bytes(piece, chosen);
    }
    return 0;
}

int otext_send(struct otext_sender *s, struct transport *t, size_t n, int chosen, struct block *q)
{
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t piece = n - at < CHUNK ? n - at : CHUNK;

        TRY(transport_recv(t, s->work->packed, otext_bytes(piece, chosen)));
        TRY(expand_chunk(s, s->work->packed, piece, chosen, q + at));
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

/* ---- consistency check -------------------------------------------------------------------- */

struct opening { /* the receiver's, after the message of the extra transfers */
    struct block x, t;
};
_Static_assert(sizeof(struct opening) == 32, "sent as it lies in memory");

#define EXTRA_BYTES ((TREES - 1) * EXTRA / 8)
_Static_assert(OTEXT_CHECK == EXTRA_BYTES + sizeof(struct opening), "in otext.h");

/* Challenges psi of the planes: those of the transcript after the one of the extra transfers. */
static int plane_challenges(struct work *w)
{
    return challenges(w, w->challenge, 1 + BASE_OTS);
}

/* The sum of all folded planes times their challenges; folding starts anew. */
static struct block take_sum(struct work *w)
{
    struct block sum = gf128_dot(w->path, w->challenge + 1, w->folded, BASE_OTS);

    wipe(w->folded, sizeof w->folded);
    return sum;
}

int otext_prove(struct otext_receiver *r, struct transport *t)
{
    struct work *w = r->work;
    struct opening o;
    uint64_t bits[EXTRA / 64];

    TRY(otext_receive_random(r, t, EXTRA, bits, w->row));
    wipe(bits, sizeof bits);
    TRY(plane_challenges(w));
    o.x = w->folded_bits;
    o.t = take_sum(w);
    wipe(&w->folded_bits, sizeof w->folded_bits);
    TRY(transport_send(t, &o, sizeof o));
    return absorb(w->transcript, &o, sizeof o);
}

/* *ok: the transfers since the last check are consistent. */
static int check(struct otext_sender *s, const uint8_t message[OTEXT_CHECK], int *ok)
{
    struct work *w = s->work;
    struct block delta = {0, 0}, q, right;
    struct opening o;

    TRY(otext_expand(s, message, EXTRA, 0, w->row));
    TRY(plane_challenges(w));
    memcpy(&o, message + EXTRA_BYTES, sizeof o);
    TRY(absorb(w->transcript, &o, sizeof o));
    for (int i = 0; i < BASE_OTS; i++)
        block_add(&delta, w->challenge[1 + i], 0 - delta_bit(s->delta, i));
    right = gf128_mul(o.x, delta);
    block_add(&right, o.t, UINT64_MAX);
    q = take_sum(w);
    wipe(&delta, sizeof delta);
    *ok = equal_bytes((const uint8_t *)&q, (const uint8_t *)&right, sizeof q);
    return 0;
}

int otext_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK])
{
    int ok;

    TRY(check(s, message, &ok));
    return ok ? 0 : refuse(s, "transfers");
}

int otext_verify(struct otext_sender *s, struct transport *t)
{
    uint8_t message[OTEXT_CHECK];

    TRY(transport_recv(t, message, sizeof message));
    return otext_verify_message(s, message);
}
