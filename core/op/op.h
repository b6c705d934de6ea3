#ifndef CORE_OP_OP_H
#define CORE_OP_OP_H
/*
 * The operator table: one operator = one file core/op_<name>.c with one `const struct op`, plus one
 * line in core/op/ops.def. Importer and exporter read and write attributes from op->attrs.
 *
 * Kernels are plain single-threaded functions over a range of images. The executor owns threads,
 * memory, liveness and the order of sums, so an operator contains no OpenMP and no allocation.
 *
 * STORAGE of activations inside the executor (only there): a rank-4 activation [N,C,H,W] is stored
 * channels-last, [n][h][w][c]; any other rank is row-major as its shape says. PARAM, BUFFER, MASK
 * and CONST operands are in ONNX order; an operator that wants them in another order says so by
 * prepare_size/prepare and finds the result in call->prepared.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/graph/graph.h"
#include "core/kernel/rows.h"

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

/* What the operands are prepared for. */
struct op_use {
    bool forward, gradient; /* these hooks will be called; OP_PREPARE_LATE: perhaps only one */
    int32_t part, parts;    /* OP_PREPARE_LATE: do part `part` of `parts`; 0 of 0: all */
    /* Most images a call of the executor, 0: many. An operator may compute in another way where
     * they are few. It must not look at the n of a call instead: the bits of an image do not depend
     * on the images beside it. */
    int64_t batch;
};

/* One call over images [0, n) of a block. Pointers point at the block's first image. */
struct op_call {
    const struct graph *g;
    const struct node *node;
    int64_t n;                    /* images in this block */
    int32_t bank;                 /* batch-norm bank, already clamped to what the node has */
    bool training;                /* batch statistics; otherwise evaluation mode */
    const float *in[NODE_MAX_IN]; /* activations and params; NULL where absent */
    float *out;                   /* forward: written. Backward: readable only with OP_KEEP_Y */
    const float *dout;            /* backward: gradient of out */
    float *din[NODE_MAX_IN];      /* backward: NULL = not wanted. Activations: write, or add where
                                     add[i]. Params: always add, executor zeroed them */
    bool add[NODE_MAX_IN];
    const float *prepared; /* result of prepare, or NULL */
    const float *stats;    /* OP_BATCH_STATS, training: result of stats_done */
    struct op_use use;     /* what `prepared` was made for */
    float *scratch;        /* scratch_size floats, private to this call */
    int32_t part, parts;   /* OP_SPLIT: do part `part` of `parts`, channels or tiles; 0 of 0: all */
    /* OP_TAIL: what follows in forward. `other` runs along with out, the mask with each image. */
    struct rows_tail tail;
    bool folded; /* OP_FOLD: `prepared` was made by prepare_folded */
};

struct op {
    const char *type; /* ONNX name; "MaskedRelu" is ours and never appears in a file */
    int8_t in_min, in_max;
    const struct attr *attrs; /* may be NULL */
    unsigned flags;
    /* Checks inputs and attributes, gives the shape of out[0]. The only hook that may fail;
     * messages name node, rule and values. */
    int (*shape)(const struct graph *g, const struct node *node, struct shape *out);
    /* Floats of the prepared (packed, transposed) operands, and making them; both NULL if unused.
     * Called again after graph_touch(). May use several megabytes; must not allocate. */
    size_t (*prepare_size)(const struct graph *g, const struct node *node,
                           const struct op_use *use);
    void (*prepare)(const struct graph *g, const struct node *node, int bank,
                    const struct op_use *use, float *prepared);
    /* OP_FOLD: prepares y = scale[c] f(x) + shift[c] for the node's own y = f(x), evaluation mode:
     * as prepare, of the same size. The gradient is that of the whole. */
    void (*prepare_folded)(const struct graph *g, const struct node *node, const float *scale,
                           const float *shift, const struct op_use *use, float *prepared);
    /* Floats of scratch one call may use, whatever hook and use; n = images in a block. NULL: none.
     */
    size_t (*scratch_size)(const struct graph *g, const struct node *node, int64_t n);
    void (*forward)(const struct op_call *);
    /* Gradient with respect to activations (din of activation operands). */
    void (*grad_input)(const struct op_call *);
    /* Gradient with respect to PARAM and soft MASK operands: adds into din[i]. NULL if none. */
    void (*grad_params)(const struct op_call *);
    /* OP_BATCH_STATS only. stats: per-block sums into `partial` (stats_size doubles). stats_done:
     * partials of all blocks, in order, -> call->stats (stats_floats floats), and the running
     * statistics (graph buffers of `bank`) are updated where `update`. In the backward pass
     * grad_params runs over all blocks BEFORE grad_input, which reads the finished sums of the whole
     * batch at din[k] of the parameters (there they are inputs). n_total: images in the batch. */
    size_t (*stats_size)(const struct graph *g, const struct node *node);
    size_t (*stats_floats)(const struct graph *g, const struct node *node);
    void (*stats)(const struct op_call *, double *partial);
    void (*stats_done)(struct graph *g, const struct node *node, int bank, bool update,
                       int64_t n_total, const double *partial, int32_t n_blocks, float *stats);
};

#define OP(name) extern const struct op op_##name;
#include "core/op/ops.def"
#undef OP

/* NULL if linnet has no such operator. */
const struct op *op_find(const char *type);
/* The table itself, NULL-terminated, for tests and `--version`. */
const struct op *const *op_table(void);
/* Fills the defaults of op->attrs into p. */
void op_defaults(const struct op *op, union op_params *p);

/* Helpers for shape hooks. */
int op_check_inputs(const struct graph *g, const struct node *node); /* arity, existence */
/* ERR_FORMAT unless input i is an activation [N,C,H,W]. */
int op_need_image(const struct graph *g, const struct node *node, int i);
int op_fail(const struct node *node, const char *fmt, ...) ERR_PRINTF(2, 3); /* ERR_FORMAT */

static inline const struct value *op_in(const struct graph *g, const struct node *node, int i)
{
    return &g->value[node->in[i]];
}
static inline bool value_is_activation(const struct value *v)
{
    return v->kind == VALUE_INPUT || v->kind == VALUE_TEMP;
}
#endif
