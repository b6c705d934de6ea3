/*
 * Operators at their edges: NaN, infinities, bounds and ties, and the messages of their shape rules.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include "core/op/op.h"
#include "tests/op_make.h"

#include <cmocka.h> /* last: it defines fail() */

/* ---- special numbers ----------------------------------------------------------------------- */

/* Runs one operator on 4 features, of kind soft + 2 relu6; returns the output in y and, for dy = 1, the gradient in dx. */
static void run4(const struct op *op, const float *mask, int64_t kind, const float x[4], float y[4],
                 float dx[4])
{
    struct maker m = maker_graph(2, 4, 1, 1);
    union op_params p = {.masked_relu = {.soft = kind % 2, .relu6 = kind / 2}};
    value_id in[2] = {m.x, NO_VALUE};
    const float dy[4] = {1, 1, 1, 1};
    float prepared[4];

    if (mask != NULL) {
        in[1] = maker_vector(&m, VALUE_MASK, 4, 0, 1);
        memcpy(m.g->value[in[1]].data, mask, 4 * sizeof *mask);
    }
    maker_node(&m, op, in, mask ? 2 : 1, &p);
    struct op_call k = {.g = m.g,
                        .node = &m.g->node[0],
                        .n = 1,
                        .in = {x},
                        .out = y,
                        .dout = dy,
                        .din = {dx},
                        .prepared = prepared};
    if (mask != NULL)
        op->hooks->prepare(m.g, k.node, 0, &(struct op_use){.forward = true, .gradient = true},
                           prepared);
    op->hooks->forward(&k);
    op->hooks->grad_input(&k);
    graph_free(m.g);
}

static void test_relu_special_numbers(void **state)
{
    const float x[4] = {NAN, 0, -INFINITY, -0.0F};
    float y[4], dx[4];

    (void)state;
    run4(&op_relu, NULL, 0, x, y, dx);
    assert_true(isnan(y[0]) && y[1] == 0 && y[2] == 0 && y[3] == 0 && !signbit(y[3]));
    assert_true(dx[1] == 0 && dx[2] == 0 && dx[3] == 0);
}

static void test_masked_relu_special_numbers(void **state)
{
    const float x[4] = {NAN, 0, -INFINITY, -0.0F}, kept[4] = {1, 1, 1, 1}, none[4] = {0};
    float y[4], dx[4];

    (void)state;
    run4(&op_masked_relu, kept, 0, x, y, dx);
    assert_true(isnan(y[0]) && y[1] == 0 && y[2] == 0 && !signbit(y[3]));
    assert_true(dx[1] == 0 && dx[2] == 0 && dx[3] == 0);
    run4(&op_masked_relu, none, 0, x, y, dx);
    assert_true(isnan(y[0]));
    assert_memory_equal(y + 1, x + 1, 3 * sizeof *x);
    assert_true(dx[0] == 1 && dx[1] == 1 && dx[2] == 1 && dx[3] == 1);
    run4(&op_masked_relu, none, 1, x, y, dx);
    assert_true(isnan(y[0]) && y[2] == -INFINITY && dx[1] == 1);
}

/* Bounds belong to the flat parts; a NaN passes through. */
static void test_relu6_special_numbers(void **state)
{
    const float x[4] = {NAN, 6, INFINITY, 0}, kept[4] = {1, 1, 1, 1}, none[4] = {0};
    float y[4], dx[4];

    (void)state;
    for (int i = 0; i < 2; i++) {
        run4(i == 0 ? &op_relu6 : &op_masked_relu, i == 0 ? NULL : kept, 2, x, y, dx);
        assert_true(isnan(y[0]) && y[1] == 6 && y[2] == 6 && y[3] == 0);
        assert_true(dx[1] == 0 && dx[2] == 0 && dx[3] == 0);
    }
    run4(&op_masked_relu, none, 2, x, y, dx);
    assert_memory_equal(y + 1, x + 1, 3 * sizeof *x);
    assert_true(isnan(y[0]) && dx[0] == 1 && dx[1] == 1 && dx[2] == 1 && dx[3] == 1);
    run4(&op_masked_relu, kept, 3, x, y, dx);
    assert_true(isnan(y[0]) && y[1] == 6 && y[3] == 0 && dx[1] == 0);
}

