/*
 * Construction and release of an executor (run.h tells where the rest is).
 *
 * Evaluation goes in blocks of images through the network, as many as make the largest activation
 * BLOCK_FLOATS, 1 ... BLOCK_MAX; or wide, step by step over all images that fit WIDE_FLOATS, where
 * a convolution has more than WIDE_WEIGHTS weights. Training is always wide. These are rules of the
 * shapes only, so results never depend on the machine.
 *
 * Limits: one input, one output; activations of rank 4 are stored [n][h][w][c].
 */
#include "core/exec/run.h"

#include <assert.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "core/base/ranks.h"

#define BLOCK_FLOATS (1 << 18) /* 1 MiB: stays in an L2 cache together with its neighbours */
#define BLOCK_MAX 16
#define WIDE_WEIGHTS (256 * 1024)
#define WIDE_FLOATS (128LL << 20) /* 512 MiB */

int64_t exec_elems(const struct exec *e, value_id v)
{
    return shape_elems(&e->g->value[v].shape);
}

/* n numbers of that size; none, but counted, where only the sum is asked for. */
static void *numbers(struct exec *e, size_t n, size_t size)
{
    e->bytes += n * size;
    return arena_array(e->arena, e->only_size ? 0 : n, size);
}

void *exec_list(const struct exec *e, int32_t n, size_t size)
{
    return arena_array(e->arena, (size_t)n, size);
}

float *exec_floats_new(struct exec *e, size_t n)
{
    return numbers(e, n, sizeof(float));
}

static int64_t block_images(const struct graph *g)
{
    int64_t largest = 1;

    for (value_id v = 0; v < g->n_value; v++)
        if (value_is_activation(&g->value[v]))
            largest = max_i64(largest, shape_elems(&g->value[v].shape));
    return max_i64(1, min_i64(BLOCK_FLOATS / largest, BLOCK_MAX));
}

bool exec_trains(const struct graph *g, const struct node *n, int32_t i)
{
    if (n->in[i] == NO_VALUE)
        return false;
    const enum value_kind kind = op_in(g, n, i)->kind;

    return kind == VALUE_PARAM || (kind == VALUE_MASK && n->p.masked_relu.soft);
}

bool exec_uses_stats(const struct exec *e, int32_t s)
{
    const struct node *x = &e->g->node[e->plan.step[s].node];

    return (x->op->flags & OP_BATCH_STATS) && !x->frozen;
}

/* Kernels may want each shard's to begin on a cache line. */
size_t exec_stats_stride(const struct graph *g, const struct node *n)
{
    return (n->op->hooks->stats_floats(g, n) + 15) / 16 * 16;
}

int64_t exec_node_params(const struct graph *g, const struct node *n)
{
    int64_t total = 0;

    for (int32_t i = 0; i < n->n_in; i++)
        if (exec_trains(g, n, i))
            total += shape_elems(&op_in(g, n, i)->shape);
    return total;
}

