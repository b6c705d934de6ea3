#ifndef CORE_KERNEL_CONV_PIECE_H
#define CORE_KERNEL_CONV_PIECE_H
/*
 * Cache-sized pieces of the source of a convolution, zero-padded in scratch, or in place where
 * nothing is padded:
 *
 *     struct conv_cut c = conv_cut_make(p, n, channels);
 *     struct conv_piece q = {0};
 *     while (conv_piece_next(&c, &q)) {
 *         conv_piece_copy(&c, src, first, &q, scratch);       (conv_cut_scratch floats)
 *         conv_piece_find(&c, src, first, scratch, &q);
 *         ... images q.image on, rows [q.t0, q.t1) of every phase, source at q.src
 *     }
 *
 * Rows are rows t of conv_geom.h. All steps are in floats.
 */
#include <stddef.h>

#include "core/kernel/conv_geom.h"
#include "core/kernel/conv_kernel.h"

/* How the work is cut: `images` whole images at a time, or one image in bands of `rows` rows. */
struct conv_cut {
    const struct conv_pass *p;
    int64_t n, channels; /* of the call; of the copied slice of p->src_c */
    int64_t images, rows;
    int64_t all_rows;  /* rows of the longest phase */
    int64_t copy_rows; /* padded source rows of a piece */
    int64_t row_step, pixel_step;
    bool direct; /* nothing is padded, the source is read in place */
    bool whole;  /* there is only one piece */
};
struct conv_piece {
    int64_t image, images, t0, t1;
    const float *src; /* padded source row of t0, padded column 0, first channel of the slice */
    int64_t image_step, row_step, pixel_step;
};

struct conv_cut conv_cut_make(const struct conv_pass *p, int64_t n, int64_t channels);
size_t conv_cut_scratch(const struct conv_cut *c);
/* The next piece in order; start from {0}. False when there is none. */
bool conv_piece_next(const struct conv_cut *c, struct conv_piece *q);
/* Makes the padded copy of channels [first, first + c->channels); nothing to do where direct. */
void conv_piece_copy(const struct conv_cut *c, const float *src, int64_t first,
                     const struct conv_piece *q, float *scratch);
/* Sets q->src and the steps. */
void conv_piece_find(const struct conv_cut *c, const float *src, int64_t first,
                     const float *scratch, struct conv_piece *q);
#endif
