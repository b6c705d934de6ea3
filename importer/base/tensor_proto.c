/*
 * TensorProto -> numbers. Floating types become float32, integers and bool become int64, whatever
 * the file uses; the numbers are little-endian bytes (raw_data or another file) or the typed array
 * that belongs to the type. Exactly one of the three, with exactly as many elements as dims say.
 *
 *     float16   s eeeee mmmmmmmmmm         bfloat16   the upper half of a float32
 *
 * Both sit in the low halves of int32_data when they are not raw. What float32 cannot hold of a
 * double is rounded; a finite double beyond its range becomes infinite, which is refused later
 * where it is a weight.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "core/base/buf.h"
#include "core/base/file.h"
#include "importer/base/import.h"

#define PROMISE_FREE ((size_t)1 << 20) /* bytes that a tensor may promise without a look */

struct element_type { /* how an element type is stored */
    int32_t type;
    const char *name;
    size_t bytes; /* of one raw element; 0: linnet does not read this type */
    bool is_float, is_signed;
    enum { IN_FLOAT, IN_INT32, IN_INT64, IN_DOUBLE, IN_UINT64 } array;
};
#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x
static const struct element_type element_types[] = {
    {T(FLOAT), "float", 4, true, true, IN_FLOAT},
    {T(FLOAT16), "float16", 2, true, true, IN_INT32},
    {T(BFLOAT16), "bfloat16", 2, true, true, IN_INT32},
    {T(DOUBLE), "double", 8, true, true, IN_DOUBLE},
    {T(INT8), "int8", 1, false, true, IN_INT32},
    {T(INT16), "int16", 2, false, true, IN_INT32},
    {T(INT32), "int32", 4, false, true, IN_INT32},
    {T(INT64), "int64", 8, false, true, IN_INT64},
    {T(UINT8), "uint8", 1, false, false, IN_INT32},
    {T(UINT16), "uint16", 2, false, false, IN_INT32},
    {T(UINT32), "uint32", 4, false, false, IN_UINT64},
    {T(UINT64), "uint64", 8, false, false, IN_UINT64},
    {T(BOOL), "bool", 1, false, false, IN_INT32},
    {T(STRING), "string", 0, false, false, IN_INT32},
    {T(COMPLEX64), "complex64", 0, false, false, IN_INT32},
    {T(COMPLEX128), "complex128", 0, false, false, IN_INT32},
    {T(FLOAT8E4M3FN), "float8e4m3fn", 0, false, false, IN_INT32},
    {T(FLOAT8E4M3FNUZ), "float8e4m3fnuz", 0, false, false, IN_INT32},
    {T(FLOAT8E5M2), "float8e5m2", 0, false, false, IN_INT32},
    {T(FLOAT8E5M2FNUZ), "float8e5m2fnuz", 0, false, false, IN_INT32},
    {T(FLOAT8E8M0), "float8e8m0", 0, false, false, IN_INT32},
    {T(UINT4), "uint4", 0, false, false, IN_INT32},
    {T(INT4), "int4", 0, false, false, IN_INT32},
    {T(UINT2), "uint2", 0, false, false, IN_INT32},
    {T(INT2), "int2", 0, false, false, IN_INT32},
    {T(FLOAT4E2M1), "float4e2m1", 0, false, false, IN_INT32},
    {T(FLOAT6E2M3), "float6e2m3", 0, false, false, IN_INT32},
    {T(FLOAT6E3M2), "float6e3m2", 0, false, false, IN_INT32},
};

static const struct element_type *element_type(int32_t type)
{
    for (size_t k = 0; k < sizeof element_types / sizeof *element_types; k++)
        if (element_types[k].type == type)
            return &element_types[k];
    return NULL;
}

bool constant_is_float(const struct constant *c)
{
    const struct element_type *e = element_type(c->type);

    return e != NULL && e->is_float;
}

/* Product of dims >= 0, at most SHAPE_MAX_COUNT; -1 if it is not. */
static int64_t count_elements(const struct shape *s)
{
    int64_t n = 1;

    for (int32_t k = 0; k < s->rank; k++)
        if (s->dim[k] < 0 || s->dim[k] > SHAPE_MAX_COUNT ||
            __builtin_mul_overflow(n, s->dim[k], &n) || n > SHAPE_MAX_COUNT)
            return -1;
    return n;
}

int constant_room(struct import *im, int64_t bytes)
{
    if (bytes >= 0 && bytes <= im->room) {
        im->room -= bytes;
        return 0;
    }
    return report_problem(
        im, "E1006", "",
        "the nodes make far more numbers than the file holds; no more room for %lld bytes %s",
        (long long)bytes, im->at);
}

