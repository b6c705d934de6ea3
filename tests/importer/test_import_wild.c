/*
 * Models as people have them: each form here was refused, or taken for something else, in a file that
 * somebody met. Models are texts (onnx_make.h); what is taken must be the same function as the plain form.
 * The files themselves are tried by test_import_cases.c.
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/op/op.h"
#include "tests/import_make.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- helpers -------------------------------------------------------------------------------- */

static int32_t count(const struct graph *g, const char *type)
{
    int32_t n = 0;

    for (int32_t k = 0; k < g->n_node; k++)
        n += strcmp(g->node[k].op->type, type) == 0;
    return n;
}

static void logits(struct graph *g, const float *x, int64_t n, float *y)
{
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, n, 0, y), 0);
    exec_free(e);
}

/* The same numbers, within `tolerance` of the largest, for three made-up images. Frees both. */
static void assert_same(struct graph *a, struct graph *b, float tolerance)
{
    const int64_t n = 3, size = shape_elems(&a->value[a->input].shape);
    const int64_t k = shape_elems(&a->value[a->output].shape);
    float *x = calloc((size_t)(n * size), sizeof *x), *ya = calloc((size_t)(n * k), sizeof *ya);
    float *yb = calloc((size_t)(n * k), sizeof *yb), largest = 0;

    assert_int_equal(shape_elems(&b->value[b->input].shape), size);
    assert_int_equal(shape_elems(&b->value[b->output].shape), k);
    for (int64_t i = 0; i < n * size; i++)
        x[i] = sinf((float)i * 1.7f) - 0.1f;
    logits(a, x, n, ya);
    logits(b, x, n, yb);
    for (int64_t i = 0; i < n * k; i++)
        largest = fmaxf(largest, fabsf(yb[i]));
    assert_true(largest > 0);
    for (int64_t i = 0; i < n * k; i++)
        if (!(fabsf(ya[i] - yb[i]) <= tolerance * largest))
            fail_msg("logit %lld: %g and %g", (long long)i, (double)ya[i], (double)yb[i]);
    free(x);
    free(ya);
    free(yb);
    graph_free(a);
    graph_free(b);
}

/* Imports; some warning has these words. */
static struct graph *import_warned(int64_t opset, const char *text, const char *words)
{
    struct onnx_make *mk = onnx_make_new(opset, text);
    struct import_report r;
    struct graph *g = NULL;
    bool found = false;

    onnx_make_pack(mk);
    if (onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g) < 0)
        fail_msg("%s", err_message());
    for (int32_t k = 0; k < r.n_warning; k++)
        found = found || strstr(r.warning[k], words) != NULL;
    if (!found)
        fail_msg("no warning of %d says '%s'", r.n_warning, words);
    import_report_release(&r);
    onnx_make_free(mk);
    return g;
}

/* ---- what is a ReLU ------------------------------------------------------------------------- */

static void test_whatever_is_a_relu_becomes_one(void **state)
{
    static const char *const forms[] = {
        "float z [] 0\nt = Max(x, z)",
        "float z [2,1,1] 0\nt = Max(z, x)",
        "t = LeakyRelu(x) alpha=0.0",
        "t = Elu(x) alpha=0.0",
        "t = ThresholdedRelu(x) alpha=0.0",
        "float s [1] 0\nt = PRelu(x, s)",
        "float s [2,1,1] 0\nt = PRelu(x, s)",
        "float z [] 0\nm = Greater(x, z)\nt = Where(m, x, z)",
        "float z [] 0\nm = GreaterOrEqual(x, z)\nt = Where(m, x, z)",
        "float z [] 0\nm = Less(z, x)\nt = Where(m, x, z)",
        "float z [] 0\nm = LessOrEqual(x, z)\nt = Where(m, z, x)",
        "float z [] 0\nm = Less(z, x)\nn = Not(m)\nt = Where(n, z, x)",
        "float z [] 0\nm = Greater(x, z)\nf = Cast(m) to=1\nt = Mul(x, f)",
        "float z [] 0\nm = Less(z, x)\nf = Cast(m) to=1\nt = Mul(f, x)",
        "float z [] 0\nt = Clip(x, z)",
    };

    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        struct graph *g = import_image(15, forms[k]);

        assert_int_equal(g->n_node, 2);
        node_at(g, 0, "Relu");
        assert_same(g, import_image(15, "t = Relu(x)"), 0);
    }
}

