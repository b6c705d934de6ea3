/*
 * The student's two stages.
 *
 *     first masks: from a file, by scores of the teacher's copy, or learned (snl: all ones)
 *     stage mask       trains and chooses masks again (mask_stage.h), or learns soft ones and hardens
 *     stage finetune   trains under the last masks
 *
 * Without epochs for either the network is only cut. Everything before a stage is deterministic and
 * quick, so a resumed run does it again and continues the stage that its checkpoint is in.
 */
#include "pipeline/student.h"

#include <string.h>
#include <unistd.h>

#include "core/base/ranks.h"
#include "core/base/sha256.h"
#include "core/graph/fresh.h"
#include "core/graph/pass.h"
#include "pipeline/listener.h"
#include "pipeline/mask_file.h"
#include "pipeline/mask_stage.h"
#include "pipeline/outputs.h"
#include "trainer/train/checkpoint.h"

#define PATH_BYTES 4096
#define OPTION_BYTES 1024
#define CUT_OPTIONS "cut.options"

/* One training of a student. */
struct work {
    struct conversion *c;
    struct student *s;
    char path[PATH_BYTES];    /* DIR/checkpoint.safetensors */
    enum recipe_stage resume; /* stage that the checkpoint is in; STAGE_COUNT: all is done */
    bool exists;              /* there is one */
    char *options;            /* words that decide the result, for the checkpoint */
    struct mask_stage masks;
    bool soft_masks; /* snl's mask stage is still to come or running */
};

/* The stage that the checkpoint is in, STAGE_MASK if there is none. */
static int find_progress(struct work *w)
{
    SCOPED(checkpoint_close_at) struct checkpoint_file *f = NULL;

    w->resume = STAGE_MASK;
    if (!w->c->run.resume || access(w->path, F_OK) < 0)
        return 0;
    TRY(checkpoint_open(w->path, &f));
    w->exists = true;
    if (strcmp(checkpoint_info(f)->stage, recipe_stage_name(STAGE_FINETUNE)) == 0)
        w->resume = STAGE_FINETUNE;
    if (strcmp(checkpoint_info(f)->stage, "cut") == 0)
        w->resume = STAGE_COUNT;
    return 0;
}

/* ---- the network --------------------------------------------------------------------------- */

/* The reference's student: the file's network without identity skips, with random weights. */
static int make_published(const struct conversion *c, struct student *s)
{
    const struct model *m = &c->run.m;

    TRY(onnx_import_bytes(m->file, m->file_len, -1, NULL, NULL, &s->g));
    s->form = m->form;
    s->form.shared_shortcuts = false;
    s->form.dropped_skips = true;
    TRY(model_apply_form(s->g, &s->form));
    s->g->norm = m->g->norm;
    fresh_weights(s->g, c->run.seed);
    listener_note(c->run.l, "as published: random weights, no identity skips, budgets not exact");
    return 0;
}

/* One branch for all images begins as the one that stands against attacks. */
static int make_single(struct student *s)
{
    TRY(pass_select_branch(s->g, 1));
    s->form.branches = 1;
    return 0;
}

static int make_student(const struct conversion *c, struct student *s)
{
    s->form = c->run.m.form;
    if (c->o->r.as_published)
        return make_published(c, s);
    TRY(graph_clone(c->run.m.g, &s->g));
    s->form.deploy = c->o->deploy;
    if (s->form.deploy == DEPLOY_SINGLE)
        TRY(make_single(s));
    if (c->o->r.adversarial)
        TRY(graph_set_meta(s->g, "linnet.branch", model_deploy_name(s->form.deploy)));
    if (s->form.removed == REMOVED_IDENTITY)
        s->form.removed = c->o->r.removed;
    return line_insert(s->g, (enum removed_kind)c->o->r.removed);
}

/* The maps of the student that attention transfer compares with those of the teacher. */
static int find_groups(const struct work *w, value_id *group)
{
    const struct graph *teacher = w->c->run.m.g, *g = w->s->g;

    for (int32_t i = 0; i < w->c->n_group; i++) {
        const struct node *x = &teacher->node[teacher->value[w->c->group[i]].producer];
        const int32_t n = graph_find_node(g, x->name);

        if (n < 0)
            return fail(ERR_UNSUPPORTED, "--as-published: node '%s' ends a stage and is a skip",
                        x->name);
        group[i] = g->node[n].out[0];
    }
    return 0;
}

/* ---- masks --------------------------------------------------------------------------------- */

