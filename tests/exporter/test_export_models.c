/*
 * ONNX files of real networks: reading and writing them again gives the same bytes, and (where a Python
 * with onnx and onnxruntime is found) other programs compute the same from what is written.
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/base/npy.h"
#include "core/graph/rng.h"
#include "importer/importer.h"
#include "linearizer/linearizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/export_graphs.h"
#include "tests/scratch.h"

/* ---- models from elsewhere --------------------------------------------------------------- */

static const char *const real_models[] = {"resnet20_cifar10",         "resnet20_cifar10_bn",
                                          "resnet20_cifar10_norm_b1", "resnet8_mlperftiny_bn",
                                          "vnncomp22_sri_resnet_a",   "vnncomp21_resnet_2b",
                                          "light_resnet50",           "resnet32_cifar10"};
#define N_REAL (sizeof real_models / sizeof real_models[0])

/* The folder of shared models; the test is skipped where there is none. */
static const char *shared_models(char path[256])
{
    const char *shared = getenv("LINNET_SHARED");

    snprintf(path, 256, "%s/models", shared != NULL ? shared : "../shared");
    if (access(path, F_OK) != 0) {
        print_message("skipped: no shared folder (LINNET_SHARED)\n");
        skip();
    }
    return path;
}

static struct graph *real_model(const char *folder, const char *name)
{
    struct graph *g = NULL;
    char path[512];

    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    ok(onnx_import(path, NULL, NULL, &g));
    return g;
}

static void mask_at_random(struct graph *g)
{
    struct rng r = rng_at(6, RNG_TEST, 0, 0);

    ok(mask_insert(g));
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = rng_below(&r, 10) == 0;
}

static void test_real_models_are_fixed_points(void **state)
{
    static const enum mask_form forms[] = {MASK_WHERE, MASK_PRELU, MASK_GATHER};
    char folder[256];

    (void)state;
    shared_models(folder);
    for (size_t i = 0; i < N_REAL; i++) {
        struct graph *g = real_model(folder, real_models[i]);

        check_fixed_point(g, MASK_WHERE, false, 0);
        mask_at_random(g);
        for (size_t k = 0; k < 3; k++)
            check_fixed_point(g, forms[k], k == 0, 0);
        graph_free(g);
    }
}

/* ---- other programs ---------------------------------------------------------------------- */

#define IMAGES 5

static void write_logits(struct graph *g, const char *folder, const char *file, const float *pixels)
{
    int64_t dim[2] = {IMAGES, 10};
    float logits[IMAGES * 10];
    struct exec *e = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(exec_new(g, EXEC_INFER, IMAGES, NULL, &e));
    ok(exec_infer(e, pixels, IMAGES, 0, logits));
    exec_free(e);
    snprintf(path, sizeof path, "%s/%s.npy", folder, file);
    ok(npy_write(path, NPY_F32, 2, dim, logits));
}

static void write_input(const char *folder, float *pixels)
{
    struct rng r = rng_at(9, RNG_TEST, 0, 0);
    int64_t dim[4] = {IMAGES, 3, SIDE, SIDE};
    char path[2 * SCRATCH_TEXT];

    for (int64_t i = 0; i < (int64_t)IMAGES * 3 * SIDE * SIDE; i++)
        pixels[i] = rng_uniform(&r);
    snprintf(path, sizeof path, "%s/input.npy", folder);
    ok(npy_write(path, NPY_F32, 4, dim, pixels));
}

static void write_models(const struct graph *g, const char *folder)
{
    static const char *const names[] = {"where", "prelu", "gather"};
    char path[2 * SCRATCH_TEXT];

    for (int form = MASK_WHERE; form <= MASK_GATHER; form++) {
        for (int64_t opset = 13; opset <= 21; opset++) {
            struct export_options opt = {.form = (enum mask_form)form, .opset = opset};

            snprintf(path, sizeof path, "%s/%s_%d.onnx", folder, names[form], (int)opset);
            ok(onnx_export(g, &opt, path));
            snprintf(path, sizeof path, "%s/%s_%d_folded.onnx", folder, names[form], (int)opset);
            opt.fold_bn = true;
            ok(onnx_export(g, &opt, path));
        }
    }
}

