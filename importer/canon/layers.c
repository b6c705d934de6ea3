/*
 * Layers with weights or windows: Conv, BatchNormalization, Gemm, MatMul, the pools.
 *
 *   Gemm    y = alpha op(A) op(B) + beta C     ->  y = x W^T + b,  W [out,in] = alpha op(B)^T,
 *   MatMul  y = x B, then Add(y, c)                b [out] = beta C
 *
 * auto_pad becomes explicit pads: SAME gives ceil(in / stride) outputs and puts the odd pad at the
 * end (UPPER) or at the beginning (LOWER). A pool over single pixels becomes a Slice.
 *
 * Weights become PARAM, running statistics BUFFER. A layer of the preprocessing (directly at the
 * input: BatchNormalization, 1x1 depthwise Conv) gets CONST operands and is frozen.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

/* ---- windows -------------------------------------------------------------------------------- */

static int64_t same_padding(int64_t in, int64_t kernel, int64_t stride, int64_t dilation)
{
    const int64_t out = (in - 1) / stride + 1;
    const int64_t total = (out - 1) * stride + (kernel - 1) * dilation + 1 - in;

    return total > 0 ? total : 0;
}

/* pad = what auto_pad says; unchanged for NOTSET. x is an image. */
static int resolve_auto_pad(struct import *im, value_id x, const int64_t kernel[2],
                            const int64_t stride[2], const int64_t dilation[2], int64_t pad[4])
{
    const struct shape *s = &im->g->value[x].shape;
    const char *mode;

    TRY(attrs_text(im, "auto_pad", "NOTSET", &mode));
    if (strcmp(mode, "NOTSET") == 0)
        return 0;
    const bool lower = strcmp(mode, "SAME_LOWER") == 0;
    if (!lower && strcmp(mode, "SAME_UPPER") != 0 && strcmp(mode, "VALID") != 0)
        return report_problem(im, "E1205", "", "auto_pad is '%s' %s", mode, im->at);
    for (int k = 0; k < 2; k++) {
        int64_t total = strcmp(mode, "VALID") == 0
                            ? 0
                            : same_padding(s->dim[2 + k], kernel[k], stride[k], dilation[k]);

        pad[k] = lower ? total - total / 2 : total / 2;
        pad[k + 2] = total - pad[k];
    }
    return 0;
}

static int need_rank(struct import *im, value_id x, int32_t rank)
{
    const struct shape *s = &im->g->value[x].shape;
    char text[SHAPE_TEXT];

    if (s->rank == rank)
        return 0;
    return report_problem(im, "E1301", "", "input has shape %s, should be %s %s",
                          shape_text(s, text), rank == 4 ? "[N,C,H,W]" : "[N,K]", im->at);
}

/* ---- Conv ----------------------------------------------------------------------------------- */

static int conv_weight(struct import *im, struct constant **w)
{
    int64_t kernel[2];
    int32_t n;

    TRY(operand_weight(im, 1, w));
    if ((*w)->shape.rank != 4)
        return report_problem(im, "E1301", "only 2-D images are supported",
                              "weight '%s' has rank %d, should be 4 %s", (*w)->name,
                              (*w)->shape.rank, im->at);
    TRY(attrs_ints(im, "kernel_shape", kernel, 2, &n));
    if (n >= 0 && (n != 2 || kernel[0] != (*w)->shape.dim[2] || kernel[1] != (*w)->shape.dim[3]))
        return report_problem(im, "E1301", "", "kernel_shape is not that of weight '%s' %s",
                              (*w)->name, im->at);
    return 0;
}

static int conv_bias(struct import *im, const struct constant *w, struct constant **b)
{
    TRY(operand_weight(im, 2, b));
    if ((*b)->shape.rank == 1 && (*b)->count == w->shape.dim[0])
        return 0;
    return report_problem(
        im, "E1601",
        "known export bug of onnxscript 0.5.0 to 0.5.6, which gave two Convs one bias; export again with onnxscript >= 0.5.7",
        "bias '%s' has %lld values for %lld output channels %s", (*b)->name, (long long)(*b)->count,
        (long long)w->shape.dim[0], im->at);
}

static bool is_preprocessing_conv(const struct import *im, value_id x, const struct constant *w,
                                  const struct conv_params *p)
{
    return canon_at_input(im, x) && w->shape.dim[2] == 1 && w->shape.dim[3] == 1 &&
           w->shape.dim[1] == 1 && p->group == im->g->value[x].shape.dim[1] &&
           w->shape.dim[0] == p->group;
}

