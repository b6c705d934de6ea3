/*
 * Winograd convolution (conv_wino.h): tiles, chunks and products around the kernels.
 *
 * Letters: t tile, c source channel, "panel" 16 destination channels. All steps are in floats. The
 * 36 matrices lie a cache line more than their size apart, so that the same place of all of them
 * does not fall into one set of the level-1 cache.
 */
#include "core/conv_wino.h"

#include <string.h>

#define CHUNK_FLOATS (192 * 1024) /* 768 KiB of V and M */
#define CHUNK_MIN 32              /* tiles: what a pass over the filters must be worth */
#define CHUNK_MAX 64
#define GRAD_MIN 64                /* in the weight gradient, where the sums are read and written */
#define LARGE_FILTERS (100 * 1024) /* channels x channels: 14 MiB of filters or sums, for which */
#define LARGE_MIN 128              /* ... the chunks are so long */
#define FEW_FILTERS (32 * 1024)    /* channels x channels: 4.5 MiB of filters, which ... */
#define FEW_TILES 2                /* ... so few tiles are not worth */
#define LINE 16

static int64_t tiles_along(int64_t extent)
{
    return (extent + WINO_OUT - 1) / WINO_OUT;
}

/* Few tiles for large filters? Figures in tests/bench.md, section 5. */
static bool reads_most(const struct conv_pass *p, int64_t batch)
{
    return batch > 0 && p->src_c * p->dst_c >= FEW_FILTERS &&
           tiles_along(p->y.dst) * tiles_along(p->x.dst) <= FEW_TILES / batch;
}

bool wino_fits(const struct conv_pass *p, int64_t batch)
{
    const struct conv_axis *axis[2] = {&p->y, &p->x};
    int64_t padded = 1, real = 1;

    for (int i = 0; i < 2; i++) {
        if (axis[i]->kernel != 3 || axis[i]->node_stride != 1 || axis[i]->dilation != 1)
            return false;
        padded *= tiles_along(axis[i]->dst) * WINO_OUT;
        real *= axis[i]->dst;
    }
    return p->groups == 1 && p->src_c % CONV_LANES == 0 &&
           (p->dst_c % CONV_LANES == 0 || p->y.grad) && padded <= 2 * real && !reads_most(p, batch);
}

/* ---- geometry */

/* Destination channels in whole panels. */
static int64_t padded_channels(const struct conv_pass *p)
{
    return conv_panels(p->dst_c) * CONV_LANES;
}

struct layout {
    int64_t rows, cols, tiles; /* of an image */
    int64_t off_y, off_x;      /* source row of a tile = its first destination row - off_y */
    int64_t total, chunk;      /* tiles of the call, of a chunk */
    int64_t v_tile, v_pos;     /* steps of V */
    int64_t m_tile, m_pos;     /* ... of M, or Z */
};

/* A step between tiles that keeps 16 of them apart in the cache. */
static int64_t tile_step(int64_t channels)
{
    return conv_is_crowded(channels) ? channels + LINE : channels;
}

/* dst_c: of the span, in whole panels. least: tiles of a chunk. */
static struct layout make_layout(const struct conv_pass *p, int64_t n, int64_t dst_c, int64_t least)
{
    struct layout l = {.rows = tiles_along(p->y.dst),
                       .cols = tiles_along(p->x.dst),
                       .off_y = p->y.lead - conv_axis_taps(&p->y, 0).first,
                       .off_x = p->x.lead - conv_axis_taps(&p->x, 0).first,
                       .v_tile = tile_step(p->src_c),
                       .m_tile = tile_step(dst_c)};
    int64_t fit = CHUNK_FLOATS / (WINO_PRODUCTS * (l.v_tile + l.m_tile)) / 16 * 16;

    if (p->src_c * dst_c >= LARGE_FILTERS)
        least = LARGE_MIN;
    l.tiles = l.rows * l.cols;
    l.total = n * l.tiles;
    fit = fit > CHUNK_MAX ? CHUNK_MAX : fit;
    l.chunk = conv_min(l.total, fit < least ? least : fit);
    l.v_pos = l.chunk * l.v_tile + LINE;
    l.m_pos = l.chunk * l.m_tile + LINE;
    return l;
}

