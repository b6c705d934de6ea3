/*
 * A masked ReLU y = m ? max(x, 0) : x written in standard operators -> one MaskedRelu node.
 *
 *   where    Where(m, Relu(x), x), or Where(m, x, Relu(x)) with the mask inverted
 *            or with Add(Mul(x, s), b) in x's place, s and b of one number a channel: a line. A slope
 *            of 1/2 throughout stays a constant when the network is trained on
 *   prelu    PRelu(x, s), every s 0 or 1; m = 1 - s
 *   sum      m * Relu(x) + (1 - m) * x
 *   gather   columns of [N,K] are gathered, some go through Relu, all come back to their places
 *
 * In where, sum and gather a ReLU6, Clip(x, 0, 6), may stand in Relu's place.
 *
 * What is recognised is the structure; names do not matter. Masks of any shape that broadcasts to x
 * are written out in full. The node is called as the site: the last node's name less its "/Where",
 * so that a file written by linnet gets the names of the graph that it was written from.
 *
 * The gather form needs values that are no activations of the graph: a selection says for each
 * column which column of the base it is and whether it went through Relu. Gather, Concat and Relu
 * turn selections into selections; once the columns are back in order a selection is a MaskedRelu.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/canon/canon.h"

/* `name` without "/<last part>" where that part is a node of one of the forms. */
static const char *site_name(struct import *im, const char *name)
{
    static const char *const parts[] = {"/Where", "/PRelu", "/Reshape",
                                        "/Add",   "/Order", "/Concat"};
    const size_t n = strlen(name);

    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        size_t len = strlen(parts[k]);

        if (n > len && strcmp(name + n - len, parts[k]) == 0)
            return arena_printf(im->arena, "%.*s", (int)(n - len), name);
    }
    return name;
}

struct line { /* constants of the graph that the file multiplies by and adds */
    value_id slope, offset;
};

/* One number a channel of x, from a constant that broadcasts to it. It takes the constant's name, whose
 * reader goes. */
static int line_value(struct import *im, value_id x, value_id from, bool slope, value_id *out)
{
    struct graph *g = im->g;
    const struct shape s = shape_make(1, g->value[x].shape.dim[1]);
    const int64_t step = shape_elems(&g->value[from].shape) == s.dim[0] ? 1 : 0;
    const float *data = g->value[from].data;
    const char *name = g->value[from].name;
    bool half = slope;

    TRY(constant_room(im, s.dim[0] * (int64_t)sizeof *data));
    for (int64_t c = 0; c < s.dim[0]; c++)
        half = half && data[c * step] == 0.5f;
    TRY(graph_add_value(g, name, half ? VALUE_CONST : VALUE_PARAM, &s, NULL, out));
    for (int64_t c = 0; c < s.dim[0]; c++)
        g->value[*out].data[c] = data[c * step];
    g->value[from].name = g->value[*out].name;
    g->value[*out].name = name;
    return 0;
}

/* Makes the node. mask: as many floats as x has elements per image, 0 or 1. */
static int emit_site(struct import *im, const char *node, const char *out_name, value_id x,
                     const float *mask, bool relu6, const struct line *line, value_id *out)
{
    const union op_params p = {.masked_relu = {.relu6 = relu6}};
    const char *site = site_name(im, node);
    const char *mask_name = site != NULL ? arena_printf(im->arena, "%s.mask", site) : NULL;
    struct shape s = {.rank = im->g->value[x].shape.rank - 1};
    value_id in[4] = {x, NO_VALUE, NO_VALUE, NO_VALUE};

    if (mask_name == NULL)
        return ERR_NOMEM;
    for (int32_t k = 0; k < s.rank; k++)
        s.dim[k] = im->g->value[x].shape.dim[k + 1];
    TRY(constant_room(im, shape_elems(&s) * (int64_t)sizeof *mask));
    TRY(graph_add_value(im->g, mask_name, VALUE_MASK, &s, mask, &in[1]));
    if (line != NULL) {
        TRY(line_value(im, x, line->slope, true, &in[2]));
        TRY(line_value(im, x, line->offset, false, &in[3]));
    }
    return graph_add_node(im->g, &op_masked_relu, site, in, line != NULL ? 4 : 2, &p, out_name,
                          out);
}

static int emit_line(struct import *im, value_id x, const float *mask, bool relu6,
                     const struct line *line)
{
    struct entry *e = im->call->out;

    TRY(emit_site(im, im->call->name, e->name, x, mask, relu6, line, &e->act));
    e->kind = ENTRY_ACT;
    return 0;
}

