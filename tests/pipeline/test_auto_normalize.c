/*
 * Which normalisation is taken where nobody says it. The network sees the mean of a grey image, so that
 * accuracy and cross-entropy under every preset follow from its numbers:
 *
 *     s = gain * mean((x - mean) / std)    logits (relu6(-s), relu6(s))    dark images are class 0
 *
 * With a small gain the presets differ in cross-entropy; with a large one ReLU6 makes those equal that put
 * grey between dark and bright.
 */
#include "pipeline/auto_normalize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/npy.h"
#include "core/op/op.h"
#include "tests/scratch.h"
#include "trainer/data/normalize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

enum { SIDE = 4, ELEMS = 3 * SIDE * SIDE };
#define DARK 0.1f
#define BRIGHT 0.9f

#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) < 0)                                                                            \
            fail_msg("%s", err_message());                                                         \
    } while (0)

static value_id parameter(struct graph *g, const char *name, int64_t rows, int64_t columns,
                          const float *v)
{
    const struct shape s = columns > 0 ? shape_make(2, rows, columns) : shape_make(1, rows);
    value_id id;

    assert_ok(graph_add_value(g, name, VALUE_PARAM, &s, NULL, &id));
    memcpy(g->value[id].data, v, (size_t)shape_elems(&s) * sizeof *v);
    return id;
}

static value_id node(struct graph *g, const struct op *op, const char *name, const value_id *in,
                     int32_t n)
{
    union op_params p = {0};
    value_id out;

    op_defaults(op, &p);
    assert_ok(graph_add_node(g, op, name, in, n, &p, name, &out));
    return out;
}

static struct graph *network(float gain)
{
    const struct shape input =
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)3, (int64_t)SIDE, (int64_t)SIDE);
    const float zero[2] = {0}, unit[4] = {1, 0, 0, 1};
    float w[2 * ELEMS];
    struct graph *g;
    value_id x;

    for (int i = 0; i < 2 * ELEMS; i++)
        w[i] = (i < ELEMS ? -gain : gain) / ELEMS;
    assert_ok(graph_new(&g));
    assert_ok(graph_add_value(g, "x", VALUE_INPUT, &input, NULL, &g->input));
    x = node(g, &op_flatten, "f", &g->input, 1);
    x = node(g, &op_gemm, "s",
             (value_id[]){x, parameter(g, "w", 2, ELEMS, w), parameter(g, "b", 2, 0, zero)}, 3);
    x = node(g, &op_relu6, "r", &x, 1);
    g->output =
        node(g, &op_gemm, "y",
             (value_id[]){x, parameter(g, "u", 2, 2, unit), parameter(g, "c", 2, 0, zero)}, 3);
    assert_ok(graph_verify(g));
    return g;
}

/* n images in turn dark and bright, as "npy:..." of a folder. */
static void images(const char *dir, int64_t n, char source[2 * SCRATCH_TEXT + 8])
{
    const int64_t dim[4] = {n, 3, SIDE, SIDE};
    float *x = mem_array((size_t)(n * ELEMS), sizeof *x);
    int32_t *y = mem_array((size_t)n, sizeof *y);
    char pixels[SCRATCH_TEXT], labels[SCRATCH_TEXT];

    for (int64_t i = 0; i < n * ELEMS; i++)
        x[i] = i / ELEMS % 2 ? BRIGHT : DARK;
    for (int64_t i = 0; i < n; i++)
        y[i] = (int32_t)(i % 2);
    assert_ok(npy_write(scratch_path(dir, "x.npy", pixels), NPY_F32, 4, dim, x));
    assert_ok(npy_write(scratch_path(dir, "y.npy", labels), NPY_I32, 1, dim, y));
    snprintf(source, 2 * SCRATCH_TEXT + 8, "npy:%s,%s", pixels, labels);
    mem_free(x);
    mem_free(y);
}

static void hear(void *ctx, enum linnet_level level, const char *text)
{
    char *all = ctx;

    if (level == LINNET_NOTE)
        snprintf(all + strlen(all), 4096 - strlen(all), "%s\n", text);
}

struct guess {
    int rc;
    bool found;
    char name[NORMALIZE_TEXT], said[4096];
};

static struct guess guess(float gain, int64_t n, bool sure)
{
    char dir[SCRATCH_TEXT], source[2 * SCRATCH_TEXT + 8];
    struct graph *g = network(gain);
    struct guess r = {.rc = 0};
    const struct linnet_listener l = {.ctx = r.said, .message = hear};
    const struct source_options none = {0};

    scratch_open(dir);
    images(dir, n, source);
    r.rc = normalize_guess(&l, "net.onnx", source, &none, 1, sure, g, &r.found);
    normalize_text(&g->norm, r.name);
    if (r.rc < 0)
        snprintf(r.said, sizeof r.said, "%s", err_message());
    graph_free(g);
    scratch_close(dir);
    return r;
}

/* Mean of |s|, by which the loss falls. */
static double margin(const struct normalize_preset *p, float x)
{
    double sum = 0;

    for (int c = 0; c < 3; c++)
        sum += ((double)x - (double)p->norm.mean[c]) / (double)p->norm.std[c] / 3;
    return sum;
}

/* All five with grey inside are right about every image: the lowest cross-entropy wins, image by image. */
static void test_the_lowest_cross_entropy_wins(void **state)
{
    const struct guess r = guess(1, 400, true);
    const char *best = "";
    double least = INFINITY;

    (void)state;
    for (size_t k = 0; k < NORMALIZE_PRESETS; k++) {
        const struct normalize_preset *p = &normalize_preset[k];
        const double dark = p->norm.channels > 0 ? margin(p, DARK) : (double)DARK;
        const double bright = p->norm.channels > 0 ? margin(p, BRIGHT) : (double)BRIGHT;
        const double loss = log1p(exp(fmin(dark, 6))) + log1p(exp(-fmin(bright, 6)));
        if (dark < 0 && loss < least) {
            least = loss;
            best = p->name;
        }
    }
    assert_int_equal(r.rc, 0);
    assert_true(r.found);
    assert_string_equal(r.name, best);
    assert_string_equal(best, "cifar10");
    assert_non_null(strstr(r.said, "'cifar10' is taken"));
    assert_null(strstr(r.said, "warning"));
}

/* Not one image tells them apart: over enough images that is an answer too, the first of the table. */
static void test_equal_presets_are_told(void **state)
{
    const struct guess r = guess(100, 2000, true);

    (void)state;
    assert_int_equal(r.rc, 0);
    assert_true(r.found);
    assert_string_equal(r.name, "imagenet");
    assert_non_null(strstr(r.said, "warning: 'imagenet' and 'cifar10' are equally good"));
}

/* Of 150 images one more hit for another preset would be more than a percent: before a training that is no
 * answer; an evaluation goes on with a warning. */
static void test_too_few_images_do_not_decide(void **state)
{
    const struct guess sure = guess(100, 150, true), unsure = guess(100, 150, false);

    (void)state;
    assert_int_equal(sure.rc, ERR_ARG);
    assert_non_null(strstr(sure.said, "do not tell 'imagenet'"));
    assert_int_equal(unsure.rc, 0);
    assert_string_equal(unsure.name, "imagenet");
    assert_non_null(strstr(unsure.said, "it may be 'cifar10' as well"));
    assert_null(strstr(unsure.said, "equally good"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_lowest_cross_entropy_wins),
        cmocka_unit_test(test_equal_presets_are_told),
        cmocka_unit_test(test_too_few_images_do_not_decide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
