/* The naive interpreter (plan_naive.h): each element straight from the meaning of its step. */
#include "tests/plan_naive.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct package {
    const struct plan *p;
    const struct plan_weights *w;
};

/* Value at (c, h, w) of a [C,H,W] tensor, 0 outside. */
static uint64_t at(const uint64_t *x, const struct plan_tensor *t, int64_t c, int64_t h, int64_t w)
{
    if (h < 0 || w < 0 || h >= t->dim[1] || w >= t->dim[2])
        return 0;
    return x[(c * t->dim[1] + h) * t->dim[2] + w];
}

static uint64_t naive_linear(const struct plan_step *s, const struct plan_matrix *m,
                             const struct plan_tensor *in, const uint64_t *x, const int64_t o[3])
{
    const struct plan_linear *l = &s->u.linear;
    int64_t per = in->dim[0] / l->group, g = o[0] / (m->rows / l->group);
    const int16_t *w = m->weight + o[0] * m->columns;
    uint64_t sum = (uint64_t)m->bias[o[0]];

    for (int64_t c = 0; c < per; c++)
        for (int64_t a = 0; a < l->kernel[0]; a++)
            for (int64_t b = 0; b < l->kernel[1]; b++)
                sum += (uint64_t)*w++ * at(x, in, g * per + c,
                                           o[1] * l->stride[0] - l->pad[0] + a * l->dilation[0],
                                           o[2] * l->stride[1] - l->pad[1] + b * l->dilation[1]);
    return sum;
}

static uint64_t naive_pool(const struct plan_step *s, const struct plan_tensor *in,
                           const uint64_t *x, const int64_t o[3])
{
    const struct plan_pool *p = &s->u.pool;
    int64_t sum = 0, max = INT64_MIN;

    for (int64_t a = 0; a < p->kernel[0]; a++)
        for (int64_t b = 0; b < p->kernel[1]; b++) {
            int64_t h = o[1] * p->stride[0] - p->pad[0] + a,
                    w = o[2] * p->stride[1] - p->pad[1] + b;
            int64_t v = (int64_t)at(x, in, o[0], h, w);
            sum += v;
            if (h >= 0 && w >= 0 && h < in->dim[1] && w < in->dim[2] && v > max)
                max = v;
        }
    return (uint64_t)(s->kind == PLAN_MAX_POOL ? max : sum);
}

static int64_t floor_shift(uint64_t v, int bits)
{
    int64_t x = (int64_t)v, unit = (int64_t)1 << bits;

    return x / unit - (x % unit < 0);
}

/* A removed position of channel c. */
static uint64_t naive_removed(const struct package *t, const struct plan_step *s, uint64_t x,
                              int64_t c)
{
    const struct plan_relu *r = &s->u.relu;

    if (r->line_shift == 0)
        return x;
    x *= r->n_slope > 0 ? (uint64_t)(int64_t)r->slope[c] : 1;
    return (uint64_t)(floor_shift(x, r->line_shift) + t->w->matrix[s - t->p->step].bias[c]);
}

static uint64_t naive_element(const struct package *t, const struct plan_step *s,
                              uint64_t *const *v, const int64_t o[3], int64_t flat)
{
    const struct plan_tensor *in = &t->p->tensor[s->in[0]];
    const uint64_t *x = v[s->in[0]];

    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return naive_linear(s, &t->w->matrix[s - t->p->step], in, x, o);
    case PLAN_ADD:
        return (x[flat] << s->input_shift[0]) + (v[s->in[1]][flat] << s->input_shift[1]);
    case PLAN_RELU:
        for (int64_t i = 0; i < s->u.relu.kept; i++)
            if (s->u.relu.index[i] == flat)
                return (int64_t)x[flat] < 0 ? 0
                       : s->u.relu.cap > 0 && x[flat] > (uint64_t)s->u.relu.cap
                           ? (uint64_t)s->u.relu.cap
                           : x[flat];
        return naive_removed(t, s, x[flat], o[0]);
    case PLAN_SUM_POOL:
    case PLAN_MAX_POOL:
        return naive_pool(s, in, x, o);
    case PLAN_PAD:
        if (o[0] < s->u.pad.begin[0] || o[0] - s->u.pad.begin[0] >= in->dim[0])
            return 0;
        return at(x, in, o[0] - s->u.pad.begin[0], o[1] - s->u.pad.begin[1],
                  o[2] - s->u.pad.begin[2]);
    case PLAN_SLICE:
        return at(x, in, s->u.slice.start[0] + o[0] * s->u.slice.step[0],
                  s->u.slice.start[1] + o[1] * s->u.slice.step[1],
                  s->u.slice.start[2] + o[2] * s->u.slice.step[2]);
    case PLAN_FLATTEN:
        return x[flat];
    }
    return 0;
}

static void naive_step(const struct package *t, const struct plan_step *s, uint64_t **v)
{
    const struct plan_tensor *out = &t->p->tensor[s->out];
    int64_t flat = 0;

    v[s->out] = mem_array((size_t)out->count, sizeof **v);
    assert_non_null(v[s->out]);
    for (int64_t c = 0; c < out->dim[0]; c++)
        for (int64_t h = 0; h < out->dim[1]; h++)
            for (int64_t w = 0; w < out->dim[2]; w++, flat++) {
                const int64_t o[3] = {c, h, w};
                v[s->out][flat] = (uint64_t)floor_shift(naive_element(t, s, v, o, flat), s->shift);
            }
}

void plan_naive(const struct plan *p, const struct plan_weights *w, const float *pixels, int64_t *y)
{
    const struct package package = {p, w};
    const struct plan_tensor *out = &p->tensor[p->step[p->n_step - 1].out];
    uint64_t **v = mem_array((size_t)p->n_tensor, sizeof *v);
    int64_t plane = p->tensor[0].dim[1] * p->tensor[0].dim[2];

    assert_non_null(v);
    v[0] = mem_array((size_t)p->tensor[0].count, sizeof **v);
    for (int64_t i = 0; i < p->tensor[0].count; i++) {
        double x = ((double)pixels[i] - p->input.mean[i / plane]) / p->input.std[i / plane];
        v[0][i] = (uint64_t)(int64_t)nearbyint(ldexp(x, p->scale));
    }
    for (int32_t i = 0; i < p->n_step; i++)
        naive_step(&package, &p->step[i], v);
    memcpy(y, v[p->step[p->n_step - 1].out], (size_t)out->count * sizeof *y);
    for (int32_t i = 0; i < p->n_tensor; i++)
        mem_free(v[i]);
    mem_free(v);
}
