/* Reading ONNX's conformance cases; see node_case.h. */
#include "tests/node_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#include <cmocka.h>

#define PATH_BYTES 1024

/* What counts: the operators of importer/ONNX.md that the importer has. */
static const char *const operators[] = {
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "Cos",
    "Cosh",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Selu",
    "Shape",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Size",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Xor",
};

static bool is_operator(const char *type)
{
    for (size_t k = 0; k < sizeof operators / sizeof *operators; k++)
        if (strcmp(operators[k], type) == 0)
            return true;
    return false;
}

static bool read_bytes(const struct node_case *c, const char *file, uint8_t **bytes, size_t *len)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof path, "%s/%s/%s", c->folder, c->name, file);
    return file_read(path, (size_t)64 << 20, bytes, len) == 0;
}

static Onnx__TensorProto *read_tensor(const struct node_case *c, const char *what, size_t k)
{
    Onnx__TensorProto *t;
    char file[64];
    uint8_t *bytes;
    size_t len;

    snprintf(file, sizeof file, "test_data_set_0/%s_%zu.pb", what, k);
    if (!read_bytes(c, file, &bytes, &len))
        return NULL;
    t = onnx__tensor_proto__unpack(NULL, len, bytes);
    mem_free(bytes);
    return t;
}

static float half(uint16_t h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    const double v = e == 0    ? ldexp(m, -24)
                     : e == 31 ? (m ? NAN : INFINITY)
                               : ldexp(1024 + m, e - 25);

    return (float)(h & 0x8000 ? -v : v);
}

static double raw_number(const uint8_t *p, int32_t type, size_t k)
{
    union {
        float f;
        double d;
        int64_t i64;
        int32_t i32;
        int16_t i16;
        uint16_t u16;
        uint32_t u32;
    } u;

    switch (type) {
    case TYPE(FLOAT):
        memcpy(&u.f, p + 4 * k, 4);
        return (double)u.f;
    case TYPE(DOUBLE):
        memcpy(&u.d, p + 8 * k, 8);
        return u.d;
    case TYPE(INT64):
        memcpy(&u.i64, p + 8 * k, 8);
        return (double)u.i64;
    case TYPE(UINT64):
        memcpy(&u.i64, p + 8 * k, 8);
        return (double)(uint64_t)u.i64;
    case TYPE(INT32):
        memcpy(&u.i32, p + 4 * k, 4);
        return u.i32;
    case TYPE(UINT32):
        memcpy(&u.u32, p + 4 * k, 4);
        return u.u32;
    case TYPE(INT16):
        memcpy(&u.i16, p + 2 * k, 2);
        return u.i16;
    case TYPE(UINT16):
        memcpy(&u.u16, p + 2 * k, 2);
        return u.u16;
    case TYPE(FLOAT16):
        memcpy(&u.u16, p + 2 * k, 2);
        return (double)half(u.u16);
    case TYPE(BFLOAT16):
        memcpy(&u.u16, p + 2 * k, 2);
        u.u32 = (uint32_t)u.u16 << 16;
        return (double)u.f;
    case TYPE(INT8):
        return (int8_t)p[k];
    default:
        return p[k];
    }
}

size_t numbers_type_bytes(int32_t type)
{
    switch (type) {
    case TYPE(DOUBLE):
    case TYPE(INT64):
    case TYPE(UINT64):
        return 8;
    case TYPE(FLOAT):
    case TYPE(INT32):
    case TYPE(UINT32):
        return 4;
    case TYPE(FLOAT16):
    case TYPE(BFLOAT16):
    case TYPE(INT16):
    case TYPE(UINT16):
        return 2;
    case TYPE(INT8):
    case TYPE(UINT8):
    case TYPE(BOOL):
        return 1;
    default:
        return 0;
    }
}

static double typed_number(const Onnx__TensorProto *t, size_t k)
{
    switch (t->data_type) {
    case TYPE(FLOAT):
        return (double)t->float_data[k];
    case TYPE(DOUBLE):
        return t->double_data[k];
    case TYPE(INT64):
        return (double)t->int64_data[k];
    case TYPE(UINT32):
    case TYPE(UINT64):
        return (double)t->uint64_data[k];
    case TYPE(FLOAT16):
        return (double)half((uint16_t)t->int32_data[k]);
    default:
        return t->int32_data[k];
    }
}

bool numbers_read(const Onnx__TensorProto *t, struct numbers *n)
{
    memset(n, 0, sizeof *n);
    if (numbers_type_bytes(t->data_type) == 0 || t->n_dims > 8)
        return false;
    n->count = 1;
    n->rank = t->n_dims;
    for (size_t k = 0; k < t->n_dims; k++)
        n->count *= (size_t)(n->dim[k] = t->dims[k]);
    if (n->count > MAX_ELEMS)
        return false;
    n->v = mem_array(n->count + 1, sizeof *n->v);
    assert_non_null(n->v);
    for (size_t k = 0; k < n->count; k++)
        n->v[k] = t->raw_data.len > 0 ? raw_number(t->raw_data.data, t->data_type, k)
                                      : typed_number(t, k);
    return true;
}

void node_case_release(struct node_case *c)
{
    for (size_t k = 0; k < c->n_in; k++)
        onnx__tensor_proto__free_unpacked(c->in[k], NULL);
    for (size_t k = 0; k < c->n_out; k++)
        onnx__tensor_proto__free_unpacked(c->out[k], NULL);
    if (c->model != NULL)
        onnx__model_proto__free_unpacked(c->model, NULL);
}

/* Older releases keep bfloat16 as uint16 in the files beside the model. */
static Onnx__TensorProto *with_type(Onnx__TensorProto *t, const Onnx__ValueInfoProto *v)
{
    const bool is_tensor = v->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;

    if (t != NULL && is_tensor && t->data_type == TYPE(UINT16))
        t->data_type = v->type->tensor_type->elem_type;
    return t;
}

static bool is_about_linnet(const Onnx__GraphProto *g)
{
    for (size_t k = 0; k < g->n_input; k++)
        if (g->input[k]->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
            return false;
    for (size_t k = 0; k < g->n_node; k++)
        if (!is_operator(g->node[k]->op_type) || strlen(g->node[k]->domain) > 0)
            return false;
    return g->n_input <= MAX_IN && g->n_output <= MAX_OUT;
}

bool node_case_read(struct node_case *c)
{
    uint8_t *bytes;
    size_t len;

    if (!read_bytes(c, "model.onnx", &bytes, &len))
        return false;
    c->model = onnx__model_proto__unpack(NULL, len, bytes);
    mem_free(bytes);
    if (c->model == NULL || !is_about_linnet(c->model->graph))
        return false;
    const Onnx__GraphProto *g = c->model->graph;
    for (; c->n_in < g->n_input; c->n_in++)
        if ((c->in[c->n_in] = with_type(read_tensor(c, "input", c->n_in), g->input[c->n_in])) ==
            NULL)
            return false;
    for (; c->n_out < g->n_output; c->n_out++)
        if ((c->out[c->n_out] =
                 with_type(read_tensor(c, "output", c->n_out), g->output[c->n_out])) == NULL)
            return false;
    return true;
}
