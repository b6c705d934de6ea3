/*
 * The executor. Evaluation modes: every thread takes blocks of images through the whole network in
 * memory of its own ("worker"). Training mode: node by node over one shared memory that holds the
 * whole batch, with the blocks of a node in parallel.
 *
 * Sizes of blocks follow rules of the shapes only, so results never depend on the machine:
 *   evaluation   as many images as make the largest activation BLOCK_FLOATS, 1 ... BLOCK_MAX
 *   training     TRAIN_BLOCKS blocks a batch, taken by whichever thread is free; parameter gradients use fewer where the weights are
 *                large, so that their partial sums stay below PARTIAL_FLOATS
 *
 * Limits: one input, one output; activations of rank 4 are stored [n][h][w][c].
 */
#include "core/exec.h"

#include <assert.h>
#include <string.h>

#include "core/cpu.h"
#include "core/exec_plan.h"
#include "core/op.h"

#define BLOCK_FLOATS (1 << 18) /* 1 MiB: stays in an L2 cache together with its neighbours */
#define BLOCK_MAX 16
#define TRAIN_BLOCKS 16
#define PARTIAL_FLOATS (16 << 20)

struct worker {
    float *memory;                /* plan.floats * cap */
    float *scratch;               /* scratch_floats */
    struct exec_profile *profile; /* per node */
};

struct exec {
    struct graph *g;
    enum exec_mode mode;
    int64_t batch, block; /* most images a call; images a block holds (evaluation modes) */
    struct exec_plan plan;
    bool *tap;          /* per value */
    float **tap_memory; /* per value, INFER mode: [batch * elems] */
    float **prepared;   /* per node */
    uint64_t prepared_version;
    int prepared_bank;
    int n_worker;
    struct worker *worker;
    size_t scratch_floats;
    size_t bytes;
    struct exec_profile *profile;
    /* training */
    bool *trainable; /* per value: parameters lie upstream, so its gradient is wanted */
    float **stats;   /* per node */
    double *stat_partial;
    float *partial;   /* parameter gradients of the blocks of one node */
    float *param_sum; /* and their sum */
    int64_t n_train;  /* images of the last forward pass */
    int bank_train;
};

/* ---- construction ------------------------------------------------------------------------ */

static int64_t elems(const struct exec *e, value_id v)
{
    return shape_elems(&e->g->value[v].shape);
}

static float *floats(struct exec *e, size_t n)
{
    e->bytes += n * sizeof(float);
    return mem_aligned(n, sizeof(float));
}

static int64_t block_images(const struct graph *g)
{
    int64_t largest = 1;

    for (value_id v = 0; v < g->n_value; v++)
        if (value_is_activation(&g->value[v]) && shape_elems(&g->value[v].shape) > largest)
            largest = shape_elems(&g->value[v].shape);
    const int64_t n = BLOCK_FLOATS / largest;
    return n < 1 ? 1 : n > BLOCK_MAX ? BLOCK_MAX : n;
}

/* Floats of all trainable operands of a node. */
static int64_t node_params(const struct graph *g, const struct node *n)
{
    int64_t total = 0;

    for (int32_t i = 0; i < n->n_in; i++)
        if (n->in[i] != NO_VALUE &&
            (op_in(g, n, i)->kind == VALUE_PARAM || op_in(g, n, i)->kind == VALUE_MASK))
            total += shape_elems(&op_in(g, n, i)->shape);
    return total;
}

static int32_t partial_blocks(const struct graph *g, const struct node *n)
{
    const int64_t size = node_params(g, n), fit = size > 0 ? PARTIAL_FLOATS / size : TRAIN_BLOCKS;

    return fit < 4 ? 4 : fit > TRAIN_BLOCKS ? TRAIN_BLOCKS : (int32_t)fit;
}

static int check_gradients(const struct exec *e)
{
    for (int32_t n = 0; e->mode != EXEC_INFER && n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];

        if (e->plan.live[n] && x->op->grad_input == NULL)
            return fail(ERR_UNSUPPORTED,
                        "node '%s' (%s): has no gradient, so it cannot be trained or attacked",
                        x->name, x->op->type);
    }
    return 0;
}

