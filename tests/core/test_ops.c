/*
 * Every operator against the double-precision reference: outputs and gradients in both modes through the executor.
 *
 * A case is a function that builds graphs around one operator and checks them (OP_CASE in main). An
 * operator of core/graph/ops.def without one fails the last test. Special numbers and refusals: test_op_edges.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/op/op.h"
#include "tests/op_make.h"
#include "tests/ref_check.h"

#include <cmocka.h> /* last: it defines fail() */

#include "tests/vec/pools.inc"

#define OPS_MAX 64
#define N_IMAGES 17 /* more than the executor has blocks, and no multiple of them */

/* What the cases have checked of an operator. */
struct checked {
    bool x;      /* results, and gradients with respect to pixels */
    bool params; /* gradients of an operand */
};
static struct checked checked[OPS_MAX]; /* as op_table() */
static const struct op *under_test;     /* of the running case, NULL in other tests */

static struct checked *checked_of(const struct op *op)
{
    int32_t i = 0;

    while (op_table()[i] != op)
        i++;
    assert_in_range(i, 0, OPS_MAX - 1);
    return &checked[i];
}

/* ref_check has found no fault in g: that counts for the operator of the case. */
static void count_checked(const struct graph *g)
{
    for (int32_t n = 0; n < g->n_node && under_test != NULL; n++) {
        const struct node *x = &g->node[n];

        if (x->op != under_test)
            continue;
        checked_of(x->op)->x = true;
        for (int32_t i = 0; i < x->n_in; i++) {
            enum value_kind kind = x->in[i] == NO_VALUE ? VALUE_CONST : op_in(g, x, i)->kind;

            if (kind == VALUE_PARAM || (kind == VALUE_MASK && x->p.masked_relu.soft))
                checked_of(x->op)->params = true;
        }
    }
}

struct op_case {
    const struct op *op;
    void (*run)(const struct op *op);
};

static void run_case(void **state)
{
    const struct op_case *c = *state;

    under_test = c->op;
    c->run(c->op);
    under_test = NULL;
}

/* The graph's output is y, flattened where it has rank 4; checks everything and frees. */
static void check(struct maker *m, value_id y, int branches)
{
    double worst = 0;

    if (m->g->value[y].shape.rank != 2)
        y = maker_node1(m, &op_flatten, y, NULL);
    m->g->output = y;
    for (int branch = 0; branch < branches; branch++)
        worst = fmax(worst, ref_check(m->g, N_IMAGES, branch, 77 + (uint64_t)branch));
    print_message("    worst relative error %.2g\n", worst);
    count_checked(m->g);
    graph_free(m->g);
}

static value_id batchnorm(struct maker *m, value_id x, int branches)
{
    int64_t c = m->g->value[x].shape.dim[1];
    union op_params p = {.batchnorm = {1e-5F, 0.9F}};
    value_id in[9] = {x};

    for (int b = 0; b < branches; b++) {
        in[1 + 4 * b] = maker_vector(m, VALUE_PARAM, c, 0.5, 2);
        in[2 + 4 * b] = maker_vector(m, VALUE_PARAM, c, -1, 1);
        in[3 + 4 * b] = maker_vector(m, VALUE_BUFFER, c, -1, 1);
        in[4 + 4 * b] = maker_vector(m, VALUE_BUFFER, c, 0.2, 3);
    }
    return maker_node(m, &op_batchnorm, in, 1 + 4 * branches, &p);
}

/* Something in [-1, 1] with many channels, so that rectifiers and maxima have work. */
static value_id centred(struct maker *m)
{
    int64_t c = m->g->value[m->x].shape.dim[1];
    value_id k = maker_tensor(m, VALUE_PARAM, shape_make(3, c, (int64_t)1, (int64_t)1), 0.4, 0.6);
    return maker_node2(m, &op_sub, m->x, k);
}

/* ---- every operator ------------------------------------------------------------------------ */

