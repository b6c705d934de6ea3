/* A graph as text; text.h shows it. */
#include "core/graph/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/graph/operator.h"

static void ERR_PRINTF(2, 3) put(struct buf_writer *w, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_put_bytes(w, text, strlen(text));
}

/* Names may be long. */
static void put_text(struct buf_writer *w, const char *s)
{
    buf_put_bytes(w, s, strlen(s));
}

static void put_shape(struct buf_writer *w, const struct shape *s)
{
    char text[SHAPE_TEXT];

    put(w, " %s", shape_text(s, text));
}

static void put_mask(struct buf_writer *w, const struct value *mask)
{
    put(w, "kept %" PRId64 " of %" PRId64, graph_mask_kept(mask), shape_elems(&mask->shape));
}

static void put_inputs(struct buf_writer *w, const struct graph *g, const struct node *n)
{
    put_text(w, "(");
    for (int32_t i = 0; i < n->n_in; i++) {
        const struct value *v = n->in[i] != NO_VALUE ? &g->value[n->in[i]] : NULL;

        put_text(w, i > 0 ? ", " : "");
        if (v != NULL && v->kind == VALUE_MASK) {
            put_mask(w, v);
            continue;
        }
        put_text(w, v != NULL ? v->name : "-");
        if (v != NULL && v->kind != VALUE_INPUT && v->kind != VALUE_TEMP)
            put_shape(w, &v->shape);
    }
    put_text(w, ")");
}

static void put_list(struct buf_writer *w, const char *name, const int64_t *v, int32_t n)
{
    put(w, " %s=", name);
    for (int32_t k = 0; k < n; k++)
        put(w, "%s%" PRId64, k > 0 ? "," : "", v[k]);
}

/* What op->attrs does not list because a file has it as inputs. */
static void put_list_inputs(struct buf_writer *w, const struct node *n)
{
    if (n->op == &op_pad) {
        put_list(w, "begin", n->p.pad.begin, 4);
        put_list(w, "end", n->p.pad.end, 4);
        put(w, " value=%.9g", (double)n->p.pad.value);
    } else if (n->op == &op_slice) {
        put_list(w, "start", n->p.slice.start, 4);
        put_list(w, "end", n->p.slice.end, 4);
        put_list(w, "step", n->p.slice.step, 4);
    }
}

static void put_attributes(struct buf_writer *w, const struct node *n)
{
    for (const struct attr *a = n->op->attrs; a != NULL && a->name != NULL; a++) {
        const void *field = (const char *)&n->p + a->offset;

        if (a->kind == ATTR_FLOAT)
            put(w, " %s=%.9g", a->name, (double)*(const float *)field);
        else
            put_list(w, a->name, field, a->kind == ATTR_INT ? 1 : a->count);
    }
    put_list_inputs(w, n);
}

static void put_node(struct buf_writer *w, const struct graph *g, const struct node *n)
{
    put_text(w, n->name);
    put_text(w, ": ");
    put_text(w, g->value[n->out[0]].name);
    put(w, " = %s", n->op->type);
    put_inputs(w, g, n);
    put_attributes(w, n);
    put_text(w, n->frozen ? " frozen ->" : " ->");
    put_shape(w, &g->value[n->out[0]].shape);
    put_text(w, "\n");
}

static void put_interface(struct buf_writer *w, const char *what, const struct value *v)
{
    put_text(w, what);
    put_text(w, v->name);
    put_shape(w, &v->shape);
    put_text(w, "\n");
}

void graph_text(const struct graph *g, struct buf_writer *w)
{
    put_interface(w, "input ", &g->value[g->input]);
    for (int32_t i = 0; i < g->n_node; i++)
        put_node(w, g, &g->node[i]);
    put_interface(w, "output ", &g->value[g->output]);
}
