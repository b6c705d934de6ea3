/*
 * ReLUs of whole channels, written without any selection by position:
 *
 *   split    t = Concat(Relu(Conv(x, A)), Conv(x, B))   ->  c = Conv(x, [A; B]), MaskedRelu(c, m)
 *   select   y = x + Conv(Concat(Relu(s), s), [S^T, -S^T]) with s = Conv(x, S)
 *                                                       ->  MaskedRelu(x, m), m[c] = row c selected
 *
 * where S is a selection, 1x1, one 1 in every row. The same with Gemm for [N,K]. Any number of parts
 * is joined, in any order, each with a Relu or without. The parts that were joined stay behind
 * without readers and are pruned at the end.
 *
 * The exporter calls the parts "<name>/Kept" and "<name>/Linear" (channel_write.c), which gives the
 * joined layer and its tensors the names that they had.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

struct part { /* an input of the Concat */
    const struct node *layer;
    bool relu;
};

static bool is_layer(const struct node *n)
{
    return n != NULL && !n->frozen &&
           (n->op == &op_gemm || (n->op == &op_conv && n->p.conv.group == 1));
}

/* A layer's result, or the Relu of one. */
static bool part_of(const struct graph *g, value_id v, struct part *p)
{
    const struct node *n = graph_producer(g, v);

    p->relu = n != NULL && n->op == &op_relu;
    p->layer = p->relu ? graph_producer(g, n->in[0]) : n;
    return is_layer(p->layer);
}

/* Rows of the one can stand below rows of the other. */
static bool can_join(const struct graph *g, const struct node *a, const struct node *b)
{
    const struct shape *wa = &op_in(g, a, 1)->shape, *wb = &op_in(g, b, 1)->shape;

    return a->op == b->op && a->in[0] == b->in[0] && node_has(a, 2) == node_has(b, 2) &&
           wa->rank == wb->rank && shape_elems(wa) / wa->dim[0] == shape_elems(wb) / wb->dim[0] &&
           (a->op == &op_gemm || (wa->dim[2] == wb->dim[2] && wa->dim[3] == wb->dim[3] &&
                                  memcmp(&a->p.conv, &b->p.conv, sizeof a->p.conv) == 0));
}

/* `name` less the ending, if it has it. */
static const char *without(struct import *im, const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);

    if (n <= m || strcmp(name + n - m, ending) != 0)
        return name;
    return report_text(im, "%.*s", (int)(n - m), name);
}

/* Operand i (1 weight, 2 bias) of all parts, one below the other. */
static int join_operand(struct import *im, const struct part *part, int32_t n, int i, value_id *out)
{
    const struct value *first = op_in(im->g, part[0].layer, i);
    struct shape s = first->shape;
    struct constant *c;
    int64_t at = 0;

    for (int32_t k = 1; k < n; k++)
        s.dim[0] += op_in(im->g, part[k].layer, i)->shape.dim[0];
    TRY(constant_new(im, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &s, &c));
    c->name = without(im, first->name, ".kept");
    for (int32_t k = 0; k < n; k++) {
        const struct value *v = op_in(im->g, part[k].layer, i);
        const int64_t count = shape_elems(&v->shape);

        memcpy(c->f + at, v->data, (size_t)count * sizeof *c->f);
        at += count;
    }
    return canon_value(im, c, VALUE_PARAM, out);
}

static int join_layers(struct import *im, const struct part *part, int32_t n, value_id *out)
{
    const struct node first = *part[0].layer;
    const char *name = without(im, first.name, "/Kept");
    const char *out_name = without(im, im->g->value[first.out[0]].name, "/Kept_out");
    value_id in[3] = {first.in[0], NO_VALUE, NO_VALUE};

    TRY(join_operand(im, part, n, 1, &in[1]));
    if (node_has(&first, 2))
        TRY(join_operand(im, part, n, 2, &in[2]));
    return graph_add_node(im->g, first.op, name, in, 3, &first.p, out_name, out);
}

/* The mask of the joined channels: those of the parts with a Relu are kept. */
static int joined_mask(struct import *im, const struct part *part, int32_t n, float **mask)
{
    const struct shape *s = &im->g->value[part[0].layer->out[0]].shape;
    const int64_t positions = shape_elems(s) / s->dim[1];
    int64_t channels = 0, at = 0;

    for (int32_t k = 0; k < n; k++)
        channels += op_in(im->g, part[k].layer, 1)->shape.dim[0];
    if ((*mask = arena_array(im->arena, (size_t)(channels * positions), sizeof **mask)) == NULL)
        return ERR_NOMEM;
    for (int32_t k = 0; k < n; k++) {
        const int64_t count = op_in(im->g, part[k].layer, 1)->shape.dim[0] * positions;

        for (int64_t i = 0; i < count; i++)
            (*mask)[at++] = part[k].relu ? 1 : 0;
    }
    return 0;
}

static int read_parts(struct import *im, struct part *part, bool *found)
{
    const struct call *c = im->call;

    *found = false;
    for (int32_t k = 0; k < c->n_in; k++) {
        if (!operand_has(c, k) || c->in[k]->kind != ENTRY_ACT || c->in[k]->order != ORDER_SAME ||
            !part_of(im->g, c->in[k]->act, &part[k]) ||
            !can_join(im->g, part[0].layer, part[k].layer))
            return 0;
    }
    *found = true;
    return 0;
}

