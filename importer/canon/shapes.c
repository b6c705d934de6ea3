/*
 * Operators that only move or average numbers: Reshape, Flatten, Squeeze, Unsqueeze, Transpose,
 * Pad, Slice, Concat, Gather, ReduceMean.
 *
 * The batch is symbolic in the graph. A file may have fixed it (almost always to 1): a target shape
 * that begins with that number, with 1, 0 or -1, or with the batch taken from a Shape node means
 * "all images", provided that the rest holds the elements of exactly one image.
 *
 * Files of TensorFlow keep some values as [N,H,W,C]. The graph has none: a Transpose between the
 * two orders makes no node, it changes how the file sees the value (entry.order), and axes and
 * shapes are translated here.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

static const struct shape *shape_of(const struct import *im, value_id v)
{
    return &im->g->value[v].shape;
}

/* Axis of the graph's value that is `axis` of the file's. */
static int32_t graph_axis(enum entry_order order, int32_t axis)
{
    static const int32_t first[4] = {0, 2, 3, 1};

    return order == ORDER_LAST ? first[axis] : axis;
}

/* The order of the elements does not show: one position or one channel. */
static bool order_is_moot(const struct shape *s)
{
    return s->rank == 4 && (s->dim[1] == 1 || s->dim[2] * s->dim[3] == 1);
}

static int same_as_input(struct import *im, value_id x)
{
    im->call->out->kind = ENTRY_ACT;
    im->call->out->act = x;
    return 0;
}

static int emit_reshape(struct import *im, value_id x, const struct shape *to)
{
    union op_params p = {.reshape = {.target = *to}};

    if (shape_equal(shape_of(im, x), to))
        return same_as_input(im, x);
    return canon_emit(im, &op_reshape, &x, 1, &p);
}

/* ---- Reshape and its relatives -------------------------------------------------------------- */

struct target { /* the shape input of a Reshape */
    int64_t dim[SHAPE_MAX_RANK];
    uint8_t is_batch[SHAPE_MAX_RANK];
    int32_t rank;
    bool zero_copies;
};

static int bad_target(struct import *im, const struct shape *from, const char *why)
{
    char text[SHAPE_TEXT];

    return report_problem(im, "E1304", "the batch must stay the first dimension",
                          "Reshape of %s: %s %s", shape_text(from, text), why, im->at);
}

/* The target's dim 0 stands for the images. */
static bool target_keeps_batch(const struct import *im, const struct target *t)
{
    const int64_t d = t->dim[0];

    return t->is_batch[0] || d == -1 || d == 1 || (d == 0 && t->zero_copies) ||
           (im->batch > 0 && d == im->batch);
}

static int resolve_target(struct import *im, const struct shape *from, const struct target *t,
                          struct shape *to)
{
    const int64_t elements = shape_elems(from);
    int64_t known = 1;
    int32_t open = -1;

    if (t->rank < 2 || !target_keeps_batch(im, t))
        return bad_target(im, from, "the target mixes images");
    *to = (struct shape){.rank = t->rank, .dim = {SHAPE_BATCH}};
    for (int32_t k = 1; k < t->rank; k++) {
        int64_t d = t->dim[k] == 0 && t->zero_copies && k < from->rank ? from->dim[k] : t->dim[k];

        if (t->is_batch[k] || d < -1 || d == 0 || (d == -1 && (open >= 0 || t->dim[0] == -1)))
            return bad_target(im, from, "the target is not valid");
        if (d == -1)
            open = k;
        else if (__builtin_mul_overflow(known, d, &known) || known > elements)
            return bad_target(im, from, "the target holds more than one image");
        to->dim[k] = d;
    }
    if (open >= 0 && elements % known == 0)
        to->dim[open] = elements / known;
    else if (known != elements)
        return bad_target(im, from, "the target does not hold exactly one image");
    return 0;
}

/* Reshape of [N,H,W,C]: the order stays in a flattened result, or must not matter. */
static int reshape_last(struct import *im, value_id x, enum entry_order order,
                        const struct shape *to)
{
    const struct shape from = file_shape(im, x, order);

    if (shape_equal(&from, to)) {
        canon_set_order(im, order);
        return same_as_input(im, x);
    }
    if (order_is_moot(shape_of(im, x)))
        return to->rank == 2 ? canon_emit(im, &op_flatten, &x, 1, NULL) : emit_reshape(im, x, to);
    if (to->rank == 2) {
        canon_set_order(im, ORDER_FLAT_LAST);
        return same_as_input(im, x);
    }
    return report_problem(im, "E1206", "export the model in NCHW order (tf2onnx: --inputs-as-nchw)",
                          "Reshape of a value with its channels last %s", im->at);
}

