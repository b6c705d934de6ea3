/*
 * ONNX files: what stands in them, that reading and writing again gives the same bytes, refusals,
 * and (where a Python with onnx and onnxruntime is found) what other programs make of them.
 */
#include "core/arch.h" /* before cmocka.h, whose fail() is a macro */
#include "core/exec.h"
#include "core/file.h"
#include "core/npy.h"
#include "core/op.h"
#include "core/pass.h"
#include "core/rng.h"
#include "exporter/exporter.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"
#include "onnx.pb-c.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/scratch.h"

#define ok(call) assert_int_equal(checked(call), 0)
#define SIDE 8

static int checked(int rc)
{
    if (rc < 0)
        print_error("%s\n", err_message());
    return rc;
}

static void assert_refused(int rc, int code, const char *part)
{
    assert_int_equal(rc, code);
    if (strstr(err_message(), part) == NULL)
        print_error("'%s' is not in: %s\n", part, err_message());
    assert_non_null(strstr(err_message(), part));
}

/* ---- graphs ------------------------------------------------------------------------------ */

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

/* resnet8 with hard masks: site 1 keeps all, site 2 nothing, the others about a third. */
static struct graph *masked_resnet8(void)
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

/* One of each operator that resnet8 does not have: (x - 0.5) / 2 * 0.3 - pad - slice - max pool -
 * average pool - reshape - gemm (no bias) - masked relu - gemm - softmax. Input [N,2,6,6]. */
static struct graph *mixed_graph(void)
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

/* ---- looking into a file ----------------------------------------------------------------- */

static Onnx__ModelProto *export_parsed(const struct graph *g, enum mask_form form, int64_t opset)
{
    struct export_options opt = {.form = form, .opset = opset};
    Onnx__ModelProto *m;
    uint8_t *bytes = NULL;
    size_t len = 0;

    ok(onnx_export_bytes(g, &opt, &bytes, &len));
    m = onnx__model_proto__unpack(NULL, len, bytes);
    assert_non_null(m);
    mem_free(bytes);
    return m;
}

static void release(Onnx__ModelProto *m)
{
    onnx__model_proto__free_unpacked(m, NULL);
}

static const Onnx__NodeProto *node_named(const Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_node; i++)
        if (strcmp(m->graph->node[i]->name, name) == 0)
            return m->graph->node[i];
    return NULL;
}

static const Onnx__TensorProto *tensor_named(const Onnx__ModelProto *m, const char *name)
{
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        if (strcmp(m->graph->initializer[i]->name, name) == 0)
            return m->graph->initializer[i];
    return NULL;
}

static const Onnx__AttributeProto *attr_named(const Onnx__NodeProto *n, const char *name)
{
    assert_non_null(n);
    for (size_t i = 0; i < n->n_attribute; i++)
        if (strcmp(n->attribute[i]->name, name) == 0)
            return n->attribute[i];
    return NULL;
}