int channel_concat(struct import *im, bool *found)
{
    const int32_t n = im->call->n_in;
    struct part *part = arena_array(im->arena, (size_t)n, sizeof *part);
    int64_t axis;
    value_id y;
    float *mask;

    if (part == NULL)
        return ERR_NOMEM;
    *found = false;
    TRY(attrs_int(im, "axis", 1, &axis));
    if (axis != 1)
        return 0;
    TRY(read_parts(im, part, found));
    if (!*found)
        return 0;
    TRY(joined_mask(im, part, n, &mask)); /* before nodes are added: part[] points at some */
    TRY(join_layers(im, part, n, &y));
    return mask_emit(im, y, mask, false);
}

/* ---- select --------------------------------------------------------------------------------- */

/* A layer that only mixes channels at a position, without a bias that does anything. */
static bool is_mixing(const struct graph *g, const struct node *n)
{
    static const struct conv_params plain = {.stride = {1, 1}, .dilation = {1, 1}, .group = 1};

    if (!is_layer(n))
        return false;
    for (int64_t k = 0; node_has(n, 2) && k < op_in(g, n, 2)->shape.dim[0]; k++)
        if (op_in(g, n, 2)->data[k] != 0)
            return false;
    const struct shape *w = &op_in(g, n, 1)->shape;
    return n->op == &op_gemm ||
           (w->dim[2] == 1 && w->dim[3] == 1 && memcmp(&n->p.conv, &plain, sizeof plain) == 0);
}

/* The column of the only 1 in a row of zeros, -1 if it is something else. */
static int64_t selected(const float *row, int64_t n)
{
    int64_t at = -1;

    for (int64_t k = 0; k < n; k++) {
        if (row[k] == 0)
            continue;
        if (row[k] != 1 || at >= 0)
            return -1;
        at = k;
    }
    return at;
}

/* W1 = [S; S] with k rows each, W2 = [S^T, -S^T]. kept[c] is set where a row of S selects c. */
static bool is_selection(const float *w1, const float *w2, int64_t k, int64_t channels,
                         uint8_t *kept)
{
    for (int64_t r = 0; r < k; r++) {
        const int64_t c = selected(w1 + r * channels, channels);

        if (c < 0 || kept[c] || selected(w1 + (k + r) * channels, channels) != c)
            return false;
        kept[c] = 1;
        for (int64_t o = 0; o < channels; o++) {
            const float want = o == c ? 1 : 0;

            if (w2[o * 2 * k + r] != want || w2[o * 2 * k + k + r] != -want)
                return false;
        }
    }
    return true;
}

/* The first half of the channels is kept, the second is not. */
static bool keeps_first_half(const struct value *mask)
{
    const int64_t n = shape_elems(&mask->shape);

    for (int64_t i = 0; i < n; i++)
        if (mask->data[i] != (i < n / 2 ? 1 : 0))
            return false;
    return n % 2 == 0;
}

/* v = Conv(MaskedRelu(Conv(x, [S; S])), [S^T, -S^T]): marks the selected channels. */
static bool is_correction(const struct graph *g, value_id x, value_id v, uint8_t *kept)
{
    const struct node *scatter = graph_producer(g, v), *site, *select;

    if (!is_mixing(g, scatter) || (site = graph_producer(g, scatter->in[0])) == NULL ||
        site->op != &op_masked_relu || site->p.masked_relu.relu6 ||
        !is_mixing(g, select = graph_producer(g, site->in[0])) || select->in[0] != x ||
        !keeps_first_half(op_in(g, site, 1)))
        return false;
    const struct value *w1 = op_in(g, select, 1), *w2 = op_in(g, scatter, 1);
    const int64_t channels = g->value[x].shape.dim[1], rows = w1->shape.dim[0];
    return rows % 2 == 0 && w2->shape.dim[0] == channels && w1->shape.dim[1] == channels &&
           is_selection(w1->data, w2->data, rows / 2, channels, kept);
}

int channel_sum(struct import *im, value_id a, value_id b, bool *found)
{
    const struct shape s = im->g->value[a].shape;
    uint8_t *kept = NULL;
    float *mask;

    *found = false;
    if (!value_is_activation(&im->g->value[a]) || !value_is_activation(&im->g->value[b]) ||
        !shape_equal(&s, &im->g->value[b].shape) || (s.rank != 2 && s.rank != 4))
        return 0;
    if (!is_mixing(im->g, graph_producer(im->g, b)) && !is_mixing(im->g, graph_producer(im->g, a)))
        return 0;
    const int64_t n = shape_elems(&s), positions = n / s.dim[1];
    for (int turn = 0; turn < 2 && !*found; turn++) {
        if ((kept = arena_array(im->arena, (size_t)s.dim[1], 1)) == NULL)
            return ERR_NOMEM;
        *found = is_correction(im->g, turn == 0 ? a : b, turn == 0 ? b : a, kept);
        a = *found && turn == 1 ? b : a;
    }
    if (!*found)
        return 0;
    if ((mask = arena_array(im->arena, (size_t)n, sizeof *mask)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i++)
        mask[i] = kept[i / positions];
    return mask_emit(im, a, mask, false);
}