/* Memory for the numbers of c. */
static int new_numbers(struct import *im, struct constant *c)
{
    if (constant_is_float(c))
        c->f = arena_array(im->arena, (size_t)c->count, sizeof *c->f);
    else
        c->i = arena_array(im->arena, (size_t)c->count, sizeof *c->i);
    return c->f == NULL && c->i == NULL ? ERR_NOMEM : 0;
}

int constant_new(struct import *im, int32_t type, const struct shape *shape, struct constant **out)
{
    struct constant *c = arena_array(im->arena, 1, sizeof *c);
    char text[SHAPE_TEXT];

    if (c == NULL)
        return ERR_NOMEM;
    c->name = "";
    c->type = type;
    c->shape = *shape;
    c->count = count_elements(shape);
    if (c->count < 0)
        return report_problem(im, "E1006", "", "a computed constant is too large, shape %s %s",
                              shape_text(shape, text), im->at);
    TRY(constant_room(im,
                      c->count * (int64_t)(constant_is_float(c) ? sizeof *c->f : sizeof *c->i)));
    *out = c;
    return new_numbers(im, c);
}

int constant_of_proto(struct import *im, const Onnx__TensorProto *t, const char *name,
                      struct constant **out)
{
    const struct element_type *e = element_type(t->data_type);
    struct constant *c;

    if (e == NULL)
        return report_problem(im, "E1302", "", "tensor '%s' has the unknown element type %d", name,
                              (int)t->data_type);
    if (e->bytes == 0)
        return report_problem(im, "E1302", "give the float32 model it was made from",
                              "tensor '%s' holds %s numbers, which linnet does not read", name,
                              e->name);
    if (t->segment != NULL)
        return report_problem(im, "E1302", "", "tensor '%s' is a segment of a larger one", name);
    if (t->n_dims > SHAPE_MAX_RANK)
        return report_problem(im, "E1303", "", "tensor '%s' has rank %zu, at most %d", name,
                              t->n_dims, SHAPE_MAX_RANK);
    if ((c = arena_array(im->arena, 1, sizeof *c)) == NULL)
        return ERR_NOMEM;
    c->name = name;
    c->type = t->data_type;
    c->shape.rank = (int32_t)t->n_dims;
    for (int32_t k = 0; k < c->shape.rank; k++)
        c->shape.dim[k] = t->dims[k];
    c->count = count_elements(&c->shape);
    if (c->count < 0)
        return report_problem(im, "E1303", "", "tensor '%s' has a negative or too large dimension",
                              name);
    c->unread = t;
    *out = c;
    return 0;
}

/* ---- reading numbers ------------------------------------------------------------------------ */

static float bits_to_float(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static float double_to_float(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof d);
    return (float)d;
}

static float bits_as_float(const struct element_type *e, uint64_t bits)
{
    switch (e->type) {
    case T(FLOAT16):
        return buf_half((uint16_t)bits);
    case T(BFLOAT16):
        return bits_to_float((uint32_t)bits << 16);
    case T(DOUBLE):
        return double_to_float(bits);
    default:
        return bits_to_float((uint32_t)bits);
    }
}

/* Two's complement of the type's width. A uint64 beyond int64 turns negative: no index or shape is
 * that large, and masks are bool. */
static int64_t bits_as_int(const struct element_type *e, uint64_t bits)
{
    const unsigned unused = (unsigned)(64 - 8 * e->bytes);

    if (e->type == T(BOOL))
        return bits != 0;
    if (!e->is_signed)
        return (int64_t)bits;
    return (int64_t)(bits << unused) >> unused;
}

static void store(struct constant *c, const struct element_type *e, int64_t k, uint64_t bits)
{
    if (e->is_float)
        c->f[k] = bits_as_float(e, bits);
    else
        c->i[k] = bits_as_int(e, bits);
}

static void read_raw(struct constant *c, const struct element_type *e, const uint8_t *raw)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (e->type == T(FLOAT)) {
        if (c->count > 0)
            memcpy(c->f, raw, (size_t)c->count * sizeof *c->f);
        return;
    }
#endif
    for (int64_t k = 0; k < c->count; k++)
        store(c, e, k, buf_number(raw + (size_t)k * e->bytes, e->bytes));
}

/* Elements in the typed array of e, and the total of all five arrays. */
static size_t typed_count(const Onnx__TensorProto *t, const struct element_type *e, size_t *total)
{
    const size_t n[] = {[IN_FLOAT] = t->n_float_data,
                        [IN_INT32] = t->n_int32_data,
                        [IN_INT64] = t->n_int64_data,
                        [IN_DOUBLE] = t->n_double_data,
                        [IN_UINT64] = t->n_uint64_data};

    *total = t->n_string_data;
    for (size_t k = 0; k < sizeof n / sizeof *n; k++)
        *total += n[k];
    return n[e->array];
}

