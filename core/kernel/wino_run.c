/*
 * Winograd convolution (conv_wino.h): tiles, chunks and products around the kernels.
 *
 * Letters: t tile, c source channel, "panel" 16 destination channels. All steps are in floats. The
 * matrices (one a product) lie a cache line more than their size apart, so that the same place of
 * all of them does not fall into one set of the level-1 cache.
 */
#include "core/kernel/conv_wino.h"

#include <string.h>

#include "core/kernel/wino_layout.h"

/*
 * How long a chunk is, in tiles: a multiple of what the products take at a time (12 or 6, conv_kernel.c). Short ones keep
 * V and M in the level-2 cache; but a chunk reads all filters of its panels once (in the weight gradient: reads and
 * writes all sums), so it must not be too short for what that costs.
 */
#define CHUNK_STEP 12
#define CHUNK_FLOATS (192 * 1024) /* 768 KiB of V and M */
#define CHUNK_MIN 36              /* what a pass over the filters must be worth */
#define CHUNK_MAX 60
#define GRAD_MIN 64                /* in the weight gradient, where the sums are read and written */
#define LARGE_FILTERS (100 * 1024) /* channels x channels: 14 MiB of filters or sums, for which */
#define LARGE_MIN 132 /* ... the chunks are so long: 128 images of one tile each are one chunk */

/*
 * Where the source has more than LONG_CHAIN channels, sums are made in pieces of CHAIN_PIECE terms (up to that many: one
 * piece; at stride 2 a sum has four times as many terms as channels): rounding errors grow with the root of a chain's
 * length, and the transforms enlarge them. A piece costs a store and a load of its sums, so it must not be too short
 * either; figures in tests/bench.md, section 5.
 */
#define LONG_CHAIN 64
#define CHAIN_PIECE 128

/* ---- geometry */

/* Destination channels in whole panels. */
static int64_t padded_channels(const struct conv_pass *p)
{
    return conv_panels(p->dst_c) * CONV_LANES;
}

struct layout {
    struct wino_form f;
    int64_t rows, cols, tiles; /* of an image */
    int64_t v_c, m_c;          /* channels of V and M: of all phases, M of the span */
    int64_t total, chunk;      /* tiles of the call, of a chunk */
    int64_t v_tile, v_pos;     /* steps of V */
    int64_t m_tile, m_pos;     /* ... of M, or Z */
};

/* A step between tiles that keeps 16 of them apart in the cache. */
static int64_t tile_step(int64_t channels)
{
    return conv_is_crowded(channels) ? channels + WINO_LINE : channels;
}

/* dst_c: of the span, in whole panels. least: tiles of a chunk. */
static struct layout make_layout(const struct conv_pass *p, int64_t n, int64_t dst_c, int64_t least)
{
    struct wino_form f = wino_form_of(p);
    struct layout l = {.f = f,
                       .rows = wino_tiles_along(wino_phase_rows(&p->y)),
                       .cols = wino_tiles_along(wino_phase_rows(&p->x)),
                       .v_c = p->src_c * f.src_phases,
                       .m_c = dst_c * f.dst_phases};
    int64_t fit;

    l.v_tile = tile_step(l.v_c);
    l.m_tile = tile_step(l.m_c);
    fit = CHUNK_FLOATS / (f.products * (l.v_tile + l.m_tile)) / CHUNK_STEP * CHUNK_STEP;
    if (l.v_c * l.m_c >= LARGE_FILTERS)
        least = LARGE_MIN;
    l.tiles = l.rows * l.cols;
    l.total = n * l.tiles;
    l.chunk = min_i64(l.total, max_i64(least, min_i64(fit, CHUNK_MAX)));
    l.v_pos = l.chunk * l.v_tile + WINO_LINE;
    l.m_pos = l.chunk * l.m_tile + WINO_LINE;
    return l;
}

struct place {
    int64_t image, y, x; /* first destination row and column, of a phase */
};

static struct place tile_place(const struct layout *l, int64_t tile)
{
    int64_t at = tile % l->tiles;

    return (struct place){tile / l->tiles, at / l->cols * WINO_OUT, at % l->cols * WINO_OUT};
}

/* How many of the rows 0, step, 2 step, ... lie below `extent`, at most `most`. */
static int64_t rows_below(int64_t extent, int64_t step, int64_t most)
{
    return max_i64(0, min_i64((extent + step - 1) / step, most));
}

/* The source of a tile's row 0: of row t of a phase of the destination, phase `phase` of itself. */
static int64_t source_row(const struct conv_axis *a, int64_t t, int64_t phase)
{
    return conv_axis_taps(a, 0).first + a->stride * t + phase - a->lead;
}

