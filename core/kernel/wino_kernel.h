#ifndef CORE_KERNEL_WINO_KERNEL_H
#define CORE_KERNEL_WINO_KERNEL_H
/*
 * The transforms of Winograd's minimal filtering F(4x4, 3x3), one set a code path
 * (wino_kernel.inc): 4 x 4 outputs of a 3 x 3 correlation from 36 products instead of 144.
 *
 *     Y = At [ (G g Gt) * (Bt d B) ] A        d: 6 x 6 source tile, g: filter, Y: 4 x 4
 *     dg = Gt [ sum over tiles of (Bt d B) * (A dY At) ] G
 *
 * Cook-Toom with the points 0, +-a, +-b, infinity, a = 5/8, b = 3/2: the polynomials of source and
 * filter are multiplied by their values at the points. Powers of a and b are exact in binary, so of
 * the coefficients only those of G are rounded.
 *
 * ERROR. Transforms subtract numbers of like size, so it is larger than that of a direct sum, and it
 * grows with the spread of the points. Relative to the L2 norm of a layer: 5e-7 to 8e-7 for 64
 * channels and for all layers of a trained ResNet-20, half of that of the usual points 0, +-1, +-2
 * (tests/bench.md, section 1). With q = a^2 + b^2 = 169/64 and r = a^2 b^2 = 225/256:
 *
 *     Bt d   r d0 - q d2 + d4,   s +- a t with s = d4 - b^2 d2, t = d3 - b^2 d1,
 *            u +- b v with u = d4 - a^2 d2, v = d3 - a^2 d1,   r d1 - q d3 + d5
 *     At m   m0 + (m1 + m2) + (m3 + m4),      a (m1 - m2) + b (m3 - m4),
 *            a^2 (m1 + m2) + b^2 (m3 + m4),   a^3 (m1 - m2) + b^3 (m3 - m4) + m5
 *     G g    g0 / r,   (g0 +- a g1 + a^2 g2) / (2 a^2 (a^2 - b^2)),
 *            (g0 +- b g1 + b^2 g2) / (2 b^2 (b^2 - a^2)),   g2
 *
 * Without the point at infinity (the last line of Bt d and G g, m5, d5 and g2) they are those of
 * F(4x4, 2x2): 5 points, 25 products.
 *
 * Lanes are channels. A transformed tile is spread over 36 (25) matrices, `pos` floats apart.
 *
 * Source: A. Lavin, S. Gray, Fast Algorithms for Convolutional Neural Networks, 2015 (the method).
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "core/kernel/rows.h"

#define WINO_OUT 4 /* outputs of a tile along an axis */

/* One tile of channels-last pixels. Rows [i0, i1) and columns [j0, j1) of it exist, the others are
 * zero (when read) or left out (when written). All steps are in floats. */
struct wino_tile {
    const float *from; /* pixel (0, 0) when read: may lie outside */
    float *to;         /* ... when written */
    int64_t row, pixel;
    int64_t i0, i1, j0, j1;
    int64_t channels; /* a multiple of 16, but for the result, without bias and tail */
    int64_t pos;
    /* Result only: to = tail(sums + bias), or to += sums + bias. bias: [channels] or NULL; the
     * tail's pointers belong to pixel (0, 0). */
    const float *bias;
    bool add;
    struct rows_tail tail;
};

typedef void wino_tile_fn(const struct wino_tile *);
/* 9 (4) taps of 16 lanes -> 36 (25), sums the other way in the weight gradient; steps in floats. */
typedef void wino_filter_fn(const float *from, int64_t from_step, float *to, int64_t to_step);

struct wino_kernels {
    wino_tile_fn *source;      /* Bt d B */
    wino_tile_fn *result;      /* At m A: from = the matrices, to = pixels */
    wino_tile_fn *result_grad; /* A dY At */
    wino_filter_fn *filter, *filter_grad;
};
/* points: along an axis, 6 or 5. */
const struct wino_kernels *wino_kernels_of(enum cpu_path path, int64_t points);
#endif
