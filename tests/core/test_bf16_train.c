/*
 * Twenty training steps in bf16 give the same bits with every implementation of the product of tiles:
 * plain C, AVX2, AVX-512, AMX where there is one, and the source of AMX on tiles in memory
 * (tests/bf16_tiles.h), with 1, 2 and 4 threads. This program has bf16_begin and bf16_end of its own,
 * which choose the implementation; everything else is the product's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/graph/arch.h"
#include "core/kernel/bf16.h"
#include "tests/bf16_tiles.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

#include <cmocka.h> /* last: its macro fail() would hide ours */

#if defined __SANITIZE_ADDRESS__ /* the same code, many times slower */
#define STEPS 2
#else
#define STEPS 20
#endif
enum { IMAGES = 34, SIDE = 4, PIXELS = 3 * SIDE * SIDE, CLASSES = 10 };

static const struct bf16_kernels *kernels; /* of this program's bf16_begin */

struct bf16_state bf16_begin(void)
{
    struct bf16_state s = {.k = kernels};

#if defined __x86_64__
    s.control = _mm_getcsr();
#endif
    s.k->begin();
    return s;
}

void bf16_end(struct bf16_state s)
{
    s.k->end();
#if defined __x86_64__
    _mm_setcsr(s.control);
#endif
}

static void fill(float *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        x[i] = (float)(seed >> 8) / 16777216.0F;
    }
}

/* One step of plain gradient descent towards class image % CLASSES. */
static void step(struct graph *g, struct exec *e, int number, float *gradient)
{
    static float pixels[IMAGES * PIXELS], logits[IMAGES * CLASSES], dlogits[IMAGES * CLASSES];

    fill(pixels, IMAGES * PIXELS, (uint32_t)number);
    memset(gradient, 0, (size_t)g->n_params * sizeof *gradient);
    assert_int_equal(exec_train_forward(e, pixels, IMAGES, 0, true, logits), 0);
    for (int i = 0; i < IMAGES * CLASSES; i++)
        dlogits[i] = (logits[i] - (i % CLASSES == i / CLASSES % CLASSES)) / IMAGES;
    assert_int_equal(exec_train_backward(e, dlogits, gradient, NULL, NULL), 0);
    for (int64_t i = 0; i < g->n_params; i++)
        g->params[i] -= 0.05F * gradient[i];
    graph_touch(g);
}

/* Parameters after STEPS steps; to be freed. */
static float *train(const struct bf16_kernels *k, int threads, int64_t *n)
{
    struct graph *g;
    struct exec *e;

    kernels = k;
    cpu_set_threads(threads);
    assert_int_equal(arch_build("resnet8", CLASSES, SIDE, SIDE, 1, &g), 0);
    assert_int_equal(
        exec_new(g, EXEC_TRAIN, IMAGES, &(struct exec_opts){.precision = EXEC_BF16}, &e), 0);
    assert_int_equal(exec_precision_of(e), EXEC_BF16);
    float *gradient = mem_array((size_t)g->n_params, sizeof *gradient);
    float *params = mem_array((size_t)g->n_params, sizeof *params);

    assert_true(gradient && params);
    for (int i = 0; i < STEPS; i++)
        step(g, e, i, gradient);
    memcpy(params, g->params, (size_t)g->n_params * sizeof *params);
    *n = g->n_params;
    mem_free(gradient);
    exec_free(e);
    graph_free(g);
    return params;
}

static void check(const char *what, const float *want, const struct bf16_kernels *k, int threads)
{
    int64_t n;
    float *got = train(k, threads, &n);

    for (int64_t i = 0; i < n; i++)
        if (memcmp(&want[i], &got[i], sizeof *got) != 0)
            fail_msg("%s, %d threads: parameter %lld is %a, not %a", what, threads, (long long)i,
                     (double)got[i], (double)want[i]);
    mem_free(got);
}

static void test_steps(void **state)
{
    int64_t n;
    float *want = train(bf16_kernels_of(cpu_best_path()), 1, &n);
    const int64_t before = bf16_tile_products();

    (void)state;
    for (enum cpu_path p = CPU_GENERIC; p <= CPU_AMX; p++)
        for (int threads = 1; threads <= 4 && p <= cpu_level(); threads *= 2)
            if (threads == 2 || p >= CPU_AVX512)
                check(cpu_path_name(p), want, bf16_kernels_of(p), threads);
    if (cpu_level() < CPU_AMX)
        print_message("AMX skipped: no AMX; its source runs on tiles in memory\n");
    for (int threads = 1; threads <= 4; threads *= 2)
        check("AMX source on tiles in memory", want, bf16_kernels_on_tiles(), threads);
    assert_true(bf16_tile_products() > before);
    mem_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_steps)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
