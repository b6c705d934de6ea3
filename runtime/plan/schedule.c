/* Events of a two-party run (schedule.h). */
#include "runtime/plan/schedule.h"

#include "runtime/plan/tournament.h"

#define MAX_EVENTS ((int32_t)1 << 20) /* a tweak has room for this many */

static int add(struct schedule *s, struct event e)
{
    struct event *more;

    if (s->n >= MAX_EVENTS)
        return fail(ERR_LIMIT, "the program has more than %d interactive steps", MAX_EVENTS);
    if ((s->n & (s->n - 1)) == 0) { /* room for the next power of two */
        size_t room = s->n == 0 ? 1 : 2 * (size_t)s->n;
        if ((more = mem_resize(s->event, room, sizeof *more)) == NULL)
            return ERR_NOMEM;
        s->event = more;
    }
    e.batch.tweak = (uint64_t)s->n;
    s->event[s->n++] = e;
    return 0;
}

static int add_batch(struct schedule *s, int32_t step, int64_t n, int32_t width, int32_t payloads)
{
    return add(s, (struct event){.kind = EVENT_SELECT,
                                 .step = step,
                                 .batch = {.n = n, .width = width, .payloads = payloads}});
}

static int add_tournament(struct schedule *s, int32_t step, int32_t *count, int64_t groups,
                          int32_t width, int32_t payloads)
{
    int64_t pairs;

    while ((pairs = tournament_skip(count, groups)) > 0)
        TRY(add_batch(s, step, pairs, width, payloads));
    return 0;
}

static int add_max_pool(struct schedule *s, int32_t step)
{
    const struct plan_step *st = &s->plan->step[step];
    const struct plan_tensor *in = &s->plan->tensor[st->in[0]], *out = &s->plan->tensor[st->out];
    OWNED int32_t *count = mem_array((size_t)out->count, sizeof *count);

    if (count == NULL)
        return ERR_NOMEM;
    pool_counts(&st->u.pool, in->dim, out->dim, count);
    return add_tournament(s, step, count, out->count, st->u.pool.width, 1);
}

/* Differences need one bit more than the outputs; rounded up to 4q+1 like every comparison. */
static int32_t argmax_width(const struct plan_tensor *t)
{
    int32_t m = t->scale + t->max_log2 + 2 + PLAN_MARGIN_BITS;

    m = m < PLAN_MIN_WIDTH ? PLAN_MIN_WIDTH : m;
    return (m + 2) / 4 * 4 + 1;
}

static int add_argmax(struct schedule *s)
{
    const struct plan *p = s->plan;
    const struct plan_tensor *t = &p->tensor[p->step[p->n_step - 1].out];
    int32_t count = (int32_t)t->count, width = argmax_width(t);

    if (width > PLAN_MAX_WIDTH)
        return fail(ERR_UNSUPPORTED,
                    "output tensor: a secure argmax needs comparisons of %d bits, at most %d",
                    width, PLAN_MAX_WIDTH);
    return add_tournament(s, p->n_step, &count, 1, width, 2);
}

static int add_step(struct schedule *s, int32_t i)
{
    const struct plan *p = s->plan;
    const struct plan_step *st = &p->step[i];

    switch (st->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        return add(s, (struct event){.kind = EVENT_LINEAR,
                                     .step = i,
                                     .inputs = p->tensor[st->in[0]].count,
                                     .outputs = p->tensor[st->out].count});
    case PLAN_RELU:
        return st->u.relu.kept == 0
                   ? 0
                   : add_batch(s, i, plan_evaluations(&st->u.relu), st->u.relu.width, 1);
    case PLAN_MAX_POOL:
        return add_max_pool(s, i);
    default:
        return 0;
    }
}

int schedule_new(const struct plan *p, bool label, struct schedule **out)
{
    SCOPED(schedule_free_at) struct schedule *s = mem_array(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->plan = p;
    s->label = label;
    s->results = label ? 1 : p->tensor[p->step[p->n_step - 1].out].count;
    for (int32_t i = 0; i < p->n_step; i++)
        TRY(add_step(s, i));
    if (label)
        TRY(add_argmax(s));
    *out = mem_hand_on(&s);
    return 0;
}

void schedule_free(struct schedule *s)
{
    if (s == NULL)
        return;
    mem_free(s->event);
    mem_free(s);
}
