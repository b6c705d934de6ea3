/* The order of a conversion, and what it leaves: models, package, report.json; see linearize.h. */
#include "pipeline/linearize.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/base/json.h"
#include "core/base/file.h"
#include "core/base/minmax.h"
#include "core/base/ranks.h"
#include "exporter/lower/lower.h"
#include "pipeline/linearize_report.h"
#include "pipeline/listener.h"
#include "pipeline/mask_file.h"
#include "pipeline/outputs.h"
#include "pipeline/precision.h"
#include "pipeline/page/page.h"
#include "pipeline/report.h"
#include "pipeline/source.h"
#include "pipeline/student.h"
#include "pipeline/tasks.h"
#include "pipeline/teacher.h"
#include "pipeline/work_plan.h"
#include "trainer/data/normalize.h"

#define PATH_BYTES 4096
#define AUTOATTACK_IMAGES 200 /* of the final table, where nothing else is said */

/* ---- before any work ----------------------------------------------------------------------- */

/* Hours of training are not overwritten by a forgotten --resume. */
static int check_folder(const struct linearize_job *j)
{
    static const char *const state[] = {"teacher.safetensors", "checkpoint.safetensors"};
    static const char *const result[] = {"model.onnx", "model.adv.onnx", "model.clean.onnx"};
    char path[PATH_BYTES];

    for (int i = 0; i < 3; i++) {
        TRY(output_path(j->o->out, result[i], path, sizeof path));
        TRY(file_is_new(path,
                        (const char *[]){j->path, j->o->teacher, j->o->masks, j->o->logit_teacher,
                                         j->o->clean_teacher},
                        5));
    }

    for (int i = 0; i < 2 && !j->o->resume; i++) {
        TRY(output_path(j->o->out, state[i], path, sizeof path));
        if (access(path, F_OK) == 0)
            return fail(
                ERR_ARG,
                "'%s' is the state of an earlier run; continue it with --resume, remove it, or take another -o",
                path);
    }
    return 0;
}

/* Is there a student at all? Without one the teacher is the result. */
static bool has_student(const struct linearize_options *o)
{
    const struct recipe_stage_settings *s = o->r.stage;

    return o->stages == NULL || s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs > 0;
}

static int check_options(const struct linearize_options *o)
{
    const struct recipe_stage_settings *s = o->r.stage;

    if (o->relus)
        TRY(linearize_check_relus(o->relus));
    if (has_student(o) && !o->relus && !o->budgets && !o->masks)
        return fail(ERR_ARG, "give --relus N|P%% (or --layer-budgets, or --masks)");
    if (has_student(o) && o->r.preset != PRESET_NONE && s[STAGE_TEACHER].epochs > 0 &&
        s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs == 0)
        return fail(
            ERR_ARG,
            "a teacher is trained, but no student: give --mask-epochs or --finetune-epochs, or say --stages teacher");
    return 0;
}

static void set_text(json_t **root, const char *key, const char *text)
{
    if (text)
        json_put(root, key, json_text(text));
}

/* DIR/config.json: what repeats the run. */
static json_t *config_json(const struct linearize_options *o, const struct run *r)
{
    char norm[NORMALIZE_TEXT];
    json_t *root = linearize_recipe_json(&o->r);

    set_text(&root, "data", o->open.data);
    set_text(&root, "test-data", o->open.images.test);
    set_text(&root, "val-data", o->open.images.val);
    set_text(&root, "resize", o->open.images.resize);
    set_text(&root, "crop", o->open.images.crop);
    if (o->open.images.random)
        json_put(&root, "random-crop", json_true());
    set_text(&root, "relus", o->relus);
    set_text(&root, "stages", o->stages);
    set_text(&root, "teacher", o->teacher);
    set_text(&root, "masks", o->masks);
    set_text(&root, "logit-teacher", o->logit_teacher);
    set_text(&root, "clean-teacher", o->clean_teacher);
    set_text(&root, "extra", o->extra);
    set_text(&root, "layer-budgets", o->budgets);
    if (o->publish_slopes)
        json_put(&root, "publish-slopes", json_true());
    set_text(&root, "normalize", normalize_text(&r->m.g->norm, norm));
    json_put(&root, "empty-cheapest", json_integer(o->empty_cheapest));
    if (o->train_limit > 0)
        json_put(&root, "train-limit", json_integer(o->train_limit));
    json_put(&root, "seed", json_integer((json_int_t)r->seed));
    return root;
}

