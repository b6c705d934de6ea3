/* SGD against a plain loop in double, schedules against the published factors. */
#include <math.h>

#include "core/base/cpu.h"
#include "core/op/op.h"
#include "core/graph/rng.h"
#include "tests/tiny_net.h"
#include "trainer/train/optim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { STEPS = 12 };

static void gradient(float *grad, int64_t n, int step)
{
    struct rng r = rng_at(3, RNG_TEST, (uint32_t)step, 0);

    for (int64_t i = 0; i < n; i++)
        grad[i] = rng_normal(&r);
}

/* w and v in double, as the published runs define them. */
static void plain_step(double *w, double *v, const float *g, int64_t n, double lr, double mu,
                       double wd, int nesterov)
{
    for (int64_t i = 0; i < n; i++) {
        double d = (double)g[i] + wd * w[i];
        v[i] = mu * v[i] + d;
        w[i] -= lr * (nesterov ? d + mu * v[i] : v[i]);
    }
}

static void compare_with_plain(bool nesterov)
{
    const struct optim_params p = {
        .momentum = 0.9, .weight_decay = 5e-4, .nesterov = nesterov, .decay_norm = true};
    struct graph *g = tiny_net(TINY_BN, 1);
    const size_t n = (size_t)g->n_params;
    double *w = mem_array(n, sizeof *w), *v = mem_array(n, sizeof *v);
    float *grad = mem_array(n, sizeof *grad);
    struct optim o;

    assert_int_equal(optim_init(&o, &p, g), 0);
    for (size_t i = 0; i < n; i++)
        w[i] = g->params[i];
    for (int s = 0; s < STEPS; s++) {
        const uint64_t version = g->version;
        gradient(grad, g->n_params, s);
        optim_step(&o, g, grad, 0.05, s);
        plain_step(w, v, grad, g->n_params, 0.05, 0.9, 5e-4, nesterov);
        assert_true(g->version > version);
    }
    for (size_t i = 0; i < n; i++)
        assert_near(g->params[i], w[i], 2e-5);
    optim_release(&o);
    graph_free(g);
    mem_free(w);
    mem_free(v);
    mem_free(grad);
}

static void test_sgd_equals_plain_loop(void **state)
{
    (void)state;
    compare_with_plain(false);
    compare_with_plain(true);
}

/* Adam in double, with the masks as further parameters that stay in [0,1] and have their own rate. */
static void test_adam_equals_plain_loop_and_moves_masks(void **state)
{
    const struct optim_params p = {.kind = OPTIM_ADAM, .masks = true, .mask_rate = 3};
    struct graph *g = tiny_net(TINY_BN | TINY_MASKED, 1);
    const int64_t n = g->n_params + g->n_masks;
    double *w = mem_array((size_t)n, sizeof *w), *m = mem_array((size_t)n, sizeof *m),
           *v = mem_array((size_t)n, sizeof *v);
    float *grad = mem_array((size_t)n, sizeof *grad);
    struct optim o;

    (void)state;
    assert_int_equal(optim_init(&o, &p, g), 0);
    assert_int_equal(o.n, n);
    for (int64_t i = 0; i < n; i++)
        w[i] = i < g->n_params ? g->params[i] : g->masks[i - g->n_params];
    for (int s = 0; s < STEPS; s++) {
        gradient(grad, n, s);
        optim_step(&o, g, grad, 0.01, s);
        for (int64_t i = 0; i < n; i++) {
            m[i] = 0.9 * m[i] + 0.1 * grad[i];
            v[i] = 0.999 * v[i] + 0.001 * (double)grad[i] * grad[i];
            w[i] -= (i < g->n_params ? 0.01 : 0.03) * (m[i] / (1 - pow(0.9, s + 1))) /
                    (sqrt(v[i] / (1 - pow(0.999, s + 1))) + 1e-8);
            if (i >= g->n_params)
                w[i] = fmin(fmax(w[i], 0), 1);
        }
    }
    for (int64_t i = 0; i < n; i++)
        assert_near(i < g->n_params ? g->params[i] : g->masks[i - g->n_params], w[i], 1e-5);
    optim_release(&o);
    graph_free(g);
    mem_free(w);
    mem_free(m);
    mem_free(v);
    mem_free(grad);
}

static int32_t node_of(const struct graph *g, const struct op *op)
{
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == op)
            return i;
    return -1;
}