static int canon_conv(struct import *im)
{
    value_id in[3] = {NO_VALUE, NO_VALUE, NO_VALUE};
    struct constant *w, *b = NULL;
    union op_params p;
    bool found;

    TRY(attrs_fill(im, &op_conv, "auto_pad,kernel_shape", &p));
    TRY(conv_weight(im, &w));
    TRY(input_channels_conv(im, p.conv.group, &w, &in[0], &found));
    if (!found)
        TRY(operand_act(im, 0, &in[0]));
    TRY(need_rank(im, in[0], 4));
    if (operand_has(im->call, 2))
        TRY(conv_bias(im, w, &b));
    TRY(resolve_auto_pad(im, in[0], &w->shape.dim[2], p.conv.stride, p.conv.dilation, p.conv.pad));
    const bool frozen = is_preprocessing_conv(im, in[0], w, &p.conv);
    TRY(canon_value(im, w, frozen ? VALUE_CONST : VALUE_PARAM, &in[1]));
    if (b != NULL)
        TRY(canon_value(im, b, frozen ? VALUE_CONST : VALUE_PARAM, &in[2]));
    TRY(canon_emit(im, &op_conv, in, 3, &p));
    if (frozen)
        canon_freeze(im);
    return 0;
}

/* ---- BatchNormalization --------------------------------------------------------------------- */

/* Training forms: five outputs before opset 9, several before 14, training_mode since. */
static int warn_training(struct import *im)
{
    int64_t mode;

    TRY(attrs_int(im, "training_mode", 0, &mode));
    if (mode == 0 && im->call->proto->n_output < 2)
        return 0;
    return report_warning(
        im, "BatchNormalization in training mode: its running statistics are used %s", im->at);
}

static int check_variance(struct import *im, const struct constant *v)
{
    for (int64_t k = 0; v->f != NULL && k < v->count; k++)
        if (v->f[k] < 0)
            return report_problem(im, "E1603", "the file is damaged, or its inputs are mixed up",
                                  "variance '%s' is %g at position %lld %s", v->name,
                                  (double)v->f[k], (long long)k, im->at);
    return 0;
}

/* spatial=0 before opset 9 means statistics for each position. MXNet wrote it beside statistics of
 * channels, which onnxruntime takes for what they are. */
static int check_spatial(struct import *im, value_id x, struct constant *const c[5])
{
    int64_t spatial;

    TRY(attrs_int(im, "spatial", 1, &spatial));
    if (spatial != 0)
        return 0;
    for (int32_t i = 1; i < 5; i++)
        if (c[i]->shape.rank != 1 || c[i]->count != im->g->value[x].shape.dim[1])
            return report_problem(im, "E1206", "use statistics for each channel and train again",
                                  "spatial=0, statistics for each position, is not supported %s",
                                  im->at);
    return report_warning(im, "spatial=0 was ignored: the statistics are those of channels %s",
                          im->at);
}

static int need_statistics(struct import *im)
{
    if (operand_has(im->call, 3) && operand_has(im->call, 4))
        return 0;
    return report_problem(
        im, "E1209",
        "keep running statistics (track_running_stats=True), train a little and export again",
        "batch normalization without running statistics (track_running_stats=False): input %d is missing %s",
        operand_has(im->call, 3) ? 4 : 3, im->at);
}

static int canon_batchnorm(struct import *im)
{
    struct constant *c[5];
    union op_params p;
    value_id in[5];

    TRY(attrs_fill(im, &op_batchnorm, "spatial,training_mode,is_test,consumed_inputs", &p));
    TRY(need_statistics(im));
    TRY(warn_training(im));
    TRY(operand_act(im, 0, &in[0]));
    for (int32_t i = 1; i < 5; i++)
        TRY(operand_constant(im, i, &c[i]));
    TRY(check_spatial(im, in[0], c));
    TRY(check_variance(im, c[4]));
    const bool frozen = canon_at_input(im, in[0]);
    for (int32_t i = 1; i < 5; i++) {
        enum value_kind kind = frozen ? VALUE_CONST : i < 3 ? VALUE_PARAM : VALUE_BUFFER;

        TRY(canon_value(im, c[i], kind, &in[i]));
    }
    TRY(canon_emit(im, &op_batchnorm, in, 5, &p));
    if (frozen)
        canon_freeze(im);
    return 0;
}

/* ---- Gemm and MatMul ------------------------------------------------------------------------ */

