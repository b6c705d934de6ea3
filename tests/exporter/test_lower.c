/*
 * exporter/lower and runtime/eval: small networks with every form that can be lowered. The program on
 * real numbers differs from the executor by the rounding of weights only, the program in Z_2^64 by
 * the truncations on top; a naive 64-bit interpreter of the plan gives the same integers.
 */
#include "exporter/lower/lower.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/exec/exec.h"
#include "core/base/file.h"
#include "core/op/op.h"
#include "core/graph/rng.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"
#include "runtime/model.h"
#include "tests/scratch.h"
#include "tests/onnx_make.h"

enum { IMAGES = 12 };

static const char residual[] = "input x [N,3,8,8]\n"
                               "float w1 [8,3,3,3]\nfloat b1 [8]\n"
                               "float w2 [8,8,3,3]\nfloat w3 [8,8,3,3]\nfloat b3 [8]\n"
                               "float w4 [12,8,3,3]\nfloat w5 [12,8,1,1]\nfloat b5 [12]\n"
                               "float w6 [5,12]\nfloat b6 [5]\n"
                               "a = Conv(x, w1, b1) pads=[1,1,1,1]\nr1 = Relu(a)\n"
                               "b = Conv(r1, w2) pads=[1,1,1,1]\nr2 = Relu(b)\n"
                               "c = Conv(r2, w3, b3) pads=[1,1,1,1]\ns1 = Add(c, r1)\n"
                               "r3 = Relu(s1)\n"
                               "d = Conv(r3, w4) pads=[1,1,1,1] strides=[2,2]\n"
                               "e = Conv(r3, w5, b5) strides=[2,2]\ns2 = Add(d, e)\nr4 = Relu(s2)\n"
                               "p = GlobalAveragePool(r4)\nf = Flatten(p)\n"
                               "y = Gemm(f, w6, b6) transB=1\noutput y [N,5]\n";
static const char shortcut_a[] = "input x [N,4,8,8]\n"
                                 "float w1 [8,4,3,3]\nfloat w6 [3,8]\nfloat b6 [3]\n"
                                 "int begin [2] 0 0\nint end [2] 8 8\nint axes [2] 2 3\n"
                                 "int steps [2] 2 2\nint pads [8] 0 2 0 0 0 2 0 0\n"
                                 "c = Conv(x, w1) pads=[1,1,1,1] strides=[2,2]\n"
                                 "s = Slice(x, begin, end, axes, steps)\nz = Pad(s, pads)\n"
                                 "a = Add(c, z)\nr = Relu(a)\n"
                                 "p = AveragePool(r) kernel_shape=[4,4]\nf = Flatten(p)\n"
                                 "y = Gemm(f, w6, b6) transB=1\noutput y [N,3]\n";
/* Norm before the convolution, so that it cannot be folded; pooled values reach a ReLU and an Add. */
static const char preactivation[] =
    "input x [N,3,8,8]\n"
    "float w1 [6,3,3,3]\nfloat w2 [6,6,3,3]\nfloat w6 [4,6]\n"
    "float g [6] 1.5 0.5 -0.7 1 0.2 2\nfloat be [6]\nfloat mu [6]\nfloat va [6] 1 0.5 2 0.25 1 3\n"
    "a = Conv(x, w1) pads=[1,1,1,1]\n"
    "n = BatchNormalization(a, g, be, mu, va) epsilon=0.00001\nr = Relu(n)\n"
    "c = Conv(r, w2) pads=[1,1,1,1]\ns = Add(c, a)\n"
    "p = AveragePool(s) kernel_shape=[2,2] strides=[2,2]\nq = Relu(p)\n"
    "t = AveragePool(a) kernel_shape=[2,2] strides=[2,2]\nu = Add(q, t)\n"
    "m = MaxPool(u) kernel_shape=[3,3] strides=[2,2] pads=[1,1,1,1]\n"
    "v = GlobalAveragePool(m)\nf = Flatten(v)\n"
    "y = Gemm(f, w6) transB=1\noutput y [N,4]\n";
/* Preprocessing inside, constants per channel later, groups, a pooled output, a Softmax tail. */
static const char constants[] =
    "input x [N,3,6,6]\n"
    "float mean [1,3,1,1] 0.4 0.5 0.6\nfloat dev [3,1,1] 0.2 0.3 0.25\n"
    "float w1 [6,1,3,3]\nfloat k [6,1,1] 2 -1 0.5 1 3 0.25\nfloat one [1] 1\n"
    "i = Sub(x, mean)\nj = Div(i, dev)\n"
    "c = Conv(j, w1) group=3 pads=[1,1,1,1]\nr = Relu(c)\n"
    "m = Mul(r, k)\nn = Sub(one, m)\n"
    "p = GlobalAveragePool(n)\nf = Flatten(p)\nz = Softmax(f)\noutput z [N,6]\n";

/* Windows that are no squares; the sums of one reach a ReLU. */
static const char oblong[] =
    "input x [N,3,8,8]\nfloat w1 [6,3,3,3]\nfloat w2 [5,6,2,2]\nfloat w6 [4,5]\n"
    "a = Conv(x, w1) pads=[1,1,1,1]\n"
    "p = AveragePool(a) kernel_shape=[2,4] strides=[2,2]\nr = Relu(p)\n"
    "m = MaxPool(r) kernel_shape=[2,1] strides=[1,1]\n"
    "c = Conv(m, w2)\nv = GlobalAveragePool(c)\nf = Flatten(v)\n"
    "y = Gemm(f, w6) transB=1\noutput y [N,4]\n";

static struct graph *import_text(const char *text)
{
    struct onnx_make *mk = onnx_make_new(13, text);
    struct graph *g = NULL;

    onnx_make_pack(mk);
    if (onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g) < 0)
        fail_msg("%s", err_message());
    onnx_make_free(mk);
    return g;
}

/* A case: a graph, images, its plan. */
struct net {
    struct graph *g;
    float *pixels;
    struct plan *p;
    struct plan_weights *w;
    int64_t k; /* outputs */
};

