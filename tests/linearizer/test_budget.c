/* Budgets: the published checks (trainer/METHOD.md) as exact integers, and the parser. */
#include "linearizer/linearizer.h" /* before cmocka.h, whose fail() is a macro */

#include <math.h>
#include <string.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "core/op/op.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const double resnet18[17] = {.0572, .1854, .2129, .2506, .2758, .3549, .4884, .5102, .5568,
                                    .6739, .8143, .8277, .8623, .9410, .9902, .9986, 1};
static const double wrn22_8[19] = {.033, .14,  .32,  .393, .435, .483, .528, .57, .713, .78,
                                   .835, .861, .892, .90,  .97,  .997, .99,  1,   1};

static void resnet18_totals(int64_t side, int64_t *total)
{
    for (int l = 0; l < 17; l++) {
        const int stage = l < 5 ? 0 : (l - 5) / 4 + 1;

        total[l] = (64 << stage) * (side >> stage) * (side >> stage);
    }
}

static void check(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                  const int64_t *want)
{
    int64_t kept[32], sum = 0;

    assert_int_equal(budget_allocate(n, total, eta, budget, kept), 0);
    for (int32_t l = 0; l < n; l++) {
        assert_int_equal(kept[l], want[l]);
        sum += kept[l];
    }
    assert_int_equal(sum, budget);
}

static void test_allocate_resnet18(void **state)
{
    static const int64_t k100[] = {633,  2053, 2358, 2775, 3055, 3931, 5409, 5651, 6167,
                                   7464, 9019, 9167, 9550, 8192, 8192, 8192, 8192};
    static const int64_t k50[] = {286,  927,  1065, 1253, 1379, 1775, 2442, 2551, 2784,
                                  3369, 4071, 4138, 4311, 4705, 4951, 4993, 5000};
    static const int64_t k150[] = {858,   2781,  3193,  3759,  4137,  5323,  7326,  7653, 8352,
                                   10108, 12214, 12415, 12934, 14115, 14853, 14979, 15000};
    int64_t total[17];

    (void)state;
    resnet18_totals(32, total);
    check(17, total, resnet18, 100000, k100);
    check(17, total, resnet18, 50000, k50);
    resnet18_totals(64, total);
    check(17, total, resnet18, 150000, k150);
}

static void test_allocate_wrn(void **state)
{
    static const int64_t want[] = {617,   2617,  5981,  7346,  8131,  9028,  9869,
                                   10654, 13327, 14579, 15607, 16093, 16673, 16822,
                                   18131, 18636, 18505, 18692, 18692};
    int64_t total[19] = {16384};

    (void)state;
    for (int l = 1; l < 19; l++)
        total[l] = 131072 >> (l - 1) / 6;
    check(19, total, wrn22_8, 240000, want);
}

static void test_allocate_extremes(void **state)
{
    int64_t total[17], kept[17];

    (void)state;
    resnet18_totals(32, total);
    assert_int_equal(budget_allocate(17, total, resnet18, 557056, kept), 0);
    for (int l = 0; l < 17; l++)
        assert_int_equal(kept[l], total[l]);
    assert_int_equal(budget_allocate(17, total, resnet18, 0, kept), 0);
    for (int l = 0; l < 17; l++)
        assert_int_equal(kept[l], 0);
    assert_int_equal(budget_allocate(17, total, resnet18, -1, kept), ERR_ARG);
    assert_int_equal(budget_allocate(17, total, resnet18, 557057, kept), ERR_ARG);
}

static void test_allocate_zero_sensitivity_still_sums(void **state)
{
    const int64_t total[3] = {5, 5, 5};
    const double eta[3] = {0, 0, 0};
    int64_t kept[3];

    (void)state;
    assert_int_equal(budget_allocate(3, total, eta, 7, kept), 0);
    assert_int_equal(kept[0] + kept[1] + kept[2], 7);
}

