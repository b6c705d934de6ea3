/*
 * Import: every form that the importer brings to one, every constant it computes, every refusal
 * with its code and hint, and files that were made to hurt. Models are texts (onnx_make.h).
 */
#include "core/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/file.h"
#include "core/op.h"
#include "importer/importer.h"
#include "tests/onnx_make.h"
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
#include <unistd.h>

#include <cmocka.h>

/* ---- helpers -------------------------------------------------------------------------------- */

static struct graph *import_made(struct onnx_make *mk)
{
    struct graph *g = NULL;

    onnx_make_pack(mk);
    if (onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g) < 0)
        fail_msg("%s", err_message());
    assert_int_equal(graph_verify(g), 0);
    return g;
}

static struct graph *import_text(int64_t opset, const char *text)
{
    struct onnx_make *mk = onnx_make_new(opset, text);
    struct graph *g = import_made(mk);

    onnx_make_free(mk);
    return g;
}

/* The import fails with this code and these words in the message. */
static void refuse_made(struct onnx_make *mk, const char *code, const char *words)
{
    struct import_report r;
    struct graph *g = NULL;
    char head[32];

    onnx_make_pack(mk);
    int rc = onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g);
    snprintf(head, sizeof head, "error[%s]: ", code);
    if (rc >= 0 || strncmp(err_message(), head, strlen(head)) != 0 ||
        strstr(err_message(), words) == NULL)
        fail_msg("wanted %s ... %s, got %d: %s", code, words, rc, rc < 0 ? err_message() : "");
    assert_true(r.n_problem > 0);
    assert_string_equal(r.problem[0].code, code);
    assert_null(g);
    import_report_release(&r);
}

static void refuse(int64_t opset, const char *text, const char *code, const char *words)
{
    struct onnx_make *mk = onnx_make_new(opset, text);

    refuse_made(mk, code, words);
    onnx_make_free(mk);
}

static const struct node *node_at(const struct graph *g, int32_t i, const char *type)
{
    assert_in_range(i, 0, g->n_node - 1);
    assert_string_equal(g->node[i].op->type, type);
    return &g->node[i];
}

static const struct value *value_named(const struct graph *g, const char *name)
{
    value_id v = graph_find_value(g, name);

    if (v == NO_VALUE)
        fail_msg("no value '%s'", name);
    return &g->value[v];
}

static void assert_shape(const struct shape *s, const char *want)
{
    char text[SHAPE_TEXT];

    assert_string_equal(shape_text(s, text), want);
}

static void assert_floats(const float *have, const float *want, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!(fabsf(have[k] - want[k]) <= 1e-6f * fabsf(want[k]) + 1e-7f))
            fail_msg("element %zu is %g, should be %g", k, (double)have[k], (double)want[k]);
}

/* x [N,4], the flattened input, goes through the statements to y; they are nodes 1 and up. */
static struct graph *import_features(int64_t opset, const char *statements)
{
    char text[4096];

    snprintf(text, sizeof text, "input img [N,4,1,1]\nx = Flatten(img)\n%s\noutput y\n",
             statements);
    return import_text(opset, text);
}

/* The image x [N,2,4,4] goes through the statements to t, which is flattened into the output. */
static struct graph *import_image(int64_t opset, const char *statements)
{
    char text[4096];

    snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\ny = Flatten(t)\noutput y\n", statements);
    return import_text(opset, text);
}

static void refuse_image(int64_t opset, const char *statements, const char *code, const char *words)
{
    char text[4096];

    snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\ny = Flatten(t)\noutput y\n", statements);
    refuse(opset, text, code, words);
}

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
    g = import_text(9, "input img [1,4,1,1]\nx = Flatten(img)\ninput w [2,4]\nfloat w [2,4] 3\ny = "
                       "Gemm(x, w) transB=1\n"
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

/* ---- shapes --------------------------------------------------------------------------------- */

static void test_reshape_forms_keep_the_batch(void **state)
{
    static const char *const flat[] = {
        "int s [2] -1 32\ny = Reshape(x, s)",
        "int s [2] 1 32\ny = Reshape(x, s)",
        "int s [2] 1 -1\ny = Reshape(x, s)",
        "int s [2] 0 -1\ny = Reshape(x, s)",
        "int s [3] 0 0 16\na = Reshape(x, s)\nint u [2] 0 -1\ny = Reshape(a, u)",
        "sh = Shape(x)\nzero = Constant() value={=0}\nd = Gather(sh, zero)\n"
        "u = Unsqueeze(d) axes=[0]\nm = Constant() value={-1}\ns = Concat(u, m) axis=0\n"
        "y = Reshape(x, s)",
        "sh = Shape(x)\nd = Slice(sh) starts=[0] ends=[1]\nm = Constant() value={-1}\n"
        "s = Concat(d, m) axis=0\ny = Reshape(x, s)",
        "d = Shape(x) start=0 end=1\none = Constant() value={1}\nd1 = Mul(d, one)\n"
        "d2 = Div(d1, one)\nnone = Constant() value={0}\nd3 = Add(none, d2)\nd4 = Sub(d3, none)\n"
        "m = Constant() value={32}\ns = Concat(d4, m) axis=0\ny = Reshape(x, s)",
        "sh = Shape(x)\nc = Cast(sh) to=6\nf = Constant() value={0}\nd = Gather(c, f)\n"
        "n1 = Constant() value={-1}\neq = Equal(d, n1)\nw = Where(eq, n1, d)\n"
        "k = Constant() value={32}\ns = Concat(w, k) axis=0\ny = Reshape(x, s)",
    };
    char text[1024];

    (void)state;
    for (size_t k = 0; k < sizeof flat / sizeof *flat; k++)
        for (int fixed = 0; fixed < 2; fixed++) {
            snprintf(text, sizeof text, "input x [%s,2,4,4]\n%s\noutput y\n", fixed ? "1" : "N",
                     flat[k]);
            struct graph *g = import_text(15, text);
            assert_shape(&g->value[g->output].shape, "[N,32]");
            assert_shape(&g->file_input, fixed ? "[1,2,4,4]" : "[N,2,4,4]");
            assert_shape(&g->file_output, fixed ? "[1,32]" : "[N,32]");
            graph_free(g);
        }
}

static void test_squeeze_of_a_fixed_batch_is_refused(void **state)
{
    (void)state;
    refuse(12, "input x [1,2,4,4]\np = GlobalAveragePool(x)\ny = Squeeze(p)\noutput y", "E1304",
           "would drop the batch");
}

static void test_dropout_in_training_mode_is_warned_about(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\nfloat r [] 0.5\nbool t [] 1\n"
                                             "d = Dropout(x, r, t)\ny = Flatten(d)\noutput y");
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), 0);
    assert_int_equal(r.n_warning, 1);
    assert_non_null(strstr(r.warning[0], "Dropout"));
    import_report_release(&r);
    graph_free(g);
    onnx_make_free(mk);
}

static void test_any_fixed_batch_becomes_symbolic(void **state)
{
    struct graph *g = import_text(13, "input x [8,2,4,4]\nint s [2] 8 32\ny = Reshape(x, s)\n"
                                      "output y [8,32]");

    (void)state;
    assert_shape(&g->value[g->output].shape, "[N,32]");
    assert_int_equal(g->file_input.dim[0], 8);
    graph_free(g);
    g = import_text(13, "input x [1,2,4,4]\ny = Flatten(x) axis=0\noutput y");
    assert_shape(&g->value[g->output].shape, "[N,32]");
    graph_free(g);
    g = import_text(13, "input x [?,2,4,4]\ny = Flatten(x) axis=-3\noutput y");
    assert_string_equal(g->batch_name, "N");
    graph_free(g);
    g = import_text(13, "input x [batch_size,2,4,4]\ny = Flatten(x)\noutput y");
    assert_string_equal(g->batch_name, "batch_size");
    graph_free(g);
}

static void test_squeeze_and_unsqueeze(void **state)
{
    const char *const forms[] = {
        "p = GlobalAveragePool(x)\ny = Squeeze(p) axes=[2,3]",
        "p = GlobalAveragePool(x)\nax = Constant() value={-1,2}\ny = Squeeze(p, ax)",
        "p = GlobalAveragePool(x)\ny = Squeeze(p)",
        "p = GlobalAveragePool(x)\nf = Flatten(p)\nu = Unsqueeze(f) axes=[2,3]\ny = Flatten(u)",
        "p = GlobalAveragePool(x)\nq = Squeeze(p) axes=[3]\ny = Squeeze(q) axes=[2]",
    };
    char text[512];

    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\noutput y\n", forms[k]);
        struct graph *g = import_text(12, text);
        assert_shape(&g->value[g->output].shape, "[N,2]");
        graph_free(g);
    }
}

static void test_pad_forms_become_one(void **state)
{
    static const char *const forms[] = {
        "t = Pad(x) pads=[0,1,0,0,0,1,2,3] value=0.5",
        "int p [8] 0 1 0 0 0 1 2 3\nv = Constant() value=f{0.5}\nt = Pad(x, p, v) mode='constant'",
        "int p [6] 1 0 0 1 2 3\nv = Constant() value=f{0.5}\nint a [3] 1 -2 3\nt = Pad(x, p, v, a)",
        /* what torch makes of F.pad: amounts from the last axis on, turned around at run time */
        "n = Constant() value={2}\nlist = Constant() value={0,3,0,2,1,1}\n"
        "z = ConstantOfShape(n) value={0}\nall = Concat(list, z) axis=0\n"
        "sh = Constant() value={-1,2}\nr = Reshape(all, sh)\n"
        "st = Constant() value={-1}\nen = Constant() value={-9223372036854775807}\n"
        "ax = Constant() value={0}\nback = Slice(r, st, en, ax, st)\nq = Transpose(back) "
        "perm=[1,0]\n"
        "one = Constant() value={-1}\nflat = Reshape(q, one)\np = Cast(flat) to=7\n"
        "v = Constant() value=f{0.5}\nt = Pad(x, p, v)",
    };

    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        struct graph *g = import_image(18, forms[k]);
        const struct pad_params *p = &node_at(g, 0, "Pad")->p.pad;

        assert_memory_equal(p->begin, ((int64_t[]){0, 1, 0, 0}), sizeof p->begin);
        assert_memory_equal(p->end, ((int64_t[]){0, 1, 2, 3}), sizeof p->end);
        assert_true(p->value == 0.5f);
        graph_free(g);
    }
    struct graph *g = import_image(2 + 9, "int p [8] 0\nt = Pad(x, p) mode='reflect'");
    node_at(g, 0, "Flatten"); /* pads nothing: dropped */
    graph_free(g);
}