static const uint8_t salt[PLAN_SALT] = {1, 2, 3};

static void net_lower(struct net *t, struct graph *g)
{
    struct lower_options o = {.n_pixels = IMAGES, .salt = salt, .publish_slopes = true};
    int64_t n = IMAGES * shape_elems(&g->value[g->input].shape);
    struct rng r = rng_at(7, RNG_TEST, 0, 0);

    *t = (struct net){.g = g, .k = shape_elems(&g->value[g->output].shape)};
    t->pixels = mem_array((size_t)n, sizeof *t->pixels);
    assert_non_null(t->pixels);
    for (int64_t i = 0; i < n; i++)
        t->pixels[i] = rng_uniform(&r);
    o.pixels = t->pixels;
    if (lower(g, &o, &t->p, &t->w) < 0)
        fail_msg("%s", err_message());
}

static void net_release(struct net *t)
{
    plan_free(t->p);
    plan_weights_free(t->w);
    graph_free(t->g);
    mem_free(t->pixels);
}

static void run_exec(const struct net *t, struct graph *g, float *y)
{
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, IMAGES, NULL, 0, &e), 0);
    assert_int_equal(exec_infer(e, t->pixels, IMAGES, 0, y), 0);
    exec_free(e);
}

static void run_pi(const struct net *t, enum pi_mode mode, float *y)
{
    struct pi_model *m = NULL;

    assert_int_equal(pi_prepare(t->p, t->w, mode, &m), 0);
    assert_int_equal(pi_classes(m), t->k);
    assert_int_equal(pi_run(m, PI_PIXELS, t->pixels, IMAGES, y), 0);
    pi_close(m);
}

static float largest_of(const float *v, int64_t n)
{
    float m = 0;

    for (int64_t i = 0; i < n; i++)
        m = fmaxf(m, fabsf(v[i]));
    return m;
}

static void assert_close(const char *what, const float *a, const float *b, int64_t n, double tol)
{
    float scale = largest_of(a, n);

    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tol * (double)scale))
            fail_msg("%s: %g and %g at %lld (largest %g)", what, (double)a[i], (double)b[i],
                     (long long)i, (double)scale);
}

/* ---- naive interpreter -------------------------------------------------------------------- */

/* Value at (c, h, w) of a [C,H,W] tensor, 0 outside. */
static uint64_t at(const uint64_t *x, const struct plan_tensor *t, int64_t c, int64_t h, int64_t w)
{
    if (h < 0 || w < 0 || h >= t->dim[1] || w >= t->dim[2])
        return 0;
    return x[(c * t->dim[1] + h) * t->dim[2] + w];
}

static uint64_t naive_linear(const struct plan_step *s, const struct plan_matrix *m,
                             const struct plan_tensor *in, const uint64_t *x, const int64_t o[3])
{
    const struct plan_linear *l = &s->u.linear;
    int64_t per = in->dim[0] / l->group, g = o[0] / (m->rows / l->group);
    const int16_t *w = m->weight + o[0] * m->columns;
    uint64_t sum = (uint64_t)m->bias[o[0]];

    for (int64_t c = 0; c < per; c++)
        for (int64_t a = 0; a < l->kernel[0]; a++)
            for (int64_t b = 0; b < l->kernel[1]; b++)
                sum += (uint64_t)*w++ * at(x, in, g * per + c,
                                           o[1] * l->stride[0] - l->pad[0] + a * l->dilation[0],
                                           o[2] * l->stride[1] - l->pad[1] + b * l->dilation[1]);
    return sum;
}

static uint64_t naive_pool(const struct plan_step *s, const struct plan_tensor *in,
                           const uint64_t *x, const int64_t o[3])
{
    const struct plan_pool *p = &s->u.pool;
    int64_t sum = 0, max = INT64_MIN;

    for (int64_t a = 0; a < p->kernel[0]; a++)
        for (int64_t b = 0; b < p->kernel[1]; b++) {
            int64_t h = o[1] * p->stride[0] - p->pad[0] + a,
                    w = o[2] * p->stride[1] - p->pad[1] + b;
            int64_t v = (int64_t)at(x, in, o[0], h, w);
            sum += v;
            if (h >= 0 && w >= 0 && h < in->dim[1] && w < in->dim[2] && v > max)
                max = v;
        }
    return (uint64_t)(s->kind == PLAN_MAX_POOL ? max : sum);
}

static int64_t floor_shift(uint64_t v, int bits)
{
    int64_t x = (int64_t)v, unit = (int64_t)1 << bits;

    return x / unit - (x % unit < 0);
}

/* A removed position of channel c. */
static uint64_t naive_removed(const struct net *t, const struct plan_step *s, uint64_t x, int64_t c)
{
    const struct plan_relu *r = &s->u.relu;

    if (r->line_shift == 0)
        return x;
    x *= r->n_slope > 0 ? (uint64_t)(int64_t)r->slope[c] : 1;
    return (uint64_t)(floor_shift(x, r->line_shift) + t->w->matrix[s - t->p->step].bias[c]);
}

