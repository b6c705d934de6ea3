/*
 * Conv against a naive loop in double precision: forward, input gradient, weight and bias gradient,
 * on every code path of this CPU, plus equal bits for any cut of a batch into blocks and refused
 * shapes.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/graph/graph.h"
#include "core/kernel/conv_point.h"
#include "core/op/op.h"

#include <cmocka.h> /* last: its macro fail() would hide ours */

#define TOLERANCE 1e-5

struct conv_case {
    int64_t n, c, h, w, o, kh, kw;
    int64_t stride[2], pad[4], dilation[2], group;
    bool bias;
    bool few; /* computed in another way for few images */
};

#define S1 .stride = {1, 1}, .dilation = {1, 1}, .group = 1
#define S2 .stride = {2, 2}, .dilation = {1, 1}, .group = 1

static const struct conv_case cases[] = {
    /* the layers of CIFAR networks */
    {2, 3, 32, 32, 16, 3, 3, S1, .pad = {1, 1, 1, 1}},
    {2, 16, 32, 32, 16, 3, 3, S1, .pad = {1, 1, 1, 1}, .bias = true},
    {2, 16, 32, 32, 32, 3, 3, S2, .pad = {1, 1, 1, 1}},
    {2, 16, 32, 32, 32, 1, 1, S2},
    {2, 32, 16, 16, 32, 3, 3, S1, .pad = {1, 1, 1, 1}},
    {2, 32, 16, 16, 64, 3, 3, S2, .pad = {1, 1, 1, 1}, .bias = true},
    {3, 64, 8, 8, 64, 3, 3, S1, .pad = {1, 1, 1, 1}, .bias = true},
    {2, 64, 8, 8, 32, 1, 1, S1},
    {5, 64, 4, 4, 128, 3, 3, S1, .pad = {1, 1, 1, 1}},
    {3, 256, 4, 4, 32, 3, 3, S1, .pad = {1, 1, 1, 1}},
    {1, 24, 4, 4, 512, 3, 3, S2, .pad = {1, 1, 1, 1}},
    {3, 32, 2, 2, 64, 3, 3, S1, .pad = {1, 1, 1, 1}},
    {2, 192, 4, 3, 192, 3, 3, S1, .pad = {1, 1, 1, 1}, .bias = true, .few = true},
    {1, 64, 64, 64, 64, 3, 3, S1, .pad = {1, 1, 1, 1}}, /* more than one piece an image */
    {1, 3, 57, 61, 16, 7, 7, S2, .pad = {3, 3, 3, 3}},
    {1, 40, 64, 64, 24, 3, 3, S2, .pad = {1, 1, 1, 1}},
    /* stride 2: odd maps, all ways to pad them */
    {2, 32, 15, 13, 48, 3, 3, S2, .pad = {1, 1, 1, 1}, .bias = true},
    {3, 32, 14, 16, 32, 3, 3, S2, .pad = {0, 0, 1, 1}},
    {2, 48, 16, 14, 32, 3, 3, S2, .pad = {2, 1, 0, 1}},
    {2, 32, 11, 17, 32, 3, 3, S2},
    {1, 64, 2, 8, 32, 3, 3, S2, .pad = {1, 1, 1, 1}},
    {1, 32, 1, 8, 32, 3, 3, S2, .pad = {1, 1, 1, 1}},
    {2, 96, 8, 8, 128, 3, 3, S2, .pad = {1, 1, 1, 1}, .few = true},
    /* weight gradients by two panels: 1x1, strided, several pieces, parts of unequal length */
    {5, 128, 7, 7, 64, 1, 1, S1},
    {2, 100, 28, 28, 96, 1, 1, S2},
    {2, 112, 30, 30, 96, 3, 3, S2, .pad = {0, 1, 1, 0}},
    {1, 80, 9, 9, 128, 5, 5, S1, .pad = {2, 2, 2, 2}},
    /* odd channels and maps */
    {1, 1, 1, 1, 1, 1, 1, S1, .bias = true},
    {9, 5, 1, 1, 8, 3, 3, S1, .pad = {1, 1, 1, 1}, .bias = true},
    {2, 1, 33, 31, 17, 5, 5, S1, .pad = {2, 2, 2, 2}},
    {2, 3, 33, 31, 10, 3, 3, S1, .bias = true},
    {2, 5, 33, 31, 8, 3, 3, S2, .pad = {0, 1, 1, 0}, .bias = true},
    {2, 8, 7, 5, 5, 3, 3, S1, .pad = {2, 0, 1, 3}, .bias = true},
    {2, 10, 9, 11, 17, 1, 1, S1, .bias = true},
    {2, 17, 6, 6, 10, 1, 1, S1, .pad = {1, 1, 0, 2}},
    {1, 17, 13, 3, 33, 2, 4, S1, .pad = {0, 1, 2, 2}},
    {1, 32, 5, 1, 3, 5, 1, S1, .pad = {2, 0, 2, 0}},
    {2, 16, 6, 7, 16, 3, 3, S1, .pad = {4, 5, 3, 4}}, /* padding beyond the kernel */
    /* strides, dilations */
    {2, 8, 15, 14, 16, 3, 3, .stride = {3, 3}, .dilation = {1, 1}, .group = 1, .pad = {1, 1, 1, 1}},
    {2, 8, 15, 14, 16, 3, 3, .stride = {1, 2}, .dilation = {1, 1}, .group = 1, .pad = {1, 0, 1, 0}},
    {2, 8, 14, 13, 9, 2, 2, .stride = {3, 3}, .dilation = {1, 1}, .group = 1, .bias = true},
    {2, 8, 15, 14, 16, 3, 3, .stride = {1, 1}, .dilation = {2, 2}, .group = 1, .pad = {2, 2, 2, 2}},
    {2, 8, 15, 14, 16, 3, 3, .stride = {2, 2}, .dilation = {2, 3}, .group = 1, .pad = {2, 3, 2, 3}},
    {2, 4, 17, 19, 6, 4, 3, .stride = {4, 6}, .dilation = {2, 4}, .group = 1, .pad = {3, 1, 2, 5}},
    {2, 3, 5, 6, 4, 1, 1, .stride = {9, 7}, .dilation = {1, 1}, .group = 1, .pad = {1, 1, 9, 9}},
    {1, 2, 1, 1, 3, 1, 1, .stride = {2, 2}, .dilation = {1, 1}, .group = 1, .pad = {1, 1, 1, 1}},
    /* groups, depthwise */
    {2, 16, 9, 9, 32, 3, 3, .stride = {1, 1}, .dilation = {1, 1}, .group = 4, .pad = {1, 1, 1, 1}},
    {2, 8, 9, 9, 16, 3, 3, .stride = {1, 1}, .dilation = {1, 1}, .group = 4, .pad = {1, 1, 1, 1}},
    {2, 64, 8, 8, 64, 3, 3, .stride = {2, 2}, .dilation = {1, 1}, .group = 2, .pad = {1, 1, 1, 1},
     .bias = true},
    {2, 6, 10, 9, 6, 3, 3, .stride = {1, 1}, .dilation = {1, 1}, .group = 6, .pad = {1, 1, 1, 1},
     .bias = true},
    {2, 6, 10, 9, 12, 3, 3, .stride = {2, 2}, .dilation = {1, 1}, .group = 6, .pad = {1, 1, 1, 1}},
    {2, 34, 6, 6, 68, 1, 1, .stride = {1, 1}, .dilation = {1, 1}, .group = 2},
    {2, 12, 8, 8, 6, 3, 3, .stride = {1, 1}, .dilation = {2, 2}, .group = 3, .pad = {2, 2, 2, 2}},
    {1, 34, 70, 70, 34, 3, 3, .stride = {1, 1}, .dilation = {1, 1}, .group = 2,
     .pad = {1, 1, 1, 1}},
};

