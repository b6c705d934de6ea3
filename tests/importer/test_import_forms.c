/*
 * What files of other programs look like: functions, channels last, several ways to say a ReLU of
 * whole channels, shapes left open. Models are texts (onnx_make.h).
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/op/op.h"
#include "exporter/exporter.h"
#include "importer/importer.h"
#include "tests/import_make.h"
#include "tests/scratch.h"

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

static int32_t count(const struct graph *g, const char *type)
{
    int32_t n = 0;

    for (int32_t k = 0; k < g->n_node; k++)
        n += strcmp(g->node[k].op->type, type) == 0;
    return n;
}

/* Logits of made-up images, in the graph's own order. */
static float *run(struct graph *g, const float *x, int64_t n)
{
    const int64_t k = shape_elems(&g->value[g->output].shape);
    float *y = malloc((size_t)(n * k) * sizeof *y);
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, n, 0, y), 0);
    exec_free(e);
    return y;
}

static float *images(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);

    for (int64_t i = 0; i < n; i++)
        x[i] = sinf((float)i * 1.7f) - 0.1f;
    return x;
}

static void assert_same_function(struct graph *a, struct graph *b, float tolerance)
{
    const int64_t size = shape_elems(&a->value[a->input].shape), n = 3;
    const int64_t k = shape_elems(&a->value[a->output].shape);
    float *x = images(n * size), *ya = run(a, x, n), *yb = run(b, x, n);

    for (int64_t i = 0; i < n * k; i++)
        if (!(fabsf(ya[i] - yb[i]) <= tolerance * (1 + fabsf(ya[i]))))
            fail_msg("logit %lld: %g and %g", (long long)i, (double)ya[i], (double)yb[i]);
    free(x);
    free(ya);
    free(yb);
}

/* ---- functions ------------------------------------------------------------------------------ */

/* The nodes of `text` as a function of the model `mk`. */
static void add_function(struct onnx_make *mk, const char *name, const char *in, const char *out,
                         struct onnx_make *body)
{
    Onnx__FunctionProto *f = onnx_make_alloc(mk, 1, sizeof *f);
    char **names = onnx_make_alloc(mk, 2, sizeof *names);
    Onnx__OperatorSetIdProto **set = onnx_make_alloc(mk, 1, sizeof *set);

    onnx__function_proto__init(f);
    if (mk->model.functions == NULL)
        mk->model.functions = onnx_make_alloc(mk, 32, sizeof *mk->model.functions);
    mk->model.functions[mk->model.n_functions++] = f;
    names[0] = onnx_make_text(mk, in), names[1] = onnx_make_text(mk, out);
    f->name = onnx_make_text(mk, name);
    f->domain = onnx_make_text(mk, "pkg.test");
    f->n_input = f->n_output = 1;
    f->input = names, f->output = names + 1;
    f->node = body->graph.node, f->n_node = body->graph.n_node;
    set[0] = &body->opset;
    f->opset_import = set, f->n_opset_import = 1;
}

static void call(struct onnx_make *mk, const char *node)
{
    onnx_make_node(mk, node)->domain = onnx_make_text(mk, "pkg.test");
}

static void test_functions_are_inlined(void **state)
{
    struct onnx_make *inner = onnx_make_new(13, "input p [N]\nr: q = Relu(p)\noutput q");
    struct onnx_make *outer =
        onnx_make_new(12, "input a [N]\nc: t = Act(a)\nf: b = Flatten(t) axis=7\noutput b");
    struct onnx_make *mk = onnx_make_new(
        18, "input x [N,2,4,4]\none: u = Act(x)\ntwo: v = Act(u)\nall: y = Block(v) first=1\n"
            "output y");
    struct graph *g;

    (void)state;
    call(outer, "c");
    call(mk, "one"), call(mk, "two"), call(mk, "all");
    onnx_make_node(outer, "f")->attribute[0]->ref_attr_name = onnx_make_text(outer, "first");
    add_function(mk, "Act", "p", "q", inner);
    add_function(mk, "Block", "a", "b", outer);
    g = import_made(mk);
    assert_int_equal(g->n_node, 4);
    assert_string_equal(g->node[0].name, "one/r");
    assert_string_equal(g->node[2].name, "all/c/r");
    assert_string_equal(g->value[g->node[1].out[0]].name, "v");
    assert_string_equal(g->value[g->node[2].out[0]].name, "y/t");
    assert_string_equal(g->value[g->output].name, "y");
    assert_int_equal(g->opset, 18);
    graph_free(g);
    onnx_make_free(mk);
    onnx_make_free(outer);
    onnx_make_free(inner);
}

