/*
 * Which convolutions are done by Winograd, and as what (wino_layout.h).
 */
#include "core/kernel/wino_layout.h"

#define FEW_FILTERS (1024 * 1024) /* floats of transformed filters, which ... */
#define FEW_TILES 2               /* ... so few tiles are not worth, */
#define FEW_TILES_STRIDED 64      /* ... nor so few of a strided one, eleven times the weights */
#define MOST_FILTERS (8 * 1024 * 1024) /* floats for which twice FEW_TILES are not worth it */
#define MEMORY_SUMS                                                                                \
    (2 * 1024 * 1024) /* floats: sums of a strided weight gradient that go through memory */
#define SMALL_FILTERS (256 * 1024) /* floats of them that a level-2 cache holds */
#define STRIDED_MIN 32             /* channels of a strided one on both sides */

static bool is_strided(const struct conv_pass *p)
{
    return p->y.node_stride != 1;
}

int64_t wino_points(const struct conv_pass *p)
{
    return is_strided(p) ? 5 : 6;
}

struct wino_form wino_form_of(const struct conv_pass *p)
{
    int64_t points = wino_points(p), phases = is_strided(p) ? 4 : 1;

    return (struct wino_form){.points = points,
                              .taps = points - WINO_OUT + 1,
                              .products = points * points,
                              .src_phases = p->y.grad ? 1 : phases,
                              .dst_phases = p->y.grad ? phases : 1};
}

int64_t wino_tiles_along(int64_t extent)
{
    return (extent + WINO_OUT - 1) / WINO_OUT;
}

int64_t wino_phase_rows(const struct conv_axis *a)
{
    return (a->dst + a->step - 1) / a->step;
}

static int64_t filter_floats(const struct conv_pass *p)
{
    struct wino_form f = wino_form_of(p);

    return f.products * f.src_phases * f.dst_phases * p->src_c * p->dst_c;
}

/* Each thread transforms the source of its tiles, and reads the filters of its panels: what it does
 * not share with the others should be the larger. */
bool wino_splits_tiles(const struct conv_pass *p)
{
    return filter_floats(p) <= SMALL_FILTERS;
}

/* Few tiles for large filters? Figures in tests/bench.md, section 5. */
static bool reads_most(const struct conv_pass *p, int64_t batch)
{
    const int64_t few = is_strided(p)                      ? FEW_TILES_STRIDED
                        : filter_floats(p) >= MOST_FILTERS ? 2 * FEW_TILES
                                                           : FEW_TILES;

    return batch > 0 && filter_floats(p) >= FEW_FILTERS &&
           wino_tiles_along(wino_phase_rows(&p->y)) * wino_tiles_along(wino_phase_rows(&p->x)) <=
               few / batch;
}

/* Stride 1, or 2 where all phases of a gradient read the same rows. */
static bool axis_fits(const struct conv_axis *a)
{
    if (a->kernel != 3 || a->dilation != 1 || a->node_stride > 2)
        return false;
    if (a->node_stride == 1 || !a->grad)
        return true;
    return a->phases == 2 && conv_axis_taps(a, 0).first == conv_axis_taps(a, 1).first;
}

static bool channels_fit(const struct conv_pass *p)
{
    if (is_strided(p))
        return p->src_c % CONV_LANES == 0 && p->dst_c % CONV_LANES == 0 &&
               p->src_c >= STRIDED_MIN && p->dst_c >= STRIDED_MIN;
    return p->src_c % CONV_LANES == 0 && (p->dst_c % CONV_LANES == 0 || p->y.grad);
}

bool wino_fits(const struct conv_pass *p, int64_t batch)
{
    const struct conv_axis *axis[2] = {&p->y, &p->x};
    int64_t padded = 1, real = 1;

    for (int i = 0; i < 2; i++) {
        padded *= wino_tiles_along(wino_phase_rows(axis[i])) * WINO_OUT;
        real *= wino_phase_rows(axis[i]);
    }
    return axis_fits(&p->y) && axis_fits(&p->x) && p->y.node_stride == p->x.node_stride &&
           p->groups == 1 && channels_fit(p) && padded <= 2 * real && !reads_most(p, batch);
}

bool wino_fits_weights(const struct conv_pass *p, int64_t batch)
{
    return wino_fits(p, batch) && !(is_strided(p) && filter_floats(p) >= MEMORY_SUMS);
}
