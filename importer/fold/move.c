/*
 * The same elements in another place or order: Reshape, Flatten, Squeeze, Unsqueeze, Gather, Concat,
 * Slice, Transpose, Pad, Identity.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

/* The same elements under another shape. */
static int reshaped(struct import *im, const struct constant *from, const struct shape *s)
{
    struct constant *c = arena_array(im->arena, 1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    *c = *from;
    c->shape = *s;
    return fold_finish(im, c);
}

int fold_reshape(struct import *im)
{
    struct constant *x;
    int64_t allow_zero, t[SHAPE_MAX_RANK], known = 1;
    struct shape s = {0};
    int32_t free_dim = -1;

    TRY(operand_constant(im, 0, &x));
    TRY(operand_ints(im, 1, t, NULL, SHAPE_MAX_RANK, &s.rank));
    TRY(attrs_int(im, "allowzero", 0, &allow_zero));
    for (int32_t k = 0; k < s.rank; k++) {
        s.dim[k] = t[k] == 0 && !allow_zero && k < x->shape.rank ? x->shape.dim[k] : t[k];
        if (s.dim[k] < -1 || (s.dim[k] == -1 && free_dim >= 0))
            return report_wrong(im, "the target shape is not valid");
        if (s.dim[k] == -1)
            free_dim = k;
        else if (__builtin_mul_overflow(known, s.dim[k], &known))
            return report_wrong(im, "the target shape is too large");
    }
    if (free_dim >= 0) {
        if (known == 0 || x->count % known != 0)
            return report_wrong(im, "the target shape does not divide the elements");
        s.dim[free_dim] = x->count / known;
        known *= s.dim[free_dim];
    }
    if (known != x->count)
        return report_wrong(im, "the target shape has another number of elements");
    return reshaped(im, x, &s);
}

int fold_flatten(struct import *im)
{
    struct shape s = {.rank = 2, .dim = {1, 1}};
    struct constant *x;
    int64_t a;

    TRY(operand_constant(im, 0, &x));
    TRY(attrs_int(im, "axis", 1, &a));
    a = a < 0 ? a + x->shape.rank : a;
    if (a < 0 || a > x->shape.rank)
        return report_wrong(im, "the axis is out of range");
    for (int32_t k = 0; k < x->shape.rank; k++)
        s.dim[k >= a] *= x->shape.dim[k];
    return reshaped(im, x, &s);
}

int fold_squeeze(struct import *im)
{
    struct constant *x;
    int64_t axes[SHAPE_MAX_RANK];
    bool drop[SHAPE_MAX_RANK] = {false};
    struct shape s = {0};
    int32_t n, axis;

    TRY(operand_constant(im, 0, &x));
    TRY(axes_read(im, 1, axes, &n));
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], x->shape.rank, &axis));
        if (x->shape.dim[axis] != 1)
            return report_wrong(im, "a squeezed dimension is not 1");
        drop[axis] = true;
    }
    for (int32_t k = 0; k < x->shape.rank; k++)
        if (!(drop[k] || (n < 0 && x->shape.dim[k] == 1)))
            s.dim[s.rank++] = x->shape.dim[k];
    return reshaped(im, x, &s);
}

int fold_unsqueeze(struct import *im)
{
    struct constant *x;
    int64_t axes[SHAPE_MAX_RANK];
    bool added[SHAPE_MAX_RANK] = {false};
    struct shape s = {0};
    int32_t n, axis, from = 0;

    TRY(operand_constant(im, 0, &x));
    TRY(axes_read(im, 1, axes, &n));
    if (n < 0 || x->shape.rank + n > SHAPE_MAX_RANK)
        return report_wrong(im, "axes are missing or too many");
    s.rank = x->shape.rank + n;
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], s.rank, &axis));
        if (added[axis])
            return report_wrong(im, "an axis is given twice");
        added[axis] = true;
    }
    for (int32_t k = 0; k < s.rank; k++)
        s.dim[k] = added[k] ? 1 : x->shape.dim[from++];
    return reshaped(im, x, &s);
}

