/*
 * Constant folding: the shape arithmetic that exporters leave around Reshape, Pad and Slice, and
 * what they do to weights and masks before use (Transpose, Cast, 1 - m).
 *
 * One integer may be unknown, the size of the batch. It is carried as a flag on the element that
 * holds it and may be moved, multiplied by 1, added to 0 and compared with numbers below 1;
 * anything else is an error that names the node which pins the batch.
 *
 * Every result has its own memory; sizes are bounded by constant_room.
 */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/import.h"

#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

static bool is_batch(const struct constant *c, int64_t k)
{
    return c->batch != NULL && c->batch[k] != 0;
}

static int pins_batch(struct import *im)
{
    return report_problem(im, "E1304", "export the model with a free batch dimension",
                          "%s needs the number of images as a fixed number %s", im->call->type,
                          im->at);
}

static int wrong(struct import *im, const char *what)
{
    return report_problem(im, "E1306", "", "%s: %s %s", im->call->type, what, im->at);
}

static int set_batch(struct import *im, struct constant *c, int64_t k)
{
    if (c->batch == NULL) {
        TRY(constant_room(im, c->count));
        if ((c->batch = arena_array(im->arena, (size_t)c->count, sizeof *c->batch)) == NULL)
            return ERR_NOMEM;
    }
    c->batch[k] = 1;
    return 0;
}

/* to[j] = from[k], which have the same kind of numbers. */
static int copy_element(struct import *im, struct constant *to, int64_t j,
                        const struct constant *from, int64_t k)
{
    if (to->f != NULL) {
        to->f[j] = from->f[k];
        return 0;
    }
    to->i[j] = from->i[k];
    return is_batch(from, k) ? set_batch(im, to, j) : 0;
}

static int finish(struct import *im, struct constant *c)
{
    c->name = im->call->out->name;
    im->call->out->kind = ENTRY_CONSTANT;
    im->call->out->constant = c;
    return 0;
}

int fold_axis(struct import *im, int64_t axis, int32_t rank, int32_t *out)
{
    *out = 0;
    if (axis < -rank || axis >= rank)
        return wrong(im, "an axis is out of range");
    *out = (int32_t)(axis < 0 ? axis + rank : axis);
    return 0;
}

int fold_axes(struct import *im, int32_t i, int64_t axes[SHAPE_MAX_RANK], int32_t *n)
{
    TRY(attrs_ints(im, "axes", axes, SHAPE_MAX_RANK, n));
    if (*n < 0 && canon_has(im->call, i))
        return canon_ints(im, i, axes, NULL, SHAPE_MAX_RANK, n);
    return 0;
}

/* ---- sources -------------------------------------------------------------------------------- */

static int scalar(struct import *im, int32_t type, struct constant **c)
{
    return constant_new(im, type, &(struct shape){0}, c);
}

/* The one attribute of a Constant node. */
static int fold_constant(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;
    const Onnx__AttributeProto *a = p->n_attribute == 1 ? p->attribute[0] : NULL;
    struct constant *c;

    if (a == NULL)
        return wrong(im, "needs exactly one attribute");
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
        return wrong(im, "only dense numbers are supported");
    }
    return finish(im, c);
}

static int read_dims(struct import *im, int32_t i, struct shape *s)
{
    int32_t n;

    TRY(canon_ints(im, i, s->dim, NULL, SHAPE_MAX_RANK, &n));
    s->rank = n;
    for (int32_t k = 0; k < n; k++)
        if (s->dim[k] < 0)
            return wrong(im, "a dimension is negative");
    return 0;
}

static int fold_constant_of_shape(struct import *im)
{
    const Onnx__AttributeProto *a = attrs_find(im->call, "value");
    struct shape s = {0};
    struct constant *v = NULL, *c;

    TRY(read_dims(im, 0, &s));
    if (a != NULL && a->t != NULL) {
        TRY(constant_of_proto(im, a->t, "value", &v));
        TRY(constant_read(im, v));
        if (v->count != 1)
            return wrong(im, "the value must have one element");
    }
    TRY(constant_new(im, v != NULL ? v->type : T(FLOAT), &s, &c));
    for (int64_t k = 0; v != NULL && k < c->count; k++)
        TRY(copy_element(im, c, k, v, 0));
    return finish(im, c);
}

