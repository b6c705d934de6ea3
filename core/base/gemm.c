/*
 * Matrix product on OpenBLAS.
 *
 * What gemm_f64 computes, as the plain loop:
 *
 *     for (i = 0; i < m; i++)
 *         for (j = 0; j < n; j++) {
 *             sum = 0;
 *             for (l = 0; l < k; l++)
 *                 sum += (ta ? a[l * lda + i] : a[i * lda + l])
 *                      * (tb ? b[j * ldb + l] : b[l * ldb + j]);
 *             c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);
 *         }
 *
 * The order of the sum is OpenBLAS's own and differs between CPUs (OPENBLAS_CORETYPE fixes it).
 * OpenBLAS runs on one thread: its pool inside our parallel loops would oversubscribe the cores.
 * Limit: every size below 2^31, the integer of its interface.
 */
#include "core/base/gemm.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <pthread.h>

static pthread_once_t single_thread_once = PTHREAD_ONCE_INIT;

static void set_single_thread(void)
{
    openblas_set_num_threads(1);
}

static blasint blas_size(int64_t v)
{
    assert(v >= 0 && v <= INT_MAX);
    return (blasint)v;
}

static CBLAS_TRANSPOSE blas_transpose(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

void gemm_f64(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
              int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    pthread_once(&single_thread_once, set_single_thread);
    cblas_dgemm(CblasRowMajor, blas_transpose(ta), blas_transpose(tb), blas_size(m), blas_size(n),
                blas_size(k), alpha, a, blas_size(lda), b, blas_size(ldb), beta, c, blas_size(ldc));
}