/* Fixed pseudo-random numbers in [-1, 1). */
static float *new_noise(int64_t n, uint32_t seed)
{
    float *x = mem_array((size_t)n, sizeof *x);
    uint32_t s = seed * 2654435761U + 1;

    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        s = s * 1664525U + 1013904223U;
        x[i] = (float)(s >> 8) / 8388608.0F - 1;
    }
    return x;
}

static void check_close(const char *what, size_t number, const float *got, const double *want,
                        int64_t n)
{
    double error = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += want[i] * want[i];
    }
    if (!(error <= TOLERANCE * TOLERANCE * size))
        fail_msg("case %zu, %s, %s: relative error %g", number, what,
                 cpu_path_name(cpu_best_path()), sqrt(error / size));
}

/* A graph of one Conv, its operands and the reference results. */
struct conv_test {
    const struct conv_case *c;
    struct graph *g;
    int64_t oh, ow, nx, nw, ny; /* elements of one image, of the weights, of one output */
    float *x, *w, *b, *dy, *dx0;
    double *y, *dx, *dw, *db; /* dx without dx0 */
};

static int make_graph(const struct conv_case *c, const float *w, const float *b, struct graph **out)
{
    struct shape in = shape_make(4, (int64_t)SHAPE_BATCH, c->c, c->h, c->w);
    struct shape weights = shape_make(4, c->o, c->c / c->group, c->kh, c->kw);
    struct shape bias = shape_make(1, c->o);
    union op_params p = {0};
    value_id v[3] = {NO_VALUE, NO_VALUE, NO_VALUE}, y;
    struct graph *g;
    int rc;

    assert_int_equal(graph_new(&g), 0);
    op_defaults(&op_conv, &p);
    memcpy(p.conv.stride, c->stride, sizeof c->stride);
    memcpy(p.conv.pad, c->pad, sizeof c->pad);
    memcpy(p.conv.dilation, c->dilation, sizeof c->dilation);
    p.conv.group = c->group;
    assert_int_equal(graph_add_value(g, "x", VALUE_INPUT, &in, NULL, &v[0]), 0);
    assert_int_equal(graph_add_value(g, "w", VALUE_PARAM, &weights, w, &v[1]), 0);
    if (b != NULL)
        assert_int_equal(graph_add_value(g, "b", VALUE_PARAM, &bias, b, &v[2]), 0);
    g->input = v[0];
    rc = graph_add_node(g, &op_conv, "conv", v, b != NULL ? 3 : 2, &p, "y", &y);
    if (rc < 0)
        graph_free(g);
    else
        *out = g;
    return rc;
}

