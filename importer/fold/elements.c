/*
 * Element by element, with broadcasting: Cast, Expand, Where, Clip, and every standard operator of one, two
 * or many inputs that is a function of numbers; a row of a table each. Floats are computed in double and
 * rounded once.
 */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/fold/fold.h"

#define T(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

/* ---- element types -------------------------------------------------------------------------- */

/* The nearest number of a 16-bit type, ties to even; float32 holds it. Beyond float16 is infinite. */
static float round_to(int64_t type, float v)
{
    const int bits = type == T(FLOAT16) ? 11 : 8, lowest = type == T(FLOAT16) ? -14 : -126;

    if ((type != T(FLOAT16) && type != T(BFLOAT16)) || !isfinite(v) || v == 0)
        return v;
    const int e = ilogbf(v) < lowest ? lowest : ilogbf(v);
    const double ulp = ldexp(1, e + 1 - bits), near = nearbyint((double)v / ulp) * ulp;

    return type == T(FLOAT16) && fabs(near) > 65504 ? copysignf(INFINITY, v) : (float)near;
}

static int cast_to(struct import *im, int64_t to)
{
    struct constant *x, *c;

    TRY(operand_constant(im, 0, &x));
    if (to <= 0 || to > T(BFLOAT16) || to == T(STRING) || to == T(COMPLEX64) || to == T(COMPLEX128))
        return report_wrong(im, "the target type is not supported");
    TRY(constant_new(im, (int32_t)to, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (fold_is_batch(x, k) && c->f != NULL)
            return report_pins_batch(im);
        if (c->f != NULL)
            c->f[k] = round_to(to, x->f != NULL ? x->f[k] : (float)x->i[k]);
        else if (x->f == NULL)
            TRY(fold_copy_element(im, c, k, x, k));
        else if (!(fabsf(x->f[k]) < 0x1p62f))
            return report_wrong(im, "a number is too large for an integer");
        else
            c->i[k] = (int64_t)x->f[k];
        if (to == T(BOOL))
            c->i[k] = x->f != NULL ? x->f[k] != 0 : x->i[k] != 0;
    }
    return fold_finish(im, c);
}

int fold_cast(struct import *im)
{
    int64_t to;

    TRY(attrs_int(im, "to", 0, &to));
    return cast_to(im, to);
}

int fold_cast_like(struct import *im)
{
    const struct entry *like = im->call->in[1];

    return cast_to(im, like->kind == ENTRY_CONSTANT ? like->constant->type : T(FLOAT));
}

/* ---- broadcasting --------------------------------------------------------------------------- */

int fold_expand(struct import *im)
{
    struct constant *x, *c;
    struct shape target = {0}, s;
    bool images;

    TRY(operand_constant(im, 0, &x));
    TRY(fold_read_dims(im, 1, &target, &images));
    TRY(broadcast_shape(im, &x->shape, &target, &s));
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++)
        TRY(fold_copy_element(im, c, k, x, broadcast_index(&s, k, &x->shape)));
    c->images = images && s.rank == target.rank && s.dim[0] == 1;
    return images && !c->images ? report_pins_batch(im) : fold_finish(im, c);
}

