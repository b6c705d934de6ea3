/*
 * Constant folding: the shape arithmetic that exporters leave around Reshape, Pad and Slice, and
 * what they do to weights and masks before use (Transpose, Cast, 1 - m).
 *
 * One integer may be unknown, the size of the batch. It is carried as a flag on the element that
 * holds it and may be moved, multiplied by 1, added to 0 and compared with numbers below 1;
 * anything else is an error that names the node which pins the batch.
 *
 * This file has what all of them share and the table; one file a kind:
 *
 *     source.c  from attributes and shapes       arith.c  element by element
 *     move.c    elements in another place        math.c   sums over axes, products
 *     pool.c    windows
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

void fold_finish_output(struct import *im, size_t k, struct constant *c)
{
    struct entry *e = names_find(im, im->call->proto->output[k]);

    if (e == NULL || e->kind != ENTRY_NONE)
        return;
    c->name = e->name;
    e->kind = ENTRY_CONSTANT;
    e->constant = c;
}

int fold_work(struct import *im, int64_t a, int64_t b, int64_t c)
{
    int64_t n;

    if (__builtin_mul_overflow(a, b, &n) || __builtin_mul_overflow(n, c, &n))
        n = INT64_MAX;
    return constant_room(im, n / 8);
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

int fold_read_dims(struct import *im, int32_t i, struct shape *s)
{
    int32_t n;

    TRY(operand_ints(im, i, s->dim, NULL, SHAPE_MAX_RANK, &n));
    s->rank = n;
    for (int32_t k = 0; k < n; k++)
        if (s->dim[k] < 0)
            return report_wrong(im, "a dimension is negative");
    return 0;
}

/* ---- table ---------------------------------------------------------------------------------- */

static const struct {
    const char *type;
    int32_t n_in; /* at least so many inputs must be there */
    fold_fn *fn;
} fold_table[] = {
    {"Add", 2, fold_arith},
    {"And", 2, fold_arith},
    {"AveragePool", 1, fold_pool},
    {"Cast", 1, fold_cast},
    {"CastLike", 2, fold_cast_like},
    {"Ceil", 1, fold_unary},
    {"Clip", 1, fold_clip},
    {"Concat", 1, fold_concat},
    {"Constant", 0, fold_constant},
    {"ConstantOfShape", 1, fold_constant_of_shape},
    {"Div", 2, fold_arith},
    {"Dropout", 1, fold_dropout},
    {"Equal", 2, fold_arith},
    {"Expand", 2, fold_expand},
    {"Flatten", 1, fold_flatten},
    {"Floor", 1, fold_unary},
    {"Gather", 2, fold_gather},
    {"Gemm", 2, fold_gemm},
    {"GlobalAveragePool", 1, fold_pool},
    {"GlobalMaxPool", 1, fold_pool},
    {"Greater", 2, fold_arith},
    {"GreaterOrEqual", 2, fold_arith},
    {"Identity", 1, fold_identity},
    {"Less", 2, fold_arith},
    {"LessOrEqual", 2, fold_arith},
    {"LogSoftmax", 1, fold_softmax},
    {"MatMul", 2, fold_matmul},
    {"MaxPool", 1, fold_pool},
    {"Mul", 2, fold_arith},
    {"Neg", 1, fold_unary},
    {"Not", 1, fold_unary},
    {"Or", 2, fold_arith},
    {"PRelu", 2, fold_prelu},
    {"Pad", 1, fold_pad},
    {"Range", 3, fold_range},
    {"ReduceMean", 1, fold_reduce_mean},
    {"Reshape", 2, fold_reshape},
    {"Shape", 1, fold_shape},
    {"Size", 1, fold_size},
    {"Slice", 1, fold_slice},
    {"Softmax", 1, fold_softmax},
    {"Sqrt", 1, fold_unary},
    {"Squeeze", 1, fold_squeeze},
    {"Sub", 2, fold_arith},
    {"Transpose", 1, fold_transpose},
    {"Unsqueeze", 1, fold_unsqueeze},
    {"Where", 3, fold_where},
};

static int32_t fold_row(const char *type)
{
    for (size_t k = 0; k < sizeof fold_table / sizeof *fold_table; k++)
        if (strcmp(fold_table[k].type, type) == 0)
            return (int32_t)k;
    return -1;
}

bool fold_knows(const char *type)
{
    return fold_row(type) >= 0;
}

bool fold_can(const struct call *c)
{
    const int32_t row = fold_row(c->type);

    if (row < 0)
        return false;
    if (fold_table[row].fn == fold_shape)
        return operand_has(c, 0);
    if (fold_table[row].fn == fold_cast_like) /* the other input gives its type only */
        return operand_has(c, 0) && c->in[0]->kind == ENTRY_CONSTANT;
    for (int32_t k = 0; k < c->n_in; k++)
        if (c->in[k] != NULL && c->in[k]->kind != ENTRY_CONSTANT)
            return false;
    return c->n_in > 0 || fold_table[row].n_in == 0;
}

int fold_node(struct import *im)
{
    const int32_t row = fold_row(im->call->type);

    for (int32_t k = 0; k < fold_table[row].n_in; k++)
        if (!operand_has(im->call, k))
            return report_problem(im, "E1209", "", "input %d is missing %s", k, im->at);
    return fold_table[row].fn(im);
}
