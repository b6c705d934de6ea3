/*
 * Pooling: MaxPool, AveragePool and their global forms.
 *
 * A window is a list of taps: output (oh, ow) reads input (oh s - p + i d, ow s - p + j d) for i, j
 * below the kernel. Taps outside the image are left out (MaxPool; AveragePool divides by the taps
 * inside, or with count_include_pad by the taps inside the padded image). Every kernel works on the
 * C contiguous floats of a tap.
 *
 * Output size: floor or ceil((H + pads - (k-1) d - 1) / s) + 1; with ceil a last window that would
 * start in the end padding is dropped (ONNX since opset 19, the frameworks always).
 *
 * The gradient of a maximum goes to the first tap, in row order, that has it. A NaN wins the
 * maximum; then nobody gets the gradient.
 */
#include <math.h>

#include "core/op/image.h"

#define MAX_SPARSE 4096 /* windows whose taps are further apart than the image is wide */

/* ---- geometry ----------------------------------------------------------------------------- */

struct axis { /* one spatial axis */
    int64_t in, out, kernel, stride, begin, end, dilation;
};
struct pool {
    struct axis h, w;
    int64_t c;
    bool include_pad; /* taps in the padding count for the average */
};
struct tap_range { /* indices i of taps inside, from first to below last */
    int64_t first, last;
};

static struct axis pool_axis(const struct pool_params *p, int i, int64_t in, int64_t out)
{
    return (struct axis){in,        out,           p->kernel[i],  p->stride[i],
                         p->pad[i], p->pad[2 + i], p->dilation[i]};
}

/* A global pool has no attributes: it is one window as large as the image. */
static struct pool pool_of(const struct op_call *k)
{
    struct image in = image_in(k, 0), out = image_out(k);

    if (k->node->op->attrs == NULL)
        return (struct pool){{in.h, 1, in.h, 1, 0, 0, 1}, {in.w, 1, in.w, 1, 0, 0, 1}, in.c, false};
    const struct pool_params *p = &k->node->p.pool;
    return (struct pool){pool_axis(p, 0, in.h, out.h), pool_axis(p, 1, in.w, out.w), in.c,
                         p->count_include_pad != 0};
}

/* Taps i of output o with lo <= o stride - begin + i dilation < hi. */
static struct tap_range taps_within(const struct axis *a, int64_t o, int64_t lo, int64_t hi)
{
    int64_t start = o * a->stride - a->begin;
    struct tap_range r = {0, a->kernel};

    if (start < lo)
        r.first = (lo - start + a->dilation - 1) / a->dilation;
    if (start + (a->kernel - 1) * a->dilation >= hi)
        r.last = hi > start ? (hi - start - 1) / a->dilation + 1 : 0;
    return r;
}

static struct tap_range taps_inside(const struct axis *a, int64_t o)
{
    return taps_within(a, o, 0, a->in);
}

/* Offset, in floats, of tap (i, j) of output (oh, ow) in the image. */
static int64_t tap_at(const struct pool *p, int64_t oh, int64_t ow, int64_t i, int64_t j)
{
    int64_t h = oh * p->h.stride - p->h.begin + i * p->h.dilation;
    int64_t w = ow * p->w.stride - p->w.begin + j * p->w.dilation;
    return (h * p->w.in + w) * p->c;
}

/* The first window without a tap inside, -1 if every one has. Where taps are no further apart than the
 * image is wide, a window that overlaps it has one inside: the ends decide. */
static int64_t empty_window(const struct axis *a)
{
    const bool ends = a->dilation <= a->in || a->kernel == 1;

    for (int64_t o = 0; o < a->out; o = ends && o < a->out - 1 ? a->out - 1 : o + 1) {
        struct tap_range r = taps_inside(a, o);

        if (r.first >= r.last)
            return o;
    }
    return -1;
}

static int pool_extent(const struct node *node, struct axis *a, const char *name)
{
    int64_t window = (a->kernel - 1) * a->dilation + 1, room = a->in + a->begin + a->end - window;

    if (room < 0)
        return op_fail(node, "window of %lld does not fit in %s=%lld with pads %lld and %lld",
                       (long long)window, name, (long long)a->in, (long long)a->begin,
                       (long long)a->end);
    bool ceil_mode = node->p.pool.ceil_mode != 0;
    a->out = (room + (ceil_mode ? a->stride - 1 : 0)) / a->stride + 1;
    if (ceil_mode && (a->out - 1) * a->stride >= a->in + a->begin)
        a->out--;
    if (a->dilation > a->in && a->kernel > 1 && a->out > MAX_SPARSE)
        return op_fail(node, "dilation %lld along %s=%lld with pads %lld and %lld is too large",
                       (long long)a->dilation, name, (long long)a->in, (long long)a->begin,
                       (long long)a->end);
    const int64_t empty = empty_window(a);
    if (empty >= 0)
        return op_fail(node, "window %lld along %s lies in the padding only (pads %lld, %lld)",
                       (long long)empty, name, (long long)a->begin, (long long)a->end);
    return 0;
}