int mask_emit(struct import *im, value_id x, const float *mask, bool relu6)
{
    return emit_line(im, x, mask, relu6, NULL);
}

/* The Relu or ReLU6 that makes r, NULL if something else does. */
static const struct node *relu_of(const struct graph *g, value_id r)
{
    const struct node *n = graph_producer(g, r);

    return n != NULL && (n->op == &op_relu || n->op == &op_relu6) ? n : NULL;
}

static bool is_relu6(const struct graph *g, value_id r)
{
    return relu_of(g, r)->op == &op_relu6;
}

bool mask_is_relu_of(const struct graph *g, value_id r, value_id x)
{
    const struct node *n = relu_of(g, r);

    return n != NULL && n->in[0] == x;
}

/* x's shape with one image. */
static struct shape one_image(const struct import *im, value_id x)
{
    struct shape s = im->g->value[x].shape;

    s.dim[0] = 1;
    return s;
}

static bool broadcasts_to(const struct shape *s, const struct shape *to)
{
    if (s->rank > to->rank)
        return false;
    for (int32_t d = 1; d <= s->rank; d++)
        if (s->dim[s->rank - d] != 1 && s->dim[s->rank - d] != to->dim[to->rank - d])
            return false;
    return true;
}

static int new_mask(struct import *im, value_id x, float **mask, int64_t *n)
{
    struct constant *c;
    struct shape s = one_image(im, x);

    TRY(constant_new(im, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, &s, &c));
    *mask = c->f;
    *n = c->count;
    return 0;
}

static int bad_mask(struct import *im, const struct constant *m)
{
    char text[SHAPE_TEXT];

    return report_problem(im, "E1301", "", "mask '%s' of shape %s does not fit its input %s",
                          m->name, shape_text(&m->shape, text), im->at);
}

/* ---- lines ---------------------------------------------------------------------------------- */

/* v = op(x, c), c a constant. */
static bool is_with_constant(const struct graph *g, value_id v, const struct op *op, value_id *x,
                             value_id *c)
{
    const struct node *n = graph_producer(g, v);

    if (n == NULL || n->op != op)
        return false;
    *x = n->in[0];
    *c = n->in[1];
    return g->value[*c].kind == VALUE_CONST;
}

/* The same with one number, or one a channel of x. */
static bool is_by_channel(const struct graph *g, value_id v, const struct op *op, value_id *x,
                          value_id *c)
{
    if (!is_with_constant(g, v, op, x, c))
        return false;
    const struct shape *s = &g->value[*c].shape, *to = &g->value[*x].shape;
    const int32_t channel = s->rank - (to->rank - 1); /* the dim that meets x's channels */

    return shape_elems(s) == 1 ||
           (channel >= 0 && s->dim[channel] == to->dim[1] && shape_elems(s) == to->dim[1]);
}

/* Is `v` a line of what the Relu `r` reads? */
static bool line_beside(const struct graph *g, value_id r, value_id v, struct line *line)
{
    const struct node *n = relu_of(g, r);
    value_id scaled, x;

    return n != NULL && is_by_channel(g, v, &op_add, &scaled, &line->offset) &&
           is_by_channel(g, scaled, &op_mul, &x, &line->slope) && x == n->in[0];
}

/* ---- where ---------------------------------------------------------------------------------- */

int mask_where(struct import *im)
{
    struct constant *m;
    value_id a, b;
    int64_t n;
    float *mask;
    struct line line;
    bool found = false;

    TRY(attrs_only(im, ""));
    if (operand_is(im->call, 0, ENTRY_TEST))
        TRY(relu_where(im, &found));
    if (found)
        return 0;
    if (!operand_is(im->call, 0, ENTRY_CONSTANT))
        return canon_unsupported(im);
    TRY(operand_constant(im, 0, &m));
    TRY(operand_act(im, 1, &a));
    TRY(operand_act(im, 2, &b));
    const bool lined_first = line_beside(im->g, a, b, &line);
    const bool lined = lined_first || line_beside(im->g, b, a, &line);
    const bool first = lined ? lined_first : mask_is_relu_of(im->g, a, b);
    if (m->i == NULL || (!first && !lined && !mask_is_relu_of(im->g, b, a)))
        return report_problem(im, "E1206", "",
                              "Where that is no masked Relu, Where(mask, Relu(x), x) %s", im->at);
    const value_id x = graph_producer(im->g, first ? a : b)->in[0];
    const struct shape to = one_image(im, x);
    if (!broadcasts_to(&m->shape, &to))
        return bad_mask(im, m);
    TRY(new_mask(im, x, &mask, &n));
    for (int64_t k = 0; k < n; k++)
        mask[k] = (m->i[broadcast_index(&to, k, &m->shape)] != 0) == first ? 1 : 0;
    return emit_line(im, x, mask, is_relu6(im->g, first ? a : b), lined ? &line : NULL);
}