static void mark_trainable(const struct graph *g, bool *trainable)
{
    for (int32_t n = 0; n < g->n_node; n++) {
        const struct node *x = &g->node[n];

        for (int32_t i = 0; i < x->n_in; i++)
            if (x->in[i] != NO_VALUE) {
                const struct value *v = op_in(g, x, i);

                if (v->kind == VALUE_PARAM || v->kind == VALUE_MASK || trainable[x->in[i]])
                    trainable[x->out[0]] = true;
            }
    }
}

static int new_prepared(struct exec *e)
{
    if ((e->prepared = mem_array((size_t)e->g->n_node + 1, sizeof *e->prepared)) == NULL)
        return ERR_NOMEM;
    for (int32_t n = 0; n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];
        const size_t size =
            x->op->prepare_size ? x->op->prepare_size(e->g, x, e->mode != EXEC_INFER) : 0;

        if (size > 0 && (e->prepared[n] = floats(e, size)) == NULL)
            return ERR_NOMEM;
    }
    return 0;
}

static int new_workers(struct exec *e)
{
    const size_t memory =
        (size_t)e->plan.floats * (size_t)(e->mode == EXEC_TRAIN ? e->batch : e->block);
    const int64_t images = e->mode == EXEC_TRAIN ? (e->batch + 3) / 4 : e->block;

    for (int32_t n = 0; n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];
        const size_t s = x->op->scratch_size ? x->op->scratch_size(e->g, x, images) : 0;

        e->scratch_floats = s > e->scratch_floats ? s : e->scratch_floats;
    }
    e->n_worker = cpu_threads();
    if ((e->worker = mem_array((size_t)e->n_worker, sizeof *e->worker)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < e->n_worker; i++) {
        struct worker *w = &e->worker[i];

        w->profile = mem_array((size_t)e->g->n_node + 1, sizeof *w->profile);
        w->scratch = floats(e, e->scratch_floats);
        if (e->mode != EXEC_TRAIN || i == 0)
            w->memory = floats(e, memory);
        if (!w->profile || !w->scratch || (!w->memory && (e->mode != EXEC_TRAIN || i == 0)))
            return ERR_NOMEM;
    }
    return 0;
}

static int new_tap_memory(struct exec *e)
{
    if ((e->tap_memory = mem_array((size_t)e->g->n_value + 1, sizeof *e->tap_memory)) == NULL)
        return ERR_NOMEM;
    for (value_id v = 0; e->mode == EXEC_INFER && v < e->g->n_value; v++)
        if (e->tap[v] && (e->tap_memory[v] = floats(e, (size_t)(elems(e, v) * e->batch))) == NULL)
            return ERR_NOMEM;
    return 0;
}

static int new_training(struct exec *e)
{
    int64_t partial = 0, sum = 0;
    size_t stat = 0;

    if (e->mode != EXEC_TRAIN)
        return 0;
    e->trainable = mem_array((size_t)e->g->n_value + 1, sizeof *e->trainable);
    e->stats = mem_array((size_t)e->g->n_node + 1, sizeof *e->stats);
    if (!e->trainable || !e->stats)
        return ERR_NOMEM;
    mark_trainable(e->g, e->trainable);
    for (int32_t n = 0; n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];
        const int64_t size = node_params(e->g, x);

        sum = size > sum ? size : sum;
        if (size * partial_blocks(e->g, x) > partial)
            partial = size * partial_blocks(e->g, x);
        if (!(x->op->flags & OP_BATCH_STATS))
            continue;
        if (x->op->stats_size(e->g, x) > stat)
            stat = x->op->stats_size(e->g, x);
        if ((e->stats[n] = floats(e, x->op->stats_floats(e->g, x))) == NULL)
            return ERR_NOMEM;
    }
    e->partial = floats(e, (size_t)partial);
    e->param_sum = floats(e, (size_t)sum);
    e->stat_partial = mem_aligned(stat * TRAIN_BLOCKS, sizeof(double));
    return e->partial && e->param_sum && e->stat_partial ? 0 : ERR_NOMEM;
}

