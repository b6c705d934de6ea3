/* The walk (steps.h). Memory with shares is wiped when it is freed. */
#include "runtime/party/steps.h"

#include <string.h>

#include "runtime/plan/tournament.h"

struct walk {
    const struct steps *s;
    int32_t event;   /* next */
    uint64_t *x, *z; /* operands and results of one batch */
};

size_t steps_words(const struct prepared *m)
{
    return m->slots + m->scratch;
}

void steps_truncate(uint64_t *y, int64_t n, int bits, bool client)
{
    if (client)
        for (int64_t i = 0; i < n; i++)
            y[i] = 0 - ((0 - y[i]) >> bits);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] >>= bits;
}

/* ---- selections --------------------------------------------------------------------------- */

static int run_select(struct walk *w)
{
    int32_t event = w->event++;

    return w->s->select(w->s->ctx, event, w->x, w->z);
}

/* Only the kept positions, in one batch; the others are left as they are. */
static int run_relu(struct walk *w, const struct plan_relu *r, uint64_t *y)
{
    if (r->kept == 0)
        return 0;
    for (int64_t i = 0; i < r->kept; i++)
        w->x[i] = y[r->index[i]];
    TRY(run_select(w));
    for (int64_t i = 0; i < r->kept; i++)
        y[r->index[i]] = w->z[i];
    return 0;
}

static int run_tournament(struct walk *w, struct tournament *t)
{
    int64_t pairs;

    while ((pairs = tournament_pairs(t)) > 0) {
        tournament_round(t, w->x, pairs);
        TRY(run_select(w));
        tournament_advance(t, w->z, pairs);
    }
    return 0;
}

static int run_max_pool(struct walk *w, const struct plan_step *st, uint64_t *y, const uint64_t *x)
{
    const struct plan *p = w->s->model->plan;
    const struct plan_tensor *in = &p->tensor[st->in[0]], *out = &p->tensor[st->out];
    const struct plan_pool *q = &st->u.pool;
    struct tournament t = {.groups = out->count, .stride = q->kernel[0] * q->kernel[1]};
    int rc = ERR_NOMEM;

    t.count = mem_array((size_t)out->count, sizeof *t.count);
    t.value[0] = secret_array((size_t)(out->count * t.stride), sizeof *t.value[0]);
    if (t.count != NULL && t.value[0] != NULL) {
        pool_counts(q, in->dim, out->dim, t.count);
        pool_gather(t.value[0], x, q, in->dim, out->dim);
        rc = run_tournament(w, &t);
    }
    for (int64_t i = 0; i < out->count && rc == 0; i++)
        y[i] = t.value[0][i * t.stride];
    mem_free(t.count);
    secret_free(t.value[0]);
    return rc;
}

/* The index of output i is public: the server's share is i, the client's 0. */
static int run_argmax(struct walk *w, const uint64_t *logits, int64_t n, uint64_t *label)
{
    int32_t count = (int32_t)n;
    struct tournament t = {.groups = 1, .stride = n, .count = &count};
    int rc = ERR_NOMEM;

    t.value[0] = secret_array((size_t)n, sizeof *t.value[0]);
    t.value[1] = secret_array((size_t)n, sizeof *t.value[1]);
    if (t.value[0] != NULL && t.value[1] != NULL) {
        memcpy(t.value[0], logits, (size_t)n * sizeof *logits);
        for (int64_t i = 0; i < n; i++)
            t.value[1][i] = w->s->client ? 0 : (uint64_t)i;
        if ((rc = run_tournament(w, &t)) == 0)
            *label = t.value[1][0];
    }
    secret_free(t.value[0]);
    secret_free(t.value[1]);
    return rc;
}

/* ---- the walk ----------------------------------------------------------------------------- */

static int run_step(struct walk *w, const struct plan_step *st)
{
    const struct prepared *m = w->s->model;
    const struct plan_tensor *in = &m->plan->tensor[st->in[0]], *out = &m->plan->tensor[st->out];
    const uint64_t *a = w->s->words + m->slot[st->in[0]];
    const uint64_t *b = w->s->words + m->slot[st->in[st->n_in - 1]];
    uint64_t *y = w->s->words + m->slot[st->out];

    switch (st->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        TRY(w->s->linear(w->s->ctx, w->event++, y, a));
        break;
    case PLAN_ADD:
        ring_add(y, a, st->input_shift[0], b, st->input_shift[1], out->count);
        break;
    case PLAN_RELU:
        memcpy(y, a, (size_t)out->count * sizeof *y);
        TRY(run_relu(w, &st->u.relu, y));
        break;
    case PLAN_SUM_POOL:
        ring_sum_pool(y, a, &st->u.pool, in->dim, out->dim);
        break;
    case PLAN_MAX_POOL:
        TRY(run_max_pool(w, st, y, a));
        break;
    case PLAN_PAD:
        word_pad(y, a, &st->u.pad, in->dim, out->dim);
        break;
    case PLAN_SLICE:
        word_slice(y, a, &st->u.slice, in->dim, out->dim);
        break;
    case PLAN_FLATTEN:
        memcpy(y, a, (size_t)out->count * sizeof *y);
        break;
    }
    if (st->shift > 0)
        steps_truncate(y, out->count, st->shift, w->s->client);
    return 0;
}

static int64_t largest_batch(const struct schedule *s)
{
    int64_t most = 1;

    for (int32_t i = 0; i < s->n; i++) {
        int64_t words = s->event[i].batch.n * s->event[i].batch.payloads;
        most = words > most ? words : most;
    }
    return most;
}

static int walk_all(struct walk *w, uint64_t *results)
{
    const struct plan *p = w->s->model->plan;
    int32_t last = p->step[p->n_step - 1].out;
    const uint64_t *y = w->s->words + w->s->model->slot[last];

    for (int32_t i = 0; i < p->n_step; i++)
        TRY(run_step(w, &p->step[i]));
    if (w->s->schedule->label)
        return run_argmax(w, y, p->tensor[last].count, results);
    memcpy(results, y, (size_t)p->tensor[last].count * sizeof *y);
    return 0;
}

int steps_run(const struct steps *s, uint64_t *results)
{
    size_t most = (size_t)largest_batch(s->schedule);
    struct walk w = {s, 0, secret_array(most, sizeof *w.x), secret_array(most, sizeof *w.z)};
    int rc = w.x == NULL || w.z == NULL ? ERR_NOMEM : walk_all(&w, results);

    secret_free(w.x);
    secret_free(w.z);
    return rc;
}
