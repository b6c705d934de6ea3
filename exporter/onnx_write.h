#ifndef EXPORTER_ONNX_WRITE_H
#define EXPORTER_ONNX_WRITE_H
/*
 * The file under construction: what mask_write.c may add to it. Only onnx_write.c knows protobuf.
 *
 * The first failure stays in the writer and every later call does nothing, so callers need not
 * check; onnx_export_bytes returns it in the end. Names and data are not copied unless it says so:
 * take them from the graph or from onnx_write_array, which both live until the file is packed.
 */
#include "core/graph/graph.h"

struct onnx_writer;

/* Zeroed memory of the writer; NULL after a failure. */
void *onnx_write_array(struct onnx_writer *w, size_t n, size_t size);
/* stem + suffix as the name of a value, or with _1, _2 ... behind it where a value of the file has
 * that name already. Never NULL. */
const char *onnx_write_value_name(struct onnx_writer *w, const char *stem, const char *suffix);
/* The same among the names of nodes. */
const char *onnx_write_node_name(struct onnx_writer *w, const char *stem, const char *suffix);

/* A node with one output; the array in[] is copied. */
void onnx_write_node(struct onnx_writer *w, const char *type, const char *name,
                     const char *const *in, int32_t n_in, const char *out);
/* Attributes of the node that was written last; values are copied. */
void onnx_write_attr(struct onnx_writer *w, const char *name, int64_t v);
void onnx_write_attr_ints(struct onnx_writer *w, const char *name, const int64_t *v, int32_t n);
void onnx_write_attr_float(struct onnx_writer *w, const char *name, float v);
/* All that a node of the graph has in a file: of its table and those the graph does not hold. */
void onnx_write_attributes(struct onnx_writer *w, const struct node *n);
/* ERR_NUMERIC in the writer if the tensor holds NaN or infinity. */
void onnx_write_check_finite(struct onnx_writer *w, const struct value *v);

/* Initializers. shape has fixed dims only. */
void onnx_write_floats(struct onnx_writer *w, const char *name, const struct shape *shape,
                       const float *data);
void onnx_write_bools(struct onnx_writer *w, const char *name, const struct shape *shape,
                      const uint8_t *data);
/* A vector of n integers (copied) as an initializer; as a Constant node where the form of the file
 * is for importers that want those. */
void onnx_write_ints(struct onnx_writer *w, const char *name, const int64_t *v, int64_t n);
#endif