/* V of tiles [first, first + count), of one phase of the source. */
static void transform_phase(const struct wino *w, const struct layout *l, const float *src,
                            int64_t first, int64_t count, int64_t phase, float *v)
{
    const struct conv_axis *y = &w->p->y, *x = &w->p->x;
    int64_t row_step = x->src * w->p->src_c;
    struct wino_tile t = {.row = y->stride * row_step,
                          .pixel = x->stride * w->p->src_c,
                          .channels = w->p->src_c,
                          .pos = l->v_pos};

    for (int64_t i = 0; i < count; i++) {
        struct place at = tile_place(l, first + i);
        int64_t row = source_row(y, at.y, phase / 2), col = source_row(x, at.x, phase % 2);

        t.from = src + (at.image * y->src + row) * row_step + col * w->p->src_c;
        t.to = v + i * l->v_tile + phase * w->p->src_c;
        t.i0 = rows_below(-row, y->stride, l->f.points);
        t.i1 = rows_below(y->src - row, y->stride, l->f.points);
        t.j0 = rows_below(-col, x->stride, l->f.points);
        t.j1 = rows_below(x->src - col, x->stride, l->f.points);
        w->t->source(&t);
    }
}

static void transform_source(const struct wino *w, const struct layout *l, const float *src,
                             int64_t first, int64_t count, float *v)
{
    for (int64_t phase = 0; phase < l->f.src_phases; phase++)
        transform_phase(w, l, src, first, count, phase, v);
}

/* A tile of one phase of the destination: pixels when `to` is not NULL. */
static struct wino_tile result_tile(const struct wino *w, const struct layout *l, int64_t tile,
                                    int64_t phase, int64_t *offset)
{
    const struct conv_axis *y = &w->p->y, *x = &w->p->x;
    struct place at = tile_place(l, tile);
    int64_t row = at.y * y->step + phase / 2, col = at.x * x->step + phase % 2;

    *offset = ((at.image * y->dst + row) * x->dst + col) * w->p->dst_c + wino_first_channel(w);
    return (struct wino_tile){
        .row = y->step * x->dst * w->p->dst_c,
        .pixel = x->step * w->p->dst_c,
        .i1 = rows_below(y->dst - row, y->step, WINO_OUT),
        .j1 = rows_below(x->dst - col, x->step, WINO_OUT),
        .channels = min_i64(wino_span_channels(w), w->p->dst_c - wino_first_channel(w)),
        .pos = l->m_pos};
}

/* ---- forward and input gradient */

/* M[tile][panel] (+)= V[tile][c ...] U[panel][c ...] of one panel or two; m: at its first channel. */
static void panel_product(const struct wino *w, const struct layout *l, const struct conv_tiles *k,
                          int64_t count, const float *v, float *m, struct conv_tile *t)
{
    const int64_t q = w->k->pixels, many = q * k->groups;
    int64_t i = 0;

    for (; i + many <= count; i += many) {
        for (int64_t g = 0; g < k->groups; g++) {
            t->x[g] = v + (i + g * q) * l->v_tile;
            t->y[g] = m + (i + g * q) * l->m_tile;
        }
        k->many[q](t);
    }
    for (; i < count; i += q) {
        t->x[0] = v + i * l->v_tile;
        t->y[0] = m + i * l->m_tile;
        k->one[min_i64(q, count - i)](t);
    }
}

/* M[tile][panel] = V[tile][.] U[panel] for one of the matrices and one phase of the destination; u:
 * that of panel 0. */
