/*
 * Axes and phases of convolution (conv_geom.h).
 *
 * Forward, one axis: y[o] = sum over k of x[o * s - p + k * d] * w[k].
 * Hence dx[i] = sum over k of dy[(i + p - k * d) / s] * w[k] over the k that divide evenly. With
 * r = (i + p) mod s these are k0, k0 + s/g, k0 + 2 s/g, ... (g = gcd_i64(s, d)), if any, and from one
 * to the next the row of dy moves by -d/g. Taps are listed from the largest k down, so that rows of
 * dy go up and neighbouring taps of a dense kernel are neighbours in memory.
 */
#include "core/kernel/conv_geom.h"

#include "core/base/minmax.h"

void conv_axis_forward(struct conv_axis *a, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                       int64_t dilation, int64_t pad)
{
    *a = (struct conv_axis){.src = in,
                            .dst = out,
                            .lead = pad,
                            .extent = (out - 1) * stride + (kernel - 1) * dilation + 1,
                            .stride = stride,
                            .phases = 1,
                            .step = 1,
                            .kernel = kernel,
                            .dilation = dilation,
                            .pad = pad,
                            .node_stride = stride};
}

/* Taps of a gradient phase with `first` still in rows of dy, where it may be negative. */
static struct conv_taps grad_taps(const struct conv_axis *a, int64_t phase)
{
    int64_t s = a->node_stride, d = a->dilation, g = gcd_i64(s, d), k_step = s / g, k0 = 0;
    struct conv_taps t = {.rows = (a->dst - phase + s - 1) / s, .step = d / g, .k_step = -k_step};

    while (k0 < k_step && k0 < a->kernel && (phase + a->pad - k0 * d) % s != 0)
        k0++;
    if (k0 == k_step || k0 == a->kernel)
        return t;
    t.count = (a->kernel - 1 - k0) / k_step + 1;
    t.k_first = k0 + (t.count - 1) * k_step;
    t.first = (phase + a->pad - t.k_first * d) / s;
    return t;
}

void conv_axis_grad(struct conv_axis *a, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                    int64_t dilation, int64_t pad)
{
    int64_t rows = (in + stride - 1) / stride; /* of the longest phase */
    int64_t low = 0, high = 0; /* rows of dy that a tap reads if every phase were so long */

    *a = (struct conv_axis){.grad = true,
                            .src = out,
                            .dst = in,
                            .stride = 1,
                            .phases = min_i64(stride, in),
                            .step = stride,
                            .kernel = kernel,
                            .dilation = dilation,
                            .pad = pad,
                            .node_stride = stride};
    for (int64_t phase = 0; phase < a->phases; phase++) {
        struct conv_taps t = grad_taps(a, phase);
        int64_t end = t.first + (t.count - 1) * t.step + rows;

        if (t.count == 0)
            continue;
        low = high == low || t.first < low ? t.first : low;
        high = max_i64(high, end);
    }
    a->lead = -low;
    a->extent = high > low ? high - low : rows;
}

struct conv_taps conv_axis_taps(const struct conv_axis *a, int64_t phase)
{
    if (!a->grad)
        return (struct conv_taps){
            .rows = a->dst, .count = a->kernel, .step = a->dilation, .k_step = 1};

    struct conv_taps t = grad_taps(a, phase);
    t.first += a->lead;
    return t;
}
