/* The reference's defects (trainer/METHOD.md), each against its description. */
#include <math.h>
#include <string.h>

#include "core/graph/arch.h"
#include "core/exec/exec.h"
#include "core/graph/fresh.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "linearizer/published.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct graph *net(const char *name)
{
    struct graph *g = NULL;

    assert_int_equal(arch_build(name, 10, 32, 32, 1, &g), 0);
    return g;
}

static int count(const struct graph *g, const struct op *op)
{
    int n = 0;

    for (int32_t i = 0; i < g->n_node; i++)
        n += g->node[i].op == op;
    return n;
}

/* Additions before and after; the rest of the network stays and runs. */
static void check_skips(const char *name, int before, int after)
{
    struct graph *g = net(name);
    const int convs = count(g, &op_conv), relus = count(g, &op_relu);
    struct exec *e = NULL;
    float *x = mem_array(3 * 32 * 32, sizeof *x), z[10];

    assert_int_equal(count(g, &op_add), before);
    assert_int_equal(published_drop_skips(g), before - after);
    assert_int_equal(count(g, &op_add), after);
    assert_int_equal(count(g, &op_conv), convs);
    assert_int_equal(count(g, &op_relu), relus);
    assert_int_equal(graph_verify(g), 0);
    assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, 1, 0, z), 0);
    assert_true(isfinite(z[0]));
    exec_free(e);
    mem_free(x);
    graph_free(g);
}

static void test_identity_skips(void **state)
{
    (void)state;
    check_skips("resnet18", 8, 3); /* 5 of 8 blocks lose theirs */
    check_skips("resnet20", 9, 2); /* 7 of 9 */
    check_skips("wrn16_4", 6, 6);  /* pre-activation: none */
}

static int shared_norms(const struct graph *g)
{
    int n = 0;

    for (int32_t i = 0; i < g->n_node; i++)
        n += g->node[i].op == &op_batchnorm && g->node[i].n_in == 5;
    return n;
}

static void check_shortcuts(const char *name, int shortcuts)
{
    struct graph *g = net(name);
    const int norms = count(g, &op_batchnorm);

    assert_int_equal(pass_dual_branch(g), norms);
    assert_int_equal(published_share_shortcuts(g), shortcuts);
    assert_int_equal(shared_norms(g), shortcuts);
    assert_int_equal(graph_branches(g), 2);
    assert_int_equal(graph_verify(g), 0);
    for (int32_t i = 0; i < g->n_node; i++) /* all of them are shortcuts by name */
        if (g->node[i].op == &op_batchnorm && g->node[i].n_in == 5)
            assert_non_null(strstr(g->node[i].name, "downsample"));
    graph_free(g);
}

static void test_shortcuts(void **state)
{
    (void)state;
    check_shortcuts("resnet18", 3);
    check_shortcuts("resnet50", 4); /* the block's own last convolution is 1x1 too */
}

static struct graph *masked(struct relu_site **site, int32_t *n)
{
    struct graph *g = net("resnet8");

    assert_int_equal(mask_insert(g), 0);
    assert_int_equal(relu_sites(g, site, n), 0);
    return g;
}

static int64_t kept(const struct graph *g, const struct relu_site *s)
{
    int64_t n = 0;

    for (int64_t i = 0; i < s->total; i++)
        n += g->value[s->mask].data[i] > 0.5f;
    return n;
}

static void test_strict_selection(void **state)
{
    struct relu_site *site = NULL;
    int32_t n = 0;
    struct graph *g = masked(&site, &n);
    const int64_t total = site[0].total;
    double *score = mem_array((size_t)total, sizeof *score);

    (void)state;
    for (int64_t i = 0; i < total; i++)
        score[i] = (double)((i * 7919) % total);
    assert_int_equal(published_select(g, &site[0], score, 100), 0);
    assert_int_equal(kept(g, &site[0]), 99);
    assert_int_equal(published_select(g, &site[0], score, total), 0);
    assert_int_equal(kept(g, &site[0]), total - 1);
    assert_int_equal(published_select(g, &site[0], score, 0), 0);
    assert_int_equal(kept(g, &site[0]), 0);
    for (int64_t i = 0; i < total; i++)
        score[i] = i < 10 ? 2 : i < 60 ? 1 : 0;
    assert_int_equal(published_select(g, &site[0], score, 50), 0);
    assert_int_equal(kept(g, &site[0]), 10); /* all ties at the bound are lost */
    assert_int_equal(published_select(g, &site[0], score, total + 1), ERR_ARG);
    mem_free(score);
    mem_free(site);
    graph_free(g);
}

static void test_first_masks(void **state)
{
    struct relu_site *site = NULL;
    int32_t n = 0;
    struct graph *g = masked(&site, &n);
    int64_t *k = mem_array((size_t)n, sizeof *k);

    (void)state;
    for (int32_t s = 0; s < n; s++)
        k[s] = site[s].total / 4;
    published_first_masks(g, n, site, 3, k);
    for (int32_t s = 0; s < n; s++) {
        const struct shape *y = &g->value[site[s].y].shape;
        const int64_t map = y->dim[2] * y->dim[3];
        const float *mask = g->value[site[s].mask].data;
        const double share = (double)kept(g, &site[s]) / (double)site[s].total;

        assert_true(fabs(share - 0.25) < 4 * sqrt(0.25 * 0.75 / (double)map));
        for (int64_t i = map; i < site[s].total; i++)
            assert_true(mask[i] == mask[i - map]);
    }
    mem_free(k);
    mem_free(site);
    graph_free(g);
}

static double deviation(const struct value *v)
{
    const int64_t n = shape_elems(&v->shape);
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)v->data[i] * (double)v->data[i];
    return sqrt(sum / (double)n);
}

static void test_random_weights(void **state)
{
    struct graph *g = net("resnet20"), *again = net("resnet20"), *other = net("resnet20");

    (void)state;
    fresh_weights(g, 5);
    fresh_weights(again, 5);
    fresh_weights(other, 6);
    assert_memory_equal(g->params, again->params, (size_t)g->n_params * sizeof(float));
    assert_memory_not_equal(g->params, other->params, (size_t)g->n_params * sizeof(float));
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];
        if (x->op == &op_conv) {
            const struct value *w = op_in(g, x, 1);
            const double want =
                sqrt(2.0 / (double)(w->shape.dim[0] * w->shape.dim[2] * w->shape.dim[3]));
            assert_true(fabs(deviation(w) / want - 1) < 0.1);
        }
        if (x->op == &op_batchnorm)
            assert_true(op_in(g, x, 1)->data[0] == 1 && op_in(g, x, 2)->data[0] == 0 &&
                        op_in(g, x, 3)->data[0] == 0 && op_in(g, x, 4)->data[0] == 1);
        if (x->op == &op_gemm)
            assert_true(fabs(deviation(op_in(g, x, 1)) * sqrt(3.0 * 64) - 1) < 0.1);
    }
    graph_free(g);
    graph_free(again);
    graph_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity_skips),   cmocka_unit_test(test_shortcuts),
        cmocka_unit_test(test_strict_selection), cmocka_unit_test(test_first_masks),
        cmocka_unit_test(test_random_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
