/*
 * 1 x 1 convolution (conv_point.h).
 *
 * Tiles take 12 pixels of two panels, or as many as make the rest without a tile of few sums: a core
 * that starts two multiply-adds a cycle and waits four for each wants eight chains, so 13 pixels are
 * 9 + 4, never 12 + 1 (rests[]).
 */
#include "core/kernel/conv_point.h"

#include <string.h>

#define BLOCK_FLOATS (96 * 1024)        /* 384 KiB: source and result of a block ... */
#define BLOCK_FLOATS_LARGE (256 * 1024) /* ... where the weights do not stay beside them */
#define KEPT_WEIGHTS (128 * 1024)       /* 512 KiB of them do */
#define SPLIT_WEIGHTS (256 * 1024)      /* from here on threads share out channels */
#define LEAST_WEIGHTS (16 * 1024)       /* fewer are too little work for a pixel */
#define LINE_FLOATS 16                  /* what crowded pixels are moved apart */
#define TILE CONV_PAIR_PIXELS           /* pixels of two panels */

static bool axis_fits(const struct conv_axis *a)
{
    return a->kernel == 1 && a->pad == 0 && (a->dst - 1) / a->node_stride < a->src &&
           (a->src - 1) / a->node_stride < a->dst;
}

bool conv_point_fits(const struct conv_pass *p)
{
    return p->groups == 1 && axis_fits(&p->y) && axis_fits(&p->x);
}

bool conv_point_pays(const struct conv_pass *p)
{
    return conv_point_fits(p) && p->src_c * p->dst_c >= LEAST_WEIGHTS;
}

bool conv_point_splits_pixels(const struct conv_pass *p)
{
    return p->src_c * p->dst_c < SPLIT_WEIGHTS;
}

/* The maps of a pass: the dense one, and how its pixels lie in source and destination. */
struct maps {
    int64_t rows, cols; /* dense */
    int64_t y_stride, x_stride;
    bool gather, scatter; /* the source, the destination has more pixels */
    int64_t src_pixel;    /* floats between source pixels of a block */
};

static struct maps maps_of(const struct conv_pass *p)
{
    const bool grad = p->y.grad, strided = p->y.node_stride > 1 || p->x.node_stride > 1;
    const bool gather = strided && !grad, copy = gather || conv_is_crowded(p->src_c);

    return (struct maps){.rows = grad ? p->y.src : p->y.dst,
                         .cols = grad ? p->x.src : p->x.dst,
                         .y_stride = p->y.node_stride,
                         .x_stride = p->x.node_stride,
                         .gather = copy,
                         .scatter = strided && grad,
                         .src_pixel = p->src_c + (conv_is_crowded(p->src_c) ? LINE_FLOATS : 0)};
}

/* Pixels of a block whose destination has that many channels. */
static int64_t block_pixels(const struct conv_pass *p, const struct maps *m, int64_t channels)
{
    const bool kept = p->src_c * channels <= KEPT_WEIGHTS;
    const int64_t fit = (kept ? BLOCK_FLOATS : BLOCK_FLOATS_LARGE) / (m->src_pixel + channels);

    return max_i64(TILE, fit / TILE * TILE);
}

static int64_t span_channels(const struct conv_pass *p, struct conv_span span)
{
    return min_i64(span.end * CONV_LANES, p->dst_c) - span.first * CONV_LANES;
}

/* Of any span. */
size_t conv_point_scratch(const struct conv_pass *p)
{
    const struct maps m = maps_of(p);
    const int64_t source = max_i64(BLOCK_FLOATS_LARGE, TILE * m.src_pixel);
    const int64_t result = max_i64(BLOCK_FLOATS_LARGE, TILE * p->dst_c);

    return (size_t)((m.gather ? source : 0) + (m.scatter ? result : 0));
}

/* ---- a block */

struct block {
    const struct conv_point *c;
    const struct maps *m;
    int64_t first, count;      /* dense pixels over all images */
    int64_t channel, channels; /* of the span */
    const float *x;            /* source of pixel `first` */
    float *y;                  /* result of pixel `first`, first channel of the span */
    int64_t y_pixel;
};

