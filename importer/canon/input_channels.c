/*
 * The channels of the input in another order, as models for BGR images or with several sources have them:
 *
 *     Gather, Slice with step -1, Split, slices, and Concat of those, on the channels of the input
 *
 * make no node. The value is an entry of its own kind that says which channel of the graph's value each of
 * its channels is. Arithmetic with a constant for each channel and spatial padding keep it; a Conv takes it
 * into its weight, where columns of channels that are not there are 0 and those of repeated ones are summed:
 *
 *     y = sum over k of w[:, k] x[of[k]]   ->   y = sum over c of w'[:, c] x[c]
 *
 * Anything else that reads it gets a Slice of the graph, if it is one, or is refused.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

#define MAX_CHANNELS 4096

struct channels {
    const char *node; /* of the file, that made it */
    bool flat;        /* one channel [N,H,W], as a Gather of a number has it */
    int64_t n;
    int64_t of[]; /* [n] */
};

static int32_t channel_axis(enum entry_order order)
{
    return order == ORDER_LAST ? 3 : 1;
}

/* A Slice of the graph, where of[] counts up evenly. */
static int settle(struct import *im, struct entry *e)
{
    const struct channels *c = e->channels;
    const struct shape s = im->g->value[e->act].shape;
    const int64_t step = c->n > 1 ? c->of[1] - c->of[0] : 1;
    union op_params p = {.slice = {.start = {0, c->of[0], 0, 0},
                                   .end = {1, c->of[c->n - 1] + 1, s.dim[2], s.dim[3]},
                                   .step = {1, step, 1, 1}}};
    bool even = step > 0;

    for (int64_t k = 1; k < c->n; k++)
        even = even && c->of[k] - c->of[k - 1] == step;
    if (!even || c->flat)
        return report_problem(
            im, "E1206",
            "reorder the channels of the images instead, or of the first layer's weights",
            "'%s' has the input's channels in another order, which only Conv and arithmetic with constants take %s",
            e->name, im->at);
    e->kind = ENTRY_ACT;
    if (c->n == s.dim[1])
        return 0;
    return graph_add_node(im->g, &op_slice, c->node, &e->act, 1, &p, e->name, &e->act);
}

static void mark(struct entry *out, value_id x, enum entry_order order, const struct channels *c)
{
    out->kind = ENTRY_CHANNELS;
    out->act = x;
    out->order = order;
    out->channels = c;
    out->settle = settle;
}

/* The image and channels that entry e stands for, if it is the input's. *of: room for n. */
static bool source(const struct import *im, const struct entry *e, int64_t *n)
{
    if (e == NULL || (e->kind != ENTRY_ACT && e->kind != ENTRY_CHANNELS) ||
        (e->kind == ENTRY_CHANNELS && e->channels->flat) || e->order == ORDER_FLAT_LAST ||
        im->g->value[e->act].shape.rank != 4 || !canon_at_input(im, e->act))
        return false;
    *n = e->kind == ENTRY_CHANNELS ? e->channels->n : im->g->value[e->act].shape.dim[1];
    return *n <= MAX_CHANNELS;
}

static int64_t channel_of(const struct entry *e, int64_t k)
{
    return e->kind == ENTRY_CHANNELS ? e->channels->of[k] : k;
}

static int new_channels(struct import *im, int64_t n, struct channels **out)
{
    struct channels *c;

    TRY(constant_room(im, (n + 2) * (int64_t)sizeof *c->of));
    if ((c = arena_array(im->arena, sizeof *c + (size_t)n * sizeof *c->of, 1)) == NULL)
        return ERR_NOMEM;
    c->node = im->call->name;
    c->n = n;
    *out = c;
    return 0;
}

/* ---- what makes them ------------------------------------------------------------------------ */

int input_channels_gather(struct import *im, bool *found)
{
    const struct entry *e = operand_has(im->call, 0) ? im->call->in[0] : NULL;
    struct constant *index;
    struct channels *c;
    int64_t a, n;
    int32_t axis;

    *found = false;
    if (!source(im, e, &n) || !operand_is(im->call, 1, ENTRY_CONSTANT))
        return 0;
    TRY(attrs_only(im, "axis"));
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(axis_resolve(im, a, 4, &axis));
    TRY(operand_constant(im, 1, &index));
    if (axis != channel_axis(e->order) || index->i == NULL || index->shape.rank > 1 ||
        index->count < 1 || index->count > MAX_CHANNELS)
        return 0;
    TRY(new_channels(im, index->count, &c));
    c->flat = index->shape.rank == 0;
    for (int64_t k = 0; k < c->n; k++) {
        const int64_t i = index->i[k] < 0 ? index->i[k] + n : index->i[k];

        if (i < 0 || i >= n)
            return report_problem(im, "E1306", "", "index %lld of %lld channels %s",
                                  (long long)index->i[k], (long long)n, im->at);
        c->of[k] = channel_of(e, i);
    }
    *found = true;
    mark(im->call->out, e->act, e->order, c);
    return 0;
}

