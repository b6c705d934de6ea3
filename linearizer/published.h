#ifndef LINEARIZER_PUBLISHED_H
#define LINEARIZER_PUBLISHED_H
/*
 * Defects of the published reference code, for `--preset paper --as-published` alone: what they cost
 * can then be measured (trainer/METHOD.md tells of them).
 *
 *     1   the student loses the identity skips of post-activation blocks; those on a change of
 *         shape stay, and pre-activation networks lose none
 *     2   the teacher has one BN for both branches on its 1x1 shortcuts; the student has two
 *     3   the student begins with random weights (core/graph/fresh.h)
 *     4   a position stays if its score is strictly above the k-th largest one: k - 1 of them, fewer
 *         with ties. With k = 0 the reference fails; here nothing stays
 *     5   the masks move until the last epoch
 *     13  the first masks are one random map a layer, the same for all its channels: kept where
 *         U > 1 - k/N, so their number is near k, not k
 *
 * Not repeated: selection on the test set, features that move statistics twice, fixed image sizes.
 */
#include "linearizer/linearizer.h"

/* Returns how many skips were removed, or an error. */
int published_drop_skips(struct graph *g) MUST_CHECK;
/* After pass_dual_branch. Returns how many BN lost their second branch, or an error. */
int published_share_shortcuts(struct graph *g) MUST_CHECK;
/* As mask_select, row 4. */
int published_select(struct graph *g, const struct relu_site *site, const double *score,
                     int64_t k) MUST_CHECK;
/* As mask_random, row 13. k [n]. */
void published_first_masks(struct graph *g, int32_t n, const struct relu_site *sites, uint64_t seed,
                           const int64_t *k);
#endif
