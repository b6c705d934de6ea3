#ifndef CORE_BASE_GEMM_H
#define CORE_BASE_GEMM_H
/* Matrix product; the only file that includes cblas.h. OpenBLAS runs at one thread, inside our
 * loops. Row-major: C[m,n] = alpha * op(A)[m,k] * op(B)[k,n] + beta * C. lda, ldb, ldc: row strides. */
#include <stdbool.h>
#include <stdint.h>
void gemm_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
              int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
#endif
