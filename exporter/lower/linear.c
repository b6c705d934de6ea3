/*
 * Weighted sums: Conv, Gemm, a factor and an offset per channel, Add.
 *
 * f_w is the default unless the layer's largest weight needs another: 13 to 15 bits of it are used.
 * Every unit of f_w doubles the chance that a truncation fails, so it is no larger than needed.
 */
#include <math.h>
#include <string.h>

#include "exporter/lower/lower.h"
#include "exporter/lower/lowering.h"

#define WEIGHT_BITS_MIN 13

/* ---- linear steps ------------------------------------------------------------------------- */

/* f_w for weights up to max: the default where it leaves 13 to 15 bits of the largest. */
static int32_t weight_scale(const struct lowering *s, double max)
{
    int32_t ws = s->o->weight_scale;

    if (max == 0)
        return ws;
    while (ws < PLAN_MAX_WEIGHT_SCALE && max < ldexp(1, WEIGHT_BITS_MIN - ws))
        ws++;
    while (ws > 0 && max > ldexp(INT16_MAX, -ws))
        ws--;
    return ws;
}

double lowering_largest(const struct draft *d, int64_t n)
{
    double max = 0;

    for (int64_t i = 0; i < n; i++) {
        const double v = fabs(draft_weight(d, i));

        if (isnan(v))
            return v;
        max = v > max ? v : max;
    }
    return max;
}

static bool all_finite(const double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return false;
    return true;
}

/* True if the sums of v may wait for the Add that is their only reader. */
static bool waits_for_add(const struct lowering *s, value_id v)
{
    int32_t user = graph_single_user(s->g, v);
    const struct node *n;

    if (user < 0 || graph_count_uses(s->g, v) != 1)
        return false;
    n = &s->g->node[user];
    return n->op == &op_add && value_is_activation(op_in(s->g, n, 0)) &&
           value_is_activation(op_in(s->g, n, 1));
}

/* Sets scales of a linear step from its real weights, and its result's scale. */
static int finish_linear(struct lowering *s, struct plan_step *step, const struct draft *d,
                         bool waits)
{
    struct plan_tensor *out = &s->p->tensor[step->out];
    int64_t rows, columns;
    double max;

    plan_matrix_size(s->p, step, &rows, &columns);
    max = lowering_largest(d, rows * columns);
    if (!isfinite(max) || !all_finite(d->bias, rows))
        return fail(ERR_NUMERIC, "step '%s': a weight is not finite", step->name);
    if (max > INT16_MAX)
        return fail(ERR_UNSUPPORTED, "step '%s': weights up to %g do not fit 16 bits", step->name,
                    max);
    step->u.linear.weight_scale = weight_scale(s, max);
    step->shift = waits ? 0 : step->u.linear.weight_scale;
    out->scale = s->p->scale + step->u.linear.weight_scale - step->shift;
    s->draft[step - s->p->step] = *d;
    return 0;
}

static int new_bias(struct lowering *s, int64_t rows, struct draft *d)
{
    d->bias = arena_array(s->p->arena, (size_t)rows, sizeof *d->bias);
    return d->bias == NULL ? ERR_NOMEM : 0;
}

/* Conv and Gemm: in[1] weights, in[2] bias. */
static int lower_linear(struct lowering *s, const struct node *n, const struct plan_linear *attrs,
                        enum plan_kind kind)
{
    const struct value *w = op_in(s->g, n, 1);
    const float *bias = node_has(n, 2) ? op_in(s->g, n, 2)->data : NULL;
    const int64_t rows = w->shape.dim[0];
    struct lowered x = lowering_operand(s, n, 0);
    struct plan_step *step;
    struct draft d = {.from = w->data, .factor = x.factor};

    TRY(lowering_step(s, n, kind, s->p->scale, 1, &step));
    step->u.linear = *attrs;
    TRY(new_bias(s, rows, &d));
    for (int64_t i = 0; i < rows && bias != NULL; i++)
        d.bias[i] = (double)bias[i];
    return finish_linear(s, step, &d, waits_for_add(s, n->out[0]));
}

int lower_conv(struct lowering *s, const struct node *n)
{
    const struct conv_params *c = &n->p.conv;
    struct plan_linear l = {.group = c->group};
    const struct shape *w = &op_in(s->g, n, 1)->shape;

    for (int i = 0; i < 2; i++) {
        l.kernel[i] = w->dim[i + 2];
        l.stride[i] = c->stride[i];
        l.dilation[i] = c->dilation[i];
    }
    memcpy(l.pad, c->pad, sizeof l.pad);
    return lower_linear(s, n, &l, PLAN_CONV);
}

static const struct plan_linear no_window = {
    .kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .group = 1};

int lower_gemm(struct lowering *s, const struct node *n)
{
    return lower_linear(s, n, &no_window, PLAN_GEMM);
}

/* ---- factor and offset per channel -------------------------------------------------------- */

