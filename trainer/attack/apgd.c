/*
 * APGD in the L-infinity box.
 *
 * The images in work are dense rows of the blocks below; one that leaves is overwritten by the last.
 * Losses of a row: loss[i] after step i, zero where no step has been made yet: at the first
 * checkpoint the oldest comparison is with that zero, as in the published code. After a halving the
 * iterate is the best point, while `old` stays the iterate before the last step: so the momentum of
 * the next step points from there.
 */
#include "trainer/attack/apgd.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/attack/spec.h"
#include "trainer/loss.h"

static struct apgd_params params_of(const struct attack_stage *s)
{
    return (struct apgd_params){.eps = s->eps,
                                .steps = attack_stage_count(s, "steps"),
                                .restarts = attack_stage_count(s, "restarts"),
                                .targets = attack_stage_count(s, "targets"),
                                .rho = attack_stage_get(s, "rho")};
}

struct apgd_params apgd_defaults(void)
{
    const struct attack_stage s = attack_stage_defaults(ATTACK_APGD_T);

    return params_of(&s);
}

static int32_t share(int32_t steps, double part)
{
    const int32_t n = (int32_t)(part * steps);
    return n > 1 ? n : 1;
}

int32_t apgd_interval(int32_t steps, int32_t k)
{
    const int32_t least = share(steps, 0.06), shorter = k - share(steps, 0.03);

    if (k == 0)
        return share(steps, 0.22);
    return shorter > least ? shorter : least;
}

struct run { /* rows 0 ... n-1 of every block are in work */
    struct attack_model *m;
    struct attack_batch *b;
    const struct apgd_params *p;
    enum attack_loss kind;
    bool stay; /* images that fall stay in the run */
    int64_t n, elems;
    float *clean, *x, *old, *grad, *best, *best_grad; /* [n][elems] */
    float *z, *check, *check_z;                       /* [n][k], [n][elems], [n][k] */
    double *loss, *history;                           /* [n], [n][steps] */
    double *best_loss, *last_best, *eta;              /* [n] */
    int32_t *label, *target;                          /* [n] */
    int64_t *image, *row;                             /* [n] row -> image of b; scratch */
    uint8_t *halved;                                  /* [n] at the last checkpoint */
    uint8_t *wrong;                                   /* [n] by the gradient pass */
};

