/*
 * Conv (ONNX opset 11 and later, two spatial axes): y = w * x + b.
 *
 *     y[n,o,i,j] = b[o] + sum over c, k, l of w[o,c,k,l] x[n, c0 + c, i s - p + k d, j s - p + l d]
 *
 * with strides s, dilations d, leading pads p and c0 the first channel of o's group. Two ways:
 *
 *   conv_wino.h     dense 3 x 3 of stride 1 (wino_fits: a rule of shapes, each direction by itself)
 *   conv_direct.h   everything else
 *
 * Forward and grad_input are correlations with packed weights, grad_params sums of outer products.
 * What is prepared: the forward weights, then (where gradients are wanted) those of the gradient.
 */
#include "core/conv_direct.h"
#include "core/conv_wino.h"
#include "core/cpu.h"
#include "core/op.h"

#include <string.h>

#define AT(field) offsetof(union op_params, conv.field)
#define FAR 1048576.0 /* 2^20: keeps every index far below 2^63 */

static const struct attr conv_attrs[] = {
    {"strides", ATTR_INTS, AT(stride), 2, false, 1, 1, FAR},
    {"pads", ATTR_INTS, AT(pad), 4, false, 0, 0, FAR},
    {"dilations", ATTR_INTS, AT(dilation), 2, false, 1, 1, FAR},
    {"group", ATTR_INT, AT(group), 1, false, 1, 1, FAR},
    {.name = NULL},
};

/* Output extent of axis i (0: H, 1: W); below 1 if the kernel does not fit. */
static int64_t out_extent(const struct conv_params *p, int i, int64_t in, int64_t kernel)
{
    int64_t room = in + p->pad[i] + p->pad[i + 2] - ((kernel - 1) * p->dilation[i] + 1);
    return room < 0 ? 0 : room / p->stride[i] + 1;
}

static struct conv_pass make_pass(const struct graph *g, const struct node *node, bool grad)
{
    const struct conv_params *c = &node->p.conv;
    const int64_t *x = op_in(g, node, 0)->shape.dim, *w = op_in(g, node, 1)->shape.dim;
    struct conv_pass p = {
        .groups = c->group, .src_c = grad ? w[0] : x[1], .dst_c = grad ? x[1] : w[0]};
    struct conv_axis *axis[2] = {&p.y, &p.x};

    for (int i = 0; i < 2; i++) {
        int64_t in = x[2 + i], kernel = w[2 + i], out = out_extent(c, i, in, kernel);

        if (grad)
            conv_axis_grad(axis[i], in, out, kernel, c->stride[i], c->dilation[i], c->pad[i]);
        else
            conv_axis_forward(axis[i], in, out, kernel, c->stride[i], c->dilation[i], c->pad[i]);
    }
    return p;
}

/* The padded copies of both directions must be countable. */
static int check_padded(const struct graph *g, const struct node *node, bool grad)
{
    struct conv_pass p = make_pass(g, node, grad);
    struct shape padded = shape_make(3, p.y.extent, p.x.extent, p.src_c);
    int64_t count;

    return shape_count(&padded, &count);
}

static int check_weights(const struct graph *g, const struct node *node)
{
    const struct value *x = op_in(g, node, 0), *w = op_in(g, node, 1);
    int64_t group = node->p.conv.group;
    char text[SHAPE_TEXT];

    if (value_is_activation(w) || w->shape.rank != 4)
        return op_fail(node, "weights must be an initializer [O,I,KH,KW], not '%s' %s", w->name,
                       shape_text(&w->shape, text));
    if (x->shape.dim[1] % group != 0 || w->shape.dim[0] % group != 0)
        return op_fail(node, "group=%lld does not divide %lld input and %lld output channels",
                       (long long)group, (long long)x->shape.dim[1], (long long)w->shape.dim[0]);
    if (w->shape.dim[1] != x->shape.dim[1] / group)
        return op_fail(node, "weights %s do not fit %lld input channels in %lld group(s)",
                       shape_text(&w->shape, text), (long long)x->shape.dim[1], (long long)group);
    return 0;
}

static int check_bias(const struct graph *g, const struct node *node)
{
    const struct value *b;
    char text[SHAPE_TEXT];

    if (node->n_in < 3 || node->in[2] == NO_VALUE)
        return 0;
    b = op_in(g, node, 2);
    if (value_is_activation(b) || b->shape.rank != 1 ||
        b->shape.dim[0] != op_in(g, node, 1)->shape.dim[0])
        return op_fail(node, "bias '%s' %s must be an initializer of %lld elements", b->name,
                       shape_text(&b->shape, text), (long long)op_in(g, node, 1)->shape.dim[0]);
    return 0;
}

static int conv_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct conv_params *c = &node->p.conv;
    struct shape y;
    int64_t count;

    TRY(op_check_inputs(g, node));
    TRY(op_need_image(g, node, 0));
    TRY(check_weights(g, node));
    TRY(check_bias(g, node));
    y = op_in(g, node, 0)->shape;
    for (int i = 0; i < 2; i++) {
        int64_t in = y.dim[2 + i], kernel = op_in(g, node, 1)->shape.dim[2 + i];

        y.dim[2 + i] = out_extent(c, i, in, kernel);
        if (y.dim[2 + i] < 1)
            return op_fail(node, "kernel %lld (dilation %lld) is larger than the padded input %lld",
                           (long long)kernel, (long long)c->dilation[i],
                           (long long)(in + c->pad[i] + c->pad[i + 2]));
    }
    y.dim[1] = op_in(g, node, 1)->shape.dim[0];
    TRY(shape_count(&y, &count));
    TRY(check_padded(g, node, false));
    TRY(check_padded(g, node, true));
    *out = y;
    return 0;
}

