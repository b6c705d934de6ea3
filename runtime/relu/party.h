#ifndef RUNTIME_RELU_PARTY_H
#define RUNTIME_RELU_PARTY_H
/*
 * What both comparison backends share: a party with its two OT extensions, and the offline half of
 * the multiplexer. For the backends only; others use relu.h.
 */
#include "runtime/crypto/cot.h"
#include "runtime/crypto/vole.h"
#include "runtime/relu/relu.h"

/* Uses of the hash, one a purpose (slots of garble_tweak); below: gates of the comparison. */
enum relu_slot {
    RELU_SLOT_OUTPUT = 128, /* gc: output labels, element = comparison */
    RELU_SLOT_SELECT,       /* selection of the client's operands, element = comparison */
    RELU_SLOT_LEAF,         /* ot: element = row of the transfers, server to client */
    RELU_SLOT_TREE,         /* ot: the same, of the tree or the terms */
    RELU_SLOT_MUX,          /* ot: selection of the server's operands */
    RELU_SLOT_ALPHA,        /* keys of the transfers that choose by alpha; element = transfer */
    RELU_SLOT_TAG,          /* gc: output labels again, for the tags of payload 0; 1 follows */
};

struct relu_party {
    int is_client;
    struct transport *t;
    struct prg *rng;
    uint8_t sid[HASH_SID];
    struct hasher *hash;
    struct otext_sender *sender;     /* the server's labels and keys go to the client, and back */
    struct otext_receiver *receiver; /* the other direction */
    struct cot_sender give;          /* the same, or silent, for who need not know */
    struct cot_receiver take;
    struct vole_prover *prover;     /* client, where batches are tagged */
    struct vole_verifier *verifier; /* server */
};
uint64_t relu_party_open_bytes(int from_client, bool tagged);
int relu_party_open(int is_client, const uint8_t sid[HASH_SID], const struct relu_ways *ways,
                    struct transport *t, struct prg *rng, struct relu_party **out) MUST_CHECK;
void relu_party_close(struct relu_party *);
FREE_AT(relu_party_close, struct relu_party)
/* ERR_ARG unless the batch is one that the backends can do. */
int relu_check_batch(const struct relu_batch *b) MUST_CHECK;

/* So many comparisons share a key of the hash. The most that hash one of them: 4 (m-1) + 8 in gc, 2 m more with pairs, 2 (m-1) +
 * 4 ANDs + 4 or 2 (m-1) + 2 terms + 4 in ot, all at most 2^8 for 20 digits, one-shot 6, which keeps a key to 2^20 hashes. */
#define RELU_PART ((size_t)4096)
/* The key for comparisons from number `first` on to the end of its part. */
int relu_hash_key(struct hasher *h, const uint8_t sid[HASH_SID], const struct relu_batch *b,
                  size_t first) MUST_CHECK;

/* Keys of transfers from their rows: key1[k] = H(q[k] ^ delta), then q[k] = H(q[k]). */
void relu_keys(struct hasher *h, size_t n, struct block delta, struct block tweak, struct block *q,
               struct block *key1);

/*
 * Shares of s * v for a bit s of one party and payloads v of the other, n comparisons at once, from
 * one transfer each with keys k0, k1 (word j of a key serves payload j):
 *
 *     owner of v    sends f = v + k0 - k1, takes -k0
 *     owner of s    holds k_s, takes k_s + s * f
 *
 * Arrays are [p][n].
 */
/* diff = k0 - k1 and minus = -k0 from the rows q [n] of the owner of v, overwritten. */
int relu_select_keys(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     struct block *q, uint64_t *diff, uint64_t *minus) MUST_CHECK;
/* k_s from the rows t [n] of the owner of s, overwritten. */
int relu_select_key(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                    struct block *t, uint64_t *key) MUST_CHECK;
/* Both steps with the message between them. The owner of v: sends f; minus is its share. */
int relu_select_give(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     struct block *q, const uint64_t *v, uint64_t *minus) MUST_CHECK;
/* The owner of s: receives f; bits of s as in otext.h. */
int relu_select_take(struct relu_party *p, const struct relu_batch *b, enum relu_slot slot,
                     const uint64_t *bits, struct block *t, uint64_t *share) MUST_CHECK;
#endif
