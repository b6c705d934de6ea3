#ifndef TRAINER_LOSS_H
#define TRAINER_LOSS_H
/*
 * Losses on logits and their gradients (METHOD.md, Stages).
 *
 *     CE(z, y)       = mean over n of -log softmax(z)_y
 *     KL_tau(zS, zT) = tau^2 / n sum_i sum_k p_ik (log p_ik - log q_ik)
 *                      p = softmax(zT / tau), q = softmax(zS / tau)
 *
 * z [n][k]. The gradients are ADDED to dz, scaled by `weight`; dz may be NULL. The loss that is
 * returned is not scaled by weight. Rows are computed in double and summed in index order. The
 * divisor is given as `count`, so that a block of a batch gets its share of the mean; count 1 with
 * n = 1 gives a sum.
 */
#include <stdint.h>

double loss_ce(const float *z, const int32_t *y, int64_t n, int64_t k, int64_t count, double weight,
               float *dz);
/* The same with targets (1 - smoothing) [k = y] + smoothing / K. */
double loss_ce_smooth(const float *z, const int32_t *y, int64_t n, int64_t k, double smoothing,
                      int64_t count, double weight, float *dz);
double loss_kl(const float *zs, const float *zt, int64_t n, int64_t k, double tau, int64_t count,
               double weight, float *dzs);
/* The same, and the gradient of the side that gives p: adds to dzt too. */
double loss_kl_both(const float *zs, const float *zt, int64_t n, int64_t k, double tau,
                    int64_t count, double weight, float *dzs, float *dzt);
/* Index of the first largest of k values; -1 if one is not a number. */
int64_t loss_argmax(const float *z, int64_t k);
/* Rows whose argmax is the label. */
int64_t loss_correct(const float *z, const int32_t *y, int64_t n, int64_t k);
#endif
