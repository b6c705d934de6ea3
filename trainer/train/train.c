/*
 * The training loop.
 *
 * One iteration, n images, of which the first nf go through the clean and augmented passes and the
 * last na through the adversarial one (batch.h); zT are the teacher's logits on the clean picture:
 *
 *     zT[< nf]  = T(x[< nf])                    where a teacher is needed
 *     clean     S(x[< nf]), hooks->batch, backward                       bank 0
 *     augmented S(x^g[< nf]), backward                                   bank 0
 *     zT[>= nf] = T(x[>= nf])
 *     x^a       = PGD(S, x[>= nf]; CE, or KL to zT where alpha > 0)
 *     adversar. S(x^a), backward                                         bank 1 or 0
 *     one optimizer step on the sum of the gradients
 *
 * Losses on logits carry the factor 1 / (number of passes), unless adversarial_share weighs them;
 * with beta the teacher also sees the pictures of the other passes, right before them. An epoch ends
 * with validation, the hook that may choose new masks, and the checkpoint, in this order, so that
 * the best epoch keeps its weights together with the mask they were trained under.
 */
#include "trainer/train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "trainer/train/attention.h"
#include "trainer/eval/eval.h"
#include "trainer/loss.h"
#include "trainer/train/state.h"

/* ---- construction ---------------------------------------------------------------------------- */

static bool needs_teacher(const struct trainer *t)
{
    return t->teacher != NULL && (t->cfg.alpha > 0 || t->cfg.beta > 0 ||
                                  t->cfg.n_teacher_taps > 0 || t->hooks.batch != NULL);
}