static int run_init(struct run *r, struct arena *a, struct attack_model *m,
                    const struct apgd_params *p, enum attack_loss kind, struct attack_batch *b)
{
    const size_t n = (size_t)b->n, pixels = n * (size_t)m->elems, logits = n * (size_t)m->classes;

    *r = (struct run){.m = m, .b = b, .p = p, .kind = kind, .elems = m->elems};
    float **const images[] = {&r->clean, &r->x,         &r->old,  &r->grad,
                              &r->best,  &r->best_grad, &r->check};
    double **const numbers[] = {&r->loss, &r->best_loss, &r->last_best, &r->eta};

    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        *images[i] = arena_array(a, pixels, sizeof(float));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        *numbers[i] = arena_array(a, n, sizeof(double));
    r->history = arena_array(a, n * (size_t)p->steps, sizeof(double));
    r->z = arena_array(a, logits, sizeof(float));
    r->check_z = arena_array(a, logits, sizeof(float));
    r->label = arena_array(a, n, sizeof *r->label);
    r->target = arena_array(a, n, sizeof *r->target);
    r->image = arena_array(a, n, sizeof *r->image);
    r->row = arena_array(a, n, sizeof *r->row);
    r->halved = arena_array(a, n, 1);
    r->wrong = arena_array(a, n, 1);
    return arena_status(a);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Row j takes the place of row i. */
static void move_row(struct run *r, int64_t i, int64_t j)
{
    float *const block[] = {r->clean, r->x, r->old, r->grad, r->best, r->best_grad};

    for (size_t k = 0; k < sizeof block / sizeof block[0]; k++)
        attack_copy_row(block[k], i, block[k], j, r->elems);
    memmove(r->history + i * r->p->steps, r->history + j * r->p->steps,
            (size_t)r->p->steps * sizeof *r->history);
    r->loss[i] = r->loss[j];
    r->best_loss[i] = r->best_loss[j];
    r->last_best[i] = r->last_best[j];
    r->eta[i] = r->eta[j];
    r->label[i] = r->label[j];
    r->target[i] = r->target[j];
    r->image[i] = r->image[j];
    r->halved[i] = r->halved[j];
    r->wrong[i] = r->wrong[j];
}

/* Rows := the images of the batch that still stand. */
static void gather(struct run *r, const int32_t *target)
{
    r->n = 0;
    for (int64_t i = 0; i < r->b->n; i++) {
        if (r->b->broken[i])
            continue;
        attack_copy_row(r->clean, r->n, r->b->pixels, i, r->elems);
        r->label[r->n] = r->b->label[i];
        r->target[r->n] = target != NULL ? target[i] : 0;
        r->image[r->n++] = i;
    }
}

/* Asks the evaluation pass about the rows that the gradient pass calls wrong; those that are leave. */
static int drop_fallen(struct run *r)
{
    const int64_t k = r->m->classes;
    int64_t count = 0;

    for (int64_t i = 0; i < r->n; i++)
        if (r->wrong[i] && !r->b->broken[r->image[i]]) {
            attack_copy_row(r->check, count, r->x, i, r->elems);
            r->row[count++] = i;
        }
    if (count == 0)
        return 0;
    TRY(attack_logits(r->m, r->check, count, r->check_z));
    for (int64_t j = count - 1; j >= 0;
         j--) { /* from the back: moving rows changes none in front */
        const int64_t i = r->row[j], image = r->image[i];
        if (!attack_is_wrong(r->check_z + j * k, k, r->label[i]))
            continue;
        attack_copy_row(r->b->adv, image, r->x, i, r->elems);
        r->b->broken[image] = 1;
        if (!r->stay)
            move_row(r, i, --r->n);
    }
    return 0;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* x + eps u / max|u|, u uniform in [-1,1], clipped to [0,1]. */
static void start_row(struct run *r, enum attack_id id, int32_t run_index, int64_t i)
{
    struct rng g = attack_rng(r->b, id, r->b->sample[r->image[i]], run_index);

    attack_start(&g, r->clean + i * r->elems, (float)r->p->eps, r->elems, r->x + i * r->elems);
    attack_copy_row(r->old, i, r->x, i, r->elems);
    memset(r->history + i * r->p->steps, 0, (size_t)r->p->steps * sizeof *r->history);
    r->eta[i] = 2 * r->p->eps;
    r->halved[i] = 1;
}

static float project(float v, float clean, float eps)
{
    return attack_clip(attack_clip(v, clean - eps, clean + eps), 0, 1);
}

static void step_row(struct run *r, int32_t step, int64_t i)
{
    const float eps = (float)r->p->eps, eta = (float)r->eta[i], a = step == 0 ? 1 : 0.75f;
    const float *clean = r->clean + i * r->elems, *grad = r->grad + i * r->elems;
    float *x = r->x + i * r->elems, *old = r->old + i * r->elems;

    for (int64_t j = 0; j < r->elems; j++) {
        const float sign = grad[j] > 0 ? 1 : grad[j] < 0 ? -1 : 0;
        const float z = project(x[j] + eta * sign, clean[j], eps), back = x[j] - old[j];
        old[j] = x[j];
        x[j] = project(x[j] + a * (z - x[j]) + (1 - a) * back, clean[j], eps);
    }
}

static void keep_best(struct run *r, int64_t i)
{
    attack_copy_row(r->best, i, r->x, i, r->elems);
    attack_copy_row(r->best_grad, i, r->grad, i, r->elems);
    r->best_loss[i] = r->loss[i];
}

/* After `done` steps, the last k of them since the previous checkpoint. */
static void checkpoint_row(struct run *r, int32_t done, int32_t k, int64_t i)
{
    const double *h = r->history + i * r->p->steps;
    int32_t rose = 0;

    for (int32_t s = done - k; s < done; s++)
        rose += h[s] > h[s > 0 ? s - 1 : r->p->steps - 1];
    r->halved[i] = rose <= r->p->rho * k || (!r->halved[i] && r->last_best[i] >= r->best_loss[i]);
    r->last_best[i] = r->best_loss[i];
    if (r->halved[i]) {
        r->eta[i] /= 2;
        attack_copy_row(r->x, i, r->best, i, r->elems);
        attack_copy_row(r->grad, i, r->best_grad, i, r->elems);
    }
}

/* Loss and gradient at x; rows that are misclassified leave. */
static int look(struct run *r)
{
    const int64_t k = r->m->classes;

    TRY(attack_loss_grad(r->m, r->kind, r->x, r->n, r->label, r->target, r->loss, r->grad, r->z));
    for (int64_t i = 0; i < r->n; i++)
        r->wrong[i] = attack_is_wrong(r->z + i * k, k, r->label[i]);
    return drop_fallen(r);
}

static double mean_best(const struct run *r)
{
    double sum = 0;

    for (int64_t i = 0; i < r->n; i++)
        sum += r->best_loss[i];
    return r->n > 0 ? sum / (double)r->n : 0;
}

static int begin(struct run *r, enum attack_id id, int32_t run_index)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < r->n; i++)
        start_row(r, id, run_index, i);
    TRY(look(r));
    for (int64_t i = 0; i < r->n; i++) {
        keep_best(r, i);
        r->last_best[i] = r->best_loss[i];
    }
    return 0;
}

static int one_step(struct run *r, int32_t step)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < r->n; i++)
        step_row(r, step, i);
    TRY(look(r));
    for (int64_t i = 0; i < r->n; i++) {
        r->history[i * r->p->steps + step] = r->loss[i];
        if (r->loss[i] > r->best_loss[i])
            keep_best(r, i);
    }
    return 0;
}

