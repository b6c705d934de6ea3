/*
 * Import: the layers of a network in every form that the importer brings to one, and the collected
 * models. Models are texts (onnx_make.h).
 */
#include "core/base/file.h"
#include "core/op/op.h"
#include "importer/importer.h"
#include "tests/import_make.h"
#include "tests/scratch.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- layers --------------------------------------------------------------------------------- */

#define CONV_TEXT                                                                                  \
    "input x [N,2,4,4]\nfloat w [3,2,3,3]\nfloat b [3] 1 2 3\n"                                    \
    "c1: c = Conv(x, w, b) pads=[1,1,1,1] strides=[1,1] dilations=[1,1] group=1 "                  \
    "kernel_shape=[3,3]\n"                                                                         \
    "r1: r = Relu(c)\nf1: f = Flatten(r)\nfloat m [5,48]\nfloat n [5]\n"                           \
    "g1: y = Gemm(f, m, n) transB=1\noutput y [N,5]\n"

static void test_conv_net_becomes_graph_with_names_and_kinds(void **state)
{
    struct graph *g = import_text(17, CONV_TEXT);
    const struct node *conv = node_at(g, 0, "Conv");

    (void)state;
    assert_int_equal(g->n_node, 4);
    assert_string_equal(conv->name, "c1");
    assert_string_equal(g->value[conv->out[0]].name, "c");
    assert_int_equal(value_named(g, "w")->kind, VALUE_PARAM);
    assert_int_equal(value_named(g, "b")->kind, VALUE_PARAM);
    assert_int_equal(conv->p.conv.pad[3], 1);
    assert_int_equal(g->n_params, 54 + 3 + 240 + 5);
    assert_string_equal(g->batch_name, "N");
    assert_int_equal(g->opset, 17);
    assert_int_equal(g->ir_version, 8);
    assert_shape(&g->file_input, "[N,2,4,4]");
    assert_shape(&g->file_output, "[N,5]");
    assert_string_equal(g->value[g->output].name, "y");
    assert_floats(value_named(g, "b")->data, (float[]){1, 2, 3}, 3);
    graph_free(g);
}

static void test_nodes_without_names_are_called_as_their_outputs(void **state)
{
    struct graph *g = import_image(17, "a = Relu(x)\nsame: b = Relu(a)\nsame: t = Relu(b)");

    (void)state;
    assert_string_equal(g->node[0].name, "a");
    assert_string_equal(g->node[1].name, "same");
    assert_string_equal(g->node[2].name, "same_1");
    graph_free(g);
}

static void test_weights_come_from_anywhere(void **state)
{
    struct graph *g;

    (void)state;
    g = import_features(12, "float w [2,4]\nfloat b0 [2] 7 8\nb = Identity(b0)\n"
                            "y = Gemm(x, w, b) transB=1");
    assert_floats(value_named(g, "b0")->data, (float[]){7, 8}, 2);
    graph_free(g);
    g = import_features(12, "s = Constant() value={2,4}\nw = ConstantOfShape(s) value=f{0.5}\n"
                            "b = Constant() value=f{1 2}\ny = Gemm(x, w, b) transB=1");
    assert_floats(value_named(g, "w")->data, (float[]){.5f, .5f, .5f, .5f}, 4);
    assert_floats(value_named(g, "b")->data, (float[]){1, 2}, 2);
    graph_free(g);
    /* before IR 4 every initializer is an input too */
    g = import_text(
        9,
        "input img [1,4,1,1]\nx = Flatten(img)\ninput w [2,4]\nfloat w [2,4] 3\ny = Gemm(x, w) transB=1\n"
        "output y [1,2]");
    assert_floats(value_named(g, "w")->data, (float[]){3, 3, 3}, 3);
    graph_free(g);
}

static void test_shared_weights_are_cloned(void **state)
{
    struct graph *g = import_features(13, "float w [4,4]\na = Gemm(x, w) transB=1\nb = Relu(a)\n"
                                          "y = Gemm(b, w) transB=1");
    const struct value *first = op_in(g, node_at(g, 1, "Gemm"), 1);
    const struct value *second = op_in(g, node_at(g, 3, "Gemm"), 1);

    (void)state;
    assert_string_equal(first->name, "w");
    assert_string_equal(second->name, "w_1");
    assert_ptr_not_equal(first->data, second->data);
    assert_memory_equal(first->data, second->data, 16 * sizeof(float));
    graph_free(g);
}

