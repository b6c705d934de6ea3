#ifndef CORE_KERNEL_CONV_KERNEL_H
#define CORE_KERNEL_CONV_KERNEL_H
/*
 * The inner loops of convolution, one set a code path (conv_kernel.inc), without any idea of
 * padding, phases or groups: conv_direct.c and conv_weights.c cut the work into these pieces.
 *
 * Output channels go in panels of CONV_LANES, the weights of a panel lie as [tap][channel][lane], so
 * a tile reads them from front to back. A panel at the end has zero weights in the lanes that it
 * lacks and writes only those that it has (`lanes`).
 *
 * Every output element is one chain of multiply-adds, from the bias on over (row of taps, tap,
 * channel) in that order, whatever the tile; long sums over channels are several such chains, cut where
 * the number of channels says (conv_direct.c, wino_run.c). So neither the cut of pixels into tiles, nor that of
 * panels among threads, nor the number of images changes a bit.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"

#define CONV_LANES 16       /* output channels of a panel, floats of a vector group (lanes.h) */
#define CONV_MAX_GROUPS 4   /* runs of neighbouring pixels in a tile */
#define CONV_MAX_PIXELS 4   /* pixels in such a run */
#define CONV_MAX_TERMS 16   /* rows of an outer tile */
#define CONV_PAIR_TERMS 12  /* the same of two panels */
#define CONV_PAIR_PIXELS 12 /* pixels of a tile of two panels */

/* y[g][p * y_pixel + l] (+)= bias[l] + sum over row, col, i of
 *     x[g][p * x_pixel + row * row_step + col * col_step + i] * w[(row * cols + col) * len + i][l]
 * for lanes l < lanes; w has all CONV_LANES lanes. All steps are in floats. Tiles of two panels
 * write the second one's channels after those of the first, which has all lanes. */
struct conv_tile {
    const float *x[CONV_MAX_GROUPS];
    float *y[CONV_MAX_GROUPS];
    const float *w, *bias; /* bias: CONV_LANES floats a panel */
    int64_t w_panel;       /* two panels: from w to the weights of the second */
    int64_t x_pixel, y_pixel;
    int64_t rows, row_step, cols, col_step, len;
    /* rows = cols = 1, whole panels: so many terms are summed before they are added to y; otherwise len */
    int64_t chain;
    int64_t lanes; /* of the last panel */
    bool add;
    /* Two panels: what to bring to the cache meanwhile, fetch_step floats a channel, and as much w_panel
     * floats later: weights of the next panels. NULL: these weights, a page ahead. */
    const float *fetch;
    int64_t fetch_step;
};

#define CONV_FETCHED (128 * 1024) /* floats of weights that do not stay in the level-2 cache */
/* Sets the fetching of the weights at `next`, which `pixels` pixels of tiles have time for; `weights`: floats of all that
 * are read in turn. */
static inline void conv_fetch(struct conv_tile *t, const float *next, int64_t pixels,
                              int64_t weights)
{
    const int64_t tiles = (pixels + CONV_PAIR_PIXELS - 1) / CONV_PAIR_PIXELS;

    if (weights <= CONV_FETCHED)
        return;
    t->fetch = next;
    t->fetch_step = max_i64(1, CONV_LANES / tiles);
}
/* After each tile. */
static inline void conv_fetched(struct conv_tile *t)
{
    if (t->fetch != NULL)
        t->fetch += t->rows * t->cols * t->len * t->fetch_step;
}

/* sum[j][l] += sum over images n, rows, cols of x[n, row, col][j] * dy[n, row, col][l]. */
struct conv_outer {
    const float *x, *dy;
    float *sum;
    int64_t images, rows, cols;
    int64_t x_image, x_row, x_pixel;
    int64_t dy_image, dy_row, dy_pixel;
};

