/*
 * Speed of the Conv operator on one thread: GFLOP/s of forward, input gradient and parameter
 * gradient for the layers of the networks we train, and of OpenBLAS's sgemm beside them. Best of several
 * runs, in processor time of the thread, so that other work on the machine matters little.
 *
 *     bench_conv [images [name]]        LINNET_CPU=generic|avx2|avx512 picks the path; name: of the layers
 *                                  whose name contains it
 *
 * as in an executor of that batch.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/cpu.h"
#include "core/graph/graph.h"
#include "core/op/op.h"

#define RUN_SECONDS 0.02
#define RUNS 12

struct layer {
    const char *name;
    int64_t c, hw, o, k, stride;
};

static const struct layer layers[] = {
    {"stem 3->16 @32", 3, 32, 16, 3, 1},
    {"stem 3->64 @32", 3, 32, 64, 3, 1},
    {"16->16 @32", 16, 32, 16, 3, 1},
    {"16->32 s2 @32", 16, 32, 32, 3, 2},
    {"16->32 1x1 s2", 16, 32, 32, 1, 2},
    {"32->32 @16", 32, 16, 32, 3, 1},
    {"32->64 s2 @16", 32, 16, 64, 3, 2},
    {"64->64 @8", 64, 8, 64, 3, 1},
    {"64->64 @32", 64, 32, 64, 3, 1},
    {"64->128 s2 @32", 64, 32, 128, 3, 2},
    {"64->128 1x1 s2", 64, 32, 128, 1, 2},
    {"128->128 @16", 128, 16, 128, 3, 1},
    {"128->128 1x1", 128, 16, 128, 1, 1},
    {"256->256 @8", 256, 8, 256, 3, 1},
    {"512->512 @4", 512, 4, 512, 3, 1},
    {"64->256 1x1 @56", 64, 56, 256, 1, 1},
    {"stem 3->64 7x7 s2", 3, 224, 64, 7, 2},
    {"128->256 s2 @16", 128, 16, 256, 3, 2},
    {"256->512 s2 @8", 256, 8, 512, 3, 2},
    /* ResNet-50 at 224 */
    {"128->128 s2 @56", 128, 56, 128, 3, 2},
    {"256->256 s2 @28", 256, 28, 256, 3, 2},
    {"512->512 s2 @14", 512, 14, 512, 3, 2},
    {"128->128 @28", 128, 28, 128, 3, 1},
    {"256->256 @14", 256, 14, 256, 3, 1},
    {"512->512 @7", 512, 7, 512, 3, 1},
    {"64->64 1x1 @56", 64, 56, 64, 1, 1},
    {"256->64 1x1 @56", 256, 56, 64, 1, 1},
    {"256->128 1x1 @56", 256, 56, 128, 1, 1},
    {"256->512 1x1 s2 @56", 256, 56, 512, 1, 2},
    {"128->512 1x1 @28", 128, 28, 512, 1, 1},
    {"512->128 1x1 @28", 512, 28, 128, 1, 1},
    {"512->256 1x1 @28", 512, 28, 256, 1, 1},
    {"512->1024 1x1 s2 @28", 512, 28, 1024, 1, 2},
    {"256->1024 1x1 @14", 256, 14, 1024, 1, 1},
    {"1024->256 1x1 @14", 1024, 14, 256, 1, 1},
    {"1024->512 1x1 @14", 1024, 14, 512, 1, 1},
    {"1024->2048 1x1 s2 @14", 1024, 14, 2048, 1, 2},
    {"512->2048 1x1 @7", 512, 7, 2048, 1, 1},
    {"2048->512 1x1 @7", 2048, 7, 512, 1, 1},
};

enum hook { FORWARD, GRAD_INPUT, GRAD_PARAMS, GEMM };

/* What one timed call needs. */
struct work {
    enum hook hook;
    struct op_call call;
    float *a, *b, *c; /* GEMM, m = n = k = gemm_n */
    int64_t gemm_n;
};

static void run_once(const struct work *w)
{
    int64_t n = w->gemm_n;

    if (w->hook == FORWARD)
        op_conv.hooks->forward(&w->call);
    else if (w->hook == GRAD_INPUT)
        op_conv.hooks->grad_input(&w->call);
    else if (w->hook == GRAD_PARAMS)
        op_conv.hooks->grad_params(&w->call);
    else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)n, (int)n, 1, w->a,
                    (int)n, w->b, (int)n, 0, w->c, (int)n);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of one call, the best of RUNS averages over RUN_SECONDS. */
static double best_time(const struct work *w)
{
    double best = 1e9;

    for (int run = 0; run < RUNS; run++) {
        double start = now(), t;
        int64_t calls = 0;

        do {
            run_once(w);
            calls++;
            t = now() - start;
        } while (t < RUN_SECONDS);
        best = t / (double)calls < best ? t / (double)calls : best;
    }
    return best;
}