/* ---- one correlation, by either way */

static struct wino wino_of(const struct conv_pass *p)
{
    enum cpu_path path = cpu_best_path();
    return (struct wino){p, conv_kernels_of(path), wino_kernels_of(path)};
}

static size_t packed_size(const struct conv_pass *p)
{
    return wino_fits(p) ? wino_packed_size(p) : conv_packed_size(p);
}

static void pack(const struct conv_pass *p, const float *w, float *packed)
{
    if (wino_fits(p))
        wino_pack(p, wino_kernels_of(cpu_best_path()), w, packed);
    else
        conv_pack(p, w, packed);
}

static size_t run_scratch(const struct conv_pass *p, int64_t n)
{
    return wino_fits(p) ? wino_run_scratch(p, n) : conv_run_scratch(p, n);
}

static void run(const struct conv_pass *p, int64_t n, const float *src, const float *packed,
                const float *bias, float *dst, bool add, float *scratch)
{
    const struct wino w = wino_of(p);

    if (wino_fits(p))
        wino_run(&w, n, src, packed, bias, dst, add, scratch);
    else
        conv_run(p, w.k, n, src, packed, bias, dst, add, scratch);
}

static size_t grad_scratch(const struct conv_pass *p, int64_t n)
{
    return wino_fits(p) ? wino_grad_scratch(p, n) : conv_grad_scratch(p, n);
}

static void grad_weights(const struct conv_pass *p, int64_t n, const float *x, const float *dy,
                         float *dw, float *scratch)
{
    const struct wino w = wino_of(p);

    if (wino_fits(p))
        wino_grad_weights(&w, n, x, dy, dw, scratch);
    else
        conv_grad_weights(p, w.k, n, x, dy, dw, scratch);
}

/* ---- hooks */

static size_t conv_prepare_size(const struct graph *g, const struct node *node, bool want_grad)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    return packed_size(&forward) + (want_grad ? packed_size(&grad) : 0);
}

static void conv_prepare(const struct graph *g, const struct node *node, int bank, bool want_grad,
                         float *prepared)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    const float *w = op_in(g, node, 1)->data;

    (void)bank;
    pack(&forward, w, prepared);
    if (want_grad)
        pack(&grad, w, prepared + packed_size(&forward));
}

/* Bias gradient: sums of a row, of an image, of the block, so that rounding stays small. */
static size_t bias_scratch(const struct node *node, int64_t channels)
{
    return node->n_in < 3 ? 0 : (size_t)(2 * channels);
}

static size_t conv_scratch_size(const struct graph *g, const struct node *node, int64_t n)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    size_t size = run_scratch(&forward, n), more = run_scratch(&grad, n);

    size = more > size ? more : size;
    more = grad_scratch(&forward, n);
    size = more > size ? more : size;
    more = bias_scratch(node, forward.dst_c);
    return more > size ? more : size;
}

static void conv_forward(const struct op_call *c)
{
    struct conv_pass p = make_pass(c->g, c->node, false);

    run(&p, c->n, c->in[0], c->prepared, c->node->n_in > 2 ? c->in[2] : NULL, c->out, false,
        c->scratch);
}

static void conv_grad_input(const struct op_call *c)
{
    struct conv_pass forward = make_pass(c->g, c->node, false), p = make_pass(c->g, c->node, true);

    if (c->din[0] == NULL)
        return;
    run(&p, c->n, c->dout, c->prepared + packed_size(&forward), NULL, c->din[0], c->add[0],
        c->scratch);
}

static void add_into(float *sum, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

/* db[o] += sum over images and pixels of dy[n,h,w,o]. */
static void grad_bias(const struct conv_pass *p, int64_t n, const float *dy, float *db,
                      float *scratch)
{
    int64_t channels = p->dst_c;
    size_t bytes = (size_t)channels * sizeof(float);
    float *image = scratch, *row = scratch + channels;

    for (int64_t i = 0; i < n; i++) {
        memset(image, 0, bytes);
        for (int64_t h = 0; h < p->y.dst; h++) {
            memset(row, 0, bytes);
            for (int64_t w = 0; w < p->x.dst; w++, dy += channels)
                add_into(row, dy, channels);
            add_into(image, row, channels);
        }
        add_into(db, image, channels);
    }
}

static void conv_grad_params(const struct op_call *c)
{
    struct conv_pass p = make_pass(c->g, c->node, false);

    if (c->din[1] != NULL)
        grad_weights(&p, c->n, c->in[0], c->dout, c->din[1], c->scratch);
    if (c->node->n_in > 2 && c->din[2] != NULL)
        grad_bias(&p, c->n, c->dout, c->din[2], c->scratch);
}

const struct op op_conv = {
    .type = "Conv",
    .in_min = 2,
    .in_max = 3,
    .attrs = conv_attrs,
    .flags = OP_LINEAR | OP_KEEP_X_TRAIN,
    .shape = conv_shape,
    .prepare_size = conv_prepare_size,
    .prepare = conv_prepare,
    .scratch_size = conv_scratch_size,
    .forward = conv_forward,
    .grad_input = conv_grad_input,
    .grad_params = conv_grad_params,
};
