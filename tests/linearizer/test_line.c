/* Lines at removed positions: the fit against normal equations, what a second choice does to a trained
 * line, and the network that remains where a layer keeps nothing. */
#include <math.h>
#include <string.h>

#include "core/exec/exec.h"
#include "core/graph/rng.h"
#include "core/op/op.h"
#include "linearizer/linearizer.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 5 };

struct fixture {
    struct graph *g;
    struct relu_site *site;
    int32_t n;
    float *z[8];          /* per site, [N][h][w][c] */
    float *before, *half; /* masks: all kept; every second position kept */
};

static void setup(struct fixture *f, enum removed_kind kind)
{
    *f = (struct fixture){.g = tiny_net(TINY_BN | TINY_MASKED, 1)};
    assert_int_equal(line_insert(f->g, kind), 0);
    assert_int_equal(graph_verify(f->g), 0);
    assert_int_equal(relu_sites(f->g, &f->site, &f->n), 0);
    f->before = mem_array((size_t)f->g->n_masks, sizeof(float));
    f->half = mem_array((size_t)f->g->n_masks, sizeof(float));
    for (int64_t i = 0; i < f->g->n_masks; i++) {
        f->before[i] = 1;
        f->half[i] = (float)(i % 2);
    }
    for (int32_t s = 0; s < f->n; s++) {
        struct rng r = rng_at(1, RNG_TEST, 5, (uint64_t)s);

        f->z[s] = mem_array((size_t)(N * f->site[s].total), sizeof(float));
        for (int64_t i = 0; i < N * f->site[s].total; i++)
            f->z[s][i] = 0.3f + rng_normal(&r);
    }
}

static void teardown(struct fixture *f)
{
    for (int32_t s = 0; s < f->n; s++)
        mem_free(f->z[s]);
    mem_free(f->before);
    mem_free(f->half);
    mem_free(f->site);
    graph_free(f->g);
}

static void fit(struct fixture *f, const float *before, const float *after)
{
    struct line_fit *fit = NULL;

    assert_int_equal(line_fit_new(f->g, f->n, f->site, before, after, &fit), 0);
    for (int32_t s = 0; s < f->n; s++) {
        line_fit_add(fit, s, 2, f->z[s]);
        line_fit_add(fit, s, N - 2, f->z[s] + 2 * f->site[s].total);
    }
    line_fit_finish(fit);
    line_fit_free(fit);
}

static const struct value *line_of(const struct fixture *f, int32_t s, int i)
{
    return op_in(f->g, &f->g->node[f->site[s].node], 2 + i);
}

/* Sum of (max(z, 0) - k z - b)^2 over the positions of channel c that `mask` removes. */
static double loss(const struct fixture *f, int32_t s, const float *mask, int64_t c, double k,
                   double b)
{
    const struct value *m = &f->g->value[f->site[s].mask];
    const int64_t channels = m->shape.dim[0], hw = f->site[s].total / channels;
    double sum = 0;

    for (int64_t i = 0; i < N; i++)
        for (int64_t p = 0; p < hw; p++) {
            const double z = f->z[s][(i * hw + p) * channels + c];

            const double r = fmin(fmax(z, 0), f->site[s].relu6 ? 6 : INFINITY);

            if (mask[m->offset + c * hw + p] <= 0.5f)
                sum += pow(r - k * z - b, 2);
        }
    return sum;
}

/* No small step away from the line makes the sum smaller. */
static void check_minimum(const struct fixture *f, const float *mask, bool slope_too)
{
    for (int32_t s = 0; s < f->n; s++)
        for (int64_t c = 0; c < line_of(f, s, 0)->shape.dim[0]; c++) {
            const double k = (double)line_of(f, s, 0)->data[c],
                         b = (double)line_of(f, s, 1)->data[c];
            const double least = loss(f, s, mask, c, k, b);

            assert_true(least < loss(f, s, mask, c, k, b + 1e-3));
            assert_true(least < loss(f, s, mask, c, k, b - 1e-3));
            if (!slope_too)
                assert_true(k == 0.5);
            for (int d = -1; slope_too && d <= 1; d += 2)
                assert_true(least < loss(f, s, mask, c, k + 1e-3 * d, b));
        }
}

static void test_the_fit_is_the_least_squares_line(void **state)
{
    struct fixture f;

    (void)state;
    for (int kind = REMOVED_HALF; kind <= REMOVED_LINE; kind++) {
        setup(&f, (enum removed_kind)kind);
        fit(&f, f.before, f.half);
        check_minimum(&f, f.half, kind == REMOVED_LINE);
        teardown(&f);
    }
}

