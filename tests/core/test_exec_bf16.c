/*
 * Executors of bf16: close to those of fp32, the same bits for any number of threads, for any images
 * beside an image and for any cut of a call, and what is read from outside (taps) is right.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/graph/arch.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"

#include <cmocka.h> /* last: its macro fail() would hide ours */

enum { IMAGES = 40, CLASSES = 10, SIDE = 16, PIXELS = 3 * SIDE * SIDE };

struct result {
    float logits[IMAGES * CLASSES], dpixels[IMAGES * PIXELS];
    float *dparams;
};

static void fill(float *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        x[i] = (float)(seed >> 8) / 16777216.0F;
    }
}

static struct graph *network(const char *name)
{
    struct graph *g;

    assert_int_equal(arch_build(name, CLASSES, SIDE, SIDE, 1, &g), 0);
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_batchnorm) {
            const struct value *mean = op_in(g, &g->node[n], 3), *var = op_in(g, &g->node[n], 4);

            fill(mean->data, shape_elems(&mean->shape), (uint32_t)n);
            fill(var->data, shape_elems(&var->shape), (uint32_t)n + 1);
            for (int64_t i = 0; i < shape_elems(&mean->shape); i++) {
                mean->data[i] = 0.2F * mean->data[i] - 0.1F;
                var->data[i] += 0.5F;
            }
        }
    graph_touch(g);
    return g;
}

/* Class 0 against the others. */
static void class_gradient(void *ctx, int64_t first, int64_t count, const float *logits,
                           float *dlogits)
{
    (void)ctx, (void)first, (void)logits;
    for (int64_t i = 0; i < count * CLASSES; i++)
        dlogits[i] = i % CLASSES == 0 ? 1 : -0.1F * (float)(i % CLASSES);
}

static struct result *new_result(const struct graph *g)
{
    struct result *r = mem_array(1, sizeof *r);

    assert_non_null(r);
    r->dparams = mem_array((size_t)g->n_params, sizeof *r->dparams);
    assert_non_null(r->dparams);
    return r;
}

static void free_result(struct result *r)
{
    mem_free(r->dparams);
    mem_free(r);
}

static void evaluate(struct graph *g, enum exec_precision p, int64_t step, int threads,
                     struct result *r)
{
    float *pixels = mem_array(IMAGES * PIXELS, sizeof *pixels);
    struct exec *infer, *grad;

    assert_non_null(pixels);
    fill(pixels, IMAGES * PIXELS, 3);
    cpu_set_threads(threads);
    assert_int_equal(exec_new(g, EXEC_INFER, IMAGES, &(struct exec_opts){.precision = p}, &infer),
                     0);
    assert_int_equal(
        exec_new(g, EXEC_INPUT_GRAD, IMAGES, &(struct exec_opts){.precision = p}, &grad), 0);
    assert_int_equal(exec_precision_of(infer), p);
    for (int64_t i = 0; i < IMAGES; i += step) {
        const int64_t n = IMAGES - i < step ? IMAGES - i : step;
        const float *x = pixels + i * PIXELS;

        assert_int_equal(exec_infer(infer, x, n, 0, r->logits + i * CLASSES), 0);
        assert_int_equal(
            exec_input_grad(grad, x, n, 0, class_gradient, NULL, r->dpixels + i * PIXELS, NULL), 0);
    }
    exec_free(infer);
    exec_free(grad);
    cpu_set_threads(1);
    mem_free(pixels);
}

static void train(struct graph *g, enum exec_precision p, int64_t n, int threads, struct result *r)
{
    float *pixels = mem_array(IMAGES * PIXELS, sizeof *pixels), dlogits[IMAGES * CLASSES];
    struct exec *e;

    assert_non_null(pixels);
    fill(pixels, IMAGES * PIXELS, 4);
    memset(r->dparams, 0, (size_t)g->n_params * sizeof *r->dparams);
    memset(r->dpixels, 0, sizeof r->dpixels);
    cpu_set_threads(threads);
    assert_int_equal(exec_new(g, EXEC_TRAIN, IMAGES, &(struct exec_opts){.precision = p}, &e), 0);
    assert_int_equal(exec_train_forward(e, pixels, n, 0, false, r->logits), 0);
    class_gradient(NULL, 0, n, r->logits, dlogits);
    assert_int_equal(exec_train_backward(e, dlogits, r->dparams, NULL, r->dpixels), 0);
    exec_free(e);
    cpu_set_threads(1);
    mem_free(pixels);
}

