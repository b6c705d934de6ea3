#ifndef TRAINER_TRAIN_BN_H
#define TRAINER_TRAIN_BN_H
/*
 * Batch-norm re-insertion: a network whose BN was folded away gets one back after every
 * convolution that feeds a ReLU, with the statistics it has on data, so that its function stays the
 * same and training has something to normalise with (METHOD.md, Two BN branches).
 */
#include "core/graph/graph.h"

#define BN_CALIBRATION 512 /* images that do in practice */

struct bn_report {
    int32_t sites;       /* inserted */
    double max_rel_diff; /* largest |logit difference| / largest |logit|, on the same images */
};
/* pixels [n,C,H,W] in [0,1]. No site: 0 in the report, graph unchanged. ERR_VERIFY if the function
 * moved by more than 1e-4 relative; report may be NULL. */
int bn_insert(struct graph *g, const float *pixels, int64_t n, struct bn_report *report) MUST_CHECK;
#endif
