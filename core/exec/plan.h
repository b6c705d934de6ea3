#ifndef CORE_EXEC_PLAN_H
#define CORE_EXEC_PLAN_H
/*
 * What the executor decides about a graph before it runs: steps and memory.
 *
 * STEPS (fuse.c): which nodes are done in one pass over memory.
 *
 *   evaluation   Conv [BatchNormalization] [Add] [Relu or MaskedRelu]   BN folded into the weights
 *                BatchNormalization [Add] [Relu or MaskedRelu]
 *   training     Conv or BatchNormalization [Add] [Relu or MaskedRelu]
 *
 * A node joins the one before it if it is the only reader of its result and nobody else wants to
 * see that value (taps, the graph's output). Soft masks and masks with lines stay by themselves:
 * their gradient reads what enters the ReLU. Values inside a step have no memory.
 *
 * MEMORY (plan.c): where every activation and every gradient lives, so that tensors whose lifetimes
 * do not overlap share memory. Offsets are floats per image; the executor multiplies them by the
 * number of images that its memory holds. half[v]: stored in bf16, by blocks of 32 images (edge.c).
 */
#include "core/exec/exec.h"

struct exec_step {
    int32_t node;            /* whose hooks run */
    int32_t norm, add, relu; /* nodes done with it, -1: none */
    value_id out;            /* of the last of them */
    value_id other;          /* the Add's other operand, NO_VALUE: none */
    int32_t last;            /* index of the last node: when the step runs */
};

/* Steps of all live nodes in running order into step[g->n_node]; returns how many. */
int32_t exec_fuse(const struct graph *g, enum exec_mode mode, const bool *tap, const bool *live,
                  struct exec_step *step);

struct exec_plan {
    int64_t *act, *grad; /* per value; -1: has none (constants; inside a step; taps outside) */
    int64_t floats;      /* per image */
    bool *live;          /* per node: the output depends on it */
    struct exec_step *step;
    int32_t n_step;
};
/* tap[v]: the caller reads v after the forward pass. taps_outside: taps have memory of their own. */
int exec_plan_make(const struct graph *g, enum exec_mode mode, const bool *half, const bool *tap,
                   bool taps_outside, struct exec_plan *out) MUST_CHECK;
void exec_plan_release(struct exec_plan *p);
#endif