static void assert_ints(const Onnx__NodeProto *n, const char *name, size_t count, const int64_t *v)
{
    const Onnx__AttributeProto *a = attr_named(n, name);

    assert_non_null(a);
    assert_int_equal(a->type, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    assert_int_equal(a->n_ints, count);
    assert_memory_equal(a->ints, v, count * sizeof *v);
}

static void assert_tensor(const Onnx__TensorProto *t, int32_t type, size_t rank,
                          const int64_t *dims, size_t bytes)
{
    assert_non_null(t);
    assert_int_equal(t->data_type, type);
    assert_int_equal(t->n_dims, rank);
    assert_memory_equal(t->dims, dims, rank * sizeof *dims);
    assert_int_equal(t->raw_data.len, bytes);
}

static int count_type(const Onnx__ModelProto *m, const char *type)
{
    int n = 0;

    for (size_t i = 0; i < m->graph->n_node; i++)
        n += strcmp(m->graph->node[i]->op_type, type) == 0;
    return n;
}

/* ---- contents ---------------------------------------------------------------------------- */

static void test_header_and_interface(void **state)
{
    struct graph *g = masked_resnet8();
    Onnx__TensorShapeProto *in, *out;
    Onnx__ModelProto *m;

    (void)state;
    ok(graph_set_meta(g, "linnet.seed", "11"));
    ok(graph_set_meta(g, "linnet.branch", "clean"));
    m = export_parsed(g, MASK_WHERE, 0);
    assert_int_equal(m->ir_version, 8);
    assert_int_equal(m->n_opset_import, 1);
    assert_string_equal(m->opset_import[0]->domain, "");
    assert_int_equal(m->opset_import[0]->version, 17);
    assert_string_equal(m->producer_name, "linnet");
    assert_string_not_equal(m->producer_version, "");
    assert_int_equal(m->n_metadata_props, 2);
    assert_string_equal(m->metadata_props[0]->key, "linnet.branch");
    assert_string_equal(m->metadata_props[1]->value, "11");
    assert_string_equal(m->graph->name, "resnet8");
    assert_int_equal(m->graph->n_input, 1);
    assert_string_equal(m->graph->input[0]->name, "input");
    assert_string_equal(m->graph->output[0]->name, "logits");
    in = m->graph->input[0]->type->tensor_type->shape;
    out = m->graph->output[0]->type->tensor_type->shape;
    assert_int_equal(in->n_dim, 4);
    assert_string_equal(in->dim[0]->dim_param, "N");
    assert_int_equal(in->dim[1]->dim_value, 3);
    assert_int_equal(in->dim[3]->dim_value, SIDE);
    assert_int_equal(out->n_dim, 2);
    assert_string_equal(out->dim[0]->dim_param, "N");
    assert_int_equal(out->dim[1]->dim_value, 10);
    release(m);
    graph_free(g);
}

static void test_attributes_are_spelled_out(void **state)
{
    static const int64_t ones[4] = {1, 1, 1, 1}, threes[2] = {3, 3}, twos[2] = {2, 2};
    struct graph *g = masked_resnet8();
    Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, 0);
    const Onnx__NodeProto *conv = node_named(m, "layer2.0.conv1"), *fc = node_named(m, "fc");

    (void)state;
    assert_ints(conv, "kernel_shape", 2, threes);
    assert_ints(conv, "strides", 2, twos);
    assert_ints(conv, "pads", 4, ones);
    assert_ints(conv, "dilations", 2, ones);
    assert_int_equal(attr_named(conv, "group")->i, 1);
    assert_float_equal(attr_named(node_named(m, "bn1"), "epsilon")->f, 1e-5, 1e-9);
    assert_float_equal(attr_named(node_named(m, "bn1"), "momentum")->f, 0.9, 1e-6);
    assert_null(attr_named(node_named(m, "bn1"), "training_mode"));
    assert_int_equal(attr_named(fc, "transB")->i, 1);
    assert_float_equal(attr_named(fc, "alpha")->f, 1, 0);
    assert_float_equal(attr_named(fc, "beta")->f, 1, 0);
    assert_int_equal(attr_named(node_named(m, "flatten"), "axis")->i, 1);
    release(m);
    graph_free(g);
}

static void test_where_form(void **state)
{
    static const int64_t dims[4] = {1, 16, SIDE, SIDE};
    struct graph *g = masked_resnet8();
    const struct value *mask = &g->value[graph_find_value(g, "relu.mask")];
    Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, 0);
    const Onnx__NodeProto *relu = node_named(m, "relu/Relu"), *where = node_named(m, "relu/Where");
    const Onnx__TensorProto *t = tensor_named(m, "relu.mask");

    (void)state;
    assert_tensor(t, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, 4, dims, 16 * SIDE * SIDE);
    for (size_t i = 0; i < t->raw_data.len; i++)
        assert_int_equal(t->raw_data.data[i], mask->data[i] > 0.5F);
    assert_string_equal(relu->op_type, "Relu");
    assert_string_equal(relu->input[0], "bn1_out");
    assert_string_equal(where->op_type, "Where");
    assert_string_equal(where->input[0], "relu.mask");
    assert_string_equal(where->input[1], relu->output[0]);
    assert_string_equal(where->input[2], "bn1_out");
    assert_string_equal(where->output[0], "relu_out");
    release(m);
    graph_free(g);
}

