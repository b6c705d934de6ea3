/*
 * Weights in the order that the kernels want. Evaluation packs them once, for both directions, and
 * again after graph_touch() or for the other branch; the BatchNormalization of a step goes into them.
 * Training packs late, in exec_prepare_late, into memory that all steps share: weights change after
 * every batch, so keeping them would cost memory and save nothing. So do executors of large weights beside
 * another one: packed twice over, a teacher and an attack take more than the step itself, and packing is
 * small against a step over many images.
 */
#include "core/exec/run.h"

#include "core/base/cpu.h"

bool exec_is_late(const struct exec *e, const struct node *n)
{
    return e->packs_late && (n->op->flags & OP_PREPARE_LATE);
}

struct op_use exec_use(const struct exec *e, const struct node *n, bool gradient)
{
    const bool late = exec_is_late(e, n);

    return (struct op_use){.forward = !late || !gradient,
                           .gradient = late ? gradient : e->mode != EXEC_INFER,
                           .batch = e->batch};
}

int exec_node_branch(const struct node *n, int branch)
{
    return n->op == &op_batchnorm && n->n_in > 5 ? branch : 0;
}

const float *exec_fold_norm(const struct exec *e, const struct exec_step *s, int branch)
{
    const struct node *norm = &e->g->node[s->norm];
    const struct op_use use = exec_use(e, norm, false);
    float *affine = e->rooms->room[cpu_thread_index()].scratch;

    norm->op->hooks->prepare(e->g, norm, exec_node_branch(norm, branch), &use, affine);
    return affine;
}

/* The weights of a step with its BatchNormalization folded in. */
static void prepare_folded(const struct exec *e, const struct exec_step *s, int branch)
{
    const struct node *x = &e->g->node[s->node];
    const struct op_use use = exec_use(e, x, false);
    const float *affine = exec_fold_norm(e, s, branch);
    const int64_t channels = e->g->value[x->out[0]].shape.dim[1];

    exec_hooks(e, s->node)
        ->prepare_folded(e->g, x, affine, affine + channels, &use, e->prepared[s->node]);
}

static void prepare_node(const struct exec *e, int32_t n, int branch)
{
    const struct node *x = &e->g->node[n];
    const struct op_use use = exec_use(e, x, false);

    if (e->prepared[n])
        exec_hooks(e, n)->prepare(e->g, x, exec_node_branch(x, branch), &use, e->prepared[n]);
}

void exec_prepare(struct exec *e, int branch)
{
    const bool all = e->prepared_version != e->g->version;

    if (!all && e->prepared_branch == branch)
        return;
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t i = 0; i < e->plan.n_step; i++) {
        const struct exec_step *s = &e->plan.step[i];
        const struct node *norm = s->norm >= 0 ? &e->g->node[s->norm] : &e->g->node[s->node];

        if (!all && norm->n_in <= 5)
            continue; /* the same for both branches */
        const bool late = exec_is_late(e, &e->g->node[s->node]);

        if (s->norm >= 0 && !late)
            prepare_folded(e, s, branch);
        else if (!late)
            prepare_node(e, s->node, branch);
        if (s->relu >= 0 && all)
            prepare_node(e, s->relu, branch);
    }
    e->prepared_version = e->g->version;
    e->prepared_branch = branch;
}
