/*
 * Small files of real exporters (tests/zoo/small, made by tests/zoo): imported, their outputs equal
 * what onnxruntime said when they were made; written again, read again, the same. Also how the
 * written file looks to importers of private-inference tools (lint).
 */
#include "core/exec/exec.h" /* before cmocka.h, whose fail() is a macro */
#include "core/base/npy.h"
#include "core/op/op.h"
#include "exporter/exporter.h"
#include "exporter/lint.h"
#include "importer/importer.h"
#include "tests/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/zoo/small/"

static const struct {
    const char *name;
    int32_t relus;
    bool channels_last;
    enum graph_tail tail;
} files[] = {
    {"ts113_option_a", 7, false, TAIL_NONE},        {"ts113_training", 7, false, TAIL_NONE},
    {"ts113_softmax", 7, false, TAIL_SOFTMAX},      {"dy29_two_files", 7, false, TAIL_NONE},
    {"dy29_not_optimised", 7, false, TAIL_NONE},    {"dy25_functions", 7, false, TAIL_NONE},
    {"keras_channels_last", 6, true, TAIL_SOFTMAX},
};
#define N_FILES (sizeof files / sizeof *files)

static struct graph *import_file(size_t k)
{
    struct graph *g = NULL;
    char path[256];

    snprintf(path, sizeof path, FOLDER "%s.onnx", files[k].name);
    if (onnx_import(path, NULL, NULL, &g) < 0)
        fail_msg("%s", err_message());
    return g;
}

static float *outputs(struct graph *g, const float *x, int64_t n)
{
    const int64_t k = shape_elems(&g->value[g->output].shape);
    float *y = malloc((size_t)(n * k) * sizeof *y);
    struct exec *e = NULL;

    assert_int_equal(exec_new(g, EXEC_INFER, n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, x, n, 0, y), 0);
    exec_free(e);
    for (int64_t r = 0; r < n && g->tail == TAIL_SOFTMAX; r++) {
        double sum = 0;

        for (int64_t i = 0; i < k; i++)
            sum += exp(y[r * k + i]);
        for (int64_t i = 0; i < k; i++)
            y[r * k + i] = (float)(exp(y[r * k + i]) / sum);
    }
    return y;
}

static void assert_close(const float *have, const float *want, int64_t n, const char *name)
{
    float largest = 0;

    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabsf(have[i] - want[i]) <= 1e-4f * largest))
            fail_msg("%s: output %lld is %g, should be %g", name, (long long)i, (double)have[i],
                     (double)want[i]);
}

static void test_outputs_are_those_of_onnxruntime(void **state)
{
    struct npy x = {0}, want = {0};
    char path[256];

    (void)state;
    assert_int_equal(npy_open(FOLDER "x.npy", &x), 0);
    for (size_t k = 0; k < N_FILES; k++) {
        struct graph *g = import_file(k), *back = NULL;
        struct export_options opt = {.form = MASK_WHERE};
        uint8_t *bytes = NULL;
        size_t len = 0;
        int32_t relus = 0;

        snprintf(path, sizeof path, FOLDER "%s.npy", files[k].name);
        assert_int_equal(npy_open(path, &want), 0);
        for (int32_t n = 0; n < g->n_node; n++)
            relus += g->node[n].op == &op_relu;
        assert_int_equal(relus, files[k].relus);
        assert_int_equal(g->channels_last, files[k].channels_last);
        assert_int_equal(g->tail, files[k].tail);
        float *y = outputs(g, x.data, x.dim[0]);
        assert_close(y, want.data, (int64_t)want.count, files[k].name);
        assert_int_equal(onnx_export_bytes(g, &opt, &bytes, &len), 0);
        assert_int_equal(onnx_import_bytes(bytes, len, -1, NULL, NULL, &back), 0);
        float *again = outputs(back, x.data, x.dim[0]);
        assert_memory_equal(y, again, want.count * sizeof *y);
        free(y);
        free(again);
        mem_free(bytes);
        npy_release(&want);
        graph_free(back);
        graph_free(g);
    }
    npy_release(&x);
}

/* ---- for other tools ------------------------------------------------------------------------- */

static int32_t findings(const uint8_t *bytes, size_t len, enum export_target target,
                        const char *words)
{
    struct lint_report r;
    int32_t n;
    bool found = false;

    assert_int_equal(lint_bytes(bytes, len, target, &r), 0);
    for (int32_t i = 0; words != NULL && i < r.n; i++)
        found = found || strstr(r.finding[i].message, words) != NULL;
    if (words != NULL && !found)
        fail_msg("no finding says '%s'", words);
    n = r.n;
    lint_release(&r);
    return n;
}

/* Strided Slices and Pads become a Conv of zeros and ones, and the file is one that all can read. */
static void test_option_a_is_written_for_private_inference(void **state)
{
    static const struct {
        enum export_target target;
        enum mask_form form;
    } rows[] = {{EXPORT_CRYPTEN, MASK_GATHER}, {EXPORT_EZPC, MASK_CHANNEL}};
    struct graph *g = import_file(0), *back = NULL;
    struct npy x = {0};
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(npy_open(FOLDER "x.npy", &x), 0);
    float *want = outputs(g, x.data, 4);
    for (size_t k = 0; k < 2; k++) {
        struct export_options opt = {
            .form = rows[k].form, .target = rows[k].target, .strip_softmax = true};

        if (onnx_export_bytes(g, &opt, &bytes, &len) < 0)
            fail_msg("%s", err_message());
        assert_int_equal(findings(bytes, len, rows[k].target, NULL), 0);
        assert_int_equal(onnx_import_bytes(bytes, len, -1, NULL, NULL, &back), 0);
        for (int32_t n = 0; n < back->n_node; n++)
            assert_true(back->node[n].op != &op_slice && back->node[n].op != &op_pad);
        float *y = outputs(back, x.data, 4);
        assert_close(y, want, 40, "option A");
        free(y);
        mem_free(bytes);
        graph_free(back);
        bytes = NULL, back = NULL;
    }
    struct export_options plain = {.form = MASK_WHERE, .opset = 18};
    assert_int_equal(onnx_export_bytes(g, &plain, &bytes, &len), 0);
    findings(bytes, len, EXPORT_CRYPTEN, "leaves the batch open");
    findings(bytes, len, EXPORT_CRYPTEN, "opset 18");
    findings(bytes, len, EXPORT_CRYPTEN, "steps other than 1");
    findings(bytes, len, EXPORT_CRYPTEN, "would be encrypted");
    findings(bytes, len, EXPORT_EZPC, "operator 'Slice' is not known");
    findings(bytes, len, EXPORT_MOTION2NX, "operator 'Add' is not known");
    mem_free(bytes);
    free(want);
    npy_release(&x);
    graph_free(g);
}

static void test_what_a_tool_cannot_read_is_not_written_for_it(void **state)
{
    struct graph *g = import_file(2); /* normalised inside, by Sub and Div */
    struct export_options opt = {.form = MASK_CHANNEL, .target = EXPORT_EZPC};
    struct lint_report r;
    uint8_t *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(onnx_export_bytes(g, &opt, &bytes, &len), ERR_UNSUPPORTED);
    assert_non_null(strstr(err_message(), "ezpc would refuse the file"));
    assert_null(bytes);
    assert_true(lint_bytes((const uint8_t *)"\x0a\x05", 2, EXPORT_EZPC, &r) < 0);
    lint_release(&r);
    graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_those_of_onnxruntime),
        cmocka_unit_test(test_option_a_is_written_for_private_inference),
        cmocka_unit_test(test_what_a_tool_cannot_read_is_not_written_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
