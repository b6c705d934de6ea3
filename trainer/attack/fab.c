/*
 * FAB-T in L-infinity: Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive
 * boundary attack", ICML 2020, as the authors' AutoAttack runs it.
 *
 * For the label y and one target class t at a time, with f(x) = z_t(x) - z_y(x), an image is broken
 * where f > 0. A step at the iterate x, whose start is the clean image x0:
 *
 *     hyperplane   P = { u : f(x) + w.(u - x) = 0 },  w = grad f(x): the boundary, linearised at x
 *     d1, d2       least L-infinity moves of x and of x0 onto P inside [0,1]^n (fab_project)
 *     a            min(r1 / (r1 + r2), alpha_max),  r = longest coordinate of d1, d2
 *     x           <- clip01( (1 - a) (x + eta d1) + a (x0 + eta d2) )
 *
 * eta > 1 overshoots the plane; a pulls the walk toward x0, so it looks for the nearest point of the
 * boundary and not only for one. Where x is misclassified its distance to x0 counts, and the next step
 * starts nearer: x <- x0 + beta (x - x0). Restarts after the first begin at a random point at half the
 * best distance found so far, or half of eps where that is less.
 *
 * Invariants: x stays in [0,1]^n; `best` of an image never rises, over targets and restarts; rows
 * 0 ... n-1 are those in work, and a row that leaves is overwritten by the last one, so loops that may
 * drop rows run from the back. Nothing depends on which other images are in the batch.
 *
 * Projection. With delta = w.v - level >= 0 (else w and delta change sign) every coordinate moves
 * against w_i by min(tau, room_i), room_i = v_i where w_i > 0 and 1 - v_i where w_i < 0. The sum
 * S(tau) = sum |w_i| min(tau, room_i) is concave and piecewise linear, so Newton's steps from 0 rise
 * to the root and reach it exactly after finitely many of them (usually fewer than ten). The authors
 * sort the coordinates instead; the root is the same.
 */
#include "trainer/attack/fab.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/attack/spec.h"
#include "trainer/loss.h"

#define LEAST_DISTANCE 1e-8
#define NEWTON_STEPS 200

static struct fab_params params_of(const struct attack_stage *s)
{
    return (struct fab_params){.eps = s->eps,
                               .steps = attack_stage_count(s, "steps"),
                               .restarts = attack_stage_count(s, "restarts"),
                               .targets = attack_stage_count(s, "targets"),
                               .alpha_max = attack_stage_get(s, "alpha_max"),
                               .eta = attack_stage_get(s, "eta"),
                               .beta = attack_stage_get(s, "beta")};
}

/* ---- projection ------------------------------------------------------------------------------ */

static double room_of(float v, double w)
{
    return w > 0 ? (double)v : w < 0 ? 1 - (double)v : 0;
}

/* S(tau) and its slope to the right of tau. */
static double walk(const float *v, const float *w, double sign, double tau, int64_t n,
                   double *slope)
{
    double sum = 0;

    *slope = 0;
    for (int64_t i = 0; i < n; i++) {
        const double wi = sign * (double)w[i], room = room_of(v[i], wi);
        sum += fabs(wi) * (tau < room ? tau : room);
        *slope += tau < room ? fabs(wi) : 0;
    }
    return sum;
}

static double find_tau(const float *v, const float *w, double sign, double delta, int64_t n)
{
    double tau = 0, slope;

    for (int k = 0; k < NEWTON_STEPS; k++) {
        const double sum = walk(v, w, sign, tau, n, &slope);
        if (sum >= delta)
            return tau;
        if (slope == 0)
            return INFINITY; /* the corner */
        const double next = tau + (delta - sum) / slope;
        if (!(next > tau))
            return tau;
        tau = next;
    }
    return tau;
}

void fab_project(const float *v, const float *w, double level, int64_t n, float *d)
{
    double delta = -level, sign = 1, tau;

    for (int64_t i = 0; i < n; i++)
        delta += (double)w[i] * (double)v[i];
    if (delta < 0) {
        sign = -1;
        delta = -delta;
    }
    tau = find_tau(v, w, sign, delta, n);
    for (int64_t i = 0; i < n; i++) {
        const double wi = sign * (double)w[i], room = room_of(v[i], wi);
        const double by = tau < room ? tau : room;
        d[i] = (float)(wi > 0 ? -by : wi < 0 ? by : 0);
    }
}

/* ---- the walk -------------------------------------------------------------------------------- */

