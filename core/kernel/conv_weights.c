/*
 * Weight gradient of direct convolution (conv_direct.h): sums of outer products of 16 destination
 * channels and up to 16 neighbouring (tap, channel) elements of the source, kept in registers over
 * all pixels of a piece. Where a path has kernels for two panels and there are enough of both, they
 * work on copies of CHUNK pixels without gaps instead (conv_weights_pair): neighbouring pixels are one
 * to eight KB apart in a map of many channels, a bad stride for any cache.
 *
 * In both ways one element of dw is one chain over (piece, image, row, column), so they give the same
 * bits. The cut into pieces depends on
 * shapes and n only, so the bits do not depend on threads. Sums lie as packed weights do,
 * [panel][tap][channel][lane], and are added to dw[O][I][KH][KW] once at the end.
 */
#include "core/kernel/conv_direct.h"
#include "core/kernel/conv_piece.h"

#include <string.h>

#define SUM_FLOATS (256 * 1024)       /* 1 MiB: sums of the panels that are worked on together */
#define PAIR_SUM_FLOATS (1024 * 1024) /* 4 MiB: read and written once a chunk */
#define PAIR_PRODUCT 8192             /* least channels x channels */

/* A rule of the shape, on paths that can: copies of x want several pairs that use them. */
static bool in_pairs(const struct conv_pass *p, const struct conv_kernels *k)
{
    return k->outer_pair[1] != NULL && p->groups == 1 && p->dst_c % (2 * CONV_LANES) == 0 &&
           p->src_c >= CONV_PAIR_TERMS * CONV_PARTS && p->src_c * p->dst_c >= PAIR_PRODUCT;
}

/* Whether a panel of dy is copied: to fill up its unused lanes, or because its pixels lie so far
 * apart that they crowd a few sets of the cache. */
static bool packs_dy(const struct conv_pass *p)
{
    return p->dst_c / p->groups % CONV_LANES != 0 || conv_is_crowded(p->dst_c);
}

/* dy of a panel with unused lanes zero, [pixel][lane]. */
static void pack_dy(const float *dy, int64_t pixels, int64_t step, int64_t lanes, float *to)
{
    for (int64_t i = 0; i < pixels; i++, dy += step, to += CONV_LANES) {
        for (int64_t l = lanes; l < CONV_LANES; l++)
            to[l] = 0;
        memcpy(to, dy, (size_t)lanes * sizeof *to);
    }
}

/* sum[tap row][tap][channel][lane] += over the piece. */
static void add_taps(const struct conv_pass *p, const struct conv_kernels *k,
                     const struct conv_piece *q, int64_t channels, struct conv_outer t, float *sum)
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

/* ---- two panels at a time, on copies */

/* Pixels of a piece in the order of the chain; x is that of the first tap. */
struct walk {
    const float *x;
    int64_t image, row, col, rows, cols;
    int64_t x_image, x_row, x_pixel;
};

/* Elements of a run in equal parts of at most CONV_PAIR_TERMS. */
static int64_t run_begin(int64_t len, int64_t part)
{
    return len * part / ((len + CONV_PAIR_TERMS - 1) / CONV_PAIR_TERMS);
}

/* `count` pixels from w on, parts [first, end) of a run of len, row by row. */
static void copy_x(const struct conv_kernels *k, struct walk w, int64_t count, int64_t len,
                   int64_t first, int64_t end, float *to)
{
    struct conv_parts parts = {.step = w.x_pixel, .parts = end - first};

    for (int64_t j = first; j < end; j++) {
        parts.at[j - first] = run_begin(len, j);
        parts.terms[j - first] = run_begin(len, j + 1) - run_begin(len, j);
    }
    for (int64_t run; count > 0; count -= run, to += run * CONV_PAIR_TERMS) {
        run = min_i64(w.cols - w.col, count);
        k->copy_x(&parts, w.x + w.image * w.x_image + w.row * w.x_row + w.col * w.x_pixel, run, to);
        w.col = 0;
        w.row++;
        if (w.row == w.rows) {
            w.row = 0;
            w.image++;
        }
    }
}

/* dw[lane][channel][tap] += sum[tap][channel][lane]; 16 channels at a time stay in cache. */
static void add_panel(const float *sum, int64_t taps, int64_t channels, int64_t lanes, float *dw)
{
    for (int64_t c0 = 0; c0 < channels; c0 += CONV_LANES) {
        int64_t c1 = min_i64(c0 + CONV_LANES, channels);

        for (int64_t l = 0; l < lanes; l++) {
            __builtin_prefetch(dw + (l * channels + c1) * taps, 1);
            for (int64_t c = c0; c < c1; c++)
                for (int64_t i = 0; i < taps; i++)
                    dw[(l * channels + c) * taps + i] += sum[(i * channels + c) * CONV_LANES + l];
        }
    }
}