static int pool_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct pool_params *p = &node->p.pool;

    TRY(op_need_image(g, node));
    for (int i = 0; i < 2; i++) {
        if (p->kernel[i] < 1 || p->stride[i] < 1 || p->dilation[i] < 1 || p->pad[i] < 0 ||
            p->pad[2 + i] < 0)
            return op_fail(node, "kernel=%lld stride=%lld dilation=%lld pads=%lld,%lld on axis %d",
                           (long long)p->kernel[i], (long long)p->stride[i],
                           (long long)p->dilation[i], (long long)p->pad[i],
                           (long long)p->pad[2 + i], i + 2);
    }
    const struct shape *x = &op_in(g, node, 0)->shape;
    struct axis h = pool_axis(p, 0, x->dim[2], 0), w = pool_axis(p, 1, x->dim[3], 0);
    TRY(pool_extent(node, &h, "H"));
    TRY(pool_extent(node, &w, "W"));
    *out = shape_make(4, (int64_t)SHAPE_BATCH, x->dim[1], h.out, w.out);
    return 0;
}

static int global_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    TRY(op_need_image(g, node));
    *out = op_in(g, node, 0)->shape;
    out->dim[2] = out->dim[3] = 1;
    return 0;
}

/* ---- all windows --------------------------------------------------------------------------- */

/* y = window (oh, ow) of image x. */
typedef void window_fn(const struct pool *p, const float *x, int64_t oh, int64_t ow, float *y);

static void each_window(const struct op_call *k, window_fn *window)
{
    struct pool p = pool_of(k);
    int64_t size = p.h.in * p.w.in * p.c;
    float *y = k->out;

    for (int64_t b = 0; b < k->n; b++) {
        for (int64_t oh = 0; oh < p.h.out; oh++) {
            for (int64_t ow = 0; ow < p.w.out; ow++, y += p.c)
                window(&p, k->in[0] + b * size, oh, ow, y);
        }
    }
}

/* Adds the gradient dy of window (oh, ow) of the image that begins at `image`. */
typedef void window_grad_fn(const struct op_call *k, const struct pool *p, int64_t image,
                            int64_t oh, int64_t ow, const float *dy);

static void each_window_grad(const struct op_call *k, window_grad_fn *window)
{
    struct pool p = pool_of(k);
    int64_t size = p.h.in * p.w.in * p.c;
    const float *dy = k->dout;

    if (k->din[0] == NULL)
        return;
    if (!k->add[0])
        floats_fill(k->din[0], k->n * size, 0);
    for (int64_t b = 0; b < k->n; b++) {
        for (int64_t oh = 0; oh < p.h.out; oh++) {
            for (int64_t ow = 0; ow < p.w.out; ow++, dy += p.c)
                window(k, &p, b * size, oh, ow, dy);
        }
    }
}

/* ---- maximum ------------------------------------------------------------------------------- */

static void max_row(float *y, const float *x, int64_t c)
{
#pragma omp simd
    for (int64_t i = 0; i < c; i++)
        y[i] = ((x[i] > y[i]) | (x[i] != x[i])) ? x[i] : y[i];
}

/* y[c] = maximum over the taps of one window of image x. */
static void max_window(const struct pool *p, const float *x, int64_t oh, int64_t ow, float *y)
{
    struct tap_range h = taps_inside(&p->h, oh), w = taps_inside(&p->w, ow);

    floats_fill(y, p->c, -INFINITY);
    for (int64_t i = h.first; i < h.last; i++) {
        for (int64_t j = w.first; j < w.last; j++)
            max_row(y, x + tap_at(p, oh, ow, i, j), p->c);
    }
}

static void max_forward(const struct op_call *k)
{
    each_window(k, max_window);
}

/* Gives what is left of the gradient to the channels whose maximum is at this tap. */
static void max_give(float *dx, float *left, const float *x, const float *top, int64_t c)
{
#pragma omp simd
    for (int64_t i = 0; i < c; i++) {
        float v = x[i] == top[i] ? left[i] : 0;
        dx[i] += v;
        left[i] = x[i] == top[i] ? 0 : left[i];
    }
}

/* scratch: maximum [C], gradient not yet given away [C]. */
static void max_window_grad(const struct op_call *k, const struct pool *p, int64_t image,
                            int64_t oh, int64_t ow, const float *dy)
{
    struct tap_range h = taps_inside(&p->h, oh), w = taps_inside(&p->w, ow);
    const float *x = k->in[0] + image;
    float *top = k->scratch, *left = top + p->c;

    max_window(p, x, oh, ow, top);
    floats_put(left, dy, p->c, false);
    for (int64_t i = h.first; i < h.last; i++) {
        for (int64_t j = w.first; j < w.last; j++) {
            int64_t at = tap_at(p, oh, ow, i, j);
            max_give(k->din[0] + image + at, left, x + at, top, p->c);
        }
    }
}

static void max_grad(const struct op_call *k)
{
    each_window_grad(k, max_window_grad);
}

static size_t max_scratch(const struct graph *g, const struct node *node, int64_t n)
{
    (void)n;
    return (size_t)(2 * op_in(g, node, 0)->shape.dim[1]);
}

