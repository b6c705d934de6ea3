/*
 * Training mode: step by step over the whole batch, because batch statistics couple the images (with
 * shards, those of a shard).
 * Work that can follow on the same block of images does so while the block is in the cache:
 *
 *   forward    a convolution, then the sums of the batch statistics after it
 *   backward   the tail (ReLU, Add), then the parameter sums of the step
 *              the input gradient of a BatchNormalization, then both gradients of the convolution
 *              before it
 *
 * Parameter gradients are sums over images: of EXEC_BLOCKS blocks, added in order, or, where a step
 * is cut by channels, one sum a channel over all images (run.h says why the bits do not depend on
 * threads). A step's sums are complete in param_sum before its input gradient runs, because that of a
 * BatchNormalization reads them; the convolution that goes back in the same loop has next_sum. With shards
 * it reads those of its shard, shard_sum.
 */
#include "core/exec/run.h"

#include <assert.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/ranks.h"

static struct window whole_batch(const struct exec *e)
{
    return (struct window){.memory = e->rooms->room[0].memory,
                           .scratch = e->rooms->room[0].scratch,
                           .cap = e->cap,
                           .n = e->share,
                           .of = e->n_train,
                           .before = e->before,
                           .branch = e->branch_train,
                           .training = true};
}

static const struct node *node_of(const struct exec *e, int32_t s)
{
    return &e->g->node[e->plan.step[s].node];
}

/* Does batch norm s see each shard by itself? */
static bool is_sharded(const struct exec *e, int32_t s)
{
    return e->shards > 1 && exec_uses_stats(e, s);
}

/* ---- forward */

static void block_stats(struct exec *e, const struct window *w, int32_t s, int32_t b)
{
    const struct node *x = node_of(e, s);
    const struct op_call c = exec_call(e, w, s);

    exec_hooks(e, e->plan.step[s].node)
        ->stats(&c, e->stat_partial[e->plan.step[s].node] +
                        (size_t)b * x->op->hooks->stats_size(e->g, x));
}

static void clear_stats(struct exec *e, int32_t s)
{
    const struct node *x = node_of(e, s);
    double *partial = e->stat_partial[e->plan.step[s].node];

    memset(partial, 0, EXEC_BLOCKS * x->op->hooks->stats_size(e->g, x) * sizeof *partial);
}

/* Forward of step s (unless negative), then the sums of step t, block by block. */
static void forward_with_stats(struct exec *e, const struct window *all, int32_t s, int32_t t)
{
    clear_stats(e, t);
    if (s >= 0)
        exec_prepare_late(e, all, s, false);
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        const struct window w = exec_block(e, all, b, EXEC_BLOCKS);

        if (w.n > 0 && s >= 0)
            exec_forward(e, &w, s);
        if (w.n > 0)
            block_stats(e, &w, t, b);
    }
}

/* Moves the running statistics of step s by the sums of `n_blocks` blocks, all images. */
static void move_running(struct exec *e, int32_t s, const double *partial, int32_t n_blocks)
{
    const struct node *x = node_of(e, s);

    x->op->hooks->stats_move(e->g, x, exec_node_branch(x, e->branch_train), e->n_train, partial,
                             n_blocks);
}

/* Statistics of step s in shard k, whose sums go to those of all nodes. */
static void shard_stats(struct exec *e, int32_t s, int32_t k)
{
    const struct node *x = node_of(e, s);
    const int32_t n = e->plan.step[s].node, blocks = EXEC_BLOCKS / e->shards;
    const size_t size = x->op->hooks->stats_size(e->g, x);
    const double *partial = e->stat_partial[n] + (size_t)(k * blocks) * size;
    double *sum = e->pooled + (size_t)k * e->n_pooled + e->order[s].pooled;

    x->op->hooks->stats_done(e->g, x, exec_shard_images(e, k), partial, blocks,
                             e->stats[n] + (size_t)k * exec_stats_stride(e->g, x));
    for (size_t i = 0; i < size; i++) {
        sum[i] = 0;
        for (int32_t b = 0; b < blocks; b++)
            sum[i] += partial[(size_t)b * size + i];
    }
}

/* Statistics of step s, from the sums of its blocks. */
static void finish_stats(struct exec *e, int32_t s, bool update)
{
    const struct node *x = node_of(e, s);
    double *partial = e->stat_partial[e->plan.step[s].node];
    int32_t k, end;

    if (exec_shares_stats(e))
        exec_gather_blocks(partial, x->op->hooks->stats_size(e->g, x) * sizeof *partial);
    exec_own_shards(e, &k, &end);
    for (; e->shards > 1 && k < end; k++)
        shard_stats(e, s, k);
    if (e->shards > 1)
        return;
    x->op->hooks->stats_done(e->g, x, e->n_train, partial, EXEC_BLOCKS,
                             e->stats[e->plan.step[s].node]);
    if (update)
        move_running(e, s, partial, EXEC_BLOCKS);
}