static double distance(const float *a, const float *b, int64_t n)
{
    double error = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(error / size);
}

static void assert_near(const char *what, const float *a, const float *b, int64_t n, double bound)
{
    const double d = distance(a, b, n);

    print_message("%s %g\n", what, d);
    if (!(d < bound))
        fail_msg("%s: %g from fp32, at most %g", what, d, bound);
    assert_true(d > 0); /* the two are not the same path */
}

/* Random weights, whose gradients pass ReLUs near 0: bf16 moves some of them to the other side. */
static void check_near(const char *name)
{
    struct graph *g = network(name);
    struct result *a = new_result(g), *b = new_result(g);

    evaluate(g, EXEC_FP32, IMAGES, 1, a);
    evaluate(g, EXEC_BF16, IMAGES, 1, b);
    assert_near("logits", b->logits, a->logits, IMAGES * CLASSES, 2e-2);
    assert_near("input gradient", b->dpixels, a->dpixels, IMAGES * PIXELS, 0.2);
    train(g, EXEC_FP32, IMAGES - 3, 1, a);
    train(g, EXEC_BF16, IMAGES - 3, 1, b);
    assert_near("logits of training", b->logits, a->logits, (IMAGES - 3) * CLASSES, 5e-2);
    assert_near("parameter gradient", b->dparams, a->dparams, g->n_params, 0.25);
    assert_near("pixel gradient", b->dpixels, a->dpixels, (IMAGES - 3) * PIXELS, 0.4);
    free_result(a);
    free_result(b);
    graph_free(g);
}

static void test_near_fp32(void **state)
{
    (void)state;
    check_near("resnet8");
    check_near("resnet20");
#if !defined __SANITIZE_ADDRESS__
    check_near("wrn16_4");
#endif
}

static void check_bits(const char *name)
{
    static const struct {
        int64_t step;
        int threads;
    } ways[] = {{1, 1}, {7, 2}, {32, 4}, {IMAGES, 2}, {IMAGES, 4}};
    struct graph *g = network(name);
    struct result *a = new_result(g), *b = new_result(g);

    evaluate(g, EXEC_BF16, IMAGES, 1, a);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        evaluate(g, EXEC_BF16, ways[i].step, ways[i].threads, b);
        assert_memory_equal(a->logits, b->logits, sizeof a->logits);
        assert_memory_equal(a->dpixels, b->dpixels, sizeof a->dpixels);
    }
    for (int64_t n = IMAGES; n > 0; n -= 37) {
        train(g, EXEC_BF16, n, 1, a);
        for (int threads = 2; threads <= 4; threads += 2) {
            train(g, EXEC_BF16, n, threads, b);
            assert_memory_equal(a->logits, b->logits, sizeof a->logits);
            assert_memory_equal(a->dpixels, b->dpixels, sizeof a->dpixels);
            assert_memory_equal(a->dparams, b->dparams, (size_t)g->n_params * sizeof(float));
        }
    }
    free_result(a);
    free_result(b);
    graph_free(g);
}

static void test_bits(void **state)
{
    (void)state;
    check_bits("resnet8");
#if !defined __SANITIZE_ADDRESS__ /* takes many minutes there, on the same code */
    check_bits("wrn16_4");
#endif
}

/* What no tile can hold stays fp32, and the executor says so. */
static void test_small_maps_stay_fp32(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 1);
    struct exec *e;

    (void)state;
    assert_int_equal(exec_new(g, EXEC_TRAIN, 2, &(struct exec_opts){.precision = EXEC_BF16}, &e),
                     0);
    assert_int_equal(exec_precision_of(e), EXEC_FP32);
    exec_free(e);
    graph_free(g);
}

