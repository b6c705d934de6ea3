/*
 * Comparison backend "gc" (relu.h): the server garbles the sign of x_server + x_client, the client
 * evaluates, and the output label opens the one of two ciphertexts that makes the result's share.
 *
 * Signs, all mod 2^64; lambda, the colour of the output label, is msb ^ P for P = colour of the
 * zero label; mm = 1 ^ P; so [x >= 0] = 1 ^ msb = lambda ^ mm:
 *
 *     offline    us + uc = mm * u                            (selection: relu_party.h)
 *     server     M_lambda = (lambda ^ mm) * x + (1 - 2 lambda) * us - rho, encrypted under label lambda
 *     client     M + lambda * u + (1 - 2 lambda) * uc = (lambda ^ mm) * (x + u) - rho
 *                sends that minus r
 *     server     adds rho: [..] * (x + u) - r
 *
 * Messages (all sizes follow from n, m, p; blocks are GARBLE_BLOCK comparisons, the last shorter):
 *
 *     offline  client  per block: choice planes of the OT extension for its bits of u, bit-major, and
 *                      their check
 *              server  per block: tables [m-1][2][c] of 16 bytes, paired: those of the pairs [q][3][c]; then
 *                      choice planes for mm [n] and their check
 *              client  f [p][n], 8 bytes
 *     online   server  per block: labels [m][c] of 16 bytes, ciphertexts [2][p][c] of 8
 *              client  [p][n] of 8
 *
 * Paired (the batch's form), the labels of bits 2i and 2i + 1, i below q = floor(m / 2), travel as one word (garble.h):
 * [m - q][c] of 16 bytes.
 *
 * In a tagged batch the client proves its results (gc_tag.h): offline it sends 130 bytes more a result at
 * the end; online 13-byte words [2][p][c] follow the ciphertexts of a block, results are 13 bytes each, and
 * 32 bytes close the batch.
 *
 * States. Server: delta, seed of its labels and rho (per block: labels [m][c], rho [p][c]), then
 * words pads [2][p][n], us [p][n], then bits mm. Client: labels [m][c] of all blocks, tables of all
 * blocks as they came, then words u, uc, r, each [p][n], then the session's id, which keys the hash online. Both: the
 * state of the tags at the end, where there are any.
 */
#include <string.h>

#include "core/base/mem.h"
#include "runtime/ring/bits.h"
#include "runtime/crypto/garble.h"
#include "runtime/relu/gc_tag.h"
#include "runtime/relu/party.h"

#define BLOCK 16 /* bytes */
#define WORD 8
#define SERVER_HEAD (BLOCK + PRG_SEED)

/* Sizes of a batch. */
struct size {
    size_t n, m, p, words; /* words: p * n */
    size_t pairs;          /* q; 0: each label on its own */
    size_t tables;         /* blocks of a comparison: of its gates and of its pairs */
    size_t tag[2];         /* bytes of the states' tags, server and client; 0: none */
    size_t tags;           /* words of tags in flight for a comparison */
};

static struct size size_of(const struct relu_batch *b)
{
    size_t n = (size_t)b->n, p = (size_t)b->payloads;

    size_t m = (size_t)b->width, pairs = b->form.paired ? m / 2 : 0;

    return (struct size){
        n,
        m,
        p,
        n * p,
        pairs,
        2 * (m - 1) + 3 * pairs,
        {b->tagged ? gc_tag_state(n * p, 0) : 0, b->tagged ? gc_tag_state(n * p, 1) : 0},
        b->tagged ? 2 * p : 0};
}

static size_t block_at(const struct size *s, size_t first)
{
    return s->n - first < GARBLE_BLOCK ? s->n - first : GARBLE_BLOCK;
}

static size_t blocks_of(const struct size *s)
{
    return (s->n + GARBLE_BLOCK - 1) / GARBLE_BLOCK;
}

/* The client's first message; its part of one block of c comparisons. */
static size_t choice_bytes(const struct size *s, size_t c)
{
    return otext_bytes(s->m * c, 1) + OTEXT_CHECK;
}

