/*
 * Older and alternative forms of an operator -> the one form that the graph knows. This file holds
 * what all of them share, the element-wise operators, and the refusal of those linnet lacks; the
 * layers with weights are in layers.c, what only moves numbers is in shapes.c.
 *
 * A form is chosen by what is there (attribute or input), not by the opset: exporters mix them.
 * Only where a default changed with the opset is the opset asked.
 */
#include <math.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

/* ---- operands ------------------------------------------------------------------------------- */

void canon_set_order(struct import *im, enum entry_order order)
{
    im->call->out->order = order;
}

/* [..,H,W,C] of rank up to 4 becomes [N,C,H,W]; dims that are not there are 1. */
int canon_channels_first(struct import *im, struct constant *c, struct constant **out)
{
    static const int32_t from[4] = {0, 3, 1, 2};
    struct shape last = {.rank = 4, .dim = {1, 1, 1, 1}}, first = {.rank = 4};
    int64_t stride[4] = {0}, size = 1;

    TRY(constant_read(im, c));
    if (c->shape.rank > 4)
        return report_problem(im, "E1301", "", "'%s' has rank %d, at most 4 %s", c->name,
                              c->shape.rank, im->at);
    for (int32_t k = 0; k < c->shape.rank; k++)
        last.dim[4 - c->shape.rank + k] = c->shape.dim[k];
    for (int32_t k = 3; k >= 0; k--) {
        stride[k] = size;
        size *= last.dim[k];
    }
    for (int32_t k = 0; k < 4; k++)
        first.dim[k] = last.dim[from[k]];
    TRY(constant_new(im, c->type, &first, out));
    (*out)->name = c->name;
    for (int64_t e = 0; e < c->count; e++) {
        int64_t rest = e, at = 0;

        for (int32_t k = 3; k >= 0; k--) {
            at += rest % first.dim[k] * stride[from[k]];
            rest /= first.dim[k];
        }
        if (c->f != NULL)
            (*out)->f[e] = c->f[at];
        else
            (*out)->i[e] = c->i[at];
    }
    return 0;
}

/* Index of the first number that is not finite, n if all are. */
static int64_t first_not_finite(const float *f, int64_t n)
{
    const uint32_t exponent = 0x7f800000;
    int64_t k = 0;

    for (uint32_t bad = 0; k < n && !bad; k += 256)
        for (int64_t i = k; i < k + 256 && i < n; i++) {
            uint32_t bits;

            memcpy(&bits, &f[i], sizeof bits);
            bad |= (bits & exponent) == exponent;
        }
    for (k = k < 256 ? 0 : k - 256; k < n && isfinite(f[k]);)
        k++;
    return k;
}

int canon_value(struct import *im, struct constant *c, enum value_kind kind, value_id *out)
{
    const float *f;

    if (c->images && kind != VALUE_CONST) /* those broadcast */
        return report_pins_batch(im);
    if (!constant_is_float(c))
        return report_problem(im, "E1302", "", "'%s' holds integers, should be float %s", c->name,
                              im->at);
    if (c->count == 0)
        return report_problem(im, "E1303", "", "'%s' is empty %s", c->name, im->at);
    TRY(constant_check(im, c));
    TRY(constant_room(im, c->count * (int64_t)sizeof *c->f));
    TRY(graph_add_value(im->g, c->name, kind, &c->shape, NULL, out));
    f = im->g->value[*out].data;
    TRY(constant_copy(im, c, im->g->value[*out].data));
    const int64_t k = first_not_finite(f, c->count);
    if (k < c->count)
        return report_problem(im, "E1602", "the file is damaged, or its training diverged",
                              "tensor '%s' holds %s at position %lld %s", c->name,
                              isnan(f[k]) ? "NaN" : "an infinite number", (long long)k, im->at);
    return 0;
}

/* ---- results -------------------------------------------------------------------------------- */

int canon_emit_named(struct import *im, const char *name, const struct op *op, const value_id *in,
                     int32_t n_in, const union op_params *p)
{
    struct entry *e = im->call->out;

    TRY(graph_add_node(im->g, op, name, in, n_in, p, e->name, &e->act));
    e->kind = ENTRY_ACT;
    return 0;
}

int canon_emit(struct import *im, const struct op *op, const value_id *in, int32_t n_in,
               const union op_params *p)
{
    return canon_emit_named(im, im->call->name, op, in, n_in, p);
}

void canon_freeze(struct import *im)
{
    im->g->node[im->g->n_node - 1].frozen = true;
}

