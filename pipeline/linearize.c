/* The stages of a conversion; see linearize.h. */
#include "pipeline/linearize.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/layer_budget.h"
#include "pipeline/mask_file.h"
#include "pipeline/outputs.h"
#include "core/graph/fresh.h"
#include "core/op/op.h"
#include "core/graph/pass.h"
#include "core/base/sha256.h"
#include "linearizer/published.h"
#include "trainer/train/bn.h"
#include "trainer/train/checkpoint.h"
#include "trainer/data/data.h"
#include "trainer/data/normalize.h"

#define PATH_BYTES 4096
#define OPTION_BYTES 1024
#define CUT_OPTIONS "cut.options"

/* ---- model and data ------------------------------------------------------------------------ */

static int open_data(struct linearize *l)
{
    const struct graph *g = l->m.g;
    const struct shape *in = &g->value[g->input].shape;
    const uint64_t seed = (uint64_t)l->c->seed;
    struct dataset **set[] = {&l->train, &l->val, &l->test};
    static const enum data_split split[] = {DATA_TRAIN, DATA_VAL, DATA_TEST};

    for (int i = 0; i < 3; i++) {
        TRY(cli_as_data(data_open(l->o->data, split[i], seed, set[i])));
        TRY(data_check(*set[i], in->dim[1], in->dim[2], in->dim[3],
                       g->value[g->output].shape.dim[1]));
    }
    if (l->o->train_limit > 0)
        data_limit(l->train, l->o->train_limit);
    cli_note(l->c, "%s: %lld train, %lld validation, %lld test images", l->train->source,
             (long long)l->train->n, (long long)l->val->n, (long long)l->test->n);
    return 0;
}

/* Adds batch norm where it was folded away, the second bank, and masks of ones. A second bank that
 * the recipe has no use for goes. */
static int prepare_structure(struct linearize *l)
{
    const struct recipe *r = &l->o->r;
    struct bn_report bn = {0};
    int64_t n = r->calib_images;
    float *x = NULL;
    int rc;

    if (r->preset != PRESET_NONE && pass_batchnorm_sites(l->m.g, NULL, 0) > 0) {
        if ((rc = output_calibration(l->train, &n, &x)) < 0 ||
            (rc = bn_insert(l->m.g, x, n, &bn)) < 0)
            goto out;
        l->m.form.bn_inserted = true;
        cli_note(l->c, "batch norm re-inserted at %d sites; logits moved by %.1e of the largest",
                 bn.sites, bn.max_rel_diff);
    }
    if (r->adversarial)
        rc = pass_dual_bank(l->m.g);
    else
        rc = pass_select_bank(l->m.g, 0);
    if (rc >= 0 && r->as_published)
        rc = published_share_shortcuts(l->m.g);
    if (rc < 0)
        goto out;
    if (r->adversarial && graph_banks(l->m.g) < 2) {
        rc = fail(ERR_UNSUPPORTED,
                  "the model has no place for batch norm, so it cannot have two branches");
        goto out;
    }
    l->m.form.banks = graph_banks(l->m.g);
    l->m.form.masked = true;
    l->m.form.shared_shortcuts = r->as_published;
    rc = mask_insert(l->m.g);
out:
    mem_free(x);
    return rc;
}

/* The scores need every ReLU of the network that is to be thinned out. total: how many there are. */
static int refuse_masked(const char *path, const struct graph *g, int64_t *total)
{
    struct relu_site *site = NULL;
    int32_t n = 0;
    int rc = relu_sites(g, &site, &n);

    *total = 0;
    for (int32_t s = 0; rc == 0 && s < n; s++)
        *total += site[s].total;
    for (int32_t s = 0; rc == 0 && s < n; s++)
        if (site[s].kept < site[s].total)
            rc = fail(
                ERR_UNSUPPORTED,
                "'%s': node '%s' keeps %lld of %lld ReLUs; give the model that it was made from",
                path, g->node[site[s].node].name, (long long)site[s].kept,
                (long long)site[s].total);
    mem_free(site);
    return rc;
}