static size_t all_choice_bytes(const struct size *s)
{
    return otext_bytes(s->m * s->n, 1) + OTEXT_CHECK * blocks_of(s);
}

/* Where parts of the states lie. */
static size_t client_words_at(const struct size *s)
{
    return s->n * BLOCK * (s->m + s->tables);
}

static size_t client_sid(const struct size *s)
{
    return client_words_at(s) + 3 * WORD * s->words;
}

static size_t server_tags(const struct size *s)
{
    return SERVER_HEAD + 3 * WORD * s->words + WORD * bits_words(s->n);
}

static size_t gc_state_size(const struct relu_batch *b, int is_client)
{
    struct size s = size_of(b);

    if (is_client)
        return client_sid(&s) + HASH_SID + s.tag[1];
    return server_tags(&s) + s.tag[0];
}

static uint64_t gc_offline_bytes(const struct relu_batch *b, int from_client)
{
    struct size s = size_of(b);

    if (from_client)
        return all_choice_bytes(&s) + WORD * s.words + (b->tagged ? GC_TAG_OFFLINE * s.words : 0);
    return s.n * BLOCK * s.tables + otext_bytes(s.n, 1) + OTEXT_CHECK;
}

static uint64_t gc_online_bytes(const struct relu_batch *b, int from_client)
{
    struct size s = size_of(b);

    if (from_client)
        return WORD * s.words + (b->tagged ? GC_TAG_CLIENT_BYTES * s.words + GC_TAG_DIGEST : 0);
    return s.n * BLOCK * (s.m - s.pairs) + 2 * WORD * s.words +
           (b->tagged ? GC_TAG_SERVER_BYTES * s.words : 0);
}

/* Labels and ciphertexts there, results back. */
static int32_t gc_online_messages(const struct relu_batch *b)
{
    (void)b;
    return 2;
}

/* Words of pairs save 128 bits of the line for two bits and cost a hash of some 10 ns. */
#define PAIRED_RATE UINT64_C(10000000000) /* bits per second */
/* Beyond it a comparison would take more hashes than RELU_PART allows for. */
#define PAIRED_WIDTH 41

static void gc_choose(struct relu_batch *b, uint64_t bits_per_second, uint64_t rtt_ns, bool ahead)
{
    (void)rtt_ns; /* messages are the same */
    b->form.paired = ahead && bits_per_second < PAIRED_RATE && b->width <= PAIRED_WIDTH;
}

static int check_batch(const struct relu_batch *b)
{
    TRY(relu_check_batch(b));
    if (b->form.paired && b->width > PAIRED_WIDTH)
        return fail(ERR_ARG, "labels of %d bits do not travel in pairs", b->width);
    return 0;
}

/* ---- scratch ------------------------------------------------------------------------------ */

/* One block at work: own and other party's labels, tables, output labels, of all bits (offline) or of
 * a pair at a time (online). One secret array. */
struct work {
    struct block *a, *b, *tables, *out, *other, *scratch; /* [bits][c]; tables [4 bits][c] */
    uint64_t *bits, *cipher; /* choices [bits * c]; ciphertexts [2][p][c] */
    vole_word *tags;         /* [2][p][c], and the same packed */
    uint8_t *packed;
    struct block *memory;
};

static int work_new(const struct size *s, size_t bits, struct work *w)
{
    size_t c = s->n < GARBLE_BLOCK ? s->n : GARBLE_BLOCK, labels = bits * c;
    size_t words = bits_words(labels) + 2 * s->p * c, tags = s->tags * c;
    size_t blocks = 6 * labels + 2 * c + garble_scratch(c);

    w->memory = secret_array(blocks + 2 * tags + (words + 1) / 2, sizeof *w->memory);
    if (w->memory == NULL)
        return ERR_NOMEM;
    w->a = w->memory;
    w->b = w->a + labels;
    w->tables = w->b + labels;
    w->out = w->tables + 4 * labels;
    w->other = w->out + c;
    w->scratch = w->other + c;
    w->tags = (vole_word *)(void *)(w->memory + blocks);
    w->packed = (uint8_t *)(w->memory + blocks + tags);
    w->bits = &(w->memory + blocks + 2 * tags)->lo;
    w->cipher = w->bits + bits_words(labels);
    return 0;
}

