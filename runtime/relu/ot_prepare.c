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
 *            the server and b := e of the client, k0 and k_e share the product. Another one gives b of
 *            the server and a of the client. c = own a & b, ^ k0 or k_e of both.
 *   terms    (one-shot, oneshot.h) one transfer down each: the server sends y = k0 ^ k1 ^ L, the client
 *            takes z = k_e ^ e * y, so that z ^ k0 = e * L.
 *   mux      One transfer down, kept as it is; one up, with the operands of the client, for
 *            a2 + b2 = c2 * u (relu_party.h).
 *
 * Messages, besides those of silent OT where that is used (ferret.h, cot.h):
 *
 *     client   per block: choices of its leaves, bits of u; then per block: random transfers down, for
 *              the tree or the terms and the multiplexer; the check of all of them
 *     server   rows y of all terms [n]; per block: a random transfer up; their check
 *     client   f [p][n] of 8 bytes
 *
 * Rows of transfers are ordered [use][c] in a block of c comparisons from `first`; row number
 * first * uses + place is the element of their tweaks.
 */
#include "runtime/relu/ot.h"

#include <string.h>

#include "runtime/relu/oneshot.h"
#include "runtime/ring/bits.h"
#include "runtime/crypto/garble.h"

#define WORD 8
#define BLOCK_AT(s, first) ((s)->n - (first) < GARBLE_BLOCK ? (s)->n - (first) : GARBLE_BLOCK)

struct work {                 /* one secret array */
    struct block *row, *key1; /* of one block */
    uint64_t *bits;
    struct block *mux; /* [n] rows of the multiplexer's transfers, of the direction at work */
    uint64_t *y;       /* [terms] rows */
};

static int work_new(const struct ot_size *s, struct work *w)
{
    size_t c = s->n < GARBLE_BLOCK ? s->n : GARBLE_BLOCK;
    size_t rows = c * (s->m - 1 > s->uses ? s->m - 1 : s->uses);
    size_t words = bits_words(rows) + s->terms * s->row;

    w->row = secret_array(2 * rows + s->n + (words + 1) / 2, sizeof *w->row);
    if (w->row == NULL)
        return ERR_NOMEM;
    w->key1 = w->row + rows;
    w->mux = w->key1 + rows;
    w->bits = &(w->mux + s->n)->lo;
    w->y = w->bits + bits_words(rows);
    return 0;
}

static void work_release(struct work *w)
{
    secret_free(w->row);
}

/* ---- leaves ------------------------------------------------------------------------------- */

/* Bits of a leaf word whose entry has bit i of its number set: entries of two bits, of one. */
static const uint64_t with_bit[2][OT_MOST_BITS] = {
    {0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0, 0xff00ff00ff00ff00, 0xffff0000ffff0000,
     0xffffffff00000000},
    {0xaaaaaaaaaaaaaaaa, 0xcccccccccccccccc, 0xf0f0f0f0f0f0f0f0, 0xff00ff00ff00ff00,
     0xffff0000ffff0000}};

/* Pads of one digit's entries from its transfers: h0, h1 [bits] apart by `stride`. */
static uint64_t entry_pads(const struct block *h0, const struct block *h1, size_t bits,
                           size_t stride, int lowest)
{
    uint64_t pads = 0;

    for (size_t i = 0; i < bits; i++)
        pads ^=
            (h0[i * stride].lo & ~with_bit[lowest][i]) | (h1[i * stride].lo & with_bit[lowest][i]);
    return pads;
}

/* Pads and own shares of one block; rows of the digit's transfers begin at h0, h1. */
static void server_digit(const struct ot_size *s, const struct ot_server *v, size_t digit,
                         const struct block *h0, const struct block *h1, size_t first, size_t c)
{
    const uint64_t *lt = v->lt + digit * s->row, *eq = v->eq + digit * s->row;
    size_t bytes = ot_leaf_bytes(s, digit);

    for (size_t k = 0; k < c; k++) {
        uint64_t pads = entry_pads(h0 + k, h1 + k, s->bits[digit], c, digit == 0);

        if (digit == 0)
            pads ^= bits_mask(lt, first + k);
        else
            pads ^= (bits_mask(lt, first + k) & 0x5555555555555555) |
                    (bits_mask(eq, first + k) & 0xaaaaaaaaaaaaaaaa);
        memcpy(v->leaf[digit] + (first + k) * bytes, &pads, bytes);
    }
}

