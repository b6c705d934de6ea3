/* Constants out of nothing but attributes and shapes: Constant, ConstantOfShape, Shape, Size, Range. */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

static int scalar(struct import *im, int32_t type, struct constant **c)
{
    return constant_new(im, type, &(struct shape){0}, c);
}

/* The one attribute of a Constant node. */
int fold_constant(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;
    const Onnx__AttributeProto *a = p->n_attribute == 1 ? p->attribute[0] : NULL;
    struct constant *c;

    if (a == NULL)
        return report_wrong(im, "needs exactly one attribute");
    if (strcmp(a->name, "value") == 0 && a->t != NULL) {
        TRY(constant_of_proto(im, a->t, im->call->out->name, &c));
    } else if (strcmp(a->name, "value_float") == 0) {
        TRY(scalar(im, T(FLOAT), &c));
        c->f[0] = a->f;
    } else if (strcmp(a->name, "value_int") == 0) {
        TRY(scalar(im, T(INT64), &c));
        c->i[0] = a->i;
    } else if (strcmp(a->name, "value_floats") == 0) {
        struct shape s = {.rank = 1, .dim = {(int64_t)a->n_floats}};

        TRY(constant_new(im, T(FLOAT), &s, &c));
        for (size_t k = 0; k < a->n_floats; k++)
            c->f[k] = a->floats[k];
    } else if (strcmp(a->name, "value_ints") == 0) {
        struct shape s = {.rank = 1, .dim = {(int64_t)a->n_ints}};

        TRY(constant_new(im, T(INT64), &s, &c));
        for (size_t k = 0; k < a->n_ints; k++)
            c->i[k] = a->ints[k];
    } else {
        return report_wrong(im, "only dense numbers are supported");
    }
    return fold_finish(im, c);
}

int fold_constant_of_shape(struct import *im)
{
    const Onnx__AttributeProto *a = attrs_find(im->call, "value");
    struct shape s = {0};
    struct constant *v = NULL, *c;
    bool images;

    TRY(fold_read_dims(im, 0, &s, &images));
    if (a != NULL && a->t != NULL) {
        TRY(constant_of_proto(im, a->t, "value", &v));
        TRY(constant_read(im, v));
        if (v->count != 1)
            return report_wrong(im, "the value must have one element");
    }
    TRY(constant_new(im, v != NULL ? v->type : T(FLOAT), &s, &c));
    for (int64_t k = 0; v != NULL && k < c->count; k++)
        TRY(fold_copy_element(im, c, k, v, 0));
    c->images = images;
    return fold_finish(im, c);
}

/* Shape of anything; the batch of an activation stays unknown. */
int fold_shape(struct import *im)
{
    struct entry *e = im->call->in[0];
    struct shape s;
    struct constant *c;
    int64_t start, end;
    value_id v;

    if (e->kind == ENTRY_CONSTANT) {
        s = e->constant->shape;
        s.dim[0] = e->constant->images ? SHAPE_BATCH : s.dim[0];
    } else {
        enum entry_order order;

        TRY(operand_act_any(im, 0, &v, &order));
        s = file_shape(im, v, order);
    }
    TRY(attrs_int(im, "start", 0, &start));
    TRY(attrs_int(im, "end", s.rank, &end));
    start = start < 0 ? start + s.rank : start;
    end = end < 0 ? end + s.rank : end;
    start = start < 0 ? 0 : start > s.rank ? s.rank : start;
    end = end < start ? start : end > s.rank ? s.rank : end;
    TRY(constant_new(im, T(INT64), &(struct shape){.rank = 1, .dim = {end - start}}, &c));
    for (int64_t k = start; k < end; k++) {
        if (s.dim[k] == SHAPE_BATCH)
            TRY(fold_set_batch(im, c, k - start));
        else
            c->i[k - start] = s.dim[k];
    }
    return fold_finish(im, c);
}

/* Of constants; PyTorch 2.5 asks it of paddings. */
int fold_size(struct import *im)
{
    struct constant *c;

    TRY(scalar(im, T(INT64), &c));
    c->i[0] = im->call->in[0]->constant->count;
    return fold_finish(im, c);
}

int fold_range(struct import *im)
{
    struct constant *in[3], *c;
    double first, limit, step, n;

    for (int32_t k = 0; k < 3; k++) {
        TRY(operand_constant(im, k, &in[k]));
        if (in[k]->count != 1 || (in[k]->f != NULL) != (in[0]->f != NULL))
            return report_wrong(im, "start, limit and delta must be numbers of one type");
        if (fold_is_batch(in[k], 0))
            return report_pins_batch(im);
    }
    first = in[0]->f ? (double)in[0]->f[0] : (double)in[0]->i[0];
    limit = in[1]->f ? (double)in[1]->f[0] : (double)in[1]->i[0];
    step = in[2]->f ? (double)in[2]->f[0] : (double)in[2]->i[0];
    n = ceil((limit - first) / step);
    if (!(n <= (double)SHAPE_MAX_COUNT)) /* also NaN: step 0 */
        return report_wrong(im, "too many elements");
    n = n > 0 ? n : 0;
    TRY(constant_new(im, in[0]->type, &(struct shape){.rank = 1, .dim = {(int64_t)n}}, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (c->f != NULL)
            c->f[k] = (float)(first + (double)k * step);
        else
            c->i[k] = (int64_t)((uint64_t)in[0]->i[0] + (uint64_t)k * (uint64_t)in[2]->i[0]);
    }
    return fold_finish(im, c);
}