/* Calls f for every product of the convolution. Activations here are [n][h][w][c]. */
static void naive(struct conv_test *t)
{
    const struct conv_case *c = t->c;
    int64_t ci = c->c / c->group, co = c->o / c->group;

    for (int64_t n = 0; n < c->n; n++)
        for (int64_t i = 0; i < t->oh; i++)
            for (int64_t j = 0; j < t->ow; j++)
                for (int64_t o = 0; o < c->o; o++) {
                    int64_t at_y = ((n * t->oh + i) * t->ow + j) * c->o + o;

                    t->y[at_y] += c->bias ? (double)t->b[o] : 0;
                    t->db[o] += (double)t->dy[at_y];
                    for (int64_t k = 0; k < c->kh * c->kw * ci; k++) {
                        int64_t kh = k / ci / c->kw, kw = k / ci % c->kw, s = k % ci;
                        int64_t h = i * c->stride[0] - c->pad[0] + kh * c->dilation[0];
                        int64_t w = j * c->stride[1] - c->pad[1] + kw * c->dilation[1];
                        int64_t at_x = ((n * c->h + h) * c->w + w) * c->c + o / co * ci + s;
                        int64_t at_w = ((o * ci + s) * c->kh + kh) * c->kw + kw;

                        if (h < 0 || h >= c->h || w < 0 || w >= c->w)
                            continue;
                        t->y[at_y] += (double)t->x[at_x] * (double)t->w[at_w];
                        t->dx[at_x] += (double)t->dy[at_y] * (double)t->w[at_w];
                        t->dw[at_w] += (double)t->dy[at_y] * (double)t->x[at_x];
                    }
                }
}

