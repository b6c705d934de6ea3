/*
 * Rewrites: prune, BN branches, folding, re-insertion.
 *
 * Folding (branch b):  s = gamma / sqrt(var + eps),  w' = w * s per output channel,
 *                    b' = beta + (b - mean) * s
 * computed in double. Re-insertion is its inverse on measured statistics: gamma = sqrt(var + eps),
 * beta = mean, so the network computes what it did before.
 */
#include "core/graph/pass.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* uses[v] += by, for the inputs of a node. */
static void count_inputs(const struct node *x, int32_t by, int32_t *uses)
{
    for (int32_t i = 0; i < x->n_in; i++)
        if (x->in[i] != NO_VALUE)
            uses[x->in[i]] += by;
}

int pass_prune(struct graph *g)
{
    OWNED int32_t *uses = mem_array((size_t)g->n_value + 1, sizeof *uses);

    if (uses == NULL)
        return ERR_NOMEM;
    if (g->output != NO_VALUE)
        uses[g->output]++;
    for (int32_t n = 0; n < g->n_node; n++)
        count_inputs(&g->node[n], 1, uses);
    for (int32_t n = g->n_node - 1; n >= 0; n--) {
        if (uses[g->node[n].out[0]] > 0)
            continue;
        count_inputs(&g->node[n], -1, uses);
        graph_remove_node(g, n);
    }
    return graph_compact(g);
}

/* ---- branches ------------------------------------------------------------------------------- */

int pass_select_branch(struct graph *g, int branch)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        struct node *x = &g->node[n];

        if (x->op != &op_batchnorm || x->n_in <= 5)
            continue;
        for (int i = 1; i <= 4; i++) {
            if (branch == 1)
                x->in[i] = x->in[i + 4];
            x->in[i + 4] = NO_VALUE;
        }
        x->n_in = 5;
    }
    graph_touch(g);
    return graph_compact(g);
}

int pass_dual_branch(struct graph *g)
{
    int sites = 0;

    for (int32_t n = 0; n < g->n_node; n++) {
        if (g->node[n].op != &op_batchnorm || g->node[n].frozen)
            continue;
        sites++;
        for (int i = 1; g->node[n].n_in == 5 && i <= 4; i++) {
            const struct value v = *op_in(g, &g->node[n], i);
            char name[512];
            value_id copy;

            snprintf(name, sizeof name, "%.500s.adv", v.name);
            TRY(graph_add_value(g, name, v.kind, &v.shape, NULL, &copy));
            const float *data = g->value[g->node[n].in[i]].data; /* after a possible move */
            memcpy(g->value[copy].data, data, (size_t)shape_elems(&v.shape) * sizeof *data);
            g->node[n].in[i + 4] = copy;
        }
        g->node[n].n_in = 9;
    }
    graph_touch(g);
    return sites;
}

/* ---- folding ----------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), m = strlen(tail);

    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Index of the Conv or Gemm that the BatchNormalization n can be folded into, -1 if none. */
static int32_t fold_target(const struct graph *g, int32_t n, bool only_inserted)
{
    const struct node *bn = &g->node[n];

    if (bn->op != &op_batchnorm || bn->frozen || bn->n_in > 5 ||
        (only_inserted && !ends_with(bn->name, BN_INSERTED_SUFFIX)))
        return -1;
    const int32_t p = op_in(g, bn, 0)->producer;
    if (p < 0 || (g->node[p].op != &op_conv && g->node[p].op != &op_gemm) || g->node[p].frozen)
        return -1;
    return graph_single_user(g, bn->in[0]) == n ? p : -1;
}

/* Gives node `conv` a bias if it has none. */
static int need_bias(struct graph *g, int32_t conv)
{
    struct node *x = &g->node[conv];
    char name[512];
    value_id bias;

    if (node_has(x, 2))
        return 0;
    const int64_t c = op_in(g, x, 1)->shape.dim[0];
    const struct shape s = {.rank = 1, .dim = {c}};
    snprintf(name, sizeof name, "%.500s.bias", x->name);
    TRY(graph_add_value(g, name, VALUE_PARAM, &s, NULL, &bias));
    x->in[2] = bias;
    if (x->n_in < 3)
        x->n_in = 3;
    return 0;
}

/* A parameter that only this node reads: shared ones are copied before they are changed. */
static int own_input(struct graph *g, int32_t n, int i)
{
    const value_id v = g->node[n].in[i];
    const struct shape s = g->value[v].shape;
    value_id copy;

    if (graph_count_uses(g, v) == 1)
        return 0;
    TRY(graph_add_value(g, g->value[v].name, VALUE_PARAM, &s, NULL, &copy));
    memcpy(g->value[copy].data, g->value[v].data, (size_t)shape_elems(&s) * sizeof(float));
    g->node[n].in[i] = copy;
    return 0;
}