static void conv_case(const struct op *op)
{
    static const struct {
        int64_t in, out, k, stride, pad, dilation, group;
        bool bias;
    } t[] = {{3, 16, 3, 1, 1, 1, 1, true},    {16, 32, 3, 2, 1, 1, 1, false},
             {5, 7, 1, 2, 0, 1, 1, true},     {6, 4, 3, 1, 2, 2, 2, true},
             {16, 16, 3, 1, 1, 1, 16, false}, {3, 8, 7, 2, 3, 1, 1, false}};

    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        struct maker m = maker_graph(4, t[i].in, 9, 8);
        union op_params p = {0};
        value_id in[3] = {m.x, NO_VALUE, NO_VALUE};
        op_defaults(op, &p);
        for (int a = 0; a < 2; a++) {
            p.conv.stride[a] = t[i].stride;
            p.conv.dilation[a] = t[i].dilation;
            p.conv.pad[a] = p.conv.pad[2 + a] = t[i].pad;
        }
        p.conv.group = t[i].group;
        in[1] = maker_tensor(&m, VALUE_PARAM,
                             shape_make(4, t[i].out, t[i].in / t[i].group, t[i].k, t[i].k), -1, 1);
        if (t[i].bias)
            in[2] = maker_vector(&m, VALUE_PARAM, t[i].out, -1, 1);
        check(&m, maker_node(&m, op, in, t[i].bias ? 3 : 2, &p), 1);
    }
}

static void relu_case(const struct op *op)
{
    struct maker m = maker_graph(4, 5, 4, 3);

    check(&m, maker_node1(&m, op, centred(&m), NULL), 1);
}

/* Something in [-12, 12]: beyond both bounds of a ReLU6. */
static value_id spread(struct maker *m)
{
    int64_t c = m->g->value[m->x].shape.dim[1];
    value_id k = maker_tensor(m, VALUE_PARAM, shape_make(3, c, (int64_t)1, (int64_t)1), 15, 20);
    return maker_node2(m, &op_mul, centred(m), k);
}

static void relu6_case(const struct op *op)
{
    struct maker m = maker_graph(4, 5, 4, 3);

    check(&m, maker_node1(&m, op, spread(&m), NULL), 1);
}

static void masked_relu_case(const struct op *op)
{
    for (int kind = 0; kind < 4; kind++) {
        const int soft = kind % 2, relu6 = kind / 2;
        struct maker m = maker_graph(4, 6, 4, 3);
        union op_params p = {.masked_relu = {soft, relu6}};
        value_id mask =
            maker_tensor(&m, VALUE_MASK, shape_make(3, (int64_t)6, (int64_t)4, (int64_t)3), 0, 1);
        for (int64_t i = 0; i < 72; i++) {
            float *v = &m.g->value[mask].data[i];
            *v = soft && i % 5 != 0 ? *v : *v > 0.5F;
        }
        value_id in[2] = {relu6 ? spread(&m) : centred(&m), mask};
        check(&m, maker_node(&m, op, in, 2, &p), 1);
    }
}

/* Lines at removed positions: trained slopes, then constant ones; a layer that keeps nothing; features; ReLU6. */
static void masked_relu_line_case(const struct op *op)
{
    for (int kind = 0; kind < 5; kind++) {
        const bool image = kind != 3;
        union op_params p = {.masked_relu = {.relu6 = kind == 4}};
        const int64_t n = image ? 6 * 4 * 3 : 7, c = image ? 6 : 7;
        struct maker m = image ? maker_graph(4, 6, 4, 3) : maker_graph(2, 7, 1, 1);
        const value_id shift = maker_vector(&m, VALUE_PARAM, 7, 0.4, 0.6);
        value_id in[4] = {kind == 4 ? spread(&m)
                          : image   ? centred(&m)
                                    : maker_node2(&m, &op_sub, m.x, shift)};

        in[1] = image ? maker_tensor(&m, VALUE_MASK,
                                     shape_make(3, (int64_t)6, (int64_t)4, (int64_t)3), 0, 1)
                      : maker_vector(&m, VALUE_MASK, 7, 0, 1);
        for (int64_t i = 0; i < n; i++) {
            float *v = &m.g->value[in[1]].data[i];
            *v = kind != 2 && *v > 0.5F;
        }
        in[2] = maker_vector(&m, kind == 1 ? VALUE_CONST : VALUE_PARAM, c, -1, 2);
        in[3] = maker_vector(&m, VALUE_PARAM, c, -1, 1);
        check(&m, maker_node(&m, op, in, 4, &p), 1);
    }
}

static void masked_relu_features_case(const struct op *op)
{
    struct maker m = maker_graph(2, 7, 1, 1);
    union op_params p = {.masked_relu = {1, 0}};
    value_id shift = maker_vector(&m, VALUE_PARAM, 7, 0.4, 0.6);
    value_id in[2] = {maker_node2(&m, &op_sub, m.x, shift), maker_vector(&m, VALUE_MASK, 7, 0, 1)};

    check(&m, maker_node(&m, op, in, 2, &p), 1);
}

