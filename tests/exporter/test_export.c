/*
 * ONNX files: what stands in them, that reading and writing again gives the same bytes, refusals.
 */
#include "core/base/file.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "exporter/exporter.h"
#include "importer/importer.h"
#include "onnx.pb-c.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/export_graphs.h"
#include "tests/scratch.h"

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

/* Every masked ReLU of the network with a line at its removed positions. */
static struct graph *lined_resnet8(bool half)
{
    struct graph *g = masked_resnet8();

    for (int32_t n = 0; n < g->n_node; n++) {
        struct node *x = &g->node[n];
        char name[128];

        if (x->op != &op_masked_relu)
            continue;
        const struct shape s = shape_make(1, op_in(g, x, 1)->shape.dim[0]);
        snprintf(name, sizeof name, "%s.removed_slope", x->name);
        ok(graph_add_value(g, name, half ? VALUE_CONST : VALUE_PARAM, &s, NULL, &x->in[2]));
        snprintf(name, sizeof name, "%s.removed_offset", x->name);
        ok(graph_add_value(g, name, VALUE_PARAM, &s, NULL, &x->in[3]));
        x->n_in = 4;
        for (int64_t c = 0; c < s.dim[0]; c++) {
            op_in(g, x, 2)->data[c] = half ? 0.5F : 0.25F + 0.05F * (float)c;
            op_in(g, x, 3)->data[c] = 0.1F * (float)(c + 1);
        }
    }
    ok(graph_verify(g));
    return g;
}

static void test_where_form_of_lines(void **state)
{
    static const int64_t dims[3] = {16, 1, 1};
    struct graph *g = lined_resnet8(false);
    Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, 0);
    const Onnx__NodeProto *mul = node_named(m, "relu/Mul"), *add = node_named(m, "relu/Add");

    (void)state;
    assert_tensor(tensor_named(m, "relu.removed_slope"), ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 3,
                  dims, 16 * sizeof(float));
    assert_tensor(tensor_named(m, "relu.removed_offset"), ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, 3,
                  dims, 16 * sizeof(float));
    assert_string_equal(mul->input[0], "bn1_out");
    assert_string_equal(mul->input[1], "relu.removed_slope");
    assert_string_equal(add->input[0], mul->output[0]);
    assert_string_equal(add->input[1], "relu.removed_offset");
    assert_string_equal(node_named(m, "relu/Where")->input[2], add->output[0]);
    /* nothing kept: the line alone, and the result keeps its name */
    assert_string_equal(node_named(m, "layer1.0.relu2/Mul")->op_type, "Mul");
    assert_string_equal(node_named(m, "layer1.0.relu2")->op_type, "Add");
    assert_string_equal(node_named(m, "layer1.0.relu2")->output[0], "layer1.0.relu2_out");
    assert_null(node_named(m, "layer1.0.relu2/Where"));
    /* everything kept: no line is left */
    assert_string_equal(node_named(m, "layer1.0.relu1")->op_type, "Relu");
    assert_null(tensor_named(m, "layer1.0.relu1.removed_slope"));
    release(m);
    graph_free(g);
}

static void test_lines_come_back_as_they_were(void **state)
{
    (void)state;
    for (int half = 0; half < 2; half++) {
        struct graph *g = lined_resnet8(half), *back = NULL;
        const struct export_options opt = {.form = MASK_WHERE};
        uint8_t *bytes = NULL;
        size_t len = 0;

        check_fixed_point(g, MASK_WHERE, false, 0);
        check_fixed_point(g, MASK_WHERE, true, 21);
        ok(onnx_export_bytes(g, &opt, &bytes, &len));
        ok(onnx_import_bytes(bytes, len, -1, NULL, NULL, &back));
        const struct node *a = &g->node[graph_find_node(g, "relu")];
        const struct node *b = &back->node[graph_find_node(back, "relu")];
        assert_ptr_equal(b->op, &op_masked_relu);
        assert_int_equal(b->n_in, 4);
        for (int i = 2; i < 4; i++) {
            assert_int_equal(op_in(back, b, i)->kind, op_in(g, a, i)->kind);
            assert_string_equal(op_in(back, b, i)->name, op_in(g, a, i)->name);
            assert_memory_equal(op_in(back, b, i)->data, op_in(g, a, i)->data, 16 * sizeof(float));
        }
        mem_free(bytes);
        graph_free(back);
        graph_free(g);
    }
}