static void fold_numbers(struct graph *g, const struct node *conv, const struct node *bn)
{
    const struct value *w = op_in(g, conv, 1), *b = op_in(g, conv, 2);
    const float *gamma = op_in(g, bn, 1)->data, *beta = op_in(g, bn, 2)->data;
    const float *mean = op_in(g, bn, 3)->data, *var = op_in(g, bn, 4)->data;
    const int64_t channels = w->shape.dim[0], per = shape_elems(&w->shape) / channels;

    for (int64_t c = 0; c < channels; c++) {
        const double s = gamma[c] / sqrt((double)var[c] + bn->p.batchnorm.eps);

        for (int64_t k = 0; k < per; k++)
            w->data[c * per + k] = (float)(w->data[c * per + k] * s);
        b->data[c] = (float)(beta[c] + ((double)b->data[c] - mean[c]) * s);
    }
}

int pass_fold_batchnorm(struct graph *g, bool only_inserted)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        const int32_t conv = fold_target(g, n, only_inserted);

        if (conv < 0)
            continue;
        TRY(need_bias(g, conv));
        TRY(own_input(g, conv, 1));
        TRY(own_input(g, conv, 2));
        fold_numbers(g, &g->node[conv], &g->node[n]);
        graph_replace_uses(g, g->node[n].out[0], g->node[n].in[0], n);
        graph_remove_node(g, n--);
    }
    graph_touch(g);
    return graph_compact(g);
}

/* ---- lines --------------------------------------------------------------------------------- */

/* The vector v as [C,1,1] where x is an image. It takes v's name. */
static int per_channel(struct graph *g, value_id x, value_id v, value_id *out)
{
    const struct shape *in = &g->value[x].shape;
    const int64_t c = g->value[v].shape.dim[0];
    const struct shape s =
        in->rank == 4 ? shape_make(3, c, (int64_t)1, (int64_t)1) : shape_make(1, c);

    TRY(graph_add_value(g, g->value[v].name, VALUE_CONST, &s, NULL, out));
    memcpy(g->value[*out].data, g->value[v].data, (size_t)c * sizeof(float));
    const char *name = g->value[v].name;
    g->value[v].name = g->value[*out].name;
    g->value[*out].name = name;
    return 0;
}

int pass_line_to_affine(struct graph *g, int32_t node)
{
    const struct node x = g->node[node];
    value_id scale[2] = {x.in[0]}, shift[2];
    char name[512];

    TRY(per_channel(g, x.in[0], x.in[2], &scale[1]));
    TRY(per_channel(g, x.in[0], x.in[3], &shift[1]));
    snprintf(name, sizeof name, "%.500s/Mul", x.name);
    TRY(graph_insert_node(g, node - 1, &op_mul, name, scale, 2, NULL, name, &shift[0]));
    g->node[node + 1].op = &op_add;
    g->node[node + 1].n_in = 2;
    g->node[node + 1].in[0] = shift[0];
    g->node[node + 1].in[1] = shift[1];
    g->node[node + 1].p = (union op_params){0};
    return 0;
}

int pass_resolve_mask(struct graph *g, int32_t node, bool output_too)
{
    struct node *x = &g->node[node];
    const struct value *mask = op_in(g, x, 1);
    const int64_t kept = graph_mask_kept(mask);

    if (kept == shape_elems(&mask->shape)) {
        x->op = x->p.masked_relu.relu6 ? &op_relu6 : &op_relu;
        x->n_in = 1;
        x->p = (union op_params){0};
    } else if (kept == 0 && x->n_in > 2) {
        return pass_line_to_affine(g, node);
    } else if (kept == 0 && (output_too || x->out[0] != g->output)) {
        graph_replace_uses(g, x->out[0], x->in[0], node);
        graph_remove_node(g, node);
    }
    return 0;
}

/* ---- a factor and an offset per channel ------------------------------------------------------ */

/* Operand 1 of node n is a constant of one number a channel of operand 0. */
static bool is_by_channel(const struct graph *g, int32_t n, const struct op *op)
{
    const struct node *x = &g->node[n];

    if (x->op != op || x->frozen || !value_is_activation(op_in(g, x, 0)) ||
        op_in(g, x, 1)->kind != VALUE_CONST)
        return false;
    const struct shape *s = &op_in(g, x, 1)->shape, *to = &op_in(g, x, 0)->shape;
    const int32_t channel = s->rank - (to->rank - 1);

    return channel >= 0 && s->dim[channel] == to->dim[1] && shape_elems(s) == to->dim[1];
}

