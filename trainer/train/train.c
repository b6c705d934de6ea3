/*
 * The training loop: what a trainer consists of, and its epochs; an iteration is in step.c.
 *
 * An epoch ends with validation, the hook that may choose new masks, and the checkpoint, in this
 * order, so that the best epoch keeps its weights together with the mask they were trained under.
 * With ema it is the average that is validated and kept (average.c).
 */
#include "trainer/train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/minmax.h"
#include "core/base/ranks.h"
#include "trainer/train/attention.h"
#include "trainer/eval/eval.h"
#include "trainer/train/state.h"

/* ---- construction ---------------------------------------------------------------------------- */

/* The network that gives the targets of a domain, NULL if none does. */
static struct graph *signal_graph(const struct trainer *t, int domain)
{
    struct graph *g = t->cfg.signal[domain].g;

    return g != NULL ? g : t->teacher;
}

/* Does somebody look into the teacher, besides its targets? */
static bool taps_teacher(const struct trainer *t)
{
    return t->teacher != NULL &&
           (t->cfg.beta > 0 || t->cfg.n_teacher_taps > 0 || t->hooks.batch != NULL);
}

static bool needs_teacher(const struct trainer *t)
{
    const bool targets = t->cfg.alpha > 0 && (signal_graph(t, TRAIN_CLEAN) == t->teacher ||
                                              signal_graph(t, TRAIN_ADVERSARIAL) == t->teacher);

    return t->teacher != NULL && (targets || taps_teacher(t));
}

/* All epochs done, or the masks have reached their budget. */
static bool train_is_over(const struct trainer *t)
{
    return t->at.epoch >= t->cfg.epochs || (t->at.soft.stopped && t->at.soft.closed);
}

/* What is read of a network: by the hooks and, with beta, by attention transfer. */
struct taps {
    const value_id *hooks, *at;
    int32_t n_hooks, n_at;
};

/* The student's executor, the first of all, or the teacher's beside it. */
static int new_tapped(const struct trainer *t, struct graph *g, const struct taps *taps,
                      int64_t batch, struct exec **out)
{
    const struct train_config *c = &t->cfg;
    const int32_t n = taps->n_hooks, n_at = c->beta > 0 ? taps->n_at : 0;
    OWNED value_id *all = mem_array((size_t)(n + n_at) + 1, sizeof *all);

    if (all == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < n + n_at; i++)
        all[i] = i < n ? taps->hooks[i] : taps->at[i - n];
    const struct exec_opts o = {.precision = c->precision,
                                .taps = all,
                                .n_taps = n + n_at,
                                .beside = t->forward,
                                .shards = t->forward == NULL ? c->bn_shards : 1};

    return exec_new(g, t->forward == NULL ? EXEC_TRAIN : EXEC_INFER, batch, &o, out);
}

/* Who gives the targets: the teacher, or other networks. */
static int new_signals(struct trainer *t, int64_t batch)
{
    const struct exec_opts o = {.precision = t->cfg.precision, .beside = t->forward};

    for (int i = 0; i < TRAIN_DOMAINS; i++) {
        struct graph *g = t->cfg.alpha > 0 ? signal_graph(t, i) : t->teacher;

        if (g == t->teacher)
            t->signal[i] = t->teach;
        else if (i > 0 && g == signal_graph(t, TRAIN_CLEAN))
            t->signal[i] = t->signal[TRAIN_CLEAN];
        else
            TRY(exec_new(g, EXEC_INFER, batch, &o, &t->signal[i]));
    }
    t->taps_apart = taps_teacher(t) && (t->signal[TRAIN_CLEAN] != t->teach ||
                                        t->cfg.signal[TRAIN_CLEAN].branch != t->cfg.tap_branch);
    return 0;
}

/* All of them take turns: the activations of a forward pass are read by the hooks and its backward pass
 * alone, and teachers and attacks run before it. */
static int new_executors(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    const int64_t nf = batch_clean_count(c, c->batch), na = batch_adv_count(c, c->batch);
    const int64_t most = max_i64(nf, na);
    const struct taps student = {c->student_taps, c->at_student, c->n_student_taps, c->n_at};
    const struct taps teacher = {c->teacher_taps, c->at_teacher, c->n_teacher_taps, c->n_at};

    TRY(new_tapped(t, t->g, &student, most, &t->forward));
    TRY(train_check_shards(c, exec_precision_of(t->forward)));
    const struct exec_opts beside = {.precision = c->precision, .beside = t->forward};
    if (c->adversarial)
        TRY(exec_new(t->g, EXEC_INPUT_GRAD, na, &beside, &t->attack));
    if (needs_teacher(t))
        TRY(new_tapped(t, t->teacher, &teacher, most, &t->teach));
    return new_signals(t, most);
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
    t->at_work =
        arena_array(t->arena, attention_work(t->cfg.batch, largest_map(t)), sizeof *t->at_work);
    t->at_each = arena_array(t->arena, (size_t)t->cfg.batch, sizeof *t->at_each);
    return arena_status(t->arena);
}