static void test_what_is_no_relu_is_refused(void **state)
{
    (void)state;
    refuse_image(15, "float z [] 0.5\nt = Max(x, z)", "E1203", "'Max'");
    refuse_image(15, "float z [2,1,1] 0 1\nt = Max(x, z)", "E1203", "'Max'");
    refuse_image(15, "t = LeakyRelu(x) alpha=0.1", "E1203", "'LeakyRelu'");
    refuse_image(15, "t = ThresholdedRelu(x)", "E1203", "'ThresholdedRelu'");
    refuse_image(15, "float z [] 0\nm = Greater(x, z)\nt = Where(m, z, x)", "E1203", "Where");
    refuse_image(15, "float z [] 0\nm = Greater(x, z)\nf = Cast(m) to=1\nt = Add(x, f)", "E1203",
                 "compares an activation");
    refuse_image(15, "float z [] 0\nt = Neg(x)", "E1203", "'Neg'");
}

/* Every spelling is one Relu6 node on x. */
static void test_relu6_spellings(void **state)
{
    static const char *const spelling[] = {
        "t = Clip(x, lo, hi)",
        "r = Relu(x)\nt = Clip(r, lo, hi)",
        "r = Relu(x)\nt = Clip(r, , hi)",
        "r = Relu(x)\nt = Min(r, hi)",
        "r = Max(lo, x)\nt = Min(hi, r)",
        "float six [1,2,1,1] 6 6\nr = Clip(x, lo)\nt = Min(six, r)",
    };

    (void)state;
    for (size_t i = 0; i < sizeof spelling / sizeof *spelling; i++) {
        char text[256];

        snprintf(text, sizeof text, "float lo [] 0\nfloat hi [] 6\n%s", spelling[i]);
        struct graph *g = import_image(13, text);
        assert_int_equal(g->n_node, 2);
        assert_ptr_equal(g->node[0].op, &op_relu6);
        assert_int_equal(g->node[0].in[0], g->input);
        graph_free(g);
    }
    struct graph *g = import_image(9, "t = Clip(x) min=0.0 max=6.0");
    assert_ptr_equal(g->node[0].op, &op_relu6);
    graph_free(g);
    refuse_image(13, "float hi [] 6\nt = Min(x, hi)", "E1203", "'Min'");
    refuse_image(13, "float hi [] 5\nr = Relu(x)\nt = Min(r, hi)", "E1203", "'Min'");
    refuse_image(13, "t = Relu6(x)", "E1203", "unsupported operator 'Relu6'");
}

static void test_relu6_as_relu_is_asked_for(void **state)
{
    const struct import_options opt = {.relu6_as_relu = true};
    const char *const text = "input x [N,2,4,4]\nfloat z [] 0\nfloat s [] 6\na = Clip(x, z, s)\n"
                             "r = Relu(a)\nb = Clip(r, , s)\ny = Flatten(b)\noutput y\n";

    (void)state;
    assert_same(import_with(13, &opt, text), import_image(13, "r = Relu(x)\nt = Relu(r)"), 0);
    refuse_with(13, &opt,
                "input x [N,2,4,4]\nfloat z [] 0\nfloat s [] 5\na = Clip(x, z, s)\ny = Flatten(a)\n"
                "output y\n",
                "E1203", "Clip to [0, 5]");
}

/* ---- means ---------------------------------------------------------------------------------- */

static void test_two_means_are_the_global_pool(void **state)
{
    static const char *const forms[] = {
        "a = ReduceMean(x) axes=[3] keepdims=0\nt = ReduceMean(a) axes=[2] keepdims=0",
        "a = ReduceMean(x) axes=[2] keepdims=0\nt = ReduceMean(a) axes=[-1] keepdims=0",
        "a = ReduceMean(x) axes=[-1] keepdims=1\nt = ReduceMean(a) axes=[2] keepdims=1",
        "a = ReduceMean(x) axes=[2]\nt = ReduceMean(a) axes=[3] keepdims=0",
        "a = ReduceMean(x) axes=[3] keepdims=0\nt = ReduceMean(a) axes=[2] keepdims=1",
        "a = ReduceMean(x) axes=[2] keepdims=1\nt = ReduceMean(a) axes=[2,3] keepdims=0",
        "int s [3] 0 2 -1\na = Reshape(x, s)\nt = ReduceMean(a) axes=[2] keepdims=0",
        "a = ReduceMean(x) axes=[3] keepdims=1\nint s [3] 0 2 -1\nb = Reshape(a, s)\nt = ReduceMean(b) axes=[2]",
    };

    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        struct graph *g = import_image(13, forms[k]);

        assert_int_equal(count(g, "GlobalAveragePool"), 1);
        assert_int_equal(count(g, "AveragePool"), 0);
        assert_same(g, import_image(13, "t = GlobalAveragePool(x)"), 1e-6f);
    }
}

