/*
 * Import: element types, external data, constants that the file computes.
 * Models are texts (onnx_make.h).
 */
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
        {"float a [2] 1.5 -1.5\nfloat b [2] 2 -2\nd = Max(a, b)\nc = Sum(d, a, b)",
         "[2]",
         {5.5f, -5}},
        {"float a [2,2] 1 2 3 4\nb = ReduceSum(a)\nd = ReduceMax(a) axes=[1]\nc = Mul(b, d)",
         "[2,1]",
         {20, 40}},
        {"float a [2,2] 1 2 3 6\nc = ReduceMean(a) axes=[0] keepdims=0", "[2]", {2, 4}},
        {"int a [2] 3 4\nb = ReduceProd(a) keepdims=0\ne = Constant() value={2}\nc = Pow(b, e)",
         "[1]",
         {144}},
        {"float a [1,2,2] 1 3 2 2\nfloat s [2] 1 2\nfloat o [2] 0 5\nfloat m [2] 1 0\n"
         "float q [2] 3 0\nc = BatchNormalization(a, s, o, m, q) epsilon=1.0",
         "[1,2,2]",
         {0, 1, 9, 9}},
        {"float a [1,2,2] 1 3 2 2\nfloat s [2] 1 2\nfloat o [2] 0 5\nfloat m [2] 9 9\n"
         "float q [2] 9 9\nc = BatchNormalization(a, s, o, m, q) epsilon=3.0 training_mode=1",
         "[1,2,2]",
         {-.5f, .5f, 5, 5}},
    };
    char text[1024];

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        /* flat, as many numbers as x has features (at most 6), through an Add */
        snprintf(
            text, sizeof text,
            "input img [N,6,1,1]\nx = Flatten(img)\n%s\nf = Cast(c) to=1\nneg = Constant() value={-1}\n"
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
        {"float a [1] 1\nc = Not(a)", "E1306", "not defined"},
        {"float a [1] 1\nc = Exp(a) alpha=2.0", "E1205", "unknown attribute"},
        {"float a [2,2]\nfloat s [1]\nc = BatchNormalization(a, s, s, s, s)", "E1306",
         "one number for each channel"},
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
        {"sh = Shape(x)\nc = ReduceSum(sh)", "E1304", "number of images"},
        {"sh = Shape(x)\nb = ConstantOfShape(sh)\nc = ReduceSum(b)", "E1304", "number of images"},
        {"sh = Shape(x)\nb = ConstantOfShape(sh)\nc = Concat(b, b) axis=0", "E1304", "of images"},
        {"sh = Shape(x)\nb = ConstantOfShape(sh)\nc = Slice(b) starts=[0] ends=[1]", "E1304",
         "number of images"},
        {"float a [1]\nsh = Shape(x)\nb = Expand(a, sh)\ns = Constant() value={6,1}\n"
         "c = Reshape(b, s)",
         "E1304", "number of images"},
        {"float a [1]\nsh = Shape(x)\nb = Expand(a, sh)\nc = Gemm(x, b) transB=1", "E1304",
         "number of images"},
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
