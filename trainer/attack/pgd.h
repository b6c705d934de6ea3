#ifndef TRAINER_ATTACK_PGD_H
#define TRAINER_ATTACK_PGD_H
/*
 * Projected gradient descent in the L-infinity box (Madry et al. 2018).
 *
 *     x0     = clip01(x + U(-eps, eps))
 *     x(t+1) = clip01(clip[x-eps, x+eps](x(t) + alpha sign(grad_x J)))
 *
 * Pixels are in [0,1]; the attacked network runs in evaluation mode through the batch-norm branch
 * that the caller names. The random start depends only on (seed, stream, epoch, sample, restart), so
 * batches, threads and resume change nothing.
 *
 * A specification as users write it: "pgd:eps=8/255,alpha=2/255,steps=20,restarts=1", every part
 * after "pgd" optional.
 */
#include <stdbool.h>

#include "core/graph/rng.h"
#include "trainer/attack/spec.h"

#define PGD_MAX_STEPS 10000
#define PGD_MAX_RESTARTS 1000

struct pgd_params {
    double eps, alpha; /* pixel units; eps 0 ... 1, alpha > 0 (default 8/255 and 2/255) */
    int32_t steps;     /* 0 ... PGD_MAX_STEPS; 0: the random start alone (noise) */
    int32_t restarts;  /* 1 ... PGD_MAX_RESTARTS; used by evaluation only */
    bool random_start;
};

/* eps 8/255, alpha 2/255, random start, one restart. */
struct pgd_params pgd_defaults(int32_t steps);
/* Reads a specification of the attack `pgd`; ERR_ARG names the part that is wrong. */
int pgd_parse(const char *text, struct pgd_params *out) MUST_CHECK;
/* As an attack under its name, and back. */
struct attack_spec attack_spec_pgd(const struct pgd_params *p);
struct pgd_params attack_stage_pgd(const struct attack_stage *s);

/* What is maximised: cross-entropy where labels is set, else KL_tau against teacher logits. */
struct pgd_target {
    const int32_t *labels; /* [n] */
    const float *teacher;  /* [n][K] */
    double tau;
};
/* Where the random starts come from: image i of a call is keyed by sample[i]. */
struct pgd_key {
    uint64_t seed;
    enum rng_stream stream; /* RNG_PGD in training, RNG_ATTACK in evaluation */
    uint32_t epoch;
    uint32_t restart;
    const int64_t *sample; /* [n] */
};
/* Attacks n images: adv [n,C,H,W] from pixels [n,C,H,W]. e: EXEC_INPUT_GRAD of the attacked graph g.
 * grad: scratch of the size of adv. adv and pixels must not overlap. */
int pgd_attack(struct exec *e, const struct graph *g, const struct pgd_params *p,
               const struct pgd_target *target, const struct pgd_key *key, const float *pixels,
               int64_t n, int branch, float *grad, float *adv) MUST_CHECK;
#endif