static int canon_reshape(struct import *im)
{
    struct target t = {0};
    struct shape to, from;
    enum entry_order order;
    int64_t allow_zero;
    bool found = false;
    value_id x;

    TRY(attrs_only(im, "allowzero"));
    TRY(attrs_int(im, "allowzero", 0, &allow_zero));
    TRY(operand_ints(im, 1, t.dim, t.is_batch, SHAPE_MAX_RANK, &t.rank));
    t.zero_copies = allow_zero == 0;
    if (operand_has(im->call, 0) && im->call->in[0]->kind == ENTRY_SELECTION) {
        const struct selection *s = im->call->in[0]->selection;

        from = shape_make(2, (int64_t)SHAPE_BATCH, s->n);
        TRY(resolve_target(im, &from, &t, &to));
        TRY(mask_reshape(im, &to, &found));
        if (found)
            return 0;
    }
    TRY(operand_act_any(im, 0, &x, &order));
    from = file_shape(im, x, order);
    TRY(resolve_target(im, &from, &t, &to));
    return order == ORDER_SAME ? emit_reshape(im, x, &to) : reshape_last(im, x, order, &to);
}

static int canon_flatten(struct import *im)
{
    enum entry_order order;
    int64_t a;
    int32_t axis;
    value_id x;

    TRY(attrs_only(im, "axis"));
    TRY(attrs_int(im, "axis", 1, &a));
    TRY(operand_act_any(im, 0, &x, &order));
    const struct shape from = file_shape(im, x, order);
    const struct shape to = shape_make(2, (int64_t)SHAPE_BATCH, shape_elems(&from));
    TRY(axis_resolve(im, a, from.rank, &axis));
    if (axis != 1 && !(axis == 0 && im->batch == 1)) /* of one image both are the same */
        return report_problem(im, "E1304", "the batch must stay the first dimension",
                              "Flatten with axis %d %s", axis, im->at);
    if (order != ORDER_SAME)
        return reshape_last(im, x, order, &to);
    return shape_of(im, x)->rank == 2 ? same_as_input(im, x)
                                      : canon_emit(im, &op_flatten, &x, 1, NULL);
}

/* A result [N,K] is a Flatten, the most widely understood form. */
static int emit_flat_or_reshape(struct import *im, value_id x, const struct shape *to)
{
    if (to->rank == 2 && shape_of(im, x)->rank > 2)
        return canon_emit(im, &op_flatten, &x, 1, NULL);
    return emit_reshape(im, x, to);
}

static int canon_squeeze(struct import *im)
{
    int64_t axes[SHAPE_MAX_RANK];
    bool drop[SHAPE_MAX_RANK] = {false};
    enum entry_order order;
    struct shape to = {0};
    int32_t n, axis;
    value_id x;

    TRY(attrs_only(im, "axes"));
    TRY(operand_act_any(im, 0, &x, &order));
    const struct shape from = file_shape(im, x, order);
    TRY(axes_read(im, 1, axes, &n));
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], from.rank, &axis));
        if (axis == 0 || from.dim[axis] != 1)
            return report_problem(im, "E1301", "", "Squeeze of axis %d, which is not 1 %s", axis,
                                  im->at);
        drop[axis] = true;
    }
    if (n < 0 && im->batch == 1)
        return report_problem(im, "E1304", "export with explicit axes",
                              "Squeeze without axes would drop the batch %s", im->at);
    for (int32_t k = 0; k < from.rank; k++)
        if (!drop[k] && (n >= 0 || from.dim[k] != 1))
            to.dim[to.rank++] = from.dim[k];
    return order == ORDER_SAME ? emit_flat_or_reshape(im, x, &to) : reshape_last(im, x, order, &to);
}

static int canon_unsqueeze(struct import *im)
{
    int64_t axes[SHAPE_MAX_RANK];
    bool added[SHAPE_MAX_RANK] = {false};
    struct shape to = {0};
    int32_t n, axis, from = 0;
    bool found_channels;
    value_id x;

    TRY(input_channels_unsqueeze(im, &found_channels));
    if (found_channels)
        return 0;
    TRY(attrs_only(im, "axes"));
    TRY(operand_act(im, 0, &x));
    TRY(axes_read(im, 1, axes, &n));
    to.rank = shape_of(im, x)->rank + (n > 0 ? n : 0);
    if (to.rank > 4)
        return report_problem(im, "E1301", "", "Unsqueeze to rank %d, at most 4 %s", to.rank,
                              im->at);
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], to.rank, &axis));
        if (axis == 0 || added[axis])
            return report_problem(im, "E1301", "", "Unsqueeze of axis %d %s", axis, im->at);
        added[axis] = true;
    }
    for (int32_t k = 0; k < to.rank; k++)
        to.dim[k] = added[k] ? 1 : shape_of(im, x)->dim[from++];
    return emit_reshape(im, x, &to);
}

