/*
 * Every operator of core/graph/ops.def comes out of a file. A case is the image x [N,2,4,4] going through
 * one node of that operator to t; the node must be in the graph with the shape that its attributes ask
 * for. An operator without a case fails here.
 */
#include "core/op/op.h"
#include "tests/import_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const char *type, *statements, *shape; /* of t */
} cases[] = {
    {"Conv", "float w [4,1,3,3]\nfloat b [4]\nt = Conv(x, w, b) strides=[1,2] group=2",
     "[N,4,2,1]"},
    {"BatchNormalization",
     "float s [2] 1\nfloat b [2] 0\nfloat m [2] 0\nfloat v [2] 1\n"
     "r = Relu(x)\nt = BatchNormalization(r, s, b, m, v) epsilon=0.5",
     "[N,2,4,4]"},
    {"Relu", "t = Relu(x)", "[N,2,4,4]"},
    {"Relu6", "float l [] 0\nfloat h [] 6\nt = Clip(x, l, h)", "[N,2,4,4]"},
    {"MaskedRelu", "bool m [1,2,4,4] 1 0\nr = Relu(x)\nt = Where(m, r, x)", "[N,2,4,4]"},
    {"Add", "r = Relu(x)\nt = Add(r, x)", "[N,2,4,4]"},
    {"Sub", "r = Relu(x)\nt = Sub(r, x)", "[N,2,4,4]"},
    {"Mul", "r = Relu(x)\nt = Mul(r, x)", "[N,2,4,4]"},
    {"Div", "float d [2,1,1] 2 4\nt = Div(x, d)", "[N,2,4,4]"},
    {"Gemm", "f = Flatten(x)\nfloat w [32,6]\nt = Gemm(f, w)", "[N,6]"},
    {"MaxPool", "t = MaxPool(x) kernel_shape=[2,2] strides=[2,1]", "[N,2,2,3]"},
    {"AveragePool", "t = AveragePool(x) kernel_shape=[3,1] pads=[1,0,1,0] strides=[2,1]",
     "[N,2,2,4]"},
    {"GlobalAveragePool", "t = GlobalAveragePool(x)", "[N,2,1,1]"},
    {"GlobalMaxPool", "t = GlobalMaxPool(x)", "[N,2,1,1]"},
    {"Pad", "int p [8] 0 1 0 0 0 0 2 0\nt = Pad(x, p)", "[N,3,6,4]"},
    {"Slice", "int s [1] 1\nint e [1] 4\nint a [1] 3\nt = Slice(x, s, e, a)", "[N,2,4,3]"},
    {"Flatten", "t = Flatten(x)", "[N,32]"},
    {"Reshape", "int s [3] 0 4 -1\nt = Reshape(x, s)", "[N,4,8]"},
    {"Softmax", "f = Flatten(x)\nt = Softmax(f)", "[N,32]"},
};

static int32_t find_node(const struct graph *g, const char *type)
{
    for (int32_t k = 0; k < g->n_node; k++)
        if (strcmp(g->node[k].op->type, type) == 0)
            return k;
    return -1;
}

static void check_case(size_t k)
{
    char text[512];

    snprintf(text, sizeof text, "input x [N,2,4,4]\n%s\nz = Relu(t)\ny = Flatten(z)\noutput y\n",
             cases[k].statements);
    struct graph *g = import_text(15, text);
    const int32_t n = find_node(g, cases[k].type);
    if (n < 0)
        fail_msg("no %s came out of its case", cases[k].type);
    assert_shape(&g->value[g->node[n].out[0]].shape, cases[k].shape);
    graph_free(g);
}

static void test_every_operator_is_imported(void **state)
{
    (void)state;
    for (const struct op *const *op = op_table(); *op != NULL; op++) {
        size_t k = 0;

        while (k < sizeof cases / sizeof *cases && strcmp(cases[k].type, (*op)->type) != 0)
            k++;
        if (k == sizeof cases / sizeof *cases)
            fail_msg("operator %s has no case in cases[] of %s", (*op)->type, __FILE__);
        check_case(k);
    }
}

/* What an operator's table does not list may change what the node means. */
static void test_unknown_attributes_and_inputs_are_refused(void **state)
{
    (void)state;
    refuse_image(15, "t = GlobalAveragePool(x) axis=1", "E1205", "unknown attribute 'axis'");
    refuse_image(15, "t = GlobalMaxPool(x, x)", "E1209", "2 inputs, at most 1");
    refuse_image(15, "t = MaskedRelu(x)", "E1203", "unsupported operator 'MaskedRelu'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operator_is_imported),
        cmocka_unit_test(test_unknown_attributes_and_inputs_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