int input_channels_unsqueeze(struct import *im, bool *found)
{
    const struct entry *e = operand_has(im->call, 0) ? im->call->in[0] : NULL;
    struct channels *c;
    int64_t axes[SHAPE_MAX_RANK];
    int32_t n, axis;

    *found = operand_is(im->call, 0, ENTRY_CHANNELS) && e->channels->flat;
    if (!*found)
        return 0;
    TRY(attrs_only(im, "axes"));
    TRY(axes_read(im, 1, axes, &n));
    if (n != 1)
        return report_wrong(im, "needs one axis here");
    TRY(axis_resolve(im, axes[0], 4, &axis));
    if ((*found = axis == channel_axis(e->order))) {
        TRY(new_channels(im, 1, &c));
        c->of[0] = e->channels->of[0];
        mark(im->call->out, e->act, e->order, c);
    }
    return 0;
}

int input_channels_slice(struct import *im, bool *found)
{
    const struct entry *e = operand_has(im->call, 0) ? im->call->in[0] : NULL;
    struct slicing z;
    struct channels *c;
    struct shape s;
    int64_t n;

    *found = false;
    if (!source(im, e, &n))
        return 0;
    const int32_t axis = channel_axis(e->order);
    s = file_shape(im, e->act, e->order);
    s.dim[axis] = n;
    TRY(slicing_read(im, &s, &z));
    for (int32_t d = 1; d < 4; d++)
        if (d != axis && (z.to.dim[d] != s.dim[d] || z.step[d] != 1))
            return 0;
    if (z.to.dim[axis] < 1 || (z.to.dim[axis] == n && z.step[axis] == 1))
        return 0;
    TRY(new_channels(im, z.to.dim[axis], &c));
    for (int64_t k = 0; k < c->n; k++)
        c->of[k] = channel_of(e, z.first[axis] + k * z.step[axis]);
    *found = true;
    mark(im->call->out, e->act, e->order, c);
    return 0;
}

/* Sizes of the parts: attribute, input 1, or as many equal ones as there are outputs. */
static int split_sizes(struct import *im, int64_t n, int64_t *size, int32_t n_parts)
{
    int32_t given;

    TRY(attrs_ints(im, "split", size, n_parts, &given));
    if (given < 0 && operand_has(im->call, 1))
        TRY(operand_ints(im, 1, size, NULL, n_parts, &given));
    for (int32_t k = 0; given < 0 && k < n_parts; k++) {
        const int64_t most = (n + n_parts - 1) / n_parts, left = n - k * most;

        size[k] = left < most ? left : most;
    }
    if (given >= 0 && given != n_parts)
        return report_problem(im, "E1306", "", "Split: %d sizes for %d outputs %s", given, n_parts,
                              im->at);
    for (int32_t k = 0; k < n_parts; k++) {
        if (size[k] < 1 || size[k] > n)
            return report_wrong(im, "a part is empty or larger than the whole");
        n -= size[k];
    }
    return n == 0 ? 0 : report_wrong(im, "the parts are not the whole");
}

int input_channels_split(struct import *im)
{
    const Onnx__NodeProto *p = im->call->proto;
    const struct entry *e = operand_has(im->call, 0) ? im->call->in[0] : NULL;
    int64_t size[64], a, n, at = 0;
    struct channels *c;
    int32_t axis;

    TRY(attrs_only(im, "axis,split,num_outputs"));
    TRY(attrs_int(im, "axis", 0, &a));
    if (!source(im, e, &n) || p->n_output > sizeof size / sizeof *size)
        return canon_unsupported(im);
    TRY(axis_resolve(im, a, 4, &axis));
    if (axis != channel_axis(e->order))
        return canon_unsupported(im);
    TRY(split_sizes(im, n, size, (int32_t)p->n_output));
    for (size_t o = 0; o < p->n_output; o++) {
        struct entry *out = names_find(im, p->output[o]);

        TRY(new_channels(im, size[o], &c));
        for (int64_t k = 0; k < c->n; k++)
            c->of[k] = channel_of(e, at + k);
        at += size[o];
        if (out != NULL && out->kind == ENTRY_NONE)
            mark(out, e->act, e->order, c);
    }
    return 0;
}