static int make_leaves_server(struct relu_party *p, const struct relu_batch *b,
                              const struct ot_size *s, const struct ot_server *v, struct work *w)
{
    const size_t uses = s->m - 1;

    prg_bytes(p->rng, v->lt, s->digits * s->row * sizeof *v->lt);
    prg_bytes(p->rng, v->eq, s->digits * s->row * sizeof *v->eq);
    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(cot_send(&p->give, p->t, uses * c, 1, w->row));
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        relu_keys(p->hash, uses * c, otext_delta(p->sender),
                  garble_tweak(b->tweak, RELU_SLOT_LEAF, first * uses), w->row, w->key1);
        for (size_t i = 0, at = 0; i < s->digits; at += s->bits[i++])
            server_digit(s, v, i, w->row + at * c, w->key1 + at * c, first, c);
    }
    return 0;
}

/* Pads of the client's own entries of one digit of one block. */
static void client_digit(const struct ot_size *s, const struct ot_client *v, size_t digit,
                         size_t at, const struct block *h, size_t first, size_t c)
{
    uint64_t mask = ((uint64_t)1 << s->bits[digit]) - 1;

    for (size_t k = 0; k < c; k++) {
        uint64_t entry = v->u[first + k] >> at & mask, pads = 0;
        size_t word = digit * s->row + (first + k) / 64, bit = (first + k) % 64;

        for (size_t i = 0; i < s->bits[digit]; i++)
            pads ^= h[i * c + k].lo;
        pads >>= digit == 0 ? entry : 2 * entry;
        v->lt[word] |= (pads & 1) << bit;
        v->eq[word] |= (pads >> 1 & 1) << bit;
    }
}

static int make_leaves_client(struct relu_party *p, const struct relu_batch *b,
                              const struct ot_size *s, const struct ot_client *v, struct work *w)
{
    const size_t uses = s->m - 1;

    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        bits_of_words(w->bits, v->u + first, c, 0, uses);
        TRY(cot_receive_chosen(&p->take, p->t, uses * c, w->bits, w->row));
        TRY(transport_flush(p->t)); /* the server goes on with this block while we do the next */
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        hash_blocks(p->hash, w->row, w->row, uses * c,
                    garble_tweak(b->tweak, RELU_SLOT_LEAF, first * uses));
        for (size_t i = 0, at = 0; i < s->digits; at += s->bits[i++])
            client_digit(s, v, i, at, w->row + at * c, first, c);
    }
    return 0;
}

/* ---- transfers down: tree or terms, and multiplexer -------------------------------------------- */

/* As sender of the transfers of one block: a and b, and k0 of both added to c. */
static void server_triples(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                           uint64_t *triple)
{
    uint64_t key0[GARBLE_BLOCK / 64], key1[GARBLE_BLOCK / 64];

    for (size_t use = 0; use < 2 * s->ands; use++) {
        uint64_t *of_and = triple + 3 * (use / 2) * s->row + first / 64;
        uint64_t *own = of_and + use % 2 * s->row, *product = of_and + 2 * s->row;

        bits_lowest(key0, w->row + use * c, c);
        bits_lowest(key1, w->key1 + use * c, c);
        for (size_t k = 0; k < bits_words(c); k++) {
            own[k] = key0[k] ^ key1[k];
            product[k] ^= key0[k];
        }
    }
    wipe(key0, sizeof key0);
    wipe(key1, sizeof key1);
}

