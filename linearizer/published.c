/* The reference's defects; see published.h. */
#include "linearizer/published.h"

#include <math.h>
#include <stdlib.h>

#include "core/op/op.h"
#include "core/graph/rng.h"

/* ---- structure ----------------------------------------------------------------------------- */

/* Node that makes v, after a BN; -1 for the input. */
static int32_t maker_of(const struct graph *g, value_id v)
{
    int32_t n = g->value[v].producer;

    while (n >= 0 && g->node[n].op == &op_batchnorm)
        n = g->value[g->node[n].in[0]].producer;
    return n;
}

static bool is_made_by(const struct graph *g, value_id v, const struct op *op)
{
    const int32_t n = maker_of(g, v);

    return n >= 0 && g->node[n].op == op;
}

static bool is_activation(const struct graph *g, value_id v)
{
    const int32_t n = g->value[v].producer;

    return n >= 0 && (g->node[n].op->flags & OP_RELU) != 0;
}

/* Operand of an Add that is the block's own convolution where the other is its activated input; -1
 * where the Add is no such block. */
static int own_operand(const struct graph *g, const struct node *x)
{
    if (x->op != &op_add)
        return -1;
    for (int own = 0; own < 2; own++)
        if (is_made_by(g, x->in[own], &op_conv) && is_activation(g, x->in[1 - own]))
            return own;
    return -1;
}

int published_drop_skips(struct graph *g)
{
    int dropped = 0;

    for (int32_t n = g->n_node - 1; n >= 0; n--) {
        const int own = own_operand(g, &g->node[n]);

        if (own < 0 || g->node[n].out[0] == g->output)
            continue;
        graph_replace_uses(g, g->node[n].out[0], g->node[n].in[own], n);
        graph_remove_node(g, n);
        dropped++;
    }
    graph_touch(g);
    TRY(graph_compact(g));
    return dropped;
}

/* Is v a shortcut: BN of a 1x1 convolution whose input the block's first convolution reads too? */
static bool is_shortcut(const struct graph *g, value_id v)
{
    const int32_t n = maker_of(g, v);

    if (n < 0 || g->node[n].op != &op_conv)
        return false;
    const struct shape *w = &op_in(g, &g->node[n], 1)->shape;
    return w->dim[2] == 1 && w->dim[3] == 1 && graph_count_uses(g, g->node[n].in[0]) > 1;
}

static int share(struct graph *g, value_id v)
{
    const int32_t n = g->value[v].producer;
    struct node *x = n >= 0 ? &g->node[n] : NULL;

    if (x == NULL || x->op != &op_batchnorm || x->n_in <= 5)
        return 0;
    for (int i = 5; i < x->n_in; i++)
        x->in[i] = NO_VALUE;
    x->n_in = 5;
    return 1;
}

int published_share_shortcuts(struct graph *g)
{
    int shared = 0;

    for (int32_t n = 0; n < g->n_node; n++)
        for (int i = 0; g->node[n].op == &op_add && i < 2; i++)
            if (is_shortcut(g, g->node[n].in[i]))
                shared += share(g, g->node[n].in[i]);
    graph_touch(g);
    TRY(graph_compact(g));
    return shared;
}

/* ---- masks --------------------------------------------------------------------------------- */

static int largest_first(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? 1 : x > y ? -1 : 0;
}

int published_select(struct graph *g, const struct relu_site *site, const double *score, int64_t k)
{
    float *mask = g->value[site->mask].data;
    OWNED double *order = NULL;

    if (k < 0 || k > site->total)
        return fail(ERR_ARG, "node '%s': cannot keep %lld of %lld ReLUs", g->node[site->node].name,
                    (long long)k, (long long)site->total);
    if ((order = mem_array((size_t)site->total + 1, sizeof *order)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < site->total; i++)
        order[i] = isnan(score[i]) ? -INFINITY : score[i];
    qsort(order, (size_t)site->total, sizeof *order, largest_first);
    for (int64_t i = 0; i < site->total; i++)
        mask[i] = k > 0 && score[i] > order[k - 1] ? 1 : 0;
    graph_touch(g);
    return 0;
}

void published_first_masks(struct graph *g, int32_t n, const struct relu_site *sites, uint64_t seed,
                           const int64_t *k)
{
    for (int32_t s = 0; s < n; s++) {
        const struct shape *shape = &g->value[sites[s].y].shape;
        const int64_t map = shape->rank == 4 ? shape->dim[2] * shape->dim[3] : sites[s].total;
        const double bound = 1 - (double)k[s] / (double)sites[s].total;
        float *mask = g->value[sites[s].mask].data;
        struct rng r = rng_at(seed, RNG_MASK, 0, (uint64_t)s);

        for (int64_t i = 0; i < map; i++)
            mask[i] = rng_uniform_double(&r) > bound ? 1 : 0;
        for (int64_t i = map; i < sites[s].total; i++)
            mask[i] = mask[i - map];
    }
    graph_touch(g);
}
