/* Sums over axes and products: ReduceMean, Softmax, MatMul, Gemm; and Dropout, which does nothing. */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

/* ---- ReduceMean ----------------------------------------------------------------------------- */

/* over[k]: axis k goes; without axes all do. */
static int reduced_axes(struct import *im, const struct shape *s, bool over[SHAPE_MAX_RANK])
{
    int64_t axes[SHAPE_MAX_RANK], noop;
    int32_t n, axis;

    TRY(axes_read(im, 1, axes, &n));
    TRY(attrs_int(im, "noop_with_empty_axes", 0, &noop));
    for (int32_t k = 0; k < s->rank; k++)
        over[k] = n <= 0 && noop == 0;
    for (int32_t k = 0; k < n; k++) {
        TRY(axis_resolve(im, axes[k], s->rank, &axis));
        over[axis] = true;
    }
    return 0;
}

int fold_reduce_mean(struct import *im)
{
    bool over[SHAPE_MAX_RANK];
    struct shape one, s = {0}; /* the result with and without the axes that go */
    struct constant *x, *c;
    int64_t keep;
    double *sum;

    TRY(fold_floats(im, 0, &x));
    TRY(reduced_axes(im, &x->shape, over));
    TRY(attrs_int(im, "keepdims", 1, &keep));
    one = x->shape;
    for (int32_t k = 0; k < one.rank; k++) {
        one.dim[k] = over[k] ? 1 : one.dim[k];
        if (!over[k] || keep != 0)
            s.dim[s.rank++] = one.dim[k];
    }
    TRY(constant_new(im, x->type, &s, &c));
    TRY(constant_room(im, c->count * (int64_t)sizeof *sum));
    if ((sum = arena_array(im->arena, (size_t)c->count, sizeof *sum)) == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < x->count; k++)
        sum[broadcast_index(&x->shape, k, &one)] += (double)x->f[k];
    for (int64_t k = 0; k < c->count; k++)
        c->f[k] = (float)(sum[k] * (double)c->count / (double)x->count);
    return fold_finish(im, c);
}

/* ---- Softmax -------------------------------------------------------------------------------- */

/* One line of n numbers, `step` apart. */
static void softmax_line(const float *x, int64_t n, int64_t step, bool logarithm, float *y)
{
    double top = -INFINITY, sum = 0;

    for (int64_t k = 0; k < n; k++)
        top = fmax(top, (double)x[k * step]);
    for (int64_t k = 0; k < n; k++)
        sum += exp((double)x[k * step] - top);
    for (int64_t k = 0; k < n; k++) {
        const double z = (double)x[k * step] - top;

        y[k * step] = (float)(logarithm ? z - log(sum) : exp(z) / sum);
    }
}

/* Before opset 13 the axes from `axis` on are one line. */
int fold_softmax(struct import *im)
{
    const bool logarithm = strcmp(im->call->type, "LogSoftmax") == 0, flat = im->opset < 13;
    struct constant *x, *c;
    int64_t a;
    int32_t axis;

    TRY(fold_floats(im, 0, &x));
    TRY(attrs_int(im, "axis", flat ? 1 : -1, &a));
    TRY(axis_resolve(im, a, x->shape.rank, &axis));
    TRY(constant_new(im, x->type, &x->shape, &c));
    const int64_t behind = fold_inner_size(&x->shape, axis), step = flat ? 1 : behind;
    const int64_t n = x->shape.dim[axis] * (flat ? behind : 1);
    for (int64_t line = 0; line < x->count / n; line++) {
        const int64_t at = line / step * n * step + line % step;

        softmax_line(x->f + at, n, step, logarithm, c->f + at);
    }
    return fold_finish(im, c);
}

/* ---- products ------------------------------------------------------------------------------- */

struct factor { /* element (i, j) is f[i * row + j * column] */
    const float *f;
    int64_t row, column;
};

/* out [m,n] = A [m,k] B [k,n] */
static void multiply(struct factor a, struct factor b, int64_t m, int64_t n, int64_t k, float *out)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;

            for (int64_t p = 0; p < k; p++)
                sum +=
                    (double)a.f[i * a.row + p * a.column] * (double)b.f[p * b.row + j * b.column];
            out[i * n + j] = (float)sum;
        }
}

/* The axes before the last two; a vector is a matrix with one row or column. */
static struct shape batch_axes(const struct constant *c)
{
    struct shape s = c->shape;

    s.rank = s.rank > 2 ? s.rank - 2 : 0;
    return s;
}

