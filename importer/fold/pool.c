/*
 * Pools of constants, over any number of axes: AveragePool, MaxPool with its indices,
 * GlobalAveragePool, GlobalMaxPool.
 *
 *     out = (in + pads - ((kernel - 1) dilation + 1)) / stride + 1, rounded down or up; a last
 *     window that would begin behind the input and its front padding does not count
 */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x
#define AXES (SHAPE_MAX_RANK - 2)

struct windows { /* of the axes behind [N,C] */
    int32_t n;
    int64_t kernel[AXES], stride[AXES], dilation[AXES], begin[AXES], end[AXES];
    int64_t in[AXES], out[AXES], size; /* size: positions of one window */
    bool maximum, count_pads, column_major;
};

/* ---- the windows ---------------------------------------------------------------------------- */

static int read_axes(struct import *im, const char *name, int64_t least, int32_t n, int64_t dflt,
                     int64_t *out)
{
    int32_t given;

    for (int32_t k = 0; k < n; k++)
        out[k] = dflt;
    TRY(attrs_ints(im, name, out, n, &given));
    if (given >= 0 && given != n)
        return report_wrong(im, "an attribute has another length than there are axes");
    for (int32_t k = 0; k < n; k++)
        if (out[k] < least || out[k] > IMPORT_MAX_DIM)
            return report_wrong(im, "an attribute is out of range");
    return 0;
}

/* Padding that makes ceil(in / stride) windows; the odd one at the end, or in front for LOWER. */
static void pad_same(struct windows *w, int32_t k, bool lower)
{
    const int64_t out = (w->in[k] - 1) / w->stride[k] + 1;
    int64_t all = (out - 1) * w->stride[k] + (w->kernel[k] - 1) * w->dilation[k] + 1 - w->in[k];

    all = all > 0 ? all : 0;
    w->begin[k] = lower ? all - all / 2 : all / 2;
    w->end[k] = all - w->begin[k];
}

static int read_pads(struct import *im, struct windows *w)
{
    int64_t pads[2 * AXES];
    const char *mode;

    TRY(read_axes(im, "pads", 0, 2 * w->n, 0, pads));
    TRY(attrs_text(im, "auto_pad", "NOTSET", &mode));
    for (int32_t k = 0; k < w->n; k++) {
        w->begin[k] = pads[k];
        w->end[k] = pads[w->n + k];
        if (strncmp(mode, "SAME_", 5) == 0)
            pad_same(w, k, strcmp(mode, "SAME_LOWER") == 0);
    }
    return 0;
}

static int count_windows(struct import *im, struct windows *w)
{
    int64_t ceil_mode;

    TRY(attrs_int(im, "ceil_mode", 0, &ceil_mode));
    w->size = 1;
    for (int32_t k = 0; k < w->n; k++) {
        const int64_t reach = (w->kernel[k] - 1) * w->dilation[k] + 1;
        const int64_t room = w->in[k] + w->begin[k] + w->end[k] - reach;

        if (room < 0)
            return report_wrong(im, "the window is larger than the padded input");
        w->out[k] = (room + (ceil_mode ? w->stride[k] - 1 : 0)) / w->stride[k] + 1;
        if ((w->out[k] - 1) * w->stride[k] >= w->in[k] + w->begin[k])
            w->out[k]--;
        if (w->out[k] < 1)
            return report_wrong(im, "no window begins inside the input");
        if (__builtin_mul_overflow(w->size, w->kernel[k], &w->size))
            return report_wrong(im, "the window is too large");
    }
    return 0;
}

static int read_windows(struct import *im, const struct shape *s, struct windows *w)
{
    const char *type = im->call->type;
    int64_t pads, order;

    *w = (struct windows){.n = s->rank - 2, .maximum = strstr(type, "Max") != NULL};
    if (w->n < 1)
        return report_wrong(im, "the input has no axis to pool");
    for (int32_t k = 0; k < w->n; k++)
        w->in[k] = s->dim[2 + k];
    TRY(read_axes(im, "strides", 1, w->n, 1, w->stride));
    TRY(read_axes(im, "dilations", 1, w->n, 1, w->dilation));
    TRY(read_axes(im, "kernel_shape", 1, w->n, 1, w->kernel));
    if (strncmp(type, "Global", 6) == 0)
        memcpy(w->kernel, w->in, sizeof w->kernel);
    TRY(read_pads(im, w));
    TRY(attrs_int(im, "count_include_pad", 0, &pads));
    TRY(attrs_int(im, "storage_order", 0, &order));
    w->count_pads = pads != 0;
    w->column_major = order != 0;
    return count_windows(im, w);
}

