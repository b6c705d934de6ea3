/*
 * Convolution of 64-bit words (word_conv.h): windows of whole output rows become columns of a [k, n]
 * matrix, n rounded up to the kernel's width, and every 4 rows of M times 16 columns are summed in
 * registers. One kernel in C, compiled for AVX-512 (which has a 64-bit product) and for any CPU.
 */
#include "runtime/word_conv.h"

#include <string.h>

#include "core/cpu.h"

#define ROWS 4
#define COLS 16
#define TILE_WORDS ((int64_t)1 << 15)

static int64_t round_up(int64_t n)
{
    return (n + COLS - 1) / COLS * COLS;
}

static int64_t tile_rows(const struct ring_conv *c)
{
    int64_t rows = TILE_WORDS / (c->columns * c->out[2]);

    rows = rows < 1 ? 1 : rows;
    return rows > c->out[1] ? c->out[1] : rows;
}

size_t word_conv_scratch(const struct ring_conv *c)
{
    return (size_t)(c->columns * round_up(tile_rows(c) * c->out[2]));
}

/* ---- columns ------------------------------------------------------------------------------ */

static void fill_tap(uint64_t *to, const uint64_t *plane, const struct ring_conv *c, int64_t kh,
                     int64_t kw, int64_t first, int64_t rows)
{
    const struct plan_linear *l = &c->linear;

    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < c->out[2]; j++, to++) {
            int64_t y = i * l->stride[0] - l->pad[0] + kh * l->dilation[0];
            int64_t x = j * l->stride[1] - l->pad[1] + kw * l->dilation[1];
            bool inside = y >= 0 && y < c->in[1] && x >= 0 && x < c->in[2];
            *to = inside ? plane[y * c->in[2] + x] : 0;
        }
}

static void fill_columns(uint64_t *to, const uint64_t *x, const struct ring_conv *c, int64_t first,
                         int64_t rows, int64_t stride)
{
    for (int64_t ch = 0; ch < c->in[0] / c->linear.group; ch++)
        for (int64_t kh = 0; kh < c->linear.kernel[0]; kh++)
            for (int64_t kw = 0; kw < c->linear.kernel[1]; kw++, to += stride) {
                fill_tap(to, x + ch * c->in[1] * c->in[2], c, kh, kw, first, rows);
                memset(to + rows * c->out[2], 0, (size_t)(stride - rows * c->out[2]) * sizeof *to);
            }
}

/* ---- product ------------------------------------------------------------------------------ */

/* sum [ROWS][COLS] of `rows` rows of m [.., k] times COLS columns of x [k, stride]. */
static inline __attribute__((always_inline)) void block_body(uint64_t sum[ROWS][COLS],
                                                             const uint64_t *m, int64_t k,
                                                             const uint64_t *x, int64_t stride,
                                                             int rows)
{
    uint64_t acc[ROWS][COLS] = {{0}};

    for (int64_t t = 0; t < k; t++)
        for (int r = 0; r < rows; r++)
            for (int j = 0; j < COLS; j++)
                acc[r][j] += m[r * k + t] * x[t * stride + j];
    memcpy(sum, acc, sizeof acc);
}

typedef void block_fn(uint64_t sum[ROWS][COLS], const uint64_t *m, int64_t k, const uint64_t *x,
                      int64_t stride, int rows);

static void block_any(uint64_t sum[ROWS][COLS], const uint64_t *m, int64_t k, const uint64_t *x,
                      int64_t stride, int rows)
{
    if (rows == ROWS)
        block_body(sum, m, k, x, stride, ROWS);
    else
        block_body(sum, m, k, x, stride, rows);
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512dq,prefer-vector-width=512"))) static void
block_avx512(uint64_t sum[ROWS][COLS], const uint64_t *m, int64_t k, const uint64_t *x,
             int64_t stride, int rows)
{
    if (rows == ROWS)
        block_body(sum, m, k, x, stride, ROWS);
    else
        block_body(sum, m, k, x, stride, rows);
}
#endif

static block_fn *best_block(void)
{
#if defined(__x86_64__)
    if (cpu_best_path() == CPU_AVX512)
        return block_avx512;
#endif
    return block_any;
}

/* y [o, plane]: n columns from `at` on. */
static void product(uint64_t *y, int64_t plane, int64_t at, int64_t n, const uint64_t *m, int64_t o,
                    int64_t k, const uint64_t *x, int64_t stride)
{
    block_fn *block = best_block();
    uint64_t sum[ROWS][COLS];

    for (int64_t r = 0; r < o; r += ROWS)
        for (int64_t j = 0; j < n; j += COLS) {
            int rows = (int)(o - r < ROWS ? o - r : ROWS);
            int64_t cols = n - j < COLS ? n - j : COLS;
            block(sum, m + r * k, k, x + j, stride, rows);
            for (int i = 0; i < rows; i++)
                memcpy(y + (r + i) * plane + at + j, sum[i], (size_t)cols * sizeof *y);
        }
}

void word_conv(uint64_t *y, const uint64_t *x, const uint64_t *m, const struct ring_conv *c,
               uint64_t *scratch)
{
    int64_t group = c->linear.group, o = c->out[0] / group, plane = c->out[1] * c->out[2];
    int64_t in = c->in[0] / group * c->in[1] * c->in[2], step = tile_rows(c);

    for (int64_t g = 0; g < group; g++)
        for (int64_t first = 0; first < c->out[1]; first += step) {
            int64_t rows = first + step > c->out[1] ? c->out[1] - first : step;
            int64_t n = rows * c->out[2], stride = round_up(n);
            fill_columns(scratch, x + g * in, c, first, rows, stride);
            product(y + g * o * plane, plane, first * c->out[2], n, m + g * o * c->columns, o,
                    c->columns, scratch, stride);
        }
}
