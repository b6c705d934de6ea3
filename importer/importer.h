#ifndef IMPORTER_IMPORTER_H
#define IMPORTER_IMPORTER_H
/*
 * ONNX file -> verified graph. All differences between exporters and opsets end here: the graph has
 * one form of every operator (core/op/ops.def), float32 values, shapes, a symbolic batch.
 *
 * Every problem of a file is collected before anything is refused; the first one becomes the error
 * message, all of them are in the report (onnx.md section 8).
 *
 * Memory: the unpacked file is bounded by core/base/wire.h. The numbers that nodes make or look at (weights,
 * masks, constants) have 16 MiB, 32 bytes for each byte of the file and of its external data, and 4,096
 * more for each byte of a small file, up to 256 MiB, because some have all their weights computed. A
 * file that wants more is refused (E1006); one of 1 KB has 20 MiB.
 */
#include "core/graph/graph.h"

#define IMPORT_MAX_FILE ((size_t)2147483647) /* protobuf's own limit */

struct import_problem {
    char code[8];     /* "E1203" */
    const char *node; /* "" where the problem has no node */
    const char *op;
    const char *message; /* sentence without code and hint */
    const char *hint;    /* "" if none */
};
struct import_op_count {
    const char *type;
    int32_t count;
};
struct import_io {
    const char *name;
    struct shape shape;
    const char *dim0;
};
struct import_report { /* owned by the caller, import_report_release() */
    struct arena *arena;
    struct import_problem *problem; /* errors: any refuses the file */
    int32_t n_problem, cap_problem;
    const char **warning;
    int32_t n_warning, cap_warning;
    /* Facts known even for a refused file; "" / 0 where unknown. */
    int64_t ir_version, opset;
    const char *producer;
    struct import_op_count *op_count; /* of the file, sorted by type */
    int32_t n_op_count;
    struct import_io *io; /* inputs, then outputs */
    int32_t n_inputs, n_outputs;
    uint8_t sha256[32]; /* of the file's bytes */
    bool has_external;  /* tensors were read from other files */
};
enum import_layout {
    IMPORT_LAYOUT_AUTO, /* [N,H,W,C] where a Transpose to [N,C,H,W] follows */
    IMPORT_LAYOUT_NCHW,
    IMPORT_LAYOUT_NHWC,
};
struct import_options {
    const char *output; /* output to use where the file has several; NULL = the only one */
    bool allow_newer_opset;
    enum import_layout layout; /* of the file's input */
    struct shape input_shape;  /* rank 0, or as the file has its dims: what the file leaves open */
    const char *input;         /* whose shape that is; NULL or "": the only input */
};
/* opt may be NULL. On success the caller owns *out. report may be NULL; otherwise it is filled in
 * both cases and must be released. ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED for refused files. */
int onnx_import(const char *path, const struct import_options *opt, struct import_report *report,
                struct graph **out) MUST_CHECK;
/* The same from bytes; dir_fd: folder for external data, -1 if there is none. */
int onnx_import_bytes(const uint8_t *bytes, size_t len, int dir_fd,
                      const struct import_options *opt, struct import_report *report,
                      struct graph **out) MUST_CHECK;
void import_report_release(struct import_report *r);
#endif