static void test_slice_forms_become_one(void **state)
{
    static const struct {
        const char *text;
        int64_t start, end, step;
    } cases[] = {
        {"t = Slice(x) starts=[1] ends=[3] axes=[2]", 1, 3, 1},
        {"t = Slice(x) starts=[-3] ends=[-1] axes=[-2]", 1, 3, 1},
        {"int s [1] 0\nint e [1] 9223372036854775807\nint a [1] 2\nint p [1] 2\n"
         "t = Slice(x, s, e, a, p)",
         0, 3, 2},
        {"t = Slice(x) starts=[0,0,1,0] ends=[9,9,9,9]", 1, 4, 1},
        {"int s [1] 1\nint e [1] -1\nint a [1] 2\nint p [1] 3\nt = Slice(x, s, e, a, p)", 1, 2, 3},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct onnx_make *mk;
        char text[512];

        snprintf(text, sizeof text, "input x [1,2,4,4]\n%s\ny = Flatten(t)\noutput y",
                 cases[k].text);
        mk = onnx_make_new(10, text);
        struct graph *g = import_made(mk);
        const struct slice_params *p = &node_at(g, 0, "Slice")->p.slice;
        assert_int_equal(p->start[2], cases[k].start);
        assert_int_equal(p->end[2], cases[k].end);
        assert_int_equal(p->step[2], cases[k].step);
        assert_int_equal(p->end[3], 4);
        graph_free(g);
        onnx_make_free(mk);
    }
    struct graph *g = import_image(10, "t = Slice(x) starts=[0] ends=[4] axes=[3]");
    assert_int_equal(g->n_node, 1); /* takes everything: dropped */
    graph_free(g);
}

static void test_nodes_that_do_nothing_are_dropped(void **state)
{
    struct graph *g = import_image(13, "a = Identity(x)\nb = Dropout(a)\nc = Cast(b) to=1\n"
                                       "d = Concat(c) axis=1\ne = Transpose(d) perm=[0,1,2,3]\n"
                                       "int s [4] 0 2 4 4\nf = Reshape(e, s)\n"
                                       "lo = Constant() value=f{-3.4e38}\ng = Clip(f, lo)\n"
                                       "h, mask = Dropout(g) ratio=0.5\nt = Relu(h)");

    (void)state;
    assert_int_equal(g->n_node, 2);
    assert_int_equal(g->node[0].in[0], g->input);
    graph_free(g);
    /* the output keeps its name */
    g = import_features(13, "a = Relu(x)\nb = Identity(a)\ny = Flatten(b)");
    assert_int_equal(g->n_node, 2);
    assert_string_equal(g->value[g->output].name, "y");
    graph_free(g);
}

static void test_clip_at_zero_is_relu(void **state)
{
    const char *const forms[] = {
        "t = Clip(x) min=0.0",
        "t = Clip(x) min=0.0 max=3.4028234e38",
        "z = Constant() value=f{0}\nt = Clip(x, z)",
        "z = Constant() value=f{0}\ni = Constant() value=f{inf}\nt = Clip(x, z, i)",
    };

    (void)state;
    for (int k = 0; k < 4; k++) {
        struct graph *g = import_image(k < 2 ? 6 + 1 : 13, forms[k]);
        node_at(g, 0, "Relu");
        graph_free(g);
    }
}

static void test_softmax_tail_is_no_node(void **state)
{
    const char *const forms[] = {"s: y = Softmax(x)",         "s: y = Softmax(x) axis=1",
                                 "s: y = Softmax(x) axis=-1", "s: p = Softmax(x)\ny = Identity(p)",
                                 "s: y = LogSoftmax(x)",      "s: y = LogSoftmax(x) axis=-1"};

    (void)state;
    for (int k = 0; k < 6; k++)
        for (int64_t opset = 9; opset <= 13; opset += 4) {
            struct graph *g = import_features(opset, forms[k]);

            assert_int_equal(g->n_node, 1);
            assert_int_equal(g->tail, k < 4 ? TAIL_SOFTMAX : TAIL_LOG_SOFTMAX);
            assert_string_equal(g->tail_node, "s");
            assert_string_equal(g->tail_output, "y");
            assert_string_equal(g->value[g->output].name, "x");
            graph_free(g);
        }
    struct graph *g = import_features(13, "p = Softmax(x)\ny = Relu(p)");
    assert_int_equal(node_at(g, 1, "Softmax")->p.softmax.axis, 1);
    assert_int_equal(g->tail, TAIL_NONE);
    graph_free(g);
}

static void test_preprocessing_is_frozen(void **state)
{
    struct graph *g = import_image(13, "float m [1,2,1,1] 0.5\nfloat s [2,1,1] 0.25\nfloat k [] 2\n"
                                       "a = Sub(x, m)\nb = Div(a, s)\nc = Mul(k, b)\n"
                                       "float w [2,1,1,1]\nfloat z [2]\nd = Conv(c, w, z) group=2\n"
                                       "float g [2]\nfloat v [2] 1\n"
                                       "e = BatchNormalization(d, g, z, z, v)\n"
                                       "float u [2,2,1,1]\nf = Conv(e, u)\nt = Add(f, m)");

    (void)state;
    assert_int_equal(g->n_node, 8);
    for (int32_t i = 0; i < 8; i++)
        assert_int_equal(g->node[i].frozen, i < 5);
    assert_int_equal(g->n_params, 4);
    assert_int_equal(g->n_buffers, 0);
    assert_int_equal(node_at(g, 2, "Mul")->in[0], node_at(g, 1, "Div")->out[0]);
    assert_int_equal(op_in(g, node_at(g, 3, "Conv"), 1)->kind, VALUE_CONST);
    graph_free(g);
    g = import_image(13, "float k [1] 1\nt = Sub(k, x)"); /* not commutative: stays in its place */
    assert_int_equal(node_at(g, 0, "Sub")->in[1], g->input);
    graph_free(g);
}

/* ---- masks ---------------------------------------------------------------------------------- */

/* x [N,2,2,2] through the statements to t; the only site has this mask and name. */
static void check_mask(int64_t opset, const char *statements, const char *site, const float *want)
{
    char text[4096], mask[64];

    snprintf(text, sizeof text,
             "input x [N,2,2,2]\nfloat w [2,2,1,1]\nc = Conv(x, w)\n%s\n"
             "y = Flatten(t)\noutput y\n",
             statements);
    struct graph *g = import_text(opset, text);
    assert_int_equal(g->n_node, 3);
    const struct node *n = node_at(g, 1, "MaskedRelu");
    assert_string_equal(n->name, site);
    assert_string_equal(g->value[n->out[0]].name, "t");
    assert_int_equal(n->in[0], node_at(g, 0, "Conv")->out[0]);
    assert_int_equal(n->p.masked_relu.soft, 0);
    snprintf(mask, sizeof mask, "%s.mask", site);
    assert_string_equal(op_in(g, n, 1)->name, mask);
    assert_int_equal(op_in(g, n, 1)->kind, VALUE_MASK);
    assert_shape(&op_in(g, n, 1)->shape, "[2,2,2]");
    assert_floats(op_in(g, n, 1)->data, want, 8);
    assert_int_equal(g->n_masks, 8);
    graph_free(g);
}

static void test_where_forms_become_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1}, channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17,
               "bool m [1,2,2,2] 1 0 1 1 0 0 0 1\ns/Relu: r = Relu(c)\ns/Where: t = Where(m, r, c)",
               "s", mixed);
    check_mask(17, "bool m [2,2,2] 0 1 0 0 1 1 1 0\nr = Relu(c)\nt = Where(m, c, r)", "t", mixed);
    check_mask(17, "bool m [1,2,1,1] 1 0\nr = Relu(c)\nsite: t = Where(m, r, c)", "site", channel);
    check_mask(17,
               "float f [1,2,1,1] 2 0\nm = Cast(f) to=9\nr = Relu(c)\ns/Where: t = Where(m, r, c)",
               "s", channel);
    check_mask(17,
               "float f [1,2,1,1] 2 0\nfloat h [1] 1\nm = Greater(f, h)\nn = Not(m)\n"
               "z = Constant() value=f{0}\nr = Clip(c, z)\ns/Where: t = Where(n, c, r)",
               "s", channel);
}

static void test_prelu_forms_become_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1}, channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17, "float s [2,2,2] 0 1 0 0 1 1 1 0\ns/PRelu: t = PRelu(c, s)", "s", mixed);
    check_mask(17, "float s [2,1,1] 0 1\nt = PRelu(c, s)", "t", channel);
}

static void test_sum_forms_become_masked_relu(void **state)
{
    const float channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17,
               "float m [1,2,1,1] 1 0\nfloat one [] 1\nn = Sub(one, m)\nr = Relu(c)\n"
               "a = Mul(m, r)\nb = Mul(n, c)\ns/Add: t = Add(a, b)",
               "s", channel);
    check_mask(17,
               "float m [2,1,1] 1 0\nfloat n [2,1,1] 0 1\nr = Relu(c)\n"
               "b = Mul(c, n)\na = Mul(r, m)\nt = Add(b, a)",
               "t", channel);
    /* soft factors are no mask: the nodes stay */
    struct graph *g = import_image(17, "float w [2,2,1,1]\nc = Conv(x, w)\nfloat m [] 0.5\n"
                                       "r = Relu(c)\na = Mul(m, r)\nb = Mul(m, c)\nt = Add(a, b)");
    assert_int_equal(g->n_node, 6);
    graph_free(g);
}

#define GATHER_TEXT                                                                                \
    "s/Flatten: f = Flatten(c) axis=1\n"                                                           \
    "ki = Constant() value={0,2,3,7}\ns/Keep: k0 = Gather(f, ki) axis=1\ns/Relu: k = Relu(k0)\n"   \
    "li = Constant() value={1,4,5,6}\ns/Linear: l = Gather(f, li) axis=1\n"                        \
    "s/Concat: j = Concat(k, l) axis=1\n"