static void test_one_mean_is_a_pool(void **state)
{
    struct graph *g = import_image(18, "int a [1] 3\nt = ReduceMean(x, a)");

    (void)state;
    node_at(g, 0, "AveragePool");
    assert_shape(&g->value[g->node[0].out[0]].shape, "[N,2,4,1]");
    assert_same(g, import_image(18, "t = AveragePool(x) kernel_shape=[1,4]"), 1e-6f);
    refuse_image(13, "t = ReduceMean(x) axes=[1]", "E1206", "other axes");
    refuse_image(13, "t = ReduceMean(x) axes=[0,2,3]", "E1206", "other axes");
    refuse_image(13, "t = ReduceMean(x)", "E1206", "other axes");
    refuse_image(13, "int s [3] 0 4 8\na = Reshape(x, s)\nt = ReduceMean(a) axes=[2]", "E1206",
                 "other axes");
}

/* ---- input and output ----------------------------------------------------------------------- */

static void test_an_output_of_rank_4_is_flattened(void **state)
{
    struct graph *g = import_text(13, "input x [N,2,4,4]\np = GlobalAveragePool(x)\n"
                                      "float w [5,2,1,1]\ny = Conv(p, w)\noutput y [N,5,1,1]\n");

    (void)state;
    assert_shape(&g->value[g->output].shape, "[N,5]");
    assert_string_equal(g->value[g->output].name, "y");
    assert_same(g,
                import_text(13, "input x [N,2,4,4]\np = GlobalAveragePool(x)\n"
                                "float w [5,2,1,1]\nc = Conv(p, w)\ny = Flatten(c)\noutput y\n"),
                0);
    refuse(13, "input x [N,2,4,4]\nfloat w [5,2,1,1]\ny = Conv(x, w)\noutput y [N,5,4,4]\n",
           "E1502", "[N,5,4,4], should be [N,K]");
}

static void test_the_only_logits_of_several_outputs_are_taken(void **state)
{
    struct graph *g =
        import_warned(13,
                      "input x [N,2,4,4]\nr = Relu(x)\ny = Flatten(r)\n"
                      "output r [N,2,4,4]\noutput y [N,32]\n",
                      "the graph has 2 outputs: 'r' [N,2,4,4], 'y' [N,32]; taken is 'y'");

    (void)state;
    assert_string_equal(g->value[g->output].name, "y");
    graph_free(g);
    refuse(13,
           "input x [N,2,4,4]\nr = Relu(x)\ny = Flatten(r)\nz = Flatten(x)\n"
           "output y [N,32]\noutput z [N,32]\n",
           "E1503", "2 outputs: 'y' [N,32], 'z' [N,32]. Hint: choose one with --output-name");
    refuse(13, "input x [N,2,4,4]\nr = Relu(x)\ny = Flatten(r)\noutput r\noutput y [N,32]\n",
           "E1503", "'r' of unknown shape");
}

static void test_nodes_are_sorted(void **state)
{
    struct graph *g =
        import_warned(13,
                      "input x [N,2,4,4]\ny = Flatten(t)\nt = Add(a, b)\nb = Relu(a)\n"
                      "float w [2,2,1,1]\na = Conv(x, w)\noutput y\n",
                      "not in topological order");

    (void)state;
    assert_same(
        g, import_image(13, "float w [2,2,1,1]\na = Conv(x, w)\nb = Relu(a)\nt = Add(a, b)"), 0);
}

static void test_an_input_that_nobody_reads_is_left_out(void **state)
{
    struct graph *g = import_warned(13,
                                    "input u [N,7]\ninput x [N,2,4,4]\ny = Flatten(x)\n"
                                    "z = Relu(y)\noutput z\n",
                                    "no node reads the input 'u'");

    (void)state;
    assert_string_equal(g->value[g->input].name, "x");
    graph_free(g);
    refuse(13, "input u [N,2,4,4]\ninput x [N,2,4,4]\na = Add(x, u)\ny = Flatten(a)\noutput y\n",
           "E1501", "second input 'x'");
}

