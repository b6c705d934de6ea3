/*
 * Executor against reference (ref_check.h).
 */
#include "tests/ref_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "tests/ref_double.h"

#include <cmocka.h> /* last: it defines fail() */

#define DIRECTIONS 20
#define STEP 1e-6 /* of the central difference, in double */

struct check {
    struct graph *g;
    int64_t n, n_pixels, n_logits; /* of the batch */
    int branch;
    uint64_t seed;
    float *pixels, *r;                                  /* r: d loss / d logits */
    float *logits, *dparams, *dmasks, *dpixels, *moved; /* what the executor gives */
    struct ref *ref;
    double *wide_r, worst;
};

void ref_random(float *to, int64_t n, double lo, double hi, uint64_t seed)
{
    struct rng g = rng_at(seed, RNG_TEST, 0, 0);

    for (int64_t i = 0; i < n; i++)
        to[i] = (float)(lo + (hi - lo) * rng_uniform_double(&g));
}

double ref_formula(const char *name, int64_t i)
{
    double phase = 0;

    for (size_t k = 0; name[k] != '\0'; k++)
        phase += (double)(k + 1) * (double)name[k];
    double s = sin((double)i * 12.9898 + phase * 0.78233) * 43758.5453;
    return 2 * (s - floor(s)) - 1;
}

static float *floats(int64_t n)
{
    float *p = calloc((size_t)n + 1, sizeof *p);

    assert_non_null(p);
    return p;
}

/* ---- comparing ----------------------------------------------------------------------------- */

static void near(struct check *c, const char *what, const char *name, const float *a,
                 const double *b, int64_t n)
{
    double diff = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        diff += pow((double)a[i] - b[i], 2);
        size += b[i] * b[i];
    }
    double error = sqrt(diff) / fmax(sqrt(size), 1e-9);
    if (!(error <= REF_TOLERANCE))
        fail_msg("%s of '%s', branch %d: relative error %.3g (norm %.3g)", what, name, c->branch,
                 error, sqrt(size));
    c->worst = fmax(c->worst, error);
}

/* Every value of a kind against its slice of a block. */
static void near_values(struct check *c, enum value_kind kind, const char *what, const float *a,
                        const double *b)
{
    for (value_id v = 0; v < c->g->n_value; v++) {
        const struct value *x = &c->g->value[v];
        if (x->kind == kind)
            near(c, what, x->name, a + x->offset, b + x->offset, shape_elems(&x->shape));
    }
}

static bool has_soft_masks(const struct graph *g)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        if (g->node[i].op == &op_masked_relu && g->node[i].p.masked_relu.soft)
            return true;
    }
    return false;
}

/* memcpy that takes the NULL of an empty block. */
static void copy(float *to, const float *from, int64_t n)
{
    if (n > 0)
        memcpy(to, from, (size_t)n * sizeof *to);
}

/* ---- running the executor ------------------------------------------------------------------ */

static void constant_loss(void *ctx, int64_t first, int64_t count, const float *logits,
                          float *dlogits)
{
    const struct check *c = ctx;
    int64_t k = c->n_logits / c->n;

    (void)logits;
    memcpy(dlogits, c->r + first * k, (size_t)(count * k) * sizeof *dlogits);
}

/* Everything in training mode; the graph's running statistics are put back. */
static void run_training(struct check *c)
{
    struct graph *g = c->g;
    float *before = floats(g->n_buffers);
    struct exec *e;

    copy(before, g->buffers, g->n_buffers);
    memset(c->dparams, 0, (size_t)g->n_params * sizeof *c->dparams);
    memset(c->dmasks, 0, (size_t)g->n_masks * sizeof *c->dmasks);
    assert_int_equal(exec_new(g, EXEC_TRAIN, c->n, NULL, &e), 0);
    assert_int_equal(exec_train_forward(e, c->pixels, c->n, c->branch, true, c->logits), 0);
    assert_int_equal(exec_train_backward(e, c->r, c->dparams, c->dmasks, c->dpixels), 0);
    exec_free(e);
    copy(c->moved, g->buffers, g->n_buffers);
    copy(g->buffers, before, g->n_buffers);
    graph_touch(g);
    free(before);
}

