#ifndef RUNTIME_RELU_RELU_H
#define RUNTIME_RELU_RELU_H
/*
 * ReLUs of two parties behind one interface, and the registry of the backends that do them. All that
 * others know of a backend is its struct relu_backend: gc.c, ot.c; a third one is its own file and a
 * line in the registry (relu.c).
 *
 * A batch (plan/schedule.h) is n independent selections of comparison width m, each with p payloads:
 *
 *     in    x = x_server + x_client (mod 2^64), |x| < 2^(m-1);  y_j likewise, j = 0 ... p-1, y_0 = x
 *     out   z_j = [x >= 0] * y_j, shared anew: z_j = (server's result) + (client's result)
 *
 * p = 1 is a ReLU. max(a,b) = b + ReLU(a-b), so a max pool is a tree of them; an argmax carries the
 * index as second payload. Arrays are [p][n]: all first payloads, then all second ones.
 *
 * The client knows its operands and chooses its result share before the image exists, so all that
 * depends on them is done offline and kept as bytes ("state", secret, single-use, one per party
 * and batch) on a tape, which may be a file: a state of a large layer does not fit in memory. The server's operands come online. One batch is one layer: gather first.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/crypto/ferret.h"
#include "runtime/crypto/prg.h"
#include "runtime/crypto/tape.h"
#include "runtime/net/transport.h"
#include "runtime/plan/schedule.h"

#define RELU_MAX_PAYLOADS 2
#define RELU_MAX_BACKENDS 8

/* Constants of the cost model (cost.h), wall clock, both parties on one machine: of a batch, and of one
 * comparison of RELU_COST_WIDTH bits in it; other widths in proportion to their bytes. */
#define RELU_COST_WIDTH 25
struct relu_seconds {
    double online_batch, online, offline_batch, offline;
};
/* What a connection's parties agree on (ways.h). All zero: OT extension, default forms. */
struct relu_ways {
    const struct ferret_set *down, *up; /* of silent OT; NULL: OT extension */
    uint64_t lot;                       /* of several set-ups of a session, this one */
    uint64_t bits_per_second, rtt_ns;   /* the link that forms are chosen for; 0: default forms */
    bool ahead;                         /* forms save time online alone: offline nobody waits */
    bool tagged;                        /* batches are: the client may deviate (party/covert.h) */
};
struct relu_party; /* base OTs and extension state of one party of one connection */

struct relu_backend {
    uint8_t code;                /* on the wire, not 0 */
    const char *name, *text;     /* "gc"; what it is, in a few words */
    bool can_tag;                /* whether batches may be tagged */
    bool reads_fast;             /* client online: takes its state faster than a file gives it */
    struct relu_seconds seconds; /* of the machine named at cost_machine_default */
    /* Bytes of the states; what both parties send in one batch, exactly. */
    size_t (*state_size)(const struct relu_batch *, int is_client);
    uint64_t (*offline_bytes)(const struct relu_batch *, int from_client);
    uint64_t (*online_bytes)(const struct relu_batch *, int from_client);
    /* One-way messages of a batch online. */
    int32_t (*online_messages)(const struct relu_batch *);
    /* Rows of silent OT that a batch takes, either direction, where its form says so: their rounds come
     * on top of offline_bytes (ferret_bytes). */
    uint64_t (*silent_rows)(const struct relu_batch *, int up);
    /* Sets the form for a link: the least messages * half a round trip + bytes / rate, where ahead is set
     * of the online phase alone. Both parties find the same. NULL: there is nothing to choose. */
    void (*choose)(struct relu_batch *, uint64_t bits_per_second, uint64_t rtt_ns, bool ahead);
    /* What one party sends in open, exactly; tagged: where batches will be. */
    uint64_t (*open_bytes)(int from_client, bool tagged);
    /* Runs the set-up with the other party (base OTs). sid: of the session, the same for both, never
     * used again except with another ways->lot. ways NULL: all zero. Borrows t and rng until close. */
    int (*open)(int is_client, const uint8_t sid[HASH_SID], const struct relu_ways *ways,
                struct transport *t, struct prg *rng, struct relu_party **out);
    void (*close)(struct relu_party *); /* wipes; NULL is fine */
    /* Offline, called by both parties for the same batch. u [p][n]: the client's operands; r [p][n]:
     * the client's result shares, chosen by the caller. state: gets the next state_size bytes. */
    int (*offline_server)(struct relu_party *, const struct relu_batch *, struct tape *state);
    int (*offline_client)(struct relu_party *, const struct relu_batch *, const uint64_t *u,
                          const uint64_t *r, struct tape *state);
    /* Online; needs no party, only a state (which may come from a bundle on disk), taken from `at` on. x
     * [p][n]: the server's operands; z [p][n]: its result shares. Of a tagged batch ERR_PEER means
     * that the client's results are not those that it had to send. */
    int (*online_server)(struct transport *t, const struct relu_batch *, struct tape *state,
                         uint64_t at, const uint64_t *x, uint64_t *z);
    int (*online_client)(struct transport *t, const struct relu_batch *, struct tape *state,
                         uint64_t at);
};

extern const struct relu_backend relu_gc, relu_ot;

/* The registry: all backends, NULL at the end. Where nothing else decides, the first is taken. */
const struct relu_backend *const *relu_backends(void);
/* NULL if there is none of that name, or with that code. */
const struct relu_backend *relu_backend_find(const char *name);
const struct relu_backend *relu_backend_coded(uint8_t code);
#endif
