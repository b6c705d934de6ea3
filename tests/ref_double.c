/*
 * The double-precision reference interpreter (ref_double.h).
 *
 * Every operator is two functions: forward fills y->v, backward adds into the gradients of its
 * inputs, all of them, wanted or not. Indices are written out, nothing is blocked or reordered.
 */
#include "tests/ref_double.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors ------------------------------------------------------------------------------- */

struct tensor { /* dims in ONNX order, the batch written out; d[i] = 1 beyond rank */
    int rank;
    int64_t d[4];
    double *v, *g;
};

struct job { /* one node at work */
    struct ref *r;
    const struct node *node;
    struct tensor in[NODE_MAX_IN], y;
};

static double *doubles(int64_t n)
{
    double *p = calloc((size_t)n + 1, sizeof *p);

    if (p == NULL)
        abort();
    return p;
}

static int64_t count_of(const struct ref *r, value_id v)
{
    const struct shape *s = &r->g->value[v].shape;
    int64_t n = 1;

    for (int i = 0; i < s->rank; i++)
        n *= s->dim[i] == SHAPE_BATCH ? r->n : s->dim[i];
    return n;
}

static struct tensor tensor_of(const struct ref *r, value_id v)
{
    const struct shape *s = &r->g->value[v].shape;
    struct tensor t = {s->rank, {1, 1, 1, 1}, r->value[v], r->grad[v]};

    if (s->rank > 4)
        abort();
    for (int i = 0; i < s->rank; i++)
        t.d[i] = s->dim[i] == SHAPE_BATCH ? r->n : s->dim[i];
    return t;
}

static int64_t size_of(const struct tensor *t)
{
    return t->d[0] * t->d[1] * t->d[2] * t->d[3];
}

static int64_t at(const struct tensor *t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return ((a * t->d[1] + b) * t->d[2] + c) * t->d[3] + d;
}

/* The multi-index of element e. */
static void unravel(const struct tensor *t, int64_t e, int64_t i[4])
{
    for (int k = 3; k >= 0; k--) {
        i[k] = e % t->d[k];
        e /= t->d[k];
    }
}

/* The channel of element e. */
static int64_t channel(const struct tensor *x, int64_t e)
{
    return e / (x->d[2] * x->d[3]) % x->d[1];
}

/* Element number k of channel c, of per_channel(x). */
static int64_t of_channel(const struct tensor *x, int64_t c, int64_t k)
{
    int64_t hw = x->d[2] * x->d[3];
    return (k / hw * x->d[1] + c) * hw + k % hw;
}

static int64_t per_channel(const struct tensor *x)
{
    return x->d[0] * x->d[2] * x->d[3];
}

/* ---- Conv ---------------------------------------------------------------------------------- */

static bool has_third(const struct job *j)
{
    return j->node->n_in > 2 && j->node->in[2] != NO_VALUE;
}

/* Input row or column of tap k of output o, along spatial axis a (0: H, 1: W); -1: padding. */
static int64_t conv_source(const struct job *j, int a, int64_t o, int64_t k)
{
    const struct conv_params *p = &j->node->p.conv;
    int64_t i = o * p->stride[a] - p->pad[a] + k * p->dilation[a];

    return i >= 0 && i < j->in[0].d[2 + a] ? i : -1;
}

/* What an output element has to do with one tap: channels of x step by step_x, of w by step_w. */
static double conv_tap(struct job *j, int64_t e, int64_t ix, int64_t iw, bool backward)
{
    const struct tensor *x = &j->in[0], *w = &j->in[1];
    int64_t step_x = x->d[2] * x->d[3], step_w = w->d[2] * w->d[3];
    double sum = 0, dy = backward ? j->y.g[e] : 0;

    for (int64_t c = 0; c < w->d[1] && !backward; c++)
        sum += x->v[ix + c * step_x] * w->v[iw + c * step_w];
    for (int64_t c = 0; c < w->d[1] && backward; c++) {
        x->g[ix + c * step_x] += dy * w->v[iw + c * step_w];
        w->g[iw + c * step_w] += dy * x->v[ix + c * step_x];
    }
    return sum;
}

