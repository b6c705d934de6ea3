/*
 * Comparison backend "ot" (relu.h), online part: radix-16 comparison from oblivious transfers made
 * beforehand, in the manner of D. Rathee et al. ("CrypTFlow2: Practical 2-Party Secure Inference",
 * CCS 2020).
 *
 * With A = 2^(m-1) - 1 - (x mod 2^(m-1)) of the server and B = u mod 2^(m-1) of the client, the carry
 * of x + u into bit m-1 is [A < B], and the sign is that xor the top bits of x and u.
 *
 *   leaves  for each digit the server sends a table over the client's 16 possible digits, an entry
 *           being its (lt, eq) for that digit, xor the server's random shares, xor a pad; the client
 *           knows the pad of its own digit only. Entry v sits at bits 2v, 2v+1; the lowest digit
 *           needs lt only, at bit v.
 *   tree    andtree.h: shares of the carry
 *   mux     bits ds (server), dc (client) with ds ^ dc = [x + u >= 0] =: d, all mod 2^64:
 *
 *             d*(x + u) = ds*x + us + dc*M + dc*u + (1-2dc)*uc,   us + uc = ds*u,
 *             M = (1-2ds)*x - 2us
 *
 *           ds*u from a2 + b2 = c2*u by e2 = ds ^ c2:  us = (1-2e2)*a2, uc = e2*u + (1-2e2)*b2
 *           dc*M from a transfer (k0, k1; client c, k_c): server sends e = M + k0 - k1, client sends
 *           t = dc ^ c; shares t*M - (1-2t)*k0 and (1-2t)*(k_c + c*e)
 *   result  client sends its part minus r
 *
 * Messages online (levels = those of the tree; rows packed as in bits.h):
 *
 *     server  leaf words digits-1 ... 1 [n] of 4 bytes, digit 0 [n] of 2 bytes; level 0 of the tree
 *     ...     client levels 0, 1; server 1, 2; ... (andtree.h)
 *     server  e [p][n] of 8 bytes; row e2
 *     client  row t; result [p][n] of 8 bytes
 */
#include "runtime/relu/ot.h"

#include <string.h>

#include "runtime/relu/andtree.h"
#include "runtime/ring/bits.h"

#define WORD 8

/* ---- layout ------------------------------------------------------------------------------- */

struct ot_size ot_size_of(const struct relu_batch *b)
{
    struct ot_size s = {.n = (size_t)b->n, .m = (size_t)b->width, .p = (size_t)b->payloads};

    s.row = bits_words(s.n);
    s.words = s.n * s.p;
    s.digits = (s.m - 1) / OT_DIGIT;
    s.ands = (size_t)andtree_ands((int)s.digits);
    s.transfers = s.ands + 1;
    return s;
}

static size_t leaf_words(const struct ot_size *s)
{
    return ((s->digits - 1) * s->n + 1) / 2;
}

size_t ot_server_words(const struct ot_size *s)
{
    return leaf_words(s) + (s->n + 3) / 4 + s->row * (2 * s->digits + 3 * s->ands + 1) +
           3 * s->words;
}

size_t ot_client_words(const struct ot_size *s)
{
    return s->row * (2 * s->digits + 3 * s->ands + 1) + 4 * s->words;
}

struct ot_server ot_server_in(const struct ot_size *s, uint64_t *at)
{
    struct ot_server v;

    v.leaf = (uint32_t *)at;
    v.lowest = (uint16_t *)(at += leaf_words(s));
    v.lt = at += (s->n + 3) / 4;
    v.eq = at += s->digits * s->row;
    v.triple = at += s->digits * s->row;
    v.c2 = at += 3 * s->ands * s->row;
    v.a2 = at += s->row;
    v.diff = at += s->words;
    v.a = at + s->words;
    return v;
}

struct ot_client ot_client_in(const struct ot_size *s, uint64_t *at)
{
    struct ot_client v;

    v.u = at;
    v.r = at += s->words;
    v.lt = at += s->words;
    v.eq = at += s->digits * s->row;
    v.triple = at += s->digits * s->row;
    v.c = at += 3 * s->ands * s->row;
    v.b2 = at += s->row;
    v.key = at + s->words;
    return v;
}

