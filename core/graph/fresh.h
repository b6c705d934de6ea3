#ifndef CORE_GRAPH_FRESH_H
#define CORE_GRAPH_FRESH_H
/*
 * Random weights for a graph that is there already, drawn as PyTorch's ResNets and the published code
 * of RLNet draw them:
 *
 *     Conv   weights normal with standard deviation sqrt(2 / (k_h k_w C_out)), bias 0
 *     Gemm   weights and bias uniform in +-1/sqrt(inputs)
 *     BN     gamma 1, beta 0, mean 0, variance 1, in both branches
 *
 * Frozen nodes (preprocessing) and masks keep their numbers. The same seed gives the same bytes.
 */
#include "core/graph/graph.h"

void fresh_weights(struct graph *g, uint64_t seed);
#endif
