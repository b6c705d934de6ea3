/*
 * Lifetimes, then placement.
 *
 * Time runs 0 ... N-1 through the forward pass and N ... 2N-1 back; step i computes at time i and
 * takes its gradient at 2N-1-i. An activation lives from its producer to its last reader, and a
 * reader in the backward pass counts only if the operator's flags say that it needs the tensor. The
 * gradient of v lives from v's last consumer (the first to write it) to v's producer. Both ends are
 * inclusive, so what a step reads and what it writes never share memory, unless on purpose:
 *
 *     steps        0: a = Conv(x)   1: b = Relu(a)   2: y = Gemm(b)          N = 3
 *     inference    x [0,0]   a [0,1]   b [1,2]   y [2,3]                      b takes the place of a
 *     input grad.  x [0,0]   a [0,1]   b [1,4]: ReLU's gradient reads it
 *                  gradients of y [2,3]   b [3,4]   a [4,5]   x [5,6]
 *     training     x [0,5]: Conv's weight gradient reads it
 *
 * (as if the three were not fused, and Relu a step of its own.) An elementwise node writes over its
 * first input where nobody reads that input later: the two values form one item. Placement is greedy,
 * largest item first, lowest free offset: within a few per cent of the lower bound on residual
 * networks, O(items^2).
 */
#include "core/exec/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/op/op.h"

struct item {
    int64_t size, offset;
    int32_t start, end; /* alive at start ... end, inclusive; end < start: needs no memory */
};

/* A node is live if its output is the graph's or feeds a live node. */
static void mark_live(const struct graph *g, bool *live)
{
    for (int32_t n = g->n_node - 1; n >= 0; n--) {
        if (g->node[n].out[0] == g->output)
            live[n] = true;
        if (!live[n])
            continue;
        for (int32_t i = 0; i < g->node[n].n_in; i++) {
            value_id v = g->node[n].in[i];

            if (v != NO_VALUE && g->value[v].producer >= 0)
                live[g->value[v].producer] = true;
        }
    }
}

static void extend(struct item *it, int32_t time)
{
    if (time > it->end)
        it->end = time;
}

/* Flags by which an operator keeps its first inputs for the backward pass of this mode. */
static bool keeps_x(const struct op *op, enum exec_mode mode)
{
    unsigned f = mode == EXEC_TRAIN        ? OP_KEEP_X | OP_KEEP_X_TRAIN
                 : mode == EXEC_INPUT_GRAD ? OP_KEEP_X
                                           : 0;

    return (op->flags & f) != 0;
}

static void activation_lifetimes(const struct graph *g, enum exec_mode mode,
                                 const struct exec_plan *p, const bool *tap, struct item *act)
{
    const int32_t end = 2 * p->n_step;

    act[g->input].start = act[g->input].end = 0;
    for (int32_t n = 0; n < p->n_step; n++) {
        const struct exec_step *s = &p->step[n];
        const struct node *x = &g->node[s->node];

        act[s->out].start = n;
        extend(&act[s->out], n);
        if (mode != EXEC_INFER && ((x->op->flags & OP_KEEP_Y) || s->relu >= 0))
            extend(&act[s->out], end - 1 - n);
        if (s->other != NO_VALUE)
            extend(&act[s->other], n);
        for (int32_t i = 0; i < x->n_in; i++) {
            value_id v = x->in[i];

            if (v == NO_VALUE || !value_is_activation(&g->value[v]))
                continue;
            extend(&act[v], i < 2 && keeps_x(x->op, mode) ? end - 1 - n : n);
        }
    }
    extend(&act[g->output], mode == EXEC_INFER ? p->n_step : end);
    for (value_id v = 0; v < g->n_value; v++)
        if (tap[v])
            extend(&act[v], end);
}

static void read_at(struct item *grad, value_id v, int32_t time)
{
    if (v != NO_VALUE && grad[v].start > time)
        grad[v].start = time;
}

/* Training may send step n + 1 and step n back in one loop over blocks of images (train.c). Then
 * n writes its gradients while other blocks still wait for n + 1, so they live from then on. */
static bool may_pair(const struct graph *g, enum exec_mode mode, const struct exec_plan *p,
                     int32_t n)
{
    if (mode != EXEC_TRAIN || n + 1 >= p->n_step)
        return false;
    return g->node[p->step[n + 1].node].in[0] == p->step[n].out;
}

static void gradient_lifetimes(const struct graph *g, enum exec_mode mode,
                               const struct exec_plan *p, const bool *tap, struct item *grad)
{
    const int32_t end = 2 * p->n_step;

    grad[g->input].start = grad[g->input].end = end;
    for (int32_t n = 0; n < p->n_step; n++) {
        const value_id v = p->step[n].out;

        grad[v].start = v == g->output ? p->n_step - 1 : end;
        grad[v].end = end - 1 - n;
        if (tap[v]) { /* the caller adds to it between the passes, and may read it afterwards */
            grad[v].start = 0;
            grad[v].end = end;
        }
    }
    for (int32_t n = 0; n < p->n_step; n++) {
        const struct node *x = &g->node[p->step[n].node];
        const int32_t time = end - 1 - n - may_pair(g, mode, p, n);

        read_at(grad, p->step[n].other, time);
        for (int32_t i = 0; i < x->n_in; i++)
            read_at(grad, x->in[i], time);
    }
}