static void test_gather_form_becomes_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1};

    (void)state;
    check_mask(17,
               GATHER_TEXT "v = Constant() value={0,4,1,2,5,6,7,3}\ns/Order: p = Gather(j, v) "
                           "axis=1\nsh = Constant() value={1,2,2,2}\ns/Reshape: t = Reshape(p, sh)",
               "s", mixed);
    /* for [N,K] there is nothing to flatten; what reads the columns makes the node */
    struct graph *g =
        import_features(17, "ki = Constant() value={0,-1}\nk0 = Gather(x, ki) axis=1\n"
                            "k = Relu(k0)\nli = Constant() value={1,2}\n"
                            "l = Gather(x, li) axis=1\nj = Concat(k, l) axis=-1\n"
                            "v = Constant() value={0,2,3,1}\n"
                            "s/Order: p = Gather(j, v) axis=1\nfloat w [2,4]\n"
                            "y = Gemm(p, w) transB=1");
    assert_string_equal(node_at(g, 1, "MaskedRelu")->name, "s");
    assert_floats(op_in(g, &g->node[1], 1)->data, (float[]){1, 0, 0, 1}, 4);
    graph_free(g);
    g = import_features(17, "ki = Constant() value={0,3}\nk0 = Gather(x, ki) axis=1\n"
                            "k = Relu(k0)\nli = Constant() value={1,2}\nl = Gather(x, li) axis=1\n"
                            "j = Concat(k, l) axis=1\nv = Constant() value={0,2,3,1}\n"
                            "p = Gather(j, v) axis=1\nsh = Constant() value={1,4}\n"
                            "s/Reshape: y = Reshape(p, sh)");
    assert_string_equal(node_at(g, 1, "MaskedRelu")->name, "s");
    assert_string_equal(g->value[g->output].name, "y");
    graph_free(g);
}

static void test_mask_forms_compute_the_same(void **state)
{
    static const char *const forms[] = {
        "bool m [1,2,2,2] 1 0 1 1 0 0 0 1\nr = Relu(c)\nt = Where(m, r, c)",
        "float s [2,2,2] 0 1 0 0 1 1 1 0\nt = PRelu(c, s)",
        GATHER_TEXT "v = Constant() value={0,4,1,2,5,6,7,3}\np = Gather(j, v) axis=1\n"
                    "sh = Constant() value={1,2,2,2}\nt = Reshape(p, sh)",
    };
    const float x[8] = {.1f, -.2f, .3f, -.4f, -.5f, .6f, .7f, -.8f};
    float y[3][8];
    char text[2048];

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct exec *e = NULL;

        snprintf(text, sizeof text,
                 "input x [N,2,2,2]\nfloat w [2,2,1,1] 1 2 -1 0.5\n"
                 "c = Conv(x, w)\n%s\ny = Flatten(t)\noutput y\n",
                 forms[k]);
        struct graph *g = import_text(17, text);
        assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, 0, &e), 0);
        assert_int_equal(exec_infer(e, x, 1, 0, y[k]), 0);
        exec_free(e);
        graph_free(g);
    }
    assert_floats(y[0], (float[]){0, 1, 1.7f, 0, -.35f, .5f, .05f, 0}, 8);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(y[0], y[2], sizeof y[0]);
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void set_raw(struct onnx_make *mk, Onnx__TensorProto *t, int32_t type, const void *data,
                    size_t len)
{
    t->data_type = type;
    t->n_float_data = t->n_int64_data = 0;
    t->raw_data.len = len;
    t->raw_data.data = onnx_make_alloc(mk, len + 1, 1);
    memcpy(t->raw_data.data, data, len);
}

#define TYPE(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

static void test_float_types_become_float32(void **state)
{
    static const uint16_t half[] = {0x3c00, 0xc000, 0x3555, 0x0001, 0x8000, 0x7bff, 0x03ff, 0x0400};
    static const float half_want[] = {1,     -2,    0.33325195f,   5.9604645e-8f,
                                      -0.0f, 65504, 6.0975552e-5f, 6.1035156e-5f};
    static const uint16_t brain[] = {0x3f80, 0xc000, 0x3eab, 0x4049};
    static const float brain_want[] = {1, -2, 0.333984375f, 3.140625f};
    static const double wide[] = {1.5, -2.25, 0.1, 1e-50};
    static const float wide_want[] = {1.5f, -2.25f, 0.1f, 0};
    const struct {
        int32_t type;
        const void *data;
        size_t len;
        const float *want;
        size_t n;
    } cases[] = {{TYPE(FLOAT16), half, sizeof half, half_want, 8},
                 {TYPE(BFLOAT16), brain, sizeof brain, brain_want, 4},
                 {TYPE(DOUBLE), wide, sizeof wide, wide_want, 4}};

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct onnx_make *mk =
            onnx_make_new(13, k == 0 ? "input img [N,4,1,1]\nx = Flatten(img)\nfloat w [2,4]\n"
                                       "y = Gemm(x, w) transB=1\noutput y"
                                     : "input img [N,4,1,1]\nx = Flatten(img)\nfloat w [1,4]\n"
                                       "y = Gemm(x, w) transB=1\noutput y");
        struct import_report r;
        struct graph *g = NULL;

        set_raw(mk, onnx_make_tensor(mk, "w"), cases[k].type, cases[k].data, cases[k].len);
        onnx_make_pack(mk);
        assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), 0);
        assert_memory_equal(value_named(g, "w")->data, cases[k].want, cases[k].n * sizeof(float));
        assert_int_equal(r.n_warning, 1);
        import_report_release(&r);
        graph_free(g);
        onnx_make_free(mk);
    }
}

static void test_casts_that_are_left_out_are_warned_about(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\na = Cast(x) to=10\n"
                          "b = Relu(a)\nc = Cast(b) to=11\ny = Cast(c) to=1\noutput y");
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), 0);
    assert_int_equal(g->n_node, 2);
    assert_int_equal(r.n_warning, 1);
    assert_non_null(strstr(r.warning[0], "2 Casts"));
    import_report_release(&r);
    graph_free(g);
    onnx_make_free(mk);
}

static void test_typed_arrays_are_read_too(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nfloat w [1,4]\n"
                          "y = Gemm(x, w) transB=1\noutput y");
    Onnx__TensorProto *t = onnx_make_tensor(mk, "w");
    double wide[] = {1, 2, 3, 4};
    int32_t half[] = {0x3c00, 0x4000, 0x4200, 0x4400};
    struct graph *g;

    (void)state;
    t->n_float_data = 0;
    t->data_type = TYPE(DOUBLE);
    t->n_double_data = 4;
    t->double_data = wide;
    g = import_made(mk);
    assert_floats(value_named(g, "w")->data, (float[]){1, 2, 3, 4}, 4);
    graph_free(g);
    t->n_double_data = 0;
    t->data_type = TYPE(FLOAT16);
    t->n_int32_data = 4;
    t->int32_data = half;
    g = import_made(mk);
    assert_floats(value_named(g, "w")->data, (float[]){1, 2, 3, 4}, 4);
    graph_free(g);
    onnx_make_free(mk);
}

static void test_integer_types_become_int64(void **state)
{
    static const uint8_t bytes[] = {0xff, 0x80, 1, 0, 0xfe, 0xff, 0xff, 0xff};
    static const struct {
        int32_t type;
        int64_t n;
        float want[8];
    } cases[] = {
        {TYPE(INT8), 8, {-1, -128, 1, 0, -2, -1, -1, -1}},
        {TYPE(UINT8), 8, {255, 128, 1, 0, 254, 255, 255, 255}},
        {TYPE(INT16), 4, {-32513, 1, -2, -1}},
        {TYPE(UINT16), 4, {33023, 1, 65534, 65535}},
        {TYPE(INT32), 2, {98559, -2}},
        {TYPE(UINT32), 2, {98559, 4294967294.f}},
        {TYPE(BOOL), 8, {1, 1, 1, 0, 1, 1, 1, 1}},
    };
    char text[256];

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        snprintf(
            text, sizeof text,
            "input img [N,%d,1,1]\nx = Flatten(img)\nint c [%d]\nf = Cast(c) to=1\ny = Add(x, f)\n"
            "output y",
            (int)cases[k].n, (int)cases[k].n);
        struct onnx_make *mk = onnx_make_new(13, text);
        set_raw(mk, onnx_make_tensor(mk, "c"), cases[k].type, bytes, sizeof bytes);
        struct graph *g = import_made(mk);
        assert_floats(value_named(g, "f")->data, cases[k].want, (size_t)cases[k].n);
        graph_free(g);
        onnx_make_free(mk);
    }
}

static void test_integer_arrays_are_read_too(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,2,1,1]\nx = Flatten(img)\nint c [2]\nf = Cast(c) to=1\n"
                          "y = Add(x, f)\noutput y");
    Onnx__TensorProto *t = onnx_make_tensor(mk, "c");
    int32_t narrow[] = {-3, 4};
    uint64_t wide[] = {5, 6};
    struct graph *g;

    (void)state;
    t->n_int64_data = 0;
    t->data_type = TYPE(INT8);
    t->n_int32_data = 2;
    t->int32_data = narrow;
    g = import_made(mk);
    assert_floats(value_named(g, "f")->data, (float[]){-3, 4}, 2);
    graph_free(g);
    t->n_int32_data = 0;
    t->data_type = TYPE(UINT64);
    t->n_uint64_data = 2;
    t->uint64_data = wide;
    g = import_made(mk);
    assert_floats(value_named(g, "f")->data, (float[]){5, 6}, 2);
    graph_free(g);
    onnx_make_free(mk);
}

