/*
 * Import: every form of a partial ReLU becomes one node with one mask, and computes the same.
 * Models are texts (onnx_make.h).
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/op/op.h"
#include "importer/importer.h"
#include "tests/import_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* x [N,2,2,2] through the statements to t; the only site has this mask and name. */
static void check_site(int64_t opset, const char *statements, const char *site, const float *want,
                       bool relu6)
{
    char text[4096], mask[64];

    snprintf(text, sizeof text,
             "input x [N,2,2,2]\nfloat w [2,2,1,1]\nc = Conv(x, w)\n%s\n"
             "y = Flatten(t)\noutput y\n",
             statements);
    struct graph *g = import_text(opset, text);
    assert_int_equal(g->n_node, 3);
    const struct node *n = node_at(g, 1, "MaskedRelu");
    assert_string_equal(n->name, site);
    assert_string_equal(g->value[n->out[0]].name, "t");
    assert_int_equal(n->in[0], node_at(g, 0, "Conv")->out[0]);
    assert_int_equal(n->p.masked_relu.soft, 0);
    assert_int_equal(n->p.masked_relu.relu6, relu6);
    snprintf(mask, sizeof mask, "%s.mask", site);
    assert_string_equal(op_in(g, n, 1)->name, mask);
    assert_int_equal(op_in(g, n, 1)->kind, VALUE_MASK);
    assert_shape(&op_in(g, n, 1)->shape, "[2,2,2]");
    assert_floats(op_in(g, n, 1)->data, want, 8);
    assert_int_equal(g->n_masks, 8);
    graph_free(g);
}

static void check_mask(int64_t opset, const char *statements, const char *site, const float *want)
{
    check_site(opset, statements, site, want, false);
}

static void check_relu6(const char *statements, const char *site, const float *want)
{
    char text[2048];

    snprintf(text, sizeof text, "float lo [] 0\nfloat hi [] 6\n%s", statements);
    check_site(17, text, site, want, true);
}

static void test_where_forms_become_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1}, channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17,
               "bool m [1,2,2,2] 1 0 1 1 0 0 0 1\ns/Relu: r = Relu(c)\ns/Where: t = Where(m, r, c)",
               "s", mixed);
    check_mask(17, "bool m [2,2,2] 0 1 0 0 1 1 1 0\nr = Relu(c)\nt = Where(m, c, r)", "t", mixed);
    check_mask(17, "bool m [1,2,1,1] 1 0\nr = Relu(c)\nsite: t = Where(m, r, c)", "site", channel);
    check_mask(17,
               "float f [1,2,1,1] 2 0\nm = Cast(f) to=9\nr = Relu(c)\ns/Where: t = Where(m, r, c)",
               "s", channel);
    check_mask(17,
               "float f [1,2,1,1] 2 0\nfloat h [1] 1\nm = Greater(f, h)\nn = Not(m)\n"
               "z = Constant() value=f{0}\nr = Clip(c, z)\ns/Where: t = Where(n, c, r)",
               "s", channel);
}

static void test_prelu_forms_become_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1}, channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17, "float s [2,2,2] 0 1 0 0 1 1 1 0\ns/PRelu: t = PRelu(c, s)", "s", mixed);
    check_mask(17, "float s [2,1,1] 0 1\nt = PRelu(c, s)", "t", channel);
}

static void test_sum_forms_become_masked_relu(void **state)
{
    const float channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_mask(17,
               "float m [1,2,1,1] 1 0\nfloat one [] 1\nn = Sub(one, m)\nr = Relu(c)\n"
               "a = Mul(m, r)\nb = Mul(n, c)\ns/Add: t = Add(a, b)",
               "s", channel);
    check_mask(17,
               "float m [2,1,1] 1 0\nfloat n [2,1,1] 0 1\nr = Relu(c)\n"
               "b = Mul(c, n)\na = Mul(r, m)\nt = Add(b, a)",
               "t", channel);
    /* soft factors are no mask: the nodes stay */
    struct graph *g = import_image(17, "float w [2,2,1,1]\nc = Conv(x, w)\nfloat m [] 0.5\n"
                                       "r = Relu(c)\na = Mul(m, r)\nb = Mul(m, c)\nt = Add(a, b)");
    assert_int_equal(g->n_node, 6);
    graph_free(g);
}

