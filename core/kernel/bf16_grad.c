/*
 * Weight gradient in bf16 (bf16_conv.h). The 32 images of a pixel are what is summed over: operand a is
 * dY transposed, 32 output channels x 32 images, operand b is x with images in pairs, so the product of
 * tiles (bf16.h) gives 32 x 32 weights of one tap. Both are copied so for a band of rows, of at least
 * BAND tiles; a list of products runs over the pixels of the band while the sums stay where they are.
 *
 * Scratch, in floats: sums [dst block][src block][tap][32 x 32] of one phase pair; dY of the band,
 * [dst block][tile]; x of the rows that it reads, [src block][tile].
 */
#include "core/kernel/bf16_conv.h"

#include "core/base/minmax.h"

#define BAND 32
#define LIST 64

struct band {
    const struct bf16_conv *c;
    const struct bf16_kernels *k;
    int32_t fy, fx;         /* phase of rows, of columns */
    int64_t first, end;     /* destination blocks */
    int64_t t0, t1;         /* rows of the phase */
    int64_t src0, src_rows; /* rows of x in the copy */
    int64_t rows;           /* images that count */
    float *sums;
    bf16 *dy, *x;
};

static int64_t phase_rows(const struct bf16_axis *a, int32_t f)
{
    return (a->dst - f + a->phases - 1) / a->phases;
}

/* Rows of a band of a phase. */
static int64_t band_rows(const struct bf16_conv *c)
{
    return max_i64(1, (BAND + c->dst.cols - 1) / c->dst.cols);
}

/* Most rows of x that a band reads. */
static int64_t band_source(const struct bf16_conv *c)
{
    return min_i64(c->src.h, (band_rows(c) - 1) * c->y.step + 2 * c->kernel_h);
}

static int64_t most_taps(const struct bf16_axis *a)
{
    int64_t most = 0;

    for (int32_t f = 0; f < a->phases; f++)
        most = max_i64(most, a->phase[f].n);
    return most;
}

static int64_t sums_floats(const struct bf16_conv *c)
{
    return c->dst.blocks * c->src.blocks * most_taps(&c->y) * most_taps(&c->x) * BF16_TILE;
}

static int64_t dy_tiles(const struct bf16_conv *c)
{
    return c->dst.blocks * band_rows(c) * c->dst.cols;
}

size_t bf16_grad_scratch(const struct bf16_conv *c)
{
    const int64_t x = c->src.blocks * band_source(c) * c->src.cols;

    return (size_t)(sums_floats(c) + (dy_tiles(c) + x) * BF16_TILE / 2);
}

/* x and dy point at the block of 32 images. */
static void copy_band(const struct band *b, const bf16 *x, const bf16 *dy)
{
    const struct bf16_conv *c = b->c;
    const int64_t band = band_rows(c), source = band_source(c);

    for (int64_t db = b->first; db < b->end; db++)
        for (int64_t t = b->t0; t < b->t1; t++)
            for (int64_t col = 0; col < c->dst.cols; col++) {
                const int64_t row = t * c->y.phases + b->fy;
                const int64_t from = (db * c->dst.h + row) * c->dst.cols + col;
                const int64_t to = (db * band + t - b->t0) * c->dst.cols + col;

                b->k->transpose(b->dy + to * BF16_TILE, dy + from * BF16_TILE, b->rows);
            }
    for (int64_t sb = 0; sb < c->src.blocks; sb++)
        for (int64_t row = 0; row < b->src_rows; row++)
            for (int64_t col = 0; col < c->src.cols; col++) {
                const int64_t from = (sb * c->src.h + b->src0 + row) * c->src.cols + col;
                const int64_t to = (sb * source + row) * c->src.cols + col;

                b->k->pair_images(b->x + to * BF16_TILE, x + from * BF16_TILE, b->rows);
            }
}

/* All pixels of the band, for one tap of one pair of channel blocks. */
static void band_tap(const struct band *b, int64_t db, int64_t sb, int64_t dy_at, int64_t dx_at,
                     float *sums)
{
    const struct bf16_conv *c = b->c;
    struct bf16_product list[LIST];
    int64_t count = 0;

    for (int64_t t = b->t0; t < b->t1; t++) {
        const int64_t row = t * c->y.step + dy_at;

        for (int64_t s = 0; s * c->x.phases + b->fx < c->dst.cols && row >= 0 && row < c->y.src;
             s++) {
            const int64_t col = s * c->x.step + dx_at, to = s * c->x.phases + b->fx;

            if (col < 0 || col >= c->x.src)
                continue;
            const int64_t d = (db * band_rows(c) + t - b->t0) * c->dst.cols + to;
            const int64_t x = (sb * band_source(c) + row - b->src0) * c->src.cols + col;

            list[count++] = (struct bf16_product){b->dy + d * BF16_TILE, b->x + x * BF16_TILE, 3};
            if (count == LIST) {
                b->k->product((void *)sums, list, count, BF16_IMAGES, false);
                count = 0;
            }
        }
    }
    if (count > 0)
        b->k->product((void *)sums, list, count, BF16_IMAGES, false);
}