/* ---- average ------------------------------------------------------------------------------- */

/* What the sum of a window is divided by. */
static float divisor(const struct pool *p, int64_t oh, int64_t ow)
{
    struct tap_range h = taps_inside(&p->h, oh), w = taps_inside(&p->w, ow);

    if (p->include_pad) {
        h = taps_within(&p->h, oh, -p->h.begin, p->h.in + p->h.end);
        w = taps_within(&p->w, ow, -p->w.begin, p->w.in + p->w.end);
    }
    return (float)((h.last - h.first) * (w.last - w.first));
}

static void scaled_put(float *d, const float *s, float scale, int64_t n, bool add)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = add ? d[i] + s[i] * scale : s[i] * scale;
}

static void mean_window(const struct pool *p, const float *x, int64_t oh, int64_t ow, float *y)
{
    struct tap_range h = taps_inside(&p->h, oh), w = taps_inside(&p->w, ow);

    floats_fill(y, p->c, 0);
    for (int64_t i = h.first; i < h.last; i++) {
        for (int64_t j = w.first; j < w.last; j++)
            floats_put(y, x + tap_at(p, oh, ow, i, j), p->c, true);
    }
    scaled_put(y, y, 1 / divisor(p, oh, ow), p->c, false);
}

static void mean_forward(const struct op_call *k)
{
    each_window(k, mean_window);
}

static void mean_window_grad(const struct op_call *k, const struct pool *p, int64_t image,
                             int64_t oh, int64_t ow, const float *dy)
{
    struct tap_range h = taps_inside(&p->h, oh), w = taps_inside(&p->w, ow);
    float scale = 1 / divisor(p, oh, ow);

    for (int64_t i = h.first; i < h.last; i++) {
        for (int64_t j = w.first; j < w.last; j++)
            scaled_put(k->din[0] + image + tap_at(p, oh, ow, i, j), dy, scale, p->c, true);
    }
}

static void average_pool_grad(const struct op_call *k)
{
    each_window_grad(k, mean_window_grad);
}

/* Every position gets dy / (H W): one pass, no zeroing. */
static void global_average_grad(const struct op_call *k)
{
    struct image m = image_in(k, 0);
    int64_t hw = m.h * m.w;
    float *dx = k->din[0], scale = 1 / (float)hw;

    for (int64_t b = 0; b < k->n && dx != NULL; b++) {
        for (int64_t p = 0; p < hw; p++, dx += m.c)
            scaled_put(dx, k->dout + b * m.c, scale, m.c, k->add[0]);
    }
}

/* ---- table --------------------------------------------------------------------------------- */

#define FIELD(f) offsetof(union op_params, pool.f)
#define MOST (1 << 20)

static const struct attr max_attrs[] = {
    {"kernel_shape", ATTR_INTS, FIELD(kernel), 2, true, 1, 1, MOST},
    {"strides", ATTR_INTS, FIELD(stride), 2, false, 1, 1, MOST},
    {"pads", ATTR_INTS, FIELD(pad), 4, false, 0, 0, MOST},
    {"dilations", ATTR_INTS, FIELD(dilation), 2, false, 1, 1, MOST},
    {"ceil_mode", ATTR_INT, FIELD(ceil_mode), 1, false, 0, 0, 1},
    {0},
};

static const struct attr average_attrs[] = {
    {"kernel_shape", ATTR_INTS, FIELD(kernel), 2, true, 1, 1, MOST},
    {"strides", ATTR_INTS, FIELD(stride), 2, false, 1, 1, MOST},
    {"pads", ATTR_INTS, FIELD(pad), 4, false, 0, 0, MOST},
    {"dilations", ATTR_INTS, FIELD(dilation), 2, false, 1, 1, MOST},
    {"ceil_mode", ATTR_INT, FIELD(ceil_mode), 1, false, 0, 0, 1},
    {"count_include_pad", ATTR_INT, FIELD(count_include_pad), 1, false, 0, 0, 1},
    {0},
};

static const struct op_hooks max_hooks = {
    .scratch_size = max_scratch,
    .forward = max_forward,
    .grad_input = max_grad,
};

const struct op op_max_pool = {
    .type = "MaxPool",
    .in_min = 1,
    .in_max = 1,
    .attrs = max_attrs,
    .flags = OP_KEEP_X,
    .shape = pool_shape,
    .hooks = &max_hooks,
};

const struct op op_global_max_pool = {
    .type = "GlobalMaxPool",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_KEEP_X,
    .shape = global_shape,
    .hooks = &max_hooks,
};

const struct op op_average_pool = {
    .type = "AveragePool",
    .in_min = 1,
    .in_max = 1,
    .attrs = average_attrs,
    .flags = OP_LINEAR,
    .shape = pool_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = mean_forward,
            .grad_input = average_pool_grad,
        },
};

const struct op op_global_average_pool = {
    .type = "GlobalAveragePool",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_LINEAR,
    .shape = global_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = mean_forward,
            .grad_input = global_average_grad,
        },
};
