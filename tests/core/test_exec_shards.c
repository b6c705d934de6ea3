/*
 * Batch norm by shards (exec_opts.shards) against the plain thing: each shard's images are a batch of their
 * own, run by an executor that knows no shards; gradients are added, running statistics pooled by hand.
 *
 * With 16 images, one in each block, both make the same sums in the same order: logits and input gradients
 * must be equal to the bit. Blocks of other sizes divide a shard's sums otherwise, so they are near. In bf16
 * blocks are of 32 images, and a shard of 32 has one.
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

#include <cmocka.h> /* last: its macro fail() would hide ours */

enum { CLASSES = 10, SIDE = 8, PIXELS = 3 * SIDE * SIDE, MOST = 128 };

struct result {
    float logits[MOST * CLASSES], dpixels[MOST * PIXELS];
    float *dparams, *buffers;
};

static void fill(float *x, int64_t n, uint32_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525U + 1013904223U;
        x[i] = (float)(seed >> 8) / 16777216.0F;
    }
}

/* Running statistics and gammas that are not 0 and 1. */
static struct graph *network(const char *name)
{
    struct graph *g;

    assert_int_equal(arch_build(name, CLASSES, SIDE, SIDE, 1, &g), 0);
    fill(g->buffers, g->n_buffers, 2);
    for (int64_t i = 0; i < g->n_buffers; i++)
        g->buffers[i] += 0.5F;
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM && g->value[v].shape.rank == 1)
            for (int64_t c = 0; c < g->value[v].shape.dim[0]; c++)
                g->value[v].data[c] += 0.1F * (float)(c % 5);
    graph_touch(g);
    return g;
}

static struct result *new_result(const struct graph *g)
{
    struct result *r = mem_array(1, sizeof *r);

    assert_non_null(r);
    r->dparams = mem_array((size_t)g->n_params, sizeof *r->dparams);
    r->buffers = mem_array((size_t)g->n_buffers, sizeof *r->buffers);
    assert_true(r->dparams && r->buffers);
    return r;
}

static void free_result(struct result *r)
{
    mem_free(r->dparams);
    mem_free(r->buffers);
    mem_free(r);
}

/* Images differ in brightness by where they stand, so that shards have statistics of their own. */
static void images(float *pixels, int64_t n)
{
    fill(pixels, n * PIXELS, 4);
    for (int64_t i = 0; i < n * PIXELS; i++)
        pixels[i] = 0.5F * pixels[i] + 0.5F * (float)(i / PIXELS) / (float)n;
}

/* Forward and back over images [first, first + n), where the gradient of logits is a tenth of them: so a wrong
 * logit shows in everything after it. Gradients are added. */
static void pass(struct exec *e, int64_t first, int64_t n, const float *pixels, struct result *r)
{
    float *z = r->logits + first * CLASSES, dz[MOST * CLASSES];

    assert_int_equal(exec_train_forward(e, pixels + first * PIXELS, n, 0, true, z), 0);
    for (int64_t i = 0; i < n * CLASSES; i++)
        dz[i] = z[i] / 10 - ((first * CLASSES + i) % 7 == 0);
    assert_int_equal(exec_train_backward(e, dz, r->dparams, NULL, r->dpixels + first * PIXELS), 0);
}

/* One pass in shards. The graph's running statistics are put back. */
static struct result *sharded(struct graph *g, enum exec_precision p, int64_t batch, int64_t n,
                              int32_t shards, int threads)
{
    static float pixels[MOST * PIXELS];
    struct result *r = new_result(g);
    struct exec *e;

    images(pixels, n);
    memcpy(r->buffers, g->buffers, (size_t)g->n_buffers * sizeof(float));
    cpu_set_threads(threads);
    assert_int_equal(
        exec_new(g, EXEC_TRAIN, batch, &(struct exec_opts){.precision = p, .shards = shards}, &e),
        0);
    assert_int_equal(exec_precision_of(e), p);
    pass(e, 0, n, pixels, r);
    exec_free(e);
    cpu_set_threads(1);
    for (int64_t i = 0; i < g->n_buffers; i++) {
        const float now = g->buffers[i];

        g->buffers[i] = r->buffers[i];
        r->buffers[i] = now;
    }
    graph_touch(g);
    return r;
}

