#ifndef RUNTIME_LINEAR_RLWE_SIDES_H
#define RUNTIME_LINEAR_RLWE_SIDES_H
/*
 * What the two sides of the linear backend "rlwe" share: rlwe_party.c (client, facts, what others ask) and
 * rlwe_server.c. For these two files alone; messages and rules stand in rlwe_party.c.
 */
#include "runtime/linear/rlwe_party.h"

#include "core/base/minmax.h"
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_direct.h"
#include "runtime/linear/rlwe_layout.h"

#define HEADER_BYTES 8
#define GROUP 32        /* polynomials or answers that are moved, then worked on, at a time */
#define TILE 8          /* bands that share a transform of weights at the server */
#define TILE_POLYS 1024 /* uploads that it keeps for that at most: 128 MiB */
#define ANSWER_ROOM (RLWE_HALF_BYTES + (size_t)RLWE_N * RLWE_ANSWER_BYTES)

struct weight_cache {
    uint64_t *w;  /* [in][out][RLWE_PRIMES][RLWE_N], NULL where it did not fit or is not made yet */
    int64_t uses; /* of the step, since the layouts were made */
    struct rlwe_direct
        *direct; /* of a step whose products need no transforms; made when first used */
};
struct rlwe_party {
    const struct plan *plan;
    struct transport *t;
    struct prg *rng;           /* secrets */
    uint8_t stream[RLWE_SEED]; /* of the random halves: the client's seed, the server's nonce */
    uint64_t call;             /* linear steps done on this connection */
    struct rlwe *rlwe;
    struct rlwe_layout *layout; /* one a step, zeros where it is not linear */
    int64_t lot;                /* images that they are for */
    /* client */
    struct rlwe_secret *secret;
    /* server */
    const struct plan_weights *weights;
    uint64_t *key, *key_a;
    struct weight_cache *cache; /* one a step */
    size_t cache_limit, cache_left;
};

/* Bands that are worked on together. */
int64_t rlwe_tile(const struct rlwe_layout *l);
int rlwe_send_header(struct rlwe_party *y, int32_t step, int64_t count) MUST_CHECK;
int rlwe_receive_header(struct rlwe_party *y, int32_t step, int64_t count) MUST_CHECK;
int rlwe_party_new(const struct plan *p, struct transport *t, struct prg *rng,
                   struct rlwe_party **out) MUST_CHECK;
void rlwe_party_close(void *ctx); /* a struct rlwe_party; NULL is fine */
FREE_AT(rlwe_party_close, struct rlwe_party)
/* Layouts of a lot; those of another one, and weights transformed for them, go. */
int rlwe_party_use_lot(struct rlwe_party *y, int64_t lot) MUST_CHECK;

/* Work on `n` of something by several threads; messages of failures are a thread's own, so the first
 * item that failed is done again on this thread. */
struct rlwe_crew {
    int (*work)(void *ctx, int64_t item, int thread);
    void *ctx;
    int threads;
};
int rlwe_crew_run(const struct rlwe_crew *c, int64_t n) MUST_CHECK;
int rlwe_crew_size(int64_t items);
#endif