static void work_release(struct work *w)
{
    secret_free(w->memory);
}

/* What the server's words of a state are, and the client's. */
struct server_words {
    uint64_t *pads[2], *us, *mm; /* pads[lambda] [p][n] */
};
struct client_words {
    uint64_t *u, *uc, *r;
};

static struct server_words server_words_in(const struct size *s, uint64_t *at)
{
    return (struct server_words){{at, at + s->words}, at + 2 * s->words, at + 3 * s->words};
}

static struct client_words client_words_in(const struct size *s, uint64_t *at)
{
    return (struct client_words){at, at + s->words, at + 2 * s->words};
}

/* ---- offline ------------------------------------------------------------------------------ */

/* The client's labels of its own bits, to the state. */
static int receive_labels(struct relu_party *p, const struct size *s, struct work *w,
                          const uint64_t *u, struct tape *state)
{
    for (size_t first = 0, c; first < s->n; first += c) {
        c = block_at(s, first);
        bits_of_words(w->bits, u + first, c, 0, s->m);
        TRY(otext_receive_chosen(p->receiver, p->t, s->m * c, w->bits, w->b));
        TRY(otext_prove(p->receiver, p->t));
        tape_put(state, w->b, s->m * c * BLOCK);
    }
    return 0;
}

static int receive_tables(struct relu_party *p, const struct size *s, struct work *w,
                          struct tape *state)
{
    for (size_t first = 0, c; first < s->n; first += c) {
        c = block_at(s, first);
        TRY(transport_recv(p->t, w->tables, s->tables * c * BLOCK));
        tape_put(state, w->tables, s->tables * c * BLOCK);
    }
    return 0;
}

/* Shares of mm * u: v.uc. */
static int give_operands(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                         const struct client_words *v)
{
    SECRET struct block *q = secret_array((size_t)b->n, sizeof *q);

    if (q == NULL)
        return ERR_NOMEM;
    TRY(otext_send(p->sender, p->t, (size_t)b->n, 1, q));
    TRY(otext_verify(p->sender, p->t));
    return relu_select_give(p, b, RELU_SLOT_SELECT, q, u, v->uc);
}

static int gc_offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                             const uint64_t *r, struct tape *state)
{
    TRY(check_batch(b)); /* before memory of its size */
    const struct size s = size_of(b);
    SCOPED(work_release) struct work w = {0};
    SECRET uint64_t *words = NULL;
    SECRET vole_word *tag_memory = NULL;
    struct gc_tag_client tags = {0};

    TRY(work_new(&s, s.m, &w));
    TRY(receive_labels(p, &s, &w, u, state));
    TRY(receive_tables(p, &s, &w, state));
    if ((words = secret_array(3 * s.words, sizeof *words)) == NULL)
        return ERR_NOMEM;
    if (b->tagged)
        TRY(gc_tag_client_new(s.words, &tags, &tag_memory));
    struct client_words v = client_words_in(&s, words);
    TRY(give_operands(p, b, u, &v));
    if (b->tagged)
        TRY(gc_tag_give(p, s.words, u, v.uc, r, &tags));
    TRY(transport_flush(p->t));
    memcpy(v.u, u, s.words * WORD);
    memcpy(v.r, r, s.words * WORD);
    tape_put(state, words, 3 * s.words * WORD);
    tape_put(state, p->sid, HASH_SID);
    if (b->tagged)
        gc_tag_client_save(&tags, s.words, state);
    return 0;
}

/* Pads of the tags, to covers, from the labels of colour 0 [c]. */
static void tag_pads(struct relu_party *p, const struct relu_batch *b, size_t first, size_t c,
                     struct work *w, const struct gc_tag_server *tags)
{
    SCOPED(block_wipe) struct block d = otext_delta(p->sender);

