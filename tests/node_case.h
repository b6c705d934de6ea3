#ifndef TESTS_NODE_CASE_H
#define TESTS_NODE_CASE_H
/*
 * One of ONNX's own conformance cases: a folder with model.onnx and a tensor for each input and output
 * (test_data_set_0/input_0.pb, ...). A case counts where all its operators are some that linnet has.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "onnx.pb-c.h"

enum { MAX_IN = 16, MAX_OUT = 8, MAX_ELEMS = 1 << 20, TEXT = 512 };
#define TYPE(x) ONNX__TENSOR_PROTO__DATA_TYPE__##x

struct numbers { /* a tensor of the case, as doubles */
    int64_t dim[8];
    size_t rank, count;
    double *v;
};

struct node_case {
    const char *folder, *name;
    Onnx__ModelProto *model;
    Onnx__TensorProto *in[MAX_IN], *out[MAX_OUT];
    size_t n_in, n_out;
    size_t at; /* the output that is looked at */
    struct numbers want;
    int32_t want_type;
    char why[TEXT]; /* what the importer said, or what differs */
};

/* Reads the case c->folder/c->name. False if it is not about operators of linnet. node_case_release in
 * every case. */
bool node_case_read(struct node_case *c);
void node_case_release(struct node_case *c);
/* Of one element in raw data; 0 for types that are no numbers here: float8, int4, text. */
size_t numbers_type_bytes(int32_t type);
/* False for such types. n->v is the caller's (mem_free). */
bool numbers_read(const Onnx__TensorProto *t, struct numbers *n);
#endif