static int remove_output(const struct linearize_job *j, const char *name)
{
    char path[PATH_BYTES];

    TRY(output_path(j->o->out, name, path, sizeof path));
    if (ranks_index() == 0 && unlink(path) < 0 && errno != ENOENT)
        return fail(ERR_IO, "'%s': cannot be removed: %s", path, strerror(errno));
    return 0;
}

/* A resumed run replaces the file when its checkpoints have accepted the settings: refused ones leave the folder
 * as it was. A report of other settings goes first, so that nobody finds it beside these; a package of another
 * network too, as this one may get none. */
static int write_config(const struct linearize_job *j, const struct run *r, bool accepted)
{
    char path[PATH_BYTES];

    TRY(output_path(j->o->out, "config.json", path, sizeof path));
    if (!j->part && !accepted)
        listener_note(j->l, "settings: %s", path);
    if (j->o->resume && !accepted && access(path, F_OK) == 0)
        return 0;
    TRY(remove_output(j, "report.json"));
    if (!j->o->resume && has_student(j->o)) {
        TRY(remove_output(j, "model.pi"));
        TRY(remove_output(j, "model.pi.weights"));
    }
    return report_write(path, config_json(j->o, r));
}

/* ---- stages -------------------------------------------------------------------------------- */

struct linearize {
    const struct linearize_job *j;
    struct conversion c;
    struct lock *lock;      /* of the folder */
    struct student student; /* .g NULL where only a teacher is trained */
    struct summary column[SUMMARY_COLUMNS];
    bool measured[SUMMARY_COLUMNS];
};

static int64_t autoattack_images(const struct linearize_options *o)
{
    if (o->eval_autoattack_images >= 0)
        return o->eval_autoattack_images;
    return min_i64(AUTOATTACK_IMAGES, o->eval_attack_images);
}

static int measure(struct linearize *x, enum summary_column which, struct graph *g)
{
    const struct linearize_options *o = x->j->o;
    const struct summary_job s = {.l = x->j->l,
                                  .seed = x->j->seed,
                                  .test = x->c.run.test,
                                  .calib = x->c.run.train,
                                  .n_calib = o->r.calib_images,
                                  .n_attack = o->eval_attack_images,
                                  .n_autoattack = autoattack_images(o),
                                  .deployed = conversion_deployed(&x->c, g),
                                  .n_corrupt = o->eval_corrupt_images};

    TRY(summary_measure(&s, which, g, &x->column[which]));
    x->measured[which] = true;
    return 0;
}

/* What was said of ReLUs, before hours of work: a budget that is none, masks that do not fit. */
static int check_relus(const struct linearize_job *j, const struct graph *g)
{
    const struct linearize_options *o = j->o;
    int64_t total, kept = -1, masked;

    TRY(teacher_check_relus(j->path, g, &total));
    if (o->relus)
        TRY(budget_parse(o->relus, total, &kept));
    if (kept == 0 && strpbrk(o->relus, "%.") != NULL && strpbrk(o->relus, "123456789") != NULL)
        listener_note(j->l, "warning: --relus %s of %lld ReLUs is less than one: none is kept",
                      o->relus, (long long)total);
    if (o->masks == NULL)
        return 0;
    TRY(mask_file_count(o->masks, g, &masked));
    return student_check_masks(o, masked, kept);
}

/* The first part of a sweep tells that of all. */
static int tell_plan(const struct linearize_job *j, const struct run *r)
{
    const struct work_images n = {r->train->n, r->val->n, r->test->n};

    if (j->part && j->later == NULL)
        return 0;
    OWNED struct work_plan *p = mem_array(1, sizeof *p);
    if (p == NULL)
        return ERR_NOMEM;
    work_plan_add(p, j->o, &n, j->brief, "");
    if (j->later != NULL)
        work_plan_add_budgets(p, j->sweep, &n, j->later);
    listener_plan(j->l, p->stage, p->n);
    return 0;
}