int exec_new(struct graph *g, enum exec_mode mode, int64_t batch, const value_id *taps,
             int32_t n_taps, struct exec **out)
{
    struct exec *e = mem_array(1, sizeof *e);
    int rc = ERR_NOMEM;

    assert(batch > 0);
    if (e == NULL)
        return ERR_NOMEM;
    e->g = g;
    e->mode = mode;
    e->batch = batch;
    e->block = block_images(g);
    e->tap = mem_array((size_t)g->n_value + 1, sizeof *e->tap);
    e->profile = mem_array((size_t)g->n_node + 1, sizeof *e->profile);
    if (!e->tap || !e->profile)
        goto out;
    for (int32_t i = 0; i < n_taps; i++) {
        assert(value_is_activation(&g->value[taps[i]]) && taps[i] != g->input);
        e->tap[taps[i]] = true;
    }
    if ((rc = exec_plan_make(g, mode, e->tap, mode == EXEC_INFER, &e->plan)) < 0 ||
        (rc = check_gradients(e)) < 0 || (rc = new_prepared(e)) < 0 || (rc = new_workers(e)) < 0 ||
        (rc = new_tap_memory(e)) < 0 || (rc = new_training(e)) < 0)
        goto out;
    *out = e;
    return 0;
out:
    exec_free(e);
    return rc;
}

void exec_free(struct exec *e)
{
    if (e == NULL)
        return;
    for (int i = 0; e->worker && i < e->n_worker; i++) {
        mem_free(e->worker[i].memory);
        mem_free(e->worker[i].scratch);
        mem_free(e->worker[i].profile);
    }
    for (int32_t n = 0; n < e->g->n_node; n++) {
        if (e->prepared)
            mem_free(e->prepared[n]);
        if (e->stats)
            mem_free(e->stats[n]);
    }
    for (value_id v = 0; e->tap_memory && v < e->g->n_value; v++)
        mem_free(e->tap_memory[v]);
    exec_plan_release(&e->plan);
    mem_free(e->tap);
    mem_free(e->tap_memory);
    mem_free(e->prepared);
    mem_free(e->worker);
    mem_free(e->profile);
    mem_free(e->trainable);
    mem_free(e->stats);
    mem_free(e->stat_partial);
    mem_free(e->partial);
    mem_free(e->param_sum);
    mem_free(e);
}

size_t exec_memory(const struct exec *e)
{
    return e->bytes;
}

/* ---- weights ----------------------------------------------------------------------------- */

static int node_bank(const struct node *n, int bank)
{
    return n->op == &op_batchnorm && n->n_in > 5 ? bank : 0;
}

/* Packs weights again where they, or the bank, have changed. */
static void prepare(struct exec *e, int bank)
{
    const bool all = e->prepared_version != e->g->version;

    if (!all && e->prepared_bank == bank)
        return;
#pragma omp parallel for schedule(dynamic)
    for (int32_t n = 0; n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];

        if (e->prepared[n] && (all || x->n_in > 5))
            x->op->prepare(e->g, x, node_bank(x, bank), e->mode != EXEC_INFER, e->prepared[n]);
    }
    e->prepared_version = e->g->version;
    e->prepared_bank = bank;
}

/* ---- borders: pixels in ONNX order <-> storage --------------------------------------------- */

struct image_dims {
    int64_t c, hw; /* rank 4: channels, pixels; otherwise c = 1 */
};

static struct image_dims image_dims(const struct graph *g, value_id v)
{
    const struct shape *s = &g->value[v].shape;

    if (s->rank != 4)
        return (struct image_dims){1, shape_elems(s)};
    return (struct image_dims){s->dim[1], s->dim[2] * s->dim[3]};
}

/* x [n][h][w][c] = (pixels [n,c,h,w] - mean) / std */
static void load_pixels(const struct graph *g, const float *pixels, int64_t n, float *x)
{
    const struct image_dims d = image_dims(g, g->input);

    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d.c; c++) {
            const bool on = c < g->norm.channels;
            const float mean = on ? g->norm.mean[c] : 0, std = on ? g->norm.std[c] : 1;
            const float *from = pixels + (i * d.c + c) * d.hw;
            float *to = x + i * d.c * d.hw + c;

            for (int64_t p = 0; p < d.hw; p++)
                to[p * d.c] = (from[p] - mean) / std;
        }
}