static void test_gemm_forms_become_one(void **state)
{
    const float plain[] = {1, 2, 3, 4, 5, 6, 7, 8};
    float scaled[8];
    struct graph *g;

    (void)state;
    g = import_features(13, "float w [2,4] 1 2 3 4 5 6 7 8\ny = Gemm(x, w) transB=1");
    assert_floats(value_named(g, "w")->data, plain, 8);
    assert_int_equal(node_at(g, 1, "Gemm")->in[2], NO_VALUE);
    graph_free(g);
    g = import_features(13, "float w [4,2] 1 5 2 6 3 7 4 8\nfloat c [1] 3\n"
                            "y = Gemm(x, w, c) alpha=2.0 beta=0.5");
    for (int k = 0; k < 8; k++)
        scaled[k] = 2 * plain[k];
    assert_floats(value_named(g, "w")->data, scaled, 8);
    assert_shape(&value_named(g, "w")->shape, "[2,4]");
    assert_floats(value_named(g, "c")->data, (float[]){1.5f, 1.5f}, 2);
    graph_free(g);
    g = import_features(13, "float w0 [2,4] 1 2 3 4 5 6 7 8\nw = Transpose(w0) perm=[1,0]\n"
                            "float c [1,2] 3 4\ny = Gemm(x, w, c)");
    assert_floats(value_named(g, "w")->data, plain, 8);
    assert_shape(&value_named(g, "c")->shape, "[2]");
    graph_free(g);
    g = import_features(13, "float w [2,4] 1 2 3 4 5 6 7 8\ny = Gemm(x, w) transB=1 alpha=0.5");
    assert_floats(value_named(g, "w")->data, (float[]){.5f, 1, 1.5f}, 3);
    graph_free(g);
}

static void test_matmul_and_its_bias_become_gemm(void **state)
{
    const char *const sums[] = {"y = Add(h, b)", "y = Add(b, h)"};
    char text[512];
    struct graph *g;

    (void)state;
    for (int k = 0; k < 2; k++) {
        snprintf(text, sizeof text,
                 "float w [4,2] 1 5 2 6 3 7 4 8\nfloat b [2] 1 2\n"
                 "m: h = MatMul(x, w)\na: %s",
                 sums[k]);
        g = import_features(13, text);
        assert_int_equal(g->n_node, 2);
        assert_string_equal(node_at(g, 1, "Gemm")->name, "m");
        assert_floats(value_named(g, "w")->data, (float[]){1, 2, 3, 4, 5, 6, 7, 8}, 8);
        assert_floats(value_named(g, "b")->data, (float[]){1, 2}, 2);
        graph_free(g);
    }
    g = import_features(13, "float w [4,2]\ny = MatMul(x, w)");
    assert_int_equal(node_at(g, 1, "Gemm")->in[2], NO_VALUE);
    graph_free(g);
    /* two readers: the product stays a value of its own */
    g = import_features(13, "float w [4,2]\nfloat b [2]\nh = MatMul(x, w)\na = Add(h, b)\n"
                            "y = Add(a, h)");
    assert_int_equal(g->n_node, 4);
    assert_int_equal(node_at(g, 2, "Add")->in[0], node_at(g, 1, "Gemm")->out[0]);
    graph_free(g);
    g = import_features(13, "float w [4,2]\nh = MatMul(x, w)\ni = Identity(h)\ny = Relu(i)");
    assert_int_equal(g->n_node, 3);
    graph_free(g);
    /* what is added is no bias */
    g = import_features(13, "float w [4,2]\nfloat c [1,2]\nh = MatMul(x, w)\nk = Add(c, c)\n"
                            "y = Sub(h, k)");
    node_at(g, 2, "Sub");
    graph_free(g);
}

static void test_auto_pad_becomes_pads(void **state)
{
    static const struct {
        const char *attributes;
        int64_t pad[4];
    } cases[] = {
        {"auto_pad='SAME_UPPER' strides=[2,2]", {0, 0, 1, 1}},
        {"auto_pad='SAME_LOWER' strides=[2,2]", {1, 1, 0, 0}},
        {"auto_pad='SAME_UPPER'", {1, 1, 1, 1}},
        {"auto_pad='VALID'", {0, 0, 0, 0}},
        {"auto_pad='NOTSET' pads=[0,1,2,1]", {0, 1, 2, 1}},
        {"auto_pad='SAME_UPPER' dilations=[1,1] strides=[4,4]", {0, 0, 0, 0}},
    };
    char text[512];

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        snprintf(text, sizeof text, "float w [2,2,3,3]\nt = Conv(x, w) %s", cases[k].attributes);
        struct graph *g = import_image(11, text);
        assert_memory_equal(node_at(g, 0, "Conv")->p.conv.pad, cases[k].pad, sizeof cases[k].pad);
        graph_free(g);
        snprintf(text, sizeof text, "t = MaxPool(x) kernel_shape=[3,3] %s", cases[k].attributes);
        g = import_image(11, text);
        assert_memory_equal(node_at(g, 0, "MaxPool")->p.pool.pad, cases[k].pad,
                            sizeof cases[k].pad);
        graph_free(g);
    }
}