static uint64_t naive_element(const struct net *t, const struct plan_step *s, uint64_t *const *v,
                              const int64_t o[3], int64_t flat)
{
    const struct plan_tensor *in = &t->p->tensor[s->in[0]];
    const uint64_t *x = v[s->in[0]];

    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return naive_linear(s, &t->w->matrix[s - t->p->step], in, x, o);
    case PLAN_ADD:
        return (x[flat] << s->input_shift[0]) + (v[s->in[1]][flat] << s->input_shift[1]);
    case PLAN_RELU:
        for (int64_t i = 0; i < s->u.relu.kept; i++)
            if (s->u.relu.index[i] == flat)
                return (int64_t)x[flat] < 0 ? 0
                       : s->u.relu.cap > 0 && x[flat] > (uint64_t)s->u.relu.cap
                           ? (uint64_t)s->u.relu.cap
                           : x[flat];
        return naive_removed(t, s, x[flat], o[0]);
    case PLAN_SUM_POOL:
    case PLAN_MAX_POOL:
        return naive_pool(s, in, x, o);
    case PLAN_PAD:
        if (o[0] < s->u.pad.begin[0] || o[0] - s->u.pad.begin[0] >= in->dim[0])
            return 0;
        return at(x, in, o[0] - s->u.pad.begin[0], o[1] - s->u.pad.begin[1],
                  o[2] - s->u.pad.begin[2]);
    case PLAN_SLICE:
        return at(x, in, s->u.slice.start[0] + o[0] * s->u.slice.step[0],
                  s->u.slice.start[1] + o[1] * s->u.slice.step[1],
                  s->u.slice.start[2] + o[2] * s->u.slice.step[2]);
    case PLAN_FLATTEN:
        return x[flat];
    }
    return 0;
}

static void naive_step(const struct net *t, const struct plan_step *s, uint64_t **v)
{
    const struct plan_tensor *out = &t->p->tensor[s->out];
    int64_t flat = 0;

    v[s->out] = mem_array((size_t)out->count, sizeof **v);
    assert_non_null(v[s->out]);
    for (int64_t c = 0; c < out->dim[0]; c++)
        for (int64_t h = 0; h < out->dim[1]; h++)
            for (int64_t w = 0; w < out->dim[2]; w++, flat++) {
                const int64_t o[3] = {c, h, w};
                v[s->out][flat] = (uint64_t)floor_shift(naive_element(t, s, v, o, flat), s->shift);
            }
}

static void naive_image(const struct net *t, const float *pixels, int64_t *y)
{
    const struct plan *p = t->p;
    uint64_t **v = mem_array((size_t)p->n_tensor, sizeof *v);
    int64_t plane = p->tensor[0].dim[1] * p->tensor[0].dim[2];

    assert_non_null(v);
    v[0] = mem_array((size_t)p->tensor[0].count, sizeof **v);
    for (int64_t i = 0; i < p->tensor[0].count; i++) {
        double x = ((double)pixels[i] - p->input.mean[i / plane]) / p->input.std[i / plane];
        v[0][i] = (uint64_t)(int64_t)nearbyint(ldexp(x, p->scale));
    }
    for (int32_t i = 0; i < p->n_step; i++)
        naive_step(t, &p->step[i], v);
    memcpy(y, v[p->step[p->n_step - 1].out], (size_t)t->k * sizeof *y);
    for (int32_t i = 0; i < p->n_tensor; i++)
        mem_free(v[i]);
    mem_free(v);
}

/* ---- the comparison ----------------------------------------------------------------------- */

static void check_fixed_is_exact(const struct net *t)
{
    int64_t want[64], got[IMAGES * 64];
    int64_t image = t->p->tensor[0].count;
    struct pi_model *m = NULL;

    assert_true(t->k <= 64);
    assert_int_equal(pi_prepare(t->p, t->w, PI_FIXED, &m), 0);
    assert_int_equal(pi_run_fixed(m, PI_PIXELS, t->pixels, IMAGES, got), 0);
    for (int64_t i = 0; i < IMAGES; i++) {
        naive_image(t, t->pixels + i * image, want);
        for (int64_t k = 0; k < t->k; k++)
            assert_int_equal(got[i * t->k + k], want[k]);
    }
    pi_close(m);
}

/* g: consumed. reference: what the executor runs, g itself unless a Softmax was dropped. */
static void check_net(struct graph *g, double tol)
{
    float want[IMAGES * 64], real[IMAGES * 64], fixed[IMAGES * 64];
    struct graph *reference = NULL;
    struct net t;

    net_lower(&t, g);
    assert_int_equal(lower_prepare(g, &reference), 0);
    run_exec(&t, reference, want);
    run_pi(&t, PI_FLOAT, real);
    run_pi(&t, PI_FIXED, fixed);
    assert_close("float", want, real, IMAGES * t.k, tol);
    assert_close("fixed", want, fixed, IMAGES * t.k, 2 * tol);
    assert_memory_not_equal(real, fixed, (size_t)(IMAGES * t.k) * sizeof *real);
    check_fixed_is_exact(&t);
    graph_free(reference);
    net_release(&t);
}

static void test_residual_blocks(void **state)
{
    (void)state;
    check_net(import_text(residual), 2e-3);
}

static void test_strided_slice_and_channel_padding(void **state)
{
    (void)state;
    check_net(import_text(shortcut_a), 2e-3);
}

static void test_norm_before_convolution_and_pools(void **state)
{
    (void)state;
    check_net(import_text(preactivation), 2e-3);
}

static void test_constants_groups_and_softmax_tail(void **state)
{
    struct graph *g = import_text(constants);
    struct net t;

    (void)state;
    net_lower(&t, g);
    assert_true(fabs(t.p->input.mean[1] - 0.5) < 1e-6 && fabs(t.p->input.std[1] - 0.3) < 1e-6);
    assert_int_equal(t.p->n_note, 1);
    net_release(&t);
    check_net(import_text(constants), 2e-3);
}

static void test_oblong_windows(void **state)
{
    (void)state;
    check_net(import_text(oblong), 2e-3);
}

/* A normalisation of the file's metadata and one in the graph: both are in the plan's. */
static void test_two_normalisations_become_one(void **state)
{
    const struct input_norm norm = {3, {0.1f, 0.2f, 0.3f}, {0.5f, 0.25f, 2}};
    struct graph *g = import_text(constants);
    struct net t;

    (void)state;
    g->norm = norm;
    net_lower(&t, g);
    for (int c = 0; c < 3; c++) {
        const double mean[] = {0.4, 0.5, 0.6}, dev[] = {0.2, 0.3, 0.25};
        /* ((p - m) / s - mean) / dev = (p - (m + s mean)) / (s dev) */
        const double s = (double)norm.std[c], m = (double)norm.mean[c];
        assert_true(fabs(t.p->input.mean[c] - (m + s * mean[c])) < 1e-6);
        assert_true(fabs(t.p->input.std[c] - s * dev[c]) < 1e-6);
    }
    net_release(&t);
    g = import_text(constants);
    g->norm = norm;
    check_net(g, 2e-3);
}