/* [C] of kind `kind`: the numbers of `from`, or `fill` throughout. */
static int channel_vector(struct graph *g, int32_t n, const char *what, enum value_kind kind,
                          const float *from, float fill, int64_t c, value_id *out)
{
    const struct shape s = shape_make(1, c);
    char name[512];

    snprintf(name, sizeof name, "%.480s.%s", g->node[n].name, what);
    TRY(graph_add_value(g, name, kind, &s, NULL, out));
    for (int64_t i = 0; i < c; i++)
        g->value[*out].data[i] = from != NULL ? from[i] : fill;
    return 0;
}

int pass_merge_affine(struct graph *g)
{
    const union op_params p = {.batchnorm = {.eps = 1e-5f, .momentum = 0.9f}};

    for (int32_t n = 0; n < g->n_node; n++) {
        if (!is_by_channel(g, n, &op_add))
            continue;
        const int32_t mul = op_in(g, &g->node[n], 0)->producer;
        if (mul < 0 || !is_by_channel(g, mul, &op_mul) ||
            graph_count_uses(g, g->node[n].in[0]) != 1)
            continue;
        const float *scale = op_in(g, &g->node[mul], 1)->data; /* constants do not move */
        const float *shift = op_in(g, &g->node[n], 1)->data;
        const int64_t c = op_in(g, &g->node[n], 0)->shape.dim[1];
        value_id in[5] = {g->node[mul].in[0]};

        TRY(channel_vector(g, n, "scale", VALUE_PARAM, scale, 0, c, &in[1]));
        TRY(channel_vector(g, n, "shift", VALUE_PARAM, shift, 0, c, &in[2]));
        TRY(channel_vector(g, n, "mean", VALUE_BUFFER, NULL, 0, c, &in[3]));
        TRY(channel_vector(g, n, "var", VALUE_BUFFER, NULL, 1 - p.batchnorm.eps, c, &in[4]));
        g->node[n].op = &op_batchnorm;
        memcpy(g->node[n].in, in, sizeof in);
        g->node[n].n_in = 5;
        g->node[n].p = p;
        graph_remove_node(g, mul);
        n--;
    }
    graph_touch(g);
    return 0;
}

/* ---- re-insertion ------------------------------------------------------------------------ */

int pass_insert_batchnorm(struct graph *g, int32_t conv, const float *mean, const float *var)
{
    static const char *const part[] = {"gamma", "beta", "mean", "var"};
    static const enum value_kind kind[] = {VALUE_PARAM, VALUE_PARAM, VALUE_BUFFER, VALUE_BUFFER};
    const struct value y = g->value[g->node[conv].out[0]];
    const struct shape s = {.rank = 1, .dim = {y.shape.dim[1]}};
    const union op_params p = {.batchnorm = {.eps = 1e-5f, .momentum = 0.9f}};
    char name[512], out_name[512];
    value_id in[5] = {g->node[conv].out[0]}, out;

    snprintf(name, sizeof name, "%.480s" BN_INSERTED_SUFFIX, g->node[conv].name);
    snprintf(out_name, sizeof out_name, "%.480s" BN_INSERTED_SUFFIX, y.name);
    for (int i = 0; i < 4; i++) {
        char vn[600];

        snprintf(vn, sizeof vn, "%s.%s", name, part[i]);
        TRY(graph_add_value(g, vn, kind[i], &s, NULL, &in[i + 1]));
    }
    for (int64_t c = 0; c < s.dim[0]; c++) {
        g->value[in[1]].data[c] = sqrtf(var[c] + p.batchnorm.eps);
        g->value[in[2]].data[c] = g->value[in[3]].data[c] = mean[c];
        g->value[in[4]].data[c] = var[c];
    }
    TRY(graph_insert_node(g, conv, &op_batchnorm, name, in, 5, &p, out_name, &out));
    graph_replace_uses(g, in[0], out, conv + 1);
    graph_touch(g);
    return 0;
}

/* Does v feed nothing but ReLUs and Adds (at least one of them)? */
static bool feeds_relu_or_add(const struct graph *g, value_id v)
{
    bool any = false;

    for (int32_t n = 0; n < g->n_node; n++)
        for (int32_t i = 0; i < g->node[n].n_in; i++)
            if (g->node[n].in[i] == v) {
                const struct op *op = g->node[n].op;

                if (!(op->flags & OP_RELU) && op != &op_add)
                    return false;
                any = true;
            }
    return any && g->output != v;
}

int32_t pass_batchnorm_sites(const struct graph *g, int32_t *nodes, int32_t cap)
{
    int32_t found = 0;

    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];

        if (x->op != &op_conv || x->frozen || !feeds_relu_or_add(g, x->out[0]))
            continue;
        if (found < cap)
            nodes[found] = n;
        found++;
    }
    return found;
}
