#ifndef TESTS_RELU_PAIR_H
#define TESTS_RELU_PAIR_H
/*
 * Whole comparisons between two parties of one process: set-up, offline for all batches, then, with
 * the parties closed, online for all batches from their states.
 */
#include "runtime/relu.h"
#include "tests/pair.h"

#define RELU_PAIR_BATCHES 4

enum relu_phase { RELU_SETUP, RELU_OFFLINE, RELU_ONLINE, RELU_PHASES };
struct relu_pair_batch { /* arrays [p][n], owned by relu_pair_open/close */
    struct relu_batch b;
    uint64_t *x, *u, *r, *z;
};
struct relu_pair_party {
    struct relu_pair *pair;
    int is_client;
    uint8_t *state[RELU_PAIR_BATCHES];
    struct transport_count count[RELU_PHASES];               /* at the end of each */
    double seconds[RELU_PHASES];                             /* time stamps at the end of each */
    void (*hook)(struct relu_pair_party *, enum relu_phase); /* at the end of each; may be NULL */
    void *hook_arg;
};
struct relu_pair {
    const struct relu_backend *backend;
    uint8_t seed; /* of both parties' randomness */
    int n_batches;
    struct relu_pair_batch batch[RELU_PAIR_BATCHES];
    struct relu_pair_party party[2]; /* server, client */
    struct pair_half half[2];
};

/* Random shares: x, u, r from `seed`; |x + u| < 2^(m-1) for payload 0, anything for payload 1; edge
 * values of the width come first. */
void relu_pair_open(struct relu_pair *p, const struct relu_backend *backend, uint8_t seed,
                    int n_batches, const struct relu_batch *batches);
void relu_pair_close(struct relu_pair *p);
/* Puts run and arg of the halves back to the plain ones. */
void relu_pair_reset(struct relu_pair *p);
/* Resets and runs both parties; half[i].rc tells how they ended. May be called again. */
void relu_pair_run(struct relu_pair *p);
/* Fails the test unless z + r is [x + u >= 0] times each payload. */
void relu_pair_check(const struct relu_pair *p);
#endif
