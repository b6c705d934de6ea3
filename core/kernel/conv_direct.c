/*
 * Direct convolution (conv_direct.h): pieces, panels and tiles around the kernels.
 *
 * Letters: n images, g group, t row of a phase, c channels, "panel" 16 destination channels.
 * All steps are in floats.
 */
#include "core/kernel/conv_direct.h"

#include "core/kernel/conv_piece.h"

/* Products of one tap that are summed in one chain; longer sums are made of such pieces. As many as the
 * widest 1x1 convolutions have, so that conv_point.h makes the same bits. */
#define LONG_CHAIN 2048
#define CHAIN_PIECE 128

struct conv_span conv_span_of(const struct conv_pass *p, int64_t part, int64_t parts)
{
    const int64_t all = p->groups * conv_panels(p->dst_c / p->groups);

    return (struct conv_span){part_begin(all, part, parts), part_begin(all, part + 1, parts)};
}

/* ---- weights */

size_t conv_packed_size(const struct conv_pass *p)
{
    return (size_t)(p->groups * conv_panels(p->dst_c / p->groups) * CONV_LANES *
                    (p->src_c / p->groups) * p->y.kernel * p->x.kernel);
}

/* One tap of one panel: where its weights are, and how they are scaled. */
struct panel_tap {
    const float *w;              /* of lane 0, channel 0 */
    const float *scale;          /* of channel 0, or NULL: input gradients */
    float factor[CONV_LANES];    /* of the lanes */
    int64_t by_lane, by_channel; /* steps */
    int64_t lanes;
};

#define PACK_RUN 16   /* channels at a time, a line of the cache where there is one tap */
#define PACK_AHEAD 32 /* channels */

/* Channels [c0, c1), lane by lane: forward, where a lane's channels are neighbours. */
static void pack_lanes(const struct panel_tap *t, int64_t c0, int64_t c1, float *packed)
{
    for (int64_t l = 0; l < t->lanes; l++) {
        const float *from = t->w + l * t->by_lane;

        __builtin_prefetch(from + (c0 + PACK_AHEAD) * t->by_channel);
        for (int64_t c = c0; c < c1; c++)
            packed[c * CONV_LANES + l] = from[c * t->by_channel] * t->factor[l];
    }
}

/* The same channel by channel: input gradients, where the lanes of one tap are neighbours. */
static void pack_channels(const struct panel_tap *t, int64_t c0, int64_t c1, float *packed)
{
    for (int64_t c = c0; c < c1; c++) {
        const float *from = t->w + c * t->by_channel;
        const float f = t->scale != NULL ? t->scale[c] : 1;
        float *to = packed + c * CONV_LANES;

        __builtin_prefetch(from + PACK_AHEAD * t->by_channel);
        if (t->by_lane == 1 && t->lanes == CONV_LANES) {
            for (int64_t l = 0; l < CONV_LANES; l++)
                to[l] = from[l] * f;
            continue;
        }
        for (int64_t l = 0; l < t->lanes; l++)
            to[l] = from[l * t->by_lane] * f;
    }
}

/* [channel][lane] of one tap of one panel. Weights are read in runs: rows of many channels are a multiple of
 * 4 KiB apart and would meet in one set of the cache. */
static void pack_tap(const struct conv_pass *p, const float *tap, const float *scale, int64_t g,
                     int64_t panel, float *packed)
{
    const int64_t src = p->src_c / p->groups, dst = p->dst_c / p->groups;
    const int64_t taps = p->y.kernel * p->x.kernel;
    struct panel_tap t = {.by_lane = p->y.grad ? taps : src * taps,
                          .by_channel = p->y.grad ? dst * taps : taps,
                          .lanes = conv_panel_lanes(dst, panel)};

    t.w = tap + g * src * dst * taps + panel * CONV_LANES * t.by_lane;
    if (p->y.grad && scale != NULL)
        t.scale = scale + g * src;
    for (int64_t l = 0; l < CONV_LANES; l++)
        t.factor[l] = scale != NULL && l < t.lanes && !p->y.grad
                          ? scale[g * dst + panel * CONV_LANES + l]
                          : 1;
    for (int64_t c0 = 0; c0 < src; c0 += PACK_RUN) {
        const int64_t c1 = min_i64(c0 + PACK_RUN, src);

        for (int64_t l = t.lanes; l < CONV_LANES; l++)
            for (int64_t c = c0; c < c1; c++)
                packed[c * CONV_LANES + l] = 0;
        if (p->y.grad)
            pack_channels(&t, c0, c1, packed);
        else
            pack_lanes(&t, c0, c1, packed);
    }
}