/* The teacher takes the model's place; both must be the same network but for their numbers. */
static int check_teacher(struct linearize *l, const struct model *t)
{
    const struct graph *a = l->m.g, *b = t->g;
    struct relu_site *mine = NULL, *its = NULL;
    int32_t n_mine = 0, n_its = 0;
    int64_t total;
    char na[NORMALIZE_TEXT], nb[NORMALIZE_TEXT];
    int rc;

    if ((rc = refuse_masked(l->o->teacher, b, &total)) < 0 ||
        (rc = relu_sites(a, &mine, &n_mine)) < 0 || (rc = relu_sites(b, &its, &n_its)) < 0)
        goto out;
    bool same = n_mine == n_its &&
                shape_equal(&a->value[a->input].shape, &b->value[b->input].shape) &&
                shape_equal(&a->value[a->output].shape, &b->value[b->output].shape);
    for (int32_t s = 0; same && s < n_mine; s++)
        same = mine[s].total == its[s].total;
    if (!same)
        rc = fail(
            ERR_ARG,
            "--teacher '%s': its input, classes or ReLU layers (%d) are not those of '%s' (%d)",
            l->o->teacher, n_its, l->model, n_mine);
    else if (l->m.normalize_known && t->normalize_known &&
             strcmp(normalize_text(&a->norm, na), normalize_text(&b->norm, nb)) != 0)
        rc = fail(ERR_ARG, "--teacher '%s' was trained with another normalisation than '%s' has",
                  l->o->teacher, l->model);
out:
    mem_free(mine);
    mem_free(its);
    return rc;
}

static int take_teacher(struct linearize *l)
{
    struct model t = {0};
    int rc;

    if (l->o->teacher == NULL)
        return 0;
    if ((rc = model_open(l->c, l->o->teacher, NULL, &t)) < 0 || (rc = check_teacher(l, &t)) < 0) {
        model_close(&t);
        return rc;
    }
    if (!t.normalize_known)
        t.g->norm = l->m.g->norm;
    memcpy(t.sha256, l->m.sha256, sizeof t.sha256); /* what the result is made from */
    model_close(&l->m);
    l->m = t;
    cli_note(l->c, "teacher: %s", l->o->teacher);
    return 0;
}

/* The ReLUs there are, and how many of them to keep. */
static int count_budget(struct linearize *l)
{
    TRY(relu_sites(l->m.g, &l->site, &l->n_site));
    for (int32_t s = 0; s < l->n_site; s++)
        l->total += l->site[s].total;
    l->budget = l->total;
    if (l->n_site == 0)
        return fail(ERR_UNSUPPORTED, "the model has no ReLU to remove");
    return l->o->relus ? budget_parse(l->o->relus, l->total, &l->budget) : 0;
}

/* ---- budget per layer ---------------------------------------------------------------------- */

static int allocate_budget(struct linearize *l, int64_t *total, int64_t *pinned)
{
    bool all = true;
    int64_t sum = 0;

    for (int32_t s = 0; s < l->n_site; s++) {
        total[s] = l->site[s].total;
        pinned[s] = -1;
    }
    if (l->o->budgets)
        TRY(layer_budget_read(l->o->budgets, l->m.g, l->n_site, l->site, pinned));
    for (int32_t s = 0; s < l->n_site; s++) {
        all = all && pinned[s] >= 0;
        sum += pinned[s] >= 0 ? pinned[s] : 0;
    }
    if (all && !l->o->relus)
        l->budget = sum;
    TRY(budget_sensitivity(l->m.g, l->o->r.density, l->eta));
    TRY(budget_empty_cheapest(l->n_site, l->eta, l->o->empty_cheapest, pinned));
    return budget_allocate_pinned(l->n_site, total, l->eta, l->budget, pinned, l->kept);
}

static int plan_budget(struct linearize *l)
{
    const size_t n = (size_t)l->n_site + 1;
    int64_t *total = mem_array(n, sizeof *total), *pinned = mem_array(n, sizeof *pinned);
    int rc = ERR_NOMEM;

    l->eta = mem_array(n, sizeof *l->eta);
    l->kept = mem_array(n, sizeof *l->kept);
    if (total && pinned && l->eta && l->kept)
        rc = allocate_budget(l, total, pinned);
    mem_free(total);
    mem_free(pinned);
    return rc;
}