static void test_other_forms_refuse_lines(void **state)
{
    static const enum mask_form forms[] = {MASK_PRELU, MASK_GATHER, MASK_CHANNEL};
    struct graph *g = lined_resnet8(true);
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct export_options opt = {.form = forms[i]};

        assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG,
                       "node 'relu': its removed ReLUs are lines s x + b");
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
    value_id in[2] = {g->output, NO_VALUE};

    (void)state;
    ok(graph_add_value(g, "last.mask", VALUE_MASK, &k, NULL, &in[1]));
    ok(graph_add_node(g, &op_masked_relu, "last", in, 2, NULL, "last", &g->output));
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

static void test_relu6_is_a_clip(void **state)
{
    static const enum mask_form refused[] = {MASK_PRELU, MASK_CHANNEL};
    struct graph *g = relu6_resnet8(), *back = NULL;
    struct export_options opt = {.form = MASK_GATHER};
    uint8_t *bytes = NULL;
    size_t len = 0;
    Onnx__ModelProto *m = export_parsed(g, MASK_WHERE, 0);
    const Onnx__NodeProto *some = node_named(m, "relu/Relu"),
                          *all = node_named(m, "layer1.0.relu1");

    (void)state;
    assert_string_equal(some->op_type, "Clip");
    assert_string_equal(all->op_type, "Clip");
    assert_int_equal(some->n_input, 3);
    assert_string_equal(some->input[1], "relu.low");
    assert_string_equal(some->input[2], "relu.high");
    assert_string_equal(node_named(m, "relu/Where")->input[1], some->output[0]);
    assert_int_equal(count_type(m, "Relu"), 0);
    release(m);
    for (int form = 0; form < 2; form++) {
        check_fixed_point(g, form ? MASK_GATHER : MASK_WHERE, false, 0);
        check_fixed_point(g, form ? MASK_GATHER : MASK_WHERE, true, 13);
        opt.form = form ? MASK_GATHER : MASK_WHERE;
        ok(onnx_export_bytes(g, &opt, &bytes, &len));
        ok(onnx_import_bytes(bytes, len, -1, NULL, NULL, &back));
        for (int32_t i = 0; i < back->n_node; i++) {
            const struct node *n = &back->node[i];

            assert_ptr_not_equal(n->op, &op_relu);
            assert_true(n->op != &op_masked_relu || n->p.masked_relu.relu6);
        }
        assert_ptr_equal(back->node[graph_find_node(back, "layer1.0.relu1")].op, &op_relu6);
        assert_ptr_equal(back->node[graph_find_node(back, "relu")].op, &op_masked_relu);
        mem_free(bytes);
        graph_free(back);
    }
    for (size_t i = 0; i < 2; i++) {
        opt.form = refused[i];
        assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG,
                       "node 'relu': it is a ReLU6 with a mask");
    }
    graph_free(g);
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
    assert_true(pass_dual_branch(g) > 0);
    assert_refused(onnx_export_bytes(g, &opt, &bytes, &len), ERR_ARG, "two BN branches");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_and_interface),
        cmocka_unit_test(test_attributes_are_spelled_out),
        cmocka_unit_test(test_where_form),
        cmocka_unit_test(test_prelu_form),
        cmocka_unit_test(test_gather_form),
        cmocka_unit_test(test_where_form_of_lines),
        cmocka_unit_test(test_lines_come_back_as_they_were),
        cmocka_unit_test(test_other_forms_refuse_lines),
        cmocka_unit_test(test_full_and_empty_masks_need_no_form),
        cmocka_unit_test(test_other_operators),
        cmocka_unit_test(test_opset_brings_its_ir_version),
        cmocka_unit_test(test_derived_names_give_way),
        cmocka_unit_test(test_output_keeps_its_name_when_its_relu_goes),
        cmocka_unit_test(test_batch_normalisation_is_folded_on_request),
        cmocka_unit_test(test_same_graph_same_bytes_and_untouched),
        cmocka_unit_test(test_import_and_export_is_a_fixed_point),
        cmocka_unit_test(test_relu6_is_a_clip),
        cmocka_unit_test(test_what_cannot_be_written_is_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_file_is_written_or_named),
        cmocka_unit_test(test_a_second_file_is_not_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