static void test_bad_tensors_are_refused_by_name(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nfloat weight [1,4]\n"
                          "y = Gemm(x, weight) transB=1\noutput y");
    Onnx__TensorProto *t = onnx_make_tensor(mk, "weight"), good = *t;
    Onnx__TensorProto__Segment segment = ONNX__TENSOR_PROTO__SEGMENT__INIT;
    int64_t dims[9] = {1, 4, 1, 1, 1, 1, 1, 1, 1}, huge[3] = {1 << 30, 1 << 30, 1 << 30};
    int64_t empty[2] = {0, 4};
    float nan[4] = {1, NAN, 2, 3}, inf[4] = {1, 2, 3, -INFINITY};
    static const struct {
        int32_t type;
        const char *name;
    } types[] = {{TYPE(STRING), "string"},         {TYPE(INT4), "int4"},
                 {TYPE(COMPLEX64), "complex64"},   {TYPE(INT2), "int2"},
                 {TYPE(FLOAT8E8M0), "float8e8m0"}, {99, "unknown element type 99"}};

    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        t->data_type = types[k].type;
        refuse_made(mk, "E1302", "'weight'");
        refuse_made(mk, "E1302", types[k].name);
    }
    *t = good, t->data_type = TYPE(INT64);
    refuse_made(mk, "E1305", "'weight'");
    *t = good, t->n_float_data = 3;
    refuse_made(mk, "E1305", "3 elements, its dims say 4");
    *t = good, t->n_float_data = 0;
    refuse_made(mk, "E1305", "0 elements, its dims say 4");
    *t = good, t->raw_data.len = 16, t->raw_data.data = (uint8_t *)nan;
    refuse_made(mk, "E1305", "twice");
    *t = good, t->n_float_data = 0, t->raw_data.len = 17, t->raw_data.data = (uint8_t *)dims;
    refuse_made(mk, "E1305", "17 bytes, its dims say 16");
    *t = good, t->n_int64_data = 1, t->int64_data = dims;
    refuse_made(mk, "E1305", "'weight'");
    *t = good, t->segment = &segment;
    refuse_made(mk, "E1302", "segment");
    *t = good, t->n_dims = 9, t->dims = dims;
    refuse_made(mk, "E1303", "rank 9");
    *t = good, t->n_dims = 3, t->dims = huge;
    refuse_made(mk, "E1303", "too large");
    *t = good, t->dims = empty, t->n_float_data = 0;
    refuse_made(mk, "E1303", "empty");
    *t = good, t->data_location = 7;
    refuse_made(mk, "E1305", "unknown data location 7");
    *t = good, t->float_data = nan;
    refuse_made(mk, "E1602", "tensor 'weight' holds NaN at position 1");
    *t = good, t->float_data = inf;
    refuse_made(mk, "E1602", "holds an infinite number at position 3");
    onnx_make_free(mk);
}

/* ---- external data -------------------------------------------------------------------------- */

static void set_external(struct onnx_make *mk, const char *tensor, int n, const char *const *pairs)
{
    Onnx__TensorProto *t = onnx_make_tensor(mk, tensor);

    t->n_float_data = 0;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t->n_external_data = (size_t)n;
    t->external_data = onnx_make_alloc(mk, (size_t)n + 1, sizeof(void *));
    for (int k = 0; k < n; k++) {
        t->external_data[k] = onnx_make_alloc(mk, 1, sizeof **t->external_data);
        onnx__string_string_entry_proto__init(t->external_data[k]);
        t->external_data[k]->key = onnx_make_text(mk, pairs[2 * k]);
        t->external_data[k]->value = onnx_make_text(mk, pairs[2 * k + 1]);
    }
}

#define EXTERNAL_TEXT                                                                              \
    "input img [N,4,1,1]\nx = Flatten(img)\nfloat a [4,4]\nfloat b [2,4]\nh = Gemm(x, a) "         \
    "transB=1\n"                                                                                   \
    "y = Gemm(h, b) transB=1\noutput y"

struct place { /* a model in a folder */
    char dir[SCRATCH_TEXT], model[SCRATCH_TEXT], data[SCRATCH_TEXT];
    float numbers[24];
};

static void place_open(struct place *p)
{
    scratch_open(p->dir);
    scratch_path(p->dir, "m.onnx", p->model);
    scratch_path(p->dir, "m.data", p->data);
    for (int k = 0; k < 24; k++)
        p->numbers[k] = (float)k;
    scratch_write(p->data, p->numbers, sizeof p->numbers);
}

static int place_import(struct place *p, struct onnx_make *mk, struct import_report *r,
                        struct graph **g)
{
    onnx_make_pack(mk);
    scratch_write(p->model, mk->bytes, mk->len);
    return onnx_import(p->model, NULL, r, g);
}

static void test_external_data_is_read(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, EXTERNAL_TEXT);
    struct graph *g = NULL;
    struct place p;

    (void)state;
    place_open(&p);
    set_external(mk, "a", 3, (const char *[]){"location", "m.data", "length", "64", "offset", "0"});
    set_external(mk, "b", 4,
                 (const char *[]){"location", "m.data", "offset", "64", "checksum", "x", "basepath",
                                  "/tmp"});
    if (place_import(&p, mk, NULL, &g) < 0)
        fail_msg("%s", err_message());
    assert_memory_equal(value_named(g, "a")->data, p.numbers, 64);
    assert_memory_equal(value_named(g, "b")->data, p.numbers + 16, 32);
    graph_free(g);
    onnx_make_free(mk);
    scratch_close(p.dir);
}

static void test_external_data_is_refused(void **state)
{
    static const struct {
        const char *key, *value, *code, *words;
    } cases[] = {
        {"location", "gone.data", "E1101", "'gone.data' not found beside the model. Hint: PyTorch"},
        {"location", "../m.data", "E1102", "'../m.data' is refused"},
        {"location", "/etc/hostname", "E1102", "refused"},
        {"location", "a//b", "E1102", "refused"},
        {"location", "./m.data", "E1102", "refused"},
        {"location", "", "E1102", "without a location"},
        {"location", "a\\b", "E1102", "refused"},
        {"location", "a/..", "E1102", "refused"},
        {"location", "soft", "E1106", "'soft' is a link"},
        {"location", "hard", "E1106", "'hard' is a link"},
        {"location", "sub", "E1106", "'sub'"},
        {"offset", "33", "E1104", "lie outside"},
        {"offset", "999999", "E1104", "lie outside"},
        {"offset", "-1", "E1104", "'-1' is not a decimal number"},
        {"offset", "1e3", "E1104", "not a decimal"},
        {"length", "60", "E1105", "holds 60 bytes for it, its dims say 64"},
        {"length", "99999999999999999999", "E1104", "not a decimal"},
        {"magic", "1", "E1103", "unknown external data key 'magic'"},
    };
    struct place p;
    char path[SCRATCH_TEXT];

    (void)state;
    place_open(&p);
    assert_int_equal(symlink("m.data", scratch_path(p.dir, "soft", path)), 0);
    scratch_write(scratch_path(p.dir, "first", path), p.numbers, sizeof p.numbers);
    char other[SCRATCH_TEXT];
    assert_int_equal(link(path, scratch_path(p.dir, "hard", other)), 0);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct onnx_make *mk = onnx_make_new(13, EXTERNAL_TEXT);
        struct import_report r;
        struct graph *g = NULL;
        const char *pairs[] = {"location", "m.data", "length", "64", cases[k].key, cases[k].value};

        set_external(mk, "a", 3, pairs);
        if (strcmp(cases[k].value, "sub") == 0)
            scratch_path(p.dir, "nothing", path);
        int rc = place_import(&p, mk, &r, &g);
        if (strcmp(cases[k].value, "sub") == 0) { /* no such file either */
            assert_int_equal(rc, ERR_FORMAT);
        } else if (rc != ERR_FORMAT || strcmp(r.problem[0].code, cases[k].code) != 0 ||
                   strstr(err_message(), cases[k].words) == NULL) {
            fail_msg("%s=%s: wanted %s %s, got %s", cases[k].key, cases[k].value, cases[k].code,
                     cases[k].words, err_message());
        }
        import_report_release(&r);
        onnx_make_free(mk);
    }
    scratch_close(p.dir);
}

static void test_a_missing_file_is_reported_once(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nfloat a [4,4]\n"
                          "float b [4,4]\nh = Gemm(x, a) transB=1\n"
                          "k = Gemm(x, b) transB=1\ny = Add(h, k)\noutput y");
    struct import_report r;
    struct graph *g = NULL;
    struct place p;

    (void)state;
    place_open(&p);
    set_external(mk, "a", 1, (const char *[]){"location", "gone"});
    set_external(mk, "b", 1, (const char *[]){"location", "gone"});
    assert_int_equal(place_import(&p, mk, &r, &g), ERR_FORMAT);
    assert_int_equal(r.n_problem, 1);
    import_report_release(&r);
    onnx_make_tensor(mk, "a")->n_float_data = 16; /* numbers inside and outside */
    assert_int_equal(place_import(&p, mk, &r, &g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "E1305"));
    import_report_release(&r);
    onnx_make_tensor(mk, "a")->n_float_data = 0;
    refuse_made(mk, "E1101", "did not come from a folder"); /* bytes have no folder */
    onnx_make_free(mk);
    scratch_close(p.dir);
}

/* ---- constants ------------------------------------------------------------------------------ */