/* kept[] := what the student's masks hold. */
static int count_kept(struct linearize *l)
{
    struct relu_site *site = NULL;
    int32_t n = 0;

    TRY(relu_sites(l->student, &site, &n));
    for (int32_t s = 0; s < n; s++)
        l->kept[s] = site[s].kept;
    mem_free(site);
    return 0;
}

static int64_t sum_kept(const struct linearize *l)
{
    int64_t sum = 0;

    for (int32_t s = 0; s < l->n_site; s++)
        sum += l->kept[s];
    return sum;
}

/* Masks of a file decide the budget. */
static int read_masks(struct linearize *l)
{
    TRY(mask_file_read(l->c, l->o->masks, l->student));
    TRY(count_kept(l));
    const int64_t sum = sum_kept(l);
    if (l->o->relus && sum != l->budget)
        return fail(ERR_ARG, "--masks '%s' keeps %lld ReLUs, --relus says %lld", l->o->masks,
                    (long long)sum, (long long)l->budget);
    l->budget = sum;
    cli_note(l->c, "masks of %s: %lld of %lld ReLUs", l->o->masks, (long long)sum,
             (long long)l->total);
    return 0;
}

/* ---- training ------------------------------------------------------------------------------ */

static int on_progress(void *ctx, const struct train_progress *p)
{
    struct linearize *l = ctx;

    cli_progress_at(&l->progress, (double)p->step / (double)p->steps,
                    "%s epoch %d/%d loss %.3f acc %.1f  %.0f img/s eta %02d:%02d:%02d", p->stage,
                    p->epoch + 1, p->epochs, p->loss, 100 * p->accuracy, p->images_per_s,
                    (int)p->seconds_left / 3600, (int)p->seconds_left / 60 % 60,
                    (int)p->seconds_left % 60);
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    struct linearize *l = ctx;

    cli_detail(l->c, "%s", json);
    return metrics_add(&l->metrics, json);
}

static bool on_interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

static bool masks_move(const struct linearize *l)
{
    return l->choosing && l->masks.state.frozen_epoch == 0;
}

static int on_batch(void *ctx, const struct train_batch *b)
{
    struct linearize *l = ctx;

    return masks_move(l) ? mask_stage_batch(&l->masks, b) : 0;
}

static int on_gradients(void *ctx, const struct train_batch *b)
{
    struct linearize *l = ctx;

    return masks_move(l) ? mask_stage_gradients(&l->masks, b) : 0;
}

static int choose_masks(struct linearize *l, int32_t epoch)
{
    const struct mask_state *s = &l->masks.state;
    char line[256];

    TRY(mask_stage_select(&l->masks, epoch));
    cli_note(l->c,
             "epoch %d: masks chosen again, normalised Hamming distance %.4f, turnover %.4f%s",
             epoch + 1, s->nhd, s->turnover, s->frozen_epoch > 0 ? ": frozen" : "");
    snprintf(
        line, sizeof line,
        "{\"event\":\"masks\",\"stage\":\"mask\",\"epoch\":%d,\"nhd\":%.9g,\"turnover\":%.9g,\"frozen\":%s}",
        epoch + 1, s->nhd, s->turnover, s->frozen_epoch > 0 ? "true" : "false");
    return on_metrics(l, line);
}

static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct linearize *l = ctx;

    if (val)
        cli_note(l->c, "epoch %d: validation clean %.2f %%", epoch + 1, 100 * val->clean);
    if (val && val->pgd >= 0)
        cli_note(l->c, "epoch %d: validation PGD %.2f %% (%lld images)", epoch + 1, 100 * val->pgd,
                 (long long)val->n_attack);
    return masks_move(l) && epoch <= l->last_selecting_epoch ? choose_masks(l, epoch) : 0;
}

/* A budget so small that the Hamming distance says nothing is told once. */
static void warn_of_freezing(const struct linearize *l)
{
    const struct recipe *r = &l->o->r;
    double most = 0;

    for (int32_t s = 0; s < l->n_site; s++) {
        const double share = (double)l->kept[s] / (double)l->site[s].total;

        most += 2 * (share < 0.5 ? share : 1 - share) / l->n_site;
    }
    if (r->freeze == FREEZE_NHD && most < 4 * r->freeze_below)
        cli_note(
            l->c,
            "warning: with this budget the normalised Hamming distance is at most %.3f, so the masks may freeze early; --freeze turnover looks at the kept ReLUs alone",
            most);
}