static void run_input_grad(struct check *c)
{
    struct exec *e;

    assert_int_equal(exec_new(c->g, EXEC_INPUT_GRAD, c->n, NULL, &e), 0);
    assert_int_equal(
        exec_input_grad(e, c->pixels, c->n, c->branch, constant_loss, c, c->dpixels, c->logits), 0);
    exec_free(e);
}

/* A second run with another number of threads must give the same bytes. */
static void same_bytes(struct check *c, void (*run)(struct check *))
{
    struct check d = *c;
    size_t params = (size_t)c->g->n_params * sizeof(float);

    d.logits = floats(c->n_logits);
    d.dparams = floats(c->g->n_params);
    d.dmasks = floats(c->g->n_masks);
    d.dpixels = floats(c->n_pixels);
    d.moved = floats(c->g->n_buffers);
    cpu_set_threads(2);
    run(&d);
    cpu_set_threads(1); /* and so it stays: idle threads would only spin */
    run(c);
    assert_memory_equal(c->logits, d.logits, (size_t)c->n_logits * sizeof(float));
    assert_memory_equal(c->dpixels, d.dpixels, (size_t)c->n_pixels * sizeof(float));
    if (run == run_training && params > 0)
        assert_memory_equal(c->dparams, d.dparams, params);
    free(d.logits);
    free(d.dparams);
    free(d.dmasks);
    free(d.dpixels);
    free(d.moved);
}

/* ---- the checks ---------------------------------------------------------------------------- */

/* The loss of the reference with everything moved by t along a random direction. */
static double loss_along(struct check *c, bool training, const float *direction, double t)
{
    struct graph *g = c->g;
    double *block[3] = {c->ref->params, c->ref->masks, c->ref->pixels}, loss = 0;
    int64_t size[3] = {g->n_params, g->n_masks, c->n_pixels};

    for (int pass = 0; pass < 2; pass++) { /* there, and back */
        const float *d = direction;
        for (int b = 0; b < 3; b++) {
            for (int64_t i = 0; i < size[b]; i++)
                block[b][i] += (pass == 0 ? t : -t) * (double)*d++;
        }
        if (pass == 0)
            ref_forward(c->ref, c->branch, training);
    }
    const double *logits = c->ref->value[g->output];
    for (int64_t i = 0; i < c->n_logits; i++)
        loss += (double)c->r[i] * logits[i];
    return loss;
}