/* ---- one window ----------------------------------------------------------------------------- */

struct result {
    double value;
    int64_t at; /* of the maximum, inside the plane */
};

/* Position p of the window that begins at `first`: *at inside the plane. *padding: it lies in the
 * padding; false if it lies behind that, where the window was rounded up. */
static bool place(const struct windows *w, const int64_t *first, int64_t p, int64_t *at,
                  bool *padding)
{
    int64_t stride = 1;

    *at = 0;
    *padding = false;
    for (int32_t k = w->n - 1; k >= 0; k--) {
        const int64_t i = first[k] + p % w->kernel[k] * w->dilation[k];

        p /= w->kernel[k];
        if (i >= w->in[k] + w->end[k])
            return false;
        *padding = *padding || i < 0 || i >= w->in[k];
        *at += i * stride;
        stride *= w->in[k];
    }
    return true;
}

static struct result pool_window(const struct windows *w, const struct constant *x, int64_t plane,
                                 const int64_t *first)
{
    struct result r = {.value = w->maximum ? -INFINITY : 0, .at = -1};
    int64_t n = 0, at;
    bool padding;

    for (int64_t p = 0; p < w->size; p++) {
        if (!place(w, first, p, &at, &padding))
            continue;
        n += !padding || w->count_pads;
        if (padding)
            continue;
        const double v = x->f != NULL ? (double)x->f[plane + at] : (double)x->i[plane + at];
        if (!w->maximum)
            r.value += v;
        else if (r.at < 0 || v > r.value)
            r = (struct result){v, at};
    }
    if (!w->maximum)
        r.value = n > 0 ? r.value / (double)n : 0;
    return r;
}

/* Index of a position of the plane as MaxPool counts it. */
static int64_t max_index(const struct windows *w, int64_t plane, int64_t at)
{
    int64_t index = 0, stride = 1, coordinate[AXES];

    if (!w->column_major)
        return plane + at;
    for (int32_t k = w->n - 1; k >= 0; k--) {
        coordinate[k] = at % w->in[k];
        at /= w->in[k];
    }
    for (int32_t k = 0; k < w->n; k++) {
        index += coordinate[k] * stride;
        stride *= w->in[k];
    }
    return plane + index;
}

/* ---- the node ------------------------------------------------------------------------------- */

static void pool_all(const struct windows *w, const struct constant *x, struct constant *y,
                     struct constant *index)
{
    const int64_t plane = fold_inner_size(&x->shape, 1), windows = fold_inner_size(&y->shape, 1);
    int64_t first[AXES];

    for (int64_t e = 0; e < y->count; e++) {
        for (int64_t k = w->n - 1, rest = e % windows; k >= 0; k--) {
            first[k] = rest % w->out[k] * w->stride[k] - w->begin[k];
            rest /= w->out[k];
        }
        const struct result r = pool_window(w, x, e / windows * plane, first);

        if (y->f != NULL)
            y->f[e] = (float)r.value;
        else
            y->i[e] = (int64_t)r.value;
        if (index != NULL)
            index->i[e] = max_index(w, e / windows * plane, r.at < 0 ? 0 : r.at);
    }
}

int fold_pool(struct import *im)
{
    struct constant *x, *y, *index = NULL;
    struct windows w;
    struct shape s;

    TRY(operand_constant(im, 0, &x));
    TRY(read_windows(im, &x->shape, &w));
    if (x->count == 0 || x->batch != NULL || (x->f == NULL && !w.maximum))
        return report_wrong(im, "not defined for this input");
    s = x->shape;
    for (int32_t k = 0; k < w.n; k++)
        s.dim[2 + k] = w.out[k];
    TRY(constant_new(im, x->type, &s, &y));
    TRY(fold_work(im, y->count, w.size, 4));
    if (im->call->proto->n_output > 1 && w.maximum)
        TRY(constant_new(im, T(INT64), &s, &index));
    pool_all(&w, x, y, index);
    if (index != NULL)
        fold_finish_output(im, 1, index);
    return fold_finish(im, y);
}
