#ifndef TESTS_ONNX_MAKE_H
#define TESTS_ONNX_MAKE_H
/*
 * Small ONNX models from a text, for tests. One statement a line:
 *
 *     input x [N,3,4,4]              a letter: symbolic dim; ? : dim without a name
 *     float w [2,3,3,3]              initializer with made-up numbers in [-1,1]
 *     float b [2] 0.5 1              ... with these numbers, repeated as often as needed
 *     int s [2] 1 -1                 int64; bool m [1,2,4,4] 1 0 likewise
 *     conv: y = Conv(x, w, b) pads=[1,1,1,1] auto_pad='NOTSET' alpha=0.5 group=1
 *     c = Constant() value={1,2}     int64 vector; {=3} int64 scalar; f{0.5} float vector
 *     output y [N,2]                 the shape may be left out
 *
 * The name before ':' and any attribute may be left out; "Type()" has no input, "(x, , b)" leaves
 * one out. A mistake in the text aborts.
 */
#include <stddef.h>
#include <stdint.h>

#include "onnx.pb-c.h"

struct onnx_make { /* lists have room for ONNX_MAKE_MAX rows; tests may change everything */
    struct arena *arena;
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
    Onnx__OperatorSetIdProto opset;
    uint8_t *bytes;
    size_t len;
};
#define ONNX_MAKE_MAX 4096

struct onnx_make *onnx_make_new(int64_t opset, const char *text);
void onnx_make_free(struct onnx_make *mk);
/* Packs into mk->bytes, mk->len; again after each change. */
void onnx_make_pack(struct onnx_make *mk);
/* Adds statements. */
void onnx_make_add(struct onnx_make *mk, const char *text);
/* The initializer or node (by name or first output) of that name. */
Onnx__TensorProto *onnx_make_tensor(struct onnx_make *mk, const char *name);
Onnx__NodeProto *onnx_make_node(struct onnx_make *mk, const char *name);
/* Zeroed memory that lives as long as mk. */
void *onnx_make_alloc(struct onnx_make *mk, size_t n, size_t size);
char *onnx_make_text(struct onnx_make *mk, const char *s);
#endif