static void test_prelu_form(void **state)
{
    static const int64_t dims[3] = {16, SIDE, SIDE};
    struct graph *g = masked_resnet8();
    const struct value *mask = &g->value[graph_find_value(g, "relu.mask")];
    Onnx__ModelProto *m = export_parsed(g, MASK_PRELU, 0);
    const Onnx__NodeProto *prelu = node_named(m, "relu/PRelu");
    const Onnx__TensorProto *t = tensor_named(m, "relu.slope");

    (void)state;
    assert_tensor(t, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 3, dims, 16 * SIDE * SIDE * 4);
    for (size_t i = 0; i < t->raw_data.len / 4; i++)
        assert_true(((const float *)(const void *)t->raw_data.data)[i] == 1 - mask->data[i]);
    assert_string_equal(prelu->input[0], "bn1_out");
    assert_string_equal(prelu->input[1], "relu.slope");
    assert_string_equal(prelu->output[0], "relu_out");
    assert_int_equal(count_type(m, "PRelu"), 5);
    release(m);
    graph_free(g);
}

static const int64_t *constant_list(const Onnx__ModelProto *m, const char *name, size_t *n)
{
    const Onnx__NodeProto *node = node_named(m, name);
    const Onnx__AttributeProto *a = attr_named(node, "value");

    assert_string_equal(node->op_type, "Constant");
    assert_string_equal(node->output[0], name);
    assert_int_equal(a->t->data_type, ONNX__TENSOR_PROTO__DATA_TYPE__INT64);
    *n = a->t->raw_data.len / 8;
    return (const int64_t *)(const void *)a->t->raw_data.data;
}

static void test_gather_form(void **state)
{
    struct graph *g = masked_resnet8();
    const struct value *mask = &g->value[graph_find_value(g, "relu.mask")];
    Onnx__ModelProto *m = export_parsed(g, MASK_GATHER, 0);
    size_t n_keep, n_linear, n_inverse, n_shape;
    const int64_t *keep = constant_list(m, "relu.keep", &n_keep);
    const int64_t *linear = constant_list(m, "relu.linear", &n_linear);
    const int64_t *inverse = constant_list(m, "relu.inverse", &n_inverse);
    const int64_t *shape = constant_list(m, "relu.shape", &n_shape);
    const int64_t dims[4] = {1, 16, SIDE, SIDE};

    (void)state;
    assert_int_equal(n_inverse, 16 * SIDE * SIDE);
    assert_int_equal(n_keep + n_linear, n_inverse);
    for (size_t i = 0; i < n_inverse; i++) {
        size_t at = (size_t)inverse[i];

        assert_int_equal(at<n_keep, mask->data[i]> 0.5F);
        assert_int_equal(at < n_keep ? keep[at] : linear[at - n_keep], i);
    }
    assert_int_equal(n_shape, 4);
    assert_memory_equal(shape, dims, sizeof dims);
    assert_string_equal(node_named(m, "relu/Reshape")->output[0], "relu_out");
    assert_int_equal(attr_named(node_named(m, "relu/Keep"), "axis")->i, 1);
    assert_int_equal(attr_named(node_named(m, "relu/Concat"), "axis")->i, 1);
    /* what importers for private inference want: fixed batch, no BN, constants as nodes */
    assert_int_equal(m->graph->input[0]->type->tensor_type->shape->dim[0]->dim_value, 1);
    assert_int_equal(m->graph->output[0]->type->tensor_type->shape->dim[0]->dim_value, 1);
    assert_int_equal(count_type(m, "BatchNormalization"), 0);
    for (size_t i = 0; i < m->graph->n_initializer; i++)
        assert_int_equal(m->graph->initializer[i]->data_type, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    release(m);
    graph_free(g);
}

/* Site 1 keeps everything, site 2 nothing. */
static void test_full_and_empty_masks_need_no_form(void **state)
{
    static const enum mask_form forms[] = {MASK_WHERE, MASK_PRELU, MASK_GATHER};
    struct graph *g = masked_resnet8();

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        Onnx__ModelProto *m = export_parsed(g, forms[i], 0);

        assert_string_equal(node_named(m, "layer1.0.relu1")->op_type, "Relu");
        assert_string_equal(node_named(m, "layer1.0.relu1")->output[0], "layer1.0.relu1_out");
        assert_null(tensor_named(m, "layer1.0.relu1.mask"));
        assert_null(node_named(m, "layer1.0.relu2"));
        assert_null(node_named(m, "layer1.0.relu2/Where"));
        assert_string_equal(node_named(m, "layer2.0.conv1")->input[0], "layer1.0.add_out");
        release(m);
    }
    graph_free(g);
}

