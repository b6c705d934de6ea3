#ifndef CORE_KERNEL_CONV_POINT_H
#define CORE_KERNEL_CONV_POINT_H
/*
 * Convolution of 1 x 1 without padding, any stride, and its input gradient: a product of matrices,
 * pixels x source channels times packed weights (conv_pack). One map is dense (the node's output),
 * the other has `stride` pixels for each of its.
 *
 * Loops, outermost first, with what each level keeps where:
 *
 *     block      pixels whose source and result stay in the level-2 cache together, over the ends of
 *                rows and images. Source pixels that lie apart (a stride) or crowded are copied.
 *     panels     32 or 16 destination channels: their weights are in the level-1 or level-2 cache
 *     tile       up to 12 pixels (conv_kernel.inc)
 *
 * and then the tail of the block. Against conv_direct.h, which takes each pair of panels through half a
 * megabyte of source: where a map becomes wider it does not write, and read again for the tail, more
 * than the cache holds, 128 bytes of a kilobyte at a time.
 *
 * Every element is the same chain as there: from the bias on over the channels in order.
 */
#include <stddef.h>

#include "core/kernel/conv_direct.h"
#include "core/kernel/rows.h"

struct conv_point {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    const struct rows_kernels *rows;
    struct conv_span span; /* panels to do */
    int32_t part, parts;   /* do part `part` of `parts` of the pixels, 0 of 0: all */
};

bool conv_point_fits(const struct conv_pass *p);
/* Is it one, and faster than by conv_direct.h? */
bool conv_point_pays(const struct conv_pass *p);
/* Should threads share out pixels rather than channels? Where each can keep all weights. */
bool conv_point_splits_pixels(const struct conv_pass *p);
size_t conv_point_scratch(const struct conv_pass *p);
/* dst = tail(product + bias), or dst += where `add` (then without bias and tail). */
void conv_point_run(const struct conv_point *c, int64_t n, const float *src, const float *packed,
                    const float *bias, const struct rows_tail *tail, float *dst, bool add,
                    float *scratch);
#endif