/* Output element e = (n, o, oh, ow): its sum over the taps, or its share of the gradients. */
static double conv_element(struct job *j, int64_t e, bool backward)
{
    const struct tensor *x = &j->in[0], *w = &j->in[1];
    int64_t i[4], per_group = j->y.d[1] / j->node->p.conv.group;
    double sum = 0;

    unravel(&j->y, e, i);
    for (int64_t kh = 0; kh < w->d[2]; kh++) {
        int64_t h = conv_source(j, 0, i[2], kh);
        for (int64_t kw = 0; kw < w->d[3]; kw++) {
            int64_t v = conv_source(j, 1, i[3], kw);
            if (h >= 0 && v >= 0)
                sum += conv_tap(j, e, at(x, i[0], i[1] / per_group * w->d[1], h, v),
                                at(w, i[1], 0, kh, kw), backward);
        }
    }
    return sum;
}

static void conv_forward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        j->y.v[e] = has_third(j) ? j->in[2].v[channel(&j->y, e)] : 0;
        j->y.v[e] += conv_element(j, e, false);
    }
}

static void conv_backward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        if (has_third(j))
            j->in[2].g[channel(&j->y, e)] += j->y.g[e];
        conv_element(j, e, true);
    }
}

/* ---- Gemm ---------------------------------------------------------------------------------- */

static void gemm_forward(struct job *j)
{
    const struct tensor *x = &j->in[0], *w = &j->in[1];

    for (int64_t n = 0; n < x->d[0]; n++) {
        for (int64_t o = 0; o < w->d[0]; o++) {
            double sum = has_third(j) ? j->in[2].v[o] : 0;
            for (int64_t i = 0; i < w->d[1]; i++)
                sum += x->v[n * w->d[1] + i] * w->v[o * w->d[1] + i];
            j->y.v[n * w->d[0] + o] = sum;
        }
    }
}

static void gemm_backward(struct job *j)
{
    const struct tensor *x = &j->in[0], *w = &j->in[1];

    for (int64_t n = 0; n < x->d[0]; n++) {
        for (int64_t o = 0; o < w->d[0]; o++) {
            double dy = j->y.g[n * w->d[0] + o];
            if (has_third(j))
                j->in[2].g[o] += dy;
            for (int64_t i = 0; i < w->d[1]; i++) {
                x->g[n * w->d[1] + i] += dy * w->v[o * w->d[1] + i];
                w->g[o * w->d[1] + i] += dy * x->v[n * w->d[1] + i];
            }
        }
    }
}

/* ---- BatchNormalization -------------------------------------------------------------------- */

struct bn { /* one channel */
    struct tensor gamma, beta;
    double mean, var, inv, count;
    bool batch;
};

static int bn_base(const struct job *j)
{
    return j->r->branch == 1 && j->node->n_in == 9 ? 5 : 1;
}

static struct bn bn_channel(const struct job *j, int64_t c)
{
    const struct tensor *x = &j->in[0];
    int base = bn_base(j);
    struct bn b = {.gamma = j->in[base], .beta = j->in[base + 1]};

    b.batch = j->r->training && !j->node->frozen;
    b.mean = j->in[base + 2].v[c];
    b.var = j->in[base + 3].v[c];
    b.count = (double)per_channel(x);
    if (b.batch) {
        b.mean = b.var = 0;
        for (int64_t k = 0; k < per_channel(x); k++)
            b.mean += x->v[of_channel(x, c, k)];
        b.mean /= b.count;
        for (int64_t k = 0; k < per_channel(x); k++)
            b.var += pow(x->v[of_channel(x, c, k)] - b.mean, 2);
        b.var /= b.count;
    }
    b.inv = 1 / sqrt(b.var + (double)j->node->p.batchnorm.eps);
    return b;
}

static void bn_move(struct job *j, const struct bn *b, int64_t c)
{
    const struct value *mean = &j->r->g->value[j->node->in[bn_base(j) + 2]];
    const struct value *var = &j->r->g->value[j->node->in[bn_base(j) + 3]];
    double m = (double)j->node->p.batchnorm.momentum;

    if (!b->batch)
        return;
    double *to = &j->r->moved[mean->offset + c];
    *to = m * *to + (1 - m) * b->mean;
    to = &j->r->moved[var->offset + c];
    *to = m * *to + (1 - m) * b->var * b->count / (b->count - 1);
}

