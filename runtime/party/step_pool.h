#ifndef RUNTIME_PARTY_STEP_POOL_H
#define RUNTIME_PARTY_STEP_POOL_H
/* Windows of a max pool as groups of a tournament. What lies outside the image takes no part. */
#include "runtime/plan/plan.h"

/* Candidates of every output, count [outputs]; the stride of their storage is the window's size. */
void step_pool_counts(const struct plan_pool *p, const int64_t in[3], const int64_t out[3],
                      int32_t *count);
/* Copies the candidates, to [outputs * window], in the order of the window's rows. */
void step_pool_gather(uint64_t *to, const uint64_t *x, const struct plan_pool *p,
                      const int64_t in[3], const int64_t out[3]);
#endif
