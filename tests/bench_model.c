/*
 * Speed of the executor on whole networks.
 *
 *     bench_model [--model resnet20,resnet18] [--work infer,input_grad,train,rlnet_step]
 *                 [--precision fp32|bf16] [--batch 128] [--size 32] [--threads 2] [--runs 5]
 *                 [--profile] [--serve]
 *
 * Prints a JSON line for each, images per second from the median of the runs. --size: pixels of a side
 * (224 gives networks their stem of ImageNet). --serve: one model,
 * one work; prints "ready VERSION", then does one step for every line on standard input and prints
 * its seconds, at the end of input the peak memory in MiB (tests/bench.py). --profile: thread
 * milliseconds and GFLOP/s of every layer on standard error. bf16 with neither AMX nor a
 * fast AVX512-BF16 is emulation: its version ends in "emulated".
 *
 * rlnet_step is one iteration of robust training on a batch: the teacher sees all images, half of
 * them go through a training step, the other half through PGD (input gradients, evaluation mode)
 * and then a training step.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "core/graph/arch.h"
#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/exec/profile.h"
#include "core/base/version.h"

#define MAX_RUNS 99
#define PGD_STEPS 7

struct bench {
    struct graph *g;
    struct exec *infer, *input_grad, *train;
    float *pixels, *adv, *logits, *dparams, *dpixels;
    int64_t n, image, classes;
    const char *work;
    int64_t steps; /* done */
    enum exec_precision precision;
};

static void loss(void *ctx, int64_t first, int64_t count, const float *logits, float *dlogits)
{
    const struct bench *b = ctx;

    (void)first;
    for (int64_t i = 0; i < count * b->classes; i++)
        dlogits[i] = logits[i];
}

static int train_step(struct bench *b, const float *pixels, int64_t n)
{
    TRY(exec_train_forward(b->train, pixels, n, 0, true, b->logits));
    return exec_train_backward(b->train, b->logits, b->dparams, NULL, NULL);
}

/* Moves `adv` along the sign of the gradient, within [0,1]. */
static void ascend(float *adv, const float *gradient, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = adv[i] + (gradient[i] > 0 ? 2.0F / 255 : -2.0F / 255);

        adv[i] = v < 0 ? 0 : v > 1 ? 1 : v;
    }
}

static int rlnet_step(struct bench *b)
{
    const int64_t half = b->n / 2, rest = b->n - half;

    TRY(exec_infer(b->infer, b->pixels, b->n, 0, b->logits));
    TRY(train_step(b, b->pixels, half));
    memcpy(b->adv, b->pixels + half * b->image, (size_t)(rest * b->image) * sizeof *b->adv);
    for (int i = 0; i < PGD_STEPS; i++) {
        TRY(exec_input_grad(b->input_grad, b->adv, rest, 0, loss, b, b->dpixels, NULL));
        ascend(b->adv, b->dpixels, rest * b->image);
    }
    TRY(train_step(b, b->adv, rest));
    graph_touch(b->g); /* as the optimizer does: weights are packed again */
    return 0;
}

static int step(struct bench *b)
{
    b->steps++;
    if (strcmp(b->work, "infer") == 0)
        return exec_infer(b->infer, b->pixels, b->n, 0, b->logits);
    if (strcmp(b->work, "input_grad") == 0)
        return exec_input_grad(b->input_grad, b->pixels, b->n, 0, loss, b, b->dpixels, NULL);
    if (strcmp(b->work, "rlnet_step") == 0)
        return rlnet_step(b);
    graph_touch(b->g);
    return train_step(b, b->pixels, b->n);
}

static int setup(struct bench *b, const char *model, const char *work, int64_t batch, int64_t size)
{
    const bool all = strcmp(work, "rlnet_step") == 0;
    const int64_t half = all ? batch - batch / 2 : batch;

    TRY(arch_build(model, 10, size, size, 1, &b->g));
    if (all || strcmp(work, "infer") == 0)
        TRY(exec_new(b->g, EXEC_INFER, batch, &(struct exec_opts){.precision = b->precision},
                     &b->infer));
    if (all || strcmp(work, "input_grad") == 0)
        TRY(exec_new(b->g, EXEC_INPUT_GRAD, half, &(struct exec_opts){.precision = b->precision},
                     &b->input_grad));
    if (all || strcmp(work, "train") == 0)
        TRY(exec_new(b->g, EXEC_TRAIN, half, &(struct exec_opts){.precision = b->precision},
                     &b->train));
    if (!b->infer && !b->input_grad && !b->train)
        return fail(ERR_ARG, "work '%s': one of train, input_grad, infer, rlnet_step", work);
    b->n = batch;
    b->work = work;
    b->image = shape_elems(&b->g->value[b->g->input].shape);
    b->classes = shape_elems(&b->g->value[b->g->output].shape);
    const size_t pixels = (size_t)(batch * b->image);
    b->pixels = mem_aligned(pixels, sizeof(float));
    b->adv = mem_aligned(pixels, sizeof(float));
    b->dpixels = mem_aligned(pixels, sizeof(float));
    b->logits = mem_aligned((size_t)(batch * b->classes), sizeof(float));
    b->dparams = mem_aligned((size_t)b->g->n_params, sizeof(float));
    if (!b->pixels || !b->adv || !b->dpixels || !b->logits || !b->dparams)
        return ERR_NOMEM;
    for (size_t i = 0; i < pixels; i++)
        b->pixels[i] = 0.5f + 0.5f * sinf((float)i);
    return 0;
}

