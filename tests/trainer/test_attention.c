/*
 * Attention transfer and soft masks: formulas against naive loops in double, gradients against
 * differences, stages of the standard networks.
 */
#include <math.h>
#include <string.h>

#include "core/graph/arch.h"
#include "core/base/cpu.h"
#include "core/op/op.h"
#include "core/graph/rng.h"
#include "tests/tiny_net.h"
#include "trainer/train/attention.h"
#include "trainer/train/soft_mask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 3, P = 6, C = 4, SIZE = N * P * C };

static void fill(float *x, int n, uint64_t key)
{
    struct rng r = rng_at(1, RNG_TEST, 2, key);

    for (int i = 0; i < n; i++)
        x[i] = rng_normal(&r);
}

static void naive_map(const double *f, double *map)
{
    double norm = 0;

    for (int p = 0; p < P; p++) {
        map[p] = 0;
        for (int c = 0; c < C; c++)
            map[p] += f[p * C + c] * f[p * C + c] / C;
        norm += map[p] * map[p];
    }
    for (int p = 0; p < P; p++)
        map[p] /= fmax(sqrt(norm), 1e-12);
}

static double naive_at(const double *s, const double *t)
{
    double a[P], b[P], sum = 0;

    for (int i = 0; i < N; i++) {
        naive_map(s + i * P * C, a);
        naive_map(t + i * P * C, b);
        for (int p = 0; p < P; p++)
            sum += (a[p] - b[p]) * (a[p] - b[p]);
    }
    return sum / (N * P);
}

static double loss(const struct attention_maps *m, double weight, double *work)
{
    double each[N], sum = 0;

    attention_loss(m, weight, work, each);
    for (int i = 0; i < N; i++)
        sum += each[i];
    return sum;
}

static void test_attention_equals_definition_and_differences(void **state)
{
    float s[SIZE], t[SIZE], grad[SIZE];
    double ds[SIZE], dt[SIZE], work[N * 2 * P];
    const double weight = 1000, h = 1e-5;
    const struct attention_maps m = {s, t, grad, N, P, C, N};

    (void)state;
    assert_int_equal(attention_work(N, P), N * 2 * P);
    fill(s, SIZE, 1);
    fill(t, SIZE, 2);
    for (int i = 0; i < SIZE; i++) {
        ds[i] = s[i];
        dt[i] = t[i];
        grad[i] = 3; /* added to, not overwritten */
    }
    assert_near(loss(&m, weight, work), naive_at(ds, dt), 1e-15);
    for (int i = 0; i < SIZE; i++) {
        ds[i] = s[i] + h;
        const double up = naive_at(ds, dt);
        ds[i] = s[i] - h;
        const double down = naive_at(ds, dt);
        ds[i] = s[i];
        assert_near(grad[i] - 3, weight * (up - down) / (2 * h), 2e-4);
    }
}

/* Equal maps up to a factor have no distance; dead maps neither divide by 0 nor move. */
static void test_attention_ignores_scale_and_survives_zero(void **state)
{
    float s[SIZE], t[SIZE], grad[SIZE] = {0};
    double work[N * 2 * P];
    const struct attention_maps m = {s, t, grad, N, P, C, N};

    (void)state;
    fill(s, SIZE, 3);
    for (int i = 0; i < SIZE; i++)
        t[i] = 2 * s[i];
    assert_near(loss(&m, 1, work), 0, 1e-30);
    memset(s, 0, sizeof s);
    assert_true(isfinite(loss(&m, 1, work)));
    for (int i = 0; i < SIZE; i++)
        assert_true(isfinite(grad[i]) && fabsf(grad[i]) < 1e-6f);
}

/* Maps shorter than the smallest norm are divided by that, a constant: nothing is taken off along them. */
static void test_attention_of_faint_maps(void **state)
{
    float s[SIZE], t[SIZE], grad[SIZE] = {0};
    double ds[SIZE], dt[SIZE], work[N * 2 * P];
    const double h = 1e-12;
    const struct attention_maps m = {s, t, grad, N, P, C, N};

    (void)state;
    fill(s, SIZE, 3);
    fill(t, SIZE, 4);
    for (int i = 0; i < SIZE; i++) {
        ds[i] = s[i] *= 3e-7f; /* maps of about 1e-13 */
        dt[i] = t[i];
    }
    loss(&m, 1, work);
    for (int i = 0; i < SIZE; i++) {
        ds[i] = (double)s[i] + h;
        const double up = naive_at(ds, dt);
        ds[i] = (double)s[i] - h;
        const double down = naive_at(ds, dt);
        ds[i] = s[i];
        assert_near(grad[i], (up - down) / (2 * h), 1e-3 * fabs((double)grad[i]) + 1);
    }
}

static void check_groups(const char *arch, int32_t n, const char *const *names)
{
    value_id group[ATTENTION_MAX_GROUPS];
    struct graph *g = NULL;

    assert_int_equal(arch_build(arch, 10, 32, 32, 1, &g), 0);
    assert_int_equal(attention_groups(g, group), n);
    for (int32_t i = 0; i < n; i++)
        assert_string_equal(g->node[g->value[group[i]].producer].name, names[i]);
    graph_free(g);
}