static struct graph *masked_residual(int kind)
{
    struct graph *g = import_text(residual);

    assert_int_equal(mask_insert(g), 0);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = kind == 0 ? 0 : (float)(i * 7 % 3 == 0);
    graph_touch(g);
    return g;
}

static void test_masked_positions_keep_their_sign(void **state)
{
    (void)state;
    check_net(masked_residual(1), 2e-3);
}

static void test_empty_masks_cost_nothing(void **state)
{
    struct net t;

    (void)state;
    net_lower(&t, masked_residual(0));
    assert_int_equal(t.p->relu_layers, 0);
    assert_int_equal(t.p->relus_kept, 0);
    net_release(&t);
    check_net(masked_residual(0), 2e-3);
}

static struct graph *lined_residual(enum removed_kind removed, bool keeps)
{
    struct graph *g = masked_residual(keeps);

    assert_int_equal(line_insert(g, removed), 0);
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];

        for (int64_t c = 0; x->op == &op_masked_relu && c < op_in(g, x, 2)->shape.dim[0]; c++) {
            if (removed == REMOVED_LINE)
                op_in(g, x, 2)->data[c] = 0.9f - 0.15f * (float)c;
            op_in(g, x, 3)->data[c] = 0.25f - 0.1f * (float)c;
        }
    }
    return g;
}

static void test_removed_positions_are_lines(void **state)
{
    struct net t, plain;

    (void)state;
    check_net(lined_residual(REMOVED_HALF, true), 2e-3);
    check_net(lined_residual(REMOVED_LINE, true), 2e-3);
    net_lower(&plain, masked_residual(1));
    net_lower(&t, lined_residual(REMOVED_HALF, true));
    assert_int_equal(t.p->n_step, plain.p->n_step);
    assert_int_equal(t.p->relus_kept, plain.p->relus_kept);
    for (int32_t i = 0; i < t.p->n_step; i++)
        if (t.p->step[i].kind == PLAN_RELU) {
            assert_int_equal(t.p->step[i].u.relu.line_shift, 1);
            assert_int_equal(t.p->step[i].u.relu.n_slope, 0);
        }
    net_release(&t);
    net_release(&plain);
}

/* Sums of a pool have a factor: offsets of lines are in their units. */
static void test_lines_after_a_pool(void **state)
{
    struct graph *g = import_text(oblong);

    (void)state;
    assert_int_equal(mask_insert(g), 0);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = i % 3 == 0;
    assert_int_equal(line_insert(g, REMOVED_HALF), 0);
    for (int32_t n = 0; n < g->n_node; n++)
        for (int64_t c = 0; g->node[n].op == &op_masked_relu && c < 6; c++)
            op_in(g, &g->node[n], 3)->data[c] = 0.5f - 0.2f * (float)c;
    graph_touch(g);
    check_net(g, 2e-3);
}

/* A layer without ReLUs takes any line: into the weights before it, or one step where an Add is. */
static void test_lines_of_empty_layers_publish_nothing(void **state)
{
    struct net t, plain;

    (void)state;
    check_net(lined_residual(REMOVED_LINE, false), 2e-3);
    net_lower(&plain, masked_residual(0));
    net_lower(&t, lined_residual(REMOVED_LINE, false));
    assert_int_equal(t.p->relu_layers, 0);
    assert_int_equal(t.p->n_step, plain.p->n_step + 2); /* the two blocks' ends */
    for (int32_t i = 0; i < t.p->n_step; i++)
        assert_int_not_equal(t.p->step[i].kind, PLAN_RELU);
    net_release(&t);
    net_release(&plain);
}

/* ReLU6 with masks of some positions, all and none; the last one reads the sums of a pool, whose factor
 * is in the cap. */
static const char six[] = "input x [N,3,8,8]\n"
                          "float w1 [8,3,3,3]\nfloat w2 [8,8,3,3]\nfloat w6 [5,8]\nfloat b6 [5]\n"
                          "float k [8,1,1] 20\nfloat lo [] 0\nfloat hi [] 6\n"
                          "a = Conv(x, w1) pads=[1,1,1,1]\na2 = Mul(a, k)\nr1 = Clip(a2, lo, hi)\n"
                          "b = Conv(r1, w2) pads=[1,1,1,1]\ns = Add(b, a2)\nr2 = Clip(s, lo, hi)\n"
                          "c = Conv(r2, w2) pads=[1,1,1,1]\nt = Add(c, a2)\n"
                          "q = AveragePool(t) kernel_shape=[3,3] strides=[2,2]\n"
                          "r3 = Clip(q, lo, hi)\np = GlobalAveragePool(r3)\nf = Flatten(p)\n"
                          "y = Gemm(f, w6, b6) transB=1\noutput y [N,5]\n";

static void test_relu6_is_a_relu_with_a_cap(void **state)
{
    struct graph *g = import_text(six);
    int64_t kept = 0;
    int32_t capped = 0;
    struct net t;

    (void)state;
    check_net(g, 2e-3);
    g = import_text(six);
    assert_int_equal(mask_insert(g), 0);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = (float)(i * 7 % 3 == 0);
    graph_touch(g);
    assert_int_equal(line_insert(g, REMOVED_HALF), 0);
    check_net(g, 2e-3);
    net_lower(&t, import_text(six));
    for (int32_t i = 0; i < t.p->n_step; i++) {
        const struct plan_step *s = &t.p->step[i];

        if (s->kind != PLAN_RELU)
            continue;
        kept += s->u.relu.kept;
        assert_int_equal(s->u.relu.cap, (++capped == 3 ? 9 * 6 : 6) << t.p->scale);
    }
    assert_int_equal(t.p->relus_kept, kept);
    assert_int_equal(plan_all_evaluations(t.p), 2 * kept);
    net_release(&t);
}

