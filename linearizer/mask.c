/*
 * Sites, masks in and out of the graph, top-k selection, distances between masks.
 *
 * A MaskedRelu is a Relu or Relu6 node that has changed its operator and gained a mask operand; node and value
 * names stay, so files before and after a stage can be compared by name.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph/pass.h"
#include "core/op/op.h"
#include "core/graph/rng.h"
#include "linearizer/line.h"

int relu_sites(const struct graph *g, struct relu_site **out, int32_t *n)
{
    struct relu_site *sites = mem_array((size_t)g->n_node + 1, sizeof *sites);
    int64_t offset = 0;

    if (sites == NULL)
        return ERR_NOMEM;
    *n = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *x = &g->node[i];
        struct relu_site s = {.node = i, .x = x->in[0], .y = x->out[0], .mask = NO_VALUE};

        if (!(x->op->flags & OP_RELU))
            continue;
        s.kept = s.total = shape_elems(&g->value[s.y].shape);
        s.offset = offset;
        offset += s.total;
        s.relu6 = x->op == &op_relu6;
        if (x->op == &op_masked_relu) {
            s.relu6 = x->p.masked_relu.relu6;
            s.mask = x->in[1];
            s.kept = graph_mask_kept(&g->value[s.mask]);
        }
        sites[(*n)++] = s;
    }
    *out = sites;
    return 0;
}

int64_t site_channels(const struct graph *g, const struct relu_site *site)
{
    const struct shape *s = &g->value[site->y].shape;

    return s->rank == 4 ? s->dim[1] : site->total;
}

int64_t relu_evaluations(const struct relu_site *site)
{
    return site->kept * (1 + site->relu6);
}

/* [N,C,H,W] -> [C,H,W], [N,K] -> [K] */
static struct shape mask_shape(const struct shape *activation)
{
    struct shape s = {.rank = activation->rank - 1};

    memcpy(s.dim, activation->dim + 1, (size_t)s.rank * sizeof *s.dim);
    return s;
}

int mask_insert(struct graph *g)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        const bool relu6 = g->node[n].op == &op_relu6;

        if (g->node[n].op != &op_relu && !relu6)
            continue;
        const struct shape s = mask_shape(&g->value[g->node[n].out[0]].shape);
        const int64_t total = shape_elems(&s);
        char name[512];
        value_id mask;

        snprintf(name, sizeof name, "%.500s.mask", g->node[n].name);
        TRY(graph_add_value(g, name, VALUE_MASK, &s, NULL, &mask));
        for (int64_t i = 0; i < total; i++)
            g->value[mask].data[i] = 1;
        g->node[n].op = &op_masked_relu;
        g->node[n].in[1] = mask;
        g->node[n].n_in = 2;
        g->node[n].p = (union op_params){.masked_relu = {.relu6 = relu6}};
    }
    graph_touch(g);
    return 0;
}

int mask_simplify(struct graph *g)
{
    for (int32_t n = g->n_node - 1; n >= 0; n--)
        if (g->node[n].op == &op_masked_relu && !g->node[n].p.masked_relu.soft)
            TRY(pass_resolve_mask(g, n, false));
    graph_touch(g);
    return graph_compact(g);
}

/* ---- selection --------------------------------------------------------------------------- */

struct scored {
    double score;
    int64_t index;
};

static int best_first(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;

    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

/* What a mask is chosen by: a score, or (NULL) its own value. */
static double worth(const struct graph *g, const double *score, int64_t i, int64_t at)
{
    if (score == NULL)
        return (double)g->masks[at];
    return isnan(score[i]) ? -INFINITY : score[i];
}

/* Of all `count` positions of the sites the k best are kept; score: of those positions, or NULL. */
static int keep_best(struct graph *g, int32_t n, const struct relu_site *sites, int64_t count,
                     const double *score, int64_t k)
{
    OWNED struct scored *order = mem_array((size_t)count + 1, sizeof *order);
    int64_t all = 0;

    if (order == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < n; s++) /* indices are those of the block of masks */
        for (int64_t i = 0, at = g->value[sites[s].mask].offset; i < sites[s].total; i++, all++)
            order[all] = (struct scored){worth(g, score, all, at + i), at + i};
    qsort(order, (size_t)count, sizeof *order, best_first);
    for (int64_t i = 0; i < count; i++)
        g->masks[order[i].index] = i < k ? 1 : 0;
    graph_touch(g);
    return 0;
}

int mask_select(struct graph *g, const struct relu_site *site, const double *score, int64_t k)
{
    if (k < 0 || k > site->total)
        return fail(ERR_ARG, "node '%s': cannot keep %lld of %lld ReLUs", g->node[site->node].name,
                    (long long)k, (long long)site->total);
    return keep_best(g, 1, site, site->total, score, k);
}

int mask_select_pooled(struct graph *g, int32_t n, const struct relu_site *sites,
                       const double *score, int64_t k)
{
    int64_t count = 0;

    for (int32_t s = 0; s < n; s++)
        count += sites[s].total;
    if (k < 0 || k > count)
        return fail(ERR_ARG, "cannot keep %lld of %lld ReLUs", (long long)k, (long long)count);
    return keep_best(g, n, sites, count, score, k);
}

static void random_scores(const struct graph *g, const struct relu_site *site, uint64_t seed,
                          int32_t s, double *score)
{
    const struct shape *shape = &g->value[site->y].shape;
    const int64_t hw = shape->rank == 4 ? shape->dim[2] * shape->dim[3] : site->total;
    struct rng r = rng_at(seed, RNG_MASK, 0, (uint64_t)s);

    for (int64_t p = 0; p < hw; p++)
        score[p] = rng_uniform_double(&r);
    for (int64_t i = hw; i < site->total; i++)
        score[i] = score[i - hw];
}

int mask_random(struct graph *g, int32_t n, const struct relu_site *sites, uint64_t seed,
                const int64_t *k)
{
    for (int32_t s = 0; s < n; s++) {
        OWNED double *score = mem_array((size_t)sites[s].total + 1, sizeof *score);

        if (score == NULL)
            return ERR_NOMEM;
        random_scores(g, &sites[s], seed, s, score);
        TRY(mask_select(g, &sites[s], score, k[s]));
    }
    return 0;
}

void mask_distance(int32_t n, const struct relu_site *sites, const struct graph *g,
                   const float *before, const float *after, double *nhd, double *turnover)
{
    double distance = 0, replaced = 0;

    for (int32_t s = 0; s < n; s++) {
        const int64_t at = g->value[sites[s].mask].offset;
        int64_t changed = 0, kept = 0;

        for (int64_t i = 0; i < sites[s].total; i++) {
            changed += (before[at + i] > 0.5f) != (after[at + i] > 0.5f);
            kept += after[at + i] > 0.5f;
        }
        distance += (double)changed / (double)sites[s].total;
        replaced += kept > 0 ? (double)changed / (2 * (double)kept) : 0;
    }
    *nhd = n > 0 ? distance / n : 0;
    *turnover = n > 0 ? replaced / n : 0;
}