static void test_max_pool_passes_nan(void **state)
{
    struct maker m = maker_graph(4, 1, 1, 4);
    const float first[4] = {NAN, 1, 2, 3}, last[4] = {1, 2, 3, NAN};
    float y;

    (void)state;
    maker_node1(&m, &op_global_max_pool, m.x, NULL);
    struct op_call k = {.g = m.g, .node = &m.g->node[0], .n = 1, .in = {first}, .out = &y};
    op_global_max_pool.hooks->forward(&k);
    assert_true(isnan(y));
    k.in[0] = last;
    op_global_max_pool.hooks->forward(&k);
    assert_true(isnan(y));
    graph_free(m.g);
}

/* Equal maxima: only the first tap gets the gradient, and it gets all of it. */
static void test_max_pool_gradient_of_ties(void **state)
{
    struct maker m = maker_graph(4, 1, 1, 4);
    const float x[4] = {1, 3, 3, 3}, dy = 2;
    float y, dx[4], scratch[2];

    (void)state;
    maker_node1(&m, &op_global_max_pool, m.x, NULL);
    struct op_call k = {.g = m.g,
                        .node = &m.g->node[0],
                        .n = 1,
                        .in = {x},
                        .out = &y,
                        .dout = &dy,
                        .din = {dx},
                        .scratch = scratch};
    op_global_max_pool.hooks->grad_input(&k);
    assert_true(dx[0] == 0 && dx[1] == 2 && dx[2] == 0 && dx[3] == 0);
    graph_free(m.g);
}

/* ---- messages ------------------------------------------------------------------------------ */

static void refused(struct maker *m, const struct op *op, const value_id *in, int n_in,
                    const union op_params *p, const char *message)
{
    value_id y = NO_VALUE;

    assert_int_equal(graph_add_node(m->g, op, "here", in, n_in, p, "y", &y), ERR_FORMAT);
    assert_string_equal(err_message(), message);
    graph_free(m->g);
}

#define REFUSED(m, op, p, message, ...)                                                            \
    refused(&(m), &(op), (value_id[]){__VA_ARGS__},                                                \
            (int)(sizeof(value_id[]){__VA_ARGS__} / sizeof(value_id)), (p), message)

static void test_messages_of_inputs(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);

    (void)state;
    REFUSED(m, op_relu, NULL, "node 'here' (Relu): has 2 inputs, needs 1 to 1", m.x, m.x);
    m = maker_graph(4, 3, 4, 4);
    REFUSED(m, op_add, NULL, "node 'here' (Add): input 1 is missing", m.x, NO_VALUE);
    m = maker_graph(2, 3, 1, 1);
    REFUSED(m, op_global_average_pool, NULL,
            "node 'here' (GlobalAveragePool): input 0 'x' has shape [N,3], needs [N,C,H,W]", m.x);
    m = maker_graph(2, 3, 1, 1);
    REFUSED(m, op_relu, NULL, "node 'here' (Relu): input 0 't' is a constant, needs an activation",
            maker_vector(&m, VALUE_CONST, 3, 0, 1));
}

static void test_messages_of_batchnorm(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);
    value_id v = maker_vector(&m, VALUE_PARAM, 4, 0, 1);

    (void)state;
    REFUSED(m, op_batchnorm, NULL,
            "node 'here' (BatchNormalization): input 1 't' has shape [4], needs [3] for 3 channels",
            m.x, v, v, v, v);
    m = maker_graph(4, 3, 4, 4);
    v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);
    REFUSED(
        m, op_batchnorm, NULL,
        "node 'here' (BatchNormalization): has 6 inputs, needs 5 (one branch) or 9 (two branches)",
        m.x, v, v, v, v, v);
    m = maker_graph(4, 3, 4, 4);
    REFUSED(m, op_batchnorm, NULL,
            "node 'here' (BatchNormalization): input 1 'x' is an activation, needs a constant", m.x,
            m.x, m.x, m.x, m.x);
}

