/*
 * One iteration of training, n images, of which the first nf go through the clean and augmented passes
 * and the last na through the adversarial one (batch.h); zT are the teachers' logits on the clean image:
 *
 *     zT[< nf]  = T_0(x[< nf])                  where a teacher is needed
 *     clean     S(x[< nf]), hooks->batch, backward                       branch 0
 *     augmented S(x^g[< nf]), backward                                   branch 0
 *     zT[>= nf] = T_1(x[>= nf])
 *     x^a       = PGD(S, x[>= nf]; CE, or KL to zT where alpha > 0, or KL to S(x) where trades > 0)
 *     adversar. S(x^a), backward                                         branch 1 or 0
 *     one optimizer step on the sum of the gradients
 *
 * Losses on logits carry the factor 1 / (number of passes), unless adversarial_share weighs them;
 * with beta the teacher also sees the images of the other passes, right before them.
 *
 * Of several ranks (core/exec/exec.h) each attacks, and asks the teachers about, its share of a pass's images.
 * Logits and targets go to all of them, so losses and their gradients are computed by everybody alike.
 *
 * With trades the adversarial images are seen twice, as they are and attacked, and the executor holds
 * the activations of one forward pass only. So: forward of x for its logits, forward of x^a, backward
 * of that, forward of x again, backward. Both logits get the gradient of the divergence.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "trainer/loss.h"
#include "trainer/train/attention.h"
#include "trainer/train/state.h"

int train_adv_branch(const struct trainer *t)
{
    return graph_branches(t->g) > 1 ? 1 : 0;
}

static int passes(const struct trainer *t)
{
    return t->cfg.clean + (t->cfg.augment != TRAIN_AUGMENT_NONE) + t->cfg.adversarial;
}

/* Passes with attention transfer. */
static int attention_passes(const struct trainer *t)
{
    const struct train_config *c = &t->cfg;

    return c->clean + (c->at_domains > 1 && c->augment != TRAIN_AUGMENT_NONE) +
           (c->at_domains > 2 && c->adversarial);
}

/* Weight of a pass in the loss; all of them add up to 1. */
static double pass_share(const struct trainer *t, bool adversarial)
{
    const double a = t->cfg.adversarial_share;
    const int n = passes(t);

    if (a <= 0 || !t->cfg.adversarial || n == 1)
        return 1.0 / n;
    return adversarial ? a : (1 - a) / (n - 1);
}

/* ---- one iteration --------------------------------------------------------------------------- */

/* Name of the first value whose numbers are not finite; NULL if all are. */
static const char *first_bad_value(const struct graph *g)
{
    for (value_id v = 0; v < g->n_value; v++)
        if (g->value[v].kind == VALUE_PARAM || g->value[v].kind == VALUE_BUFFER)
            for (int64_t i = 0, n = shape_elems(&g->value[v].shape); i < n; i++)
                if (!isfinite(g->value[v].data[i]))
                    return g->value[v].name;
    return NULL;
}

static double largest_weight(const struct graph *g)
{
    double largest = 0;

    for (int64_t i = 0; i < g->n_params; i++)
        largest = fabs(g->params[i]) > largest ? fabs(g->params[i]) : largest;
    return largest;
}

static int numeric_failure(const struct trainer *t, const char *pass, double loss)
{
    const char *bad = first_bad_value(t->g);

    if (bad != NULL)
        return fail(
            ERR_NUMERIC,
            "stage '%s': step %" PRId64
            ": the loss of the %s pass is %g; the first weights that are not numbers are '%s' (a smaller --lr may help)",
            t->cfg.stage, t->at.step, pass, loss, bad);
    return fail(
        ERR_NUMERIC,
        "stage '%s': step %" PRId64
        ": the loss of the %s pass is %g; all weights are finite, the largest is %g (a smaller --lr may help)",
        t->cfg.stage, t->at.step, pass, loss, largest_weight(t->g));
}

struct images { /* [first, first + n) of a pass */
    int64_t first, n;
};

static struct images share_of(const struct trainer *t, int64_t n)
{
    struct images s;

    exec_share(t->forward, n, &s.first, &s.n);
    return s;
}

static size_t logits_bytes(const struct trainer *t, int64_t n)
{
    return (size_t)(n * t->k) * sizeof(float);
}

struct pass {
    const char *name;
    const float *pixels;
    int64_t first, n; /* images of the batch */
    int branch;
    bool hooked, counted, adversarial, attention;
};

static int call_batch_hook(struct trainer *t, const struct pass *p,
                           int (*hook)(void *, const struct train_batch *))
{
    const struct images mine = share_of(t, p->n);
    const struct train_batch b = {
        .epoch = (int32_t)t->at.epoch,
        .step = t->at.step,
        .n = p->n,
        .here = mine.n,
        .share = pass_share(t, p->adversarial),
        .student = t->forward,
        .teacher = t->teach,
        .student_logits = t->logits,
        .teacher_logits = t->teach != NULL ? t->target : NULL,
        .labels = t->batch.labels + p->first,
    };

    return p->hooked && hook != NULL ? hook(t->hooks.ctx, &b) : 0;
}