static void test_the_fit_of_a_relu6_knows_its_bound(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, REMOVED_LINE);
    for (int32_t s = 0; s < f.n; s++) {
        f.site[s].relu6 = true;
        for (int64_t i = 0; i < N * f.site[s].total; i++)
            f.z[s][i] *= 6;
    }
    fit(&f, f.before, f.half);
    check_minimum(&f, f.half, true);
    teardown(&f);
}

/* Masks come and go, the six stays. */
static void test_relu6_keeps_its_kind(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 1);
    struct relu_site *site = NULL;
    int32_t n = 0, six = 0;

    (void)state;
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == &op_relu && six++ < 2)
            g->node[i].op = &op_relu6;
    for (int masked = 0; masked < 2; masked++) {
        assert_int_equal(relu_sites(g, &site, &n), 0);
        for (int32_t s = 0; s < n; s++) {
            assert_int_equal(site[s].relu6, s < 2);
            assert_int_equal(relu_evaluations(&site[s]), site[s].kept * (s < 2 ? 2 : 1));
        }
        mem_free(site);
        assert_int_equal(mask_insert(g), 0);
    }
    g->masks[0] = 0; /* the first site keeps a part */
    assert_int_equal(mask_simplify(g), 0);
    assert_int_equal(graph_verify(g), 0);
    assert_int_equal(relu_sites(g, &site, &n), 0);
    for (int32_t s = 0; s < n; s++)
        assert_ptr_equal(g->node[site[s].node].op, s == 0   ? &op_masked_relu
                                                   : s == 1 ? &op_relu6
                                                            : &op_relu);
    assert_true(site[0].relu6 && site[0].kept == site[0].total - 1);
    mem_free(site);
    graph_free(g);
}

static void test_what_was_trained_since_a_fit_stays(void **state)
{
    struct fixture f;

    (void)state;
    setup(&f, REMOVED_LINE);
    fit(&f, f.before, f.half);
    for (int64_t i = 0; i < f.g->n_masks; i++) /* other positions */
        f.before[i] = (float)(i % 3 == 0);
    float *slope = line_of(&f, 1, 0)->data, *offset = line_of(&f, 1, 1)->data;
    slope[2] += 0.25f;
    offset[2] -= 0.5f;
    fit(&f, f.half, f.before);
    slope[2] -= 0.25f;
    offset[2] += 0.5f;
    check_minimum(&f, f.before, true);
    /* the same choice again moves nothing */
    const float was[2] = {slope[2] = 0.75f, offset[2] = 2};
    fit(&f, f.before, f.before);
    assert_true(slope[2] == was[0] && offset[2] == was[1]);
    teardown(&f);
}

static void logits_of(struct graph *g, const float *pixels, float *logits)
{
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, 2, NULL, &e), 0);
    assert_int_equal(exec_infer(e, pixels, 2, 0, logits), 0);
    exec_free(e);
}

static void test_a_layer_that_keeps_nothing_is_its_line(void **state)
{
    struct dataset *d = tiny_data(2, 3);
    float a[2 * TINY_CLASSES], b[2 * TINY_CLASSES];
    struct fixture f;

    (void)state;
    setup(&f, REMOVED_LINE);
    fit(&f, f.before, f.half);
    memset(f.g->masks + f.g->value[f.site[1].mask].offset, 0,
           (size_t)f.site[1].total * sizeof(float));
    graph_touch(f.g);
    logits_of(f.g, d->floats, a);
    assert_int_equal(mask_simplify(f.g), 0);
    assert_int_equal(graph_verify(f.g), 0);
    int32_t mul = 0, masked = 0;
    for (int32_t n = 0; n < f.g->n_node; n++) {
        mul += f.g->node[n].op == &op_mul;
        masked += f.g->node[n].op == &op_masked_relu;
    }
    assert_int_equal(mul, 1);
    assert_int_equal(masked, f.n - 1);
    logits_of(f.g, d->floats, b);
    for (int i = 0; i < 2 * TINY_CLASSES; i++)
        assert_near(a[i], b[i], 1e-5 * (1 + fabs((double)a[i])));
    teardown(&f);
    tiny_free(d);
}

static void test_identity_adds_nothing(void **state)
{
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    const int64_t params = g->n_params;

    (void)state;
    assert_int_equal(line_insert(g, REMOVED_IDENTITY), 0);
    assert_int_equal(g->n_params, params);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_fit_is_the_least_squares_line),
        cmocka_unit_test(test_the_fit_of_a_relu6_knows_its_bound),
        cmocka_unit_test(test_relu6_keeps_its_kind),
        cmocka_unit_test(test_what_was_trained_since_a_fit_stays),
        cmocka_unit_test(test_a_layer_that_keeps_nothing_is_its_line),
        cmocka_unit_test(test_identity_adds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