static void test_messages_of_masked_relu(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);

    (void)state;
    REFUSED(m, op_masked_relu, NULL,
            "node 'here' (MaskedRelu): mask 't' has shape [3], the input needs [3,4,4]", m.x,
            maker_vector(&m, VALUE_MASK, 3, 0, 1));
    m = maker_graph(4, 3, 4, 4);
    REFUSED(m, op_masked_relu, NULL, "node 'here' (MaskedRelu): input 1 't' is not a mask", m.x,
            maker_vector(&m, VALUE_PARAM, 3, 0, 1));
    m = maker_graph(2, 3, 1, 1);
    value_id mask = maker_vector(&m, VALUE_MASK, 3, 0, 1),
             v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);
    REFUSED(m, op_masked_relu, NULL,
            "node 'here' (MaskedRelu): has a slope or an offset alone, a line needs both", m.x,
            mask, v);
    m = maker_graph(2, 3, 1, 1);
    mask = maker_vector(&m, VALUE_MASK, 3, 0, 1), v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);
    value_id wide = maker_vector(&m, VALUE_PARAM, 4, 0, 1);
    REFUSED(m, op_masked_relu, NULL,
            "node 'here' (MaskedRelu): offset 't_2' has shape [4], the mask needs [3]", m.x, mask,
            v, wide);
    m = maker_graph(2, 3, 1, 1);
    mask = maker_vector(&m, VALUE_MASK, 3, 0, 1), v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);
    REFUSED(m, op_masked_relu, (&(union op_params){.masked_relu = {1, 0}}),
            "node 'here' (MaskedRelu): a soft mask has no line", m.x, mask, v, v);
}

static void test_messages_of_binary(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);
    value_id v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);

    (void)state;
    REFUSED(m, op_add, NULL, "node 'here' (Add): shapes [N,3,4,4] and [3] do not broadcast", m.x,
            v);
    m = maker_graph(4, 3, 4, 4);
    v = maker_vector(&m, VALUE_PARAM, 3, 0, 1);
    REFUSED(m, op_sub, NULL, "node 'here' (Sub): both inputs are constants ('t', 't')", v, v);
    m = maker_graph(4, 3, 4, 4);
    v = maker_node1(&m, &op_flatten, m.x, NULL);
    REFUSED(m, op_mul, NULL, "node 'here' (Mul): inputs [N,3,4,4] and [N,48] differ in rank", m.x,
            v);
    m = maker_graph(2, 3, 1, 1);
    m.g->value[m.x].shape = shape_make(1, (int64_t)SHAPE_BATCH);
    REFUSED(m, op_div, NULL,
            "node 'here' (Div): result of [N] and [N] is no activation of rank 2 to 4", m.x, m.x);
}

static void test_messages_of_gemm(void **state)
{
    struct maker m = maker_graph(2, 3, 1, 1);
    value_id w = maker_tensor(&m, VALUE_PARAM, shape_make(2, (int64_t)5, (int64_t)4), 0, 1);

    (void)state;
    REFUSED(m, op_gemm, NULL, "node 'here' (Gemm): weight 't' takes 4 features, the input has 3",
            m.x, w);
    m = maker_graph(2, 3, 1, 1);
    w = maker_tensor(&m, VALUE_PARAM, shape_make(2, (int64_t)5, (int64_t)3), 0, 1);
    REFUSED(m, op_gemm, NULL, "node 'here' (Gemm): bias 't_1' has 4 values for 5 outputs", m.x, w,
            maker_vector(&m, VALUE_PARAM, 4, 0, 1));
    m = maker_graph(4, 3, 1, 1);
    REFUSED(m, op_gemm, NULL,
            "node 'here' (Gemm): input 0 'x' has shape [N,3,1,1], needs an activation [N,K]", m.x,
            m.x);
}