/* y of every term, and k0 added to the server's own share. */
static void server_terms(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                         const uint64_t *factor, uint64_t *own)
{
    uint64_t key0[GARBLE_BLOCK / 64], key1[GARBLE_BLOCK / 64];

    for (size_t i = 0; i < s->terms; i++) {
        const uint64_t *l = factor + i * s->row + first / 64;
        uint64_t *y = w->y + i * s->row + first / 64;

        bits_lowest(key0, w->row + i * c, c);
        bits_lowest(key1, w->key1 + i * c, c);
        for (size_t k = 0; k < bits_words(c); k++) {
            y[k] = key0[k] ^ key1[k] ^ l[k];
            own[first / 64 + k] ^= key0[k];
        }
    }
    wipe(key0, sizeof key0);
    wipe(key1, sizeof key1);
}

static int server_down(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                       const struct ot_server *v, struct work *w)
{
    size_t hashed = s->uses - 1;
    uint64_t *own = v->extra + s->terms * s->row;

    if (s->one_shot)
        oneshot_server((int)s->digits, s->row, v->lt, v->eq, v->extra, own);
    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(cot_send(&p->give, p->t, s->uses * c, 0, w->row));
        memcpy(w->mux + first, w->row + hashed * c, c * sizeof *w->mux);
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        relu_keys(p->hash, hashed * c, otext_delta(p->sender),
                  garble_tweak(b->tweak, RELU_SLOT_TREE, first * hashed), w->row, w->key1);
        if (s->one_shot)
            server_terms(s, w, first, c, v->extra, own);
        else
            server_triples(s, w, first, c, v->extra);
    }
    return 0;
}

/* As receiver: b and a, and k_e of both added to c. */
static void client_triples(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                           uint64_t *triple)
{
    uint64_t key[GARBLE_BLOCK / 64];

    for (size_t use = 0; use < 2 * s->ands; use++) {
        uint64_t *of_and = triple + 3 * (use / 2) * s->row + first / 64;
        uint64_t *own = of_and + (1 - use % 2) * s->row, *product = of_and + 2 * s->row;

        bits_copy(own, w->bits, use * c, c);
        bits_lowest(key, w->row + use * c, c);
        for (size_t k = 0; k < bits_words(c); k++)
            product[k] ^= key[k];
    }
    wipe(key, sizeof key);
}

/* Choices, and k_e added to the client's own share; e * y comes once y is there. */
static void client_terms(const struct ot_size *s, const struct work *w, size_t first, size_t c,
                         uint64_t *choice, uint64_t *own)
{
    uint64_t key[GARBLE_BLOCK / 64];

    for (size_t i = 0; i < s->terms; i++) {
        bits_copy(choice + i * s->row + first / 64, w->bits, i * c, c);
        bits_lowest(key, w->row + i * c, c);
        for (size_t k = 0; k < bits_words(c); k++)
            own[first / 64 + k] ^= key[k];
    }
    wipe(key, sizeof key);
}