/* Shape of anything; the batch of an activation stays unknown. */
static int fold_shape(struct import *im)
{
    struct entry *e = im->call->in[0];
    struct shape s;
    struct constant *c;
    int64_t start, end;
    value_id v;

    if (e->kind == ENTRY_CONSTANT) {
        s = e->constant->shape;
    } else {
        enum entry_order order;

        TRY(canon_act_any(im, 0, &v, &order));
        s = im->g->value[v].shape;
        if (order == ORDER_LAST)
            s = shape_make(4, s.dim[0], s.dim[2], s.dim[3], s.dim[1]);
        else if (order == ORDER_FLAT_LAST)
            s = shape_make(2, s.dim[0], shape_elems(&s));
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
            TRY(set_batch(im, c, k - start));
        else
            c->i[k - start] = s.dim[k];
    }
    return finish(im, c);
}

static int fold_size(struct import *im)
{
    struct constant *c;

    TRY(scalar(im, T(INT64), &c));
    c->i[0] = im->call->in[0]->constant->count;
    return finish(im, c);
}

static int fold_range(struct import *im)
{
    struct constant *in[3], *c;
    double first, limit, step, n;

    for (int32_t k = 0; k < 3; k++) {
        TRY(canon_constant(im, k, &in[k]));
        if (in[k]->count != 1 || (in[k]->f != NULL) != (in[0]->f != NULL))
            return wrong(im, "start, limit and delta must be numbers of one type");
        if (is_batch(in[k], 0))
            return pins_batch(im);
    }
    first = in[0]->f ? (double)in[0]->f[0] : (double)in[0]->i[0];
    limit = in[1]->f ? (double)in[1]->f[0] : (double)in[1]->i[0];
    step = in[2]->f ? (double)in[2]->f[0] : (double)in[2]->i[0];
    n = ceil((limit - first) / step);
    if (!(n <= (double)SHAPE_MAX_COUNT)) /* also NaN: step 0 */
        return wrong(im, "too many elements");
    n = n > 0 ? n : 0;
    TRY(constant_new(im, in[0]->type, &(struct shape){.rank = 1, .dim = {(int64_t)n}}, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (c->f != NULL)
            c->f[k] = (float)(first + (double)k * step);
        else
            c->i[k] = (int64_t)((uint64_t)in[0]->i[0] + (uint64_t)k * (uint64_t)in[2]->i[0]);
    }
    return finish(im, c);
}

/* ---- moving elements ------------------------------------------------------------------------ */

/* The same elements under another shape. */
static int reshaped(struct import *im, const struct constant *from, const struct shape *s)
{
    struct constant *c = arena_array(im->arena, 1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    *c = *from;
    c->shape = *s;
    return finish(im, c);
}

static int fold_reshape(struct import *im)
{
    struct constant *x;
    int64_t allow_zero, t[SHAPE_MAX_RANK], known = 1;
    struct shape s = {0};
    int32_t free_dim = -1;

    TRY(canon_constant(im, 0, &x));
    TRY(canon_ints(im, 1, t, NULL, SHAPE_MAX_RANK, &s.rank));
    TRY(attrs_int(im, "allowzero", 0, &allow_zero));
    for (int32_t k = 0; k < s.rank; k++) {
        s.dim[k] = t[k] == 0 && !allow_zero && k < x->shape.rank ? x->shape.dim[k] : t[k];
        if (s.dim[k] < -1 || (s.dim[k] == -1 && free_dim >= 0))
            return wrong(im, "the target shape is not valid");
        if (s.dim[k] == -1)
            free_dim = k;
        else if (__builtin_mul_overflow(known, s.dim[k], &known))
            return wrong(im, "the target shape is too large");
    }
    if (free_dim >= 0) {
        if (known == 0 || x->count % known != 0)
            return wrong(im, "the target shape does not divide the elements");
        s.dim[free_dim] = x->count / known;
        known *= s.dim[free_dim];
    }
    if (known != x->count)
        return wrong(im, "the target shape has another number of elements");
    return reshaped(im, x, &s);
}

static int fold_squeeze(struct import *im)
{
    struct constant *x;
    int64_t axes[SHAPE_MAX_RANK];
    bool drop[SHAPE_MAX_RANK] = {false};
    struct shape s = {0};
    int32_t n, axis;

    TRY(canon_constant(im, 0, &x));
    TRY(fold_axes(im, 1, axes, &n));
    for (int32_t k = 0; k < n; k++) {
        TRY(fold_axis(im, axes[k], x->shape.rank, &axis));
        if (x->shape.dim[axis] != 1)
            return wrong(im, "a squeezed dimension is not 1");
        drop[axis] = true;
    }
    for (int32_t k = 0; k < x->shape.rank; k++)
        if (!(drop[k] || (n < 0 && x->shape.dim[k] == 1)))
            s.dim[s.rank++] = x->shape.dim[k];
    return reshaped(im, x, &s);
}

static int fold_unsqueeze(struct import *im)
{
    struct constant *x;
    int64_t axes[SHAPE_MAX_RANK];
    bool added[SHAPE_MAX_RANK] = {false};
    struct shape s = {0};
    int32_t n, axis, from = 0;

    TRY(canon_constant(im, 0, &x));
    TRY(fold_axes(im, 1, axes, &n));
    if (n < 0 || x->shape.rank + n > SHAPE_MAX_RANK)
        return wrong(im, "axes are missing or too many");
    s.rank = x->shape.rank + n;
    for (int32_t k = 0; k < n; k++) {
        TRY(fold_axis(im, axes[k], s.rank, &axis));
        if (added[axis])
            return wrong(im, "an axis is given twice");
        added[axis] = true;
    }
    for (int32_t k = 0; k < s.rank; k++)
        s.dim[k] = added[k] ? 1 : x->shape.dim[from++];
    return reshaped(im, x, &s);
}

/* Elements behind axis k. */
static int64_t inner_size(const struct shape *s, int32_t k)
{
    int64_t n = 1;

    for (int32_t d = k + 1; d < s->rank; d++)
        n *= s->dim[d];
    return n;
}

static int fold_gather(struct import *im)
{
    struct constant *x, *index, *c;
    struct shape s = {0};
    int64_t a, inner;
    int32_t axis;

    TRY(canon_constant(im, 0, &x));
    TRY(canon_constant(im, 1, &index));
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(fold_axis(im, a, x->shape.rank, &axis));
    if (index->i == NULL || index->batch != NULL ||
        x->shape.rank - 1 + index->shape.rank > SHAPE_MAX_RANK)
        return wrong(im, "indices must be integers");
    for (int32_t k = 0; k < axis; k++)
        s.dim[s.rank++] = x->shape.dim[k];
    for (int32_t k = 0; k < index->shape.rank; k++)
        s.dim[s.rank++] = index->shape.dim[k];
    for (int32_t k = axis + 1; k < x->shape.rank; k++)
        s.dim[s.rank++] = x->shape.dim[k];
    inner = inner_size(&x->shape, axis);
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        int64_t i = index->i[k / inner % index->count], o = k / inner / index->count;

        i = i < 0 ? i + x->shape.dim[axis] : i;
        if (i < 0 || i >= x->shape.dim[axis])
            return wrong(im, "an index is out of range");
        TRY(copy_element(im, c, k, x, (o * x->shape.dim[axis] + i) * inner + k % inner));
    }
    return finish(im, c);
}

/* Inputs agree in type, rank and all dims but `axis`; *s is the result's shape. */
static int concat_shape(struct import *im, int32_t axis, struct shape *s)
{
    struct constant *first, *x;

    TRY(canon_constant(im, 0, &first));
    *s = first->shape;
    for (int32_t k = 1; k < im->call->n_in; k++) {
        TRY(canon_constant(im, k, &x));
        if (x->shape.rank != s->rank || (x->f != NULL) != (first->f != NULL))
            return wrong(im, "inputs of different rank or type");
        for (int32_t d = 0; d < s->rank; d++)
            if (d != axis && x->shape.dim[d] != s->dim[d])
                return wrong(im, "inputs of different shapes");
        s->dim[axis] += x->shape.dim[axis];
    }
    return 0;
}

static int fold_concat(struct import *im)
{
    struct constant *x, *c;
    struct shape s;
    int64_t a, row, at = 0;
    int32_t axis;

    TRY(canon_constant(im, 0, &x));
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(fold_axis(im, a, x->shape.rank, &axis));
    TRY(concat_shape(im, axis, &s));
    TRY(constant_new(im, x->type, &s, &c));
    row = s.dim[axis] * inner_size(&s, axis);
    for (int32_t i = 0; i < im->call->n_in; i++) {
        TRY(canon_constant(im, i, &x));
        int64_t part = x->shape.dim[axis] * inner_size(&s, axis);

        for (int64_t k = 0; k < x->count; k++)
            TRY(copy_element(im, c, k / part * row + at + k % part, x, k));
        at += part;
    }
    return finish(im, c);
}

/* Python slice semantics on an axis of `dim` elements: first index and how many. step != 0. */
static void fold_slice_range(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t *first,
                             int64_t *count)
{
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;

    start = start < 0 ? start + dim : start;
    end = end < 0 ? end + dim : end;
    start = start < low ? low : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    if (start < 0) /* only for step < 0, behind the first element */
        end = start;
    *first = start;
    if (step > 0)
        *count = end > start ? (end - start - 1) / step + 1 : 0;
    else
        *count =
            start > end ? (int64_t)(((uint64_t)(start - end) - 1) / (0 - (uint64_t)step)) + 1 : 0;
}

int fold_slicing(struct import *im, const struct shape *s, struct slicing *z)
{
    int64_t starts[SHAPE_MAX_RANK], ends[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int64_t steps[SHAPE_MAX_RANK];
    int32_t n, n_ends, n_axes = -1, n_steps = -1, axis;
    const int64_t max_batch = im->batch > 0 ? im->batch : INT32_MAX;

    TRY(attrs_ints(im, "starts", starts, SHAPE_MAX_RANK, &n));
    TRY(attrs_ints(im, "ends", ends, SHAPE_MAX_RANK, &n_ends));
    TRY(attrs_ints(im, "axes", axes, SHAPE_MAX_RANK, &n_axes));
    if (canon_has(im->call, 1))
        TRY(canon_ints(im, 1, starts, NULL, SHAPE_MAX_RANK, &n));
    if (canon_has(im->call, 2))
        TRY(canon_ints(im, 2, ends, NULL, SHAPE_MAX_RANK, &n_ends));
    if (canon_has(im->call, 3))
        TRY(canon_ints(im, 3, axes, NULL, SHAPE_MAX_RANK, &n_axes));
    if (canon_has(im->call, 4))
        TRY(canon_ints(im, 4, steps, NULL, SHAPE_MAX_RANK, &n_steps));
    if (n < 0 || n_ends != n || (n_axes >= 0 && n_axes != n) || (n_steps >= 0 && n_steps != n))
        return wrong(im, "starts, ends, axes and steps differ in number");
    for (int32_t k = 0; k < s->rank; k++)
        z->first[k] = 0, z->step[k] = 1;
    z->to = *s;
    for (int32_t k = 0; k < n; k++) {
        TRY(fold_axis(im, n_axes >= 0 ? axes[k] : k, s->rank, &axis));
        z->step[axis] = n_steps >= 0 ? steps[k] : 1;
        if (z->step[axis] == 0)
            return wrong(im, "a step is 0");
        if (s->dim[axis] == SHAPE_BATCH) {
            if (starts[k] != 0 || z->step[axis] != 1 || ends[k] < max_batch)
                return pins_batch(im);
            continue;
        }
        fold_slice_range(s->dim[axis], starts[k], ends[k], z->step[axis], &z->first[axis],
                         &z->to.dim[axis]);
    }
    return 0;
}

/* c[k] = x[ sum over axes of (first + coordinate of k * step) * stride of x ]. */
static int pick(struct import *im, struct constant *c, const struct constant *x,
                const struct slicing *z)
{
    for (int64_t k = 0; k < c->count; k++) {
        int64_t from = 0, rest = k, stride = 1;

        for (int32_t d = c->shape.rank - 1; d >= 0; d--) {
            from += (z->first[d] + rest % c->shape.dim[d] * z->step[d]) * stride;
            rest /= c->shape.dim[d];
            stride *= x->shape.dim[d];
        }
        TRY(copy_element(im, c, k, x, from));
    }
    return 0;
}

static int fold_slice(struct import *im)
{
    struct constant *x, *c;
    struct slicing z;

    TRY(canon_constant(im, 0, &x));
    TRY(fold_slicing(im, &x->shape, &z));
    TRY(constant_new(im, x->type, &z.to, &c));
    TRY(pick(im, c, x, &z));
    return finish(im, c);
}

static int fold_transpose(struct import *im)
{
    struct constant *x, *c;
    int64_t perm[SHAPE_MAX_RANK], stride[SHAPE_MAX_RANK];
    bool seen[SHAPE_MAX_RANK] = {false};
    struct shape s;
    int32_t n;

    TRY(canon_constant(im, 0, &x));
    s.rank = x->shape.rank;
    TRY(attrs_ints(im, "perm", perm, SHAPE_MAX_RANK, &n));
    for (int32_t k = 0; n < 0 && k < s.rank; k++)
        perm[k] = s.rank - 1 - k;
    if (n >= 0 && n != s.rank)
        return wrong(im, "perm has another length than the rank");
    memset(s.dim, 0, sizeof s.dim);
    for (int32_t k = 0; k < s.rank; k++) {
        if (perm[k] < 0 || perm[k] >= s.rank || seen[perm[k]])
            return wrong(im, "perm is not a permutation");
        seen[perm[k]] = true;
        s.dim[k] = x->shape.dim[perm[k]];
        stride[k] = inner_size(&x->shape, (int32_t)perm[k]);
    }
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        int64_t from = 0, rest = k;

        for (int32_t d = s.rank - 1; d >= 0; d--) {
            from += rest % s.dim[d] * stride[d];
            rest /= s.dim[d];
        }
        TRY(copy_element(im, c, k, x, from));
    }
    return finish(im, c);
}

static int fold_identity(struct import *im)
{
    return canon_alias(im, im->call->in[0]);
}

static int cast_to(struct import *im, int64_t to)
{
    struct constant *x, *c;

    TRY(canon_constant(im, 0, &x));
    if (to <= 0 || to > T(BFLOAT16) || to == T(STRING) || to == T(COMPLEX64) || to == T(COMPLEX128))
        return wrong(im, "the target type is not supported");
    TRY(constant_new(im, (int32_t)to, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (is_batch(x, k) && c->f != NULL)
            return pins_batch(im);
        if (c->f != NULL)
            c->f[k] = x->f != NULL ? x->f[k] : (float)x->i[k];
        else if (x->f == NULL)
            TRY(copy_element(im, c, k, x, k));
        else if (!(fabsf(x->f[k]) < 0x1p62f))
            return wrong(im, "a number is too large for an integer");
        else
            c->i[k] = (int64_t)x->f[k];
        if (to == T(BOOL))
            c->i[k] = x->f != NULL ? x->f[k] != 0 : x->i[k] != 0;
    }
    return finish(im, c);
}

static int fold_cast(struct import *im)
{
    int64_t to;

    TRY(attrs_int(im, "to", 0, &to));
    return cast_to(im, to);
}

static int fold_cast_like(struct import *im)
{
    const struct entry *like = im->call->in[1];

    return cast_to(im, like->kind == ENTRY_CONSTANT ? like->constant->type : T(FLOAT));
}

/* ---- broadcasting --------------------------------------------------------------------------- */

int64_t fold_broadcast_index(const struct shape *to, int64_t k, const struct shape *s)
{
    int64_t at = 0, stride = 1;

    for (int32_t d = 1; d <= to->rank; d++) { /* from the last axis */
        int64_t n = to->dim[to->rank - d], coordinate = k % n;

        k /= n;
        if (d <= s->rank && s->dim[s->rank - d] != 1) {
            at += coordinate * stride;
            stride *= s->dim[s->rank - d];
        }
    }
    return at;
}

static int broadcast_shape(struct import *im, const struct shape *a, const struct shape *b,
                           struct shape *out)
{
    struct shape s = {.rank = a->rank > b->rank ? a->rank : b->rank};

    for (int32_t d = 1; d <= s.rank; d++) {
        int64_t x = d <= a->rank ? a->dim[a->rank - d] : 1;
        int64_t y = d <= b->rank ? b->dim[b->rank - d] : 1;

        if (x != y && x != 1 && y != 1)
            return wrong(im, "shapes do not broadcast");
        s.dim[s.rank - d] = x == 1 ? y : x;
    }
    *out = s;
    return 0;
}

static int fold_expand(struct import *im)
{
    struct constant *x, *c;
    struct shape target = {0}, s;

    TRY(canon_constant(im, 0, &x));
    TRY(read_dims(im, 1, &target));
    TRY(broadcast_shape(im, &x->shape, &target, &s));
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++)
        TRY(copy_element(im, c, k, x, fold_broadcast_index(&s, k, &x->shape)));
    return finish(im, c);
}

static int fold_where(struct import *im)
{
    struct constant *m, *a, *b, *c;
    struct shape s;

    TRY(canon_constant(im, 0, &m));
    TRY(canon_constant(im, 1, &a));
    TRY(canon_constant(im, 2, &b));
    if (m->i == NULL || m->batch != NULL || (a->f != NULL) != (b->f != NULL))
        return wrong(im, "needs a condition and two inputs of one type");
    TRY(broadcast_shape(im, &a->shape, &b->shape, &s));
    TRY(broadcast_shape(im, &s, &m->shape, &s));
    TRY(constant_new(im, a->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        const struct constant *x = m->i[fold_broadcast_index(&s, k, &m->shape)] ? a : b;

        TRY(copy_element(im, c, k, x, fold_broadcast_index(&s, k, &x->shape)));
    }
    return finish(im, c);
}

/* ---- arithmetic ----------------------------------------------------------------------------- */

enum arith { ADD, SUB, MUL, DIV, EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, AND, OR };

static const struct {
    const char *type;
    enum arith what;
    bool is_bool;
} arith_table[] = {
    {"Add", ADD, false},
    {"Sub", SUB, false},
    {"Mul", MUL, false},
    {"Div", DIV, false},
    {"Equal", EQUAL, true},
    {"Less", LESS, true},
    {"LessOrEqual", LESS_EQUAL, true},
    {"Greater", GREATER, true},
    {"GreaterOrEqual", GREATER_EQUAL, true},
    {"And", AND, true},
    {"Or", OR, true},
};

static float arith_float(enum arith what, float a, float b)
{
    switch (what) {
    case ADD:
        return a + b;
    case SUB:
        return a - b;
    case MUL:
        return a * b;
    default:
        return a / b;
    }
}

/* False on overflow and division by zero. */
static bool arith_int(enum arith what, int64_t a, int64_t b, int64_t *out)
{
    switch (what) {
    case ADD:
        return !__builtin_add_overflow(a, b, out);
    case SUB:
        return !__builtin_sub_overflow(a, b, out);
    case MUL:
        return !__builtin_mul_overflow(a, b, out);
    default:
        if (b == 0 || (b == -1 && a == INT64_MIN))
            return false;
        *out = a / b;
        return true;
    }
}

static int64_t compare(enum arith what, double a, double b)
{
    switch (what) {
    case EQUAL:
        return a == b;
    case LESS:
        return a < b;
    case LESS_EQUAL:
        return a <= b;
    case GREATER:
        return a > b;
    case GREATER_EQUAL:
        return a >= b;
    case AND:
        return a != 0 && b != 0;
    default:
        return a != 0 || b != 0;
    }
}

/* The batch N on one side at least: N+0, N-0, 0+N, N*1, 1*N, N/1 are N, and N is at least 1. */
static int arith_batch(struct import *im, enum arith what, const struct constant *a, int64_t ka,
                       const struct constant *b, int64_t kb, struct constant *c, int64_t k)
{
    const bool left = is_batch(a, ka), both = left && is_batch(b, kb);
    const int64_t other = left ? b->i[kb] : a->i[ka];

    if (both && what == EQUAL) {
        c->i[k] = 1;
        return 0;
    }
    if (!both && what == EQUAL && other < 1) {
        c->i[k] = 0;
        return 0;
    }
    if (!both && ((other == 0 && (what == ADD || (what == SUB && left))) ||
                  (other == 1 && (what == MUL || (what == DIV && left)))))
        return set_batch(im, c, k);
    return pins_batch(im);
}

static int fold_arith(struct import *im)
{
    struct constant *a, *b, *c;
    struct shape s;
    size_t row = 0;

    while (strcmp(arith_table[row].type, im->call->type) != 0)
        row++;
    const enum arith what = arith_table[row].what;
    TRY(canon_constant(im, 0, &a));
    TRY(canon_constant(im, 1, &b));
    if ((a->f != NULL) != (b->f != NULL))
        return wrong(im, "inputs of different types");
    TRY(broadcast_shape(im, &a->shape, &b->shape, &s));
    TRY(constant_new(im, arith_table[row].is_bool ? T(BOOL) : a->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        int64_t ka = fold_broadcast_index(&s, k, &a->shape);
        int64_t kb = fold_broadcast_index(&s, k, &b->shape);

        if (is_batch(a, ka) || is_batch(b, kb))
            TRY(arith_batch(im, what, a, ka, b, kb, c, k));
        else if (arith_table[row].is_bool)
            c->i[k] = a->f ? compare(what, (double)a->f[ka], (double)b->f[kb])
                           : compare(what, (double)a->i[ka], (double)b->i[kb]);
        else if (c->f != NULL)
            c->f[k] = arith_float(what, a->f[ka], b->f[kb]);
        else if (!arith_int(what, a->i[ka], b->i[kb], &c->i[k]))
            return wrong(im, "integer overflow or division by zero");
    }
    return finish(im, c);
}

enum unary { NEG, NOT, SQRT, FLOOR, CEIL };
static const struct {
    const char *type;
    enum unary what;
} unary_table[] = {{"Neg", NEG}, {"Not", NOT}, {"Sqrt", SQRT}, {"Floor", FLOOR}, {"Ceil", CEIL}};

static int fold_unary(struct import *im)
{
    struct constant *x, *c;
    size_t row = 0;

    while (strcmp(unary_table[row].type, im->call->type) != 0)
        row++;
    const enum unary what = unary_table[row].what;
    TRY(canon_constant(im, 0, &x));
    if ((what == NOT && x->type != T(BOOL)) || (what >= SQRT && x->f == NULL))
        return wrong(im, "not defined for this type");
    TRY(constant_new(im, x->type, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (is_batch(x, k))
            return pins_batch(im);
        if (x->f == NULL)
            c->i[k] = what == NOT ? !x->i[k] : (int64_t)(0 - (uint64_t)x->i[k]);
        else
            c->f[k] = what == NEG     ? -x->f[k]
                      : what == SQRT  ? sqrtf(x->f[k])
                      : what == FLOOR ? floorf(x->f[k])
                                      : ceilf(x->f[k]);
    }
    return finish(im, c);
}

/* ---- table ---------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    int32_t n_in; /* at least so many inputs must be there */
    canon_fn *fn;
} fold_table[] = {
    {"Add", 2, fold_arith},
    {"And", 2, fold_arith},
    {"Cast", 1, fold_cast},
    {"CastLike", 2, fold_cast_like},
    {"Ceil", 1, fold_unary},
    {"Concat", 1, fold_concat},
    {"Constant", 0, fold_constant},
    {"ConstantOfShape", 1, fold_constant_of_shape},
    {"Div", 2, fold_arith},
    {"Equal", 2, fold_arith},
    {"Expand", 2, fold_expand},
    {"Floor", 1, fold_unary},
    {"Gather", 2, fold_gather},
    {"Greater", 2, fold_arith},
    {"GreaterOrEqual", 2, fold_arith},
    {"Identity", 1, fold_identity},
    {"Less", 2, fold_arith},
    {"LessOrEqual", 2, fold_arith},
    {"Mul", 2, fold_arith},
    {"Neg", 1, fold_unary},
    {"Not", 1, fold_unary},
    {"Or", 2, fold_arith},
    {"Range", 3, fold_range},
    {"Reshape", 2, fold_reshape},
    {"Shape", 1, fold_shape},
    {"Size", 1, fold_size},
    {"Slice", 1, fold_slice},
    {"Sqrt", 1, fold_unary},
    {"Squeeze", 1, fold_squeeze},
    {"Sub", 2, fold_arith},
    {"Transpose", 1, fold_transpose},
    {"Unsqueeze", 1, fold_unsqueeze},
    {"Where", 3, fold_where},
};

static int32_t fold_row(const char *type)
{
    for (size_t k = 0; k < sizeof fold_table / sizeof *fold_table; k++)
        if (strcmp(fold_table[k].type, type) == 0)
            return (int32_t)k;
    return -1;
}

bool fold_knows(const char *type)
{
    return fold_row(type) >= 0;
}

bool fold_can(const struct call *c)
{
    const int32_t row = fold_row(c->type);

    if (row < 0)
        return false;
    if (fold_table[row].fn == fold_shape)
        return canon_has(c, 0);
    if (fold_table[row].fn == fold_cast_like) /* the other input gives its type only */
        return canon_has(c, 0) && c->in[0]->kind == ENTRY_CONSTANT;
    for (int32_t k = 0; k < c->n_in; k++)
        if (c->in[k] != NULL && c->in[k]->kind != ENTRY_CONSTANT)
            return false;
    return c->n_in > 0 || fold_table[row].n_in == 0;
}

int fold_node(struct import *im)
{
    const int32_t row = fold_row(im->call->type);

    for (int32_t k = 0; k < fold_table[row].n_in; k++)
        if (!canon_has(im->call, k))
            return report_problem(im, "E1209", "", "input %d is missing %s", k, im->at);
    return fold_table[row].fn(im);
}
