/* Random weights; see fresh.h. Node n draws from (seed, RNG_INIT, 1, n). */
#include "core/graph/fresh.h"

#include <math.h>

#include "core/graph/rng.h"

#define STREAM 1 /* 0 is arch.c's */

static void fill(const struct graph *g, value_id v, float by)
{
    for (int64_t i = 0; v != NO_VALUE && i < shape_elems(&g->value[v].shape); i++)
        g->value[v].data[i] = by;
}

static void fresh_conv(const struct graph *g, const struct node *x, struct rng *r)
{
    const struct value *w = op_in(g, x, 1);
    const double window = (double)(w->shape.dim[2] * w->shape.dim[3]);
    const double std = sqrt(2 / (window * (double)w->shape.dim[0]));

    for (int64_t i = 0; i < shape_elems(&w->shape); i++)
        w->data[i] = (float)(std * (double)rng_normal(r));
    if (x->n_in > 2)
        fill(g, x->in[2], 0);
}

static void fresh_gemm(const struct graph *g, const struct node *x, struct rng *r)
{
    const struct shape *in = &op_in(g, x, 0)->shape;
    const float limit = (float)(1 / sqrt((double)in->dim[in->rank - 1]));

    for (int k = 1; k < x->n_in; k++)
        for (int64_t i = 0; x->in[k] != NO_VALUE && i < shape_elems(&op_in(g, x, k)->shape); i++)
            op_in(g, x, k)->data[i] = rng_range(r, -limit, limit);
}

static void fresh_norm(const struct graph *g, const struct node *x)
{
    for (int k = 1; k < x->n_in; k++)
        fill(g, x->in[k], (k - 1) % 4 == 0 || (k - 1) % 4 == 3 ? 1 : 0);
}

void fresh_weights(struct graph *g, uint64_t seed)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];
        struct rng r = rng_at(seed, RNG_INIT, STREAM, (uint64_t)n);

        if (x->frozen)
            continue;
        if (x->op == &op_conv)
            fresh_conv(g, x, &r);
        else if (x->op == &op_gemm)
            fresh_gemm(g, x, &r);
        else if (x->op == &op_batchnorm)
            fresh_norm(g, x);
    }
    graph_touch(g);
}