/* After a pass in shards: the running statistics are moved by those of all images. */
static void pool_shards(struct exec *e)
{
    exec_gather_shards(e);
    for (int32_t k = 1; k < e->shards; k++)
        for (size_t i = 0; i < e->n_pooled; i++)
            e->pooled[i] += e->pooled[(size_t)k * e->n_pooled + i];
    for (int32_t s = 0; s < e->plan.n_step; s++)
        if (exec_uses_stats(e, s))
            move_running(e, s, e->pooled + e->order[s].pooled, 1);
}

static void step_forward(struct exec *e, const struct window *all, int32_t s, bool update)
{
    const int32_t t = e->order[s].stats;

    if (e->order[s].own_stats)
        forward_with_stats(e, all, -1, s);
    if (exec_uses_stats(e, s))
        finish_stats(e, s, update);
    if (t >= 0 && !exec_splits(e, s, all->n)) {
        forward_with_stats(e, all, s, t);
        return;
    }
    exec_wide_forward(e, all, s);
    if (t >= 0)
        forward_with_stats(e, all, -1, t);
}

int exec_train_forward(struct exec *e, const float *pixels, int64_t n, int branch,
                       bool update_stats, float *logits)
{
    struct graph *g = e->g;

    assert(e->mode == EXEC_TRAIN && n > 0 && n <= e->batch);
    e->n_train = n;
    e->shards = exec_shards(e->precision, n, e->bn_shards);
    exec_share(e, n, &e->before, &e->share);
    e->branch_train = branch;
    exec_prepare(e, branch);
    const struct window all = whole_batch(e);
    const float *mine = pixels + e->before * exec_elems(e, g->input);
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        const struct window w = exec_block(e, &all, b, EXEC_BLOCKS);

        exec_load_pixels(g, mine + w.first * exec_elems(e, g->input), w.n,
                         exec_activation(e, &w, g->input));
    }
    for (int32_t s = 0; s < e->plan.n_step; s++)
        step_forward(e, &all, s, update_stats);
    if (update_stats && e->shards > 1)
        pool_shards(e);
    for (value_id v = 0; v < g->n_value; v++)
        if (e->tap[v])
            memset(exec_tap_grad(e, v), 0, (size_t)(e->share * exec_elems(e, v)) * sizeof(float));
    if (logits) {
        const int64_t k = exec_elems(e, g->output);

        memcpy(logits + e->before * k, exec_tap(e, g->output),
               (size_t)(e->share * k) * sizeof *logits);
        exec_gather(e, n, logits, (size_t)k * sizeof *logits);
    }
    return 0;
}

/* ---- backward */

struct backward {
    float *dparams, *dmasks;
};

/* Does the step have parameter gradients that somebody wants? */
static bool has_params(const struct exec *e, int32_t s, const struct backward *r)
{
    const struct node *x = node_of(e, s);

    if (x->op->hooks->grad_params == NULL || exec_node_params(e->g, x) == 0)
        return false;
    return x->op != &op_masked_relu || !x->p.masked_relu.soft || r->dmasks;
}

/* What grad_params of a step is called with. */
static struct op_call params_call(const struct exec *e, const struct window *w, int32_t s)
{
    struct op_call c = exec_call(e, w, s);

    c.dout = exec_gradient(e, w, e->plan.step[s].out);
    return c;
}

/* Part `part` of `parts` of call *all, 0 of 0: all of it, added to sum. */
static void call_grad_params(struct exec *e, const struct op_call *all, int32_t s, float *sum,
                             int32_t part, int32_t parts)
{
    const double start = cpu_seconds();
    struct op_call c = *all;

    c.scratch = e->rooms->room[cpu_thread_index()].scratch;
    c.part = part;
    c.parts = parts;
    exec_param_slices(e, s, sum, &c);
    exec_run_hook(e, s, &c, exec_hooks(e, e->plan.step[s].node)->grad_params);
    e->profile[cpu_thread_index()][e->plan.step[s].node].grad_params_s += cpu_seconds() - start;
}

/* Does its sum travel as a chain, whose end nobody waits for? */
static bool is_chained(const struct exec *e, int32_t s)
{
    return e->chain != NULL && !(exec_uses_stats(e, s) && exec_shares_stats(e));
}