/* Where dense pixel i lies in a map of h x w pixels that has the strides. */
static int64_t sparse_pixel(const struct maps *m, int64_t i, int64_t h, int64_t w)
{
    const int64_t col = i % m->cols, row = i / m->cols % m->rows, image = i / (m->cols * m->rows);

    return (image * h + row * m->y_stride) * w + col * m->x_stride;
}

static void gather(const struct block *b, const float *src, float *to)
{
    const struct conv_pass *p = b->c->p;
    const bool dense = b->c->p->y.grad || (b->m->y_stride == 1 && b->m->x_stride == 1);

    for (int64_t i = b->first; i < b->first + b->count; i++, to += b->m->src_pixel) {
        const int64_t pixel = dense ? i : sparse_pixel(b->m, i, p->y.src, p->x.src);

        memcpy(to, src + pixel * p->src_c, (size_t)p->src_c * sizeof *to);
    }
}

/* One pixel of the result, and zeros for the pixels that no source pixel reaches. */
static void scatter_pixel(const struct block *b, const float *from, int64_t i, float *dst, bool add)
{
    const struct conv_pass *p = b->c->p;
    const int64_t row = i / b->m->cols % b->m->rows * b->m->y_stride;
    const int64_t col = i % b->m->cols * b->m->x_stride;
    const int64_t rows = min_i64(b->m->y_stride, p->y.dst - row);
    const int64_t cols = min_i64(b->m->x_stride, p->x.dst - col);
    float *to = dst + sparse_pixel(b->m, i, p->y.dst, p->x.dst) * p->dst_c + b->channel;

    if (add) {
        for (int64_t c = 0; c < b->channels; c++)
            to[c] += from[c];
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = r == 0; c < cols; c++)
            memset(to + (r * p->x.dst + c) * p->dst_c, 0, (size_t)b->channels * sizeof *to);
    memcpy(to, from, (size_t)b->channels * sizeof *to);
}

/* Pixels of a whole block follow each other where the span is all channels, but masks start again with
 * every image. */
static void run_tail(const struct block *b, const struct rows_tail *all, float *dst)
{
    const int64_t dst_c = b->c->p->dst_c, map = b->m->rows * b->m->cols;
    const bool whole = b->channels == dst_c;
    int64_t step;

    for (int64_t i = b->first; i < b->first + b->count; i += step) {
        struct rows_tail tail = *all;

        step = whole ? min_i64(map - i % map, b->first + b->count - i) : 1;
        if (tail.other != NULL)
            tail.other += i * dst_c + b->channel;
        if (tail.mask != NULL)
            tail.mask += i % map * dst_c + b->channel;
        b->c->rows->tail(dst + i * dst_c + b->channel, whole ? step * dst_c : b->channels, &tail);
    }
}

/* ---- tiles */

/* What follows the last but one tile of two panels, by the rest of the pixels: sizes of tiles. */
static const int8_t rests[TILE][5] = {{0}, {9, 4},    {6, 4, 4}, {9, 6}, {4},    {9, 4, 4},
                                      {6}, {9, 6, 4}, {4, 4},    {9},    {6, 4}, {9, 6, 4, 4}};

/* A tile of that many pixels: 12, 9, 6, 3 in three runs, 4 and fewer in one. */
static void run_tile(const struct conv_tiles *k, struct conv_tile *t, int64_t pixels)
{
    const bool many = pixels % k->groups == 0 && (k->groups > 1 ? pixels != 3 : true);
    const int64_t run = many ? pixels / k->groups : pixels;

    for (int64_t g = 1; many && g < k->groups; g++) {
        t->x[g] = t->x[0] + g * run * t->x_pixel;
        t->y[g] = t->y[0] + g * run * t->y_pixel;
    }
    (many ? k->many : k->one)[run](t);
    conv_fetched(t);
    t->x[0] += pixels * t->x_pixel;
    t->y[0] += pixels * t->y_pixel;
}

