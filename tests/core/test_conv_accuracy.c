/*
 * Accuracy of the convolution kernels where it counts: every Conv of a trained network, on the
 * activations and gradients that real images make, and sums as long as those of VGG-16, against a direct convolution in double
 * precision. Relative error in the Euclidean norm: 1e-5 forward, 1e-4 of both gradients, on every
 * code path of this CPU.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/graph/rng.h"
#include "core/base/file.h"
#include "core/op/op.h"
#include "importer/importer.h"
#include "tests/scratch.h"

#include <cmocka.h> /* last: its macro fail() would hide ours */

enum { IMAGES = 2, PIXELS = 3072, RECORD = 3073, MAX_TAPS = 128 };
#define FORWARD_BOUND 1e-5
#define GRADIENT_BOUND 1e-4

/* A network, and what enters and leaves its convolutions. */
struct net {
    struct graph *g;
    struct exec *e;
    value_id tap[MAX_TAPS];
    int32_t n_tap;
    float *pixels, *logits, *dparams;
    double worst[3];
};

static void *room(int64_t n, size_t size)
{
    void *p = mem_array((size_t)n, size);

    assert_non_null(p);
    return p;
}

static void add_tap(struct net *t, value_id v)
{
    for (int32_t i = 0; i < t->n_tap; i++)
        if (t->tap[i] == v)
            return;
    assert_true(t->n_tap < MAX_TAPS);
    t->tap[t->n_tap++] = v;
}

/* Convolutions of activations; the first one reads pixels and has no tap. */
static bool is_checked(const struct graph *g, int32_t n)
{
    return g->node[n].op == &op_conv && g->node[n].in[0] != g->input;
}

/* Class 0 against the others: a gradient that is neither tiny nor the same everywhere. */
static void run_network(struct net *t)
{
    const int64_t k = shape_elems(&t->g->value[t->g->output].shape);
    float *dlogits = room(IMAGES * k, sizeof *dlogits);

    for (int32_t n = 0; n < t->g->n_node; n++)
        if (is_checked(t->g, n)) {
            add_tap(t, t->g->node[n].in[0]);
            add_tap(t, t->g->node[n].out[0]);
        }
    assert_int_equal(exec_new(t->g, EXEC_TRAIN, IMAGES,
                              &(struct exec_opts){.taps = t->tap, .n_taps = t->n_tap}, &t->e),
                     0);
    assert_int_equal(exec_train_forward(t->e, t->pixels, IMAGES, 0, false, t->logits), 0);
    for (int64_t i = 0; i < IMAGES * k; i++)
        dlogits[i] = i % k == 0 ? 1 : -0.1F * (float)(i % k);
    assert_int_equal(exec_train_backward(t->e, dlogits, t->dparams, NULL, NULL), 0);
    mem_free(dlogits);
}

struct geometry {
    int64_t c, h, w, o, oh, ow, kh, kw;
    const struct conv_params *p;
};

static struct geometry geometry_of(const struct graph *g, const struct node *x)
{
    const int64_t *in = op_in(g, x, 0)->shape.dim, *w = op_in(g, x, 1)->shape.dim;
    const int64_t *out = g->value[x->out[0]].shape.dim;

    return (struct geometry){in[1], in[2], in[3], w[0], out[2], out[3], w[2], w[3], &x->p.conv};
}

struct reference {
    double *y, *dx, *dw;
};

/* One output pixel and tap: all channels. */
static void add_tap_products(const struct geometry *m, const float *x, const float *dy,
                             const float *w, int64_t at_x, int64_t at_y, int64_t tap,
                             struct reference *r)
{
    const int64_t taps = m->kh * m->kw;

    for (int64_t o = 0; o < m->o; o++)
        for (int64_t c = 0; c < m->c; c++) {
            const int64_t at_w = (o * m->c + c) * taps + tap;

            r->y[at_y + o] += (double)x[at_x + c] * (double)w[at_w];
            r->dx[at_x + c] += (double)dy[at_y + o] * (double)w[at_w];
            r->dw[at_w] += (double)dy[at_y + o] * (double)x[at_x + c];
        }
}

