/*
 * Evaluation modes. Images are independent, so there are two ways through the network, with equal
 * bits (run.h says why):
 *
 *   in blocks   every thread takes blocks of images through all steps in memory of its own, which
 *               stays in its level-2 cache: small networks
 *   wide        step by step over all images that the memory holds, all threads in one step: where
 *               the weights are large, so that each is read once, and for fewer images than threads
 */
#include "core/exec/run.h"

#include <assert.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"

struct eval_call {
    const float *pixels;
    int64_t n;
    int branch;
    exec_loss_fn *loss; /* NULL: forward only */
    void *ctx;
    float *dpixels, *logits;
};

static void load(const struct exec *e, const struct eval_call *call, const struct window *w)
{
    exec_load_pixels(e->g, call->pixels + w->whole * exec_elems(e, e->g->input), w->n,
                     exec_activation(e, w, e->g->input));
}

/* Logits out, and the gradient of the loss in. */
static void finish(const struct exec *e, const struct eval_call *call, const struct window *w)
{
    const int64_t per_logit = exec_elems(e, e->g->output);
    const float *logits = exec_activation(e, w, e->g->output);

    if (call->logits)
        memcpy(call->logits + w->whole * per_logit, logits,
               (size_t)(w->n * per_logit) * sizeof *logits);
    if (call->loss)
        call->loss(call->ctx, w->whole, w->n, logits, exec_gradient(e, w, e->g->output));
}

static void store(const struct exec *e, const struct eval_call *call, const struct window *w)
{
    exec_store_pixel_gradient(e->g, exec_gradient(e, w, e->g->input), w->n,
                              call->dpixels + w->whole * exec_elems(e, e->g->input));
}

/* ---- in blocks */

static void eval_block(struct exec *e, const struct eval_call *call, int64_t first, int64_t n)
{
    const struct room *room = &e->rooms->room[cpu_thread_index()];
    const struct window w = {.memory = room->memory,
                             .scratch = room->scratch,
                             .cap = e->cap,
                             .whole = first,
                             .n = n,
                             .branch = call->branch};

    load(e, call, &w);
    for (int32_t s = 0; s < e->plan.n_step; s++)
        exec_forward(e, &w, s);
    finish(e, call, &w);
    if (call->loss == NULL)
        return;
    for (int32_t s = e->plan.n_step - 1; s >= 0; s--) {
        exec_tail_backward(e, &w, s);
        exec_input_backward(e, &w, s);
    }
    store(e, call, &w);
}

/* Blocks go to whichever thread is free: they are independent, so the bits do not depend on it. */
static void eval_blocks(struct exec *e, const struct eval_call *call)
{
    const int64_t threads = exec_threads(e), each = (call->n + threads - 1) / threads;
    const int64_t block = min_i64(each, e->cap), blocks = (call->n + block - 1) / block;

#pragma omp parallel for schedule(dynamic) num_threads((int)threads)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t first = b * block;

        eval_block(e, call, first, min_i64(call->n - first, block));
    }
}

/* ---- wide */

typedef void border_fn(const struct exec *, const struct eval_call *, const struct window *);

static void in_parallel(const struct exec *e, const struct eval_call *call,
                        const struct window *all, border_fn *fn)
{
#pragma omp parallel for schedule(dynamic) num_threads(exec_threads(e))
    for (int32_t b = 0; b < EXEC_BLOCKS; b++) {
        const struct window w = exec_block(e, all, b, EXEC_BLOCKS);

        if (w.n > 0)
            fn(e, call, &w);
    }
}

static void eval_wide(struct exec *e, const struct eval_call *call, int64_t first, int64_t n)
{
    const struct window all = {.memory = e->rooms->room[0].memory,
                               .scratch = e->rooms->room[0].scratch,
                               .cap = e->cap,
                               .whole = first,
                               .n = n,
                               .branch = call->branch};

    in_parallel(e, call, &all, load);
    for (int32_t s = 0; s < e->plan.n_step; s++)
        exec_wide_forward(e, &all, s);
    in_parallel(e, call, &all, finish);
    if (call->loss == NULL)
        return;
    for (int32_t s = e->plan.n_step - 1; s >= 0; s--) {
        exec_each_block(e, &all, s, exec_tail_backward);
        exec_wide_backward(e, &all, s);
    }
    in_parallel(e, call, &all, store);
}

static int evaluate(struct exec *e, const struct eval_call *call)
{
    exec_prepare(e, call->branch);
    if (!e->wide && call->n >= exec_threads(e)) {
        eval_blocks(e, call);
        return 0;
    }
    for (int64_t first = 0; first < call->n; first += e->cap)
        eval_wide(e, call, first, min_i64(call->n - first, e->cap));
    return 0;
}

int exec_infer(struct exec *e, const float *pixels, int64_t n, int branch, float *logits)
{
    const struct eval_call call = {.pixels = pixels, .n = n, .branch = branch, .logits = logits};

    assert(e->mode == EXEC_INFER);
    for (value_id v = 0; v < e->g->n_value; v++)
        if (e->tap[v] && n > e->held)
            return fail(ERR_ARG, "exec: %lld images, but taps hold %lld", (long long)n,
                        (long long)e->held);
    return evaluate(e, &call);
}

int exec_input_grad(struct exec *e, const float *pixels, int64_t n, int branch, exec_loss_fn *loss,
                    void *ctx, float *dpixels, float *logits)
{
    const struct eval_call call = {pixels, n, branch, loss, ctx, dpixels, logits};

    assert(e->mode == EXEC_INPUT_GRAD);
    return evaluate(e, &call);
}