struct fab { /* rows 0 ... n-1 of every block are in work */
    struct attack_model *m;
    struct attack_batch *b;
    const struct fab_params *p;
    bool stay; /* images that fall stay */
    int64_t n, elems;
    float *x0, *x, *w, *d1, *d2; /* [n][elems] */
    float *z;                    /* [n][k] */
    double *f, *best;            /* [n]; best: least distance of the image, all targets */
    int32_t *label, *target;     /* [n] */
    int64_t *image;              /* [n] row -> image of b */
};

static int fab_init(struct fab *s, struct arena *a, struct attack_model *m,
                    const struct fab_params *p, struct attack_batch *b)
{
    const size_t n = (size_t)b->n, pixels = n * (size_t)m->elems;

    *s = (struct fab){.m = m, .b = b, .p = p, .elems = m->elems};
    s->x0 = arena_array(a, pixels, sizeof(float));
    s->x = arena_array(a, pixels, sizeof(float));
    s->w = arena_array(a, pixels, sizeof(float));
    s->d1 = arena_array(a, pixels, sizeof(float));
    s->d2 = arena_array(a, pixels, sizeof(float));
    s->z = arena_array(a, n * (size_t)m->classes, sizeof(float));
    s->f = arena_array(a, n, sizeof *s->f);
    s->best = arena_array(a, n, sizeof *s->best);
    s->label = arena_array(a, n, sizeof *s->label);
    s->target = arena_array(a, n, sizeof *s->target);
    s->image = arena_array(a, n, sizeof *s->image);
    return arena_status(a);
}

static void drop_row(struct fab *s, int64_t i)
{
    const int64_t j = --s->n;

    attack_copy_row(s->x0, i, s->x0, j, s->elems);
    attack_copy_row(s->x, i, s->x, j, s->elems);
    s->best[i] = s->best[j];
    s->label[i] = s->label[j];
    s->target[i] = s->target[j];
    s->image[i] = s->image[j];
}

/* Later restarts begin at x0 + min(best, eps)/2 u / max|u|. */
static void start_row(struct fab *s, int32_t restart, int32_t run, int64_t i)
{
    struct rng g = attack_rng(s->b, ATTACK_ID_FAB_T, s->b->sample[s->image[i]], run);
    const float reach = (float)fmin(s->best[i], s->p->eps) / 2;

    attack_copy_row(s->x, i, s->x0, i, s->elems);
    if (restart > 0)
        attack_start(&g, s->x0 + i * s->elems, reach, s->elems, s->x + i * s->elems);
}

static void gather(struct fab *s, const int32_t *target, const double *best)
{
    s->n = 0;
    for (int64_t i = 0; i < s->b->n; i++) {
        if (!s->stay && s->b->broken[i])
            continue;
        attack_copy_row(s->x0, s->n, s->b->pixels, i, s->elems);
        s->label[s->n] = s->b->label[i];
        s->target[s->n] = target[i];
        s->best[s->n] = best[i];
        s->image[s->n++] = i;
    }
}

static double longest(const float *d, int64_t n)
{
    double most = LEAST_DISTANCE;

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)d[i]));
    return most;
}

static void step_row(struct fab *s, int64_t i)
{
    const float *x0 = s->x0 + i * s->elems, *w = s->w + i * s->elems;
    float *x = s->x + i * s->elems, *d1 = s->d1 + i * s->elems, *d2 = s->d2 + i * s->elems;
    const float eta = (float)s->p->eta;
    double level = -s->f[i], r1, r2;

    for (int64_t j = 0; j < s->elems; j++)
        level += (double)w[j] * (double)x[j];
    fab_project(x, w, level, s->elems, d1);
    fab_project(x0, w, level, s->elems, d2);
    r1 = longest(d1, s->elems);
    r2 = longest(d2, s->elems);
    const float a = (float)fmin(r1 / (r1 + r2), s->p->alpha_max);
    for (int64_t j = 0; j < s->elems; j++)
        x[j] = attack_clip((1 - a) * (x[j] + eta * d1[j]) + a * (x0[j] + eta * d2[j]), 0, 1);
}

static double distance_of(const struct fab *s, int64_t i)
{
    const float *x0 = s->x0 + i * s->elems, *x = s->x + i * s->elems;
    double most = 0;

    for (int64_t j = 0; j < s->elems; j++)
        most = fmax(most, fabs((double)x[j] - (double)x0[j]));
    return most;
}