static void test_init(struct conv_test *t, const struct conv_case *c)
{
    t->c = c;
    t->nx = c->c * c->h * c->w;
    t->nw = c->o * c->c / c->group * c->kh * c->kw;
    t->x = new_noise(c->n * t->nx, 1);
    t->w = new_noise(t->nw, 2);
    t->b = new_noise(c->o, 3);
    t->dx0 = new_noise(c->n * t->nx, 4);
    assert_int_equal(make_graph(c, t->w, c->bias ? t->b : NULL, &t->g), 0);
    t->oh = t->g->value[t->g->node[0].out[0]].shape.dim[2];
    t->ow = t->g->value[t->g->node[0].out[0]].shape.dim[3];
    t->ny = c->o * t->oh * t->ow;
    t->dy = new_noise(c->n * t->ny, 5);
    t->y = mem_array((size_t)(c->n * t->ny), sizeof *t->y);
    t->dx = mem_array((size_t)(c->n * t->nx), sizeof *t->dx);
    t->dw = mem_array((size_t)t->nw, sizeof *t->dw);
    t->db = mem_array((size_t)c->o, sizeof *t->db);
    naive(t);
}

static void test_release(struct conv_test *t)
{
    void *all[] = {t->x, t->w, t->b, t->dy, t->dx0, t->y, t->dx, t->dw, t->db};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        mem_free(all[i]);
    graph_free(t->g);
}

/* Results of the operator over the whole batch, in blocks of `block` images. */
struct conv_result {
    float *y, *dx, *dx_added, *dw, *db;
};

static void result_init(struct conv_result *r, const struct conv_test *t)
{
    r->y = mem_array((size_t)(t->c->n * t->ny), sizeof(float));
    r->dx = new_noise(t->c->n * t->nx, 6);
    r->dx_added = new_noise(t->c->n * t->nx, 4);
    r->dw = mem_array((size_t)t->nw, sizeof(float));
    r->db = mem_array((size_t)t->c->o, sizeof(float));
}

static void result_release(struct conv_result *r)
{
    mem_free(r->y);
    mem_free(r->dx);
    mem_free(r->dx_added);
    mem_free(r->dw);
    mem_free(r->db);
}

/* batch: as in op_use. */
static void run_conv(const struct conv_test *t, int64_t batch, int64_t block, struct conv_result *r)
{
    const struct op_use use = {.forward = true, .gradient = true, .batch = batch};
    const struct node *node = &t->g->node[0];
    size_t prepared_size = op_conv.hooks->prepare_size(t->g, node, &use);
    size_t scratch_size = op_conv.hooks->scratch_size(t->g, node, block);
    float *prepared = mem_aligned(prepared_size, sizeof *prepared);
    float *scratch = mem_aligned(scratch_size, sizeof *scratch);

    op_conv.hooks->prepare(t->g, node, 0, &use, prepared);
    for (int64_t n = 0; n < t->c->n; n += block) {
        struct op_call call = {.g = t->g,
                               .node = node,
                               .n = t->c->n - n < block ? t->c->n - n : block,
                               .in = {t->x + n * t->nx, t->w, t->c->bias ? t->b : NULL},
                               .out = r->y + n * t->ny,
                               .dout = t->dy + n * t->ny,
                               .prepared = prepared,
                               .use = use,
                               .scratch = scratch};

        /* Scratch is whatever the last node left there. */
        memset(scratch, 0xff, scratch_size * sizeof *scratch);
        op_conv.hooks->forward(&call);
        call.out = NULL;
        call.din[0] = r->dx + n * t->nx;
        memset(scratch, 0xff, scratch_size * sizeof *scratch);
        op_conv.hooks->grad_input(&call);
        call.din[0] = r->dx_added + n * t->nx;
        call.add[0] = true;
        op_conv.hooks->grad_input(&call);
        call.din[1] = r->dw;
        call.din[2] = t->c->bias ? r->db : NULL;
        memset(scratch, 0xff, scratch_size * sizeof *scratch);
        op_conv.hooks->grad_params(&call);
    }
    mem_free(prepared);
    mem_free(scratch);
}

