/*
 * The gradient-masking audit. PGD here has the step eps/4 and one random start; noise is ten draws from
 * the box; the white-box figure is the least of PGD-100 and of APGD with CE and then DLR.
 */
#include "trainer/attack/audit.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "trainer/attack/apgd.h"
#include "trainer/attack/pgd.h"
#include "trainer/attack/square.h"

#define BATCH 250
#define QUERIES 1000
#define NOISE_DRAWS 10
#define ROOM 0.01     /* share of the images that chance may explain */
#define SATURATED 0.1 /* share of the rise that the last steps may add */
#define LAST_STEPS 20
#define TRANSFER_STEPS 50

const int32_t audit_steps[AUDIT_STEPS] = {1, 5, 10, 20, 50, 100};

struct auditor {
    const struct audit_options *opt;
    const struct dataset *d;
    struct attack_model *m;
    struct audit_result *out;
    int64_t n;
    uint8_t *correct, *robust; /* [n] */
    struct attack_work w;
};

static void auditor_release(struct auditor *a)
{
    attack_model_free(a->m);
    mem_free(a->correct);
    mem_free(a->robust);
    attack_work_release(&a->w);
}

static int auditor_init(struct auditor *a, struct graph *g)
{
    const struct audit_options *opt = a->opt;
    const int64_t most = opt->limit > 0 ? opt->limit : AUDIT_IMAGES;
    const int64_t batch = opt->batch > 0 ? opt->batch : BATCH;

    a->n = most < a->d->n ? most : a->d->n;
    TRY(attack_model_new(NULL, g, opt->branch, opt->precision, batch < a->n ? batch : a->n, &a->m));
    a->m->tick = opt->tick;
    a->m->ctx = opt->ctx;
    a->correct = mem_array((size_t)a->n, 1);
    a->robust = mem_array((size_t)a->n, 1);
    return a->correct && a->robust ? attack_work_init(&a->w, a->m) : ERR_NOMEM;
}

/* The next images from *first on as a batch; 1, or 0 at the end. */
static int next_batch(struct auditor *a, int64_t *first, struct attack_batch *b)
{
    const int64_t left = a->n - *first;

    *b = (struct attack_batch){left < a->m->batch ? left : a->m->batch,
                               a->w.pixels,
                               a->w.label,
                               a->w.sample,
                               *first,
                               a->opt->seed,
                               a->w.adv,
                               a->w.broken};
    for (int64_t i = 0; i < b->n; i++) {
        TRY(data_image(a->d, *first + i, a->w.pixels + i * a->m->elems));
        a->w.label[i] = a->d->labels[*first + i];
        a->w.sample[i] = *first + i;
        a->w.broken[i] = 0;
    }
    *first += b->n;
    return b->n > 0;
}

static int count_clean(struct auditor *a)
{
    const int64_t k = a->m->classes;
    struct attack_batch b;

    int64_t first = 0;
    int rc;

    while ((rc = next_batch(a, &first, &b)) > 0) {
        TRY(attack_logits(a->m, b.pixels, b.n, a->w.z));
        for (int64_t i = 0; i < b.n; i++)
            a->correct[b.sample[i]] = !attack_is_wrong(a->w.z + i * k, k, b.label[i]);
    }
    for (int64_t i = 0; i < a->n; i++)
        a->out->clean += a->correct[i];
    return 0;
}

/* Images that stand under the stages. */
static int stand(struct auditor *a, const struct attack_spec *spec, int64_t *count)
{
    struct attack_progress p = {.n = a->n, .robust = a->robust};
    const struct attack_job job = {a->m, a->d, a->opt->seed, spec, NULL, NULL};

    memcpy(a->robust, a->correct, (size_t)a->n);
    TRY(autoattack_run(&job, &p));
    *count = p.robust_after[spec->n_stage - 1];
    return 0;
}

static struct attack_spec pgd_spec(double eps, int32_t steps, int32_t restarts)
{
    const struct pgd_params p = {eps, eps / 4, steps, restarts, true};

    return attack_spec_pgd(&p);
}