static void product(const struct wino *w, const struct layout *l, int64_t count, const float *v,
                    const float *u, float *m)
{
    static const float zero[2 * CONV_LANES];
    const int64_t channels = wino_span_channels(w);
    struct conv_tile t = {.bias = zero,
                          .w_panel = wino_panel_step(w->p),
                          .x_pixel = l->v_tile,
                          .y_pixel = l->m_tile,
                          .rows = 1,
                          .cols = 1,
                          .len = l->v_c,
                          .chain = w->p->src_c > LONG_CHAIN ? CHAIN_PIECE : l->v_c,
                          .lanes = CONV_LANES};

    u += w->span.first * wino_panel_step(w->p);
    for (int64_t d = 0; d < channels;) {
        const struct conv_tiles *k = conv_tiles_for(w->k, (channels - d) / CONV_LANES);

        t.w = u;
        panel_product(w, l, k, count, v, m + d, &t);
        d += k->panels * CONV_LANES;
        u += k->panels * wino_panel_step(w->p);
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

/* Floats of V and M for any number of panels: a part of the channels has longer chunks. */
static int64_t chunk_scratch(const struct layout *l)
{
    int64_t tile = l->v_tile + l->m_tile, products = l->f.products;
    int64_t most = min_i64(l->total * tile, CHUNK_FLOATS / products), used = l->chunk * tile;

    return products * (max_i64(used, most) + 2 * WINO_LINE);
}

size_t wino_run_scratch(const struct conv_pass *p, int64_t n)
{
    struct layout l = make_layout(p, n, padded_channels(p), CHUNK_MIN);
    return (size_t)chunk_scratch(&l);
}

/* What a call of wino_run is about. */
struct run {
    const struct wino *w;
    struct layout l;
    const float *packed, *bias;
    const struct rows_tail *tail;
    float *dst;
    bool add;
};

/* The destination of tiles [first, first + count) of one phase, whose part of M is m. */
static void write_phase(const struct run *r, int64_t first, int64_t count, int64_t phase,
                        const float *m)
{
    const struct wino *w = r->w;
    int64_t offset;

    for (int64_t i = 0; i < count; i++) {
        struct wino_tile t = result_tile(w, &r->l, first + i, phase, &offset);

        t.from = m + i * r->l.m_tile;
        t.to = r->dst + offset;
        t.bias = r->bias != NULL ? r->bias + wino_first_channel(w) : NULL;
        t.add = r->add;
        t.tail = tile_tail(w, r->tail, offset);
        w->t->result(&t);
    }
}

void wino_run(const struct wino *w, int64_t n, const float *src, const float *packed,
              const float *bias, const struct rows_tail *tail, float *dst, bool add, float *scratch)
{
    struct run r = {.w = w,
                    .l = make_layout(w->p, n, wino_span_channels(w), CHUNK_MIN),
                    .packed = packed,
                    .bias = bias,
                    .tail = tail,
                    .dst = dst,
                    .add = add};
    const struct layout *l = &r.l;
    float *v = scratch, *m = scratch + l->f.products * l->v_pos;

    int64_t first = w->parts > 1 ? l->total * w->part / w->parts : 0;
    int64_t end = w->parts > 1 ? l->total * (w->part + 1) / w->parts : l->total;

    for (; first < end; first += l->chunk) {
        int64_t count = min_i64(l->chunk, end - first);

        transform_source(w, l, src, first, count, v);
        for (int64_t i = 0; i < l->f.products; i++)
            for (int64_t phase = 0; phase < l->f.dst_phases; phase++)
                product(w, l, count, v + i * l->v_pos,
                        packed + phase * wino_phase_step(w->p) + i * wino_matrix_step(w->p),
                        m + i * l->m_pos + phase * wino_span_channels(w));
        for (int64_t phase = 0; phase < l->f.dst_phases; phase++)
            write_phase(&r, first, count, phase, m + phase * wino_span_channels(w));
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
    int64_t fit = BUNDLE_FLOATS / wino_panel_step(p);

    return max_i64(1, min_i64(fit, p->dst_c / CONV_LANES));
}

/* sum[panel][c][lane] += V[tile][c] Z[tile][panel, lane] over the tiles; sum: that of panel 0 for
 * one of the matrices, laid out as U. */
static void outer_product(const struct wino *w, const struct layout *l, int64_t count,
                          const float *v, const float *z, float *sum)
{
    struct conv_outer t = {
        .images = 1, .rows = 1, .cols = count, .x_pixel = l->v_tile, .dy_pixel = l->m_tile};

    for (int64_t d = 0; d < wino_span_channels(w); d += CONV_LANES, sum += wino_panel_step(w->p))
        for (int64_t c = 0, terms; c < l->v_c; c += terms) {
            terms = min_i64(w->k->terms, l->v_c - c);
            t.x = v + c;
            t.dy = z + d;
            t.sum = sum + c * CONV_LANES;
            w->k->outer[terms](&t);
        }
}

size_t wino_grad_scratch(const struct conv_pass *forward, int64_t n)
{
    int64_t panels = bundle_panels(forward);
    struct layout l = make_layout(forward, n, panels * CONV_LANES, GRAD_MIN);

    return (size_t)(panels * wino_panel_step(forward) + chunk_scratch(&l));
}

static void grad_bundle(const struct wino *w, int64_t n, const float *x, const float *dy, float *dw,
                        float *scratch)
{
    struct layout l = make_layout(w->p, n, wino_span_channels(w), GRAD_MIN);
    int64_t size = (w->span.end - w->span.first) * wino_panel_step(w->p);
    float *sum = scratch, *v = sum + size, *z = v + l.f.products * l.v_pos;

    memset(sum, 0, (size_t)size * sizeof *sum);
    for (int64_t first = 0; first < l.total; first += l.chunk) {
        int64_t count = min_i64(l.chunk, l.total - first), offset;

        transform_source(w, &l, x, first, count, v);
        for (int64_t i = 0; i < count; i++) {
            struct wino_tile t = result_tile(w, &l, first + i, 0, &offset);

            t.from = dy + offset;
            t.to = z + i * l.m_tile;
            w->t->result_grad(&t);
        }
        for (int64_t i = 0; i < l.f.products; i++)
            outer_product(w, &l, count, v + i * l.v_pos, z + i * l.m_pos,
                          sum + i * wino_matrix_step(w->p));
    }
    wino_add_filters(w, sum, dw);
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