static void set_mask_hooks(struct linearize *l, struct train_config *cfg, struct train_hooks *hooks)
{
    hooks->batch = on_batch;
    hooks->gradients = l->o->r.score == SCORE_TAYLOR ? on_gradients : NULL;
    hooks->blobs = l->masks.blob;
    hooks->n_blobs = l->masks.n_blob;
    cfg->student_taps = l->masks.student_tap;
    cfg->teacher_taps = l->masks.teacher_tap;
    cfg->n_student_taps = l->masks.n_student_tap;
    cfg->n_teacher_taps = l->masks.n_teacher_tap;
    /* weights must end up with the mask they were trained under */
    l->last_selecting_epoch = cfg->epochs - (l->o->r.stage[STAGE_FINETUNE].epochs > 0 ? 1 : 2);
    warn_of_freezing(l);
}

static int set_stage(struct linearize *l, enum recipe_stage s, const char *config, const char *file,
                     struct train_config *cfg, struct train_hooks *hooks)
{
    TRY(recipe_train_config(&l->o->r, s, (uint64_t)l->c->seed, l->train->n, cfg));
    *hooks = (struct train_hooks){.ctx = l,
                                  .epoch_end = on_epoch_end,
                                  .progress = on_progress,
                                  .metrics = on_metrics,
                                  .interrupted = on_interrupted};
    cfg->checkpoint = file;
    cfg->config_json = config;
    cfg->structure = l->m.file;
    cfg->structure_len = l->m.file_len;
    cfg->at_teacher = l->group;
    cfg->at_student = s == STAGE_TEACHER ? l->group : l->student_group;
    cfg->n_at = l->n_group;
    cfg->soft.budget = l->budget;
    if (s != STAGE_TEACHER)
        cfg->options = l->options;
    l->choosing = s == STAGE_MASK && !cfg->soft.on;
    if (l->choosing)
        set_mask_hooks(l, cfg, hooks);
    return 0;
}

/* Trains g through stage s with its state in `file`, from the state there if `resume`. */
static int run_stage(struct linearize *l, enum recipe_stage s, struct graph *g,
                     struct graph *teacher, const char *file, bool resume)
{
    struct train_config cfg;
    struct train_hooks hooks;
    struct train_result result = {0};
    struct trainer *t = NULL;
    char *config = linearize_config(l, g);
    int rc = config ? 0 : fail(ERR_NOMEM, "no memory for the configuration");

    if (rc == 0)
        rc = set_stage(l, s, config, file, &cfg, &hooks);
    if (rc == 0)
        rc = trainer_new(&cfg, g, teacher, l->train, l->val, &hooks, &t);
    if (rc == 0 && resume)
        rc = trainer_resume(t);
    if (rc >= 0)
        rc = metrics_rewind(&l->metrics, cfg.stage, trainer_epochs_done(t));
    if (rc == 0) {
        cli_progress_begin(&l->progress, l->c, cfg.stage);
        rc = trainer_run(t, &result);
        cli_progress_end(&l->progress);
    }
    l->soft = result.soft;
    trainer_free(t);
    free(config);
    return rc;
}

/* A finished stage that this run leaves out. */
static int read_finished(struct linearize *l, const char *path, struct graph *g)
{
    struct checkpoint_file *f = NULL;
    int rc;

    TRY(checkpoint_open(path, &f));
    if (!checkpoint_is_done(f))
        rc = fail(ERR_ARG, "'%s': the stage '%s' is not finished, and --stages leaves it out", path,
                  checkpoint_stage(f));
    else
        rc = checkpoint_read_graph(f, g);
    if (rc == 0)
        cli_note(l->c, "%s: taken as it is", path);
    else
        fail_context(rc, "cannot continue from '%s'", path);
    checkpoint_close(f);
    return rc;
}

static int train_teacher(struct linearize *l)
{
    const bool left_out = l->o->r.stage[STAGE_TEACHER].epochs == 0;
    char path[PATH_BYTES];

    TRY(output_path(l->o->out, "teacher.safetensors", path, sizeof path));
    if (!left_out)
        return run_stage(l, STAGE_TEACHER, l->m.g, NULL, path, l->o->resume);
    if (l->o->resume && !l->o->teacher && access(path, F_OK) == 0)
        return read_finished(l, path, l->m.g);
    return 0;
}

