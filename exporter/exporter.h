#ifndef EXPORTER_EXPORTER_H
#define EXPORTER_EXPORTER_H
/*
 * graph -> standard ONNX file, and graph -> private-inference plan.
 */
#include "core/graph/graph.h"
#include "runtime/plan/plan.h"

enum mask_form { MASK_WHERE, MASK_PRELU, MASK_GATHER, MASK_CHANNEL };
enum export_target { EXPORT_ANY, EXPORT_CRYPTEN, EXPORT_EZPC, EXPORT_MOTION2NX };
struct export_options {
    enum mask_form form;
    int64_t opset;      /* 0: 17 */
    bool fold_bn;       /* fold BN that came with the file too (inserted BN is always folded) */
    bool strip_softmax; /* the output is the logits even if the file had a Softmax */
    bool external_data; /* tensors go into PATH.data even if they fit into one file */
    size_t max_file;    /* bytes of one file, beyond which they do; 0: 1.9 GB */
    enum export_target target; /* the written file must pass lint for it */
};
/* Writes atomically; deterministic bytes. g must have one BN bank (pass_select_bank). */
int onnx_export(const struct graph *g, const struct export_options *opt,
                const char *path) MUST_CHECK;
/* The same into memory (mem_free). */
int onnx_export_bytes(const struct graph *g, const struct export_options *opt, uint8_t **out,
                      size_t *len) MUST_CHECK;
#endif
