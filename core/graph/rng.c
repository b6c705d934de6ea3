/*
 * Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011) from the Random123 headers.
 *
 * One block of four words per counter value:
 *
 *     key     = seed bits 0-31 | seed bits 32-63
 *     counter = block number   | sample bits 0-31 | sample bits 32-63 | stream << 24 | epoch
 *
 * The packing is injective for stream < 256 and epoch < 2^24; both are asserted. A generator gives
 * 2^32 blocks before it repeats itself.
 */
#include "core/graph/rng.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include <Random123/philox.h>

#define EPOCH_BITS 24
#define PI 3.14159265358979323846

struct rng rng_at(uint64_t seed, enum rng_stream stream, uint32_t epoch, uint64_t sample)
{
    assert((uint32_t)stream < 1u << (32 - EPOCH_BITS));
    assert(epoch < 1u << EPOCH_BITS);
    return (struct rng){
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .ctr = {0, (uint32_t)sample, (uint32_t)(sample >> 32),
                (uint32_t)stream << EPOCH_BITS | epoch},
    };
}

static void next_block(struct rng *r)
{
    philox4x32_ctr_t ctr;
    philox4x32_key_t key;

    memcpy(ctr.v, r->ctr, sizeof r->ctr);
    memcpy(key.v, r->key, sizeof r->key);
    ctr = philox4x32(ctr, key);
    memcpy(r->out, ctr.v, sizeof r->out);
    r->ctr[0]++;
    r->left = 4;
}

uint32_t rng_u32(struct rng *r)
{
    if (r->left == 0)
        next_block(r);
    return r->out[4 - r->left--];
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    assert(n > 0);
    /* Lemire, "Fast random integer generation in an interval", 2019: the high word of a product,
     * redrawn while the low word lies in the part that would favour some results */
    uint32_t threshold = (0u - n) % n;
    uint64_t m;
    do
        m = (uint64_t)rng_u32(r) * n;
    while ((uint32_t)m < threshold);
    return (uint32_t)(m >> 32);
}

float rng_uniform(struct rng *r)
{
    return (float)(rng_u32(r) >> 8) * 0x1p-24f;
}

double rng_uniform_double(struct rng *r)
{
    uint64_t high = rng_u32(r) >> 5, low = rng_u32(r) >> 6; /* 27 + 26 bits */

    return (double)(high << 26 | low) * 0x1p-53;
}

float rng_range(struct rng *r, float lo, float hi)
{
    return lo + (hi - lo) * rng_uniform(r);
}

float rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform_double(r); /* (0, 1]: the logarithm exists */
    double v = rng_uniform_double(r);

    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * PI * v)); /* Box-Muller, one of the pair */
}

void rng_permutation(struct rng *r, uint32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = rng_below(r, i), t = out[i - 1];
        out[i - 1] = out[j];
        out[j] = t;
    }
}