/* Has block b of a small batch no images, and so no part in any sum? One rank alone: blocks of several are
 * exchanged as they are. */
static bool is_empty_block(const struct exec *e, int32_t b)
{
    const struct window all = whole_batch(e);

    return ranks_count() == 1 && exec_block(e, &all, b, EXEC_BLOCKS).n == 0;
}

/* Where the gradients of block b of a step lie. */
static float *block_sum(const struct exec *e, int32_t s, int32_t b)
{
    return is_chained(e, s) ? exec_chain_block(e, s, b)
                            : e->partial + b * exec_node_params(e->g, node_of(e, s));
}

/* Parameter gradients of block b alone. */
static void block_params(struct exec *e, const struct window *w, int32_t s, int32_t b)
{
    const int64_t size = exec_node_params(e->g, node_of(e, s));

    if (!exec_owns_block(b) || is_empty_block(e, b))
        return;
    float *sum = block_sum(e, s, b);

    memset(sum, 0, (size_t)size * sizeof *sum);
    if (w->n > 0) {
        const struct op_call c = params_call(e, w, s);

        call_grad_params(e, &c, s, sum, 0, 0);
    }
}

/* sum := the gradients of blocks [first, end), added in order. */
static void add_blocks(const struct exec *e, int32_t s, int32_t first, int32_t end, float *sum)
{
    const int64_t size = exec_node_params(e->g, node_of(e, s));
    const float *block[EXEC_BLOCKS];
    int32_t n = 0;

    for (int32_t b = first; b < end; b++)
        if (!is_empty_block(e, b))
            block[n++] = block_sum(e, s, b);
#pragma omp parallel for schedule(static) num_threads(exec_threads(e))
    for (int64_t i = 0; i < size; i++) {
        float v = 0;

        for (int32_t b = 0; b < n; b++)
            v += block[b][i];
        sum[i] = v;
    }
}

/* The same of each shard, which its input gradient reads. */
static void add_shards(struct exec *e, int32_t s)
{
    const int64_t size = exec_node_params(e->g, node_of(e, s));
    const int32_t blocks = EXEC_BLOCKS / e->shards;
    int32_t k, end;

    exec_own_shards(e, &k, &end);
    for (; k < end; k++)
        add_blocks(e, s, k * blocks, (k + 1) * blocks, e->shard_sum + k * size);
}

/* sum := gradients of a step that is cut by channels, among the ranks and their threads. */
static void split_params(struct exec *e, const struct window *all, int32_t s, float *sum)
{
    const int threads = exec_threads(e), first = ranks_index() * threads;
    const int64_t size = exec_node_params(e->g, node_of(e, s));
    struct op_call c = params_call(e, all, s);

    if (e->chain != NULL)
        exec_gather_operands(e, s, &c);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < size; i++)
        sum[i] = 0;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < threads; i++)
        call_grad_params(e, &c, s, sum, first + i, threads * ranks_count());
}

static void add_into(const struct exec *e, float *to, const float *sum, int64_t n)
{
#pragma omp parallel for schedule(static) num_threads(exec_threads(e)) if (n > 65536)
    for (int64_t i = 0; i < n; i++)
        to[i] += sum[i];
}

/* Adds a step's sums to the caller's gradient blocks. */
static void give_params(const struct exec *e, int32_t s, const float *sum, const struct backward *r)
{
    const struct node *x = node_of(e, s);

    for (int32_t i = 0; i < x->n_in; i++) {
        if (!exec_trains(e->g, x, i))
            continue;
        const struct value *v = op_in(e->g, x, i);
        float *to = v->kind == VALUE_PARAM ? r->dparams : r->dmasks;
        const int64_t size = shape_elems(&v->shape);

        if (to)
            add_into(e, to + v->offset, sum, size);
        sum += size;
    }
}

/* The blocks' sums have been made: their sum into `sum`, and to the caller; or their chain begins. */
static int finish_blocks(struct exec *e, int32_t s, float *sum, const struct backward *r)
{
    if (!is_chained(e, s))
        exec_gather_blocks(e->partial,
                           (size_t)exec_node_params(e->g, node_of(e, s)) * sizeof *e->partial);
    if (is_sharded(e, s))
        add_shards(e, s);
    if (is_chained(e, s))
        return exec_chain_put(e, s);
    add_blocks(e, s, 0, EXEC_BLOCKS, sum);
    give_params(e, s, sum, r);
    return 0;
}

