/* What every shape rule needs: checks of the operands, and the message that names the node. */
#include "core/op/op.h"

#include <stdarg.h>
#include <stdio.h>

int op_fail(const struct node *node, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return fail(ERR_FORMAT, "node '%s' (%s): %s", node->name, node->op->type, text);
}

int op_check_inputs(const struct graph *g, const struct node *node)
{
    const struct op *op = node->op;

    if (node->n_in < op->in_min || node->n_in > op->in_max)
        return op_fail(node, "has %d inputs, needs %d to %d", node->n_in, op->in_min, op->in_max);
    for (int32_t i = 0; i < node->n_in; i++) {
        value_id v = node->in[i];
        if (v == NO_VALUE && i >= op->in_min)
            continue;
        if (v < 0 || v >= g->n_value)
            return op_fail(node, "input %d is missing", i);
    }
    return 0;
}

static int need(const struct graph *g, const struct node *node, int i, bool rows)
{
    const struct value *v = op_in(g, node, i);
    char text[SHAPE_TEXT];

    if (!value_is_activation(v))
        return op_fail(node, "input %d '%s' is a constant, needs an activation", i, v->name);
    if ((v->shape.rank != 4 && !(rows && v->shape.rank == 2)) || !shape_has_batch(&v->shape))
        return op_fail(node, "input %d '%s' has shape %s, needs [N,C,H,W]%s", i, v->name,
                       shape_text(&v->shape, text), rows ? " or [N,K]" : "");
    return 0;
}

int op_need_image(const struct graph *g, const struct node *node, int i)
{
    return need(g, node, i, false);
}

int op_need_image_or_row(const struct graph *g, const struct node *node, int i)
{
    return need(g, node, i, true);
}
