/*
 * The registry of ReLU backends, and what its backends share (relu.h, relu/party.h).
 *
 * Set-up: first the extension in which the server sends, then the one in which the client sends.
 */
#include "runtime/relu/relu.h"

#include <string.h>

#include "runtime/ring/bits.h"
#include "runtime/crypto/garble.h"
#include "runtime/plan/plan.h"
#include "runtime/relu/party.h"

#define MOST_COMPARISONS ((int64_t)1 << 32) /* element numbers of all slots stay below 2^48 */
#define KEYS_PIECE ((size_t)256)

/* ---- registry ----------------------------------------------------------------------------- */

static const struct relu_backend *const backends[] = {&relu_gc, &relu_ot, NULL};
_Static_assert(sizeof backends / sizeof *backends <= RELU_MAX_BACKENDS + 1,
               "cost_machine has room");

const struct relu_backend *const *relu_backends(void)
{
    return backends;
}

const struct relu_backend *relu_backend_find(const char *name)
{
    for (const struct relu_backend *const *k = backends; *k != NULL; k++)
        if (strcmp((*k)->name, name) == 0)
            return *k;
    return NULL;
}

const struct relu_backend *relu_backend_coded(uint8_t code)
{
    for (const struct relu_backend *const *k = backends; *k != NULL; k++)
        if ((*k)->code == code)
            return *k;
    return NULL;
}

int relu_check_batch(const struct relu_batch *b)
{
    if (b->n < 0 || b->n > MOST_COMPARISONS || b->width < 5 || b->width > PLAN_MAX_WIDTH ||
        b->payloads < 1 || b->payloads > RELU_MAX_PAYLOADS)
        return fail(ERR_ARG, "%lld comparisons of %d bits with %d payloads cannot be made",
                    (long long)b->n, b->width, b->payloads);
    return 0;
}

/* ---- set-up ------------------------------------------------------------------------------- */

/* Each party is sender once and receiver once; alpha comes by transfers of the client. */
uint64_t relu_party_open_bytes(int from_client, bool tagged)
{
    uint64_t transfers = otext_setup_bytes(0) + otext_setup_bytes(1);

    if (!tagged)
        return transfers;
    return transfers + (from_client ? VOLE_SETUP_BYTES : otext_bytes(VOLE_ALPHA, 0) + OTEXT_CHECK);
}

/* Of the hash that makes keys from rows: no batch has that number. */
#define ALPHA_BATCH UINT64_MAX

struct alpha_keys {
    struct block rows[VOLE_ALPHA], other[VOLE_ALPHA], keys[VOLE_ALPHA][2];
};

static int open_prover(struct relu_party *p)
{
    SECRET struct alpha_keys *k = secret_array(1, sizeof *k);

    if (k == NULL)
        return ERR_NOMEM;
    TRY(otext_send(p->sender, p->t, VOLE_ALPHA, 0, k->rows));
    TRY(otext_verify(p->sender, p->t));
    TRY(hasher_key(p->hash, p->sid, ALPHA_BATCH, 0));
    relu_keys(p->hash, VOLE_ALPHA, otext_delta(p->sender),
              garble_tweak(ALPHA_BATCH, RELU_SLOT_ALPHA, 0), k->rows, k->other);
    for (int i = 0; i < VOLE_ALPHA; i++) {
        k->keys[i][0] = k->rows[i];
        k->keys[i][1] = k->other[i];
    }
    return vole_prover_new(p->t, p->rng, k->keys, &p->prover);
}

static int open_verifier(struct relu_party *p)
{
    SECRET struct block *rows = secret_array(VOLE_ALPHA, sizeof *rows);
    SECRET uint64_t *alpha = secret_array(1, sizeof *alpha);

    if (rows == NULL || alpha == NULL)
        return ERR_NOMEM;
    TRY(otext_receive_random(p->receiver, p->t, VOLE_ALPHA, alpha, rows));
    TRY(otext_prove(p->receiver, p->t));
    TRY(hasher_key(p->hash, p->sid, ALPHA_BATCH, 0));
    hash_blocks(p->hash, rows, rows, VOLE_ALPHA, garble_tweak(ALPHA_BATCH, RELU_SLOT_ALPHA, 0));
    return vole_verifier_new(p->t, *alpha, rows, &p->verifier);
}

/* Both directions as the ways say; the server's transfers go down. */
static int open_ways(struct relu_party *p, const struct relu_ways *ways)
{
    static const struct relu_ways none;
    struct ferret_id give = {{0}, 0}, take = {{0}, 0};

    ways = ways == NULL ? &none : ways;
    memcpy(give.sid, p->sid, sizeof give.sid);
    memcpy(take.sid, p->sid, sizeof take.sid);
    give.instance = 2 * ways->lot + (uint64_t)p->is_client;
    take.instance = 2 * ways->lot + (uint64_t)!p->is_client;
    TRY(cot_sender_open(&p->give, p->sender, p->is_client ? ways->up : ways->down, &give, p->rng));
    return cot_receiver_open(&p->take, p->receiver, p->is_client ? ways->down : ways->up, &take);
}

