/* A graph as text: a line a node, in the form that core/graph/text.h shows. */
#include "core/graph/text.h" /* before cmocka.h, whose fail() is a macro */
#include "tests/import_make.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_text(void **state)
{
    static const char want[] =
        "input x [N,2,4,4]\n"
        "sub: a = Sub(x, m [2,1,1]) frozen -> [N,2,4,4]\n"
        "conv: c = Conv(a, w [2,2,3,3], -) strides=1,1 pads=1,1,1,1 dilations=1,1 group=1 -> [N,2,4,4]\n"
        "relu: t = MaskedRelu(c, kept 16 of 32) soft=0 relu6=0 -> [N,2,4,4]\n"
        "cut: s = Slice(t) start=0,0,1,0 end=1,2,4,4 step=1,1,2,1 -> [N,2,2,4]\n"
        "pad: p = Pad(s) begin=0,1,0,0 end=0,1,0,0 value=0 -> [N,4,2,4]\n"
        "y: y = Flatten(p) -> [N,32]\n"
        "output y [N,32]\n";
    struct graph *g = import_text(
        13, "input x [N,2,4,4]\nfloat m [2,1,1]\nsub: a = Sub(x, m)\nfloat w [2,2,3,3]\n"
            "conv: c = Conv(a, w) pads=[1,1,1,1]\nr = Relu(c)\nbool k [1,2,4,4] 1 0\n"
            "relu/Where: t = Where(k, r, c)\nint b [1] 1\nint e [1] 4\nint d [1] 2\n"
            "cut: s = Slice(t, b, e, d, d)\nint q [8] 0 1 0 0 0 1 0 0\npad: p = Pad(s, q)\n"
            "y = Flatten(p)\noutput y\n");
    struct buf_writer w = buf_writer_to(1 << 20), small = buf_writer_to(10);

    (void)state;
    graph_text(g, &w);
    assert_int_equal(buf_status(&w), 0);
    buf_put_u8(&w, 0);
    assert_string_equal((const char *)w.data, want);
    graph_text(g, &small);
    assert_true(buf_status(&small) < 0);
    buf_release(&w);
    buf_release(&small);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_text)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