static void pack_phase(const struct conv_pass *p, struct conv_span span, const struct conv_taps *y,
                       const struct conv_taps *x, const float *w, const float *scale, float *packed)
{
    int64_t taps = y->count * x->count, panels = conv_panels(p->dst_c / p->groups);
    int64_t tap = p->src_c / p->groups * CONV_LANES;

    for (int64_t gp = span.first; gp < span.end; gp++) {
        for (int64_t i = 0; i < taps; i++) {
            int64_t row = y->k_first + i / x->count * y->k_step;
            int64_t col = x->k_first + i % x->count * x->k_step;

            pack_tap(p, w + row * p->x.kernel + col, scale, gp / panels, gp % panels,
                     packed + (gp * taps + i) * tap);
        }
    }
}

void conv_pack(const struct conv_pass *p, struct conv_span span, const float *w, const float *scale,
               float *packed)
{
    int64_t all = conv_span_of(p, 0, 1).end, tap = p->src_c / p->groups * CONV_LANES;

    for (int64_t i = 0; i < p->y.phases; i++) {
        struct conv_taps y = conv_axis_taps(&p->y, i);

        for (int64_t j = 0; j < p->x.phases; j++) {
            struct conv_taps x = conv_axis_taps(&p->x, j);

            pack_phase(p, span, &y, &x, w, scale, packed);
            packed += all * y.count * x.count * tap;
        }
    }
}

/* ---- forward and input gradient */

/* Destination pixels of one phase and panel in a piece, as images x rows x cols. */
struct sweep {
    const float *x;
    float *y;
    int64_t images, rows, cols;
    int64_t x_image, x_row, y_image, y_row; /* pixel steps are in the tile */
};

/* Makes one long row where rows (and images) follow each other without a gap. */
static void join_rows(struct sweep *s, const struct conv_tile *t)
{
    if (s->x_row != s->cols * t->x_pixel || s->y_row != s->cols * t->y_pixel)
        return;
    s->cols *= s->rows;
    s->rows = 1;
    if (s->x_image != s->cols * t->x_pixel || s->y_image != s->cols * t->y_pixel)
        return;
    s->cols *= s->images;
    s->images = 1;
}

/* Runs of q pixels, `runs` in each row from column `first` on; k->groups of them make a tile. */
static void sweep_runs(const struct sweep *s, const struct conv_tiles *k, struct conv_tile *t,
                       int64_t first, int64_t runs, int64_t q)
{
    int64_t x_run = q * t->x_pixel, y_run = q * t->y_pixel, held = 0;

    for (int64_t image = 0; image < s->images; image++) {
        for (int64_t row = 0; row < s->rows; row++) {
            const float *x = s->x + image * s->x_image + row * s->x_row + first * t->x_pixel;
            float *y = s->y + image * s->y_image + row * s->y_row + first * t->y_pixel;

            for (int64_t i = 0; i < runs; i++) {
                t->x[held] = x + i * x_run;
                t->y[held] = y + i * y_run;
                if (++held == k->groups) {
                    k->many[q](t);
                    conv_fetched(t);
                    held = 0;
                }
            }
        }
    }
    for (int64_t i = 0; i < held; i++) {
        t->x[0] = t->x[i];
        t->y[0] = t->y[i];
        k->one[q](t);
        conv_fetched(t);
    }
}

/* One panel, or two: as many as the tiles k have. q: longest run. */
static void run_panels(struct sweep s, const struct conv_tiles *k, int64_t q, struct conv_tile *t)
{
    join_rows(&s, t);
    if (s.cols >= q)
        sweep_runs(&s, k, t, 0, s.cols / q, q);
    if (s.cols % q != 0)
        sweep_runs(&s, k, t, s.cols - s.cols % q, 1, s.cols % q);
}

/* The same; a long sum (a fully connected layer of VGG has 25,088 products) is made in pieces that are added
 * up in dst: its rounding errors would grow with the root of its length. */
