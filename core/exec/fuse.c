/* Fusion of nodes into steps (plan.h): one walk over the nodes in order. */
#include "core/exec/plan.h"

#include "core/op/op.h"

struct walk {
    const struct graph *g;
    enum exec_mode mode;
    const bool *tap, *live;
    struct exec_step *step;
    int32_t count;
};

/* Has node n joined a step before? */
static bool joined(const struct walk *w, int32_t n)
{
    for (int32_t i = 0; i < w->count; i++)
        if (w->step[i].norm == n || w->step[i].add == n || w->step[i].relu == n)
            return true;
    return false;
}

/* The node that may join after value v: its only reader, -1 if there is none. */
static int32_t joiner(const struct walk *w, value_id v)
{
    if (w->tap[v] || v == w->g->output)
        return -1;
    const int32_t n = graph_single_user(w->g, v);

    return n >= 0 && w->live[n] && !joined(w, n) ? n : -1;
}

/* The other operand of an Add of two activations of one shape, NO_VALUE for any other node. */
static value_id other_operand(const struct graph *g, int32_t n, value_id v)
{
    const struct node *x = &g->node[n];

    if (x->op != &op_add || x->in[0] == x->in[1])
        return NO_VALUE;
    const value_id other = x->in[0] == v ? x->in[1] : x->in[0];
    const struct value *o = &g->value[other];

    return value_is_activation(o) && shape_equal(&o->shape, &g->value[v].shape) ? other : NO_VALUE;
}

/* The gradient of a ReLU takes the place of that of its result, which the caller may want to read. A
 * ReLU with lines at its removed positions stays by itself: theirs reads what enters it. So does a
 * ReLU6: a tail has no upper bound. */
static bool relu_joins(const struct walk *w, int32_t n)
{
    const struct node *x = &w->g->node[n];

    if (w->mode == EXEC_TRAIN && w->tap[x->out[0]])
        return false;
    return x->op == &op_relu || (x->op == &op_masked_relu && !x->p.masked_relu.soft &&
                                 !x->p.masked_relu.relu6 && x->n_in == 2);
}

static struct exec_step grow(const struct walk *w, int32_t first)
{
    const struct graph *g = w->g;
    const struct node *x = &g->node[first];
    struct exec_step s = {.node = first,
                          .norm = -1,
                          .add = -1,
                          .relu = -1,
                          .out = x->out[0],
                          .other = NO_VALUE,
                          .last = first};
    int32_t next;

    if (!(x->op->flags & OP_TAIL))
        return s;
    next = joiner(w, s.out);
    if (next >= 0 && w->mode != EXEC_TRAIN && (x->op->flags & OP_FOLD) &&
        g->node[next].op == &op_batchnorm) {
        s.norm = s.last = next;
        s.out = g->node[next].out[0];
        next = joiner(w, s.out);
    }
    if (next >= 0 && (s.other = other_operand(g, next, s.out)) != NO_VALUE) {
        s.add = s.last = next;
        s.out = g->node[next].out[0];
        next = joiner(w, s.out);
    }
    if (next >= 0 && relu_joins(w, next)) {
        s.relu = s.last = next;
        s.out = g->node[next].out[0];
    }
    return s;
}

int32_t exec_fuse(const struct graph *g, enum exec_mode mode, const bool *tap, const bool *live,
                  struct exec_step *step)
{
    struct walk w = {.g = g, .mode = mode, .tap = tap, .live = live, .step = step};

    for (int32_t n = 0; n < g->n_node; n++) {
        if (!live[n] || joined(&w, n))
            continue;
        const struct exec_step s = grow(&w, n);
        int32_t at = w.count++;

        for (; at > 0 && step[at - 1].last > s.last; at--)
            step[at] = step[at - 1];
        step[at] = s;
    }
    return w.count;
}
