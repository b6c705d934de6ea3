/* Graphs that the tests of the exporter write; see export_graphs.h. */
#include "core/graph/arch.h" /* before cmocka.h, whose fail() is a macro */
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "core/graph/rng.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/export_graphs.h"

int checked(int rc)
{
    if (rc < 0)
        print_error("%s\n", err_message());
    return rc;
}

void assert_refused(int rc, int code, const char *part)
{
    assert_int_equal(rc, code);
    if (strstr(err_message(), part) == NULL)
        print_error("'%s' is not in: %s\n", part, err_message());
    assert_non_null(strstr(err_message(), part));
}

/* Batch norm that does something, so that a lost or swapped operand shows. */
static void shake_batchnorm(struct graph *g)
{
    struct rng r = rng_at(3, RNG_TEST, 0, 0);

    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *n = &g->node[i];

        for (int k = 1; n->op == &op_batchnorm && k < 5; k++) {
            const struct value *v = op_in(g, n, k);

            for (int64_t c = 0; c < shape_elems(&v->shape); c++)
                v->data[c] = k == 2 || k == 3 ? rng_range(&r, -0.3F, 0.3F) : rng_range(&r, 0.5F, 2);
        }
    }
}

struct graph *masked_resnet8(void)
{
    struct rng r = rng_at(5, RNG_TEST, 0, 0);
    struct relu_site *sites = NULL;
    struct graph *g = NULL;
    int32_t n;

    ok(arch_build("resnet8", 10, SIDE, SIDE, 11, &g));
    shake_batchnorm(g);
    ok(mask_insert(g));
    ok(relu_sites(g, &sites, &n));
    assert_int_equal(n, 7);
    for (int32_t s = 0; s < n; s++)
        for (int64_t i = 0; i < sites[s].total; i++)
            g->value[sites[s].mask].data[i] =
                s == 1 || (s != 2 && rng_below(&r, 3) == 0) ? 1.0F : 0.0F;
    mem_free(sites);
    graph_touch(g);
    ok(graph_verify(g));
    return g;
}

struct graph *relu6_resnet8(void)
{
    struct graph *g = masked_resnet8();

    for (int32_t i = 0; i < g->n_node; i++) {
        struct node *n = &g->node[i];

        if (n->op == &op_masked_relu)
            n->p.masked_relu.relu6 = 1;
        for (int64_t c = 0; n->op == &op_batchnorm && c < shape_elems(&op_in(g, n, 1)->shape); c++)
            op_in(g, n, 1)->data[c] *= 4; /* so that values are above 6 too */
    }
    graph_touch(g);
    ok(graph_verify(g));
    return g;
}

static value_id constant(struct graph *g, const char *name, struct shape shape, float base)
{
    value_id v;

    ok(graph_add_value(g, name, VALUE_PARAM, &shape, NULL, &v));
    for (int64_t i = 0; i < shape_elems(&shape); i++)
        g->value[v].data[i] = base + 0.01F * (float)(i % 17);
    return v;
}

static value_id add(struct graph *g, const struct op *op, const char *name, value_id a, value_id b,
                    const union op_params *p)
{
    value_id in[2] = {a, b}, out;

    ok(graph_add_node(g, op, name, in, b == NO_VALUE ? 1 : 2, p, name, &out));
    return out;
}

