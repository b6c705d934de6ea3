#ifndef CORE_GRAPH_OPERATOR_H
#define CORE_GRAPH_OPERATOR_H
/*
 * What a graph has to know of an operator: its ONNX name, number of inputs, attributes, flags and
 * the rule for the shape of its result. The importer reads attributes by this table, the exporter
 * writes them by it, passes and stages ask for the flags. How an operator computes (struct op_hooks)
 * is declared in core/op/op.h; nothing in this folder calls it.
 *
 * One operator = one file core/op/<name>.c, which defines op_<name>, and one line in ops.def, from
 * which the declarations below and the table are made.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/graph/tensor.h"

struct graph;
struct node;
struct op_hooks;
union op_params;

enum attr_kind { ATTR_INT, ATTR_FLOAT, ATTR_INTS, ATTR_INTS_PAIRED };
struct attr {
    const char *name; /* ONNX attribute name; NULL ends the table */
    enum attr_kind kind;
    size_t offset; /* of the int64_t / float / int64_t[] in union op_params */
    int32_t count; /* ATTR_INTS: how many, e.g. 2 for strides, 4 for pads */
    bool required;
    double dflt;   /* value, or every element, if absent */
    double lo, hi; /* allowed range, inclusive */
};

enum op_flags {
    OP_LINEAR = 1,      /* linear in its activations: free in private inference */
    OP_ELEMENTWISE = 2, /* out may share the memory of in[0] */
    OP_KEEP_X = 4, /* grad_input or grad_params reads in[0] (and in[1] if it is an activation) */
    OP_KEEP_Y = 8, /* ... reads out[0] */
    OP_KEEP_X_TRAIN = 16, /* reads in[0], but only in training mode or for parameter gradients */
    OP_BATCH_STATS = 32,  /* in training mode the stats hooks run first */
    OP_RELU = 64,         /* a (masked) ReLU: what the linearizer looks for */
    OP_SPLIT = 128,       /* the hooks can do a part of what they write (op_call.part) */
    OP_TAIL = 256,        /* forward can do op_call.tail in the same pass */
    OP_FOLD = 512,        /* has prepare_folded */
    /* Training prepares the node before its step, for this pass alone and part by part, into memory
     * that others use before and after: packed weights are four to eight times their size. */
    OP_PREPARE_LATE = 1024,
};

struct op {
    const char *type; /* ONNX name; "MaskedRelu" and "Relu6" are ours and never appear in a file */
    int8_t in_min, in_max;
    const struct attr *attrs; /* may be NULL */
    unsigned flags;
    /* Checks inputs, whose number is right, and attributes, gives the shape of out[0]. The only rule that
     * may fail; messages name node, rule and values. */
    int (*shape)(const struct graph *g, const struct node *node, struct shape *out);
    const struct op_hooks *hooks; /* core/op/op.h */
};

#define OP(name) extern const struct op op_##name;
#include "core/graph/ops.def"
#undef OP

/* NULL if linnet has no such operator. */
const struct op *op_find(const char *type);
/* All operators in the order of ops.def, NULL-terminated. */
const struct op *const *op_table(void);
/* Fills the defaults of op->attrs into p. */
void op_defaults(const struct op *op, union op_params *p);
#endif
