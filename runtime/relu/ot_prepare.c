/*
 * Comparison backend "ot", offline part: random oblivious transfers turned into what relu_ot.c uses
 * up. "Down" transfers have the server as sender, "up" ones the client; H is the hash of rows.
 *
 *   leaves   Four down transfers a digit, chosen by the digit's bits. Pad of entry v: exclusive or
 *            over the bits i of v of the entry's own bits of H(key of transfer i for v_i). Two
 *            entries differ in some v_i, and use different bits of every hash: the client, who lacks
 *            one of the four keys of each other entry, knows nothing about any other pad.
 *   triples  a, b, c shared with c = a & b: a transfer down gives the server k0, k1 and the client a
 *            bit e and k_e = k0 ^ (k0 ^ k1) & e; lowest bits of the hashes. So with a := k0 ^ k1 of
 *            the server and b := e of the client, k0 and k_e share the product. Another one up for
 *            the other cross product. c = own a & b, ^ k0 of the one, ^ k_e of the other.
 *   mux      One transfer down, kept as it is; one up, with the operands of the client, for
 *            a2 + b2 = c2 * u (relu_party.h).
 *
 * Messages:
 *
 *     client   per block: choice planes of its leaves, digit bits of u; then per block: planes of
 *              ands + 1 random transfers down; the check of all of them
 *     server   per block: planes of ands + 1 random transfers up; their check
 *     client   f [p][n] of 8 bytes
 *
 * Rows of transfers are ordered [use][c] in a block of c comparisons from `first`; row number
 * first * uses + place is the element of their tweaks.
 */
#include "runtime/relu/ot.h"

#include <string.h>

#include "runtime/ring/bits.h"
#include "runtime/crypto/garble.h"

#define BLOCK_AT(s, first) ((s)->n - (first) < GARBLE_BLOCK ? (s)->n - (first) : GARBLE_BLOCK)

struct work { /* of one block; one secret array */
    struct block *row, *key1;
    uint64_t *bits;
    struct block *mux; /* [n] rows of the multiplexer's transfers, of the half at work */
};

static int work_new(const struct ot_size *s, struct work *w)
{
    size_t c = s->n < GARBLE_BLOCK ? s->n : GARBLE_BLOCK, leaf_rows = OT_DIGIT * s->digits;
    size_t rows = c * (leaf_rows > s->transfers ? leaf_rows : s->transfers);

    w->row = secret_array(2 * rows + (bits_words(rows) + 1) / 2 + s->n, sizeof *w->row);
    if (w->row == NULL)
        return ERR_NOMEM;
    w->key1 = w->row + rows;
    w->mux = w->key1 + rows;
    w->bits = &(w->mux + s->n)->lo;
    return 0;
}

/* ---- leaves ------------------------------------------------------------------------------- */

/* Pads of one digit's entries from its four transfers: h0, h1 [OT_DIGIT] apart by `stride`. */
static uint32_t entry_pads(const struct block *h0, const struct block *h1, size_t stride)
{
    static const uint32_t with_bit[OT_DIGIT] = {0xcccccccc, 0xf0f0f0f0, 0xff00ff00, 0xffff0000};
    uint32_t pads = 0;

    for (size_t i = 0; i < OT_DIGIT; i++)
        pads ^= ((uint32_t)h0[i * stride].lo & ~with_bit[i]) |
                ((uint32_t)h1[i * stride].lo & with_bit[i]);
    return pads;
}

static uint16_t lowest_pads(const struct block *h0, const struct block *h1, size_t stride)
{
    static const uint16_t with_bit[OT_DIGIT] = {0xaaaa, 0xcccc, 0xf0f0, 0xff00};
    unsigned pads = 0;

    for (size_t i = 0; i < OT_DIGIT; i++)
        pads ^= ((unsigned)h0[i * stride].lo & ~(unsigned)with_bit[i]) |
                ((unsigned)h1[i * stride].lo & with_bit[i]);
    return (uint16_t)pads;
}