static void test_bytes_are_pixels(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\nc = Cast(x) to=1\nfloat d [] 255\n"
                                             "q = Div(c, d)\ny = Flatten(q)\noutput y\n");
    struct graph *g;

    (void)state;
    mk->graph.input[0]->type->tensor_type->elem_type = TYPE(UINT8);
    g = import_made(mk);
    assert_string_equal(graph_get_meta(g, "linnet.normalize"), "255");
    graph_free(g);
    mk->graph.input[0]->type->tensor_type->elem_type = TYPE(FLOAT);
    g = import_made(mk);
    assert_null(graph_get_meta(g, "linnet.normalize"));
    graph_free(g);
    onnx_make_free(mk);
}

/* ---- channels of the input ------------------------------------------------------------------ */

#define CONV "\nfloat w [4,3,3,3]\nc = Conv(s, w) pads=[1,1,1,1]\ny = Flatten(c)\noutput y\n"

/* The plain form of channels 2, 1, 0: Slices joined by sums of Convs over one channel each. */
static struct graph *swapped(void)
{
    struct graph *g = import_text(13, "input x [N,3,4,5]\nfloat w [4,3,3,3]\n"
                                      "c = Conv(x, w) pads=[1,1,1,1]\ny = Flatten(c)\noutput y\n");
    float *w = g->value[graph_find_value(g, "w")].data;

    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 9; i++) {
            const float first = w[o * 27 + i];

            w[o * 27 + i] = w[o * 27 + 18 + i];
            w[o * 27 + 18 + i] = first;
        }
    graph_touch(g);
    return g;
}

static void test_swapped_channels_go_into_the_first_conv(void **state)
{
    static const char *const forms[] = {
        "int i [3] 2 1 0\ns = Gather(x, i) axis=1",
        "int i [3] -1 1 0\na = Identity(x)\ng = Gather(a, i) axis=-3\ns = Cast(g) to=1",
        "int b [1] -1\nint e [1] -100\nint a [1] 1\ns = Slice(x, b, e, a, b)",
        "p, q, r = Split(x) axis=1\ns = Concat(r, q, p) axis=1",
        "int z [2] 1 2\np, q = Split(x, z) axis=1\nint i [2] 1 0\ng = Gather(q, i) axis=1\n"
        "s = Concat(g, p) axis=1",
        "r = Slice(x) starts=[2] ends=[3] axes=[1]\nq = Slice(x) starts=[1] ends=[2] axes=[1]\n"
        "p = Slice(x) starts=[0] ends=[1] axes=[1]\ns = Concat(r, q, p) axis=1",
        "int i [3] 1 2 0\ng = Gather(x, i) axis=1\nint j [3] 1 0 2\ns = Gather(g, j) axis=1",
        "int i [] 2\nint j [] 1\nint k [] 0\na = Gather(x, i) axis=1\nb = Gather(x, j) axis=1\n"
        "d = Gather(x, k) axis=1\nint u [1] 1\ne = Unsqueeze(a, u)\nf = Unsqueeze(b, u)\n"
        "h = Unsqueeze(d, u)\ns = Concat(e, f, h) axis=1",
    };
    char text[1024];

    (void)state;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        snprintf(text, sizeof text, "input x [N,3,4,5]\n%s" CONV, forms[k]);
        /* Slice's attributes went at opset 10, the other forms need 13 */
        struct graph *g = import_text(strstr(forms[k], "starts") ? 9 : 13, text);

        assert_int_equal(g->n_node, 2);
        node_at(g, 0, "Conv");
        assert_same(g, swapped(), 0);
    }
}