/* x [N,2,2,2] through the statements to t; the only site has this line. kind: of its slope. */
static void check_line(const char *statements, enum value_kind kind, const float slope[2],
                       const float offset[2])
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1};
    char text[4096];

    snprintf(text, sizeof text,
             "input x [N,2,2,2]\nfloat w [2,2,1,1]\nc = Conv(x, w)\n"
             "bool m [1,2,2,2] 1 0 1 1 0 0 0 1\nbool n [1,2,2,2] 0 1 0 0 1 1 1 0\n"
             "s/Relu: r = Relu(c)\n%s\ny = Flatten(t)\noutput y\n",
             statements);
    struct graph *g = import_text(17, text);
    assert_int_equal(g->n_node, 3);
    const struct node *n = node_at(g, 1, "MaskedRelu");
    assert_string_equal(n->name, "s");
    assert_int_equal(n->n_in, 4);
    assert_floats(op_in(g, n, 1)->data, mixed, 8);
    assert_int_equal(op_in(g, n, 2)->kind, kind);
    assert_int_equal(op_in(g, n, 3)->kind, VALUE_PARAM);
    assert_string_equal(op_in(g, n, 2)->name, "k");
    assert_string_equal(op_in(g, n, 3)->name, "b");
    assert_shape(&op_in(g, n, 2)->shape, "[2]");
    assert_floats(op_in(g, n, 2)->data, slope, 2);
    assert_floats(op_in(g, n, 3)->data, offset, 2);
    graph_free(g);
}

static void test_where_with_a_line_becomes_masked_relu(void **state)
{
    (void)state;
    check_line("float k [2,1,1] 0.25 2\nfloat b [2,1,1] 1 -1\np = Mul(c, k)\nl = Add(p, b)\n"
               "s/Where: t = Where(m, r, l)",
               VALUE_PARAM, (float[]){.25f, 2}, (float[]){1, -1});
    check_line("float k [] 0.5\nfloat b [1,2,1,1] 3 4\np = Mul(k, c)\nl = Add(b, p)\n"
               "s/Where: t = Where(n, l, r)",
               VALUE_CONST, (float[]){.5f, .5f}, (float[]){3, 4});
    check_line("float k [2,1,1] 0.5 0.25\nfloat b [1] 3\np = Mul(c, k)\nl = Add(p, b)\n"
               "s/Where: t = Where(m, r, l)",
               VALUE_PARAM, (float[]){.5f, .25f}, (float[]){3, 3});
    /* a factor per column, and a line of something else, are no lines of ours */
    refuse_image(17,
                 "float k [1,1,1,4] 1 2 3 4\nfloat b [] 1\nbool m [1,1,1,1] 1\nr = Relu(x)\n"
                 "p = Mul(x, k)\nl = Add(p, b)\nt = Where(m, r, l)",
                 "E1206", "no masked Relu");
    refuse_image(17,
                 "float k [] 2\nfloat b [] 1\nbool m [1,1,1,1] 1\nr = Relu(x)\n"
                 "p = Mul(r, k)\nl = Add(p, b)\nt = Where(m, r, l)",
                 "E1206", "no masked Relu");
}

#define GATHER_TEXT                                                                                \
    "s/Flatten: f = Flatten(c) axis=1\n"                                                           \
    "ki = Constant() value={0,2,3,7}\ns/Keep: k0 = Gather(f, ki) axis=1\ns/Relu: k = Relu(k0)\n"   \
    "li = Constant() value={1,4,5,6}\ns/Linear: l = Gather(f, li) axis=1\n"                        \
    "s/Concat: j = Concat(k, l) axis=1\n"

static void test_gather_form_becomes_masked_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1};

    (void)state;
    check_mask(
        17,
        GATHER_TEXT
        "v = Constant() value={0,4,1,2,5,6,7,3}\ns/Order: p = Gather(j, v) axis=1\nsh = Constant() value={1,2,2,2}\ns/Reshape: t = Reshape(p, sh)",
        "s", mixed);
    /* for [N,K] there is nothing to flatten; what reads the columns makes the node */
    struct graph *g =
        import_features(17, "ki = Constant() value={0,-1}\nk0 = Gather(x, ki) axis=1\n"
                            "k = Relu(k0)\nli = Constant() value={1,2}\n"
                            "l = Gather(x, li) axis=1\nj = Concat(k, l) axis=-1\n"
                            "v = Constant() value={0,2,3,1}\n"
                            "s/Order: p = Gather(j, v) axis=1\nfloat w [2,4]\n"
                            "y = Gemm(p, w) transB=1");
    assert_string_equal(node_at(g, 1, "MaskedRelu")->name, "s");
    assert_floats(op_in(g, &g->node[1], 1)->data, (float[]){1, 0, 0, 1}, 4);
    graph_free(g);
    g = import_features(17, "ki = Constant() value={0,3}\nk0 = Gather(x, ki) axis=1\n"
                            "k = Relu(k0)\nli = Constant() value={1,2}\nl = Gather(x, li) axis=1\n"
                            "j = Concat(k, l) axis=1\nv = Constant() value={0,2,3,1}\n"
                            "p = Gather(j, v) axis=1\nsh = Constant() value={1,4}\n"
                            "s/Reshape: y = Reshape(p, sh)");
    assert_string_equal(node_at(g, 1, "MaskedRelu")->name, "s");
    assert_string_equal(g->value[g->output].name, "y");
    graph_free(g);
}