static void store_pixel_gradient(const struct graph *g, const float *dx, int64_t n, float *dpixels)
{
    const struct image_dims d = image_dims(g, g->input);

    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d.c; c++) {
            const float std = c < g->norm.channels ? g->norm.std[c] : 1;
            const float *from = dx + i * d.c * d.hw + c;
            float *to = dpixels + (i * d.c + c) * d.hw;

            for (int64_t p = 0; p < d.hw; p++)
                to[p] = from[p * d.c] / std;
        }
}

void exec_to_nchw(const struct graph *g, value_id v, int64_t n, const float *from, float *to)
{
    const struct image_dims d = image_dims(g, v);

    for (int64_t i = 0; i < n; i++)
        for (int64_t c = 0; c < d.c; c++)
            for (int64_t p = 0; p < d.hw; p++)
                to[(i * d.c + c) * d.hw + p] = from[(i * d.hw + p) * d.c + c];
}

/* ---- one node over images [first, first + n) of some memory -------------------------------- */

struct window { /* where the images of a call live */
    float *memory, *scratch;
    int64_t cap;   /* images the memory holds */
    int64_t first; /* first image of the call inside that memory */
    int64_t whole; /* its index in the whole batch, for taps */
    int64_t n;
    int bank;
    bool training;
};

static float *activation(const struct exec *e, const struct window *w, value_id v)
{
    if (e->tap_memory && e->tap_memory[v])
        return e->tap_memory[v] + w->whole * elems(e, v);
    if (e->plan.act[v] < 0)
        return NULL;
    return w->memory + e->plan.act[v] * w->cap + w->first * elems(e, v);
}

static float *gradient(const struct exec *e, const struct window *w, value_id v)
{
    if (e->plan.grad[v] < 0)
        return NULL;
    return w->memory + e->plan.grad[v] * w->cap + w->first * elems(e, v);
}

static struct op_call make_call(const struct exec *e, const struct window *w, int32_t n)
{
    const struct node *x = &e->g->node[n];
    struct op_call c = {.g = e->g,
                        .node = x,
                        .n = w->n,
                        .bank = node_bank(x, w->bank),
                        .training = w->training && !x->frozen, /* frozen: fixed statistics */
                        .prepared = e->prepared[n],
                        .stats = w->training && e->stats ? e->stats[n] : NULL,
                        .scratch = w->scratch};

    for (int32_t i = 0; i < x->n_in; i++) {
        value_id v = x->in[i];

        if (v != NO_VALUE)
            c.in[i] =
                value_is_activation(&e->g->value[v]) ? activation(e, w, v) : e->g->value[v].data;
    }
    c.out = activation(e, w, x->out[0]);
    return c;
}

/* Is the gradient of v wanted, and does node n add to what a later consumer or the caller wrote? */
static bool gradient_wanted(const struct exec *e, value_id v, bool want_input)
{
    return value_is_activation(&e->g->value[v]) &&
           (e->mode == EXEC_INPUT_GRAD || want_input || e->trainable[v]);
}

static bool written_before(const struct exec *e, int32_t n, int32_t i)
{
    const value_id v = e->g->node[n].in[i];

    if (v == e->g->output || (e->mode == EXEC_TRAIN && e->tap[v]))
        return true;
    for (int32_t k = 0; k < i; k++)
        if (e->g->node[n].in[k] == v)
            return true;
    for (int32_t later = n + 1; later < e->g->n_node; later++)
        for (int32_t k = 0; e->plan.live[later] && k < e->g->node[later].n_in; k++)
            if (e->g->node[later].in[k] == v)
                return true;
    return false;
}

/* Fills what backward hooks read; false if the node has nothing to propagate. */
static bool make_grad_call(const struct exec *e, const struct window *w, int32_t n, bool want_input,
                           struct op_call *c)
{
    const struct node *x = &e->g->node[n];
    bool any = false;

    *c = make_call(e, w, n);
    c->dout = gradient(e, w, x->out[0]);
    for (int32_t i = 0; i < x->n_in; i++) {
        if (x->in[i] == NO_VALUE || !gradient_wanted(e, x->in[i], want_input))
            continue;
        c->din[i] = gradient(e, w, x->in[i]);
        c->add[i] = written_before(e, n, i);
        any = true;
    }
    return any;
}