static void convolve(const struct geometry *m, const float *x, const float *dy, const float *w,
                     struct reference *r)
{
    for (int64_t at = 0; at < IMAGES * m->oh * m->ow; at++)
        for (int64_t tap = 0; tap < m->kh * m->kw; tap++) {
            const int64_t image = at / (m->oh * m->ow), i = at / m->ow % m->oh, j = at % m->ow;
            const int64_t h = i * m->p->stride[0] - m->p->pad[0] + tap / m->kw;
            const int64_t v = j * m->p->stride[1] - m->p->pad[1] + tap % m->kw;

            if (h >= 0 && h < m->h && v >= 0 && v < m->w)
                add_tap_products(m, x, dy, w, ((image * m->h + h) * m->w + v) * m->c, at * m->o,
                                 tap, r);
        }
}

static double relative_error(const float *got, const double *want, int64_t n)
{
    double error = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    return size > 0 ? sqrt(error / size) : 0;
}

static void note(struct net *t, const struct node *x, int what, double error)
{
    static const char *const names[] = {"forward", "input gradient", "weight gradient"};
    const double bound = what == 0 ? FORWARD_BOUND : GRADIENT_BOUND;

    if (!(error <= bound))
        fail_msg("%s, %s, %s: relative error %g", x->name, names[what],
                 cpu_path_name(cpu_best_path()), error);
    t->worst[what] = error > t->worst[what] ? error : t->worst[what];
}

/* The hooks of one node on the path that LINNET_CPU names. */
static void check_node(struct net *t, const struct node *x, const float *in, const float *dy,
                       const struct reference *r)
{
    const struct geometry m = geometry_of(t->g, x);
    const int64_t nx = IMAGES * m.c * m.h * m.w, ny = IMAGES * m.o * m.oh * m.ow;
    const int64_t nw = m.o * m.c * m.kh * m.kw;
    float *y = room(ny, sizeof *y), *dx = room(nx, sizeof *dx), *dw = room(nw, sizeof *dw);
    const struct op_use use = {.forward = true, .gradient = true};
    float *prepared = mem_aligned(x->op->hooks->prepare_size(t->g, x, &use), sizeof *prepared);
    float *scratch = mem_aligned(x->op->hooks->scratch_size(t->g, x, IMAGES), sizeof *scratch);
    struct op_call c = {.g = t->g,
                        .node = x,
                        .n = IMAGES,
                        .in = {in, op_in(t->g, x, 1)->data},
                        .out = y,
                        .dout = dy,
                        .prepared = prepared,
                        .use = use,
                        .scratch = scratch};

    x->op->hooks->prepare(t->g, x, 0, &use, prepared);
    x->op->hooks->forward(&c);
    c.din[0] = dx;
    x->op->hooks->grad_input(&c);
    c.din[1] = dw;
    x->op->hooks->grad_params(&c);
    note(t, x, 0, relative_error(y, r->y, ny));
    note(t, x, 1, relative_error(dx, r->dx, nx));
    note(t, x, 2, relative_error(dw, r->dw, nw));
    mem_free(y);
    mem_free(dx);
    mem_free(dw);
    mem_free(prepared);
    mem_free(scratch);
}

/* The bias would only make relative errors smaller: it is left out on both sides. */
static void check_conv(struct net *t, int32_t n)
{
    static const char *const paths[] = {"generic", "avx2", "avx512"};
    struct node x = t->g->node[n];
    const struct geometry m = geometry_of(t->g, &x);
    const float *in = exec_tap(t->e, x.in[0]), *dy = exec_tap_grad(t->e, x.out[0]);
    struct reference r = {room(IMAGES * m.o * m.oh * m.ow, sizeof(double)),
                          room(IMAGES * m.c * m.h * m.w, sizeof(double)),
                          room(m.o * m.c * m.kh * m.kw, sizeof(double))};

    x.n_in = 2;
    assert_int_equal(m.p->group, 1);
    convolve(&m, in, dy, op_in(t->g, &x, 1)->data, &r);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        setenv("LINNET_CPU", paths[i], 1);
        check_node(t, &x, in, dy, &r);
    }
    unsetenv("LINNET_CPU");
    mem_free(r.y);
    mem_free(r.dx);
    mem_free(r.dw);
}

