/*
 * ONNX files. One that is accepted must run, and its export must be read again and be exported to
 * the same bytes.
 */
#include <stdio.h>
#include <string.h>

#include "core/exec/exec.h"
#include "core/base/mem.h"
#include "exporter/exporter.h"
#include "importer/importer.h"
#include "tests/fuzz/fuzz.h"

#define MAX_WORK ((int64_t)1 << 18) /* multiplications and numbers of a network that is run */

static bool is_small(const struct graph *g)
{
    int64_t n = 0;

    for (int32_t v = 0; v < g->n_value && n < MAX_WORK; v++) {
        int64_t count = 1;

        for (int32_t d = 0; d < g->value[v].shape.rank && count < MAX_WORK; d++)
            count *= g->value[v].shape.dim[d] < 1 ? 1 : g->value[v].shape.dim[d];
        n += count;
    }
    return n < MAX_WORK && graph_macs(g) < MAX_WORK;
}

static void run(struct graph *g)
{
    const struct shape *in = &g->value[g->input].shape, *out = &g->value[g->output].shape;
    const size_t n_in = (size_t)(in->dim[1] * in->dim[2] * in->dim[3]);
    float *pixels = mem_array(2 * n_in, sizeof *pixels);
    float *logits = mem_array(2 * (size_t)out->dim[1], sizeof *logits);
    struct exec *e = NULL;

    fuzz_must(pixels != NULL && logits != NULL, "memory for a small network");
    for (size_t k = 0; k < 2 * n_in; k++)
        pixels[k] = (float)(k % 7) / 7;
    if (exec_new(g, EXEC_INFER, 2, NULL, &e) == 0 && exec_infer(e, pixels, 2, 0, logits) == 0)
        fuzz_touch(logits, 2 * (size_t)out->dim[1] * sizeof *logits);
    exec_free(e);
    mem_free(pixels);
    mem_free(logits);
}

static void export_twice(const struct graph *g)
{
    const struct export_options opt = {.form = MASK_WHERE};
    struct graph *again = NULL;
    uint8_t *first = NULL, *second = NULL;
    size_t n_first = 0, n_second = 0;

    if (onnx_export_bytes(g, &opt, &first, &n_first) < 0)
        return;
    fuzz_must(onnx_import_bytes(first, n_first, -1, NULL, NULL, &again) == 0,
              "an export is not read again");
    fuzz_must(onnx_export_bytes(again, &opt, &second, &n_second) == 0,
              "an export is not exported again");
    fuzz_must(n_first == n_second && memcmp(first, second, n_first) == 0,
              "the second export differs from the first");
    graph_free(again);
    mem_free(first);
    mem_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct import_report report;
    struct graph *g = NULL;
    int rc = onnx_import_bytes(data, size, -1, NULL, &report, &g);

    fuzz_must((rc == 0) == (g != NULL), "code and result disagree");
    fuzz_must(rc == 0 || err_message()[0] != '\0', "an error without a message");
    fuzz_must(rc == 0 || rc == ERR_NOMEM || report.n_problem > 0, "a refusal without a problem");
    import_report_release(&report);
    if (rc != 0)
        return 0;
    fuzz_must(graph_verify(g) == 0, "an accepted graph is not valid");
    if (is_small(g)) {
        run(g);
        export_twice(g);
    }
    graph_free(g);
    return 0;
}
