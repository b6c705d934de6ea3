#ifndef IMPORTER_BASE_PUBLIC_H
#define IMPORTER_BASE_PUBLIC_H
/* The part of importer.h that the rooms of the importer know: what a caller may ask, and the report. */
#include "core/graph/graph.h"

struct import_problem {
    char code[8];     /* "E1203" */
    const char *node; /* "" where the problem has no node */
    const char *op;
    const char *message; /* sentence without code and hint */
    const char *hint;    /* "" if none */
    int32_t more;        /* others of its kind, which have no row; the message counts them */
    uint64_t kind;
};
struct import_op_count {
    const char *type;
    int32_t count;
};
struct import_io {
    const char *name;
    struct shape shape; /* dims that are not fixed: SHAPE_BATCH as the first, else 0 */
    bool known;         /* the file says the shape */
    const char *dim0;
};
struct import_report { /* owned by the caller, import_report_release() */
    struct arena *arena;
    struct import_problem *problem; /* errors: any refuses the file */
    int32_t n_problem;
    const char **warning;
    int32_t n_warning;
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
    bool relu6_as_relu; /* take Clip(x, 0, 6) for Relu, with a warning: training must follow */
    struct shape input_shape; /* rank 0, or as the file has its dims: what the file leaves open */
    const char *input;        /* whose shape that is; NULL or "": the only input */
};
void import_report_release(struct import_report *r);
#endif