static void load_pixels(const char *path, float *pixels)
{
    struct file_map map;

    assert_int_equal(file_map_open(path, &map), 0);
    assert_true(map.len >= (size_t)IMAGES * RECORD);
    const unsigned char *bytes = map.data;
    for (int64_t i = 0; i < (int64_t)IMAGES * PIXELS; i++)
        pixels[i] = (float)bytes[i / PIXELS * RECORD + 1 + i % PIXELS] / 255;
    file_map_close(&map);
}

static void test_layers_of_a_trained_network(void **state)
{
    char model[SCRATCH_TEXT], data[SCRATCH_TEXT];
    struct net t = {0};

    (void)state;
    if (scratch_shared("models/resnet20_cifar10.onnx", model) == NULL ||
        scratch_shared("data/cifar10/test_batch.bin", data) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    if (onnx_import(model, NULL, NULL, &t.g) < 0)
        fail_msg("%s", err_message());
    t.g->norm = (struct input_norm){3, {0.485F, 0.456F, 0.406F}, {0.229F, 0.224F, 0.225F}};
    t.pixels = room(IMAGES * PIXELS, sizeof *t.pixels);
    t.logits = room(IMAGES * shape_elems(&t.g->value[t.g->output].shape), sizeof *t.logits);
    t.dparams = room(t.g->n_params, sizeof *t.dparams);
    load_pixels(data, t.pixels);
    run_network(&t);
    for (int32_t n = 0; n < t.g->n_node; n++)
        if (is_checked(t.g, n))
            check_conv(&t, n);
    print_message("    worst relative error: forward %.1e, input gradient %.1e, weights %.1e\n",
                  t.worst[0], t.worst[1], t.worst[2]);
    exec_free(t.e);
    graph_free(t.g);
    mem_free(t.pixels);
    mem_free(t.logits);
    mem_free(t.dparams);
}

/* ---- long sums ------------------------------------------------------------------------------- */

/*
 * Rounding errors of one chain of multiply-adds grow with the root of its length. Layers of VGG-16 with
 * rectified inputs, relative to the sum in double; single chains had 1.8e-6 in both (3x3 and fully
 * connected).
 */
enum { LONG_IMAGES = 2, LONG_OUTS = 32, WIDE = 512, SIDE = 8, FLAT = 25088 };
#define CONV_BOUND 1e-6
#define GEMM_BOUND 5e-7

static float *new_noise(int64_t n, uint64_t sample, bool rectified)
{
    struct rng rng = rng_at(1, RNG_TEST, 0, sample);
    float *x = room(n, sizeof *x);

    for (int64_t i = 0; i < n; i++) {
        const float v = rng_normal(&rng);
        x[i] = rectified && v < 0 ? 0 : v;
    }
    return x;
}

static struct graph *one_node(const struct op *op, const union op_params *p, const struct shape *in,
                              const struct shape *weights, const float *w)
{
    value_id v[2], y;
    struct graph *g;

    assert_int_equal(graph_new(&g), 0);
    assert_int_equal(graph_add_value(g, "x", VALUE_INPUT, in, NULL, &v[0]), 0);
    assert_int_equal(graph_add_value(g, "w", VALUE_PARAM, weights, w, &v[1]), 0);
    g->input = v[0];
    assert_int_equal(graph_add_node(g, op, "node", v, 2, p, "y", &y), 0);
    return g;
}

/* The node's outputs for x on every code path of this CPU against want [LONG_IMAGES * each]. */
static void check_long(const struct graph *g, const float *x, const double *want, int64_t each,
                       double bound)
{
    static const char *const paths[] = {"generic", "avx2", "avx512"};
    const struct node *node = &g->node[0];
    const struct op_use use = {.forward = true, .batch = LONG_IMAGES};
    const int64_t n = LONG_IMAGES * each;

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        setenv("LINNET_CPU", paths[i], 1);
        const size_t packed = node->op->hooks->prepare_size(g, node, &use);
        const size_t scratch = node->op->hooks->scratch_size(g, node, LONG_IMAGES);
        struct op_call c = {.g = g, .node = node, .n = LONG_IMAGES, .in = {x}, .use = use};
        float *y = c.out = room(n, sizeof *y), *prepared = mem_aligned(packed, sizeof *prepared);

        c.in[1] = op_in(g, node, 1)->data;
        c.scratch = mem_aligned(scratch, sizeof *c.scratch);
        node->op->hooks->prepare(g, node, 0, &use, prepared);
        c.prepared = prepared;
        node->op->hooks->forward(&c);
        const double error = relative_error(y, want, n);
        print_message("    %s, %s: %.2e\n", node->op->type, cpu_path_name(cpu_best_path()), error);
        if (!(error <= bound))
            fail_msg("%s, %s: relative error %g", node->op->type, cpu_path_name(cpu_best_path()),
                     error);
        mem_free(y);
        mem_free(prepared);
        mem_free(c.scratch);
    }
    unsetenv("LINNET_CPU");
}

