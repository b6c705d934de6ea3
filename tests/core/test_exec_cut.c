/*
 * The executor cuts its work by images, by blocks of images or by channels, as the network, the
 * batch and the threads want it. No cut may change a bit of logits and input gradients, and
 * parameter gradients must not depend on the threads.
 *
 * The batch that an executor is made for may change bits: where it is small, convolutions with large
 * weights are computed in another way (conv_wino.h). So it is fixed in each comparison, and calls
 * have fewer images, as many, or more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph/arch.h"
#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/op/op.h"

#include <cmocka.h> /* last: its macro fail() would hide ours */

enum { IMAGES = 6, CLASSES = 10, SIDE = 16, PIXELS = 3 * SIDE * SIDE };

/* Results of one way to run a network. */
struct result {
    float logits[IMAGES * CLASSES], dpixels[IMAGES * PIXELS];
};

static void fill(float *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        x[i] = (float)(seed >> 8) / 16777216.0F;
    }
}

/* Weights as they are, statistics of batch normalization that are not 0 and 1. */
static struct graph *network(const char *name)
{
    struct graph *g;

    assert_int_equal(arch_build(name, CLASSES, SIDE, SIDE, 1, &g), 0);
    fill(g->buffers, g->n_buffers, 2);
    for (int64_t i = 0; i < g->n_buffers; i++)
        g->buffers[i] += 0.5F;
    graph_touch(g);
    return g;
}

static void logits_as_gradient(void *ctx, int64_t first, int64_t count, const float *logits,
                               float *dlogits)
{
    (void)ctx, (void)first;
    memcpy(dlogits, logits, (size_t)(count * CLASSES) * sizeof *logits);
}

/* Logits of exec_infer and gradients of exec_input_grad, `step` images a call, of executors made
 * for `batch`. */
static void evaluate(struct graph *g, const float *pixels, int64_t batch, int64_t step, int threads,
                     struct result *r)
{
    struct exec *infer, *grad;

    cpu_set_threads(threads);
    assert_int_equal(exec_new(g, EXEC_INFER, batch, NULL, 0, &infer), 0);
    assert_int_equal(exec_new(g, EXEC_INPUT_GRAD, batch, NULL, 0, &grad), 0);
    for (int64_t i = 0; i < IMAGES; i += step) {
        const int64_t n = IMAGES - i < step ? IMAGES - i : step;

        assert_int_equal(exec_infer(infer, pixels + i * PIXELS, n, 0, r->logits + i * CLASSES), 0);
        assert_int_equal(exec_input_grad(grad, pixels + i * PIXELS, n, 0, logits_as_gradient, NULL,
                                         r->dpixels + i * PIXELS, NULL),
                         0);
    }
    exec_free(infer);
    exec_free(grad);
    cpu_set_threads(1);
}

static void check_evaluation(const char *name, int64_t batch)
{
    static const struct {
        int64_t step;
        int threads;
    } ways[] = {{1, 1}, {1, 3}, {2, 4}, {4, 2}, {6, 2}, {6, 4}};
    struct graph *g = network(name);
    float pixels[IMAGES * PIXELS];
    struct result first, other;

    fill(pixels, IMAGES * PIXELS, 3);
    evaluate(g, pixels, batch, IMAGES, 1, &first);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        evaluate(g, pixels, batch, ways[i].step, ways[i].threads, &other);
        assert_memory_equal(first.logits, other.logits, sizeof first.logits);
        assert_memory_equal(first.dpixels, other.dpixels, sizeof first.dpixels);
    }
    graph_free(g);
}

static void test_small_network_in_blocks(void **state)
{
    (void)state;
    check_evaluation("resnet8", IMAGES);
}

static void test_large_weights_by_channels(void **state)
{
    (void)state;
    check_evaluation("wrn16_4", IMAGES);
}

static void test_large_weights_for_one_image(void **state)
{
    (void)state;
    check_evaluation("wrn16_4", 1);
}

static void train(struct graph *g, int64_t n, int threads, float *dparams, float *dpixels)
{
    float pixels[IMAGES * PIXELS], logits[IMAGES * CLASSES];
    struct exec *e;

    fill(pixels, IMAGES * PIXELS, 4);
    memset(dparams, 0, (size_t)g->n_params * sizeof *dparams);
    cpu_set_threads(threads);
    assert_int_equal(exec_new(g, EXEC_TRAIN, IMAGES, NULL, 0, &e), 0);
    assert_int_equal(exec_train_forward(e, pixels, n, 0, false, logits), 0);
    assert_int_equal(exec_train_backward(e, logits, dparams, NULL, dpixels), 0);
    exec_free(e);
    cpu_set_threads(1);
}

/* n: also fewer images than blocks, and so few that small weights are cut by channels, too. */
static void check_training(const char *name, int64_t n)
{
    struct graph *g = network(name);
    float *one = mem_array((size_t)g->n_params, sizeof *one);
    float *many = mem_array((size_t)g->n_params, sizeof *many);
    float a[IMAGES * PIXELS] = {0}, b[IMAGES * PIXELS] = {0};

    assert_true(one && many);
    train(g, n, 1, one, a);
    for (int threads = 2; threads <= 5; threads += 3) {
        train(g, n, threads, many, b);
        assert_memory_equal(one, many, (size_t)g->n_params * sizeof *one);
        assert_memory_equal(a, b, sizeof a);
    }
    mem_free(one);
    mem_free(many);
    graph_free(g);
}

static void test_training_of_any_threads(void **state)
{
    (void)state;
    check_training("resnet8", IMAGES);
    check_training("resnet8", 2);
    check_training("wrn16_4", IMAGES);
    check_training("wrn16_4", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_network_in_blocks),
        cmocka_unit_test(test_large_weights_by_channels),
        cmocka_unit_test(test_large_weights_for_one_image),
        cmocka_unit_test(test_training_of_any_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