static void bn_forward(struct job *j)
{
    const struct tensor *x = &j->in[0];

    for (int64_t c = 0; c < x->d[1]; c++) {
        struct bn b = bn_channel(j, c);
        for (int64_t k = 0; k < per_channel(x); k++) {
            int64_t e = of_channel(x, c, k);
            j->y.v[e] = b.gamma.v[c] * (x->v[e] - b.mean) * b.inv + b.beta.v[c];
        }
        bn_move(j, &b, c);
    }
}

/* The chain rule through variance and mean, step by step. */
static void bn_backward(struct job *j)
{
    const struct tensor *x = &j->in[0];

    for (int64_t c = 0; c < x->d[1]; c++) {
        struct bn b = bn_channel(j, c);
        double dvar = 0, dmean = 0, centred = 0;
        for (int64_t k = 0; k < per_channel(x); k++) {
            int64_t e = of_channel(x, c, k);
            double dy = j->y.g[e], z = x->v[e] - b.mean;
            b.gamma.g[c] += dy * z * b.inv;
            b.beta.g[c] += dy;
            dvar += dy * b.gamma.v[c] * z * -0.5 * pow(b.inv, 3);
            dmean -= dy * b.gamma.v[c] * b.inv;
            centred += z;
        }
        dmean -= dvar * 2 * centred / b.count;
        for (int64_t k = 0; k < per_channel(x); k++) {
            int64_t e = of_channel(x, c, k);
            x->g[e] += j->y.g[e] * b.gamma.v[c] * b.inv;
            if (b.batch)
                x->g[e] += dvar * 2 * (x->v[e] - b.mean) / b.count + dmean / b.count;
        }
    }
}

/* ---- Relu, MaskedRelu, Softmax ------------------------------------------------------------- */

static void relu_forward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++)
        j->y.v[e] = fmax(j->in[0].v[e], 0);
}

static void relu_backward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++)
        j->in[0].g[e] += j->in[0].v[e] > 0 ? j->y.g[e] : 0;
}

static int64_t mask_at(const struct job *j, int64_t e)
{
    return e % (size_of(&j->y) / j->y.d[0]);
}

static double slope_at(const struct job *j, int64_t e)
{
    return j->in[2].v ? j->in[2].v[channel(&j->y, e)] : 1;
}

static double relu6(double x)
{
    return fmin(fmax(x, 0), 6);
}

static void relu6_forward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++)
        j->y.v[e] = relu6(j->in[0].v[e]);
}

static void relu6_backward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++)
        j->in[0].g[e] += j->in[0].v[e] > 0 && j->in[0].v[e] < 6 ? j->y.g[e] : 0;
}

static double relu_of(const struct job *j, double x)
{
    return j->node->p.masked_relu.relu6 ? relu6(x) : fmax(x, 0);
}

static void masked_forward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        double x = j->in[0].v[e], m = j->in[1].v[mask_at(j, e)];
        double b = j->in[3].v ? j->in[3].v[channel(&j->y, e)] : 0;
        j->y.v[e] = m * relu_of(j, x) + (1 - m) * (slope_at(j, e) * x + b);
    }
}

static void masked_backward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        double x = j->in[0].v[e], m = j->in[1].v[mask_at(j, e)], dy = j->y.g[e];
        j->in[0].g[e] += dy * (m * (relu_of(j, x) == x) + (1 - m) * slope_at(j, e));
        j->in[1].g[mask_at(j, e)] += dy * (relu_of(j, x) - x);
        if (j->in[2].g)
            j->in[2].g[channel(&j->y, e)] += dy * (1 - m) * x;
        if (j->in[3].g)
            j->in[3].g[channel(&j->y, e)] += dy * (1 - m);
    }
}

/* Over dim 1: every other index is one distribution. */
static void softmax_forward(struct job *j)
{
    const struct tensor *y = &j->y;

    for (int64_t e = 0; e < size_of(y); e++) {
        int64_t i[4];
        double sum = 0;
        unravel(y, e, i);
        for (int64_t c = 0; c < y->d[1]; c++)
            sum += exp(j->in[0].v[at(y, i[0], c, i[2], i[3])] - j->in[0].v[e]);
        y->v[e] = 1 / sum;
    }
}

