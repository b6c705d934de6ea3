#ifndef CORE_KERNEL_BF16_H
#define CORE_KERNEL_BF16_H
/*
 * Activations and weights in bfloat16: storage, arithmetic, and the kernels of each code path.
 *
 * STORAGE. 32 images x 32 channels of one position make a tile of 2 KiB, image after image:
 *
 *     [n / 32][c / 32][h][w][32 images][32 channels]
 *
 * so a tile is two operands of a matrix instruction as they stand, a stride or a tap is another tile,
 * and a mask of positions is one 32-bit word a tile. Missing channels are zero; missing images of the
 * last block hold anything and are never summed. A map of 16 channels and even width packs two
 * neighbouring pixels into the 32 channels of a tile, [h][w / 2][32 images][2 pixels][16 channels]:
 * "columns" below are tiles of a row.
 *
 * ARITHMETIC. A product of tiles adds to 32 x 32 sums in fp32, for k over 16 pairs of numbers,
 *
 *     e = fma(a[2k], b[2k], e)   o = fma(a[2k+1], b[2k+1], o)   both from 0;   sum += e + o
 *
 * rounded to nearest, denormal operands and results taken as zero. That is what TDPBF16PS computes, bit
 * by bit; the other paths do the same with fp32 multiply-adds and are the reference of its tests. So a
 * result has the same bits on every path, for any number of threads, and an image's bits do not
 * depend on the images beside it. Everything else is fp32, each step written as one fma, sum or
 * product, and the result rounded to nearest even; a denormal result becomes zero.
 *
 * Between bf16_begin() and bf16_end(), in which every kernel here must be called, denormals are flushed
 * (x86: MXCSR) and tiles configured. Limit: elsewhere than on x86 only products flush.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/base/cpu.h"

typedef uint16_t bf16;

#define BF16_IMAGES 32
#define BF16_CHANNELS 32
#define BF16_TILE (BF16_IMAGES * BF16_CHANNELS)

/* A map of c channels, h x w pixels, as stored. */
struct bf16_map {
    int64_t c, h, w;
    int64_t pack;         /* pixels a tile: 1 or 2 */
    int64_t blocks, cols; /* of 32 channels; tiles of a row */
};

static inline struct bf16_map bf16_map_of(int64_t c, int64_t h, int64_t w)
{
    const int64_t pack = c == 16 && w % 2 == 0 ? 2 : 1;

    return (struct bf16_map){c,       h, w, pack, (c * pack + BF16_CHANNELS - 1) / BF16_CHANNELS,
                             w / pack};
}
/* Tiles of 32 images: of one block of channels, of the whole map. */
static inline int64_t bf16_plane(const struct bf16_map *m)
{
    return m->h * m->cols;
}
static inline int64_t bf16_tiles(const struct bf16_map *m)
{
    return m->blocks * bf16_plane(m);
}
/* The channel that number i of a tile of channel block b belongs to; >= m->c: none. */
static inline int64_t bf16_channel(const struct bf16_map *m, int64_t b, int64_t i)
{
    return m->pack == 2 ? i % 16 : b * BF16_CHANNELS + i;
}

static inline float bf16_float(bf16 v)
{
    const uint32_t u = (uint32_t)v << 16;
    float f;

    memcpy(&f, &u, sizeof f);
    return f;
}
/* To nearest even; denormals to zero; NaN stays one. */
static inline bf16 bf16_round(float f)
{
    uint32_t u, near;

    memcpy(&u, &f, sizeof u);
    near = u + 0x7fff + ((u >> 16) & 1);
    near = (u & 0x7fffffff) > 0x7f800000 ? u | 0x400000 : near;
    near = (u & 0x7f800000) == 0 ? u & 0x80000000 : near;
    return (bf16)(near >> 16);
}

/* One product of tiles: a, 32 rows of 32 numbers; b, in halves of 16 lanes, [2][16 pairs][16][2].
 * Bit h of halves: half h of b is not zero. */
struct bf16_product {
    const bf16 *a, *b;
    int32_t halves;
};

/* What follows on numbers in fp32, tile by tile: v += other, then v = 0 where v <= 0 and bit i of the
 * tile's mask is set. Pointers run along with the output. */
struct bf16_tail {
    const bf16 *other;    /* NULL: nothing to add */
    const uint32_t *mask; /* NULL: everywhere */
    bool relu;
};

/* 32 rows of sums, the 16 lanes of half 0 first: [2][32][16]. */
typedef float bf16_sums[2][BF16_IMAGES][16];

/* In passes over tiles, vectors hold 32 numbers, one a channel of the tile, and rows are the images
 * that count: 1 to 32. In and out may be the same memory. */
struct bf16_kernels {
    void (*begin)(void);
    void (*end)(void);
    /* sums (fresh: = 0, then) += products in order, for at least `rows` rows of a. */
    void (*product)(bf16_sums sums, const struct bf16_product *list, int64_t count, int64_t rows,
                    bool fresh);
    /* One tile: out = tail(scale * sums + shift); scale NULL: out = tail(sums). */
    void (*finish)(bf16 *out, bf16_sums sums, const float *scale, const float *shift,
                   const struct bf16_tail *tail, int64_t rows);
    /* y = tail(scale x + shift) */
    void (*affine)(bf16 *y, const bf16 *x, const float *scale, const float *shift, int64_t tiles,
                   const struct bf16_tail *tail);
    /* sum += x, square += x^2 */
    void (*stats)(const bf16 *x, int64_t tiles, int64_t rows, double *sum, double *square);
    /* sum += dy, product += dy (x - mean) */
    void (*grad_stats)(const bf16 *dy, const bf16 *x, const float *mean, int64_t tiles,
                       int64_t rows, double *sum, double *product);
    /* dx = a dy + b (x - mean) + d, or dx += */
    void (*batch_grad)(bf16 *dx, const bf16 *dy, const bf16 *x, const float *mean, const float *a,
                       const float *b, const float *d, int64_t tiles, bool add);
    /* dx = a dy, or dx += */
    void (*scale)(bf16 *dx, const bf16 *dy, const float *a, int64_t tiles, bool add);
    /* dx = dy where y > 0 or the mask's bit is not set, else 0; or dx += */
    void (*relu_grad)(bf16 *dx, const bf16 *dy, const bf16 *y, const uint32_t *mask, int64_t tiles,
                      bool add);
    /* Operands of a product that sums over images, of one tile; images from `rows` on count as zero:
     * to[32 channels][32 images], and to[2 halves][16 pairs of images][16 channels][2]. */
    void (*transpose)(bf16 *to, const bf16 *from, int64_t rows);
    void (*pair_images)(bf16 *to, const bf16 *from, int64_t rows);
    /* Image `row` of a block: x[h][w][c] in fp32 into the tiles at y, y = tail(x); and back, x = y
     * or x += y. */
    void (*store)(const struct bf16_map *m, bf16 *y, int64_t row, const float *x,
                  const struct bf16_tail *tail);
    void (*load)(const struct bf16_map *m, float *x, const bf16 *y, int64_t row, bool add);
};

/* For the level of cpu_level(); below CPU_AMX the emulation, in the vectors of the path, or AVX512-BF16 where
 * that is faster. */
const struct bf16_kernels *bf16_kernels_of(enum cpu_path level);

/* The floating-point state before bf16_begin, to be given back. */
struct bf16_state {
    const struct bf16_kernels *k;
    unsigned control;
};
struct bf16_state bf16_begin(void);
void bf16_end(struct bf16_state s);
#endif
