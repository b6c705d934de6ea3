/*
 * Direct convolution (conv_direct.h): pieces, panels and tiles around the kernels.
 *
 * Letters: n images, g group, t row of a phase, c channels, "panel" 16 destination channels.
 * All steps are in floats.
 */
#include "core/conv_direct.h"

#include <string.h>

/* Padded source of a piece, in floats: half of a 1 MiB level-2 cache. */
#define PIECE_FLOATS (128 * 1024)

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t panels_of(int64_t channels)
{
    return (channels + CONV_LANES - 1) / CONV_LANES;
}

static int64_t panel_lanes(int64_t channels, int64_t panel)
{
    return min64(channels - panel * CONV_LANES, CONV_LANES);
}

/* ---- pieces of the source ------------------------------------------------------------------- */

/* How the work is cut: `images` whole images at a time, or one image in bands of `rows` rows of a
 * phase. Depends on n only through the number of images, so not on the bits of one. */
struct cut {
    int64_t images, rows;
    int64_t span;      /* padded source rows under one row of every phase */
    int64_t row_steps; /* padded floats of a source row */
    bool direct;       /* nothing is padded: the source is read where it is */
};
/* Images [image, image + images), rows [t0, t1) of every phase, and where their source lies. */
struct piece {
    int64_t image, images, t0, t1;
    const float *src; /* padded row t0 * stride, padded column 0, channel `first` of the slice */
    int64_t image_step, row_step, pixel_step;
};

static int64_t phase_rows(const struct conv_axis *a)
{
    return (a->dst + a->step - 1) / a->step;
}

static bool axis_is_direct(const struct conv_axis *a)
{
    return a->lead <= 0 && a->extent - a->lead <= a->src;
}

static struct cut make_cut(const struct conv_pass *p, int64_t n, int64_t channels)
{
    int64_t rows = phase_rows(&p->y);
    struct cut c = {.images = 1,
                    .rows = rows,
                    .span = p->y.extent - (rows - 1) * p->y.stride,
                    .row_steps = p->x.extent * channels,
                    .direct = axis_is_direct(&p->y) && axis_is_direct(&p->x)};
    int64_t image = p->y.extent * c.row_steps;

    if (image <= PIECE_FLOATS) {
        c.images = image > 0 ? min64(n, PIECE_FLOATS / image) : n;
        return c;
    }
    c.rows = (PIECE_FLOATS / c.row_steps - c.span) / p->y.stride + 1;
    c.rows = c.rows < 1 ? 1 : min64(c.rows, rows);
    return c;
}

static int64_t cut_rows(const struct conv_pass *p, const struct cut *c)
{
    return (c->rows - 1) * p->y.stride + c->span;
}

static size_t cut_scratch(const struct conv_pass *p, const struct cut *c)
{
    return c->direct ? 0 : (size_t)(c->images * cut_rows(p, c) * c->row_steps);
}

/* First piece has t1 == 0 and images == 0; false when there is no next one. */
static bool next_piece(const struct conv_pass *p, const struct cut *c, int64_t n, struct piece *q)
{
    int64_t rows = phase_rows(&p->y);

    if (q->t1 == rows || q->images == 0) {
        q->image += q->images;
        q->images = min64(c->images, n - q->image);
        q->t1 = 0;
    }
    q->t0 = q->t1;
    q->t1 = min64(q->t0 + c->rows, rows);
    return q->images > 0;
}

/* One padded row: zeros, the pixels of source row `from` (NULL: none) in [0, x.src), zeros. */
static void pad_row(const struct conv_axis *x, const float *from, int64_t all, int64_t channels,
                    float *to)
{
    int64_t begin = x->lead > 0 ? min64(x->lead, x->extent) : 0;
    int64_t end = min64(x->src + x->lead, x->extent);

    if (from == NULL || end <= begin) {
        memset(to, 0, (size_t)(x->extent * channels) * sizeof *to);
        return;
    }
    from += (begin - x->lead) * all;
    memset(to, 0, (size_t)(begin * channels) * sizeof *to);
    if (all == channels) {
        memcpy(to + begin * channels, from, (size_t)((end - begin) * channels) * sizeof *to);
    } else {
        for (int64_t i = begin; i < end; i++, from += all)
            memcpy(to + i * channels, from, (size_t)channels * sizeof *to);
    }
    memset(to + end * channels, 0, (size_t)((x->extent - end) * channels) * sizeof *to);
}

