/*
 * Steps of the executor: what a hook is called with, one step over some images, and one step over
 * many on all threads. The latter is cut by images into EXEC_BLOCKS blocks, or, where the weights
 * are large (each block would read all of them) or the images few, by channels of the result or
 * tiles of its pixels.
 * Neither cut changes a bit of forward passes and input gradients.
 */
#include "core/exec/run.h"

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "core/op/image.h"

#define SPLIT_WEIGHTS (256 * 1024) /* floats, 1 MiB */
#define SPLIT_IMAGES 4
#define SPLIT_IMAGES_BF16 512 /* fewer than EXEC_BLOCKS blocks of images */

int exec_threads(const struct exec *e)
{
    return cpu_threads() < e->n_worker ? cpu_threads() : e->n_worker;
}

static int64_t clamp(int64_t v, int64_t most)
{
    return max_i64(0, min_i64(v, most));
}

/* In bf16 blocks of images are not cut. */
struct window exec_block(const struct exec *e, const struct window *all, int32_t b, int32_t blocks)
{
    const int64_t unit = e->precision == EXEC_BF16 ? BF16_IMAGES : 1;
    const int64_t n = all->of > 0 ? all->of : all->n, units = (n + unit - 1) / unit;
    const int64_t first = clamp(units * b / blocks * unit - all->before, all->n);
    const int64_t last = clamp(units * (b + 1) / blocks * unit - all->before, all->n);
    struct window w = *all;

    w.scratch = e->rooms->room[cpu_thread_index()].scratch;
    w.first += first;
    w.whole += first;
    w.n = last - first;
    w.shard = b * e->shards / blocks;
    return w;
}

float *exec_activation(const struct exec *e, const struct window *w, value_id v)
{
    if (e->tap_memory && e->tap_memory[v] && !e->half[v])
        return e->tap_memory[v] + w->whole * exec_elems(e, v);
    if (e->plan.act[v] < 0)
        return NULL;
    return w->memory + e->plan.act[v] * w->cap + w->first * exec_floats(e, v);
}

float *exec_gradient(const struct exec *e, const struct window *w, value_id v)
{
    if (e->plan.grad[v] < 0)
        return NULL;
    return w->memory + e->plan.grad[v] * w->cap + w->first * exec_floats(e, v);
}

static struct rows_tail tail_of(const struct exec *e, const struct window *w,
                                const struct exec_step *s)
{
    struct rows_tail t = {.relu = s->relu >= 0};

    if (s->other != NO_VALUE)
        t.other = exec_activation(e, w, s->other);
    if (s->relu >= 0)
        t.mask = e->prepared[s->relu]; /* NULL for a Relu */
    return t;
}

/* The same for a result in bf16. */
static struct bf16_tail bf16_tail_of(const struct exec *e, const struct exec_step *s,
                                     const struct rows_tail *t)
{
    if (!e->half[s->out])
        return (struct bf16_tail){.relu = false};
    return (struct bf16_tail){.other = op_bf16_in(t->other),
                              .mask = (const uint32_t *)(const void *)t->mask,
                              .relu = t->relu};
}

/* Statistics of a node in the shard of a window; NULL: it has none. */
static const float *stats_of(const struct exec *e, const struct window *w, int32_t n)
{
    if (!w->training || e->stats == NULL || e->stats[n] == NULL)
        return NULL;
    return e->stats[n] + (size_t)w->shard * exec_stats_stride(e->g, &e->g->node[n]);
}

struct op_call exec_call(const struct exec *e, const struct window *w, int32_t s)
{
    const struct exec_step *step = &e->plan.step[s];
    const int32_t n = step->node;
    const struct node *x = &e->g->node[n];
    struct op_call c = {.g = e->g,
                        .node = x,
                        .n = w->n,
                        .branch = exec_node_branch(x, w->branch),
                        .training = w->training && !x->frozen, /* frozen: fixed statistics */
                        .out = exec_activation(e, w, step->out),
                        .prepared = exec_is_late(e, x) ? e->rooms->late : e->prepared[n],
                        .use = exec_use(e, x, false),
                        .stats = stats_of(e, w, n),
                        .scratch = w->scratch,
                        .tail = tail_of(e, w, step),
                        .folded = step->norm >= 0};

    c.bf16_tail = bf16_tail_of(e, step, &c.tail);

