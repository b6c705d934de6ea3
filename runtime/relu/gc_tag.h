#ifndef RUNTIME_RELU_GC_TAG_H
#define RUNTIME_RELU_GC_TAG_H
/*
 * Tags on the client's results of backend gc, against a client that deviates online. Words here are those
 * of vole.h, mod 2^104; lambda, M, u, uc, r as in gc.c; i goes over [payloads][n].
 *
 * The client's result for colour lambda is M_lambda + W_lambda with W_lambda = lambda u + (1 - 2 lambda) uc - r,
 * which it knows offline. It puts 40 random bits above each W_lambda and takes, with the server's alpha,
 *
 *     T_lambda = K_lambda + alpha W_lambda                                offline (vole.h)
 *     server sends  alpha M_lambda + K - K_lambda + pad_lambda            online, beside M_lambda; K fresh
 *     client sends  R = M + W, and a layer's SHA-256 of all T = T_lambda + the word that it could open
 *     server        K + alpha R = T, for both colours with the same K: so the tag does not tell the sign
 *
 * The pads are hashes of the output label under slots of their own. The upper 40 bits of R are those random
 * ones plus a carry: they say nothing. A client with an honest preparation holds one output label, hence one of the
 * two words; another R fails but for a chance of 2^-40 a layer, and the server stops there.
 *
 * State, server: alpha (8), K [i], then covers K - K_lambda + pad_lambda [2][i], 16 bytes each. Client:
 * T [2][i], 16 bytes each, then the random bits [2][i], 8 each.
 */
#include "runtime/relu/party.h"

/* What a result and a layer have more than without: bytes online, each direction. */
#define GC_TAG_SERVER_BYTES (2 * VOLE_BYTES) /* a result */
#define GC_TAG_CLIENT_BYTES (VOLE_BYTES - 8) /* a result */
#define GC_TAG_DIGEST 32                     /* a layer, of the client */
#define GC_TAG_OFFLINE (2 * VOLE_WORD_BYTES) /* a result, of the client */

struct gc_tag_server {
    uint64_t alpha;
    vole_word *key, *cover[2]; /* cover [lambda][i] */
};
struct gc_tag_client {
    vole_word *tag[2];
    uint64_t *high[2];
};
size_t gc_tag_state(size_t results, int is_client);
/* Arrays in aligned secret memory for the state of so many results: secret_free(*memory). */
int gc_tag_server_new(size_t results, struct gc_tag_server *s, vole_word **memory) MUST_CHECK;
int gc_tag_client_new(size_t results, struct gc_tag_client *c, vole_word **memory) MUST_CHECK;
void gc_tag_server_save(const struct gc_tag_server *s, size_t results, struct tape *state);
int gc_tag_server_load(struct gc_tag_server *s, size_t results, struct tape *state,
                       uint64_t at) MUST_CHECK;
void gc_tag_client_save(const struct gc_tag_client *c, size_t results, struct tape *state);
int gc_tag_client_load(struct gc_tag_client *c, size_t results, struct tape *state,
                       uint64_t at) MUST_CHECK;

/* Offline. On entry cover has the pads. */
int gc_tag_take(struct relu_party *p, size_t results, struct gc_tag_server *s) MUST_CHECK;
int gc_tag_give(struct relu_party *p, size_t results, const uint64_t *u, const uint64_t *uc,
                const uint64_t *r, struct gc_tag_client *c) MUST_CHECK;

/* Pads of the labels of comparisons first ... first + n - 1 for payload j: pad [n]. label: scratch. */
void gc_tag_pads(struct hasher *h, const struct relu_batch *b, int32_t payload, size_t first,
                 size_t n, struct block *label, vole_word *pad);
/* The word for M of colour lambda. */
vole_word gc_tag_word(const struct gc_tag_server *s, int lambda, size_t i, uint64_t m);
/* Receives results and their tags; z [results]: the results' lower 64 bits. ERR_PEER: another result. */
int gc_tag_check(struct transport *t, const struct gc_tag_server *s, size_t results,
                 uint64_t *z) MUST_CHECK;
/* Sends them. word [results]: M_lambda with W added, mod 2^104; tag [results]: T. */
int gc_tag_send(struct transport *t, size_t results, const vole_word *word,
                const vole_word *tag) MUST_CHECK;
#endif
