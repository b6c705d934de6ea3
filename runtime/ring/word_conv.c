/*
 * Convolution of 64-bit words (word_conv.h): windows of whole output rows become columns of a [k, n]
 * matrix in panels of 16 columns that lie row after row, and every 8 rows of M times a panel are summed
 * in registers: by AVX-512, which has a 64-bit product, or in plain C.
 */
#include "runtime/ring/word_conv.h"

#include <string.h>

#include "core/base/cpu.h"
#include "runtime/ring/panel_block.h"

#define ROWS PANEL_ROWS
#define COLS PANEL_COLUMNS
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

/* Where column j of row t lies: panels of COLS columns, [panel][k][COLS]. */
static uint64_t *cell(uint64_t *to, int64_t k, int64_t t, int64_t j)
{
    return to + (j / COLS * k + t) * COLS + j % COLS;
}

/* Row t of the matrix: tap (kh, kw) of a plane. */
static void fill_tap(uint64_t *to, int64_t t, const uint64_t *plane, const struct ring_conv *c,
                     int64_t kh, int64_t kw, int64_t first, int64_t rows)
{
    const struct plan_linear *l = &c->linear;
    int64_t at = 0;

    for (int64_t i = first; i < first + rows; i++)
        for (int64_t j = 0; j < c->out[2]; j++, at++) {
            int64_t y = i * l->stride[0] - l->pad[0] + kh * l->dilation[0];
            int64_t x = j * l->stride[1] - l->pad[1] + kw * l->dilation[1];
            bool inside = y >= 0 && y < c->in[1] && x >= 0 && x < c->in[2];
            *cell(to, c->columns, t, at) = inside ? plane[y * c->in[2] + x] : 0;
        }
    for (; at % COLS != 0; at++)
        *cell(to, c->columns, t, at) = 0;
}

static void fill_columns(uint64_t *to, const uint64_t *x, const struct ring_conv *c, int64_t first,
                         int64_t rows)
{
    int64_t t = 0;

    for (int64_t ch = 0; ch < c->in[0] / c->linear.group; ch++)
        for (int64_t kh = 0; kh < c->linear.kernel[0]; kh++)
            for (int64_t kw = 0; kw < c->linear.kernel[1]; kw++)
                fill_tap(to, t++, x + ch * c->in[1] * c->in[2], c, kh, kw, first, rows);
}

/* ---- product ------------------------------------------------------------------------------ */

/* sum [rows][COLS]: rows of a, k apart, times a panel [k, COLS]. */
static void block_any(uint64_t sum[ROWS][COLS], const uint64_t *a, int64_t k, const uint64_t *panel,
                      int rows)
{
    for (int r = 0; r < rows; r++) {
        uint64_t acc[COLS] = {0};
        for (int64_t t = 0; t < k; t++)
            for (int j = 0; j < COLS; j++)
                acc[j] += a[r * k + t] * panel[t * COLS + j];
        memcpy(sum[r], acc, sizeof acc);
    }
}

#if defined(__x86_64__)
#define PANEL_SET1(x) _mm512_set1_epi64((long long)(x))
#define PANEL_LOAD(from) _mm512_loadu_si512(from)
#define PANEL_STORE(to, v) _mm512_storeu_si512(to, v)
#define PANEL_ADD_PRODUCT(sum, x, y) _mm512_add_epi64(sum, _mm512_mullo_epi64(x, y))

/* All ROWS of them. */
__attribute__((target("avx512f,avx512dq"))) static void block_8(uint64_t sum[ROWS][COLS],
                                                                const uint64_t *a, int64_t k,
                                                                const uint64_t *panel,
                                                                int64_t depth)
{
    PANEL_BLOCK_BODY(__m512i, _mm512_setzero_si512());
}
#endif

static void block(uint64_t sum[ROWS][COLS], const uint64_t *a, int64_t k, const uint64_t *panel,
                  int rows, bool wide)
{
#if defined(__x86_64__)
    if (rows == ROWS && wide) {
        block_8(sum, a, k, panel, k);
        return;
    }
#endif
    (void)wide;
    block_any(sum, a, k, panel, rows);
}

/* y [o, plane]: n columns from `at` on. */
static void product(uint64_t *y, int64_t plane, int64_t at, int64_t n, const uint64_t *m, int64_t o,
                    int64_t k, const uint64_t *panels)
{
    bool wide = cpu_best_path() == CPU_AVX512;
    uint64_t sum[ROWS][COLS];

    for (int64_t r = 0; r < o; r += ROWS)
        for (int64_t j = 0; j < n; j += COLS) {
            int rows = (int)(o - r < ROWS ? o - r : ROWS);
            int64_t cols = n - j < COLS ? n - j : COLS;
            block(sum, m + r * k, k, panels + j * k, rows, wide);
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
            int64_t n = rows * c->out[2];
            fill_columns(scratch, x + g * in, c, first, rows);
            product(y + g * o * plane, plane, first * c->out[2], n, m + g * o * c->columns, o,
                    c->columns, scratch);
        }
}