static void refuse_functions(struct onnx_make *mk, const char *code, const char *words)
{
    struct graph *g = NULL;

    onnx_make_pack(mk);
    if (onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g) >= 0 ||
        strstr(err_message(), code) == NULL || strstr(err_message(), words) == NULL)
        fail_msg("wanted %s ... %s, got %s", code, words, err_message());
}

static void test_functions_that_never_end_are_refused(void **state)
{
    struct onnx_make *self = onnx_make_new(13, "input p [N]\nc: q = F(p)\noutput q");
    struct onnx_make *mk = onnx_make_new(13, "input x [N,2,4,4]\nc: y = F(x)\noutput y");
    char name[2] = "A";

    (void)state;
    call(self, "c"), call(mk, "c");
    add_function(mk, "F", "p", "q", self);
    refuse_functions(mk, "E1208", "more than 16 deep");
    onnx_make_free(mk);
    onnx_make_free(self);
    /* A calls B sixteen times, B calls C sixteen times, ... and the last one is empty. */
    struct onnx_make *body[10];
    mk = onnx_make_new(13, "input x [N,2,4,4]\nc: y = A(x)\noutput y");
    call(mk, "c");
    for (int k = 0; k < 10; k++) {
        char text[64];

        body[k] = onnx_make_new(13, "input p [N]");
        for (int i = 0; i < 16 && k < 9; i++) {
            snprintf(text, sizeof text, "c%d: q%d = %c(p)", i, i, 'B' + k);
            onnx_make_add(body[k], text);
            snprintf(text, sizeof text, "c%d", i);
            call(body[k], text);
        }
        name[0] = (char)('A' + k);
        add_function(mk, name, "p", "q0", body[k]);
    }
    refuse_functions(mk, "E1006", "too large when inlined");
    onnx_make_free(mk);
    for (int k = 0; k < 10; k++)
        onnx_make_free(body[k]);
}

/* ---- channels last -------------------------------------------------------------------------- */

#define LAYERS "float w [4,3,3,3]\nfloat b [4]\n"

static void test_channels_last_files_keep_their_input(void **state)
{
    static const char *const forms[] = {
        "t = Transpose(x) perm=[0,3,1,2]\nc = Conv(t, w, b)\nr = Relu(c)\n"
        "l = Transpose(r) perm=[0,2,3,1]\nq = Relu(l)\nm = ReduceMean(q) axes=[1,2] keepdims=0\n",
        "float s [1,1,1,3] 2 1 4\nfloat k [] 0.5\nd = Div(x, s)\ne = Sub(d, k)\n"
        "t = Transpose(e) perm=[0,3,1,2]\nc = Conv(t, w, b)\nr = Relu(c)\n"
        "m = ReduceMean(r) axes=[2,3] keepdims=0\n",
        "u = Pad(x) pads=[0,1,0,0,0,0,1,0]\nt = Transpose(u) perm=[0,3,1,2]\nc = Conv(t, w, b)\n"
        "r = Relu(c)\np = GlobalAveragePool(r)\nv = Transpose(p) perm=[0,2,3,1]\n"
        "m = Squeeze(v) axes=[1,2]\n",
    };
    char text[1024];

    (void)state;
    for (int k = 0; k < 3; k++) {
        snprintf(text, sizeof text,
                 "input x [N,5,6,3]\n" LAYERS "%sfloat f [2,4]\n"
                 "y = Gemm(m, f) transB=1\noutput y",
                 forms[k]);
        struct graph *g = import_text(10, text), *back = NULL;
        struct export_options opt = {.form = MASK_WHERE};
        uint8_t *a = NULL, *b = NULL;
        size_t na = 0, nb = 0;

        assert_true(g->channels_last);
        assert_int_equal(g->value[g->input].shape.dim[1], 3);
        assert_int_equal(g->value[g->input].shape.dim[3], 6);
        assert_int_equal(count(g, "Relu"), k == 0 ? 2 : 1);
        assert_int_equal(onnx_export_bytes(g, &opt, &a, &na), 0);
        assert_int_equal(onnx_import_bytes(a, na, -1, NULL, NULL, &back), 0);
        assert_true(back->channels_last);
        assert_string_equal(back->value[back->input].name, "x");
        assert_same_function(g, back, 0);
        assert_int_equal(onnx_export_bytes(back, &opt, &b, &nb), 0);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, na);
        mem_free(a);
        mem_free(b);
        graph_free(back);
        graph_free(g);
    }
}