/*
 * Scratch: sums of a bundle of panels | dy of a panel | padded source. Over one bundle all pieces
 * are visited, so a bundle is as many panels as have sums of reasonable size.
 */
struct grad_plan {
    struct conv_cut cut;
    int64_t panels, bundle;        /* of a group; of a bundle */
    int64_t sum_floats, dy_floats; /* of a panel; in pairs dy of a bundle */
    int64_t x_floats;              /* in pairs */
};

static struct grad_plan make_grad_plan(const struct conv_pass *p, int64_t n, bool pairs)
{
    int64_t src_c = p->src_c / p->groups;
    struct grad_plan plan = {.cut = conv_cut_make(p, n, src_c),
                             .panels = conv_panels(p->dst_c / p->groups),
                             .sum_floats = p->y.kernel * p->x.kernel * src_c * CONV_LANES};

    plan.bundle = max_i64(1, min_i64(plan.panels, SUM_FLOATS / plan.sum_floats));
    if (pairs) {
        plan.bundle = max_i64(2, min_i64(plan.panels, PAIR_SUM_FLOATS / plan.sum_floats) / 2 * 2);
        if (plan.cut.direct) { /* nothing to copy: one piece, the same chain */
            plan.cut.images = n;
            plan.cut.rows = plan.cut.all_rows;
            plan.cut.whole = true;
        }
        plan.dy_floats = plan.bundle / 2 * CONV_DY_ARRAY;
        plan.x_floats = CONV_PARTS * CONV_X_ARRAY;
    } else if (packs_dy(p)) {
        plan.dy_floats = plan.cut.images * plan.cut.rows * p->x.dst * CONV_LANES;
    }
    return plan;
}

size_t conv_grad_scratch(const struct conv_pass *forward, int64_t n)
{
    size_t most = 0;

    for (int pairs = 0; pairs < 2; pairs++) { /* whatever the path */
        const struct grad_plan plan = make_grad_plan(forward, n, pairs);

        most = max_size(most,
                        (size_t)(plan.bundle * plan.sum_floats + plan.dy_floats + plan.x_floats) +
                            conv_cut_scratch(&plan.cut));
    }
    return most;
}

struct grad {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    struct grad_plan plan;
    const float *dy;
    float *sum, *dy_part, *x_part, *padded;
};

/* The sums of the next pair, which lie elsewhere. */
static void fetch_sums(const float *sum, int64_t panel)
{
    for (int64_t j = 0; j < CONV_PAIR_TERMS; j++) {
        __builtin_prefetch(sum + j * CONV_LANES);
        __builtin_prefetch(sum + panel + j * CONV_LANES);
    }
}

/* Parts [first, end) of a run of len neighbouring elements, all pairs of the bundle. */
static void add_parts(const struct grad *r, const struct walk *w, int64_t count, int64_t len,
                      int64_t first, int64_t end, int64_t pairs, float *sum)
{
    copy_x(r->k, *w, count, len, first, end, r->x_part);
    for (int64_t j = first; j < end; j++) {
        const int64_t at = run_begin(len, j), terms = run_begin(len, j + 1) - at;

        for (int64_t b = 0; b < pairs; b++) {
            const struct conv_outer_pair t = {.x = r->x_part + (j - first) * CONV_X_ARRAY,
                                              .dy = r->dy_part + b * CONV_DY_ARRAY,
                                              .sum = sum + 2 * b * r->plan.sum_floats +
                                                     at * CONV_LANES,
                                              .count = count,
                                              .sum_panel = r->plan.sum_floats};

            if (b + 1 < pairs)
                fetch_sums(t.sum + 2 * r->plan.sum_floats, r->plan.sum_floats);
            r->k->outer_pair[terms](&t);
        }
    }
}

