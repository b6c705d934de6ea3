/*
 * Relu: y = max(x, 0); dx = y > 0 ? dy : 0 (0 at exactly 0). A NaN passes through.
 * Relu6: y = min(max(x, 0), 6); dx = 0 < y < 6 ? dy : 0. In a file a Clip to [0, 6].
 */
#include "core/op/relu_bf16.h"

static int relu_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct value *x = op_in(g, node, 0);
    if (!value_is_activation(x))
        return op_fail(node, "input 0 '%s' is a constant, needs an activation", x->name);
    *out = x->shape;
    return 0;
}

static int64_t relu_count(const struct op_call *k)
{
    return k->n * shape_elems(&op_in(k->g, k->node, 0)->shape);
}

static void relu_forward(const struct op_call *k)
{
    const float *x = k->in[0];
    float *y = k->out;
    int64_t n = relu_count(k);

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] <= 0 ? 0 : x[i];
}

static void relu_grad_input(const struct op_call *k)
{
    if (k->din[0] != NULL)
        rows_kernels_of(cpu_best_path())
            ->relu_grad(k->din[0], k->dout, k->out, NULL, relu_count(k), k->add[0]);
}

static void relu6_forward(const struct op_call *k)
{
    const float *x = k->in[0];
    float *y = k->out;
    int64_t n = relu_count(k);

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] <= 0 ? 0 : x[i] >= RELU6_TOP ? RELU6_TOP : x[i];
}

static void relu6_grad_input(const struct op_call *k)
{
    const float *y = k->out, *dy = k->dout;
    float *dx = k->din[0];
    int64_t n = relu_count(k);

#pragma omp simd
    for (int64_t i = 0; i < n * (dx != NULL); i++) {
        const float d = dy[i], old = k->add[0] ? dx[i] : 0;

        dx[i] = old + (((y[i] > 0) & (y[i] < RELU6_TOP)) ? d : 0);
    }
}

const struct op op_relu = {
    .type = "Relu",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_ELEMENTWISE | OP_KEEP_Y | OP_RELU,
    .shape = relu_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = relu_forward,
            .grad_input = relu_grad_input,
            .bf16 = &relu_bf16_hooks,
        },
};

const struct op op_relu6 = {
    .type = "Relu6",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_ELEMENTWISE | OP_KEEP_Y | OP_RELU,
    .shape = relu_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = relu6_forward,
            .grad_input = relu6_grad_input,
        },
};