    for (int32_t j = 0; j < b->payloads; j++)
        for (size_t l = 0; l < 2; l++) {
            memcpy(w->a, w->out, c * BLOCK);
            for (size_t k = 0; k < c; k++)
                block_add(&w->a[k], d, (uint64_t)0 - l);
            gc_tag_pads(p->hash, b, j, first, c, w->a, tags->cover[l] + (size_t)(j * b->n) + first);
        }
}

/* Output labels [c] of the block -> pads under both colours, and mm. */
static void output_pads(struct relu_party *p, const struct relu_batch *b, size_t first, size_t c,
                        struct work *w, const struct server_words *v,
                        const struct gc_tag_server *tags)
{
    struct size s = size_of(b);
    struct block d = otext_delta(p->sender),
                 tweak = garble_tweak(b->tweak, RELU_SLOT_OUTPUT, first);

    for (size_t k = 0; k < c; k++) {
        uint64_t colour = w->out[k].lo & 1;

        v->mm[(first + k) / 64] |= (1 ^ colour) << (first + k) % 64;
        block_add(&w->out[k], d, (uint64_t)0 - colour);
    }
    if (b->tagged)
        tag_pads(p, b, first, c, w, tags);
    relu_keys(p->hash, c, d, tweak, w->out, w->other);
    for (size_t k = 0; k < c; k++) {
        v->pads[0][first + k] = w->out[k].lo;
        v->pads[1][first + k] = w->other[k].lo;
    }
    for (size_t k = 0; s.p > 1 && k < c; k++) {
        v->pads[0][s.n + first + k] = w->out[k].hi;
        v->pads[1][s.n + first + k] = w->other[k].hi;
    }
}

/* Zero labels a [m][c] of the server's bits, and the tables of their pairs. */
static void draw_labels(struct relu_party *p, const struct relu_batch *b, struct prg *labels,
                        size_t first, size_t c, struct work *w)
{
    struct size s = size_of(b);
    struct block *table = w->tables + 2 * (s.m - 1) * c;

    for (size_t i = 0; i < s.pairs; i++) {
        struct block *a = w->a + 2 * i * c;

        prg_bytes(labels, a + c, c * BLOCK);
        garble_pair(p->hash, c, (int)i, otext_delta(p->sender), b->tweak, first, a,
                    table + 3 * i * c, w->scratch);
    }
    prg_bytes(labels, w->a + 2 * s.pairs * c, (s.m - 2 * s.pairs) * c * BLOCK);
}

/* choices: the client's first message. */
static int garble_blocks(struct relu_party *p, const struct relu_batch *b, struct prg *labels,
                         const uint8_t *choices, struct work *w, const struct server_words *v,
                         const struct gc_tag_server *tags)
{
    struct size s = size_of(b);

    for (size_t first = 0, c; first < s.n; first += c) {
        c = block_at(&s, first);
        TRY(otext_expand(p->sender, choices, s.m * c, 1, w->b));
        choices += choice_bytes(&s, c);
        TRY(otext_verify_message(p->sender, choices - OTEXT_CHECK));
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        draw_labels(p, b, labels, first, c, w);
        garble_sign(p->hash, c, b->width, otext_delta(p->sender), b->tweak, first, w->a, w->b,
                    w->tables, w->out, w->scratch);
        TRY(transport_send(p->t, w->tables, s.tables * c * BLOCK));
        output_pads(p, b, first, c, w, v, tags);
    }
    return 0;
}

