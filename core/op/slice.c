/*
 * Slice of an image or a row of features: start, end, step per axis, resolved by the importer to
 * 0 <= start < end <= dim, step >= 1 (negative steps and indices never arrive). The batch is whole.
 */
#include "core/op/image.h"

static int slice_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct slice_params *p = &node->p.slice;

    TRY(op_need_image_or_row(g, node));
    *out = op_in(g, node, 0)->shape;
    for (int i = 1; i < out->rank; i++) {
        if (p->start[i] < 0 || p->start[i] >= p->end[i] || p->end[i] > out->dim[i] ||
            p->step[i] < 1)
            return op_fail(node, "slice %lld:%lld:%lld of axis %d, which has %lld elements",
                           (long long)p->start[i], (long long)p->end[i], (long long)p->step[i], i,
                           (long long)out->dim[i]);
        out->dim[i] = (p->end[i] - p->start[i] - 1) / p->step[i] + 1;
    }
    return 0;
}

/* Where the channels of output position (h, w) begin in the input image; the step between them is
 * step[1]. */
static int64_t source(const struct slice_params *p, struct image in, int64_t h, int64_t w)
{
    if (in.h == 1 && in.w == 1)
        return p->start[1];
    int64_t ih = p->start[2] + h * p->step[2], iw = p->start[3] + w * p->step[3];
    return (ih * in.w + iw) * in.c + p->start[1];
}

static void slice_forward(const struct op_call *k)
{
    const struct slice_params *p = &k->node->p.slice;
    struct image in = image_in(k, 0), out = image_out(k);
    float *y = k->out;

    for (int64_t b = 0; b < k->n; b++) {
        const float *x = k->in[0] + b * image_size(in);
        for (int64_t h = 0; h < out.h; h++) {
            for (int64_t w = 0; w < out.w; w++, y += out.c) {
                const float *from = x + source(p, in, h, w);
                for (int64_t c = 0; c < out.c; c++)
                    y[c] = from[c * p->step[1]];
            }
        }
    }
}

static void slice_grad_input(const struct op_call *k)
{
    const struct slice_params *p = &k->node->p.slice;
    struct image in = image_in(k, 0), out = image_out(k);
    const float *dy = k->dout;

    if (k->din[0] == NULL)
        return;
    if (!k->add[0])
        floats_fill(k->din[0], k->n * image_size(in), 0);
    for (int64_t b = 0; b < k->n; b++) {
        float *dx = k->din[0] + b * image_size(in);
        for (int64_t h = 0; h < out.h; h++) {
            for (int64_t w = 0; w < out.w; w++, dy += out.c) {
                float *to = dx + source(p, in, h, w);
                for (int64_t c = 0; c < out.c; c++)
                    to[c * p->step[1]] += dy[c];
            }
        }
    }
}

const struct op op_slice = {
    .type = "Slice",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_LINEAR,
    .shape = slice_shape,
    .hooks =
        &(const struct op_hooks){
            .forward = slice_forward,
            .grad_input = slice_grad_input,
        },
};
