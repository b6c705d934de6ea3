/*
 * The parameter-free shortcut of CIFAR ResNets as a layer: x[:, :, ::s, ::t], then zero channels on
 * both sides, is a Conv 1x1 with strides (s, t) and a selection as weight,
 *
 *     w[before + c][c] = 1, else 0     w [before + C + behind, C, 1, 1]
 *
 * which every importer reads. Every output is one input or 0, so nothing is rounded.
 */
#include "exporter/plain_shortcut.h"

#include "core/op/op.h"

struct chain { /* what the nodes first ... last do together */
    int32_t first, last;
    int64_t stride[2], before, channels /* of the result */;
};

/* The node moves whole channels by strides from position 0; adds it to the chain. */
static bool add_slice(struct chain *c, const struct graph *g, const struct node *n)
{
    const struct slice_params *p = &n->p.slice;
    const struct shape *x = &op_in(g, n, 0)->shape;

    if (x->rank != 4 || p->start[1] != 0 || p->end[1] != x->dim[1] || p->step[1] != 1)
        return false;
    for (int d = 2; d < 4; d++) {
        const int64_t s = p->step[d], out = (p->end[d] - p->start[d] - 1) / s + 1;

        if (p->start[d] != 0 || out != (x->dim[d] - 1) / s + 1)
            return false;
        c->stride[d - 2] *= s;
    }
    return true;
}

static bool add_pad(struct chain *c, const struct graph *g, const struct node *n)
{
    const struct pad_params *p = &n->p.pad;

    for (int d = 2; d < 4; d++)
        if (p->begin[d] != 0 || p->end[d] != 0)
            return false;
    if (op_in(g, n, 0)->shape.rank != 4 || p->value != 0 || p->begin[1] < 0 || p->end[1] < 0)
        return false;
    c->before += p->begin[1];
    c->channels += p->begin[1] + p->end[1];
    return true;
}

static bool add_node(struct chain *c, const struct graph *g, int32_t n)
{
    const struct node *x = &g->node[n];

    return (x->op == &op_slice && add_slice(c, g, x)) || (x->op == &op_pad && add_pad(c, g, x));
}

/* The longest chain that begins at node n; false if none does. */
static bool find_chain(const struct graph *g, int32_t n, struct chain *c)
{
    *c = (struct chain){n, n, {1, 1}, 0, 0};
    if (op_in(g, &g->node[n], 0)->shape.rank != 4)
        return false;
    c->channels = op_in(g, &g->node[n], 0)->shape.dim[1];
    if (!add_node(c, g, n))
        return false;
    for (;;) {
        struct chain longer = *c;
        const value_id y = g->node[c->last].out[0];
        const int32_t next = graph_count_uses(g, y) == 1 ? graph_single_user(g, y) : -1;

        if (next < 0 || !add_node(&longer, g, next))
            return true;
        *c = longer;
        c->last = next;
    }
}

static int replace(struct graph *g, const struct chain *c)
{
    const value_id x = g->node[c->first].in[0], old = g->node[c->last].out[0];
    const int64_t channels = g->value[x].shape.dim[1];
    const struct shape s = shape_make(4, c->channels, channels, (int64_t)1, (int64_t)1);
    const union op_params p = {
        .conv = {.stride = {c->stride[0], c->stride[1]}, .dilation = {1, 1}, .group = 1}};
    const char *name = arena_printf(g->arena, "%s/Conv", g->node[c->last].name);
    const char *weight = arena_printf(g->arena, "%s/Conv.select", g->node[c->last].name);
    const char *out = arena_printf(g->arena, "%s/Conv_out", g->value[old].name);
    value_id in[3] = {x, NO_VALUE, NO_VALUE}, y;

    TRY(arena_status(g->arena));
    TRY(graph_add_value(g, weight, VALUE_PARAM, &s, NULL, &in[1]));
    for (int64_t k = 0; k < channels; k++)
        g->value[in[1]].data[(c->before + k) * channels + k] = 1;
    TRY(graph_insert_node(g, c->last, &op_conv, name, in, 3, &p, out, &y));
    graph_replace_uses(g, old, y, -1);
    return 0;
}

/* The nodes replaced stay behind without readers, for pass_prune. */
int plain_shortcuts(struct graph *g)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        struct chain c;

        if ((g->node[n].op != &op_slice && g->node[n].op != &op_pad) ||
            graph_count_uses(g, g->node[n].out[0]) == 0 || !find_chain(g, n, &c))
            continue;
        TRY(replace(g, &c));
    }
    return 0;
}