/* The piece's part of the panels of a bundle, from destination channel d on. */
static void add_piece_in_pairs(const struct grad *r, const struct conv_piece *q, int64_t d,
                               int64_t panels)
{
    const struct conv_pass *p = r->p;
    const bool dense = p->x.dilation * q->pixel_step == p->src_c;
    const int64_t cols = dense ? 1 : p->x.kernel, len = dense ? p->x.kernel * p->src_c : p->src_c;
    const int64_t parts = (len + CONV_PAIR_TERMS - 1) / CONV_PAIR_TERMS;
    const int64_t rows = q->t1 - q->t0, pixels = q->images * rows * p->x.dst;
    const float *dy = r->dy + (q->image * p->y.dst + q->t0) * p->x.dst * p->dst_c + d;
    struct walk w = {.rows = rows,
                     .cols = p->x.dst,
                     .x_image = q->image_step,
                     .x_row = p->y.stride * q->row_step,
                     .x_pixel = p->x.stride * q->pixel_step};

    for (int64_t first = 0, count; first < pixels; first += count) {
        count = min_i64(CONV_CHUNK, pixels - first);
        r->k->copy_dy(dy + first * p->dst_c, p->dst_c, count, panels / 2, r->dy_part);
        w.image = first / (rows * w.cols);
        w.row = first / w.cols % rows;
        w.col = first % w.cols;
        for (int64_t i = 0; i < p->y.kernel * cols; i++) {
            w.x = q->src + i / cols * p->y.dilation * q->row_step +
                  i % cols * p->x.dilation * q->pixel_step;
            for (int64_t part = 0; part < parts; part += CONV_PARTS)
                add_parts(r, &w, count, len, part, min_i64(part + CONV_PARTS, parts), panels / 2,
                          r->sum + i * len * CONV_LANES);
        }
    }
}

/* The piece's part of one panel: destination channels [d, d + lanes). A piece is whole images or
 * rows of one, so its pixels of dy follow each other. */
static void add_piece(const struct grad *r, const struct conv_piece *q, int64_t d, int64_t lanes,
                      float *sum)
{
    const struct conv_pass *p = r->p;
    int64_t row = p->x.dst * p->dst_c, rows = q->t1 - q->t0;
    bool packed = packs_dy(p);
    int64_t pixel = packed ? CONV_LANES : p->dst_c;
    struct conv_outer t = {.dy = r->dy + (q->image * p->y.dst + q->t0) * row + d,
                           .images = q->images,
                           .rows = rows,
                           .cols = p->x.dst,
                           .dy_pixel = pixel,
                           .dy_row = p->x.dst * pixel,
                           .dy_image = rows * p->x.dst * pixel};

    if (packed) {
        pack_dy(t.dy, q->images * rows * p->x.dst, p->dst_c, lanes, r->dy_part);
        t.dy = r->dy_part;
    }
    add_taps(p, r->k, q, p->src_c / p->groups, t, sum);
}

void conv_grad_weights(const struct conv_pass *forward, const struct conv_kernels *k,
                       struct conv_span span, int64_t n, const float *x, const float *dy, float *dw,
                       float *scratch)
{
    const struct conv_pass *p = forward;
    int64_t src_c = p->src_c / p->groups, dst_c = p->dst_c / p->groups;
    int64_t taps = p->y.kernel * p->x.kernel;
    const bool pairs = in_pairs(p, k) && span.first % 2 == 0 && span.end % 2 == 0;
    struct grad r = {.p = p, .k = k, .plan = make_grad_plan(p, n, pairs), .dy = dy, .sum = scratch};
    const struct grad_plan *plan = &r.plan;

    r.dy_part = r.sum + plan->bundle * plan->sum_floats;
    r.x_part = r.dy_part + plan->dy_floats;
    r.padded = r.x_part + plan->x_floats;
    for (int64_t g = 0; g < p->groups; g++) {
        int64_t begin = max_i64(0, span.first - g * plan->panels);
        int64_t end = min_i64(span.end - g * plan->panels, plan->panels);

        for (int64_t b0 = begin; b0 < end; b0 += plan->bundle) {
            int64_t b1 = min_i64(b0 + plan->bundle, end);
            struct conv_piece q = {0};

            memset(r.sum, 0, (size_t)((b1 - b0) * plan->sum_floats) * sizeof *r.sum);
            while (conv_piece_next(&plan->cut, &q)) {
                if (!plan->cut.whole || b0 == begin)
                    conv_piece_copy(&plan->cut, x, g * src_c, &q, r.padded);
                conv_piece_find(&plan->cut, x, g * src_c, r.padded, &q);
                if (pairs)
                    add_piece_in_pairs(&r, &q, b0 * CONV_LANES, b1 - b0);
                for (int64_t b = b0; b < b1 && !pairs; b++)
                    add_piece(&r, &q, g * dst_c + b * CONV_LANES, conv_panel_lanes(dst_c, b),
                              r.sum + (b - b0) * plan->sum_floats);
            }
            for (int64_t b = b0; b < b1; b++)
                add_panel(r.sum + (b - b0) * plan->sum_floats, taps, src_c,
                          conv_panel_lanes(dst_c, b),
                          dw + (g * dst_c + b * CONV_LANES) * src_c * taps);
        }
    }
}