static int open_everything(struct linearize *x)
{
    const struct linearize_job *j = x->j;
    const struct linearize_options *o = j->o;
    struct open_options how = o->open;
    struct conversion *c = &x->c;
    char path[PATH_BYTES];

    TRY(check_options(o));
    precision_note(j->l, precision_of(o->r.precision, true));
    how.guess = o->teacher != NULL           ? GUESS_NEVER
                : o->r.preset == PRESET_NONE ? GUESS_BEST
                                             : GUESS_SURE;
    TRY(model_open(j->l, j->path, &how, j->seed, &c->run.m));
    if (c->run.m.is_checkpoint)
        return fail(ERR_ARG, "'%s': linearize starts from an ONNX model", j->path);
    TRY(check_relus(j, c->run.m.g));
    TRY(run_open_data(&c->run, &o->open, o->train_limit, true));
    TRY(output_claim(o->out, &x->lock));
    TRY(check_folder(j));
    ranks_meet(); /* before the first writes there */
    TRY(tell_plan(j, &c->run));
    if (!j->brief)
        TRY(measure(x, SUMMARY_GIVEN, c->run.m.g));
    TRY(teacher_take(c));
    TRY(teacher_prepare(c));
    TRY(conversion_open(c));
    TRY(quota_count(&c->quota, c->run.m.g, o->relus));
    c->n_group = attention_groups(c->run.m.g, c->group);
    TRY(write_config(j, &c->run, false));
    TRY(output_path(o->out, "metrics.jsonl", path, sizeof path));
    return metrics_open(&c->run.metrics, path, o->resume);
}

static int train(struct linearize *x)
{
    const struct linearize_options *o = x->j->o;
    const struct quota_rules rules = {o->relus, o->budgets, o->r.density, o->empty_cheapest};
    struct conversion *c = &x->c;

    TRY(teacher_train(c));
    TRY(quota_share(&c->quota, c->run.m.g, &rules));
    if (has_student(o))
        TRY(student_train(&x->student, c));
    if (o->r.as_published)
        c->quota.want = quota_kept(&c->quota);
    return o->resume ? write_config(x->j, &c->run, true) : 0;
}

/* ---- results ------------------------------------------------------------------------------- */

/* Accuracies of what was measured; branches that were not stay without. */
static struct output_facts facts_of(const struct linearize *x, enum summary_column which)
{
    const struct linearize_options *o = x->j->o;
    const struct recipe *recipe = &o->r;
    const struct recipe_stage_settings *s = recipe->stage;
    const bool trained =
        s[STAGE_TEACHER].epochs + s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs > 0;
    struct output_facts f = {.seed = (int64_t)x->j->seed,
                             .data = trained ? x->c.run.train : NULL,
                             .split = "test",
                             .recipe = trained ? recipe_kind_name(recipe->kind) : NULL};
    const struct eval_result *r = &x->column[which].eval;
    const bool student = s[STAGE_MASK].epochs + s[STAGE_FINETUNE].epochs > 0;

    if (trained && recipe->adversarial)
        f.eps =
            recipe_eps(recipe, which == SUMMARY_RESULT && student ? STAGE_FINETUNE : STAGE_TEACHER);
    if (which == SUMMARY_RESULT && recipe->removed != REMOVED_IDENTITY)
        f.removed = removed_name((enum removed_kind)recipe->removed);

    for (int i = 0; trained && x->measured[which] && i < r->n_branch; i++) {
        const struct eval_branch *b = &r->branch[i];
        struct output_accuracy *a = &f.accuracy[b->branch];

        *a = (struct output_accuracy){.clean = b->clean.accuracy, .n = b->clean.n};
        if (o->eval_attack_images > 0 && b->n_attack > 0) {
            a->attacked = b->attack[0].score.accuracy;
            a->n_attack = b->attack[0].score.n;
        }
    }
    return f;
}