static void read_typed(struct constant *c, const struct element_type *e, const Onnx__TensorProto *t)
{
    for (int64_t k = 0; k < c->count; k++) {
        switch (e->array) {
        case IN_FLOAT:
            c->f[k] = t->float_data[k];
            break;
        case IN_DOUBLE:
            c->f[k] = (float)t->double_data[k];
            break;
        case IN_INT32:
            store(c, e, k, (uint64_t)(int64_t)t->int32_data[k]);
            break;
        case IN_INT64:
            c->i[k] = t->int64_data[k];
            break;
        case IN_UINT64:
            store(c, e, k, t->uint64_data[k]);
            break;
        }
    }
}

static int wrong_count(struct import *im, const struct constant *c, const char *where,
                       long long have, long long want)
{
    return report_problem(im, "E1305", "", "tensor '%s' has %lld %s, its dims say %lld", c->name,
                          have, where, want);
}

static int read_external(struct import *im, struct constant *c, const struct element_type *e)
{
    SCOPED(file_map_close) struct file_map map = {0};
    const uint8_t *raw = NULL;

    TRY(external_map(im, c->unread, (size_t)c->count * e->bytes, &map, &raw));
    im->room += IMPORT_ROOM_FACTOR * (int64_t)e->bytes * c->count;
    if (c->count > 0)
        read_raw(c, e, raw);
    return 0;
}

static int read_numbers(struct import *im, struct constant *c, const struct element_type *e)
{
    const Onnx__TensorProto *t = c->unread;
    size_t total, n = typed_count(t, e, &total), want = (size_t)c->count * e->bytes;

    if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        if (total != 0 || t->raw_data.len != 0)
            return report_problem(
                im, "E1305", "", "tensor '%s' has numbers inside and outside of the file", c->name);
        return read_external(im, c, e);
    }
    if (t->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT)
        return report_problem(im, "E1305", "", "tensor '%s' has the unknown data location %d",
                              c->name, (int)t->data_location);
    if (t->raw_data.len != 0 || total == 0) {
        if (total != 0)
            return report_problem(im, "E1305", "", "tensor '%s' has its numbers twice", c->name);
        if (t->raw_data.len != want)
            return wrong_count(im, c, "bytes", (long long)t->raw_data.len, (long long)want);
        read_raw(c, e, t->raw_data.data);
        return 0;
    }
    if (total != n || n != (size_t)c->count)
        return wrong_count(im, c, "elements of its type", (long long)n, (long long)c->count);
    read_typed(c, e, t);
    return 0;
}

/* Cheap refusals before memory is asked for: dims may promise far more than there is. */
static int check_promise(struct import *im, const struct constant *c, const struct element_type *e)
{
    size_t total, n = typed_count(c->unread, e, &total), want = (size_t)c->count * e->bytes;
    SCOPED(file_map_close) struct file_map map = {0};
    const uint8_t *raw;

    if (c->unread->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL &&
        want > PROMISE_FREE)
        return external_map(im, c->unread, want, &map, &raw);
    n += c->unread->raw_data.len / e->bytes;
    if (c->unread->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT &&
        n < (size_t)c->count)
        return wrong_count(im, c, "elements", (long long)n, (long long)c->count);
    return 0;
}

static void count_conversion(struct import *im, const struct element_type *e)
{
    im->n_half += e->is_float && e->bytes == 2;
    im->n_double += e->type == T(DOUBLE);
}

int constant_check(struct import *im, const struct constant *c)
{
    return c->unread != NULL ? check_promise(im, c, element_type(c->type)) : 0;
}

int constant_copy(struct import *im, const struct constant *c, float *to)
{
    const struct element_type *e = element_type(c->type);
    struct constant direct = *c;

    if (c->unread == NULL) {
        memcpy(to, c->f, (size_t)c->count * sizeof *to);
        return 0;
    }
    direct.f = to;
    TRY(read_numbers(im, &direct, e));
    count_conversion(im, e);
    return 0;
}

int constant_read(struct import *im, struct constant *c)
{
    const struct element_type *e = element_type(c->type);

    if (c->unread == NULL)
        return 0;
    TRY(check_promise(im, c, e));
    TRY(new_numbers(im, c));
    TRY(read_numbers(im, c, e));
    c->unread = NULL;
    count_conversion(im, e);
    return 0;
}

int64_t constant_stored(const struct import *im, const struct constant *c)
{
    const struct element_type *e = element_type(c->type);
    size_t total, n;

    if (c->unread == NULL || !e->is_float)
        return 0;
    if (c->unread->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        n = external_size(im, c->unread) / e->bytes;
    else
        n = typed_count(c->unread, e, &total) + c->unread->raw_data.len / e->bytes;
    return n < (size_t)c->count ? 0 : c->count;
}
