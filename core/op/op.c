/* What shape rules share: the check of an image, and the message that names the node. */
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

static int need(const struct graph *g, const struct node *node, bool rows)
{
    const struct value *v = op_in(g, node, 0);
    char text[SHAPE_TEXT];

    if (!value_is_activation(v))
        return op_fail(node, "input 0 '%s' is a constant, needs an activation", v->name);
    if ((v->shape.rank != 4 && !(rows && v->shape.rank == 2)) || !shape_has_batch(&v->shape))
        return op_fail(node, "input 0 '%s' has shape %s, needs [N,C,H,W]%s", v->name,
                       shape_text(&v->shape, text), rows ? " or [N,K]" : "");
    return 0;
}

int op_need_image(const struct graph *g, const struct node *node)
{
    return need(g, node, false);
}

int op_need_image_or_row(const struct graph *g, const struct node *node)
{
    return need(g, node, true);
}
