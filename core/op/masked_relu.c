/*
 * MaskedRelu(x, m[, s, b]): a Relu, or with relu6 = 1 a ReLU6 min(max(x, 0), 6), at the positions of
 * the mask that are kept; elsewhere the identity, or with s and b the line s[c] x + b[c] of the position's channel. The mask, [C,H,W] or
 * [K], and the lines, [C] or [K], are shared by all images and BN branches (trainer/METHOD.md).
 *
 *   hard, m in {0,1}    y = m ? max(x,0) : x            dx = dy * (m ? [x > 0] : 1)
 *   with a line         y = m ? max(x,0) : s[c] x + b[c]
 *                       dx = dy * (m ? [x > 0] : s[c])  ds[c] = sum of (1-m) dy x, db[c] of (1-m) dy
 *   soft, m in [0,1]    y = x > 0 ? x : (1-m) x         dx = dy * (x > 0 ? 1 : 1-m)
 *                                                       dm = sum over images of dy * -min(x,0)
 *   ReLU6: where x >= 6, hard and kept y = 6, dx = 0; soft y = 6 + (1-m) (x-6), dx = dy * (1-m),
 *   dm gets dy * (6-x)
 *
 * Hard is a choice between two values, not a product: no -0.0, no 0 * inf, and a NaN passes through.
 * As 1-m >= 0, x > 0 exactly where y > 0, and x >= 6 where y >= 6, so dx reads y only; dm and ds are the only readers of x.
 * Soft masks have no line: the gradient of x at a position with both would need x itself.
 *
 * prepared: the mask as [h][w][c].
 */
#include "core/op/relu_bf16.h"

#include <math.h>

/* Line of the removed positions: slope is input 2, offset input 3. */
static bool has_line(const struct node *node)
{
    return node->n_in > 2;
}

static int check_line(const struct graph *g, const struct node *node)
{
    static const char *const what[] = {"slope", "offset"};
    const struct shape want = shape_make(1, op_in(g, node, 1)->shape.dim[0]);
    char want_text[SHAPE_TEXT], have_text[SHAPE_TEXT];

    if (node->n_in != 4 || node->in[2] == NO_VALUE || node->in[3] == NO_VALUE)
        return op_fail(node, "has a slope or an offset alone, a line needs both");
    if (node->p.masked_relu.soft)
        return op_fail(node, "a soft mask has no line");
    for (int i = 0; i < 2; i++) {
        const struct value *v = op_in(g, node, i + 2);

        if (v->kind != VALUE_PARAM && v->kind != VALUE_CONST)
            return op_fail(node, "%s '%s' is neither parameter nor constant", what[i], v->name);
        if (!shape_equal(&v->shape, &want))
            return op_fail(node, "%s '%s' has shape %s, the mask needs %s", what[i], v->name,
                           shape_text(&v->shape, have_text), shape_text(&want, want_text));
    }
    return 0;
}

static int masked_relu_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    char want[SHAPE_TEXT], have[SHAPE_TEXT];

    TRY(op_need_image_or_row(g, node));
    const struct value *x = op_in(g, node, 0), *m = op_in(g, node, 1);
    if (m->kind != VALUE_MASK && m->kind != VALUE_CONST)
        return op_fail(node, "input 1 '%s' is not a mask", m->name);
    struct shape s = {.rank = x->shape.rank - 1};
    for (int32_t i = 0; i < s.rank; i++)
        s.dim[i] = x->shape.dim[i + 1];
    if (!shape_equal(&s, &m->shape))
        return op_fail(node, "mask '%s' has shape %s, the input needs %s", m->name,
                       shape_text(&m->shape, have), shape_text(&s, want));
    if (has_line(node))
        TRY(check_line(g, node));
    *out = x->shape;
    return 0;
}

static size_t masked_relu_prepare_size(const struct graph *g, const struct node *node,
                                       const struct op_use *use)
{
    (void)use;
    return (size_t)shape_elems(&op_in(g, node, 1)->shape);
}

