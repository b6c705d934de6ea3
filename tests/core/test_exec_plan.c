/*
 * The executor's memory plan where training sends two steps back in one loop over blocks of images:
 * what the convolution writes must not lie where other blocks still keep what the batch norm behind
 * it has to read.
 */
#include <string.h>

#include "core/graph/arch.h"
#include "core/graph/rng.h"
#include "core/exec/exec.h"
#include "core/exec/plan.h"
#include "core/op/op.h"
#include "tests/tiny_net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

struct range {
    int64_t first, last;
};

static struct range range_of(const struct graph *g, const int64_t *offset, value_id v)
{
    return (struct range){offset[v], offset[v] + shape_elems(&g->value[v].shape)};
}

static int apart(struct range a, struct range b)
{
    return a.first < 0 || b.first < 0 || a.last <= b.first || b.last <= a.first;
}

static void check(struct graph *g)
{
    bool *tap = mem_array((size_t)g->n_value + 1, sizeof *tap);
    struct exec_plan p = {0};
    int pairs = 0;

    assert_non_null(tap);
    assert_int_equal(exec_plan_make(g, EXEC_TRAIN, tap, tap, false, &p), 0);
    for (int32_t s = 0; s + 1 < p.n_step; s++) {
        const struct node *conv = &g->node[p.step[s].node], *bn = &g->node[p.step[s + 1].node];

        if (conv->op != &op_conv || bn->op != &op_batchnorm || bn->in[0] != p.step[s].out)
            continue;
        const struct range written = range_of(g, p.grad, conv->in[0]);
        assert_true(apart(written, range_of(g, p.grad, p.step[s + 1].out)));
        assert_true(apart(written, range_of(g, p.grad, bn->in[0])));
        assert_true(apart(written, range_of(g, p.act, bn->in[0])));
        pairs++;
    }
    assert_true(pairs > 1);
    exec_plan_release(&p);
    mem_free(tap);
    graph_free(g);
}

/* Sizes are told without the memory: a batch of a million images would not fit anywhere. */
static void test_size_alone(void **state)
{
    struct graph *g = tiny_net(TINY_BN, 1);
    size_t one, two, many;

    (void)state;
    for (int mode = EXEC_INFER; mode <= EXEC_TRAIN; mode++) {
        assert_int_equal(exec_size(g, (enum exec_mode)mode, EXEC_FP32, 1, &one), 0);
        assert_true(one > 0);
    }
    assert_int_equal(exec_size(g, EXEC_TRAIN, EXEC_FP32, 2, &two), 0);
    assert_int_equal(exec_size(g, EXEC_TRAIN, EXEC_FP32, 1 << 30, &many), 0);
    assert_true(two > one && many > (size_t)1 << 40);
    graph_free(g);
}

static void test_pairs_do_not_write_over_each_other(void **state)
{
    static const char *const arch[] = {"resnet8", "resnet20", "resnet18"};

    (void)state;
    check(tiny_net(TINY_BN | TINY_MASKED, 1));
    for (size_t i = 0; i < sizeof arch / sizeof arch[0]; i++) {
        struct graph *g = NULL;
        assert_int_equal(arch_build(arch[i], 10, 32, 32, 1, &g), 0);
        check(g);
    }
}

/* Memory for fewer images changes no bit: of few images one by one, of blocks, of activations. */
static void test_little_memory_gives_the_same_bits(void **state)
{
    enum { IMAGES = 5, BATCH = 16, ELEMS = 3 * 32 * 32 };
    static const char *const arch[] = {"resnet8", "resnet18"}; /* in blocks, and wide */
    static float pixels[IMAGES * ELEMS], want[IMAGES * 10], have[IMAGES * 10];
    struct rng r = rng_at(1, RNG_TEST, 0, 0);

    (void)state;
    for (int i = 0; i < IMAGES * ELEMS; i++)
        pixels[i] = rng_normal(&r);
    for (size_t a = 0; a < 2; a++) {
        struct graph *g = NULL;
        struct exec *full = NULL, *plain = NULL, *small = NULL;

        assert_int_equal(arch_build(arch[a], 10, 32, 32, 1, &g), 0);
        const value_id tap = g->node[g->n_node / 2].out[0];
        const size_t size = (size_t)shape_elems(&g->value[tap].shape) * sizeof(float);

        assert_int_equal(
            exec_new(g, EXEC_INFER, BATCH, &(struct exec_opts){.taps = &tap, .n_taps = 1}, &full),
            0);
        assert_int_equal(exec_new(g, EXEC_INFER, BATCH, NULL, &plain), 0);
        assert_int_equal(exec_infer(plain, pixels, IMAGES, 0, want), 0);
        exec_free(plain);
        for (int64_t held = 1; held <= 3; held++) {
            assert_int_equal(
                exec_new(g, EXEC_INFER, BATCH, &(struct exec_opts){.held = held}, &small), 0);
            memset(have, 0, sizeof have);
            assert_int_equal(exec_infer(small, pixels, IMAGES, 0, have), 0);
            assert_memory_equal(have, want, sizeof want);
            exec_free(small);
        }
        assert_int_equal(exec_infer(full, pixels, IMAGES, 0, want), 0);
        assert_int_equal(exec_new(g, EXEC_INFER, BATCH,
                                  &(struct exec_opts){.held = 2, .taps = &tap, .n_taps = 1},
                                  &small),
                         0);
        assert_int_equal(exec_infer(small, pixels, 2, 0, have), 0);
        assert_memory_equal(have, want, 20 * sizeof *want);
        assert_memory_equal(exec_tap(small, tap), exec_tap(full, tap), 2 * size);
        assert_int_equal(exec_infer(small, pixels, 3, 0, have), ERR_ARG);
        exec_free(small);
        exec_free(full);
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_do_not_write_over_each_other),
        cmocka_unit_test(test_size_alone),
        cmocka_unit_test(test_little_memory_gives_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
