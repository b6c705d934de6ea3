/*
 * Seconds per element of the operators that do little work a byte: a block as the executor makes
 * it (stays in the L2 cache), one thread. One line an operator: nanoseconds an output element.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/op/op.h"

#define CHANNELS 64
#define SIDE 32
#define IMAGES 2
#define ELEMENTS ((int64_t)CHANNELS * SIDE * SIDE * IMAGES)

struct bench {
    struct graph *g;
    value_id x, channel[4], mask;
    struct op_call k;
};

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "bench_ops: %s\n", err_message());
        exit(1);
    }
}

/* Lives as long as the graph. */
static float *floats(struct graph *g, int64_t n)
{
    float *p = arena_array(g->arena, (size_t)n, sizeof *p);

    must(p == NULL ? ERR_NOMEM : 0);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(i * 7919 % 2003) / 1000 - 0.7F;
    return p;
}

static struct bench make_bench(void)
{
    struct shape x =
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)CHANNELS, (int64_t)SIDE, (int64_t)SIDE);
    struct shape c = shape_make(1, (int64_t)CHANNELS);
    struct shape m = shape_make(3, (int64_t)CHANNELS, (int64_t)SIDE, (int64_t)SIDE);
    struct bench b = {0};

    must(graph_new(&b.g));
    must(graph_add_value(b.g, "x", VALUE_INPUT, &x, NULL, &b.x));
    for (int i = 0; i < 4; i++)
        must(
            graph_add_value(b.g, "c", i < 2 ? VALUE_PARAM : VALUE_BUFFER, &c, NULL, &b.channel[i]));
    float *mask = floats(b.g, shape_elems(&m));
    must(graph_add_value(b.g, "m", VALUE_MASK, &m, mask, &b.mask));
    return b;
}

static double seconds(void (*hook)(const struct op_call *), const struct op_call *k)
{
    double best = 1;

    for (int round = 0; round < 20; round++) {
        double start = cpu_seconds();
        for (int i = 0; i < 10; i++)
            hook(k);
        double t = (cpu_seconds() - start) / 10;
        best = t < best ? t : best;
    }
    return best;
}

static void run(struct bench *b, const char *what, const struct op *op, const value_id *in,
                int32_t n_in)
{
    union op_params p = {0};
    struct op_call k = {
        .g = b->g, .n = IMAGES, .out = floats(b->g, ELEMENTS), .dout = floats(b->g, ELEMENTS)};
    float *prepared = floats(b->g, ELEMENTS), *scratch = floats(b->g, 8 * CHANNELS);
    value_id y;

    op_defaults(op, &p);
    must(graph_add_node(b->g, op, "n", in, n_in, &p, "y", &y));
    k.node = &b->g->node[b->g->n_node - 1];
    k.scratch = scratch;
    k.prepared = prepared;
    for (int32_t i = 0; i < n_in; i++)
        k.in[i] = i == 0 || in[i] == in[0] ? floats(b->g, ELEMENTS) : b->g->value[in[i]].data;
    k.din[0] = floats(b->g, ELEMENTS);
    if (op->hooks->prepare != NULL)
        op->hooks->prepare(b->g, k.node, 0, &(struct op_use){.forward = true, .gradient = true},
                           prepared);
    double forward = seconds(op->hooks->forward, &k);
    double grad = seconds(op->hooks->grad_input, &k);
    k.add[0] = true;
    double grad_add = seconds(op->hooks->grad_input, &k);
    printf("%-20s forward %.3f  gradient %.3f  added gradient %.3f ns\n", what,
           forward / ELEMENTS * 1e9, grad / ELEMENTS * 1e9, grad_add / ELEMENTS * 1e9);
}

/* The hooks that only training has. */
static void run_batchnorm_training(struct bench *b)
{
    struct node *node = &b->g->node[b->g->n_node - 1];
    struct op_call k = {.g = b->g, .n = IMAGES, .training = true, .dout = floats(b->g, ELEMENTS)};
    double *partial = arena_array(b->g->arena, 2 * CHANNELS, sizeof *partial), best = 1;
    float *stats = floats(b->g, 2 * CHANNELS + 1);

    must(partial == NULL ? ERR_NOMEM : 0);
    k.node = node;
    k.scratch = floats(b->g, 8 * CHANNELS);
    k.stats = stats;
    for (int i = 0; i < 5; i++)
        k.in[i] = i == 0 ? floats(b->g, ELEMENTS) : b->g->value[node->in[i]].data;
    for (int i = 0; i < 3; i++)
        k.din[i] = floats(b->g, i == 0 ? ELEMENTS : CHANNELS);
    for (int round = 0; round < 100; round++) {
        double start = cpu_seconds();
        op_batchnorm.hooks->stats(&k, partial);
        best = cpu_seconds() - start < best ? cpu_seconds() - start : best;
    }
    op_batchnorm.hooks->stats_done(b->g, node, IMAGES, partial, 1, stats);
    printf("%-20s statistics %.3f  gradient %.3f  parameters %.3f ns\n", "  in training",
           best / ELEMENTS * 1e9, seconds(op_batchnorm.hooks->grad_input, &k) / ELEMENTS * 1e9,
           seconds(op_batchnorm.hooks->grad_params, &k) / ELEMENTS * 1e9);
}

int main(void)
{
    struct bench b = make_bench();
    const value_id batchnorm[5] = {b.x, b.channel[0], b.channel[1], b.channel[2], b.channel[3]};
    const value_id masked[2] = {b.x, b.mask}, sum[2] = {b.x, b.x};

    run(&b, "Relu", &op_relu, &b.x, 1);
    run(&b, "MaskedRelu, hard", &op_masked_relu, masked, 2);
    run(&b, "BatchNormalization", &op_batchnorm, batchnorm, 5);
    run_batchnorm_training(&b);
    run(&b, "Add", &op_add, sum, 2);
    graph_free(b.g);
    return 0;
}
