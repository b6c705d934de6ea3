#ifndef TESTS_EXPORT_GRAPHS_H
#define TESTS_EXPORT_GRAPHS_H
/* Graphs that the tests of the exporter write, and what each file must do. What is not as wanted fails
 * the cmocka test that runs. Graphs are the caller's. */
#include "core/graph/graph.h"
#include "exporter/exporter.h"

#define ok(call) assert_int_equal(checked(call), 0)
#define SIDE 8 /* of the images of masked_resnet8 */

/* rc, after the message of an error was printed. */
int checked(int rc);
/* rc is this code, and the message holds this part. */
void assert_refused(int rc, int code, const char *part);

/* resnet8 with hard masks: site 1 keeps all, site 2 nothing, the others about a third. */
struct graph *masked_resnet8(void);
/* The same with ReLU6, and larger activations. */
struct graph *relu6_resnet8(void);
/* One of each operator that resnet8 does not have: (x - 0.5) / 2 * 0.3 - pad - slice - max pool -
 * average pool - reshape - gemm (no bias) - masked relu - gemm - softmax. Input [N,2,6,6]. */
struct graph *mixed_graph(void);

/* export - import - export: equal bytes; and the graph in the middle has the masks and weights. */
void check_fixed_point(const struct graph *g, enum mask_form form, bool fold, int64_t opset);
#endif