static void set_momentum(struct graph *g, float momentum)
{
    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op == &op_batchnorm)
            g->node[i].p.batchnorm.momentum = momentum;
}

/* Statistics of a channel over some images of `rows` rows each. */
struct moments {
    double sum, square, rows;
};

/* Adds the statistics that a batch has left in the graph, which remembers nothing else (momentum 0); var
 * is the sample variance. One entry for each buffer of a mean. */
static void add_moments(const struct graph *g, int64_t n, struct moments *all)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *x = &g->node[i];

        if (x->op != &op_batchnorm)
            continue;
        const struct value *in = op_in(g, x, 0), *mean = op_in(g, x, 3), *var = op_in(g, x, 4);
        const double rows = (double)(n * in->shape.dim[2] * in->shape.dim[3]);

        for (int64_t c = 0; c < in->shape.dim[1]; c++) {
            struct moments *m = &all[mean->offset + c];
            const double mu = (double)mean->data[c], v = (double)var->data[c] * (rows - 1) / rows;

            m->sum += rows * mu;
            m->square += rows * (v + mu * mu);
            m->rows += rows;
        }
    }
}

/* running = 0.9 running + 0.1 (mean or sample variance over all images). */
static void pooled(const struct graph *g, const struct moments *all, float *running)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *x = &g->node[i];

        if (x->op != &op_batchnorm)
            continue;
        const struct value *mean = op_in(g, x, 3), *var = op_in(g, x, 4);

        for (int64_t c = 0; c < mean->shape.dim[0]; c++) {
            const struct moments *m = &all[mean->offset + c];
            const double mu = m->sum / m->rows,
                         v = (m->square / m->rows - mu * mu) * m->rows / (m->rows - 1);

            running[mean->offset + c] = (float)(0.9 * (double)running[mean->offset + c] + 0.1 * mu);
            running[var->offset + c] = (float)(0.9 * (double)running[var->offset + c] + 0.1 * v);
        }
    }
}

/* The same, each shard a batch of its own. first: [shards + 1] */
static struct result *apart(struct graph *g, enum exec_precision p, int64_t batch,
                            const int64_t *first, int32_t shards)
{
    static float pixels[MOST * PIXELS];
    struct result *r = new_result(g);
    struct moments *all = mem_array((size_t)g->n_buffers, sizeof *all);
    struct exec *e;

    assert_non_null(all);
    images(pixels, first[shards]);
    memcpy(r->buffers, g->buffers, (size_t)g->n_buffers * sizeof(float));
    set_momentum(g, 0);
    assert_int_equal(exec_new(g, EXEC_TRAIN, batch, &(struct exec_opts){.precision = p}, &e), 0);
    for (int32_t k = 0; k < shards; k++) {
        pass(e, first[k], first[k + 1] - first[k], pixels, r);
        add_moments(g, first[k + 1] - first[k], all);
    }
    exec_free(e);
    set_momentum(g, 0.9F);
    memcpy(g->buffers, r->buffers, (size_t)g->n_buffers * sizeof(float));
    graph_touch(g);
    pooled(g, all, r->buffers);
    mem_free(all);
    return r;
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

    print_message("    %s %g\n", what, d);
    assert_true(d < bound);
}

/* bound: of logits and input gradients, relative; 0: every bit. */
static void check(const char *name, enum exec_precision p, int64_t batch, const int64_t *first,
                  int32_t shards, double bound)
{
    struct graph *g = network(name);
    const int64_t n = first[shards];
    struct result *a = sharded(g, p, batch, n, shards, 2), *b = apart(g, p, batch, first, shards),
                  *whole = sharded(g, p, batch, n, 1, 1);

    print_message("    %s, %d shards of %d images\n", name, (int)shards, (int)n);
    if (bound == 0) {
        assert_memory_equal(a->logits, b->logits, sizeof a->logits);
        assert_memory_equal(a->dpixels, b->dpixels, sizeof a->dpixels);
    } else {
        assert_near("logits", a->logits, b->logits, n * CLASSES, bound);
        assert_near("input gradients", a->dpixels, b->dpixels, n * PIXELS, bound);
    }
    assert_near("gradients", a->dparams, b->dparams, g->n_params, bound > 0 ? bound : 1e-5);
    assert_near("running statistics", a->buffers, b->buffers, g->n_buffers,
                bound > 0 ? bound : 1e-5);
    assert_true(distance(whole->logits, b->logits, n * CLASSES) > 0.01);
    assert_true(distance(whole->dpixels, b->dpixels, n * PIXELS) > 0.01);
    free_result(a);
    free_result(b);
    free_result(whole);
    graph_free(g);
}