static void check_result(const struct conv_test *t, size_t number, struct conv_result *r)
{
    int64_t nx = t->c->n * t->nx;

    check_close("forward", number, r->y, t->y, t->c->n * t->ny);
    check_close("grad_input", number, r->dx, t->dx, nx);
    for (int64_t i = 0; i < nx; i++)
        r->dx_added[i] = (float)((double)r->dx_added[i] - (double)t->dx0[i]);
    check_close("grad_input added", number, r->dx_added, t->dx, nx);
    check_close("grad_params weights", number, r->dw, t->dw, t->nw);
    if (t->c->bias)
        check_close("grad_params bias", number, r->db, t->db, t->c->o);
}

/* Prepared for that batch, all results must be right and no cut may change a bit. */
static void check_batch(const struct conv_test *t, size_t number, int64_t batch)
{
    size_t ny = (size_t)(t->c->n * t->ny), nx = (size_t)(t->c->n * t->nx);
    struct conv_result whole, single;

    result_init(&whole, t);
    result_init(&single, t);
    run_conv(t, batch, t->c->n, &whole);
    run_conv(t, batch, 1, &single);
    assert_memory_equal(whole.y, single.y, ny * sizeof(float));
    assert_memory_equal(whole.dx, single.dx, nx * sizeof(float));
    assert_memory_equal(whole.dx_added, single.dx_added, nx * sizeof(float));
    check_result(t, number, &whole);
    check_result(t, number, &single);
    result_release(&whole);
    result_release(&single);
}

static void check_case(size_t number)
{
    struct conv_test t;

    test_init(&t, &cases[number]);
    check_batch(&t, number, 0);
    if (t.c->few)
        check_batch(&t, number, 1);
    test_release(&t);
}

/* Every case on the path that LINNET_CPU names; a CPU without it takes its best. */
static void check_path(const char *path)
{
    setenv("LINNET_CPU", path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_case(i);
    unsetenv("LINNET_CPU");
}

static void test_conv_generic_matches_naive(void **state)
{
    (void)state;
    check_path("generic");
}

static void test_conv_avx2_matches_naive(void **state)
{
    (void)state;
    check_path("avx2");
}

static void test_conv_avx512_matches_naive(void **state)
{
    (void)state;
    check_path("avx512");
}

static void test_conv_shape_refuses_bad_nodes(void **state)
{
    struct conv_case c = {1, 4, 5, 5, 6, 3, 3, S1};
    struct graph *g;

    (void)state;
    assert_int_equal(make_graph(&c, NULL, NULL, &g), 0);
    graph_free(g);
    c.group = 4; /* divides the inputs, not the outputs */
    assert_int_equal(make_graph(&c, NULL, NULL, &g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "group=4"));
    c.group = 1;
    c.dilation[1] = 3;
    assert_int_equal(make_graph(&c, NULL, NULL, &g), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "larger than the padded input"));
    c.dilation[1] = 1;
    c.pad[0] = c.pad[1] = 1 << 20;
    c.stride[0] = c.stride[1] = 1 << 19;
    assert_int_equal(make_graph(&c, NULL, NULL, &g), ERR_LIMIT);
}

