#ifndef CORE_KERNEL_CONV_GEOM_H
#define CORE_KERNEL_CONV_GEOM_H
/*
 * Forward convolution and its input gradient as one thing: a correlation of a padded source with a
 * kernel, for one or more phases of the destination. One axis (H or W) at a time.
 *
 *     dst[phase + step * t] += source[first + stride * t + tap_step * j] * w[k_first + k_step * j]
 *
 * with t < rows, j < taps. The source is counted in padded coordinates: source row s of the tensor
 * lies at s + lead, everything else in [0, extent) is zero.
 *
 * Forward: one phase, stride as in the node. Gradient: the stride moves to the destination; each
 * phase of it sees only every stride-th tap, flipped, so no product with an inserted zero is done.
 */
#include <stdbool.h>
#include <stdint.h>

struct conv_axis {
    bool grad;
    int64_t src, dst;     /* extent of both tensors */
    int64_t lead, extent; /* of the padded source */
    int64_t stride;       /* padded source rows from t to t + 1 */
    int64_t phases, step; /* dst rows phase, phase + step, ... form a phase */
    int64_t kernel, dilation, pad, node_stride;
};
struct conv_taps {
    int64_t rows;            /* of dst in this phase */
    int64_t first;           /* padded source row of tap 0 at t = 0 */
    int64_t count, step;     /* taps and padded source rows between them; count may be 0 */
    int64_t k_first, k_step; /* which kernel row each is; k_step < 0 in the gradient */
};

/* One correlation: forward, or the gradient with respect to the input. */
struct conv_pass {
    struct conv_axis y, x;
    int64_t groups, src_c, dst_c; /* channels over all groups */
};

/* in, out: extents of the node's input and output, both already valid; pad: the leading one. */
void conv_axis_forward(struct conv_axis *a, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                       int64_t dilation, int64_t pad);
void conv_axis_grad(struct conv_axis *a, int64_t in, int64_t out, int64_t kernel, int64_t stride,
                    int64_t dilation, int64_t pad);
/* phase < a->phases. */
struct conv_taps conv_axis_taps(const struct conv_axis *a, int64_t phase);
#endif
