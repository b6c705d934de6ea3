/*
 * exporter/lower, the package: what of the weights shows in the public file, options, images that calibrate and
 * images that are asked about, scales and widths, and how often truncation fails.
 */
#include "exporter/lower/lower.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "tests/lower_net.h"
#include "tests/scratch.h"

static void test_slopes_are_published_on_request_only(void **state)
{
    struct graph *g = net_lined(REMOVED_LINE, true);
    struct lower_options o = {.n_pixels = 1, .salt = net_salt};
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
    struct graph *g = net_masked(1);
    struct net t;

    (void)state;
    net_lower(&t, net_masked(1));
    assert_string_equal(t.p->branch, "");
    net_release(&t);
    assert_int_equal(graph_set_meta(g, "linnet.branch", "adv"), 0);
    net_lower(&t, g);
    assert_string_equal(t.p->branch, "adv");
    net_release(&t);
}

static void test_threads_and_files_change_no_bit(void **state)
{
    char dir[SCRATCH_TEXT], pi[SCRATCH_TEXT], weights[SCRATCH_TEXT];
    float one[NET_IMAGES * NET_OUTPUTS], many[NET_IMAGES * NET_OUTPUTS];
    struct pi_model *m = NULL;
    struct net t;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "model.pi", pi);
    scratch_path(dir, "model.pi.weights", weights);
    net_lower(&t, net_import(net_residual));
    cpu_set_threads(1);
    net_pi(&t, PI_FIXED, one);
    assert_int_equal(plan_write(t.p, t.w, pi, weights), 0);
    assert_int_equal(pi_open(pi, weights, PI_FIXED, &m), 0);
    for (int n = 2; n < 6; n++) {
        cpu_set_threads(n);
        memset(many, 0, sizeof many);
        assert_int_equal(pi_run(m, PI_PIXELS, t.pixels, NET_IMAGES, many), 0);
        assert_memory_equal(one, many, (size_t)(NET_IMAGES * t.k) * sizeof *one);
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
    net_lower(&t, net_import(net_residual));
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
    float exact[NET_IMAGES * NET_OUTPUTS], rounded[NET_IMAGES * NET_OUTPUTS];
    struct net t;

    (void)state;
    net_lower(&t, net_import(net_residual));
    t.pixels[0] = 1;
    t.pixels[1] = 0;
    net_pi(&t, PI_FIXED, exact);
    t.pixels[0] = 1 + 5e-6f;
    t.pixels[1] = -5e-6f;
    net_pi(&t, PI_FIXED, rounded);
    assert_memory_equal(exact, rounded, (size_t)(NET_IMAGES * t.k) * sizeof *exact);
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
    net_lower(&t, net_import(net_residual));
    struct images im = {t.pixels, shape_elems(&t.g->value[t.g->input].shape), 0};
    struct lower_options o = {.n_pixels = NET_IMAGES,
                              .read = read_images,
                              .images = &im,
                              .salt = net_salt,
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
    net_lower(&a, net_import(net_residual));
    net_lower(&b, net_import(net_residual));
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
    struct graph *other = net_masked(1);
    struct rng r = rng_at(11, RNG_TEST, 0, 0);
    struct net a, b;

    (void)state;
    for (int64_t i = 0; i < other->n_params; i++)
        other->params[i] = 3 * rng_normal(&r);
    graph_touch(other);
    net_lower(&a, net_masked(1));
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
    net_lower(&t, net_import(text));
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
    net_lower(&t, net_import(text));
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
        net_lower(&t, net_import(text));
        for (int32_t i = 0; i < t.p->n_step; i++)
            if (t.p->step[i].kind == PLAN_MAX_POOL)
                width = t.p->step[i].u.pool.width;
        bits = 1 + 1 + k + 12 + 2; /* pixels of almost 1: values up to 2^k */
        assert_int_equal(width, bits < 21 ? 21 : (bits + 2) / 4 * 4 + 1);
        net_release(&t);
    }
}

static void test_options_are_checked(void **state)
{
    struct graph *g = net_import(net_residual);
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
    struct lower_options o = {.n_pixels = NET_IMAGES,
                              .salt = net_salt,
                              .pixels = t->pixels,
                              .max_failure = most,
                              .failure = f};

    plan_free(t->p);
    plan_weights_free(t->w);
    t->p = NULL;
    t->w = NULL;
    return lower(g, &o, &t->p, &t->w);
}

static void test_weights_lose_bits_where_truncation_fails_too_often(void **state)
{
    float want[NET_IMAGES * NET_OUTPUTS], fixed[NET_IMAGES * NET_OUTPUTS];
    struct lower_failure f, g;
    struct net t;

    (void)state;
    net_lower(&t, net_import(net_residual));
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
        net_assert_exact(&t);
        net_exec(&t, t.g, want);
        net_pi(&t, PI_FIXED, fixed);
        net_assert_close("fewer bits", want, fixed, NET_IMAGES * t.k, 0.002 * part);
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
        cmocka_unit_test(test_the_largest_weight_fits),
        cmocka_unit_test(test_maxima_compare_differences),
        cmocka_unit_test(test_slopes_are_published_on_request_only),
        cmocka_unit_test(test_the_branch_is_named),
        cmocka_unit_test(test_threads_and_files_change_no_bit),
        cmocka_unit_test(test_inputs_agree),
        cmocka_unit_test(test_pixels_are_put_back_into_their_range),
        cmocka_unit_test(test_calibration_images_may_be_read),
        cmocka_unit_test(test_same_salt_gives_the_same_package),
        cmocka_unit_test(test_weight_values_show_in_listed_fields_only),
        cmocka_unit_test(test_weight_scales_follow_the_layer),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_weights_lose_bits_where_truncation_fails_too_often),
        cmocka_unit_test(test_truncations_fail_as_often_as_stated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
