#ifndef TRAINER_TRAIN_ATTENTION_H
#define TRAINER_TRAIN_ATTENTION_H
/*
 * Attention transfer (METHOD.md, AT), and the places where it looks.
 *
 *     M(f)       = mean over channels of f^2                  one map [H,W] an image
 *     Mhat       = M / max(|M|_2, 1e-12)
 *     at(fS, fT) = mean over images and pixels of (Mhat_S - Mhat_T)^2
 *     AT         = sum of at over the stages of the network
 *
 * Only the student gets a gradient. Sums run in index order; images are independent of each other.
 */
#include "core/graph/graph.h"

#define ATTENTION_MAX_GROUPS 16

/*
 * Ends of the network's stages, found by themselves: of all residual additions whose results have
 * the same height and width, the last in node order; or the ReLU after it where that is its only
 * reader. So what counts is the last block before each spatial reduction and the last one before the
 * pool: four values for a ResNet-18, three for a ResNet-20, and the three sums of a pre-activation
 * WRN. Without residual additions: the last ReLU of each height and width. Returns how many there
 * are, at most ATTENTION_MAX_GROUPS (the last ones, if there are more); 0 is possible.
 */
int32_t attention_groups(const struct graph *g, value_id out[ATTENTION_MAX_GROUPS]);

struct attention_maps { /* activations of one group, [n][positions][channels] */
    const float *student, *teacher;
    float *grad; /* of the student, added to, times `weight`; may be NULL */
    int64_t n, positions, channels;
    int64_t of; /* images that the mean is over: n, or more where other ranks have some */
};
/* Doubles of work space that attention_loss needs. */
size_t attention_work(int64_t n, int64_t positions);
/* each [n]: what an image adds to at of the group, not scaled by weight. */
void attention_loss(const struct attention_maps *m, double weight, double *work, double *each);
#endif
