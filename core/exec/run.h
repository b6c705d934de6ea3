#ifndef CORE_EXEC_RUN_H
#define CORE_EXEC_RUN_H
/*
 * What the executor's files share; nobody else includes this.
 *
 * WINDOWS. Memory is laid out for `cap` images: value v has cap * elems floats from plan.act[v] * cap
 * on, image after image, and its gradient from plan.grad[v] * cap on. Offsets are multiples of 16
 * floats, so every value begins on a cache line. A window says which images of that memory a step works
 * on: [first, first + n). Hooks get pointers to the first of them, so a step over some images and one
 * over all are the same code.
 *
 * BITS do not depend on the number of threads, because
 *   - results and input gradients of an image are computed from that image alone, each number by one
 *     chain in fixed order, however images, channels or tiles are divided;
 *   - sums over images (parameter gradients, batch statistics) are cut into EXEC_BLOCKS blocks by image
 *     index. A block is summed by one thread, whichever is free; the blocks' sums are kept apart and
 *     added in index order;
 *   - or, where the weights are large, such a sum is one chain over all images, and the channels are
 *     divided instead. Which of the two is a rule of shapes and n (exec_splits), never of threads.
 *
 *   fuse.c     which nodes make one step          plan.c   where their values live
 *   new.c      construction and release           border.c pixels, their gradient, taps
 *   prepare.c  packed weights                      edge.c   bf16 storage beside fp32
 *   step.c     one step over some images, and over all of them on all threads ("wide")
 *   share.c    several ranks in training
 *   eval.c     evaluation modes                   train.c  training mode
 *   profile.c  time by node
 */
#include "core/exec/exec.h"
#include "core/exec/plan.h"
#include "core/op/op.h"

#define EXEC_BLOCKS 16 /* parts that the images of a wide step are cut into, whatever the threads */

struct room { /* of a worker */
    float *memory, *scratch;
    size_t memory_floats, scratch_floats;
};
/* What workers work in, of one executor or of several that take turns. */
struct exec_rooms {
    struct room *room; /* [n] */
    float *late;       /* what the running step has prepared late */
    size_t late_floats;
    int n;
    int users; /* executors */
};
/* What a step has to know of the others. add: the gradients of these operands are added to what a
 * later step or the caller wrote. */
struct step_order {
    bool add[NODE_MAX_IN], add_other;
    int32_t stats;  /* step whose batch statistics are taken of this step's result, -1: none */
    bool own_stats; /* takes its batch statistics itself */
    size_t pooled;  /* where their sums lie in exec.pooled */
};

struct exec {
    struct graph *g;
    enum exec_mode mode;
    int64_t batch; /* most images a call; what operators are prepared for */
    int64_t held;  /* images that there is memory for at a time */
    int64_t cap;   /* images that a worker's memory holds */
    bool wide;     /* step by step over all images, not block by block through the network */
    enum exec_precision precision;
    bool *half;          /* per value: stored in bf16 */
    bool *native;        /* per node: computes on that storage */
    size_t edge_scratch; /* floats that fp32 hooks of converted calls may use */
    struct exec_plan plan;
    struct step_order *order; /* per step */
    bool *tap;                /* per value */
    float **tap_memory;       /* per value, INFER mode, and in bf16: [batch * elems] */
    float **tap_grad;         /* the same, in bf16 training: gradients */
    float **prepared;         /* per node; NULL where it is done late */
    bool packs_late;          /* weights are prepared for one step at a time */
    uint64_t prepared_version;
    int prepared_branch;
    int n_worker;
    struct exec_profile **profile; /* per worker and node */
    struct exec_rooms *rooms; /* a worker's memory: plan.floats * cap, only of worker 0 where all is
                               * wide; and its scratch */
    size_t scratch_floats;
    struct arena *arena; /* all but plan, rooms and chain */
    size_t bytes;
    bool only_size; /* nothing but `bytes` is wanted: exec_size */
    /* training */
    bool *trainable;       /* per value: parameters lie upstream, so its gradient is wanted */
    int32_t bn_shards;     /* parts of a pass that batch norm normalises by themselves */
    int32_t shards;        /* those of the last forward pass */
    float **stats;         /* per node: of the shards, exec_stats_stride floats apart */
    double **stat_partial; /* per node: sums of the blocks */
    double *pooled;        /* [bn_shards][n_pooled] sums of the shards, of all nodes */
    size_t n_pooled;
    float *shard_sum;      /* parameter gradients of the shards of one step */
    float *partial;        /* parameter gradients of the blocks of one step */
    float *param_sum;      /* and their sum */
    float *next_sum;       /* the same of the step that runs in the same loop */
    int64_t n_train;       /* images of the last forward pass */
    int64_t before, share; /* of them those of lower ranks, and ours: [before, before + share) */
    int branch_train;
    /* training by several ranks, else NULL */
    struct ranks_chain *chain;
    float **own; /* per step: sum of the parameter gradients; this rank's parts of it */
    struct exec_piece *piece;
    int32_t n_piece;
    float *all_in, *all_out; /* operands of a step that is cut by channels, all images */
};

