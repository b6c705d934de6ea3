/*
 * Gemm in linnet's one form: y [N,O] = x [N,I] W^T + b, W [O,I], b [O] optional. The importer folds
 * alpha, beta and the transposes into W and b.
 */
#include "core/gemm.h"
#include "core/op_image.h"

enum { X, W, B };

static bool has_bias(const struct node *node)
{
    return node->n_in > B && node->in[B] != NO_VALUE;
}

static int check_constant(const struct graph *g, const struct node *node, int i, int rank)
{
    const struct value *v = op_in(g, node, i);
    char text[SHAPE_TEXT];

    if (value_is_activation(v))
        return op_fail(node, "input %d '%s' is an activation, needs a constant", i, v->name);
    if (v->shape.rank != rank)
        return op_fail(node, "input %d '%s' has shape %s, needs rank %d", i, v->name,
                       shape_text(&v->shape, text), rank);
    return 0;
}

static int gemm_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    char text[SHAPE_TEXT];

    TRY(op_check_inputs(g, node));
    const struct value *x = op_in(g, node, X), *w = op_in(g, node, W);
    if (!value_is_activation(x) || x->shape.rank != 2 || !shape_has_batch(&x->shape))
        return op_fail(node, "input 0 '%s' has shape %s, needs an activation [N,K]", x->name,
                       shape_text(&x->shape, text));
    TRY(check_constant(g, node, W, 2));
    if (w->shape.dim[1] != x->shape.dim[1])
        return op_fail(node, "weight '%s' takes %lld features, the input has %lld", w->name,
                       (long long)w->shape.dim[1], (long long)x->shape.dim[1]);
    if (has_bias(node)) {
        TRY(check_constant(g, node, B, 1));
        const struct value *b = op_in(g, node, B);
        if (b->shape.dim[0] != w->shape.dim[0])
            return op_fail(node, "bias '%s' has %lld values for %lld outputs", b->name,
                           (long long)b->shape.dim[0], (long long)w->shape.dim[0]);
    }
    *out = x->shape;
    out->dim[1] = w->shape.dim[0];
    return 0;
}

static void gemm_forward(const struct op_call *k)
{
    const struct shape *w = &op_in(k->g, k->node, W)->shape;
    int64_t outs = w->dim[0], ins = w->dim[1];
    float *y = k->out;

    for (int64_t i = 0; i < k->n && has_bias(k->node); i++)
        floats_put(y + i * outs, k->in[B], outs, false);
    gemm_f32(false, true, k->n, outs, ins, 1, k->in[X], ins, k->in[W], ins,
             has_bias(k->node) ? 1 : 0, y, outs);
}

static void gemm_grad_input(const struct op_call *k)
{
    const struct shape *w = &op_in(k->g, k->node, W)->shape;
    int64_t outs = w->dim[0], ins = w->dim[1];

    if (k->din[X] != NULL)
        gemm_f32(false, false, k->n, ins, outs, 1, k->dout, outs, k->in[W], ins, k->add[X] ? 1 : 0,
                 k->din[X], ins);
}

static void gemm_grad_params(const struct op_call *k)
{
    const struct shape *w = &op_in(k->g, k->node, W)->shape;
    int64_t outs = w->dim[0], ins = w->dim[1];

    if (k->din[W] != NULL)
        gemm_f32(true, false, outs, ins, k->n, 1, k->dout, outs, k->in[X], ins, 1, k->din[W], ins);
    for (int64_t i = 0; i < k->n && has_bias(k->node) && k->din[B] != NULL; i++)
        floats_put(k->din[B], k->dout + i * outs, outs, true);
}

const struct op op_gemm = {
    .type = "Gemm",
    .in_min = 2,
    .in_max = 3,
    .flags = OP_LINEAR | OP_KEEP_X_TRAIN,
    .shape = gemm_shape,
    .forward = gemm_forward,
    .grad_input = gemm_grad_input,
    .grad_params = gemm_grad_params,
};
