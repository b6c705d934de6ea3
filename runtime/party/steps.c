/* The walk (steps.h). Memory with shares is wiped when it is freed. */
#include "runtime/party/steps.h"

#include <string.h>

#include "runtime/plan/tournament.h"

struct walk {
    const struct steps *s;
    int32_t event, next; /* of the step at work: first; of the image at work: next */
    int64_t image;
    uint64_t *x, *z; /* operands and results of one batch */
    size_t most;     /* words of either */
};

size_t steps_words(const struct prepared *m, int64_t images)
{
    return (size_t)images * m->slots + m->scratch;
}

uint64_t *steps_tensor(const struct steps *s, int32_t tensor)
{
    return s->words + s->images * s->model->slot[tensor];
}

double *steps_scratch(const struct prepared *m, uint64_t *words, int64_t images)
{
    return (double *)(void *)(words + (size_t)images * m->slots);
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
    return w->s->select(w->s->ctx, w->next++, w->image, w->x, w->z);
}

/* Only the kept positions, in one batch; the others are left as they are. With a cap max(x - cap, 0)
 * is found too, cap being subtracted from the server's share, and taken off. */
static int run_relu(struct walk *w, const struct plan_relu *r, uint64_t *y)
{
    const uint64_t cap = w->s->client ? 0 : (uint64_t)r->cap;
    const int64_t second = plan_evaluations(r) - r->kept;

    if (r->kept == 0)
        return 0;
    for (int64_t i = 0; i < r->kept; i++)
        w->x[i] = y[r->index[i]];
    for (int64_t i = 0; i < second; i++)
        w->x[r->kept + i] = w->x[i] - cap;
    TRY(run_select(w));
    for (int64_t i = 0; i < r->kept; i++)
        y[r->index[i]] = w->z[i];
    for (int64_t i = 0; i < second; i++)
        y[r->index[i]] -= w->z[r->kept + i];
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
    const int64_t window = q->kernel[0] * q->kernel[1];
    OWNED int32_t *count = mem_array((size_t)out->count, sizeof *count);
    SECRET uint64_t *value = secret_array((size_t)(out->count * window), sizeof *value);
    struct tournament t = {out->count, window, count, {value, NULL}};

    if (count == NULL || value == NULL)
        return ERR_NOMEM;
    pool_counts(q, in->dim, out->dim, count);
    pool_gather(value, x, q, in->dim, out->dim);
    TRY(run_tournament(w, &t));
    for (int64_t i = 0; i < out->count; i++)
        y[i] = value[i * window];
    return 0;
}

/* The index of output i is public: the server's share is i, the client's 0. */
static int run_argmax(struct walk *w, const uint64_t *logits, int64_t n, uint64_t *label)
{
    int32_t count = (int32_t)n;
    SECRET uint64_t *value = secret_array((size_t)n, sizeof *value);
    SECRET uint64_t *index = secret_array((size_t)n, sizeof *index);
    struct tournament t = {1, n, &count, {value, index}};

    if (value == NULL || index == NULL)
        return ERR_NOMEM;
    memcpy(value, logits, (size_t)n * sizeof *logits);
    for (int64_t i = 0; i < n; i++)
        index[i] = w->s->client ? 0 : (uint64_t)i;
    TRY(run_tournament(w, &t));
    *label = index[0];
    return 0;
}

/* ---- the walk ----------------------------------------------------------------------------- */