/* ---- evaluation modes ---------------------------------------------------------------------- */

static void block_forward(struct exec *e, struct worker *worker, const struct window *w)
{
    for (int32_t n = 0; n < e->g->n_node; n++) {
        if (!e->plan.live[n])
            continue;
        const double start = cpu_seconds();
        const struct op_call c = make_call(e, w, n);

        e->g->node[n].op->forward(&c);
        worker->profile[n].forward_s += cpu_seconds() - start;
    }
}

static void block_backward(struct exec *e, struct worker *worker, const struct window *w)
{
    for (int32_t n = e->g->n_node - 1; n >= 0; n--) {
        struct op_call c;

        if (!e->plan.live[n] || !make_grad_call(e, w, n, true, &c))
            continue;
        const double start = cpu_seconds();
        e->g->node[n].op->grad_input(&c);
        worker->profile[n].grad_input_s += cpu_seconds() - start;
    }
}

struct eval_call {
    const float *pixels;
    int64_t n;
    int bank;
    exec_loss_fn *loss; /* NULL: forward only */
    void *ctx;
    float *dpixels, *logits;
};

static void eval_block(struct exec *e, const struct eval_call *call, int64_t first)
{
    struct graph *g = e->g;
    struct worker *worker = &e->worker[cpu_thread_index()];
    const int64_t per_pixel = elems(e, g->input), per_logit = elems(e, g->output);
    const struct window w = {.memory = worker->memory,
                             .scratch = worker->scratch,
                             .cap = e->block,
                             .whole = first,
                             .n = call->n - first < e->block ? call->n - first : e->block,
                             .bank = call->bank};

    load_pixels(g, call->pixels + first * per_pixel, w.n, activation(e, &w, g->input));
    block_forward(e, worker, &w);
    const float *logits = activation(e, &w, g->output);
    if (call->logits)
        memcpy(call->logits + first * per_logit, logits,
               (size_t)(w.n * per_logit) * sizeof *logits);
    if (call->loss == NULL)
        return;
    call->loss(call->ctx, first, w.n, logits, gradient(e, &w, g->output));
    block_backward(e, worker, &w);
    store_pixel_gradient(g, gradient(e, &w, g->input), w.n, call->dpixels + first * per_pixel);
}

/* Blocks go to whichever thread is free: they are independent, so the bits do not depend on it. */
static int evaluate(struct exec *e, const struct eval_call *call)
{
    const int64_t n_blocks = (call->n + e->block - 1) / e->block;
    int threads = cpu_threads();

    prepare(e, call->bank);
    if (threads > e->n_worker)
        threads = e->n_worker;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t b = 0; b < n_blocks; b++)
        eval_block(e, call, b * e->block);
    return 0;
}

int exec_infer(struct exec *e, const float *pixels, int64_t n, int bank, float *logits)
{
    const struct eval_call call = {.pixels = pixels, .n = n, .bank = bank, .logits = logits};

    assert(e->mode == EXEC_INFER);
    for (value_id v = 0; v < e->g->n_value; v++)
        if (e->tap[v] && n > e->batch)
            return fail(ERR_ARG, "exec: %lld images, but taps hold %lld", (long long)n,
                        (long long)e->batch);
    return evaluate(e, &call);
}

int exec_input_grad(struct exec *e, const float *pixels, int64_t n, int bank, exec_loss_fn *loss,
                    void *ctx, float *dpixels, float *logits)
{
    const struct eval_call call = {pixels, n, bank, loss, ctx, dpixels, logits};

    assert(e->mode == EXEC_INPUT_GRAD);
    return evaluate(e, &call);
}

/* ---- training mode ------------------------------------------------------------------------- */

/* Window of block b of n_blocks over the whole batch. */
static struct window train_window(const struct exec *e, int32_t b, int32_t n_blocks)
{
    const int64_t first = e->n_train * b / n_blocks, last = e->n_train * (b + 1) / n_blocks;

    return (struct window){.memory = e->worker[0].memory,
                           .scratch = e->worker[cpu_thread_index()].scratch,
                           .cap = e->batch,
                           .first = first,
                           .whole = first,
                           .n = last - first,
                           .bank = e->bank_train,
                           .training = true};
}

