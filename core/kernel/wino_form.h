#ifndef CORE_KERNEL_WINO_FORM_H
#define CORE_KERNEL_WINO_FORM_H
/*
 * The correlation of stride 1 that a convolution is done as (conv_wino.h).
 *
 * One of stride 2 has four phases of its source (forward) or of its destination (gradient): phase
 * 2 y + x is every other row from y on and every other column from x on.
 */
#include "core/kernel/conv_geom.h"

struct wino_form {
    int64_t points, taps; /* along an axis */
    int64_t products;     /* points squared */
    int64_t src_phases, dst_phases;
};

struct wino_form wino_form_of(const struct conv_pass *p);
/* Rows of the destination, or of the longest of its phases. */
int64_t wino_phase_rows(const struct conv_axis *a);
/* Tiles that cover so many rows. */
int64_t wino_tiles_along(int64_t extent);
#endif