/* A step that is done image by image. y, a: of this one. */
static int run_image(struct walk *w, const struct plan_step *st, uint64_t *y, const uint64_t *a)
{
    const struct plan *p = w->s->model->plan;
    const struct plan_tensor *in = &p->tensor[st->in[0]], *out = &p->tensor[st->out];

    switch (st->kind) {
    case PLAN_RELU:
        memcpy(y, a, (size_t)out->count * sizeof *y);
        ring_line(y, &st->u.relu, out->dim[0],
                  w->s->client ? NULL : prepared_offset(w->s->model, (int32_t)(st - p->step)),
                  w->s->client ? RING_CLIENT : RING_SERVER);
        return run_relu(w, &st->u.relu, y);
    case PLAN_SUM_POOL:
        ring_sum_pool(y, a, &st->u.pool, in->dim, out->dim);
        break;
    case PLAN_MAX_POOL:
        return run_max_pool(w, st, y, a);
    case PLAN_PAD:
        word_pad(y, a, &st->u.pad, in->dim, out->dim);
        break;
    case PLAN_SLICE:
        word_slice(y, a, &st->u.slice, in->dim, out->dim);
        break;
    default: /* PLAN_FLATTEN; the others take all images at once */
        memcpy(y, a, (size_t)out->count * sizeof *y);
        break;
    }
    return 0;
}

/* A step that is done image by image; st NULL: the argmax. */
struct job {
    struct walk *w;
    const struct plan_step *st;
    int64_t in, out; /* elements of an image */
    const uint64_t *a;
    uint64_t *y;
};

static int run_job(const struct job *j, struct walk *w)
{
    uint64_t *y = j->y + w->image * j->out;
    const uint64_t *a = j->a + w->image * j->in;

    w->next = w->event;
    return j->st != NULL ? run_image(w, j->st, y, a) : run_argmax(w, a, j->in, y);
}

/* The others may be at work meanwhile. */
static int run_beside(void *arg, int64_t image)
{
    const struct job *j = arg;
    struct walk w = *j->w;
    SECRET uint64_t *x = secret_array(w.most, sizeof *x), *z = secret_array(w.most, sizeof *z);

    if (x == NULL || z == NULL)
        return ERR_NOMEM;
    w.image = image;
    w.x = x;
    w.z = z;
    TRY(run_job(j, &w));
    if (image == 0)
        j->w->next = w.next; /* that of all images */
    return 0;
}

static int run_images(struct job *j)
{
    struct walk *w = j->w;

    if (w->s->together != NULL && w->s->images > 1)
        TRY(w->s->together(w->s->ctx, w->s->images, run_beside, j));
    else
        for (w->image = 0; w->image < w->s->images; w->image++)
            TRY(run_job(j, w));
    w->event = w->next;
    return 0;
}

static int run_step(struct walk *w, const struct plan_step *st)
{
    const struct plan *p = w->s->model->plan;
    const uint64_t *a = steps_tensor(w->s, st->in[0]);
    uint64_t *y = steps_tensor(w->s, st->out);
    int64_t n = w->s->images * p->tensor[st->out].count;

    if (plan_is_linear(st))
        TRY(w->s->linear(w->s->ctx, w->event++, y, a));
    else if (st->kind == PLAN_ADD)
        ring_add(y, a, st->input_shift[0], steps_tensor(w->s, st->in[st->n_in - 1]),
                 st->input_shift[1], n);
    else {
        struct job j = {w, st, p->tensor[st->in[0]].count, p->tensor[st->out].count, a, y};
        TRY(run_images(&j));
    }
    if (st->shift > 0)
        steps_truncate(y, n, st->shift, w->s->client);
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
    const uint64_t *y = steps_tensor(w->s, last);
    int64_t n = p->tensor[last].count;

    for (int32_t i = 0; i < p->n_step; i++)
        TRY(run_step(w, &p->step[i]));
    if (!w->s->schedule->label) {
        memcpy(results, y, (size_t)(w->s->images * n) * sizeof *y);
        return 0;
    }
    struct job j = {w, NULL, n, 1, y, results};
    return run_images(&j);
}

int steps_run(const struct steps *s, uint64_t *results)
{
    size_t most = (size_t)largest_batch(s->schedule);
    SECRET uint64_t *x = secret_array(most, sizeof *x), *z = secret_array(most, sizeof *z);
    struct walk w = {.s = s, .x = x, .z = z, .most = most};

    return x == NULL || z == NULL ? ERR_NOMEM : walk_all(&w, results);
}