static void softmax_backward(struct job *j)
{
    const struct tensor *y = &j->y;

    for (int64_t e = 0; e < size_of(y); e++) {
        int64_t i[4];
        unravel(y, e, i);
        for (int64_t c = 0; c < y->d[1]; c++) {
            int64_t k = at(y, i[0], c, i[2], i[3]);
            j->in[0].g[e] += y->g[k] * y->v[k] * ((k == e ? 1 : 0) - y->v[e]);
        }
    }
}

/* ---- Add, Sub, Mul, Div -------------------------------------------------------------------- */

/* Element of operand t that output element e reads, by numpy's rule. */
static int64_t broadcast_at(const struct tensor *t, const struct tensor *y, int64_t e)
{
    int64_t i[4], from = 0;

    unravel(y, e, i);
    for (int k = 0; k < t->rank; k++) {
        int64_t index = t->d[k] == 1 ? 0 : i[k + y->rank - t->rank];
        from = from * t->d[k] + index;
    }
    return from;
}

static void binary_forward(struct job *j)
{
    const struct op *op = j->node->op;

    for (int64_t e = 0; e < size_of(&j->y); e++) {
        double a = j->in[0].v[broadcast_at(&j->in[0], &j->y, e)];
        double b = j->in[1].v[broadcast_at(&j->in[1], &j->y, e)];
        j->y.v[e] = op == &op_add ? a + b : op == &op_sub ? a - b : op == &op_mul ? a * b : a / b;
    }
}

static void binary_backward(struct job *j)
{
    const struct op *op = j->node->op;

    for (int64_t e = 0; e < size_of(&j->y); e++) {
        int64_t ia = broadcast_at(&j->in[0], &j->y, e), ib = broadcast_at(&j->in[1], &j->y, e);
        double a = j->in[0].v[ia], b = j->in[1].v[ib], dy = j->y.g[e];
        double da = op == &op_mul ? b : op == &op_div ? 1 / b : 1;
        double db = op == &op_mul ? a : op == &op_div ? -a / (b * b) : op == &op_sub ? -1 : 1;
        j->in[0].g[ia] += dy * da;
        j->in[1].g[ib] += dy * db;
    }
}

/* ---- pools --------------------------------------------------------------------------------- */

struct window { /* taps inside the image of one output, and the divisor of its average */
    int64_t *x, n;
    double divisor;
};

static bool global_pool(const struct job *j)
{
    return j->node->op == &op_global_average_pool || j->node->op == &op_global_max_pool;
}

static struct window window_of(const struct job *j, int64_t e, int64_t *room)
{
    const struct tensor *x = &j->in[0];
    struct pool_params p = j->node->p.pool;
    struct window w = {room, 0, 0};
    int64_t i[4];

    if (global_pool(j))
        p = (struct pool_params){
            .kernel = {x->d[2], x->d[3]}, .stride = {1, 1}, .dilation = {1, 1}};
    unravel(&j->y, e, i);
    for (int64_t k = 0; k < p.kernel[0] * p.kernel[1]; k++) {
        int64_t h = i[2] * p.stride[0] - p.pad[0] + k / p.kernel[1] * p.dilation[0];
        int64_t v = i[3] * p.stride[1] - p.pad[1] + k % p.kernel[1] * p.dilation[1];
        bool inside = h >= 0 && h < x->d[2] && v >= 0 && v < x->d[3];
        if (inside)
            w.x[w.n++] = at(x, i[0], i[1], h, v);
        if (inside || (p.count_include_pad && h < x->d[2] + p.pad[2] && v < x->d[3] + p.pad[3]))
            w.divisor++;
    }
    return w;
}

static int64_t *window_room(const struct job *j)
{
    const struct pool_params *p = &j->node->p.pool;
    int64_t n = global_pool(j) ? j->in[0].d[2] * j->in[0].d[3] : p->kernel[0] * p->kernel[1];
    int64_t *room = calloc((size_t)n + 1, sizeof *room);

    if (room == NULL)
        abort();
    return room;
}

static bool max_pool(const struct job *j)
{
    return j->node->op == &op_max_pool || j->node->op == &op_global_max_pool;
}

static int64_t window_top(const struct job *j, const struct window *w)
{
    int64_t best = w->x[0];

    for (int64_t k = 1; k < w->n; k++)
        best = j->in[0].v[w->x[k]] > j->in[0].v[best] ? w->x[k] : best;
    return best;
}

