/*
 * Lowering: a graph becomes a list of steps on integers.
 *
 * A value of the graph is a tensor and a factor in the plan: real = integer / 2^scale * factor.
 * The factor is 1 except behind an average pool, which only sums; the next weights take it in.
 *
 *   Conv, Gemm            weights round(w * factor * 2^f_w); truncated at once, unless the only
 *                         reader is an Add, which truncates the block once
 *   Add                   operands are brought to one scale by left shifts, then truncated
 *   BatchNormalization that could not be folded, Add/Sub/Mul/Div by a constant per channel
 *                         factor and offset per channel: a 1x1 convolution with a group per channel
 *   the same on the input, while nothing else reads it: into mean and std of the description
 *   Relu, MaskedRelu      relu_partial; a mask without kept positions is no step
 *   AveragePool, global   sum_pool; Flatten, Reshape to [N,K]: flatten
 *   Softmax at the end    dropped, with a note: logits have the same order
 *
 * Scales: f_w is the default unless the layer's largest weight needs another: 13 to 15 bits of it
 * are used. Every unit of f_w doubles the chance that a truncation fails, so it is no
 * larger than needed.
 */
#define _GNU_SOURCE /* getrandom */
#include "exporter/lower.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/buf.h"
#include "core/exec.h"
#include "core/op.h"
#include "core/pass.h"
#include "core/version.h"

#define CALIBRATION_BATCH 32
#define WEIGHT_BITS_MIN 13
#define MAXIMA_LIMIT ((size_t)16 << 20)

struct lowered { /* a value of the graph in the plan; tensor -1: not made yet */
    int32_t tensor;
    double factor;
};
struct draft { /* real weights of a step, in the plan's arena until they are rounded */
    double *weight, *bias;
};
struct lowering {
    const struct graph *g;
    const struct lower_options *o;
    const double *max_abs; /* per value of g */
    struct plan *p;
    struct lowered *of;  /* per value of g */
    struct draft *draft; /* per step */
    double *tensor_max;  /* per tensor: exact maximum of the real value */
    int32_t cap;
    bool *peeled; /* per node of g: taken into the input's normalisation */
};

static int refuse(const struct node *n, const char *hint)
{
    return fail(ERR_UNSUPPORTED, "node '%s' (%s) cannot run privately: %s", n->name, n->op->type,
                hint);
}

/* ---- preparation and calibration ---------------------------------------------------------- */

static int drop_softmax(struct graph *g)
{
    int32_t n = g->value[g->output].producer;

    if (n < 0 || g->node[n].op != &op_softmax)
        return 0;
    graph_replace_uses(g, g->output, g->node[n].in[0], n);
    return pass_prune(g);
}

int lower_prepare(const struct graph *g, struct graph **out)
{
    struct graph *c = NULL;
    int rc;

    if (graph_banks(g) > 1)
        return fail(ERR_ARG, "'%s' has two batch-norm banks; choose one first", g->name);
    if ((rc = graph_clone(g, &c)) < 0 || (rc = drop_softmax(c)) < 0 ||
        (rc = pass_fold_batchnorm(c, false)) < 0 || (rc = pass_prune(c)) < 0)
        goto out;
    *out = c;
    c = NULL;
    rc = 0;
out:
    graph_free(c);
    return rc;
}

