#ifndef CORE_KERNEL_CONV_WINO_H
#define CORE_KERNEL_CONV_WINO_H
/*
 * Winograd convolution of channels-last images with dense 3 x 3 kernels: forward, input gradient (the
 * same with flipped filters) and weight gradient. Stride 1 is F(4x4, 3x3), 36 products for 16
 * outputs instead of 144.
 *
 * Stride 2 is F(4x4, 2x2) with 100 products: the rows (and columns) that the stride jumps over make
 * two images of half the size, one seen by taps 0 and 2, one by tap 1 and a zero; so along both axes
 * four phases of the source (forward) or of the destination (input gradient), each with 2 x 2 taps
 * and stride 1. A phase is only a way to step through memory.
 *
 * A tile is 4 x 4 pixels of the destination (of a phase). It reads 6 x 6 (5 x 5) pixels of the source,
 * which overlap those of its neighbours by two rows (one). Tiles at the right and lower edge hang over:
 * pixels outside the source are read as zero, which is the padding too, and pixels outside the
 * destination are not written. wino_fits refuses maps of which less than half would be real.
 *
 * Tiles of all images are numbered through, image by image, and worked on in chunks whose transformed
 * source V and products M stay in the level-2 cache; with 36 or 25 products:
 *
 *     V[product][tile][src phase][src_c]      wino_kernel.h, source
 *     M[product][tile][dst phase][dst_c] = V U    matrix products by the tile kernels (conv_kernel.h)
 *     dst                                     result
 *
 * with U[dst phase][panel][product][src phase][src_c][lane] made once by wino_pack: 4 times the
 * weights for stride 1, 11 times for stride 2. In the weight gradient the products are V^T Z, Z = the
 * transformed dY, summed over all chunks.
 *
 * BITS. A tile is computed alone: one chain over source channels a product, then the fixed sums of the
 * transforms. Where it lies in a chunk, and which thread has it, changes nothing. The weight gradient
 * is one chain over tiles in order, carried from chunk to chunk in memory.
 *
 * Which convolutions take this way is wino_fits, a rule of shapes.
 */
#include <stddef.h>

#include "core/kernel/conv_geom.h"
#include "core/kernel/conv_kernel.h"
#include "core/kernel/wino_kernel.h"

struct wino {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    const struct wino_kernels *t;
    struct conv_span span; /* of destination panels */
    int64_t part, parts;   /* wino_run: do part `part` of `parts` of the tiles; 0 of 0: all */
};

/* Dense 3 x 3 of stride 1 or 2, channels in multiples of 16 (any number where the gradient of an
 * input of stride 1 ends), and tiles that mostly lie inside the map; not where the transformed
 * filters are large and `batch` images (0: many) have few tiles: they are four (eleven) times the
 * weights, and for few tiles nothing but reading them counts. */
bool wino_fits(const struct conv_pass *p, int64_t batch);
/* The same for the weight gradient of a forward pass. */
bool wino_fits_weights(const struct conv_pass *p, int64_t batch);
/* Points along an axis, for wino_kernels_of. */
int64_t wino_points(const struct conv_pass *p);
/* w[O][I][3][3] -> U, the panels of the span; scale: [O], a factor of each filter, or NULL. */
size_t wino_packed_size(const struct conv_pass *p);
void wino_pack(const struct wino *w, const float *filters, const float *scale, float *packed);
/* Floats that wino_run, and wino_grad_weights, need for n images. */
size_t wino_run_scratch(const struct conv_pass *p, int64_t n);
size_t wino_grad_scratch(const struct conv_pass *forward, int64_t n);
/* Is wino_run to be divided by tiles rather than by panels? */
bool wino_splits_tiles(const struct conv_pass *p);
/* As conv_run and conv_grad_weights (conv_direct.h), with a tail (rows.h) that may be empty. */
void wino_run(const struct wino *w, int64_t n, const float *src, const float *packed,
              const float *bias, const struct rows_tail *tail, float *dst, bool add,
              float *scratch);
void wino_grad_weights(const struct wino *w, int64_t n, const float *x, const float *dy, float *dw,
                       float *scratch);
#endif