static void pool_forward(struct job *j)
{
    int64_t *room = window_room(j);

    for (int64_t e = 0; e < size_of(&j->y); e++) {
        struct window w = window_of(j, e, room);
        double sum = 0;
        for (int64_t k = 0; k < w.n; k++)
            sum += j->in[0].v[w.x[k]];
        j->y.v[e] = max_pool(j) ? j->in[0].v[window_top(j, &w)] : sum / w.divisor;
    }
    free(room);
}

static void pool_backward(struct job *j)
{
    int64_t *room = window_room(j);

    for (int64_t e = 0; e < size_of(&j->y); e++) {
        struct window w = window_of(j, e, room);
        if (max_pool(j))
            j->in[0].g[window_top(j, &w)] += j->y.g[e];
        for (int64_t k = 0; k < w.n && !max_pool(j); k++)
            j->in[0].g[w.x[k]] += j->y.g[e] / w.divisor;
    }
    free(room);
}

/* ---- Pad, Slice, Flatten, Reshape ---------------------------------------------------------- */

/* Element of the input that output element e copies, -1: padding. */
static int64_t moved_from(const struct job *j, int64_t e)
{
    const struct pad_params *pad = &j->node->p.pad;
    const struct slice_params *slice = &j->node->p.slice;
    const struct tensor *x = &j->in[0];
    int64_t i[4];

    if (j->node->op == &op_flatten || j->node->op == &op_reshape)
        return e; /* both are in ONNX order */
    unravel(&j->y, e, i);
    for (int k = 1; k < x->rank; k++) {
        i[k] =
            j->node->op == &op_pad ? i[k] - pad->begin[k] : slice->start[k] + i[k] * slice->step[k];
        if (i[k] < 0 || i[k] >= x->d[k])
            return -1;
    }
    return at(x, i[0], i[1], i[2], i[3]);
}

static void move_forward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        int64_t from = moved_from(j, e);
        j->y.v[e] = from < 0 ? (double)j->node->p.pad.value : j->in[0].v[from];
    }
}

static void move_backward(struct job *j)
{
    for (int64_t e = 0; e < size_of(&j->y); e++) {
        int64_t from = moved_from(j, e);
        if (from >= 0)
            j->in[0].g[from] += j->y.g[e];
    }
}

/* ---- the interpreter ----------------------------------------------------------------------- */

static const struct {
    const struct op *op;
    void (*forward)(struct job *), (*backward)(struct job *);
} rule[] = {
    {&op_conv, conv_forward, conv_backward},
    {&op_gemm, gemm_forward, gemm_backward},
    {&op_batchnorm, bn_forward, bn_backward},
    {&op_relu, relu_forward, relu_backward},
    {&op_relu6, relu6_forward, relu6_backward},
    {&op_masked_relu, masked_forward, masked_backward},
    {&op_softmax, softmax_forward, softmax_backward},
    {&op_add, binary_forward, binary_backward},
    {&op_sub, binary_forward, binary_backward},
    {&op_mul, binary_forward, binary_backward},
    {&op_div, binary_forward, binary_backward},
    {&op_max_pool, pool_forward, pool_backward},
    {&op_average_pool, pool_forward, pool_backward},
    {&op_global_max_pool, pool_forward, pool_backward},
    {&op_global_average_pool, pool_forward, pool_backward},
    {&op_pad, move_forward, move_backward},
    {&op_slice, move_forward, move_backward},
    {&op_flatten, move_forward, move_backward},
    {&op_reshape, move_forward, move_backward},
};

static void run_node(struct ref *r, const struct node *node, bool backward)
{
    struct job j = {.r = r, .node = node, .y = tensor_of(r, node->out[0])};

    for (int32_t i = 0; i < node->n_in; i++) {
        if (node->in[i] != NO_VALUE)
            j.in[i] = tensor_of(r, node->in[i]);
    }
    for (size_t k = 0; k < sizeof rule / sizeof *rule; k++) {
        if (rule[k].op == node->op) {
            (backward ? rule[k].backward : rule[k].forward)(&j);
            return;
        }
    }
    fprintf(stderr, "'%s' has no rule in tests/ref_double.c\n", node->op->type);
    abort();
}

