/* The runner of a stage: between the trainer's hooks and the listener. */
#include "pipeline/stage.h"

#include "core/base/ranks.h"
#include "pipeline/listener.h"

struct hooked {
    struct run *r;
    const struct stage *s;
};

static int on_batch(void *ctx, const struct train_batch *b)
{
    const struct hooked *h = ctx;

    return h->s->hooks.batch(h->s->hooks.ctx, b);
}

static int on_gradients(void *ctx, const struct train_batch *b)
{
    const struct hooked *h = ctx;

    return h->s->hooks.gradients(h->s->hooks.ctx, b);
}

static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    const struct hooked *h = ctx;
    const struct train_hooks *own = &h->s->hooks;

    if (val && val->pgd >= 0)
        listener_note(h->r->l, "epoch %d: validation clean %.2f %%, PGD %.2f %% (%lld images)",
                      epoch + 1, 100 * val->clean, 100 * val->pgd, (long long)val->n_attack);
    else if (val)
        listener_note(h->r->l, "epoch %d: validation clean %.2f %%", epoch + 1, 100 * val->clean);
    return own->epoch_end ? own->epoch_end(own->ctx, epoch, val) : 0;
}

static int on_progress(void *ctx, const struct train_progress *p)
{
    const struct hooked *h = ctx;

    listener_progress(h->r->l, h->s->cfg.stage, (double)p->step / (double)p->steps,
                      "epoch %d/%d loss %.3f acc %.1f  %.0f img/s", p->epoch + 1, p->epochs,
                      p->loss, 100 * p->accuracy, p->images_per_s);
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    const struct hooked *h = ctx;

    listener_detail(h->r->l, "%s", json);
    return h->r->metrics.file ? metrics_add(&h->r->metrics, json) : 0;
}

static bool on_interrupted(void *ctx)
{
    const struct hooked *h = ctx;

    return listener_stops(h->r->l);
}

/* What the ranks have told each other in training; the model for it: CLUSTER.md. */
static void tell_traffic(const struct run *r, const struct stage *s, int64_t received)
{
    const int64_t steps = s->result.steps_here;

    ranks_sum(&received, 1);
    if (ranks_count() > 1 && steps > 0)
        listener_note(r->l, "%s: %d ranks, between them %lld bytes a step", s->cfg.stage,
                      ranks_count(), (long long)(received / steps));
}

static int run_trainer(struct run *r, struct stage *s, struct trainer *t)
{
    const int64_t before = ranks_received();
    int rc = r->resume && !s->from_start ? trainer_resume(t) : 0;

    if (rc >= 0 && r->metrics.file)
        rc = metrics_rewind(&r->metrics, s->cfg.stage, trainer_epochs_done(t));
    if (rc < 0)
        return rc;
    listener_begin(r->l, s->cfg.stage);
    rc = trainer_run(t, &s->result);
    listener_end(r->l, s->cfg.stage);
    if (rc == 0)
        tell_traffic(r, s, ranks_received() - before);
    return rc;
}

int stage_run(struct run *r, struct stage *s, struct graph *g, struct graph *teacher)
{
    struct hooked h = {r, s};
    const struct train_hooks hooks = {.ctx = &h,
                                      .blobs = s->hooks.blobs,
                                      .n_blobs = s->hooks.n_blobs,
                                      .batch = s->hooks.batch ? on_batch : NULL,
                                      .gradients = s->hooks.gradients ? on_gradients : NULL,
                                      .epoch_end = on_epoch_end,
                                      .progress = on_progress,
                                      .metrics = on_metrics,
                                      .interrupted = on_interrupted};
    const struct dataset *val = r->val->n > 0 ? r->val : NULL;
    SCOPED(trainer_free_at) struct trainer *t = NULL;

    if (val == NULL)
        s->cfg.val_every = 0;
    TRY(trainer_new(&s->cfg, g, teacher, r->train, val, &hooks, &t));
    return run_trainer(r, s, t);
}
