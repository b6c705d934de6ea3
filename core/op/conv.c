/*
 * Conv (ONNX opset 11 and later, two spatial axes): y = w * x + b.
 *
 *     y[n,o,i,j] = b[o] + sum over c, k, l of w[o,c,k,l] x[n, c0 + c, i s - p + k d, j s - p + l d]
 *
 * with strides s, dilations d, leading pads p and c0 the first channel of o's group. Three ways:
 *
 *   conv_wino.h     dense 3 x 3 of stride 1 or 2 (wino_fits: a rule of the shapes and of the executor's
 *                   batch, each direction by itself)
 *   conv_point.h    1 x 1 without padding
 *   conv_direct.h   everything else
 *
 * Forward and grad_input are correlations with packed weights, grad_params sums of outer products.
 * On bf16 storage conv_bf16.c computes. What is prepared: the forward weights, then (where gradients are wanted) those of the gradient.
 */
#include "core/op/conv_bf16.h"

#include "core/base/cpu.h"
#include "core/kernel/conv_point.h"
#include "core/kernel/conv_wino.h"

#define AT(field) offsetof(union op_params, conv.field)
#define MAX_PHASE_TAPS ((int64_t)1 << 21) /* phases times kernel, of one axis */
#define FAR 1048576.0                     /* 2^20: keeps every index far below 2^63 */

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

/* The gradient of a strided convolution has a kernel of its own for each of min(stride, in) phases;
 * every one of them is looked at when the network is read. */
static int check_phases(const struct node *node, int i, int64_t in, int64_t kernel)
{
    const int64_t stride = node->p.conv.stride[i], phases = min_i64(stride, in);

    if (phases <= MAX_PHASE_TAPS / kernel)
        return 0;
    return op_fail(node, "stride %lld with a kernel of %lld on %lld pixels is too large",
                   (long long)stride, (long long)kernel, (long long)in);
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

    TRY(op_need_image(g, node));
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
        TRY(check_phases(node, i, in, kernel));
    }
    y.dim[1] = op_in(g, node, 1)->shape.dim[0];
    TRY(shape_count(&y, &count));
    TRY(check_padded(g, node, false));
    TRY(check_padded(g, node, true));
    *out = y;
    return 0;
}

/* ---- one correlation, by either way */

/* A correlation, or a part of its destination channels, with the kernels to use. */
static struct wino wino_of(const struct conv_pass *p, int32_t part, int32_t parts)
{
    enum cpu_path path = cpu_best_path();
    return (struct wino){.p = p,
                         .k = conv_kernels_of(path),
                         .t = wino_kernels_of(path, wino_points(p)),
                         .span = conv_span_of(p, part, parts)};
}

/* The part of a correlation that a call of wino_run does. */
static struct wino wino_part(const struct conv_pass *p, const struct op_call *c)
{
    const bool tiles = wino_splits_tiles(p);
    struct wino w = wino_of(p, tiles ? 0 : c->part, tiles ? 0 : c->parts);

    w.part = tiles ? c->part : 0;
    w.parts = tiles ? c->parts : 0;
    return w;
}

/* The floats of a folded bias, in whole cache lines so that the weights after it are aligned. */
static size_t bias_size(const struct conv_pass *forward)
{
    return (size_t)(conv_panels(forward->dst_c) * CONV_LANES);
}

static size_t packed_size(const struct conv_pass *p, int64_t batch)
{
    return wino_fits(p, batch) ? wino_packed_size(p) : conv_packed_size(p);
}

static void pack(const struct conv_pass *p, const struct op_use *use, const float *w,
                 const float *scale, float *packed)
{
    const struct wino part = wino_of(p, use->part, use->parts);

    if (wino_fits(p, use->batch))
        wino_pack(&part, w, scale, packed);
    else
        conv_pack(p, part.span, w, scale, packed);
}

static size_t run_scratch(const struct conv_pass *p, int64_t n)
{
    if (conv_point_pays(p))
        return conv_point_scratch(p);
    return max_size(conv_run_scratch(p, n), wino_fits(p, 0) ? wino_run_scratch(p, n) : 0);
}