static int adv_bank(const struct trainer *t)
{
    return graph_banks(t->g) > 1 ? 1 : 0;
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

/* All epochs done, or the masks have reached their budget. */
static bool train_is_over(const struct trainer *t)
{
    return t->at.epoch >= t->cfg.epochs || (t->at.soft.stopped && t->at.soft.closed);
}

/* The taps of the hooks and, with beta, those of attention transfer. */
static int new_tapped(struct graph *g, enum exec_mode mode, int64_t batch, const value_id *taps,
                      int32_t n, const value_id *at, int32_t n_at, struct exec **out)
{
    value_id *all = mem_array((size_t)(n + n_at) + 1, sizeof *all);

    if (all == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < n + n_at; i++)
        all[i] = i < n ? taps[i] : at[i - n];
    int rc = exec_new(g, mode, batch, all, n + n_at, out);
    mem_free(all);
    return rc;
}

static int new_executors(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    const int64_t nf = batch_clean_count(c, c->batch), na = batch_adv_count(c, c->batch);
    const int64_t most = max_i64(nf, na);
    const int32_t n_at = c->beta > 0 ? c->n_at : 0;

    TRY(new_tapped(t->g, EXEC_TRAIN, most, c->student_taps, c->n_student_taps, c->at_student, n_at,
                   &t->forward));
    if (c->adversarial)
        TRY(exec_new(t->g, EXEC_INPUT_GRAD, na, NULL, 0, &t->attack));
    if (needs_teacher(t))
        TRY(new_tapped(t->teacher, EXEC_INFER, most, c->teacher_taps, c->n_teacher_taps,
                       c->at_teacher, n_at, &t->teach));
    return 0;
}

/* Pixels of the largest map. */
static int64_t largest_map(const struct trainer *t)
{
    int64_t largest = 0;

    for (int32_t i = 0; i < t->cfg.n_at; i++) {
        const struct shape *s = &t->g->value[t->cfg.at_student[i]].shape;

        largest = max_i64(largest, s->dim[2] * s->dim[3]);
    }
    return largest;
}

static int new_attention(struct trainer *t)
{
    if (t->cfg.beta <= 0)
        return 0;
    t->at_logits = mem_aligned((size_t)(t->cfg.batch * t->k), sizeof *t->at_logits);
    t->at_work = mem_array(attention_work(t->cfg.batch, largest_map(t)), sizeof *t->at_work);
    return t->at_logits && t->at_work ? 0 : ERR_NOMEM;
}

static int new_memory(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    const size_t logits = (size_t)c->batch * (size_t)t->k;
    const size_t adv = (size_t)(batch_adv_count(c, c->batch) * t->batch.elems);

    t->order = mem_array((size_t)t->train->n, sizeof *t->order);
    t->logits = mem_aligned(logits, sizeof *t->logits);
    t->dlogits = mem_aligned(logits, sizeof *t->dlogits);
    t->target = mem_aligned(logits, sizeof *t->target);
    t->grad = mem_aligned((size_t)t->optim.n, sizeof *t->grad);
    t->adv = mem_aligned(adv, sizeof *t->adv);
    t->adv_grad = mem_aligned(adv, sizeof *t->adv_grad);
    if (!t->order || !t->logits || !t->dlogits || !t->target || !t->grad || !t->adv || !t->adv_grad)
        return ERR_NOMEM;
    if (c->select != TRAIN_SELECT_LAST &&
        (t->best = mem_aligned(train_weights_bytes(t->g) / sizeof(float), sizeof(float))) == NULL)
        return ERR_NOMEM;
    return 0;
}

static int check_data(const struct trainer *t)
{
    const struct shape *in = &t->g->value[t->g->input].shape;
    const struct dataset *sets[] = {t->train, t->val};

    if (in->rank != 4)
        return fail(ERR_UNSUPPORTED, "training: the network's input has rank %d, not 4",
                    (int)in->rank);
    for (int i = 0; i < 2; i++)
        if (sets[i] != NULL)
            TRY(data_check(sets[i], in->dim[1], in->dim[2], in->dim[3], t->k));
    if (t->train->n < 1 || t->train->n > INT32_MAX)
        return fail(ERR_DATA, "training: %s has %" PRId64 " images", t->train->source, t->train->n);
    if (t->cfg.val_every > 0 && t->val->n < 1)
        return fail(ERR_DATA,
                    "training: the validation split is empty; use more images, or no validation");
    return 0;
}

static int trainer_init(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    const struct optim_params rule = {.momentum = c->momentum,
                                      .weight_decay = c->weight_decay,
                                      .nesterov = c->nesterov,
                                      .decay_norm = c->decay_norm,
                                      .kind = c->optimizer,
                                      .masks = c->soft.on,
                                      .mask_rate = c->soft.rate};

    TRY(train_config_check(c, t->g, t->teacher, &t->hooks, t->val != NULL));
    t->k = shape_elems(&t->g->value[t->g->output].shape);
    TRY(check_data(t));
    t->per_epoch = batch_per_epoch(c, t->train->n);
    t->steps = t->per_epoch * c->epochs;
    t->warmup = (int64_t)(c->warmup_epochs * (double)t->per_epoch);
    if ((t->fingerprint = train_fingerprint(c, t->g, t->teacher, t->train)) == NULL)
        return ERR_NOMEM;
    TRY(batch_init(&t->batch, c, t->train));
    TRY(optim_init(&t->optim, &rule, t->g));
    TRY(new_memory(t));
    TRY(new_attention(t));
    t->at.soft = soft_begin(&c->soft);
    t->at.best = -INFINITY;
    t->at.best_val.epoch = t->at.last_val.epoch = -1;
    return new_executors(t);
}

int trainer_new(const struct train_config *cfg, struct graph *student, struct graph *teacher,
                const struct dataset *train, const struct dataset *val,
                const struct train_hooks *hooks, struct trainer **out)
{
    struct trainer *t = mem_array(1, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    t->cfg = *cfg;
    t->g = student;
    t->teacher = teacher;
    t->train = train;
    t->val = val;
    if (hooks != NULL)
        t->hooks = *hooks;
    int rc = trainer_init(t);
    if (rc < 0) {
        trainer_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

void trainer_free(struct trainer *t)
{
    if (t == NULL)
        return;
    exec_free(t->forward);
    exec_free(t->attack);
    exec_free(t->teach);
    batch_release(&t->batch);
    optim_release(&t->optim);
    mem_free(t->fingerprint);
    mem_free(t->order);
    mem_free(t->adv);
    mem_free(t->adv_grad);
    mem_free(t->logits);
    mem_free(t->dlogits);
    mem_free(t->target);
    mem_free(t->at_logits);
    mem_free(t->at_work);
    mem_free(t->grad);
    mem_free(t->best);
    mem_free(t);
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

struct pass {
    const char *name;
    const float *pixels;
    int64_t first, n; /* images of the batch */
    int bank;
    bool hooked, counted, adversarial, attention;
};

static int call_batch_hook(struct trainer *t, const struct pass *p,
                           int (*hook)(void *, const struct train_batch *))
{
    const struct train_batch b = {
        .epoch = (int32_t)t->at.epoch,
        .step = t->at.step,
        .n = p->n,
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
 * same pictures. */
static double add_attention(struct trainer *t, const struct pass *p)
{
    const struct train_config *c = &t->cfg;
    const double weight = c->beta / attention_passes(t);
    double sum = 0;

    for (int32_t i = 0; i < c->n_at; i++) {
        const struct shape *s = &t->g->value[c->at_student[i]].shape;
        const struct attention_maps m = {.student = exec_tap(t->forward, c->at_student[i]),
                                         .teacher = exec_tap(t->teach, c->at_teacher[i]),
                                         .grad = exec_tap_grad(t->forward, c->at_student[i]),
                                         .n = p->n,
                                         .positions = s->dim[2] * s->dim[3],
                                         .channels = s->dim[1]};

        sum += attention_loss(&m, weight, t->at_work);
    }
    return weight * sum;
}

static int train_pass(struct trainer *t, const struct pass *p)
{
    const struct train_config *c = &t->cfg;
    const double share = pass_share(t, p->adversarial);
    const int32_t *labels = t->batch.labels + p->first;
    double loss = 0, attention = 0;

    if (p->n == 0)
        return 0;
    TRY(exec_train_forward(t->forward, p->pixels, p->n, p->bank, true, t->logits));
    memset(t->dlogits, 0, (size_t)(p->n * t->k) * sizeof *t->dlogits);
    if (c->gamma > 0)
        loss +=
            c->gamma * loss_ce(t->logits, labels, p->n, t->k, p->n, share * c->gamma, t->dlogits);
    if (c->alpha > 0)
        loss += c->alpha * loss_kl(t->logits, t->target + p->first * t->k, p->n, t->k, c->tau, p->n,
                                   share * c->alpha, t->dlogits);
    if (p->attention)
        attention = add_attention(t, p);
    if (!isfinite(loss + attention))
        return numeric_failure(t, p->name, loss + attention);
    t->step_loss += share * loss + attention;
    if (p->counted) {
        t->at.correct += loss_correct(t->logits, labels, p->n, t->k);
        t->at.counted += p->n;
    }
    TRY(call_batch_hook(t, p, t->hooks.batch));
    TRY(exec_train_backward(t->forward, t->dlogits, t->grad,
                            c->soft.on ? t->grad + t->g->n_params : NULL, NULL));
    return call_batch_hook(t, p, t->hooks.gradients);
}

/* Teacher's logits of images [first, first + n) into target. */
static int teach(struct trainer *t, int64_t first, int64_t n)
{
    if (t->teach == NULL || n == 0)
        return 0;
    return exec_infer(t->teach, t->batch.pixels + first * t->batch.elems, n, 0,
                      t->target + first * t->k);
}

/* The teacher's maps of pictures that are not clean; their logits are no target. */
static int teach_maps(struct trainer *t, const struct pass *p)
{
    const int bank = p->adversarial && graph_banks(t->teacher) > 1 ? 1 : 0;

    return exec_infer(t->teach, p->pixels, p->n, bank, t->at_logits);
}

static int attack(struct trainer *t, int64_t first, int64_t n)
{
    const struct train_config *c = &t->cfg;
    struct pgd_target target = {.labels = t->batch.labels + first};
    const struct pgd_key key = {c->seed, RNG_PGD, (uint32_t)t->at.epoch, 0,
                                t->batch.sample + first};

    if (n == 0)
        return 0;
    if (c->alpha > 0)
        target = (struct pgd_target){.teacher = t->target + first * t->k, .tau = c->tau};
    if (adv_bank(t) == 0)
        graph_touch(t->g); /* the passes before moved the running statistics of this branch */
    return pgd_attack(t->attack, t->g, &c->attack, &target, &key,
                      t->batch.pixels + first * t->batch.elems, n, adv_bank(t), t->adv_grad,
                      t->adv);
}

static int update(struct trainer *t)
{
    const struct train_config *c = &t->cfg;

    if (c->soft.on && c->soft.rule == SOFT_PENALTY)
        t->step_loss += soft_penalty(t->g, t->at.soft.lambda, t->grad + t->g->n_params);
    optim_step(&t->optim, t->g, t->grad,
               optim_rate(c->schedule, c->lr, t->at.step, t->steps, t->warmup), t->at.step);
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

static int iterate(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    struct batch *b = &t->batch;
    const bool augment = c->augment != TRAIN_AUGMENT_NONE, at = c->beta > 0;

    TRY(batch_load(b, c, t->train, t->order, (int32_t)t->at.epoch, t->at.step % t->per_epoch));
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
                                     .bank = adv_bank(t),
                                     .counted = !c->clean && !augment,
                                     .adversarial = true,
                                     .attention = at && c->at_domains > 2};
    memset(t->grad, 0, (size_t)t->optim.n * sizeof *t->grad);
    t->step_loss = 0;
    TRY(teach(t, 0, b->n_clean));
    if (c->clean)
        TRY(train_pass(t, &clean));
    if (augment && augmented.attention)
        TRY(teach_maps(t, &augmented));
    if (augment)
        TRY(train_pass(t, &augmented));
    TRY(teach(t, first, b->n_adv));
    TRY(attack(t, first, b->n_adv));
    if (c->adversarial && adversarial.attention)
        TRY(teach_maps(t, &adversarial));
    TRY(train_pass(t, &adversarial));
    return update(t);
}

static int stop(struct trainer *t)
{
    TRY(train_save(t, false));
    if (t->cfg.checkpoint == NULL)
        return fail(ERR_INTERRUPTED,
                    "stage '%s': interrupted after step %" PRId64 " of %" PRId64
                    "; there is no checkpoint",
                    t->cfg.stage, t->at.step, t->steps);
    return fail(ERR_INTERRUPTED,
                "stage '%s': interrupted after step %" PRId64 " of %" PRId64
                "; the state is in '%s', --resume continues",
                t->cfg.stage, t->at.step, t->steps, t->cfg.checkpoint);
}

/* ---- validation and the end of an epoch ------------------------------------------------------ */

/* A signal need not wait for the end of a long validation. */
static int on_validation(void *ctx, int64_t done, int64_t all)
{
    const struct trainer *t = ctx;

    (void)done;
    (void)all;
    return t->hooks.interrupted != NULL && t->hooks.interrupted(t->hooks.ctx) ? ERR_INTERRUPTED : 0;
}

static int validate_clean(struct trainer *t, struct train_validation *val)
{
    const struct eval_options opt = {.limit = t->cfg.val_limit,
                                     .seed = t->cfg.seed,
                                     .bank = {true, adv_bank(t) == 1},
                                     .ctx = t,
                                     .progress = on_validation};
    struct eval_result *r = mem_array(1, sizeof *r);
    int rc = ERR_NOMEM;

    if (r != NULL && (rc = eval_run(t->g, t->val, &opt, r)) == 0) {
        val->n = r->n;
        val->clean = r->branch[0].clean.accuracy;
        val->clean_adv = r->n_branch > 1 ? r->branch[1].clean.accuracy : -1;
    }
    mem_free(r);
    return rc;
}

static int validate_attacked(struct trainer *t, struct train_validation *val)
{
    const struct eval_options opt = {.limit = t->cfg.val_attack_limit,
                                     .seed = t->cfg.seed,
                                     .bank = {adv_bank(t) == 0, adv_bank(t) == 1},
                                     .attack = &t->cfg.val_attack,
                                     .n_attack = 1,
                                     .ctx = t,
                                     .progress = on_validation};
    struct eval_result *r = mem_array(1, sizeof *r);
    int rc = ERR_NOMEM;

    if (r != NULL && (rc = eval_run(t->g, t->val, &opt, r)) == 0) {
        val->n_attack = r->n;
        val->pgd = r->branch[0].attack[0].score.accuracy;
    }
    mem_free(r);
    return rc;
}

static double metric(enum train_select select, const struct train_validation *v)
{
    switch (select) {
    case TRAIN_SELECT_PGD:
        return v->pgd;
    case TRAIN_SELECT_MEAN:
        return (v->clean + v->pgd) / 2;
    case TRAIN_SELECT_CLEAN:
    case TRAIN_SELECT_LAST:
        break;
    }
    return v->clean;
}

static int validate(struct trainer *t)
{
    struct train_validation val = {.epoch = t->at.epoch, .clean = -1, .clean_adv = -1, .pgd = -1};

    TRY(validate_clean(t, &val));
    if (t->cfg.val_attack_limit > 0)
        TRY(validate_attacked(t, &val));
    t->at.last_val = val;
    if (t->best != NULL && metric(t->cfg.select, &val) > t->at.best) {
        t->at.best = metric(t->cfg.select, &val);
        t->at.best_val = val;
        train_keep_best(t);
    }
    return 0;
}

static bool validation_due(const struct trainer *t)
{
    const int64_t every = t->cfg.val_every, epoch = t->at.epoch + 1;

    return every > 0 && (epoch % every == 0 || epoch == t->cfg.epochs);
}

static double images_per_s(const struct trainer *t)
{
    const double seconds = cpu_seconds() - t->started;

    return seconds > 0 ? (double)t->images / seconds : 0;
}

static int write_metrics(struct trainer *t, bool validated)
{
    const struct train_validation *v = &t->at.last_val;
    const double seconds = cpu_seconds() - t->epoch_started;
    char val[256] = "", soft[128] = "", text[1024];

    if (t->hooks.metrics == NULL)
        return 0;
    if (validated)
        snprintf(val, sizeof val,
                 ",\"val\":{\"n\":%" PRId64
                 ",\"clean\":%.9g,\"clean_adv\":%.9g,\"n_attack\":%" PRId64 ",\"pgd\":%.9g}",
                 v->n, v->clean, v->clean_adv, v->n_attack, v->pgd);
    if (t->cfg.soft.on)
        snprintf(soft, sizeof soft, ",\"lambda\":%.9g,\"relus\":%" PRId64, t->at.soft.lambda,
                 t->at.soft.count);
    snprintf(text, sizeof text,
             "{\"event\":\"epoch\",\"stage\":\"%s\",\"epoch\":%" PRId64
             ",\"epochs\":%d,\"step\":%" PRId64
             ",\"lr\":%.9g,\"loss\":%.9g,\"accuracy\":%.9g,\"images\":%" PRId64
             ",\"seconds\":%.6g,\"images_per_s\":%.6g%s%s}",
             t->cfg.stage, t->at.epoch + 1, (int)t->cfg.epochs, t->at.step,
             optim_rate(t->cfg.schedule, t->cfg.lr, t->at.step - 1, t->steps, t->warmup),
             t->at.last_loss, (double)t->at.correct / (double)max_i64(t->at.counted, 1),
             t->epoch_images, seconds, seconds > 0 ? (double)t->epoch_images / seconds : 0, soft,
             val);
    return t->hooks.metrics(t->hooks.ctx, text);
}

static int finish_epoch(struct trainer *t)
{
    const bool due = validation_due(t);
    struct train_counters *at = &t->at;
    int rc = 0;

    at->last_loss = at->loss_sum / (double)at->loss_steps;
    if (t->cfg.soft.on)
        soft_epoch_end(&t->cfg.soft, at->epoch, t->g, &at->soft);
    if (due && (rc = validate(t)) < 0)
        return rc == ERR_INTERRUPTED ? stop(t) : rc;
    TRY(write_metrics(t, due));
    if (t->hooks.epoch_end != NULL)
        TRY(t->hooks.epoch_end(t->hooks.ctx, (int32_t)at->epoch, due ? &at->last_val : NULL));
    at->epoch++;
    at->soft.closed = at->soft.stopped;
    at->loss_sum = 0;
    at->loss_steps = at->correct = at->counted = 0;
    t->epoch_started = cpu_seconds();
    t->epoch_images = 0;
    return train_is_over(t) ? 0 : train_save(t, false);
}

/* ---- the run --------------------------------------------------------------------------------- */

static int show_progress(struct trainer *t)
{
    const double speed = images_per_s(t);
    const struct train_progress p = {
        .stage = t->cfg.stage,
        .epoch = (int32_t)t->at.epoch,
        .epochs = t->cfg.epochs,
        .step = t->at.step,
        .steps = t->steps,
        .loss = t->at.loss_sum / (double)max_i64(t->at.loss_steps, 1),
        .accuracy = (double)t->at.correct / (double)max_i64(t->at.counted, 1),
        .images_per_s = speed,
        .seconds_left = speed > 0 ? (double)((t->steps - t->at.step) * t->cfg.batch) / speed : 0,
    };

    return t->hooks.progress != NULL ? t->hooks.progress(t->hooks.ctx, &p) : 0;
}

static bool save_due(const struct trainer *t)
{
    const struct train_config *c = &t->cfg;

    return (c->checkpoint_steps > 0 && t->at.step % c->checkpoint_steps == 0) ||
           (c->checkpoint_seconds > 0 && cpu_seconds() - t->saved >= c->checkpoint_seconds);
}

/* Are all steps of the epoch done, but not its end? So it is after an interrupted validation. Soft
 * masks that have reached their budget end an epoch early. */
static bool epoch_end_pending(const struct trainer *t)
{
    return t->at.step == (t->at.epoch + 1) * t->per_epoch || t->at.soft.stopped;
}

static int run_epoch(struct trainer *t)
{
    if (epoch_end_pending(t))
        return finish_epoch(t);
    batch_order(&t->cfg, t->train, (int32_t)t->at.epoch, t->order);
    do {
        TRY(iterate(t));
        TRY(show_progress(t));
        if (t->cfg.soft.on)
            soft_reached(&t->cfg.soft, t->g, &t->at.soft);
        if (epoch_end_pending(t))
            TRY(finish_epoch(t));
        else if (save_due(t))
            TRY(train_save(t, false));
        if (!train_is_over(t) && t->hooks.interrupted != NULL && t->hooks.interrupted(t->hooks.ctx))
            return stop(t);
    } while (t->at.step % t->per_epoch != 0 && !train_is_over(t));
    return 0;
}

static void fill_result(const struct trainer *t, struct train_result *r)
{
    *r = (struct train_result){
        .epochs = (int32_t)t->at.epoch,
        .best_epoch = (int32_t)(t->best != NULL ? t->at.best_val.epoch : t->at.epoch - 1),
        .steps = t->at.step,
        .seconds = cpu_seconds() - t->started,
        .images_per_s = images_per_s(t),
        .loss = t->at.last_loss,
        .val = t->best != NULL ? t->at.best_val : t->at.last_val,
        .soft = t->at.soft,
    };
}

int32_t trainer_epochs_done(const struct trainer *t)
{
    return (int32_t)t->at.epoch;
}

int trainer_run(struct trainer *t, struct train_result *result)
{
    t->started = t->saved = t->epoch_started = cpu_seconds();
    t->images = t->epoch_images = 0;
    while (!train_is_over(t))
        TRY(run_epoch(t));
    if (!t->done) {
        if (t->best != NULL)
            train_restore_best(t);
        TRY(train_save(t, true));
        t->done = true;
    }
    if (result != NULL)
        fill_result(t, result);
    return 0;
}