struct graph *mixed_graph(void)
{
    struct shape in = shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)2, (int64_t)6, (int64_t)6);
    struct shape c = shape_make(3, (int64_t)2, (int64_t)1, (int64_t)1);
    union op_params pad = {.pad = {.begin = {0, 1, 0, 1}, .end = {0, 0, 2, 1}, .value = 0.25F}};
    union op_params slice = {.slice = {{0, 1, 0, 0}, {0, 3, 8, 7}, {1, 1, 1, 2}}};
    union op_params pool = {.pool = {{2, 2}, {1, 1}, {0, 1, 0, 0}, {1, 1}, 1, 1}};
    union op_params flat = {
        .reshape = {.target = shape_make(2, (int64_t)SHAPE_BATCH, (int64_t)42)}};
    union op_params soft = {.softmax = {.axis = 1}};
    struct graph *g = NULL;
    struct shape k;
    value_id x, mask;

    ok(graph_new(&g));
    ok(graph_add_value(g, "pixels", VALUE_INPUT, &in, NULL, &x));
    g->input = x;
    g->batch_name = "batch";
    x = add(g, &op_sub, "sub", x, constant(g, "mean", c, 0.5F), NULL);
    x = add(g, &op_div, "div", x, constant(g, "std", c, 2), NULL);
    x = add(g, &op_mul, "mul", x, constant(g, "gain", shape_make(0), 0.3F), NULL);
    x = add(g, &op_pad, "pad", x, NO_VALUE, &pad);       /* [N,3,8,8] */
    x = add(g, &op_slice, "slice", x, NO_VALUE, &slice); /* [N,2,8,4] */
    x = add(g, &op_max_pool, "max", x, NO_VALUE, &pool); /* [N,2,7,4] */
    pool.pool.pad[1] = 0;
    x = add(g, &op_average_pool, "mean_pool", x, NO_VALUE, &pool);
    flat.reshape.target.dim[1] = shape_elems(&g->value[x].shape);
    x = add(g, &op_reshape, "reshape", x, NO_VALUE, &flat);
    x = add(g, &op_gemm, "fc1", x,
            constant(g, "fc1.weight", shape_make(2, (int64_t)7, flat.reshape.target.dim[1]), 0),
            NULL);
    k = shape_make(1, (int64_t)7);
    ok(graph_add_value(g, "fc1.relu.mask", VALUE_MASK, &k, NULL, &mask));
    for (int i = 0; i < 7; i++)
        g->value[mask].data[i] = (float)(i % 2);
    x = add(g, &op_masked_relu, "fc1.relu", x, mask, NULL);
    x = add(g, &op_gemm, "fc2", x,
            constant(g, "fc2.weight", shape_make(2, (int64_t)3, (int64_t)7), -0.05F), NULL);
    g->output = add(g, &op_softmax, "probabilities", x, NO_VALUE, &soft);
    ok(graph_verify(g));
    return g;
}

static void assert_same_blocks(const struct graph *a, const struct graph *b)
{
    assert_int_equal(a->n_params, b->n_params);
    assert_int_equal(a->n_buffers, b->n_buffers);
    for (value_id v = 0; v < a->n_value; v++) {
        const struct value *x = &a->value[v];
        value_id u = graph_find_value(b, x->name);

        if (x->data == NULL)
            continue;
        assert_int_not_equal(u, NO_VALUE);
        assert_true(shape_equal(&x->shape, &b->value[u].shape));
        assert_memory_equal(x->data, b->value[u].data,
                            (size_t)shape_elems(&x->shape) * sizeof(float));
    }
}

void check_fixed_point(const struct graph *g, enum mask_form form, bool fold, int64_t opset)
{
    struct export_options opt = {.form = form, .opset = opset, .fold_bn = fold};
    uint8_t *a = NULL, *b = NULL;
    size_t len_a = 0, len_b = 0;
    struct graph *back = NULL, *simple = NULL;

    ok(onnx_export_bytes(g, &opt, &a, &len_a));
    ok(onnx_import_bytes(a, len_a, -1, NULL, NULL, &back));
    ok(onnx_export_bytes(back, &opt, &b, &len_b));
    assert_int_equal(len_a, len_b);
    assert_memory_equal(a, b, len_a);
    ok(graph_clone(g, &simple));
    ok(pass_fold_batchnorm(simple, !(fold || form == MASK_GATHER)));
    ok(mask_simplify(simple));
    assert_int_equal(simple->n_masks, back->n_masks);
    if (graph_find_value(g, "fc2.weight") == NO_VALUE) /* mixed_graph gains biases */
        assert_same_blocks(simple, back);
    mem_free(a);
    mem_free(b);
    graph_free(back);
    graph_free(simple);
}
