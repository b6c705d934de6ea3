/*
 * The driver of the attacks, and the automatic flags.
 *
 * Batches are ranges of image indices, whatever has fallen already: so the shared draws of Square
 * belong to the same images in an interrupted and in a straight run. Several ranks (core/base/ranks.h) take
 * one batch each in a round and know of all falls after it; then the state is saved.
 */
#include "trainer/attack/autoattack.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/base/ranks.h"
#include "core/graph/rng.h"
#include "trainer/attack/apgd.h"

#define BOX_SLACK 1e-6 /* rounding of x + eps */
#define FLAG_PASSES 5
#define FLAG_DIFFERENCE 1e-4
#define FLAG_PROBABILITY 1e-5
#define SQUARE_GAIN 0.002

int attack_work_init(struct attack_work *w, const struct attack_model *m)
{
    const size_t n = (size_t)m->batch, floats = n * (size_t)m->elems;

    *w = (struct attack_work){0};
    TRY(arena_new(0, &w->arena));
    w->pixels = arena_array(w->arena, floats, sizeof(float));
    w->adv = arena_array(w->arena, floats, sizeof(float));
    w->grad = arena_array(w->arena, floats, sizeof(float));
    w->z = arena_array(w->arena, n * (size_t)m->classes, sizeof(float));
    w->label = arena_array(w->arena, n, sizeof *w->label);
    w->sample = arena_array(w->arena, n, sizeof *w->sample);
    w->broken = arena_array(w->arena, n, 1);
    return arena_status(w->arena);
}

void attack_work_release(struct attack_work *w)
{
    arena_free(w->arena);
}

/* ---- one batch ------------------------------------------------------------------------------- */

static int check_box(const struct attack_stage *s, const struct attack_batch *b, int64_t i,
                     int64_t elems)
{
    const float *x = b->pixels + i * elems, *adv = b->adv + i * elems;

    for (int64_t j = 0; j < elems; j++)
        if (!(fabs((double)adv[j] - (double)x[j]) <= s->eps + BOX_SLACK && adv[j] >= 0 &&
              adv[j] <= 1))
            return fail(
                ERR_NUMERIC,
                "attack %s: image %" PRId64 " was moved from %g to %g, outside eps %g or [0,1]",
                attack_kind_name(s->kind), b->sample[i], (double)x[j], (double)adv[j], s->eps);
    return 0;
}

/* The images of [first, first + count) that stand, as a batch. */
static int gather(const struct attack_job *job, const struct attack_progress *p, int64_t first,
                  int64_t count, struct attack_work *w, struct attack_batch *b)
{
    *b = (struct attack_batch){.pixels = w->pixels,
                               .label = w->label,
                               .sample = w->sample,
                               .group = first,
                               .seed = job->seed,
                               .adv = w->adv,
                               .broken = w->broken};
    for (int64_t i = first; i < first + count; i++) {
        if (!p->robust[i])
            continue;
        TRY(data_image(job->d, i, w->pixels + b->n * job->m->elems));
        w->label[b->n] = job->d->labels[i];
        w->sample[b->n] = i;
        w->broken[b->n++] = 0;
    }
    return 0;
}

static int attack_once(const struct attack_job *job, const struct attack_stage *s, int32_t restart,
                       struct attack_progress *p, int64_t first, int64_t count,
                       struct attack_work *w)
{
    struct attack_model *m = job->m;
    struct attack_batch b;

    TRY(gather(job, p, first, count, w, &b));
    if (b.n == 0)
        return 0;
    TRY(attack_type(s->kind)->run(m, s, restart, &b, w->grad));
    for (int64_t i = 0; i < b.n; i++) {
        if (!b.broken[i])
            continue;
        TRY(check_box(s, &b, i, m->elems));
        p->robust[b.sample[i]] = 0;
    }
    return 0;
}

/* A part of a suite that the network has too few classes for; alone it would be refused. */
static bool is_left_out(const struct attack_job *job, const struct attack_stage *s)
{
    return job->spec->n_stage > 1 && job->m->classes < attack_type(s->kind)->classes;
}

/* Restarts that are rounds of the driver: each on what still stands. */
static int attack_range(const struct attack_job *job, const struct attack_stage *s,
                        struct attack_progress *p, int64_t first, int64_t count,
                        struct attack_work *w)
{
    const int32_t rounds = attack_type(s->kind)->rounds ? attack_stage_count(s, "restarts") : 1;

    for (int32_t r = 0; r < rounds && !is_left_out(job, s); r++)
        TRY(attack_once(job, s, r, p, first, count, w));
    return 0;
}

static int64_t count_robust(const struct attack_progress *p)
{
    int64_t n = 0;

    for (int64_t i = 0; i < p->n; i++)
        n += p->robust[i];
    return n;
}