/* model.onnx, the deployed branch; the files of both where there are two; and its package. */
static int export_student(const struct linearize *x)
{
    const struct run *r = &x->c.run;
    const int deployed = conversion_deployed(&x->c, x->student.g);
    struct output_facts facts = facts_of(x, SUMMARY_RESULT);
    const struct output_private how = {.network = x->student.g,
                                       .branch = deployed,
                                       .calib = r->train,
                                       .n = x->j->o->r.calib_images,
                                       .publish_slopes = x->j->o->publish_slopes,
                                       .max_failure = LOWER_MAX_FAILURE};
    SCOPED(graph_free_at) struct graph *branch = NULL;
    char stem[PATH_BYTES];

    facts.budget = x->c.quota.want;
    facts.total = x->c.quota.total;
    TRY(output_path(x->j->o->out, "model", stem, sizeof stem));
    TRY(output_branches(&r->m, x->student.g, &facts, stem, deployed));
    if (x->j->o->r.removed == REMOVED_LINE && !x->j->o->publish_slopes) {
        listener_note(
            x->j->l,
            "no model.pi: it would publish the slopes of removed ReLUs; say --publish-slopes (here or to `linnet export`) if they may be public, or take --removed half");
        return 0;
    }
    TRY(output_branch(&r->m, x->student.g, deployed, &facts, &branch));
    const int rc = output_pi(x->j->l, &r->m, &branch, &how, x->j->o->out);
    if (rc != ERR_GOAL && rc != ERR_UNSUPPORTED)
        return rc;
    /* What was trained is worth keeping. */
    listener_note(x->j->l, "no model.pi: %s%s", err_message(),
                  rc == ERR_GOAL ? " (linnet export has it)" : "");
    return 0;
}

/* teacher.onnx, teacher.adv.onnx: what a run of the teacher's stage alone leaves. */
static int export_teacher(const struct linearize *x)
{
    const struct output_facts facts = facts_of(x, SUMMARY_TEACHER);
    char stem[PATH_BYTES];

    TRY(output_path(x->j->o->out, "teacher", stem, sizeof stem));
    return output_branches(&x->c.run.m, x->c.run.m.g, &facts, stem, 0);
}

static int check_goals(const struct linearize *x)
{
    const struct linearize_options *o = x->j->o;
    const struct summary *s = &x->column[SUMMARY_RESULT];
    const double clean = 100 * s->eval.branch[s->names.deployed].clean.accuracy;

    if (clean < o->require_clean)
        return fail(ERR_GOAL, "clean accuracy %.2f %% is below --require-clean %g", clean,
                    o->require_clean);
    if (o->max_relus >= 0 && x->c.quota.want > o->max_relus)
        return fail(ERR_GOAL, "%lld ReLUs kept, --max-relus %lld", (long long)x->c.quota.want,
                    (long long)o->max_relus);
    return 0;
}

static int finish(struct linearize *x, struct linnet_report **out)
{
    const struct linearize_job *j = x->j;
    struct linearize_facts facts = {j->path, &x->c, x->column, x->measured};
    char path[PATH_BYTES];

    if (!j->brief)
        TRY(measure(x, SUMMARY_TEACHER, x->c.run.m.g));
    if (x->student.g)
        TRY(measure(x, SUMMARY_RESULT, x->student.g));
    else
        x->column[SUMMARY_RESULT] = x->column[SUMMARY_TEACHER];
    TRY(x->student.g ? export_student(x) : export_teacher(x)); /* with its accuracies */
    ranks_meet(); /* the report reads what the first has written */
    TRY(metrics_write_csv(&x->c.run.metrics));
    TRY(output_path(j->o->out, "report.json", path, sizeof path));
    TRY(report_write(path, linearize_report_json(&facts)));
    TRY(output_path(j->o->out, "report.html", path, sizeof path));
    TRY(page_write(&j->o->out, 1, path));
    if (j->part)
        return 0;
    TRY(report_new(linearize_report_print, &facts, linearize_report_json(&facts), out));
    return check_goals(x);
}

int linearize_run(const struct linearize_job *j, struct linnet_report **out)
{
    OWNED struct linearize *x = mem_array(1, sizeof *x); /* large: results of three evaluations */
    int rc;

    if (x == NULL)
        return ERR_NOMEM;
    x->j = j;
    x->c.o = j->o;
    x->c.run = (struct run){.l = j->l, .seed = j->seed, .resume = j->o->resume};
    if ((rc = open_everything(x)) == 0 && (rc = train(x)) == 0)
        rc = finish(x, out);
    student_release(&x->student);
    quota_release(&x->c.quota);
    conversion_release(&x->c);
    run_release(&x->c.run);
    lock_release(x->lock);
    return rc;
}

int linnet_linearize(const char *path, const struct linnet_options *o,
                     const struct linnet_listener *l, struct linnet_report **out)
{
    struct linearize_options settings;
    const void *raw;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &linearize_task, &raw));
    TRY(linearize_options_read(o, &settings));
    const struct linearize_job job = {
        .l = l, .o = &settings, .path = path, .seed = options_seed(o)};
    return linearize_run(&job, out);
}