int student_check_masks(const struct linearize_options *o, int64_t masked, int64_t want)
{
    if (want < 0 || masked == want)
        return 0;
    return fail(ERR_ARG, "--masks '%s' keeps %lld ReLUs, --relus says %lld", o->masks,
                (long long)masked, (long long)want);
}

/* Masks of a file decide the budget. */
static int read_masks(struct conversion *c, struct graph *g)
{
    struct quota *q = &c->quota;

    TRY(mask_file_read(c->run.l, c->o->masks, g));
    TRY(quota_recount(q, g));
    const int64_t sum = quota_kept(q);
    TRY(student_check_masks(c->o, sum, c->o->relus ? q->want : -1));
    q->want = sum;
    listener_note(c->run.l, "masks of %s: %lld of %lld ReLUs", c->o->masks, (long long)sum,
                  (long long)q->total);
    return 0;
}

/* Masks of a file, or those that the scores choose; nothing where the checkpoint brings them. */
static int first_masks(struct work *w)
{
    const struct conversion *c = w->c;
    const struct dataset *d = c->run.train;
    const int64_t images = c->o->r.score_images;

    if (c->o->masks)
        TRY(read_masks(w->c, w->s->g));
    if (w->resume > STAGE_MASK || w->soft_masks)
        return 0;
    TRY(mask_stage_init(&w->masks, w->s->g, c->run.m.g, c->quota.kept, &c->o->r));
    w->masks.pooled = c->o->budgets == NULL && c->o->empty_cheapest == 0 && c->o->masks == NULL;
    if (c->o->masks)
        return mask_stage_adopt(&w->masks, d, c->run.seed);
    TRY(mask_stage_first(&w->masks, d, c->run.seed));
    listener_note(c->run.l, "first masks chosen from %lld images",
                  (long long)(d->n < images ? d->n : images));
    return 0;
}

/* Before the penalty has moved them, all masks are 1. */
static void begin_soft(struct graph *g)
{
    soft_switch(g, true);
    for (int64_t i = 0; i < g->n_masks; i++)
        g->masks[i] = 1;
    graph_touch(g);
}

/* Learned masks become 0 and 1, as many as the budget says. soft: the trainer's at its end. */
static int harden(struct conversion *c, struct graph *g, const struct soft_state *soft)
{
    const size_t n = (size_t)g->n_masks;
    const int64_t want = c->quota.want;
    OWNED float *before = mem_array(n + 1, sizeof *before);
    double kept = 0, cut = 0;

    if (before == NULL)
        return ERR_NOMEM;
    memcpy(before, g->masks, n * sizeof *before);
    TRY(mask_select_pooled(g, c->quota.n_site, c->quota.site, NULL, want));
    for (size_t i = 0; i < n; i++)
        *(g->masks[i] > 0.5f ? &kept : &cut) += (double)before[i];
    listener_note(
        c->run.l,
        "soft masks: %lld above %g%s; the %lld largest stay, %.3f on the mean; those that are cut hold %.2f %% of the whole",
        (long long)soft->count, c->o->r.threshold, soft->stopped ? "" : " after all epochs",
        (long long)want, kept / (double)(want > 0 ? want : 1),
        kept + cut > 0 ? 100 * cut / (kept + cut) : 0);
    soft_switch(g, false);
    return quota_recount(&c->quota, g);
}

/* ---- stages -------------------------------------------------------------------------------- */

/* Words of what decides the student and is not in the trainer's own settings. */
static int find_options(struct work *w)
{
    const struct recipe *r = &w->c->o->r;
    const struct quota *q = &w->c->quota;
    const struct graph *g = w->s->g;
    SCOPED(sha256_free_at) struct sha256 *h = NULL;
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX];

    TRY(sha256_new(&h));
    TRY(sha256_add(h, q->kept, (size_t)q->n_site * sizeof *q->kept));
    if (w->c->o->masks)
        TRY(sha256_add(h, g->masks, (size_t)g->n_masks * sizeof(float)));
    TRY(sha256_end(h, digest));
    if ((w->options = mem_array(OPTION_BYTES, 1)) == NULL)
        return ERR_NOMEM;
    snprintf(
        w->options, OPTION_BYTES,
        "recipe=%s%s%s relus=%lld layers=%.16s score=%d first-mask=%d score-images=%lld smoothing=%.17g density=%.17g freeze=%d freeze-below=%.17g freeze-epoch=%lld%s",
        recipe_kind_name(r->kind), r->removed != REMOVED_IDENTITY ? " removed=" : "",
        r->removed != REMOVED_IDENTITY ? removed_name((enum removed_kind)r->removed) : "",
        (long long)q->want, sha256_hex(digest, hex), r->score, r->first, (long long)r->score_images,
        r->smoothing, r->density, r->freeze, r->freeze_below, (long long)r->freeze_epoch,
        r->as_published ? " as-published=1" : "");
    return 0;
}

