/*
 * Speed of the executor on whole networks, as JSON lines: images per second, median of runs.
 *
 *     bench_model [--model resnet20,resnet18] [--work infer,input_grad,train] [--batch 128]
 *                 [--threads 2] [--profile]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/arch.h"
#include "core/cpu.h"
#include "core/exec.h"
#include "core/op.h"

#define RUNS 5

struct bench {
    struct graph *g;
    struct exec *e;
    float *pixels, *logits, *dlogits, *dparams, *dpixels;
    int64_t n;
    const char *work;
};

static void loss(void *ctx, int64_t first, int64_t count, const float *logits, float *dlogits)
{
    (void)first;
    for (int64_t i = 0; i < count * *(int64_t *)ctx; i++)
        dlogits[i] = logits[i];
}

static int step(struct bench *b)
{
    int64_t k = shape_elems(&b->g->value[b->g->output].shape);

    if (strcmp(b->work, "infer") == 0)
        return exec_infer(b->e, b->pixels, b->n, 0, b->logits);
    if (strcmp(b->work, "input_grad") == 0)
        return exec_input_grad(b->e, b->pixels, b->n, 0, loss, &k, b->dpixels, NULL);
    TRY(exec_train_forward(b->e, b->pixels, b->n, 0, true, b->logits));
    return exec_train_backward(b->e, b->logits, b->dparams, NULL, NULL);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int setup(struct bench *b, const char *model, const char *work, int64_t batch)
{
    const enum exec_mode mode = strcmp(work, "infer") == 0        ? EXEC_INFER
                                : strcmp(work, "input_grad") == 0 ? EXEC_INPUT_GRAD
                                                                  : EXEC_TRAIN;

    TRY(arch_build(model, 10, 32, 32, 1, &b->g));
    TRY(exec_new(b->g, mode, batch, NULL, 0, &b->e));
    b->n = batch;
    b->work = work;
    const size_t pixels = (size_t)(batch * shape_elems(&b->g->value[b->g->input].shape));
    b->pixels = mem_aligned(pixels, sizeof(float));
    b->dpixels = mem_aligned(pixels, sizeof(float));
    b->logits = mem_aligned((size_t)batch * 10, sizeof(float));
    b->dparams = mem_aligned((size_t)b->g->n_params, sizeof(float));
    if (!b->pixels || !b->dpixels || !b->logits || !b->dparams)
        return ERR_NOMEM;
    for (size_t i = 0; i < pixels; i++)
        b->pixels[i] = 0.5f + 0.5f * sinf((float)i);
    return 0;
}

static void release(struct bench *b)
{
    exec_free(b->e);
    graph_free(b->g);
    mem_free(b->pixels);
    mem_free(b->dpixels);
    mem_free(b->logits);
    mem_free(b->dparams);
}

static void print_profile(const struct bench *b)
{
    const struct exec_profile *p = exec_profile(b->e);

    for (int32_t n = 0; n < b->g->n_node; n++) {
        const struct node *x = &b->g->node[n];
        char shape[SHAPE_TEXT];

        fprintf(stderr, "%-28s %-20s %-18s fwd %7.2f ms  dx %7.2f  dw %7.2f\n", x->name,
                x->op->type, shape_text(&b->g->value[x->out[0]].shape, shape),
                1e3 * p[n].forward_s / (RUNS + 1), 1e3 * p[n].grad_input_s / (RUNS + 1),
                1e3 * p[n].grad_params_s / (RUNS + 1));
    }
}

static int run(const char *model, const char *work, int64_t batch, bool profile)
{
    struct bench b = {0};
    double seconds[RUNS];
    struct rusage use;
    int rc = setup(&b, model, work, batch);

    if (rc == 0)
        rc = step(&b);
    for (int i = 0; i < RUNS && rc == 0; i++) {
        const double start = cpu_seconds();

        rc = step(&b);
        seconds[i] = cpu_seconds() - start;
    }
    if (rc == 0) {
        qsort(seconds, RUNS, sizeof *seconds, by_value);
        getrusage(RUSAGE_SELF, &use);
        printf("{\"engine\":\"linnet\",\"version\":\"%s\",\"layout\":\"nhwc\",\"model\":\"%s\","
               "\"work\":\"%s\","
               "\"batch\":%lld,\"threads\":%d,\"images_per_s\":%.1f,\"peak_rss_mb\":%.0f}\n",
               cpu_path_name(cpu_best_path()), model, work, (long long)batch, cpu_threads(),
               (double)batch / seconds[RUNS / 2], (double)use.ru_maxrss / 1024);
        fflush(stdout);
        if (profile)
            print_profile(&b);
    }
    release(&b);
    return rc;
}

static bool next_word(char **list, char **word)
{
    *word = *list;
    if (*list == NULL)
        return false;
    *list = strchr(*list, ',');
    if (*list)
        *(*list)++ = '\0';
    return true;
}

int main(int argc, char **argv)
{
    char models[256] = "resnet20,resnet18", works[256] = "infer,input_grad,train";
    int64_t batch = 128;
    bool profile = false;

    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--profile") == 0)
            profile = true;
        else if (strcmp(argv[i], "--model") == 0)
            snprintf(models, sizeof models, "%s", v), i++;
        else if (strcmp(argv[i], "--work") == 0)
            snprintf(works, sizeof works, "%s", v), i++;
        else if (strcmp(argv[i], "--batch") == 0)
            batch = strtoll(v, NULL, 10), i++;
        else if (strcmp(argv[i], "--threads") == 0)
            cpu_set_threads((int)strtol(v, NULL, 10)), i++;
        else
            return fprintf(stderr, "bench_model: unknown option %s\n", argv[i]), 2;
    }
    char *m, *rest = models;
    while (next_word(&rest, &m)) {
        char copy[256], *w, *list = copy;

        memcpy(copy, works, sizeof copy);
        while (next_word(&list, &w))
            if (run(m, w, batch, profile) < 0)
                return fprintf(stderr, "bench_model: %s\n", err_message()), 1;
    }
    return 0;
}