static void masked_relu_prepare(const struct graph *g, const struct node *node, int branch,
                                const struct op_use *use, float *prepared)
{
    struct image m = image_of(&op_in(g, node, 0)->shape);
    const float *mask = op_in(g, node, 1)->data;
    int64_t hw = m.h * m.w;

    (void)branch, (void)use;
    for (int64_t c = 0; c < m.c; c++) {
        for (int64_t p = 0; p < hw; p++)
            prepared[p * m.c + c] = mask[c * hw + p];
    }
}

/* One image of n positions. */
static void hard6_forward(float *y, const float *x, const float *m, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float f = x[i] <= 0 ? 0 : x[i] >= RELU6_TOP ? RELU6_TOP : x[i];

        y[i] = m[i] > 0.5F ? f : x[i];
    }
}

static void soft6_forward(float *y, const float *x, const float *m, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float f = x[i] <= 0 ? 0 : x[i] >= RELU6_TOP ? RELU6_TOP : x[i], over = x[i] - f;

        y[i] = f + (over == 0 ? 0 : (1 - m[i]) * over);
    }
}

static void hard_forward(float *y, const float *x, const float *m, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = ((m[i] > 0.5F) & (x[i] <= 0)) ? 0 : x[i];
}

static void soft_forward(float *y, const float *x, const float *m, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : (1 - m[i]) * x[i];
}

/* rows of c channels, m along with them; top: 6, or infinity for a Relu. */
static void line_forward(float *y, const float *x, const float *m, const float *slope,
                         const float *offset, int64_t rows, int64_t c, float top)
{
    for (int64_t r = 0; r < rows; r++, y += c, x += c, m += c) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float v = x[i], line = slope[i] * v + offset[i]; /* in any case: no branch */

            y[i] = m[i] > 0.5F ? (v <= 0 ? 0 : v >= top ? top : v) : line;
        }
    }
}

static float top_of(const struct node *node)
{
    return node->p.masked_relu.relu6 ? RELU6_TOP : INFINITY;
}

static void masked_relu_forward(const struct op_call *k)
{
    typedef void forward_fn(float *y, const float *x, const float *m, int64_t n);
    static forward_fn *const of[2][2] = {{hard_forward, hard6_forward},
                                         {soft_forward, soft6_forward}};
    const struct masked_relu_params *p = &k->node->p.masked_relu;
    const struct image m = image_in(k, 0);
    int64_t n = image_size(m);

    for (int64_t b = 0; b < k->n; b++) {
        if (has_line(k->node))
            line_forward(k->out + b * n, k->in[0] + b * n, k->prepared, k->in[2], k->in[3],
                         m.h * m.w, m.c, top_of(k->node));
        else
            of[p->soft != 0][p->relu6 != 0](k->out + b * n, k->in[0] + b * n, k->prepared, n);
    }
}

static void soft_grad(float *dx, const float *dy, const float *y, const float *m, int64_t n,
                      bool add)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float d = dy[i]; /* read in any case, so that the choice below is no branch */
        const float v = y[i] > 0 ? d : (1 - m[i]) * d;

        dx[i] = add ? dx[i] + v : v;
    }
}

/* ReLU6: hard masks are soft ones of 0 and 1 here. */
static void grad6(float *dx, const float *dy, const float *y, const float *m, int64_t n, bool add)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float d = dy[i], old = add ? dx[i] : 0;

        dx[i] = old + (((y[i] > 0) & (y[i] < RELU6_TOP)) ? d : (1 - m[i]) * d);
    }
}

static void line_grad(float *dx, const float *dy, const float *y, const float *m,
                      const float *slope, int64_t rows, int64_t c, float top, bool add)
{
    for (int64_t r = 0; r < rows; r++, dx += c, dy += c, y += c, m += c) {
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float d = dy[i], s = slope[i] * d, old = add ? dx[i] : 0;

            dx[i] = old + (m[i] > 0.5F ? (((y[i] > 0) & (y[i] < top)) ? d : 0) : s);
        }
    }
}