static int new_memory(struct trainer *t)
{
    const struct train_config *c = &t->cfg;
    const size_t logits = (size_t)c->batch * (size_t)t->k;
    const size_t adv = (size_t)(batch_adv_count(c, c->batch) * t->batch.elems);

    TRY(arena_new(0, &t->arena));
    t->order = arena_array(t->arena, (size_t)t->train->n, sizeof *t->order);
    t->logits = arena_array(t->arena, logits, sizeof *t->logits);
    t->dlogits = arena_array(t->arena, logits, sizeof *t->dlogits);
    t->target = arena_array(t->arena, logits, sizeof *t->target);
    t->at_logits = arena_array(t->arena, logits, sizeof *t->at_logits);
    t->natural = arena_array(t->arena, logits, sizeof *t->natural);
    t->dnatural = arena_array(t->arena, logits, sizeof *t->dnatural);
    t->grad = arena_array(t->arena, (size_t)t->optim.n, sizeof *t->grad);
    t->adv = arena_array(t->arena, adv, sizeof *t->adv);
    t->adv_grad = arena_array(t->arena, adv, sizeof *t->adv_grad);
    if (c->select != TRAIN_SELECT_LAST)
        t->best = arena_array(t->arena, train_weights_bytes(t->g), 1);
    TRY(arena_status(t->arena));
    return average_begin(t);
}

static int check_data(const struct trainer *t)
{
    const struct shape *in = &t->g->value[t->g->input].shape;
    const struct dataset *sets[] = {t->train, t->val, t->cfg.extra};

    if (in->rank != 4)
        return fail(ERR_UNSUPPORTED, "training: the network's input has rank %d, not 4",
                    (int)in->rank);
    for (int i = 0; i < 3; i++)
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
    if ((t->fingerprint = train_fingerprint(c, t->g, t->teacher, t->train, false)) == NULL)
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
    SCOPED(trainer_free_at) struct trainer *t = mem_array(1, sizeof *t);

    if (t == NULL)
        return ERR_NOMEM;
    t->cfg = *cfg;
    t->g = student;
    t->teacher = teacher;
    t->train = train;
    t->val = val;
    if (hooks != NULL)
        t->hooks = *hooks;
    TRY(trainer_init(t));
    *out = mem_hand_on(&t);
    return 0;
}

void trainer_free(struct trainer *t)
{
    if (t == NULL)
        return;
    exec_free(t->forward);
    exec_free(t->attack);
    for (int i = TRAIN_DOMAINS - 1; i >= 0; i--)
        if (t->signal[i] != t->teach && (i == 0 || t->signal[i] != t->signal[0]))
            exec_free(t->signal[i]);
    exec_free(t->teach);
    batch_release(&t->batch);
    optim_release(&t->optim);
    mem_free(t->fingerprint);
    arena_free(t->arena);
    mem_free(t);
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

/* Clean images through all branches, then attacked ones through that of adversarial images. */
static int measure(struct trainer *t, struct train_validation *val)
{
    const int adv = train_adv_branch(t);
    struct eval_options opt = {.limit = t->cfg.val_limit,
                               .seed = t->cfg.seed,
                               .branch = {true, adv == 1},
                               .beside = t->forward,
                               .ctx = t,
                               .progress = on_validation};
    OWNED struct eval_result *r = mem_array(1, sizeof *r);

    if (r == NULL)
        return ERR_NOMEM;
    TRY(eval_run(t->g, t->val, &opt, r));
    val->n = r->n;
    val->clean = r->branch[0].clean.accuracy;
    val->clean_adv = r->n_branch > 1 ? r->branch[1].clean.accuracy : -1;
    opt.limit = t->cfg.val_attack_limit;
    if (opt.limit <= 0)
        return 0;
    opt.branch[0] = adv == 0;
    opt.attack = &t->cfg.val_attack;
    opt.n_attack = 1;
    TRY(eval_run(t->g, t->val, &opt, r));
    val->n_attack = r->n;
    val->pgd = r->branch[0].attack[0].score.accuracy;
    return 0;
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

    TRY(measure(t, &val));
    t->at.last_val = val;
    if (t->best != NULL && metric(t->cfg.select, &val) > t->at.best) {
        t->at.best = metric(t->cfg.select, &val);
        t->at.best_val = val;
        train_keep_best(t);
    }
    return 0;
}

/* The same of the average, where there is one. */
static int validate_average(struct trainer *t)
{
    int rc;

    if (t->average == NULL)
        return validate(t);
    if ((rc = average_enter(t, t->at.epoch)) == 0)
        rc = validate(t);
    average_leave(t);
    return rc;
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
    if (due && (rc = validate_average(t)) < 0)
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

/* Was any rank asked to stop? Then all of them do, after the same step. */
static bool is_interrupted(const struct trainer *t)
{
    return ranks_asked(t->hooks.interrupted != NULL && t->hooks.interrupted(t->hooks.ctx));
}

static int run_epoch(struct trainer *t)
{
    if (epoch_end_pending(t))
        return finish_epoch(t);
    batch_order(&t->cfg, t->train, (int32_t)t->at.epoch, t->order);
    do {
        TRY(train_iterate(t));
        TRY(show_progress(t));
        if (t->cfg.soft.on)
            soft_reached(&t->cfg.soft, t->g, &t->at.soft);
        if (epoch_end_pending(t))
            TRY(finish_epoch(t));
        else if (save_due(t))
            TRY(train_save(t, false));
        if (!train_is_over(t) && is_interrupted(t))
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
        .steps_here = t->at.step - t->first_step,
        .seconds = cpu_seconds() - t->started,
        .images_per_s = images_per_s(t),
        .loss = t->at.last_loss,
        .val = t->best != NULL ? t->at.best_val : t->at.last_val,
        .soft = t->at.soft,
        .precision = exec_precision_of(t->forward),
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
    t->first_step = t->at.step;
    TRY(train_same_start(t));
    while (!train_is_over(t))
        TRY(run_epoch(t));
    if (!t->done) {
        if (t->best != NULL)
            train_restore_best(t);
        else if (t->average != NULL)
            TRY(average_enter(t, t->at.epoch - 1));
        TRY(train_save(t, true));
        t->done = true;
    }
    if (result != NULL)
        fill_result(t, result);
    return 0;
}
