/*
 * Projected gradient descent in the L-infinity box.
 *
 * The loss is summed over the images, not averaged: only the sign of its gradient counts. Where the
 * gradient is 0 or not a number a pixel stays. Restart r of image s draws from
 * (seed, stream, epoch, s + r 2^48).
 */
#include "trainer/attack/pgd.h"

#include <string.h>

#include "core/base/mem.h"
#include "trainer/loss.h"

#define RESTART_SHIFT 48

struct pgd_params pgd_defaults(int32_t steps)
{
    const struct attack_stage s = attack_stage_defaults(ATTACK_PGD);
    struct pgd_params p = attack_stage_pgd(&s);

    p.steps = steps;
    return p;
}

struct pgd_params attack_stage_pgd(const struct attack_stage *s)
{
    return (struct pgd_params){.eps = s->eps,
                               .alpha = attack_stage_get(s, "alpha"),
                               .steps = attack_stage_count(s, "steps"),
                               .restarts = attack_stage_count(s, "restarts"),
                               .random_start = attack_stage_get(s, "start") == 0};
}

struct attack_spec attack_spec_pgd(const struct pgd_params *p)
{
    struct attack_stage s = attack_stage_defaults(ATTACK_PGD);

    s.eps = p->eps;
    attack_stage_set(&s, "alpha", p->alpha);
    attack_stage_set(&s, "steps", p->steps);
    attack_stage_set(&s, "restarts", p->restarts);
    attack_stage_set(&s, "start", !p->random_start);
    return attack_spec_of(&s);
}

int pgd_parse(const char *text, struct pgd_params *out)
{
    struct attack_spec spec;

    TRY(attack_spec_parse(text, &spec));
    if (spec.n_stage != 1 || spec.stage[0].kind != ATTACK_PGD)
        return fail(ERR_ARG, "attack '%s' is not pgd", text);
    *out = attack_stage_pgd(&spec.stage[0]);
    return 0;
}

struct loss_context {
    const struct pgd_target *target;
    int64_t k;
};

static void target_loss(void *ctx, int64_t first, int64_t count, const float *logits,
                        float *dlogits)
{
    const struct loss_context *c = ctx;
    const struct pgd_target *t = c->target;

    memset(dlogits, 0, (size_t)(count * c->k) * sizeof *dlogits);
    if (t->labels != NULL)
        loss_ce(logits, t->labels + first, count, c->k, 1, 1, dlogits);
    else
        loss_kl(logits, t->teacher + first * c->k, count, c->k, t->tau, 1, 1, dlogits);
}

static void start_image(const struct pgd_params *p, const struct pgd_key *key, int64_t i,
                        const float *x, int64_t elems, float *adv)
{
    const uint64_t sample = (uint64_t)key->sample[i] + ((uint64_t)key->restart << RESTART_SHIFT);
    const float eps = (float)p->eps;
    struct rng r = rng_at(key->seed, key->stream, key->epoch, sample);

    for (int64_t j = 0; j < elems; j++)
        adv[j] = p->random_start ? attack_clip(x[j] + rng_range(&r, -eps, eps), 0, 1) : x[j];
}

static void step_image(const struct pgd_params *p, const float *x, const float *grad, int64_t elems,
                       float *adv)
{
    const float eps = (float)p->eps, alpha = (float)p->alpha;

    for (int64_t j = 0; j < elems; j++) {
        float move = grad[j] > 0 ? alpha : grad[j] < 0 ? -alpha : 0;
        adv[j] = attack_clip(attack_clip(adv[j] + move, x[j] - eps, x[j] + eps), 0, 1);
    }
}

int pgd_attack(struct exec *e, const struct graph *g, const struct pgd_params *p,
               const struct pgd_target *target, const struct pgd_key *key, const float *pixels,
               int64_t n, int branch, float *grad, float *adv)
{
    const int64_t elems = shape_elems(&g->value[g->input].shape);
    struct loss_context ctx = {target, shape_elems(&g->value[g->output].shape)};

#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        start_image(p, key, i, pixels + i * elems, elems, adv + i * elems);
    for (int32_t t = 0; t < p->steps; t++) {
        TRY(exec_input_grad(e, adv, n, branch, target_loss, &ctx, grad, NULL));
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < n; i++)
            step_image(p, pixels + i * elems, grad + i * elems, elems, adv + i * elems);
    }
    return 0;
}

/* One restart; it counts only where it ends. */
static int run_type(struct attack_model *m, const struct attack_stage *s, int32_t restart,
                    struct attack_batch *b, float *grad)
{
    const struct pgd_params p = attack_stage_pgd(s);
    const struct pgd_target target = {.labels = b->label};
    const struct pgd_key key = {b->seed, RNG_ATTACK, ATTACK_ID_PGD, (uint32_t)restart, b->sample};
    OWNED float *z = mem_aligned((size_t)(b->n * m->classes), sizeof *z);

    if (z == NULL)
        return ERR_NOMEM;
    TRY(pgd_attack(m->gradient, m->g, &p, &target, &key, b->pixels, b->n, m->branch, grad, b->adv));
    m->differentiated += b->n * p.steps;
    TRY(attack_logits(m, b->adv, b->n, z));
    for (int64_t i = 0; i < b->n; i++)
        b->broken[i] = attack_is_wrong(z + i * m->classes, m->classes, b->label[i]);
    return m->tick != NULL ? m->tick(m->ctx, 3 * b->n * p.steps) : 0;
}

static int64_t cost(const struct attack_stage *s, int64_t classes)
{
    (void)classes;
    return attack_stage_count(s, "restarts") * (3 * (int64_t)attack_stage_count(s, "steps") + 1);
}

const struct attack_type attack_type_pgd = {
    .key = {{"alpha", ATTACK_REAL, 2.0 / 255, 1e-9, 1, {0}},
            {"steps", ATTACK_COUNT, 20, 1, PGD_MAX_STEPS, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, PGD_MAX_RESTARTS, {0}},
            {"start", ATTACK_CHOICE, 0, 0, 1, {"random", "clean"}},
            {0}},
    .counts_steps = true,
    .rounds = true,
    .run = run_type,
    .cost = cost,
};