/* relu6_FORM_OPSET.onnx and relu6_logits.npy: the same network with ReLU6. */
static void write_relu6_models(const char *folder, const float *pixels)
{
    struct graph *g = relu6_resnet8();
    char path[2 * SCRATCH_TEXT];

    write_logits(g, folder, "relu6_logits", pixels);
    for (int form = 0; form < 2; form++)
        for (int64_t opset = 13; opset <= 21; opset++) {
            struct export_options opt = {.form = form ? MASK_GATHER : MASK_WHERE, .opset = opset};

            snprintf(path, sizeof path, "%s/relu6_%s_%d.onnx", folder, form ? "gather" : "where",
                     (int)opset);
            ok(onnx_export(g, &opt, path));
        }
    graph_free(g);
}

/* channel_OPSET.onnx and whole_OPSET.onnx: the same masks, of whole channels, in the forms channel and
 * where. */
static void write_channel_models(const struct graph *g, const char *folder)
{
    static const char *const names[] = {"whole", "channel"};
    struct graph *whole = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(graph_clone(g, &whole));
    for (value_id v = 0; v < whole->n_value; v++) {
        struct value *m = &whole->value[v];

        for (int64_t i = 0; m->kind == VALUE_MASK && i < shape_elems(&m->shape); i++)
            m->data[i] = i / (m->shape.dim[1] * m->shape.dim[2]) % 3 != 1 ? 1 : 0;
    }
    for (int form = 0; form < 2; form++)
        for (int64_t opset = 13; opset <= 21; opset++) {
            struct export_options opt = {
                .form = form ? MASK_CHANNEL : MASK_WHERE, .opset = opset, .fold_bn = true};

            snprintf(path, sizeof path, "%s/%s_%d.onnx", folder, names[form], (int)opset);
            ok(onnx_export(whole, &opt, path));
        }
    graph_free(whole);
}

/* full.onnx: every ReLU is kept. almost.onnx: every site loses its first position, so that
 * Python can set the masks of Where nodes to ones. */
static void write_full_models(const struct graph *g, const char *folder)
{
    struct export_options opt = {.form = MASK_WHERE};
    struct graph *full = NULL;
    char path[2 * SCRATCH_TEXT];

    ok(graph_clone(g, &full));
    for (int64_t i = 0; i < full->n_masks; i++)
        full->masks[i] = 1;
    snprintf(path, sizeof path, "%s/full.onnx", folder);
    ok(onnx_export(full, &opt, path));
    for (value_id v = 0; v < full->n_value; v++)
        if (full->value[v].kind == VALUE_MASK)
            full->value[v].data[0] = 0;
    snprintf(path, sizeof path, "%s/almost.onnx", folder);
    ok(onnx_export(full, &opt, path));
    graph_free(full);
}

/* As imported, all ReLUs kept: Python compares them with the files they came from. */
static void write_real_models(const char *models, const char *folder)
{
    struct export_options opt = {.form = MASK_WHERE};
    char path[2 * SCRATCH_TEXT];

    for (size_t i = 0; i < N_REAL; i++) {
        struct graph *g = real_model(models, real_models[i]);

        snprintf(path, sizeof path, "%s/real_%s.onnx", folder, real_models[i]);
        ok(onnx_export(g, &opt, path));
        graph_free(g);
    }
}

static void test_other_programs_agree(void **state)
{
    const char *python = getenv("LINNET_PYTHON");
    static float pixels[IMAGES * 3 * SIDE * SIDE];
    char folder[SCRATCH_TEXT], models[256], command[3 * SCRATCH_TEXT];
    struct graph *g;

    (void)state;
    shared_models(models);
    python = python != NULL ? python : "build/venv/bin/python";
    snprintf(command, sizeof command, "%s -c 'import onnx, onnxruntime' 2>/dev/null", python);
    if (system(command) != 0) {
        print_message("skipped: no Python with onnx and onnxruntime (LINNET_PYTHON)\n");
        skip();
    }
    scratch_open(folder);
    g = masked_resnet8();
    write_input(folder, pixels);
    write_logits(g, folder, "logits", pixels);
    write_relu6_models(folder, pixels);
    write_models(g, folder);
    write_channel_models(g, folder);
    write_full_models(g, folder);
    write_real_models(models, folder);
    snprintf(command, sizeof command, "%s tests/export_check.py %s %s", python, folder, models);
    assert_int_equal(system(command), 0);
    scratch_close(folder);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_models_are_fixed_points),
        cmocka_unit_test(test_other_programs_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