static size_t ot_state_size(const struct relu_batch *b, int is_client)
{
    struct ot_size s = ot_size_of(b);

    return WORD * (is_client ? ot_client_words(&s) : ot_server_words(&s));
}

static uint64_t ot_offline_bytes(const struct relu_batch *b, int from_client)
{
    struct ot_size s = ot_size_of(b);
    uint64_t random = otext_bytes(s.transfers * s.n, 0) + OTEXT_CHECK;

    return from_client ? otext_bytes(OT_DIGIT * s.digits * s.n, 1) + random + WORD * s.words
                       : random;
}

static uint64_t ot_online_bytes(const struct relu_batch *b, int from_client)
{
    struct ot_size s = ot_size_of(b);
    uint64_t both = andtree_bytes((int)s.digits, s.n) + bits_packed_size(1, s.n) + WORD * s.words;

    return from_client ? both : both + s.n * (4 * (s.digits - 1) + 2);
}

/* Leaves and tree there, one message a level, one more where their number is odd, multiplexer. */
static int32_t ot_online_messages(int32_t width)
{
    int32_t levels = andtree_levels((width - 1) / OT_DIGIT);

    return levels + levels % 2 + 2;
}

/* ---- leaves ------------------------------------------------------------------------------- */

/* Adds the server's tables to the pads. */
static void fill_leaves(const struct ot_size *s, const struct ot_server *v, const uint64_t *x)
{
    for (size_t k = 0; k < s->n; k++)
        v->lowest[k] ^= (uint16_t)(0xffffu << ((~x[k] & 15) + 1));
    for (size_t i = 1; i < s->digits; i++)
        for (size_t k = 0; k < s->n; k++) {
            uint64_t digit = ~x[k] >> OT_DIGIT * i & 15;
            uint64_t less = (uint64_t)0x55555555 << (2 * digit + 2), equal = 2ull << 2 * digit;

            v->leaf[(i - 1) * s->n + k] ^= (uint32_t)(less | equal);
        }
}

static int send_leaves(const struct ot_size *s, const struct ot_server *v, struct transport *t)
{
    for (size_t i = s->digits - 1; i >= 1; i--)
        TRY(transport_send(t, v->leaf + (i - 1) * s->n, s->n * sizeof *v->leaf));
    return transport_send(t, v->lowest, s->n * sizeof *v->lowest);
}

/* The chosen entries of digit i, added to the rows of pads. */
static void take_entries(const struct ot_size *s, const struct ot_client *v, size_t i,
                         const uint32_t *leaf)
{
    for (size_t k = 0; k < s->n; k++) {
        uint64_t digit = v->u[k] >> OT_DIGIT * i & 15, entry = leaf[k] >> 2 * digit;

        v->lt[i * s->row + k / 64] ^= (entry & 1) << k % 64;
        v->eq[i * s->row + k / 64] ^= (entry >> 1 & 1) << k % 64;
    }
}

static int receive_leaves(const struct ot_size *s, const struct ot_client *v, struct transport *t)
{
    uint32_t *leaf = secret_array(s->n, sizeof *leaf);
    uint16_t *lowest = secret_array(s->n, sizeof *lowest);
    int rc = leaf != NULL && lowest != NULL ? 0 : ERR_NOMEM;

    for (size_t i = s->digits - 1; rc == 0 && i >= 1; i--)
        if ((rc = transport_recv(t, leaf, s->n * sizeof *leaf)) == 0)
            take_entries(s, v, i, leaf);
    if (rc == 0)
        rc = transport_recv(t, lowest, s->n * sizeof *lowest);
    for (size_t k = 0; rc == 0 && k < s->n; k++)
        v->lt[k / 64] ^= (uint64_t)(lowest[k] >> (v->u[k] & 15) & 1) << k % 64;
    secret_free(leaf);
    secret_free(lowest);
    return rc;
}

/* ---- online ------------------------------------------------------------------------------- */