static void test_batchnorm_forms_become_one(void **state)
{
    const char *const calls[] = {
        "t = BatchNormalization(c, s, b, m, v) epsilon=0.001 momentum=0.8",
        "t = BatchNormalization(c, s, b, m, v) epsilon=0.001 momentum=0.8 spatial=1",
        "t, u1, u2, u3, u4 = BatchNormalization(c, s, b, m, v) epsilon=0.001 momentum=0.8",
        "t, u1, u2 = BatchNormalization(c, s, b, m, v) epsilon=0.001 momentum=0.8 training_mode=1",
    };
    char text[1024];

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct import_report r;
        struct graph *g = NULL;

        snprintf(text, sizeof text,
                 "input x [N,2,4,4]\nfloat w [2,2,1,1]\nc = Conv(x, w)\n"
                 "float s [2] 1 2\nfloat b [2] 3\nfloat m [2] 4\nfloat v [2] 5\n%s\n"
                 "y = Flatten(t)\noutput y\n",
                 calls[k]);
        struct onnx_make *mk = onnx_make_new(k < 3 ? 7 : 14, text);
        assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), 0);
        const struct node *bn = node_at(g, 1, "BatchNormalization");
        assert_true(fabsf(bn->p.batchnorm.eps - 0.001f) < 1e-9f);
        assert_true(fabsf(bn->p.batchnorm.momentum - 0.8f) < 1e-6f);
        assert_int_equal(op_in(g, bn, 1)->kind, VALUE_PARAM);
        assert_int_equal(op_in(g, bn, 2)->kind, VALUE_PARAM);
        assert_int_equal(op_in(g, bn, 3)->kind, VALUE_BUFFER);
        assert_int_equal(op_in(g, bn, 4)->kind, VALUE_BUFFER);
        assert_int_equal(r.n_warning, k >= 2);
        import_report_release(&r);
        graph_free(g);
        onnx_make_free(mk);
    }
}

static void test_sum_becomes_adds(void **state)
{
    struct graph *g = import_image(8, "a = Relu(x)\nb = Relu(a)\ns: t = Sum(a, b, x)");

    (void)state;
    assert_int_equal(g->n_node, 5);
    assert_string_equal(node_at(g, 3, "Add")->name, "s");
    assert_string_equal(node_at(g, 2, "Add")->name, "s_part1");
    graph_free(g);
    g = import_image(8, "a = Relu(x)\ns: b = Sum(a, x)\nt = Sum(b)");
    assert_int_equal(g->n_node, 3);
    graph_free(g);
}

static void test_pools_and_means(void **state)
{
    const char *const means[] = {
        "t = ReduceMean(x) axes=[2,3]",
        "t = ReduceMean(x) axes=[-1,-2] keepdims=1",
        "ax = Constant() value={2,3}\nt = ReduceMean(x, ax) keepdims=1",
        "t = GlobalAveragePool(x)",
    };
    struct graph *g;

    (void)state;
    for (int k = 0; k < 4; k++) {
        g = import_image(18, means[k]);
        assert_shape(&g->value[node_at(g, 0, "GlobalAveragePool")->out[0]].shape, "[N,2,1,1]");
        graph_free(g);
    }
    g = import_text(18, "input x [N,2,4,4]\nm: y = ReduceMean(x) axes=[2,3] keepdims=0\noutput y");
    assert_int_equal(g->n_node, 2);
    assert_string_equal(node_at(g, 0, "GlobalAveragePool")->name, "m/Pool");
    assert_string_equal(node_at(g, 1, "Flatten")->name, "m");
    graph_free(g);
    g = import_text(13, "input x [N,2,4,4]\nint s [3] 0 2 -1\nv = Reshape(x, s)\n"
                        "y = ReduceMean(v) axes=[-1] keepdims=0\noutput y");
    assert_int_equal(g->n_node, 2); /* the Reshape is gone */
    node_at(g, 0, "GlobalAveragePool");
    node_at(g, 1, "Flatten");
    graph_free(g);
    g = import_text(13, "input x [N,2,4,4]\nint s [3] 0 2 -1\nv = Reshape(x, s)\n"
                        "m = ReduceMean(v) axes=[2]\ny = Flatten(m)\noutput y");
    assert_int_equal(g->n_node, 3);
    assert_shape(&g->value[node_at(g, 1, "Reshape")->out[0]].shape, "[N,2,1]");
    graph_free(g);
    g = import_image(18, "t = AveragePool(x) kernel_shape=[4,4]");
    node_at(g, 0, "AveragePool");
    graph_free(g);
    g = import_image(18, "t = GlobalMaxPool(x)");
    node_at(g, 0, "GlobalMaxPool");
    graph_free(g);
    g = import_image(18, "t, i = MaxPool(x) kernel_shape=[2,2] strides=[2,2] storage_order=0");
    node_at(g, 0, "MaxPool");
    graph_free(g);
}

