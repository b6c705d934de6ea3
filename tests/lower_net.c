/* The network of the tests of exporter/lower (lower_net.h). */
#include "tests/lower_net.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "core/exec/exec.h"
#include "core/graph/rng.h"
#include "core/op/op.h"
#include "exporter/lower/lower.h"
#include "importer/importer.h"
#include "tests/onnx_make.h"
#include "tests/plan_naive.h"

const char net_residual[] = "input x [N,3,8,8]\n"
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

struct graph *net_import(const char *text)
{
    struct onnx_make *mk = onnx_make_new(13, text);
    struct graph *g = NULL;

    onnx_make_pack(mk);
    if (onnx_import_bytes(mk->bytes, mk->len, -1, NULL, NULL, &g) < 0)
        fail_msg("%s", err_message());
    onnx_make_free(mk);
    return g;
}

const uint8_t net_salt[PLAN_SALT] = {1, 2, 3};

void net_lower(struct net *t, struct graph *g)
{
    struct lower_options o = {.n_pixels = NET_IMAGES, .salt = net_salt, .publish_slopes = true};
    int64_t n = NET_IMAGES * shape_elems(&g->value[g->input].shape);
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

void net_release(struct net *t)
{
    plan_free(t->p);
    plan_weights_free(t->w);
    graph_free(t->g);
    mem_free(t->pixels);
}

void net_exec(const struct net *t, struct graph *g, float *y)
{
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, NET_IMAGES, NULL, &e), 0);
    assert_int_equal(exec_infer(e, t->pixels, NET_IMAGES, 0, y), 0);
    exec_free(e);
}

void net_pi(const struct net *t, enum pi_mode mode, float *y)
{
    struct pi_model *m = NULL;

    assert_int_equal(pi_prepare(t->p, t->w, mode, &m), 0);
    assert_int_equal(pi_classes(m), t->k);
    assert_int_equal(pi_run(m, PI_PIXELS, t->pixels, NET_IMAGES, y), 0);
    pi_close(m);
}

static float largest_of(const float *v, int64_t n)
{
    float m = 0;

    for (int64_t i = 0; i < n; i++)
        m = fmaxf(m, fabsf(v[i]));
    return m;
}

void net_assert_close(const char *what, const float *a, const float *b, int64_t n, double tol)
{
    float scale = largest_of(a, n);

    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tol * (double)scale))
            fail_msg("%s: %g and %g at %lld (largest %g)", what, (double)a[i], (double)b[i],
                     (long long)i, (double)scale);
}

void net_assert_exact(const struct net *t)
{
    int64_t want[NET_OUTPUTS], got[NET_IMAGES * NET_OUTPUTS];
    int64_t image = t->p->tensor[0].count;
    struct pi_model *m = NULL;

    assert_true(t->k <= NET_OUTPUTS);
    assert_int_equal(pi_prepare(t->p, t->w, PI_FIXED, &m), 0);
    assert_int_equal(pi_run_fixed(m, PI_PIXELS, t->pixels, NET_IMAGES, got), 0);
    for (int64_t i = 0; i < NET_IMAGES; i++) {
        plan_naive(t->p, t->w, t->pixels + i * image, want);
        for (int64_t k = 0; k < t->k; k++)
            assert_int_equal(got[i * t->k + k], want[k]);
    }
    pi_close(m);
}

struct graph *net_masked(int kind)
{
    struct graph *g = net_import(net_residual);

    assert_int_equal(mask_insert(g), 0);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = kind == 0 ? 0 : (float)(i * 7 % 3 == 0);
    graph_touch(g);
    return g;
}

struct graph *net_lined(enum removed_kind removed, bool keeps)
{
    struct graph *g = net_masked(keeps);

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
