/* AMX tiles in memory (bf16_tiles.h). A thread has eight; configuration is 64 bytes as LDTILECFG reads it. */
#include "tests/bf16_tiles.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#if defined __x86_64__
#include <immintrin.h>
#endif

#define TILES 8
#define ROW_BYTES 64
#define MIN_NORMAL 0x1p-126F

struct tile {
    int rows, bytes; /* 0: not configured */
    unsigned char row[16][ROW_BYTES];
};

static _Thread_local struct tile registers[TILES];
static atomic_llong products;
static bool fast; /* the CPU has AVX2 and fma */

static void need(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "tiles: %s\n", what);
    abort();
}

static struct tile *tile_at(int i)
{
    need(i >= 0 && i < TILES && registers[i].rows > 0, "a tile is used that is not configured");
    return &registers[i];
}

static void load_config(const void *memory)
{
    const unsigned char *m = memory;

    need(m[0] == 1 && m[1] == 0, "palette 1, starting at row 0");
    for (int i = 2; i < 16; i++)
        need(m[i] == 0, "reserved bytes of the configuration");
    for (int i = 0; i < 16; i++) {
        const int bytes = m[16 + 2 * i] | m[17 + 2 * i] << 8, rows = m[48 + i];

        need(bytes <= ROW_BYTES && rows <= 16 && (bytes == 0) == (rows == 0), "rows and bytes");
        need(i < TILES || rows == 0, "there are eight tiles");
        if (i < TILES)
            registers[i] = (struct tile){.rows = rows, .bytes = bytes};
    }
}

static void release(void)
{
    for (int i = 0; i < TILES; i++)
        registers[i] = (struct tile){.rows = 0};
}

static void zero(int i)
{
    memset(tile_at(i)->row, 0, sizeof tile_at(i)->row);
}

static void load(int i, const void *base, size_t stride)
{
    struct tile *t = tile_at(i);

    for (int r = 0; r < t->rows; r++)
        memcpy(t->row[r], (const char *)base + (size_t)r * stride, (size_t)t->bytes);
}

static void store(int i, void *base, size_t stride)
{
    const struct tile *t = tile_at(i);

    for (int r = 0; r < t->rows; r++)
        memcpy((char *)base + (size_t)r * stride, t->row[r], (size_t)t->bytes);
}

/* Denormals are zero, whatever MXCSR says. */
static inline __attribute__((always_inline)) float flush(float v)
{
    return (v < 0 ? -v : v) < MIN_NORMAL ? 0 : v;
}

/* Row m of c += a b: pairs of bf16 along k; the chains of even and of odd numbers start from 0. */
static inline __attribute__((always_inline)) void multiply_row(struct tile *c, const struct tile *a,
                                                               const struct tile *b, int m)
{
    float e[16] = {0}, o[16] = {0}, sum[16];
    bf16 x[32], y[32];

    memcpy(x, a->row[m], sizeof x);
    memcpy(sum, c->row[m], sizeof sum);
    for (int k = 0; k < a->bytes / 4; k++) {
        const float even = flush(bf16_float(x[2 * k])), odd = flush(bf16_float(x[2 * k + 1]));

        memcpy(y, b->row[k], sizeof y);
#pragma omp simd
        for (int n = 0; n < 16; n++) {
            e[n] = flush(__builtin_fmaf(even, flush(bf16_float(y[2 * n])), e[n]));
            o[n] = flush(__builtin_fmaf(odd, flush(bf16_float(y[2 * n + 1])), o[n]));
        }
    }
#pragma omp simd
    for (int n = 0; n < 16; n++)
        sum[n] = flush(flush(sum[n]) + flush(e[n] + o[n]));
    memcpy(c->row[m], sum, (size_t)c->bytes);
}

static void rows_generic(struct tile *c, const struct tile *a, const struct tile *b)
{
    for (int m = 0; m < c->rows; m++)
        multiply_row(c, a, b, m);
}

/* The same source with instructions for fma, without which it is a call. */
#if defined __x86_64__
__attribute__((target("avx2,fma")))
#endif
static void
rows_fast(struct tile *c, const struct tile *a, const struct tile *b)
{
    for (int m = 0; m < c->rows; m++)
        multiply_row(c, a, b, m);
}

static void multiply(int dst, int left, int right)
{
    struct tile *c = tile_at(dst);
    const struct tile *a = tile_at(left), *b = tile_at(right);

    need(dst != left && dst != right && left != right, "one tile twice in a product");
    need(a->rows == c->rows && b->bytes == c->bytes && a->bytes / 4 == b->rows,
         "shapes of a product");
    (fast ? rows_fast : rows_generic)(c, a, b);
    atomic_fetch_add(&products, 1);
}

int64_t bf16_tile_products(void)
{
    return atomic_load(&products);
}

static void set_flush(void)
{
#if defined __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8040u); /* FTZ, DAZ: as the kernels on AMX set it */
#endif
}

/* The compiler's names, for these tiles. */
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig load_config
#define _tile_release release
#define _tile_zero zero
#define _tile_loadd load
#define _tile_stored store
#define _tile_dpbf16ps multiply

#define TARGET
#define PATH(name) tiles_##name
#define BEGIN_FLUSH set_flush
#include "core/kernel/bf16_amx.inc"
#define BEGIN tiles_begin
#define END tiles_end
#define PRODUCT tiles_product
#include "core/kernel/bf16.inc"

const struct bf16_kernels *bf16_kernels_on_tiles(void)
{
    fast = cpu_best_path() >= CPU_AVX2;
    return &tiles_kernels;
}