static float *new_floats(int64_t n)
{
    float *x = mem_aligned((size_t)n, sizeof *x);

    for (int64_t i = 0; x != NULL && i < n; i++)
        x[i] = (float)(i % 251) / 251 - 0.5F;
    return x;
}

static int make_layer(const struct layer *l, struct graph **out)
{
    struct shape in = shape_make(4, (int64_t)SHAPE_BATCH, l->c, l->hw, l->hw);
    struct shape weights = shape_make(4, l->o, l->c, l->k, l->k);
    union op_params p = {0};
    value_id v[2], y;
    struct graph *g = NULL;
    int rc;

    op_defaults(&op_conv, &p);
    for (int i = 0; i < 4; i++) {
        p.conv.pad[i] = l->k / 2;
        p.conv.stride[i % 2] = l->stride;
    }
    if ((rc = graph_new(&g)) < 0 ||
        (rc = graph_add_value(g, "x", VALUE_INPUT, &in, NULL, &v[0])) < 0 ||
        (rc = graph_add_value(g, "w", VALUE_PARAM, &weights, NULL, &v[1])) < 0 ||
        (rc = graph_add_node(g, &op_conv, "conv", v, 2, &p, "y", &y)) < 0) {
        graph_free(g);
        return rc;
    }
    *out = g;
    return 0;
}

static int bench_layer(const struct layer *l, int64_t n)
{
    struct graph *g = NULL;
    float *x = NULL, *y = NULL, *dx = NULL, *dw = NULL, *prepared = NULL, *scratch = NULL;
    struct work w = {0};
    int rc = make_layer(l, &g);

    if (rc < 0)
        return rc;
    const struct node *node = &g->node[0];
    const struct shape *out = &g->value[node->out[0]].shape;
    int64_t nx = l->c * l->hw * l->hw, nw = l->o * l->c * l->k * l->k, ny = shape_elems(out);
    double flops = 2e-9 * (double)(n * ny) * (double)(l->c * l->k * l->k);

    const struct op_use use = {.forward = true, .gradient = true, .batch = n};

    x = new_floats(n * nx);
    y = new_floats(n * ny);
    dx = new_floats(n * nx);
    dw = new_floats(nw);
    prepared = new_floats((int64_t)op_conv.hooks->prepare_size(g, node, &use));
    scratch = new_floats((int64_t)op_conv.hooks->scratch_size(g, node, n));
    if (!x || !y || !dx || !dw || !prepared || !scratch) {
        rc = ERR_NOMEM;
        goto out;
    }
    w.call = (struct op_call){.g = g,
                              .node = node,
                              .n = n,
                              .in = {x, g->value[node->in[1]].data},
                              .out = y,
                              .dout = y,
                              .prepared = prepared,
                              .use = use,
                              .scratch = scratch};
    op_conv.hooks->prepare(g, node, 0, &use, prepared);
    printf("%-22s", l->name);
    for (w.hook = FORWARD; w.hook <= GRAD_PARAMS; w.hook++) {
        w.call.din[0] = w.hook == GRAD_INPUT ? dx : NULL;
        w.call.din[1] = w.hook == GRAD_PARAMS ? dw : NULL;
        printf("%12.1f", flops / best_time(&w));
    }
    printf("\n");
out:
    mem_free(x);
    mem_free(y);
    mem_free(dx);
    mem_free(dw);
    mem_free(prepared);
    mem_free(scratch);
    graph_free(g);
    return rc;
}

static int bench_gemm(void)
{
    struct work w = {.hook = GEMM, .gemm_n = 768};
    int64_t n = w.gemm_n, count = n * n;

    openblas_set_num_threads(1);
    w.a = new_floats(count);
    w.b = new_floats(count);
    w.c = new_floats(count);
    if (w.a && w.b && w.c)
        printf("%-22s%12.1f\n", "sgemm 768^3", 2e-9 * (double)(count * n) / best_time(&w));
    mem_free(w.a);
    mem_free(w.b);
    mem_free(w.c);
    return 0;
}

int main(int argc, char **argv)
{
    int64_t n = argc > 1 ? strtoll(argv[1], NULL, 10) : 8;
    int rc = n < 1 ? fail(ERR_ARG, "images: a number from 1 on") : bench_gemm();

    printf("%lld images, %s, %s\n%-22s%12s%12s%12s   GFLOP/s\n", (long long)n,
           cpu_path_name(cpu_best_path()), openblas_get_config(), "layer", "forward", "grad_input",
           "grad_params");
    for (size_t i = 0; rc >= 0 && i < sizeof layers / sizeof layers[0]; i++)
        if (argc < 3 || strstr(layers[i].name, argv[2]) != NULL)
            rc = bench_layer(&layers[i], n);
    if (rc < 0)
        fprintf(stderr, "bench_conv: %s\n", err_message());
    return rc < 0;
}