/* *out = alpha B^T or alpha B: [out,in]; the constant itself where nothing changes. */
static int linear_weight(struct import *im, struct constant *b, bool transposed, float alpha,
                         struct constant **out)
{
    struct constant *w;

    if (!constant_is_float(b))
        TRY(constant_read(im, b)); /* what is wrong inside comes first */
    if (b->images)
        return report_pins_batch(im);
    if (b->shape.rank != 2 || !constant_is_float(b))
        return report_problem(im, "E1301", "", "weight '%s' should be a float matrix %s", b->name,
                              im->at);
    *out = b;
    if (transposed && alpha == 1)
        return 0;
    TRY(constant_read(im, b));
    const int64_t rows = b->shape.dim[transposed ? 0 : 1], cols = b->shape.dim[transposed ? 1 : 0];
    TRY(constant_new(im, b->type, &(struct shape){.rank = 2, .dim = {rows, cols}}, &w));
    w->name = b->name;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < cols; k++)
            w->f[r * cols + k] = alpha * b->f[transposed ? r * cols + k : k * rows + r];
    *out = w;
    return 0;
}

/* *out = beta C as [n]; C is a number, [n], [1,n] or [1,1]. *fits false if it is something else. */
static int linear_bias(struct import *im, struct constant *c, int64_t n, float beta, bool *fits,
                       struct constant **out)
{
    struct constant *b;
    const int32_t rank = c->shape.rank;

    *fits = c->f != NULL && (c->count == 1 || c->count == n) &&
            (rank < 2 || (rank == 2 && c->shape.dim[0] == 1)) &&
            (rank == 0 || c->shape.dim[rank - 1] == c->count);
    if (!*fits)
        return 0;
    TRY(constant_new(im, c->type, &(struct shape){.rank = 1, .dim = {n}}, &b));
    b->name = c->name;
    for (int64_t k = 0; k < n; k++)
        b->f[k] = beta * c->f[c->count == 1 ? 0 : k];
    *out = b;
    return 0;
}

/* Input 0 as [N,K]. Features that the file flattened from [N,H,W,C] come out of the graph in the
 * order C, H, W: *w, [out, H*W*C], gets its columns in that order. */
static int linear_input(struct import *im, struct constant **w, value_id *x)
{
    const struct constant *from = *w;
    enum entry_order order;
    value_id image;

    TRY(operand_act_any(im, 0, &image, &order));
    if (order != ORDER_FLAT_LAST)
        return operand_act(im, 0, x);
    const struct shape *s = &im->g->value[image].shape;
    const int64_t n = shape_elems(s), channels = s->dim[1], positions = n / channels;
    if (from->shape.dim[1] != n)
        return report_problem(im, "E1301", "",
                              "weight '%s' takes %lld features, the input has %lld %s", from->name,
                              (long long)from->shape.dim[1], (long long)n, im->at);
    TRY(constant_read(im, *w));
    TRY(constant_new(im, from->type, &from->shape, w));
    (*w)->name = from->name;
    for (int64_t o = 0; o < from->shape.dim[0]; o++)
        for (int64_t k = 0; k < n; k++)
            (*w)->f[o * n + k] = from->f[o * n + k % positions * channels + k / positions];
    return graph_add_node(im->g, &op_flatten, report_text(im, "%s/Flatten", im->call->name), &image,
                          1, NULL, report_text(im, "%s/Flatten_out", im->call->name), x);
}

static int canon_gemm(struct import *im)
{
    value_id in[3] = {NO_VALUE, NO_VALUE, NO_VALUE};
    int64_t trans_a, trans_b;
    struct constant *w, *b;
    float alpha, beta;
    bool fits;

    TRY(attrs_only(im, "alpha,beta,transA,transB,broadcast"));
    TRY(attrs_float(im, "alpha", 1, &alpha));
    TRY(attrs_float(im, "beta", 1, &beta));
    TRY(attrs_int(im, "transA", 0, &trans_a));
    TRY(attrs_int(im, "transB", 0, &trans_b));
    if (trans_a != 0)
        return report_problem(im, "E1206", "",
                              "transA of an activation would transpose the batch %s", im->at);
    TRY(operand_weight(im, 1, &w));
    TRY(linear_weight(im, w, trans_b != 0, alpha, &w));
    TRY(linear_input(im, &w, &in[0]));
    TRY(need_rank(im, in[0], 2));
    TRY(canon_value(im, w, VALUE_PARAM, &in[1]));
    if (operand_has(im->call, 2)) {
        TRY(operand_constant(im, 2, &b));
        TRY(linear_bias(im, b, w->shape.dim[0], beta, &fits, &b));
        if (!fits)
            return report_problem(im, "E1601", "the file is damaged, or two layers share a bias",
                                  "bias '%s' has %lld values for %lld outputs %s", b->name,
                                  (long long)b->count, (long long)w->shape.dim[0], im->at);
        TRY(canon_value(im, b, VALUE_PARAM, &in[2]));
    }
    return canon_emit(im, &op_gemm, in, 3, NULL);
}

