/*
 * Gemm in linnet's one form: y [N,O] = x [N,I] W^T + b, W [O,I], b [O] optional. The importer folds
 * alpha, beta and the transposes into W and b.
 *
 * It is computed as a 1 x 1 convolution of 1 x 1 images (conv_direct.h): unlike a product of
 * OpenBLAS, whose order of sums depends on N, the bits of a row do not depend on the other rows.
 *
 * prepared: the forward weights, then those of the gradient.
 */
#include "core/kernel/conv_direct.h"
#include "core/op/image.h"

enum { X, W, B };

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

    const struct value *x = op_in(g, node, X), *w = op_in(g, node, W);
    if (!value_is_activation(x) || x->shape.rank != 2 || !shape_has_batch(&x->shape))
        return op_fail(node, "input 0 '%s' has shape %s, needs an activation [N,K]", x->name,
                       shape_text(&x->shape, text));
    TRY(check_constant(g, node, W, 2));
    if (w->shape.dim[1] != x->shape.dim[1])
        return op_fail(node, "weight '%s' takes %lld features, the input has %lld", w->name,
                       (long long)w->shape.dim[1], (long long)x->shape.dim[1]);
    if (node_has(node, 2)) {
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

static struct conv_pass make_pass(const struct graph *g, const struct node *node, bool grad)
{
    const int64_t *w = op_in(g, node, W)->shape.dim;
    struct conv_pass p = {.groups = 1, .src_c = w[grad ? 0 : 1], .dst_c = w[grad ? 1 : 0]};

    (grad ? conv_axis_grad : conv_axis_forward)(&p.y, 1, 1, 1, 1, 1, 0);
    p.x = p.y;
    return p;
}

static size_t gemm_prepare_size(const struct graph *g, const struct node *node,
                                const struct op_use *use)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    return conv_packed_size(&forward) + (use->gradient ? conv_packed_size(&grad) : 0);
}

static void gemm_prepare(const struct graph *g, const struct node *node, int branch,
                         const struct op_use *use, float *prepared)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);

    (void)branch;
    conv_pack(&forward, conv_span_of(&forward, 0, 1), op_in(g, node, W)->data, NULL, prepared);
    if (use->gradient)
        conv_pack(&grad, conv_span_of(&grad, 0, 1), op_in(g, node, W)->data, NULL,
                  prepared + conv_packed_size(&forward));
}

static size_t gemm_scratch(const struct graph *g, const struct node *node, int64_t n)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);

    return max_size(conv_grad_scratch(&forward, n),
                    max_size(conv_run_scratch(&forward, n), conv_run_scratch(&grad, n)));
}

static void gemm_forward(const struct op_call *k)
{
    struct conv_pass p = make_pass(k->g, k->node, false);

    conv_run(&p, conv_kernels_of(cpu_best_path()), conv_span_of(&p, 0, 1), k->n, k->in[X],
             k->prepared, node_has(k->node, 2) ? k->in[B] : NULL, k->out, false, k->scratch);
}

static void gemm_grad_input(const struct op_call *k)
{
    struct conv_pass forward = make_pass(k->g, k->node, false), p = make_pass(k->g, k->node, true);

    if (k->din[X] != NULL)
        conv_run(&p, conv_kernels_of(cpu_best_path()), conv_span_of(&p, 0, 1), k->n, k->dout,
                 k->prepared + conv_packed_size(&forward), NULL, k->din[X], k->add[X], k->scratch);
}

static void gemm_grad_params(const struct op_call *k)
{
    struct conv_pass p = make_pass(k->g, k->node, false);
    int64_t outs = p.dst_c;

    if (k->din[W] != NULL)
        conv_grad_weights(&p, conv_kernels_of(cpu_best_path()), conv_span_of(&p, 0, 1), k->n,
                          k->in[X], k->dout, k->din[W], k->scratch);
    for (int64_t i = 0; i < k->n && node_has(k->node, 2) && k->din[B] != NULL; i++)
        floats_put(k->din[B], k->dout + i * outs, outs, true);
}

const struct op op_gemm = {
    .type = "Gemm",
    .in_min = 2,
    .in_max = 3,
    .flags = OP_LINEAR | OP_KEEP_X_TRAIN,
    .shape = gemm_shape,
    .hooks =
        &(const struct op_hooks){
            .prepare_size = gemm_prepare_size,
            .prepare = gemm_prepare,
            .scratch_size = gemm_scratch,
            .forward = gemm_forward,
            .grad_input = gemm_grad_input,
            .grad_params = gemm_grad_params,
        },
};
