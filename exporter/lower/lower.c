/*
 * Lowering: a graph becomes a list of steps on integers.
 *
 * A value of the graph is a tensor and a factor in the plan: real = integer / 2^scale * factor.
 * The factor is 1 except after an average pool, which only sums; the next weights take it in.
 *
 *   Conv, Gemm            weights round(w * factor * 2^f_w); truncated at once, unless the only
 *                         reader is an Add, which truncates the block once
 *   Add                   operands are brought to one scale by left shifts, then truncated
 *   BatchNormalization that could not be folded, Add/Sub/Mul/Div by a constant per channel
 *                         factor and offset per channel: a 1x1 convolution with a group per channel
 *   the same on the input, while nothing else reads it: into mean and std of the plan
 *   Relu, MaskedRelu      relu_partial; a mask without kept positions is no step, or with lines a
 *                         factor and an offset per channel. Of a ReLU6 with cap 6. x / 2 + b at removed positions: x
 *                         truncated by one bit; s x + b: a public factor, if the caller agrees
 *   AveragePool, global   sum_pool; Flatten, Reshape to [N,K]: flatten
 *   Softmax at the end    dropped, with a note: logits have the same order
 *
 * This file has the walk over the nodes and the whole; lowering.c what the others share:
 *
 *     calibrate.c  the graph that is lowered; largest values
 *     input.c      normalisation        move.c     Pad, Slice, Flatten, Reshape
 *     linear.c     weighted sums        package.c  texts, rounded weights
 *     relu.c       ReLU, pools          trim.c     fewer bits where truncation fails too often
 */
#include "exporter/lower/lower.h"

#include "exporter/lower/lowering.h"

/* ---- the walk ----------------------------------------------------------------------------- */

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
    {&op_relu6, lower_relu},
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

/* NULL: no step computes it. */
static lower_node_fn *lowering_of(const struct op *op)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].op == op)
            return table[i].lower;
    return NULL;
}

static int check_constant(const struct graph *g, const struct node *n)
{
    if (value_is_activation(op_in(g, n, 0)) && value_is_activation(op_in(g, n, 1)))
        return lowering_refuse(n, "two activations; only Add of two has a form");
    if (n->op == &op_div && !value_is_activation(op_in(g, n, 0)))
        return lowering_refuse(n, "a constant divided by an activation is not linear");
    return 0;
}

/* What a node's operator and attributes alone decide. */
static int check_form(const struct graph *g, const struct node *n)
{
    lower_node_fn *how = lowering_of(n->op);

    if (how == NULL)
        return lowering_refuse(n, n->op == &op_softmax
                                      ? "Softmax is dropped only where it makes the output"
                                      : "no step computes this operator");
    if ((n->op == &op_conv || n->op == &op_gemm) && op_in(g, n, 1)->data == NULL)
        return lowering_refuse(n, "its weights are computed, not stored");
    if (how == lower_constant)
        return check_constant(g, n);
    if (n->op == &op_pad && n->p.pad.value != 0)
        return lowering_refuse(n, "it pads with a number other than 0");
    if ((n->op == &op_max_pool || n->op == &op_average_pool) &&
        (n->p.pool.dilation[0] != 1 || n->p.pool.dilation[1] != 1))
        return lowering_refuse(n, "dilated windows have no form");
    return 0;
}

static int lower_node(struct lowering *s, const struct node *n)
{
    TRY(check_form(s->g, n));
    return lowering_of(n->op)(s, n);
}

int lower_check(const struct graph *g)
{
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op != &op_softmax || g->node[i].out[0] != g->output)
            TRY(check_form(g, &g->node[i]));
    return 0;
}

/* The output must be a row with factor 1 that its own step made. */
static int finish_output(struct lowering *s)
{
    struct lowered y;
    const struct node *last = &s->g->node[s->g->n_node - 1];

    if (s->g->value[s->g->output].shape.rank != 2)
        return fail(ERR_UNSUPPORTED, "the output '%s' is not [N,K]",
                    s->g->value[s->g->output].name);
    TRY(lowering_plain(s, last, s->g->output, &y));
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

/* ---- the whole ---------------------------------------------------------------------------- */

/* Room for three steps a node (factor, step, output) and the tables of the walk. */
static int prepare_tables(struct lowering *s)
{
    struct arena *a = s->p->arena;
    size_t cap = (size_t)(3 * s->g->n_node + 2);

    if (cap > PLAN_MAX_TENSORS)
        return fail(ERR_LIMIT, "%d nodes are too many for model.pi", s->g->n_node);
    s->p->tensor = arena_array(a, cap, sizeof *s->p->tensor);
    s->p->step = arena_array(a, cap, sizeof *s->p->step);
    s->draft = arena_array(a, cap, sizeof *s->draft);
    s->tensor_max = arena_array(a, cap, sizeof *s->tensor_max);
    s->of = arena_array(a, (size_t)s->g->n_value, sizeof *s->of);
    s->peeled = arena_array(a, (size_t)s->g->n_node, sizeof *s->peeled);
    TRY(arena_status(a));
    for (int32_t i = 0; i < s->g->n_value; i++)
        s->of[i].tensor = -1;
    return 0;
}

static int build(struct lowering *s, bool softmax, struct plan_weights **w)
{
    TRY(prepare_tables(s));
    TRY(lower_texts(s->p, s->o, graph_get_meta(s->g, "linnet.branch"), softmax));
    TRY(lower_program(s));
    TRY(lower_trim(s));
    plan_complete(s->p);
    TRY(lower_weights(s, w));
    TRY(plan_name_model(s->p, (*w)->salt));
    TRY(plan_check(s->p));
    return plan_weights_check(s->p, *w);
}

static bool ends_in_softmax(const struct graph *g)
{
    const struct node *n = graph_producer(g, g->output);

    return g->tail != TAIL_NONE || (n != NULL && n->op == &op_softmax);
}

int lower(struct graph *g, const struct lower_options *options, struct plan **plan,
          struct plan_weights **weights)
{
    struct lower_options o = *options;
    SCOPED(plan_free_at) struct plan *p = NULL;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;
    OWNED double *max_abs = NULL;
    const bool softmax = ends_in_softmax(g);

    o.scale = o.scale == 0 ? LOWER_SCALE : o.scale;
    o.weight_scale = o.weight_scale == 0 ? LOWER_WEIGHT_SCALE : o.weight_scale;
    if (o.n_pixels < 1 || o.scale < PLAN_MIN_SCALE || o.scale > PLAN_MAX_SCALE)
        return fail(ERR_ARG, "%lld calibration images, scale %d; needs 1 or more, %d ... %d",
                    (long long)o.n_pixels, o.scale, PLAN_MIN_SCALE, PLAN_MAX_SCALE);
    TRY(lower_prepare(g));
    if ((max_abs = mem_array((size_t)g->n_value, sizeof *max_abs)) == NULL)
        return ERR_NOMEM;
    TRY(lower_calibrate(g, &o, max_abs));
    TRY(plan_new(&p));
    p->scale = o.scale;
    struct lowering s = {.o = &o, .g = g, .p = p, .max_abs = max_abs};
    TRY(build(&s, softmax, &w));
    *plan = mem_hand_on(&p);
    *weights = mem_hand_on(&w);
    return 0;
}