/* One run on the rows that gather() made. */
static int run_steps(struct run *r, enum attack_id id, int32_t run_index, double *curve)
{
    int32_t interval = apgd_interval(r->p->steps, 0), since = 0;

    if (r->n == 0)
        return 0;
    TRY(begin(r, id, run_index));
    if (curve != NULL)
        curve[0] = mean_best(r);
    for (int32_t step = 0; step < r->p->steps && r->n > 0; step++) {
        TRY(one_step(r, step));
        if (curve != NULL)
            curve[step + 1] = mean_best(r);
        if (++since < interval)
            continue;
        for (int64_t i = 0; i < r->n; i++)
            checkpoint_row(r, step + 1, interval, i);
        interval = apgd_interval(r->p->steps, interval);
        since = 0;
    }
    return 0;
}

/* ---- attacks --------------------------------------------------------------------------------- */

int apgd_attack(struct attack_model *m, const struct apgd_params *p, enum attack_loss kind,
                struct attack_batch *b, double *curve)
{
    const enum attack_id id = kind == ATTACK_CE ? ATTACK_ID_APGD_CE : ATTACK_ID_APGD_DLR;
    SCOPED(arena_free_at) struct arena *arena = NULL;
    struct run r;

    TRY(arena_new(0, &arena));
    TRY(run_init(&r, arena, m, p, kind, b));
    r.stay = curve != NULL;
    for (int32_t restart = 0; restart < p->restarts; restart++) {
        gather(&r, NULL);
        TRY(run_steps(&r, id, restart, restart == 0 ? curve : NULL));
    }
    return 0;
}

/* target[i] := the class that is j-th (from 0) in the clean logits z. */
static void choose_targets(const struct attack_model *m, const float *z, int64_t n, int32_t j,
                           int32_t *target)
{
    for (int64_t i = 0; i < n; i++)
        target[i] = attack_rank(z + i * m->classes, m->classes, j);
}

int apgd_targeted(struct attack_model *m, const struct apgd_params *p, struct attack_batch *b)
{
    const int32_t n = attack_targets(p->targets, m->classes);
    OWNED float *z = mem_aligned((size_t)(b->n * m->classes), sizeof *z);
    OWNED int32_t *target = mem_array((size_t)b->n, sizeof *target);
    SCOPED(arena_free_at) struct arena *arena = NULL;
    struct run r;

    if (z == NULL || target == NULL)
        return ERR_NOMEM;
    TRY(attack_logits(m, b->pixels, b->n, z));
    TRY(arena_new(0, &arena));
    TRY(run_init(&r, arena, m, p, ATTACK_DLR_TARGETED, b));
    for (int32_t j = 1; j <= n; j++) {
        choose_targets(m, z, b->n, j, target);
        for (int32_t restart = 0; restart < p->restarts; restart++) {
            gather(&r, target);
            TRY(run_steps(&r, ATTACK_ID_APGD_T, (j - 1) * p->restarts + restart, NULL));
        }
    }
    return 0;
}

/* ---- as attacks with a name ------------------------------------------------------------------ */

static int run_type(struct attack_model *m, const struct attack_stage *s, int32_t restart,
                    struct attack_batch *b, float *grad)
{
    const struct apgd_params p = params_of(s);

    (void)restart, (void)grad;
    if (s->kind == ATTACK_APGD_T)
        return apgd_targeted(m, &p, b);
    return apgd_attack(m, &p, s->kind == ATTACK_APGD_CE ? ATTACK_CE : ATTACK_DLR, b, NULL);
}

static int64_t cost(const struct attack_stage *s, int64_t classes)
{
    const struct apgd_params p = params_of(s);
    const int64_t runs = p.restarts * 3 * ((int64_t)p.steps + 1);

    return s->kind == ATTACK_APGD_T ? attack_targets(p.targets, classes) * runs + 2 : runs + 1;
}

const struct attack_type attack_type_apgd_ce = {
    .key = {{"steps", ATTACK_COUNT, 100, 1, APGD_MAX_STEPS, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, 1000, {0}},
            {"rho", ATTACK_REAL, 0.75, 0.01, 1, {0}},
            {0}},
    .run = run_type,
    .cost = cost,
};
const struct attack_type attack_type_apgd_dlr = {
    .key = {{"steps", ATTACK_COUNT, 100, 1, APGD_MAX_STEPS, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, 1000, {0}},
            {"rho", ATTACK_REAL, 0.75, 0.01, 1, {0}},
            {0}},
    .run = run_type,
    .cost = cost,
};
const struct attack_type attack_type_apgd_t = {
    .key = {{"steps", ATTACK_COUNT, 100, 1, APGD_MAX_STEPS, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, 1000, {0}},
            {"targets", ATTACK_COUNT, 9, 1, 1000, {0}},
            {"rho", ATTACK_REAL, 0.75, 0.01, 1, {0}},
            {0}},
    .classes = 4,
    .run = run_type,
    .cost = cost,
};
