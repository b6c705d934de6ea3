/*
 * SGD with momentum and Adam on the flat block, and learning-rate schedules.
 *
 * An element's rule is decided once: parameters that only frozen nodes read stand still, and
 * without decay_norm only weights of rank 2 and more decay (so gamma, beta and biases do not).
 */
#include "trainer/train/optim.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

enum rule { RULE_FROZEN, RULE_PLAIN, RULE_DECAY };

/* A parameter is trained if a node that is not frozen reads it. */
static bool is_trained(const struct graph *g, value_id v)
{
    for (int32_t i = 0; i < g->n_node; i++)
        for (int32_t j = 0; !g->node[i].frozen && j < g->node[i].n_in; j++)
            if (g->node[i].in[j] == v)
                return true;
    return false;
}

static void set_rules(struct optim *o, const struct graph *g)
{
    for (value_id v = 0; v < g->n_value; v++) {
        const struct value *p = &g->value[v];
        if (p->kind != VALUE_PARAM)
            continue;
        enum rule rule = !is_trained(g, v)                       ? RULE_FROZEN
                         : o->p.decay_norm || p->shape.rank >= 2 ? RULE_DECAY
                                                                 : RULE_PLAIN;
        memset(o->rule + p->offset, (int)rule, (size_t)shape_elems(&p->shape));
    }
}

int optim_init(struct optim *o, const struct optim_params *p, const struct graph *g)
{
    *o = (struct optim){
        .p = *p, .n = g->n_params + (p->masks ? g->n_masks : 0), .n_params = g->n_params};
    o->velocity = mem_aligned((size_t)o->n, sizeof *o->velocity);
    o->rule = mem_array((size_t)o->n, sizeof *o->rule);
    if (p->kind == OPTIM_ADAM)
        o->square = mem_aligned((size_t)o->n, sizeof *o->square);
    if (!o->velocity || !o->rule || (p->kind == OPTIM_ADAM && !o->square))
        return ERR_NOMEM;
    set_rules(o, g);
    if (o->n > o->n_params)
        memset(o->rule + o->n_params, RULE_PLAIN, (size_t)(o->n - o->n_params));
    return 0;
}

void optim_release(struct optim *o)
{
    mem_free(o->velocity);
    mem_free(o->square);
    mem_free(o->rule);
    *o = (struct optim){0};
}

static float decay_of(const struct optim *o, int64_t i)
{
    return o->rule[i] == RULE_DECAY ? (float)o->p.weight_decay : 0;
}

/* w: where element 0 of the flat block would be; elements [first, last). */
static void sgd_block(struct optim *o, float *w, const float *grad, int64_t first, int64_t last,
                      double lr)
{
    const float mu = (float)o->p.momentum, rate = (float)lr;
    const bool nesterov = o->p.nesterov;
    float *v = o->velocity;

#pragma omp parallel for schedule(static)
    for (int64_t i = first; i < last; i++) {
        if (o->rule[i] == RULE_FROZEN)
            continue;
        float d = grad[i] + decay_of(o, i) * w[i - first];
        v[i] = mu * v[i] + d;
        w[i - first] -= rate * (nesterov ? d + mu * v[i] : v[i]);
    }
}

static void adam_block(struct optim *o, float *w, const float *grad, int64_t first, int64_t last,
                       double lr, int64_t step)
{
    const float b1 = 0.9f, b2 = 0.999f;
    const float rate = (float)(lr / (1 - pow(0.9, (double)(step + 1))));
    const float scale = (float)(1 / sqrt(1 - pow(0.999, (double)(step + 1))));
    float *m = o->velocity, *s = o->square;

#pragma omp parallel for schedule(static)
    for (int64_t i = first; i < last; i++) {
        if (o->rule[i] == RULE_FROZEN)
            continue;
        float d = grad[i] + decay_of(o, i) * w[i - first];
        m[i] = b1 * m[i] + (1 - b1) * d;
        s[i] = b2 * s[i] + (1 - b2) * d * d;
        w[i - first] -= rate * m[i] / (scale * sqrtf(s[i]) + 1e-8f);
    }
}

static void step_block(struct optim *o, float *w, const float *grad, int64_t first, int64_t last,
                       double lr, int64_t step)
{
    if (o->p.kind == OPTIM_ADAM)
        adam_block(o, w, grad, first, last, lr, step);
    else
        sgd_block(o, w, grad, first, last, lr);
}

void optim_step(struct optim *o, struct graph *g, const float *grad, double lr, int64_t step)
{
    step_block(o, g->params, grad, 0, o->n_params, lr, step);
    if (o->n > o->n_params) {
        step_block(o, g->masks, grad, o->n_params, o->n,
                   lr * (o->p.mask_rate > 0 ? o->p.mask_rate : 1), step);
        for (int64_t i = 0; i < g->n_masks; i++)
            g->masks[i] = g->masks[i] < 0 ? 0 : g->masks[i] > 1 ? 1 : g->masks[i]; /* NaN stays */
    }
    graph_touch(g);
}

/* Exact thresholds in eighths: 62.5 % = 5/8, 75 % = 6/8, 87.5 % = 7/8. */
static double step_factor(int64_t step, int64_t steps)
{
    double factor = 1;

    for (int64_t eighth = 5; eighth <= 7; eighth++)
        if (8 * step >= eighth * steps)
            factor *= 0.1;
    return factor;
}

static double halves_factor(int64_t step, int64_t steps)
{
    return 4 * step >= 3 * steps ? 0.01 : 2 * step >= steps ? 0.1 : 1;
}

double optim_rate(enum optim_schedule s, double lr, int64_t step, int64_t steps, int64_t warmup)
{
    if (step < warmup)
        return lr * (double)(step + 1) / (double)warmup;
    if (s == OPTIM_STEP)
        return lr * step_factor(step, steps);
    if (s == OPTIM_HALVES)
        return lr * halves_factor(step, steps);
    if (s == OPTIM_COSINE)
        return lr * 0.5 * (1 + cos(PI * (double)(step - warmup) / (double)(steps - warmup)));
    return lr;
}
