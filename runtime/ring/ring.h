#ifndef RUNTIME_RING_RING_H
#define RUNTIME_RING_RING_H
/*
 * Kernels over Z_2^64, exact: uint64_t in two's complement, wrap-around is part of the definition.
 *
 * The product runs through doubles (ring_product.h), which is exact while every partial sum stays within
 * 2^53. x is split into as few signed limbs of equal width b as keep 2^(b-1) * max L1(w) <= 2^53: one
 * for values, two for shares under ordinary weights, three where |w| = 2^15 over K < 2^16 terms. No
 * result depends on the way it was computed, on threads, or on the CPU.
 *
 * The same window code serves the float mode: real_conv. By as many threads as their scratch is for, one
 * where they are called from a parallel region; no allocation.
 * Tensors are [C,H,W] in C order. Letters: o output channels, k terms of a sum.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/plan/plan.h"

struct ring_conv { /* gemm is a 1x1 convolution of a 1x1 image */
    struct plan_linear linear;
    int64_t in[3], out[3];   /* shapes */
    int64_t columns;         /* k = C/group * KH * KW */
    const double *weight;    /* [o,k], integers (ring_conv) or reals (real_conv) */
    const int64_t *bias;     /* [o], ring_conv */
    const double *real_bias; /* [o], real_conv */
    double row_l1;           /* largest sum of |weight| of a row */
    int threads;             /* that scratch is for; below 1 is one */
};
/* Sizes of a step, all threads of this moment; the pointers and row_l1 are the caller's to fill. */
struct ring_conv ring_conv_of(const struct plan *p, const struct plan_step *s);
/* Doubles of scratch that ring_conv and real_conv need. */
size_t ring_conv_scratch(const struct ring_conv *c);
/* y = W x + b mod 2^64. */
void ring_conv(uint64_t *y, const uint64_t *x, const struct ring_conv *c, double *scratch);
void real_conv(double *y, const double *x, const struct ring_conv *c, double *scratch);

/* y = floor(y / 2^bits) of the signed value, 0 <= bits < 64. */
void ring_truncate(uint64_t *y, int64_t n, int bits);
/* y = a * 2^shift_a + b * 2^shift_b; y may be a or b. */
void ring_add(uint64_t *y, const uint64_t *a, int shift_a, const uint64_t *b, int shift_b,
              int64_t n);
/* At the listed positions a value with bit width-1 set becomes 0: what the comparison of the two-
 * party run sees. For |x| < 2^(width-1) that is max(x, 0). With a cap the same of x - cap is subtracted:
 * min(max(x, 0), cap). In place. */
void ring_relu(uint64_t *y, const struct plan_relu *r);
/* Removed positions become floor(slope x / 2^line_shift) + offset[c], in place; nothing without lines.
 * On a party's shares (whose part is steps.h's) the sum is that value or one more. offset [channels]:
 * NULL for none, which is the client's part. */
enum ring_part { RING_WHOLE, RING_SERVER, RING_CLIENT };
void ring_line(uint64_t *y, const struct plan_relu *r, int64_t channels, const int64_t *offset,
               enum ring_part part);
/* Sums over windows; what lies outside is 0. */
void ring_sum_pool(uint64_t *y, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3]);
/* Largest signed value; what lies outside does not take part. */
void ring_max_pool(uint64_t *y, const uint64_t *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3]);
void real_add(double *y, const double *a, const double *b, int64_t n);
void real_relu(double *y, const struct plan_relu *r, int32_t scale); /* scale: of the cap */
/* The same lines on real numbers; scale: of the offsets. */
void real_line(double *y, const struct plan_relu *r, int64_t channels, const int64_t *offset,
               int32_t scale);
void real_sum_pool(double *y, const double *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3]);
void real_max_pool(double *y, const double *x, const struct plan_pool *p, const int64_t in[3],
                   const int64_t out[3]);

/* Movement of 8-byte words, for both kinds of numbers (0 and 0.0 are the same bits). */
void word_pad(void *y, const void *x, const struct plan_pad *p, const int64_t in[3],
              const int64_t out[3]);
void word_slice(void *y, const void *x, const struct plan_slice *s, const int64_t in[3],
                const int64_t out[3]);
#endif
