#ifndef EXPORTER_ONNX_WRITE_H
#define EXPORTER_ONNX_WRITE_H
/*
 * The file under construction. Only onnx_write.c knows protobuf. exporter.c makes a writer, writes the
 * graph from the input to the output and finishes it; the mask forms add their nodes and tensors.
 *
 * The first failure stays in the writer and every later call does nothing, so callers need not
 * check; onnx_write_finish returns it in the end. Names and data are not copied unless it says so:
 * take them from the graph or from onnx_write_array, which both live until the file is packed.
 */
#include "core/graph/graph.h"
#include "exporter/options.h"

struct onnx_writer;

/* A file for g, which stays as it is until onnx_write_free. input: the file's name of the input, which is
 * not the graph's where a Transpose comes between them. private: for importers of private-inference tools,
 * batch 1 and integer lists as Constant nodes. */
int onnx_write_new(const struct graph *g, const struct export_options *opt, const char *input,
                   int64_t opset, bool private, struct onnx_writer **out) MUST_CHECK;
void onnx_write_free(struct onnx_writer *w); /* NULL is fine */
FREE_AT(onnx_write_free, struct onnx_writer)
/* The Transpose from the file's [N,H,W,C], where there is one. */
void onnx_write_input(struct onnx_writer *w);
/* Relu of x, or with relu6 Clip(x, 0, 6), whose bounds are <site>.low and <site>.high. */
void onnx_write_relu(struct onnx_writer *w, const char *site, const char *node, bool relu6,
                     const char *x, const char *out);
/* A node of g as it is, after the constants that it reads first. */
void onnx_write_graph_node(struct onnx_writer *w, const struct node *n);
/* The Softmax that follows the graph's output, where there is one. */
void onnx_write_output(struct onnx_writer *w);
/* The bytes (mem_free), or the first failure. path: where they will lie; large tensors go into a second
 * file beside it. NULL: everything must fit into the bytes. */
int onnx_write_finish(struct onnx_writer *w, const char *path, uint8_t **out,
                      size_t *len) MUST_CHECK;

/* Zeroed memory of the writer; NULL after a failure. */
void *onnx_write_array(struct onnx_writer *w, size_t n, size_t size);
/* stem + suffix as the name of a value, or with _1, _2 ... after it where a value of the file has
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
