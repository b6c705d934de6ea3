#ifndef CORE_KERNEL_WINO_FILTER_H
#define CORE_KERNEL_WINO_FILTER_H
/*
 * Layout of transformed filters U, and of the sums of the weight gradient:
 *
 *     [dst phase][panel][product][src phase][src_c][lane]
 *
 * with a cache line behind each of the matrices (one a product), so that the same place of all of
 * them does not fall into one set of the level-1 cache. Steps are in floats.
 */
#include "core/kernel/conv_wino.h"
#include "core/kernel/wino_form.h"

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
