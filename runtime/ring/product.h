#ifndef RUNTIME_RING_PRODUCT_H
#define RUNTIME_RING_PRODUCT_H
/*
 * C[m,n] = A[m,k] B[k,n] of integers held in doubles, exact while every partial sum stays within 2^53:
 * then the order of the sums is of no consequence, and the fastest one is taken. Kernels of our own for
 * AVX-512 and AVX2, because OpenBLAS falls back to its slowest ones on CPUs younger than itself;
 * elsewhere gemm_f64. Rows are contiguous. scratch: ring_product_scratch(n, k) doubles.
 */
#include <stddef.h>
#include <stdint.h>

#define RING_PRODUCT_DEPTH 256 /* terms of a partial sum that stays in registers */
#define RING_PRODUCT_COLUMNS 256

size_t ring_product_scratch(int64_t n, int64_t k);
void ring_product(double *c, const double *a, const double *b, int64_t m, int64_t n, int64_t k,
                  double *scratch);
#endif