int fold_where(struct import *im)
{
    struct constant *m, *a, *b, *c;
    struct shape s;

    TRY(operand_constant(im, 0, &m));
    TRY(operand_constant(im, 1, &a));
    TRY(operand_constant(im, 2, &b));
    if (m->i == NULL || m->batch != NULL || (a->f != NULL) != (b->f != NULL))
        return report_wrong(im, "needs a condition and two inputs of one type");
    TRY(broadcast_shape(im, &a->shape, &b->shape, &s));
    TRY(broadcast_shape(im, &s, &m->shape, &s));
    TRY(constant_new(im, a->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        const struct constant *x = m->i[broadcast_index(&s, k, &m->shape)] ? a : b;

        TRY(fold_copy_element(im, c, k, x, broadcast_index(&s, k, &x->shape)));
    }
    return fold_finish(im, c);
}

/* ---- two inputs ----------------------------------------------------------------------------- */

typedef double float_2(double a, double b);
typedef bool int_2(int64_t a, int64_t b, int64_t *y); /* false: overflow, or nothing defined */

#define F(name, expression)                                                                        \
    static double f_##name(double a, double b)                                                     \
    {                                                                                              \
        return expression;                                                                         \
    }
F(add, a + b)
F(sub, a - b)
F(mul, a *b)
F(div, a / b)
F(equal, a == b)
F(less, a < b)
F(less_equal, a <= b)
F(greater, a > b)
F(greater_equal, a >= b)
F(prelu, a < 0 ? b * a : a)
F(min, isnan(a) || a < b ? a : b) /* NaN if one of them is */
F(max, isnan(a) || a > b ? a : b)
#undef F
#define I(name, ok, expression)                                                                    \
    static bool i_##name(int64_t a, int64_t b, int64_t *y)                                         \
    {                                                                                              \
        if (!(ok))                                                                                 \
            return false;                                                                          \
        *y = expression;                                                                           \
        return true;                                                                               \
    }
I(add, !__builtin_add_overflow(a, b, y), *y)
I(sub, !__builtin_sub_overflow(a, b, y), *y)
I(mul, !__builtin_mul_overflow(a, b, y), *y)
I(div, b != 0 && !(b == -1 && a == INT64_MIN), a / b)
I(equal, true, a == b)
I(less, true, a < b)
I(less_equal, true, a <= b)
I(greater, true, a > b)
I(greater_equal, true, a >= b)
I(and, true, a &b)
I(or, true, a | b)
I(xor, true, a ^ b)
I(min, true, a < b ? a : b)
I(max, true, a > b ? a : b)
I(fmod, b != 0, b == -1 ? 0 : a % b)
#undef I

/* The sign of the divisor, as in Python. */
static bool i_mod(int64_t a, int64_t b, int64_t *y)
{
    if (!i_fmod(a, b, y))
        return false;
    *y += *y != 0 && (*y < 0) != (b < 0) ? b : 0;
    return true;
}

static bool i_pow(int64_t a, int64_t b, int64_t *y)
{
    *y = 1;
    if (a >= -1 && a <= 1) {
        *y = a == -1 ? (b % 2 == 0 ? 1 : -1) : b == 0 ? 1 : a;
        return a != 0 || b >= 0;
    }
    if (b < 0)
        return *y = 0, true;
    for (; b > 0; b--) /* 63 steps at most */
        if (__builtin_mul_overflow(*y, a, y))
            return false;
    return true;
}

enum batch_rule { BATCH_NONE, BATCH_ADD, BATCH_SUB, BATCH_MUL, BATCH_DIV, BATCH_EQUAL };
struct two_inputs {
    const char *type;
    float_2 *f; /* NULL: not for floating types */
    int_2 *i;   /* NULL: not for integers */
    bool is_bool;
    enum batch_rule batch;
};
static const struct two_inputs two_inputs[] = {
    {"Add", f_add, i_add, false, BATCH_ADD},
    {"And", NULL, i_and, true, BATCH_NONE},
    {"Div", f_div, i_div, false, BATCH_DIV},
    {"Equal", f_equal, i_equal, true, BATCH_EQUAL},
    {"Greater", f_greater, i_greater, true, BATCH_NONE},
    {"GreaterOrEqual", f_greater_equal, i_greater_equal, true, BATCH_NONE},
    {"Less", f_less, i_less, true, BATCH_NONE},
    {"LessOrEqual", f_less_equal, i_less_equal, true, BATCH_NONE},
    {"Mod", fmod, i_mod, false, BATCH_NONE},
    {"Mul", f_mul, i_mul, false, BATCH_MUL},
    {"Or", NULL, i_or, true, BATCH_NONE},
    {"PRelu", f_prelu, NULL, false, BATCH_NONE},
    {"Pow", pow, i_pow, false, BATCH_NONE},
    {"Sub", f_sub, i_sub, false, BATCH_SUB},
    {"Xor", NULL, i_xor, true, BATCH_NONE},
};

/* The batch N on one side at least: N+0, N-0, 0+N, N*1, 1*N, N/1 are N, and N is at least 1. */
static int combine_batch(struct import *im, enum batch_rule rule, const struct constant *a,
                         int64_t ka, const struct constant *b, int64_t kb, struct constant *c,
                         int64_t k)
{
    const bool left = fold_is_batch(a, ka), both = left && fold_is_batch(b, kb);
    const int64_t other = left ? b->i[kb] : a->i[ka];

    if (both && rule == BATCH_EQUAL) {
        c->i[k] = 1;
        return 0;
    }
    if (!both && rule == BATCH_EQUAL && other < 1) {
        c->i[k] = 0;
        return 0;
    }
    if (!both && ((other == 0 && (rule == BATCH_ADD || (rule == BATCH_SUB && left))) ||
                  (other == 1 && (rule == BATCH_MUL || (rule == BATCH_DIV && left)))))
        return fold_set_batch(im, c, k);
    return report_pins_batch(im);
}

static double number(const struct constant *c, int64_t k)
{
    return c->f != NULL ? (double)c->f[k] : (double)c->i[k];
}

/* c[k] = a[ka] op b[kb]. Floats go through double and are rounded once. */
static int combine(struct import *im, const struct two_inputs *op, const struct constant *a,
                   int64_t ka, const struct constant *b, int64_t kb, struct constant *c, int64_t k)
{
    if (fold_is_batch(a, ka) || fold_is_batch(b, kb))
        return combine_batch(im, op->batch, a, ka, b, kb, c, k);
    if (c->f != NULL) {
        c->f[k] = (float)op->f(number(a, ka), number(b, kb));
        return 0;
    }
    if (a->f != NULL || b->f != NULL) {
        const double y = op->f(number(a, ka), number(b, kb));

        c->i[k] = fabs(y) < 0x1p62 ? (int64_t)y : 0;
        return fabs(y) < 0x1p62 ? 0 : report_wrong(im, "a number is too large for an integer");
    }
    return op->i(a->i[ka], b->i[kb], &c->i[k])
               ? 0
               : report_wrong(im, "integer overflow or division by zero");
}

/* Mod divides as C does where the attribute fmod says so. */
static int choose_mod(struct import *im, struct two_inputs *op)
{
    int64_t c_division;

    if (strcmp(op->type, "Mod") != 0)
        return 0;
    TRY(attrs_int(im, "fmod", 0, &c_division));
    op->i = c_division != 0 ? i_fmod : i_mod;
    return 0;
}

static int apply_two(struct import *im, const struct two_inputs *op, const struct constant *a,
                     const struct constant *b, struct constant **out)
{
    const bool is_pow = strcmp(op->type, "Pow") == 0; /* its inputs may be of two types */
    struct constant *c;
    struct shape s;

    if ((a->f != NULL) != (b->f != NULL) && !is_pow)
        return report_wrong(im, "inputs of different types");
    if (a->f != NULL ? op->f == NULL : op->i == NULL)
        return report_wrong(im, "not defined for this type");
    TRY(broadcast_shape(im, &a->shape, &b->shape, &s));
    TRY(constant_new(im, op->is_bool ? T(BOOL) : a->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++)
        TRY(combine(im, op, a, broadcast_index(&s, k, &a->shape), b,
                    broadcast_index(&s, k, &b->shape), c, k));
    *out = c;
    return 0;
}

static int fold_two(struct import *im)
{
    struct constant *a, *b, *c;
    struct two_inputs op = {0};

    for (size_t k = 0; k < sizeof two_inputs / sizeof *two_inputs; k++)
        if (strcmp(two_inputs[k].type, im->call->type) == 0)
            op = two_inputs[k];
    TRY(attrs_only(im, "fmod"));
    TRY(choose_mod(im, &op));
    TRY(operand_constant(im, 0, &a));
    TRY(operand_constant(im, 1, &b));
    TRY(apply_two(im, &op, a, b, &c));
    return fold_finish(im, c);
}

/* ---- any number of inputs ------------------------------------------------------------------- */

static const struct two_inputs many_inputs[] = {
    {"Max", f_max, i_max, false, BATCH_NONE},
    {"Mean", f_add, NULL, false, BATCH_NONE},
    {"Min", f_min, i_min, false, BATCH_NONE},
    {"Sum", f_add, i_add, false, BATCH_ADD},
};

static int fold_many(struct import *im)
{
    const struct two_inputs *op = many_inputs;
    struct constant *c, *next;

    while (strcmp(op->type, im->call->type) != 0)
        op++;
    TRY(attrs_only(im, ""));
    if (im->call->n_in == 1)
        return result_alias(im, im->call->in[0]);
    TRY(operand_constant(im, 0, &c));
    for (int32_t i = 1; i < im->call->n_in; i++) {
        if (!operand_has(im->call, i))
            return operand_missing(im, i);
        TRY(operand_constant(im, i, &next));
        TRY(apply_two(im, op, c, next, &c));
    }
    if (strcmp(op->type, "Mean") == 0)
        for (int64_t k = 0; k < c->count; k++)
            c->f[k] /= (float)im->call->n_in;
    return fold_finish(im, c);
}

/* ---- one input ------------------------------------------------------------------------------ */

typedef double float_1(double x, double a, double b); /* a, b: attributes */
typedef int64_t int_1(int64_t x);

#define I(name, expression)                                                                        \
    static int64_t i_##name(int64_t x)                                                             \
    {                                                                                              \
        return expression;                                                                         \
    }
I(abs, x < 0 ? (int64_t)(0 - (uint64_t)x) : x)
I(neg, (int64_t)(0 - (uint64_t)x))
I(not, !x)
I(relu, x < 0 ? 0 : x)
I(sign, (x > 0) - (x < 0))
#undef I

/* X(type, function of x and the attributes a and b, that of integers or NULL, names and defaults of a and b) */
#define ONE_INPUT(X)                                                                               \
    X(Abs, fabs(x), i_abs, "", "", 0, 0)                                                           \
    X(Acos, acos(x), NULL, "", "", 0, 0)                                                           \
    X(Acosh, acosh(x), NULL, "", "", 0, 0)                                                         \
    X(Asin, asin(x), NULL, "", "", 0, 0)                                                           \
    X(Asinh, asinh(x), NULL, "", "", 0, 0)                                                         \
    X(Atan, atan(x), NULL, "", "", 0, 0)                                                           \
    X(Atanh, atanh(x), NULL, "", "", 0, 0)                                                         \
    X(Ceil, ceil(x), NULL, "", "", 0, 0)                                                           \
    X(Celu, fmax(0, x) + fmin(0, a * expm1(x / a)), NULL, "alpha", "", 1, 0)                       \
    X(Cos, cos(x), NULL, "", "", 0, 0)                                                             \
    X(Cosh, cosh(x), NULL, "", "", 0, 0)                                                           \
    X(Elu, x < 0 ? a * expm1(x) : x, NULL, "alpha", "", 1, 0)                                      \
    X(Erf, erf(x), NULL, "", "", 0, 0)                                                             \
    X(Exp, exp(x), NULL, "", "", 0, 0)                                                             \
    X(Floor, floor(x), NULL, "", "", 0, 0)                                                         \
    X(HardSigmoid, fmax(0, fmin(1, a *x + b)), NULL, "alpha", "beta", 0.2f, 0.5f)                  \
    X(HardSwish, x *fmax(0, fmin(1, x / 6 + 0.5)), NULL, "", "", 0, 0)                             \
    X(IsNaN, isnan(x), NULL, "", "", 0, 0)                                                         \
    X(LeakyRelu, x < 0 ? a * x : x, NULL, "alpha", "", 0.01f, 0)                                   \
    X(Log, log(x), NULL, "", "", 0, 0)                                                             \
    X(Mish, x *tanh(log1p(exp(x))), NULL, "", "", 0, 0)                                            \
    X(Neg, -x, i_neg, "", "", 0, 0)                                                                \
    X(Reciprocal, 1 / x, NULL, "", "", 0, 0)                                                       \
    X(Relu, x <= 0 ? 0 : x, i_relu, "", "", 0, 0)                                                  \
    X(Round, nearbyint(x), NULL, "", "", 0, 0)                                                     \
    X(Selu, b *(x > 0 ? x : a * expm1(x)), NULL, "alpha", "gamma", 1.67326319217681884765625f,     \
      1.05070102214813232421875f)                                                                  \
    X(Shrink, x<-a ? x + b : x> a ? x - b : 0, NULL, "lambd", "bias", 0.5f, 0)                     \
    X(Sigmoid, 1 / (1 + exp(-x)), NULL, "", "", 0, 0)                                              \
    X(Sign, (x > 0) - (x < 0), i_sign, "", "", 0, 0)                                               \
    X(Sin, sin(x), NULL, "", "", 0, 0)                                                             \
    X(Sinh, sinh(x), NULL, "", "", 0, 0)                                                           \
    X(Softplus, x > 30 ? x : log1p(exp(x)), NULL, "", "", 0, 0)                                    \
    X(Softsign, x / (1 + fabs(x)), NULL, "", "", 0, 0)                                             \
    X(Sqrt, sqrt(x), NULL, "", "", 0, 0)                                                           \
    X(Swish, x / (1 + exp(-a * x)), NULL, "alpha", "", 1, 0)                                       \
    X(Tan, tan(x), NULL, "", "", 0, 0)                                                             \
    X(Tanh, tanh(x), NULL, "", "", 0, 0)                                                           \
    X(ThresholdedRelu, x > a ? x : 0, NULL, "alpha", "", 1, 0)

#define FUNCTION(type, expression, i, attr_a, attr_b, dflt_a, dflt_b)                              \
    static double f_##type(double x, double a, double b)                                           \
    {                                                                                              \
        (void)a, (void)b;                                                                          \
        return expression;                                                                         \
    }
ONE_INPUT(FUNCTION)

#define ROW(type, expression, i, attr_a, attr_b, dflt_a, dflt_b)                                   \
    {#type, f_##type, i, attr_a, attr_b, dflt_a, dflt_b},
static const struct one_input {
    const char *type;
    float_1 *f; /* NULL: not for floating types */
    int_1 *i;   /* NULL: not for integers */
    const char *attr_a, *attr_b;
    float a, b; /* their defaults */
} one_input[] = {ONE_INPUT(ROW){"Not", NULL, i_not, "", "", 0, 0}};

static int fold_one(struct import *im)
{
    const struct one_input *op = one_input;
    struct constant *x, *c;
    float a, b;

    while (strcmp(op->type, im->call->type) != 0)
        op++;
    TRY(attrs_only(im, report_text(im, "%s,%s", op->attr_a, op->attr_b)));
    TRY(attrs_float(im, op->attr_a, op->a, &a));
    TRY(attrs_float(im, op->attr_b, op->b, &b));
    TRY(operand_constant(im, 0, &x));
    if (x->f != NULL ? op->f == NULL : op->i == NULL)
        return report_wrong(im, "not defined for this type");
    TRY(constant_new(im, op->f == f_IsNaN ? T(BOOL) : x->type, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (fold_is_batch(x, k))
            return report_pins_batch(im);
        if (x->f == NULL)
            c->i[k] = op->i(x->i[k]);
        else if (c->f == NULL)
            c->i[k] = (int64_t)op->f((double)x->f[k], 0, 0);
        else
            c->f[k] = (float)op->f((double)x->f[k], (double)a, (double)b);
    }
    return fold_finish(im, c);
}

/* ---- Clip ----------------------------------------------------------------------------------- */

/* Bound i of Clip as a constant; NULL if there is none. Before opset 11 it is an attribute. */
static int clip_bound(struct import *im, int32_t i, const char *name, const struct constant *x,
                      struct constant **out)
{
    *out = NULL;
    if (attrs_find(im->call, name) != NULL) {
        TRY(constant_new(im, T(FLOAT), &(struct shape){0}, out));
        TRY(attrs_float(im, name, 0, (*out)->f));
    } else if (operand_has(im->call, i)) {
        TRY(operand_constant(im, i, out));
    }
    if (*out != NULL && ((*out)->count != 1 || ((*out)->f != NULL) != (x->f != NULL)))
        return report_wrong(im, "a bound is not one number of the input's type");
    return 0;
}

int fold_clip(struct import *im)
{
    struct constant *x, *low, *high, *c;

    TRY(operand_constant(im, 0, &x));
    TRY(clip_bound(im, 1, "min", x, &low));
    TRY(clip_bound(im, 2, "max", x, &high));
    TRY(constant_new(im, x->type, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (fold_is_batch(x, k))
            return report_pins_batch(im);
        TRY(fold_copy_element(im, c, k, x, k));
        for (int b = 0; b < 2; b++) {
            const struct constant *bound = b ? high : low;

            if (bound != NULL && c->f != NULL && (b ? c->f[k] > *bound->f : c->f[k] < *bound->f))
                c->f[k] = *bound->f;
            if (bound != NULL && c->f == NULL && (b ? c->i[k] > *bound->i : c->i[k] < *bound->i))
                c->i[k] = *bound->i;
        }
    }
    return fold_finish(im, c);
}

/* ---- rules ---------------------------------------------------------------------------------- */

static bool is_of(const struct two_inputs *table, size_t n, const char *type)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(table[k].type, type) == 0)
            return true;
    return false;
}

const struct fold_rule *fold_element_rule(const char *type)
{
    static const struct fold_rule one = {"", 1, true, fold_one}, two = {"", 2, true, fold_two},
                                  many = {"", 1, true, fold_many};

    for (size_t k = 0; k < sizeof one_input / sizeof *one_input; k++)
        if (strcmp(one_input[k].type, type) == 0)
            return &one;
    if (is_of(two_inputs, sizeof two_inputs / sizeof *two_inputs, type))
        return &two;
    return is_of(many_inputs, sizeof many_inputs / sizeof *many_inputs, type) ? &many : NULL;
}