/* ---- the collected models ------------------------------------------------------------------- */

struct manifest_row {
    const char *file;
    int64_t relus; /* 0: refused */
    const char *code, *words;
    int32_t frozen, sites;
    const char *input, *output;
};
static const struct manifest_row manifest[] = {
    {"resnet20_cifar10.onnx", 188416, NULL, NULL, 0, 19, "[N,3,32,32]", "[N,10]"},
    {"resnet20_cifar10_bn.onnx", 188416, NULL, NULL, 0, 19, "[N,3,32,32]", "[N,10]"},
    {"resnet20_cifar10_norm_b1.onnx", 188416, NULL, NULL, 2, 19, "[1,3,32,32]", "[1,10]"},
    {"resnet32_cifar10.onnx", 303104, NULL, NULL, 0, 31, "[N,3,32,32]", "[N,10]"},
    {"resnet8_mlperftiny_bn.onnx", 73728, NULL, NULL, 0, 7, "[N,3,32,32]", "[N,10]"},
    {"vnncomp22_sri_resnet_a.onnx", 11364, NULL, NULL, 0, 8, "[1,3,32,32]", "[1,10]"},
    {"vnncomp21_resnet_2b.onnx", 6244, NULL, NULL, 0, 6, "[1,3,32,32]", "[1,10]"},
    {"light_resnet50.onnx", 9608704, NULL, NULL, 0, 49, "[1,3,224,224]", "[1,1000]"},
    {"resnet32_cifar100_relu6.onnx", 303104, NULL, NULL, 0, 31, "[N,3,32,32]", "[N,100]"},
    {"resnet18_missing_external_data.onnx", 0, "E1101", "'resnet18.external' not found", 0, 0, NULL,
     NULL},
};

static void check_manifest_graph(const struct manifest_row *row, const struct graph *g)
{
    int64_t relus = 0;
    int32_t frozen = 0, sites = 0;

    for (int32_t n = 0; n < g->n_node; n++) {
        frozen += g->node[n].frozen;
        if (g->node[n].op->flags & OP_RELU) {
            relus += shape_elems(&g->value[g->node[n].out[0]].shape);
            sites++;
        }
    }
    assert_int_equal(relus, row->relus);
    assert_int_equal(sites, row->sites);
    assert_int_equal(frozen, row->frozen);
    assert_shape(&g->file_input, row->input);
    assert_shape(&g->file_output, row->output);
    assert_int_equal(graph_verify(g), 0);
    assert_int_equal(graph_branches(g), g->n_buffers > 0);
}

static void test_collected_models(void **state)
{
    char folder[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    if (scratch_shared("models", folder) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    for (size_t k = 0; k < sizeof manifest / sizeof *manifest; k++) {
        const struct manifest_row *row = &manifest[k];
        struct import_report r;
        struct graph *g = NULL;
        int rc = onnx_import(scratch_path(folder, row->file, path), NULL, &r, &g);

        if (row->relus > 0) {
            if (rc < 0)
                fail_msg("%s: %s", row->file, err_message());
            check_manifest_graph(row, g);
        } else {
            assert_true(rc == ERR_FORMAT || rc == ERR_UNSUPPORTED);
            assert_string_equal(r.problem[0].code, row->code);
            if (strstr(err_message(), row->words) == NULL)
                fail_msg("%s: %s", row->file, err_message());
        }
        graph_free(g);
        import_report_release(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_net_becomes_graph_with_names_and_kinds),
        cmocka_unit_test(test_nodes_without_names_are_called_as_their_outputs),
        cmocka_unit_test(test_weights_come_from_anywhere),
        cmocka_unit_test(test_shared_weights_are_cloned),
        cmocka_unit_test(test_gemm_forms_become_one),
        cmocka_unit_test(test_matmul_and_its_bias_become_gemm),
        cmocka_unit_test(test_auto_pad_becomes_pads),
        cmocka_unit_test(test_batchnorm_forms_become_one),
        cmocka_unit_test(test_sum_becomes_adds),
        cmocka_unit_test(test_pools_and_means),
        cmocka_unit_test(test_collected_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
