/*
 * Constant folding: the shape arithmetic that exporters leave around Reshape, Pad and Slice, and
 * what they do to weights and masks before use (Transpose, Cast, 1 - m).
 *
 * One integer may be unknown, the size of the batch. It is carried as a flag on the element that
 * holds it and may be moved, multiplied by 1, added to 0 and compared with numbers below 1;
 * anything else is an error that names the node which pins the batch.
 *
 * A tensor may hold one image that stands for all of them, as zeros_like makes it: constant.images. Its
 * dim 0 is 1 here. Operators that leave dim 0 alone take it, others refuse.
 *
 * This file has what all of them share and the table; one file a kind:
 *
 *     source.c    from attributes and shapes        elements.c  element by element
 *     move.c      elements in another place         reduce.c    sums over axes, products
 *
 * Every result has its own memory; sizes are bounded by constant_room.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

bool fold_is_batch(const struct constant *c, int64_t k)
{
    return c->batch != NULL && c->batch[k] != 0;
}

int fold_set_batch(struct import *im, struct constant *c, int64_t k)
{
    if (c->batch == NULL) {
        TRY(constant_room(im, c->count));
        if ((c->batch = arena_array(im->arena, (size_t)c->count, sizeof *c->batch)) == NULL)
            return ERR_NOMEM;
    }
    c->batch[k] = 1;
    return 0;
}

/* to[j] = from[k], which have the same kind of numbers. */
int fold_copy_element(struct import *im, struct constant *to, int64_t j,
                      const struct constant *from, int64_t k)
{
    if (to->f != NULL) {
        to->f[j] = from->f[k];
        return 0;
    }
    to->i[j] = from->i[k];
    return fold_is_batch(from, k) ? fold_set_batch(im, to, j) : 0;
}

int fold_finish(struct import *im, struct constant *c)
{
    c->name = im->call->out->name;
    im->call->out->kind = ENTRY_CONSTANT;
    im->call->out->constant = c;
    return 0;
}

int fold_floats(struct import *im, int32_t i, struct constant **out)
{
    TRY(operand_constant(im, i, out));
    if ((*out)->f == NULL)
        return report_wrong(im, "an input is of no floating type");
    return (*out)->count > 0 ? 0 : report_wrong(im, "an input is empty");
}

int64_t fold_inner_size(const struct shape *s, int32_t k)
{
    int64_t n = 1;

    for (int32_t d = k + 1; d < s->rank; d++)
        n *= s->dim[d];
    return n;
}

int fold_read_dims(struct import *im, int32_t i, struct shape *s, bool *images)
{
    uint8_t batch[SHAPE_MAX_RANK];
    int32_t n;

    TRY(operand_ints(im, i, s->dim, batch, SHAPE_MAX_RANK, &n));
    s->rank = n;
    *images = n > 0 && batch[0];
    for (int32_t k = 0; k < n; k++) {
        if (batch[k] && k > 0)
            return report_pins_batch(im);
        s->dim[k] = batch[k] ? 1 : s->dim[k];
        if (s->dim[k] < 0)
            return report_wrong(im, "a dimension is negative");
    }
    return 0;
}

/* ---- table ---------------------------------------------------------------------------------- */

static const struct fold_rule rules[] = {
    {"BatchNormalization", 5, false, fold_batchnorm},
    {"Cast", 1, true, fold_cast},
    {"CastLike", 2, true, fold_cast_like},
    {"Clip", 1, true, fold_clip},
    {"Concat", 1, true, fold_concat},
    {"Constant", 0, false, fold_constant},
    {"ConstantOfShape", 1, false, fold_constant_of_shape},
    {"Expand", 2, true, fold_expand},
    {"Flatten", 1, false, fold_flatten},
    {"Gather", 2, false, fold_gather},
    {"Identity", 1, true, fold_identity},
    {"MatMul", 2, false, fold_matmul},
    {"Pad", 1, false, fold_pad},
    {"Range", 3, false, fold_range},
    {"Reshape", 2, false, fold_reshape},
    {"Shape", 1, true, fold_shape},
    {"Size", 1, false, fold_size},
    {"Slice", 1, true, fold_slice},
    {"Squeeze", 1, false, fold_squeeze},
    {"Transpose", 1, false, fold_transpose},
    {"Unsqueeze", 1, false, fold_unsqueeze},
    {"Where", 3, true, fold_where},
};

static const struct fold_rule *find_rule(const char *type)
{
    const struct fold_rule *r = fold_element_rule(type);

    for (size_t k = 0; k < sizeof rules / sizeof *rules && r == NULL; k++)
        if (strcmp(rules[k].type, type) == 0)
            r = &rules[k];
    return r != NULL ? r : fold_reduce_rule(type);
}

bool fold_knows(const char *type)
{
    return find_rule(type) != NULL;
}

bool fold_can(const struct call *c)
{
    const struct fold_rule *r = find_rule(c->type);

    if (r == NULL)
        return false;
    if (r->fn == fold_shape)
        return operand_has(c, 0);
    if (r->fn == fold_cast_like) /* the other input gives its type only */
        return operand_has(c, 0) && c->in[0]->kind == ENTRY_CONSTANT;
    for (int32_t k = 0; k < c->n_in; k++)
        if (c->in[k] != NULL && c->in[k]->kind != ENTRY_CONSTANT)
            return false;
    return c->n_in > 0 || r->n_in == 0;
}

/* An input stands for all images. *rank: the largest of those. */
static bool has_images(const struct call *c, int32_t *rank)
{
    bool any = false;

    *rank = 0;
    for (int32_t k = 0; k < c->n_in; k++) {
        const struct entry *e = c->in[k];

        if (e == NULL || e->kind != ENTRY_CONSTANT || !e->constant->images)
            continue;
        any = true;
        *rank = e->constant->shape.rank > *rank ? e->constant->shape.rank : *rank;
    }
    return any;
}

/* The result stands for all images as its inputs did: dim 0 is still theirs. */
static int keep_images(struct import *im, int32_t rank)
{
    struct constant *c = im->call->out->constant;

    if (c->shape.rank != rank || c->shape.dim[0] != 1)
        return report_pins_batch(im);
    c->images = true;
    return 0;
}

int fold_node(struct import *im)
{
    const struct fold_rule *r = find_rule(im->call->type);
    int32_t rank;

    for (int32_t k = 0; k < r->n_in; k++)
        if (!operand_has(im->call, k))
            return operand_missing(im, k);
    const bool images = has_images(im->call, &rank);
    if (images && !r->images)
        return report_pins_batch(im);
    TRY(r->fn(im));
    return images && r->fn != fold_shape ? keep_images(im, rank) : 0;
}
