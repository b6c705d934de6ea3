#ifndef RUNTIME_PARTY_SIM2PC_H
#define RUNTIME_PARTY_SIM2PC_H
/*
 * Both parties' shares in one process: the result of a two-party run with the same test seed, bit
 * for bit (which streams decide it: share_rng.h), without its cryptography, except that ring-LWE's
 * small errors are those of the backend itself (PI_LINEAR_RLWE).
 */
#include "runtime/model.h"

/* Words of memory of sim2pc_image. */
size_t sim2pc_words(const struct pi_model *m);
/* With PI_LINEAR_RLWE images must come in order, one at a time, and m->rlwe be open.
 * x [input]: fixed-point image; y [results of m->schedule]. */
int sim2pc_image(const struct pi_model *m, uint64_t number, const uint64_t *x, uint64_t *words,
                 uint64_t *y) MUST_CHECK;
#endif