/* With zero gradients only the decay moves anything. */
static void test_decay_and_frozen_rules(void **state)
{
    const struct optim_params p = {.weight_decay = 0.5};
    struct graph *g = tiny_net(TINY_BN, 1);
    const struct node *bn = &g->node[node_of(g, &op_batchnorm)];
    struct node *conv = &g->node[node_of(g, &op_conv)], *fc = &g->node[node_of(g, &op_gemm)];
    struct optim o;

    (void)state;
    conv->frozen = true;
    float *grad = mem_array((size_t)g->n_params, sizeof *grad);
    const float gamma = op_in(g, bn, 1)->data[0], w = op_in(g, conv, 1)->data[0],
                f = op_in(g, fc, 1)->data[0];
    assert_int_equal(optim_init(&o, &p, g), 0);
    optim_step(&o, g, grad, 0.5, 0);
    assert_true(op_in(g, bn, 1)->data[0] == gamma);
    assert_true(op_in(g, conv, 1)->data[0] == w);
    assert_near(op_in(g, fc, 1)->data[0], 0.75 * (double)f, 1e-6);
    optim_release(&o);
    mem_free(grad);
    graph_free(g);
}

static void test_same_bits_for_any_thread_count(void **state)
{
    const struct optim_params p = {.momentum = 0.9, .weight_decay = 5e-4, .decay_norm = true};
    struct graph *g[2] = {tiny_net(TINY_BN, 1), tiny_net(TINY_BN, 1)};
    float *grad = mem_array((size_t)g[0]->n_params, sizeof *grad);
    struct optim o;

    (void)state;
    for (int t = 0; t < 2; t++) {
        cpu_set_threads(t + 1);
        assert_int_equal(optim_init(&o, &p, g[t]), 0);
        for (int s = 0; s < 3; s++) {
            gradient(grad, g[t]->n_params, s);
            optim_step(&o, g[t], grad, 0.1, s);
        }
        optim_release(&o);
    }
    cpu_set_threads(1);
    assert_memory_equal(g[0]->params, g[1]->params, (size_t)g[0]->n_params * sizeof(float));
    graph_free(g[0]);
    graph_free(g[1]);
    mem_free(grad);
}

/* 240 epochs: x 0.1 after 150, 180, 210 (trainer/METHOD.md). */
static void test_step_schedule_is_the_published_one(void **state)
{
    const double factor[] = {1, 0.1, 0.01, 0.001};
    const int64_t edge[] = {0, 150, 180, 210, 240};

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_near(optim_rate(OPTIM_STEP, 0.05, edge[i], 240, 0), 0.05 * factor[i], 1e-15);
        assert_near(optim_rate(OPTIM_STEP, 0.05, edge[i + 1] - 1, 240, 0), 0.05 * factor[i], 1e-15);
    }
}

/* SNL's pretraining: 160 epochs, x 0.1 at 80 and 120. */
static void test_halves_schedule(void **state)
{
    (void)state;
    assert_near(optim_rate(OPTIM_HALVES, 0.1, 79, 160, 0), 0.1, 1e-15);
    assert_near(optim_rate(OPTIM_HALVES, 0.1, 80, 160, 0), 0.01, 1e-15);
    assert_near(optim_rate(OPTIM_HALVES, 0.1, 120, 160, 0), 0.001, 1e-15);
}

static void test_cosine_and_warmup(void **state)
{
    (void)state;
    assert_near(optim_rate(OPTIM_COSINE, 0.2, 0, 100, 0), 0.2, 1e-15);
    assert_near(optim_rate(OPTIM_COSINE, 0.2, 50, 100, 0), 0.1, 1e-15);
    assert_near(optim_rate(OPTIM_COSINE, 0.2, 99, 100, 0), 0.1 * (1 + cos(0.99 * acos(-1.0))),
                1e-15);
    assert_near(optim_rate(OPTIM_COSINE, 0.2, 4, 100, 10), 0.1, 1e-15);
    assert_near(optim_rate(OPTIM_COSINE, 0.2, 55, 100, 10), 0.1, 1e-15);
    assert_near(optim_rate(OPTIM_CONSTANT, 0.2, 99, 100, 0), 0.2, 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sgd_equals_plain_loop),
        cmocka_unit_test(test_adam_equals_plain_loop_and_moves_masks),
        cmocka_unit_test(test_decay_and_frozen_rules),
        cmocka_unit_test(test_same_bits_for_any_thread_count),
        cmocka_unit_test(test_step_schedule_is_the_published_one),
        cmocka_unit_test(test_halves_schedule),
        cmocka_unit_test(test_cosine_and_warmup),
    };
    cpu_set_threads(1); /* tiny work: threads would only wait; the thread tests ask for more */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
