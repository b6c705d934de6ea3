#ifndef CORE_KERNEL_WINO_LAYOUT_H
#define CORE_KERNEL_WINO_LAYOUT_H
/*
 * What the files of Winograd convolution (conv_wino.h) share; nobody else includes this.
 *
 *   wino_form.c     which convolutions take this way, and as which correlation of stride 1
 *   wino_filter.c   transformed filters, and sums of the weight gradient transformed back
 *   wino_run.c      tiles, chunks and products
 *
 * FORM. A convolution of stride 2 has four phases of its source (forward) or of its destination
 * (gradient): phase 2 y + x is every other row from y on and every other column from x on.
 *
 * LAYOUT of transformed filters U, and of the sums of the weight gradient:
 *
 *     [dst phase][panel][product][src phase][src_c][lane]
 *
 * with a cache line after each of the matrices (one a product), so that the same place of all of
 * them does not fall into one set of the level-1 cache. Steps are in floats.
 */
#include "core/kernel/conv_wino.h"

struct wino_form {
    int64_t points, taps; /* along an axis */
    int64_t products;     /* points squared */
    int64_t src_phases, dst_phases;
};

struct wino_form wino_form_of(const struct conv_pass *p);
/* Rows of the destination, or of the longest of its phases. */
int64_t wino_phase_rows(const struct conv_axis *a);
/* Tiles that cover `extent` rows. */
int64_t wino_tiles_along(int64_t extent);

#define WINO_LINE 16

int64_t wino_matrix_step(const struct conv_pass *p);
int64_t wino_panel_step(const struct conv_pass *p);
int64_t wino_phase_step(const struct conv_pass *p); /* of the destination */
/* dw[O][I][3][3] += the sums of the span's panels, which start at `sum`, transformed back. */
void wino_add_filters(const struct wino *w, const float *sum, float *dw);

/* The destination channels of a span: the first, and how many in whole panels. */
static inline int64_t wino_first_channel(const struct wino *w)
{
    return w->span.first * CONV_LANES;
}
static inline int64_t wino_span_channels(const struct wino *w)
{
    return (w->span.end - w->span.first) * CONV_LANES;
}
#endif