static double *widened(const float *from, int64_t n)
{
    double *to = doubles(n);

    for (int64_t i = 0; i < n; i++)
        to[i] = (double)from[i];
    return to;
}

/* Where the data of a constant lie; NULL for an activation. */
static double *constant_of(struct ref *r, const struct value *v, bool grad)
{
    switch (v->kind) {
    case VALUE_PARAM:
        return (grad ? r->dparams : r->params) + v->offset;
    case VALUE_MASK:
        return (grad ? r->dmasks : r->masks) + v->offset;
    case VALUE_BUFFER:
        return grad ? NULL : r->buffers + v->offset;
    default:
        return NULL;
    }
}

struct ref *ref_new(const struct graph *g, const float *pixels, int64_t n)
{
    struct ref *r = calloc(1, sizeof *r);

    if (r == NULL)
        abort();
    r->g = g;
    r->n = n;
    r->params = widened(g->params, g->n_params);
    r->buffers = widened(g->buffers, g->n_buffers);
    r->moved = widened(g->buffers, g->n_buffers);
    r->masks = widened(g->masks, g->n_masks);
    r->pixels = widened(pixels, count_of(r, g->input));
    r->dparams = doubles(g->n_params);
    r->dmasks = doubles(g->n_masks);
    r->dpixels = doubles(count_of(r, g->input));
    r->value = calloc((size_t)g->n_value, sizeof *r->value);
    r->grad = calloc((size_t)g->n_value, sizeof *r->grad);
    if (r->value == NULL || r->grad == NULL)
        abort();
    for (value_id v = 0; v < g->n_value; v++) {
        const struct value *x = &g->value[v];
        double *place = constant_of(r, x, false), *grad = constant_of(r, x, true);
        r->value[v] = place                    ? place
                      : x->kind == VALUE_CONST ? widened(x->data, count_of(r, v))
                                               : doubles(count_of(r, v));
        r->grad[v] = grad ? grad : doubles(count_of(r, v));
    }
    return r;
}

void ref_free(struct ref *r)
{
    for (value_id v = 0; v < r->g->n_value; v++) {
        if (constant_of(r, &r->g->value[v], false) == NULL)
            free(r->value[v]);
        if (constant_of(r, &r->g->value[v], true) == NULL)
            free(r->grad[v]);
    }
    free(r->value);
    free(r->grad);
    free(r->params);
    free(r->buffers);
    free(r->moved);
    free(r->masks);
    free(r->pixels);
    free(r->dparams);
    free(r->dmasks);
    free(r->dpixels);
    free(r);
}

/* The factor of channel c of input element e, and what is subtracted before. */
static double input_std(const struct ref *r, int64_t e, double *mean)
{
    struct tensor x = tensor_of(r, r->g->input);
    int64_t c = channel(&x, e);
    bool on = x.rank == 4 && c < r->g->norm.channels;

    *mean = on ? (double)r->g->norm.mean[c] : 0;
    return on ? (double)r->g->norm.std[c] : 1;
}

void ref_forward(struct ref *r, int branch, bool training)
{
    const struct graph *g = r->g;
    double mean;

    r->branch = branch;
    r->training = training;
    memcpy(r->moved, r->buffers, (size_t)g->n_buffers * sizeof *r->moved);
    for (int64_t e = 0; e < count_of(r, g->input); e++) {
        double std = input_std(r, e, &mean);
        r->value[g->input][e] = (r->pixels[e] - mean) / std;
    }
    for (int32_t i = 0; i < g->n_node; i++)
        run_node(r, &g->node[i], false);
}

void ref_backward(struct ref *r, const double *dlogits)
{
    const struct graph *g = r->g;
    double mean;

    for (value_id v = 0; v < g->n_value; v++)
        memset(r->grad[v], 0, (size_t)count_of(r, v) * sizeof **r->grad);
    memcpy(r->grad[g->output], dlogits, (size_t)count_of(r, g->output) * sizeof *dlogits);
    for (int32_t i = g->n_node - 1; i >= 0; i--)
        run_node(r, &g->node[i], true);
    for (int64_t e = 0; e < count_of(r, g->input); e++)
        r->dpixels[e] = r->grad[g->input][e] / input_std(r, e, &mean);
}
