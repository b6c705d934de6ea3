/*
 * Relu and MaskedRelu on bf16 storage, as steps of their own and as the tail of another step, whose
 * gradient comes here too. A mask, the same for all images, is one word a tile:
 *
 *     prepared: [blocks][h][columns] words, bit i set: number i of the tile goes through a ReLU
 */
#include "core/op/relu_bf16.h"

static struct bf16_map map_of(const struct op_call *k)
{
    return image_map(image_in(k, 0));
}

static int64_t blocks_of(int64_t n)
{
    return (n + BF16_IMAGES - 1) / BF16_IMAGES;
}

static const uint32_t *mask_of(const struct op_call *k)
{
    return (const uint32_t *)(const void *)k->prepared; /* NULL for a Relu */
}

static void forward(const struct op_call *k)
{
    const struct bf16_map m = map_of(k);
    const struct bf16_tail tail = {.mask = mask_of(k), .relu = true};
    float one[BF16_CHANNELS], zero[BF16_CHANNELS];
    const struct bf16_state s = bf16_begin();

    floats_fill(one, BF16_CHANNELS, 1);
    floats_fill(zero, BF16_CHANNELS, 0);
    for (int64_t b = 0; b < blocks_of(k->n); b++) {
        const int64_t at = b * bf16_tiles(&m) * BF16_TILE;

        s.k->affine(op_bf16(k->out) + at, op_bf16_in(k->in[0]) + at, one, zero, bf16_tiles(&m),
                    &tail);
    }
    bf16_end(s);
}

static void grad_input(const struct op_call *k)
{
    const struct bf16_map m = map_of(k);

    if (k->din[0] == NULL)
        return;
    const struct bf16_state s = bf16_begin();

    for (int64_t b = 0; b < blocks_of(k->n); b++) {
        const int64_t at = b * bf16_tiles(&m) * BF16_TILE;

        s.k->relu_grad(op_bf16(k->din[0]) + at, op_bf16_in(k->dout) + at, op_bf16_in(k->out) + at,
                       mask_of(k), bf16_tiles(&m), k->add[0]);
    }
    bf16_end(s);
}

bool masked_relu_bf16_fits(const struct graph *g, const struct node *node)
{
    (void)g;
    return !node->p.masked_relu.soft && !node->p.masked_relu.relu6 && node->n_in == 2;
}

static size_t prepare_size(const struct graph *g, const struct node *node, const struct op_use *use)
{
    const struct bf16_map m = image_map(image_of(&op_in(g, node, 0)->shape));

    (void)use;
    return (size_t)bf16_tiles(&m);
}

static uint32_t mask_word(const struct bf16_map *m, const float *mask, int64_t b, int64_t y,
                          int64_t col)
{
    uint32_t word = 0;

    for (int64_t i = 0; i < BF16_CHANNELS; i++) {
        const int64_t c = bf16_channel(m, b, i), x = m->pack == 2 ? 2 * col + i / 16 : col;

        if (c < m->c && mask[(c * m->h + y) * m->w + x] > 0.5F)
            word |= (uint32_t)1 << i;
    }
    return word;
}

static void prepare(const struct graph *g, const struct node *node, int branch,
                    const struct op_use *use, float *prepared)
{
    const struct bf16_map m = image_map(image_of(&op_in(g, node, 0)->shape));
    uint32_t *word = (uint32_t *)(void *)prepared;

    (void)branch, (void)use;
    for (int64_t b = 0; b < m.blocks; b++)
        for (int64_t y = 0; y < m.h; y++)
            for (int64_t col = 0; col < m.cols; col++)
                *word++ = mask_word(&m, op_in(g, node, 1)->data, b, y, col);
}

const struct op_hooks relu_bf16_hooks = {
    .forward = forward,
    .grad_input = grad_input,
};

const struct op_hooks masked_relu_bf16_hooks = {
    .prepare_size = prepare_size,
    .prepare = prepare,
    .forward = forward,
    .grad_input = grad_input,
};