static int run_stage(struct work *w, enum recipe_stage which, struct soft_state *soft)
{
    struct conversion *c = w->c;
    value_id group[ATTENTION_MAX_GROUPS];
    OWNED char *config = conversion_config(c, &w->s->form, w->s->g);
    struct stage s;

    TRY(conversion_stage(c, which, w->path, config, &s));
    TRY(find_groups(w, group));
    s.cfg.at_student = group;
    s.cfg.options = w->options;
    s.from_start = which == STAGE_FINETUNE && w->resume != STAGE_FINETUNE;
    if (which == STAGE_MASK && !s.cfg.soft.on)
        mask_stage_hook(&w->masks, &c->run, c->o->r.stage[STAGE_FINETUNE].epochs > 0, &s);
    TRY(stage_run(&c->run, &s, w->s->g, c->run.m.g));
    *soft = s.result.soft;
    return 0;
}

static int run_mask_stage(struct work *w)
{
    struct soft_state soft = {0};

    if (w->resume > STAGE_MASK)
        return 0;
    if (w->soft_masks)
        begin_soft(w->s->g);
    if (w->c->o->r.stage[STAGE_MASK].epochs > 0)
        TRY(run_stage(w, STAGE_MASK, &soft));
    else if (w->exists)
        TRY(conversion_take_finished(w->c, w->path, w->s->g));
    return w->soft_masks ? harden(w->c, w->s->g, &soft) : 0;
}

static int save_cut(const struct work *w)
{
    const struct model *m = &w->c->run.m;
    OWNED char *config = conversion_config(w->c, &w->s->form, w->s->g);
    const struct checkpoint_blob options = {CUT_OPTIONS, w->options, strlen(w->options) + 1};
    const struct checkpoint ck = {.stage = "cut",
                                  .done = true,
                                  .config = config,
                                  .graph = w->s->g,
                                  .structure = m->file,
                                  .structure_len = m->file_len,
                                  .blob = &options,
                                  .n_blob = 1};

    return config ? checkpoint_save(w->path, &ck) : fail(ERR_NOMEM, "no memory for the checkpoint");
}

/* A network that was cut without training, with the same settings. */
static int read_cut(const struct work *w)
{
    SCOPED(checkpoint_close_at) struct checkpoint_file *f = NULL;
    size_t len = 0;

    TRY(checkpoint_open(w->path, &f));
    const char *had = checkpoint_blob(f, CUT_OPTIONS, &len);
    if (had == NULL || len != strlen(w->options) + 1 || memcmp(had, w->options, len) != 0)
        return fail(
            ERR_ARG,
            "cannot continue from '%s': it was cut with other settings (--relus, scores or masks)",
            w->path);
    TRY(conversion_take_finished(w->c, w->path, w->s->g));
    return quota_recount(&w->c->quota, w->s->g);
}

static int train(struct work *w)
{
    const struct linearize_options *o = w->c->o;
    const struct recipe_stage_settings *stage = o->r.stage;
    value_id group[ATTENTION_MAX_GROUPS];
    struct soft_state soft;

    TRY(output_path(o->out, "checkpoint.safetensors", w->path, sizeof w->path));
    TRY(find_progress(w));
    ranks_meet(); /* before the first writes another state */
    w->soft_masks = o->r.kind == RECIPE_SNL && !o->masks && w->resume == STAGE_MASK &&
                    (stage[STAGE_MASK].epochs > 0 || w->exists);
    TRY(make_student(w->c, w->s));
    TRY(find_groups(w, group)); /* before hours of work */
    TRY(first_masks(w));
    TRY(find_options(w));
    if (w->resume == STAGE_COUNT)
        return read_cut(w);
    TRY(run_mask_stage(w));
    if (stage[STAGE_FINETUNE].epochs > 0)
        TRY(run_stage(w, STAGE_FINETUNE, &soft));
    else if (stage[STAGE_MASK].epochs == 0 || w->soft_masks)
        TRY(save_cut(w));
    return quota_recount(&w->c->quota, w->s->g);
}

int student_train(struct student *s, struct conversion *c)
{
    OWNED struct work *w = mem_array(1, sizeof *w);
    int rc;

    if (w == NULL)
        return ERR_NOMEM;
    w->c = c;
    w->s = s;
    rc = train(w);
    mask_stage_release(&w->masks);
    mem_free(w->options);
    return rc;
}

void student_release(struct student *s)
{
    graph_free(s->g);
}