    for (int32_t i = 0; i < x->n_in; i++) {
        value_id v = x->in[i];

        if (v != NO_VALUE)
            c.in[i] = value_is_activation(&e->g->value[v]) ? exec_activation(e, w, v)
                                                           : e->g->value[v].data;
    }
    return c;
}

bool exec_splits(const struct exec *e, int32_t s, int64_t n)
{
    const struct node *x = &e->g->node[e->plan.step[s].node];

    if (!(x->op->flags & OP_SPLIT) || exec_converts(e, s))
        return false;
    return n < (e->precision == EXEC_BF16 ? SPLIT_IMAGES_BF16 : SPLIT_IMAGES) ||
           shape_elems(&op_in(e->g, x, 1)->shape) >= SPLIT_WEIGHTS;
}

int64_t exec_most_split(const struct exec *e, int32_t s)
{
    const int64_t few = e->precision == EXEC_BF16 ? SPLIT_IMAGES_BF16 : SPLIT_IMAGES;

    if (exec_splits(e, s, e->batch))
        return e->batch;
    return exec_splits(e, s, 1) ? min_i64(e->batch, few - 1) : 0;
}

/* ---- some images, this thread */

static struct exec_profile *profile_of(const struct exec *e, int32_t s)
{
    return &e->profile[cpu_thread_index()][e->plan.step[s].node];
}

void exec_run_hook(const struct exec *e, int32_t s, const struct op_call *c,
                   void (*hook)(const struct op_call *))
{
    if (exec_converts(e, s))
        exec_run_converted(e, s, c, hook);
    else
        hook(c);
}

static void timed_forward(const struct exec *e, int32_t s, const struct op_call *c)
{
    const double start = cpu_seconds();

    exec_run_hook(e, s, c, exec_hooks(e, e->plan.step[s].node)->forward);
    profile_of(e, s)->forward_s += cpu_seconds() - start;
}

void exec_forward(struct exec *e, const struct window *w, int32_t s)
{
    const struct op_call c = exec_call(e, w, s);

    timed_forward(e, s, &c);
    exec_fill_tap(e, w, e->plan.step[s].out);
}

static bool gradient_wanted(const struct exec *e, const struct window *w, value_id v)
{
    return value_is_activation(&e->g->value[v]) &&
           (e->mode == EXEC_INPUT_GRAD || w->want_input || e->trainable[v]);
}

/* The gradient of the ReLU takes the place of the step's; then the Add passes it on. */
void exec_tail_backward(struct exec *e, const struct window *w, int32_t s)
{
    const struct exec_step *step = &e->plan.step[s];
    const double start = cpu_seconds();
    float *d = exec_gradient(e, w, step->out);

    if (e->tap_grad && e->tap_grad[step->out])
        exec_merge_tap_gradient(e, w, step->out);
    if (step->relu >= 0) {
        const struct op_call c = {.g = e->g,
                                  .node = &e->g->node[step->relu],
                                  .n = w->n,
                                  .out = exec_activation(e, w, step->out),
                                  .dout = d,
                                  .din = {d},
                                  .prepared = e->prepared[step->relu],
                                  .scratch = w->scratch};

        exec_hooks(e, step->relu)->grad_input(&c);
    }
    if (step->other == NO_VALUE || !gradient_wanted(e, w, step->other))
        ;
    else if (e->half[step->out])
        exec_add_gradient(e, step->out, exec_gradient(e, w, step->other), d, w->n,
                          e->order[s].add_other);
    else
        floats_put(exec_gradient(e, w, step->other), d, w->n * exec_elems(e, step->out),
                   e->order[s].add_other);
    if (step->relu >= 0 || step->other != NO_VALUE)
        profile_of(e, s)->grad_input_s += cpu_seconds() - start;
}

void exec_param_slices(const struct exec *e, int32_t s, float *base, struct op_call *c)
{
    const struct node *x = &e->g->node[e->plan.step[s].node];

    for (int32_t i = 0; i < x->n_in; i++) {
        if (!exec_trains(e->g, x, i))
            continue;
        c->din[i] = base;
        base += shape_elems(&op_in(e->g, x, i)->shape);
    }
}

/* What w->params holds for the shard of these images. */
static float *shard_params(const struct exec *e, const struct window *w, int32_t s)
{
    const int64_t size = exec_node_params(e->g, &e->g->node[e->plan.step[s].node]);

    return w->params + (exec_uses_stats(e, s) ? w->shard * size : 0);
}