static bool is_perm(const int64_t *perm, int32_t n, int32_t rank, int64_t a, int64_t b, int64_t c,
                    int64_t d)
{
    const int64_t want[4] = {a, b, c, d};

    return n == rank && rank <= 4 && memcmp(perm, want, (size_t)n * sizeof *perm) == 0;
}

static int canon_transpose(struct import *im)
{
    int64_t perm[SHAPE_MAX_RANK];
    enum entry_order order;
    int32_t n;
    value_id x;

    const bool channels = operand_is(im->call, 0, ENTRY_CHANNELS);

    TRY(attrs_only(im, "perm"));
    if (channels)
        order = im->call->in[0]->order, x = im->call->in[0]->act;
    else
        TRY(operand_act_any(im, 0, &x, &order));
    TRY(attrs_ints(im, "perm", perm, SHAPE_MAX_RANK, &n));
    if (is_perm(perm, n, 4, 0, 2, 3, 1) && order == ORDER_SAME && shape_of(im, x)->rank == 4)
        order = ORDER_LAST;
    else if (is_perm(perm, n, 4, 0, 3, 1, 2) && order == ORDER_LAST)
        order = ORDER_SAME;
    else if (n != file_shape(im, x, order).rank || !is_perm(perm, n, n, 0, 1, 2, 3))
        return report_problem(im, "E1206",
                              "only Transposes between [N,H,W,C] and [N,C,H,W] are supported",
                              "Transpose of an activation %s", im->at);
    if (channels)
        TRY(result_alias(im, im->call->in[0]));
    canon_set_order(im, order);
    return channels ? 0 : same_as_input(im, x);
}

/* ---- Pad and Slice -------------------------------------------------------------------------- */

/* Amounts in the order of the axes named, begins then ends. */
static int read_pads(struct import *im, int64_t pads[2 * SHAPE_MAX_RANK], int32_t *n)
{
    TRY(attrs_ints(im, "pads", pads, 2 * SHAPE_MAX_RANK, n));
    if (*n < 0)
        return operand_ints(im, 1, pads, NULL, 2 * SHAPE_MAX_RANK, n);
    return 0;
}

static int read_pad_value(struct import *im, float *out)
{
    struct constant *c;

    TRY(attrs_float(im, "value", 0, out));
    if (!operand_has(im->call, 2))
        return 0;
    TRY(operand_constant(im, 2, &c));
    if (c->f == NULL || c->count != 1)
        return report_problem(im, "E1207", "", "the padding value must be one number %s", im->at);
    *out = c->f[0];
    return 0;
}

static int place_pads(struct import *im, int32_t rank, enum entry_order order, struct pad_params *p)
{
    int64_t pads[2 * SHAPE_MAX_RANK], axes[SHAPE_MAX_RANK];
    int32_t n, n_axes = rank, axis;
    const bool has_axes = operand_has(im->call, 3);

    TRY(read_pads(im, pads, &n));
    if (has_axes)
        TRY(operand_ints(im, 3, axes, NULL, SHAPE_MAX_RANK, &n_axes));
    if (n != 2 * n_axes)
        return report_problem(im, "E1301", "", "%d pads for %d axes %s", n, n_axes, im->at);
    for (int32_t k = 0; k < n_axes; k++) {
        TRY(axis_resolve(im, has_axes ? axes[k] : k, rank, &axis));
        axis = graph_axis(order, axis);
        p->begin[axis] = pads[k];
        p->end[axis] = pads[n_axes + k];
    }
    return 0;
}

