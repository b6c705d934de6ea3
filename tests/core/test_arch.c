/* Standard architectures: published ReLU counts, parameter counts, initial weights, errors. */
#include "core/graph/arch.h" /* before cmocka.h, whose fail() is a macro */

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/op/op.h"

#include <cmocka.h>

static struct graph *build(const char *name, int64_t classes, int64_t side)
{
    struct graph *g = NULL;

    if (arch_build(name, classes, side, side, 7, &g) < 0)
        print_error("%s\n", err_message());
    assert_non_null(g);
    return g;
}

/* Sites in node order; returns how many, their positions in per_site. */
static int32_t relus(const struct graph *g, int64_t *per_site, int64_t *total)
{
    int32_t n = 0;

    *total = 0;
    for (int32_t i = 0; i < g->n_node; i++) {
        if (!(g->node[i].op->flags & OP_RELU))
            continue;
        per_site[n] = shape_elems(&g->value[g->node[i].out[0]].shape);
        *total += per_site[n++];
    }
    return n;
}

static void check_wrn22_8_order(const int64_t *per_site)
{
    assert_int_equal(per_site[0], 16384);
    for (int i = 1; i < 19; i++)
        assert_int_equal(per_site[i], i < 7 ? 131072 : i < 13 ? 65536 : 32768);
}

/* The papers' counts and, for resnet8, 20 and 32, the totals of published files; parameters as
 * PyTorch counts them. */
static void test_structure_matches_published_counts(void **state)
{
    static const struct {
        const char *name;
        int64_t classes, side, relus, params;
        int32_t sites;
    } rows[] = {
        {"resnet8", 10, 32, 73728, 78042, 7},           {"resnet20", 10, 32, 188416, 272474, 19},
        {"resnet32", 10, 32, 303104, 466906, 31},       {"resnet18", 10, 32, 557056, 11173962, 17},
        {"resnet18", 1000, 224, 2308096, 11689512, 17}, {"resnet34", 10, 32, 966656, 21282122, 33},
        {"resnet50", 1000, 224, 9608704, 25557032, 49}, {"wrn16_4", 200, 64, 1900544, 2797720, 13},
        {"wrn22_8", 10, 32, 1392640, 17158106, 19},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct graph *g = build(rows[i].name, rows[i].classes, rows[i].side);
        int64_t per_site[64], total;

        assert_int_equal(relus(g, per_site, &total), rows[i].sites);
        assert_int_equal(total, rows[i].relus);
        assert_int_equal(g->n_params, rows[i].params);
        assert_int_equal(g->value[g->output].shape.dim[1], rows[i].classes);
        assert_int_equal(graph_verify(g), 0);
        assert_string_equal(g->name, rows[i].name);
        if (strcmp(rows[i].name, "wrn22_8") == 0)
            check_wrn22_8_order(per_site);
        graph_free(g);
    }
}

static void test_names_are_those_of_pytorch(void **state)
{
    static const char *const values[] = {"input",
                                         "logits",
                                         "conv1.weight",
                                         "bn1.running_var",
                                         "layer1.0.conv2.weight",
                                         "layer2.0.downsample.0.weight",
                                         "layer2.0.downsample.1.bias",
                                         "layer3.0.relu2_out",
                                         "fc.weight",
                                         "fc.bias"};
    static const char *const nodes[] = {"conv1",          "relu",           "layer1.0.conv1",
                                        "layer1.0.bn1",   "layer1.0.relu1", "layer1.0.add",
                                        "layer3.0.relu2", "avgpool",        "fc"};
    struct graph *g = build("resnet8", 10, 16);

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        assert_int_not_equal(graph_find_value(g, values[i]), NO_VALUE);
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        assert_int_not_equal(graph_find_node(g, nodes[i]), -1);
    assert_string_equal(g->value[g->input].name, "input");
    assert_string_equal(g->value[g->output].name, "logits");
    assert_string_equal(g->batch_name, "N");
    assert_int_equal(graph_find_value(g, "layer1.0.downsample.0.weight"), NO_VALUE);
    graph_free(g);
}

static const struct value *value_of(const struct graph *g, const char *name)
{
    value_id v = graph_find_value(g, name);

    assert_int_not_equal(v, NO_VALUE);
    return &g->value[v];
}

static double deviation(const struct value *v)
{
    int64_t n = shape_elems(&v->shape);
    double sum = 0, squares = 0;

    for (int64_t i = 0; i < n; i++) {
        sum += (double)v->data[i];
        squares += (double)v->data[i] * (double)v->data[i];
    }
    return sqrt(squares / (double)n - sum / (double)n * sum / (double)n);
}