int fold_gather(struct import *im)
{
    struct constant *x, *index, *c;
    struct shape s = {0};
    int64_t a, inner;
    int32_t axis;

    TRY(operand_constant(im, 0, &x));
    TRY(operand_constant(im, 1, &index));
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(axis_resolve(im, a, x->shape.rank, &axis));
    if (index->i == NULL || index->batch != NULL ||
        x->shape.rank - 1 + index->shape.rank > SHAPE_MAX_RANK)
        return report_wrong(im, "indices must be integers");
    for (int32_t k = 0; k < axis; k++)
        s.dim[s.rank++] = x->shape.dim[k];
    for (int32_t k = 0; k < index->shape.rank; k++)
        s.dim[s.rank++] = index->shape.dim[k];
    for (int32_t k = axis + 1; k < x->shape.rank; k++)
        s.dim[s.rank++] = x->shape.dim[k];
    inner = fold_inner_size(&x->shape, axis);
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        int64_t i = index->i[k / inner % index->count], o = k / inner / index->count;

        i = i < 0 ? i + x->shape.dim[axis] : i;
        if (i < 0 || i >= x->shape.dim[axis])
            return report_wrong(im, "an index is out of range");
        TRY(fold_copy_element(im, c, k, x, (o * x->shape.dim[axis] + i) * inner + k % inner));
    }
    return fold_finish(im, c);
}

/* Inputs agree in type, rank and all dims but `axis`; *s is the result's shape. */
static int concat_shape(struct import *im, int32_t axis, struct shape *s)
{
    struct constant *first, *x;

    TRY(operand_constant(im, 0, &first));
    *s = first->shape;
    for (int32_t k = 1; k < im->call->n_in; k++) {
        TRY(operand_constant(im, k, &x));
        if (x->shape.rank != s->rank || (x->f != NULL) != (first->f != NULL))
            return report_wrong(im, "inputs of different rank or type");
        for (int32_t d = 0; d < s->rank; d++)
            if (d != axis && x->shape.dim[d] != s->dim[d])
                return report_wrong(im, "inputs of different shapes");
        s->dim[axis] += x->shape.dim[axis];
    }
    return 0;
}

int fold_concat(struct import *im)
{
    struct constant *x, *c;
    struct shape s;
    int64_t a, row, at = 0;
    int32_t axis;

    TRY(operand_constant(im, 0, &x));
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(axis_resolve(im, a, x->shape.rank, &axis));
    TRY(concat_shape(im, axis, &s));
    TRY(constant_new(im, x->type, &s, &c));
    row = s.dim[axis] * fold_inner_size(&s, axis);
    for (int32_t i = 0; i < im->call->n_in; i++) {
        TRY(operand_constant(im, i, &x));
        int64_t part = x->shape.dim[axis] * fold_inner_size(&s, axis);

        for (int64_t k = 0; k < x->count; k++)
            TRY(fold_copy_element(im, c, k / part * row + at + k % part, x, k));
        at += part;
    }
    return fold_finish(im, c);
}

/* c[k] = x[first + sum over axes of the coordinate of k * stride]. */
static int pick(struct import *im, struct constant *c, const struct constant *x, int64_t first,
                const int64_t *stride)
{
    for (int64_t k = 0; k < c->count; k++) {
        int64_t from = first, rest = k;

        for (int32_t d = c->shape.rank - 1; d >= 0; d--) {
            from += rest % c->shape.dim[d] * stride[d];
            rest /= c->shape.dim[d];
        }
        TRY(fold_copy_element(im, c, k, x, from));
    }
    return fold_finish(im, c);
}

int fold_slice(struct import *im)
{
    int64_t first = 0, stride[SHAPE_MAX_RANK];
    struct constant *x, *c;
    struct slicing z;

    TRY(operand_constant(im, 0, &x));
    struct shape s = x->shape;
    s.dim[0] = x->images ? SHAPE_BATCH : s.dim[0];
    TRY(slicing_read(im, &s, &z));
    z.to.dim[0] = x->images ? 1 : z.to.dim[0];
    TRY(constant_new(im, x->type, &z.to, &c));
    for (int32_t d = 0; d < s.rank; d++) {
        first += z.first[d] * fold_inner_size(&x->shape, d);
        stride[d] = z.step[d] * fold_inner_size(&x->shape, d);
    }
    return pick(im, c, x, first, stride);
}

