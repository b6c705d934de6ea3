/*
 * What computes max(x, 0) is a Relu, what computes min(max(x, 0), 6) a Relu6, however the file says it:
 *
 *     Relu(x), Clip(x, 0, inf), Max(x, 0), Max(0, x)
 *     LeakyRelu, Elu, ThresholdedRelu and PRelu (mask_forms.c) with the slope or threshold 0
 *     Where(x > 0, x, 0), Where(x <= 0, 0, x), x * Cast(x > 0), with >= and < too
 *
 *     Clip(x, 0, 6); Clip(r, *, 6), Min(r, 6) of a result r of one of these: the lower bound is 0 already
 *
 * A comparison of an activation with 0 is an entry of its own kind until one of those reads it.
 */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

bool canon_is_all(const struct constant *c, float v)
{
    for (int64_t k = 0; c->f != NULL && k < c->count; k++)
        if (c->f[k] != v)
            return false;
    return c->f != NULL && c->count > 0;
}

/* Input i is what a Relu made: not below 0. */
static bool is_after_relu(const struct import *im, int32_t i)
{
    const struct node *n =
        operand_is(im->call, i, ENTRY_ACT) ? graph_producer(im->g, im->call->in[i]->act) : NULL;

    return n != NULL && n->op == &op_relu;
}

/* The node at hand is `op`, a Relu or ReLU6, of its input i; that of a ReLU6 may have gone through a Relu. */
static int emit_relu(struct import *im, int32_t i, const struct op *op)
{
    const bool relu6 = op == &op_relu6;
    enum entry_order order;
    value_id x;

    if (operand_is(im->call, i, ENTRY_SELECTION))
        return mask_relu(im, im->call->in[i]->selection, relu6);
    TRY(operand_act_any(im, i, &x, &order));
    canon_set_order(im, order);
    if (relu6 && is_after_relu(im, i))
        x = graph_producer(im->g, x)->in[0];
    return canon_emit(im, op, &x, 1, NULL);
}

int canon_relu_of(struct import *im, int32_t i)
{
    return emit_relu(im, i, &op_relu);
}

static int canon_relu(struct import *im)
{
    TRY(attrs_only(im, ""));
    return canon_relu_of(im, 0);
}

/* x where it is positive; elsewhere something that is 0 for alpha 0. */
static int canon_leaky(struct import *im)
{
    const bool leaky = strcmp(im->call->type, "LeakyRelu") == 0;
    float alpha;

    TRY(attrs_only(im, "alpha"));
    TRY(attrs_float(im, "alpha", leaky ? 0.01f : 1, &alpha));
    if (alpha == 0)
        return canon_relu_of(im, 0);
    return leaky && alpha == 1 ? canon_pass(im) : canon_unsupported(im);
}

static int relu6_of(struct import *im, int32_t i)
{
    if (im->opt == NULL || !im->opt->relu6_as_relu)
        return emit_relu(im, i, &op_relu6);
    im->n_relu6++;
    return is_after_relu(im, i) ? canon_pass(im) : canon_relu_of(im, i);
}

/* Input i is zeros (or sixes) that do not change the shape of the activation x beside it. */
static int is_all_beside(struct import *im, int32_t i, float v, const struct entry *x, bool *out)
{
    struct constant *c;
    struct shape one, s;

    *out = false;
    if (!operand_is(im->call, i, ENTRY_CONSTANT))
        return 0;
    TRY(operand_constant(im, i, &c));
    if (!canon_is_all(c, v))
        return 0;
    if ((*out = c->count == 1))
        return 0;
    one = im->g->value[x->act].shape;
    one.dim[0] = 1;
    if (x->order != ORDER_SAME)
        return 0;
    TRY(broadcast_shape(im, &one, &c->shape, &s));
    *out = shape_equal(&s, &one);
    return 0;
}

/* Max(x, 0), and Min(r, 6) of a result r of a Relu. */
static int canon_min_max(struct import *im)
{
    const struct call *c = im->call;
    const bool max = strcmp(c->type, "Max") == 0;
    bool found = false;

    TRY(attrs_only(im, ""));
    if (c->n_in == 1)
        return canon_pass(im);
    for (int32_t i = 0; c->n_in == 2 && i < 2; i++) {
        if (max ? operand_is(c, i, ENTRY_ACT) : is_after_relu(im, i))
            TRY(is_all_beside(im, 1 - i, max ? 0 : RELU6_TOP, c->in[i], &found));
        if (found)
            return max ? canon_relu_of(im, i) : relu6_of(im, i);
    }
    return canon_unsupported(im);
}

/* ---- Clip ----------------------------------------------------------------------------------- */