struct place {
    int64_t image, y, x; /* first destination row and column */
};

static struct place tile_place(const struct layout *l, int64_t tile)
{
    int64_t at = tile % l->tiles;

    return (struct place){tile / l->tiles, at / l->cols * WINO_OUT, at % l->cols * WINO_OUT};
}

static int64_t limit(int64_t v, int64_t lo, int64_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* V of tiles [first, first + count). */
static void transform_source(const struct wino *w, const struct layout *l, const float *src,
                             int64_t first, int64_t count, float *v)
{
    const struct conv_axis *y = &w->p->y, *x = &w->p->x;
    struct wino_tile t = {.row = x->src * w->p->src_c,
                          .pixel = w->p->src_c,
                          .channels = w->p->src_c,
                          .pos = l->v_pos};

    for (int64_t i = 0; i < count; i++) {
        struct place at = tile_place(l, first + i);
        int64_t row = at.y - l->off_y, col = at.x - l->off_x;

        t.from = src + (at.image * y->src + row) * t.row + col * t.pixel;
        t.to = v + i * l->v_tile;
        t.i0 = limit(-row, 0, WINO_IN);
        t.i1 = limit(y->src - row, 0, WINO_IN);
        t.j0 = limit(-col, 0, WINO_IN);
        t.j1 = limit(x->src - col, 0, WINO_IN);
        w->t->source(&t);
    }
}

static int64_t first_channel(const struct wino *w)
{
    return w->span.first * CONV_LANES;
}

static int64_t span_channels(const struct wino *w)
{
    return (w->span.end - w->span.first) * CONV_LANES;
}

/* A tile of the destination: pixels when `to` is not NULL. */
static struct wino_tile result_tile(const struct wino *w, const struct layout *l, int64_t tile,
                                    int64_t *offset)
{
    const struct conv_axis *y = &w->p->y, *x = &w->p->x;
    struct place at = tile_place(l, tile);

    *offset = ((at.image * y->dst + at.y) * x->dst + at.x) * w->p->dst_c + first_channel(w);
    return (struct wino_tile){.row = x->dst * w->p->dst_c,
                              .pixel = w->p->dst_c,
                              .i1 = conv_min(y->dst - at.y, WINO_OUT),
                              .j1 = conv_min(x->dst - at.x, WINO_OUT),
                              .channels =
                                  conv_min(span_channels(w), w->p->dst_c - first_channel(w)),
                              .pos = l->m_pos};
}

/* ---- weights */

/* One of the 36 matrices of a panel, [src_c][lane], and what keeps the next one off its sets. */
static int64_t matrix_step(const struct conv_pass *p)
{
    return p->src_c * CONV_LANES + LINE;
}

static int64_t panel_step(const struct conv_pass *p)
{
    return WINO_PRODUCTS * matrix_step(p);
}

size_t wino_packed_size(const struct conv_pass *p)
{
    return (size_t)(conv_panels(p->dst_c) * panel_step(p));
}

/* taps[9][16 lanes] of source channel s and a panel of destination channels from d on; lanes
 * without a channel are left alone. */
static void gather_taps(const struct conv_pass *p, const float *w, const float *scale, int64_t s,
                        int64_t d, float taps[9 * CONV_LANES])
{
    for (int64_t l = 0; l < conv_min(CONV_LANES, p->dst_c - d); l++) {
        const float *from = w + 9 * (p->y.grad ? s * p->dst_c + d + l : (d + l) * p->src_c + s);

        const float factor = scale == NULL ? 1 : scale[p->y.grad ? s : d + l];

        for (int64_t i = 0; i < 9; i++)
            taps[i * CONV_LANES + l] = from[p->y.grad ? 8 - i : i] * factor;
    }
}

void wino_pack(const struct wino *w, const float *filters, const float *scale, float *packed)
{
    const struct conv_pass *p = w->p;
    float taps[9 * CONV_LANES] = {0};

    for (int64_t i = w->span.first; i < w->span.end; i++)
        for (int64_t s = 0; s < p->src_c; s++) {
            gather_taps(p, filters, scale, s, i * CONV_LANES, taps);
            w->t->filter(taps, CONV_LANES, packed + i * panel_step(p) + s * CONV_LANES,
                         matrix_step(p));
        }
}

/* ---- forward and input gradient */

/* M[tile][panel] = V[tile][.] U[panel] for one of the 36 matrices; u: that of panel 0. */
static void product(const struct wino *w, const struct layout *l, int64_t count, const float *v,
                    const float *u, float *m)
{
    static const float zero[2 * CONV_LANES];
    const int64_t channels = span_channels(w), q = w->k->pixels;
    struct conv_tile t = {.bias = zero,
                          .w_panel = panel_step(w->p),
                          .x_pixel = l->v_tile,
                          .y_pixel = l->m_tile,
                          .rows = 1,
                          .cols = 1,
                          .len = w->p->src_c,
                          .lanes = CONV_LANES};

    u += w->span.first * panel_step(w->p);
    for (int64_t d = 0; d < channels;) {
        const struct conv_tiles *k = conv_tiles_for(w->k, (channels - d) / CONV_LANES);
        int64_t i = 0, many = q * k->groups;

        t.w = u;
        for (; i + many <= count; i += many) {
            for (int64_t g = 0; g < k->groups; g++) {
                t.x[g] = v + (i + g * q) * l->v_tile;
                t.y[g] = m + (i + g * q) * l->m_tile + d;
            }
            k->many[q](&t);
        }
        for (; i < count; i += q) {
            t.x[0] = v + i * l->v_tile;
            t.y[0] = m + i * l->m_tile + d;
            k->one[conv_min(q, count - i)](&t);
        }
        d += k->panels * CONV_LANES;
        u += k->panels * panel_step(w->p);
    }
}

/* The tail at the pixel `offset` of the destination; masks start again with each image. */
static struct rows_tail tile_tail(const struct wino *w, const struct rows_tail *tail,
                                  int64_t offset)
{
    struct rows_tail t = *tail;

    if (t.other != NULL)
        t.other += offset;
    if (t.mask != NULL)
        t.mask += offset % (w->p->y.dst * w->p->x.dst * w->p->dst_c);
    return t;
}

size_t wino_run_scratch(const struct conv_pass *p, int64_t n)
{
    struct layout l = make_layout(p, n, padded_channels(p), CHUNK_MIN);
    int64_t most = conv_min(l.total * (l.v_tile + l.m_tile), CHUNK_FLOATS / WINO_PRODUCTS);
    int64_t used = l.chunk * (l.v_tile + l.m_tile); /* a part of the channels has longer chunks */

    return (size_t)(WINO_PRODUCTS * ((used > most ? used : most) + 2 * LINE));
}

void wino_run(const struct wino *w, int64_t n, const float *src, const float *packed,
              const float *bias, const struct rows_tail *tail, float *dst, bool add, float *scratch)
{
    struct layout l = make_layout(w->p, n, span_channels(w), CHUNK_MIN);
    float *v = scratch, *m = scratch + WINO_PRODUCTS * l.v_pos;

    for (int64_t first = 0; first < l.total; first += l.chunk) {
        int64_t count = conv_min(l.chunk, l.total - first), offset;

        transform_source(w, &l, src, first, count, v);
        for (int64_t i = 0; i < WINO_PRODUCTS; i++)
            product(w, &l, count, v + i * l.v_pos, packed + i * matrix_step(w->p), m + i * l.m_pos);
        for (int64_t i = 0; i < count; i++) {
            struct wino_tile t = result_tile(w, &l, first + i, &offset);

            t.from = m + i * l.m_tile;
            t.to = dst + offset;
            t.bias = bias != NULL ? bias + first_channel(w) : NULL;
            t.add = add;
            t.tail = tile_tail(w, tail, offset);
            w->t->result(&t);
        }
    }
}

/* ---- weight gradient */

/*
 * The sums of all channels would be four times the weights, 37 MB for 512 x 512; they are made a
 * bundle of panels at a time, each with its own pass over the tiles.
 */
#define BUNDLE_FLOATS (4 * 1024 * 1024)

static int64_t bundle_panels(const struct conv_pass *p)
{
    int64_t fit = BUNDLE_FLOATS / (WINO_PRODUCTS * p->src_c * CONV_LANES);

    return limit(fit, 1, p->dst_c / CONV_LANES);
}

/* sum[panel][c][lane] += V[tile][c] Z[tile][panel, lane] over the tiles; sum: that of panel 0 for
 * one of the 36 matrices, laid out as U. */
static void outer_product(const struct wino *w, const struct layout *l, int64_t count,
                          const float *v, const float *z, float *sum)
{
    int64_t terms = w->k->terms;
    struct conv_outer t = {
        .images = 1, .rows = 1, .cols = count, .x_pixel = l->v_tile, .dy_pixel = l->m_tile};

    for (int64_t d = 0; d < span_channels(w); d += CONV_LANES, sum += panel_step(w->p))
        for (int64_t c = 0; c < w->p->src_c; c += terms) {
            t.x = v + c;
            t.dy = z + d;
            t.sum = sum + c * CONV_LANES;
            w->k->outer[terms](&t);
        }
}

/* dw[d + lane][s][tap] += the transformed sums. */
static void add_filters(const struct wino *w, const float *sum, float *dw)
{
    const struct conv_pass *p = w->p;
    float taps[9 * CONV_LANES];

    dw += first_channel(w) * p->src_c * 9;
    for (int64_t d = 0; d < span_channels(w); d += CONV_LANES, sum += panel_step(p))
        for (int64_t s = 0; s < p->src_c; s++) {
            w->t->filter_grad(sum + s * CONV_LANES, matrix_step(p), taps, CONV_LANES);
            for (int64_t l = 0; l < CONV_LANES; l++)
                for (int64_t i = 0; i < 9; i++)
                    dw[((d + l) * p->src_c + s) * 9 + i] += taps[i * CONV_LANES + l];
        }
}

size_t wino_grad_scratch(const struct conv_pass *forward, int64_t n)
{
    int64_t dst_c = bundle_panels(forward) * CONV_LANES;
    struct layout l = make_layout(forward, n, dst_c, GRAD_MIN);
    int64_t most = conv_min(l.total * (l.v_tile + l.m_tile), CHUNK_FLOATS / WINO_PRODUCTS);
    int64_t used = l.chunk * (l.v_tile + l.m_tile);

    return (size_t)(bundle_panels(forward) * panel_step(forward) +
                    WINO_PRODUCTS * ((used > most ? used : most) + 2 * LINE));
}

static void grad_bundle(const struct wino *w, int64_t n, const float *x, const float *dy, float *dw,
                        float *scratch)
{
    struct layout l = make_layout(w->p, n, span_channels(w), GRAD_MIN);
    int64_t size = (w->span.end - w->span.first) * panel_step(w->p);
    float *sum = scratch, *v = sum + size, *z = v + WINO_PRODUCTS * l.v_pos;

    memset(sum, 0, (size_t)size * sizeof *sum);
    for (int64_t first = 0; first < l.total; first += l.chunk) {
        int64_t count = conv_min(l.chunk, l.total - first), offset;

        transform_source(w, &l, x, first, count, v);
        for (int64_t i = 0; i < count; i++) {
            struct wino_tile t = result_tile(w, &l, first + i, &offset);

            t.from = dy + offset;
            t.to = z + i * l.m_tile;
            w->t->result_grad(&t);
        }
        for (int64_t i = 0; i < WINO_PRODUCTS; i++)
            outer_product(w, &l, count, v + i * l.v_pos, z + i * l.m_pos,
                          sum + i * matrix_step(w->p));
    }
    add_filters(w, sum, dw);
}

void wino_grad_weights(const struct wino *w, int64_t n, const float *x, const float *dy, float *dw,
                       float *scratch)
{
    int64_t panels = w->span.end - w->span.first, most = bundle_panels(w->p);
    int64_t bundles = (panels + most - 1) / most;

    for (int64_t i = 0; i < bundles; i++) {
        struct wino part = *w;

        part.span.first = w->span.first + panels * i / bundles;
        part.span.end = w->span.first + panels * (i + 1) / bundles;
        grad_bundle(&part, n, x, dy, dw, scratch);
    }
}