/* ---- prelu ---------------------------------------------------------------------------------- */

int mask_prelu(struct import *im)
{
    struct constant *slope;
    int64_t n;
    value_id x;
    float *mask;

    TRY(attrs_only(im, ""));
    TRY(operand_constant(im, 1, &slope));
    if (canon_is_all(slope, 0))
        return canon_relu_of(im, 0);
    TRY(operand_act(im, 0, &x));
    for (int64_t k = 0; slope->f != NULL && k < slope->count; k++)
        if (slope->f[k] != 0 && slope->f[k] != 1) {
            TRY(result_alias(im, im->call->in[0]));
            return report_problem(
                im, "E1203", "train the model with Relu in its place",
                "PRelu with slope %g %s: only slopes 0 and 1, a masked Relu, are supported",
                (double)slope->f[k], im->at);
        }
    const struct shape to = one_image(im, x);
    if (slope->f == NULL || !broadcasts_to(&slope->shape, &to))
        return bad_mask(im, slope);
    TRY(new_mask(im, x, &mask, &n));
    for (int64_t k = 0; k < n; k++)
        mask[k] = 1 - slope->f[broadcast_index(&to, k, &slope->shape)];
    return mask_emit(im, x, mask, false);
}

/* ---- sum ------------------------------------------------------------------------------------ */

int mask_sum(struct import *im, value_id a, value_id b, bool *found)
{
    const struct graph *g = im->g;
    value_id xa, xb, ma, mb;
    int64_t n;
    float *mask;

    *found = false;
    if (!is_with_constant(g, a, &op_mul, &xa, &ma) || !is_with_constant(g, b, &op_mul, &xb, &mb))
        return 0;
    if (mask_is_relu_of(g, xb, xa)) {
        value_id x = xa, m = ma;

        xa = xb, ma = mb, xb = x, mb = m;
    }
    const struct shape to = one_image(im, xb);
    const struct value *keep = &g->value[ma], *pass = &g->value[mb];
    if (!mask_is_relu_of(g, xa, xb) || !broadcasts_to(&keep->shape, &to) ||
        !broadcasts_to(&pass->shape, &to))
        return 0;
    TRY(new_mask(im, xb, &mask, &n));
    for (int64_t k = 0; k < n; k++) {
        mask[k] = keep->data[broadcast_index(&to, k, &keep->shape)];
        if ((mask[k] != 0 && mask[k] != 1) ||
            pass->data[broadcast_index(&to, k, &pass->shape)] != 1 - mask[k])
            return 0;
    }
    *found = true;
    return mask_emit(im, xb, mask, is_relu6(g, xa));
}

/* ---- gather --------------------------------------------------------------------------------- */

