/* A training that tests can stop (train_job.h). */
#include "tests/train_job.h"

#include <signal.h>
#include <stdio.h>

static int on_batch(void *ctx, const struct train_batch *b)
{
    struct train_job *j = ctx;

    j->batches++;
    j->score[b->step % 4] += (double)b->student_logits[0];
    if (j->cfg.n_student_taps > 0)
        j->score[3] += (double)exec_tap(b->student, j->cfg.student_taps[0])[0];
    if (j->cfg.n_teacher_taps > 0)
        j->score[3] += (double)exec_tap(b->teacher, j->cfg.teacher_taps[0])[0];
    return 0;
}

/* Moves one kept position of every mask, as a new selection would. */
static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct train_job *j = ctx;
    struct graph *g = j->student;

    (void)val;
    j->epoch_ends++;
    j->score[0] = 0;
    if (g->n_masks > 0)
        g->masks[(epoch * 37) % g->n_masks] = epoch & 1 ? 1.0f : 0.0f;
    graph_touch(g);
    return 0;
}

static int on_progress(void *ctx, const struct train_progress *p)
{
    struct train_job *j = ctx;

    if (p->step == 1)
        j->first_loss = p->loss;
    j->last_loss = p->loss;
    if (j->kill_at > 0 && p->step == j->kill_at)
        raise(SIGKILL);
    j->stop_at = j->stop_at > 0 && p->step == j->stop_at ? -1 : j->stop_at;
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    struct train_job *j = ctx;

    snprintf(j->line, sizeof j->line, "%s", json);
    return 0;
}

static bool on_interrupted(void *ctx)
{
    return ((struct train_job *)ctx)->stop_at < 0;
}

void train_job_init(struct train_job *j, unsigned flags)
{
    *j = (struct train_job){.cfg = train_defaults()};
    j->cfg.stage = "mask";
    j->cfg.epochs = 3;
    j->cfg.batch = JOB_BATCH;
    j->cfg.augment = TRAIN_AUGMENT_AUGMIX;
    j->cfg.adversarial = true;
    j->cfg.attack = pgd_defaults(2);
    j->cfg.crop_pad = 1;
    j->cfg.gamma = j->cfg.alpha = 0.5;
    j->cfg.val_attack = pgd_defaults(2);
    j->cfg.val_attack_limit = 10;
    j->cfg.select = TRAIN_SELECT_MEAN;
    j->cfg.seed = 5;
    j->student = tiny_net(flags, 1);
    if (flags & JOB_SOFT) {
        soft_switch(j->student, true);
        j->cfg.soft.on = true;
        j->cfg.soft.lambda = 1e-3;
        j->cfg.soft.budget = 10;
        j->cfg.optimizer = OPTIM_ADAM;
        j->cfg.select = TRAIN_SELECT_LAST;
    }
    j->teacher = tiny_net(TINY_BN, 2);
    j->other = tiny_net(TINY_BN | TINY_DUAL, 3);
    j->extra = tiny_data(30, 4);
    if (flags & JOB_MORE) {
        j->cfg.ema = 0.8;
        j->cfg.trades = 2;
        j->cfg.label_smoothing = 0.1;
        j->cfg.extra = j->extra;
        j->cfg.extra_share = 0.25;
        j->cfg.signal[TRAIN_ADVERSARIAL] = (struct train_signal){j->other, 1};
    }
    j->train = tiny_data(JOB_IMAGES, 1);
    j->val = tiny_data(20, 2);
}

void train_job_release(struct train_job *j)
{
    graph_free(j->student);
    graph_free(j->teacher);
    graph_free(j->other);
    tiny_free(j->extra);
    tiny_free(j->train);
    tiny_free(j->val);
}

int train_job_run(struct train_job *j, struct train_result *result)
{
    const struct train_blob blob = {"score", j->score, sizeof j->score};
    const struct train_hooks hooks = {.ctx = j,
                                      .blobs = &blob,
                                      .n_blobs = 1,
                                      .batch = on_batch,
                                      .epoch_end = on_epoch_end,
                                      .progress = on_progress,
                                      .metrics = on_metrics,
                                      .interrupted = on_interrupted};
    struct trainer *t = NULL;
    int rc = trainer_new(&j->cfg, j->student, j->teacher, j->train, j->val, &hooks, &t);

    if (rc == 0)
        rc = trainer_resume(t);
    if (rc >= 0)
        rc = trainer_run(t, result);
    trainer_free(t);
    return rc;
}
