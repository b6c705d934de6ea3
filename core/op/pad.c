/*
 * Pad of an image by a constant, on any of C, H, W (option-A shortcuts pad the channels). Amounts
 * are resolved numbers >= 0 in node->p.pad, in the order N, C, H, W; N stays.
 */
#include "core/op/image.h"

#define PAD_MAX ((int64_t)1 << 20)

static int pad_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct pad_params *p = &node->p.pad;

    TRY(op_need_image(g, node));
    if (p->begin[0] != 0 || p->end[0] != 0)
        return op_fail(node, "pads the batch by %lld and %lld", (long long)p->begin[0],
                       (long long)p->end[0]);
    *out = op_in(g, node, 0)->shape;
    for (int i = 1; i < 4; i++) {
        if (p->begin[i] < 0 || p->end[i] < 0 || p->begin[i] > PAD_MAX || p->end[i] > PAD_MAX)
            return op_fail(node, "pads axis %d by %lld and %lld, needs 0 to %lld", i,
                           (long long)p->begin[i], (long long)p->end[i], (long long)PAD_MAX);
        out->dim[i] += p->begin[i] + p->end[i];
    }
    int64_t count;
    return shape_count(out, &count);
}

/* Output row of channels at (h, w), from the image x, or all padding. */
static void pad_row(const struct pad_params *p, struct image in, struct image out, const float *x,
                    int64_t h, int64_t w, float *y)
{
    int64_t ih = h - p->begin[2], iw = w - p->begin[3];

    if (ih < 0 || ih >= in.h || iw < 0 || iw >= in.w) {
        floats_fill(y, out.c, p->value);
        return;
    }
    floats_fill(y, p->begin[1], p->value);
    floats_put(y + p->begin[1], x + (ih * in.w + iw) * in.c, in.c, false);
    floats_fill(y + p->begin[1] + in.c, p->end[1], p->value);
}

static void pad_forward(const struct op_call *k)
{
    struct image in = image_in(k, 0), out = image_out(k);
    float *y = k->out;

    for (int64_t b = 0; b < k->n; b++) {
        const float *x = k->in[0] + b * image_size(in);
        for (int64_t h = 0; h < out.h; h++) {
            for (int64_t w = 0; w < out.w; w++, y += out.c)
                pad_row(&k->node->p.pad, in, out, x, h, w, y);
        }
    }
}

static void pad_grad_input(const struct op_call *k)
{
    const struct pad_params *p = &k->node->p.pad;
    struct image in = image_in(k, 0), out = image_out(k);
    float *dx = k->din[0];

    for (int64_t b = 0; b < k->n && dx != NULL; b++) {
        const float *dy = k->dout + b * image_size(out);
        for (int64_t h = 0; h < in.h; h++) {
            for (int64_t w = 0; w < in.w; w++, dx += in.c) {
                int64_t at = (h + p->begin[2]) * out.w + w + p->begin[3];
                floats_put(dx, dy + at * out.c + p->begin[1], in.c, k->add[0]);
            }
        }
    }
}

const struct op op_pad = {
    .type = "Pad",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_LINEAR,
    .shape = pad_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = pad_forward,
            .grad_input = pad_grad_input,
        },
};