static int train_threads(const struct exec *e)
{
    return cpu_threads() < e->n_worker ? cpu_threads() : e->n_worker;
}

static void batch_stats(struct exec *e, int32_t n, bool update)
{
    const struct node *x = &e->g->node[n];
    const size_t size = x->op->stats_size(e->g, x);

    memset(e->stat_partial, 0, size * TRAIN_BLOCKS * sizeof *e->stat_partial);
#pragma omp parallel for schedule(dynamic) num_threads(train_threads(e))
    for (int32_t b = 0; b < TRAIN_BLOCKS; b++) {
        const struct window w = train_window(e, b, TRAIN_BLOCKS);
        const struct op_call c = make_call(e, &w, n);

        if (w.n > 0)
            x->op->stats(&c, e->stat_partial + (size_t)b * size);
    }
    x->op->stats_done(e->g, x, node_bank(x, e->bank_train), update, e->n_train, e->stat_partial,
                      TRAIN_BLOCKS, e->stats[n]);
}

static void node_forward(struct exec *e, int32_t n, bool update)
{
    const double start = cpu_seconds();

    if ((e->g->node[n].op->flags & OP_BATCH_STATS) && !e->g->node[n].frozen)
        batch_stats(e, n, update);
#pragma omp parallel for schedule(dynamic) num_threads(train_threads(e))
    for (int32_t b = 0; b < TRAIN_BLOCKS; b++) {
        const struct window w = train_window(e, b, TRAIN_BLOCKS);
        const struct op_call c = make_call(e, &w, n);

        if (w.n > 0)
            e->g->node[n].op->forward(&c);
    }
    e->profile[n].forward_s += cpu_seconds() - start;
}

int exec_train_forward(struct exec *e, const float *pixels, int64_t n, int bank, bool update_stats,
                       float *logits)
{
    struct graph *g = e->g;

    assert(e->mode == EXEC_TRAIN && n > 0 && n <= e->batch);
    e->n_train = n;
    e->bank_train = bank;
    prepare(e, bank);
#pragma omp parallel for schedule(dynamic) num_threads(train_threads(e))
    for (int32_t b = 0; b < TRAIN_BLOCKS; b++) {
        const struct window w = train_window(e, b, TRAIN_BLOCKS);

        load_pixels(g, pixels + w.first * elems(e, g->input), w.n, activation(e, &w, g->input));
    }
    for (int32_t i = 0; i < g->n_node; i++)
        if (e->plan.live[i])
            node_forward(e, i, update_stats);
    for (value_id v = 0; v < g->n_value; v++)
        if (e->tap[v])
            memset(exec_tap_grad(e, v), 0, (size_t)(n * elems(e, v)) * sizeof(float));
    if (logits)
        memcpy(logits, exec_tap(e, g->output), (size_t)(n * elems(e, g->output)) * sizeof *logits);
    return 0;
}

/* Points din of the trainable operands into `base`, one behind the other. */
static void param_slices(const struct exec *e, const struct node *x, float *base, struct op_call *c)
{
    for (int32_t i = 0; i < x->n_in; i++) {
        if (x->in[i] == NO_VALUE)
            continue;
        const struct value *v = op_in(e->g, x, i);

        if (v->kind != VALUE_PARAM && v->kind != VALUE_MASK)
            continue;
        c->din[i] = base;
        base += shape_elems(&v->shape);
    }
}

/* e->param_sum := gradients of the node's parameters, blocks added in order. */
static void param_gradients(struct exec *e, int32_t n)
{
    const struct node *x = &e->g->node[n];
    const int64_t size = node_params(e->g, x);
    const int32_t blocks = partial_blocks(e->g, x);

#pragma omp parallel for schedule(dynamic) num_threads(train_threads(e))
    for (int32_t b = 0; b < blocks; b++) {
        const struct window w = train_window(e, b, blocks);
        struct op_call c;

        memset(e->partial + b * size, 0, (size_t)size * sizeof *e->partial);
        if (w.n == 0)
            continue;
        c = make_call(e, &w, n);
        c.dout = gradient(e, &w, x->out[0]);
        param_slices(e, x, e->partial + b * size, &c);
        x->op->grad_params(&c);
    }
#pragma omp parallel for schedule(static) num_threads(train_threads(e))
    for (int64_t i = 0; i < size; i++) {
        float sum = 0;

        for (int32_t b = 0; b < blocks; b++)
            sum += e->partial[b * size + i];
        e->param_sum[i] = sum;
    }
}