static void test_slopes_are_published_on_request_only(void **state)
{
    struct graph *g = lined_residual(REMOVED_LINE, true);
    struct lower_options o = {.n_pixels = 1, .salt = salt};
    float *pixels = mem_array((size_t)shape_elems(&g->value[g->input].shape), sizeof *pixels);
    struct plan *p = NULL;
    struct plan_weights *w = NULL;

    (void)state;
    o.pixels = pixels;
    assert_int_equal(lower(g, &o, &p, &w), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "--publish-slopes"));
    mem_free(pixels);
    graph_free(g);
}

/* The plan says which BN branch it was made from; a graph without branches says nothing. */
static void test_the_branch_is_named(void **state)
{
    struct graph *g = masked_residual(1);
    struct net t;

    (void)state;
    net_lower(&t, masked_residual(1));
    assert_string_equal(t.p->branch, "");
    net_release(&t);
    assert_int_equal(graph_set_meta(g, "linnet.branch", "adv"), 0);
    net_lower(&t, g);
    assert_string_equal(t.p->branch, "adv");
    net_release(&t);
}

/* An identity shortcut is lifted, a projection is not; a block is truncated once. */
static void test_blocks_are_truncated_once(void **state)
{
    struct net t;
    int adds = 0;

    (void)state;
    net_lower(&t, import_text(residual));
    for (int32_t i = 0; i < t.p->n_step; i++) {
        const struct plan_step *s = &t.p->step[i];
        if (s->kind != PLAN_ADD)
            continue;
        adds++;
        assert_true(s->shift > 0);
        for (int k = 0; k < 2; k++)
            for (int32_t j = 0; j < i; j++)
                if (t.p->step[j].out == s->in[k] && t.p->step[j].kind == PLAN_CONV)
                    assert_int_equal(t.p->step[j].shift, 0);
    }
    assert_int_equal(adds, 2);
    net_release(&t);
}

static void test_threads_and_files_change_no_bit(void **state)
{
    char dir[SCRATCH_TEXT], pi[SCRATCH_TEXT], weights[SCRATCH_TEXT];
    float one[IMAGES * 64], many[IMAGES * 64];
    struct pi_model *m = NULL;
    struct net t;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "model.pi", pi);
    scratch_path(dir, "model.pi.weights", weights);
    net_lower(&t, import_text(residual));
    cpu_set_threads(1);
    run_pi(&t, PI_FIXED, one);
    assert_int_equal(plan_write(t.p, t.w, pi, weights), 0);
    assert_int_equal(pi_open(pi, weights, PI_FIXED, &m), 0);
    for (int n = 2; n < 6; n++) {
        cpu_set_threads(n);
        memset(many, 0, sizeof many);
        assert_int_equal(pi_run(m, PI_PIXELS, t.pixels, IMAGES, many), 0);
        assert_memory_equal(one, many, (size_t)(IMAGES * t.k) * sizeof *one);
    }
    cpu_set_threads(0);
    pi_close(m);
    net_release(&t);
    scratch_close(dir);
}

/* The three byte and float forms of one image give the same numbers. */
static void test_inputs_agree(void **state)
{
    enum { N = 2, C = 3, P = 64 };
    uint8_t nchw[N * C * P], nhwc[N * C * P];
    float normal[N * C * P], a[64], b[64], c[64];
    struct rng r = rng_at(3, RNG_TEST, 0, 0);
    struct pi_model *m = NULL;
    struct net t;

    (void)state;
    net_lower(&t, import_text(residual));
    for (int i = 0; i < N * C * P; i++) {
        int image = i / (C * P), ch = i / P % C, p = i % P;
        nchw[i] = (uint8_t)rng_below(&r, 256);
        nhwc[image * C * P + p * C + ch] = nchw[i];
        normal[i] = (float)(nchw[i] / 255.0);
    }
    assert_int_equal(pi_prepare(t.p, t.w, PI_FIXED, &m), 0);
    assert_int_equal(pi_run(m, PI_U8_NCHW, nchw, N, a), 0);
    assert_int_equal(pi_run(m, PI_U8_NHWC, nhwc, N, b), 0);
    assert_int_equal(pi_run(m, PI_NORMALIZED, normal, N, c), 0);
    assert_memory_equal(a, b, (size_t)(N * t.k) * sizeof *a);
    assert_memory_equal(a, c, (size_t)(N * t.k) * sizeof *a);
    assert_int_equal(pi_run(m, PI_PIXELS, normal, N, c), 0);
    assert_memory_equal(a, c, (size_t)(N * t.k) * sizeof *a);
    normal[P * C + 1] = 1.0001f; /* more than rounding */
    assert_int_equal(pi_run(m, PI_PIXELS, normal, N, c), ERR_DATA);
    assert_non_null(strstr(err_message(), "--input-kind normalized"));
    normal[P * C + 1] = NAN;
    assert_int_equal(pi_run(m, PI_NORMALIZED, normal, N, c), ERR_DATA);
    assert_non_null(strstr(err_message(), "image 1"));
    normal[P * C + 1] = 1.5f; /* beyond what a pixel can be */
    assert_int_equal(pi_run(m, PI_NORMALIZED, normal, N, c), ERR_DATA);
    pi_close(m);
    net_release(&t);
}

/* Pixels that miss [0,1] by rounding are put back: beyond the calibrated range they would be refused. */
static void test_pixels_are_put_back_into_their_range(void **state)
{
    float exact[IMAGES * 64], rounded[IMAGES * 64];
    struct net t;

    (void)state;
    net_lower(&t, import_text(residual));
    t.pixels[0] = 1;
    t.pixels[1] = 0;
    run_pi(&t, PI_FIXED, exact);
    t.pixels[0] = 1 + 5e-6f;
    t.pixels[1] = -5e-6f;
    run_pi(&t, PI_FIXED, rounded);
    assert_memory_equal(exact, rounded, (size_t)(IMAGES * t.k) * sizeof *exact);
    net_release(&t);
}