/* A copy of the state in aligned words. */
static uint64_t *take_state(const uint8_t *state, size_t words)
{
    uint64_t *copy = secret_array(words, sizeof *copy);

    if (copy != NULL)
        memcpy(copy, state, words * sizeof *copy);
    return copy;
}

/* d = carry ^ bit m-1 of v ^ flip, rows. */
static void sign_bits(const struct ot_size *s, const uint64_t *carry, const uint64_t *v,
                      uint64_t flip, uint64_t *d)
{
    bits_of_words(d, v, s->n, s->m - 1, 1);
    for (size_t i = 0; i < s->row; i++)
        d[i] ^= carry[i] ^ flip;
}

/* mask ? -v : v */
static uint64_t negate_if(uint64_t mask, uint64_t v)
{
    return (v ^ mask) - mask;
}

/* What the server needs for the multiplexer; rows, and words [p][n]. */
struct server_mux {
    uint64_t *ds, *row, *us, *m, *message;
};

static struct server_mux server_mux_in(const struct ot_size *s, uint64_t *at)
{
    return (struct server_mux){at, at + s->row, at + 2 * s->row, at + 2 * s->row + s->words,
                               at + 2 * s->row + 2 * s->words};
}

/* Row e2 and words e. */
static int send_mux(const struct ot_size *s, const struct ot_server *v, const struct server_mux *x,
                    const uint64_t *values, struct transport *t)
{
    for (size_t i = 0; i < s->row; i++)
        x->row[i] = x->ds[i] ^ v->c2[i];
    for (size_t j = 0; j < s->p; j++)
        for (size_t k = 0; k < s->n; k++) {
            size_t at = j * s->n + k;

            x->us[at] = negate_if(bits_mask(x->row, k), v->a2[at]);
            x->m[at] = negate_if(bits_mask(x->ds, k), values[at]) - 2 * x->us[at];
            x->message[at] = x->m[at] + v->diff[at];
        }
    TRY(transport_send(t, x->message, s->words * WORD));
    bits_pack((uint8_t *)x->message, (const uint8_t *)x->row, s->row * WORD, 1, s->n);
    return transport_send(t, x->message, bits_packed_size(1, s->n));
}

/* Row t and the client's results -> the server's results. */
static int finish_server(const struct ot_size *s, const struct ot_server *v,
                         const struct server_mux *x, const uint64_t *values, uint64_t *z,
                         struct transport *t)
{
    TRY(transport_recv(t, x->message, bits_packed_size(1, s->n)));
    bits_unpack((uint8_t *)x->row, s->row * WORD, 1, s->n, (const uint8_t *)x->message);
    TRY(transport_recv(t, z, s->words * WORD));
    for (size_t j = 0; j < s->p; j++)
        for (size_t k = 0; k < s->n; k++) {
            size_t at = j * s->n + k;
            uint64_t bit_t = bits_mask(x->row, k);

            z[at] += (values[at] & bits_mask(x->ds, k)) + x->us[at] + (x->m[at] & bit_t) +
                     negate_if(bit_t, v->a[at]);
        }
    return 0;
}

