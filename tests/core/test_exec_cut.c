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
    assert_int_equal(exec_new(g, EXEC_INFER, batch, NULL, &infer), 0);
    assert_int_equal(exec_new(g, EXEC_INPUT_GRAD, batch, NULL, &grad), 0);
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
    assert_int_equal(exec_new(g, EXEC_TRAIN, IMAGES, NULL, &e), 0);
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

/* A round of training as the trainer has it: a teacher, an attack, a step. beside: in one memory. */
static void train_round(bool beside, const char *name, const char *teacher_name, struct result *r,
                        float *dparams, float *teacher_logits)
{
    struct graph *g = network(name), *t = network(teacher_name);
    float pixels[IMAGES * PIXELS];
    struct exec *step, *attack, *teacher;

    fill(pixels, IMAGES * PIXELS, 4);
    cpu_set_threads(2);
    assert_int_equal(exec_new(g, EXEC_TRAIN, 2, NULL, &step), 0);
    struct exec_opts o = {.beside = beside ? step : NULL};
    assert_int_equal(exec_new(g, EXEC_INPUT_GRAD, IMAGES, &o, &attack), 0);
    o.taps = &t->node[3].out[0];
    o.n_taps = 1;
    assert_int_equal(exec_new(t, EXEC_INFER, IMAGES, &o, &teacher), 0);
    for (int64_t i = 0; i < IMAGES; i += 2) {
        float *dx = r->dpixels + i * PIXELS;

        assert_int_equal(exec_infer(teacher, pixels, IMAGES, 0, teacher_logits), 0);
        assert_int_equal(
            exec_input_grad(attack, pixels + i * PIXELS, 2, 0, logits_as_gradient, NULL, dx, NULL),
            0);
        assert_int_equal(exec_train_forward(step, dx, 2, 0, false, r->logits + i * CLASSES), 0);
        assert_int_equal(exec_train_backward(step, r->logits + i * CLASSES, dparams, NULL, NULL),
                         0);
    }
    memcpy(r->logits, exec_tap(teacher, t->node[3].out[0]), sizeof r->logits);
    exec_free(step); /* the memory is the others' now */
    assert_int_equal(exec_infer(teacher, pixels, IMAGES, 0, teacher_logits), 0);
    exec_free(teacher);
    exec_free(attack);
    cpu_set_threads(1);
    graph_free(g);
    graph_free(t);
}

/* Executors that take turns in one memory, and pack weights for one step at a time, give the bits of those
 * that have their own; batch norm is folded into weights of resnet18 alone, and the second teacher goes in
 * blocks on each thread, the others step by step. */
static void test_turns_in_one_memory(void **state)
{
    static const char *const student[] = {"resnet18", "wrn16_4"},
                             *teacher[] = {"wrn16_4", "resnet8"};
    float logits[2][IMAGES * CLASSES];
    struct result r[2] = {0};

    (void)state;
    for (int k = 0; k < 2; k++) {
        struct graph *g = network(student[k]);
        float *d[2] = {mem_array((size_t)g->n_params, sizeof(float)),
                       mem_array((size_t)g->n_params, sizeof(float))};

        for (int beside = 0; beside < 2; beside++)
            train_round(beside, student[k], teacher[k], &r[beside], d[beside], logits[beside]);
        assert_memory_equal(d[0], d[1], (size_t)g->n_params * sizeof(float));
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        assert_memory_equal(&r[0], &r[1], sizeof r[0]);
        mem_free(d[0]);
        mem_free(d[1]);
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_network_in_blocks),
        cmocka_unit_test(test_large_weights_by_channels),
        cmocka_unit_test(test_large_weights_for_one_image),
        cmocka_unit_test(test_training_of_any_threads),
        cmocka_unit_test(test_turns_in_one_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
