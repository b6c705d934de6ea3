#ifndef CORE_OP_OP_H
#define CORE_OP_OP_H
/*
 * How operators compute. A file core/op/<name>.c defines one `const struct op` (or a few of one
 * family): the part that a graph knows (core/graph/operator.h) and, in op->hooks, the functions
 * that the executor calls.
 *
 * Hooks are plain single-threaded functions over a range of images. The executor owns threads,
 * memory, liveness and the order of sums, so an operator contains no OpenMP and no allocation.
 *
 * STORAGE of activations inside the executor (only there): a rank-4 activation [N,C,H,W] is stored
 * channels-last, [n][h][w][c]; any other rank is row-major as its shape says. PARAM, BUFFER, MASK
 * and CONST operands are in ONNX order; an operator that wants them in another order says so by
 * prepare_size/prepare and finds the result in call->prepared.
 *
 * In an executor of bf16 most rank-4 activations are stored as core/kernel/bf16.h says. An operator
 * that computes on that storage has a second set of hooks (op_hooks.bf16), which gets all activations
 * so, as bf16 behind the float pointers (op_bf16), for blocks of 32 images. For all other operators the
 * executor converts, a few images at a time.
 */
#include "core/kernel/bf16.h"
#include "core/graph/graph.h"
#include "core/kernel/rows.h"

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
    int32_t branch;               /* batch-norm branch, already clamped to what the node has */
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
    struct bf16_tail bf16_tail; /* the same for hooks of bf16 */
    bool folded;                /* OP_FOLD: `prepared` was made by prepare_folded */
};

/* forward is required; the rest may be NULL where an operator has no use for it. A network with a
 * node without grad_input can be evaluated but neither trained nor attacked. */
struct op_hooks {
    /* Floats of the prepared (packed, transposed) operands, and making them; both NULL if unused.
     * Called again after graph_touch(). May use several megabytes; must not allocate. */
    size_t (*prepare_size)(const struct graph *g, const struct node *node,
                           const struct op_use *use);
    void (*prepare)(const struct graph *g, const struct node *node, int branch,
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
    /* OP_BATCH_STATS only. The batch is all images of a pass, or a shard of them that is normalised by
     * itself. stats: per-block sums into `partial` (stats_size doubles). stats_done: partials of the
     * blocks of a batch of n_total images, in order, -> call->stats (stats_floats floats). stats_move:
     * partials of all blocks of the pass move the running statistics (graph buffers of `branch`); sums of
     * partials will do. In the backward pass grad_params runs over all blocks BEFORE grad_input, which
     * reads the finished sums of its batch at din[k] of the parameters (there they are inputs). */
    size_t (*stats_size)(const struct graph *g, const struct node *node);
    size_t (*stats_floats)(const struct graph *g, const struct node *node);
    void (*stats)(const struct op_call *, double *partial);
    void (*stats_done)(const struct graph *g, const struct node *node, int64_t n_total,
                       const double *partial, int32_t n_blocks, float *stats);
    void (*stats_move)(struct graph *g, const struct node *node, int branch, int64_t n_total,
                       const double *partial, int32_t n_blocks);
    /* The hooks on bf16 storage, NULL: none; and whether they can do this node (NULL: always). */
    const struct op_hooks *bf16;
    bool (*bf16_fits)(const struct graph *g, const struct node *node);
};

static inline bf16 *op_bf16(float *p)
{
    return (bf16 *)(void *)p;
}
static inline const bf16 *op_bf16_in(const float *p)
{
    return (const bf16 *)(const void *)p;
}

/* Helpers for shape rules. */
/* ERR_FORMAT unless input 0 is an activation [N,C,H,W], or also [N,K]. */
int op_need_image(const struct graph *g, const struct node *node);
int op_need_image_or_row(const struct graph *g, const struct node *node);
int op_fail(const struct node *node, const char *fmt, ...) ERR_PRINTF(2, 3); /* ERR_FORMAT */
#endif