struct images {
    const float *pixels;
    int64_t size, most; /* most: that were asked for at once */
};

static int read_images(const void *ctx, int64_t first, int64_t n, float *out)
{
    struct images *im = (struct images *)(uintptr_t)ctx;

    im->most = n > im->most ? n : im->most;
    memcpy(out, im->pixels + first * im->size, (size_t)(n * im->size) * sizeof *out);
    return 0;
}

static int read_nothing(const void *ctx, int64_t first, int64_t n, float *out)
{
    (void)ctx, (void)first, (void)n, (void)out;
    return ERR_DATA;
}

/* Images that are read a few at a time calibrate like those that lie in memory; a failure ends it. */
static void test_calibration_images_may_be_read(void **state)
{
    struct net t;
    struct plan *p = NULL;
    struct plan_weights *w = NULL;
    uint8_t *a = NULL, *b = NULL;
    size_t na, nb;

    (void)state;
    net_lower(&t, import_text(residual));
    struct images im = {t.pixels, shape_elems(&t.g->value[t.g->input].shape), 0};
    struct lower_options o = {.n_pixels = IMAGES,
                              .read = read_images,
                              .images = &im,
                              .salt = salt,
                              .publish_slopes = true};
    assert_int_equal(lower(t.g, &o, &p, &w), 0);
    assert_in_range(im.most, 1, 32);
    assert_int_equal(plan_bytes(t.p, &a, &na), 0);
    assert_int_equal(plan_bytes(p, &b, &nb), 0);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    assert_string_equal(t.w->maxima, w->maxima);
    mem_free(a);
    mem_free(b);
    plan_free(p);
    plan_weights_free(w);
    o.read = read_nothing;
    assert_int_equal(lower(t.g, &o, &p, &w), ERR_DATA);
    net_release(&t);
}

static void test_same_salt_gives_the_same_package(void **state)
{
    struct net a, b;
    uint8_t *x, *y;
    size_t n, k;

    (void)state;
    net_lower(&a, import_text(residual));
    net_lower(&b, import_text(residual));
    assert_int_equal(plan_bytes(a.p, &x, &n), 0);
    assert_int_equal(plan_bytes(b.p, &y, &k), 0);
    assert_int_equal(n, k);
    assert_memory_equal(x, y, n);
    mem_free(x);
    mem_free(y);
    net_release(&a);
    net_release(&b);
}

/* Two models that differ in weight values only: the public files differ in the listed fields only
 * (commitment, model id, scales, m and maxima, failure bound). Those are blanked here. */
static void blank_values(struct plan *p)
{
    memset(p->commitment, 0, sizeof p->commitment);
    p->model_id = "";
    p->failure_log2 = 0;
    for (int32_t i = 0; i < p->n_tensor; i++)
        p->tensor[i].scale = p->tensor[i].max_log2 = 0;
    for (int32_t i = 0; i < p->n_step; i++) {
        struct plan_step *s = &p->step[i];
        s->shift = s->input_shift[0] = s->input_shift[1] = 0;
        if (s->kind == PLAN_CONV || s->kind == PLAN_GEMM)
            s->u.linear.weight_scale = 0;
        else if (s->kind == PLAN_RELU)
            s->u.relu.width = 0;
    }
}

static void assert_same_public_part(const struct plan *a, const struct plan *b)
{
    assert_int_equal(a->n_tensor, b->n_tensor);
    assert_int_equal(a->n_step, b->n_step);
    assert_memory_equal(a->tensor, b->tensor, (size_t)a->n_tensor * sizeof *a->tensor);
    for (int32_t i = 0; i < a->n_step; i++) {
        const struct plan_step *s = &a->step[i], *t = &b->step[i];
        assert_string_equal(s->name, t->name);
        assert_true(s->kind == t->kind && s->n_in == t->n_in && s->out == t->out);
        assert_memory_equal(s->in, t->in, sizeof s->in);
        assert_int_equal(s->shift, t->shift);
        if (s->kind == PLAN_RELU)
            assert_memory_equal(s->u.relu.index, t->u.relu.index, (size_t)s->u.relu.kept * 4);
        else
            assert_memory_equal(&s->u, &t->u, sizeof s->u);
    }
    assert_memory_equal(&a->input.mean, &b->input.mean, sizeof a->input.mean);
    assert_string_equal(a->input.name, b->input.name);
    assert_true(a->macs == b->macs && a->relus == b->relus && a->relu_layers == b->relu_layers);
}

static void test_weight_values_show_in_listed_fields_only(void **state)
{
    struct graph *other = masked_residual(1);
    struct rng r = rng_at(11, RNG_TEST, 0, 0);
    struct net a, b;

    (void)state;
    for (int64_t i = 0; i < other->n_params; i++)
        other->params[i] = 3 * rng_normal(&r);
    graph_touch(other);
    net_lower(&a, masked_residual(1));
    net_lower(&b, other);
    blank_values(a.p);
    blank_values(b.p);
    assert_same_public_part(a.p, b.p);
    net_release(&a);
    net_release(&b);
}

/* Weights multiplied by powers of two far apart still use 13 to 15 bits each. */
static void test_weight_scales_follow_the_layer(void **state)
{
    static const char text[] = "input x [N,2,2,2]\nfloat w [3,2,2,2] 20 -20 3 7\n"
                               "float v [4,3] 0.001 -0.002 0.0015\n"
                               "c = Conv(x, w)\nf = Flatten(c)\n"
                               "y = Gemm(f, v) transB=1\noutput y [N,4]\n";
    struct net t;

    (void)state;
    net_lower(&t, import_text(text));
    assert_int_equal(t.p->step[0].u.linear.weight_scale, 10);
    assert_int_equal(t.p->step[2].u.linear.weight_scale, 22);
    net_release(&t);
}

