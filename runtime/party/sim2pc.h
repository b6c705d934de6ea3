#ifndef RUNTIME_PARTY_SIM2PC_H
#define RUNTIME_PARTY_SIM2PC_H
/*
 * Both parties' shares in one process: the result of a two-party run with the same test seed, bit
 * for bit, without its cryptography (which streams decide it: share_rng.h).
 */
#include "runtime/model.h"

/* Words of memory of sim2pc_image. */
size_t sim2pc_words(const struct pi_model *m);
/* x [input]: fixed-point image; y [results of m->schedule]. */
int sim2pc_image(const struct pi_model *m, uint64_t number, const uint64_t *x, uint64_t *words,
                 uint64_t *y) MUST_CHECK;
#endif