static void release(struct bench *b)
{
    exec_free(b->infer);
    exec_free(b->input_grad);
    exec_free(b->train);
    graph_free(b->g);
    mem_free(b->pixels);
    mem_free(b->adv);
    mem_free(b->dpixels);
    mem_free(b->logits);
    mem_free(b->dparams);
}

static int64_t peak_mb(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return use.ru_maxrss / 1024;
}

/* ---- profile */

static void print_profile(const struct bench *b, const struct exec *e, const char *mode)
{
    struct profile p;

    if (profile_begin(&p, b->g) < 0)
        return;
    profile_add(&p, e, b->n * b->steps);
    fprintf(stderr, "%s, thread time a step; GFLOP/s of one thread, counted as direct\n", mode);
    profile_print(stderr, &p, b->n);
    profile_end(&p);
}

static void print_profiles(const struct bench *b)
{
    if (b->infer)
        print_profile(b, b->infer, "infer");
    if (b->input_grad)
        print_profile(b, b->input_grad, "input_grad");
    if (b->train)
        print_profile(b, b->train, "train");
}

/* ---- runs */

struct options {
    char models[256], works[256];
    int64_t batch, size;
    int runs;
    enum exec_precision precision;
    bool profile, serve;
};

/* The code path that computes. */
static const char *path_name(enum exec_precision p)
{
    if (p == EXEC_FP32)
        return cpu_path_name(cpu_best_path());
    if (cpu_level() == CPU_AMX || (cpu_level() == CPU_AVX512BF16 && cpu_has_fast_bf16()))
        return cpu_path_name(cpu_level());
    return "emulated";
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int timed_step(struct bench *b, double *seconds)
{
    const double start = cpu_seconds();
    const int rc = step(b);

    *seconds = cpu_seconds() - start;
    return rc;
}

static int serve(struct bench *b)
{
    char line[64];
    double seconds;

    printf("ready %s %s\n", LINNET_VERSION, path_name(b->precision));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        TRY(timed_step(b, &seconds));
        printf("%.9f\n", seconds);
        fflush(stdout);
    }
    printf("%lld\n", (long long)peak_mb());
    return 0;
}

static int measure(struct bench *b, const char *model, const struct options *o)
{
    double seconds[MAX_RUNS];

    TRY(timed_step(b, seconds)); /* warms up */
    for (int i = 0; i < o->runs; i++)
        TRY(timed_step(b, &seconds[i]));
    qsort(seconds, (size_t)o->runs, sizeof *seconds, by_value);
    printf(
        "{\"engine\":\"linnet\",\"version\":\"%s %s\",\"layout\":\"nhwc\",\"model\":\"%s\",\"work\":\"%s\",\"precision\":\"%s\",\"batch\":%lld,\"size\":%lld,\"threads\":%d,\"images_per_s\":%.1f,\"peak_rss_mb\":%lld}\n",
        LINNET_VERSION, path_name(b->precision), model, b->work, exec_precision_name(b->precision),
        (long long)b->n, (long long)o->size, cpu_threads(), (double)b->n / seconds[o->runs / 2],
        (long long)peak_mb());
    fflush(stdout);
    return 0;
}

static int run(const char *model, const char *work, const struct options *o)
{
    struct bench b = {.precision = o->precision};
    int rc = setup(&b, model, work, o->batch, o->size);

    if (rc == 0)
        rc = o->serve ? serve(&b) : measure(&b, model, o);
    if (rc == 0 && o->profile)
        print_profiles(&b);
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

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--profile") == 0)
            o->profile = true;
        else if (strcmp(argv[i], "--serve") == 0)
            o->serve = true;
        else if (strcmp(argv[i], "--model") == 0)
            snprintf(o->models, sizeof o->models, "%s", v), i++;
        else if (strcmp(argv[i], "--work") == 0)
            snprintf(o->works, sizeof o->works, "%s", v), i++;
        else if (strcmp(argv[i], "--precision") == 0)
            o->precision = strcmp(v, "bf16") == 0 ? EXEC_BF16 : EXEC_FP32, i++;
        else if (strcmp(argv[i], "--batch") == 0)
            o->batch = strtoll(v, NULL, 10), i++;
        else if (strcmp(argv[i], "--size") == 0)
            o->size = strtoll(v, NULL, 10), i++;
        else if (strcmp(argv[i], "--threads") == 0)
            cpu_set_threads((int)strtol(v, NULL, 10)), i++;
        else if (strcmp(argv[i], "--runs") == 0)
            o->runs = (int)strtol(v, NULL, 10), i++;
        else
            return fprintf(stderr, "bench_model: unknown option %s\n", argv[i]), false;
    }
    if (o->batch >= 1 && o->runs >= 1 && o->runs <= MAX_RUNS)
        return true;
    fprintf(stderr, "bench_model: --batch from 1 on, --runs 1 to %d\n", MAX_RUNS);
    return false;
}

int main(int argc, char **argv)
{
    struct options o = {.models = "resnet20,resnet18",
                        .works = "infer,input_grad,train",
                        .batch = 128,
                        .size = 32,
                        .runs = 5};
    char *m, *rest = o.models;

    if (!parse(argc, argv, &o))
        return 2;
    while (next_word(&rest, &m)) {
        char copy[256], *w, *list = copy;

        memcpy(copy, o.works, sizeof copy);
        while (next_word(&list, &w))
            if (run(m, w, &o) < 0)
                return fprintf(stderr, "bench_model: %s\n", err_message()), 1;
    }
    return 0;
}