int relu_party_open(int is_client, const uint8_t sid[HASH_SID], const struct relu_ways *ways,
                    struct transport *t, struct prg *rng, struct relu_party **out)
{
    SCOPED(relu_party_close_at) struct relu_party *p = secret_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    p->is_client = is_client;
    p->t = t;
    p->rng = rng;
    memcpy(p->sid, sid, sizeof p->sid);
    TRY(hasher_new(&p->hash));
    if (is_client)
        TRY(otext_receiver_new(t, rng, &p->receiver));
    TRY(otext_sender_new(t, rng, &p->sender));
    if (!is_client)
        TRY(otext_receiver_new(t, rng, &p->receiver));
    TRY(open_ways(p, ways));
    if (ways != NULL && ways->tagged)
        TRY(is_client ? open_prover(p) : open_verifier(p));
    *out = mem_hand_on(&p);
    return 0;
}

void relu_party_close(struct relu_party *p)
{
    if (p == NULL)
        return;
    vole_prover_free(p->prover);
    vole_verifier_free(p->verifier);
    cot_sender_close(&p->give);
    cot_receiver_close(&p->take);
    otext_sender_free(p->sender);
    otext_receiver_free(p->receiver);
    hasher_free(p->hash);
    secret_free(p);
}

/* ---- selection ---------------------------------------------------------------------------- */

/* In pieces that stay in the first cache. */
void relu_keys(struct hasher *h, size_t n, struct block delta, struct block tweak, struct block *q,
               struct block *key1)
{
    for (size_t at = 0, piece; at < n; at += piece, tweak.lo += piece) {
        piece = n - at < KEYS_PIECE ? n - at : KEYS_PIECE;
        for (size_t k = at; k < at + piece; k++)
            key1[k] = (struct block){q[k].lo ^ delta.lo, q[k].hi ^ delta.hi};
        hash_blocks(h, q + at, q + at, piece, tweak);
        hash_blocks(h, key1 + at, key1 + at, piece, tweak);
    }
}

int relu_hash_key(struct hasher *h, const uint8_t sid[HASH_SID], const struct relu_batch *b,
                  size_t first)
{
    return hasher_key(h, sid, b->tweak, first / RELU_PART);
}

static size_t part_at(size_t n, size_t first)
{
    return n - first < RELU_PART ? n - first : RELU_PART;
}

/* Both keys of one part, from comparison `first`. */
static int keys_of_part(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                        size_t first, struct block *q, struct block *key1)
{
    TRY(relu_hash_key(p->hash, p->sid, b, first));
    relu_keys(p->hash, part_at((size_t)b->n, first), otext_delta(p->sender),
              garble_tweak(b->tweak, slot, first), q, key1);
    return 0;
}

int relu_select_keys(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     struct block *q, uint64_t *diff, uint64_t *minus)
{
    size_t n = (size_t)b->n;
    SECRET struct block *key1 = secret_array(n, sizeof *key1);

    if (key1 == NULL)
        return ERR_NOMEM;
    for (size_t first = 0; first < n; first += RELU_PART)
        TRY(keys_of_part(p, b, slot, first, q + first, key1 + first));
    for (size_t k = 0; k < n; k++) {
        diff[k] = q[k].lo - key1[k].lo;
        minus[k] = 0 - q[k].lo;
    }
    for (size_t k = 0; b->payloads > 1 && k < n; k++) {
        diff[n + k] = q[k].hi - key1[k].hi;
        minus[n + k] = 0 - q[k].hi;
    }
    return 0;
}

int relu_select_key(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                    struct block *t, uint64_t *key)
{
    size_t n = (size_t)b->n;

    for (size_t first = 0; first < n; first += RELU_PART) {
        TRY(relu_hash_key(p->hash, p->sid, b, first));
        hash_blocks(p->hash, t + first, t + first, part_at(n, first),
                    garble_tweak(b->tweak, slot, first));
    }
    for (size_t k = 0; k < n; k++)
        key[k] = t[k].lo;
    for (size_t k = 0; b->payloads > 1 && k < n; k++)
        key[n + k] = t[k].hi;
    return 0;
}

static size_t words_of(const struct relu_batch *b)
{
    return (size_t)b->n * (size_t)b->payloads;
}

int relu_select_give(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     struct block *q, const uint64_t *v, uint64_t *minus)
{
    SECRET uint64_t *f = secret_array(words_of(b), sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    TRY(relu_select_keys(p, b, slot, q, f, minus));
    for (size_t k = 0; k < words_of(b); k++)
        f[k] += v[k];
    return transport_send(p->t, f, words_of(b) * sizeof *f);
}

int relu_select_take(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     const uint64_t *bits, struct block *t, uint64_t *share)
{
    size_t n = (size_t)b->n;
    SECRET uint64_t *f = secret_array(words_of(b), sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    TRY(relu_select_key(p, b, slot, t, share));
    TRY(transport_recv(p->t, f, words_of(b) * sizeof *f));
    for (size_t j = 0; j < (size_t)b->payloads; j++)
        for (size_t k = 0; k < n; k++)
            share[j * n + k] += f[j * n + k] & bits_mask(bits, k);
    return 0;
}
