/*
 * The graph as it is written: a clone with BN folded where asked for, masks that keep all or nothing
 * resolved, channels sorted for the channel form, and no dead nodes.
 */
#include "exporter/written.h"

#include "core/op/op.h"
#include "core/graph/pass.h"
#include "exporter/channel_write.h"
#include "exporter/mask_write.h"
#include "exporter/plain_shortcut.h"

/* None kept: no node, or Mul and Add for a line. All kept: a Relu or Relu6. */
static int resolve_masks(struct graph *g)
{
    for (int32_t i = g->n_node - 1; i >= 0; i--) {
        const struct node *n = &g->node[i];

        if (n->op != &op_masked_relu)
            continue;
        if (n->p.masked_relu.soft)
            return fail(ERR_ARG, "node '%s': its mask is soft; a file holds masks of 0 and 1 only",
                        n->name);
        TRY(pass_resolve_mask(g, i, true));
    }
    return 0;
}

/* Some importers unpack three inputs of a Gemm without asking. */
static int add_gemm_biases(struct graph *g)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        struct node *n = &g->node[i];
        struct shape shape;
        const char *name;
        value_id bias;

        if (n->op != &op_gemm || node_has(n, 2))
            continue;
        shape = shape_make(1, op_in(g, n, 1)->shape.dim[0]);
        if ((name = arena_printf(g->arena, "%s.bias", n->name)) == NULL)
            return ERR_NOMEM;
        TRY(graph_add_value(g, name, VALUE_CONST, &shape, NULL, &bias));
        n->in[2] = bias;
        n->n_in = 3;
    }
    return 0;
}

/* A Reshape to [N,K] is a Flatten, which needs no list of sizes. */
static void flatten_reshapes(struct graph *g)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        struct node *n = &g->node[i];

        if (n->op != &op_reshape || n->p.reshape.target.rank != 2)
            continue;
        n->op = &op_flatten;
        n->p = (union op_params){0};
    }
}

/* What importers that know few operators need beyond the form of the masks. */
static int write_plainly(struct graph *g)
{
    flatten_reshapes(g);
    return plain_shortcuts(g);
}

bool written_is_private(const struct export_options *opt)
{
    return opt->form == MASK_GATHER || opt->form == MASK_CHANNEL;
}

/* The node that made the output may be gone; the output keeps its name. The input gives its name to
 * the file's where a Transpose comes between them. */
static int name_interface(const struct graph *g, struct graph *c)
{
    const char *out = arena_strdup(c->arena, g->value[g->output].name);
    const char *in = arena_printf(c->arena, "%s/Transpose_out", g->value[g->input].name);

    if (out == NULL || in == NULL)
        return ERR_NOMEM;
    c->value[c->output].name = out;
    for (int i = 1; c->channels_last && graph_find_value(c, in) != NO_VALUE; i++)
        if ((in = arena_printf(c->arena, "%s/Transpose_out_%d", g->value[g->input].name, i)) ==
            NULL)
            return ERR_NOMEM;
    if (c->channels_last)
        c->value[c->input].name = in;
    return 0;
}

int written_graph(const struct graph *g, const struct export_options *opt, struct graph **out)
{
    const bool private = written_is_private(opt);
    SCOPED(graph_free_at) struct graph *c = NULL;

    TRY(graph_clone(g, &c));
    TRY(pass_fold_batchnorm(c, !opt->fold_bn && !private));
    TRY(resolve_masks(c));
    if (private)
        TRY(add_gemm_biases(c));
    if (opt->target != EXPORT_ANY)
        TRY(write_plainly(c));
    TRY(pass_prune(c));
    TRY(mask_check_form(c, opt->form));
    if (opt->form == MASK_CHANNEL)
        TRY(channel_sort(c));
    TRY(graph_verify(c));
    TRY(name_interface(g, c));
    *out = mem_hand_on(&c);
    return 0;
}
