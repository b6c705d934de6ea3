#ifndef CORE_KERNEL_ROWS_H
#define CORE_KERNEL_ROWS_H
/*
 * The passes over activations that do little work a float, one set a code path (rows.inc): rows of
 * n channels, one after the other. Each function states what it computes for one element with
 * channel c; in and out may be the same memory, but must not overlap otherwise.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/cpu.h"

/* What follows in the same pass: v += other, then v = 0 where v <= 0 and the mask is above 1/2.
 * Pointers run along with the output; a NaN passes through. */
struct rows_tail {
    const float *other; /* NULL: nothing to add */
    const float *mask;  /* NULL: everywhere */
    bool relu;
};

struct rows_kernels {
    /* y = tail(scale[c] x + shift[c]) */
    void (*affine)(float *y, const float *x, const float *scale, const float *shift, int64_t rows,
                   int64_t n, const struct rows_tail *tail);
    /* y = tail(y) over n floats */
    void (*tail)(float *y, int64_t n, const struct rows_tail *tail);
    /* sum[c] += x, square[c] += x^2 */
    void (*stats)(const float *x, int64_t rows, int64_t n, double *sum, double *square);
    /* sum[c] += dy, product[c] += dy (x - mean[c]) */
    void (*grad_stats)(const float *dy, const float *x, const float *mean, int64_t rows, int64_t n,
                       double *sum, double *product);
    /* dx = a[c] dy, or dx += */
    void (*scale)(float *dx, const float *dy, const float *a, int64_t rows, int64_t n, bool add);
    /* dx = a[c] dy + b[c] (x - mean[c]) + d[c], or dx += */
    void (*batch_grad)(float *dx, const float *dy, const float *x, const float *mean,
                       const float *a, const float *b, const float *d, int64_t rows, int64_t n,
                       bool add);
    /* dx = dy where y > 0 or the mask is not above 1/2, else 0; or dx += ; over n floats */
    void (*relu_grad)(float *dx, const float *dy, const float *y, const float *mask, int64_t n,
                      bool add);
};
const struct rows_kernels *rows_kernels_of(enum cpu_path path);
#endif