bool canon_at_input(const struct import *im, value_id x)
{
    const struct node *n = graph_producer(im->g, x);

    return x == im->g->input || (n != NULL && n->frozen);
}

/* The same as input 0, which becomes an activation if it is pending. */
int canon_pass(struct import *im)
{
    enum entry_order order;
    value_id x;

    if (operand_is(im->call, 0, ENTRY_CONSTANT) || operand_is(im->call, 0, ENTRY_TEST) ||
        operand_is(im->call, 0, ENTRY_CHANNELS))
        return result_alias(im, im->call->in[0]);
    TRY(operand_act_any(im, 0, &x, &order));
    return result_alias(im, im->call->in[0]);
}

/* ---- element-wise --------------------------------------------------------------------------- */

static int canon_identity(struct import *im)
{
    TRY(attrs_only(im, ""));
    return canon_pass(im);
}

static int canon_dropout(struct import *im)
{
    struct constant *training;

    TRY(attrs_only(im, "ratio,seed"));
    if (operand_has(im->call, 2)) {
        TRY(operand_constant(im, 2, &training));
        if (training->i != NULL && training->count == 1 && training->i[0] != 0)
            TRY(report_warning(im, "Dropout in training mode was removed %s", im->at));
    }
    return canon_pass(im);
}

static bool is_float_type(int64_t t)
{
    return t == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT ||
           t == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16 ||
           t == ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16 ||
           t == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
}

static int canon_cast(struct import *im)
{
    int64_t to;

    TRY(attrs_only(im, "to,saturate,round_mode"));
    TRY(attrs_int(im, "to", 0, &to));
    if (!is_float_type(to))
        return report_problem(
            im, "E1302", "",
            "an activation is cast to element type %lld, only floating types are supported %s",
            (long long)to, im->at);
    im->n_cast += to != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    return canon_pass(im);
}

static int canon_cast_like(struct import *im)
{
    TRY(attrs_only(im, "saturate,round_mode"));
    if (operand_has(im->call, 1) && im->call->in[1]->kind == ENTRY_CONSTANT &&
        !constant_is_float(im->call->in[1]->constant))
        return report_problem(
            im, "E1302", "",
            "an activation is cast to integers, only floating types are supported %s", im->at);
    return canon_pass(im);
}

/* LogSoftmax is taken as the last node only, where it is none of the graph (graph.tail). */
static bool is_tail(const struct import *im, value_id x)
{
    const struct call *c = im->call;

    return c->out == im->output && c->out->uses == 1 && im->g->value[x].producer >= 0 &&
           im->g->value[x].shape.rank == 2;
}

static int set_tail(struct import *im)
{
    struct graph *g = im->g;

    g->tail = TAIL_LOG_SOFTMAX;
    g->tail_node = arena_strdup(g->arena, im->call->name);
    g->tail_output = arena_strdup(g->arena, im->call->out->name);
    if (g->tail_node == NULL || g->tail_output == NULL)
        return ERR_NOMEM;
    return result_alias(im, im->call->in[0]);
}

static int canon_softmax(struct import *im)
{
    const bool logarithm = strcmp(im->call->type, "LogSoftmax") == 0;
    union op_params p;
    int64_t axis;
    value_id x;

    TRY(attrs_fill(im, &op_softmax, "", &p));
    TRY(operand_act(im, 0, &x));
    TRY(attrs_int(im, "axis", im->opset < 13 ? 1 : -1, &axis));
    const struct shape *s = &im->g->value[x].shape;
    if (s->rank != 2 || (axis != 1 && axis != -1))
        return report_problem(
            im, "E1206", "only a Softmax over the classes is taken, axis 1 or -1",
            "%s along axis %lld of rank %d, only the classes of [N,K] are supported %s",
            im->call->type, (long long)axis, s->rank, im->at);
    if (logarithm)
        return is_tail(im, x) ? set_tail(im) : canon_unsupported(im);
    p.softmax.axis = 1;
    return canon_emit(im, &op_softmax, &x, 1, &p);
}

/* The order of the activations of an element-wise node. */
static int common_order(struct import *im, enum entry_order *order)
{
    bool found = false;

    *order = ORDER_SAME;
    for (int32_t i = 0; i < im->call->n_in; i++) {
        const struct entry *e = im->call->in[i];

        if (e == NULL || e->kind == ENTRY_CONSTANT)
            continue;
        if (found && e->order != *order)
            return report_problem(
                im, "E1206", "export the model in NCHW order (tf2onnx: --inputs-as-nchw)",
                "'%s' and another input of %s have their channels in different places %s", e->name,
                im->call->type, im->at);
        found = true;
        *order = e->order;
    }
    canon_set_order(im, *order);
    return 0;
}