static void test_shards_are_batches_of_their_own(void **state)
{
    (void)state;
    check("resnet8", EXEC_FP32, 16, (const int64_t[]){0, 8, 16}, 2, 0);
    check("resnet8", EXEC_FP32, 16, (const int64_t[]){0, 4, 8, 12, 16}, 4, 0);
    check("wrn16_4", EXEC_FP32, 16, (const int64_t[]){0, 4, 8, 12, 16}, 4, 0);
}

static void test_uneven_shards(void **state)
{
    (void)state;
    check("resnet8", EXEC_FP32, 22, (const int64_t[]){0, 5, 11, 16, 22}, 4, 1e-4);
}

static void test_shards_in_bf16(void **state)
{
    (void)state;
    check("resnet8", EXEC_BF16, MOST, (const int64_t[]){0, 32, 64, 96, MOST}, 4, 0);
}

static void assert_same(const struct graph *g, const struct result *a, const struct result *b)
{
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
    assert_memory_equal(a->dpixels, b->dpixels, sizeof a->dpixels);
    assert_memory_equal(a->dparams, b->dparams, (size_t)g->n_params * sizeof(float));
    assert_memory_equal(a->buffers, b->buffers, (size_t)g->n_buffers * sizeof(float));
}

static void test_threads_change_no_bit(void **state)
{
    static const struct {
        enum exec_precision p;
        int64_t n;
        int32_t shards;
    } ways[] = {{EXEC_FP32, 37, 1}, {EXEC_FP32, 37, 4}, {EXEC_FP32, 37, 16}, {EXEC_BF16, 100, 4}};
    struct graph *g = network("resnet8");

    (void)state;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const int64_t n = ways[i].n;
        struct result *one = sharded(g, ways[i].p, n, n, ways[i].shards, 1);

        for (int threads = 2; threads <= 3; threads++) {
            struct result *more = sharded(g, ways[i].p, n, n, ways[i].shards, threads);

            assert_same(g, one, more);
            free_result(more);
        }
        free_result(one);
    }
    graph_free(g);
}

/* A pass too short for its shards is cut into fewer, as if they had been asked for. */
static void test_short_passes(void **state)
{
    static const struct {
        enum exec_precision p;
        int64_t n;
        int32_t wanted, shards;
    } rule[] = {{EXEC_FP32, 8, 4, 4},    {EXEC_FP32, 7, 4, 2},   {EXEC_FP32, 4, 4, 2},
                {EXEC_FP32, 3, 4, 1},    {EXEC_FP32, 1, 16, 1},  {EXEC_FP32, 1, 1, 1},
                {EXEC_FP32, 32, 16, 16}, {EXEC_FP32, 31, 16, 8}, {EXEC_BF16, 128, 4, 4},
                {EXEC_BF16, 98, 4, 4},   {EXEC_BF16, 97, 4, 2},  {EXEC_BF16, 128, 8, 4},
                {EXEC_BF16, 60, 4, 2},   {EXEC_BF16, 33, 2, 1}};
    struct graph *g = network("resnet8");

    (void)state;
    for (size_t i = 0; i < sizeof rule / sizeof *rule; i++)
        assert_int_equal(exec_shards(rule[i].p, rule[i].n, rule[i].wanted), rule[i].shards);
    for (int64_t n = 7; n >= 3; n -= 4) {
        struct result *four = sharded(g, EXEC_FP32, 22, n, 4, 2),
                      *fewer = sharded(g, EXEC_FP32, 22, n, n == 7 ? 2 : 1, 1);

        assert_same(g, four, fewer);
        free_result(four);
        free_result(fewer);
    }
    graph_free(g);
}