/* ---- the student --------------------------------------------------------------------------- */

/* Where a student's checkpoint stands. */
struct progress {
    enum recipe_stage stage; /* to go on with; STAGE_COUNT: all is done */
    bool exists;
};

/* The stage that DIR/checkpoint.safetensors is in, STAGE_MASK if there is none. */
static int student_progress(const struct linearize *l, const char *path, struct progress *out)
{
    struct checkpoint_file *f = NULL;

    *out = (struct progress){STAGE_MASK, false};
    if (!l->o->resume || access(path, F_OK) < 0)
        return 0;
    TRY(checkpoint_open(path, &f));
    out->exists = true;
    if (strcmp(checkpoint_stage(f), recipe_stage_name(STAGE_FINETUNE)) == 0)
        out->stage = STAGE_FINETUNE;
    if (strcmp(checkpoint_stage(f), "cut") == 0)
        out->stage = STAGE_COUNT;
    checkpoint_close(f);
    return 0;
}

/* Words of what decides the student and is not in the trainer's own settings. */
static int student_options(struct linearize *l)
{
    const struct recipe *r = &l->o->r;
    struct sha256 *h = NULL;
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX];
    int rc;

    if ((rc = sha256_new(&h)) < 0 ||
        (rc = sha256_add(h, l->kept, (size_t)l->n_site * sizeof *l->kept)) < 0 ||
        (l->o->masks && (rc = sha256_add(h, l->student->masks,
                                         (size_t)l->student->n_masks * sizeof(float))) < 0) ||
        (rc = sha256_end(h, digest)) < 0)
        goto out;
    if ((l->options = mem_array(OPTION_BYTES, 1)) == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    snprintf(
        l->options, OPTION_BYTES,
        "recipe=%s relus=%lld layers=%.16s score=%d first-mask=%d score-images=%lld smoothing=%.17g density=%.17g freeze=%d freeze-below=%.17g freeze-epoch=%lld%s",
        recipe_kind_name(r->kind), (long long)l->budget, sha256_hex(digest, hex), r->score,
        r->first, (long long)r->score_images, r->smoothing, r->density, r->freeze, r->freeze_below,
        (long long)r->freeze_epoch, r->as_published ? " as-published=1" : "");
out:
    sha256_free(h);
    return rc;
}

/* Learned masks become 0 and 1, as many as the budget says. */
static int harden(struct linearize *l)
{
    const size_t n = (size_t)l->student->n_masks;
    float *soft = mem_array(n + 1, sizeof *soft);
    double kept = 0, cut = 0;
    int rc;

    if (soft == NULL)
        return ERR_NOMEM;
    memcpy(soft, l->student->masks, n * sizeof *soft);
    rc = mask_harden(l->student, l->n_site, l->site, l->budget);
    for (size_t i = 0; i < n; i++)
        *(l->student->masks[i] > 0.5f ? &kept : &cut) += (double)soft[i];
    mem_free(soft);
    TRY(rc);
    cli_note(
        l->c,
        "soft masks: %lld above %g%s; the %lld largest stay, %.3f on the mean; those that are cut hold %.2f %% of the whole",
        (long long)l->soft.count, l->o->r.threshold, l->soft.stopped ? "" : " after all epochs",
        (long long)l->budget, kept / (double)(l->budget > 0 ? l->budget : 1),
        kept + cut > 0 ? 100 * cut / (kept + cut) : 0);
    soft_switch(l->student, false);
    return count_kept(l);
}

static int save_cut(struct linearize *l, const char *path)
{
    char *config = linearize_config(l, l->student);
    const struct checkpoint_blob options = {CUT_OPTIONS, l->options, strlen(l->options) + 1};
    const struct checkpoint ck = {.stage = "cut",
                                  .done = true,
                                  .config = config,
                                  .graph = l->student,
                                  .structure = l->m.file,
                                  .structure_len = l->m.file_len,
                                  .blob = &options,
                                  .n_blob = 1};
    int rc = config ? checkpoint_save(path, &ck) : fail(ERR_NOMEM, "no memory for the checkpoint");

    free(config);
    return rc;
}

