/* Batch-norm re-insertion: the function stays, the statistics are those of plain loops. */
#include "trainer/train/bn.h"

#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "tests/ref_double.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 70 }; /* more than two executor batches */

static void logits_of(struct graph *g, const struct dataset *d, int branch, float *z)
{
    struct exec *e;

    assert_int_equal(exec_new(g, EXEC_INFER, N, NULL, &e), 0);
    assert_int_equal(exec_infer(e, d->floats, N, branch, z), 0);
    exec_free(e);
}

static void test_function_stays_in_both_branches(void **state)
{
    float before[N * TINY_CLASSES], after[N * TINY_CLASSES];
    struct graph *g = tiny_net(0, 1);
    struct dataset *d = tiny_data(N, 1);
    struct bn_report r;

    (void)state;
    logits_of(g, d, 0, before);
    assert_int_equal(bn_insert(g, d->floats, N, &r), 0);
    assert_int_equal(r.sites, 3);
    assert_true(r.max_rel_diff <= 1e-5);
    assert_int_equal(graph_verify(g), 0);
    assert_int_equal(graph_branches(g), 1);
    assert_int_equal(pass_dual_branch(g), 3);
    for (int branch = 0; branch < 2; branch++) {
        logits_of(g, d, branch, after);
        for (int i = 0; i < N * TINY_CLASSES; i++)
            assert_near(before[i], after[i], 1e-5);
    }
    /* folding it away again: still the same */
    assert_int_equal(pass_select_branch(g, 1), 0);
    assert_int_equal(pass_fold_batchnorm(g, true), 0);
    assert_int_equal(graph_branches(g), 0);
    logits_of(g, d, 0, after);
    for (int i = 0; i < N * TINY_CLASSES; i++)
        assert_near(before[i], after[i], 1e-5);
    graph_free(g);
    tiny_free(d);
}

/* Mean and variance of every site against the double-precision interpreter. */
static void test_statistics_equal_plain_loops(void **state)
{
    struct graph *g = tiny_net(0, 1);
    struct dataset *d = tiny_data(N, 1);

    (void)state;
    assert_int_equal(bn_insert(g, d->floats, N, NULL), 0);
    struct ref *r = ref_new(g, d->floats, N);
    ref_forward(r, 0, false);
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *x = &g->node[i];
        if (x->op != &op_batchnorm)
            continue;
        const struct shape *s = &op_in(g, x, 0)->shape;
        const int64_t c = s->dim[1], positions = s->dim[2] * s->dim[3];
        for (int64_t k = 0; k < c; k++) {
            double sum = 0, square = 0;
            for (int64_t n = 0; n < N; n++)
                for (int64_t p = 0; p < positions; p++) {
                    double v = r->value[x->in[0]][(n * c + k) * positions + p];
                    sum += v;
                    square += v * v;
                }
            const double mean = sum / (double)(N * positions);
            assert_near(op_in(g, x, 3)->data[k], mean, 1e-5);
            const double var = square / (double)(N * positions) - mean * mean;
            assert_near(op_in(g, x, 4)->data[k], var, 1e-5);
        }
    }
    ref_free(r);
    graph_free(g);
    tiny_free(d);
}

static void test_threads_change_no_bit(void **state)
{
    struct graph *g[2] = {tiny_net(0, 1), tiny_net(0, 1)};
    struct dataset *d = tiny_data(N, 1);

    (void)state;
    for (int t = 0; t < 2; t++) {
        cpu_set_threads(1 + 2 * t);
        assert_int_equal(bn_insert(g[t], d->floats, N, NULL), 0);
    }
    cpu_set_threads(1);
    assert_memory_equal(g[0]->params, g[1]->params, (size_t)g[0]->n_params * sizeof(float));
    assert_memory_equal(g[0]->buffers, g[1]->buffers, (size_t)g[0]->n_buffers * sizeof(float));
    graph_free(g[0]);
    graph_free(g[1]);
    tiny_free(d);
}

static void test_nothing_to_do_changes_nothing(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 1);
    struct dataset *d = tiny_data(4, 1);
    const uint64_t version = g->version;
    struct bn_report r;

    (void)state;
    assert_int_equal(bn_insert(g, d->floats, 4, &r), 0);
    assert_int_equal(r.sites, 0);
    assert_true(g->version == version);
    assert_int_equal(bn_insert(g, d->floats, 0, &r), ERR_ARG);
    graph_free(g);
    tiny_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_function_stays_in_both_branches),
        cmocka_unit_test(test_statistics_equal_plain_loops),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_nothing_to_do_changes_nothing),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
