#ifndef CORE_KERNEL_CONV_DIRECT_H
#define CORE_KERNEL_CONV_DIRECT_H
/*
 * Direct convolution of channels-last images [n][h][w][c]: no im2col matrix, only a zero-padded
 * copy of a cache-sized piece of the source (none where nothing is padded).
 *
 * Loops, outermost first: piece (images, or a band of rows of one image) - phase (gradient of a
 * strided convolution) - group - panel of 16 destination channels - tile of pixels - taps and
 * source channels (conv_kernel.h). The weights of a panel stay in cache over the piece.
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
