/*
 * Comparison backend "ot" (relu.h), online part: comparison digit by digit from oblivious transfers made
 * beforehand, in the manner of D. Rathee et al. ("CrypTFlow2: Practical 2-Party Secure Inference",
 * CCS 2020).
 *
 * With A = 2^(m-1) - 1 - (x mod 2^(m-1)) of the server and B = u mod 2^(m-1) of the client, the carry
 * of x + u into bit m-1 is [A < B], and the sign is that xor the top bits of x and u.
 *
 *   leaves  for each digit of b bits the server sends a table over the client's 2^b possible digits, an
 *           entry being its (lt, eq) for that digit, xor the server's random shares, xor a pad; the
 *           client knows the pad of its own digit only. Entry v sits at bits 2v, 2v+1; the lowest digit
 *           needs lt only, at bit v.
 *   carry   shares of it from those of the leaves: a tree (andtree.h), or one-shot (oneshot.h). There a
 *           term M * L has from offline: the client's bit c and z with z ^ k0 = c * L, k0 the server's.
 *           The client sends d = M ^ c; the server adds d * L.
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
 *     server  leaf words of digits-1 ... 0 [n]; tree: its level 0
 *     ...     tree: client levels 0, 1; server 1, 2; ... (andtree.h)
 *     client  one-shot: rows d of all terms; row t
 *     server  e [p][n] of 8 bytes; row e2
 *     client  tree: row t; result [p][n] of 8 bytes
 *
 * With a form that was chosen for a link a large batch goes in parts, each a run of these messages of its own
 * (lanes.h): while one part is on the line or with the peer, this side works on the next. Bytes and one-way delays
 * are those of one run. Without a delay to fill, threads and copies of parts cost an eighth more than they save.
 */
#include "runtime/relu/ot.h"

#include <string.h>

#include "runtime/net/lanes.h"
#include "runtime/net/tcp.h"
#include "runtime/relu/andtree.h"
#include "runtime/relu/oneshot.h"
#include "runtime/ring/bits.h"

#define WORD 8
/* Comparisons of a part: below it a thread costs more than it saves. */
#define PART_LEAST ((size_t)8192)
#define PARTS 8
/* Larger batches go whole. The server has room for all that the client sends between two turns, so that neither
 * waits for the other for ever: results of 8 bytes, or 89 bits of terms and t. */
#define PARTS_MOST ((size_t)1 << 20)
_Static_assert(ONESHOT_MOST_DIGITS <= 6 && 12 * PARTS_MOST <= TCP_INBOX, "the server has room");

/* ---- leaves ------------------------------------------------------------------------------- */

/* A little-endian leaf word of a size that the caller writes down, so that it is one instruction. */
static inline __attribute__((always_inline)) uint64_t get(const uint8_t *leaf, size_t k,
                                                          size_t bytes)
{
    uint64_t word = 0;

    memcpy(&word, leaf + k * bytes, bytes);
    return word;
}

static inline __attribute__((always_inline)) void fill_words(uint8_t *leaf, const uint64_t *x,
                                                             size_t n, size_t at, uint64_t mask,
                                                             int lowest, size_t bytes)
{
    for (size_t k = 0; k < n; k++) {
        uint64_t digit = ~x[k] >> at & mask, table, word;

        if (lowest)
            table = UINT64_MAX << digit << 1;
        else
            table = (uint64_t)0x5555555555555555 << 2 * digit << 2 | (uint64_t)2 << 2 * digit;
        word = get(leaf, k, bytes) ^ table;
        memcpy(leaf + k * bytes, &word, bytes);
    }
}

#define BY_SIZE(bytes, call)                                                                       \
    switch (bytes) {                                                                               \
    case 1:                                                                                        \
        call(1);                                                                                   \
        break;                                                                                     \
    case 2:                                                                                        \
        call(2);                                                                                   \
        break;                                                                                     \
    case 4:                                                                                        \
        call(4);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        call(8);                                                                                   \
    }

/* Adds the server's tables to the pads. */
static void fill_leaves(const struct ot_size *s, const struct ot_server *v, const uint64_t *x)
{
    for (size_t i = 0, at = 0; i < s->digits; at += s->bits[i++]) {
        uint64_t mask = ((uint64_t)1 << s->bits[i]) - 1;

#define FILL(bytes) fill_words(v->leaf[i], x, s->n, at, mask, i == 0, bytes)
        BY_SIZE(ot_leaf_bytes(s, i), FILL)
    }
}

static int send_leaves(const struct ot_size *s, const struct ot_server *v, struct transport *t)
{
    for (size_t i = s->digits; i-- > 0;)
        TRY(transport_send(t, v->leaf[i], s->n * ot_leaf_bytes(s, i)));
    return 0;
}