static int ot_online_server(struct transport *t, const struct relu_batch *b, uint8_t *state,
                            const uint64_t *x, uint64_t *z)
{
    struct ot_size s = ot_size_of(b);
    uint64_t *copy = NULL, *work = NULL;
    int rc;

    TRY(relu_check_batch(b));
    if ((copy = take_state(state, ot_server_words(&s))) == NULL ||
        (work = secret_array(2 * s.row + 3 * s.words + 1, sizeof *work)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    struct ot_server v = ot_server_in(&s, copy);
    struct server_mux mux = server_mux_in(&s, work);
    struct andtree tree = {.n = s.n, .digits = (int)s.digits, .is_client = 0};
    tree.lt = v.lt;
    tree.eq = v.eq;
    tree.triple = v.triple;
    fill_leaves(&s, &v, x);
    if ((rc = send_leaves(&s, &v, t)) < 0 || (rc = andtree_run(&tree, t)) < 0)
        goto out;
    sign_bits(&s, v.lt, x, UINT64_MAX, mux.ds);
    if ((rc = send_mux(&s, &v, &mux, x, t)) < 0)
        goto out;
    rc = finish_server(&s, &v, &mux, x, z, t);
out:
    wipe(state, ot_state_size(b, 0));
    secret_free(copy);
    secret_free(work);
    return rc;
}

/* What the client needs for the multiplexer. */
struct client_mux {
    uint64_t *dc, *e2, *row, *e;
};

static struct client_mux client_mux_in(const struct ot_size *s, uint64_t *at)
{
    return (struct client_mux){at, at + s->row, at + 2 * s->row, at + 3 * s->row};
}

static int receive_mux(const struct ot_size *s, const struct client_mux *x, struct transport *t)
{
    TRY(transport_recv(t, x->e, s->words * WORD));
    TRY(transport_recv(t, x->row, bits_packed_size(1, s->n)));
    bits_unpack((uint8_t *)x->e2, s->row * WORD, 1, s->n, (const uint8_t *)x->row);
    return 0;
}

/* Row t and results, which replace e. */
static int send_result(const struct ot_size *s, const struct ot_client *v,
                       const struct client_mux *x, struct transport *t)
{
    for (size_t j = 0; j < s->p; j++)
        for (size_t k = 0; k < s->n; k++) {
            size_t at = j * s->n + k;
            uint64_t dc = bits_mask(x->dc, k), c = bits_mask(v->c, k), e2 = bits_mask(x->e2, k);
            uint64_t uc = (v->u[at] & e2) + negate_if(e2, v->b2[at]);
            uint64_t share = v->key[at] + (x->e[at] & c);

            x->e[at] = (v->u[at] & dc) + negate_if(dc, uc) + negate_if(dc ^ c, share) - v->r[at];
        }
    for (size_t i = 0; i < s->row; i++)
        x->e2[i] = x->dc[i] ^ v->c[i];
    bits_pack((uint8_t *)x->row, (const uint8_t *)x->e2, s->row * WORD, 1, s->n);
    TRY(transport_send(t, x->row, bits_packed_size(1, s->n)));
    TRY(transport_send(t, x->e, s->words * WORD));
    return transport_flush(t);
}

static int ot_online_client(struct transport *t, const struct relu_batch *b, uint8_t *state)
{
    struct ot_size s = ot_size_of(b);
    uint64_t *copy = NULL, *work = NULL;
    int rc;

    TRY(relu_check_batch(b));
    if ((copy = take_state(state, ot_client_words(&s))) == NULL ||
        (work = secret_array(3 * s.row + s.words, sizeof *work)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    struct ot_client v = ot_client_in(&s, copy);
    struct client_mux mux = client_mux_in(&s, work);
    struct andtree tree = {.n = s.n, .digits = (int)s.digits, .is_client = 1};
    tree.lt = v.lt;
    tree.eq = v.eq;
    tree.triple = v.triple;
    if ((rc = receive_leaves(&s, &v, t)) < 0 || (rc = andtree_run(&tree, t)) < 0 ||
        (rc = receive_mux(&s, &mux, t)) < 0)
        goto out;
    sign_bits(&s, v.lt, v.u, 0, mux.dc);
    rc = send_result(&s, &v, &mux, t);
out:
    wipe(state, ot_state_size(b, 1));
    secret_free(copy);
    secret_free(work);
    return rc;
}

const struct relu_backend relu_ot = {
    .code = 2,
    .name = "ot",
    .text = "comparison by oblivious transfer",
    .seconds = {.online_batch = 75e-6,
                .online = 0.043e-6,
                .offline_batch = 170e-6,
                .offline = 1.35e-6},
    .online_messages = ot_online_messages,
    .state_size = ot_state_size,
    .offline_bytes = ot_offline_bytes,
    .online_bytes = ot_online_bytes,
    .open_bytes = relu_party_open_bytes,
    .open = relu_party_open,
    .close = relu_party_close,
    .offline_server = ot_offline_server,
    .offline_client = ot_offline_client,
    .online_server = ot_online_server,
    .online_client = ot_online_client,
};