static void test_pinned_layers_keep_what_they_have(void **state)
{
    const double eta[4] = {1, 2, 0.5, 1};
    const int64_t total[4] = {100, 100, 100, 100};
    int64_t pinned[4] = {-1, 70, -1, -1}, kept[4];

    (void)state;
    assert_int_equal(budget_allocate_pinned(4, total, eta, 120, pinned, kept), 0);
    assert_int_equal(kept[0], 20); /* the others share 50 as 1 : 0.5 : 1 */
    assert_int_equal(kept[1], 70);
    assert_int_equal(kept[2], 10);
    assert_int_equal(kept[3], 20);
    assert_int_equal(budget_allocate_pinned(4, total, eta, 69, pinned, kept), ERR_ARG);
    assert_int_equal(budget_allocate_pinned(4, total, eta, 371, pinned, kept), ERR_ARG);
    pinned[1] = 101;
    assert_int_equal(budget_allocate_pinned(4, total, eta, 120, pinned, kept), ERR_ARG);
}

static void test_empty_cheapest_takes_the_least_sensitive(void **state)
{
    const double eta[4] = {1, 0.2, 0.2, 0.1};
    int64_t pinned[4] = {-1, -1, -1, 50};

    (void)state;
    assert_int_equal(budget_empty_cheapest(4, eta, 1, pinned), 0);
    assert_int_equal(pinned[1], 0); /* the pinned layer does not count, ties go to the first */
    assert_int_equal(pinned[2], -1);
    assert_int_equal(budget_empty_cheapest(4, eta, 2, pinned), 0);
    assert_int_equal(pinned[0], 0);
    assert_int_equal(budget_empty_cheapest(4, eta, 1, pinned), ERR_ARG);
}

/* Equal remainders: the unit that is left over goes to the lower layer. */
static void test_ties_of_remainders_go_to_the_lower_layer(void **state)
{
    static const int64_t total[] = {10, 10, 10, 10};
    static const double eta[] = {1, 1, 1, 1};
    static const int64_t six[] = {2, 2, 1, 1}, nine[] = {3, 2, 2, 2};

    (void)state;
    check(4, total, eta, 6, six);
    check(4, total, eta, 9, nine);
}

/* ---- sensitivity ------------------------------------------------------------------------------ */

static value_id add_node(struct graph *g, const struct op *op, const value_id *in, int32_t n,
                         const union op_params *p)
{
    union op_params defaults = {0};
    char name[32];
    value_id out;

    op_defaults(op, &defaults);
    snprintf(name, sizeof name, "n%d", (int)g->n_node);
    assert_int_equal(graph_add_node(g, op, name, in, n, p != NULL ? p : &defaults, name, &out), 0);
    return out;
}

/* A convolution of which `large` weights in 20 are large (1 and above), the others small. */
static value_id add_conv(struct graph *g, value_id x, int64_t channels, int64_t side, int large)
{
    const struct shape s = shape_make(4, channels, g->value[x].shape.dim[1], side, side);
    union op_params p = {0};
    value_id in[2] = {x};

    op_defaults(&op_conv, &p);
    for (int i = 0; i < 4; i++)
        p.conv.pad[i] = (int32_t)(side / 2);
    assert_int_equal(graph_add_value(g, "w", VALUE_PARAM, &s, NULL, &in[1]), 0);
    for (int64_t i = 0; i < shape_elems(&s); i++) {
        const float size = i % 20 < large ? 1 : 0.01f; /* every one another, either sign */
        g->value[in[1]].data[i] = size * (1 + (float)(i + in[1]) / 1e6f) * (i % 2 ? -1.0f : 1.0f);
    }
    return add_node(g, &op_conv, in, 2, &p);
}

static value_id add_relu(struct graph *g, value_id x)
{
    return add_node(g, &op_relu, &x, 1, NULL);
}

static void conv_numbers(const struct graph *g, int64_t *all, int64_t *large)
{
    *all = *large = 0;
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM)
            for (int64_t i = 0; i < shape_elems(&g->value[v].shape); i++) {
                ++*all;
                *large += fabsf(g->value[v].data[i]) >= 1;
            }
}

/* Stem, a 3x3 block whose 1x1 shortcut is computed before or after it, a block of 1x1 convolutions.
 * eta of a site is 1 - the large share of the convolution that feeds it: of the block's own, not of
 * its shortcut, in either order; of two 1x1 convolutions of the later one. */