/* `count` pixels in tiles of runs of that many, without more sums than one panel has. */
static void run_runs(const struct conv_tiles *k, int64_t run, struct conv_tile *t, int64_t count)
{
    for (int64_t step; count > 0; count -= step) {
        step = count >= k->groups * run ? k->groups * run : min_i64(count, run);
        run_tile(k, t, step);
    }
}

static void run_pair(const struct conv_tiles *k, struct conv_tile *t, int64_t count)
{
    const int8_t *rest = rests[count % TILE];
    int64_t rest_pixels = 0;

    for (int i = 0; rest[i] > 0; i++)
        rest_pixels += rest[i];
    if (rest_pixels > count) { /* a block of few pixels, fewer than TILE */
        run_runs(k, 4, t, count);
        return;
    }
    for (int64_t i = rest_pixels; i < count; i += TILE)
        run_tile(k, t, TILE);
    for (int i = 0; rest[i] > 0; i++)
        run_tile(k, t, rest[i]);
}

static void run_panels(const struct block *b, const float *packed, const float *bias, bool add)
{
    const struct conv_pass *p = b->c->p;
    const struct conv_kernels *all = b->c->k;
    const int64_t panel = p->src_c * CONV_LANES, first = b->c->span.first, end = b->c->span.end;
    float values[2 * CONV_LANES];

    for (int64_t i = first, step; i < end; i += step) {
        const struct conv_tiles *k = conv_tiles_for(all, end - i);
        const int64_t d = i * CONV_LANES;
        struct conv_tile t = {.x = {b->x},
                              .y = {b->y + (i - first) * CONV_LANES},
                              .w = packed + i * panel,
                              .bias = values,
                              .w_panel = panel,
                              .x_pixel = b->m->src_pixel,
                              .y_pixel = b->y_pixel,
                              .rows = 1,
                              .cols = 1,
                              .len = p->src_c,
                              .chain = p->src_c,
                              .add = add};

        step = k->panels;
        if (i + step < end)
            conv_fetch(&t, t.w + step * panel, b->count, (end - first) * panel);
        if (i == first && t.fetch == NULL && !b->m->gather) { /* the next tile's pixels */
            t.fetch = b->x + TILE * b->m->src_pixel;
            t.fetch_step = TILE;
        }
        t.lanes = conv_panel_lanes(p->dst_c, i + step - 1);
        conv_panel_bias(bias == NULL ? NULL : bias + d, (step - 1) * CONV_LANES + t.lanes, values);
        if (step > 1)
            run_pair(k, &t, b->count);
        else
            run_runs(k, all->pixels, &t, b->count);
    }
}

void conv_point_run(const struct conv_point *c, int64_t n, const float *src, const float *packed,
                    const float *bias, const struct rows_tail *tail, float *dst, bool add,
                    float *scratch)
{
    const struct conv_pass *p = c->p;
    const struct maps m = maps_of(p);
    const int64_t pixels = n * m.rows * m.cols, end = part_begin(pixels, c->part + 1, c->parts);
    const int64_t channels = span_channels(p, c->span), most = block_pixels(p, &m, channels);
    struct block b = {.c = c,
                      .m = &m,
                      .channel = c->span.first * CONV_LANES,
                      .channels = channels,
                      .y_pixel = m.scatter ? channels : p->dst_c};
    float *result = scratch + (m.gather ? most * m.src_pixel : 0);

    if (c->span.first == c->span.end)
        return;
    for (b.first = part_begin(pixels, c->part, c->parts); b.first < end; b.first += b.count) {
        b.count = min_i64(most, end - b.first);
        b.x = m.gather ? scratch : src + b.first * p->src_c;
        b.y = m.scatter ? result : dst + b.first * p->dst_c + b.channel;
        if (m.gather)
            gather(&b, src, scratch);
        run_panels(&b, packed, bias, add && !m.scatter);
        for (int64_t i = 0; m.scatter && i < b.count; i++)
            scatter_pixel(&b, result + i * channels, b.first + i, dst, add);
        if (tail->other != NULL || tail->relu)
            run_tail(&b, tail, dst);
    }
}