static int check_gradients(const struct exec *e)
{
    for (int32_t n = 0; e->mode != EXEC_INFER && n < e->g->n_node; n++) {
        const struct node *x = &e->g->node[n];

        if (e->plan.live[n] && x->op->hooks->grad_input == NULL)
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

static size_t prepare_size(const struct exec *e, const struct node *n, bool gradient)
{
    const struct op_use use = exec_use(e, n, gradient);

    const struct op_hooks *h = exec_hooks(e, (int32_t)(n - e->g->node));

    return h->prepare_size ? h->prepare_size(e->g, n, &use) : 0;
}

static void new_prepared_node(struct exec *e, int32_t n)
{
    const size_t size = prepare_size(e, &e->g->node[n], false);

    if (size > 0)
        e->prepared[n] = exec_floats_new(e, size);
}

/* At least n floats at *p; what was there is lost. */
static int reserve(struct exec *e, float **p, size_t *had, size_t n)
{
    if (e->only_size) {
        e->bytes += n * sizeof **p;
        return 0;
    }
    if (n <= *had)
        return 0;
    mem_free(*p);
    *had = 0;
    if ((*p = mem_aligned(n, sizeof **p)) == NULL)
        return ERR_NOMEM;
    *had = n;
    e->bytes += n * sizeof **p;
    return 0;
}

static int new_rooms(struct exec *e, const struct exec *with)
{
    if (with != NULL) {
        e->rooms = with->rooms;
        e->rooms->users++;
        e->n_worker = e->rooms->n;
        return 0;
    }
    e->n_worker = cpu_threads();
    if ((e->rooms = mem_array(1, sizeof *e->rooms)) == NULL)
        return ERR_NOMEM;
    e->rooms->users = 1;
    if ((e->rooms->room = mem_array((size_t)e->n_worker, sizeof *e->rooms->room)) == NULL)
        return ERR_NOMEM;
    e->rooms->n = e->n_worker;
    return 0;
}

static void leave_rooms(struct exec_rooms *r)
{
    if (r == NULL || --r->users > 0)
        return;
    for (int i = 0; i < r->n; i++) {
        mem_free(r->room[i].memory);
        mem_free(r->room[i].scratch);
    }
    mem_free(r->late);
    mem_free(r->room);
    mem_free(r);
}

/* Memory for the largest of what is prepared late. */
static int new_late(struct exec *e)
{
    size_t most = 0;

    for (int32_t i = 0; i < 2 * e->plan.n_step; i++) {
        const struct node *x = &e->g->node[e->plan.step[i / 2].node];
        const bool asked = i % 2 == 0 || e->mode != EXEC_INFER;
        const size_t size = asked && exec_is_late(e, x) ? prepare_size(e, x, i % 2) : 0;

        most = max_size(most, size);
    }
    return reserve(e, &e->rooms->late, &e->rooms->late_floats, most);
}

static int new_prepared(struct exec *e)
{
    if ((e->prepared = exec_list(e, e->g->n_node, sizeof *e->prepared)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < e->plan.n_step; i++) {
        const struct exec_step *s = &e->plan.step[i];

        if (!exec_is_late(e, &e->g->node[s->node]))
            new_prepared_node(e, s->node);
        if (s->relu >= 0)
            new_prepared_node(e, s->relu);
    }
    TRY(arena_status(e->arena));
    return new_late(e);
}

static bool has_large_weights(const struct graph *g)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_conv &&
            shape_elems(&op_in(g, &g->node[n], 1)->shape) >= WIDE_WEIGHTS)
            return true;
    return false;
}

/* Images that a worker's memory holds. Where it is there already, as many as it has room for. */
static int64_t images_held(const struct exec *e, const struct exec *with)
{
    const int64_t there = with != NULL ? (int64_t)with->rooms->room[0].memory_floats : 0;

    if (e->mode == EXEC_TRAIN)
        return exec_most_images(e, e->batch);
    if (!e->wide)
        return min_i64(block_images(e->g), e->held);
    if (e->plan.floats == 0)
        return e->held;
    const int64_t fit = WIDE_FLOATS / e->plan.floats, room = there / e->plan.floats;

    return max_i64(1,
                   min_i64(with != NULL ? max_i64(room, EXEC_BLOCKS) : fit, min_i64(fit, e->held)));
}

/* In bf16 memory holds whole blocks. */
static int64_t whole_blocks(const struct exec *e, int64_t images)
{
    if (e->precision == EXEC_FP32)
        return images;
    return (images + BF16_IMAGES - 1) / BF16_IMAGES * BF16_IMAGES;
}

static int new_workers(struct exec *e)
{
    const size_t memory = (size_t)e->plan.floats * (size_t)e->cap;
    const int64_t most = e->mode == EXEC_TRAIN ? max_i64(e->cap, e->batch) : e->cap;

    for (int32_t n = 0; n < e->g->n_node; n++)
        e->scratch_floats = max_size(e->scratch_floats, exec_hook_scratch(e, n, most));
    for (int32_t s = 0; s < e->plan.n_step; s++)
        if (exec_converts(e, s))
            e->edge_scratch = max_size(
                e->edge_scratch, exec_hook_scratch(e, e->plan.step[s].node, exec_edge_images(e)));
    for (int32_t s = 0; s < e->plan.n_step; s++)
        e->scratch_floats = max_size(e->scratch_floats, exec_edge_scratch(e, s));
    if ((e->profile = exec_list(e, e->n_worker, sizeof *e->profile)) == NULL)
        return ERR_NOMEM;
    for (int i = 0; i < e->n_worker; i++) {
        struct room *r = &e->rooms->room[i];

        e->profile[i] = exec_list(e, e->g->n_node, sizeof *e->profile[i]);
        TRY(reserve(e, &r->scratch, &r->scratch_floats, e->scratch_floats));
        if (!e->wide || i == 0)
            TRY(reserve(e, &r->memory, &r->memory_floats, memory));
    }
    return arena_status(e->arena);
}

/* Does a later step than s read v, or the caller? Then its gradient is there when s adds its own. */
static bool written_before(const struct exec *e, int32_t s, value_id v)
{
    if (v == e->g->output || (e->mode == EXEC_TRAIN && e->tap[v] && !e->half[v]))
        return true;
    for (int32_t later = s + 1; later < e->plan.n_step; later++) {
        const struct exec_step *t = &e->plan.step[later];
        const struct node *x = &e->g->node[t->node];

        if (t->other == v)
            return true;
        for (int32_t k = 0; k < x->n_in; k++)
            if (x->in[k] == v)
                return true;
    }
    return false;
}

/* Batch statistics are taken where the value is made, unless another step has asked before. */
static void order_stats(struct exec *e)
{
    for (int32_t s = 0; s < e->plan.n_step; s++)
        e->order[s].stats = -1;
    for (int32_t s = 0; e->mode == EXEC_TRAIN && s < e->plan.n_step; s++) {
        const struct node *x = &e->g->node[e->plan.step[s].node];
        int32_t maker = s - 1;

        if (!exec_uses_stats(e, s))
            continue;
        while (maker >= 0 && e->plan.step[maker].out != x->in[0])
            maker--;
        e->order[s].own_stats = maker < 0 || e->order[maker].stats >= 0;
        if (!e->order[s].own_stats)
            e->order[maker].stats = s;
    }
}

static int new_order(struct exec *e)
{
    if ((e->order = exec_list(e, e->plan.n_step, sizeof *e->order)) == NULL)
        return ERR_NOMEM;
    order_stats(e);
    for (int32_t s = 0; s < e->plan.n_step; s++) {
        const struct exec_step *step = &e->plan.step[s];
        const struct node *x = &e->g->node[step->node];
        struct step_order *o = &e->order[s];

        o->add_other = step->other != NO_VALUE && written_before(e, s, step->other);
        for (int32_t i = 0; i < x->n_in; i++) {
            if (x->in[i] == NO_VALUE)
                continue;
            o->add[i] = x->in[i] == step->other || written_before(e, s, x->in[i]);
            for (int32_t k = 0; k < i; k++)
                o->add[i] = o->add[i] || x->in[k] == x->in[i];
        }
    }
    return 0;
}

static int new_tap_memory(struct exec *e)
{
    e->tap_memory = exec_list(e, e->g->n_value, sizeof *e->tap_memory);
    e->tap_grad = exec_list(e, e->g->n_value, sizeof *e->tap_grad);
    TRY(arena_status(e->arena));
    for (value_id v = 0; v < e->g->n_value; v++) {
        const size_t size = (size_t)(exec_elems(e, v) * e->held);

        if (!e->tap[v] || (e->mode != EXEC_INFER && !e->half[v]))
            continue;
        e->tap_memory[v] = exec_floats_new(e, size);
        if (e->mode == EXEC_TRAIN)
            e->tap_grad[v] = exec_floats_new(e, size);
    }
    return arena_status(e->arena);
}

static void new_stats(struct exec *e, int32_t s)
{
    const int32_t n = e->plan.step[s].node;
    const struct node *x = &e->g->node[n];
    const size_t size = x->op->hooks->stats_size(e->g, x);

    e->stats[n] = exec_floats_new(e, (size_t)e->bn_shards * exec_stats_stride(e->g, x));
    e->stat_partial[n] = numbers(e, EXEC_BLOCKS * size, sizeof(double));
    e->order[s].pooled = e->n_pooled;
    e->n_pooled += size;
}

static int new_training(struct exec *e)
{
    const size_t shards = e->bn_shards > 1 ? (size_t)e->bn_shards : 0;
    int64_t partial = 0, sum = 0, norm = 0; /* norm: parameters of a node with batch statistics */

    if (e->mode != EXEC_TRAIN)
        return 0;
    e->trainable = exec_list(e, e->g->n_value, sizeof *e->trainable);
    e->stats = exec_list(e, e->g->n_node, sizeof *e->stats);
    e->stat_partial = exec_list(e, e->g->n_node, sizeof *e->stat_partial);
    TRY(arena_status(e->arena));
    mark_trainable(e->g, e->trainable);
    for (int32_t s = 0; s < e->plan.n_step; s++) {
        const int32_t n = e->plan.step[s].node;
        const struct node *x = &e->g->node[n];
        const int64_t size = exec_node_params(e->g, x);

        sum = max_i64(sum, size);
        if (!exec_splits(e, s, e->batch) && size > partial)
            partial = size;
        if (!(x->op->flags & OP_BATCH_STATS))
            continue;
        norm = max_i64(norm, size);
        new_stats(e, s);
    }
    e->pooled = numbers(e, shards * e->n_pooled, sizeof *e->pooled);
    e->shard_sum = exec_floats_new(e, shards * (size_t)norm);
    /* Few images are cut by channels, where a full batch is not, never the other way round. */
    e->partial = exec_floats_new(e, (size_t)(partial * EXEC_BLOCKS));
    e->param_sum = exec_floats_new(e, (size_t)sum);
    e->next_sum = exec_floats_new(e, (size_t)partial);
    TRY(arena_status(e->arena));
    return exec_new_chains(e);
}

/* All parts of an executor that has its graph, mode and batch. */
static int make_parts(struct exec *e, const struct exec_opts *o)
{
    const struct graph *g = e->g;
    const struct exec *with = o->beside;

    e->wide = e->mode == EXEC_TRAIN || has_large_weights(g);
    e->packs_late = e->mode == EXEC_TRAIN || (e->wide && with != NULL);
    if ((e->tap = exec_list(e, g->n_value, sizeof *e->tap)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < o->n_taps; i++) {
        assert(value_is_activation(&g->value[o->taps[i]]) && o->taps[i] != g->input);
        e->tap[o->taps[i]] = true;
    }
    TRY(exec_choose_storage(e, o->precision));
    TRY(exec_plan_make(g, e->mode, e->half, e->tap, e->mode == EXEC_INFER, &e->plan));
    TRY(check_gradients(e));
    e->cap = whole_blocks(e, images_held(e, with));
    TRY(new_order(e));
    TRY(new_rooms(e, with));
    TRY(new_prepared(e));
    TRY(new_workers(e));
    TRY(new_tap_memory(e));
    return new_training(e);
}

static int make(struct graph *g, enum exec_mode mode, int64_t batch, const struct exec_opts *o,
                bool only_size, struct exec **out)
{
    SCOPED(exec_free_at) struct exec *e = mem_array(1, sizeof *e);
    const int64_t held = o->held == 0 ? batch : o->held;

    assert(held > 0 && held <= batch && (mode != EXEC_TRAIN || held == batch));
    assert(o->shards == 0 || (o->shards > 0 && EXEC_BLOCKS % o->shards == 0));
    if (e == NULL)
        return ERR_NOMEM;
    e->g = g;
    e->mode = mode;
    e->batch = batch;
    e->held = held;
    e->only_size = only_size;
    e->bn_shards = o->shards > 0 ? o->shards : 1;
    e->shards = 1;
    TRY(arena_new(0, &e->arena));
    TRY(make_parts(e, o));
    *out = mem_hand_on(&e);
    return 0;
}

int exec_new(struct graph *g, enum exec_mode mode, int64_t batch, const struct exec_opts *o,
             struct exec **out)
{
    const struct exec_opts none = {.precision = EXEC_FP32};

    return make(g, mode, batch, o != NULL ? o : &none, false, out);
}

int exec_size(struct graph *g, enum exec_mode mode, enum exec_precision precision, int64_t batch,
              size_t *bytes)
{
    const struct exec_opts o = {.precision = precision};
    SCOPED(exec_free_at) struct exec *e = NULL;

    TRY(make(g, mode, batch, &o, true, &e));
    *bytes = e->bytes;
    return 0;
}

void exec_free(struct exec *e)
{
    if (e == NULL)
        return;
    leave_rooms(e->rooms);
    ranks_chain_free(e->chain);
    exec_plan_release(&e->plan);
    arena_free(e->arena);
    mem_free(e);
}
