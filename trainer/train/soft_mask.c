/* Learned masks: penalty, count, rule of an epoch's end; soft_mask.h has the formulas. */
#include "trainer/train/soft_mask.h"

#include <math.h>

#include "core/op/op.h"

struct soft_params soft_defaults(void)
{
    return (struct soft_params){
        .rate = 1, .lambda = 1e-5, .factor = 1.1, .threshold = 0.01, .patience = 5};
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
    return (struct soft_state){
        .lambda = p->rule == SOFT_PLAN ? 0 : p->lambda, .lowest = -1, .count = -1};
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

double soft_plan(const struct soft_params *p, int64_t step, int64_t steps, int64_t masks)
{
    const double end = (double)p->budget / (double)(masks > 0 ? masks : 1);
    const double done = (double)step / (SOFT_DESCENT * (double)steps);

    return 1 - (1 - end) * (done < 1 ? done : 1);
}

/* Sum and number of the masks above kappa. */
static double sum_above(const struct graph *g, double kappa, int64_t *n)
{
    double sum = 0;

    *n = 0;
    for (int64_t i = 0; i < g->n_masks; i++)
        if ((double)g->masks[i] > kappa) {
            sum += (double)g->masks[i];
            ++*n;
        }
    return sum;
}

/* Newton's steps on the piecewise linear sum of max(a - kappa, 0) (Michelot 1986): kappa rises and
 * reaches the root after finitely many of them. */
double soft_project(struct graph *g, double mean)
{
    const double bound = mean * (double)g->n_masks;
    double kappa = 0;
    int64_t n = 0, before = -1;

    for (double sum = sum_above(g, 0, &n); n != before && n > 0 && sum - kappa * (double)n > bound;
         sum = sum_above(g, kappa, &n)) {
        kappa = (sum - bound) / (double)n;
        before = n;
    }
    for (int64_t i = 0; kappa > 0 && i < g->n_masks; i++)
        g->masks[i] = (double)g->masks[i] > kappa ? (float)((double)g->masks[i] - kappa) : 0;
    graph_touch(g);
    return kappa;
}

void soft_epoch_end(const struct soft_params *p, int64_t epoch, const struct graph *g,
                    struct soft_state *s)
{
    soft_reached(p, g, s);
    if (p->rule == SOFT_PENALTY && s->lowest >= 0 && s->count >= s->lowest && epoch >= p->patience)
        s->lambda *= p->factor;
    if (s->lowest < 0 || s->count < s->lowest)
        s->lowest = s->count;
}
