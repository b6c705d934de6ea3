#ifndef CORE_GRAPH_ARCH_H
#define CORE_GRAPH_ARCH_H
/*
 * Standard architectures with random weights, as a graph: for `linnet init` and for tests.
 *
 *     struct graph *g;
 *     TRY(arch_build("resnet18", 10, 32, 32, 0, &g));
 *     graph_free(g);
 *
 * Images have three channels; value names are "input" [N,3,H,W] and "logits" [N,classes]. Nodes
 * and weights are called as in PyTorch: layer1.0.conv1, layer1.0.bn1.running_mean, fc.weight.
 */
#include "core/graph/graph.h"

#define ARCH_MAX_CLASSES 100000
#define ARCH_MAX_SIDE 4096

/* From 0; NULL beyond the last. */
const char *arch_name(int32_t index);
/* The same seed gives the same bytes. ERR_ARG for an unknown name (the message lists the known
 * ones), fewer than two or too many classes, or a side outside 1 ... ARCH_MAX_SIDE. */
int arch_build(const char *name, int64_t classes, int64_t height, int64_t width, uint64_t seed,
               struct graph **out) MUST_CHECK;
#endif