/* A network that was cut without training, with the same settings. */
static int read_cut(struct linearize *l, const char *path)
{
    struct checkpoint_file *f = NULL;
    size_t len = 0;
    int rc = 0;

    TRY(checkpoint_open(path, &f));
    const char *had = checkpoint_blob(f, CUT_OPTIONS, &len);
    if (had == NULL || len != strlen(l->options) + 1 || memcmp(had, l->options, len) != 0)
        rc = fail(
            ERR_ARG,
            "cannot continue from '%s': it was cut with other settings (--relus, scores or masks)",
            path);
    checkpoint_close(f);
    TRY(rc);
    TRY(read_finished(l, path, l->student));
    return count_kept(l);
}

/* Masks of a file, or those that the scores choose; nothing where the checkpoint brings them. */
static int first_masks(struct linearize *l, const struct progress *at)
{
    const int64_t images = l->o->r.score_images;

    if (l->o->masks)
        TRY(read_masks(l));
    if (at->stage > STAGE_MASK || l->soft_masks)
        return 0;
    TRY(mask_stage_init(&l->masks, l->student, l->m.g, l->kept, &l->o->r));
    if (l->o->masks)
        return mask_stage_adopt(&l->masks, l->train);
    TRY(mask_stage_first(&l->masks, l->train, (uint64_t)l->c->seed));
    cli_note(l->c, "first masks chosen from %lld images",
             (long long)(l->train->n < images ? l->train->n : images));
    return 0;
}

/* Before the penalty has moved them, all masks are 1. */
static void begin_soft(struct linearize *l)
{
    soft_switch(l->student, true);
    for (int64_t i = 0; i < l->student->n_masks; i++)
        l->student->masks[i] = 1;
    graph_touch(l->student);
}

static int mask_stage(struct linearize *l, const char *path, const struct progress *at)
{
    if (at->stage > STAGE_MASK)
        return 0;
    if (l->soft_masks)
        begin_soft(l);
    if (l->o->r.stage[STAGE_MASK].epochs > 0)
        TRY(run_stage(l, STAGE_MASK, l->student, l->m.g, path, l->o->resume));
    else if (at->exists)
        TRY(read_finished(l, path, l->student));
    return l->soft_masks ? harden(l) : 0;
}

/* The reference's student: the file's network without identity skips, with random weights. */
static int published_student(struct linearize *l)
{
    TRY(onnx_import_bytes(l->m.file, l->m.file_len, -1, NULL, NULL, &l->student));
    l->student_form = l->m.form;
    l->student_form.shared_shortcuts = false;
    l->student_form.dropped_skips = true;
    TRY(model_apply_form(l->student, &l->student_form));
    l->student->norm = l->m.g->norm;
    fresh_weights(l->student, (uint64_t)l->c->seed);
    cli_note(l->c, "as published: random weights, no identity skips, budgets not exact");
    return 0;
}

/* The maps of the student that attention transfer compares with those of the teacher. */
static int student_groups(struct linearize *l)
{
    for (int32_t i = 0; i < l->n_group; i++) {
        const struct node *x = &l->m.g->node[l->m.g->value[l->group[i]].producer];
        const int32_t n = graph_find_node(l->student, x->name);

        if (n < 0)
            return fail(ERR_UNSUPPORTED, "--as-published: node '%s' ends a stage and is a skip",
                        x->name);
        l->student_group[i] = l->student->node[n].out[0];
    }
    return 0;
}

static int make_student(struct linearize *l)
{
    l->student_form = l->m.form;
    if (l->o->r.as_published)
        TRY(published_student(l));
    else
        TRY(graph_clone(l->m.g, &l->student));
    return student_groups(l);
}