/* Masks move only where they are soft; parameters only in training mode. */
static void random_direction(struct check *c, bool training, float *d, uint64_t seed)
{
    struct graph *g = c->g;
    int64_t masks = training && has_soft_masks(g) ? g->n_masks : 0;

    ref_random(d, g->n_params + g->n_masks + c->n_pixels, -1, 1, seed);
    if (!training)
        memset(d, 0, (size_t)g->n_params * sizeof *d);
    if (masks == 0)
        memset(d + g->n_params, 0, (size_t)g->n_masks * sizeof *d);
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static void check_directions(struct check *c, bool training)
{
    struct graph *g = c->g;
    float *d = floats(g->n_params + g->n_masks + c->n_pixels);

    for (uint64_t k = 0; k < DIRECTIONS; k++) {
        random_direction(c, training, d, c->seed * 1000 + k);
        double up = loss_along(c, training, d, STEP), down = loss_along(c, training, d, -STEP);
        double want = (up - down) / (2 * STEP);
        const float *dm = d + g->n_params, *dx = dm + g->n_masks;
        double have = dot(c->dpixels, dx, c->n_pixels);
        double size = sqrt(dot(c->dpixels, c->dpixels, c->n_pixels));
        if (size == 0)
            fail_msg("the gradient of the pixels is 0: this graph checks no gradient");
        if (training) {
            have += dot(c->dparams, d, g->n_params) + dot(c->dmasks, dm, g->n_masks);
            size = sqrt(size * size + dot(c->dparams, c->dparams, g->n_params) +
                        dot(c->dmasks, c->dmasks, g->n_masks));
        }
        if (!(fabs(have - want) <= 1e-4 * fmax(size, 1e-9)))
            fail_msg("directional derivative %d, %s: %.9g, reference %.9g (gradient norm %.3g)",
                     (int)k, training ? "training" : "evaluation", have, want, size);
    }
    free(d);
}

static void check_training(struct check *c)
{
    same_bytes(c, run_training);
    ref_forward(c->ref, c->branch, true);
    near(c, "training logits", "output", c->logits, c->ref->value[c->g->output], c->n_logits);
    near_values(c, VALUE_BUFFER, "running statistics", c->moved, c->ref->moved);
    ref_backward(c->ref, c->wide_r);
    near_values(c, VALUE_PARAM, "gradient", c->dparams, c->ref->dparams);
    if (has_soft_masks(c->g))
        near_values(c, VALUE_MASK, "gradient", c->dmasks, c->ref->dmasks);
    near(c, "training gradient", "pixels", c->dpixels, c->ref->dpixels, c->n_pixels);
    check_directions(c, true);
}

static void check_evaluation(struct check *c)
{
    same_bytes(c, run_input_grad);
    ref_forward(c->ref, c->branch, false);
    near(c, "logits", "output", c->logits, c->ref->value[c->g->output], c->n_logits);
    ref_backward(c->ref, c->wide_r);
    near(c, "gradient", "pixels", c->dpixels, c->ref->dpixels, c->n_pixels);
    check_directions(c, false);
}

/* A batch equals its images one by one, in INFER mode. */
static void check_singles(struct check *c)
{
    int64_t per = c->n_pixels / c->n, k = c->n_logits / c->n;
    struct exec *e;

    ref_forward(c->ref, c->branch, false);
    assert_int_equal(exec_new(c->g, EXEC_INFER, c->n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, c->pixels, c->n, c->branch, c->logits), 0);
    near(c, "logits", "output", c->logits, c->ref->value[c->g->output], c->n_logits);
    for (int64_t i = 0; i < c->n; i++) {
        float *one = floats(k);
        assert_int_equal(exec_infer(e, c->pixels + i * per, 1, c->branch, one), 0);
        near(c, "logits of one image", "output", one, c->ref->value[c->g->output] + i * k, k);
        free(one);
    }
    exec_free(e);
}

double ref_check(struct graph *g, int64_t n, int branch, uint64_t seed)
{
    struct check c = {.g = g, .n = n, .branch = branch, .seed = seed};

    assert_int_equal(graph_verify(g), 0);
    c.n_pixels = n * shape_elems(&g->value[g->input].shape);
    c.n_logits = n * shape_elems(&g->value[g->output].shape);
    c.pixels = floats(c.n_pixels);
    c.r = floats(c.n_logits);
    c.logits = floats(c.n_logits);
    c.dparams = floats(g->n_params);
    c.dmasks = floats(g->n_masks);
    c.dpixels = floats(c.n_pixels);
    c.moved = floats(g->n_buffers);
    ref_random(c.pixels, c.n_pixels, 0, 1, seed);
    ref_random(c.r, c.n_logits, -1, 1, seed + 1);
    c.ref = ref_new(g, c.pixels, n);
    c.wide_r = calloc((size_t)c.n_logits, sizeof *c.wide_r);
    assert_non_null(c.wide_r);
    for (int64_t i = 0; i < c.n_logits; i++)
        c.wide_r[i] = (double)c.r[i];
    check_training(&c);
    check_evaluation(&c);
    check_singles(&c);
    cpu_set_threads(0);
    ref_free(c.ref);
    free(c.wide_r);
    free(c.pixels);
    free(c.r);
    free(c.logits);
    free(c.dparams);
    free(c.dmasks);
    free(c.dpixels);
    free(c.moved);
    return c.worst;
}
