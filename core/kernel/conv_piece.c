/*
 * Pieces of the source (conv_piece.h).
 *
 * The source of a piece takes at most a quarter of a level-2 cache of 2 MB, and so does the
 * destination over it. The cut depends on n only through the number of
 * images in a piece, so the bits of an image do not depend on n.
 */
#include "core/kernel/conv_piece.h"

#include <string.h>

#define PIECE_FLOATS (128 * 1024) /* 512 KiB */
#define LINE_FLOATS 16            /* what crowded pixels are moved apart */

static bool axis_is_direct(const struct conv_axis *a)
{
    return a->lead <= 0 && a->extent - a->lead <= a->src;
}

struct conv_cut conv_cut_make(const struct conv_pass *p, int64_t n, int64_t channels)
{
    int64_t pixel = conv_is_crowded(channels) ? channels + LINE_FLOATS : channels;
    int64_t rows = (p->y.dst + p->y.step - 1) / p->y.step, row = p->x.extent * pixel;
    int64_t span = p->y.extent - (rows - 1) * p->y.stride; /* source rows under one row */
    struct conv_cut c = {.p = p,
                         .n = n,
                         .channels = channels,
                         .images = 1,
                         .rows = rows,
                         .all_rows = rows,
                         .row_step = row,
                         .pixel_step = pixel,
                         .direct = axis_is_direct(&p->y) && axis_is_direct(&p->x)};

    const int64_t dst_row = p->y.step * p->x.dst * p->dst_c, dst = rows * dst_row;

    if (p->y.extent * row <= PIECE_FLOATS && dst <= PIECE_FLOATS) {
        c.images = min_i64(n, PIECE_FLOATS / max_i64(p->y.extent * row, dst));
    } else {
        c.rows = min_i64((PIECE_FLOATS / row - span) / p->y.stride + 1, PIECE_FLOATS / dst_row);
        c.rows = c.rows < 1 ? 1 : min_i64(c.rows, rows);
    }
    c.copy_rows = (c.rows - 1) * p->y.stride + span;
    c.whole = c.images == n && c.rows == rows;
    return c;
}

size_t conv_cut_scratch(const struct conv_cut *c)
{
    return c->direct ? 0 : (size_t)(c->images * c->copy_rows * c->row_step);
}

bool conv_piece_next(const struct conv_cut *c, struct conv_piece *q)
{
    if (q->images == 0 || q->t1 == c->all_rows) {
        q->image += q->images;
        q->images = min_i64(c->images, c->n - q->image);
        q->t1 = 0;
    }
    q->t0 = q->t1;
    q->t1 = min_i64(q->t0 + c->rows, c->all_rows);
    return q->images > 0;
}

/* One padded row: zeros, the source row `from` (NULL: none) in [lead, lead + x.src), zeros. */
static void pad_row(const struct conv_cut *c, const float *from, float *to)
{
    const struct conv_axis *x = &c->p->x;
    int64_t begin = x->lead > 0 ? min_i64(x->lead, x->extent) : 0;
    int64_t end = min_i64(x->src + x->lead, x->extent), all = c->p->src_c, pixel = c->pixel_step;

    if (from == NULL || end <= begin) {
        memset(to, 0, (size_t)c->row_step * sizeof *to);
        return;
    }
    from += (begin - x->lead) * all;
    memset(to, 0, (size_t)(begin * pixel) * sizeof *to);
    if (all == pixel) {
        memcpy(to + begin * pixel, from, (size_t)((end - begin) * pixel) * sizeof *to);
    } else {
        for (int64_t i = begin; i < end; i++, from += all)
            memcpy(to + i * pixel, from, (size_t)c->channels * sizeof *to);
    }
    memset(to + end * pixel, 0, (size_t)((x->extent - end) * pixel) * sizeof *to);
}

void conv_piece_copy(const struct conv_cut *c, const float *src, int64_t first,
                     const struct conv_piece *q, float *scratch)
{
    const struct conv_axis *y = &c->p->y;
    int64_t row = c->p->x.src * c->p->src_c, r0 = q->t0 * y->stride - y->lead;

    if (c->direct)
        return;
    src += q->image * y->src * row + first;
    for (int64_t i = 0; i < q->images; i++, src += y->src * row) {
        for (int64_t r = r0; r < r0 + c->copy_rows; r++, scratch += c->row_step)
            pad_row(c, r >= 0 && r < y->src ? src + r * row : NULL, scratch);
    }
}

void conv_piece_find(const struct conv_cut *c, const float *src, int64_t first,
                     const float *scratch, struct conv_piece *q)
{
    const struct conv_pass *p = c->p;
    int64_t row = p->x.src * p->src_c;

    if (c->direct) {
        q->src = src + first + q->image * p->y.src * row + (q->t0 * p->y.stride - p->y.lead) * row -
                 p->x.lead * p->src_c;
        q->image_step = p->y.src * row;
        q->row_step = row;
        q->pixel_step = p->src_c;
        return;
    }
    q->src = scratch;
    q->image_step = c->copy_rows * c->row_step;
    q->row_step = c->row_step;
    q->pixel_step = c->pixel_step;
}