static int new_selection(struct import *im, value_id base, int64_t n, struct selection **out)
{
    struct selection *s = arena_array(im->arena, 1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    TRY(constant_room(im, n * (int64_t)(sizeof *s->column + sizeof *s->relu)));
    s->base = base;
    s->n = n;
    s->column = arena_array(im->arena, (size_t)n, sizeof *s->column);
    s->relu = arena_array(im->arena, (size_t)n, sizeof *s->relu);
    s->node = im->call->name;
    if (s->column == NULL || s->relu == NULL)
        return ERR_NOMEM;
    *out = s;
    return 0;
}

/* All columns of the base, in their places. */
static bool is_in_order(const struct import *im, const struct selection *s)
{
    if (s->n != im->g->value[s->base].shape.dim[1])
        return false;
    for (int64_t k = 0; k < s->n; k++)
        if (s->column[k] != k)
            return false;
    return true;
}

static int selection_mask(struct import *im, const struct selection *s, float **out, bool *relu6)
{
    float *mask;
    uint8_t kind = 0;

    TRY(constant_room(im, s->n * (int64_t)sizeof *mask));
    if ((mask = arena_array(im->arena, (size_t)s->n, sizeof *mask)) == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < s->n; k++) {
        mask[k] = s->relu[k] != 0;
        if (s->relu[k] != 0 && kind != 0 && s->relu[k] != kind)
            return report_problem(im, "E1206", "", "columns through Relu and ReLU6 are joined %s",
                                  im->at);
        kind = s->relu[k] != 0 ? s->relu[k] : kind;
    }
    *relu6 = kind == 2;
    *out = mask;
    return 0;
}

/* Something else reads it: a MaskedRelu on its base, if it keeps the order. */
static int materialise(struct import *im, struct entry *e)
{
    const struct selection *s = e->selection;
    bool relu6;
    float *mask;

    if (!is_in_order(im, s))
        return report_problem(im, "E1206", "",
                              "columns gathered into '%s' do not return to their places %s",
                              e->name, im->at);
    TRY(selection_mask(im, s, &mask, &relu6));
    TRY(emit_site(im, s->node, e->name, s->base, mask, relu6, NULL, &e->act));
    e->kind = ENTRY_ACT;
    return 0;
}

static int finish(struct import *im, struct selection *s)
{
    im->call->out->kind = ENTRY_SELECTION;
    im->call->out->selection = s;
    im->call->out->settle = materialise;
    return 0;
}

/* The axis attribute names the columns. */
static int need_columns(struct import *im, int64_t dflt)
{
    int64_t axis;

    TRY(attrs_int(im, "axis", dflt, &axis));
    if (axis == 1 || axis == -1)
        return 0;
    return report_problem(im, "E1206", "", "%s of an activation along axis %lld %s", im->call->type,
                          (long long)axis, im->at);
}

int mask_gather(struct import *im)
{
    const struct selection *from = NULL;
    struct selection *s;
    struct constant *index;
    int64_t columns;
    value_id base;

    TRY(attrs_only(im, "axis"));
    TRY(need_columns(im, 0));
    TRY(operand_constant(im, 1, &index));
    if (operand_has(im->call, 0) && im->call->in[0]->kind == ENTRY_SELECTION) {
        from = im->call->in[0]->selection;
        base = from->base;
        columns = from->n;
    } else {
        TRY(operand_act(im, 0, &base));
        columns = im->g->value[base].shape.dim[1];
    }
    if (im->g->value[base].shape.rank != 2 || index->i == NULL || index->shape.rank != 1 ||
        index->batch != NULL)
        return report_problem(im, "E1206", "", "Gather of an activation that is no masked Relu %s",
                              im->at);
    TRY(new_selection(im, base, index->count, &s));
    for (int64_t k = 0; k < s->n; k++) {
        int64_t i = index->i[k] < 0 ? index->i[k] + columns : index->i[k];

        if (i < 0 || i >= columns)
            return report_problem(im, "E1306", "", "index %lld of %lld columns %s",
                                  (long long)index->i[k], (long long)columns, im->at);
        s->column[k] = from != NULL ? from->column[i] : i;
        s->relu[k] = from != NULL ? from->relu[i] : 0;
    }
    return finish(im, s);
}

int mask_relu(struct import *im, const struct selection *from, bool relu6)
{
    struct selection *s;

    TRY(new_selection(im, from->base, from->n, &s));
    for (int64_t k = 0; k < s->n; k++) {
        s->column[k] = from->column[k];
        s->relu[k] = relu6 || from->relu[k] == 2 ? 2 : 1;
    }
    return finish(im, s);
}

int mask_concat(struct import *im)
{
    const struct call *c = im->call;
    const struct selection *first = NULL;
    struct selection *s;
    int64_t n = 0;

    TRY(need_columns(im, 1));
    for (int32_t i = 0; i < c->n_in; i++) {
        const struct selection *x = operand_has(c, i) ? c->in[i]->selection : NULL;

        if (x == NULL || c->in[i]->kind != ENTRY_SELECTION || (first && x->base != first->base))
            return report_problem(im, "E1206", "",
                                  "Concat of activations that is no masked Relu %s", im->at);
        first = x;
        n += x->n;
    }
    TRY(new_selection(im, first->base, n, &s));
    n = 0;
    for (int32_t i = 0; i < c->n_in; i++) {
        const struct selection *x = c->in[i]->selection;

        for (int64_t k = 0; k < x->n; k++, n++) {
            s->column[n] = x->column[k];
            s->relu[n] = x->relu[k];
        }
    }
    return finish(im, s);
}

int mask_reshape(struct import *im, const struct shape *target, bool *found)
{
    const struct selection *s = im->call->in[0]->selection;
    const struct node *flat = graph_producer(im->g, s->base);
    value_id x = NO_VALUE;
    bool relu6;
    float *mask;

    if (shape_equal(target, &im->g->value[s->base].shape))
        x = s->base;
    else if (flat != NULL && (flat->op == &op_flatten || flat->op == &op_reshape) &&
             shape_equal(target, &im->g->value[flat->in[0]].shape))
        x = flat->in[0];
    *found = x != NO_VALUE && is_in_order(im, s);
    if (!*found)
        return 0;
    TRY(selection_mask(im, s, &mask, &relu6));
    return mask_emit(im, x, mask, relu6);
}