/* 1.99998 is 32767.7 units of 2^-14, which 16 bits round to a negative number: 2^-13 it is. */
static void test_the_largest_weight_fits(void **state)
{
    static const char text[] = "input x [N,1,1,1]\nfloat w [3,1,1,1] 1.99998 -1.99998 1\n"
                               "c = Conv(x, w)\ny = Flatten(c)\noutput y [N,3]\n";
    struct net t;

    (void)state;
    net_lower(&t, import_text(text));
    assert_int_equal(t.p->step[0].u.linear.weight_scale, 13);
    assert_int_equal(t.w->matrix[0].weight[0], 16384);
    assert_int_equal(t.w->matrix[0].weight[1], -16384);
    net_release(&t);
}

/* A comparison of two values needs one bit more than each: sign, difference, integer bits, f = 12, margin 2;
 * rounded up to 4q + 1. */
static void test_maxima_compare_differences(void **state)
{
    (void)state;
    for (int k = 0; k < 8; k++) {
        char text[256];
        struct net t;
        int32_t bits, width = 0;

        snprintf(text, sizeof text,
                 "input x [N,1,4,4]\nfloat w [1,1,1,1] %d\nc = Conv(x, w)\n"
                 "m = MaxPool(c) kernel_shape=[4,4]\ny = Flatten(m)\noutput y [N,1]\n",
                 1 << k);
        net_lower(&t, import_text(text));
        for (int32_t i = 0; i < t.p->n_step; i++)
            if (t.p->step[i].kind == PLAN_MAX_POOL)
                width = t.p->step[i].u.pool.width;
        bits = 1 + 1 + k + 12 + 2; /* pixels of almost 1: values up to 2^k */
        assert_int_equal(width, bits < 21 ? 21 : (bits + 2) / 4 * 4 + 1);
        net_release(&t);
    }
}

/* ---- a real network ----------------------------------------------------------------------- */

enum { REAL_IMAGES = 64, REAL_PIXELS = 3072, REAL_RECORD = 3073 };

