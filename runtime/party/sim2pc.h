#ifndef RUNTIME_PARTY_SIM2PC_H
#define RUNTIME_PARTY_SIM2PC_H
/*
 * Both parties' shares in one process: the result of a two-party run with the same test seed, bit
 * for bit (which streams decide it: share_rng.h), without its cryptography, except that ring-LWE's
 * small errors are those of the backend itself.
 */
#include "runtime/party/sim_linear.h"
#include "runtime/plan/schedule.h"
#include "runtime/ring/prepared.h"

struct sim2pc {
    const struct prepared *m; /* with weights */
    const struct schedule *schedule;
    uint64_t test_seed;
    bool dealer; /* the run takes a dealer's correlations */
    struct sim_linear
        *own; /* a backend that adds small errors to linear steps; NULL: without them */
};
/* Words of memory of sim2pc_lot. */
size_t sim2pc_words(const struct prepared *m, const struct schedule *s, int64_t images);
/* Images that are prepared together; where a backend runs itself, lots must come in order, one at a time, and
 * their sizes are part of what is predicted.
 * x [images][input]: fixed-point; y [images][results of the schedule]. number: of the first image. */
int sim2pc_lot(const struct sim2pc *s, uint64_t number, int64_t images, const uint64_t *x,
               uint64_t *words, uint64_t *y) MUST_CHECK;
#endif