/* Fills what grad_input reads; false if the step has nothing to propagate. */
static bool grad_call(const struct exec *e, const struct window *w, int32_t s, struct op_call *c)
{
    const struct exec_step *step = &e->plan.step[s];
    const struct node *x = &e->g->node[step->node];
    bool any = false;

    *c = exec_call(e, w, s);
    c->use = exec_use(e, x, true);
    c->dout = exec_gradient(e, w, step->out);
    for (int32_t i = 0; i < x->n_in; i++) {
        if (x->in[i] == NO_VALUE || !gradient_wanted(e, w, x->in[i]))
            continue;
        c->din[i] = exec_gradient(e, w, x->in[i]);
        c->add[i] = e->order[s].add[i];
        any = true;
    }
    if (any && w->params != NULL)
        exec_param_slices(e, s, shard_params(e, w, s), c);
    return any;
}

static void timed_grad_input(const struct exec *e, int32_t s, const struct op_call *c)
{
    const double start = cpu_seconds();

    exec_run_hook(e, s, c, exec_hooks(e, e->plan.step[s].node)->grad_input);
    profile_of(e, s)->grad_input_s += cpu_seconds() - start;
}

void exec_input_backward(struct exec *e, const struct window *w, int32_t s)
{
    struct op_call c;

    if (grad_call(e, w, s, &c))
        timed_grad_input(e, s, &c);
}

/* ---- all images, all threads */

static bool has_gradient(const struct exec *e, const struct window *w, const struct node *x)
{
    for (int32_t i = 0; i < x->n_in; i++)
        if (x->in[i] != NO_VALUE && gradient_wanted(e, w, x->in[i]))
            return true;
    return false;
}

void exec_prepare_late(const struct exec *e, const struct window *w, int32_t s, bool gradient)
{
    const struct exec_step *step = &e->plan.step[s];
    const struct node *x = &e->g->node[step->node];
    const struct op_hooks *hooks = exec_hooks(e, step->node);
    const int threads = exec_threads(e);

    if (!exec_is_late(e, x) || (gradient && !has_gradient(e, w, x)))
        return;
    const float *affine = step->norm >= 0 ? exec_fold_norm(e, step, e->prepared_branch) : NULL;
    const int64_t channels = e->g->value[x->out[0]].shape.dim[1];
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < threads; i++) {
        struct op_use use = exec_use(e, x, gradient);

        use.part = i;
        use.parts = threads;
        if (affine != NULL)
            hooks->prepare_folded(e->g, x, affine, affine + channels, &use, e->rooms->late);
        else
            hooks->prepare(e->g, x, exec_node_branch(x, e->prepared_branch), &use, e->rooms->late);
    }
}

typedef void call_fn(const struct exec *e, int32_t s, const struct op_call *c);

/* One call of all images, its result divided among the threads. */
static void split_call(const struct exec *e, int32_t s, const struct op_call *all, call_fn *fn)
{
    const int threads = exec_threads(e);

#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < threads; i++) {
        struct op_call c = *all;

        c.part = i;
        c.parts = threads;
        c.scratch = e->rooms->room[cpu_thread_index()].scratch;
        fn(e, s, &c);
    }
}

void exec_each_block(struct exec *e, const struct window *all, int32_t s, exec_step_fn *fn)
{
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        const struct window w = exec_block(e, all, b, EXEC_BLOCKS);

        if (w.n > 0)
            fn(e, &w, s);
    }
}

void exec_wide_forward(struct exec *e, const struct window *all, int32_t s)
{
    if (all->n == 0)
        return;
    exec_prepare_late(e, all, s, false);
    if (!exec_splits(e, s, all->n)) {
        exec_each_block(e, all, s, exec_forward);
        return;
    }
    const struct op_call c = exec_call(e, all, s);

    split_call(e, s, &c, timed_forward);
    exec_fill_tap(e, all, e->plan.step[s].out);
}

void exec_wide_backward(struct exec *e, const struct window *all, int32_t s)
{
    struct op_call c;

    if (all->n == 0)
        return;
    exec_prepare_late(e, all, s, true);
    if (!exec_splits(e, s, all->n))
        exec_each_block(e, all, s, exec_input_backward);
    else if (grad_call(e, all, s, &c))
        split_call(e, s, &c, timed_grad_input);
}
