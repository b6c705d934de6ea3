#ifndef TRAINER_TRAIN_OPTIM_H
#define TRAINER_TRAIN_OPTIM_H
/*
 * SGD with momentum, or Adam, on the flat parameter block and on soft masks; learning-rate schedules.
 *
 *     SGD    d = g + wd w;   v = mu v + d;   w -= lr v            Nesterov: w -= lr (d + mu v)
 *     Adam   d = g + wd w;   m = .9 m + .1 d;   s = .999 s + .001 d^2
 *            w -= lr (m / (1 - .9^t)) / (sqrt(s / (1 - .999^t)) + 1e-8)          t = 1, 2, ...
 *
 * v starts at 0, which makes the first step v = d as in the published runs. Frozen parameters
 * (preprocessing in front of the network) never move. Masks do not decay and are kept in [0,1].
 */
#include <stdbool.h>

#include "core/graph/graph.h"

enum optim_kind { OPTIM_SGD, OPTIM_ADAM };
struct optim_params {
    double momentum, weight_decay;
    bool nesterov;
    bool decay_norm; /* false: weight decay on weights of rank >= 2 only */
    enum optim_kind kind;
    bool masks;       /* the masks are trained too */
    double mask_rate; /* their learning rate over that of the parameters; 0: the same */
};
struct optim {
    struct optim_params p;
    int64_t n;        /* parameters, and with `masks` the masks after them */
    int64_t n_params; /* of them */
    float *velocity;  /* [n]; Adam: first moments */
    float *square;    /* [n] Adam's second moments, else NULL */
    uint8_t *rule;    /* [n]: 0 frozen, 1 no decay, 2 decay */
};
int optim_init(struct optim *o, const struct optim_params *p, const struct graph *g) MUST_CHECK;
void optim_release(struct optim *o); /* after a failure of optim_init too */
/* Step `step` (from 0; Adam's t is step + 1) with gradients grad [n]; calls graph_touch. */
void optim_step(struct optim *o, struct graph *g, const float *grad, double lr, int64_t step);

enum optim_schedule { OPTIM_STEP, OPTIM_COSINE, OPTIM_CONSTANT, OPTIM_HALVES };
/* Learning rate of step `step` of `steps` (both >= 0). STEP: x 0.1 after 62.5, 75, 87.5 %; HALVES:
 * x 0.1 after 50 and 75 %; COSINE: half a period down to 0 at `steps`. The first `warmup` steps rise
 * linearly to lr. */
double optim_rate(enum optim_schedule s, double lr, int64_t step, int64_t steps, int64_t warmup);
#endif
