/*
 * SGD with momentum on the flat block, and learning-rate schedules.
 *
 * An element's rule is decided once: parameters that only frozen nodes read stand still, and
 * without decay_norm only weights of rank 2 and more decay (so gamma, beta and biases do not).
 */
#include "trainer/optim.h"

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
    *o = (struct optim){.p = *p, .n = g->n_params};
    o->velocity = mem_aligned((size_t)o->n, sizeof *o->velocity);
    o->rule = mem_array((size_t)o->n, sizeof *o->rule);
    if (o->velocity == NULL || o->rule == NULL) {
        optim_release(o);
        return ERR_NOMEM;
    }
    set_rules(o, g);
    return 0;
}

void optim_release(struct optim *o)
{
    mem_free(o->velocity);
    mem_free(o->rule);
    *o = (struct optim){0};
}

void optim_step(struct optim *o, struct graph *g, const float *grad, double lr)
{
    const float mu = (float)o->p.momentum, rate = (float)lr;
    const float decay[] = {[RULE_PLAIN] = 0, [RULE_DECAY] = (float)o->p.weight_decay};
    const bool nesterov = o->p.nesterov;
    float *w = g->params, *v = o->velocity;

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < o->n; i++) {
        if (o->rule[i] == RULE_FROZEN)
            continue;
        float d = grad[i] + decay[o->rule[i]] * w[i];
        v[i] = mu * v[i] + d;
        w[i] -= rate * (nesterov ? d + mu * v[i] : v[i]);
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

double optim_rate(enum optim_schedule s, double lr, int64_t step, int64_t steps, int64_t warmup)
{
    if (step < warmup)
        return lr * (double)(step + 1) / (double)warmup;
    if (s == OPTIM_STEP)
        return lr * step_factor(step, steps);
    if (s == OPTIM_COSINE)
        return lr * 0.5 * (1 + cos(PI * (double)(step - warmup) / (double)(steps - warmup)));
    return lr;
}
