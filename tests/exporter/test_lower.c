/*
 * exporter/lower and runtime/eval: small networks with every form that can be lowered, and what is refused. The
 * program on real numbers differs from the executor by the rounding of weights only, the program in Z_2^64 by
 * the truncations on top; a naive 64-bit interpreter of the plan gives the same integers.
 */
#include "exporter/lower/lower.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/exec/exec.h"
#include "importer/importer.h"
#include "tests/lower_net.h"
#include "tests/scratch.h"

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

/* g: consumed. reference: what the executor runs, g itself unless a Softmax was dropped. */
static void check_net(struct graph *g, double tol)
{
    float want[NET_IMAGES * NET_OUTPUTS], real[NET_IMAGES * NET_OUTPUTS],
        fixed[NET_IMAGES * NET_OUTPUTS];
    struct graph *reference = NULL;
    struct net t;

    assert_int_equal(graph_clone(g, &reference), 0);
    assert_int_equal(lower_prepare(reference), 0);
    net_lower(&t, g);
    net_exec(&t, reference, want);
    net_pi(&t, PI_FLOAT, real);
    net_pi(&t, PI_FIXED, fixed);
    net_assert_close("float", want, real, NET_IMAGES * t.k, tol);
    net_assert_close("fixed", want, fixed, NET_IMAGES * t.k, 2 * tol);
    assert_memory_not_equal(real, fixed, (size_t)(NET_IMAGES * t.k) * sizeof *real);
    net_assert_exact(&t);
    graph_free(reference);
    net_release(&t);
}

static void test_residual_blocks(void **state)
{
    (void)state;
    check_net(net_import(net_residual), 2e-3);
}

static void test_strided_slice_and_channel_padding(void **state)
{
    (void)state;
    check_net(net_import(shortcut_a), 2e-3);
}

static void test_norm_before_convolution_and_pools(void **state)
{
    (void)state;
    check_net(net_import(preactivation), 2e-3);
}

static void test_constants_groups_and_softmax_tail(void **state)
{
    struct graph *g = net_import(constants);
    struct net t;

    (void)state;
    net_lower(&t, g);
    assert_true(fabs(t.p->input.mean[1] - 0.5) < 1e-6 && fabs(t.p->input.std[1] - 0.3) < 1e-6);
    assert_int_equal(t.p->n_note, 1);
    net_release(&t);
    check_net(net_import(constants), 2e-3);
}

static void test_oblong_windows(void **state)
{
    (void)state;
    check_net(net_import(oblong), 2e-3);
}

/* A normalisation of the file's metadata and one in the graph: both are in the plan's. */
static void test_two_normalisations_become_one(void **state)
{
    const struct input_norm norm = {3, {0.1f, 0.2f, 0.3f}, {0.5f, 0.25f, 2}};
    struct graph *g = net_import(constants);
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
    g = net_import(constants);
    g->norm = norm;
    check_net(g, 2e-3);
}

static void test_masked_positions_keep_their_sign(void **state)
{
    (void)state;
    check_net(net_masked(1), 2e-3);
}

static void test_empty_masks_cost_nothing(void **state)
{
    struct net t;

    (void)state;
    net_lower(&t, net_masked(0));
    assert_int_equal(t.p->relu_layers, 0);
    assert_int_equal(t.p->relus_kept, 0);
    net_release(&t);
    check_net(net_masked(0), 2e-3);
}

static void test_removed_positions_are_lines(void **state)
{
    struct net t, plain;

    (void)state;
    check_net(net_lined(REMOVED_HALF, true), 2e-3);
    check_net(net_lined(REMOVED_LINE, true), 2e-3);
    net_lower(&plain, net_masked(1));
    net_lower(&t, net_lined(REMOVED_HALF, true));
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
    struct graph *g = net_import(oblong);

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
    check_net(net_lined(REMOVED_LINE, false), 2e-3);
    net_lower(&plain, net_masked(0));
    net_lower(&t, net_lined(REMOVED_LINE, false));
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
    struct graph *g = net_import(six);
    int64_t kept = 0;
    int32_t capped = 0;
    struct net t;

    (void)state;
    check_net(g, 2e-3);
    g = net_import(six);
    assert_int_equal(mask_insert(g), 0);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = (float)(i * 7 % 3 == 0);
    graph_touch(g);
    assert_int_equal(line_insert(g, REMOVED_HALF), 0);
    check_net(g, 2e-3);
    net_lower(&t, net_import(six));
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

/* An identity shortcut is lifted, a projection is not; a block is truncated once. */
static void test_blocks_are_truncated_once(void **state)
{
    struct net t;
    int adds = 0;

    (void)state;
    net_lower(&t, net_import(net_residual));
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
    struct lower_options o = {.n_pixels = REAL_IMAGES, .salt = net_salt};
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
    assert_int_equal(exec_new(g, EXEC_INFER, REAL_IMAGES, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, REAL_IMAGES, 0, want), 0);
    assert_int_equal(pi_prepare(t.p, t.w, PI_FIXED, &m), 0);
    assert_int_equal(pi_run(m, PI_PIXELS, x, REAL_IMAGES, got), 0);
    for (int i = 0; i < REAL_IMAGES; i++)
        same += top(want + 10 * i, 10) == top(got + 10 * i, 10);
    assert_true(same >= REAL_IMAGES - 1);
    net_assert_close("resnet8", want, got, REAL_IMAGES * 10, 5e-3);
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
    struct graph *g = net_import(text);
    struct lower_options o = {.n_pixels = 1, .salt = net_salt};
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
        cmocka_unit_test(test_removed_positions_are_lines),
        cmocka_unit_test(test_lines_of_empty_layers_publish_nothing),
        cmocka_unit_test(test_relu6_is_a_relu_with_a_cap),
        cmocka_unit_test(test_blocks_are_truncated_once),
        cmocka_unit_test(test_real_network_keeps_its_labels),
        cmocka_unit_test(test_what_cannot_run_privately_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