static void batchnorm_case(const struct op *op)
{
    (void)op; /* batchnorm() knows it */
    for (int branches = 1; branches <= 2; branches++) {
        struct maker m = maker_graph(4, 5, 4, 3);
        check(&m, batchnorm(&m, m.x, branches), 2);
        m = maker_graph(2, 9, 1, 1);
        check(&m, batchnorm(&m, m.x, branches), 2);
    }
}

static void batchnorm_frozen_case(const struct op *op)
{
    struct maker m = maker_graph(4, 3, 4, 3);
    union op_params p = {.batchnorm = {1e-3F, 0.9F}};
    value_id in[5] = {m.x};

    for (int i = 1; i < 5; i++)
        in[i] = maker_vector(&m, VALUE_CONST, 3, 0.2, 2);
    value_id y = maker_node(&m, op, in, 5, &p);
    m.g->node[0].frozen = true;
    check(&m, batchnorm(&m, y, 1), 1);
}

static void binary_of_activations(const struct op *op)
{
    struct maker m = maker_graph(4, 5, 4, 3);
    value_id b = batchnorm(&m, m.x, 1);
    value_id shift = maker_tensor(&m, VALUE_PARAM, shape_make(0), 4, 5);

    b = maker_node2(&m, &op_add, b, shift); /* away from 0, for Div */
    check(&m, maker_node2(&m, op, m.x, b), 1);
}

/* [N,C,H,W] with [N,C,1,1], either side. */
static void binary_broadcast_activation(const struct op *op)
{
    for (int side = 0; side < 2; side++) {
        struct maker m = maker_graph(4, 5, 4, 3);
        value_id b = maker_node1(&m, &op_global_average_pool, m.x, NULL);
        check(&m,
              side == 0 ? maker_node2(&m, op, m.x, b)
                        : maker_node2(&m, op, b, maker_node2(&m, &op_add, m.x, b)),
              1);
    }
}

static void binary_with_itself(const struct op *op)
{
    struct maker m = maker_graph(4, 2, 3, 3);

    check(&m, maker_node2(&m, &op_add, maker_node2(&m, op, m.x, m.x), m.x), 1);
}

static void binary_with_constant(const struct op *op)
{
    const struct shape shapes[] = {
        shape_make(0),
        shape_make(1, (int64_t)3),
        shape_make(2, (int64_t)4, (int64_t)1),
        shape_make(3, (int64_t)5, (int64_t)1, (int64_t)1),
        shape_make(3, (int64_t)5, (int64_t)4, (int64_t)3),
        shape_make(4, (int64_t)1, (int64_t)5, (int64_t)1, (int64_t)3),
    };
    struct maker m = maker_graph(4, 5, 4, 3);
    value_id y = m.x;

    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        value_id k = maker_tensor(&m, s % 2 ? VALUE_CONST : VALUE_PARAM, shapes[s], 1, 2);
        y = s % 3 == 2 ? maker_node2(&m, op, k, y) : maker_node2(&m, op, y, k);
    }
    check(&m, y, 1);
}

static void binary_of_features(const struct op *op)
{
    struct maker m = maker_graph(2, 7, 1, 1);
    value_id k = maker_vector(&m, VALUE_PARAM, 7, 1, 2),
             one = maker_vector(&m, VALUE_PARAM, 1, 1, 2);

    check(&m, maker_node2(&m, op, one, maker_node2(&m, op, m.x, k)), 1);
}

static void gemm_case(const struct op *op)
{
    for (int bias = 0; bias < 2; bias++) {
        struct maker m = maker_graph(2, 19, 1, 1);
        value_id in[3] = {
            m.x, maker_tensor(&m, VALUE_PARAM, shape_make(2, (int64_t)10, (int64_t)19), -1, 1)};
        if (bias)
            in[2] = maker_vector(&m, VALUE_PARAM, 10, -1, 1);
        value_id y = maker_node(&m, op, in, 2 + bias, NULL);
        check(&m, maker_node2(&m, &op_add, y, y), 1);
    }
}

static const struct pool_params pools[] = {
    {{2, 2}, {2, 2}, {0, 0, 0, 0}, {1, 1}, 0, 0}, {{3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 0, 0},
    {{3, 3}, {2, 2}, {1, 1, 1, 1}, {1, 1}, 1, 1}, {{3, 2}, {1, 2}, {0, 1, 2, 0}, {1, 1}, 0, 1},
    {{2, 3}, {2, 1}, {1, 0, 0, 2}, {2, 1}, 1, 0}, {{2, 2}, {3, 3}, {0, 0, 0, 0}, {1, 1}, 1, 1},
    {{9, 8}, {1, 1}, {0, 0, 0, 0}, {1, 1}, 0, 0},
};

static void pool_case(const struct op *op)
{
    for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
        struct maker m = maker_graph(4, 5, 9, 8);
        union op_params p = {.pool = pools[i]};
        check(&m, maker_node1(&m, op, m.x, &p), 1);
    }
}