static void test_constants_are_folded(void **state)
{
    /* Statements that make `c`; its shape and numbers. Numbers are looked at as floats. */
    static const struct {
        const char *text, *shape;
        float want[8];
    } cases[] = {
        {"c = Constant() value_int=3", "[]", {3}},
        {"c = Constant() value_ints=[3,4]", "[2]", {3, 4}},
        {"c = Constant() value_float=2.5", "[]", {2.5f}},
        {"a = Constant() value={5,6,7}\ni = Constant() value={=-1}\nc = Gather(a, i)", "[]", {7}},
        {"float a [2,3] 1 2 3 4 5 6\nint i [2] 2 0\nc = Gather(a, i) axis=1",
         "[2,2]",
         {3, 1, 6, 4}},
        {"float a [2,3] 1 2 3 4 5 6\nint i [1,2] 1 0\nc = Gather(a, i)", "[1,2,3]", {4, 5, 6, 1}},
        {"a = Constant() value={2,3}\nc = ConstantOfShape(a)", "[2,3]", {0}},
        {"float a [2,3]\nc = Shape(a)", "[2]", {2, 3}},
        {"float a [2,3,4]\nc = Shape(a) start=1", "[2]", {3, 4}},
        {"float a [2,3,4]\nc = Shape(a) start=-2 end=-1", "[1]", {3}},
        {"float a [2,1,3]\nb = Squeeze(a) axes=[1]\nc = Shape(b)", "[2]", {2, 3}},
        {"float a [1,2,1]\nb = Squeeze(a)\nc = Shape(b)", "[1]", {2}},
        {"float a [2]\nx2 = Constant() value={0,-1}\nb = Unsqueeze(a, x2)\nc = Shape(b)",
         "[3]",
         {1, 2, 1}},
        {"float a [2,2] 1 2 3 4\nfloat b [2,1] 5 6\nc = Concat(a, b) axis=-1",
         "[2,3]",
         {1, 2, 5, 3, 4, 6}},
        {"float a [5] 1 2 3 4 5\nc = Slice(a) starts=[-2] ends=[100]", "[2]", {4, 5}},
        {"float a [5] 1 2 3 4 5\nint s [1] -1\nint e [1] -100\nint t [1] -2\nint z [1] 0\n"
         "c = Slice(a, s, e, z, t)",
         "[3]",
         {5, 3, 1}},
        {"float a [2,3] 1 2 3 4 5 6\nc = Transpose(a)", "[3,2]", {1, 4, 2, 5, 3, 6}},
        {"float a [2,3] 1 2 3 4 5 6\nint s [3] 2 0 -1\nb = Reshape(a, s)\nc = Shape(b)",
         "[3]",
         {2, 3, 1}},
        {"float a [3] 1.7 -1.7 0\nc = Cast(a) to=7", "[3]", {1, -1, 0}},
        {"float a [3] 1.7 -1.7 0\nc = Cast(a) to=9", "[3]", {1, 1, 0}},
        {"float a [2,1] 1 2\nfloat b [2] 10 20\nc = Add(a, b)", "[2,2]", {11, 21, 12, 22}},
        {"float a [2] 1 2\nfloat b [2] 10 40\nc = Div(b, a)", "[2]", {10, 20}},
        {"float a [2] 1 2\nfloat b [2] 10 40\nc = Mul(b, a)", "[2]", {10, 80}},
        {"int a [2] 7 -7\nint b [1] 2\nc = Div(a, b)", "[2]", {3, -3}},
        {"int a [2] 7 -7\nint b [1] 2\nc = Sub(a, b)", "[2]", {5, -9}},
        {"int a [2] 7 -7\nint b [1] 2\nc = Mul(a, b)", "[2]", {14, -14}},
        {"int a [3] 1 2 3\nint b [1] 2\nc = Equal(a, b)", "[3]", {0, 1, 0}},
        {"int a [3] 1 2 3\nint b [1] 2\nc = Less(a, b)", "[3]", {1, 0, 0}},
        {"int a [3] 1 2 3\nint b [1] 2\nc = LessOrEqual(a, b)", "[3]", {1, 1, 0}},
        {"int a [3] 1 2 3\nint b [1] 2\nc = GreaterOrEqual(a, b)", "[3]", {0, 1, 1}},
        {"q = Shape(x)\nc = Equal(q, q)", "[2]", {1, 1}},
        {"float a [2] 3 4\nc = Dropout(a)", "[2]", {3, 4}},
        {"int a [2] 3 4\nint s [1] -9\nint t [1] -1\nc = Slice(a, s, s, , t)", "[0]", {0}},
        {"bool a [4] 0 0 1 1\nbool b [4] 0 1 0 1\nc = And(a, b)", "[4]", {0, 0, 0, 1}},
        {"bool a [4] 0 0 1 1\nbool b [4] 0 1 0 1\nc = Or(a, b)", "[4]", {0, 1, 1, 1}},
        {"bool m [2] 1 0\nfloat a [2] 1 2\nfloat b [1] 9\nc = Where(m, a, b)", "[2]", {1, 9}},
        {"float a [1] 4\nint s [2] 2 2\nc = Expand(a, s)", "[2,2]", {4, 4, 4, 4}},
        {"int a [] 1\nint b [] 8\nint d [] 3\nc = Range(a, b, d)", "[3]", {1, 4, 7}},
        {"float a [] 1\nfloat b [] 0\nfloat d [] -0.25\nc = Range(a, b, d)",
         "[4]",
         {1, .75f, .5f, .25f}},
        {"float a [2] 4 2.25\nb = Sqrt(a)\nc = Neg(b)", "[2]", {-2, -1.5f}},
        {"int a [2] 4 -2\nc = Neg(a)", "[2]", {-4, 2}},
        {"float a [2] 1.5 -1.5\nc = Floor(a)", "[2]", {1, -2}},
        {"float a [2] 1.5 -1.5\nc = Ceil(a)", "[2]", {2, -1}},
    };
    char text[1024];

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        /* flat, as many numbers as x has features (at most 6), through an Add */
        snprintf(text, sizeof text,
                 "input img [N,6,1,1]\nx = Flatten(img)\n%s\nf = Cast(c) to=1\nneg = Constant() "
                 "value={-1}\n"
                 "v = Reshape(f, neg)\nfloat pad [6] 0\nj = Concat(v, pad) axis=0\n"
                 "w = Slice(j) starts=[0] ends=[6]\ny = Add(x, w)\nsh = Shape(c)\noutput y",
                 cases[k].text);
        struct graph *g = import_text(13, text);
        assert_floats(value_named(g, "w")->data, cases[k].want, 4);
        graph_free(g);
    }
}