static int measure_pgd(struct auditor *a)
{
    struct audit_result *r = a->out;
    struct attack_spec s;

    for (int k = 0; k < AUDIT_EPS; k++) {
        s = pgd_spec(fmin(r->eps * (1 << k), 1), TRANSFER_STEPS, 1);
        TRY(stand(a, &s, &r->by_eps[k]));
    }
    for (int k = 0; k < AUDIT_STEPS; k++) {
        s = pgd_spec(r->eps, audit_steps[k], 1);
        TRY(stand(a, &s, &r->by_steps[k]));
    }
    s = pgd_spec(r->eps, 0, NOISE_DRAWS);
    return stand(a, &s, &r->noise);
}

static int measure_strong(struct auditor *a)
{
    struct audit_result *r = a->out;
    struct attack_spec apgd = {
        .n_stage = a->m->classes >= 3 ? 2 : 1,
        .stage = {attack_stage_defaults(ATTACK_APGD_CE), attack_stage_defaults(ATTACK_APGD_DLR)}};
    struct attack_spec square = {.n_stage = 1, .stage = {attack_stage_defaults(ATTACK_SQUARE)}};

    apgd.stage[0].eps = apgd.stage[1].eps = square.stage[0].eps = r->eps;
    attack_stage_set(&square.stage[0], "steps", r->queries);
    TRY(stand(a, &apgd, &r->apgd));
    return stand(a, &square, &r->square);
}

/* Mean best loss of APGD-CE on the first batch. */
static int measure_curve(struct auditor *a)
{
    struct apgd_params p = apgd_defaults();
    struct attack_batch b;
    int64_t first = 0;

    p.eps = a->out->eps;
    if (next_batch(a, &first, &b) < 0)
        return ERR_DATA;
    return apgd_attack(a->m, &p, ATTACK_CE, &b, a->out->curve);
}

/* PGD images of the other network, tried on this one. */
static int transfer_batch(struct auditor *a, struct exec *e, const struct attack_batch *b,
                          int64_t *standing)
{
    const struct pgd_params p = {a->out->eps, a->out->eps / 4, TRANSFER_STEPS, 1, true};
    const struct pgd_target target = {.labels = b->label};
    const struct pgd_key key = {b->seed, RNG_ATTACK, ATTACK_ID_PGD, 0, b->sample};
    const int64_t k = a->m->classes;

    TRY(pgd_attack(e, a->opt->transfer, &p, &target, &key, b->pixels, b->n, 0, a->w.grad, b->adv));
    TRY(attack_logits(a->m, b->adv, b->n, a->w.z));
    for (int64_t i = 0; i < b->n; i++)
        *standing += a->correct[b->sample[i]] && !attack_is_wrong(a->w.z + i * k, k, b->label[i]);
    return 0;
}

static int measure_transfer(struct auditor *a)
{
    struct graph *g = a->opt->transfer;
    SCOPED(exec_free_at) struct exec *e = NULL;
    struct attack_batch b;
    int rc;

    a->out->transfer = -1;
    if (g == NULL)
        return 0;
    const struct shape *in = &g->value[g->input].shape;
    TRY(data_check(a->d, in->dim[1], in->dim[2], in->dim[3],
                   shape_elems(&g->value[g->output].shape)));
    const struct exec_opts o = {.precision = a->opt->precision};
    TRY(exec_new(g, EXEC_INPUT_GRAD, a->m->batch, &o, &e));
    a->out->transfer = 0;
    int64_t first = 0;
    while ((rc = next_batch(a, &first, &b)) > 0 &&
           (rc = transfer_batch(a, e, &b, &a->out->transfer)) == 0)
        continue;
    return rc;
}

/* ---- judging --------------------------------------------------------------------------------- */

static bool falls(const int64_t *v, int n, int64_t room)
{
    for (int i = 1; i < n; i++)
        if (v[i] > v[i - 1] + room)
            return false;
    return true;
}

static void judge_black_box(const struct audit_result *r, struct audit_check *c)
{
    const int64_t white = min_i64(r->apgd, r->by_steps[AUDIT_STEPS - 1]);
    const int n =
        snprintf(c->detail, sizeof c->detail, "white box %" PRId64 ", Square (%d queries) %" PRId64,
                 white, (int)r->queries, r->square);

    c->name = "black box is not stronger";
    c->pass = r->square + r->room >= white && (r->transfer < 0 || r->transfer + r->room >= white);
    if (r->transfer >= 0)
        snprintf(c->detail + n, sizeof c->detail - (size_t)n, ", transfer %" PRId64, r->transfer);
}

