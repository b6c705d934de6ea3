#ifndef RUNTIME_PLAN_TOURNAMENT_H
#define RUNTIME_PLAN_TOURNAMENT_H
/*
 * Largest of groups of numbers by rounds of comparisons, on one party's shares.
 *
 * Candidates of group g lie at value[g * stride ...]; count[g] of them are left. A round compares
 * candidates 2i and 2i+1 of every group; where the count is odd the last one moves on unopposed:
 *
 *     max(a, b) = b + [a - b >= 0] (a - b)        index likewise: ib + [a - b >= 0] (ia - ib)
 *
 * so the earlier candidate wins a tie, and one batch of selections a round is all the interaction.
 */
#include <stdint.h>

#include "runtime/plan/plan.h"

struct tournament {
    int64_t groups, stride;
    int32_t *count;     /* [groups], 1 or more each */
    uint64_t *value[2]; /* [groups * stride]; value[1]: index, NULL if not wanted */
};
/* Comparisons of the next round; 0: every group has one candidate left. */
int64_t tournament_pairs(const struct tournament *t);
/* Differences a - b of the round, x [payloads][pairs]. */
void tournament_round(const struct tournament *t, uint64_t *x, int64_t pairs);
/* Takes this party's shares of the selections, z [payloads][pairs]. */
void tournament_advance(struct tournament *t, const uint64_t *z, int64_t pairs);
/* Comparisons of each round when only counts are known; changes count. */
int64_t tournament_skip(int32_t *count, int64_t groups);

/* Windows of a max pool as groups; what lies outside the image takes no part.
 * Candidates of every output, count [outputs]; the stride of their storage is the window's size. */
void pool_counts(const struct plan_pool *p, const int64_t in[3], const int64_t out[3],
                 int32_t *count);
/* Copies the candidates, to [outputs * window], in the order of the window's rows. */
void pool_gather(uint64_t *to, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                 const int64_t out[3]);
#endif