struct window { /* where the images of a call live */
    float *memory, *scratch;
    int64_t cap;   /* images the memory holds */
    int64_t first; /* first image of the call inside that memory */
    int64_t whole; /* its index in the whole batch, for taps */
    int64_t n;
    int64_t of, before; /* training: images of all ranks, and of lower ones; else 0 */
    int32_t shard;      /* training: which shard these images lie in */
    int branch;
    bool training;
    bool want_input; /* training: gradients of values without trainable parameters upstream, too */
    /* Training, of the step that goes back: see op_call.din of parameters, of each shard where the step
     * uses_stats; NULL: it has none. */
    float *params;
};

/* edge.c */
int exec_choose_storage(struct exec *e, enum exec_precision wanted) MUST_CHECK;
/* The hooks that node n runs with. */
const struct op_hooks *exec_hooks(const struct exec *e, int32_t n);
/* Floats an image of a value takes; a block of 32 images takes 32 times that. */
int64_t exec_floats(const struct exec *e, value_id v);
/* Does step s compute in fp32 what is stored in bf16? Then its hooks run through exec_run_converted,
 * for exec_edge_images images at a time, in exec_edge_scratch floats. */
bool exec_converts(const struct exec *e, int32_t s);
void exec_run_converted(const struct exec *e, int32_t s, const struct op_call *all,
                        void (*hook)(const struct op_call *));
int64_t exec_edge_images(const struct exec *e);
size_t exec_edge_scratch(const struct exec *e, int32_t s);
size_t exec_hook_scratch(const struct exec *e, int32_t n, int64_t images);
/* to (+)= from over n images of a value in bf16. */
void exec_add_gradient(const struct exec *e, value_id v, float *to, const float *from, int64_t n,
                       bool add);
/* Copies a value in bf16 to its tap, if it has one; adds the gradient from outside to its own. */
void exec_fill_tap(const struct exec *e, const struct window *w, value_id v);
void exec_merge_tap_gradient(const struct exec *e, const struct window *w, value_id v);

/* new.c */
/* n zeroed elements, or pointers, of an executor. NULL: no memory. */
void *exec_list(const struct exec *e, int32_t n, size_t size);
/* The same, counted in e->bytes. */
float *exec_floats_new(struct exec *e, size_t n);
int64_t exec_elems(const struct exec *e, value_id v);
/* May operand i of a node be trained? Parameters and soft masks. */
bool exec_trains(const struct graph *g, const struct node *n, int32_t i);
/* Does step s normalise by batch statistics? */
bool exec_uses_stats(const struct exec *e, int32_t s);
/* Floats from the statistics of one shard to those of the next. */
size_t exec_stats_stride(const struct graph *g, const struct node *n);
/* Floats of all trainable operands of a node. */
int64_t exec_node_params(const struct graph *g, const struct node *n);