/* Arithmetic and padding between the two, and the file's own order. */
static void test_swapped_channels_with_preprocessing(void **state)
{
    const char *const plain =
        "input x [N,3,4,5]\nfloat m [3,1,1] 3 2 1\nfloat d [3,1,1] 6 5 4\na = Sub(x, m)\n"
        "b = Div(a, d)\nint i [3] 2 1 0\ng = Gather(b, i) axis=1\nint p [8] 0 0 1 0 0 0 1 0\n"
        "s = Pad(g, p)" CONV;
    const char *const first =
        "input x [N,3,4,5]\nint i [3] 2 1 0\ng = Gather(x, i) axis=1\nfloat m [1,3,1,1] 1 2 3\n"
        "float d [3,1,1] 4 5 6\na = Sub(g, m)\nb = Div(a, d)\nint p [8] 0 0 1 0 0 0 1 0\n"
        "s = Pad(b, p)" CONV;
    const char *const last =
        "input x [N,4,5,3]\nint i [3] 2 1 0\ng = Gather(x, i) axis=3\nfloat m [3] 1 2 3\n"
        "float d [3] 4 5 6\na = Sub(g, m)\nb = Div(a, d)\nt = Transpose(b) perm=[0,3,1,2]\n"
        "int p [8] 0 0 1 0 0 0 1 0\ns = Pad(t, p)" CONV;
    struct graph *g = import_text(13, first);

    (void)state;
    assert_int_equal(count(g, "Sub") + count(g, "Div") + count(g, "Pad") + count(g, "Conv"), 4);
    assert_true(g->node[0].frozen);
    assert_same(g, import_text(13, plain), 1e-6f);
    assert_same(import_text(13, last), import_text(13, plain), 1e-6f);
}

static void test_channels_of_the_input_for_others(void **state)
{
    struct graph *g = import_text(13, "input x [N,3,4,5]\nint i [2] 0 2\ns = Gather(x, i) axis=1\n"
                                      "y = Flatten(s)\noutput y\n");

    (void)state;
    node_at(g, 0, "Slice"); /* a part in order is a Slice */
    assert_shape(&g->value[g->output].shape, "[N,40]");
    graph_free(g);
    /* grey images three times */
    assert_same(import_text(13, "input x [N,1,4,5]\nfloat w [4,3,3,3]\ns = Concat(x, x, x) axis=1\n"
                                "c = Conv(s, w)\ny = Flatten(c)\noutput y\n"),
                import_text(13, "input x [N,1,4,5]\nfloat w [4,3,3,3]\nfloat o [3,1,1,1] 1\n"
                                "s = Conv(x, o)\nc = Conv(s, w)\ny = Flatten(c)\noutput y\n"),
                1e-6f);
    refuse(13, "input x [N,3,4,5]\nint i [3] 2 1 3\ns = Gather(x, i) axis=1" CONV, "E1306",
           "index 3 of 3");
    refuse(13, "input x [N,3,4,5]\nint z [2] 1 1\np, s = Split(x, z) axis=1" CONV, "E1306",
           "not the whole");
    refuse(13, "input x [N,3,4,5]\nr = Relu(x)\nint i [3] 2 1 0\ns = Gather(r, i) axis=1" CONV,
           "E1206", "Gather");
}

/* ---- batch normalization -------------------------------------------------------------------- */

static void test_spatial_0_with_statistics_of_channels(void **state)
{
    const char *const text =
        "input x [N,2,4,4]\nfloat s [2] 1 2\nfloat b [2] 3 4\nfloat m [2] 5 6\n"
        "float v [2] 7 8\nr = Relu(x)\n"
        "t = BatchNormalization(r, s, b, m, v)%s\ny = Flatten(t)\noutput y\n";
    char zero[512], one[512];

    (void)state;
    snprintf(zero, sizeof zero, text, " spatial=0");
    snprintf(one, sizeof one, text, "");
    assert_same(import_warned(7, zero, "spatial=0 was ignored"), import_text(7, one), 0);
    refuse_image(7, "float s [2,4,4] 1\nt = BatchNormalization(x, s, s, s, s) spatial=0", "E1206",
                 "statistics for each position");
}

static void test_missing_statistics_are_called_so(void **state)
{
    (void)state;
    refuse_image(11, "float s [2]\nt = BatchNormalization(x, s, s, , )", "E1209",
                 "without running statistics (track_running_stats=False): input 3 is missing");
}

/* ---- what is said --------------------------------------------------------------------------- */

static void test_onnxruntimes_own_form_is_named(void **state)
{
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\nfloat w [2,2,1,1]\n"
                                             "c = FusedConv(x, w)\ny = Flatten(c)\noutput y\n");

    (void)state;
    onnx_make_node(mk, "c")->domain = onnx_make_text(mk, "com.microsoft");
    refuse_made(mk, "E1201", "optimised form that onnxruntime saves; give the model from before");
    onnx_make_node(mk, "c")->domain = onnx_make_text(mk, "my.own");
    refuse_made(mk, "E1201", "only standard ONNX operators");
    onnx_make_free(mk);
}

