/* Graphs made by hand (op_make.h). */
#include "tests/op_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include "core/op/op.h"
#include "tests/ref_check.h"

#include <cmocka.h> /* last: it defines fail() */

struct maker maker_graph(int rank, int64_t c, int64_t h, int64_t w)
{
    struct maker m = {.seed = 1};
    struct shape s = rank == 4 ? shape_make(4, (int64_t)SHAPE_BATCH, c, h, w)
                               : shape_make(2, (int64_t)SHAPE_BATCH, c);

    assert_int_equal(graph_new(&m.g), 0);
    assert_int_equal(graph_add_value(m.g, "x", VALUE_INPUT, &s, NULL, &m.x), 0);
    m.g->input = m.x;
    return m;
}

value_id maker_tensor(struct maker *m, enum value_kind kind, struct shape s, double lo, double hi)
{
    int64_t n = shape_elems(&s);
    float *data = calloc((size_t)n, sizeof *data);
    value_id v;

    assert_non_null(data);
    ref_random(data, n, lo, hi, ++m->seed);
    assert_int_equal(graph_add_value(m->g, "t", kind, &s, data, &v), 0);
    free(data);
    return v;
}

value_id maker_vector(struct maker *m, enum value_kind kind, int64_t n, double lo, double hi)
{
    return maker_tensor(m, kind, shape_make(1, n), lo, hi);
}

value_id maker_node(struct maker *m, const struct op *op, const value_id *in, int n_in,
                    const union op_params *p)
{
    value_id y = NO_VALUE;

    if (graph_add_node(m->g, op, "n", in, n_in, p, "y", &y) < 0)
        fail_msg("%s", err_message());
    return y;
}

value_id maker_node1(struct maker *m, const struct op *op, value_id x, const union op_params *p)
{
    return maker_node(m, op, &x, 1, p);
}

value_id maker_node2(struct maker *m, const struct op *op, value_id a, value_id b)
{
    value_id in[2] = {a, b};
    return maker_node(m, op, in, 2, NULL);
}
