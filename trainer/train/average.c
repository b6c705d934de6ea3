/*
 * A moving average of the weights, as it is validated and kept in their place.
 *
 *     after step t (from 0):  average = d average + (1 - d) weights,   d = min(ema, (1 + t) / (10 + t))
 *
 * so early weights fade whatever the length of the stage. Running statistics of batch norm belong to
 * weights that nobody keeps; those of the average are means over the first BATCHES batches of the
 * epoch, taken through the same passes as in training, each with the branch and the attack that it has
 * there. The images are keyed by the epoch, so nothing of it is part of the saved state but the average.
 */
#include <string.h>

#include "core/base/minmax.h"
#include "core/op/op.h"
#include "trainer/train/state.h"

#define BATCHES 16

int average_begin(struct trainer *t)
{
    const struct graph *g = t->g;

    if (t->cfg.ema <= 0)
        return 0;
    t->average = arena_array(t->arena, (size_t)g->n_params, sizeof *t->average);
    t->aside = arena_array(t->arena, (size_t)(g->n_params + g->n_buffers), sizeof *t->aside);
    if (t->average == NULL || t->aside == NULL)
        return ERR_NOMEM;
    memcpy(t->average, g->params, (size_t)g->n_params * sizeof *t->average);
    return 0;
}

void average_add(struct trainer *t)
{
    const double step = (double)t->at.step, early = (1 + step) / (10 + step);
    const float keep = (float)(early < t->cfg.ema ? early : t->cfg.ema);
    const float *w = t->g->params;
    float *a = t->average;

    if (a == NULL)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < t->g->n_params; i++)
        a[i] = keep * a[i] + (1 - keep) * w[i];
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* Before update number `done` (from 0) of the statistics: their mean over updates, not a moving one. */
static void set_momentum(struct graph *g, int64_t done)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_batchnorm)
            g->node[n].p.batchnorm.momentum = (float)((double)done / (double)(done + 1));
}

struct estimate {
    struct trainer *t;
    int64_t epoch, done[2]; /* updates of a branch */
};

static int observe(struct estimate *e, const float *pixels, int64_t n, int branch)
{
    if (n == 0)
        return 0;
    set_momentum(e->t->g, e->done[branch]++);
    return exec_train_forward(e->t->forward, pixels, n, branch, true, NULL);
}

static int observe_batch(struct estimate *e, int64_t index)
{
    struct trainer *t = e->t;
    struct batch *b = &t->batch;

    TRY(batch_load(b, &t->cfg, t->train, t->forward, t->order, (int32_t)e->epoch, index));
    const int64_t first = b->n - b->n_adv;
    if (t->cfg.clean)
        TRY(observe(e, b->pixels, b->n_clean, 0));
    if (b->augmented != NULL)
        TRY(observe(e, b->augmented, b->n_clean, 0));
    TRY(train_teach(t, TRAIN_ADVERSARIAL, first, b->n_adv));
    TRY(train_attack(t, first, b->n_adv, e->epoch));
    return observe(e, t->adv, b->n_adv, train_adv_branch(t));
}

static int estimate(struct trainer *t, int64_t epoch)
{
    struct estimate e = {t, epoch, {0, 0}};
    struct graph *g = t->g;
    OWNED float *momentum = mem_array((size_t)g->n_node + 1, sizeof *momentum);
    int rc = 0;

    if (momentum == NULL)
        return ERR_NOMEM;
    for (int32_t n = 0; n < g->n_node; n++)
        momentum[n] = g->node[n].op == &op_batchnorm ? g->node[n].p.batchnorm.momentum : 0;
    batch_order(&t->cfg, t->train, (int32_t)epoch, t->order);
    for (int64_t i = 0; rc == 0 && i < min_i64(BATCHES, t->per_epoch); i++)
        rc = observe_batch(&e, i);
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_batchnorm)
            g->node[n].p.batchnorm.momentum = momentum[n];
    return rc;
}

int average_enter(struct trainer *t, int64_t epoch)
{
    struct graph *g = t->g;

    train_copy(t->aside, g->params, g->n_params);
    train_copy(t->aside + g->n_params, g->buffers, g->n_buffers);
    train_copy(g->params, t->average, g->n_params);
    graph_touch(g);
    return estimate(t, epoch);
}

void average_leave(struct trainer *t)
{
    struct graph *g = t->g;

    train_copy(g->params, t->aside, g->n_params);
    train_copy(g->buffers, t->aside + g->n_params, g->n_buffers);
    graph_touch(g);
}