static void judge_eps(const struct audit_result *r, struct audit_check *c)
{
    c->name = "falls to 0 with eps";
    c->pass = falls(r->by_eps, AUDIT_EPS, r->room) && r->by_eps[AUDIT_EPS - 1] <= r->room;
    snprintf(c->detail, sizeof c->detail,
             "eps x 1, 2, 4, 8: %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, r->by_eps[0],
             r->by_eps[1], r->by_eps[2], r->by_eps[3]);
}

static void judge_steps(const struct audit_result *r, struct audit_check *c)
{
    const int64_t *v = r->by_steps;
    const int64_t end = v[AUDIT_STEPS - 2] - v[AUDIT_STEPS - 1];

    c->name = "falls with steps, flat at the end";
    c->pass = falls(v, AUDIT_STEPS, r->room) && end <= r->room && -end <= r->room;
    snprintf(c->detail, sizeof c->detail,
             "PGD 1, 5, 10, 20, 50, 100: %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64
             " %" PRId64,
             v[0], v[1], v[2], v[3], v[4], v[5]);
}

static void judge_noise(const struct audit_result *r, struct audit_check *c)
{
    c->name = "noise is weaker than gradients";
    c->pass = r->noise + r->room >= r->by_steps[1] && r->noise + r->room >= r->apgd;
    snprintf(c->detail, sizeof c->detail, "%d draws %" PRId64 ", APGD %" PRId64, NOISE_DRAWS,
             r->noise, r->apgd);
}

static void judge_zero(const struct audit_result *r, struct audit_check *c)
{
    c->name = "no zero gradients";
    c->pass = r->flags.zero_gradients == 0;
    snprintf(c->detail, sizeof c->detail, "%" PRId64 " of %" PRId64, r->flags.zero_gradients,
             r->flags.n);
}

static void judge_curve(const struct audit_result *r, struct audit_check *c)
{
    const double start = r->curve[0], end = r->curve[AUDIT_CURVE - 1];
    const double late = end - r->curve[AUDIT_CURVE - 1 - LAST_STEPS];

    c->name = "APGD loss rises and saturates";
    c->pass = end > start && late <= SATURATED * (end - start);
    snprintf(c->detail, sizeof c->detail, "%.4f to %.4f, the last %d steps add %.4f", start, end,
             LAST_STEPS, late);
}

static void judge_flags(const struct audit_result *r, struct audit_check *c)
{
    c->name = "no signs of randomness or softmax";
    c->pass = !r->flags.randomised && !r->flags.probabilities;
    snprintf(c->detail, sizeof c->detail, "%s%s%s", r->flags.randomised ? "randomised " : "",
             r->flags.probabilities ? "probabilities" : "", c->pass ? "none" : "");
}

static void judge(struct audit_result *r)
{
    void (*const check[AUDIT_CHECKS])(const struct audit_result *, struct audit_check *) = {
        judge_black_box, judge_eps, judge_steps, judge_noise, judge_zero, judge_curve, judge_flags};

    for (int i = 0; i < AUDIT_CHECKS; i++)
        check[i](r, &r->check[i]);
}

int audit_run(struct graph *g, const struct dataset *d, const struct audit_options *opt,
              struct audit_result *out)
{
    SCOPED(auditor_release) struct auditor a = {.opt = opt, .d = d, .out = out};

    memset(out, 0, sizeof *out);
    out->eps = opt->eps > 0 ? opt->eps : pgd_defaults(0).eps;
    out->queries = opt->queries > 0 ? opt->queries : QUERIES;
    TRY(auditor_init(&a, g));
    out->n = a.n;
    out->room = (int64_t)ceil(ROOM * (double)a.n);
    TRY(count_clean(&a));
    TRY(autoattack_flags(a.m, d, a.n, opt->seed, &out->flags));
    TRY(measure_pgd(&a));
    TRY(measure_strong(&a));
    TRY(measure_curve(&a));
    TRY(measure_transfer(&a));
    judge(out);
    return 0;
}