int fold_transpose(struct import *im)
{
    struct constant *x, *c;
    int64_t perm[SHAPE_MAX_RANK], stride[SHAPE_MAX_RANK];
    bool seen[SHAPE_MAX_RANK] = {false};
    struct shape s;
    int32_t n;

    TRY(operand_constant(im, 0, &x));
    s.rank = x->shape.rank;
    TRY(attrs_ints(im, "perm", perm, SHAPE_MAX_RANK, &n));
    for (int32_t k = 0; n < 0 && k < s.rank; k++)
        perm[k] = s.rank - 1 - k;
    if (n >= 0 && n != s.rank)
        return report_wrong(im, "perm has another length than the rank");
    memset(s.dim, 0, sizeof s.dim);
    for (int32_t k = 0; k < s.rank; k++) {
        if (perm[k] < 0 || perm[k] >= s.rank || seen[perm[k]])
            return report_wrong(im, "perm is not a permutation");
        seen[perm[k]] = true;
        s.dim[k] = x->shape.dim[perm[k]];
        stride[k] = fold_inner_size(&x->shape, (int32_t)perm[k]);
    }
    TRY(constant_new(im, x->type, &s, &c));
    return pick(im, c, x, 0, stride);
}

int fold_identity(struct import *im)
{
    return result_alias(im, im->call->in[0]);
}

/* ---- Pad ------------------------------------------------------------------------------------ */

struct padding { /* element k of axis d lies k - begin[d] in the input */
    int64_t begin[SHAPE_MAX_RANK];
    struct shape to;
};

/* Amounts from the attribute or the inputs; negative ones cut. */
static int pad_amounts(struct import *im, const struct shape *s, struct padding *p)
{
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int32_t n, n_axes = s->rank, axis;

    TRY(attrs_ints(im, "pads", pads, 2 * SHAPE_MAX_RANK, &n));
    if (n < 0)
        TRY(operand_ints(im, 1, pads, NULL, 2 * SHAPE_MAX_RANK, &n));
    if (operand_has(im->call, 3))
        TRY(operand_ints(im, 3, axes, NULL, SHAPE_MAX_RANK, &n_axes));
    if (n != 2 * n_axes)
        return report_wrong(im, "there are not two pads for each axis");
    p->to = *s;
    for (int32_t k = 0; k < n_axes; k++) {
        const int64_t begin = pads[k], end = pads[n_axes + k];

        TRY(axis_resolve(im, operand_has(im->call, 3) ? axes[k] : k, s->rank, &axis));
        if (begin < -IMPORT_MAX_DIM || begin > IMPORT_MAX_DIM || end < -IMPORT_MAX_DIM ||
            end > IMPORT_MAX_DIM || s->dim[axis] + begin + end < 0)
            return report_wrong(im, "a pad is out of range");
        p->begin[axis] = begin;
        p->to.dim[axis] = s->dim[axis] + begin + end;
    }
    return 0;
}

/* Where element k comes from in shape s; -1: it is the padding's value. */
static int64_t pad_source(const struct padding *p, const struct shape *s, int64_t k)
{
    int64_t at = 0, stride = 1;

    for (int32_t d = s->rank - 1; d >= 0; d--) {
        const int64_t n = s->dim[d], i = k % p->to.dim[d] - p->begin[d];

        k /= p->to.dim[d];
        if (i < 0 || i >= n)
            return -1;
        at += i * stride;
        stride *= n;
    }
    return at;
}

/* The padding's value as a constant of one element of x's kind. */
static int pad_value(struct import *im, const struct constant *x, struct constant **out)
{
    if (operand_has(im->call, 2)) {
        TRY(operand_constant(im, 2, out));
        return (*out)->count == 1 && ((*out)->f != NULL) == (x->f != NULL)
                   ? 0
                   : report_wrong(im, "the padding's value is not one number of the input's type");
    }
    TRY(constant_new(im, x->type, &(struct shape){0}, out));
    return (*out)->f != NULL ? attrs_float(im, "value", 0, (*out)->f) : 0;
}

int fold_pad(struct import *im)
{
    struct padding p = {.begin = {0}};
    struct constant *x, *value, *c;
    const char *mode;

    TRY(operand_constant(im, 0, &x));
    TRY(attrs_text(im, "mode", "constant", &mode));
    if (strcmp(mode, "constant") != 0)
        return report_problem(im, "E1206", "", "Pad with mode '%s' %s", mode, im->at);
    TRY(pad_amounts(im, &x->shape, &p));
    TRY(pad_value(im, x, &value));
    TRY(constant_new(im, x->type, &p.to, &c));
    for (int64_t k = 0; k < c->count; k++) {
        const int64_t from = pad_source(&p, &x->shape, k);

        TRY(from < 0 ? fold_copy_element(im, c, k, value, 0)
                     : fold_copy_element(im, c, k, x, from));
    }
    return fold_finish(im, c);
}