/* The chosen entries of a digit, added to the rows of pads. */
static inline __attribute__((always_inline)) void take_words(uint64_t *lt, uint64_t *eq,
                                                             const uint8_t *leaf, const uint64_t *u,
                                                             size_t n, size_t at, uint64_t mask,
                                                             size_t bytes)
{
    for (size_t k = 0; k < n; k++) {
        uint64_t digit = u[k] >> at & mask, entry;

        entry = get(leaf, k, bytes) >> (eq == NULL ? digit : 2 * digit);
        lt[k / 64] ^= (entry & 1) << k % 64;
        if (eq != NULL)
            eq[k / 64] ^= (entry >> 1 & 1) << k % 64;
    }
}

static void take_entries(const struct ot_size *s, const struct ot_client *v, size_t i, size_t at,
                         const uint8_t *leaf)
{
    uint64_t mask = ((uint64_t)1 << s->bits[i]) - 1, *lt = v->lt + i * s->row;
    uint64_t *eq = i == 0 ? NULL : v->eq + i * s->row;

#define TAKE(bytes) take_words(lt, eq, leaf, v->u, s->n, at, mask, bytes)
    BY_SIZE(ot_leaf_bytes(s, i), TAKE)
}

static int receive_leaves(const struct ot_size *s, const struct ot_client *v, struct transport *t)
{
    SECRET uint8_t *leaf = secret_array(s->n, WORD);
    size_t at = s->m - 1;

    if (leaf == NULL)
        return ERR_NOMEM;
    for (size_t i = s->digits; i-- > 0;) {
        at -= s->bits[i];
        TRY(transport_recv(t, leaf, s->n * ot_leaf_bytes(s, i)));
        take_entries(s, v, i, at, leaf);
    }
    return 0;
}

/* ---- carry -------------------------------------------------------------------------------- */

/* The tree; row 0 of lt becomes this party's share of the carry. */
static int run_tree(const struct ot_size *s, int is_client, uint64_t *lt, uint64_t *eq,
                    const uint64_t *triple, struct transport *t)
{
    struct andtree tree = {.n = s->n,
                           .digits = (int)s->digits,
                           .is_client = is_client,
                           .lt = lt,
                           .eq = eq,
                           .triple = triple};

    return andtree_run(&tree, t);
}

/* One-shot, client: its share into row 0 of lt; the rows d are sent. */
static int send_terms(const struct ot_size *s, const struct ot_client *v, struct transport *t)
{
    SECRET uint64_t *d = secret_array((s->terms + 1) * s->row + 1, sizeof *d);
    SECRET uint8_t *packed = secret_array(bits_packed_size(s->terms, s->n) + 1, 1);
    const uint64_t *own = v->extra + s->terms * s->row;

    if (d == NULL || packed == NULL)
        return ERR_NOMEM;
    uint64_t *alone = d + s->terms * s->row;
    oneshot_client((int)s->digits, s->row, v->lt, v->eq, d, alone);
    for (size_t i = 0; i < s->row; i++)
        v->lt[i] = alone[i] ^ own[i];
    for (size_t i = 0; i < s->terms * s->row; i++)
        d[i] ^= v->extra[i];
    bits_pack(packed, (uint8_t *)d, s->row * WORD, s->terms, s->n);
    return transport_send(t, packed, bits_packed_size(s->terms, s->n));
}

/* Server: the other share, from the client's d. */
static int receive_terms(const struct ot_size *s, const struct ot_server *v, struct transport *t)
{
    const uint64_t *own = v->extra + s->terms * s->row;

    memcpy(v->lt, own, s->row * sizeof *own);
    return ot_receive_products(s, v->extra, v->lt, t);
}

/* ---- parts -------------------------------------------------------------------------------- */

struct parts {
    bool is_client;
    const struct ot_size *whole;
    size_t step;       /* comparisons of a part, the last has the rest */
    uint64_t *copy;    /* of the whole state */
    const uint64_t *x; /* of the server, as z */
    uint64_t *z;
};

/* Whole rows of bits; both sides find the same. */
static size_t part_size(const struct ot_size *s, const struct transport *t)
{
    size_t step = (s->n + PARTS - 1) / PARTS;

    if (!s->for_link || s->p > 1 || s->n < 2 * PART_LEAST || s->n > PARTS_MOST || lanes_in(t))
        return s->n;
    return ((step > PART_LEAST ? step : PART_LEAST) + 63) / 64 * 64;
}

static int64_t part_count(const struct parts *of)
{
    size_t n = of->whole->n;

    return n <= of->step ? 1 : (int64_t)((n + of->step - 1) / of->step);
}