/* ---- finite differences -------------------------------------------------------------------- */

/* No ReLU is left, so that the function has no corners. */
static struct graph *smooth_network(void)
{
    struct graph *g = network("resnet8");

    for (int32_t i = 0; i < g->n_node; i++) {
        struct node *x = &g->node[i];

        if (x->op != &op_relu)
            continue;
        const struct shape *in = &op_in(g, x, 0)->shape,
                           chw = shape_make(3, in->dim[1], in->dim[2], in->dim[3]);

        assert_int_equal(graph_add_value(g, "mask", VALUE_MASK, &chw, NULL, &x->in[1]), 0);
        x->op = &op_masked_relu;
        x->n_in = 2;
    }
    graph_touch(g);
    return g;
}

/* sum of w z over a pass in shards, w as in `pass` without its part of z. */
static double loss(struct exec *e, const float *pixels, int64_t n)
{
    float z[MOST * CLASSES];
    double sum = 0;

    assert_int_equal(exec_train_forward(e, pixels, n, 0, false, z), 0);
    for (int64_t i = 0; i < n * CLASSES; i++)
        sum += i % 7 == 0 ? (double)z[i] : 0;
    return sum;
}

/* Of the loss, along direction d of x: central differences against the gradient. */
static void check_direction(struct exec *e, const char *what, const float *pixels, int64_t n,
                            struct graph *g, float *x, const float *gradient, int64_t count)
{
    const float step = 2e-3F;
    float *kept = mem_array((size_t)count, sizeof *kept);
    double by_gradient = 0, at[2];

    assert_non_null(kept);
    memcpy(kept, x, (size_t)count * sizeof *kept);
    for (int64_t i = 0; i < count; i++)
        by_gradient += (double)gradient[i] * ((double)(i % 3) - 0.5);
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < count; i++)
            x[i] = kept[i] + (side ? step : -step) * ((float)(i % 3) - 0.5F);
        graph_touch(g);
        at[side] = loss(e, pixels, n);
    }
    memcpy(x, kept, (size_t)count * sizeof *kept);
    graph_touch(g);
    const double by_steps = (at[1] - at[0]) / (2 * (double)step);

    print_message("    %s: %g by gradients, %g by steps\n", what, by_gradient, by_steps);
    assert_true(fabs(by_gradient - by_steps) < 0.01 * fabs(by_steps));
    mem_free(kept);
}

static void test_gradients_by_differences(void **state)
{
    enum { N = 22 };
    static float pixels[MOST * PIXELS], z[MOST * CLASSES], dz[MOST * CLASSES],
        dpixels[MOST * PIXELS];
    struct graph *g = smooth_network();
    float *dparams = mem_array((size_t)g->n_params, sizeof *dparams);
    struct exec *e;

    (void)state;
    assert_non_null(dparams);
    images(pixels, N);
    for (int64_t i = 0; i < N * CLASSES; i++)
        dz[i] = i % 7 == 0;
    assert_int_equal(exec_new(g, EXEC_TRAIN, N, &(struct exec_opts){.shards = 4}, &e), 0);
    assert_int_equal(exec_train_forward(e, pixels, N, 0, false, z), 0);
    assert_int_equal(exec_train_backward(e, dz, dparams, NULL, dpixels), 0);
    check_direction(e, "pixels", pixels, N, g, pixels, dpixels, (int64_t)N * PIXELS);
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM && g->value[v].shape.rank == 4)
            check_direction(e, g->value[v].name, pixels, N, g, g->value[v].data,
                            dparams + g->value[v].offset, shape_elems(&g->value[v].shape));
    exec_free(e);
    mem_free(dparams);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards_are_batches_of_their_own),
        cmocka_unit_test(test_uneven_shards),
        cmocka_unit_test(test_shards_in_bf16),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_short_passes),
        cmocka_unit_test(test_gradients_by_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
