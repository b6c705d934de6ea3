/*
 * Import: nodes that change shapes, the batch, and what stands before and behind the network.
 * Models are texts (onnx_make.h).
 */
#include "core/base/file.h"
#include "core/op/op.h"
#include "importer/importer.h"
#include "tests/import_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
        "ax = Constant() value={0}\nback = Slice(r, st, en, ax, st)\nq = Transpose(back) perm=[1,0]\n"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
