#ifndef TESTS_RELU_PAIR_H
#define TESTS_RELU_PAIR_H
/*
 * Whole comparisons between two parties of one process. Set-up and offline run once for all batches
 * and leave states; online runs from copies of them, as often as wanted, over a line of its own.
 */
#include "runtime/relu/relu.h"
#include "tests/pair.h"

#define RELU_PAIR_BATCHES 24

struct relu_pair_batch { /* arrays [p][n], owned */
    struct relu_batch b;
    uint64_t *x, *u, *r, *z;
};
struct relu_pair_party {
    struct relu_pair *pair;
    int is_client;
    struct tape *state[RELU_PAIR_BATCHES]; /* in memory */
    struct transport_count setup;          /* where set-up ended */
    double seconds[3]; /* begin, end of set-up, end of offline; begin, -, end of online */
};
struct relu_pair {
    const struct relu_backend *backend;
    uint8_t seed;          /* of both parties' randomness */
    struct relu_ways ways; /* set after open; forms of batches say the same */
    int n_batches;
    int64_t lanes; /* online: the first so many batches beside one another */
    struct relu_pair_batch batch[RELU_PAIR_BATCHES];
    struct relu_pair_party party[2]; /* server, client */
    struct pair_half half[2];
};

/* Random shares: x, u, r from `seed`; |x + u| < 2^(m-1) for payload 0, anything for payload 1; edge
 * values of the width come first. */
void relu_pair_open(struct relu_pair *p, const struct relu_backend *backend, uint8_t seed,
                    int n_batches, const struct relu_batch *batches);
void relu_pair_close(struct relu_pair *p); /* states too */

/* Prepare half[] for pair_run: set-up and offline, from nothing; or online. half[i].rc tells how
 * they ended, and x, u, r may be changed before. */
void relu_pair_offline(struct relu_pair *p);
void relu_pair_online(struct relu_pair *p);
/* Both, one after the other, and relu_pair_check. */
void relu_pair_run(struct relu_pair *p);
/* Fails the test unless both halves are well and z + r is [x + u >= 0] times each payload. */
void relu_pair_check(const struct relu_pair *p);
#endif