static void masked_relu_grad_input(const struct op_call *k)
{
    const struct rows_kernels *rows = rows_kernels_of(cpu_best_path());
    const struct image m = image_in(k, 0);
    int64_t n = image_size(m);

    for (int64_t b = 0; k->din[0] != NULL && b < k->n; b++) {
        float *dx = k->din[0] + b * n;
        const float *dy = k->dout + b * n, *y = k->out + b * n;

        if (has_line(k->node))
            line_grad(dx, dy, y, k->prepared, k->in[2], m.h * m.w, m.c, top_of(k->node), k->add[0]);
        else if (k->node->p.masked_relu.relu6)
            grad6(dx, dy, y, k->prepared, n, k->add[0]);
        else if (!k->node->p.masked_relu.soft)
            rows->relu_grad(dx, dy, y, k->prepared, n, k->add[0]);
        else
            soft_grad(dx, dy, y, k->prepared, n, k->add[0]);
    }
}

/* Adds one image: slope or offset may be NULL. */
static void line_grad_params(float *slope, float *offset, const float *dy, const float *x,
                             const float *m, int64_t rows, int64_t c)
{
    for (int64_t r = 0; r < rows; r++, dy += c, x += c, m += c) {
        for (int64_t i = 0; slope != NULL && i < c; i++)
            slope[i] += m[i] > 0.5F ? 0 : dy[i] * x[i];
        for (int64_t i = 0; offset != NULL && i < c; i++)
            offset[i] += m[i] > 0.5F ? 0 : dy[i];
    }
}

/* The mask's gradient is in ONNX order [C,H,W]; hard masks have none. */
static void mask_grad(const struct op_call *k)
{
    struct image m = image_in(k, 0);
    int64_t hw = m.h * m.w, n = image_size(m);
    const float top = top_of(k->node);
    float *dm = k->din[1], *sum = k->scratch;

    if (dm == NULL || !k->node->p.masked_relu.soft)
        return;
    floats_fill(sum, n, 0);
    for (int64_t b = 0; b < k->n; b++) {
        const float *x = k->in[0] + b * n, *dy = k->dout + b * n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            sum[i] -= x[i] < 0 ? dy[i] * x[i] : x[i] > top ? dy[i] * (x[i] - top) : 0;
    }
    for (int64_t c = 0; c < m.c; c++) {
        for (int64_t p = 0; p < hw; p++)
            dm[c * hw + p] += sum[p * m.c + c];
    }
}

static void masked_relu_grad_params(const struct op_call *k)
{
    const struct image m = image_in(k, 0);
    const int64_t n = image_size(m);

    mask_grad(k);
    for (int64_t b = 0; b < k->n && has_line(k->node); b++)
        line_grad_params(k->din[2], k->din[3], k->dout + b * n, k->in[0] + b * n, k->prepared,
                         m.h * m.w, m.c);
}

static size_t masked_relu_scratch(const struct graph *g, const struct node *node, int64_t n)
{
    (void)n;
    return node->p.masked_relu.soft ? (size_t)shape_elems(&op_in(g, node, 1)->shape) : 0;
}

static const struct attr attrs[] = {
    {"soft", ATTR_INT, offsetof(union op_params, masked_relu.soft), 1, false, 0, 0, 1},
    {"relu6", ATTR_INT, offsetof(union op_params, masked_relu.relu6), 1, false, 0, 0, 1},
    {0},
};

const struct op op_masked_relu = {
    .type = "MaskedRelu",
    .in_min = 2,
    .in_max = 4,
    .attrs = attrs,
    .flags = OP_ELEMENTWISE | OP_KEEP_Y | OP_KEEP_X_TRAIN | OP_RELU,
    .shape = masked_relu_shape,
    .hooks =
        &(const struct op_hooks){
            .prepare_size = masked_relu_prepare_size,
            .prepare = masked_relu_prepare,
            .scratch_size = masked_relu_scratch,
            .forward = masked_relu_forward,
            .grad_input = masked_relu_grad_input,
            .grad_params = masked_relu_grad_params,
            .bf16 = &masked_relu_bf16_hooks,
            .bf16_fits = masked_relu_bf16_fits,
        },
};