static void test_many_channels(void **state)
{
    const struct shape in = shape_make(4, (int64_t)SHAPE_BATCH, WIDE, SIDE, SIDE);
    const struct shape weights = shape_make(4, LONG_OUTS, WIDE, 3, 3);
    const int64_t pixels = LONG_IMAGES * SIDE * SIDE, nw = LONG_OUTS * WIDE * 9;
    float *x = new_noise(pixels * WIDE, 1, true), *w = new_noise(nw, 2, false);
    union op_params p = {0};
    struct reference r = {room(pixels * LONG_OUTS, sizeof(double)),
                          room(pixels * WIDE, sizeof(double)), room(nw, sizeof(double))};
    float *none = room(pixels * LONG_OUTS, sizeof *none);

    (void)state;
    op_defaults(&op_conv, &p);
    for (int i = 0; i < 4; i++)
        p.conv.pad[i] = 1;
    struct graph *g = one_node(&op_conv, &p, &in, &weights, w);
    const struct geometry m = {WIDE, SIDE, SIDE, LONG_OUTS, SIDE, SIDE, 3, 3, &p.conv};
    convolve(&m, x, none, w, &r);
    check_long(g, x, r.y, SIDE * SIDE * LONG_OUTS, CONV_BOUND);
    graph_free(g);
    mem_free(x);
    mem_free(w);
    mem_free(none);
    mem_free(r.y);
    mem_free(r.dx);
    mem_free(r.dw);
}

static void test_many_features(void **state)
{
    const struct shape in = shape_make(2, (int64_t)SHAPE_BATCH, FLAT);
    const struct shape weights = shape_make(2, LONG_OUTS, FLAT);
    float *x = new_noise(LONG_IMAGES * FLAT, 3, true), *w = new_noise(LONG_OUTS * FLAT, 4, false);
    double *want = room(LONG_IMAGES * LONG_OUTS, sizeof *want);

    (void)state;
    struct graph *g = one_node(&op_gemm, NULL, &in, &weights, w);
    for (int64_t i = 0; i < LONG_IMAGES * LONG_OUTS; i++)
        for (int64_t k = 0; k < FLAT; k++)
            want[i] += (double)x[i / LONG_OUTS * FLAT + k] * (double)w[i % LONG_OUTS * FLAT + k];
    check_long(g, x, want, LONG_OUTS, GEMM_BOUND);
    graph_free(g);
    mem_free(x);
    mem_free(w);
    mem_free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_of_a_trained_network),
        cmocka_unit_test(test_many_channels),
        cmocka_unit_test(test_many_features),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