static void run_chains(const struct sweep *s, const struct conv_tiles *k, int64_t q,
                       const struct conv_tile *whole)
{
    static const float no_bias[2 * CONV_LANES];
    const bool is_long = whole->rows * whole->cols == 1 && whole->len > LONG_CHAIN;
    const int64_t piece = is_long ? CHAIN_PIECE : whole->len;

    int64_t at = 0;

    do { /* a phase without taps still writes its bias */
        struct sweep part = *s;
        struct conv_tile t = *whole;

        part.x += at;
        t.w += at * CONV_LANES;
        t.len = t.chain = min_i64(piece, whole->len - at);
        if (at > 0) {
            t.bias = no_bias;
            t.add = true;
        }
        run_panels(part, k, q, &t);
        at += piece;
    } while (at < whole->len);
}

struct run {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    struct conv_span span;
    const float *bias;
    float *dst;
    bool add;
};

/* The panels of the span of one phase; y0, x0: its first destination row and column. Returns the
 * weights of the next phase. */
static const float *run_phase(const struct run *r, const struct conv_piece *q,
                              const struct conv_taps *y, int64_t y0, const struct conv_taps *x,
                              int64_t x0, const float *w)
{
    const struct conv_pass *p = r->p;
    int64_t src_c = p->src_c / p->groups, dst_c = p->dst_c / p->groups, panels = conv_panels(dst_c);
    int64_t t1 = min_i64(q->t1, y->rows), dst_row = p->x.dst * p->dst_c;
    int64_t panel = y->count * x->count * src_c * CONV_LANES;
    bool dense = x->step * q->pixel_step == src_c; /* neighbouring taps are one run of channels */
    float bias[2 * CONV_LANES];
    struct conv_tile t = {.bias = bias,
                          .w_panel = panel,
                          .x_pixel = p->x.stride * q->pixel_step,
                          .y_pixel = p->x.step * p->dst_c,
                          .rows = y->count,
                          .row_step = y->step * q->row_step,
                          .cols = dense ? 1 : x->count,
                          .col_step = x->step * q->pixel_step,
                          .len = dense ? x->count * src_c : src_c,
                          .add = r->add};
    struct sweep s = {.images = q->images,
                      .rows = t1 - q->t0,
                      .cols = x->rows,
                      .x_image = q->image_step,
                      .x_row = p->y.stride * q->row_step,
                      .y_image = p->y.dst * dst_row,
                      .y_row = p->y.step * dst_row};
    const float *from = q->src + y->first * q->row_step + x->first * q->pixel_step;
    float *to = r->dst + q->image * s.y_image + (y0 + q->t0 * p->y.step) * dst_row + x0 * p->dst_c;

    for (int64_t gp = r->span.first, step; gp < r->span.end; gp += step) {
        int64_t g = gp / panels, in = gp % panels, d = g * dst_c + in * CONV_LANES;
        const struct conv_tiles *k = conv_tiles_for(r->k, min_i64(r->span.end - gp, panels - in));

        step = k->panels;
        t.w = w + gp * panel;
        t.fetch = NULL;
        if (gp + step < r->span.end)
            conv_fetch(&t, t.w + step * panel, s.images * s.rows * s.cols,
                       (r->span.end - r->span.first) * panel);
        t.lanes = conv_panel_lanes(dst_c, in + step - 1);
        conv_panel_bias(r->bias == NULL ? NULL : r->bias + d, (step - 1) * CONV_LANES + t.lanes,
                        bias);
        s.x = from + g * src_c;
        s.y = to + d;
        if (s.rows > 0)
            run_chains(&s, k, r->k->pixels, &t);
    }
    return w + p->groups * panels * panel;
}

void conv_run(const struct conv_pass *p, const struct conv_kernels *k, struct conv_span span,
              int64_t n, const float *src, const float *packed, const float *bias, float *dst,
              bool add, float *scratch)
{
    struct conv_cut c = conv_cut_make(p, n, p->src_c);
    struct run r = {.p = p, .k = k, .span = span, .bias = bias, .dst = dst, .add = add};
    struct conv_piece q = {0};

    while (conv_piece_next(&c, &q)) {
        const float *w = packed;

        conv_piece_copy(&c, src, 0, &q, scratch);
        conv_piece_find(&c, src, 0, scratch, &q);
        for (int64_t i = 0; i < p->y.phases; i++) {
            struct conv_taps y = conv_axis_taps(&p->y, i);

            for (int64_t j = 0; j < p->x.phases; j++) {
                struct conv_taps x = conv_axis_taps(&p->x, j);
                w = run_phase(&r, &q, &y, i, &x, j, w);
            }
        }
    }
}

size_t conv_run_scratch(const struct conv_pass *p, int64_t n)
{
    struct conv_cut c = conv_cut_make(p, n, p->src_c);
    return conv_cut_scratch(&c);
}
