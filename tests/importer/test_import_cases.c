/*
 * Files of ../shared/cases (its README tells where each is from): taken with the logits that onnxruntime
 * 1.23 gives, or refused with words that help. Three images whose k-th number is (37 k + 11) mod 256, divided
 * by 255 where the input is no uint8; the logits are those of the last.
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "importer/importer.h"
#include "tests/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IMAGES 3
#define CLASSES 10

static const struct {
    const char *file;
    float want[CLASSES];
    const char *words; /* of the refusal, NULL: taken */
} cases[] = {
    {"attr_twice.onnx", {0}, "error[E1205]: attribute 'transB' is given twice"},
    {"bgr_gather.onnx",
     {0.44909382f, -0.65322351f, -0.06675186f, -0.62960631f, -0.51765132f, -0.27346173f,
      0.014063433f, -0.099370666f, -0.15132236f, -0.14852923f},
     NULL},
    {"bn_decomposed.onnx",
     {0.76906747f, -0.68703169f, -0.047136672f, -0.20501901f, -1.1681567f, -0.47527111f,
      0.35213891f, -0.31732237f, -0.89635158f, -0.71683294f},
     NULL},
    {"mxnet14589_spatial0.onnx",
     {0.44909382f, -0.65322351f, -0.06675186f, -0.62960631f, -0.51765132f, -0.27346173f,
      0.014063433f, -0.099370666f, -0.15132236f, -0.14852923f},
     NULL},
    {"openvino13177_fusedconv.onnx",
     {0},
     "the optimised form that onnxruntime saves; give the model from before, or save it at the level"},
    {"optA_zeros_like_torch215_ts_op17.onnx",
     {0.1500255f, 0.37622556f, -0.054664545f, -0.1591375f, 0.14165798f, 0.01051107f, -0.02696503f,
      0.12333943f, -0.33960569f, 0.073297188f},
     NULL},
    {"optionA_cat_constantofshape.onnx",
     {-0.30051094f, 0.6831072f, 0.46411654f, 0.55863738f, -0.54656541f, -0.33790761f, 0.40498748f,
      -0.32674599f, -0.45434731f, -0.12708288f},
     NULL},
    {"output_rank4.onnx",
     {0.64515191f, -0.86322355f, -0.12241515f, -0.88002926f, -0.73874652f, -0.43478674f,
      -0.015340418f, -0.14842394f, -0.17686799f, -0.17489824f},
     NULL},
    {"pt45333_bn_no_stats.onnx",
     {0},
     "batch normalization without running statistics (track_running_stats=False)"},
    {"reducemean_twice.onnx",
     {0.44909376f, -0.65322363f, -0.066751696f, -0.62960607f, -0.5176515f, -0.2734617f,
      0.014063217f, -0.099370912f, -0.15132245f, -0.14852947f},
     NULL},
    {"uint8_input_cast.onnx",
     {0.44909382f, -0.65322351f, -0.06675186f, -0.62960631f, -0.51765132f, -0.27346173f,
      0.014063433f, -0.099370666f, -0.15132236f, -0.14852923f},
     NULL},
    {"vnncomp21_marabou_cifar10_small_nhwc.onnx",
     {-1.7439545f, 0.7689932f, -1.658547f, 0.13354376f, -1.3191156f, -1.4510771f, 2.8033228f,
      -1.274021f, -1.6172675f, 0.025410637f},
     NULL},
};

/* The images in the graph's order; numbers are counted in the file's. */
static float *images(const struct graph *g)
{
    const struct shape *s = &g->value[g->input].shape;
    const int64_t channels = s->dim[1], plane = s->dim[2] * s->dim[3], size = channels * plane;
    const char *norm = graph_get_meta(g, "linnet.normalize");
    const float unit = norm != NULL && strcmp(norm, "255") == 0 ? 1 : 255;
    float *x = calloc((size_t)(IMAGES * size), sizeof *x);

    for (int64_t i = 0; i < IMAGES * size; i++) {
        const int64_t n = i / size, c = i / plane % channels, p = i % plane;
        const int64_t k = g->channels_last ? n * size + p * channels + c : i;

        x[i] = (float)((k * 37 + 11) % 256) / unit;
    }
    return x;
}

static void check_logits(struct graph *g, const float *want, const char *file)
{
    float y[IMAGES * CLASSES], largest = 0, *x = images(g);
    struct exec *e = NULL;

    assert_int_equal(shape_elems(&g->value[g->output].shape), CLASSES);
    assert_int_equal(exec_new(g, EXEC_INFER, IMAGES, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, IMAGES, 0, y), 0);
    for (int k = 0; k < CLASSES; k++)
        largest = fmaxf(largest, fabsf(want[k]));
    for (int k = 0; k < CLASSES; k++)
        if (!(fabsf(y[2 * CLASSES + k] - want[k]) <= 1e-6f * fmaxf(largest, 1)))
            fail_msg("%s: logit %d is %.9g, should be %.9g", file, k, (double)y[2 * CLASSES + k],
                     (double)want[k]);
    exec_free(e);
    free(x);
}

static void test_cases(void **state)
{
    char folder[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    if (scratch_shared("cases", folder) == NULL) {
        print_message("skipped: no shared folder\n");
        skip();
    }
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct graph *g = NULL;
        int rc = onnx_import(scratch_path(folder, cases[k].file, path), NULL, NULL, &g);

        if (cases[k].words == NULL && rc < 0)
            fail_msg("%s: %s", cases[k].file, err_message());
        if (cases[k].words == NULL)
            check_logits(g, cases[k].want, cases[k].file);
        else if (rc >= 0 || strstr(err_message(), cases[k].words) == NULL)
            fail_msg("%s: %s", cases[k].file, rc < 0 ? err_message() : "was taken");
        graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