static int canon_pad(struct import *im)
{
    union op_params p = {.pad = {.value = 0}};
    enum entry_order order;
    const char *mode;
    const struct entry *channels = operand_is(im->call, 0, ENTRY_CHANNELS) ? im->call->in[0] : NULL;
    bool any = false;
    value_id x;

    TRY(attrs_only(im, "mode,pads,value"));
    TRY(attrs_text(im, "mode", "constant", &mode));
    if (channels != NULL)
        order = channels->order, x = channels->act;
    else
        TRY(operand_act_any(im, 0, &x, &order));
    const int32_t rank = shape_of(im, x)->rank;
    if (order == ORDER_FLAT_LAST)
        TRY(operand_act(im, 0, &x)); /* reports it */
    canon_set_order(im, order);
    if (rank > 4)
        return report_problem(im, "E1301", "", "Pad of rank %d %s", rank, im->at);
    TRY(place_pads(im, rank, order, &p.pad));
    TRY(read_pad_value(im, &p.pad.value));
    for (int32_t k = 0; k < rank; k++)
        any = any || p.pad.begin[k] != 0 || p.pad.end[k] != 0;
    if (!any)
        return channels != NULL ? result_alias(im, channels) : same_as_input(im, x);
    if (strcmp(mode, "constant") != 0)
        return report_problem(im, "E1206", "pad with zeros (padding_mode='zeros') and train again",
                              "Pad with mode '%s', only constant is supported %s", mode, im->at);
    if (channels != NULL && (p.pad.begin[1] != 0 || p.pad.end[1] != 0))
        return canon_unsupported(im);
    TRY(canon_emit(im, &op_pad, &x, 1, &p));
    if (channels != NULL)
        input_channels_keep(im, channels);
    return 0;
}

static int canon_slice(struct import *im)
{
    union op_params p = {.slice = {.start = {0}}};
    struct slicing z;
    bool found;
    value_id x;

    TRY(attrs_only(im, "starts,ends,axes"));
    TRY(input_channels_slice(im, &found));
    if (found)
        return 0;
    TRY(operand_act(im, 0, &x));
    const struct shape s = *shape_of(im, x);
    TRY(slicing_read(im, &s, &z));
    if (shape_equal(&s, &z.to))
        for (int32_t k = 1;; k++) {
            if (k == s.rank)
                return same_as_input(im, x);
            if (z.step[k] < 0)
                break; /* a reversal */
        }
    if (s.rank > 4)
        return report_problem(im, "E1301", "", "Slice of rank %d %s", s.rank, im->at);
    p.slice.end[0] = p.slice.step[0] = 1; /* the batch stays whole */
    for (int32_t k = 1; k < s.rank; k++) {
        if (z.step[k] < 0 || z.to.dim[k] < 1)
            return report_problem(im, "E1206", "only slices forward that keep something are taken",
                                  "Slice of axis %d is empty or runs backwards %s", k, im->at);
        p.slice.start[k] = z.first[k];
        p.slice.step[k] = z.step[k];
        p.slice.end[k] = z.first[k] + (z.to.dim[k] - 1) * z.step[k] + 1;
    }
    return canon_emit(im, &op_slice, &x, 1, &p);
}

/* ---- Concat, Gather, ReduceMean ------------------------------------------------------------- */

static int canon_concat(struct import *im)
{
    value_id x;

    bool found = false;

    TRY(attrs_only(im, "axis"));
    for (int32_t k = 0; k < im->call->n_in; k++)
        if (operand_has(im->call, k) && im->call->in[k]->kind == ENTRY_SELECTION)
            return mask_concat(im);
    TRY(input_channels_concat(im, &found));
    if (found)
        return 0;
    if (im->call->n_in != 1) {
        TRY(channel_concat(im, &found));
        if (!found)
            TRY(zero_concat(im, &found));
        return found
                   ? 0
                   : report_problem(
                         im, "E1203", "linnet takes residual networks, which add their branches",
                         "unsupported operator 'Concat' %s: only the parts of a masked Relu, and zeros, can be joined",
                         im->at);
    }
    TRY(operand_act(im, 0, &x));
    return same_as_input(im, x);
}

static int canon_gather(struct import *im)
{
    bool found;

    TRY(input_channels_gather(im, &found));
    return found ? 0 : mask_gather(im);
}

/* ---- means ---------------------------------------------------------------------------------- */

/* *over: which axes of the graph's value the node averages. */
static int read_mean(struct import *im, int32_t rank, enum entry_order order, bool over[4])
{
    int64_t axes[SHAPE_MAX_RANK], noop;
    int32_t n, axis;

    TRY(axes_read(im, 1, axes, &n));
    TRY(attrs_int(im, "noop_with_empty_axes", 0, &noop));
    for (int32_t k = 0; k < rank && k < 4; k++)
        over[k] = n <= 0 && noop == 0;
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], rank, &axis));
        if (axis > 3)
            return report_problem(im, "E1301", "", "ReduceMean of rank %d %s", rank, im->at);
        over[graph_axis(order, axis)] = true;
    }
    return 0;
}