/* The operand of a binary node: an activation, or a constant that becomes a CONST value. */
static int binary_operand(struct import *im, int32_t i, enum entry_order order, value_id *out)
{
    struct constant *c;

    if (!operand_has(im->call, i))
        return operand_missing(im, i);
    if (im->call->in[i]->kind != ENTRY_CONSTANT)
        return entry_act_any(im, im->call->in[i], out);
    TRY(operand_constant(im, i, &c));
    if (order == ORDER_LAST)
        TRY(canon_channels_first(im, c, &c));
    else if (order == ORDER_FLAT_LAST && c->count != 1)
        return report_problem(im, "E1206",
                              "export the model in NCHW order (tf2onnx: --inputs-as-nchw)",
                              "'%s' meets features with their channels last %s", c->name, im->at);
    return canon_value(im, c, VALUE_CONST, out);
}

static int emit_binary(struct import *im, const struct op *op, value_id a, value_id b)
{
    value_id in[2] = {a, b};
    const bool left = value_is_activation(&im->g->value[a]);
    const bool right = value_is_activation(&im->g->value[b]);

    if (!left && (op == &op_add || op == &op_mul))
        in[0] = b, in[1] = a; /* the activation first */
    TRY(canon_emit(im, op, in, 2, NULL));
    if (left != right && canon_at_input(im, left ? a : b))
        canon_freeze(im);
    return 0;
}

static int canon_binary(struct import *im)
{
    const struct op *op = op_find(im->call->type);
    const struct call *c = im->call;
    enum entry_order order;
    bool found = false;
    value_id a, b;

    TRY(attrs_only(im, ""));
    for (int32_t i = 0; op == &op_add && i < 2 && !found; i++) {
        struct constant *bias;

        if (!operand_is(c, i, ENTRY_PRODUCT) || !operand_is(c, 1 - i, ENTRY_CONSTANT))
            continue;
        TRY(operand_constant(im, 1 - i, &bias));
        TRY(canon_product_bias(im, c->in[i], bias, &found));
    }
    if (found)
        return 0;
    if (op == &op_mul) /* x * (x > 0) */
        TRY(relu_product(im, &found));
    if (!found)
        TRY(input_channels_binary(im, op, &found));
    if (found)
        return 0;
    TRY(common_order(im, &order));
    TRY(binary_operand(im, 0, order, &a));
    TRY(binary_operand(im, 1, order, &b));
    if (op == &op_add)
        TRY(mask_sum(im, a, b, &found));
    if (op == &op_add && !found)
        TRY(channel_sum(im, a, b, &found));
    return found ? 0 : emit_binary(im, op, a, b);
}

/* Sum(a, b, c, ...) = Add(Add(a, b), c) ...; the last Add has the node's name and output. */
static int canon_sum(struct import *im)
{
    enum entry_order order;
    value_id in[2], next;

    TRY(attrs_only(im, ""));
    if (im->call->n_in == 1)
        return canon_pass(im);
    TRY(common_order(im, &order));
    TRY(binary_operand(im, 0, order, &in[0]));
    for (int32_t i = 1; i < im->call->n_in - 1; i++) {
        const char *name = report_text(im, "%s_part%d", im->call->name, i);
        const char *out = report_text(im, "%s_part%d", im->call->out->name, i);

        TRY(binary_operand(im, i, order, &in[1]));
        TRY(graph_add_node(im->g, &op_add, name, in, 2, NULL, out, &next));
        in[0] = next;
    }
    TRY(binary_operand(im, im->call->n_in - 1, order, &in[1]));
    return emit_binary(im, &op_add, in[0], in[1]);
}

/* ---- what linnet does not have -------------------------------------------------------------- */

static const char *const activations[] = {
    "Celu",      "Elu",       "Erf",   "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Mish",  "Selu", "Sigmoid",
    "Softplus",  "Softsign",  "Swish", "Tanh", "ThresholdedRelu",
};

static bool is_activation_function(const char *type)
{
    for (size_t k = 0; k < sizeof activations / sizeof *activations; k++)
        if (strcmp(activations[k], type) == 0)
            return true;
    return false;
}

static bool is_quantised(const char *type)
{
    return strncmp(type, "QLinear", 7) == 0 || strcmp(type, "QuantizeLinear") == 0 ||
           strcmp(type, "DequantizeLinear") == 0 || strcmp(type, "DynamicQuantizeLinear") == 0 ||
           strcmp(type, "ConvInteger") == 0 || strcmp(type, "MatMulInteger") == 0;
}