static void test_other_operators(void **state)
{
    static const int64_t pads[8] = {0, 1, 0, 1, 0, 0, 2, 1}, rank = 8;
    static const int64_t steps[3] = {1, 1, 2}, three = 3, shape[2] = {-1, 42}, two = 2;
    static const int64_t pool_pads[4] = {0, 1, 0, 0};
    struct graph *g = mixed_graph();
    Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, 13);
    const Onnx__TensorProto *t = tensor_named(m, "pad.pads");

    (void)state;
    assert_tensor(t, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &rank, sizeof pads);
    assert_memory_equal(t->raw_data.data, pads, sizeof pads);
    assert_tensor(tensor_named(m, "pad.value"), ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 0, &rank, 4);
    t = tensor_named(m, "slice.steps");
    assert_tensor(t, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &three, sizeof steps);
    assert_memory_equal(t->raw_data.data, steps, sizeof steps);
    assert_int_equal(node_named(m, "slice")->n_input, 5);
    t = tensor_named(m, "reshape.shape");
    assert_tensor(t, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, 1, &two, sizeof shape);
    assert_int_equal(((const int64_t *)(const void *)t->raw_data.data)[0], -1);
    assert_ints(node_named(m, "max"), "pads", 4, pool_pads);
    assert_non_null(attr_named(node_named(m, "max"), "dilations"));
    assert_int_equal(attr_named(node_named(m, "max"), "ceil_mode")->i, 1);
    assert_null(attr_named(node_named(m, "mean_pool"), "dilations"));
    assert_int_equal(attr_named(node_named(m, "mean_pool"), "count_include_pad")->i, 1);
    assert_int_equal(attr_named(node_named(m, "probabilities"), "axis")->i, 1);
    assert_int_equal(node_named(m, "fc1")->n_input, 2);
    assert_string_equal(m->graph->input[0]->type->tensor_type->shape->dim[0]->dim_param, "batch");
    assert_int_equal(m->graph->output[0]->type->tensor_type->shape->n_dim, 2);
    release(m);
    m = export_parsed(g, MASK_GATHER, 19);
    assert_non_null(attr_named(node_named(m, "mean_pool"), "dilations"));
    assert_int_equal(node_named(m, "fc1")->n_input, 3);
    assert_non_null(tensor_named(m, "fc1.bias"));
    assert_non_null(node_named(m, "pad.pads"));
    release(m);
    graph_free(g);
}

static void test_opset_brings_its_ir_version(void **state)
{
    static const int64_t ir[] = {8, 8, 8, 8, 8, 8, 9, 9, 10};
    struct graph *g = mixed_graph();

    (void)state;
    for (int64_t opset = 13; opset <= 21; opset++) {
        Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, opset);

        assert_int_equal(m->opset_import[0]->version, opset);
        assert_int_equal(m->ir_version, ir[opset - 13]);
        release(m);
    }
    graph_free(g);
}

static void test_derived_names_give_way(void **state)
{
    struct graph *g = mixed_graph();
    Onnx__ModelProto *m;

    (void)state;
    g->value[graph_find_value(g, "mean")].name = "fc1.relu/Relu_out";
    g->value[graph_find_value(g, "gain")].name = "pad.pads";
    g->node[graph_find_node(g, "sub")].name = "fc1.relu/Relu";
    m = export_parsed(g, MASK_WHERE, 0);
    assert_string_equal(node_named(m, "fc1.relu/Relu")->op_type, "Sub");
    assert_string_equal(node_named(m, "fc1.relu/Relu_1")->output[0], "fc1.relu/Relu_out_1");
    assert_string_equal(node_named(m, "pad")->input[1], "pad.pads_1");
    release(m);
    graph_free(g);
}