int fold_matmul(struct import *im)
{
    struct constant *a, *b, *c;
    struct shape s;

    TRY(fold_floats(im, 0, &a));
    TRY(fold_floats(im, 1, &b));
    const int32_t ra = a->shape.rank, rb = b->shape.rank;
    if (ra < 1 || rb < 1)
        return report_wrong(im, "a number is no matrix");
    const int64_t k = a->shape.dim[ra - 1], m = ra > 1 ? a->shape.dim[ra - 2] : 1;
    const int64_t n = rb > 1 ? b->shape.dim[rb - 1] : 1;
    if (b->shape.dim[rb > 1 ? rb - 2 : 0] != k)
        return report_wrong(im, "columns of the first input are not rows of the second");
    const struct shape batch_a = batch_axes(a), batch_b = batch_axes(b);
    TRY(broadcast_shape(im, &batch_a, &batch_b, &s));
    const struct shape batch = s;
    if (ra > 1)
        s.dim[s.rank++] = m;
    if (rb > 1)
        s.dim[s.rank++] = n;
    TRY(constant_new(im, a->type, &s, &c));
    TRY(fold_work(im, c->count, k, 1));
    for (int64_t i = 0; i < c->count / (m * n); i++)
        multiply((struct factor){a->f + broadcast_index(&batch, i, &batch_a) * m * k, k, 1},
                 (struct factor){b->f + broadcast_index(&batch, i, &batch_b) * k * n, n, 1}, m, n,
                 k, c->f + i * m * n);
    return fold_finish(im, c);
}

/* c = alpha c + beta C, which broadcasts to c. */
static int add_bias(struct import *im, float alpha, struct constant *c)
{
    struct constant *bias = NULL;
    float beta;
    struct shape s;

    TRY(attrs_float(im, "beta", 1, &beta));
    if (operand_has(im->call, 2)) {
        TRY(fold_floats(im, 2, &bias));
        TRY(broadcast_shape(im, &c->shape, &bias->shape, &s));
        if (!shape_equal(&s, &c->shape))
            return report_wrong(im, "the third input does not broadcast to the product");
    }
    for (int64_t k = 0; k < c->count; k++) {
        c->f[k] *= alpha;
        if (bias != NULL)
            c->f[k] += beta * bias->f[broadcast_index(&c->shape, k, &bias->shape)];
    }
    return 0;
}

int fold_gemm(struct import *im)
{
    struct constant *a, *b, *c;
    int64_t ta, tb;
    float alpha;

    TRY(fold_floats(im, 0, &a));
    TRY(fold_floats(im, 1, &b));
    TRY(attrs_int(im, "transA", 0, &ta));
    TRY(attrs_int(im, "transB", 0, &tb));
    TRY(attrs_float(im, "alpha", 1, &alpha));
    if (a->shape.rank != 2 || b->shape.rank != 2)
        return report_wrong(im, "the inputs are no matrices");
    const int64_t m = a->shape.dim[ta != 0], k = a->shape.dim[ta == 0];
    const int64_t n = b->shape.dim[tb == 0], columns_a = a->shape.dim[1];
    if (b->shape.dim[tb != 0] != k)
        return report_wrong(im, "columns of the first input are not rows of the second");
    TRY(constant_new(im, a->type, &(struct shape){.rank = 2, .dim = {m, n}}, &c));
    TRY(fold_work(im, m, n, k));
    multiply((struct factor){a->f, ta ? 1 : columns_a, ta ? columns_a : 1},
             (struct factor){b->f, tb ? 1 : n, tb ? k : 1}, m, n, k, c->f);
    TRY(add_bias(im, alpha, c));
    return fold_finish(im, c);
}

/* ---- Dropout -------------------------------------------------------------------------------- */

int fold_dropout(struct import *im)
{
    struct constant *x, *training, *mask;

    TRY(operand_constant(im, 0, &x));
    if (operand_has(im->call, 2)) {
        TRY(operand_constant(im, 2, &training));
        if (training->i != NULL && training->count == 1 && training->i[0] != 0)
            TRY(report_warning(im, "Dropout in training mode was removed %s", im->at));
    }
    if (im->call->proto->n_output > 1) {
        TRY(constant_new(im, T(BOOL), &x->shape, &mask));
        for (int64_t k = 0; k < mask->count; k++)
            mask->i[k] = 1;
        fold_finish_output(im, 1, mask);
    }
    return fold_identity(im);
}