int autoattack_run(const struct attack_job *job, struct attack_progress *p)
{
    SCOPED(attack_work_release) struct attack_work w = {0};

    TRY(attack_work_init(&w, job->m));
    while (p->stage < job->spec->n_stage) {
        const int64_t batch = job->m->batch;
        const int64_t first = min_i64(p->next + ranks_index() * batch, p->n);

        TRY(ranks_agree(attack_range(job, &job->spec->stage[p->stage], p, first,
                                     min_i64(batch, p->n - first), &w)));
        ranks_least(p->robust, (size_t)p->n);
        p->next = min_i64(p->next + ranks_count() * batch, p->n);
        if (p->next == p->n) {
            p->robust_after[p->stage++] = count_robust(p);
            p->next = 0;
        }
        if (job->save != NULL)
            TRY(ranks_agree(job->save(job->ctx, p)));
    }
    return 0;
}

/* ---- flags ----------------------------------------------------------------------------------- */

static double norm_of(const float *z, int64_t k)
{
    double sum = 0;

    for (int64_t i = 0; i < k; i++)
        sum += (double)z[i] * (double)z[i];
    return sum > 0 ? sqrt(sum) : 1;
}

/* Largest distance of two outputs that were scaled to length 1. */
static double spread(const float *a, const float *b, int64_t n, int64_t k)
{
    double most = 0;

    for (int64_t i = 0; i < n; i++) {
        const double na = norm_of(a + i * k, k), nb = norm_of(b + i * k, k);
        double sum = 0;
        for (int64_t j = i * k; j < (i + 1) * k; j++) {
            const double d = (double)a[j] / na - (double)b[j] / nb;
            sum += d * d;
        }
        most = fmax(most, sqrt(sum));
    }
    return most;
}

static bool are_probabilities(const float *z, int64_t n, int64_t k)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int64_t j = 0; j < k; j++) {
            const double v = (double)z[i * k + j];
            if (!(v >= -FLAG_PROBABILITY && v <= 1 + FLAG_PROBABILITY))
                return false;
            sum += v;
        }
        if (fabs(sum - 1) > FLAG_PROBABILITY)
            return false;
    }
    return true;
}

static int look_at_outputs(struct attack_model *m, const struct attack_work *w, int64_t n,
                           float *again, struct attack_flags *f)
{
    const int64_t k = m->classes;

    TRY(attack_logits(m, w->pixels, n, w->z));
    f->probabilities = are_probabilities(w->z, n, k);
    for (int pass = 1; pass < FLAG_PASSES; pass++) {
        TRY(attack_logits(m, w->pixels, n, again));
        for (int64_t i = 0; i < n; i++)
            f->randomised |= attack_is_wrong(w->z + i * k, k, w->label[i]) !=
                             attack_is_wrong(again + i * k, k, w->label[i]);
        f->randomised |= spread(w->z, again, n, k) > FLAG_DIFFERENCE;
    }
    return 0;
}

/* Among the images that are right when clean (w->z): of a wrong one whose label comes third the DLR
 * loss is constant by its form. */
static int count_zero_gradients(struct attack_model *m, const struct attack_work *w, int64_t n,
                                uint64_t seed, struct attack_flags *f)
{
    const struct attack_batch b = {.seed = seed};
    const float eps = (float)apgd_defaults().eps;

    for (int64_t i = 0; i < n; i++) {
        struct rng r = attack_rng(&b, ATTACK_ID_APGD_DLR, w->sample[i], 0);
        for (int64_t j = i * m->elems; j < (i + 1) * m->elems; j++)
            w->adv[j] = attack_clip(w->pixels[j] + rng_range(&r, -eps, eps), 0, 1);
    }
    TRY(attack_loss_grad(m, f->no_dlr ? ATTACK_CE : ATTACK_DLR, w->adv, n, w->label, NULL, NULL,
                         w->grad, NULL));
    for (int64_t i = 0; i < n; i++) {
        bool zero = !attack_is_wrong(w->z + i * m->classes, m->classes, w->label[i]);
        for (int64_t j = i * m->elems; zero && j < (i + 1) * m->elems; j++)
            zero = w->grad[j] == 0;
        f->zero_gradients += zero;
    }
    return 0;
}

int autoattack_flags(struct attack_model *m, const struct dataset *d, int64_t limit, uint64_t seed,
                     struct attack_flags *out)
{
    const int64_t most = limit < d->n ? limit : d->n, n = most < m->batch ? most : m->batch;
    struct attack_flags f = {.n = n, .no_dlr = m->classes < 3, .no_targeted_dlr = m->classes < 4};
    OWNED float *again = mem_aligned((size_t)(n * m->classes), sizeof *again);
    SCOPED(attack_work_release) struct attack_work w = {0};

    if (again == NULL)
        return ERR_NOMEM;
    TRY(attack_work_init(&w, m));
    for (int64_t i = 0; i < n; i++) {
        TRY(data_image(d, i, w.pixels + i * m->elems));
        w.label[i] = d->labels[i];
        w.sample[i] = i;
    }
    TRY(look_at_outputs(m, &w, n, again, &f));
    TRY(count_zero_gradients(m, &w, n, seed, &f));
    *out = f;
    return 0;
}

bool autoattack_square_gains(const struct attack_spec *spec, const struct attack_progress *p)
{
    for (int32_t s = 1; s < spec->n_stage && s < p->stage; s++)
        if (spec->stage[s].kind == ATTACK_SQUARE)
            return (double)(p->robust_after[s - 1] - p->robust_after[s]) >
                   SQUARE_GAIN * (double)p->n;
    return false;
}
