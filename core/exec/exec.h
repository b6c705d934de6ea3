#ifndef CORE_EXEC_EXEC_H
#define CORE_EXEC_EXEC_H
/*
 * The executor: memory plan, forward pass, input gradients, training passes.
 *
 * Three modes, because they want different memory and different loops:
 *
 *   EXEC_INFER       evaluation mode, logits only. Images are independent, so threads take whole
 *                    blocks of images through the whole network: activations stay in cache.
 *   EXEC_INPUT_GRAD  the same, and back to the input (PGD). No parameter gradients.
 *   EXEC_TRAIN       batch statistics couple the images, so it goes node by node over the whole
 *                    batch; blocks of images run in parallel inside a node.
 *
 * Same bits for any thread count: work is cut into blocks by index, sums over images are kept per
 * block and added in block order.
 *
 * The executor reads weights from the graph it was made for, which must outlive it. Images go in as
 * pixels [n,C,H,W] in [0,1]; g->norm is applied on the way in and its factor on the way back, so
 * gradients are with respect to pixels.
 *
 *     struct exec *e;
 *     TRY(exec_new(g, EXEC_INFER, 256, NULL, &e));
 *     TRY(exec_infer(e, pixels, n, 0, logits));
 *     exec_free(e);
 */
#include "core/graph/graph.h"

enum exec_mode { EXEC_INFER, EXEC_INPUT_GRAD, EXEC_TRAIN };
/* What activations are stored and multiplied in. EXEC_BF16: maps and weights in bfloat16, sums in fp32
 * (core/kernel/bf16.h, edge.c); pixels, their gradient, logits, losses, parameters, their gradients and
 * batch statistics are fp32 in both. */
enum exec_precision { EXEC_FP32, EXEC_BF16 };
const char *exec_precision_name(enum exec_precision p); /* "fp32", "bf16" */
struct exec;

/* Kernels and precision are chosen by `batch`. Callers to whom any number of images may come take this one,
 * and memory for as many as come: then no bit of an image's result depends on the others. */
#define EXEC_BATCH 256

struct exec_opts {
    enum exec_precision precision;
    /* Values whose activations the caller wants to read (exec_tap) and may add gradients to
     * (exec_tap_grad); TRAIN and INFER mode. */
    const value_id *taps;
    int32_t n_taps;
    /* INFER and INPUT_GRAD: memory for that many images at a time, 1 ... batch (0: batch): where fewer
     * come, or taps take much. Results have the bits that an executor of `batch` gives; with taps n
     * must not exceed it. */
    int64_t held;
    /* Whose working memory it uses, which grows where the new one needs more; in INFER and INPUT_GRAD
     * mode it rather holds fewer images at a time, with the same bits. The two never run at the same
     * time, and a call of one ends what the other's taps and the backward pass of a forward pass would
     * still read; taps of INFER mode have memory of their own. Freed in any order. NULL: its own. */
    struct exec *beside;
    /* TRAIN mode with batch statistics of shards: a pass is cut into that many parts of consecutive
     * images, which divide EXEC_SHARDS_MOST, and batch norm normalises each by itself, forward and
     * back, as if each were the batch. 1 or 0: the whole pass is. Running statistics are those of all
     * images: the mean and variance over the shards' sums. Several ranks then wait for each other's
     * statistics once a pass, if they divide the shards. */
    int32_t shards;
};
#define EXEC_SHARDS_MOST 16
/* batch: the largest n of later calls; o: NULL for zeros. Errors: ERR_NOMEM, ERR_LIMIT,
 * ERR_UNSUPPORTED (a node has no gradient). */
int exec_new(struct graph *g, enum exec_mode mode, int64_t batch, const struct exec_opts *o,
             struct exec **out) MUST_CHECK;
/* Shards of a pass of n images where `wanted` are: half as many, and so on, where one would have fewer than
 * EXEC_SHARD_LEAST images; in bf16 they are cut at multiples of 32 images. */
#define EXEC_SHARD_LEAST 2
int32_t exec_shards(enum exec_precision p, int64_t n, int32_t wanted);
/* What it computes in: EXEC_FP32 where the network has nothing that bf16 could store, and in INFER and
 * INPUT_GRAD mode below a batch of 16 (edge.c). */
enum exec_precision exec_precision_of(const struct exec *e);
void exec_free(struct exec *e); /* NULL is fine */
FREE_AT(exec_free, struct exec)
/* *bytes = what exec_new would take without taps, the weights not counted. Takes no such memory
 * itself; the same errors. */
int exec_size(struct graph *g, enum exec_mode mode, enum exec_precision precision, int64_t batch,
              size_t *bytes) MUST_CHECK;

/* Logits [n,K] of n images (any n; the executor walks in blocks). In INFER mode with taps n must
 * not exceed `batch` (or `held`). */
int exec_infer(struct exec *e, const float *pixels, int64_t n, int branch,
               float *logits) MUST_CHECK;

/* Loss of a block: logits and dlogits are [count,K]; first = index of the block's first image in
 * the call. Runs on several threads at once, for different blocks. */
typedef void exec_loss_fn(void *ctx, int64_t first, int64_t count, const float *logits,
                          float *dlogits);
/* dpixels [n,C,H,W] = d loss / d pixels in evaluation mode; logits may be NULL, else [n,K]. */
int exec_input_grad(struct exec *e, const float *pixels, int64_t n, int branch, exec_loss_fn *loss,
                    void *ctx, float *dpixels, float *logits) MUST_CHECK;

/* Training mode, n <= batch: forward, then backward. update_stats: move the running statistics.
 * Where several ranks train (core/base/ranks.h) every one makes the same calls: each works on its share of the
 * n images, of which alone it reads pixels and has taps; logits, sums and statistics are those of all. */
int exec_train_forward(struct exec *e, const float *pixels, int64_t n, int branch,
                       bool update_stats, float *logits) MUST_CHECK;
/* dparams [g->n_params] and dmasks [g->n_masks, NULL if not wanted] are ADDED to; dpixels may be
 * NULL. Uses the activations of the last exec_train_forward. */
int exec_train_backward(struct exec *e, const float *dlogits, float *dparams, float *dmasks,
                        float *dpixels) MUST_CHECK;

/* This rank's images of n in a training pass, [*first, *first + *count). */
void exec_share(const struct exec *e, int64_t n, int64_t *first, int64_t *count);
/* rows: n of `bytes` bytes each, of which this rank has filled its share; then all are there. */
void exec_gather(const struct exec *e, int64_t n, void *rows, size_t bytes);

/* Activation of a tap after the last forward, in executor storage: rank 4 is [n][h][w][c]. */
const float *exec_tap(const struct exec *e, value_id v);
/* Gradient to be added to a tap's own in the next exec_train_backward, same storage, zeroed by
 * every exec_train_forward. After the backward pass it is the tap's whole gradient. */
float *exec_tap_grad(struct exec *e, value_id v);

/* What an executor measures of each node, in thread seconds; profile.h reads it. */
struct exec_profile {
    double forward_s, grad_input_s, grad_params_s;
};
#endif