/* Two panels: sum[j][l] += sum over i < count of x[i * CONV_PAIR_TERMS + j] * dy[i * 2 * CONV_LANES + l],
 * and those of the second panel, whose sums begin sum_panel floats later, with l + CONV_LANES. */
struct conv_outer_pair {
    const float *x, *dy;
    float *sum;
    int64_t count, sum_panel;
};

/* The copies that they work on, of up to CONV_CHUNK pixels `step` floats apart: of x `parts` arrays
 * [pixel][CONV_PAIR_TERMS], CONV_X_ARRAY floats apart, part j from element at[j] on, terms[j] (8 or more) of
 * which count; of dy `pairs` arrays [pixel][2 * CONV_LANES], CONV_DY_ARRAY apart. Arrays do not begin in the
 * same set of the cache. */
#define CONV_CHUNK 192 /* x and dy of a call stay in the level-1 cache */
#define CONV_PARTS 4
#define CONV_X_ARRAY (CONV_CHUNK * CONV_PAIR_TERMS + CONV_LANES)
#define CONV_DY_ARRAY (CONV_CHUNK * 2 * CONV_LANES + CONV_LANES)
struct conv_parts {
    int64_t step;
    int64_t parts, at[CONV_PARTS], terms[CONV_PARTS];
};
typedef void conv_copy_x_fn(const struct conv_parts *, const float *x, int64_t count, float *to);
typedef void conv_copy_dy_fn(const float *dy, int64_t step, int64_t count, int64_t pairs,
                             float *to);

typedef void conv_tile_fn(const struct conv_tile *);
typedef void conv_outer_fn(const struct conv_outer *);
typedef void conv_outer_pair_fn(const struct conv_outer_pair *);

struct conv_tiles {
    int64_t panels;                          /* 1 or 2 */
    int64_t groups;                          /* runs of pixels that `many` takes */
    conv_tile_fn *many[CONV_MAX_PIXELS + 1]; /* [pixels in a run], `groups` runs */
    conv_tile_fn *one[CONV_MAX_PIXELS + 1];  /* the same, one run */
};
struct conv_kernels {
    int64_t pixels;                 /* longest run, at most CONV_MAX_PIXELS */
    int64_t terms;                  /* most rows of an outer tile, at most CONV_MAX_TERMS */
    struct conv_tiles single, pair; /* pair.panels == 0: this path has none */
    conv_outer_fn *outer[CONV_MAX_TERMS + 1];            /* [j range] */
    conv_outer_pair_fn *outer_pair[CONV_PAIR_TERMS + 1]; /* [j range]; NULL: this path has none */
    conv_copy_x_fn *copy_x;
    conv_copy_dy_fn *copy_dy;
};

const struct conv_kernels *conv_kernels_of(enum cpu_path path);

/* Panels [first, end) over all groups: the destination channels that a call works on. */
struct conv_span {
    int64_t first, end;
};

/* The tiles for what is left of some panels. */
static inline const struct conv_tiles *conv_tiles_for(const struct conv_kernels *k, int64_t panels)
{
    return panels > 1 && k->pair.panels > 1 ? &k->pair : &k->single;
}
static inline int64_t conv_panels(int64_t channels)
{
    return (channels + CONV_LANES - 1) / CONV_LANES;
}
/* Channels of a panel, CONV_LANES but for the last. */
static inline int64_t conv_panel_lanes(int64_t channels, int64_t panel)
{
    return min_i64(channels - panel * CONV_LANES, CONV_LANES);
}
/* out: that many channels of bias (NULL: zeros), then zeros. */
static inline void conv_panel_bias(const float *bias, int64_t channels, float out[2 * CONV_LANES])
{
    for (int64_t l = 0; l < 2 * CONV_LANES; l++)
        out[l] = bias != NULL && l < channels ? bias[l] : 0;
}
/* Pixels a multiple of 1 KiB apart meet in a few sets of the level-1 cache. */
static inline bool conv_is_crowded(int64_t channels)
{
    return channels % 256 == 0;
}
#endif