/* Makes the padded copy of channels [first, first + channels) of a piece of the source. */
static void copy_piece(const struct conv_pass *p, const struct cut *c, const float *src,
                       int64_t first, int64_t channels, const struct piece *q, float *scratch)
{
    int64_t all = p->src_c, row = p->x.src * all, rows = cut_rows(p, c);
    int64_t row0 = q->t0 * p->y.stride - p->y.lead;

    src += q->image * p->y.src * row + first;
    for (int64_t i = 0; i < q->images; i++, src += p->y.src * row) {
        for (int64_t r = row0; r < row0 + rows; r++, scratch += c->row_steps)
            pad_row(&p->x, r >= 0 && r < p->y.src ? src + r * row : NULL, all, channels, scratch);
    }
}

/* Where the padded source of a piece is: in place, or as copy_piece leaves it in the scratch. */
static void find_piece(const struct conv_pass *p, const struct cut *c, const float *src,
                       int64_t first, int64_t channels, const float *scratch, struct piece *q)
{
    int64_t all = p->src_c, image = p->y.src * p->x.src * all;
    int64_t row0 = q->t0 * p->y.stride - p->y.lead;

    if (c->direct) {
        src += q->image * image + first;
        q->src = src + (row0 * p->x.src - p->x.lead) * all;
        q->image_step = image;
        q->row_step = p->x.src * all;
        q->pixel_step = all;
        return;
    }
    q->src = scratch;
    q->image_step = cut_rows(p, c) * c->row_steps;
    q->row_step = c->row_steps;
    q->pixel_step = channels;
}

/* ---- weights ---------------------------------------------------------------------------------- */

size_t conv_packed_size(const struct conv_pass *p)
{
    return (size_t)(p->groups * panels_of(p->dst_c / p->groups) * CONV_LANES *
                    (p->src_c / p->groups) * p->y.kernel * p->x.kernel);
}

/* Index of w[.][.][0][0] for source channel s and destination channel d of group g. */
static int64_t weight_index(const struct conv_pass *p, int64_t g, int64_t d, int64_t s)
{
    int64_t dst = p->dst_c / p->groups, src = p->src_c / p->groups, taps = p->y.kernel * p->x.kernel;

    if (p->y.grad)
        return ((g * src + s) * dst + d) * taps;
    return ((g * dst + d) * src + s) * taps;
}

/* [channel][lane] of one tap of one panel. */
static void pack_tap(const struct conv_pass *p, const float *tap, int64_t g, int64_t panel,
                     float *packed)
{
    int64_t src = p->src_c / p->groups, lanes = panel_lanes(p->dst_c / p->groups, panel);

    for (int64_t s = 0; s < src; s++, packed += CONV_LANES) {
        for (int64_t l = 0; l < CONV_LANES; l++) {
            int64_t d = panel * CONV_LANES + l;
            packed[l] = l < lanes ? tap[weight_index(p, g, d, s)] : 0;
        }
    }
}

static float *pack_phase(const struct conv_pass *p, const struct conv_taps *y,
                         const struct conv_taps *x, const float *w, float *packed)
{
    int64_t src = p->src_c / p->groups, panels = panels_of(p->dst_c / p->groups);

    for (int64_t gp = 0; gp < p->groups * panels; gp++) {
        for (int64_t i = 0; i < y->count * x->count; i++) {
            int64_t row = y->k_first + i / x->count * y->k_step;
            int64_t col = x->k_first + i % x->count * x->k_step;

            pack_tap(p, w + row * p->x.kernel + col, gp / panels, gp % panels, packed);
            packed += src * CONV_LANES;
        }
    }
    return packed;
}

void conv_pack(const struct conv_pass *p, const float *w, float *packed)
{
    for (int64_t i = 0; i < p->y.phases; i++) {
        struct conv_taps y = conv_axis_taps(&p->y, i);

        for (int64_t j = 0; j < p->x.phases; j++) {
            struct conv_taps x = conv_axis_taps(&p->x, j);
            packed = pack_phase(p, &y, &x, w, packed);
        }
    }
}

