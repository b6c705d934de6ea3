#ifndef TESTS_OP_MAKE_H
#define TESTS_OP_MAKE_H
/* Graphs of a few nodes, made by hand: what the tests of operators share. What fails fails the test. */
#include "core/graph/graph.h"

struct maker {
    struct graph *g;
    uint64_t seed;
    value_id x; /* the input image */
};

/* Its input x, of rank 4 [N,c,h,w] or 2 [N,c]. */
struct maker maker_graph(int rank, int64_t c, int64_t h, int64_t w);
/* Random numbers of lo ... hi, others each time. */
value_id maker_tensor(struct maker *m, enum value_kind kind, struct shape s, double lo, double hi);
value_id maker_vector(struct maker *m, enum value_kind kind, int64_t n, double lo, double hi);
/* Nodes "n" with the output "y". */
value_id maker_node(struct maker *m, const struct op *op, const value_id *in, int n_in,
                    const union op_params *p);
value_id maker_node1(struct maker *m, const struct op *op, value_id x, const union op_params *p);
value_id maker_node2(struct maker *m, const struct op *op, value_id a, value_id b);
#endif