/* Evaluation of few images stays fp32; training does not, and what is held at a time does not count. */
static void test_few_images_stay_fp32(void **state)
{
    static const struct {
        enum exec_mode mode;
        int64_t batch, held;
        enum exec_precision want;
    } c[] = {{EXEC_INFER, 15, 15, EXEC_FP32},
             {EXEC_INFER, 16, 16, EXEC_BF16},
             {EXEC_INPUT_GRAD, 1, 1, EXEC_FP32},
             {EXEC_INPUT_GRAD, 16, 1, EXEC_BF16},
             {EXEC_TRAIN, 2, 2, EXEC_BF16}};
    struct graph *g = network("resnet8");

    (void)state;
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct exec *e;

        assert_int_equal(exec_new(g, c[i].mode, c[i].batch,
                                  &(struct exec_opts){.precision = EXEC_BF16, .held = c[i].held},
                                  &e),
                         0);
        assert_int_equal(exec_precision_of(e), c[i].want);
        exec_free(e);
    }
    graph_free(g);
}

/* The first value of the largest map, and a convolution's weights behind it. */
static value_id first_relu(const struct graph *g)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_relu)
            return g->node[n].out[0];
    return NO_VALUE;
}

/* A tap holds what the network stored; a gradient from outside joins its own and is told. */
static void test_taps(void **state)
{
    struct graph *g = network("resnet8");
    const value_id tap = first_relu(g);
    const int64_t n = 3, elems = shape_elems(&g->value[tap].shape);
    float *pixels = mem_array((size_t)(n * PIXELS), sizeof *pixels), dlogits[3 * CLASSES];
    float *grad[2], *dpixels[2], logits[3 * CLASSES];

    (void)state;
    assert_non_null(pixels);
    fill(pixels, n * PIXELS, 5);
    for (int p = 0; p < 2; p++) {
        struct exec *e;

        grad[p] = mem_array((size_t)(n * elems), sizeof(float));
        dpixels[p] = mem_array((size_t)(n * PIXELS), sizeof(float));
        assert_true(grad[p] && dpixels[p]);
        assert_int_equal(
            exec_new(
                g, EXEC_TRAIN, 8,
                &(struct exec_opts){.precision = (enum exec_precision)p, .taps = &tap, .n_taps = 1},
                &e),
            0);
        assert_int_equal(exec_train_forward(e, pixels, n, 0, false, logits), 0);
        class_gradient(NULL, 0, n, logits, dlogits);
        for (int64_t i = 0; i < n * elems; i++) {
            const float v = exec_tap(e, tap)[i];

            assert_true(p == EXEC_FP32 || v == bf16_float(bf16_round(v)));
            exec_tap_grad(e, tap)[i] = i % 2 == 0 ? 0.5F : -0.25F;
        }
        memset(grad[p], 0, (size_t)(n * elems) * sizeof(float));
        float *dparams = mem_array((size_t)g->n_params, sizeof *dparams);
        assert_non_null(dparams);
        assert_int_equal(exec_train_backward(e, dlogits, dparams, NULL, dpixels[p]), 0);
        memcpy(grad[p], exec_tap_grad(e, tap), (size_t)(n * elems) * sizeof(float));
        mem_free(dparams);
        exec_free(e);
    }
    assert_near("gradient of a tap", grad[1], grad[0], n * elems, 2e-2);
    assert_near("pixels behind a tap", dpixels[1], dpixels[0], n * PIXELS, 0.1);
    for (int p = 0; p < 2; p++) {
        mem_free(grad[p]);
        mem_free(dpixels[p]);
    }
    mem_free(pixels);
    graph_free(g);
}

/* bf16 halves what training keeps; vectors, pixels and scratch stay. */
static void test_memory(void **state)
{
    struct graph *g;
    size_t fp32, half;

    (void)state;
    assert_int_equal(arch_build("resnet18", CLASSES, 32, 32, 1, &g), 0);
    assert_int_equal(exec_size(g, EXEC_TRAIN, EXEC_FP32, 128, &fp32), 0);
    assert_int_equal(exec_size(g, EXEC_TRAIN, EXEC_BF16, 128, &half), 0);
    print_message("training ResNet-18, 128 images: fp32 %zu MB, bf16 %zu MB\n", fp32 >> 20,
                  half >> 20);
    assert_true(half < fp32 * 6 / 10);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_fp32), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_taps),      cmocka_unit_test(test_small_maps_stay_fp32),
        cmocka_unit_test(test_memory),    cmocka_unit_test(test_few_images_stay_fp32),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