/* Pads and own shares of one block. */
static void server_leaves(const struct ot_size *s, const struct ot_server *v, const struct work *w,
                          size_t first, size_t c)
{
    for (size_t k = 0; k < c; k++)
        v->lowest[first + k] =
            lowest_pads(w->row + k, w->key1 + k, c) ^ (uint16_t)bits_mask(v->lt, first + k);
    for (size_t i = 1; i < s->digits; i++)
        for (size_t k = 0; k < c; k++) {
            size_t at = OT_DIGIT * i * c + k;
            uint32_t lt = (uint32_t)bits_mask(v->lt + i * s->row, first + k) & 0x55555555;
            uint32_t eq = (uint32_t)bits_mask(v->eq + i * s->row, first + k) & 0xaaaaaaaa;

            v->leaf[(i - 1) * s->n + first + k] =
                entry_pads(w->row + at, w->key1 + at, c) ^ lt ^ eq;
        }
}

static int make_leaves_server(struct relu_party *p, const struct relu_batch *b,
                              const struct ot_size *s, const struct ot_server *v, struct work *w)
{
    const size_t uses = OT_DIGIT * s->digits;

    prg_bytes(p->rng, v->lt, s->digits * s->row * sizeof *v->lt);
    prg_bytes(p->rng, v->eq, s->digits * s->row * sizeof *v->eq);
    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(otext_send(p->sender, p->t, uses * c, 1, w->row));
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        relu_keys(p->hash, uses * c, otext_delta(p->sender),
                  garble_tweak(b->tweak, RELU_SLOT_LEAF, first * uses), w->row, w->key1);
        server_leaves(s, v, w, first, c);
    }
    return 0;
}

/* Pads of the client's own entries of one block. */
static void client_leaves(const struct ot_size *s, const struct ot_client *v, const struct work *w,
                          size_t first, size_t c)
{
    for (size_t i = 0; i < s->digits; i++)
        for (size_t k = 0; k < c; k++) {
            const struct block *h = w->row + OT_DIGIT * i * c + k;
            uint64_t pads = h[0].lo ^ h[c].lo ^ h[2 * c].lo ^ h[3 * c].lo;
            uint64_t digit = v->u[first + k] >> OT_DIGIT * i & 15;
            size_t at = i * s->row + (first + k) / 64, bit = (first + k) % 64;

            pads >>= i == 0 ? digit : 2 * digit;
            v->lt[at] |= (pads & 1) << bit;
            v->eq[at] |= (pads >> 1 & 1) << bit;
        }
}

static int make_leaves_client(struct relu_party *p, const struct relu_batch *b,
                              const struct ot_size *s, const struct ot_client *v, struct work *w)
{
    const size_t uses = OT_DIGIT * s->digits;

    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        bits_of_words(w->bits, v->u + first, c, 0, uses);
        TRY(otext_receive_chosen(p->receiver, p->t, uses * c, w->bits, w->row));
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        hash_blocks(p->hash, w->row, w->row, uses * c,
                    garble_tweak(b->tweak, RELU_SLOT_LEAF, first * uses));
        client_leaves(s, v, w, first, c);
    }
    return 0;
}

/* ---- triples and multiplexer ---------------------------------------------------------------- */

/* As sender of the transfers of one block: a, and k0 added to c. */
static void sender_triples(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                           uint64_t *triple)
{
    uint64_t key0[GARBLE_BLOCK / 64], key1[GARBLE_BLOCK / 64];

    for (size_t i = 0; i < s->ands; i++) {
        uint64_t *a = triple + 3 * i * s->row + first / 64, *product = a + 2 * s->row;

        bits_lowest(key0, w->row + i * c, c);
        bits_lowest(key1, w->key1 + i * c, c);
        for (size_t k = 0; k < bits_words(c); k++) {
            a[k] = key0[k] ^ key1[k];
            product[k] ^= key0[k];
        }
    }
    wipe(key0, sizeof key0);
    wipe(key1, sizeof key1);
}

static int sender_half(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                       enum relu_slot slot, struct work *w, uint64_t *triple)
{
    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(otext_send(p->sender, p->t, s->transfers * c, 0, w->row));
        memcpy(w->mux + first, w->row + s->ands * c, c * sizeof *w->mux);
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        relu_keys(p->hash, s->ands * c, otext_delta(p->sender),
                  garble_tweak(b->tweak, slot, first * s->ands), w->row, w->key1);
        sender_triples(s, w, first, c, triple);
    }
    return 0;
}

/* As receiver: b, and k_b added to c. */
static void receiver_triples(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                             uint64_t *triple)
{
    uint64_t key[GARBLE_BLOCK / 64];

    for (size_t i = 0; i < s->ands; i++) {
        uint64_t *b = triple + (3 * i + 1) * s->row + first / 64, *product = b + s->row;

        bits_copy(b, w->bits, i * c, c);
        bits_lowest(key, w->row + i * c, c);
        for (size_t k = 0; k < bits_words(c); k++)
            product[k] ^= key[k];
    }
    wipe(key, sizeof key);
}