/* y = x W, once it is known that no bias follows. */
static int materialise_product(struct import *im, struct entry *e)
{
    const struct product *p = e->product;
    value_id in[3] = {p->x, NO_VALUE, NO_VALUE};

    TRY(canon_value(im, p->weight, VALUE_PARAM, &in[1]));
    TRY(graph_add_node(im->g, &op_gemm, p->node, in, 3, NULL, e->name, &e->act));
    e->kind = ENTRY_ACT;
    return 0;
}

/* Waits for the Add of its bias, unless somebody else reads the result too. */
static int canon_matmul(struct import *im)
{
    struct product *p = arena_array(im->arena, 1, sizeof *p);
    struct constant *w;
    struct entry *e = im->call->out;
    value_id act;

    if (p == NULL)
        return ERR_NOMEM;
    TRY(attrs_only(im, ""));
    TRY(operand_weight(im, 1, &w));
    TRY(linear_weight(im, w, false, 1, &p->weight));
    TRY(linear_input(im, &p->weight, &p->x));
    TRY(need_rank(im, p->x, 2));
    p->node = im->call->name;
    e->kind = ENTRY_PRODUCT;
    e->settle = materialise_product;
    e->product = p;
    return e->uses == 1 ? 0 : entry_act(im, e, &act);
}

int canon_product_bias(struct import *im, struct entry *product, struct constant *bias, bool *found)
{
    const struct product *p = product->product;
    value_id in[3] = {p->x, NO_VALUE, NO_VALUE};
    struct constant *b;

    TRY(linear_bias(im, bias, p->weight->shape.dim[0], 1, found, &b));
    if (!*found)
        return 0;
    TRY(canon_value(im, p->weight, VALUE_PARAM, &in[1]));
    TRY(canon_value(im, b, VALUE_PARAM, &in[2]));
    return canon_emit_named(im, p->node, &op_gemm, in, 3, NULL);
}

/* ---- pools ---------------------------------------------------------------------------------- */

static bool is_one_pixel(const struct pool_params *p)
{
    return p->kernel[0] == 1 && p->kernel[1] == 1 && !p->ceil_mode && p->pad[0] == 0 &&
           p->pad[1] == 0 && p->pad[2] == 0 && p->pad[3] == 0;
}

/* Mean and largest of one pixel are that pixel: x[:, :, ::s, ::t]. */
static int pick_pixels(struct import *im, value_id x, const int64_t stride[2])
{
    union op_params p = {.slice = {.end = {1}, .step = {1, 1, stride[0], stride[1]}}};
    const struct shape *s = &im->g->value[x].shape;

    if (stride[0] == 1 && stride[1] == 1)
        return result_alias(im, im->call->in[0]);
    for (int32_t k = 1; k < 4; k++)
        p.slice.end[k] = (s->dim[k] - 1) / p.slice.step[k] * p.slice.step[k] + 1;
    return canon_emit(im, &op_slice, &x, 1, &p);
}

static int canon_pool(struct import *im)
{
    const struct op *op = op_find(im->call->type);
    union op_params p;
    value_id x;

    TRY(attrs_fill(im, op, "auto_pad,storage_order", &p));
    TRY(operand_act(im, 0, &x));
    TRY(need_rank(im, x, 4));
    TRY(resolve_auto_pad(im, x, p.pool.kernel, p.pool.stride, p.pool.dilation, p.pool.pad));
    return is_one_pixel(&p.pool) ? pick_pixels(im, x, p.pool.stride)
                                 : canon_emit(im, op, &x, 1, &p);
}

const struct canon_row canon_layers[] = {
    {"AveragePool", canon_pool},
    {"BatchNormalization", canon_batchnorm},
    {"Conv", canon_conv},
    {"Gemm", canon_gemm},
    {"MatMul", canon_matmul},
    {"MaxPool", canon_pool},
    {NULL, NULL},
};