/* x is the mean of each row or of each column of the image that n reads. */
static bool is_mean_of_lines(const struct node *n, const struct shape *image)
{
    static const int64_t none[4] = {0};
    const struct pool_params *p = &n->p.pool;

    return n->op == &op_average_pool && p->stride[0] == 1 && p->stride[1] == 1 &&
           memcmp(p->pad, none, sizeof none) == 0 &&
           ((p->kernel[0] == image->dim[2] && p->kernel[1] == 1) ||
            (p->kernel[0] == 1 && p->kernel[1] == image->dim[3]));
}

/* The image whose mean over all positions is the mean of x over what x has left of them: x itself, what x
 * is a view [N,C,H*W] of, what x is the mean of over the width or the height. */
static value_id whole_image(const struct import *im, value_id x)
{
    for (;;) {
        const struct node *n = graph_producer(im->g, x);
        const struct shape *s = shape_of(im, x), *from = n != NULL ? shape_of(im, n->in[0]) : NULL;

        if (n == NULL || from->rank != 4 || from->dim[1] != s->dim[1] ||
            !((n->op == &op_reshape && s->rank == 3) || is_mean_of_lines(n, from)))
            return x;
        x = n->in[0];
    }
}

/* The mean with the axes kept, as a node of its own where more follows. */
static int emit_mean(struct import *im, value_id x, const bool over[4], bool last, value_id *out)
{
    const struct shape s = *shape_of(im, x);
    const bool whole = s.rank == 3 || ((over[2] || s.dim[2] == 1) && (over[3] || s.dim[3] == 1));
    union op_params p = {.pool = {.kernel = {over[2] ? s.dim[2] : 1, over[3] ? s.dim[3] : 1},
                                  .stride = {1, 1},
                                  .dilation = {1, 1}}};
    const struct op *op = whole ? &op_global_average_pool : &op_average_pool;
    const value_id from = whole ? whole_image(im, x) : x;

    if (last)
        return canon_emit(im, op, &from, 1, whole ? NULL : &p);
    return graph_add_node(im->g, op, report_text(im, "%s/Pool", im->call->name), &from, 1,
                          whole ? NULL : &p, report_text(im, "%s/Pool_out", im->call->out->name),
                          out);
}

static int canon_reduce_mean(struct import *im)
{
    bool over[4] = {false};
    struct shape to = {.rank = 0};
    enum entry_order order;
    int64_t keep;
    value_id x, pooled = NO_VALUE;

    TRY(attrs_only(im, "axes,keepdims,noop_with_empty_axes"));
    TRY(attrs_int(im, "keepdims", 1, &keep));
    TRY(operand_act_any(im, 0, &x, &order));
    if (order == ORDER_FLAT_LAST)
        TRY(operand_act(im, 0, &x)); /* reports it */
    const struct shape s = *shape_of(im, x);
    TRY(read_mean(im, s.rank, order, over));
    if (s.rank < 3 || s.rank > 4 || over[0] || over[1] || !(over[2] || over[3]) ||
        shape_of(im, whole_image(im, x))->rank != 4 ||
        (order == ORDER_LAST && keep == 0 && !(over[2] && over[3])))
        return report_problem(im, "E1206",
                              "export it as one mean over height and width, axes 2 and 3",
                              "ReduceMean over other axes than height and width %s", im->at);
    if (s.rank == 4 && keep != 0) {
        canon_set_order(im, order);
        return emit_mean(im, x, over, true, &pooled);
    }
    TRY(emit_mean(im, x, over, false, &pooled));
    for (int32_t k = 0; k < s.rank; k++)
        if (!over[k] || keep != 0)
            to.dim[to.rank++] = over[k] ? 1 : s.dim[k];
    return emit_flat_or_reshape(im, pooled, &to);
}

const struct canon_row canon_shapes[] = {
    {"Concat", canon_concat},
    {"Flatten", canon_flatten},
    {"Gather", canon_gather},
    {"Pad", canon_pad},
    {"ReduceMean", canon_reduce_mean},
    {"Reshape", canon_reshape},
    {"Slice", canon_slice},
    {"Split", input_channels_split},
    {"Squeeze", canon_squeeze},
    {"Transpose", canon_transpose},
    {"Unsqueeze", canon_unsqueeze},
    {NULL, NULL},
};