static void test_output_keeps_its_name_when_its_relu_goes(void **state)
{
    struct graph *g = mixed_graph();
    struct shape k = shape_make(1, (int64_t)3);
    Onnx__ModelProto *m;
    value_id mask;

    (void)state;
    ok(graph_add_value(g, "last.mask", VALUE_MASK, &k, NULL, &mask));
    g->output = add(g, &op_masked_relu, "last", g->output, mask, NULL);
    m = export_parsed(g, MASK_WHERE, 0);
    assert_string_equal(m->graph->output[0]->name, "last");
    assert_string_equal(node_named(m, "probabilities")->output[0], "last");
    assert_null(node_named(m, "last"));
    release(m);
    graph_free(g);
}

static void test_batch_normalisation_is_folded_on_request(void **state)
{
    struct graph *g = masked_resnet8();
    struct export_options fold = {.fold_bn = true};
    struct export_options keep = {.fold_bn = false};
    float mean[16] = {0.5F}, var[16] = {2};
    uint8_t *a = NULL, *b = NULL;
    size_t len_a = 0, len_b = 0;
    struct graph *folded = NULL;

    (void)state;
    ok(onnx_export_bytes(g, &fold, &a, &len_a));
    ok(graph_clone(g, &folded));
    ok(pass_fold_batchnorm(folded, false));
    ok(onnx_export_bytes(folded, &keep, &b, &len_b));
    assert_int_equal(len_a, len_b);
    assert_memory_equal(a, b, len_a);
    /* what linnet inserted goes in any case */
    ok(pass_insert_batchnorm(folded, graph_find_node(folded, "layer1.0.conv1"), mean, var));
    Onnx__ModelProto *m = export_parsed(folded, MASK_WHERE, 0);
    assert_int_equal(count_type(m, "BatchNormalization"), 0);
    release(m);
    mem_free(a);
    mem_free(b);
    graph_free(folded);
    graph_free(g);
}

/* ---- bytes ------------------------------------------------------------------------------- */