/* ---- forward and input gradient ---------------------------------------------------------------- */

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
static void sweep_runs(const struct sweep *s, const struct conv_kernels *k, struct conv_tile *t,
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
                    k->tile_many[q](t);
                    held = 0;
                }
            }
        }
    }
    for (int64_t i = 0; i < held; i++) {
        t->x[0] = t->x[i];
        t->y[0] = t->y[i];
        k->tile_one[q](t);
    }
}

static void run_panel(struct sweep s, const struct conv_kernels *k, struct conv_tile *t)
{
    int64_t q = k->pixels;

    join_rows(&s, t);
    if (s.cols >= q)
        sweep_runs(&s, k, t, 0, s.cols / q, q);
    if (s.cols % q != 0)
        sweep_runs(&s, k, t, s.cols - s.cols % q, 1, s.cols % q);
}

struct run {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    const float *bias;
    float *dst;
    bool add;
};

static void panel_bias(const float *bias, int64_t lanes, float out[CONV_LANES])
{
    for (int64_t l = 0; l < CONV_LANES; l++)
        out[l] = bias != NULL && l < lanes ? bias[l] : 0;
}

/* All groups and panels of one phase; y0, x0: its first destination row and column. Returns the
 * weights of the next phase. */
static const float *run_phase(const struct run *r, const struct piece *q, const struct conv_taps *y,
                              int64_t y0, const struct conv_taps *x, int64_t x0, const float *w)
{
    const struct conv_pass *p = r->p;
    int64_t src_c = p->src_c / p->groups, dst_c = p->dst_c / p->groups, panels = panels_of(dst_c);
    int64_t t1 = min64(q->t1, y->rows), dst_row = p->x.dst * p->dst_c;
    bool dense = x->step * q->pixel_step == src_c; /* neighbouring taps are one run of channels */
    float bias[CONV_LANES];
    struct conv_tile t = {.bias = bias,
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

    for (int64_t gp = 0; gp < p->groups * panels; gp++) {
        int64_t g = gp / panels, d = g * dst_c + gp % panels * CONV_LANES;

        t.w = w;
        t.lanes = panel_lanes(dst_c, gp % panels);
        panel_bias(r->bias == NULL ? NULL : r->bias + d, t.lanes, bias);
        s.x = from + g * src_c;
        s.y = to + d;
        if (s.rows > 0)
            run_panel(s, r->k, &t);
        w += y->count * x->count * src_c * CONV_LANES;
    }
    return w;
}

void conv_run(const struct conv_pass *p, const struct conv_kernels *k, int64_t n, const float *src,
              const float *packed, const float *bias, float *dst, bool add, float *scratch)
{
    struct cut c = make_cut(p, n, p->src_c);
    struct run r = {.p = p, .k = k, .bias = bias, .dst = dst, .add = add};
    struct piece q = {0};

    while (next_piece(p, &c, n, &q)) {
        const float *w = packed;

        if (!c.direct)
            copy_piece(p, &c, src, 0, p->src_c, &q, scratch);
        find_piece(p, &c, src, 0, p->src_c, scratch, &q);
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
    struct cut c = make_cut(p, n, p->src_c);
    return cut_scratch(p, &c);
}

/* ---- weight gradient ----------------------------------------------------------------------------- */

/* dy of a panel with unused lanes zero, [pixel][lane], where the panel is not full. */
static void pack_dy(const float *dy, int64_t pixels, int64_t step, int64_t lanes, float *to)
{
    for (int64_t i = 0; i < pixels; i++, dy += step, to += CONV_LANES)
        for (int64_t l = 0; l < CONV_LANES; l++)
            to[l] = l < lanes ? dy[l] : 0;
}

/* sum[tap row][tap][channel][lane] += over the piece. */
static void add_taps(const struct conv_pass *p, const struct conv_kernels *k, const struct piece *q,
                     int64_t channels, struct conv_outer t, float *sum)
{
    bool dense = p->x.dilation * q->pixel_step == channels;
    int64_t cols = dense ? 1 : p->x.kernel, len = dense ? p->x.kernel * channels : channels;
    int64_t parts = (len + k->terms - 1) / k->terms;

    t.x_image = q->image_step;
    t.x_row = p->y.stride * q->row_step;
    t.x_pixel = p->x.stride * q->pixel_step;
    for (int64_t i = 0; i < p->y.kernel * cols; i++) {
        const float *x = q->src + i / cols * p->y.dilation * q->row_step +
                         i % cols * p->x.dilation * q->pixel_step;

        for (int64_t part = 0; part < parts; part++) {
            int64_t begin = len * part / parts, end = len * (part + 1) / parts;

            t.x = x + begin;
            t.sum = sum + (i * len + begin) * CONV_LANES;
            k->outer[end - begin](&t);
        }
    }
}

/* dw[lane][channel][tap] += sum[tap][channel][lane]; 16 channels at a time stay in cache. */
static void add_panel(const float *sum, int64_t taps, int64_t channels, int64_t lanes, float *dw)
{
    for (int64_t c0 = 0; c0 < channels; c0 += CONV_LANES) {
        int64_t c1 = min64(c0 + CONV_LANES, channels);

        for (int64_t l = 0; l < lanes; l++)
            for (int64_t c = c0; c < c1; c++)
                for (int64_t i = 0; i < taps; i++)
                    dw[(l * channels + c) * taps + i] +=
                        sum[(i * channels + c) * CONV_LANES + l];
    }
}

/* Floats of the parts of the scratch of conv_grad_weights: sums of a panel, dy, padded source. */
static size_t sum_floats(const struct conv_pass *p)
{
    return (size_t)(p->y.kernel * p->x.kernel * (p->src_c / p->groups) * CONV_LANES);
}

static size_t dy_floats(const struct conv_pass *p, const struct cut *c)
{
    if (p->dst_c / p->groups % CONV_LANES == 0)
        return 0;
    return (size_t)(c->images * c->rows * p->x.dst * CONV_LANES);
}

size_t conv_grad_scratch(const struct conv_pass *forward, int64_t n)
{
    struct cut c = make_cut(forward, n, forward->src_c / forward->groups);
    return sum_floats(forward) + dy_floats(forward, &c) + cut_scratch(forward, &c);
}

void conv_grad_weights(const struct conv_pass *forward, const struct conv_kernels *k, int64_t n,
                       const float *x, const float *dy, float *dw, float *scratch)
{
    const struct conv_pass *p = forward;
    int64_t src_c = p->src_c / p->groups, dst_c = p->dst_c / p->groups, panels = panels_of(dst_c);
    int64_t taps = p->y.kernel * p->x.kernel, row = p->x.dst * p->dst_c, image = p->y.dst * row;
    struct cut c = make_cut(p, n, src_c);
    bool whole = c.images == n && c.rows == p->y.dst; /* one piece */
    float *sum = scratch, *dy_part = sum + sum_floats(p), *padded = dy_part + dy_floats(p, &c);

    for (int64_t gp = 0; gp < p->groups * panels; gp++) {
        int64_t g = gp / panels, d = g * dst_c + gp % panels * CONV_LANES;
        int64_t lanes = panel_lanes(dst_c, gp % panels);
        struct piece q = {0};

        memset(sum, 0, sum_floats(p) * sizeof *sum);
        while (next_piece(p, &c, n, &q)) {
            struct conv_outer t = {.images = q.images,
                                   .rows = q.t1 - q.t0,
                                   .cols = p->x.dst,
                                   .dy_image = image,
                                   .dy_row = row,
                                   .dy_pixel = p->dst_c};
            t.dy = dy + q.image * image + q.t0 * row + d;
            if (lanes < CONV_LANES) {
                /* A piece is whole images or rows of one: its pixels follow each other. */
                pack_dy(t.dy, q.images * t.rows * t.cols, p->dst_c, lanes, dy_part);
                t.dy = dy_part;
                t.dy_pixel = CONV_LANES;
                t.dy_row = t.cols * CONV_LANES;
                t.dy_image = t.rows * t.dy_row;
            }
            if (!c.direct && (!whole || gp % panels == 0))
                copy_piece(p, &c, x, g * src_c, src_c, &q, padded);
            find_piece(p, &c, x, g * src_c, src_c, padded, &q);
            add_taps(p, k, &q, src_c, t, sum);
        }
        add_panel(sum, taps, src_c, lanes, dw + d * src_c * taps);
    }
}