struct weighed {
    double sum[2]; /* of each image: the executor may take them at once */
    int64_t n;     /* outputs an image */
};

/* sum(w * output) of each image. */
static void weigh(void *ctx, int64_t first, int64_t count, const float *y, float *dy)
{
    struct weighed *r = ctx;

    for (int64_t i = 0; i < count * r->n; i++) {
        dy[i] = (float)ref_formula("w", first * r->n + i);
        r->sum[first + i / r->n] += (double)y[i] * (double)dy[i];
    }
}

static void check_torch_pool(size_t row, const float *x)
{
    struct maker m = maker_graph(4, 3, 9, 8);
    union op_params p = {.pool = torch_pool[row].p};
    value_id y =
        maker_node1(&m, torch_pool[row].average ? &op_average_pool : &op_max_pool, m.x, &p);
    struct weighed r = {{0, 0}, shape_elems(&m.g->value[y].shape)};
    float dx[2 * 3 * 9 * 8];
    double sum, grad = 0;
    struct exec *e;

    assert_int_equal(m.g->value[y].shape.dim[2], torch_pool[row].h);
    assert_int_equal(m.g->value[y].shape.dim[3], torch_pool[row].w);
    m.g->output = maker_node1(&m, &op_flatten, y, NULL);
    assert_int_equal(exec_new(m.g, EXEC_INPUT_GRAD, 2, NULL, &e), 0);
    assert_int_equal(exec_input_grad(e, x, 2, 0, weigh, &r, dx, NULL), 0);
    exec_free(e);
    for (int64_t i = 0; i < 2 * 3 * 9 * 8; i++)
        grad += (double)dx[i] * (double)(float)ref_formula("v", i);
    sum = r.sum[0] + r.sum[1];
    assert_true(fabs(sum - torch_pool[row].sum) <= 1e-5 * (1 + fabs(sum)));
    assert_true(fabs(grad - torch_pool[row].grad) <= 1e-5 * (1 + fabs(grad)));
    graph_free(m.g);
}

/* Sizes, divisors and gradients of another framework. */
static void test_pools_of_another_framework(void **state)
{
    float x[2 * 3 * 9 * 8];

    (void)state;
    for (int64_t i = 0; i < 2 * 3 * 9 * 8; i++)
        x[i] = (float)ref_formula("x", i);
    for (size_t i = 0; i < sizeof torch_pool / sizeof *torch_pool; i++)
        check_torch_pool(i, x);
}

/* Operators of an image without attributes or operands. */
static void plain_case(const struct op *op)
{
    struct maker m = maker_graph(4, 5, 4, 3);

    check(&m, maker_node1(&m, op, m.x, NULL), 1);
}

static void pad_case(const struct op *op)
{
    struct maker m = maker_graph(4, 4, 3, 5);
    union op_params p = {.pad = {{0, 2, 1, 0}, {0, 3, 0, 2}, 0.5F}};

    check(&m, maker_node1(&m, op, m.x, &p), 1);
}

static void slice_case(const struct op *op)
{
    struct maker m = maker_graph(4, 6, 7, 5);
    union op_params p = {.slice = {{0, 1, 0, 1}, {0, 6, 7, 5}, {1, 2, 2, 3}}};

    check(&m, maker_node1(&m, op, m.x, &p), 1);
    m = maker_graph(2, 9, 1, 1);
    p.slice = (struct slice_params){{0, 2}, {0, 9}, {1, 3}};
    check(&m, maker_node1(&m, op, m.x, &p), 1);
}

/* Option-A shortcut: stride by Slice, more channels by Pad, joined with the main path. */
static void test_option_a_shortcut(void **state)
{
    struct maker m = maker_graph(4, 4, 6, 6);
    union op_params slice = {.slice = {{0, 0, 0, 0}, {0, 4, 6, 6}, {1, 1, 2, 2}}};
    union op_params pad = {.pad = {{0, 2, 0, 0}, {0, 2, 0, 0}, 0}};
    value_id a = maker_node1(&m, &op_pad, maker_node1(&m, &op_slice, m.x, &slice), &pad);
    value_id y = maker_node2(&m, &op_add, batchnorm(&m, a, 1), a);

    (void)state;
    check(&m, maker_node1(&m, &op_relu, y, NULL), 1);
}