/* Two panels at a time make the chains of one: the same bits, for a whole and for parts. */
static void check_two_panels(const struct conv_axis *y, const struct conv_axis *x, int64_t n,
                             int64_t in_c, int64_t out_c)
{
    const struct conv_pass p = {.y = *y, .x = *x, .groups = 1, .src_c = in_c, .dst_c = out_c};
    const struct conv_kernels *two = conv_kernels_of(CPU_AVX512);
    struct conv_kernels one = *two;
    const int64_t nx = n * y->src * x->src * in_c, ny = n * y->dst * x->dst * out_c;
    const int64_t nw = out_c * in_c * y->kernel * x->kernel;
    float *in = mem_aligned((size_t)nx, sizeof *in), *dy = mem_aligned((size_t)ny, sizeof *dy);
    float *a = mem_aligned((size_t)nw, sizeof *a), *b = mem_aligned((size_t)nw, sizeof *b);
    float *scratch = mem_aligned(conv_grad_scratch(&p, n), sizeof *scratch);

    assert_true(in && dy && a && b && scratch);
    for (int64_t i = 0; i < nx; i++)
        in[i] = (float)(i * 7919 % 1009) / 1009 - 0.5F;
    for (int64_t i = 0; i < ny; i++)
        dy[i] = (float)(i * 6421 % 997) / 997 - 0.5F;
    memset(a, 0, (size_t)nw * sizeof *a);
    memset(b, 0, (size_t)nw * sizeof *b);
    memset(one.outer_pair, 0, sizeof one.outer_pair);
    conv_grad_weights(&p, &one, conv_span_of(&p, 0, 1), n, in, dy, a, scratch);
    for (int part = 0; part < 2; part++)
        conv_grad_weights(&p, two, conv_span_of(&p, part, 2), n, in, dy, b, scratch);
    assert_memory_equal(a, b, (size_t)nw * sizeof *a);
    mem_free(in);
    mem_free(dy);
    mem_free(a);
    mem_free(b);
    mem_free(scratch);
}

static void test_two_panels_make_the_same_bits(void **state)
{
    struct conv_axis plain, strided;

    (void)state;
    if (cpu_best_path() < CPU_AVX512)
        skip();
    conv_axis_forward(&plain, 14, 14, 1, 1, 1, 0);
    check_two_panels(&plain, &plain, 3, 192, 128);
    conv_axis_forward(&strided, 30, 15, 3, 2, 1, 1);
    check_two_panels(&strided, &strided, 4, 112, 128);
}

/* ---- 1 x 1 against the direct way, bit by bit: whole, in parts, with a tail, added */

struct point_case {
    int64_t n, in_c, h, w, out_c, stride;
};

struct point_test {
    struct conv_pass p;
    struct point_case c;
    float *src, *w, *other, *mask, *packed, *scratch, *start, *want, *got;
    int64_t ndst, image; /* floats of the result, of one image of it */
};

static void point_begin(struct point_test *t, const struct point_case *c, bool grad)
{
    const int64_t out_h = (c->h - 1) / c->stride + 1, out_w = (c->w - 1) / c->stride + 1;
    const int64_t in = c->in_c * c->h * c->w, out = c->out_c * out_h * out_w;

    *t = (struct point_test){.c = *c, .image = grad ? in : out, .ndst = c->n * (grad ? in : out)};
    t->p = (struct conv_pass){
        .groups = 1, .src_c = grad ? c->out_c : c->in_c, .dst_c = grad ? c->in_c : c->out_c};
    (grad ? conv_axis_grad : conv_axis_forward)(&t->p.y, c->h, out_h, 1, c->stride, 1, 0);
    (grad ? conv_axis_grad : conv_axis_forward)(&t->p.x, c->w, out_w, 1, c->stride, 1, 0);
    assert_true(conv_point_fits(&t->p));
    const size_t scratch = max_size(conv_run_scratch(&t->p, c->n), conv_point_scratch(&t->p));
    t->src = new_noise(c->n * (grad ? out : in), 1);
    t->w = new_noise(c->in_c * c->out_c, 2);
    t->other = new_noise(t->ndst, 3);
    t->mask = new_noise(t->image, 4);
    t->start = new_noise(t->ndst, 5);
    t->packed = mem_aligned(conv_packed_size(&t->p), sizeof(float));
    t->scratch = mem_aligned(scratch, sizeof(float));
    t->want = mem_aligned((size_t)t->ndst, sizeof(float));
    t->got = mem_aligned((size_t)t->ndst, sizeof(float));
    conv_pack(&t->p, conv_span_of(&t->p, 0, 1), t->w, NULL, t->packed);
    memset(t->scratch, 0xff, scratch * sizeof(float));
}