static void test_an_attribute_given_twice_is_refused(void **state)
{
    (void)state;
    refuse_image(13, "t = AveragePool(x) kernel_shape=[2,2] strides=[1,1] strides=[2,2]", "E1205",
                 "attribute 'strides' is given twice");
}

static void test_one_line_stands_for_many(void **state)
{
    struct onnx_make *mk = onnx_make_new(
        13, "input x [N,2,4,4]\na = Sigmoid(x)\nb = Sigmoid(a)\nc = Tanh(b)\nd = Sigmoid(c)\n"
            "y = Flatten(d)\noutput y\n");
    struct import_report r;
    struct graph *g = NULL;

    (void)state;
    onnx_make_pack(mk);
    assert_int_equal(onnx_import_bytes(mk->bytes, mk->len, -1, NULL, &r, &g), ERR_UNSUPPORTED);
    assert_int_equal(r.n_problem, 2);
    assert_int_equal(r.problem[0].more, 2);
    assert_non_null(strstr(r.problem[0].message, "'Sigmoid' (node 'a'"));
    assert_non_null(strstr(r.problem[0].message, ", and 2 more of this kind"));
    assert_int_equal(r.problem[1].more, 0);
    assert_non_null(strstr(err_message(), "(1 of 4 problems)"));
    import_report_release(&r);
    onnx_make_free(mk);
}

static void test_other_files_are_named(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *words;
    } files[] = {
        {"\x80\002\x8a\nl\xfc\x9c"
         "F",
         8, "Python pickle"},
        {"PK\003\004....", 8, "zip archive"},
        {"\x89HDF\r\n\x1a\n", 8, "HDF5 file"},
        {"\x1c\0\0\0TFL3", 8, "TensorFlow Lite model"},
        {"\n\xb7\xb5\x04\n\tlinnet.pi\x10\x01", 17, "plan of a private inference"},
        {"\x93NUMPY\x01", 7, "NumPy array"},
        {"\x1f\x8b\x08", 3, "gzip"},
    };

    (void)state;
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        struct graph *g = NULL;

        assert_true(onnx_import_bytes((const uint8_t *)files[k].bytes, files[k].len, -1, NULL, NULL,
                                      &g) < 0);
        if (strstr(err_message(), files[k].words) == NULL)
            fail_msg("wanted '%s', got %s", files[k].words, err_message());
    }
}

static void test_only_regular_files_are_read(void **state)
{
    struct graph *g = NULL;

    (void)state;
    assert_int_equal(onnx_import("/dev/zero", NULL, NULL, &g), ERR_IO);
    assert_non_null(strstr(err_message(), "not a regular file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whatever_is_a_relu_becomes_one),
        cmocka_unit_test(test_what_is_no_relu_is_refused),
        cmocka_unit_test(test_relu6_spellings),
        cmocka_unit_test(test_relu6_as_relu_is_asked_for),
        cmocka_unit_test(test_two_means_are_the_global_pool),
        cmocka_unit_test(test_one_mean_is_a_pool),
        cmocka_unit_test(test_an_output_of_rank_4_is_flattened),
        cmocka_unit_test(test_the_only_logits_of_several_outputs_are_taken),
        cmocka_unit_test(test_nodes_are_sorted),
        cmocka_unit_test(test_an_input_that_nobody_reads_is_left_out),
        cmocka_unit_test(test_bytes_are_pixels),
        cmocka_unit_test(test_swapped_channels_go_into_the_first_conv),
        cmocka_unit_test(test_swapped_channels_with_preprocessing),
        cmocka_unit_test(test_channels_of_the_input_for_others),
        cmocka_unit_test(test_spatial_0_with_statistics_of_channels),
        cmocka_unit_test(test_missing_statistics_are_called_so),
        cmocka_unit_test(test_onnxruntimes_own_form_is_named),
        cmocka_unit_test(test_an_attribute_given_twice_is_refused),
        cmocka_unit_test(test_one_line_stands_for_many),
        cmocka_unit_test(test_other_files_are_named),
        cmocka_unit_test(test_only_regular_files_are_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