static void test_bad_arithmetic_is_refused(void **state)
{
    static const struct {
        const char *text, *code, *words;
    } cases[] = {
        {"int a [2] 1\nint i [1] 5\nc = Gather(a, i)", "E1306", "out of range"},
        {"int a [2] 1\nint i [1] 0\nc = Gather(a, i) axis=3", "E1306", "axis"},
        {"int a [2] 1\nfloat i [1] 0\nc = Gather(a, i)", "E1306", "integers"},
        {"int a [2] 4 5\nint s [1] 3\nc = Reshape(a, s)", "E1306", "number of elements"},
        {"int a [2] 4 5\nint s [2] -1 3\nc = Reshape(a, s)", "E1306", "divide"},
        {"int a [2] 4 5\nint s [2] -1 -1\nc = Reshape(a, s)", "E1306", "not valid"},
        {"int a [2] 4 5\nint s [2] 4611686018427387904 4\nc = Reshape(a, s)", "E1306", "too large"},
        {"int a [2] 4 5\nc = Squeeze(a) axes=[0]", "E1306", "not 1"},
        {"int a [2] 4 5\nc = Unsqueeze(a)", "E1306", "missing"},
        {"int a [2] 4 5\nc = Unsqueeze(a) axes=[0,0]", "E1306", "twice"},
        {"int a [2] 4\nint b [1,2] 4\nc = Concat(a, b) axis=0", "E1306", "rank"},
        {"int a [2,2] 4\nint b [1,3] 4\nc = Concat(a, b) axis=0", "E1306", "shapes"},
        {"int a [2] 4\nc = Transpose(a) perm=[1]", "E1306", "permutation"},
        {"int a [2] 4\nc = Transpose(a) perm=[0,1]", "E1306", "length"},
        {"int a [2] 4\nint s [1] 0\nint z [1] 0\nc = Slice(a, s, s, s, z)", "E1306", "step is 0"},
        {"int a [2] 4\nc = Slice(a) starts=[0] ends=[0,1]", "E1306", "differ"},
        {"float a [1] 1e30\nc = Cast(a) to=7", "E1306", "too large"},
        {"int a [1] 1\nc = Cast(a) to=8", "E1306", "target type"},
        {"int a [2] 4\nint b [3] 4\nc = Add(a, b)", "E1306", "broadcast"},
        {"int a [1] 9223372036854775807\nc = Add(a, a)", "E1306", "overflow"},
        {"int a [1] 9223372036854775807\nc = Mul(a, a)", "E1306", "overflow"},
        {"int a [1] -9223372036854775808\nint b [1] -1\nc = Div(a, b)", "E1306", "overflow"},
        {"int a [1] 1\nint b [1] 0\nc = Div(a, b)", "E1306", "zero"},
        {"int a [1] 1\nfloat b [1] 0\nc = Add(a, b)", "E1306", "types"},
        {"int a [1] 1\nfloat b [1] 0\nc = Where(a, a, b)", "E1306", "one type"},
        {"int a [1] 1\nfloat b [1] 0\nint d [1] 0\nc = Range(a, b, d)", "E1306", "one type"},
        {"int a [1] 1\nint b [1] 9\nint d [1] 0\nc = Range(a, b, d)", "E1306", "too many"},
        {"int a [1] 1\nc = Sqrt(a)", "E1306", "not defined"},
        {"c = Constant()", "E1306", "exactly one"},
        {"c = Constant() value_string='s'", "E1306", "dense"},
        {"int s [1] -4\nc = ConstantOfShape(s)", "E1306", "negative"},
        {"int s [2] 1073741824 1073741824\nc = ConstantOfShape(s)", "E1006", "too large"},
        {"int s [1] 2\nc = ConstantOfShape(s) value=f{1,2}", "E1306", "one element"},
        {"int a [1] 1\nc = Equal(a)", "E1209", "input 1 is missing"},
        {"sh = Shape(x)\nz = Constant() value={=0}\nn = Gather(sh, z)\nc = Range(z, n, n)", "E1304",
         "number of images"},
        {"sh = Shape(x)\nc = Neg(sh)", "E1304", "number of images"},
        {"sh = Shape(x)\nc = Add(sh, sh)", "E1304", "number of images"},
        {"sh = Shape(x)\nc = Cast(sh) to=1", "E1304", "number of images"},
        {"sh = Shape(x)\nc = ConstantOfShape(sh)", "E1304", "number of images"},
        {"float a [1]\nsh = Shape(x)\nc = Expand(a, sh)", "E1304", "number of images"},
    };
    char text[1024];

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        snprintf(
            text, sizeof text,
            "input img [N,6,1,1]\nx = Flatten(img)\n%s\nf = Cast(c) to=1\ny = Add(x, f)\noutput y",
            cases[k].text);
        refuse(13, text, cases[k].code, cases[k].words);
    }
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void test_unsupported_operators_are_refused_with_a_hint(void **state)
{
    static const struct {
        const char *text, *code, *words;
    } cases[] = {
        {"a: t = HardSwish(x)", "E1203",
         "unsupported operator 'HardSwish' (node 'a', opset 13): only Relu can be masked. Hint: "},
        {"t = LeakyRelu(x) alpha=0.1", "E1203", "only Relu can be masked"},
        {"float s [1] 0.25\nt = PRelu(x, s)", "E1203", "slope 0.25"},
        {"r: r = Relu(x)\nfloat lo [] 0\nfloat hi [] 6\nclip: t = Clip(r, lo, hi)", "E1203",
         "only Relu can be masked. Hint: this is ReLU6; give a model with Relu instead, or drop "
         "node "
         "'clip'"},
        {"float lo [] -1\nfloat hi [] 1\nt = Clip(x, lo, hi)", "E1203", "Clip to [-1, 1]"},
        {"int lo [] 0\nt = Clip(x, lo)", "E1207", "one number"},
        {"t = LogSoftmax(x)", "E1206", "of rank 4, only the classes"},
        {"f = Flatten(x)\nt = LogSoftmax(f)", "E1203", "--output-name 'f'"},
        {"t = ArgMax(x)", "E1203", "--output-name 'x'"},
        {"t = QLinearConv(x)", "E1204", "quantised"},
        {"t = QuantizeLinear(x)", "E1204", "quantised"},
        {"t = If(x)", "E1202", "control flow"},
        {"t = NonZero(x)", "E1202", "control flow"},
        {"t = Einsum(x)", "E1203", "unsupported operator 'Einsum'"},
        {"t = Resize(x)", "E1203", "'Resize'"},
        {"t = Concat(x, x) axis=1", "E1203", "'Concat'"},
        {"t = Range(x, x, x)", "E1203", "'Range'"},
        {"float w [2,2,3,3]\nt = Conv(x, w) auto_pad='0123456789012345678901234567890123456789'",
         "E1205", "auto_pad is '0123"},
        {"float s [2] 1\nt = BatchNormalization(x, s, s, s, s) epsilon=-1.0", "E1205",
         "allowed are"},
        {"float a [1,1,1,1,1]\nt = Add(x, a)", "E1301", "broadcast"},
        {"f = Flatten(x)\nint i [1] 1\na = Gather(f, i) axis=1\nt = Gather(f, a) axis=1", "E1207",
         "must be a constant"},
        {"t = Transpose(x) perm=[0,2,3,1]", "E1206", "--inputs-as-nchw"},
        {"t = Where(x, x, x)", "E1203", "'Where'"},
        {"bool m [1] 1\nr = Relu(x)\nq = Relu(r)\nt = Where(m, q, x)", "E1206", "no masked Relu"},
        {"bool m [3,2,4,4] 1\nr = Relu(x)\nt = Where(m, r, x)", "E1301", "does not fit"},
        {"bool m [3] 1\nr = Relu(x)\nt = Where(m, r, x)", "E1301", "does not fit"},
        {"float s [3] 1\nt = PRelu(x, s)", "E1301", "does not fit"},
        {"t = Cast(x) to=7", "E1302", "cast"},
        {"t = Pad(x) pads=[0,0,1,1,0,0,1,1] mode='reflect'", "E1206", "Hint: pad with zeros"},
        {"t = Pad(x) pads=[0,0,1,1]", "E1301", "4 pads for 4 axes"},
        {"t = Pad(x) pads=[0,0,-1,0,0,0,0,0]", "E1301", "pads axis 2"},
        {"t = Pad(x) pads=[1,0,0,0,0,0,0,0]", "E1301", "pads the batch"},
        {"int p [8] 1\nint v [1] 1\nt = Pad(x, p, v)", "E1207", "padding value"},
        {"t = Slice(x) starts=[2] ends=[2] axes=[2]", "E1206", "empty"},
        {"t = Slice(x) starts=[0] ends=[1] axes=[0]", "E1304", "number of images"},
        {"int s [1] -1\nint e [1] -9\nint a [1] 2\nt = Slice(x, s, e, a, s)", "E1206", "backwards"},
        {"t = ReduceMean(x) axes=[1]", "E1206", "height and width"},
        {"t = ReduceMean(x)", "E1206", "height and width"},
        {"int s [3] 0 4 -1\nv = Reshape(x, s)\nt = ReduceMean(v) axes=[2]", "E1206",
         "height and width"},
        {"r = Relu(x)\ns = Relu(r)\nt = Concat(r, s) axis=1", "E1203", "add their branches"},
        {"t = Flatten(x) axis=0", "E1304", "Flatten with axis 0"},
        {"int s [2] 16 -1\nt = Reshape(x, s)", "E1304", "mixes images"},
        {"int s [2] -1 64\nt = Reshape(x, s)", "E1304", "more than one image"},
        {"int s [2] -1 16\nt = Reshape(x, s)", "E1304", "exactly one image"},
        {"int s [2] -1 -1\nt = Reshape(x, s)", "E1304", "not valid"},
        {"int s [1] -1\nt = Reshape(x, s)", "E1304", "mixes images"},
        {"float s [2] 1\nt = Reshape(x, s)", "E1207", "integers"},
        {"t = Squeeze(x) axes=[2]", "E1301", "not 1"},
        {"t = Unsqueeze(x) axes=[2]", "E1301", "rank 5"},
        {"f = Flatten(x)\nt = Unsqueeze(f) axes=[0]", "E1301", "axis 0"},
        {"t = Softmax(x)", "E1206", "rank 4"},
        {"int i [1] 0\nt = Gather(x, i) axis=1", "E1206", "no masked Relu"},
        {"int i [1] 0\nt = Gather(x, i)", "E1206", "axis 0"},
        {"f = Flatten(x)\nint i [1] 99\nt = Gather(f, i) axis=1", "E1306", "index 99 of 32"},
        {"f = Flatten(x)\nint i [2] 1 0\nt = Gather(f, i) axis=1", "E1206", "do not return"},
        {"f = Flatten(x)\nint i [2] 1 0\na = Gather(f, i) axis=1\nt = Concat(a, f) axis=1", "E1206",
         "no masked Relu"},
        {"float w [2,2,3]\nt = Conv(x, w)", "E1301", "rank 3"},
        {"float w [2,2,3,3]\nt = Conv(x, w) kernel_shape=[5,5]", "E1301", "kernel_shape"},
        {"float w [2,2,3,3]\nt = Conv(x, w) strides=[1]", "E1205", "1 values, should have 2"},
        {"float w [2,2,3,3]\nt = Conv(x, w) strides=[1,1,1]", "E1205", "at most 2"},
        {"float w [2,2,3,3]\nt = Conv(x, w) strides=[0,1]", "E1205", "allowed are"},
        {"float w [2,2,3,3]\nt = Conv(x, w) pads=[-1,0,0,0]", "E1205", "allowed are"},
        {"float w [2,2,3,3]\nt = Conv(x, w) auto_pad='MAGIC'", "E1205", "MAGIC"},
        {"float w [2,2,3,3]\nt = Conv(x, w) magic=1", "E1205", "unknown attribute 'magic'"},
        {"float w [2,2,3,3]\nt = Conv(x, w) group=1.5", "E1205", "has type"},
        {"float w [2,3,3,3]\nt = Conv(x, w)", "E1301", "(Conv)"},
        {"float w [2,2,5,5]\nt = Conv(x, w)", "E1301", "larger than the padded input"},
        {"float w [2,2,3,3]\nfloat b [3]\nt = Conv(x, w, b)", "E1601",
         "bias 'b' has 3 values for 2 output channels (node 't', opset 13). Hint: known export bug "
         "of "
         "onnxscript"},
        {"float w [2,2,3,3]\nt = Conv(w, w)", "E1207", "only activations"},
        {"t = Conv(x, x)", "E1207", "must be a constant"},
        {"t = Conv(x)", "E1209", "input 1 is missing"},
        {"t = Relu()", "E1209", "input 0 is missing"},
        {"int w [2,2,3,3] 1\nt = Conv(x, w)", "E1302", "holds integers"},
        {"float s [2]\nfloat v [2] 1 -1\nt = BatchNormalization(x, s, s, s, v)", "E1603",
         "variance 'v' is -1 at position 1"},
        {"float s [2]\nt = BatchNormalization(x, s, s, s, s) spatial=0", "E1206", "spatial=0"},
        {"float s [3] 1\nt = BatchNormalization(x, s, s, s, s)", "E1301", "(BatchNormalization)"},
        {"t = AveragePool(x)", "E1205", "'kernel_shape' is missing"},
        {"a, t = MaxPool(x) kernel_shape=[2,2]", "E1206", "output 1 of MaxPool is used"},
        {"f = Flatten(x)\nt = GlobalAveragePool(f)", "E1301", "should be [N,C,H,W]"},
        {"float w [4,2]\nt = MatMul(x, w)", "E1301", "should be [N,K]"},
        {"f = Flatten(x)\nfloat w [32]\nt = MatMul(f, w)", "E1301", "float matrix"},
        {"f = Flatten(x)\nfloat w [2,32]\nt = Gemm(f, w) transA=1 transB=1", "E1206", "transA"},
        {"f = Flatten(x)\nfloat w [2,31]\nt = Gemm(f, w) transB=1", "E1301", "31 features"},
        {"f = Flatten(x)\nfloat w [2,32]\nfloat b [3]\nt = Gemm(f, w, b) transB=1", "E1601",
         "3 values for 2 outputs"},
        {"float a [2,3,4]\nt = Add(x, a)", "E1301", "broadcast"},
        {"float e [0]\nt = Add(x, e)", "E1303", "empty"},
        {"f = Flatten(x)\nt = Add(x, f)", "E1301", "rank"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        refuse_image(13, cases[k].text, cases[k].code, cases[k].words);
}

static void test_what_follows_the_logits_can_be_cut_off(void **state)
{
    (void)state;
    refuse(13, "input x [N,2,1,1]\nl = Flatten(x)\ny = Sigmoid(l)\noutput y", "E1203",
           "linnet needs the logits. Hint: take its input as the output: --output-name 'l'");
    refuse(13, "input x [N,2,1,1]\nl = Flatten(x)\ny = ArgMax(l)\noutput y", "E1203",
           "--output-name 'l'");
    refuse(13, "input x [N,2,1,1]\ns = Sigmoid(x)\ny = Flatten(s)\noutput y", "E1203",
           "only Relu can be masked");
}

static void test_graphs_that_are_no_classifier_are_refused(void **state)
{
    static const struct {
        const char *text, *code, *words;
    } cases[] = {
        {"input x [N,2,4,4]\ny = Relu(x)\noutput y", "E1502", "[N,2,4,4], should be [N,K]"},
        {"input x [N,4,1,1]\noutput x", "E1502", "should be [N,K]"},
        {"input img [N,4,1,1]\nx = Flatten(img)\nfloat y [2]\noutput y", "E1502", "is a constant"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)", "E1503", "no output"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\nz = Relu(y)\noutput y\noutput z",
         "E1503", "2 outputs: 'y', 'z'. Hint: choose one with --output"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\noutput z", "E1401", "output 'z'"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ninput u [N,4]\ny = Add(x, u)\noutput y", "E1501",
         "second input 'u'"},
        {"float x [1,4]\ny = Relu(x)\noutput y", "E1501", "no input"},
        {"input x [N,3,h,32]\ny = Flatten(x)\noutput y", "E1303",
         "dimension 2 of input 'x' is not"},
        {"input x [N,3,0,32]\ny = Flatten(x)\noutput y", "E1303", "dimension 2 of input 'x' is 0"},
        {"input x [N,3,2000000,32]\ny = Flatten(x)\noutput y", "E1303", "is 2000000"},
        {"input x [N,3,32]\ny = Flatten(x)\noutput y", "E1501", "no image"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(z)\noutput y", "E1401",
         "input 'z' is not defined anywhere"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(z)\nz = Relu(x)\noutput y", "E1402",
         "'z' is computed only later"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(y)\noutput y", "E1402",
         "'y' is computed only later"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\ny = Relu(x)\noutput y", "E1403",
         "'y' is given to two"},
        {"input img [N,4,1,1]\nx = Flatten(img)\nfloat w [1]\nfloat w [1]\ny = Relu(x)\noutput y",
         "E1403", "'w' is given"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        refuse(13, cases[k].text, cases[k].code, cases[k].words);
}

static void test_bad_names_are_refused_and_cleaned(void **state)
{
    static const char *const names[] = {"a\nb",
                                        "a\033[31m",
                                        "a\177",
                                        "a\xff",
                                        "a\xc3",
                                        "\xed\xa0\x80",
                                        "a\xc2\x9b",
                                        "\xe0\x80\x80",
                                        "\xf5\x80\x80\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xf0\x80\x80\x80"};
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nn: y = Relu(x)\noutput y");
    char *text = onnx_make_alloc(mk, 2000, 1);

    (void)state;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        onnx_make_node(mk, "y")->name = onnx_make_text(mk, names[k]);
        refuse_made(mk, "E1404", "node name 'a");
        for (const char *s = err_message(); *s != '\0'; s++)
            assert_true((unsigned char)*s >= 0x20 && *s != 0x7f);
        if (k == 4)
            break; /* the rest does not begin with 'a' */
    }
    for (size_t k = 5; k < sizeof names / sizeof *names; k++) {
        onnx_make_node(mk, "y")->name = onnx_make_text(mk, names[k]);
        refuse_made(mk, "E1404", "node name '");
    }
    memset(text, 'n', 1999);
    onnx_make_node(mk, "y")->name = text;
    refuse_made(mk, "E1404", "longer than 1024 bytes");
    onnx_make_node(mk, "y")->name = onnx_make_text(mk, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    struct graph *g = import_made(mk);
    assert_string_equal(g->node[1].name, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    graph_free(g);
    onnx_make_free(mk);
}

static void test_headers_are_checked(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\noutput y");
    Onnx__TrainingInfoProto info = ONNX__TRAINING_INFO_PROTO__INIT, *infos = &info;
    Onnx__SparseTensorProto sparse = ONNX__SPARSE_TENSOR_PROTO__INIT, *sparses = &sparse;
    Onnx__FunctionProto function = ONNX__FUNCTION_PROTO__INIT, *functions = &function;
    Onnx__OperatorSetIdProto other = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    Onnx__AttributeProto ref = ONNX__ATTRIBUTE_PROTO__INIT, *refs = &ref;
    Onnx__NodeProto *node = onnx_make_node(mk, "y");
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    mk->opset.version = 6;
    refuse_made(mk, "E1009", "opset 6 is older than 7");
    mk->opset.version = 99;
    onnx_make_pack(mk);
    for (int allowed = 0; allowed < 2; allowed++) {
        struct import_options opt = {.allow_newer_opset = allowed};

        assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, &opt, &r, &g), 0);
        assert_int_equal(r.n_warning, !allowed);
        graph_free(g);
        import_report_release(&r);
    }
    mk->opset.version = 13;
    mk->model.ir_version = 2;
    refuse_made(mk, "E1008", "IR version 2");
    mk->model.ir_version = 15;
    graph_free(import_made(mk));
    mk->model.ir_version = 8;
    mk->model.n_opset_import = 0;
    refuse_made(mk, "E1009", "does not say");
    mk->model.n_opset_import = 2;
    mk->model.opset_import[1] = &other;
    other.version = 14;
    refuse_made(mk, "E1009", "two versions");
    other.domain = onnx_make_text(mk, "my.domain");
    graph_free(import_made(mk));
    node->domain = onnx_make_text(mk, "ai.onnx");
    graph_free(import_made(mk));
    node->domain = other.domain;
    refuse_made(mk, "E1201", "'Relu' of domain 'my.domain'");
    function.name = node->op_type, function.domain = node->domain;
    mk->model.n_functions = 1, mk->model.functions = &functions;
    refuse_made(mk, "E1401", "'y' is not defined anywhere"); /* a function without nodes */
    node->domain = onnx_make_text(mk, "");
    mk->model.n_functions = 0;
    ref.name = onnx_make_text(mk, "alpha"), ref.ref_attr_name = ref.name;
    node->op_type = onnx_make_text(mk, "Gemm"), node->n_attribute = 1, node->attribute = &refs;
    refuse_made(mk, "E1205", "refers to a function");
    node->op_type = onnx_make_text(mk, "Relu"), node->n_attribute = 0;
    mk->model.n_training_info = 1, mk->model.training_info = &infos;
    refuse_made(mk, "E1011", "training information");
    mk->model.n_training_info = 0;
    mk->graph.n_sparse_initializer = 1, mk->graph.sparse_initializer = &sparses;
    refuse_made(mk, "E1012", "sparse");
    mk->graph.n_sparse_initializer = 0;
    mk->model.graph = NULL;
    refuse_made(mk, "E1001", "no graph");
    onnx_make_free(mk);
}

static void test_input_types_are_checked(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\nc = Cast(x) to=1\ny = Flatten(c)\n"
                                             "output y");
    Onnx__TypeProto *t = mk->graph.input[0]->type;

    (void)state;
    t->tensor_type->elem_type = TYPE(UINT8);
    graph_free(import_made(mk));
    t->tensor_type->elem_type = TYPE(INT64);
    refuse_made(mk, "E1302", "element type 7");
    t->value_case = ONNX__TYPE_PROTO__VALUE__NOT_SET;
    refuse_made(mk, "E1302", "not a tensor");
    t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    t->tensor_type->elem_type = TYPE(FLOAT);
    t->tensor_type->shape = NULL;
    refuse_made(mk, "E1501", "has no shape");
    onnx_make_free(mk);
}

static void test_other_files_are_named(void **state)
{
    static const struct {
        const char *bytes, *code, *words;
    } cases[] = {
        {"", "E1001", "empty"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "E1002",
         "Git LFS pointer, not the model. Hint: run 'git lfs pull'"},
        {"<!DOCTYPE html><html></html>", "E1003", "web page"},
        {"\n <html>", "E1003", "web page"},
        {"PK\003\004rest", "E1004", "zip archive"},
        {"\x18\x01\x01\x01ORTM....", "E1005", ".ort"},
        {"this is no model at all", "E1001",
         "Hint: the file is truncated, damaged or no ONNX model"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct graph *g = NULL;
        struct import_report r;
        int rc = onnx_import_bytes((const uint8_t *)cases[k].bytes, strlen(cases[k].bytes), -1,
                                   NULL, &r, &g);

        assert_int_equal(rc, ERR_FORMAT);
        if (strcmp(r.problem[0].code, cases[k].code) != 0 ||
            strstr(err_message(), cases[k].words) == NULL)
            fail_msg("case %zu: %s", k, err_message());
        import_report_release(&r);
    }
}

static void test_all_problems_are_reported(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input x [N,2,4,4]\na: a = Sigmoid(x)\nb: b = Tanh(a)\n"
                          "c: c = Resize(b)\nd: d = Einsum(c)\ne: e = Relu(d)\n"
                          "float w [2,2,9,9]\nf: f = Conv(x, w)\n"
                          "y = Add(e, f)\noutput y [N,7]");
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "(1 of 5 problems)"));
    assert_int_equal(r.n_problem, 5);
    assert_string_equal(r.problem[2].node, "c");
    assert_string_equal(r.problem[2].op, "Resize");
    assert_string_equal(r.problem[4].node, "f");
    assert_string_equal(r.problem[4].code, "E1301");
    assert_int_equal(r.n_op_count, 7);
    assert_string_equal(r.op_count[0].type, "Add");
    assert_int_equal(r.n_inputs, 1);
    assert_int_equal(r.n_outputs, 1);
    assert_string_equal(r.io[0].name, "x");
    assert_string_equal(r.io[0].dim0, "N");
    assert_string_equal(r.io[1].name, "y");
    assert_int_equal(r.io[1].shape.dim[1], 7);
    assert_int_equal(r.opset, 13);
    import_report_release(&r);
    onnx_make_free(mk);
}