/* Attention transfer of a pass: adds to the gradients of the maps; the teacher has just seen the
 * same images. */
static double add_attention(struct trainer *t, const struct pass *p)
{
    const struct train_config *c = &t->cfg;
    const double weight = c->beta / attention_passes(t);
    const struct images mine = share_of(t, p->n);
    double sum = 0;

    for (int32_t i = 0; i < c->n_at; i++) {
        const struct shape *s = &t->g->value[c->at_student[i]].shape;
        const struct attention_maps m = {.student = exec_tap(t->forward, c->at_student[i]),
                                         .teacher = exec_tap(t->teach, c->at_teacher[i]),
                                         .grad = exec_tap_grad(t->forward, c->at_student[i]),
                                         .n = mine.n,
                                         .of = p->n,
                                         .positions = s->dim[2] * s->dim[3],
                                         .channels = s->dim[1]};
        double group = 0;

        attention_loss(&m, weight, t->at_work, t->at_each + mine.first);
        exec_gather(t->forward, p->n, t->at_each, sizeof *t->at_each);
        for (int64_t j = 0; j < p->n; j++)
            group += t->at_each[j];
        sum += group;
    }
    return weight * sum;
}

/* gamma CE + alpha KL of the pass's logits; adds `share` times its gradient to dz. */
static double supervise(const struct trainer *t, const struct pass *p, double share, float *dz)
{
    const struct train_config *c = &t->cfg;
    const int32_t *labels = t->batch.labels + p->first;
    double loss = 0;

    if (c->gamma > 0 && c->label_smoothing > 0)
        loss += c->gamma * loss_ce_smooth(t->logits, labels, p->n, t->k, c->label_smoothing, p->n,
                                          share * c->gamma, dz);
    else if (c->gamma > 0)
        loss += c->gamma * loss_ce(t->logits, labels, p->n, t->k, p->n, share * c->gamma, dz);
    if (c->alpha > 0)
        loss += c->alpha * loss_kl(t->logits, t->target + p->first * t->k, p->n, t->k, c->tau, p->n,
                                   share * c->alpha, dz);
    return loss;
}

static void count_correct(struct trainer *t, const struct pass *p)
{
    if (!p->counted)
        return;
    t->at.correct += loss_correct(t->logits, t->batch.labels + p->first, p->n, t->k);
    t->at.counted += p->n;
}

static int backward(struct trainer *t, const float *dz)
{
    float *masks = t->cfg.soft.on ? t->grad + t->g->n_params : NULL;

    return exec_train_backward(t->forward, dz, t->grad, masks, NULL);
}

static int train_pass(struct trainer *t, const struct pass *p)
{
    const double share = pass_share(t, p->adversarial);
    double loss, attention = 0;

    if (p->n == 0)
        return 0;
    TRY(exec_train_forward(t->forward, p->pixels, p->n, p->branch, true, t->logits));
    memset(t->dlogits, 0, logits_bytes(t, p->n));
    loss = supervise(t, p, share, t->dlogits);
    if (p->attention)
        attention = add_attention(t, p);
    if (!isfinite(loss + attention))
        return numeric_failure(t, p->name, loss + attention);
    t->step_loss += share * loss + attention;
    count_correct(t, p);
    TRY(call_batch_hook(t, p, t->hooks.batch));
    TRY(backward(t, t->dlogits));
    return call_batch_hook(t, p, t->hooks.gradients);
}

/* The adversarial pass with trades: the supervised loss of the images as they are, and the divergence
 * of their logits from those of the attacked ones. */
static int trades_pass(struct trainer *t, const struct pass *p)
{
    const double share = pass_share(t, true), weight = t->cfg.trades;
    const float *natural = t->batch.pixels + p->first * t->batch.elems;
    double loss;

    if (p->n == 0)
        return 0;
    TRY(exec_train_forward(t->forward, natural, p->n, p->branch, false, t->natural));
    TRY(exec_train_forward(t->forward, p->pixels, p->n, p->branch, true, t->logits));
    memset(t->dlogits, 0, logits_bytes(t, p->n));
    memset(t->dnatural, 0, logits_bytes(t, p->n));
    loss = weight * loss_kl_both(t->logits, t->natural, p->n, t->k, 1, p->n, share * weight,
                                 t->dlogits, t->dnatural);
    count_correct(t, p);
    TRY(backward(t, t->dlogits));
    TRY(exec_train_forward(t->forward, natural, p->n, p->branch, true, t->logits));
    loss += supervise(t, p, share, t->dnatural);
    if (!isfinite(loss))
        return numeric_failure(t, p->name, loss);
    t->step_loss += share * loss;
    return backward(t, t->dnatural);
}

int train_teach(struct trainer *t, int domain, int64_t first, int64_t n)
{
    const struct train_signal *s = &t->cfg.signal[domain];
    const struct images mine = share_of(t, n);
    const float *pixels = t->batch.pixels + (first + mine.first) * t->batch.elems;
    float *target = t->target + first * t->k;

    if (n == 0)
        return 0;
    if (t->signal[domain] != NULL && mine.n > 0)
        TRY(exec_infer(t->signal[domain], pixels, mine.n, s->branch, target + mine.first * t->k));
    if (t->signal[domain] != NULL)
        exec_gather(t->forward, n, target, logits_bytes(t, 1));
    if (domain == TRAIN_ADVERSARIAL || !t->taps_apart || mine.n == 0)
        return 0;
    return exec_infer(t->teach, pixels, mine.n, t->cfg.tap_branch, t->at_logits);
}

