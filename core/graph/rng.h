#ifndef CORE_GRAPH_RNG_H
#define CORE_GRAPH_RNG_H
/*
 * Counter-based random numbers (Philox 4x32-10 of Random123): the value depends only on the key, so
 * threads, resume and order of work change nothing. Never for secrets (runtime/crypto/prg.c is).
 */
#include <stdint.h>

enum rng_stream { /* one number each, never reused: they are part of the file format of results */
                  RNG_INIT = 1,
                  RNG_SHUFFLE = 2,
                  RNG_CROP = 3,
                  RNG_AUGMIX = 4,
                  RNG_PGD = 5,
                  RNG_MASK = 6,
                  RNG_SPLIT = 7,
                  RNG_SYNTH = 8,
                  RNG_CORRUPT = 9,
                  RNG_CALIB = 10,
                  RNG_ATTACK = 11,
                  RNG_TEST = 12,
                  RNG_EXTRA = 13,
};
struct rng { /* a generator positioned at (seed, stream, epoch, sample), counter 0 */
    uint32_t key[2], ctr[4], out[4];
    int32_t left;
};
struct rng rng_at(uint64_t seed, enum rng_stream stream, uint32_t epoch, uint64_t sample);
uint32_t rng_u32(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n); /* uniform in 0 ... n-1, no bias; n > 0 */
float rng_uniform(struct rng *r);              /* [0,1), 24 bits */
double rng_uniform_double(struct rng *r);      /* [0,1), 53 bits */
float rng_range(struct rng *r, float lo, float hi);
float rng_normal(struct rng *r); /* mean 0, variance 1 */
/* 0 ... n-1 in random order (Fisher-Yates). */
void rng_permutation(struct rng *r, uint32_t *out, uint32_t n);
#endif