/* Features flattened from [H,W,C] meet a weight in that order: the same as C,H,W and its weight. */
static void test_features_flattened_last_get_their_weights_in_order(void **state)
{
    static const char *const flat[] = {
        "int s [2] -1 8\nf = Reshape(l, s)\ny = Gemm(f, w)\n",
        "f = Flatten(l)\nm = MatMul(f, w)\nfloat b [3] 1 2 3\ny = Add(m, b)\n",
    };
    char text[512];

    (void)state;
    for (int k = 0; k < 2; k++) {
        snprintf(
            text, sizeof text,
            "input x [N,2,2,2]\nl = Transpose(x) perm=[0,2,3,1]\nfloat w [8,3] 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24\n%soutput y",
            flat[k]);
        struct graph *g = import_text(13, text);
        const float x[8] = {1, 2, 3, 4, 50, 60, 70, 80}; /* c, h, w */
        float *y = run(g, x, 1), want[3] = {0};
        const int from[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* h, w, c */

        for (int j = 0; j < 3; j++)
            for (int i = 0; i < 8; i++)
                want[j] += x[from[i]] * (float)(3 * i + j + 1);
        for (int j = 0; j < 3; j++)
            assert_float_equal(y[j], want[j] + (k == 1 ? (float)j + 1 : 0), 1e-3f);
        free(y);
        graph_free(g);
    }
}

static void test_layout_can_be_chosen_and_other_orders_are_refused(void **state)
{
    struct import_options last = {.layout = IMPORT_LAYOUT_NHWC};
    struct import_options first = {.layout = IMPORT_LAYOUT_NCHW};
    struct graph *g = import_with(13, &last,
                                  "input x [N,5,6,3]\nt = Relu(x)\n"
                                  "m = ReduceMean(t) axes=[1,2] keepdims=0\noutput m");

    (void)state;
    assert_true(g->channels_last);
    assert_int_equal(g->value[g->input].shape.dim[1], 3);
    graph_free(g);
    refuse_with(13, &first,
                "input x [N,5,6,3]\nt = Transpose(x) perm=[0,3,1,2]\ny = Flatten(t)\noutput y",
                "E1206", "only Transposes between [N,H,W,C] and [N,C,H,W]");
    refuse(13,
           "input x [N,3,5,6]\nt = Transpose(x) perm=[0,2,3,1]\nfloat w [2,6,1,1]\n"
           "c = Conv(t, w)\ny = Flatten(c)\noutput y",
           "E1206", "has its channels last, which Conv cannot take");
    refuse(13,
           "input x [N,3,3,3]\nt = Transpose(x) perm=[0,2,3,1]\na = Add(t, x)\n"
           "y = Flatten(a)\noutput y",
           "E1206", "channels in different places");
    refuse(13, "input x [N,3,3,3]\nt = Transpose(x) perm=[0,2,3,1]\ny = Flatten(t)\noutput y",
           "E1206", "channels last");
}

/* ---- shapes that the file leaves open ------------------------------------------------------- */

static void test_input_shape_fills_what_the_file_leaves_open(void **state)
{
    struct import_options opt = {
        .input = "x", .input_shape = shape_make(4, (int64_t)1, (int64_t)2, (int64_t)4, (int64_t)4)};
    const char *open_dims = "input x [N,2,H,W]\ny = Flatten(x)\noutput y";
    struct graph *g = import_with(13, &opt, open_dims);

    (void)state;
    assert_int_equal(g->value[g->output].shape.dim[1], 32);
    graph_free(g);
    refuse(13, open_dims, "E1303", "dimension 2 of input 'x' is not fixed");
    opt.input = "img";
    refuse_with(13, &opt, open_dims, "E1504", "the input is 'x'");
    opt.input = NULL;
    opt.input_shape.dim[1] = 3;
    refuse_with(13, &opt, open_dims, "E1303", "is 2 in the file");
}

/* ---- shortcuts without parameters ----------------------------------------------------------- */

#define STRIDED "float w [8,4,3,3]\nc = Conv(x, w) strides=[2,2] pads=[1,1,1,1]\n"
#define SUMMED "\na = Add(c, s)\nr = Relu(a)\ny = Flatten(r)\noutput y"

/* Made for as many images as there are, by what exporters write for zeros_like, new_zeros, zeros, full and
 * expand, and by arithmetic. q is [N,4,3,4]; z gets its zeros. */
static void test_zeros_of_any_batch(void)
{
#define SIZES                                                                                      \
    "sh = Shape(q)\nzero = Constant() value={=0}\nb = Gather(sh, zero) axis=0\n"                   \
    "ax = Constant() value={0}\nb1 = Unsqueeze(b, ax)\n"
    static const char *const zeros[] = {
        /* zeros_like; of another type; dynamo's, with Expand */
        "sh = Shape(q)\nz = ConstantOfShape(sh)",
        "sh = Shape(q)\nv = ConstantOfShape(sh) value={0}\nz = Cast(v) to=1",
        "sh = Shape(q) start=0\nv = Constant() value={=0}\nt = CastLike(v, q)\nz = Expand(t, sh)",
        /* new_zeros(N, 4, 3, 4), its other sizes from the value too */
        SIZES "k = Constant() value={4,3,4}\nsz = Concat(b1, k) axis=0\nz = ConstantOfShape(sz)",
        SIZES "one = Constant() value={=1}\nc0 = Gather(sh, one)\nc1 = Unsqueeze(c0, ax)\n"
              "hw = Slice(sh) starts=[2] ends=[4]\nsz = Concat(b1, c1, hw) axis=0\n"
              "v = ConstantOfShape(sz)\nz = Identity(v)",
        "b1 = Shape(q) start=0 end=1\nhw = Shape(q) start=1 end=4\nsz = Concat(b1, hw) axis=0\n"
        "float v [] 0\nz = Expand(v, sz)",
        /* zeros(1, 4, 3, 4).expand(N, -1, -1, -1) */
        SIZES
        "k = Constant() value={-1,-1,-1}\nsz = Concat(b1, k) axis=0\nrk = Constant() value={4}\n"
        "ones = ConstantOfShape(rk) value={1}\nn1 = Constant() value={=-1}\n"
        "m1 = Mul(ones, n1)\neq = Equal(sz, m1)\nw1 = Where(eq, ones, sz)\n"
        "float v [1,4,3,4] 0\nz = Expand(v, w1)",
        /* x - x; ones less ones; a part of x * 0 */
        "z = Sub(q, q)",
        "sh = Shape(q)\no = ConstantOfShape(sh) value=f{1}\nz = Sub(o, o)",
        "o = Constant() value_float=0\nf0 = Mul(x, o)\nz = Slice(f0, f, l, i, d)",
    };
    char text[2048];

    for (size_t k = 0; k < sizeof zeros / sizeof *zeros; k++)
        for (int front = 0; front < 2; front++) {
            const char *const head = "input x [N,4,6,7]\nfloat w [8,4,3,3]\n"
                                     "c = Conv(x, w) strides=[2,2] pads=[1,1,1,1]\n"
                                     "int f [2] 0\nint l [2] 6 7\nint i [2] 2 3\nint d [2] 2\n"
                                     "q = Slice(x, f, l, i, d)\n";
            snprintf(text, sizeof text, "%sint p [8] 0 %d 0 0 0 %d 0 0\ns = Pad(q, p)" SUMMED, head,
                     front ? 4 : 0, front ? 0 : 4);
            struct graph *plain = import_text(17, text);
            snprintf(text, sizeof text, "%s%s\ns = Concat(%s) axis=%d" SUMMED, head, zeros[k],
                     front ? "z, q" : "q, z", front ? 1 : -3);
            struct graph *g = import_text(17, text);
            assert_int_equal(count(g, "Pad"), 1);
            assert_int_equal(g->n_node, plain->n_node);
            assert_same_function(g, plain, 0);
            graph_free(g);
            graph_free(plain);
        }
}

static void test_shortcuts_with_zeros_are_one_form(void **state)
{
    static const char *const forms[] = {
        "p = AveragePool(x) kernel_shape=[1,1] strides=[2,2]\nfloat z [] 0\nm = Mul(p, z)\n"
        "s = Concat(p, m) axis=1",
        "p = MaxPool(x) kernel_shape=[1,1] strides=[2,2]\nfloat z [1,4,1,1] 0\nm = Mul(z, p)\n"
        "s = Concat(p, m) axis=-3",
        "p = AveragePool(x) kernel_shape=[1,1] strides=[2,2]\nfloat z [1,4,3,4] 0\n"
        "s = Concat(p, z) axis=1",
    };
    struct graph *g,
        *plain = import_text(13, "input x [1,4,6,7]\n" STRIDED
                                 "int f [2] 0\nint l [2] 6 7\nint i [2] 2 3\nint d [2] 2\n"
                                 "q = Slice(x, f, l, i, d)\nint p [8] 0 0 0 0 0 4 0 0\n"
                                 "s = Pad(q, p)" SUMMED);
    char text[1024];

    (void)state;
    for (int k = 0; k < 3; k++) {
        snprintf(text, sizeof text, "input x [1,4,6,7]\n" STRIDED "%s" SUMMED, forms[k]);
        g = import_text(13, text);
        assert_int_equal(g->n_node, plain->n_node);
        assert_int_equal(count(g, "Slice"), 1);
        assert_int_equal(count(g, "Pad"), 1);
        assert_same_function(g, plain, 0);
        graph_free(g);
    }
    graph_free(plain);
    test_zeros_of_any_batch();
    g = import_text(13, "input x [1,4,6,7]\nfloat z [1,2,6,7] 0\nc = Concat(z, x, z) axis=1\n"
                        "y = Flatten(c)\noutput y");
    assert_int_equal(g->node[0].p.pad.begin[1], 2);
    assert_int_equal(g->node[0].p.pad.end[1], 2);
    graph_free(g);
    refuse(13,
           "input x [N,4,6,7]\nfloat z [1,2,6,7] 0\nc = Concat(x, z) axis=1\ny = Flatten(c)\n"
           "output y",
           "E1203", "'Concat'");
    refuse(13,
           "input x [1,4,6,7]\nfloat z [1,2,6,7] 0 1\nc = Concat(x, z) axis=1\ny = Flatten(c)\n"
           "output y",
           "E1203", "'Concat'");
    refuse(13,
           "input x [1,4,6,7]\nfloat z [1,4,2,7] 0\nc = Concat(x, z) axis=2\ny = Flatten(c)\n"
           "output y",
           "E1203", "'Concat'");
}

/* ---- whole channels ------------------------------------------------------------------------- */

/* A residual block with a stem; masks of whole channels are put on by hand. */
#define BLOCK                                                                                      \
    "input x [N,3,6,6]\nfloat w1 [6,3,3,3]\nfloat b1 [6]\nc1: a = Conv(x, w1, b1) "                \
    "pads=[1,1,1,1]\n"                                                                             \
    "bool m1 [1,6,1,1] %s\nr1 = Relu(a)\nstem/Where: s = Where(m1, r1, a)\n"                       \
    "float w2 [6,6,3,3]\nc2: d = Conv(s, w2) pads=[1,1,1,1]\nbool m2 [1,6,1,1] 0 1 0 1 1 0\n"      \
    "r2 = Relu(d)\nmid/Where: e = Where(m2, r2, d)\nfloat w3 [6,6,1,1]\nc3: f = Conv(e, w3)\n"     \
    "add: h = Add(f, s)\nbool m3 [1,6,1,1] 1 0 0 0 0 1\nr3 = Relu(h)\n"                            \
    "last/Where: i = Where(m3, r3, h)\np = GlobalAveragePool(i)\nq = Flatten(p)\n"                 \
    "float w4 [5,6]\nfc1: u = Gemm(q, w4) transB=1\nbool m5 [1,5] 0 1 0 0 1\nr5 = Relu(u)\n"       \
    "fc/Where: v = Where(m5, r5, u)\nfloat w6 [4,5]\nfloat b6 [4]\nfc2: y = Gemm(v, w6, b6) "      \
    "transB=1\noutput y"

static int64_t kept(const struct graph *g, const char *site)
{
    const int32_t n = graph_find_node(g, site);
    int64_t k = 0;

    assert_in_range(n, 0, g->n_node - 1);
    assert_string_equal(g->node[n].op->type, "MaskedRelu");
    const struct value *m = op_in(g, &g->node[n], 1);
    for (int64_t i = 0; i < shape_elems(&m->shape); i++)
        k += m->data[i] > 0;
    return k;
}

static void test_channel_form_comes_back(void **state)
{
    /* the stem's ReLU is read by an Add too: sorted already, or selected */
    static const char *const stems[] = {"1 1 0 0 0 0", "0 1 0 1 1 0"};
    struct export_options opt = {.form = MASK_CHANNEL};
    char text[2048];

    (void)state;
    for (int k = 0; k < 2; k++) {
        snprintf(text, sizeof text, BLOCK, stems[k]);
        struct graph *g = import_text(13, text), *back = NULL;
        uint8_t *a = NULL, *b = NULL;
        size_t na = 0, nb = 0;

        assert_int_equal(count(g, "MaskedRelu"), 4);
        assert_int_equal(onnx_export_bytes(g, &opt, &a, &na), 0);
        if (onnx_import_bytes(a, na, -1, NULL, NULL, &back) < 0)
            fail_msg("%s", err_message());
        assert_int_equal(count(back, "MaskedRelu"), 4);
        assert_int_equal(back->n_node, g->n_node);
        assert_int_equal(kept(back, "stem"), k == 0 ? 72 : 108);
        assert_int_equal(kept(back, "mid"), 108);
        assert_int_equal(kept(back, "last"), 72);
        assert_int_equal(kept(back, "fc"), 2);
        assert_true(graph_find_node(back, "c2") >= 0 && graph_find_node(back, "fc1") >= 0);
        assert_same_function(g, back, 1e-5f);
        assert_int_equal(onnx_export_bytes(back, &opt, &b, &nb), 0);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, na);
        mem_free(a);
        mem_free(b);
        graph_free(back);
        graph_free(g);
    }
}