static void assert_near(double have, double want, double relative)
{
    if (fabs(have - want) > relative * want)
        print_error("%g is not within %g of %g\n", have, relative, want);
    assert_true(fabs(have - want) <= relative * want);
}

static void assert_all(const struct graph *g, const char *name, float want)
{
    const struct value *v = value_of(g, name);

    for (int64_t i = 0; i < shape_elems(&v->shape); i++)
        assert_true(v->data[i] == want);
}

static void test_initial_weights_follow_the_recipe(void **state)
{
    struct graph *g = build("resnet20", 100, 8);
    const struct value *fc = value_of(g, "fc.weight");
    float limit = 1 / sqrtf(64), largest = 0;

    (void)state;
    assert_near(deviation(value_of(g, "conv1.weight")), sqrt(2.0 / (9 * 16)), 0.1);
    assert_near(deviation(value_of(g, "layer3.1.conv2.weight")), sqrt(2.0 / (9 * 64)), 0.02);
    assert_near(deviation(value_of(g, "layer2.0.downsample.0.weight")), sqrt(2.0 / 32), 0.1);
    assert_near(deviation(fc), 1 / sqrt(64 * 3), 0.03);
    for (int64_t i = 0; i < shape_elems(&fc->shape); i++)
        largest = fmaxf(largest, fabsf(fc->data[i]));
    assert_true(largest <= limit && largest > 0.98f * limit);
    assert_all(g, "fc.bias", 0);
    assert_all(g, "layer3.0.bn1.weight", 1);
    assert_all(g, "layer3.0.bn1.bias", 0);
    assert_all(g, "layer3.0.bn1.running_mean", 0);
    assert_all(g, "layer3.0.bn1.running_var", 1);
    graph_free(g);
}

static void test_seed_decides_the_bytes(void **state)
{
    struct graph *a = build("resnet8", 10, 8), *b = build("resnet8", 10, 8), *c = NULL;
    const struct value *x, *y;

    (void)state;
    assert_int_equal(arch_build("resnet8", 10, 8, 8, 8, &c), 0);
    assert_memory_equal(a->params, b->params, (size_t)a->n_params * sizeof(float));
    assert_memory_not_equal(a->params, c->params, (size_t)a->n_params * sizeof(float));
    x = value_of(a, "layer1.0.conv1.weight"), y = value_of(a, "layer1.0.conv2.weight");
    assert_memory_not_equal(x->data, y->data, (size_t)shape_elems(&x->shape) * sizeof(float));
    graph_free(a);
    graph_free(b);
    graph_free(c);
}

static void assert_refused(int rc, const char *part)
{
    assert_int_equal(rc, ERR_ARG);
    if (strstr(err_message(), part) == NULL)
        print_error("'%s' is not in: %s\n", part, err_message());
    assert_non_null(strstr(err_message(), part));
}

static void test_bad_arguments_are_refused(void **state)
{
    struct graph *g = NULL;

    (void)state;
    assert_refused(arch_build("resnet19", 10, 32, 32, 0, &g), "no architecture 'resnet19'");
    assert_refused(arch_build("", 10, 32, 32, 0, &g), "no architecture ''");
    assert_refused(arch_build("vgg", 10, 32, 32, 0, &g),
                   "no architecture 'vgg'; there are: resnet8 resnet20 resnet32 resnet18 resnet34 "
                   "resnet50 wrn16_4 wrn22_8 wrn28_10");
    assert_refused(arch_build("resnet8", 1, 32, 32, 0, &g), "1 classes, must be 2");
    assert_refused(arch_build("resnet8", 10, 0, 32, 0, &g), "images of 0x32");
    assert_refused(arch_build("resnet8", 10, 32, 5000, 0, &g), "images of 32x5000");
    assert_null(g);
}

static void test_every_allocation_may_fail(void **state)
{
    struct graph *g = NULL;
    int rc = ERR_NOMEM;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_at(n);
        rc = arch_build("resnet8", 2, 2, 2, 0, &g);
        mem_fail_at(0);
        assert_true(rc == 0 || (rc == ERR_NOMEM && g == NULL));
        assert_true(n < 10000);
    }
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structure_matches_published_counts),
        cmocka_unit_test(test_names_are_those_of_pytorch),
        cmocka_unit_test(test_initial_weights_follow_the_recipe),
        cmocka_unit_test(test_seed_decides_the_bytes),
        cmocka_unit_test(test_bad_arguments_are_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
