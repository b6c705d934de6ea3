/*
 * graph -> standard ONNX file, opset 13 to 21.
 *
 *   clone  -- written.c: fold BN, drop dead nodes, resolve masks --> written graph
 *          -- node by node, each after the initializers it reads first --> onnx_write.c
 *          -- size, then pack --> one block of bytes  -- atomic --> file
 *
 * MASK_GATHER and MASK_CHANNEL are meant for importers of private-inference tools and bring what they
 * need: BN folded, batch fixed to 1, a bias in every Gemm, integer lists as Constant nodes.
 */
#include "exporter/exporter.h"

#include "core/base/file.h"
#include "core/op/op.h"
#include "exporter/channel_write.h"
#include "exporter/lint.h"
#include "exporter/mask_write.h"
#include "exporter/written.h"

#define OPSET_DEFAULT 17
#define OPSET_MIN 13
#define OPSET_MAX 21

static void write_nodes(struct onnx_writer *w, const struct graph *g, enum mask_form form)
{
    onnx_write_input(w);
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *n = &g->node[i];

        if (n->op == &op_masked_relu)
            mask_write(w, g, n, form);
        else if (form != MASK_CHANNEL || !channel_is_split(g, n))
            onnx_write_graph_node(w, n);
    }
    onnx_write_output(w);
}

/* What is written for a tool must be readable by it. */
static int check_target(enum export_target target, const uint8_t *bytes, size_t len)
{
    SCOPED(lint_release) struct lint_report r = {0};

    TRY(lint_bytes(bytes, len, target, &r));
    if (r.n == 0)
        return 0;
    const struct lint_finding *f = &r.finding[0];
    return fail(ERR_UNSUPPORTED,
                "%s would refuse the file: node '%s' (%s): %s%s%s (1 of %d reasons)",
                lint_target_name(target), f->node, f->op, f->message,
                f->hint[0] != '\0' ? ". Hint: " : "", f->hint, r.n);
}

static int check_request(const struct graph *g, int64_t opset)
{
    if (opset < OPSET_MIN || opset > OPSET_MAX)
        return fail(ERR_ARG, "opset %lld: linnet writes %d to %d", (long long)opset, OPSET_MIN,
                    OPSET_MAX);
    if (graph_branches(g) > 1)
        return fail(
            ERR_ARG,
            "graph '%s' has two BN branches, a file holds one. Hint: choose the clean or the adversarial branch first",
            g->name);
    return 0;
}

/* path: where the model will be written; a second file goes beside it. */
static int export_to(const struct graph *g, const struct export_options *opt, const char *path,
                     uint8_t **out, size_t *len)
{
    const int64_t opset = opt->opset != 0 ? opt->opset : OPSET_DEFAULT;
    SCOPED(graph_free_at) struct graph *written = NULL;
    SCOPED(onnx_write_free_at) struct onnx_writer *w = NULL;
    OWNED uint8_t *bytes = NULL;

    TRY(check_request(g, opset));
    TRY(written_graph(g, opt, &written));
    TRY(onnx_write_new(written, opt, g->value[g->input].name, opset, written_is_private(opt), &w));
    write_nodes(w, written, opt->form);
    TRY(onnx_write_finish(w, path, &bytes, len));
    if (opt->target != EXPORT_ANY)
        TRY(check_target(opt->target, bytes, *len));
    *out = mem_hand_on(&bytes);
    return 0;
}

int onnx_export_bytes(const struct graph *g, const struct export_options *opt, uint8_t **out,
                      size_t *len)
{
    return export_to(g, opt, NULL, out, len);
}

int onnx_export(const struct graph *g, const struct export_options *opt, const char *path)
{
    OWNED uint8_t *bytes = NULL;
    size_t len = 0;

    TRY(export_to(g, opt, path, &bytes, &len));
    return file_write_atomic(path, FILE_PUBLIC, bytes, len);
}