static void test_same_graph_same_bytes_and_untouched(void **state)
{
    struct graph *g = masked_resnet8();
    struct export_options opt = {.form = MASK_GATHER};
    uint8_t *a = NULL, *b = NULL;
    size_t len_a = 0, len_b = 0;
    int32_t n_node = g->n_node, n_value = g->n_value;

    (void)state;
    ok(onnx_export_bytes(g, &opt, &a, &len_a));
    ok(onnx_export_bytes(g, &opt, &b, &len_b));
    assert_int_equal(len_a, len_b);
    assert_memory_equal(a, b, len_a);
    assert_int_equal(g->n_node, n_node);
    assert_int_equal(g->n_value, n_value);
    ok(graph_verify(g));
    mem_free(a);
    mem_free(b);
    graph_free(g);
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

/* export - import - export: equal bytes; and the graph in the middle has the masks and weights. */
static void check_fixed_point(const struct graph *g, enum mask_form form, bool fold, int64_t opset)
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

static void test_import_and_export_is_a_fixed_point(void **state)
{
    static const enum mask_form forms[] = {MASK_WHERE, MASK_PRELU, MASK_GATHER};
    struct graph *g = masked_resnet8(), *mixed = mixed_graph();

    (void)state;
    ok(graph_set_meta(g, "linnet.normalize", "cifar10"));
    for (size_t i = 0; i < 3; i++) {
        check_fixed_point(g, forms[i], false, 0);
        check_fixed_point(g, forms[i], true, 0);
        check_fixed_point(g, forms[i], false, 13);
        check_fixed_point(g, forms[i], false, 21);
        check_fixed_point(mixed, forms[i], false, 0);
    }
    graph_free(g);
    graph_free(mixed);
}

/* ---- models from elsewhere --------------------------------------------------------------- */

static const char *const real_models[] = {"resnet20_cifar10",         "resnet20_cifar10_bn",
                                          "resnet20_cifar10_norm_b1", "resnet8_mlperftiny_bn",
                                          "vnncomp22_sri_resnet_a",   "vnncomp21_resnet_2b",
                                          "light_resnet50",           "resnet32_cifar10"};
#define N_REAL (sizeof real_models / sizeof real_models[0])

/* The folder of shared models; the test is skipped where there is none. */
static const char *shared_models(char path[256])
{
    const char *shared = getenv("LINNET_SHARED");

    snprintf(path, 256, "%s/models", shared != NULL ? shared : "../shared");
    if (access(path, F_OK) != 0) {
        print_message("skipped: no shared folder (LINNET_SHARED)\n");
        skip();
    }
    return path;
}

static struct graph *real_model(const char *folder, const char *name)
{
    struct graph *g = NULL;
    char path[512];

    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    ok(onnx_import(path, NULL, NULL, &g));
    return g;
}

static void mask_at_random(struct graph *g)
{
    struct rng r = rng_at(6, RNG_TEST, 0, 0);

    ok(mask_insert(g));
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = rng_below(&r, 10) == 0;
}

static void test_real_models_are_fixed_points(void **state)
{
    static const enum mask_form forms[] = {MASK_WHERE, MASK_PRELU, MASK_GATHER};
    char folder[256];

    (void)state;
    shared_models(folder);
    for (size_t i = 0; i < N_REAL; i++) {
        struct graph *g = real_model(folder, real_models[i]);

        check_fixed_point(g, MASK_WHERE, false, 0);
        mask_at_random(g);
        for (size_t k = 0; k < 3; k++)
            check_fixed_point(g, forms[k], k == 0, 0);
        graph_free(g);
    }
}

/* ---- refusals and failures --------------------------------------------------------------- */

static void test_what_cannot_be_written_is_refused(void **state)
{
    struct graph *g = masked_resnet8(), *mixed = mixed_graph();
    struct export_options opt = {.opset = 12};
    struct pool_params *pool;
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG, "opset 12: linnet writes 13");
    opt.opset = 22;
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG, "opset 22");
    opt.opset = 18;
    pool = &mixed->node[graph_find_node(mixed, "mean_pool")].p.pool;
    pool->dilation[1] = 2;
    pool->pad[1] = 1; /* the same size as before */
    ok(graph_verify(mixed));
    assert_refused(onnx_export_bytes(mixed, &opt, &bytes, &len), ERR_ARG, "Hint: --opset 19");
    opt = (struct export_options){.form = MASK_CHANNEL};
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG,
                   "node 'relu': its mask keeps a part of channel 0");
    opt.form = MASK_WHERE;
    opt.max_file = 1000;
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_LIMIT, "bytes, at most 1000");
    opt.max_file = 0;
    opt.form = MASK_WHERE;
    g->params[3] = NAN;
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_NUMERIC, "element 3");
    g->params[3] = 0;
    g->node[graph_find_node(g, "relu")].p.masked_relu.soft = 1;
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG,
                   "node 'relu': its mask is so");
    g->node[graph_find_node(g, "relu")].p.masked_relu.soft = 0;
    assert_true(pass_dual_bank(g) > 0);
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG, "two batch-norm banks");
    assert_null(bytes);
    graph_free(g);
    graph_free(mixed);
}

static void walk_allocations(const struct graph *g, enum mask_form form)
{
    struct export_options opt = {.form = form};
    uint8_t *bytes = NULL;
    size_t len = 0;
    int rc = ERR_NOMEM;

    for (long n = 1; rc != 0; n++) {
        mem_fail_at(n);
        rc = onnx_export_bytes(g, &opt, &bytes, &len);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == ERR_NOMEM && bytes == NULL));
        assert_true(n < 20000);
    }
    mem_free(bytes);
}

static void test_every_allocation_may_fail(void **state)
{
    struct graph *g = mixed_graph();

    (void)state;
    ok(graph_set_meta(g, "linnet.seed", "1"));
    walk_allocations(g, MASK_WHERE);
    walk_allocations(g, MASK_PRELU);
    walk_allocations(g, MASK_GATHER);
    graph_free(g);
}

