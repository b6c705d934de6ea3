/*
 * Channels of zeros beside those of a value, as shortcuts without parameters make them:
 *
 *     Concat(x, Mul(x, 0)) and Concat(zeros, x, zeros) on the channels   ->  Pad(x)
 *
 * Zeros are constants or what a Mul with a zero made; the Mul stays behind without readers and is
 * pruned at the end. Constants fit a file of one fixed image only, since a Concat does not broadcast.
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

static bool is_zero_product(const struct graph *g, value_id v)
{
    const struct node *n = g->value[v].producer >= 0 ? &g->node[g->value[v].producer] : NULL;

    for (int i = 0; n != NULL && n->op == &op_mul && i < 2; i++) {
        const struct value *c = op_in(g, n, i);

        if (!value_is_activation(c) && all_zero(c->data, shape_elems(&c->shape)))
            return true;
    }
    return false;
}

struct part {
    struct shape shape; /* [N,C,H,W] */
    bool is_zero;
};

/* Input k of the Concat. *fits false: it is something else. */
static int read_part(struct import *im, int32_t k, struct part *p, bool *fits)
{
    const struct entry *e = operand_has(im->call, k) ? im->call->in[k] : NULL;
    struct constant *c;

    *fits = false;
    if (e == NULL || (e->kind != ENTRY_CONSTANT && e->kind != ENTRY_ACT) || e->order != ORDER_SAME)
        return 0;
    if (e->kind == ENTRY_ACT) {
        p->shape = im->g->value[e->act].shape;
        p->is_zero = is_zero_product(im->g, e->act);
    } else {
        TRY(operand_constant(im, k, &c));
        p->shape = c->shape;
        p->is_zero = c->f != NULL && all_zero(c->f, c->count);
        if (!p->is_zero || im->batch != 1 || c->shape.dim[0] != 1)
            return 0;
    }
    *fits = p->shape.rank == 4;
    return 0;
}

static bool same_map(const struct shape *a, const struct shape *b)
{
    return a->dim[2] == b->dim[2] && a->dim[3] == b->dim[3];
}

int zero_concat(struct import *im, bool *found)
{
    union op_params p = {.pad = {.value = 0}};
    int32_t axis, x = -1; /* the input that is not zero */
    struct part part;
    struct shape map = {0};
    int64_t a;
    bool fits;

    *found = false;
    TRY(attrs_int(im, "axis", 0, &a));
    for (int32_t k = 0; k < im->call->n_in; k++) {
        TRY(read_part(im, k, &part, &fits));
        if (!fits || (k > 0 && !same_map(&part.shape, &map)) || (!part.is_zero && x >= 0))
            return 0;
        map = part.shape;
        if (!part.is_zero)
            x = k;
        else
            *(x < 0 ? &p.pad.begin[1] : &p.pad.end[1]) += part.shape.dim[1];
    }
    if (x < 0)
        return 0;
    TRY(axis_resolve(im, a, map.rank, &axis));
    if (axis != 1)
        return 0;
    *found = true;
    return canon_emit(im, &op_pad, &im->call->in[x]->act, 1, &p);
}
