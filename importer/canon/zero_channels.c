/*
 * Channels of zeros beside those of a value, as shortcuts without parameters make them:
 *
 *     Concat(x, zeros), Concat(zeros, x, zeros) on the channels   ->  Pad(x)
 *
 * Zeros are what zeros_like, new_zeros, zeros, full and expand become, a constant that stands for all
 * images (constant.images); a constant of the file's own fixed batch; or what x * 0 and x - x made, also
 * after a Slice or a Pad. Those nodes stay behind without readers and are pruned at the end.
 */
#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

static bool all_zero(const float *f, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        if (f[k] != 0)
            return false;
    return n > 0;
}

static bool is_zero_value(const struct graph *g, value_id v)
{
    for (;;) {
        const struct node *n = graph_producer(g, v);

        if (n == NULL)
            return false;
        if (n->op == &op_sub && n->in[0] == n->in[1])
            return true;
        for (int i = 0; n->op == &op_mul && i < 2; i++) {
            const struct value *c = op_in(g, n, i);

            if (!value_is_activation(c) && all_zero(c->data, shape_elems(&c->shape)))
                return true;
        }
        if (n->op != &op_slice && !(n->op == &op_pad && n->p.pad.value == 0))
            return false;
        v = n->in[0];
    }
}

struct part {
    struct shape shape; /* in the file's order, the first dim aside */
    bool is_zero;
};

/* Input k of the Concat, `order` is that of its activations. *fits false: it is something else. */
static int read_part(struct import *im, int32_t k, enum entry_order order, struct part *p,
                     bool *fits)
{
    const struct entry *e = operand_has(im->call, k) ? im->call->in[k] : NULL;
    struct constant *c;

    *fits = false;
    if (e == NULL || (e->kind != ENTRY_CONSTANT && e->kind != ENTRY_ACT))
        return 0;
    if (e->kind == ENTRY_ACT) {
        if (e->order != order || im->g->value[e->act].shape.rank != 4)
            return 0;
        p->shape = file_shape(im, e->act, order);
        p->is_zero = is_zero_value(im->g, e->act);
        *fits = true;
        return 0;
    }
    TRY(operand_constant(im, k, &c));
    p->shape = c->shape;
    p->is_zero = canon_is_all(c, 0);
    *fits = p->is_zero && c->shape.rank == 4 &&
            (c->images || (im->batch > 0 && c->shape.dim[0] == im->batch));
    return 0;
}

/* The order of the first activation. False if it is none of an image. */
static bool find_order(const struct call *c, enum entry_order *order)
{
    for (int32_t k = 0; k < c->n_in; k++)
        if (operand_has(c, k) && c->in[k]->kind == ENTRY_ACT) {
            *order = c->in[k]->order;
            return *order != ORDER_FLAT_LAST;
        }
    return false;
}

static bool same_map(const struct shape *a, const struct shape *b, int32_t channels)
{
    for (int32_t d = 1; d < 4; d++)
        if (d != channels && a->dim[d] != b->dim[d])
            return false;
    return true;
}

int zero_concat(struct import *im, bool *found)
{
    union op_params p = {.pad = {.value = 0}};
    int32_t axis, x = -1; /* the input that is not zero */
    enum entry_order order = ORDER_SAME;
    struct part part;
    struct shape map = {0};
    int64_t a;
    bool fits;

    *found = false;
    if (!find_order(im->call, &order))
        return 0;
    const int32_t channels = order == ORDER_LAST ? 3 : 1;
    TRY(attrs_int(im, "axis", 0, &a));
    for (int32_t k = 0; k < im->call->n_in; k++) {
        TRY(read_part(im, k, order, &part, &fits));
        if (!fits || (k > 0 && !same_map(&part.shape, &map, channels)) || (!part.is_zero && x >= 0))
            return 0;
        map = part.shape;
        if (!part.is_zero)
            x = k;
        else
            *(x < 0 ? &p.pad.begin[1] : &p.pad.end[1]) += part.shape.dim[channels];
    }
    if (x < 0)
        return 0;
    TRY(axis_resolve(im, a, 4, &axis));
    if (axis != channels)
        return 0;
    *found = true;
    canon_set_order(im, order);
    return canon_emit(im, &op_pad, &im->call->in[x]->act, 1, &p);
}
