/*
 * Conv on bf16 storage (core/kernel/bf16_conv.h). The result is scale * correlation + shift in fp32,
 * then the tail, then rounded; the weights are rounded as they are, so a folded BatchNormalization
 * costs no accuracy. In the gradient its scale is in the weights, rounded after it.
 *
 * prepared: scale [dst blocks][32], shift, forward weights, gradient weights, as far as used.
 */
#include "core/op/conv_bf16.h"

#include "core/kernel/bf16_conv.h"

static struct bf16_node node_of(const struct graph *g, const struct node *node)
{
    const struct conv_params *p = &node->p.conv;
    const int64_t *x = op_in(g, node, 0)->shape.dim, *w = op_in(g, node, 1)->shape.dim;
    const int64_t *y = g->value[node->out[0]].shape.dim;

    return (struct bf16_node){.in_c = x[1],
                              .in_h = x[2],
                              .in_w = x[3],
                              .out_c = y[1],
                              .out_h = y[2],
                              .out_w = y[3],
                              .kernel = {w[2], w[3]},
                              .stride = {p->stride[0], p->stride[1]},
                              .pad = {p->pad[0], p->pad[1]}};
}

bool conv_bf16_fits(const struct graph *g, const struct node *node)
{
    const struct bf16_node n = node_of(g, node);
    const struct conv_params *p = &node->p.conv;

    return p->group == 1 && p->dilation[0] == 1 && p->dilation[1] == 1 && bf16_conv_fits(&n);
}

static struct bf16_conv pass_of(const struct graph *g, const struct node *node, bool grad)
{
    const struct bf16_node n = node_of(g, node);
    struct bf16_conv c;

    bf16_conv_make(&c, &n, grad);
    return c;
}

/* ---- weights */

/* In floats. */
static size_t packed_size(const struct bf16_conv *c)
{
    return bf16_conv_packed(c) / 2;
}

static size_t affine_size(const struct bf16_conv *forward)
{
    return (size_t)(2 * forward->dst.blocks * BF16_CHANNELS);
}

static size_t gradient_at(const struct bf16_conv *forward, const struct op_use *use)
{
    return affine_size(forward) + (use->forward ? packed_size(forward) : 0);
}

static size_t prepare_size(const struct graph *g, const struct node *node, const struct op_use *use)
{
    const struct bf16_conv forward = pass_of(g, node, false), grad = pass_of(g, node, true);

    return gradient_at(&forward, use) + (use->gradient ? packed_size(&grad) : 0);
}

/* scale and shift: NULL for 1 and 0. */
static void prepare_all(const struct graph *g, const struct node *node, const float *scale,
                        const float *shift, const struct op_use *use, float *prepared)
{
    const struct bf16_conv forward = pass_of(g, node, false), grad = pass_of(g, node, true);
    const float *w = op_in(g, node, 1)->data;
    const float *b = node_has(node, 2) ? op_in(g, node, 2)->data : NULL;
    const int64_t n = forward.dst.blocks * BF16_CHANNELS;

    for (int64_t i = 0; i < n && use->part == 0; i++) {
        const int64_t c = bf16_channel(&forward.dst, i / BF16_CHANNELS, i % BF16_CHANNELS);
        const bool on = c < forward.dst.c;
        const double s = on && scale != NULL ? (double)scale[c] : 1;

        prepared[i] = (float)s;
        prepared[n + i] = (float)((on && b != NULL ? (double)b[c] * s : 0) +
                                  (on && shift != NULL ? (double)shift[c] : 0));
    }
    if (use->forward)
        bf16_conv_pack(&forward, w, NULL, use->part, use->parts,
                       op_bf16(prepared + affine_size(&forward)));
    if (use->gradient)
        bf16_conv_pack(&grad, w, scale, use->part, use->parts,
                       op_bf16(prepared + gradient_at(&forward, use)));
}

static void prepare(const struct graph *g, const struct node *node, int branch,
                    const struct op_use *use, float *prepared)
{
    (void)branch;
    prepare_all(g, node, NULL, NULL, use, prepared);
}

/* ---- hooks */

static void forward(const struct op_call *k)
{
    const struct bf16_conv c = pass_of(k->g, k->node, false);
    const struct bf16_run r = {.n = k->n,
                               .src = op_bf16_in(k->in[0]),
                               .packed = op_bf16_in(k->prepared + affine_size(&c)),
                               .scale = k->prepared,
                               .shift = k->prepared + affine_size(&c) / 2,
                               .tail = k->bf16_tail,
                               .dst = op_bf16(k->out),
                               .part = k->part,
                               .parts = k->parts};
    const struct bf16_state s = bf16_begin();

    bf16_conv_run(&c, s.k, &r);
    bf16_end(s);
}

static void grad_input(const struct op_call *k)
{
    const struct bf16_conv f = pass_of(k->g, k->node, false), c = pass_of(k->g, k->node, true);

    if (k->din[0] == NULL)
        return;
    const struct bf16_run r = {.n = k->n,
                               .src = op_bf16_in(k->dout),
                               .packed = op_bf16_in(k->prepared + gradient_at(&f, &k->use)),
                               .tail.other = k->add[0] ? op_bf16_in(k->din[0]) : NULL,
                               .dst = op_bf16(k->din[0]),
                               .part = k->part,
                               .parts = k->parts};
    const struct bf16_state s = bf16_begin();

    bf16_conv_run(&c, s.k, &r);
    bf16_end(s);
}

static size_t scratch_size(const struct graph *g, const struct node *node, int64_t n)
{
    const struct bf16_conv c = pass_of(g, node, false);

    (void)n;
    return bf16_grad_scratch(&c) + 4 * affine_size(&c);
}

/* db[o] += sum over images and pixels of dy. */
static void grad_bias(const struct op_call *k, const struct bf16_conv *c)
{
    const int64_t n = c->dst.blocks * BF16_CHANNELS;
    double *sum = (double *)(void *)k->scratch, *square = sum + n; /* the second is not used */
    const struct bf16_state s = bf16_begin();

    for (int64_t i = 0; i < 2 * n; i++)
        sum[i] = 0;
    for (int64_t i = 0; i < image_pieces(&c->dst, k->n); i++) {
        const struct image_piece p = image_piece(&c->dst, k->n, i);
        const int64_t channel = p.b * BF16_CHANNELS;

        s.k->stats(op_bf16_in(k->dout) + p.at, p.tiles, p.rows, sum + channel, square + channel);
    }
    bf16_end(s);
    for (int64_t i = 0; i < n; i++) {
        const int64_t o = bf16_channel(&c->dst, i / BF16_CHANNELS, i % BF16_CHANNELS);

        if (o < c->dst.c)
            k->din[2][o] += (float)sum[i];
    }
}

static void grad_params(const struct op_call *k)
{
    const struct bf16_conv c = pass_of(k->g, k->node, false);

    if (k->din[1] != NULL) {
        const struct bf16_state s = bf16_begin();

        bf16_grad_weights(&c, s.k, k->n, op_bf16_in(k->in[0]), op_bf16_in(k->dout), k->din[1],
                          k->part, k->parts, k->scratch);
        bf16_end(s);
    }
    if (k->node->n_in > 2 && k->din[2] != NULL && k->part == 0)
        grad_bias(k, &c);
}

const struct op_hooks conv_bf16_hooks = {
    .prepare_size = prepare_size,
    .prepare = prepare,
    .prepare_folded = prepare_all,
    .scratch_size = scratch_size,
    .forward = forward,
    .grad_input = grad_input,
    .grad_params = grad_params,
};