/* Sizes of a part; returns its first comparison. */
static size_t part_of(const struct parts *of, int64_t part, struct ot_size *s)
{
    size_t first = (size_t)part * of->step, left = of->whole->n - first;

    *s = *of->whole;
    s->n = left < of->step ? left : of->step;
    s->row = bits_words(s->n);
    s->words = s->n * s->p;
    return first;
}

/* The first `row` words of rows that lie from_row apart. */
static void copy_rows(uint64_t *to, size_t row, const uint64_t *from, size_t from_row, size_t rows)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * row, from + i * from_row, row * sizeof *to);
}

/* ---- online ------------------------------------------------------------------------------- */

static size_t ot_state_size(const struct relu_batch *b, int is_client)
{
    struct ot_size s = ot_size_of(b);

    return WORD * ot_state_words(&s, is_client);
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
    uint64_t *ds, *row, *t, *us, *m, *message;
};

static struct server_mux server_mux_in(const struct ot_size *s, uint64_t *at)
{
    uint64_t *words = at + 3 * s->row;

    return (struct server_mux){at,    at + s->row,      at + 2 * s->row,
                               words, words + s->words, words + 2 * s->words};
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

static int receive_row_t(const struct ot_size *s, const struct server_mux *x, struct transport *t)
{
    TRY(transport_recv(t, x->message, bits_packed_size(1, s->n)));
    bits_unpack((uint8_t *)x->t, s->row * WORD, 1, s->n, (const uint8_t *)x->message);
    return 0;
}

/* Row t and the client's results -> the server's results. */
static int finish_server(const struct ot_size *s, const struct ot_server *v,
                         const struct server_mux *x, const uint64_t *values, uint64_t *z,
                         struct transport *t)
{
    TRY(transport_recv(t, z, s->words * WORD));
    for (size_t j = 0; j < s->p; j++)
        for (size_t k = 0; k < s->n; k++) {
            size_t at = j * s->n + k;
            uint64_t bit_t = bits_mask(x->t, k);

            z[at] += (values[at] & bits_mask(x->ds, k)) + x->us[at] + (x->m[at] & bit_t) +
                     negate_if(bit_t, v->a[at]);
        }
    return 0;
}

static int server_rounds(const struct ot_size *s, const struct ot_server *v,
                         const struct server_mux *mux, const uint64_t *x, uint64_t *z,
                         struct transport *t)
{
    fill_leaves(s, v, x);
    TRY(send_leaves(s, v, t));
    if (s->one_shot) {
        TRY(receive_terms(s, v, t));
        TRY(receive_row_t(s, mux, t));
    } else {
        TRY(run_tree(s, 0, v->lt, v->eq, v->extra, t));
    }
    sign_bits(s, v->lt, x, UINT64_MAX, mux->ds);
    TRY(send_mux(s, v, mux, x, t));
    if (!s->one_shot)
        TRY(receive_row_t(s, mux, t));
    return finish_server(s, v, mux, x, z, t);
}

/* z and memory for it: of this part alone. */
static int run_server(const struct ot_size *s, uint64_t *copy, const uint64_t *x, uint64_t *z,
                      struct transport *t)
{
    SECRET uint64_t *work = secret_array(3 * s->row + 3 * s->words + 1, sizeof *work);