/* Lets elementwise steps write over their first input. root[v]: the value whose item v shares. */
static void merge_in_place(const struct graph *g, const struct exec_plan *p, const bool *half,
                           const bool *tap, struct item *act, value_id *root)
{
    for (value_id v = 0; v < g->n_value; v++)
        root[v] = v;
    for (int32_t n = 0; n < p->n_step; n++) {
        const struct exec_step *s = &p->step[n];
        const struct node *x = &g->node[s->node];
        const value_id in = x->n_in > 0 ? x->in[0] : NO_VALUE, out = s->out;

        if (!(x->op->flags & OP_ELEMENTWISE) || in == NO_VALUE || tap[in] || tap[out] ||
            g->value[in].kind != VALUE_TEMP || (x->n_in > 1 && x->in[1] == in) || s->other == in ||
            act[root[in]].end != n || half[in] != half[out] ||
            shape_elems(&g->value[in].shape) != shape_elems(&g->value[out].shape))
            continue;
        root[out] = root[in];
        extend(&act[root[in]], act[out].end);
        act[out].end = act[out].start - 1; /* no memory of its own */
    }
}

static int larger_first(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;

    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x->start != y->start ? (x->start < y->start ? -1 : 1) : (x < y ? -1 : x > y);
}

static bool overlap(const struct item *a, const struct item *b)
{
    return a->start <= b->end && b->start <= a->end;
}

/* Lowest offset at which `it` collides with none of the n placed items. */
static int64_t lowest_offset(struct item *const *placed, int32_t n, const struct item *it)
{
    int64_t at = 0;

    for (bool moved = true; moved;) {
        moved = false;
        for (int32_t i = 0; i < n; i++) {
            const struct item *p = placed[i];

            if (overlap(p, it) && at < p->offset + p->size && p->offset < at + it->size) {
                at = p->offset + p->size;
                moved = true;
            }
        }
    }
    return at;
}

static int place(struct item *item, int32_t n_item, int64_t *total)
{
    OWNED struct item **order = mem_array((size_t)n_item + 1, sizeof *order);
    int32_t n = 0;

    if (order == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < n_item; i++)
        if (item[i].end >= item[i].start && item[i].size > 0)
            order[n++] = &item[i];
    qsort(order, (size_t)n, sizeof *order, larger_first);
    *total = 0;
    for (int32_t i = 0; i < n; i++) {
        struct item *it = order[i];

        it->offset = lowest_offset(order, i, it);
        if (it->offset + it->size > *total)
            *total = it->offset + it->size;
    }
    return 0;
}

static int64_t stored_floats(const struct shape *s, bool half)
{
    if (!half)
        return (shape_elems(s) + 15) / 16 * 16;
    const struct bf16_map m = bf16_map_of(s->dim[1], s->dim[2], s->dim[3]);

    return bf16_tiles(&m) * BF16_TILE / BF16_IMAGES / 2;
}

static void item_sizes(const struct graph *g, const bool *half, struct item *item)
{
    for (value_id v = 0; v < g->n_value; v++) {
        item[v] = (struct item){.offset = -1, .start = 0, .end = -1};
        if (value_is_activation(&g->value[v]))
            item[v].size = stored_floats(&g->value[v].shape, half[v]);
    }
}

int exec_plan_make(const struct graph *g, enum exec_mode mode, const bool *half, const bool *tap,
                   bool taps_outside, struct exec_plan *out)
{
    const size_t n = (size_t)g->n_value;
    OWNED struct item *item = mem_array(2 * n + 1, sizeof *item); /* activations, then gradients */
    OWNED value_id *root = mem_array(n + 1, sizeof *root);
    SCOPED(exec_plan_release)
    struct exec_plan p = {.act = mem_array(n + 1, sizeof *p.act),
                          .grad = mem_array(n + 1, sizeof *p.grad),
                          .live = mem_array((size_t)g->n_node + 1, sizeof *p.live),
                          .step = mem_array((size_t)g->n_node + 1, sizeof *p.step)};
    if (!item || !root || !p.act || !p.grad || !p.live || !p.step)
        return ERR_NOMEM;
    mark_live(g, p.live);
    p.n_step = exec_fuse(g, mode, tap, p.live, p.step);
    item_sizes(g, half, item);
    item_sizes(g, half, item + n);
    activation_lifetimes(g, mode, &p, tap, item);
    if (mode != EXEC_INFER)
        gradient_lifetimes(g, mode, &p, tap, item + n);
    merge_in_place(g, &p, half, tap, item, root);
    for (value_id v = 0; v < g->n_value; v++)
        if (taps_outside && tap[v] && !half[v])
            item[v].end = item[v].start - 1;
    TRY(place(item, (int32_t)(2 * n), &p.floats));
    for (size_t v = 0; v < n; v++) {
        p.act[v] = item[root[v]].offset;
        p.grad[v] = item[n + v].offset;
    }
    *out = p;
    p = (struct exec_plan){0};
    return 0;
}

void exec_plan_release(struct exec_plan *p)
{
    mem_free(p->act);
    mem_free(p->grad);
    mem_free(p->live);
    mem_free(p->step);
    *p = (struct exec_plan){0};
}
