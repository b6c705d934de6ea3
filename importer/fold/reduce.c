/* Sums and other reductions over axes, BatchNormalization, MatMul. */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

/* ---- reductions ----------------------------------------------------------------------------- */

typedef double reduce_step(double sum, double x);
typedef double reduce_end(double sum, double n);

#define F(name, argument, expression)                                                              \
    static double name(double sum, double argument)                                                \
    {                                                                                              \
        (void)argument;                                                                            \
        return expression;                                                                         \
    }
F(add, x, sum + x)
F(add_abs, x, sum + fabs(x))
F(add_square, x, sum + x * x)
F(multiply_by, x, sum *x)
F(largest, x, isnan(sum) || sum > x ? sum : x)
F(smallest, x, isnan(sum) || sum < x ? sum : x)
F(itself, n, sum)
F(mean, n, sum / n)
F(root, n, sqrt(sum))
F(logarithm, n, log(sum))
#undef F

/* log(exp(sum) + exp(x)) */
static double add_exp(double sum, double x)
{
    const double high = fmax(sum, x), low = fmin(sum, x);

    return isinf(low) && low < 0 ? high : high + log1p(exp(low - high));
}

static const struct reduction {
    const char *type;
    double first;
    reduce_step *step;
    reduce_end *end;
} reductions[] = {
    {"ReduceL1", 0, add_abs, itself},
    {"ReduceL2", 0, add_square, root},
    {"ReduceLogSum", 0, add, logarithm},
    {"ReduceLogSumExp", -INFINITY, add_exp, itself},
    {"ReduceMax", -INFINITY, largest, itself},
    {"ReduceMean", 0, add, mean},
    {"ReduceMin", INFINITY, smallest, itself},
    {"ReduceProd", 1, multiply_by, itself},
    {"ReduceSum", 0, add, itself},
    {"ReduceSumSquare", 0, add_square, itself},
};

static const struct reduction *find_reduction(const char *type)
{
    for (size_t k = 0; k < sizeof reductions / sizeof *reductions; k++)
        if (strcmp(reductions[k].type, type) == 0)
            return &reductions[k];
    return NULL;
}

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

/* What the reduction makes of x; integers must come out exact, below 2^53. */
static int reduce(struct import *im, const struct reduction *r, const struct constant *x,
                  const struct shape *one, struct constant *c)
{
    double *sum;

    TRY(constant_room(im, c->count * (int64_t)sizeof *sum));
    if ((sum = arena_array(im->arena, (size_t)c->count, sizeof *sum)) == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < c->count; k++)
        sum[k] = r->first;
    for (int64_t k = 0; k < x->count; k++) {
        double *s = &sum[broadcast_index(&x->shape, k, one)];

        if (fold_is_batch(x, k))
            return report_pins_batch(im);
        *s = r->step(*s, x->f != NULL ? (double)x->f[k] : (double)x->i[k]);
    }
    for (int64_t k = 0; k < c->count; k++) {
        const double y = r->end(sum[k], (double)x->count / (double)c->count); /* maybe of none */

        if (c->f != NULL)
            c->f[k] = (float)y;
        else if (fabs(y) < 0x1p53)
            c->i[k] = (int64_t)y;
        else
            return report_wrong(im, "integer overflow");
    }
    return 0;
}

static int fold_reduce(struct import *im)
{
    bool over[SHAPE_MAX_RANK];
    struct shape one, s = {0}; /* the result with and without the axes that go */
    struct constant *x, *c;
    int64_t keep;

    TRY(attrs_only(im, "axes,keepdims,noop_with_empty_axes"));
    TRY(operand_constant(im, 0, &x));
    TRY(reduced_axes(im, &x->shape, over));
    TRY(attrs_int(im, "keepdims", 1, &keep));
    one = x->shape;
    for (int32_t k = 0; k < one.rank; k++) {
        one.dim[k] = over[k] ? 1 : one.dim[k];
        if (!over[k] || keep != 0)
            s.dim[s.rank++] = one.dim[k];
    }
    TRY(constant_new(im, x->type, &s, &c));
    TRY(reduce(im, find_reduction(im->call->type), x, &one, c));
    return fold_finish(im, c);
}

const struct fold_rule *fold_reduce_rule(const char *type)
{
    static const struct fold_rule rule = {"", 1, false, fold_reduce};

    return find_reduction(type) != NULL ? &rule : NULL;
}

/* ---- BatchNormalization --------------------------------------------------------------------- */

/* Mean and population variance of channel c of x [A,C,B]. */
static void moments(const struct constant *x, int64_t c, double *m, double *v)
{
    const int64_t channels = x->shape.dim[1], b = fold_inner_size(&x->shape, 1);
    const int64_t n = x->count / channels;
    double sum = 0, squares = 0;

    for (int64_t k = 0; k < n; k++)
        sum += (double)x->f[(k / b * channels + c) * b + k % b];
    *m = sum / (double)n;
    for (int64_t k = 0; k < n; k++) {
        const double d = (double)x->f[(k / b * channels + c) * b + k % b] - *m;

        squares += d * d;
    }
    *v = squares / (double)n;
}

/* Standardised weights of networks without normalisers come as a BatchNormalization in training mode,
 * whose statistics are those of the weight itself. */
static int uses_own_moments(struct import *im, bool *own)
{
    int64_t mode;

    TRY(attrs_int(im, "training_mode", 0, &mode));
    *own = mode != 0 || (im->opset < 14 && im->call->proto->n_output > 1);
    return 0;
}

int fold_batchnorm(struct import *im)
{
    struct constant *in[5], *y;
    float eps;
    bool own;

    TRY(attrs_only(im, "epsilon,momentum,spatial,training_mode,is_test,consumed_inputs"));
    TRY(attrs_float(im, "epsilon", 1e-5f, &eps));
    TRY(uses_own_moments(im, &own));
    for (int32_t i = 0; i < 5; i++)
        TRY(fold_floats(im, i, &in[i]));
    const struct constant *x = in[0];
    for (int32_t i = 0; i < 5; i++)
        if (x->shape.rank < 2 || (i > 0 && in[i]->count != x->shape.dim[1]))
            return report_wrong(im, "its inputs are not one number for each channel");
    const int64_t channels = x->shape.dim[1], b = fold_inner_size(&x->shape, 1);
    TRY(constant_new(im, x->type, &x->shape, &y));
    for (int64_t c = 0; c < channels; c++) {
        double m = (double)in[3]->f[c], v = (double)in[4]->f[c];

        if (own)
            moments(x, c, &m, &v);
        const double scale = (double)in[1]->f[c] / sqrt(v + (double)eps);
        for (int64_t k = 0; k < x->count / channels; k++) {
            const int64_t at = (k / b * channels + c) * b + k % b;

            y->f[at] = (float)(((double)x->f[at] - m) * scale + (double)in[2]->f[c]);
        }
    }
    return fold_finish(im, y);
}

/* ---- MatMul --------------------------------------------------------------------------------- */

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

/* Every multiplication pays, as every number does. */
static int pay_products(struct import *im, int64_t n, int64_t k)
{
    int64_t all;

    if (__builtin_mul_overflow(n, k, &all))
        all = INT64_MAX;
    return constant_room(im, all / 8);
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
    TRY(pay_products(im, c->count, k));
    for (int64_t i = 0; i < c->count / (m * n); i++)
        multiply((struct factor){a->f + broadcast_index(&batch, i, &batch_a) * m * k, k, 1},
                 (struct factor){b->f + broadcast_index(&batch, i, &batch_b) * k * n, n, 1}, m, n,
                 k, c->f + i * m * n);
    return fold_finish(im, c);
}
