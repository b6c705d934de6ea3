/*
 * Exact products (ring_product.h). A piece of B, RING_PRODUCT_DEPTH rows of at most
 * RING_PRODUCT_COLUMNS columns, is copied into panels of 16 columns that lie row after row, zeros
 * where columns are missing; then every block of rows of A meets every panel, the sums in registers.
 */
#include "runtime/ring/product.h"

#include <string.h>

#include "core/base/cpu.h"
#include "core/base/gemm.h"
#include "core/base/minmax.h"
#include "runtime/ring/panel_block.h"

#define PANEL PANEL_COLUMNS
#define ROWS PANEL_ROWS /* most of a block */

#if defined(__x86_64__)
#define SIGNATURE                                                                                  \
    (double sum[ROWS][PANEL], const double *a, int64_t k, const double *panel, int64_t depth)
typedef void block_fn SIGNATURE;

/* sum [rows][PANEL] = rows of a, k apart, times a panel. */
#define PANEL_SET1(x) _mm512_set1_pd(x)
#define PANEL_LOAD(from) _mm512_loadu_pd(from)
#define PANEL_STORE(to, v) _mm512_storeu_pd(to, v)
#define PANEL_ADD_PRODUCT(sum, x, y) _mm512_fmadd_pd(x, y, sum)

__attribute__((target("avx512f"))) static void block_8 SIGNATURE
{
    PANEL_BLOCK_BODY(__m512d, _mm512_setzero_pd());
}

#define NARROW __attribute__((target("avx2,fma")))
#define NARROW_STEP(j)                                                                             \
    b = _mm256_loadu_pd(panel + t * PANEL + 4 * (j));                                              \
    upper##j = _mm256_fmadd_pd(x0, b, upper##j);                                                   \
    lower##j = _mm256_fmadd_pd(x1, b, lower##j)
#define NARROW_STORE(j)                                                                            \
    _mm256_storeu_pd(sum[0] + 4 * (j), upper##j);                                                  \
    _mm256_storeu_pd(sum[1] + 4 * (j), lower##j)

/* Two rows, step apart: 0 for a single one, which is then done twice. */
NARROW static inline __attribute__((always_inline)) void
two_rows(double sum[ROWS][PANEL], const double *a, int64_t step, const double *panel, int64_t depth)
{
    const __m256d zero = _mm256_setzero_pd();
    __m256d upper0 = zero, upper1 = zero, upper2 = zero, upper3 = zero;
    __m256d lower0 = zero, lower1 = zero, lower2 = zero, lower3 = zero;

    for (int64_t t = 0; t < depth; t++) {
        __m256d x0 = _mm256_set1_pd(a[t]), x1 = _mm256_set1_pd(a[step + t]), b;
        NARROW_STEP(0);
        NARROW_STEP(1);
        NARROW_STEP(2);
        NARROW_STEP(3);
    }
    NARROW_STORE(0);
    NARROW_STORE(1);
    NARROW_STORE(2);
    NARROW_STORE(3);
}

NARROW static void block_2 SIGNATURE
{
    two_rows(sum, a, k, panel, depth);
}

NARROW static void block_1 SIGNATURE
{
    (void)k;
    two_rows(sum, a, 0, panel, depth);
}

struct piece {
    int64_t first, depth, left, columns; /* rows of B, columns */
};

static void pack(double *to, const double *b, int64_t n, const struct piece *p)
{
    for (int64_t j = 0; j < p->columns; j += PANEL) {
        int64_t width = p->columns - j < PANEL ? p->columns - j : PANEL;
        const double *from = b + p->first * n + p->left + j;
        for (int64_t t = 0; t < p->depth; t++, to += PANEL, from += n) {
            memcpy(to, from, (size_t)width * sizeof *to);
            memset(to + width, 0, (size_t)(PANEL - width) * sizeof *to);
        }
    }
}

static void add_block(double *c, int64_t n, double sum[ROWS][PANEL], int rows, int64_t width)
{
    for (int r = 0; r < rows; r++)
        for (int64_t j = 0; j < width; j++)
            c[r * n + j] += sum[r][j];
}

static void row_block(double *c, const double *a, int64_t n, int64_t k, const double *panels,
                      const struct piece *p, block_fn *block, int rows)
{
    double sum[ROWS][PANEL];

    for (int64_t j = 0; j < p->columns; j += PANEL) {
        int64_t width = p->columns - j < PANEL ? p->columns - j : PANEL;
        block(sum, a + p->first, k, panels + j * p->depth, p->depth);
        add_block(c + p->left + j, n, sum, rows, width);
    }
}

static void multiply_piece(double *c, const double *a, const double *b, int64_t m, int64_t n,
                           int64_t k, double *scratch, const struct piece *p)
{
    bool wide = cpu_best_path() == CPU_AVX512;
    int rows = wide ? 8 : 2;
    int64_t r = 0;

    pack(scratch, b, n, p);
    for (; r + rows <= m; r += rows)
        row_block(c + r * n, a + r * k, n, k, scratch, p, wide ? block_8 : block_2, rows);
    for (; r < m; r++)
        row_block(c + r * n, a + r * k, n, k, scratch, p, block_1, 1);
}

#endif

/* The panels of one piece. */
size_t ring_product_scratch(int64_t n, int64_t k)
{
    int64_t panels = (min_i64(RING_PRODUCT_COLUMNS, n) + PANEL - 1) / PANEL;

    return (size_t)(min_i64(RING_PRODUCT_DEPTH, k) * panels * PANEL);
}

void ring_product(double *c, const double *a, const double *b, int64_t m, int64_t n, int64_t k,
                  double *scratch)
{
#if defined(__x86_64__)
    if (cpu_best_path() != CPU_GENERIC) {
        memset(c, 0, (size_t)(m * n) * sizeof *c);
        for (int64_t left = 0; left < n; left += RING_PRODUCT_COLUMNS)
            for (int64_t first = 0; first < k; first += RING_PRODUCT_DEPTH)
                multiply_piece(c, a, b, m, n, k, scratch,
                               &(struct piece){first, min_i64(RING_PRODUCT_DEPTH, k - first), left,
                                               min_i64(RING_PRODUCT_COLUMNS, n - left)});
        return;
    }
#endif
    (void)scratch;
    gemm_f64(false, false, m, n, k, 1, a, k, b, n, 0, c, n);
}