static void test_concat_that_is_no_masked_relu_is_refused(void **state)
{
    (void)state;
    refuse(13,
           "input x [N,2,4,4]\nfloat w [2,2,1,1]\nc = Conv(x, w)\nr = Relu(x)\n"
           "t = Concat(c, r) axis=1\ny = Flatten(t)\noutput y",
           "E1203", "Concat");
    refuse(13,
           "input x [N,2,4,4]\nfloat w [2,2,1,1]\nc = Conv(x, w)\nd = Conv(c, w)\n"
           "t = Concat(c, d) axis=1\ny = Flatten(t)\noutput y",
           "E1203", "Concat");
    refuse(13,
           "input x [N,2,4,4]\nfloat w [2,2,1,1]\nc = Conv(x, w)\nd = Conv(x, w)\n"
           "t = Concat(c, d) axis=2\ny = Flatten(t)\noutput y",
           "E1203", "Concat");
}

/* ---- external data -------------------------------------------------------------------------- */

static void test_large_tensors_go_into_a_second_file(void **state)
{
    struct graph *g = import_text(13, "input x [N,3,8,8]\nfloat w [9,3,5,5]\nc = Conv(x, w)\n"
                                      "f = Flatten(c)\nfloat v [10,144]\nfloat b [10]\n"
                                      "y = Gemm(f, v, b) transB=1\noutput y");
    char dir[SCRATCH_TEXT], one[SCRATCH_TEXT], two[SCRATCH_TEXT], data[SCRATCH_TEXT + 8];

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "one.onnx", one);
    scratch_path(dir, "two.onnx", two);
    snprintf(data, sizeof data, "%s.data", two);
    for (int k = 0; k < 2; k++) {
        struct export_options opt = {.external_data = k == 0, .max_file = k == 1 ? 3000 : 0};
        struct import_report r = {0};
        struct graph *back = NULL;

        assert_int_equal(onnx_export(g, &opt, two), 0);
        assert_int_equal(access(data, F_OK), 0);
        assert_int_equal(onnx_import(two, NULL, &r, &back), 0);
        assert_true(r.has_external);
        assert_same_function(g, back, 0);
        import_report_release(&r);
        graph_free(back);
        assert_int_equal(unlink(data), 0);
        back = NULL;
        assert_true(onnx_import(two, NULL, NULL, &back) < 0);
        assert_non_null(strstr(err_message(), "two.onnx.data"));
    }
    struct export_options plain = {0};
    assert_int_equal(onnx_export(g, &plain, one), 0);
    snprintf(data, sizeof data, "%s.data", one);
    assert_int_not_equal(access(data, F_OK), 0);
    scratch_close(dir);
    graph_free(g);
}