static void band_sums(const struct band *b)
{
    const struct bf16_taps *y = &b->c->y.phase[b->fy], *x = &b->c->x.phase[b->fx];
    float *sums = b->sums;

    for (int64_t db = b->first; db < b->end; db++)
        for (int64_t sb = 0; sb < b->c->src.blocks; sb++)
            for (int32_t i = 0; i < y->n; i++)
                for (int32_t j = 0; j < x->n; j++, sums += BF16_TILE)
                    band_tap(b, db, sb, y->tap[i].at, x->tap[j].at, sums);
}

/* The rows of x that the band reads. */
static void find_source(struct band *b)
{
    const struct bf16_taps *y = &b->c->y.phase[b->fy];
    const int64_t low = b->t0 * b->c->y.step + y->tap[0].at;
    const int64_t high = (b->t1 - 1) * b->c->y.step + y->tap[y->n - 1].at + 1;

    b->src0 = min_i64(max_i64(low, 0), b->c->src.h);
    b->src_rows = max_i64(0, min_i64(high, b->c->src.h) - b->src0);
}

/* One tile of sums, tap row k_row: every place of a weight. */
static void give_tile(const struct bf16_conv *c, int64_t k_row, const struct bf16_tap *x,
                      int64_t db, int64_t sb, const float *sums, float *dw)
{
    for (int64_t d = 0; d < BF16_CHANNELS; d++)
        for (int64_t s = 0; s < BF16_CHANNELS; s++) {
            const int64_t a = c->dst.pack == 2 ? d / 16 : 0, p = c->src.pack == 2 ? s / 16 : 0;
            const int64_t o = bf16_channel(&c->dst, db, d), i = bf16_channel(&c->src, sb, s);
            const int64_t k = x->k[a][p];

            if (o < c->dst.c && i < c->src.c && k >= 0)
                dw[((o * c->src.c + i) * c->kernel_h + k_row) * c->kernel_w + k] +=
                    sums[(s / 16 * BF16_IMAGES + d) * 16 + s % 16];
        }
}

static void give_sums(const struct band *b, float *dw)
{
    const struct bf16_taps *y = &b->c->y.phase[b->fy], *x = &b->c->x.phase[b->fx];
    const float *sums = b->sums;

    for (int64_t db = b->first; db < b->end; db++)
        for (int64_t sb = 0; sb < b->c->src.blocks; sb++)
            for (int32_t i = 0; i < y->n; i++)
                for (int32_t j = 0; j < x->n; j++, sums += BF16_TILE)
                    give_tile(b->c, y->tap[i].k[0][0], &x->tap[j], db, sb, sums, dw);
}

/* One phase of rows and of columns, over all images. */
static void phase_grad(struct band *b, int64_t n, const bf16 *x, const bf16 *dy, float *dw)
{
    const struct bf16_conv *c = b->c;
    const int64_t rows = phase_rows(&c->y, b->fy), band = band_rows(c);

    memset(b->sums, 0, (size_t)sums_floats(c) * sizeof *b->sums);
    for (int64_t image = 0; image < n; image += BF16_IMAGES) {
        const int64_t block = image / BF16_IMAGES * BF16_TILE;

        b->rows = min_i64(BF16_IMAGES, n - image);
        for (b->t0 = 0; b->t0 < rows; b->t0 = b->t1) {
            b->t1 = min_i64(b->t0 + band, rows);
            find_source(b);
            copy_band(b, x + block * bf16_tiles(&c->src), dy + block * bf16_tiles(&c->dst));
            band_sums(b);
        }
    }
    give_sums(b, dw);
}

void bf16_grad_weights(const struct bf16_conv *c, const struct bf16_kernels *k, int64_t n,
                       const bf16 *x, const bf16 *dy, float *dw, int32_t part, int32_t parts,
                       float *scratch)
{
    struct band b = {.c = c,
                     .k = k,
                     .first = part_begin(c->dst.blocks, part, parts),
                     .end = part_begin(c->dst.blocks, part + 1, parts),
                     .sums = scratch,
                     .dy = (bf16 *)(void *)(scratch + sums_floats(c))};

    b.x = b.dy + dy_tiles(c) * BF16_TILE;
    if (b.first == b.end)
        return;
    for (b.fy = 0; b.fy < c->y.phases; b.fy++)
        for (b.fx = 0; b.fx < c->x.phases; b.fx++)
            if (c->y.phase[b.fy].n > 0 && c->x.phase[b.fx].n > 0)
                phase_grad(&b, n, x, dy, dw);
}