static int client_down(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                       const struct ot_client *v, struct work *w)
{
    size_t hashed = s->uses - 1;

    for (size_t first = 0, c; first < s->n; first += c) {
        c = BLOCK_AT(s, first);
        TRY(cot_receive_random(&p->take, p->t, s->uses * c, w->bits, w->row));
        memcpy(w->mux + first, w->row + hashed * c, c * sizeof *w->mux);
        bits_copy(v->c + first / 64, w->bits, hashed * c, c);
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        hash_blocks(p->hash, w->row, w->row, hashed * c,
                    garble_tweak(b->tweak, RELU_SLOT_TREE, first * hashed));
        if (s->one_shot)
            client_terms(s, w, first, c, v->extra, v->extra + s->terms * s->row);
        else
            client_triples(s, w, first, c, v->extra);
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

/* ---- y of the terms ------------------------------------------------------------------------- */

static int send_y(struct relu_party *p, const struct ot_size *s, const struct work *w)
{
    size_t bytes = bits_packed_size(s->terms, s->n);
    SECRET uint8_t *packed = secret_array(bytes + 1, 1);

    if (packed == NULL)
        return ERR_NOMEM;
    bits_pack(packed, (uint8_t *)w->y, s->row * WORD, s->terms, s->n);
    return transport_send(p->t, packed, bytes);
}

int ot_receive_products(const struct ot_size *s, const uint64_t *factor, uint64_t *sum,
                        struct transport *t)
{
    size_t bytes = bits_packed_size(s->terms, s->n);
    SECRET uint64_t *y = secret_array(s->terms * s->row + 1, sizeof *y);
    SECRET uint8_t *packed = secret_array(bytes + 1, 1);

    if (y == NULL || packed == NULL)
        return ERR_NOMEM;
    TRY(transport_recv(t, packed, bytes));
    bits_unpack((uint8_t *)y, s->row * WORD, s->terms, s->n, packed);
    for (size_t k = 0; k < s->terms; k++)
        for (size_t i = 0; i < s->row; i++)
            sum[i] ^= factor[k * s->row + i] & y[k * s->row + i];
    return 0;
}

/* ---- both parties --------------------------------------------------------------------------- */

static int prepare_server(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                          const struct ot_server *v, struct work *w)
{
    TRY(make_leaves_server(p, b, s, v, w));
    TRY(server_down(p, b, s, v, w));
    TRY(cot_verify(&p->give, p->t));
    if (s->terms > 0)
        TRY(send_y(p, s, w));
    own_products(s, v->extra);
    TRY(relu_select_keys(p, b, RELU_SLOT_MUX, w->mux, v->diff, v->a));
    TRY(cot_receive_random(&p->take, p->t, s->n, v->c2, w->mux));
    TRY(cot_prove(&p->take, p->t));
    return relu_select_take(p, b, RELU_SLOT_SELECT, v->c2, w->mux, v->a2);
}

int ot_offline_server(struct relu_party *p, const struct relu_batch *b, struct tape *state)
{
    TRY(ot_check_batch(b));
    const struct ot_size s = ot_size_of(b);
    const size_t n = ot_state_words(&s, 0);
    SECRET uint64_t *words = secret_array(n, sizeof *words);
    SCOPED(work_release) struct work w = {0};

    if (words == NULL)
        return ERR_NOMEM;
    TRY(work_new(&s, &w));
    struct ot_server v = ot_server_in(&s, words);
    TRY(prepare_server(p, b, &s, &v, &w));
    tape_put(state, words, n * sizeof *words);
    return 0;
}

static int prepare_client(struct relu_party *p, const struct relu_batch *b, const struct ot_size *s,
                          const struct ot_client *v, struct work *w)
{
    TRY(make_leaves_client(p, b, s, v, w));
    TRY(client_down(p, b, s, v, w));
    TRY(cot_prove(&p->take, p->t));
    TRY(relu_select_key(p, b, RELU_SLOT_MUX, w->mux, v->key));
    own_products(s, v->extra);
    if (s->terms > 0)
        TRY(ot_receive_products(s, v->extra, v->extra + s->terms * s->row, p->t));
    TRY(cot_send(&p->give, p->t, s->n, 0, w->mux));
    TRY(cot_verify(&p->give, p->t));
    TRY(relu_select_give(p, b, RELU_SLOT_SELECT, w->mux, v->u, v->b2));
    return transport_flush(p->t);
}

int ot_offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                      const uint64_t *r, struct tape *state)
{
    TRY(ot_check_batch(b));
    const struct ot_size s = ot_size_of(b);
    const size_t n = ot_state_words(&s, 1);
    SECRET uint64_t *words = secret_array(n, sizeof *words);
    SCOPED(work_release) struct work w = {0};

    if (words == NULL)
        return ERR_NOMEM;
    TRY(work_new(&s, &w));
    struct ot_client v = ot_client_in(&s, words);
    memcpy(v.u, u, s.words * sizeof *u);
    memcpy(v.r, r, s.words * sizeof *r);
    TRY(prepare_client(p, b, &s, &v, &w));
    tape_put(state, words, n * sizeof *words);
    return 0;
}