static void step_back(struct fab *s, int64_t i)
{
    const float *x0 = s->x0 + i * s->elems, beta = (float)s->p->beta;
    float *x = s->x + i * s->elems;

    for (int64_t j = 0; j < s->elems; j++)
        x[j] = x0[j] + beta * (x[j] - x0[j]);
}

/* Row i is misclassified at x. Returns whether it leaves. */
static bool found(struct fab *s, int64_t i)
{
    const int64_t image = s->image[i];
    const double distance = distance_of(s, i);

    if (distance < s->best[i]) {
        s->best[i] = distance;
        if (!(distance > s->p->eps)) {
            attack_copy_row(s->b->adv, image, s->x, i, s->elems);
            s->b->broken[image] = 1;
            if (!s->stay)
                return true;
        }
    }
    step_back(s, i);
    return false;
}

static int run_steps(struct fab *s)
{
    const int64_t k = s->m->classes;

    for (int32_t step = 0; step < s->p->steps && s->n > 0; step++) {
        TRY(attack_loss_grad(s->m, ATTACK_DIFFERENCE, s->x, s->n, s->label, s->target, s->f, s->w,
                             NULL));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < s->n; i++)
            step_row(s, i);
        TRY(attack_logits(s->m, s->x, s->n, s->z));
        for (int64_t i = s->n - 1; i >= 0; i--) /* from the back: a row that leaves is replaced */
            if (attack_is_wrong(s->z + i * k, k, s->label[i]) && found(s, i))
                drop_row(s, i);
    }
    return 0;
}

static int run_target(struct fab *s, int32_t rank, const float *z, int32_t *target, double *best)
{
    const int64_t n = s->b->n, k = s->m->classes;

    for (int64_t i = 0; i < n; i++)
        target[i] = attack_rank(z + i * k, k, rank);
    for (int32_t restart = 0; restart < s->p->restarts; restart++) {
        gather(s, target, best);
        for (int64_t i = 0; i < s->n; i++)
            start_row(s, restart, (rank - 1) * s->p->restarts + restart, i);
        TRY(run_steps(s));
        for (int64_t i = 0; i < s->n; i++)
            best[s->image[i]] = s->best[i];
    }
    return 0;
}

int fab_attack(struct attack_model *m, const struct fab_params *p, struct attack_batch *b,
               double *distance)
{
    const int32_t n = attack_targets(p->targets, m->classes);
    OWNED float *z = mem_aligned((size_t)(b->n * m->classes), sizeof *z);
    OWNED int32_t *target = mem_array((size_t)b->n, sizeof *target);
    OWNED double *best = mem_array((size_t)b->n, sizeof *best);
    SCOPED(arena_free_at) struct arena *arena = NULL;
    struct fab s;

    if (z == NULL || target == NULL || best == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < b->n; i++)
        best[i] = INFINITY;
    TRY(attack_logits(m, b->pixels, b->n, z));
    TRY(arena_new(0, &arena));
    TRY(fab_init(&s, arena, m, p, b));
    s.stay = distance != NULL;
    for (int32_t j = 1; j <= n; j++)
        TRY(run_target(&s, j, z, target, best));
    if (distance != NULL)
        memcpy(distance, best, (size_t)b->n * sizeof *best);
    return 0;
}

/* ---- as an attack with a name ---------------------------------------------------------------- */

static int run_type(struct attack_model *m, const struct attack_stage *s, int32_t restart,
                    struct attack_batch *b, float *grad)
{
    const struct fab_params p = params_of(s);

    (void)restart, (void)grad;
    return fab_attack(m, &p, b, NULL);
}

static int64_t cost(const struct attack_stage *s, int64_t classes)
{
    const struct fab_params p = params_of(s);
    return (int64_t)attack_targets(p.targets, classes) * p.restarts * 4 * p.steps + 2;
}

const struct attack_type attack_type_fab_t = {
    .key = {{"steps", ATTACK_COUNT, 100, 1, FAB_MAX_STEPS, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, 1000, {0}},
            {"targets", ATTACK_COUNT, 9, 1, 1000, {0}},
            {"alpha_max", ATTACK_REAL, 0.1, 0.001, 1, {0}},
            {"eta", ATTACK_REAL, 1.05, 1, 2, {0}},
            {"beta", ATTACK_REAL, 0.9, 0.01, 1, {0}},
            {0}},
    .run = run_type,
    .cost = cost,
};