static bool is_control_flow(const char *type)
{
    return strcmp(type, "If") == 0 || strcmp(type, "Loop") == 0 || strcmp(type, "Scan") == 0 ||
           strcmp(type, "NonZero") == 0 || strncmp(type, "Sequence", 8) == 0 ||
           strncmp(type, "Optional", 8) == 0;
}

/* It reads what linnet could take as the output. */
static bool is_behind_logits(const struct import *im)
{
    const struct call *c = im->call;

    if (strcmp(c->type, "ArgMax") == 0 || strcmp(c->type, "LogSoftmax") == 0)
        return operand_has(c, 0);
    return c->out == im->output && is_activation_function(c->type) && operand_has(c, 0) &&
           c->in[0]->kind == ENTRY_ACT && im->g->value[c->in[0]->act].shape.rank == 2;
}

int canon_unsupported(struct import *im)
{
    const char *type = im->call->type;

    if (is_quantised(type))
        return report_problem(im, "E1204", "give the float model it was made from",
                              "quantised operator '%s' %s", type, im->at);
    if (is_control_flow(type))
        return report_problem(im, "E1202", "export a fixed graph",
                              "control flow or dynamic size '%s' %s", type, im->at);
    if (is_behind_logits(im))
        return report_problem(im, "E1203",
                              report_text(im, "take its input as the output: --output-name '%s'",
                                          im->call->in[0]->name),
                              "unsupported operator '%s' %s: linnet needs the logits", type,
                              im->at);
    if (is_activation_function(type)) {
        if (operand_has(im->call, 0)) /* shapes stay, so the rest of the file is looked at too */
            TRY(result_alias(im, im->call->in[0]));
        return report_problem(im, "E1203", "train the model with Relu in its place",
                              "unsupported operator '%s' %s: only Relu can be masked", type,
                              im->at);
    }
    return report_problem(
        im, "E1203",
        "linnet takes residual networks of Conv, BatchNormalization, Relu, Add, pools and Gemm; what follows the logits is cut off by --output-name NAME",
        "unsupported operator '%s' %s", type, im->at);
}

/* ---- the operators that need no rewriting --------------------------------------------------- */

/* An operator of ops.def whose node in the file is its node in the graph: attributes by its table,
 * constants as weights. What the operator requires of shapes and inputs its own shape hook says. */
static int canon_same(struct import *im)
{
    const struct op *op = op_find(im->call->type);
    enum entry_order order = ORDER_SAME;
    value_id in[NODE_MAX_IN];
    union op_params p;

    TRY(attrs_fill(im, op, "", &p));
    if (im->call->n_in > op->in_max)
        return report_problem(im, "E1209", "", "%d inputs, at most %d %s", im->call->n_in,
                              op->in_max, im->at);
    for (int32_t i = 0; i < im->call->n_in; i++) {
        const bool constant = operand_has(im->call, i) && im->call->in[i]->kind == ENTRY_CONSTANT;

        in[i] = NO_VALUE;
        if (constant)
            TRY(canon_value(im, im->call->in[i]->constant, VALUE_PARAM, &in[i]));
        else if (op->in_max == 1 && (op->flags & OP_ELEMENTWISE))
            TRY(operand_act_any(im, i, &in[i], &order));
        else if (operand_has(im->call, i))
            TRY(operand_act(im, i, &in[i]));
    }
    canon_set_order(im, order);
    return canon_emit(im, op, in, im->call->n_in, &p);
}

/* ---- table ---------------------------------------------------------------------------------- */

static const struct canon_row canon_elements[] = {
    {"Add", canon_binary},         {"Cast", canon_cast},
    {"CastLike", canon_cast_like}, {"Div", canon_binary},
    {"Dropout", canon_dropout},    {"Identity", canon_identity},
    {"LogSoftmax", canon_softmax}, {"Mul", canon_binary},
    {"PRelu", mask_prelu},         {"Softmax", canon_softmax},
    {"Sub", canon_binary},         {"Sum", canon_sum},
    {"Where", mask_where},         {NULL, NULL},
};

canon_fn *canon_find(const char *type)
{
    const struct canon_row *const tables[] = {canon_elements, canon_layers, canon_shapes,
                                              canon_relus};

    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const struct canon_row *r = tables[t]; r->type != NULL; r++)
            if (strcmp(r->type, type) == 0)
                return r->fn;
    const struct op *op = op_find(type);
    return op != NULL && op != &op_masked_relu && op != &op_relu6 ? canon_same : NULL;
}