static void test_relu6_may_stand_in_the_place_of_relu(void **state)
{
    const float mixed[] = {1, 0, 1, 1, 0, 0, 0, 1}, channel[] = {1, 1, 1, 1, 0, 0, 0, 0};

    (void)state;
    check_relu6("bool m [1,2,2,2] 1 0 1 1 0 0 0 1\ns/Relu: r = Clip(c, lo, hi)\n"
                "s/Where: t = Where(m, r, c)",
                "s", mixed);
    check_relu6("bool m [2,2,2] 0 1 0 0 1 1 1 0\nq = Relu(c)\nr = Min(hi, q)\nt = Where(m, c, r)",
                "t", mixed);
    check_relu6("float m [1,2,1,1] 1 0\nfloat one [] 1\nn = Sub(one, m)\nr = Clip(c, lo, hi)\n"
                "a = Mul(m, r)\nb = Mul(n, c)\ns/Add: t = Add(a, b)",
                "s", channel);
    check_relu6("s/Flatten: f = Flatten(c) axis=1\n"
                "ki = Constant() value={0,2,3,7}\ns/Keep: k0 = Gather(f, ki) axis=1\n"
                "s/Relu: k = Clip(k0, lo, hi)\nli = Constant() value={1,4,5,6}\n"
                "s/Linear: l = Gather(f, li) axis=1\ns/Concat: j = Concat(k, l) axis=1\n"
                "v = Constant() value={0,4,1,2,5,6,7,3}\ns/Order: p = Gather(j, v) axis=1\n"
                "sh = Constant() value={1,2,2,2}\ns/Reshape: t = Reshape(p, sh)",
                "s", mixed);
    refuse(
        17,
        "input img [N,4,1,1]\nx = Flatten(img)\nfloat lo [] 0\nfloat hi [] 6\nki = Constant() value={0,1}\n"
        "k0 = Gather(x, ki) axis=1\nk = Relu(k0)\nli = Constant() value={2,3}\n"
        "l0 = Gather(x, li) axis=1\nl = Clip(l0, lo, hi)\nj = Concat(k, l) axis=1\n"
        "float w [2,4]\ny = Gemm(j, w) transB=1\noutput y\n",
        "E1206", "Relu and ReLU6 are joined");
}

static void test_mask_forms_compute_the_same(void **state)
{
    static const char *const forms[] = {
        "bool m [1,2,2,2] 1 0 1 1 0 0 0 1\nr = Relu(c)\nt = Where(m, r, c)",
        "float s [2,2,2] 0 1 0 0 1 1 1 0\nt = PRelu(c, s)",
        GATHER_TEXT "v = Constant() value={0,4,1,2,5,6,7,3}\np = Gather(j, v) axis=1\n"
                    "sh = Constant() value={1,2,2,2}\nt = Reshape(p, sh)",
    };
    const float x[8] = {.1f, -.2f, .3f, -.4f, -.5f, .6f, .7f, -.8f};
    float y[3][8];
    char text[2048];

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct exec *e = NULL;

        snprintf(text, sizeof text,
                 "input x [N,2,2,2]\nfloat w [2,2,1,1] 1 2 -1 0.5\n"
                 "c = Conv(x, w)\n%s\ny = Flatten(t)\noutput y\n",
                 forms[k]);
        struct graph *g = import_text(17, text);
        assert_int_equal(exec_new(g, EXEC_INFER, 1, NULL, &e), 0);
        assert_int_equal(exec_infer(e, x, 1, 0, y[k]), 0);
        exec_free(e);
        graph_free(g);
    }
    assert_floats(y[0], (float[]){0, 1, 1.7f, 0, -.35f, .5f, .05f, 0}, 8);
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    assert_memory_equal(y[0], y[2], sizeof y[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_forms_become_masked_relu),
        cmocka_unit_test(test_where_with_a_line_becomes_masked_relu),
        cmocka_unit_test(test_prelu_forms_become_masked_relu),
        cmocka_unit_test(test_sum_forms_become_masked_relu),
        cmocka_unit_test(test_gather_form_becomes_masked_relu),
        cmocka_unit_test(test_relu6_may_stand_in_the_place_of_relu),
        cmocka_unit_test(test_mask_forms_compute_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