static void test_many_problems_do_not_fill_memory(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\noutput y0");
    char line[64];
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    for (int k = 300; k-- > 0;) {
        snprintf(line, sizeof line, "y%d = Tanh(%s%d)", 299 - k, k == 299 ? "x" : "y", 298 - k);
        if (k == 299)
            snprintf(line, sizeof line, "y0 = Tanh(x)");
        onnx_make_add(mk, line);
    }
    mk->graph.output[0]->name = onnx_make_text(mk, "y299");
    onnx_make_pack(mk);
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), ERR_UNSUPPORTED);
    assert_int_equal(r.n_problem, 200);
    assert_non_null(strstr(err_message(), "(1 of 300 problems)"));
    import_report_release(&r);
    onnx_make_free(mk);
}

static void test_output_can_be_chosen(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [1,2,4,4]\nh = Flatten(x)\nfloat w [3,32]\n"
                                             "l = Gemm(h, w) transB=1\np = Softmax(l)\n"
                                             "k = ArgMax(l)\noutput p\noutput k");
    struct import_options opt = {.output = "p"};
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, &opt, NULL, &g), 0);
    assert_int_equal(g->n_node, 2);
    assert_int_equal(g->tail, TAIL_SOFTMAX);
    graph_free(g);
    opt.output = "l";
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, &opt, NULL, &g), 0);
    assert_int_equal(g->n_node, 2);
    assert_shape(&g->file_output, "[1,3]");
    graph_free(g);
    opt.output = "nothing";
    g = NULL;
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, &opt, NULL, &g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "Hint: the outputs are 'p', 'k'"));
    assert_null(g);
    onnx_make_free(mk);
}

static void test_metadata_of_linnet_is_carried(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\ny = Flatten(x)\noutput y");
    Onnx__StringStringEntryProto a = ONNX__STRING_STRING_ENTRY_PROTO__INIT, b = a, c = a;
    Onnx__StringStringEntryProto *rows[] = {&a, &b, &c};

    (void)state;
    a.key = onnx_make_text(mk, "linnet.normalize"), a.value = onnx_make_text(mk, "imagenet");
    b.key = onnx_make_text(mk, "author"), b.value = onnx_make_text(mk, "somebody");
    c.key = onnx_make_text(mk, "linnet.a\n"), c.value = onnx_make_text(mk, "x");
    mk->model.n_metadata_props = 3, mk->model.metadata_props = rows;
    mk->model.producer_name = onnx_make_text(mk, "tool\n");
    struct graph *g = import_made(mk);
    assert_int_equal(g->n_meta, 1);
    assert_string_equal(graph_get_meta(g, "linnet.normalize"), "imagenet");
    assert_string_equal(g->producer, "tool?");
    graph_free(g);
    onnx_make_free(mk);
}