static void test_file_is_written_or_named(void **state)
{
    struct graph *g = mixed_graph();
    struct export_options opt = {.form = MASK_WHERE};
    char folder[SCRATCH_TEXT], path[SCRATCH_TEXT];
    uint8_t *bytes = NULL, *file = NULL;
    size_t len = 0, file_len = 0;

    (void)state;
    scratch_open(folder);
    scratch_path(folder, "x.onnx", path);
    ok(onnx_export_bytes(g, &opt, &bytes, &len));
    ok(onnx_export(g, &opt, path));
    ok(file_read(path, 1 << 20, &file, &file_len));
    assert_int_equal(len, file_len);
    assert_memory_equal(bytes, file, len);
    scratch_close(folder);
    assert_refused(onnx_export(g, &opt, "/nonexistent/x.onnx"), ERR_IO, "/nonexistent/x.onnx");
    mem_free(bytes);
    mem_free(file);
    graph_free(g);
}

/* Weights go into a second file where there are large ones; without, there is one file. */
static void test_a_second_file_is_not_empty(void **state)
{
    struct export_options opt = {.form = MASK_WHERE, .external_data = true};
    struct graph *small = mixed_graph(), *large = masked_resnet8();
    char folder[SCRATCH_TEXT], path[SCRATCH_TEXT], data[SCRATCH_TEXT];

    (void)state;
    scratch_open(folder);
    ok(onnx_export(small, &opt, scratch_path(folder, "small.onnx", path)));
    assert_int_equal(access(scratch_path(folder, "small.onnx.data", data), F_OK), -1);
    ok(onnx_export(large, &opt, scratch_path(folder, "large.onnx", path)));
    assert_int_equal(access(scratch_path(folder, "large.onnx.data", data), F_OK), 0);
    scratch_close(folder);
    graph_free(small);
    graph_free(large);
}

/* ---- other programs ---------------------------------------------------------------------- */

#define IMAGES 5

static void write_logits(struct graph *g, const char *folder, const float *pixels)
{
    int64_t dim[2] = {IMAGES, 10};
    float logits[IMAGES * 10];
    struct exec *e = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(exec_new(g, EXEC_INFER, IMAGES, NULL, 0, &e));
    ok(exec_infer(e, pixels, IMAGES, 0, logits));
    exec_free(e);
    snprintf(path, sizeof path, "%s/logits.npy", folder);
    ok(npy_write(path, NPY_F32, 2, dim, logits));
}

static void write_input(const char *folder, float *pixels)
{
    struct rng r = rng_at(9, RNG_TEST, 0, 0);
    int64_t dim[4] = {IMAGES, 3, SIDE, SIDE};
    char path[2 * SCRATCH_TEXT];

    for (int64_t i = 0; i < (int64_t)IMAGES * 3 * SIDE * SIDE; i++)
        pixels[i] = rng_uniform(&r);
    snprintf(path, sizeof path, "%s/input.npy", folder);
    ok(npy_write(path, NPY_F32, 4, dim, pixels));
}

static void write_models(const struct graph *g, const char *folder)
{
    static const char *const names[] = {"where", "prelu", "gather"};
    char path[2 * SCRATCH_TEXT];

    for (int form = MASK_WHERE; form <= MASK_GATHER; form++) {
        for (int64_t opset = 13; opset <= 21; opset++) {
            struct export_options opt = {.form = (enum mask_form)form, .opset = opset};

            snprintf(path, sizeof path, "%s/%s_%d.onnx", folder, names[form], (int)opset);
            ok(onnx_export(g, &opt, path));
            snprintf(path, sizeof path, "%s/%s_%d_folded.onnx", folder, names[form], (int)opset);
            opt.fold_bn = true;
            ok(onnx_export(g, &opt, path));
        }
    }
}

/* channel_OPSET.onnx and whole_OPSET.onnx: the same masks, of whole channels, in the forms channel and
 * where. */
