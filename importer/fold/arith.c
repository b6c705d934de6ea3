/* Element by element, with broadcasting: Cast, Expand, Where, arithmetic, comparisons. */
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

    TRY(operand_constant(im, 0, &x));
    TRY(fold_read_dims(im, 1, &target));
    TRY(broadcast_shape(im, &x->shape, &target, &s));
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++)
        TRY(fold_copy_element(im, c, k, x, broadcast_index(&s, k, &x->shape)));
    return fold_finish(im, c);
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

/* ---- arithmetic ----------------------------------------------------------------------------- */

enum arith { ADD, SUB, MUL, DIV, EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL, AND, OR };

static const struct {
    const char *type;
    enum arith what;
    bool is_bool;
} arith_table[] = {
    {"Add", ADD, false},
    {"Sub", SUB, false},
    {"Mul", MUL, false},
    {"Div", DIV, false},
    {"Equal", EQUAL, true},
    {"Less", LESS, true},
    {"LessOrEqual", LESS_EQUAL, true},
    {"Greater", GREATER, true},
    {"GreaterOrEqual", GREATER_EQUAL, true},
    {"And", AND, true},
    {"Or", OR, true},
};

static float arith_float(enum arith what, float a, float b)
{
    switch (what) {
    case ADD:
        return a + b;
    case SUB:
        return a - b;
    case MUL:
        return a * b;
    default:
        return a / b;
    }
}

/* False on overflow and division by zero. */
static bool arith_int(enum arith what, int64_t a, int64_t b, int64_t *out)
{
    switch (what) {
    case ADD:
        return !__builtin_add_overflow(a, b, out);
    case SUB:
        return !__builtin_sub_overflow(a, b, out);
    case MUL:
        return !__builtin_mul_overflow(a, b, out);
    default:
        if (b == 0 || (b == -1 && a == INT64_MIN))
            return false;
        *out = a / b;
        return true;
    }
}

static int64_t compare(enum arith what, double a, double b)
{
    switch (what) {
    case EQUAL:
        return a == b;
    case LESS:
        return a < b;
    case LESS_EQUAL:
        return a <= b;
    case GREATER:
        return a > b;
    case GREATER_EQUAL:
        return a >= b;
    case AND:
        return a != 0 && b != 0;
    default:
        return a != 0 || b != 0;
    }
}

/* The batch N on one side at least: N+0, N-0, 0+N, N*1, 1*N, N/1 are N, and N is at least 1. */
static int arith_batch(struct import *im, enum arith what, const struct constant *a, int64_t ka,
                       const struct constant *b, int64_t kb, struct constant *c, int64_t k)
{
    const bool left = fold_is_batch(a, ka), both = left && fold_is_batch(b, kb);
    const int64_t other = left ? b->i[kb] : a->i[ka];

    if (both && what == EQUAL) {
        c->i[k] = 1;
        return 0;
    }
    if (!both && what == EQUAL && other < 1) {
        c->i[k] = 0;
        return 0;
    }
    if (!both && ((other == 0 && (what == ADD || (what == SUB && left))) ||
                  (other == 1 && (what == MUL || (what == DIV && left)))))
        return fold_set_batch(im, c, k);
    return report_pins_batch(im);
}

int fold_arith(struct import *im)
{
    struct constant *a, *b, *c;
    struct shape s;
    size_t row = 0;

    while (strcmp(arith_table[row].type, im->call->type) != 0)
        row++;
    const enum arith what = arith_table[row].what;
    TRY(operand_constant(im, 0, &a));
    TRY(operand_constant(im, 1, &b));
    if ((a->f != NULL) != (b->f != NULL))
        return report_wrong(im, "inputs of different types");
    TRY(broadcast_shape(im, &a->shape, &b->shape, &s));
    TRY(constant_new(im, arith_table[row].is_bool ? T(BOOL) : a->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        int64_t ka = broadcast_index(&s, k, &a->shape);
        int64_t kb = broadcast_index(&s, k, &b->shape);

        if (fold_is_batch(a, ka) || fold_is_batch(b, kb))
            TRY(arith_batch(im, what, a, ka, b, kb, c, k));
        else if (arith_table[row].is_bool)
            c->i[k] = a->f ? compare(what, (double)a->f[ka], (double)b->f[kb])
                           : compare(what, (double)a->i[ka], (double)b->i[kb]);
        else if (c->f != NULL)
            c->f[k] = arith_float(what, a->f[ka], b->f[kb]);
        else if (!arith_int(what, a->i[ka], b->i[kb], &c->i[k]))
            return report_wrong(im, "integer overflow or division by zero");
    }
    return fold_finish(im, c);
}

enum unary { NEG, NOT, SQRT, FLOOR, CEIL };
static const struct {
    const char *type;
    enum unary what;
} unary_table[] = {{"Neg", NEG}, {"Not", NOT}, {"Sqrt", SQRT}, {"Floor", FLOOR}, {"Ceil", CEIL}};

int fold_unary(struct import *im)
{
    struct constant *x, *c;
    size_t row = 0;

    while (strcmp(unary_table[row].type, im->call->type) != 0)
        row++;
    const enum unary what = unary_table[row].what;
    TRY(operand_constant(im, 0, &x));
    if ((what == NOT && x->type != T(BOOL)) || (what >= SQRT && x->f == NULL))
        return report_wrong(im, "not defined for this type");
    TRY(constant_new(im, x->type, &x->shape, &c));
    for (int64_t k = 0; k < c->count; k++) {
        if (fold_is_batch(x, k))
            return report_pins_batch(im);
        if (x->f == NULL)
            c->i[k] = what == NOT ? !x->i[k] : (int64_t)(0 - (uint64_t)x->i[k]);
        else
            c->f[k] = what == NEG     ? -x->f[k]
                      : what == SQRT  ? sqrtf(x->f[k])
                      : what == FLOOR ? floorf(x->f[k])
                                      : ceilf(x->f[k]);
    }
    return fold_finish(im, c);
}

/* ---- Clip and PRelu ------------------------------------------------------------------------- */

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

int fold_prelu(struct import *im)
{
    struct constant *x, *slope, *c;
    struct shape s;

    TRY(fold_floats(im, 0, &x));
    TRY(fold_floats(im, 1, &slope));
    TRY(broadcast_shape(im, &x->shape, &slope->shape, &s));
    if (!shape_equal(&s, &x->shape))
        return report_wrong(im, "the slopes do not broadcast to the input");
    TRY(constant_new(im, x->type, &s, &c));
    for (int64_t k = 0; k < c->count; k++) {
        const float a = slope->f[broadcast_index(&s, k, &slope->shape)];

        c->f[k] = x->f[k] < 0 ? a * x->f[k] : x->f[k];
    }
    return fold_finish(im, c);
}