/* border.c */
void exec_load_pixels(const struct graph *g, const float *pixels, int64_t n, float *x);
void exec_store_pixel_gradient(const struct graph *g, const float *dx, int64_t n, float *dpixels);

/* prepare.c */
int exec_node_branch(const struct node *n, int branch);
/* Packs weights again where they, or the branch, have changed; not those that are done late. */
void exec_prepare(struct exec *e, int branch);
/* What a node is prepared for; late: for one pass only, forward or gradient. */
bool exec_is_late(const struct exec *e, const struct node *n);
/* Scale and shift of the BatchNormalization that goes into a step's weights, in this thread's scratch. */
const float *exec_fold_norm(const struct exec *e, const struct exec_step *s, int branch);
struct op_use exec_use(const struct exec *e, const struct node *n, bool gradient);

/* step.c */
int exec_threads(const struct exec *e);
/* Block b of `blocks` of a window, with the scratch of this thread. */
struct window exec_block(const struct exec *e, const struct window *all, int32_t b, int32_t blocks);
float *exec_activation(const struct exec *e, const struct window *w, value_id v);
float *exec_gradient(const struct exec *e, const struct window *w, value_id v);
struct op_call exec_call(const struct exec *e, const struct window *w, int32_t s);
/* Is a step cut by channels rather than by images? A rule of the shapes and n. */
bool exec_splits(const struct exec *e, int32_t s, int64_t n);
/* Images of the largest batch of which it is, 0: none. */
int64_t exec_most_split(const struct exec *e, int32_t s);
/* A hook of step s, converted where it must be. */
void exec_run_hook(const struct exec *e, int32_t s, const struct op_call *c,
                   void (*hook)(const struct op_call *));
/* One step over the images of a window, on this thread. */
typedef void exec_step_fn(struct exec *e, const struct window *w, int32_t s);
exec_step_fn exec_forward, exec_tail_backward, exec_input_backward;
/* The same over all blocks of a window that have images, on all threads. */
void exec_each_block(struct exec *e, const struct window *all, int32_t s, exec_step_fn *fn);
/* Points din of the trainable operands into `base`, one after the other. */
void exec_param_slices(const struct exec *e, int32_t s, float *base, struct op_call *c);
/* Prepares what is done late for the forward pass of step s, or its input gradient, into rooms->late:
 * before exec_forward and exec_input_backward in training mode. On all threads. */
void exec_prepare_late(const struct exec *e, const struct window *w, int32_t s, bool gradient);
/* Over all images of a window, on all threads; these prepare themselves. */
void exec_wide_forward(struct exec *e, const struct window *all, int32_t s);
void exec_wide_backward(struct exec *e, const struct window *all, int32_t s);

/* share.c */
/* The most images of n that a rank has. */
int64_t exec_most_images(const struct exec *e, int64_t n);
/* EXEC_BLOCKS blocks of that many bytes, of which this rank has filled its own. */
void exec_gather_blocks(void *blocks, size_t bytes);
bool exec_owns_block(int32_t b);
/* Images of shard k in the last forward pass. */
int64_t exec_shard_images(const struct exec *e, int32_t k);
/* Does a shard lie in several ranks, so that they need each other's blocks? */
bool exec_shares_stats(const struct exec *e);
/* Shards whose statistics this rank needs, [*first, *end). */
void exec_own_shards(const struct exec *e, int32_t *first, int32_t *end);
/* Completes e->pooled. */
void exec_gather_shards(struct exec *e);
/* Where this rank writes block b, or part 0, of what a step adds to its gradient's chain; then the chain
 * begins. The sum is complete after ranks_chain_finish(e->chain). */
float *exec_chain_block(const struct exec *e, int32_t s, int32_t b);
float *exec_chain_part(const struct exec *e, int32_t s, int32_t part);
int exec_chain_put(struct exec *e, int32_t s) MUST_CHECK;
/* Turns a call of grad_params over this rank's images into one over all. */
void exec_gather_operands(const struct exec *e, int32_t s, struct op_call *c);
int exec_new_chains(struct exec *e) MUST_CHECK;
#endif
