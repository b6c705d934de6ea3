/*
 * Weight gradient of direct convolution (conv_direct.h): sums of outer products of 16 destination
 * channels and up to 16 neighbouring (tap, channel) elements of the source, kept in registers over
 * all pixels of a piece.
 *
 * One element of dw is one chain over (piece, image, row, column). The cut into pieces depends on
 * shapes and n only, so the bits do not depend on threads. Sums lie as packed weights do,
 * [panel][tap][channel][lane], and are added to dw[O][I][KH][KW] once at the end.
 */
#include "core/kernel/conv_direct.h"
#include "core/kernel/conv_piece.h"

#include <string.h>

#define SUM_FLOATS (256 * 1024) /* 1 MiB: sums of the panels that are worked on together */

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

/* dw[lane][channel][tap] += sum[tap][channel][lane]; 16 channels at a time stay in cache. */
static void add_panel(const float *sum, int64_t taps, int64_t channels, int64_t lanes, float *dw)
{
    for (int64_t c0 = 0; c0 < channels; c0 += CONV_LANES) {
        int64_t c1 = min_i64(c0 + CONV_LANES, channels);

        for (int64_t l = 0; l < lanes; l++)
            for (int64_t c = c0; c < c1; c++)
                for (int64_t i = 0; i < taps; i++)
                    dw[(l * channels + c) * taps + i] += sum[(i * channels + c) * CONV_LANES + l];
    }
}

/*
 * Scratch: sums of a bundle of panels | dy of a panel | padded source. Over one bundle all pieces
 * are visited, so a bundle is as many panels as have sums of reasonable size.
 */
struct grad_plan {
    struct conv_cut cut;
    int64_t panels, bundle;        /* of a group; of a bundle */
    int64_t sum_floats, dy_floats; /* of a panel */
};

static struct grad_plan make_grad_plan(const struct conv_pass *p, int64_t n)
{
    int64_t src_c = p->src_c / p->groups;
    struct grad_plan plan = {.cut = conv_cut_make(p, n, src_c),
                             .panels = conv_panels(p->dst_c / p->groups),
                             .sum_floats = p->y.kernel * p->x.kernel * src_c * CONV_LANES};

    plan.bundle = max_i64(1, min_i64(plan.panels, SUM_FLOATS / plan.sum_floats));
    if (packs_dy(p))
        plan.dy_floats = plan.cut.images * plan.cut.rows * p->x.dst * CONV_LANES;
    return plan;
}

size_t conv_grad_scratch(const struct conv_pass *forward, int64_t n)
{
    struct grad_plan plan = make_grad_plan(forward, n);
    return (size_t)(plan.bundle * plan.sum_floats + plan.dy_floats) + conv_cut_scratch(&plan.cut);
}

struct grad {
    const struct conv_pass *p;
    const struct conv_kernels *k;
    struct grad_plan plan;
    const float *dy;
    float *sum, *dy_part, *padded;
};

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
    struct grad r = {.p = p, .k = k, .plan = make_grad_plan(p, n), .dy = dy, .sum = scratch};
    const struct grad_plan *plan = &r.plan;

    r.dy_part = r.sum + plan->bundle * plan->sum_floats;
    r.padded = r.dy_part + plan->dy_floats;
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
                for (int64_t b = b0; b < b1; b++)
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