static void write_channel_models(const struct graph *g, const char *folder)
{
    static const char *const names[] = {"whole", "channel"};
    struct graph *whole = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(graph_clone(g, &whole));
    for (value_id v = 0; v < whole->n_value; v++) {
        struct value *m = &whole->value[v];

        for (int64_t i = 0; m->kind == VALUE_MASK && i < shape_elems(&m->shape); i++)
            m->data[i] = i / (m->shape.dim[1] * m->shape.dim[2]) % 3 != 1 ? 1 : 0;
    }
    for (int form = 0; form < 2; form++)
        for (int64_t opset = 13; opset <= 21; opset++) {
            struct export_options opt = {
                .form = form ? MASK_CHANNEL : MASK_WHERE, .opset = opset, .fold_bn = true};

            snprintf(path, sizeof path, "%s/%s_%d.onnx", folder, names[form], (int)opset);
            ok(onnx_export(whole, &opt, path));
        }
    graph_free(whole);
}

/* full.onnx: every ReLU is kept. almost.onnx: every site loses its first position, so that
 * Python can set the masks of Where nodes to ones. */
static void write_full_models(const struct graph *g, const char *folder)
{
    struct export_options opt = {.form = MASK_WHERE};
    struct graph *full = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(graph_clone(g, &full));
    for (int64_t i = 0; i < full->n_masks; i++)
        full->masks[i] = 1;
    snprintf(path, sizeof path, "%s/full.onnx", folder);
    ok(onnx_export(full, &opt, path));
    for (value_id v = 0; v < full->n_value; v++)
        if (full->value[v].kind == VALUE_MASK)
            full->value[v].data[0] = 0;
    snprintf(path, sizeof path, "%s/almost.onnx", folder);
    ok(onnx_export(full, &opt, path));
    graph_free(full);
}

/* As imported, all ReLUs kept: Python compares them with the files they came from. */
static void write_real_models(const char *models, const char *folder)
{
    struct export_options opt = {.form = MASK_WHERE};
    char path[2 * SCRATCH_TEXT];

    for (size_t i = 0; i < N_REAL; i++) {
        struct graph *g = real_model(models, real_models[i]);

        snprintf(path, sizeof path, "%s/real_%s.onnx", folder, real_models[i]);
        ok(onnx_export(g, &opt, path));
        graph_free(g);
    }
}

static void test_other_programs_agree(void **state)
{
    const char *python = getenv("LINNET_PYTHON");
    static float pixels[IMAGES * 3 * SIDE * SIDE];
    char folder[SCRATCH_TEXT], models[256], command[3 * SCRATCH_TEXT];
    struct graph *g;

    (void)state;
    shared_models(models);
    python = python != NULL ? python : "build/venv/bin/python";
    snprintf(command, sizeof command, "%s -c 'import onnx, onnxruntime' 2>/dev/null", python);
    if (system(command) != 0) {
        print_message("skipped: no Python with onnx and onnxruntime (LINNET_PYTHON)\n");
        skip();
    }
    scratch_open(folder);
    g = masked_resnet8();
    write_input(folder, pixels);
    write_logits(g, folder, pixels);
    write_models(g, folder);
    write_channel_models(g, folder);
    write_full_models(g, folder);
    write_real_models(models, folder);
    snprintf(command, sizeof command, "%s tests/export_check.py %s %s", python, folder, models);
    assert_int_equal(system(command), 0);
    scratch_close(folder);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_and_interface),
        cmocka_unit_test(test_attributes_are_spelled_out),
        cmocka_unit_test(test_where_form),
        cmocka_unit_test(test_prelu_form),
        cmocka_unit_test(test_gather_form),
        cmocka_unit_test(test_full_and_empty_masks_need_no_form),
        cmocka_unit_test(test_other_operators),
        cmocka_unit_test(test_opset_brings_its_ir_version),
        cmocka_unit_test(test_derived_names_give_way),
        cmocka_unit_test(test_output_keeps_its_name_when_its_relu_goes),
        cmocka_unit_test(test_batch_normalisation_is_folded_on_request),
        cmocka_unit_test(test_same_graph_same_bytes_and_untouched),
        cmocka_unit_test(test_import_and_export_is_a_fixed_point),
        cmocka_unit_test(test_real_models_are_fixed_points),
        cmocka_unit_test(test_what_cannot_be_written_is_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_file_is_written_or_named),
        cmocka_unit_test(test_a_second_file_is_not_empty),
        cmocka_unit_test(test_other_programs_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
