#ifndef TRAINER_ATTACK_FAB_H
#define TRAINER_ATTACK_FAB_H
/*
 * FAB-T, L-infinity (Croce and Hein, ICML 2020, arXiv 1907.02044): walks to the nearest
 * point where a target class beats the label, so it measures a distance; an image is broken if that
 * is at most eps.
 */
#include "trainer/attack/attack.h"

#define FAB_MAX_STEPS 10000

struct fab_params {
    double eps;                  /* success: distance <= eps; pixel units */
    int32_t steps, restarts;     /* 100, 1 */
    int32_t targets;             /* 9, at most classes - 1 are used */
    double alpha_max, eta, beta; /* 0.1, 1.05, 0.9 */
};

/* distance [n], may be NULL: the least L-infinity distance found (infinity where none was); then all
 * targets run to their end and broken says whether it is <= eps. Without it an image that is broken
 * leaves at once. */
int fab_attack(struct attack_model *m, const struct fab_params *p, struct attack_batch *b,
               double *distance) MUST_CHECK;
/* d [n] of least max|d_i| with w.(v + d) = level and v + d in [0,1]^n; where the hyperplane does not
 * meet the box, the corner nearest to it. */
void fab_project(const float *v, const float *w, double level, int64_t n, float *d);
#endif