    if (work == NULL)
        return ERR_NOMEM;
    struct ot_server v = ot_server_in(s, copy);
    struct server_mux mux = server_mux_in(s, work);
    return server_rounds(s, &v, &mux, x, z, t);
}

/* The state of a part, from its first comparison on. */
static void copy_server(const struct parts *of, const struct ot_size *s, size_t first,
                        uint64_t *copy)
{
    struct ot_server from = ot_server_in(of->whole, of->copy), to = ot_server_in(s, copy);

    for (size_t i = 0; i < s->digits; i++) {
        size_t leaf = ot_leaf_bytes(s, i);
        memcpy(to.leaf[i], from.leaf[i] + first * leaf, s->n * leaf);
    }
    copy_rows(to.lt, s->row, from.lt + first / 64, of->whole->row, ot_state_rows(s));
    copy_rows(to.a2, s->n, from.a2 + first, of->whole->n, 3);
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

static int send_row_t(const struct ot_size *s, const struct ot_client *v,
                      const struct client_mux *x, struct transport *t)
{
    uint64_t *sum = x->e2; /* not there yet, or used up */

    for (size_t i = 0; i < s->row; i++)
        sum[i] = x->dc[i] ^ v->c[i];
    bits_pack((uint8_t *)x->row, (const uint8_t *)sum, s->row * WORD, 1, s->n);
    return transport_send(t, x->row, bits_packed_size(1, s->n));
}

/* The results replace e. */
static void make_result(const struct ot_size *s, const struct ot_client *v,
                        const struct client_mux *x)
{
    for (size_t j = 0; j < s->p; j++)
        for (size_t k = 0; k < s->n; k++) {
            size_t at = j * s->n + k;
            uint64_t dc = bits_mask(x->dc, k), c = bits_mask(v->c, k), e2 = bits_mask(x->e2, k);
            uint64_t uc = (v->u[at] & e2) + negate_if(e2, v->b2[at]);
            uint64_t share = v->key[at] + (x->e[at] & c);

            x->e[at] = (v->u[at] & dc) + negate_if(dc, uc) + negate_if(dc ^ c, share) - v->r[at];
        }
}

static int client_rounds(const struct ot_size *s, const struct ot_client *v,
                         const struct client_mux *mux, struct transport *t)
{
    TRY(receive_leaves(s, v, t));
    TRY(s->one_shot ? send_terms(s, v, t) : run_tree(s, 1, v->lt, v->eq, v->extra, t));
    if (s->one_shot) {
        sign_bits(s, v->lt, v->u, 0, mux->dc);
        TRY(send_row_t(s, v, mux, t));
    }
    TRY(receive_mux(s, mux, t));
    if (!s->one_shot)
        sign_bits(s, v->lt, v->u, 0, mux->dc);
    make_result(s, v, mux);
    if (!s->one_shot)
        TRY(send_row_t(s, v, mux, t));
    TRY(transport_send(t, mux->e, s->words * WORD));
    return transport_flush(t);
}

static int run_client(const struct ot_size *s, uint64_t *copy, struct transport *t)
{
    SECRET uint64_t *work = secret_array(3 * s->row + s->words, sizeof *work);

    if (work == NULL)
        return ERR_NOMEM;
    struct ot_client v = ot_client_in(s, copy);
    struct client_mux mux = client_mux_in(s, work);
    return client_rounds(s, &v, &mux, t);
}

static void copy_client(const struct parts *of, const struct ot_size *s, size_t first,
                        uint64_t *copy)
{
    struct ot_client from = ot_client_in(of->whole, of->copy), to = ot_client_in(s, copy);

    copy_rows(to.u, s->n, from.u + first, of->whole->n, 2);
    copy_rows(to.lt, s->row, from.lt + first / 64, of->whole->row, ot_state_rows(s));
    copy_rows(to.b2, s->n, from.b2 + first, of->whole->n, 2);
}

/* ---- both --------------------------------------------------------------------------------- */

static int run_side(const struct parts *of, const struct ot_size *s, size_t first, uint64_t *copy,
                    struct transport *t)
{
    return of->is_client ? run_client(s, copy, t)
                         : run_server(s, copy, of->x + first, of->z + first, t);
}

static int run_part(void *arg, int64_t part, struct transport *t)
{
    const struct parts *of = arg;
    struct ot_size s;
    size_t first = part_of(of, part, &s);

    if (s.n == of->whole->n)
        return run_side(of, &s, 0, of->copy, t);
    SECRET uint64_t *copy = secret_array(ot_state_words(&s, of->is_client), sizeof *copy);
    if (copy == NULL)
        return ERR_NOMEM;
    (of->is_client ? copy_client : copy_server)(of, &s, first, copy);
    return run_side(of, &s, first, copy, t);
}

static int run_parts(struct transport *t, const struct relu_batch *b, struct tape *state,
                     uint64_t at, struct parts *of)
{
    TRY(ot_check_batch(b));
    const struct ot_size s = ot_size_of(b);
    const size_t words = ot_state_words(&s, of->is_client);
    SECRET uint64_t *copy = secret_array(words, sizeof *copy);

    if (copy == NULL)
        return ERR_NOMEM;
    TRY(tape_take(state, at, copy, words * sizeof *copy));
    of->whole = &s;
    of->step = part_size(&s, t);
    of->copy = copy;
    return lanes_run(t, part_count(of), true, run_part, of);
}

static int ot_online_server(struct transport *t, const struct relu_batch *b, struct tape *state,
                            uint64_t at, const uint64_t *x, uint64_t *z)
{
    return run_parts(t, b, state, at, &(struct parts){.x = x, .z = z});
}

static int ot_online_client(struct transport *t, const struct relu_batch *b, struct tape *state,
                            uint64_t at)
{
    return run_parts(t, b, state, at, &(struct parts){.is_client = true});
}

const struct relu_backend relu_ot = {
    .code = 2,
    .name = "ot",
    .text = "DReLU by oblivious transfer",
    .seconds = {.online_batch = 75e-6,
                .online = 0.043e-6,
                .offline_batch = 170e-6,
                .offline = 1.35e-6},
    .online_messages = ot_online_messages,
    .silent_rows = ot_silent_rows,
    .choose = ot_choose,
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