static void test_groups_are_the_stages(void **state)
{
    static const char *const resnet20[] = {"layer1.2.relu2", "layer2.2.relu2", "layer3.2.relu2"};
    static const char *const resnet18[] = {"layer1.1.relu2", "layer2.1.relu2", "layer3.1.relu2",
                                           "layer4.1.relu2"};
    value_id group[ATTENTION_MAX_GROUPS];
    struct graph *g = NULL;

    (void)state;
    check_groups("resnet20", 3, resnet20);
    check_groups("resnet18", 4, resnet18);
    assert_int_equal(arch_build("wrn16_4", 10, 32, 32, 1, &g), 0);
    assert_int_equal(attention_groups(g, group), 3);
    for (int i = 0; i < 3; i++) { /* pre-activation: the sums themselves */
        assert_ptr_equal(g->node[g->value[group[i]].producer].op, &op_add);
        assert_int_equal(g->value[group[i]].shape.dim[2], 32 >> i);
    }
    graph_free(g);
    g = tiny_linear(1);
    assert_int_equal(attention_groups(g, group), 0);
    graph_free(g);
}

/* ---- soft masks ------------------------------------------------------------------------------ */

static void test_penalty_equals_naive_sum(void **state)
{
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    float *grad = mem_array((size_t)g->n_masks, sizeof *grad);
    double sum = 0;

    (void)state;
    fill(g->masks, (int)g->n_masks, 4);
    g->masks[5] = 0;
    for (int64_t i = 0; i < g->n_masks; i++) {
        grad[i] = 1;
        sum += fabs((double)g->masks[i]);
    }
    assert_true(soft_penalty(g, 0.25, grad) == 0.25 * sum);
    for (int64_t i = 0; i < g->n_masks; i++)
        assert_near(grad[i], 1 + (g->masks[i] > 0 ? 0.25 : g->masks[i] < 0 ? -0.25 : 0), 1e-7);
    mem_free(grad);
    graph_free(g);
}

/* The published rule, on counts 5, 4, 4, 4, 3 with patience 2. */
static void test_lambda_rises_where_the_count_does_not_fall(void **state)
{
    static const int counts[] = {5, 4, 4, 4, 3, 1};
    static const double lambda[] = {1, 1, 2, 4, 4, 4};
    const struct soft_params p = {
        .on = true, .lambda = 1, .factor = 2, .threshold = 0.01, .patience = 2, .budget = 1};
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    struct soft_state s = soft_begin(&p);

    (void)state;
    for (int64_t e = 0; e < 6; e++) {
        for (int64_t i = 0; i < g->n_masks; i++)
            g->masks[i] = i < counts[e] ? 0.5f : 0.01f; /* the threshold itself does not count */
        soft_epoch_end(&p, e, g, &s);
        assert_int_equal(s.count, counts[e]);
        assert_near(s.lambda, lambda[e], 0);
        assert_int_equal(s.stopped, e == 5);
    }
    graph_free(g);
}

/* Projection: the mean asked for, equal shrinking above kappa, nothing below, order kept. */
static void test_projection_onto_a_mean(void **state)
{
    static const double mean[] = {0.9, 0.4, 0.05, 0};
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    float *before = mem_array((size_t)g->n_masks, sizeof *before);

    (void)state;
    for (size_t m = 0; m < sizeof mean / sizeof mean[0]; m++) {
        double sum = 0;

        for (int64_t i = 0; i < g->n_masks; i++)
            before[i] = g->masks[i] = (float)(i * 7919 % 101) / 100;
        const double kappa = soft_project(g, mean[m]);
        for (int64_t i = 0; i < g->n_masks; i++) {
            assert_near(g->masks[i], fmax((double)before[i] - kappa, 0), 1e-6);
            sum += (double)g->masks[i];
        }
        assert_true(kappa == 0 ? mean[m] > 0.5 : kappa > 0 && kappa <= 1.0001);
        assert_true(sum <= mean[m] * (double)g->n_masks + 1e-3);
        assert_true(kappa == 0 || fabs(sum - mean[m] * (double)g->n_masks) < 1e-3);
    }
    mem_free(before);
    graph_free(g);
}

static void test_plan_falls_to_the_budget(void **state)
{
    const struct soft_params p = {.on = true, .rule = SOFT_PLAN, .budget = 100};

    (void)state;
    assert_near(soft_plan(&p, 0, 1000, 1000), 1, 1e-12);
    assert_near(soft_plan(&p, 400, 1000, 1000), 0.55, 1e-12);
    assert_near(soft_plan(&p, 800, 1000, 1000), 0.1, 1e-12);
    assert_near(soft_plan(&p, 1000, 1000, 1000), 0.1, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention_equals_definition_and_differences),
        cmocka_unit_test(test_attention_ignores_scale_and_survives_zero),
        cmocka_unit_test(test_attention_of_faint_maps),
        cmocka_unit_test(test_groups_are_the_stages),
        cmocka_unit_test(test_penalty_equals_naive_sum),
        cmocka_unit_test(test_lambda_rises_where_the_count_does_not_fall),
        cmocka_unit_test(test_projection_onto_a_mean),
        cmocka_unit_test(test_plan_falls_to_the_budget),
    };
    cpu_set_threads(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
