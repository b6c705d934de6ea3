/*
 * Softmax over the channels: axis 1 of [N,K] or [N,C,H,W] (also written -1 for [N,K]).
 * y = exp(x - max) / sum;  dx = y (dy - sum dy y).
 */
#include <math.h>

#include "core/op/image.h"

static int softmax_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    char text[SHAPE_TEXT];

    TRY(op_need_image_or_row(g, node));
    const struct value *x = op_in(g, node, 0);
    int64_t axis = node->p.softmax.axis;
    if (axis != 1 && axis != 1 - x->shape.rank)
        return op_fail(node, "axis=%lld of an input %s, only axis 1 is supported", (long long)axis,
                       shape_text(&x->shape, text));
    *out = x->shape;
    return 0;
}

static void softmax_row(float *y, const float *x, int64_t n)
{
    float top = x[0], sum = 0;

    for (int64_t i = 1; i < n; i++)
        top = x[i] > top ? x[i] : top;
    for (int64_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - top);
        sum += y[i];
    }
    for (int64_t i = 0; i < n; i++)
        y[i] /= sum;
}

static void softmax_forward(const struct op_call *k)
{
    struct image m = image_in(k, 0);

    for (int64_t r = 0; r < k->n * m.h * m.w; r++)
        softmax_row(k->out + r * m.c, k->in[0] + r * m.c, m.c);
}

static void softmax_grad_input(const struct op_call *k)
{
    struct image m = image_in(k, 0);

    for (int64_t r = 0; r < k->n * m.h * m.w && k->din[0] != NULL; r++) {
        const float *y = k->out + r * m.c, *dy = k->dout + r * m.c;
        float *dx = k->din[0] + r * m.c, dot = 0;
        for (int64_t i = 0; i < m.c; i++)
            dot += dy[i] * y[i];
        for (int64_t i = 0; i < m.c; i++)
            dx[i] = (k->add[0] ? dx[i] : 0) + y[i] * (dy[i] - dot);
    }
}

static const struct attr attrs[] = {
    {"axis", ATTR_INT, offsetof(union op_params, softmax.axis), 1, false, -1, -8, 7},
    {0},
};

const struct op op_softmax = {
    .type = "Softmax",
    .in_min = 1,
    .in_max = 1,
    .attrs = attrs,
    .flags = OP_ELEMENTWISE | OP_KEEP_Y,
    .shape = softmax_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = softmax_forward,
            .grad_input = softmax_grad_input,
        },
};
