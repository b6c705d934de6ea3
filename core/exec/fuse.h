#ifndef CORE_EXEC_FUSE_H
#define CORE_EXEC_FUSE_H
/*
 * The executor's steps: which nodes are done in one pass over memory.
 *
 *   evaluation   Conv [BatchNormalization] [Add] [Relu or MaskedRelu]   BN folded into the weights
 *                BatchNormalization [Add] [Relu or MaskedRelu]
 *   training     Conv or BatchNormalization [Add] [Relu or MaskedRelu]
 *
 * A node joins the one before it if it is the only reader of its result and nobody else wants to
 * see that value (taps, the graph's output). Soft masks stay by themselves: their gradient reads
 * what enters the ReLU. Values inside a step have no memory.
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
#endif
