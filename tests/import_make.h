#ifndef TESTS_IMPORT_MAKE_H
#define TESTS_IMPORT_MAKE_H
/* Importing the texts of onnx_make.h, and what a test asks of the outcome. What is not as wanted
 * fails the cmocka test that runs. Graphs are the caller's. */
#include "core/graph/graph.h"
#include "importer/importer.h"
#include "tests/onnx_make.h"

/* An element type: TYPE(FLOAT16). */
#define TYPE(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

struct graph *import_made(struct onnx_make *mk);
struct graph *import_text(int64_t opset, const char *text);
struct graph *import_with(int64_t opset, const struct import_options *opt, const char *text);
/* x [N,4], the flattened input, goes through the statements to y; they are nodes 1 and up. */
struct graph *import_features(int64_t opset, const char *statements);
/* The image x [N,2,4,4] goes through the statements to t, which is flattened into the output. */
struct graph *import_image(int64_t opset, const char *statements);

/* The import fails with this code and these words in the message. */
void refuse_made(struct onnx_make *mk, const char *code, const char *words);
void refuse(int64_t opset, const char *text, const char *code, const char *words);
void refuse_with(int64_t opset, const struct import_options *opt, const char *text,
                 const char *code, const char *words);
void refuse_image(int64_t opset, const char *statements, const char *code, const char *words);

/* Node i, which is of that type. */
const struct node *node_at(const struct graph *g, int32_t i, const char *type);
const struct value *value_named(const struct graph *g, const char *name);
/* want: as shape_text writes it. */
void assert_shape(const struct shape *s, const char *want);
/* Within 1e-6 of each number. */
void assert_floats(const float *have, const float *want, size_t n);
#endif