int input_channels_concat(struct import *im, bool *found)
{
    const struct call *call = im->call;
    int64_t a, n, all = 0, at = 0;
    struct channels *c;
    int32_t axis;

    *found = false;
    for (int32_t i = 0; i < call->n_in; i++) {
        const struct entry *e = call->in[i];

        if (!source(im, e, &n) || e->act != call->in[0]->act || e->order != call->in[0]->order)
            return 0;
        all += n;
    }
    if (all < 1 || all > MAX_CHANNELS)
        return 0;
    TRY(attrs_int(im, "axis", 0, &a));
    TRY(axis_resolve(im, a, 4, &axis));
    if (axis != channel_axis(call->in[0]->order))
        return 0;
    TRY(new_channels(im, all, &c));
    for (int32_t i = 0; i < call->n_in; i++) {
        (void)source(im, call->in[i], &n);
        for (int64_t k = 0; k < n; k++)
            c->of[at++] = channel_of(call->in[i], k);
    }
    *found = true;
    mark(call->out, call->in[0]->act, call->in[0]->order, c);
    return 0;
}

/* ---- what keeps them ------------------------------------------------------------------------ */

void input_channels_keep(struct import *im, const struct entry *from)
{
    struct entry *out = im->call->out;

    mark(out, out->act, from->order, from->channels);
}

/* c, one number for each channel of e's, as one for each channel of the graph's value. *out NULL: it is
 * something else, or some channel is missing or there twice. */
static int reorder(struct import *im, const struct entry *e, struct constant *c,
                   struct constant **out)
{
    const int64_t channels = im->g->value[e->act].shape.dim[1];
    const struct shape s = {.rank = 3, .dim = {channels, 1, 1}};
    bool seen[MAX_CHANNELS] = {false};

    *out = c;
    if (c->count == 1 && c->shape.rank <= (e->channels->flat ? 0 : 4))
        return 0;
    *out = NULL;
    if (e->order == ORDER_LAST)
        TRY(canon_channels_first(im, c, &c));
    if (e->channels->flat || c->f == NULL || c->count != channels || e->channels->n != channels ||
        c->shape.rank < 3 || c->shape.dim[c->shape.rank - 3] != channels)
        return 0;
    TRY(constant_new(im, c->type, &s, out));
    (*out)->name = c->name;
    for (int64_t k = 0; k < channels; k++) {
        const int64_t to = e->channels->of[k];

        (*out)->f[to] = c->f[k];
        if (seen[to])
            *out = NULL;
        if (*out == NULL)
            return 0;
        seen[to] = true;
    }
    return 0;
}

int input_channels_binary(struct import *im, const struct op *op, bool *found)
{
    const struct call *call = im->call;
    struct constant *c;
    value_id in[2];

    *found = false;
    for (int32_t i = 0; i < 2; i++) {
        if (!operand_is(call, i, ENTRY_CHANNELS) || !operand_is(call, 1 - i, ENTRY_CONSTANT))
            continue;
        TRY(operand_constant(im, 1 - i, &c));
        TRY(reorder(im, call->in[i], c, &c));
        if (c == NULL)
            return 0;
        in[i] = call->in[i]->act;
        TRY(canon_value(im, c, VALUE_CONST, &in[1 - i]));
        if (i == 1 && (op == &op_add || op == &op_mul))
            in[1] = in[0], in[0] = call->in[i]->act; /* the activation first */
        TRY(canon_emit(im, op, in, 2, NULL));
        canon_freeze(im);
        *found = true;
        input_channels_keep(im, call->in[i]);
        return 0;
    }
    return 0;
}

int input_channels_conv(struct import *im, int64_t group, struct constant **w, value_id *x,
                        bool *found)
{
    const struct entry *e = im->call->in[0];
    const struct constant *from = *w;

    *found = operand_is(im->call, 0, ENTRY_CHANNELS) && !e->channels->flat &&
             e->order == ORDER_SAME && group == 1 && (*w)->shape.rank == 4 &&
             (*w)->shape.dim[1] == e->channels->n && constant_is_float(*w);
    if (!*found)
        return 0;
    struct shape s = from->shape;
    s.dim[1] = im->g->value[e->act].shape.dim[1];
    const int64_t window = s.dim[2] * s.dim[3];
    TRY(constant_read(im, *w));
    TRY(constant_new(im, from->type, &s, w));
    (*w)->name = from->name;
    for (int64_t o = 0; o < s.dim[0]; o++)
        for (int64_t k = 0; k < e->channels->n; k++)
            for (int64_t i = 0; i < window; i++)
                (*w)->f[(o * s.dim[1] + e->channels->of[k]) * window + i] +=
                    from->f[(o * e->channels->n + k) * window + i];
    *x = e->act;
    return 0;
}