/* Largest |x| as a float's bits: above those of infinity if there is a NaN. */
static uint32_t largest_bits(const float *x, int64_t n)
{
    uint32_t most = 0;

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static double largest(const float *x, int64_t n, double so_far)
{
    uint32_t bits = largest_bits(x, n);
    float v;

    memcpy(&v, &bits, sizeof v);
    return (double)v <= so_far ? so_far : (double)v;
}

/* Values that nodes make, into ids; returns how many. */
static int32_t made_values(const struct graph *g, value_id *ids)
{
    int32_t n = 0;

    for (int32_t i = 0; i < g->n_node; i++)
        ids[n++] = g->node[i].out[0];
    return n;
}

static int calibrate_with(struct exec *e, const struct graph *g, const value_id *ids, int32_t n_ids,
                          const float *pixels, int64_t n, float *logits, double *max_abs)
{
    int64_t image = shape_elems(&g->value[g->input].shape);

    for (int64_t i = 0; i < n; i += CALIBRATION_BATCH) {
        int64_t count = n - i < CALIBRATION_BATCH ? n - i : CALIBRATION_BATCH;
        TRY(exec_infer(e, pixels + i * image, count, 0, logits));
        for (int32_t k = 0; k < n_ids; k++)
            max_abs[ids[k]] = largest(
                exec_tap(e, ids[k]), count * shape_elems(&g->value[ids[k]].shape), max_abs[ids[k]]);
    }
    for (int32_t k = 0; k < n_ids; k++)
        if (!isfinite(max_abs[ids[k]]))
            return fail(ERR_NUMERIC, "calibration: value '%s' is not finite",
                        g->value[ids[k]].name);
    return 0;
}

int lower_calibrate(struct graph *g, const float *pixels, int64_t n, double *max_abs)
{
    value_id *ids = mem_array((size_t)g->n_node, sizeof *ids);
    float *logits = mem_array((size_t)(CALIBRATION_BATCH * shape_elems(&g->value[g->output].shape)),
                              sizeof *logits);
    struct exec *e = NULL;
    int32_t n_ids;
    int rc = ERR_NOMEM;

    memset(max_abs, 0, (size_t)g->n_value * sizeof *max_abs);
    if (ids == NULL || logits == NULL)
        goto out;
    n_ids = made_values(g, ids);
    if ((rc = exec_new(g, EXEC_INFER, CALIBRATION_BATCH, ids, n_ids, &e)) < 0)
        goto out;
    rc = calibrate_with(e, g, ids, n_ids, pixels, n, logits, max_abs);
out:
    exec_free(e);
    mem_free(ids);
    mem_free(logits);
    return rc;
}

/* ---- tensors and steps -------------------------------------------------------------------- */

/* Smallest e with v <= 2^e, at least -f: a value below one unit needs no bits. */
static int32_t ceil_log2(double v, int32_t f)
{
    int e;

    if (v <= ldexp(1, -f))
        return -f;
    return frexp(v, &e) == 0.5 ? e - 1 : e;
}

/* max: largest |real value| / factor. */
static int32_t add_tensor(struct lowering *s, int32_t rank, const int64_t dim[3], int32_t scale,
                          double max)
{
    int32_t id = s->p->n_tensor++;
    struct plan_tensor *t = &s->p->tensor[id];

    *t = (struct plan_tensor){rank, {1, 1, 1}, 1, scale, ceil_log2(max, s->p->scale)};
    for (int32_t i = 0; i < rank; i++) {
        t->dim[i] = dim[i];
        t->count *= dim[i];
    }
    s->tensor_max[id] = max;
    return id;
}

/* Appends a step with one operand and result tensor `out`; NULL after fail(). */
static struct plan_step *add_step(struct lowering *s, enum plan_kind kind, const char *name,
                                  int32_t in, int32_t out)
{
    struct plan_step *step = &s->p->step[s->p->n_step++];

    *step = (struct plan_step){.kind = kind, .in = {in, 0}, .n_in = 1, .out = out};
    step->name = arena_strdup(s->p->arena, name);
    return step->name == NULL ? NULL : step;
}

/* Shape of a graph value in the plan; ERR_UNSUPPORTED for ranks the plan has no form for. */
static int plan_shape(const struct lowering *s, const struct node *n, value_id v, int32_t *rank,
                      int64_t dim[3])
{
    const struct shape *shape = &s->g->value[v].shape;

    if (shape->rank != 4 && shape->rank != 2)
        return refuse(n, "only [N,C,H,W] and [N,K] have a form in the description");
    *rank = shape->rank - 1;
    for (int32_t i = 0; i < *rank; i++)
        dim[i] = shape->dim[i + 1];
    return 0;
}

/* Result tensor of node n at the given scale, for a value with this factor. */
static int result_tensor(struct lowering *s, const struct node *n, int32_t scale, double factor,
                         int32_t *out)
{
    int64_t dim[3];
    int32_t rank = 0;

    TRY(plan_shape(s, n, n->out[0], &rank, dim));
    *out = add_tensor(s, rank, dim, scale, s->max_abs[n->out[0]] / factor);
    return 0;
}

static void set_result(struct lowering *s, const struct node *n, int32_t tensor, double factor)
{
    s->of[n->out[0]] = (struct lowered){tensor, factor};
}

static struct lowered operand(const struct lowering *s, const struct node *n, int i)
{
    return s->of[n->in[i]];
}

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

static double largest_double(const double *v, int64_t n)
{
    double max = 0;

    for (int64_t i = 0; i < n; i++)
        if (!(fabs(v[i]) <= max))
            max = fabs(v[i]);
    return max;
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
    max = largest_double(d->weight, rows * columns);
    if (!isfinite(max) || !isfinite(largest_double(d->bias, rows)))
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

static int new_draft(struct lowering *s, int64_t rows, int64_t columns, struct draft *d)
{
    d->weight = arena_array(s->p->arena, (size_t)(rows * columns), sizeof *d->weight);
    d->bias = arena_array(s->p->arena, (size_t)rows, sizeof *d->bias);
    return d->weight == NULL || d->bias == NULL ? ERR_NOMEM : 0;
}

/* Conv and Gemm: in[1] weights, in[2] bias. */
static int lower_linear(struct lowering *s, const struct node *n, const struct plan_linear *attrs,
                        enum plan_kind kind)
{
    const struct value *w = op_in(s->g, n, 1);
    const float *bias = n->n_in > 2 && n->in[2] != NO_VALUE ? op_in(s->g, n, 2)->data : NULL;
    int64_t rows = w->shape.dim[0], columns = shape_elems(&w->shape) / rows;
    struct lowered x = operand(s, n, 0);
    struct plan_step *step;
    struct draft d;
    int32_t out;

    if (w->data == NULL)
        return refuse(n, "its weights are computed, not stored");
    TRY(result_tensor(s, n, s->p->scale, 1, &out));
    if ((step = add_step(s, kind, n->name, x.tensor, out)) == NULL)
        return ERR_NOMEM;
    step->u.linear = *attrs;
    TRY(new_draft(s, rows, columns, &d));
    for (int64_t i = 0; i < rows * columns; i++)
        d.weight[i] = (double)w->data[i] * x.factor;
    for (int64_t i = 0; i < rows && bias != NULL; i++)
        d.bias[i] = (double)bias[i];
    set_result(s, n, out, 1);
    return finish_linear(s, step, &d, waits_for_add(s, n->out[0]));
}

static int lower_conv(struct lowering *s, const struct node *n)
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

static int lower_gemm(struct lowering *s, const struct node *n)
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
    struct draft d;

    *out = add_tensor(s, t.rank, t.dim, s->p->scale, max);
    if ((step = add_step(s, image ? PLAN_CONV : PLAN_GEMM, name, x.tensor, *out)) == NULL)
        return ERR_NOMEM;
    step->u.linear = no_window;
    step->u.linear.group = image ? c : 1;
    TRY(new_draft(s, c, columns, &d));
    for (int64_t i = 0; i < c; i++) {
        d.weight[i * columns + (image ? 0 : i)] = a[i] * x.factor;
        d.bias[i] = b[i];
    }
    return finish_linear(s, step, &d, waits);
}

/* Channels of an activation: dim 1. Two rows of doubles, a = 1 and b = 0. */
static int new_affine(struct lowering *s, value_id v, int64_t *c, double **a, double **b)
{
    *c = s->g->value[v].shape.dim[1];
    *a = arena_array(s->p->arena, (size_t)*c, sizeof **a);
    *b = arena_array(s->p->arena, (size_t)*c, sizeof **b);
    if (*a == NULL || *b == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < *c; i++)
        (*a)[i] = 1;
    return 0;
}

static int lower_affine(struct lowering *s, const struct node *n, int x, const double *a,
                        const double *b)
{
    int32_t out;

    TRY(add_affine(s, n->name, operand(s, n, x), a, b, s->max_abs[n->out[0]],
                   waits_for_add(s, n->out[0]), &out));
    set_result(s, n, out, 1);
    return 0;
}

static int lower_batchnorm(struct lowering *s, const struct node *n)
{
    const float *gamma = op_in(s->g, n, 1)->data, *beta = op_in(s->g, n, 2)->data;
    const float *mean = op_in(s->g, n, 3)->data, *var = op_in(s->g, n, 4)->data;
    double *a, *b;
    int64_t c;

    TRY(new_affine(s, n->in[0], &c, &a, &b));
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
static int constant_affine(struct lowering *s, const struct node *n, int x, double *a, double *b,
                           int64_t c)
{
    const struct shape *shape = &op_in(s->g, n, x)->shape;
    double sign = 1;

    if (!channel_constant(op_in(s->g, n, 1 - x), shape, b))
        return refuse(n, "its constant is not one number a channel");
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

static int lower_constant(struct lowering *s, const struct node *n)
{
    int x = value_is_activation(op_in(s->g, n, 0)) ? 0 : 1;
    double *a, *b;
    int64_t c;

    if (value_is_activation(op_in(s->g, n, 1 - x)))
        return refuse(n, "two activations; only Add of two has a form");
    if (n->op == &op_div && x == 1)
        return refuse(n, "a constant divided by an activation is not linear");
    TRY(new_affine(s, n->in[x], &c, &a, &b));
    TRY(constant_affine(s, n, x, a, b, c));
    return lower_affine(s, n, x, a, b);
}

/* ---- add ---------------------------------------------------------------------------------- */

/* A value with factor 1: itself, or through one more step. */
static int plain_operand(struct lowering *s, const struct node *n, value_id v, struct lowered *out)
{
    double *a, *b;
    int64_t c;
    const char *name;

    *out = s->of[v];
    if (out->factor == 1)
        return 0;
    if ((name = arena_printf(s->p->arena, "%s/scale%d", n->name, v)) == NULL)
        return ERR_NOMEM;
    TRY(new_affine(s, v, &c, &a, &b));
    TRY(add_affine(s, name, *out, a, b, s->max_abs[v], false, &out->tensor));
    out->factor = 1;
    return 0;
}

static int lower_add(struct lowering *s, const struct node *n)
{
    struct lowered x[2];
    struct plan_step *step;
    int32_t scale[2], high, out;

    if (!value_is_activation(op_in(s->g, n, 0)) || !value_is_activation(op_in(s->g, n, 1)))
        return lower_constant(s, n);
    if (!shape_equal(&op_in(s->g, n, 0)->shape, &op_in(s->g, n, 1)->shape))
        return refuse(n, "its operands differ in shape");
    for (int i = 0; i < 2; i++) {
        TRY(plain_operand(s, n, n->in[i], &x[i]));
        scale[i] = s->p->tensor[x[i].tensor].scale;
    }
    high = scale[0] > scale[1] ? scale[0] : scale[1];
    TRY(result_tensor(s, n, s->p->scale, 1, &out));
    if ((step = add_step(s, PLAN_ADD, n->name, x[0].tensor, out)) == NULL)
        return ERR_NOMEM;
    step->in[1] = x[1].tensor;
    step->n_in = 2;
    for (int i = 0; i < 2; i++)
        step->input_shift[i] = high - scale[i];
    step->shift = high - s->p->scale;
    set_result(s, n, out, 1);
    return 0;
}

/* ---- ReLU --------------------------------------------------------------------------------- */

/* m: sign, integer bits, f, margin; rounded up to 4q + 1. */
static int32_t comparison_width(const struct lowering *s, int32_t tensor, int32_t extra)
{
    int32_t m = s->p->scale + s->p->tensor[tensor].max_log2 + 1 + extra + PLAN_MARGIN_BITS;

    m = m < PLAN_MIN_WIDTH ? PLAN_MIN_WIDTH : m;
    return (m + 2) / 4 * 4 + 1;
}

static int kept_positions(struct lowering *s, const float *mask, int64_t total, struct plan_relu *r)
{
    r->total = total;
    if ((r->index = arena_array(s->p->arena, (size_t)total, sizeof *r->index)) == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < total; i++)
        if (mask == NULL || mask[i] > 0.5f)
            r->index[r->kept++] = (uint32_t)i;
    return 0;
}

static int lower_relu(struct lowering *s, const struct node *n)
{
    bool masked = n->op == &op_masked_relu;
    struct lowered x = operand(s, n, 0);
    struct plan_relu r = {0};
    struct plan_step *step;
    int32_t out;

    if (masked && n->p.masked_relu.soft)
        return fail(ERR_ARG, "node '%s': its mask is soft; make it 0 or 1 first", n->name);
    TRY(kept_positions(s, masked ? op_in(s->g, n, 1)->data : NULL, s->p->tensor[x.tensor].count,
                       &r));
    if (r.kept == 0) {
        set_result(s, n, x.tensor, x.factor);
        return 0;
    }
    r.width = comparison_width(s, x.tensor, 0);
    TRY(result_tensor(s, n, s->p->scale, x.factor, &out));
    if ((step = add_step(s, PLAN_RELU, n->name, x.tensor, out)) == NULL)
        return ERR_NOMEM;
    step->u.relu = r;
    set_result(s, n, out, x.factor);
    return 0;
}

/* ---- pools -------------------------------------------------------------------------------- */

static bool is_global(const struct node *n)
{
    return n->op == &op_global_average_pool || n->op == &op_global_max_pool;
}

static int pool_attributes(const struct lowering *s, const struct node *n, struct plan_pool *q)
{
    const struct shape *x = &op_in(s->g, n, 0)->shape, *y = &s->g->value[n->out[0]].shape;
    const struct pool_params *p = &n->p.pool;

    for (int i = 0; i < 2; i++) {
        q->kernel[i] = is_global(n) ? x->dim[i + 2] : p->kernel[i];
        q->stride[i] = is_global(n) ? 1 : p->stride[i];
        q->pad[i] = is_global(n) ? 0 : p->pad[i];
        q->pad[i + 2] = is_global(n) ? 0 : p->pad[i + 2];
        if (!is_global(n) && p->dilation[i] != 1)
            return refuse(n, "dilated windows have no form");
        /* ceil_mode: padding at the end stands for the last, partial window */
        int64_t need =
            (y->dim[i + 2] - 1) * q->stride[i] + q->kernel[i] - x->dim[i + 2] - q->pad[i];
        q->pad[i + 2] = need > q->pad[i + 2] ? need : q->pad[i + 2];
    }
    return 0;
}

static int add_pool(struct lowering *s, const struct node *n, enum plan_kind kind,
                    const struct plan_pool *q, double factor)
{
    struct lowered x = operand(s, n, 0);
    struct plan_step *step;
    int32_t out;

    TRY(result_tensor(s, n, s->p->tensor[x.tensor].scale, factor, &out));
    if ((step = add_step(s, kind, n->name, x.tensor, out)) == NULL)
        return ERR_NOMEM;
    step->u.pool = *q;
    set_result(s, n, out, factor);
    return 0;
}

static int lower_average_pool(struct lowering *s, const struct node *n)
{
    struct plan_pool q = {0};
    double factor = operand(s, n, 0).factor;

    TRY(pool_attributes(s, n, &q));
    if (q.pad[0] + q.pad[1] + q.pad[2] + q.pad[3] > 0 &&
        (!n->p.pool.count_include_pad || n->p.pool.ceil_mode))
        return refuse(n, "windows at the border have another divisor; pad explicitly, or count the "
                         "padding");
    return add_pool(s, n, PLAN_SUM_POOL, &q, factor / (double)(q.kernel[0] * q.kernel[1]));
}

static int lower_max_pool(struct lowering *s, const struct node *n)
{
    struct plan_pool q = {0};
    struct lowered x = operand(s, n, 0);

    TRY(pool_attributes(s, n, &q));
    q.width = comparison_width(s, x.tensor, 1);
    return add_pool(s, n, PLAN_MAX_POOL, &q, x.factor);
}

/* ---- movement ----------------------------------------------------------------------------- */

static int lower_pad(struct lowering *s, const struct node *n)
{
    struct lowered x = operand(s, n, 0);
    struct plan_step *step;
    int32_t out;

    if (n->p.pad.value != 0)
        return refuse(n, "it pads with a number other than 0");
    TRY(result_tensor(s, n, s->p->tensor[x.tensor].scale, x.factor, &out));
    if ((step = add_step(s, PLAN_PAD, n->name, x.tensor, out)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < 3; i++) {
        step->u.pad.begin[i] = n->p.pad.begin[i + 1];
        step->u.pad.end[i] = n->p.pad.end[i + 1];
    }
    set_result(s, n, out, x.factor);
    return 0;
}

static int lower_slice(struct lowering *s, const struct node *n)
{
    struct lowered x = operand(s, n, 0);
    struct plan_step *step;
    int32_t out;

    TRY(result_tensor(s, n, s->p->tensor[x.tensor].scale, x.factor, &out));
    if ((step = add_step(s, PLAN_SLICE, n->name, x.tensor, out)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < 3; i++) {
        step->u.slice.start[i] = n->p.slice.start[i + 1];
        step->u.slice.step[i] = n->p.slice.step[i + 1];
    }
    set_result(s, n, out, x.factor);
    return 0;
}

static int lower_reshape(struct lowering *s, const struct node *n)
{
    struct lowered x = operand(s, n, 0);
    const struct plan_tensor *t = &s->p->tensor[x.tensor];
    int64_t dim[3] = {1, 1, 1};
    int32_t rank = 0, out;

    TRY(plan_shape(s, n, n->out[0], &rank, dim));
    if (rank == t->rank && memcmp(dim, t->dim, sizeof dim) == 0) {
        set_result(s, n, x.tensor, x.factor);
        return 0;
    }
    if (rank != 1)
        return refuse(n, "only a reshape to [N,K] has a form");
    out = add_tensor(s, 1, dim, t->scale, s->tensor_max[x.tensor]);
    set_result(s, n, out, x.factor);
    return add_step(s, PLAN_FLATTEN, n->name, x.tensor, out) == NULL ? ERR_NOMEM : 0;
}

/* ---- the input ---------------------------------------------------------------------------- */

/* Takes y = a x + b of the input into mean and std; false where that is impossible. */
static bool absorb(struct plan_input *in, const double *a, const double *b, int64_t c)
{
    for (int64_t i = 0; i < c; i++)
        if (!(a[i] > 0) || !isfinite(a[i]) || !isfinite(b[i]))
            return false;
    for (int64_t i = 0; i < c;
         i++) { /* a (p - mean) / std + b = (p - mean + b std / a) / (std / a) */
        in->mean[i] -= b[i] * in->std[i] / a[i];
        in->std[i] /= a[i];
    }
    return true;
}

/* Follows the input through constants per channel as long as nobody else reads it. */
static int peel_input(struct lowering *s, value_id *v)
{
    for (;;) {
        int32_t user = graph_single_user(s->g, *v);
        const struct node *n = user < 0 ? NULL : &s->g->node[user];
        double *a, *b;
        int64_t c;
        if (n == NULL || graph_count_uses(s->g, *v) != 1 || n->in[0] != *v ||
            (n->op != &op_add && n->op != &op_sub && n->op != &op_mul && n->op != &op_div) ||
            value_is_activation(op_in(s->g, n, 1)))
            return 0;
        TRY(new_affine(s, *v, &c, &a, &b));
        if (constant_affine(s, n, 0, a, b, c) < 0 || !absorb(&s->p->input, a, b, c))
            return 0;
        s->peeled[user] = true;
        *v = n->out[0];
    }
}

static int lower_input(struct lowering *s)
{
    const struct shape *shape = &s->g->value[s->g->input].shape;
    const struct input_norm *norm = &s->g->norm;
    struct plan_input *in = &s->p->input;
    value_id v = s->g->input;
    double max = 0;

    if (shape->rank != 4 || shape->dim[1] > PLAN_MAX_CHANNELS)
        return fail(ERR_UNSUPPORTED, "the input is not an image of at most %d channels",
                    PLAN_MAX_CHANNELS);
    for (int64_t c = 0; c < shape->dim[1]; c++) {
        in->mean[c] = norm->channels > 0 ? (double)norm->mean[c] : 0;
        in->std[c] = norm->channels > 0 ? (double)norm->std[c] : 1;
    }
    TRY(peel_input(s, &v));
    for (int64_t c = 0; c < shape->dim[1]; c++)
        max = fmax(max, fmax(fabs(in->mean[c] / in->std[c]), fabs((1 - in->mean[c]) / in->std[c])));
    s->of[v] = (struct lowered){add_tensor(s, 3, shape->dim + 1, s->p->scale, max), 1};
    if ((in->name = arena_strdup(s->p->arena, s->g->value[s->g->input].name)) == NULL)
        return ERR_NOMEM;
    return 0;
}

/* ---- the walk ----------------------------------------------------------------------------- */

typedef int lower_node_fn(struct lowering *s, const struct node *n);
static const struct {
    const struct op *op;
    lower_node_fn *lower;
} table[] = {
    {&op_conv, lower_conv},
    {&op_gemm, lower_gemm},
    {&op_batchnorm, lower_batchnorm},
    {&op_add, lower_add},
    {&op_sub, lower_constant},
    {&op_mul, lower_constant},
    {&op_div, lower_constant},
    {&op_relu, lower_relu},
    {&op_masked_relu, lower_relu},
    {&op_average_pool, lower_average_pool},
    {&op_global_average_pool, lower_average_pool},
    {&op_max_pool, lower_max_pool},
    {&op_global_max_pool, lower_max_pool},
    {&op_pad, lower_pad},
    {&op_slice, lower_slice},
    {&op_flatten, lower_reshape},
    {&op_reshape, lower_reshape},
};

static int lower_node(struct lowering *s, const struct node *n)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].op == n->op)
            return table[i].lower(s, n);
    return refuse(n, n->op == &op_softmax ? "Softmax is dropped only where it makes the output"
                                          : "no step computes this operator");
}

/* The output must be a row with factor 1 that its own step made. */
static int finish_output(struct lowering *s)
{
    struct lowered y;
    const struct node *last = &s->g->node[s->g->n_node - 1];

    if (s->g->value[s->g->output].shape.rank != 2)
        return fail(ERR_UNSUPPORTED, "the output '%s' is not [N,K]",
                    s->g->value[s->g->output].name);
    TRY(plain_operand(s, last, s->g->output, &y));
    if (y.tensor != s->p->step[s->p->n_step - 1].out)
        return fail(ERR_UNSUPPORTED, "the output '%s' is not the last result of the program",
                    s->g->value[s->g->output].name);
    return 0;
}

static int lower_program(struct lowering *s)
{
    TRY(lower_input(s));
    for (int32_t i = 0; i < s->g->n_node; i++)
        if (!s->peeled[i])
            TRY(lower_node(s, &s->g->node[i]));
    if (s->p->n_step == 0)
        return fail(ERR_UNSUPPORTED, "the graph computes nothing");
    return finish_output(s);
}

/* ---- texts -------------------------------------------------------------------------------- */

static int set_text(struct plan *p, const char *from, const char **to)
{
    *to = arena_strdup(p->arena, from == NULL ? "" : from);
    return *to == NULL ? ERR_NOMEM : 0;
}

static int set_texts(struct plan *p, const struct lower_options *o, bool softmax)
{
    p->producer = "linnet " LINNET_VERSION;
    TRY(set_text(p, o->normalize, &p->input.normalize));
    TRY(set_text(p, o->preparation, &p->input.preparation));
    p->label = arena_array(p->arena, (size_t)o->n_label, sizeof *p->label);
    p->claim = arena_array(p->arena, (size_t)o->n_claim, sizeof *p->claim);
    p->note = arena_array(p->arena, 1, sizeof *p->note);
    if (p->label == NULL || p->claim == NULL || p->note == NULL)
        return ERR_NOMEM;
    p->n_label = o->n_label;
    p->n_claim = o->n_claim;
    for (int32_t i = 0; i < o->n_label; i++)
        TRY(set_text(p, o->label[i], &p->label[i]));
    for (int32_t i = 0; i < o->n_claim; i++) {
        p->claim[i] = o->claim[i];
        TRY(set_text(p, o->claim[i].metric, &p->claim[i].metric));
        TRY(set_text(p, o->claim[i].data, &p->claim[i].data));
    }
    if (softmax)
        p->note[p->n_note++] = "the final Softmax was dropped: outputs are logits";
    return 0;
}

/* {"0":2.64,"1":17.5,...}: exact maxima by tensor. */
static int maxima_text(const struct lowering *s, struct plan_weights *w)
{
    struct buf_writer b = buf_writer_to(MAXIMA_LIMIT);
    int rc;

    for (int32_t i = 0; i < s->p->n_tensor; i++) {
        char entry[64];
        int n =
            snprintf(entry, sizeof entry, "%s\"%d\":%.9g", i == 0 ? "{" : ",", i, s->tensor_max[i]);
        buf_put_bytes(&b, entry, (size_t)n);
    }
    buf_put_bytes(&b, "}", 2);
    if ((rc = buf_status(&b)) == 0 &&
        (w->maxima = arena_strdup(w->arena, (const char *)b.data)) == NULL)
        rc = ERR_NOMEM;
    buf_release(&b);
    return rc;
}

/* ---- weights ------------------------------------------------------------------------------ */

static int draw_salt(uint8_t salt[PLAN_SALT])
{
    size_t have = 0;

    while (have < PLAN_SALT) {
        ssize_t n = getrandom(salt + have, PLAN_SALT - have, 0);
        if (n < 0 && errno != EINTR)
            return fail(ERR_IO, "no random numbers from the system: %s", strerror(errno));
        have += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Ties to even; the scales were chosen so that everything fits. */
static void round_matrix(const struct draft *d, struct plan_matrix *m, int32_t f_w,
                         int32_t bias_scale)
{
    for (int64_t i = 0; i < m->rows * m->columns; i++)
        m->weight[i] = (int16_t)nearbyint(ldexp(d->weight[i], f_w));
    for (int64_t i = 0; i < m->rows; i++)
        m->bias[i] = (int64_t)nearbyint(ldexp(d->bias[i], bias_scale));
}

static int make_weights(struct lowering *s, struct plan_weights **out)
{
    struct plan_weights *w;
    int rc;

    TRY(plan_weights_new(s->p, &w));
    for (int32_t i = 0; i < s->p->n_step; i++) {
        const struct plan_step *step = &s->p->step[i];
        if (s->draft[i].weight != NULL)
            round_matrix(&s->draft[i], &w->matrix[i], step->u.linear.weight_scale,
                         step->u.linear.weight_scale + s->p->tensor[step->in[0]].scale);
    }
    if (s->o->salt != NULL)
        memcpy(w->salt, s->o->salt, PLAN_SALT);
    if ((s->o->salt == NULL && (rc = draw_salt(w->salt)) < 0) || (rc = maxima_text(s, w)) < 0)
        goto bad;
    w->source_sha256 =
        arena_strdup(w->arena, s->o->source_sha256 == NULL ? "" : s->o->source_sha256);
    if (w->source_sha256 == NULL) {
        rc = ERR_NOMEM;
        goto bad;
    }
    *out = w;
    return 0;
bad:
    plan_weights_free(w);
    return rc;
}

/* ---- the whole ---------------------------------------------------------------------------- */

/* Room for three steps a node (factor, step, output) and the tables of the walk. */
static int prepare_tables(struct lowering *s)
{
    struct arena *a = s->p->arena;
    size_t cap = (size_t)(3 * s->g->n_node + 2);

    if (cap > PLAN_MAX_TENSORS)
        return fail(ERR_LIMIT, "%d nodes are too many for a description", s->g->n_node);
    s->p->tensor = arena_array(a, cap, sizeof *s->p->tensor);
    s->p->step = arena_array(a, cap, sizeof *s->p->step);
    s->draft = arena_array(a, cap, sizeof *s->draft);
    s->tensor_max = arena_array(a, cap, sizeof *s->tensor_max);
    s->of = arena_array(a, (size_t)s->g->n_value, sizeof *s->of);
    s->peeled = arena_array(a, (size_t)s->g->n_node, sizeof *s->peeled);
    if (s->p->tensor == NULL || s->p->step == NULL || s->draft == NULL || s->tensor_max == NULL ||
        s->of == NULL || s->peeled == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < s->g->n_value; i++)
        s->of[i].tensor = -1;
    return 0;
}

static int build(struct lowering *s, bool softmax, struct plan_weights **w)
{
    int rc;

    TRY(prepare_tables(s));
    TRY(set_texts(s->p, s->o, softmax));
    TRY(lower_program(s));
    TRY(plan_complete(s->p));
    TRY(make_weights(s, w));
    if ((rc = plan_name_model(s->p, (*w)->salt)) < 0 || (rc = plan_check(s->p)) < 0 ||
        (rc = plan_weights_check(s->p, *w)) < 0) {
        plan_weights_free(*w);
        *w = NULL;
    }
    return rc;
}

static bool ends_in_softmax(const struct graph *g)
{
    int32_t n = g->value[g->output].producer;

    return g->tail != TAIL_NONE || (n >= 0 && g->node[n].op == &op_softmax);
}

int lower(const struct graph *g, const struct lower_options *options, struct plan **plan,
          struct plan_weights **weights)
{
    struct lower_options o = *options;
    struct lowering s = {.o = &o};
    struct graph *c = NULL;
    double *max_abs = NULL;
    struct plan_weights *w = NULL;
    int rc;

    o.scale = o.scale == 0 ? LOWER_SCALE : o.scale;
    o.weight_scale = o.weight_scale == 0 ? LOWER_WEIGHT_SCALE : o.weight_scale;
    if (o.n_pixels < 1 || o.scale < PLAN_MIN_SCALE || o.scale > PLAN_MAX_SCALE)
        return fail(ERR_ARG, "%lld calibration images, scale %d; needs 1 or more, %d ... %d",
                    (long long)o.n_pixels, o.scale, PLAN_MIN_SCALE, PLAN_MAX_SCALE);
    if ((rc = lower_prepare(g, &c)) < 0)
        goto out;
    if ((max_abs = mem_array((size_t)c->n_value, sizeof *max_abs)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    if ((rc = lower_calibrate(c, o.pixels, o.n_pixels, max_abs)) < 0 || (rc = plan_new(&s.p)) < 0)
        goto out;
    s.g = c;
    s.max_abs = max_abs;
    s.p->scale = o.scale;
    if ((rc = build(&s, ends_in_softmax(g), &w)) < 0)
        goto out;
    *plan = s.p;
    *weights = w;
    s.p = NULL;
out:
    plan_free(s.p);
    mem_free(max_abs);
    graph_free(c);
    return rc;
}