static int64_t top(const float *logits, int64_t k)
{
    int64_t best = 0;

    for (int64_t i = 1; i < k; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* Compares label by label, with real pixels of the CIFAR-10 test set. */
static void check_real(struct graph *g, const uint8_t *records)
{
    struct lower_options o = {.n_pixels = REAL_IMAGES, .salt = salt};
    float *x = mem_array(REAL_IMAGES * REAL_PIXELS, sizeof *x);
    float want[REAL_IMAGES * 10], got[REAL_IMAGES * 10];
    struct net t = {.g = g, .k = 10};
    struct pi_model *m = NULL;
    struct exec *e = NULL;
    int same = 0;

    assert_non_null(x);
    for (int i = 0; i < REAL_IMAGES * REAL_PIXELS; i++)
        x[i] = (float)records[i / REAL_PIXELS * REAL_RECORD + 1 + i % REAL_PIXELS] / 255.0f;
    o.pixels = x;
    assert_int_equal(lower(g, &o, &t.p, &t.w), 0);
    assert_int_equal(exec_new(g, EXEC_INFER, REAL_IMAGES, NULL, 0, &e), 0);
    assert_int_equal(exec_infer(e, x, REAL_IMAGES, 0, want), 0);
    assert_int_equal(pi_prepare(t.p, t.w, PI_FIXED, &m), 0);
    assert_int_equal(pi_run(m, PI_PIXELS, x, REAL_IMAGES, got), 0);
    for (int i = 0; i < REAL_IMAGES; i++)
        same += top(want + 10 * i, 10) == top(got + 10 * i, 10);
    assert_true(same >= REAL_IMAGES - 1);
    assert_close("resnet8", want, got, REAL_IMAGES * 10, 5e-3);
    pi_close(m);
    exec_free(e);
    mem_free(x);
    net_release(&t);
}

static void test_real_network_keeps_its_labels(void **state)
{
    char model[SCRATCH_TEXT], data[SCRATCH_TEXT];
    struct graph *g = NULL;
    struct file_map map;

    (void)state;
    if (scratch_shared("models/resnet8_mlperftiny_bn.onnx", model) == NULL ||
        scratch_shared("data/cifar10/test_batch.bin", data) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    if (onnx_import(model, NULL, NULL, &g) < 0)
        fail_msg("%s", err_message());
    g->norm = (struct input_norm){3, {0}, {1 / 255.0f, 1 / 255.0f, 1 / 255.0f}};
    assert_int_equal(file_map_open(data, &map), 0);
    assert_true(map.len >= REAL_IMAGES * REAL_RECORD);
    check_real(g, map.data);
    file_map_close(&map);
}

/* ---- refusals ----------------------------------------------------------------------------- */

/* by_form: lower_check sees it too */
static void assert_lower_refuses(const char *text, const char *part, bool by_form)
{
    struct graph *g = import_text(text);
    struct lower_options o = {.n_pixels = 1, .salt = salt};
    float *pixels = mem_array((size_t)shape_elems(&g->value[g->input].shape), sizeof *pixels);
    struct plan *p = NULL;
    struct plan_weights *w = NULL;

    o.pixels = pixels;
    assert_int_equal(lower(g, &o, &p, &w), ERR_UNSUPPORTED);
    if (strstr(err_message(), part) == NULL)
        fail_msg("'%s' does not hold '%s'", err_message(), part);
    assert_int_equal(lower_check(g), by_form ? ERR_UNSUPPORTED : 0);
    if (by_form)
        assert_non_null(strstr(err_message(), part));
    mem_free(pixels);
    graph_free(g);
}

#define HEAD "input x [N,2,4,4]\nfloat w [2,2,3,3]\nc = Conv(x, w) pads=[1,1,1,1]\n"
#define TAIL "p = GlobalAveragePool(d)\ny = Flatten(p)\noutput y [N,2]\n"

static void test_what_cannot_run_privately_is_named(void **state)
{
    (void)state;
    assert_lower_refuses(HEAD "m: d = Mul(c, x)\n" TAIL, "node 'm' (Mul)", true);
    assert_lower_refuses(HEAD "m: d = MaxPool(c) kernel_shape=[2,2] dilations=[2,2]\n" TAIL,
                         "dilated", true);
    assert_lower_refuses(HEAD "float k [2,4,4]\nm: d = Add(c, k)\n" TAIL, "one number a channel",
                         false);
    assert_lower_refuses(HEAD "m: d = AveragePool(c) kernel_shape=[3,3] pads=[1,1,1,1]\n" TAIL,
                         "another divisor", false);
}

static void test_options_are_checked(void **state)
{
    struct graph *g = import_text(residual);
    struct lower_options o = {.n_pixels = 0};
    struct plan *p = NULL;
    struct plan_weights *w = NULL;

    (void)state;
    assert_int_equal(lower_check(g), 0);
    assert_int_equal(lower(g, &o, &p, &w), ERR_ARG);
    o.n_pixels = 1;
    o.scale = 20;
    assert_int_equal(lower(g, &o, &p, &w), ERR_ARG);
    graph_free(g);
}

/* ---- truncations that fail ----------------------------------------------------------------- */

static int lower_within(struct graph *g, struct net *t, double most, struct lower_failure *f)
{
    struct lower_options o = {
        .n_pixels = IMAGES, .salt = salt, .pixels = t->pixels, .max_failure = most, .failure = f};

    plan_free(t->p);
    plan_weights_free(t->w);
    t->p = NULL;
    t->w = NULL;
    return lower(g, &o, &t->p, &t->w);
}

static void test_weights_lose_bits_where_truncation_fails_too_often(void **state)
{
    float want[IMAGES * 64], fixed[IMAGES * 64];
    struct lower_failure f, g;
    struct net t;

    (void)state;
    net_lower(&t, import_text(residual));
    assert_int_equal(lower_within(t.g, &t, 0, &f), 0);
    assert_int_equal(f.trimmed, 0);
    assert_true(f.bound == f.untrimmed && f.calibrated < f.bound / 2);
    assert_true(f.calibrated > f.bound / 8); /* at most a power of two each, and the spare bit */
    assert_true(ldexp(1, t.p->failure_log2) >= f.bound);
    assert_true(ldexp(1, t.p->failure_log2 - 1) < f.bound * 1.0001);

    for (double part = 2; part <= 32; part *= 2) {
        assert_int_equal(lower_within(t.g, &t, f.bound / part, &g), 0);
        assert_true(g.trimmed > 0 && g.untrimmed == f.bound);
        assert_true(g.bound <= f.bound / part && g.bound > f.bound / part / 4);
        assert_true(plan_failure(t.p, NULL) == g.bound);
        check_fixed_is_exact(&t);
        run_exec(&t, t.g, want);
        run_pi(&t, PI_FIXED, fixed);
        assert_close("fewer bits", want, fixed, IMAGES * t.k, 0.002 * part);
    }
    assert_int_equal(lower_within(t.g, &t, f.bound * 1e-6, &g), ERR_GOAL);
    assert_non_null(strstr(err_message(), "--max-failure"));
    net_release(&t);
}

/* The formula itself: local truncation of shares of one value, many times. */
static void test_truncations_fail_as_often_as_stated(void **state)
{
    const int64_t n = 1 << 20;

    (void)state;
    for (int sign = -1; sign <= 1; sign += 2) {
        const int64_t x = sign * ((int64_t)3 << 53); /* 3/2048 of the ring */
        struct rng r = rng_at(11, RNG_TEST, 0, 0);
        int64_t failed = 0;
        for (int64_t i = 0; i < n; i++) {
            uint64_t s = (uint64_t)rng_u32(&r) << 32 | rng_u32(&r), u = (uint64_t)x - s;
            int64_t y = (int64_t)((s >> 12) - ((0 - u) >> 12)) - (x >> 12);
            failed += y != 0 && y != 1;
        }
        double want = (double)n * 3 / 2048, sigma = sqrt(want);
        assert_true(fabs((double)failed - want) < 5 * sigma);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_residual_blocks),
        cmocka_unit_test(test_strided_slice_and_channel_padding),
        cmocka_unit_test(test_norm_before_convolution_and_pools),
        cmocka_unit_test(test_constants_groups_and_softmax_tail),
        cmocka_unit_test(test_masked_positions_keep_their_sign),
        cmocka_unit_test(test_empty_masks_cost_nothing),
        cmocka_unit_test(test_oblong_windows),
        cmocka_unit_test(test_two_normalisations_become_one),
        cmocka_unit_test(test_lines_after_a_pool),
        cmocka_unit_test(test_the_largest_weight_fits),
        cmocka_unit_test(test_maxima_compare_differences),
        cmocka_unit_test(test_removed_positions_are_lines),
        cmocka_unit_test(test_lines_of_empty_layers_publish_nothing),
        cmocka_unit_test(test_relu6_is_a_relu_with_a_cap),
        cmocka_unit_test(test_slopes_are_published_on_request_only),
        cmocka_unit_test(test_the_branch_is_named),
        cmocka_unit_test(test_blocks_are_truncated_once),
        cmocka_unit_test(test_threads_and_files_change_no_bit),
        cmocka_unit_test(test_inputs_agree),
        cmocka_unit_test(test_pixels_are_put_back_into_their_range),
        cmocka_unit_test(test_calibration_images_may_be_read),
        cmocka_unit_test(test_same_salt_gives_the_same_package),
        cmocka_unit_test(test_weight_values_show_in_listed_fields_only),
        cmocka_unit_test(test_weight_scales_follow_the_layer),
        cmocka_unit_test(test_real_network_keeps_its_labels),
        cmocka_unit_test(test_what_cannot_run_privately_is_named),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_weights_lose_bits_where_truncation_fails_too_often),
        cmocka_unit_test(test_truncations_fail_as_often_as_stated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
