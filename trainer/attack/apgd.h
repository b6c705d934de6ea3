#ifndef TRAINER_ATTACK_APGD_H
#define TRAINER_ATTACK_APGD_H
/*
 * APGD, L-infinity (Croce and Hein, ICML 2020): momentum steps whose length is halved
 * at fixed checkpoints where an image makes no progress.
 *
 * Every image runs for itself, so one that is misclassified, confirmed by an evaluation pass, leaves
 * the run at once: the flags are those of complete runs, the time goes to the others.
 */
#include "trainer/attack/attack.h"

#define APGD_MAX_STEPS 10000

struct apgd_params {
    double eps;       /* pixel units */
    int32_t steps;    /* 100 */
    int32_t restarts; /* 1 */
    int32_t targets;  /* APGD-T: 9, at most classes - 1 are used */
    double rho;       /* 0.75 */
};
struct apgd_params apgd_defaults(void); /* eps 8/255 */
/* Iterations from one checkpoint, where the step length may be halved, to the next: the interval after
 * one of length k; k = 0: the first. With 100 steps checkpoints come after 22, 41, 57, 70, ..., 99. */
int32_t apgd_interval(int32_t steps, int32_t k);

/* Untargeted with CE or DLR. curve [steps + 1], may be NULL: mean over the images of the best loss so
 * far, and then no image leaves early (restart 0 counts). */
int apgd_attack(struct attack_model *m, const struct apgd_params *p, enum attack_loss kind,
                struct attack_batch *b, double *curve) MUST_CHECK;
/* APGD-T: for j = 2, 3, ... a run toward the j-th largest logit of the clean image. */
int apgd_targeted(struct attack_model *m, const struct apgd_params *p,
                  struct attack_batch *b) MUST_CHECK;
#endif
