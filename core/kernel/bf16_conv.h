#ifndef CORE_KERNEL_BF16_CONV_H
#define CORE_KERNEL_BF16_CONV_H
/*
 * Convolution in bf16 (bf16.h): forward and input gradient as one thing, and the weight gradient.
 *
 * Along an axis, tile j = phases * t + f of the destination reads, for every tap of phase f, tile
 * step * t + tap.at of the source. A tap is a matrix of 32 x 32 weights; where tiles hold two pixels
 * it connects pixel a of the destination with pixel b of the source through kernel index
 * tap.k[a][b], and is zero where none does. So packed pixels, strides and the phases of a strided
 * gradient are only taps. Weights, in the order they are read:
 *
 *     [phase y][phase x][dst block][src block][tap y][tap x][2 halves][16 src pairs][16 dst][2]
 *
 * A sum runs over source block, tap y, tap x, each upwards; taps outside the map are left out.
 *
 * Limits: dense, no dilation, kernels up to 7, strides up to 2, 16 channels or more on both sides.
 */
#include "core/kernel/bf16.h"

#define BF16_MAX_TAPS 9 /* a kernel of 7 under two pixels, two apart */
#define BF16_MAX_PHASES 4

struct bf16_tap {
    int64_t at;
    int8_t k[2][2]; /* -1: none */
};
struct bf16_taps {
    int32_t n;
    struct bf16_tap tap[BF16_MAX_TAPS];
};
struct bf16_axis {
    int64_t src, dst; /* tiles */
    int64_t step;     /* source tiles from t to t + 1 */
    int32_t phases;
    struct bf16_taps phase[BF16_MAX_PHASES];
};
struct bf16_conv {
    struct bf16_map src, dst;
    struct bf16_axis y, x;
    int64_t kernel_h, kernel_w;
    bool grad; /* src is the node's output: weights are read the other way round */
};

/* The node: input and output maps, kernel, strides, leading pads. */
struct bf16_node {
    int64_t in_c, in_h, in_w, out_c, out_h, out_w;
    int64_t kernel[2], stride[2], pad[2];
};

/* Is it within the limits above (groups and dilations left to the caller)? */
bool bf16_conv_fits(const struct bf16_node *n);
void bf16_conv_make(struct bf16_conv *c, const struct bf16_node *n, bool grad);

/* Numbers of the packed weights; packs w[O][I][kh][kw], part `part` of `parts` of it (0 of 0: all).
 * scale: a factor of every output channel of the node, or NULL. */
size_t bf16_conv_packed(const struct bf16_conv *c);
void bf16_conv_pack(const struct bf16_conv *c, const float *w, const float *scale, int32_t part,
                    int32_t parts, bf16 *packed);

struct bf16_run {
    int64_t n; /* images */
    const bf16 *src, *packed;
    const float *scale, *shift; /* [dst blocks][32]; both or none */
    struct bf16_tail tail;
    bf16 *dst;
    int32_t part, parts; /* do part `part` of `parts`, 0 of 0: all */
};
/* dst = tail(scale * correlation + shift). */
void bf16_conv_run(const struct bf16_conv *c, const struct bf16_kernels *k,
                   const struct bf16_run *r);

/* dw[O][I][kh][kw] += sum over images and pixels of x dy, of part `part` of `parts`: output channels
 * in blocks. scratch: bf16_grad_scratch floats. c: the forward pass. One chain of sums over images and
 * pixels in order for each weight, then its places in the taps are added. */
size_t bf16_grad_scratch(const struct bf16_conv *c);
void bf16_grad_weights(const struct bf16_conv *c, const struct bf16_kernels *k, int64_t n,
                       const bf16 *x, const bf16 *dy, float *dw, int32_t part, int32_t parts,
                       float *scratch);
#endif