/* choice: row of the multiplexer's random bits. */
static int receiver_half(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                         enum relu_slot slot, struct work *w, uint64_t *triple, uint64_t *choice)
{
    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(otext_receive_random(p->receiver, p->t, s->transfers * c, w->bits, w->row));
        memcpy(w->mux + first, w->row + s->ands * c, c * sizeof *w->mux);
        bits_copy(choice + first / 64, w->bits, s->ands * c, c);
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        hash_blocks(p->hash, w->row, w->row, s->ands * c,
                    garble_tweak(b->tweak, slot, first * s->ands));
        receiver_triples(s, w, first, c, triple);
    }
    return 0;
}

/* c ^= a & b. */
static void own_products(const struct ot_size *s, uint64_t *triple)
{
    for (size_t i = 0; i < s->ands; i++) {
        uint64_t *a = triple + 3 * i * s->row, *b = a + s->row, *c = b + s->row;

        for (size_t k = 0; k < s->row; k++)
            c[k] ^= a[k] & b[k];
    }
}

/* ---- both parties --------------------------------------------------------------------------- */

static int prepare_server(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                          const struct ot_server *v, struct work *w)
{
    TRY(make_leaves_server(p, b, s, v, w));
    TRY(sender_half(p, b, s, RELU_SLOT_TRIPLE_DOWN, w, v->triple));
    TRY(otext_verify(p->sender, p->t));
    TRY(relu_select_keys(p, b, RELU_SLOT_MUX, w->mux, v->diff, v->a));
    TRY(receiver_half(p, b, s, RELU_SLOT_TRIPLE_UP, w, v->triple, v->c2));
    TRY(otext_prove(p->receiver, p->t));
    own_products(s, v->triple);
    return relu_select_take(p, b, RELU_SLOT_SELECT, v->c2, w->mux, v->a2);
}

int ot_offline_server(struct relu_party *p, const struct relu_batch *b, uint8_t *state)
{
    struct ot_size s = ot_size_of(b);
    struct work w = {0};
    uint64_t *words = NULL;
    int rc;

    TRY(relu_check_batch(b));
    rc = ERR_NOMEM;
    if ((words = secret_array(ot_server_words(&s), sizeof *words)) == NULL || work_new(&s, &w) < 0)
        goto out;
    struct ot_server v = ot_server_in(&s, words);
    if ((rc = prepare_server(p, b, &s, &v, &w)) == 0)
        memcpy(state, words, ot_server_words(&s) * sizeof *words);
out:
    secret_free(words);
    secret_free(w.row);
    return rc;
}

static int prepare_client(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                          const struct ot_client *v, struct work *w)
{
    TRY(make_leaves_client(p, b, s, v, w));
    TRY(receiver_half(p, b, s, RELU_SLOT_TRIPLE_DOWN, w, v->triple, v->c));
    TRY(otext_prove(p->receiver, p->t));
    TRY(relu_select_key(p, b, RELU_SLOT_MUX, w->mux, v->key));
    TRY(sender_half(p, b, s, RELU_SLOT_TRIPLE_UP, w, v->triple));
    TRY(otext_verify(p->sender, p->t));
    own_products(s, v->triple);
    TRY(relu_select_give(p, b, RELU_SLOT_SELECT, w->mux, v->u, v->b2));
    return transport_flush(p->t);
}

int ot_offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                      const uint64_t *r, uint8_t *state)
{
    struct ot_size s = ot_size_of(b);
    struct work w = {0};
    uint64_t *words = NULL;
    int rc;

    TRY(relu_check_batch(b));
    rc = ERR_NOMEM;
    if ((words = secret_array(ot_client_words(&s), sizeof *words)) == NULL || work_new(&s, &w) < 0)
        goto out;
    struct ot_client v = ot_client_in(&s, words);
    memcpy(v.u, u, s.words * sizeof *u);
    memcpy(v.r, r, s.words * sizeof *r);
    if ((rc = prepare_client(p, b, &s, &v, &w)) == 0)
        memcpy(state, words, ot_client_words(&s) * sizeof *words);
out:
    secret_free(words);
    secret_free(w.row);
    return rc;
}