static void test_sensitivity_is_that_of_the_blocks_own_convolution(void **state)
{
    static const double want[] = {1 - 0.10, 1 - 0.20, 1 - 0.35, 1 - 0.55};
    const struct shape input =
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)4, (int64_t)6, (int64_t)6);

    (void)state;
    for (int first = 0; first < 2; first++) {
        double eta[8];
        int64_t all, large;
        value_id x, side, main, in[2];
        struct graph *g;
        assert_int_equal(graph_new(&g), 0);
        assert_int_equal(graph_add_value(g, "x", VALUE_INPUT, &input, NULL, &g->input), 0);
        x = add_relu(g, add_conv(g, g->input, 20, 3, 2));
        side = first ? add_conv(g, x, 20, 1, 16) : NO_VALUE;
        main = add_conv(g, add_relu(g, add_conv(g, x, 20, 3, 4)), 20, 3, 7);
        side = first ? side : add_conv(g, x, 20, 1, 16);
        in[0] = main, in[1] = side;
        x = add_relu(g, add_node(g, &op_add, in, 2, NULL));
        in[0] = add_conv(g, x, 20, 1, 18);
        in[1] = add_conv(g, x, 20, 1, 11);
        x = add_relu(g, add_node(g, &op_add, in, 2, NULL));
        g->output = x;
        conv_numbers(g, &all, &large);
        assert_int_equal(budget_sensitivity(g, ((double)large - 0.5) / (double)all, eta), 0);
        for (int i = 0; i < 4; i++)
            if (fabs(eta[i] - want[i]) > 1e-12)
                fail_msg("shortcut %s: site %d has eta %g, not %g", first ? "first" : "last", i,
                         eta[i], want[i]);
        graph_free(g);
    }
}

static void test_parse(void **state)
{
    int64_t n;

    (void)state;
    assert_int_equal(budget_parse("10%", 188416, &n), 0);
    assert_int_equal(n, 18841);
    assert_int_equal(budget_parse("29%", 100, &n), 0);
    assert_int_equal(n, 29);
    assert_int_equal(budget_parse("64.1%", 1000, &n), 0);
    assert_int_equal(n, 641); /* 64.1 * 1000 / 100 is 640.999... in double precision */
    assert_int_equal(budget_parse("64.19%", 1000, &n), 0);
    assert_int_equal(n, 641); /* rounded down */
    assert_int_equal(budget_parse("188416", 188416, &n), 0);
    assert_int_equal(n, 188416);
    assert_int_equal(budget_parse("188417", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("101%", 188416, &n), ERR_ARG);
    assert_non_null(strstr(err_message(), "more than all"));
    assert_int_equal(budget_parse("100.1%", 100, &n), ERR_ARG);
    assert_int_equal(budget_parse("0.1", 188416, &n), 0); /* the same as 10% */
    assert_int_equal(n, 18841);
    assert_int_equal(budget_parse("0.29", 100, &n), 0);
    assert_int_equal(n, 29);
    assert_int_equal(budget_parse("1.0", 188416, &n), 0);
    assert_int_equal(n, 188416);
    assert_int_equal(budget_parse("1", 188416, &n), 0);
    assert_int_equal(n, 1);
    assert_int_equal(budget_parse("1.5", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("1e-3", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("-3", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("ten", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("10%x", 188416, &n), ERR_ARG);
    assert_int_equal(budget_parse("nan", 188416, &n), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocate_resnet18),
        cmocka_unit_test(test_allocate_wrn),
        cmocka_unit_test(test_allocate_extremes),
        cmocka_unit_test(test_allocate_zero_sensitivity_still_sums),
        cmocka_unit_test(test_pinned_layers_keep_what_they_have),
        cmocka_unit_test(test_empty_cheapest_takes_the_least_sensitive),
        cmocka_unit_test(test_ties_of_remainders_go_to_the_lower_layer),
        cmocka_unit_test(test_sensitivity_is_that_of_the_blocks_own_convolution),
        cmocka_unit_test(test_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
