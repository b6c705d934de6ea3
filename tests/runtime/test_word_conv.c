/* runtime/word_conv and ring_product against plain loops. */
#include "runtime/ring/word_conv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "runtime/ring/product.h"

static uint64_t draw(struct rng *r)
{
    return (uint64_t)rng_u32(r) << 32 | rng_u32(r);
}

static struct ring_conv conv_of(int64_t channels, int64_t size, int64_t outputs, int64_t kernel,
                                int64_t stride, int64_t pad, int64_t group)
{
    int64_t out = (size + 2 * pad - kernel) / stride + 1;

    return (struct ring_conv){
        .linear = {{kernel, kernel}, {stride, stride}, {pad, pad, pad, pad}, {1, 1}, group, 0},
        .in = {channels, size, size},
        .out = {outputs, out, out},
        .columns = channels / group * kernel * kernel};
}

static uint64_t naive_at(const struct ring_conv *c, const uint64_t *x, const uint64_t *m, int64_t o,
                         int64_t i, int64_t j)
{
    const struct plan_linear *l = &c->linear;
    int64_t channels = c->in[0] / l->group, g = o / (c->out[0] / l->group), t = 0;
    uint64_t sum = 0;

    for (int64_t ch = g * channels; ch < (g + 1) * channels; ch++)
        for (int64_t kh = 0; kh < l->kernel[0]; kh++)
            for (int64_t kw = 0; kw < l->kernel[1]; kw++, t++) {
                int64_t v = i * l->stride[0] - l->pad[0] + kh;
                int64_t u = j * l->stride[1] - l->pad[1] + kw;
                if (v >= 0 && v < c->in[1] && u >= 0 && u < c->in[2])
                    sum += m[o * c->columns + t] * x[(ch * c->in[1] + v) * c->in[2] + u];
            }
    return sum;
}

static void check_conv(const struct ring_conv *c, struct rng *r)
{
    size_t in = (size_t)(c->in[0] * c->in[1] * c->in[2]), n = (size_t)(c->out[0] * c->columns);
    size_t out = (size_t)(c->out[0] * c->out[1] * c->out[2]);
    uint64_t *x = mem_array(in, 8), *m = mem_array(n, 8), *y = mem_array(out, 8);
    uint64_t *scratch = mem_array(word_conv_scratch(c), 8);

    assert_true(x && m && y && scratch);
    for (size_t i = 0; i < in; i++)
        x[i] = draw(r);
    for (size_t i = 0; i < n; i++)
        m[i] = draw(r);
    word_conv(y, x, m, c, scratch);
    for (int64_t o = 0; o < c->out[0]; o++)
        for (int64_t i = 0; i < c->out[1]; i++)
            for (int64_t j = 0; j < c->out[2]; j++)
                assert_true(y[(o * c->out[1] + i) * c->out[2] + j] == naive_at(c, x, m, o, i, j));
    mem_free(x);
    mem_free(m);
    mem_free(y);
    mem_free(scratch);
}

static void test_word_conv_equals_plain_loop(void **state)
{
    struct rng r = rng_at(1, RNG_TEST, 0, 0);
    struct ring_conv cases[] = {
        conv_of(3, 8, 19, 3, 1, 1, 1), conv_of(16, 9, 8, 3, 2, 1, 1),
        conv_of(8, 7, 16, 1, 1, 0, 1), conv_of(6, 5, 12, 3, 1, 1, 3),
        conv_of(4, 6, 4, 3, 1, 1, 4),  conv_of(70, 1, 10, 1, 1, 0, 1),
        conv_of(5, 16, 9, 5, 1, 2, 1),
    };

    (void)state;
    for (int path = 0; path < 2; path++) {
        setenv("LINNET_CPU", path == 0 ? "generic" : "avx512", 1);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check_conv(&cases[i], &r);
    }
    unsetenv("LINNET_CPU");
}

static void check_product(int64_t m, int64_t n, int64_t k, struct rng *r)
{
    double *a = mem_array((size_t)(m * k), 8), *b = mem_array((size_t)(k * n), 8);
    double *c = mem_array((size_t)(m * n), 8), *scratch = mem_array(ring_product_scratch(n, k), 8);

    for (int64_t i = 0; i < m * k; i++)
        a[i] = (double)((int32_t)(rng_u32(r) % 65536) - 32768);
    for (int64_t i = 0; i < k * n; i++)
        b[i] = (double)((int32_t)(rng_u32(r) % (1u << 22)) - (1 << 21));
    ring_product(c, a, b, m, n, k, scratch);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            int64_t sum = 0;
            for (int64_t t = 0; t < k; t++)
                sum += (int64_t)a[i * k + t] * (int64_t)b[t * n + j];
            assert_true(c[i * n + j] == (double)sum);
        }
    mem_free(a);
    mem_free(b);
    mem_free(c);
    mem_free(scratch);
}

static void test_products_are_exact_on_every_path(void **state)
{
    static const char *const paths[] = {"generic", "avx2", "avx512"};
    struct rng r = rng_at(2, RNG_TEST, 0, 0);

    (void)state;
    for (int i = 0; i < 3; i++) {
        setenv("LINNET_CPU", paths[i], 1);
        check_product(1, 1, 1, &r);
        check_product(9, 17, 300, &r);
        check_product(16, 32, 256, &r);
        check_product(3, 270, 257, &r);
        check_product(10, 1, 600, &r);
    }
    unsetenv("LINNET_CPU");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_word_conv_equals_plain_loop),
        cmocka_unit_test(test_products_are_exact_on_every_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