static void point_end(struct point_test *t)
{
    mem_free(t->src);
    mem_free(t->w);
    mem_free(t->other);
    mem_free(t->mask);
    mem_free(t->start);
    mem_free(t->packed);
    mem_free(t->scratch);
    mem_free(t->want);
    mem_free(t->got);
}

static void check_points(const struct point_test *t, enum cpu_path path, bool add, bool tail,
                         bool by_pixels, int parts)
{
    const size_t bytes = (size_t)t->ndst * sizeof(float);
    const struct rows_tail what = {
        .other = tail ? t->other : NULL, .mask = tail ? t->mask : NULL, .relu = tail};
    const float *bias = t->p.y.grad ? NULL : t->other;

    memcpy(t->want, t->start, bytes);
    memcpy(t->got, t->start, bytes);
    conv_run(&t->p, conv_kernels_of(path), conv_span_of(&t->p, 0, 1), t->c.n, t->src, t->packed,
             bias, t->want, add, t->scratch);
    for (int64_t i = 0; i < t->c.n && tail; i++) {
        const struct rows_tail image = {t->other + i * t->image, t->mask, true};

        rows_kernels_of(path)->tail(t->want + i * t->image, t->image, &image);
    }
    for (int part = 0; part < parts; part++) {
        const struct conv_point c = {
            .p = &t->p,
            .k = conv_kernels_of(path),
            .rows = rows_kernels_of(path),
            .span = conv_span_of(&t->p, by_pixels ? 0 : part, by_pixels ? 1 : parts),
            .part = by_pixels ? part : 0,
            .parts = by_pixels ? parts : 0};

        conv_point_run(&c, t->c.n, t->src, t->packed, bias, &what, t->got, add, t->scratch);
    }
    if (memcmp(t->want, t->got, bytes) != 0)
        fail_msg("%s, n=%lld, %lld -> %lld channels, %lld x %lld, stride %lld: other bits%s%s",
                 cpu_path_name(path), (long long)t->c.n, (long long)t->p.src_c,
                 (long long)t->p.dst_c, (long long)t->c.h, (long long)t->c.w,
                 (long long)t->c.stride, add ? ", added" : "", tail ? ", with a tail" : "");
}

static void check_point_case(const struct point_case *c, enum cpu_path path)
{
    for (int grad = 0; grad < 2; grad++) {
        struct point_test t;

        point_begin(&t, c, grad);
        check_points(&t, path, false, false, true, 1);
        check_points(&t, path, false, !grad, true, 3);
        check_points(&t, path, false, !grad, false, 3);
        check_points(&t, path, true, false, true, 2);
        check_points(&t, path, true, false, false, 2);
        point_end(&t);
    }
}

static void test_points_make_the_bits_of_the_direct_way(void **state)
{
    static const struct point_case c[] = {
        {3, 40, 5, 5, 20, 1},     {2, 256, 9, 7, 48, 1},   {1, 64, 56, 56, 256, 1},
        {2, 512, 14, 14, 512, 2}, {2, 128, 15, 13, 64, 2}, {3, 32, 10, 9, 32, 3},
        {1, 2048, 7, 7, 64, 1},   {2, 80, 28, 28, 512, 1}, {5, 16, 1, 1, 16, 2},
    };
    const enum cpu_path paths[] = {CPU_GENERIC, CPU_AVX2, CPU_AVX512};

    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof *paths && paths[i] <= cpu_best_path(); i++) {
        for (size_t k = 0; k < sizeof c / sizeof *c; k++)
            check_point_case(&c[k], paths[i]);
        for (int64_t pixels = 1; pixels <= 26; pixels++) /* every rest of a tile */
            check_point_case(&(const struct point_case){1, 24, 1, pixels, 48, 1}, paths[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_generic_matches_naive),
        cmocka_unit_test(test_conv_avx2_matches_naive),
        cmocka_unit_test(test_conv_avx512_matches_naive),
        cmocka_unit_test(test_conv_shape_refuses_bad_nodes),
        cmocka_unit_test(test_two_panels_make_the_same_bits),
        cmocka_unit_test(test_points_make_the_bits_of_the_direct_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
