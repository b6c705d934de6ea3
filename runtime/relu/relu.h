#ifndef RUNTIME_RELU_RELU_H
#define RUNTIME_RELU_RELU_H
/*
 * The comparison step behind one interface; backends relu_gc.c and relu_ot.c (pi.md section 4).
 *
 * A batch is n independent selections of comparison width m, each with p payloads:
 *
 *     in    x = x_server + x_client (mod 2^64), |x| < 2^(m-1);  y_j likewise, j = 0 ... p-1, y_0 = x
 *     out   z_j = [x >= 0] * y_j, shared anew: z_j = (server's result) + (client's result)
 *
 * p = 1 is a ReLU. max(a,b) = b + ReLU(a-b), so a max pool is a tree of them; an argmax carries the
 * index as second payload. Arrays are [p][n]: all first payloads, then all second ones.
 *
 * The client knows its operands and chooses its result share before the image exists, so all that
 * depends on them is done offline and stored as bytes ("state", secret, single-use, one per party
 * and batch). The server's operands come online. One batch is one layer: gather first.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

#define RELU_MAX_PAYLOADS 2

struct relu_batch {
    int64_t n;
    int32_t width;    /* m: 4q+1, 21 ... 61 */
    int32_t payloads; /* p */
    uint64_t tweak;   /* unique per batch of a connection and bundle: keys the hashes */
};
struct relu_party; /* base OTs and extension state of one party of one connection */

struct relu_backend {
    const char *name; /* "gc", "ot" */
    /* Bytes of the states; what both parties send in one batch, exactly. */
    size_t (*state_size)(const struct relu_batch *, int is_client);
    uint64_t (*offline_bytes)(const struct relu_batch *, int from_client);
    uint64_t (*online_bytes)(const struct relu_batch *, int from_client);
    /* What one party sends in open, exactly. */
    uint64_t (*open_bytes)(int from_client);
    /* Runs the set-up with the other party (base OTs). sid: of the session, the same for both, never
     * used again. Borrows t and rng until close. */
    int (*open)(int is_client, const uint8_t sid[HASH_SID], struct transport *t, struct prg *rng,
                struct relu_party **out);
    void (*close)(struct relu_party *); /* wipes; NULL is fine */
    /* Offline, called by both parties for the same batch. u [p][n]: the client's operands; r [p][n]:
     * the client's result shares, chosen by the caller. state: state_size bytes at
     * any address, written. */
    int (*offline_server)(struct relu_party *, const struct relu_batch *, uint8_t *state);
    int (*offline_client)(struct relu_party *, const struct relu_batch *, const uint64_t *u,
                          const uint64_t *r, uint8_t *state);
    /* Online; needs no party, only a state (which may come from a bundle on disk). x [p][n]: the
     * server's operands; z [p][n]: its result shares. Consumes the state (wipes it). */
    int (*online_server)(struct transport *t, const struct relu_batch *, uint8_t *state,
                         const uint64_t *x, uint64_t *z);
    int (*online_client)(struct transport *t, const struct relu_batch *, uint8_t *state);
};

extern const struct relu_backend relu_gc, relu_ot;
/* NULL if there is none of that name. */
const struct relu_backend *relu_backend_find(const char *name);
#endif
