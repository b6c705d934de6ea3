#ifndef TRAINER_TRAIN_SOFT_MASK_H
#define TRAINER_TRAIN_SOFT_MASK_H
/*
 * Masks that are learned (SNL: Cho et al., ICML 2022): every MaskedRelu is soft, y = a relu(z) + (1-a) z,
 * the optimizer moves a with the weights, and the loss has the penalty lambda sum |a|. The a above a
 * threshold are counted:
 *
 *     after an update   count <= budget                                 the stage is over
 *     after an epoch    count not below its lowest, epoch >= patience   lambda *= factor
 *
 * That is the published form, for thousands of epochs. In few epochs all masks fall together or not far
 * enough, as lambda happens to be. SOFT_PLAN puts a bound in the penalty's place: after every update the
 * masks are projected onto the set of all masks with mean a <= plan, by
 *
 *     a <- max(a - kappa, 0)        kappa >= 0 as small as it can be
 *     plan = 1 - (1 - budget / masks) min(1, done updates / (SOFT_DESCENT x all updates of the stage))
 *
 * so those fall first that the losses do not hold up. From SOFT_DESCENT on the set is that of all means
 * of 0/1 masks that keep the budget; its corners are these masks, and the rate's last part leads there.
 *
 * (The published code looks at the budget after epochs only. With few epochs the count would fall far
 * below it, and the order of masks that have reached 0 says nothing.)
 *
 * a is kept in [0,1] after every step (the published code lets it run free; there only |a| counts).
 */
#include "core/graph/graph.h"

#define SOFT_DESCENT 0.8 /* share of the stage in which the plan falls */

enum soft_rule { SOFT_PENALTY, SOFT_PLAN };
struct soft_params {
    bool on;
    enum soft_rule rule;
    double rate;      /* learning rate of the masks over that of the weights; published 1 */
    double lambda;    /* at the start; published 1e-5. SOFT_PLAN has none */
    double factor;    /* published 1.1 */
    double threshold; /* published 0.01 */
    int64_t patience; /* first epoch, from 0, that may raise lambda; published 5 */
    int64_t budget;   /* ReLUs to be left */
};
struct soft_state {        /* 8 bytes each: saved as it lies in memory */
    double lambda;         /* SOFT_PLAN: kappa of the last update */
    int64_t lowest, count; /* lowest: -1 before the first epoch; count: of the last one */
    int64_t stopped;       /* the budget is reached */
    int64_t closed;        /* and the end of that epoch is done */
};
/* Published numbers, off. */
struct soft_params soft_defaults(void);
/* Makes the MaskedRelu nodes of g soft or hard. */
void soft_switch(struct graph *g, bool on);
struct soft_state soft_begin(const struct soft_params *p);
/* lambda sum |a|, summed in index order; adds its gradient to grad [n_masks] (0 at a = 0). */
double soft_penalty(const struct graph *g, double lambda, float *grad);
int64_t soft_count(const struct graph *g, double threshold);
/* Counts; has the budget been reached? */
bool soft_reached(const struct soft_params *p, const struct graph *g, struct soft_state *s);
/* The mean mask that SOFT_PLAN allows after update number `step` of `steps`. */
double soft_plan(const struct soft_params *p, int64_t step, int64_t steps, int64_t masks);
/* Projects the masks [>= 0] onto mean <= `mean` >= 0; returns kappa, 0 where nothing was to be done. */
double soft_project(struct graph *g, double mean);
/* Counts; SOFT_PENALTY: raises lambda where that is due. */
void soft_epoch_end(const struct soft_params *p, int64_t epoch, const struct graph *g,
                    struct soft_state *s);
#endif
