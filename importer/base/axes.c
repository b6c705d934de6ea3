/*
 * Axes, slices and broadcasting as a file states them. Constants and activations follow the same rules, so
 * folding and rewriting both ask here.
 */
#include "onnx.pb-c.h"

#include "importer/base/import.h"

struct shape file_shape(const struct import *im, value_id v, enum entry_order order)
{
    const struct shape *s = &im->g->value[v].shape;

    if (order == ORDER_LAST)
        return shape_make(4, s->dim[0], s->dim[2], s->dim[3], s->dim[1]);
    if (order == ORDER_FLAT_LAST)
        return shape_make(2, s->dim[0], shape_elems(s));
    return *s;
}

int axis_resolve(struct import *im, int64_t axis, int32_t rank, int32_t *out)
{
    *out = 0;
    if (axis < -rank || axis >= rank)
        return report_wrong(im, "an axis is out of range");
    *out = (int32_t)(axis < 0 ? axis + rank : axis);
    return 0;
}

int axes_read(struct import *im, int32_t i, int64_t axes[SHAPE_MAX_RANK], int32_t *n)
{
    TRY(attrs_ints(im, "axes", axes, SHAPE_MAX_RANK, n));
    if (*n < 0 && operand_has(im->call, i))
        return operand_ints(im, i, axes, NULL, SHAPE_MAX_RANK, n);
    return 0;
}

/* Python slice semantics on an axis of `dim` elements: first index and how many. step != 0. */
static void slice_range(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t *first,
                        int64_t *count)
{
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? dim : dim - 1;

    start = start < 0 ? start + dim : start;
    end = end < 0 ? end + dim : end;
    start = start < low ? low : start > high ? high : start;
    end = end < low ? low : end > high ? high : end;
    if (start < 0) /* only for step < 0, after the first element */
        end = start;
    *first = start;
    if (step > 0)
        *count = end > start ? (end - start - 1) / step + 1 : 0;
    else
        *count =
            start > end ? (int64_t)(((uint64_t)(start - end) - 1) / (0 - (uint64_t)step)) + 1 : 0;
}

int slicing_read(struct import *im, const struct shape *s, struct slicing *z)
{
    int64_t starts[SHAPE_MAX_RANK], ends[SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int64_t steps[SHAPE_MAX_RANK];
    int32_t n, n_ends, n_axes = -1, n_steps = -1, axis;
    const int64_t max_batch = im->batch > 0 ? im->batch : INT32_MAX;

    TRY(attrs_ints(im, "starts", starts, SHAPE_MAX_RANK, &n));
    TRY(attrs_ints(im, "ends", ends, SHAPE_MAX_RANK, &n_ends));
    TRY(attrs_ints(im, "axes", axes, SHAPE_MAX_RANK, &n_axes));
    if (operand_has(im->call, 1))
        TRY(operand_ints(im, 1, starts, NULL, SHAPE_MAX_RANK, &n));
    if (operand_has(im->call, 2))
        TRY(operand_ints(im, 2, ends, NULL, SHAPE_MAX_RANK, &n_ends));
    if (operand_has(im->call, 3))
        TRY(operand_ints(im, 3, axes, NULL, SHAPE_MAX_RANK, &n_axes));
    if (operand_has(im->call, 4))
        TRY(operand_ints(im, 4, steps, NULL, SHAPE_MAX_RANK, &n_steps));
    if (n < 0 || n_ends != n || (n_axes >= 0 && n_axes != n) || (n_steps >= 0 && n_steps != n))
        return report_wrong(im, "starts, ends, axes and steps differ in number");
    for (int32_t k = 0; k < s->rank; k++)
        z->first[k] = 0, z->step[k] = 1;
    z->to = *s;
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, n_axes >= 0 ? axes[k] : k, s->rank, &axis));
        z->step[axis] = n_steps >= 0 ? steps[k] : 1;
        if (z->step[axis] == 0)
            return report_wrong(im, "a step is 0");
        if (s->dim[axis] == SHAPE_BATCH) {
            if (starts[k] != 0 || z->step[axis] != 1 || ends[k] < max_batch)
                return report_pins_batch(im);
            continue;
        }
        slice_range(s->dim[axis], starts[k], ends[k], z->step[axis], &z->first[axis],
                    &z->to.dim[axis]);
    }
    return 0;
}

int broadcast_shape(struct import *im, const struct shape *a, const struct shape *b,
                    struct shape *out)
{
    struct shape s = {.rank = a->rank > b->rank ? a->rank : b->rank};

    for (int32_t d = 1; d <= s.rank; d++) {
        int64_t x = d <= a->rank ? a->dim[a->rank - d] : 1;
        int64_t y = d <= b->rank ? b->dim[b->rank - d] : 1;

        if (x != y && x != 1 && y != 1)
            return report_wrong(im, "shapes do not broadcast");
        s.dim[s.rank - d] = x == 1 ? y : x;
    }
    *out = s;
    return 0;
}

int64_t broadcast_index(const struct shape *to, int64_t k, const struct shape *s)
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
