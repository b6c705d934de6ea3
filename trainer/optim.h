#ifndef TRAINER_OPTIM_H
#define TRAINER_OPTIM_H
/*
 * SGD with momentum on the flat parameter block, and learning-rate schedules.
 *
 *     d = g + wd w;   v = mu v + d;   w -= lr v            Nesterov: w -= lr (d + mu v)
 *
 * v starts at 0, which makes the first step v = d as in the published runs. Frozen parameters
 * (preprocessing in front of the network) never move.
 */
#include <stdbool.h>

#include "core/graph.h"

struct optim_params {
    double momentum, weight_decay;
    bool nesterov;
    bool decay_norm; /* false: weight decay on weights of rank >= 2 only */
};
struct optim {
    struct optim_params p;
    int64_t n;
    float *velocity; /* [n] */
    uint8_t *rule;   /* [n]: 0 frozen, 1 no decay, 2 decay */
};
int optim_init(struct optim *o, const struct optim_params *p, const struct graph *g) MUST_CHECK;
void optim_release(struct optim *o);
/* One step with gradients grad [n]; calls graph_touch. */
void optim_step(struct optim *o, struct graph *g, const float *grad, double lr);

enum optim_schedule { OPTIM_STEP, OPTIM_COSINE, OPTIM_CONSTANT };
/* Learning rate of step `step` of `steps` (both >= 0). STEP: x 0.1 after 62.5, 75, 87.5 %; COSINE:
 * half a period down to 0 at `steps`. The first `warmup` steps rise linearly to lr. */
double optim_rate(enum optim_schedule s, double lr, int64_t step, int64_t steps, int64_t warmup);
#endif
