/* Learned masks: penalty, count, rule of an epoch's end; soft_mask.h has the formulas. */
#include "trainer/soft_mask.h"

#include <math.h>

#include "core/op.h"

struct soft_params soft_defaults(void)
{
    return (struct soft_params){.lambda = 1e-5, .factor = 1.1, .threshold = 0.01, .patience = 5};
}

void soft_switch(struct graph *g, bool on)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_masked_relu)
            g->node[n].p.masked_relu.soft = on;
    graph_touch(g);
}

struct soft_state soft_begin(const struct soft_params *p)
{
    return (struct soft_state){.lambda = p->lambda, .lowest = -1, .count = -1};
}

double soft_penalty(const struct graph *g, double lambda, float *grad)
{
    double sum = 0;

    for (int64_t i = 0; i < g->n_masks; i++) {
        sum += fabs((double)g->masks[i]);
        if (g->masks[i] != 0)
            grad[i] += (float)(g->masks[i] > 0 ? lambda : -lambda);
    }
    return lambda * sum;
}

int64_t soft_count(const struct graph *g, double threshold)
{
    int64_t count = 0;

    for (int64_t i = 0; i < g->n_masks; i++)
        count += g->masks[i] > threshold;
    return count;
}

bool soft_reached(const struct soft_params *p, const struct graph *g, struct soft_state *s)
{
    s->count = soft_count(g, p->threshold);
    s->stopped = s->count <= p->budget;
    return s->stopped;
}

void soft_epoch_end(const struct soft_params *p, int64_t epoch, const struct graph *g,
                    struct soft_state *s)
{
    soft_reached(p, g, s);
    if (s->lowest >= 0 && s->count >= s->lowest && epoch >= p->patience)
        s->lambda *= p->factor;
    if (s->lowest < 0 || s->count < s->lowest)
        s->lowest = s->count;
}
