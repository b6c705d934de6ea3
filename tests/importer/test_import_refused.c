/*
 * Import: every refusal with its code and hint, and files that were made to hurt.
 * Models are texts (onnx_make.h).
 */
#include "core/base/file.h"
#include "core/op/op.h"
#include "importer/importer.h"
#include "tests/import_make.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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
        {"float lo [] 0\nfloat hi [] 4\nclip: t = Clip(x, lo, hi)", "E1203",
         "Clip to [0, 4] (node 'clip', opset 13): only Relu and ReLU6 can be masked. Hint: give"},
        {"float lo [] -1\nfloat hi [] 1\nt = Clip(x, lo, hi)", "E1203", "Clip to [-1, 1]"},
        {"float lo [] -1\nfloat hi [] 6\nt = Clip(x, lo, hi)", "E1203", "Clip to [-1, 6]"},
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
        {"t = Concat(x, x) axis=1", "E1206", "channels in another order"},
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
        {"r = Relu(x)\nint i [1] 0\nt = Gather(r, i) axis=1", "E1206", "no masked Relu"},
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
         "bias 'b' has 3 values for 2 output channels (node 't', opset 13). Hint: known export bug of onnxscript"},
        {"float w [2,2,3,3]\nt = Conv(w, w)", "E1207", "only activations"},
        {"t = Conv(x, x)", "E1207", "must be a constant"},
        {"t = Conv(x)", "E1209", "input 1 is missing"},
        {"t = Relu()", "E1209", "input 0 is missing"},
        {"int w [2,2,3,3] 1\nt = Conv(x, w)", "E1302", "holds integers"},
        {"float s [2]\nfloat v [2] 1 -1\nt = BatchNormalization(x, s, s, s, v)", "E1603",
         "variance 'v' is -1 at position 1"},
        {"float s [2,4,4] 1\nt = BatchNormalization(x, s, s, s, s) spatial=0", "E1206",
         "spatial=0"},
        {"float s [3] 1\nt = BatchNormalization(x, s, s, s, s)", "E1301", "(BatchNormalization)"},
        {"t = AveragePool(x)", "E1205", "'kernel_shape' is missing"},
        {"a, t = MaxPool(x) kernel_shape=[2,2]", "E1206", "output 1 of MaxPool is used"},
        {"f = Flatten(x)\nt = GlobalAveragePool(f)", "E1301", "needs [N,C,H,W]"},
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
        {"input x [N,4,1,1]\noutput x", "E1502", "the output is the input"},
        {"input img [N,4,1,1]\nx = Flatten(img)\nfloat y [2]\noutput y", "E1502", "is a constant"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)", "E1503", "no output"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(x)\nz = Relu(y)\noutput y\noutput z",
         "E1503",
         "2 outputs: 'y' of unknown shape, 'z' of unknown shape. Hint: choose one with --output"},
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
        {"input img [N,4,1,1]\nx = Flatten(img)\na = Add(x, b)\nb = Relu(a)\ny = Relu(b)\noutput y",
         "E1402", "'a' depends on the node that reads it (node 'b'"},
        {"input img [N,4,1,1]\nx = Flatten(img)\ny = Relu(y)\noutput y", "E1402",
         "'y' depends on the node that reads it"},
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
    static const char tensors[] = "\x02\0\0\0\0\0\0\0{\"a\":1}";
    static const struct {
        const char *bytes, *code, *words;
        size_t len; /* 0: a text */
    } cases[] = {
        {"", "E1001", "empty", 0},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "E1002",
         "Git LFS pointer, not the model. Hint: run 'git lfs pull'", 0},
        {"<!DOCTYPE html><html></html>", "E1003", "web page", 0},
        {"\n <html>", "E1003", "web page", 0},
        {"PK\003\004rest", "E1004", "zip archive", 0},
        {"\x18\x01\x01\x01ORTM....", "E1005", ".ort", 0},
        {tensors, "E1001", "safetensors file, not an ONNX model", sizeof tensors - 1},
        {"this is no model at all", "E1001",
         "Hint: the file is truncated, damaged or no ONNX model", 0},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct graph *g = NULL;
        struct import_report r;
        const size_t len = cases[k].len > 0 ? cases[k].len : strlen(cases[k].bytes);
        int rc = onnx_import_bytes((const uint8_t *)cases[k].bytes, len, -1, NULL, &r, &g);

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
    for (int k = 0; k < 300; k++) { /* each of a kind of its own */
        snprintf(line, sizeof line, "y%d = Unknown%d(x)", k, k);
        onnx_make_add(mk, line);
    }
    onnx_make_add(mk, "z0 = Relu(y0)");
    for (int k = 1; k < 300; k++) { /* all are needed */
        snprintf(line, sizeof line, "z%d = Add(z%d, y%d)", k, k - 1, k);
        onnx_make_add(mk, line);
    }
    mk->graph.output[0]->name = onnx_make_text(mk, "z299");
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
    assert_non_null(strstr(err_message(), "Hint: the outputs are 'p' of unknown shape, 'k' of"));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