/* Adds e->param_sum to the caller's gradient blocks. */
static void add_param_sum(const struct exec *e, const struct node *x, float *dparams, float *dmasks)
{
    const float *sum = e->param_sum;

    for (int32_t i = 0; i < x->n_in; i++) {
        if (x->in[i] == NO_VALUE)
            continue;
        const struct value *v = op_in(e->g, x, i);
        if (v->kind != VALUE_PARAM && v->kind != VALUE_MASK)
            continue;
        float *to = v->kind == VALUE_PARAM ? dparams : dmasks;
        const int64_t size = shape_elems(&v->shape);

        for (int64_t k = 0; to && k < size; k++)
            to[v->offset + k] += sum[k];
        sum += size;
    }
}

static void node_backward(struct exec *e, int32_t n, float *dparams, float *dmasks, bool want_input)
{
    const struct node *x = &e->g->node[n];
    const double start = cpu_seconds();
    bool params = x->op->grad_params != NULL && node_params(e->g, x) > 0;

    if (x->op == &op_masked_relu)
        params = params && x->p.masked_relu.soft && dmasks;
    if (params) {
        param_gradients(e, n);
        add_param_sum(e, x, dparams, dmasks);
    }
    const double middle = cpu_seconds();
#pragma omp parallel for schedule(dynamic) num_threads(train_threads(e))
    for (int32_t b = 0; b < TRAIN_BLOCKS; b++) {
        const struct window w = train_window(e, b, TRAIN_BLOCKS);
        struct op_call c;

        if (w.n == 0 || !make_grad_call(e, &w, n, want_input, &c))
            continue;
        if (params)
            param_slices(e, x, e->param_sum, &c);
        x->op->grad_input(&c);
    }
    e->profile[n].grad_params_s += middle - start;
    e->profile[n].grad_input_s += cpu_seconds() - middle;
}

int exec_train_backward(struct exec *e, const float *dlogits, float *dparams, float *dmasks,
                        float *dpixels)
{
    struct graph *g = e->g;

    assert(e->mode == EXEC_TRAIN && e->n_train > 0);
    const struct window all = train_window(e, 0, 1);
    float *dout = gradient(e, &all, g->output);
    const int64_t n_out = e->n_train * elems(e, g->output);

    for (int64_t i = 0; i < n_out; i++)
        dout[i] = e->tap[g->output] ? dout[i] + dlogits[i] : dlogits[i];
    for (int32_t n = g->n_node - 1; n >= 0; n--)
        if (e->plan.live[n] && e->trainable[g->node[n].out[0]] + (dpixels != NULL) > 0)
            node_backward(e, n, dparams, dmasks, dpixels != NULL);
    if (dpixels)
        store_pixel_gradient(g, gradient(e, &all, g->input), e->n_train, dpixels);
    return 0;
}

/* ---- taps and profile ---------------------------------------------------------------------- */

const float *exec_tap(const struct exec *e, value_id v)
{
    if (e->tap_memory[v])
        return e->tap_memory[v];
    return e->worker[0].memory + e->plan.act[v] * e->batch;
}

float *exec_tap_grad(struct exec *e, value_id v)
{
    assert(e->mode == EXEC_TRAIN && e->tap[v]);
    return e->worker[0].memory + e->plan.grad[v] * e->batch;
}

const struct exec_profile *exec_profile(const struct exec *e)
{
    for (int32_t n = 0; n < e->g->n_node; n++)
        for (int i = 0; e->mode != EXEC_TRAIN && i < e->n_worker; i++) {
            struct exec_profile *p = &e->worker[i].profile[n];

            e->profile[n].forward_s += p->forward_s;
            e->profile[n].grad_input_s += p->grad_input_s;
            *p = (struct exec_profile){0};
        }
    return e->profile;
}