/* The teacher's maps of images that are not clean; their logits are no target. */
static int teach_maps(struct trainer *t, const struct pass *p)
{
    const bool adversarial = p->adversarial && graph_branches(t->teacher) > 1;
    const int branch = adversarial ? 1 : t->cfg.tap_branch;
    const struct images mine = share_of(t, p->n);

    if (mine.n == 0)
        return 0;
    return exec_infer(t->teach, p->pixels + mine.first * t->batch.elems, mine.n, branch,
                      t->at_logits);
}

/* The logits of the images as they are, in evaluation mode, are what a trades attack leaves. */
static int own_target(struct trainer *t, const float *pixels, int64_t n, struct pgd_target *target)
{
    *target = (struct pgd_target){.teacher = t->natural, .tau = 1};
    return exec_input_grad(t->attack, pixels, n, train_adv_branch(t), NULL, NULL, NULL, t->natural);
}

int train_attack(struct trainer *t, int64_t first, int64_t n, int64_t epoch)
{
    const struct train_config *c = &t->cfg;
    const struct images mine = share_of(t, n);
    const int64_t from = first + mine.first, at = mine.first * t->batch.elems;
    const float *pixels = t->batch.pixels + from * t->batch.elems;
    struct pgd_target target = {.labels = t->batch.labels + from};
    const struct pgd_key key = {c->seed, RNG_PGD, (uint32_t)epoch, 0, t->batch.sample + from};

    if (train_adv_branch(t) == 0 && n > 0)
        graph_touch(t->g); /* the passes before moved the running statistics of this branch */
    if (mine.n == 0)
        return 0;
    if (c->trades > 0)
        TRY(own_target(t, pixels, mine.n, &target));
    else if (c->alpha > 0)
        target = (struct pgd_target){.teacher = t->target + from * t->k, .tau = c->tau};
    return pgd_attack(t->attack, t->g, &c->attack, &target, &key, pixels, mine.n,
                      train_adv_branch(t), t->adv_grad + at, t->adv + at);
}

static int update(struct trainer *t)
{
    const struct train_config *c = &t->cfg;

    if (c->soft.on && c->soft.rule == SOFT_PENALTY)
        t->step_loss += soft_penalty(t->g, t->at.soft.lambda, t->grad + t->g->n_params);
    optim_step(&t->optim, t->g, t->grad,
               optim_rate(c->schedule, c->lr, t->at.step, t->steps, t->warmup), t->at.step);
    average_add(t);
    t->at.loss_sum += t->step_loss;
    t->at.loss_steps++;
    t->at.step++;
    if (c->soft.on && c->soft.rule == SOFT_PLAN)
        t->at.soft.lambda =
            soft_project(t->g, soft_plan(&c->soft, t->at.step, t->steps, t->g->n_masks));
    t->images += t->batch.n;
    t->epoch_images += t->batch.n;
    return 0;
}

int train_iterate(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    struct batch *b = &t->batch;
    const bool augment = c->augment != TRAIN_AUGMENT_NONE, at = c->beta > 0;

    TRY(batch_load(b, c, t->train, t->forward, t->order, (int32_t)t->at.epoch,
                   t->at.step % t->per_epoch));
    const int64_t first = b->n - b->n_adv;
    const struct pass clean = {.name = "clean",
                               .pixels = b->pixels,
                               .n = b->n_clean,
                               .hooked = true,
                               .counted = true,
                               .attention = at};
    const struct pass augmented = {.name = "augmented",
                                   .pixels = b->augmented,
                                   .n = b->n_clean,
                                   .counted = !c->clean,
                                   .attention = at && c->at_domains > 1};
    const struct pass adversarial = {.name = "adversarial",
                                     .pixels = t->adv,
                                     .first = first,
                                     .n = b->n_adv,
                                     .branch = train_adv_branch(t),
                                     .counted = !c->clean && !augment,
                                     .adversarial = true,
                                     .attention = at && c->at_domains > 2};
    memset(t->grad, 0, (size_t)t->optim.n * sizeof *t->grad);
    t->step_loss = 0;
    TRY(train_teach(t, TRAIN_CLEAN, 0, b->n_clean));
    if (c->clean)
        TRY(train_pass(t, &clean));
    if (augment && augmented.attention)
        TRY(teach_maps(t, &augmented));
    if (augment)
        TRY(train_pass(t, &augmented));
    TRY(train_teach(t, TRAIN_ADVERSARIAL, first, b->n_adv));
    TRY(train_attack(t, first, b->n_adv, t->at.epoch));
    if (c->adversarial && adversarial.attention)
        TRY(teach_maps(t, &adversarial));
    TRY(c->trades > 0 ? trades_pass(t, &adversarial) : train_pass(t, &adversarial));
    return update(t);
}
