#ifndef CORE_CONV_WINO_H
#define CORE_CONV_WINO_H
/*
 * Winograd convolution F(4x4, 3x3) of channels-last images: forward, input gradient (the same with
 * flipped filters) and weight gradient, for dense 3 x 3 kernels of stride 1.
 *
 * Tiles of all images are numbered through and worked on in chunks whose transformed source V and
 * products M stay in the level-2 cache:
 *
 *     V[36][tile][src_c]                      wino_kernel.h, source
 *     M[36][tile][dst_c] = V U                36 matrix products by the tile kernels (conv_kernel.h)
 *     dst                                     result
 *
 * with U[panel][36][src_c][lane] made once by wino_pack. In the weight gradient the 36 products are
 * V^T Z, Z = the transformed dY, summed over all chunks.
 *
 * Which convolutions take this way is wino_fits, a rule of shapes.
 */
#include <stddef.h>

#include "core/conv_geom.h"
#include "core/conv_kernel.h"
#include "core/wino_kernel.h"

struct wino {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    const struct wino_kernels *t;
    struct conv_span span; /* of destination panels */
};

/* Dense 3 x 3, stride 1, channels in multiples of 16 (any number where the gradient of an input
 * ends), and tiles that mostly lie inside the map; not where the transformed filters are large and
 * `batch` images (0: many) have few tiles: they are four times the weights, and for few tiles
 * nothing but reading them counts. */
bool wino_fits(const struct conv_pass *p, int64_t batch);
/* w[O][I][3][3] -> U, the panels of the span; scale: [O], a factor of each filter, or NULL. */
size_t wino_packed_size(const struct conv_pass *p);
void wino_pack(const struct wino *w, const float *filters, const float *scale, float *packed);
/* Floats that wino_run, and wino_grad_weights, need for n images. */
size_t wino_run_scratch(const struct conv_pass *p, int64_t n);
size_t wino_grad_scratch(const struct conv_pass *forward, int64_t n);
/* As conv_run and conv_grad_weights (conv_direct.h), with a tail (rows.h) that may be empty. */
void wino_run(const struct wino *w, int64_t n, const float *src, const float *packed,
              const float *bias, const struct rows_tail *tail, float *dst, bool add,
              float *scratch);
void wino_grad_weights(const struct wino *w, int64_t n, const float *x, const float *dy, float *dw,
                       float *scratch);
#endif