/* A bound of Clip: attribute before opset 11, else an optional scalar input. */
static int clip_bound(struct import *im, const char *name, int32_t i, float dflt, float *out)
{
    struct constant *c;

    TRY(attrs_float(im, name, dflt, out));
    if (!operand_has(im->call, i))
        return 0;
    TRY(operand_constant(im, i, &c));
    if (c->f == NULL || c->count != 1)
        return report_problem(im, "E1207", "", "input %d, '%s', must be one number %s", i,
                              im->call->in[i]->name, im->at);
    *out = c->f[0];
    return 0;
}

static int canon_clip(struct import *im)
{
    const float huge = 3e38f; /* exporters write FLT_MAX for infinity */
    enum entry_order order;
    float low, high;
    value_id x;

    TRY(attrs_only(im, "min,max"));
    TRY(clip_bound(im, "min", 1, -INFINITY, &low));
    TRY(clip_bound(im, "max", 2, INFINITY, &high));
    if (low == 0 && high >= huge)
        return canon_relu_of(im, 0);
    if (high == RELU6_TOP && (low == 0 || (low < 0 && is_after_relu(im, 0))))
        return relu6_of(im, 0);
    TRY(operand_act_any(im, 0, &x, &order));
    if (low <= -huge && high >= huge)
        return canon_pass(im);
    TRY(result_alias(im, im->call->in[0])); /* so that the rest of the file is looked at too */
    return report_problem(
        im, "E1203",
        report_text(im, "give a model with Relu instead, or drop node '%s' and train again",
                    im->call->name),
        "Clip to [%g, %g] %s: only Relu and ReLU6 can be masked", (double)low, (double)high,
        im->at);
}

/* ---- comparisons with 0 --------------------------------------------------------------------- */

static int settle_test(struct import *im, struct entry *e)
{
    return report_problem(im, "E1203", "say it with Relu",
                          "'%s' compares an activation: only Where(x > 0, x, 0) is taken %s",
                          e->name, im->at);
}

/* x > 0, 0 < x and the like; which side of 0 makes it true. */
static int canon_compare(struct import *im)
{
    const struct call *c = im->call;
    const bool greater = c->type[0] == 'G';
    struct entry *out = c->out;
    bool zero = false;

    TRY(attrs_only(im, ""));
    for (int32_t i = 0; c->n_in == 2 && i < 2 && !zero; i++) {
        if (!operand_is(c, i, ENTRY_ACT))
            continue;
        TRY(is_all_beside(im, 1 - i, 0, c->in[i], &zero));
        out->act = c->in[i]->act;
        out->order = c->in[i]->order;
        out->positive = greater == (i == 0);
    }
    if (!zero)
        return canon_unsupported(im);
    out->kind = ENTRY_TEST;
    out->settle = settle_test;
    return 0;
}

/* !(x > 0) is x <= 0. */
static int canon_not(struct import *im)
{
    if (!operand_is(im->call, 0, ENTRY_TEST))
        return canon_unsupported(im);
    TRY(result_alias(im, im->call->in[0]));
    im->call->out->positive = !im->call->out->positive;
    return 0;
}

static bool is_tested(const struct call *c, int32_t i, const struct entry *test)
{
    return operand_is(c, i, ENTRY_ACT) && c->in[i]->act == test->act &&
           c->in[i]->order == test->order;
}

int relu_where(struct import *im, bool *found)
{
    const struct call *c = im->call;
    const struct entry *test = c->in[0];
    const int32_t x = test->positive ? 1 : 2;

    *found = false;
    if (!is_tested(c, x, test))
        return 0;
    TRY(is_all_beside(im, 3 - x, 0, c->in[x], found));
    return *found ? canon_relu_of(im, x) : 0;
}

int relu_product(struct import *im, bool *found)
{
    const struct call *c = im->call;

    *found = false;
    for (int32_t i = 0; i < 2; i++)
        if (operand_is(c, i, ENTRY_TEST) && c->in[i]->positive && is_tested(c, 1 - i, c->in[i])) {
            *found = true;
            return canon_relu_of(im, 1 - i);
        }
    return 0;
}

const struct canon_row canon_relus[] = {
    {"Clip", canon_clip},
    {"Elu", canon_leaky},
    {"Greater", canon_compare},
    {"GreaterOrEqual", canon_compare},
    {"LeakyRelu", canon_leaky},
    {"Less", canon_compare},
    {"LessOrEqual", canon_compare},
    {"Max", canon_min_max},
    {"Min", canon_min_max},
    {"Not", canon_not},
    {"Relu", canon_relu},
    {"ThresholdedRelu", canon_leaky},
    {NULL, NULL},
};