static int finish_split(struct exec *e, const struct window *all, int32_t s,
                        const struct backward *r)
{
    if (is_chained(e, s)) {
        split_params(e, all, s, exec_chain_part(e, s, 0));
        return exec_chain_put(e, s);
    }
    split_params(e, all, s, e->param_sum);
    give_params(e, s, e->param_sum, r);
    return 0;
}

/* The tail of the step, then (`params`) its parameter gradients into e->param_sum. */
static int tail_and_params(struct exec *e, const struct window *all, int32_t s,
                           const struct backward *r, bool params)
{
    const bool by_block = params && !exec_splits(e, s, e->n_train);

#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        const struct window w = exec_block(e, all, b, EXEC_BLOCKS);

        if (w.n > 0)
            exec_tail_backward(e, &w, s);
        if (by_block)
            block_params(e, &w, s, b);
    }
    if (by_block)
        return finish_blocks(e, s, e->param_sum, r);
    return params ? finish_split(e, all, s, r) : 0;
}

/* May step s - 1, the only reader of whose result is s, go back in the same loop? */
static bool pairs(const struct exec *e, int32_t s, const struct backward *r)
{
    if (s == 0 || !(node_of(e, s)->op->flags & OP_BATCH_STATS) || exec_splits(e, s - 1, e->n_train))
        return false;
    const struct exec_step *before = &e->plan.step[s - 1];

    return node_of(e, s)->in[0] == before->out && node_of(e, s - 1)->op == &op_conv &&
           before->relu < 0 && before->other == NO_VALUE && has_params(e, s - 1, r) &&
           graph_count_uses(e->g, before->out) == 1 && !e->tap[before->out];
}

static int pair_backward(struct exec *e, const struct window *all, int32_t s,
                         const struct backward *r)
{
    exec_prepare_late(e, all, s - 1, true);
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        struct window w = exec_block(e, all, b, EXEC_BLOCKS);

        if (w.n > 0)
            exec_input_backward(e, &w, s);
        w.params = NULL;
        block_params(e, &w, s - 1, b);
        if (w.n > 0)
            exec_input_backward(e, &w, s - 1);
    }
    return finish_blocks(e, s - 1, e->next_sum, r);
}

/* *done: how many steps, one or two. */
static int step_backward(struct exec *e, const struct window *all, int32_t s,
                         const struct backward *r, int32_t *done)
{
    const bool params = has_params(e, s, r);
    struct window w = *all;

    TRY(tail_and_params(e, all, s, r, params));
    if (params)
        w.params = is_sharded(e, s) ? e->shard_sum : e->param_sum;
    *done = pairs(e, s, r) ? 2 : 1;
    if (*done == 2)
        return pair_backward(e, &w, s, r);
    exec_wide_backward(e, &w, s);
    return 0;
}

/* Is step s worked on at all? */
static bool goes_back(const struct exec *e, const struct window *all, int32_t s)
{
    return e->trainable[e->plan.step[s].out] || all->want_input;
}

/* Waits for the chains of all steps, and gives their sums in the order in which they began. */
static void finish_chains(struct exec *e, const struct window *all, const struct backward *r)
{
    if (e->chain == NULL)
        return;
    ranks_chain_finish(e->chain);
    for (int32_t s = e->plan.n_step - 1; s >= 0; s--)
        if (goes_back(e, all, s) && is_chained(e, s) && has_params(e, s, r))
            give_params(e, s, e->own[s], r);
}

int exec_train_backward(struct exec *e, const float *dlogits, float *dparams, float *dmasks,
                        float *dpixels)
{
    struct graph *g = e->g;
    const struct backward r = {dparams, dmasks};

    assert(e->mode == EXEC_TRAIN && e->n_train > 0);
    struct window all = whole_batch(e);
    all.want_input = dpixels != NULL;
    const int64_t k = exec_elems(e, g->output);
    float *dout = exec_gradient(e, &all, g->output);

    for (int64_t i = 0; i < e->share * k; i++)
        dout[i] =
            e->tap[g->output] ? dout[i] + dlogits[e->before * k + i] : dlogits[e->before * k + i];
    for (int32_t s = e->plan.n_step - 1, done; s >= 0; s -= done) {
        done = 1;
        if (goes_back(e, &all, s))
            TRY(step_backward(e, &all, s, &r, &done));
        if (e->chain != NULL)
            ranks_chain_poll(e->chain);
    }
    finish_chains(e, &all, &r);
    if (dpixels)
        exec_store_pixel_gradient(g, exec_gradient(e, &all, g->input), e->share,
                                  dpixels + e->before * exec_elems(e, g->input));
    return 0;
}
