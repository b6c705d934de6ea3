#ifndef CORE_KERNEL_CONV_DIRECT_H
#define CORE_KERNEL_CONV_DIRECT_H
/*
 * Direct convolution of channels-last images [n][h][w][c]: no im2col matrix, only a zero-padded
 * copy of a cache-sized piece of the source (none where nothing is padded).
 *
 * Loops, outermost first, with what each level keeps where:
 *
 *     piece      images, or a band of rows of one image: 512 KiB of padded source, level-2 cache
 *     phase      1, or the stride^2 phases of the gradient of a strided convolution (conv_geom.h)
 *     panel      16 or 32 destination channels: their weights are read from memory once a piece
 *     tile       up to 16 pixels: sums in registers (conv_kernel.inc)
 *     tap, channel
 *
 * Edges. The copy of a piece has `lead` zero rows and columns before the image and as many after it
 * as the last tap reaches (conv_axis.extent), so no tap asks where it is. Rows whose pixels follow
 * each other without a gap in source and destination are joined into one, as in 1x1 convolutions:
 * then only one tile of a piece is short, not one a row. Channels a multiple of 256 apart would meet
 * in a few sets of the level-1 cache; their copy has a cache line between pixels.
 *
 * Grouped convolution works the same way a group at a time; with few channels a group (depthwise)
 * most lanes are idle.
 */
#include <stddef.h>

#include "core/kernel/conv_geom.h"
#include "core/kernel/conv_kernel.h"

/* w[O][I/groups][KH][KW] -> [phase][group][panel][tap][channel][lane], unused lanes zero. scale:
 * [O], a factor of each filter, or NULL; only the panels of the span are written. */
size_t conv_packed_size(const struct conv_pass *p);
void conv_pack(const struct conv_pass *p, struct conv_span span, const float *w, const float *scale,
               float *packed);

/* Floats that conv_run, and conv_grad_weights, need for n images. */
size_t conv_run_scratch(const struct conv_pass *p, int64_t n);
size_t conv_grad_scratch(const struct conv_pass *forward, int64_t n);

/* All panels of the destination, or part `part` of `parts` of them. */
struct conv_span conv_span_of(const struct conv_pass *p, int64_t part, int64_t parts);
/* The first destination channel of a panel. */
static inline int64_t conv_panel_channel(const struct conv_pass *p, int64_t panel)
{
    int64_t of_group = p->dst_c / p->groups, panels = conv_panels(of_group);

    return panel / panels * of_group + panel % panels * CONV_LANES;
}
/* dst = correlation + bias, or dst += it where `add`; bias [dst_c] may be NULL. Only the channels
 * of the span are touched. The bits of an image depend neither on n nor on the span. */
void conv_run(const struct conv_pass *p, const struct conv_kernels *k, struct conv_span span,
              int64_t n, const float *src, const float *packed, const float *bias, float *dst,
              bool add, float *scratch);
/* dw[O][I/groups][KH][KW] += sum over images and pixels of dy times the input x under the tap. */
void conv_grad_weights(const struct conv_pass *forward, const struct conv_kernels *k,
                       struct conv_span span, int64_t n, const float *x, const float *dy, float *dw,
                       float *scratch);
#endif