static int train_student(struct linearize *l)
{
    const struct recipe_stage_settings *stage = l->o->r.stage;
    struct progress at;
    char path[PATH_BYTES];

    TRY(output_path(l->o->out, "checkpoint.safetensors", path, sizeof path));
    TRY(student_progress(l, path, &at));
    l->soft_masks = l->o->r.kind == RECIPE_SNL && !l->o->masks && at.stage == STAGE_MASK &&
                    (stage[STAGE_MASK].epochs > 0 || at.exists);
    TRY(make_student(l));
    TRY(first_masks(l, &at));
    TRY(student_options(l));
    if (at.stage == STAGE_COUNT)
        return read_cut(l, path);
    TRY(mask_stage(l, path, &at));
    if (stage[STAGE_FINETUNE].epochs > 0)
        TRY(run_stage(l, STAGE_FINETUNE, l->student, l->m.g, path,
                      l->o->resume && at.stage == STAGE_FINETUNE));
    else if (stage[STAGE_MASK].epochs == 0 || l->soft_masks)
        TRY(save_cut(l, path));
    return count_kept(l);
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* Hours of training are not overwritten by a forgotten --resume. */
static int check_folder(const struct linearize *l)
{
    static const char *const state[] = {"teacher.safetensors", "checkpoint.safetensors"};
    static const char *const result[] = {"model.onnx", "model.adv.onnx"};
    char path[PATH_BYTES];

    for (int i = 0; i < 2; i++) {
        TRY(output_path(l->o->out, result[i], path, sizeof path));
        TRY(output_is_new(path, (const char *[]){l->model, l->o->teacher}, 2));
    }

    for (int i = 0; i < 2 && !l->o->resume; i++) {
        TRY(output_path(l->o->out, state[i], path, sizeof path));
        if (access(path, F_OK) == 0)
            return fail(
                ERR_ARG,
                "'%s' is the state of an earlier run; continue it with --resume, remove it, or take another -o",
                path);
    }
    return 0;
}

/* Is there a student at all? Without one the teacher is the result. */
static bool has_student(const struct linearize *l)
{
    const struct recipe_stage_settings *s = l->o->r.stage;

    return l->o->stages == NULL || s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs > 0;
}

static int check_options(const struct linearize *l)
{
    const struct recipe_stage_settings *s = l->o->r.stage;

    if (l->o->relus)
        TRY(linearize_check_relus(l->o->relus));
    if (has_student(l) && !l->o->relus && !l->o->budgets && !l->o->masks)
        return fail(ERR_ARG, "give --relus N|P%% (or --layer-budgets, or --masks)");
    if (has_student(l) && l->o->r.preset != PRESET_NONE && s[STAGE_TEACHER].epochs > 0 &&
        s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs == 0)
        return fail(
            ERR_ARG,
            "a teacher is trained, but no student: give --mask-epochs or --finetune-epochs, or say --stages teacher");
    return 0;
}

static int open_everything(struct linearize *l)
{
    char path[PATH_BYTES];
    int64_t total;

    TRY(check_options(l));
    TRY(model_open_from(l->c, l->model, &l->o->source, l->o->normalize, l->o->data, &l->m));
    if (l->m.is_checkpoint)
        return fail(ERR_ARG, "'%s': linearize starts from an ONNX model", l->model);
    TRY(refuse_masked(l->model, l->m.g, &total));
    if (l->o->relus)
        TRY(budget_parse(l->o->relus, total, &l->budget));
    TRY(open_data(l));
    TRY(check_folder(l));
    TRY(output_folder(l->o->out));
    if (!l->brief)
        TRY(linearize_measure(l, SUMMARY_GIVEN, l->m.g));
    TRY(take_teacher(l));
    TRY(prepare_structure(l));
    TRY(count_budget(l));
    l->n_group = attention_groups(l->m.g, l->group);
    TRY(linearize_write_config(l));
    TRY(output_path(l->o->out, "metrics.jsonl", path, sizeof path));
    return metrics_open(&l->metrics, path, l->o->resume);
}

int linearize_run(struct linearize *l)
{
    TRY(open_everything(l));
    TRY(train_teacher(l));
    TRY(plan_budget(l));
    if (has_student(l))
        TRY(train_student(l));
    if (l->o->r.as_published)
        l->budget = sum_kept(l);
    return linearize_finish(l);
}

void linearize_release(struct linearize *l)
{
    metrics_close(&l->metrics);
    mask_stage_release(&l->masks);
    graph_free(l->student);
    model_close(&l->m);
    data_close(l->train);
    data_close(l->val);
    data_close(l->test);
    mem_free(l->site);
    mem_free(l->eta);
    mem_free(l->kept);
    mem_free(l->options);
}
