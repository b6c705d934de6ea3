#ifndef CORE_GRAPH_PASS_H
#define CORE_GRAPH_PASS_H
/*
 * Rewrites of a graph that more than one stage needs. Each keeps the function of the graph (within
 * rounding) and leaves a graph that graph_verify accepts.
 */
#include "core/graph/graph.h"

/* Removes nodes whose output nobody uses, then compacts. */
int pass_prune(struct graph *g) MUST_CHECK;
/* Keeps only one branch of every BatchNormalization (branch 0 or 1; a single branch stays). */
int pass_select_branch(struct graph *g, int branch) MUST_CHECK;
/* Gives every BatchNormalization that is not frozen a second branch, a copy of the first. Returns the
 * number of sites or an error. */
int pass_dual_branch(struct graph *g) MUST_CHECK;
/* Folds every BatchNormalization that directly follows a Conv or Gemm with no other user into it
 * (single branch only). eps is inside the root. Other sites stay. only_inserted: fold just those whose
 * name ends in BN_INSERTED_SUFFIX. */
int pass_fold_batchnorm(struct graph *g, bool only_inserted) MUST_CHECK;
#define BN_INSERTED_SUFFIX "/linnet_bn"
/* A MaskedRelu with a line that keeps no position becomes a Mul by its slope and an Add of its offset,
 * constants shaped [C,1,1] ([K] for features) as the importer makes them. The result keeps its value. */
int pass_line_to_affine(struct graph *g, int32_t node) MUST_CHECK;
/* Of a MaskedRelu with a hard mask: that keeps everything becomes a Relu or Relu6; that keeps nothing goes,
 * or becomes a Mul and an Add where it has a line. One that makes the graph's output goes only where
 * `output_too`. Nodes before it keep their index. */
int pass_resolve_mask(struct graph *g, int32_t node, bool output_too) MUST_CHECK;
/* A Mul and an Add by constants, one number a channel, of which the Add alone reads the Mul, become a
 * BatchNormalization with mean 0 and variance 1 that pass_fold_batchnorm can fold. For evaluation only:
 * its statistics are those of no data. Nodes that are frozen stay. */
int pass_merge_affine(struct graph *g) MUST_CHECK;
/* Inserts a BatchNormalization after node `conv` that is the identity for channel statistics
 * mean[C], var[C]: gamma = sqrt(var + eps), beta = mean. eps 1e-5, momentum 0.9. Its name is the
 * conv's name + BN_INSERTED_SUFFIX. */
int pass_insert_batchnorm(struct graph *g, int32_t conv, const float *mean,
                          const float *var) MUST_CHECK;
/* Conv nodes where BN re-insertion is due: not frozen, output feeds only Relu / MaskedRelu / Add
 * (through which a Relu follows), no BatchNormalization after it. Writes up to cap node indices,
 * returns how many there are. */
int32_t pass_batchnorm_sites(const struct graph *g, int32_t *nodes, int32_t cap);
#endif