static void test_messages_of_pools(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);
    union op_params p = {.pool = {{5, 2}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 0, 0}};

    (void)state;
    REFUSED(m, op_max_pool, &p,
            "node 'here' (MaxPool): window of 5 does not fit in H=4 with pads 0 and 0", m.x);
    m = maker_graph(4, 3, 4, 4);
    p.pool = (struct pool_params){{2, 2}, {1, 1}, {0, 2, 0, 0}, {1, 1}, 0, 0};
    REFUSED(m, op_average_pool, &p,
            "node 'here' (AveragePool): window 0 along W lies in the padding only (pads 2, 0)",
            m.x);
    m = maker_graph(4, 3, 4, 4);
    p.pool = (struct pool_params){{2, 2}, {1, 0}, {0, 0, 0, 0}, {1, 1}, 0, 0};
    REFUSED(m, op_max_pool, &p,
            "node 'here' (MaxPool): kernel=2 stride=0 dilation=1 pads=0,0 on axis 3", m.x);
}

static void test_messages_of_moves(void **state)
{
    struct maker m = maker_graph(4, 3, 4, 4);
    union op_params p = {.pad = {{0, -1, 0, 0}, {0}, 0}};

    (void)state;
    REFUSED(m, op_pad, &p, "node 'here' (Pad): pads axis 1 by -1 and 0, needs 0 to 1048576", m.x);
    m = maker_graph(4, 3, 4, 4);
    p.pad = (struct pad_params){{1, 0, 0, 0}, {0}, 0};
    REFUSED(m, op_pad, &p, "node 'here' (Pad): pads the batch by 1 and 0", m.x);
    m = maker_graph(4, 3, 4, 4);
    p = (union op_params){.slice = {{0, 0, 2, 0}, {0, 3, 5, 4}, {1, 1, 1, 1}}};
    REFUSED(m, op_slice, &p, "node 'here' (Slice): slice 2:5:1 of axis 2, which has 4 elements",
            m.x);
    m = maker_graph(4, 3, 4, 4);
    p = (union op_params){.reshape = {shape_make(2, (int64_t)SHAPE_BATCH, (int64_t)47)}};
    REFUSED(m, op_reshape, &p,
            "node 'here' (Reshape): input [N,3,4,4] has 48 elements an image, target [N,47] has 47",
            m.x);
    m = maker_graph(4, 3, 4, 4);
    p = (union op_params){.reshape = {shape_make(2, (int64_t)6, (int64_t)8)}};
    REFUSED(m, op_reshape, &p, "node 'here' (Reshape): target [6,8], needs [N,...] of rank 2 to 4",
            m.x);
    m = maker_graph(4, 3, 4, 4);
    REFUSED(
        m, op_flatten, NULL,
        "node 'here' (Flatten): input 0 't' has shape [5], needs an activation of rank 2 or more",
        maker_vector(&m, VALUE_CONST, 5, 0, 1));
    m = maker_graph(4, 3, 4, 4);
    p = (union op_params){.softmax = {-1}};
    REFUSED(m, op_softmax, &p,
            "node 'here' (Softmax): axis=-1 of an input [N,3,4,4], only axis 1 is supported", m.x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relu_special_numbers),
        cmocka_unit_test(test_masked_relu_special_numbers),
        cmocka_unit_test(test_relu6_special_numbers),
        cmocka_unit_test(test_max_pool_passes_nan),
        cmocka_unit_test(test_max_pool_gradient_of_ties),
        cmocka_unit_test(test_messages_of_inputs),
        cmocka_unit_test(test_messages_of_batchnorm),
        cmocka_unit_test(test_messages_of_masked_relu),
        cmocka_unit_test(test_messages_of_binary),
        cmocka_unit_test(test_messages_of_gemm),
        cmocka_unit_test(test_messages_of_pools),
        cmocka_unit_test(test_messages_of_moves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