/* The tail of direct convolution, a pass of its own: over whole images, or pixel by pixel over the
 * channels of the span. */
static void run_tail(const struct op_call *c, const struct conv_pass *p, struct conv_span span)
{
    const struct rows_kernels *rows = rows_kernels_of(cpu_best_path());
    int64_t per_group = conv_panels(p->dst_c / p->groups), image = p->y.dst * p->x.dst * p->dst_c;
    bool all = span.first == 0 && span.end == p->groups * per_group;
    int64_t first = all ? 0 : conv_panel_channel(p, span.first);
    int64_t end = all ? p->dst_c : conv_panel_channel(p, span.end);
    int64_t step = all ? image : p->dst_c, n = all ? image : end - first;

    for (int64_t i = 0; i < c->n * image; i += step) {
        struct rows_tail tail = c->tail;

        if (tail.other != NULL)
            tail.other += i + first;
        if (tail.mask != NULL)
            tail.mask += (i + first) % image;
        rows->tail(c->out + i + first, n, &tail);
    }
}

/* The part of a 1x1 convolution that a call does. */
static struct conv_point point_part(const struct conv_pass *p, const struct op_call *c)
{
    const enum cpu_path path = cpu_best_path();
    const bool pixels = conv_point_splits_pixels(p);

    return (struct conv_point){.p = p,
                               .k = conv_kernels_of(path),
                               .rows = rows_kernels_of(path),
                               .span = conv_span_of(p, pixels ? 0 : c->part, pixels ? 0 : c->parts),
                               .part = pixels ? c->part : 0,
                               .parts = pixels ? c->parts : 0};
}

/* dst = tail(correlation of src + bias), or added to it without a tail. */
static void run(const struct op_call *c, const struct conv_pass *p, const float *src,
                const float *packed, const float *bias, const struct rows_tail *tail, float *dst,
                bool add)
{
    if (wino_fits(p, c->use.batch)) {
        const struct wino w = wino_part(p, c);
        wino_run(&w, c->n, src, packed, bias, tail, dst, add, c->scratch);
        return;
    }
    if (conv_point_pays(p)) {
        const struct conv_point point = point_part(p, c);
        conv_point_run(&point, c->n, src, packed, bias, tail, dst, add, c->scratch);
        return;
    }
    const struct wino w = wino_of(p, c->part, c->parts);
    conv_run(p, w.k, w.span, c->n, src, packed, bias, dst, add, c->scratch);
    if (tail->other != NULL || tail->relu)
        run_tail(c, p, w.span);
}

static size_t grad_scratch(const struct conv_pass *p, int64_t n)
{
    return max_size(conv_grad_scratch(p, n), wino_fits(p, 0) ? wino_grad_scratch(p, n) : 0);
}

static void grad_weights(const struct op_call *c, const struct conv_pass *p)
{
    const struct wino w = wino_of(p, c->part, c->parts);

    if (wino_fits_weights(p, c->use.batch))
        wino_grad_weights(&w, c->n, c->in[0], c->dout, c->din[1], c->scratch);
    else
        conv_grad_weights(p, w.k, w.span, c->n, c->in[0], c->dout, c->din[1], c->scratch);
}

/* ---- hooks */

/* Prepared: bias (of a folded node) | forward weights | gradient weights, as far as used. */
static size_t gradient_at(const struct conv_pass *forward, const struct op_use *use)
{
    return bias_size(forward) + (use->forward ? packed_size(forward, use->batch) : 0);
}

static size_t conv_prepare_size(const struct graph *g, const struct node *node,
                                const struct op_use *use)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    return gradient_at(&forward, use) + (use->gradient ? packed_size(&grad, use->batch) : 0);
}

static void prepare_weights(const struct graph *g, const struct node *node, const float *scale,
                            const struct op_use *use, float *prepared)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    const float *w = op_in(g, node, 1)->data;

    if (use->forward)
        pack(&forward, use, w, scale, prepared + bias_size(&forward));
    if (use->gradient)
        pack(&grad, use, w, scale, prepared + gradient_at(&forward, use));
}