static void reshape_case(const struct op *op)
{
    const struct shape targets[] = {
        shape_make(2, (int64_t)SHAPE_BATCH, (int64_t)72),
        shape_make(3, (int64_t)SHAPE_BATCH, (int64_t)8, (int64_t)9),
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)4, (int64_t)9, (int64_t)2),
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)72, (int64_t)1, (int64_t)1),
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)6, (int64_t)4, (int64_t)3),
    };

    struct maker m = maker_graph(4, 6, 4, 3);
    value_id y = m.x;
    for (size_t i = 0; i < 2 * sizeof targets / sizeof *targets; i++) {
        union op_params p = {.reshape = {targets[i % 5]}};
        value_id k =
            maker_tensor(&m, VALUE_PARAM,
                         m.g->value[y].shape.rank == 4
                             ? shape_make(3, m.g->value[y].shape.dim[1], (int64_t)1, (int64_t)1)
                             : shape_make(1, m.g->value[y].shape.dim[m.g->value[y].shape.rank - 1]),
                         1, 2);
        y = maker_node1(&m, op, maker_node2(&m, &op_mul, y, k), &p);
    }
    check(&m, y, 1);
}

static void softmax_case(const struct op *op)
{
    struct maker m = maker_graph(2, 9, 1, 1);
    union op_params p = {.softmax = {-1}};

    check(&m, maker_node1(&m, op, m.x, &p), 1);
    m = maker_graph(4, 5, 2, 3);
    p.softmax.axis = 1;
    check(&m, maker_node1(&m, op, m.x, &p), 1);
}

static void test_table(void **state)
{
    (void)state;
    for (const struct op *const *o = op_table(); *o != NULL; o++) {
        assert_ptr_equal(op_find((*o)->type), *o);
        assert_non_null((*o)->shape);
        assert_non_null((*o)->hooks->forward);
    }
    assert_null(op_find("HardSwish"));
}

/* Runs last: names every operator whose results or gradients no case has checked. */
static void test_every_operator_has_a_case(void **state)
{
    char missing[1000] = "";
    size_t used = 0;

    (void)state;
    for (const struct op *const *o = op_table(); *o != NULL; o++) {
        const struct checked *c = checked_of(*o);
        const char *what = !c->x                                    ? "results and gradients"
                           : (*o)->hooks->grad_params && !c->params ? "gradients of an operand"
                                                                    : NULL;

        if (what != NULL && used < sizeof missing)
            used += (size_t)snprintf(missing + used, sizeof missing - used, "\n    %s: %s",
                                     (*o)->type, what);
    }
    if (used > 0)
        fail_msg("no OP_CASE in tests/core/test_ops.c checks%s", missing);
}

static struct CMUnitTest test_of_case(const char *name, struct op_case *c)
{
    return (struct CMUnitTest){.name = name, .test_func = run_case, .initial_state = c};
}

#define OP_CASE(op, function) test_of_case(#op ": " #function, &(struct op_case){&(op), (function)})
#define BINARY_CASES(op)                                                                           \
    OP_CASE(op, binary_of_activations), OP_CASE(op, binary_broadcast_activation),                  \
        OP_CASE(op, binary_with_itself), OP_CASE(op, binary_with_constant),                        \
        OP_CASE(op, binary_of_features)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OP_CASE(op_conv, conv_case),
        OP_CASE(op_batchnorm, batchnorm_case),
        OP_CASE(op_batchnorm, batchnorm_frozen_case),
        OP_CASE(op_relu, relu_case),
        OP_CASE(op_relu6, relu6_case),
        OP_CASE(op_masked_relu, masked_relu_case),
        OP_CASE(op_masked_relu, masked_relu_features_case),
        OP_CASE(op_masked_relu, masked_relu_line_case),
        BINARY_CASES(op_add),
        BINARY_CASES(op_sub),
        BINARY_CASES(op_mul),
        BINARY_CASES(op_div),
        OP_CASE(op_gemm, gemm_case),
        OP_CASE(op_max_pool, pool_case),
        OP_CASE(op_average_pool, pool_case),
        OP_CASE(op_global_average_pool, plain_case),
        OP_CASE(op_global_max_pool, plain_case),
        OP_CASE(op_pad, pad_case),
        OP_CASE(op_slice, slice_case),
        OP_CASE(op_flatten, plain_case),
        OP_CASE(op_reshape, reshape_case),
        OP_CASE(op_softmax, softmax_case),
        cmocka_unit_test(test_pools_of_another_framework),
        cmocka_unit_test(test_option_a_shortcut),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_operator_has_a_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