/* Shares of mm * u: v.us. */
static int take_operands(struct relu_party *p, const struct relu_batch *b,
                         const struct server_words *v)
{
    SECRET struct block *t = secret_array((size_t)b->n, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    TRY(otext_receive_chosen(p->receiver, p->t, (size_t)b->n, v->mm, t));
    TRY(otext_prove(p->receiver, p->t));
    return relu_select_take(p, b, RELU_SLOT_SELECT, v->mm, t, v->us);
}

/* Labels and rho of one batch from its seed; rho's generator is the first fork. */
static int open_streams(const uint8_t *seed, struct prg **labels, struct prg **rho)
{
    TRY(prg_new(seed, labels));
    return prg_fork(*labels, rho);
}

static int gc_offline_server(struct relu_party *p, const struct relu_batch *b, struct tape *state)
{
    TRY(check_batch(b)); /* before memory of its size */
    const struct size s = size_of(b);
    const size_t n_words = 3 * s.words + bits_words(s.n), message = all_choice_bytes(&s);
    SCOPED(block_wipe) struct block delta = otext_delta(p->sender);
    SECRET uint8_t *head = secret_array(SERVER_HEAD, 1);
    SECRET uint64_t *words = secret_array(n_words, sizeof *words);
    OWNED uint8_t *choices = mem_array(message, 1);
    SCOPED(work_release) struct work w = {0};
    SCOPED(prg_free_at) struct prg *labels = NULL, *rho = NULL;
    SECRET vole_word *tag_memory = NULL;
    struct gc_tag_server tags = {0};

    if (head == NULL || words == NULL || choices == NULL)
        return ERR_NOMEM;
    memcpy(head, &delta, BLOCK);
    prg_bytes(p->rng, head + BLOCK, PRG_SEED);
    TRY(work_new(&s, s.m, &w));
    TRY(open_streams(head + BLOCK, &labels, &rho));
    if (b->tagged)
        TRY(gc_tag_server_new(s.words, &tags, &tag_memory));
    struct server_words v = server_words_in(&s, words);
    TRY(transport_recv(p->t, choices, message));
    TRY(garble_blocks(p, b, labels, choices, &w, &v, &tags));
    TRY(take_operands(p, b, &v));
    if (b->tagged)
        TRY(gc_tag_take(p, s.words, &tags));
    tape_put(state, head, SERVER_HEAD);
    tape_put(state, words, n_words * WORD);
    if (b->tagged)
        gc_tag_server_save(&tags, s.words, state);
    return 0;
}

/* ---- online ------------------------------------------------------------------------------- */

/* Words for zeros a [c] -> words for bits i and i + 1 of x. */
static void encode_pair(struct block *a, const uint64_t *x, size_t c, size_t i, struct block delta)
{
    for (size_t e = 0; e < c; e++)
        garble_pair_word(&a[e], x[e] >> i, delta);
}

/* Zero labels a [c] -> labels of bit i of x. */
static void encode_bit(struct block *a, const uint64_t *x, size_t c, size_t i, struct block delta)
{
    for (size_t e = 0; e < c; e++)
        block_add(&a[e], delta, (uint64_t)0 - (x[e] >> i & 1));
}

/* cipher [2][p][c]: M_lambda under its pad; the words of its tag beside it. */
static void encrypt_results(const struct size *s, size_t first, size_t c, const uint64_t *x,
                            const uint64_t *rho, const struct server_words *v,
                            const struct gc_tag_server *tags, struct work *w)
{
    uint64_t *cipher = w->cipher;

    for (size_t j = 0; j < s->p; j++)
        for (size_t e = 0; e < c; e++) {
            size_t k = first + e, at = j * s->n + k;
            uint64_t mm = bits_mask(v->mm, k);
            uint64_t m0 = (x[at] & mm) + v->us[at] - rho[at];
            uint64_t m1 = (x[at] & ~mm) - v->us[at] - rho[at];

            cipher[j * c + e] = m0 ^ v->pads[0][at];
            cipher[(s->p + j) * c + e] = m1 ^ v->pads[1][at];
            if (s->tags > 0) {
                w->tags[j * c + e] = gc_tag_word(tags, 0, at, m0);
                w->tags[(s->p + j) * c + e] = gc_tag_word(tags, 1, at, m1);
            }
        }
    vole_pack(w->packed, w->tags, s->tags * c);
}

static int send_blocks(struct transport *t, const struct relu_batch *b, struct block delta,
                       struct prg *labels, const uint64_t *rho, const struct server_words *v,
                       const struct gc_tag_server *tags, const uint64_t *x, struct work *w)
{
    struct size s = size_of(b);

    for (size_t first = 0, c; first < s.n; first += c) {
        c = block_at(&s, first);
        for (size_t i = 0; i < s.m; i += i / 2 < s.pairs ? 2 : 1) {
            prg_bytes(labels, w->a, c * BLOCK);
            if (i / 2 < s.pairs)
                encode_pair(w->a, x + first, c, i, delta);
            else
                encode_bit(w->a, x + first, c, i, delta);
            TRY(transport_send(t, w->a, c * BLOCK));
        }
        encrypt_results(&s, first, c, x, rho, v, tags, w);
        TRY(transport_send(t, w->cipher, 2 * s.p * c * WORD));
        TRY(transport_send(t, w->packed, s.tags * c * VOLE_BYTES));
    }
    return 0;
}

/* The state at `at`, where it goes; rho follows the words. */
static int take_server(struct tape *state, uint64_t at, const struct size *s, struct block *delta,
                       struct prg **labels, uint64_t *words, struct gc_tag_server *tags)
{
    const size_t n_words = 3 * s->words + bits_words(s->n);
    SECRET uint8_t *seed = secret_array(PRG_SEED, 1);
    SCOPED(prg_free_at) struct prg *rho = NULL;

    if (seed == NULL)
        return ERR_NOMEM;
    TRY(tape_take(state, at, delta, BLOCK));
    TRY(tape_take(state, at + BLOCK, seed, PRG_SEED));
    TRY(open_streams(seed, labels, &rho));
    prg_bytes(rho, words + n_words, s->words * WORD);
    TRY(tape_take(state, at + SERVER_HEAD, words, n_words * WORD));
    return s->tags > 0 ? gc_tag_server_load(tags, s->words, state, at + server_tags(s)) : 0;
}

static int gc_online_server(struct transport *t, const struct relu_batch *b, struct tape *state,
                            uint64_t at, const uint64_t *x, uint64_t *z)
{
    TRY(check_batch(b)); /* before memory of its size */
    const struct size s = size_of(b);
    const size_t n_words = 3 * s.words + bits_words(s.n);
    SECRET uint64_t *words = secret_array(n_words + s.words, sizeof *words);
    SCOPED(work_release) struct work w = {0};
    SCOPED(prg_free_at) struct prg *labels = NULL;
    SCOPED(block_wipe) struct block delta = {0, 0};
    SECRET vole_word *tag_memory = NULL;
    struct gc_tag_server tags = {0};

    if (words == NULL)
        return ERR_NOMEM;
    TRY(work_new(&s, 2, &w));
    if (b->tagged)
        TRY(gc_tag_server_new(s.words, &tags, &tag_memory));
    const uint64_t *rho = words + n_words;
    const struct server_words v = server_words_in(&s, words);
    TRY(take_server(state, at, &s, &delta, &labels, words, &tags));
    TRY(send_blocks(t, b, delta, labels, rho, &v, &tags, x, &w));
    TRY(b->tagged ? gc_tag_check(t, &tags, s.words, z) : transport_recv(t, z, s.words * WORD));
    for (size_t k = 0; k < s.words; k++)
        z[k] += rho[k];
    return 0;
}

/* a if mask is all ones, b if it is 0. */
static vole_word choose(vole_word mask, vole_word a, vole_word b)
{
    return b ^ ((a ^ b) & mask);
}

/* A result as the client sends it: words [p][n] = M + W mod 2^104 and tags T. */
struct proof {
    struct gc_tag_client of;
    vole_word *tags; /* memory of `of` */
    vole_word *word, *tag;
};

/* Tags of the block, of the labels w->out: T_lambda + the word that opens. reply: the results. */
static void open_tags(struct hasher *h, const struct relu_batch *b, size_t first, size_t c,
                      struct work *w, const struct client_words *v, const uint64_t *reply,
                      struct proof *proof)
{
    struct size s = size_of(b);
    vole_word pad[GARBLE_BLOCK];

    vole_unpack(w->tags, w->packed, s.tags * c);
    for (size_t j = 0; j < s.p; j++) {
        memcpy(w->a, w->out, c * BLOCK);
        gc_tag_pads(h, b, (int32_t)j, first, c, w->a, pad);
        for (size_t e = 0; e < c; e++) {
            size_t at = j * s.n + first + e;
            vole_word lambda = (vole_word)0 - (w->out[e].lo & 1);
            uint64_t low = (uint64_t)lambda, high;
            uint64_t own = (v->u[at] & low) + ((v->uc[at] ^ low) - low) - v->r[at];
            vole_word sent = choose(lambda, w->tags[(s.p + j) * c + e], w->tags[j * c + e]);

            high = proof->of.high[0][at] ^ ((proof->of.high[0][at] ^ proof->of.high[1][at]) & low);
            proof->word[at] =
                (((vole_word)high << 64 | own) + (uint64_t)(reply[at] - own)) & VOLE_MASK;
            proof->tag[at] =
                (choose(lambda, proof->of.tag[1][at], proof->of.tag[0][at]) + sent - pad[e]) &
                VOLE_MASK;
        }
    }
    wipe(pad, sizeof pad);
}

/* Output labels of the block open their ciphertexts; reply [p][n]. */
static void open_results(struct hasher *h, const struct relu_batch *b, size_t first, size_t c,
                         struct work *w, const struct client_words *v, uint64_t *reply)
{
    struct size s = size_of(b);

    hash_blocks(h, w->other, w->out, c, garble_tweak(b->tweak, RELU_SLOT_OUTPUT, first));
    for (size_t j = 0; j < s.p; j++)
        for (size_t e = 0; e < c; e++) {
            size_t at = j * s.n + first + e;
            uint64_t lambda = (uint64_t)0 - (w->out[e].lo & 1);
            uint64_t pad = j == 0 ? w->other[e].lo : w->other[e].hi;
            uint64_t c0 = w->cipher[j * c + e], c1 = w->cipher[(s.p + j) * c + e];
            uint64_t m = (c0 ^ ((c0 ^ c1) & lambda)) ^ pad;
            uint64_t uc = (v->uc[at] ^ lambda) - lambda; /* negated if lambda */

            reply[at] = m + (v->u[at] & lambda) + uc - v->r[at];
        }
}

/* Where the client's state lies. */
struct own {
    struct tape *state;
    uint64_t at;
    uint8_t sid[HASH_SID];
};

/* Held labels of the server's bit i, w->a + (i % 2) c where it is one of a pair, whose table is at `table`, else
 * w->a. */
static int receive_label(struct transport *t, const struct relu_batch *b, struct hasher *h,
                         const struct own *own, uint64_t table, size_t first, size_t c, size_t i,
                         struct work *w)
{
    if (i / 2 >= size_of(b).pairs)
        return transport_recv(t, w->a, c * BLOCK);
    if (i % 2 == 1)
        return 0; /* came with the bit before */
    TRY(transport_recv(t, w->a + c, c * BLOCK));
    TRY(tape_take(own->state, table + 3 * (i / 2) * c * BLOCK, w->tables, 3 * c * BLOCK));
    garble_open_pair(h, c, (int)(i / 2), b->tweak, first, w->a, w->tables, w->scratch);
    return 0;
}

/* Gate by gate, as the server's labels arrive: output labels to w->out. */
static int evaluate_block(struct transport *t, const struct relu_batch *b, struct hasher *h,
                          const struct own *own, size_t first, size_t c, struct work *w)
{
    struct size s = size_of(b);
    uint64_t label = own->at + first * s.m * BLOCK;
    uint64_t table = own->at + (s.n * s.m + first * s.tables) * BLOCK;
    uint64_t pairs = table + 2 * (s.m - 1) * c * BLOCK;

    TRY(relu_hash_key(h, own->sid, b, first));
    memset(w->out, 0, c * BLOCK);
    for (size_t i = 0; i < s.m; i++, label += c * BLOCK, table += 2 * c * BLOCK) {
        const struct block *a = w->a + (i / 2 < s.pairs ? i % 2 * c : 0);

        TRY(receive_label(t, b, h, own, pairs, first, c, i, w));
        TRY(tape_take(own->state, label, w->b, c * BLOCK));
        if (i + 1 == s.m) {
            garble_output(c, a, w->b, w->out);
            break;
        }
        TRY(tape_take(own->state, table, w->tables, 2 * c * BLOCK));
        garble_evaluate_gate(h, c, (int)i, b->tweak, first, a, w->b, w->tables, w->out, w->scratch);
    }
    return 0;
}

static int evaluate_blocks(struct transport *t, const struct relu_batch *b, struct hasher *h,
                           const struct own *own, struct work *w, const struct client_words *v,
                           uint64_t *reply, struct proof *proof)
{
    struct size s = size_of(b);

    for (size_t first = 0, c; first < s.n; first += c) {
        c = block_at(&s, first);
        TRY(evaluate_block(t, b, h, own, first, c, w));
        TRY(transport_recv(t, w->cipher, 2 * s.p * c * WORD));
        TRY(transport_recv(t, w->packed, s.tags * c * VOLE_BYTES));
        open_results(h, b, first, c, w, v, reply);
        if (b->tagged)
            open_tags(h, b, first, c, w, v, reply, proof);
    }
    return 0;
}

static int proof_new(const struct size *s, const struct own *own, struct proof *out)
{
    TRY(gc_tag_client_new(s->words, &out->of, &out->tags));
    if ((out->word = secret_array(2 * s->words, sizeof *out->word)) == NULL)
        return ERR_NOMEM;
    out->tag = out->word + s->words;
    return gc_tag_client_load(&out->of, s->words, own->state, own->at + client_sid(s) + HASH_SID);
}

static void proof_release(struct proof *p)
{
    secret_free(p->tags);
    secret_free(p->word);
}

static int gc_online_client(struct transport *t, const struct relu_batch *b, struct tape *state,
                            uint64_t at)
{
    TRY(check_batch(b)); /* before memory of its size */
    const struct size s = size_of(b);
    SECRET uint64_t *words = secret_array(4 * s.words, sizeof *words);
    SCOPED(work_release) struct work w = {0};
    SCOPED(hasher_free_at) struct hasher *h = NULL;
    SCOPED(proof_release) struct proof proof = {0};
    struct own own = {.state = state, .at = at};

    if (words == NULL)
        return ERR_NOMEM;
    TRY(work_new(&s, 2, &w));
    TRY(hasher_new(&h));
    if (b->tagged)
        TRY(proof_new(&s, &own, &proof));
    TRY(tape_take(state, at + client_words_at(&s), words, 3 * s.words * WORD));
    TRY(tape_take(state, at + client_sid(&s), own.sid, sizeof own.sid));
    uint64_t *reply = words + 3 * s.words;
    const struct client_words v = client_words_in(&s, words);
    TRY(evaluate_blocks(t, b, h, &own, &w, &v, reply, &proof));
    TRY(b->tagged ? gc_tag_send(t, s.words, proof.word, proof.tag)
                  : transport_send(t, reply, s.words * WORD));
    return transport_flush(t);
}

const struct relu_backend relu_gc = {
    .code = 1,
    .name = "gc",
    .text = "garbled circuits",
    .can_tag = true,
    .reads_fast = true, /* 1.2 KB a comparison of half a microsecond */
    .seconds = {.online_batch = 30e-6,
                .online = 0.56e-6,
                .offline_batch = 180e-6,
                .offline = 1.5e-6},
    .online_messages = gc_online_messages,
    .choose = gc_choose,
    .state_size = gc_state_size,
    .offline_bytes = gc_offline_bytes,
    .online_bytes = gc_online_bytes,
    .open_bytes = relu_party_open_bytes,
    .open = relu_party_open,
    .close = relu_party_close,
    .offline_server = gc_offline_server,
    .offline_client = gc_offline_client,
    .online_server = gc_online_server,
    .online_client = gc_online_client,
};
