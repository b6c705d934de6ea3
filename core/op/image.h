#ifndef CORE_OP_IMAGE_H
#define CORE_OP_IMAGE_H
/*
 * How kernels see an activation: n images of h x w positions of c contiguous floats. Rank 4 is
 * stored that way (op.h); rank 2 [N,K] is one position of K floats.
 */
#include "core/base/minmax.h"
#include "core/op/op.h"

struct image {
    int64_t c, h, w;
};

/* s: an activation of rank 4 or 2. */
static inline struct image image_of(const struct shape *s)
{
    if (s->rank == 4)
        return (struct image){s->dim[1], s->dim[2], s->dim[3]};
    return (struct image){s->dim[1], 1, 1};
}

static inline struct image image_in(const struct op_call *k, int i)
{
    return image_of(&op_in(k->g, k->node, i)->shape);
}

static inline struct image image_out(const struct op_call *k)
{
    return image_of(&k->g->value[k->node->out[0]].shape);
}

/* How an image is stored in bf16. */
static inline struct bf16_map image_map(struct image m)
{
    return bf16_map_of(m.c, m.h, m.w);
}

/* A vector of channels in the order of tiles, [m->blocks][32]; 0 where a tile has no channel. */
static inline void image_spread(const struct bf16_map *m, const float *channel, float *to)
{
    for (int64_t i = 0; i < m->blocks * BF16_CHANNELS; i++) {
        const int64_t c = bf16_channel(m, i / BF16_CHANNELS, i % BF16_CHANNELS);

        to[i] = c < m->c ? channel[c] : 0;
    }
}

/* What kernels of bf16 are called for one block of channels of one block of images. */
struct image_piece {
    int64_t at, tiles; /* first number, tiles */
    int64_t b;         /* block of channels */
    int64_t rows;      /* images */
};

static inline struct image_piece image_piece(const struct bf16_map *m, int64_t n, int64_t i)
{
    const int64_t image = i / m->blocks * BF16_IMAGES, tiles = bf16_plane(m);

    return (struct image_piece){i * tiles * BF16_TILE, tiles, i % m->blocks,
                                min_i64(BF16_IMAGES, n - image)};
}

static inline int64_t image_pieces(const struct bf16_map *m, int64_t n)
{
    return (n + BF16_IMAGES - 1) / BF16_IMAGES * m->blocks;
}

static inline int64_t image_size(struct image m)
{
    return m.c * m.h * m.w;
}

/* d += s or d = s over n floats; d and s may be the same memory. */
static inline void floats_put(float *d, const float *s, int64_t n, bool add)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = add ? d[i] + s[i] : s[i];
}

static inline void floats_fill(float *d, int64_t n, float v)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = v;
}

#endif
