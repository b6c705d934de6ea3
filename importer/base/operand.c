/* Inputs of the node at hand: activations, constants, lists of integers; and what the result may be. */
#include "onnx.pb-c.h"

#include "importer/base/import.h"

bool operand_has(const struct call *c, int32_t i)
{
    return i < c->n_in && c->in[i] != NULL;
}

bool operand_is(const struct call *c, int32_t i, enum entry_kind kind)
{
    return operand_has(c, i) && c->in[i]->kind == kind;
}

int operand_missing(struct import *im, int32_t i)
{
    return report_problem(im, "E1209", "", "input %d is missing %s", i, im->at);
}

/* Pending values become activations; the order stays open. */
int entry_act_any(struct import *im, struct entry *e, value_id *out)
{
    *out = NO_VALUE;
    if (e->settle != NULL)
        TRY(e->settle(im, e));
    e->settle = NULL;
    if (e->kind != ENTRY_ACT)
        return report_problem(im, "E1207", "",
                              "'%s' is a constant, but only activations may stand there %s",
                              e->name, im->at);
    *out = e->act;
    return 0;
}

int entry_act(struct import *im, struct entry *e, value_id *out)
{
    TRY(entry_act_any(im, e, out));
    if (e->order == ORDER_SAME)
        return 0;
    return report_problem(im, "E1206", "export the model in NCHW order (tf2onnx: --inputs-as-nchw)",
                          "'%s' has its channels last, which %s cannot take here %s", e->name,
                          im->call != NULL ? im->call->type : "the output", im->at);
}

int operand_act_any(struct import *im, int32_t i, value_id *out, enum entry_order *order)
{
    *order = ORDER_SAME;
    *out = NO_VALUE;
    if (!operand_has(im->call, i))
        return operand_missing(im, i);
    TRY(entry_act_any(im, im->call->in[i], out));
    *order = im->call->in[i]->order;
    return 0;
}

int operand_act(struct import *im, int32_t i, value_id *out)
{
    if (!operand_has(im->call, i))
        return operand_missing(im, i);
    return entry_act(im, im->call->in[i], out);
}

int operand_weight(struct import *im, int32_t i, struct constant **out)
{
    struct entry *e;

    if (!operand_has(im->call, i))
        return operand_missing(im, i);
    e = im->call->in[i];
    if (e->kind != ENTRY_CONSTANT)
        return report_problem(im, "E1207", "weights and shapes cannot depend on the image",
                              "input %d, '%s', must be a constant %s", i, e->name, im->at);
    *out = e->constant;
    return 0;
}

int operand_constant(struct import *im, int32_t i, struct constant **out)
{
    int rc;

    TRY(operand_weight(im, i, out));
    if ((rc = constant_read(im, *out)) < 0) {
        im->call->in[i]->kind = ENTRY_BAD; /* report it once */
        return rc;
    }
    return constant_room(im, (*out)->count * (int64_t)sizeof(float));
}

int operand_ints(struct import *im, int32_t i, int64_t *out, uint8_t *batch, int32_t cap,
                 int32_t *n)
{
    struct constant *c;

    TRY(operand_constant(im, i, &c));
    if (c->i == NULL || c->shape.rank > 1 || c->count > cap)
        return report_problem(im, "E1207", "", "input %d, '%s', must be at most %d integers %s", i,
                              im->call->in[i]->name, cap, im->at);
    for (int64_t k = 0; k < c->count; k++) {
        bool is_batch = c->batch != NULL && c->batch[k];

        if (is_batch && batch == NULL)
            return report_pins_batch(im);
        out[k] = c->i[k];
        if (batch != NULL)
            batch[k] = is_batch;
    }
    *n = (int32_t)c->count;
    return 0;
}

int result_alias(struct import *im, const struct entry *e)
{
    struct entry *out = im->call->out;

    out->kind = e->kind;
    out->constant = e->constant;
    out->act = e->act;
    out->positive = e->positive;
    out->order = e->order;
    out->selection = e->selection;
    out->product = e->product;
    out->channels = e->channels;
    out->settle = e->settle;
    return 0;
}