/* ---- files made to hurt --------------------------------------------------------------------- */

static const char tiny[] =
    "input x [1,2,4,4]\nfloat w [2,2,3,3]\nfloat b [2]\nc = Conv(x, w, b) pads=[1,1,1,1]\n"
    "bool m [1,2,4,4] 1 0 0\nr = Relu(c)\nt = Where(m, r, c)\nfloat s [2] 1\n"
    "n = BatchNormalization(t, s, b, b, s)\nsh = Shape(n)\nz = Constant() value={0}\n"
    "d = Gather(sh, z)\ni = Constant() value={-1}\nj = Concat(d, i) axis=0\nf = Reshape(n, j)\n"
    "float v [32,3]\nfloat u [3]\ng = MatMul(f, v)\ny = Add(g, u)\noutput y";

/* Whatever the bytes are: a graph that verifies or a clean error. */
static void import_anything(const uint8_t *bytes, size_t len)
{
    struct import_report r;
    struct graph *g = NULL;
    int rc = onnx_import_bytes(bytes, len, -1, NULL, &r, &g);

    if (rc == 0) {
        assert_int_equal(graph_verify(g), 0);
    } else {
        assert_null(g);
        assert_true(err_message()[0] != '\0');
        assert_true(rc == ERR_FORMAT || rc == ERR_LIMIT || rc == ERR_UNSUPPORTED);
    }
    graph_free(g);
    import_report_release(&r);
}

static void test_truncated_files_give_errors(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, tiny);

    (void)state;
    for (size_t len = 0; len < mk->len; len++) {
        uint8_t *exact = malloc(len + (len == 0)); /* so that a read behind the end is seen */

        assert_non_null(exact);
        memcpy(exact, mk->bytes, len);
        import_anything(exact, len);
        free(exact);
    }
    onnx_make_free(mk);
}

static void test_flipped_bits_give_errors_or_graphs(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, tiny);

    (void)state;
    for (size_t k = 0; k < mk->len * 8; k++) {
        mk->bytes[k / 8] ^= (uint8_t)(1u << k % 8);
        import_anything(mk->bytes, mk->len);
        mk->bytes[k / 8] ^= (uint8_t)(1u << k % 8);
    }
    onnx_make_free(mk);
}

/* field 7 (graph), then fields of one kind inside each other: node, attribute, graph, ... */
static void test_nested_bomb_is_refused(void **state)
{
    enum { LEVELS = 10000 };
    uint8_t *bytes = malloc(LEVELS * 12);
    static const uint8_t tags[] = {0x0a, 0x2a, 0x32}; /* graph.node, node.attribute, attribute.g */
    size_t at = LEVELS * 12, end = at;
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    assert_non_null(bytes);
    for (int k = 0; k <= LEVELS; k++) { /* from the inside out: tag and length before the content */
        size_t len = end - at, n = 0;
        uint8_t varint[8];

        do {
            varint[n++] = (uint8_t)((len & 127) | (len > 127 ? 128 : 0));
            len >>= 7;
        } while (len > 0);
        at -= n;
        memcpy(bytes + at, varint, n);
        bytes[--at] = k == LEVELS ? 0x3a : tags[(LEVELS - 1 - k) % 3];
    }
    assert_true(end - at < 60000);
    assert_int_equal(onnx_import_bytes(bytes + at, end - at, -1, NULL, &r, &g), ERR_LIMIT);
    assert_non_null(strstr(err_message(), "E1007"));
    import_report_release(&r);
    free(bytes);
}

/* 8 MB of empty nodes, attributes or tensors would take a gigabyte without a budget. */
static void test_amplifiers_are_refused(void **state)
{
    static const uint8_t tags[] = {0x0a /* node */, 0x2a /* initializer */, 0x5a /* input */};
    const size_t n = 4u << 20;

    (void)state;
    for (int k = 0; k < 3; k++) {
        uint8_t *bytes = calloc(1, 2 * n + 8);
        size_t at = 0, len = 2 * n;

        assert_non_null(bytes);
        bytes[at++] = 0x3a; /* graph */
        for (; len > 0; len >>= 7)
            bytes[at++] = (uint8_t)((len & 127) | (len > 127 ? 128 : 0));
        for (size_t i = 0; i < n; i++)
            bytes[at + 2 * i] = tags[k];
        struct import_report r;
        struct graph *g = NULL;
        assert_int_equal(onnx_import_bytes(bytes, at + 2 * n, -1, NULL, &r, &g), ERR_LIMIT);
        assert_non_null(strstr(err_message(), "E1007"));
        import_report_release(&r);
        free(bytes);
    }
}

static void test_computed_constants_are_bounded(void **state)
{
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\nint s [1] 1000000\n"
                          "c0 = ConstantOfShape(s)\noutput y");
    char line[128];

    (void)state;
    for (int k = 0; k < 200; k++) {
        snprintf(line, sizeof line, "c%d = Add(c%d, c%d)", k + 1, k, k);
        onnx_make_add(mk, line);
    }
    onnx_make_add(mk, "w = Slice(c200) starts=[0] ends=[4]\ny = Add(x, w)");
    refuse_made(mk, "E1006", "far more numbers than the file holds");
    onnx_make_free(mk);
}

static void test_too_many_nodes_are_refused(void **state)
{
    enum { NODES = 20001 };
    struct onnx_make *mk =
        onnx_make_new(13, "input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\noutput y");
    Onnx__NodeProto **rows = onnx_make_alloc(mk, NODES, sizeof *rows);

    (void)state;
    for (int k = 0; k < NODES; k++)
        rows[k] = mk->graph.node[0];
    mk->graph.node = rows;
    mk->graph.n_node = NODES;
    refuse_made(mk, "E1006", "20001 nodes, at most 20000");
    onnx_make_free(mk);
}

/* Every allocation in turn fails; nothing leaks and nothing is half done. */
static void test_failing_allocations_are_reported(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, tiny);
    long n = 1;

    (void)state;
    for (;; n++) {
        struct import_report r;
        struct graph *g = NULL;

        mem_fail_at(n);
        int rc = onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g);
        long used = mem_count();
        mem_fail_at(0);
        import_report_release(&r);
        graph_free(g);
        if (used < n) {
            assert_int_equal(rc, 0);
            break;
        }
        if (rc != ERR_NOMEM)
            fail_msg("allocation %ld of %ld failed unseen: %d", n, used, rc);
        assert_null(g);
    }
    assert_true(n > 50);
    onnx_make_free(mk);
}

static void test_files_that_cannot_be_read(void **state)
{
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import("tests/no-such-file.onnx", NULL, &r, &g), ERR_IO);
    import_report_release(&r);
    assert_int_equal(onnx_import("no-such-file.onnx", NULL, NULL, &g), ERR_IO);
    assert_null(g);
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
    {"resnet32_cifar100_relu6.onnx", 0, "E1203",
     "only Relu can be masked. Hint: this is ReLU6; give a model with Relu instead, or drop node "
     "'/Clip'",
     0, 0, NULL, NULL},
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
    assert_int_equal(graph_banks(g), g->n_buffers > 0);
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
        cmocka_unit_test(test_reshape_forms_keep_the_batch),
        cmocka_unit_test(test_squeeze_of_a_fixed_batch_is_refused),
        cmocka_unit_test(test_dropout_in_training_mode_is_warned_about),
        cmocka_unit_test(test_any_fixed_batch_becomes_symbolic),
        cmocka_unit_test(test_squeeze_and_unsqueeze),
        cmocka_unit_test(test_pad_forms_become_one),
        cmocka_unit_test(test_slice_forms_become_one),
        cmocka_unit_test(test_nodes_that_do_nothing_are_dropped),
        cmocka_unit_test(test_clip_at_zero_is_relu),
        cmocka_unit_test(test_softmax_tail_is_no_node),
        cmocka_unit_test(test_preprocessing_is_frozen),
        cmocka_unit_test(test_where_forms_become_masked_relu),
        cmocka_unit_test(test_prelu_forms_become_masked_relu),
        cmocka_unit_test(test_sum_forms_become_masked_relu),
        cmocka_unit_test(test_gather_form_becomes_masked_relu),
        cmocka_unit_test(test_mask_forms_compute_the_same),
        cmocka_unit_test(test_float_types_become_float32),
        cmocka_unit_test(test_casts_that_are_left_out_are_warned_about),
        cmocka_unit_test(test_typed_arrays_are_read_too),
        cmocka_unit_test(test_integer_types_become_int64),
        cmocka_unit_test(test_integer_arrays_are_read_too),
        cmocka_unit_test(test_bad_tensors_are_refused_by_name),
        cmocka_unit_test(test_external_data_is_read),
        cmocka_unit_test(test_external_data_is_refused),
        cmocka_unit_test(test_a_missing_file_is_reported_once),
        cmocka_unit_test(test_constants_are_folded),
        cmocka_unit_test(test_bad_arithmetic_is_refused),
        cmocka_unit_test(test_unsupported_operators_are_refused_with_a_hint),
        cmocka_unit_test(test_what_follows_the_logits_can_be_cut_off),
        cmocka_unit_test(test_graphs_that_are_no_classifier_are_refused),
        cmocka_unit_test(test_bad_names_are_refused_and_cleaned),
        cmocka_unit_test(test_headers_are_checked),
        cmocka_unit_test(test_input_types_are_checked),
        cmocka_unit_test(test_other_files_are_named),
        cmocka_unit_test(test_all_problems_are_reported),
        cmocka_unit_test(test_many_problems_do_not_fill_memory),
        cmocka_unit_test(test_output_can_be_chosen),
        cmocka_unit_test(test_metadata_of_linnet_is_carried),
        cmocka_unit_test(test_truncated_files_give_errors),
        cmocka_unit_test(test_flipped_bits_give_errors_or_graphs),
        cmocka_unit_test(test_nested_bomb_is_refused),
        cmocka_unit_test(test_amplifiers_are_refused),
        cmocka_unit_test(test_computed_constants_are_bounded),
        cmocka_unit_test(test_too_many_nodes_are_refused),
        cmocka_unit_test(test_failing_allocations_are_reported),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_collected_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