static void conv_prepare(const struct graph *g, const struct node *node, int branch,
                         const struct op_use *use, float *prepared)
{
    (void)branch;
    prepare_weights(g, node, NULL, use, prepared);
}

static void conv_prepare_folded(const struct graph *g, const struct node *node, const float *scale,
                                const float *shift, const struct op_use *use, float *prepared)
{
    const float *b = node_has(node, 2) ? op_in(g, node, 2)->data : NULL;
    int64_t n = op_in(g, node, 1)->shape.dim[0];

    for (int64_t c = 0; c < n && use->part == 0; c++)
        prepared[c] =
            b == NULL ? shift[c] : (float)((double)b[c] * (double)scale[c] + (double)shift[c]);
    prepare_weights(g, node, scale, use, prepared);
}

/* Bias gradient: sums of a row, of an image, of the block, so that rounding stays small. */
static size_t bias_scratch(const struct node *node, int64_t channels)
{
    return node->n_in < 3 ? 0 : (size_t)(2 * channels);
}

static size_t conv_scratch_size(const struct graph *g, const struct node *node, int64_t n)
{
    struct conv_pass forward = make_pass(g, node, false), grad = make_pass(g, node, true);
    size_t run = max_size(run_scratch(&forward, n), run_scratch(&grad, n));

    return max_size(run, max_size(grad_scratch(&forward, n), bias_scratch(node, forward.dst_c)));
}

static void conv_forward(const struct op_call *c)
{
    struct conv_pass p = make_pass(c->g, c->node, false);
    const float *bias = c->folded ? c->prepared : node_has(c->node, 2) ? c->in[2] : NULL;

    run(c, &p, c->in[0], c->prepared + bias_size(&p), bias, &c->tail, c->out, false);
}

static void conv_grad_input(const struct op_call *c)
{
    struct conv_pass forward = make_pass(c->g, c->node, false), p = make_pass(c->g, c->node, true);
    const struct rows_tail none = {.relu = false};

    if (c->din[0] != NULL)
        run(c, &p, c->dout, c->prepared + gradient_at(&forward, &c->use), NULL, &none, c->din[0],
            c->add[0]);
}

/* db[o] += sum over images and pixels of dy[n,h,w,o]. */
static void grad_bias(const struct conv_pass *p, int64_t n, const float *dy, float *db,
                      float *scratch)
{
    int64_t channels = p->dst_c;
    float *image = scratch, *row = scratch + channels;

    for (int64_t i = 0; i < n; i++) {
        floats_fill(image, channels, 0);
        for (int64_t h = 0; h < p->y.dst; h++) {
            floats_fill(row, channels, 0);
            for (int64_t w = 0; w < p->x.dst; w++, dy += channels)
                floats_put(row, dy, channels, true);
            floats_put(image, row, channels, true);
        }
        floats_put(db, image, channels, true);
    }
}

static void conv_grad_params(const struct op_call *c)
{
    struct conv_pass p = make_pass(c->g, c->node, false);

    if (c->din[1] != NULL)
        grad_weights(c, &p);
    if (c->node->n_in > 2 && c->din[2] != NULL && c->part == 0)
        grad_bias(&p, c->n, c->dout, c->din[2], c->scratch);
}

const struct op op_conv = {
    .type = "Conv",
    .in_min = 2,
    .in_max = 3,
    .attrs = conv_attrs,
    .flags = OP_LINEAR | OP_KEEP_X_TRAIN | OP_SPLIT | OP_TAIL | OP_FOLD | OP_PREPARE_LATE,
    .shape = conv_shape,
    .hooks =
        &(const struct op_hooks){
            .prepare_size = conv_prepare_size,
            .prepare = conv_prepare,
            .prepare_folded = conv_prepare_folded,
            .scratch_size = conv_scratch_size,
            .forward = conv_forward,
            .grad_input = conv_grad_input,
            .grad_params = conv_grad_params,
            .bf16 = &conv_bf16_hooks,
            .bf16_fits = conv_bf16_fits,
        },
};