/* real y = a[c] * x + b[c] for a value x of tensor x.tensor; max: of |y|. */
static int add_affine(struct lowering *s, const char *name, struct lowered x, const double *a,
                      const double *b, double max, bool waits, int32_t *out)
{
    struct plan_tensor t = s->p->tensor[x.tensor];
    bool image = t.rank == 3;
    int64_t c = t.dim[0], columns = image ? 1 : c;
    struct plan_step *step;
    struct draft d = {0};

    *out = lowering_add_tensor(s, t.rank, t.dim, s->p->scale, max);
    if ((step = lowering_add_step(s, image ? PLAN_CONV : PLAN_GEMM, name, x.tensor, *out)) == NULL)
        return ERR_NOMEM;
    step->u.linear = no_window;
    step->u.linear.group = image ? c : 1;
    TRY(new_bias(s, c, &d));
    if ((d.weight = arena_array(s->p->arena, (size_t)(c * columns), sizeof *d.weight)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < c; i++) {
        d.weight[i * columns + (image ? 0 : i)] = a[i] * x.factor;
        d.bias[i] = b[i];
    }
    return finish_linear(s, step, &d, waits);
}

/* Channels of an activation: dim 1. Two rows of doubles, a = 1 and b = 0. */
int lowering_new_affine(struct lowering *s, value_id v, int64_t *c, double **a, double **b)
{
    *c = s->g->value[v].shape.dim[1];
    *a = arena_array(s->p->arena, (size_t)*c, sizeof **a);
    *b = arena_array(s->p->arena, (size_t)*c, sizeof **b);
    TRY(arena_status(s->p->arena));
    for (int64_t i = 0; i < *c; i++)
        (*a)[i] = 1;
    return 0;
}

static int lower_affine(struct lowering *s, const struct node *n, int x, const double *a,
                        const double *b)
{
    int32_t out;

    TRY(add_affine(s, n->name, lowering_operand(s, n, x), a, b, s->max_abs[n->out[0]],
                   waits_for_add(s, n->out[0]), &out));
    lowering_set(s, n, out, 1);
    return 0;
}

int lower_batchnorm(struct lowering *s, const struct node *n)
{
    const float *gamma = op_in(s->g, n, 1)->data, *beta = op_in(s->g, n, 2)->data;
    const float *mean = op_in(s->g, n, 3)->data, *var = op_in(s->g, n, 4)->data;
    double *a, *b;
    int64_t c;

    TRY(lowering_new_affine(s, n->in[0], &c, &a, &b));
    for (int64_t i = 0; i < c; i++) {
        a[i] = (double)gamma[i] / sqrt((double)var[i] + (double)n->p.batchnorm.eps);
        b[i] = (double)beta[i] - a[i] * (double)mean[i];
    }
    return lower_affine(s, n, 0, a, b);
}

/* The constant operand of an elementwise node as one number a channel; false if it differs between
 * positions of a channel. */
static bool channel_constant(const struct value *v, const struct shape *x, double *out)
{
    int32_t axis = v->shape.rank - (x->rank - 1); /* of the channel, right-aligned */
    int64_t n = shape_elems(&v->shape), c = x->dim[1];

    if (v->data == NULL || (n != 1 && (n != c || axis < 0 || v->shape.dim[axis] != c)))
        return false;
    for (int64_t i = 0; i < c; i++)
        out[i] = (double)v->data[n == 1 ? 0 : i];
    return true;
}

/* y = x op constant or constant op x, as a factor and an offset per channel. */
int lowering_constant(struct lowering *s, const struct node *n, int x, double *a, double *b,
                      int64_t c)
{
    const struct shape *shape = &op_in(s->g, n, x)->shape;
    double sign = 1;

    if (!channel_constant(op_in(s->g, n, 1 - x), shape, b))
        return lowering_refuse(n, "its constant is not one number a channel");
    for (int64_t i = 0; i < c; i++) {
        if (n->op == &op_sub) {
            sign = x == 0 ? 1 : -1;
            a[i] = sign;
            b[i] *= -sign;
        } else if (n->op != &op_add) {
            a[i] = n->op == &op_mul ? b[i] : 1 / b[i];
            b[i] = 0;
        }
    }
    return 0;
}

int lower_constant(struct lowering *s, const struct node *n)
{
    int x = value_is_activation(op_in(s->g, n, 0)) ? 0 : 1;
    double *a, *b;
    int64_t c;

    TRY(lowering_new_affine(s, n->in[x], &c, &a, &b));
    TRY(lowering_constant(s, n, x, a, b, c));
    return lower_affine(s, n, x, a, b);
}

/* ---- add ---------------------------------------------------------------------------------- */

/* A value with factor 1: itself, or through one more step. */
int lowering_plain(struct lowering *s, const struct node *n, value_id v, struct lowered *out)
{
    double *a, *b;
    int64_t c;
    const char *name;

    *out = s->of[v];
    if (out->factor == 1)
        return 0;
    if ((name = arena_printf(s->p->arena, "%s/scale%d", n->name, v)) == NULL)
        return ERR_NOMEM;
    TRY(lowering_new_affine(s, v, &c, &a, &b));
    TRY(add_affine(s, name, *out, a, b, s->max_abs[v], false, &out->tensor));
    out->factor = 1;
    return 0;
}

int lower_add(struct lowering *s, const struct node *n)
{
    struct lowered x[2];
    struct plan_step *step;
    int32_t scale[2], high;

    if (!value_is_activation(op_in(s->g, n, 0)) || !value_is_activation(op_in(s->g, n, 1)))
        return lower_constant(s, n);
    if (!shape_equal(&op_in(s->g, n, 0)->shape, &op_in(s->g, n, 1)->shape))
        return lowering_refuse(n, "its operands differ in shape");
    for (int i = 0; i < 2; i++) {
        TRY(lowering_plain(s, n, n->in[i], &x[i]));
        scale[i] = s->p->tensor[x[i].tensor].scale;
    }
    high = scale[0] > scale[1] ? scale[0] : scale[1];
    TRY(lowering_step(s, n, PLAN_ADD, s->p->scale, 1, &step));
    step->in[0] = x[0].tensor;
    step->in[1] = x[1].tensor;
    step->n_in = 2;
    for (int i = 0; i < 2; i++)
        step->input_shift[i] = high - scale[i];
    step->shift = high - s->p->scale;
    return 0;
}