/* ---- tails ---------------------------------------------------------------------------------- */

static void test_tail_is_written_again_or_left_out(void **state)
{
    static const char *const types[] = {"Softmax", "LogSoftmax"};
    char text[256];

    (void)state;
    for (int k = 0; k < 2; k++) {
        snprintf(text, sizeof text, "input x [N,2,1,1]\nl = Flatten(x)\nend: p = %s(l)\noutput p",
                 types[k]);
        struct graph *g = import_text(13, text), *back = NULL;
        struct export_options opt = {0};
        uint8_t *a = NULL;
        size_t n = 0;

        for (int strip = 0; strip < 2; strip++) {
            opt.strip_softmax = strip == 1;
            assert_int_equal(onnx_export_bytes(g, &opt, &a, &n), 0);
            assert_int_equal(onnx_import_bytes(a, n, -1, NULL, NULL, &back), 0);
            assert_int_equal(back->tail, strip ? TAIL_NONE : k ? TAIL_LOG_SOFTMAX : TAIL_SOFTMAX);
            assert_string_equal(strip ? "l" : back->tail_output,
                                strip ? back->value[back->output].name : "p");
            mem_free(a);
            graph_free(back);
            a = NULL, back = NULL;
        }
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_functions_are_inlined),
        cmocka_unit_test(test_functions_that_never_end_are_refused),
        cmocka_unit_test(test_channels_last_files_keep_their_input),
        cmocka_unit_test(test_shortcuts_with_zeros_are_one_form),
        cmocka_unit_test(test_features_flattened_last_get_their_weights_in_order),
        cmocka_unit_test(test_layout_can_be_chosen_and_other_orders_are_refused),
        cmocka_unit_test(test_input_shape_fills_what_the_file_leaves_open),
        cmocka_unit_test(test_channel_form_comes_back),
        cmocka_unit_test(test_concat_that_is_no_masked_relu_is_refused),
        cmocka_unit_test(test_large_tensors_go_into_a_second_file),
        cmocka_unit_test(test_tail_is_written_again_or_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
