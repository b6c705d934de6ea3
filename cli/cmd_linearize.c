/*
 * linnet linearize: the whole conversion in one command.
 *
 *     model -> batch norm re-inserted, second bank, masks of ones
 *           -> stage teacher: all-ReLU network made robust            DIR/teacher.safetensors
 *           -> budget per layer, first masks
 *           -> stages mask and finetune on a copy of the teacher      DIR/checkpoint.safetensors
 *           -> DIR/model.onnx, model.adv.onnx, model.pi, model.pi.weights, report.json
 *
 * Every step before a stage is deterministic and quick, so --resume runs the same path again and
 * each stage continues from its own file.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/mask_stage.h"
#include "cli/model.h"
#include "cli/outputs.h"
#include "cli/recipe.h"
#include "cli/summary.h"
#include "core/op.h"
#include "core/pass.h"
#include "trainer/bn.h"
#include "trainer/checkpoint.h"
#include "trainer/data.h"

/* ---- options ------------------------------------------------------------------------------- */

struct options {
    const char *data, *relus, *out, *normalize, *stages, *teacher, *masks, *budgets;
    int32_t recipe, preset, score, augment; /* augment, score: -1 = the preset's */
    int64_t empty_cheapest, train_limit, batch, epochs[STAGE_COUNT], attack_steps,
        eval_attack_images, eval_corrupt_images;
    double lr[STAGE_COUNT], attack_alpha, attack_eps, share, gamma, alpha, tau, smoothing,
        weight_decay;
    double require_clean;
    int64_t max_relus;
    bool resume;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", "folder, cifar10:PATH, npy:X,Y or synth:[N]", 0, 0},
    {"relus", 'r', CLI_TEXT, FIELD(relus), "N|P%", "ReLUs to keep: a count, or a share of all", 0,
     0},
    {"output", 'o', CLI_TEXT, FIELD(out), "DIR", "folder for the results; made if missing", 0, 0},
    {"recipe", 0, CLI_CHOICE, FIELD(recipe), "rlnet|senet|snl", "method (default rlnet)", 0, 0},
    {"preset", 0, CLI_CHOICE, FIELD(preset), "paper|short|quick|none", "schedule (default short)",
     0, 0},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P",
     "preset or m,m,m/s,s,s (default: what the file says)", 0, 0},
    {"resume", 0, CLI_FLAG, FIELD(resume), NULL, "continue an interrupted run of the same command",
     0, 0},
    {"train-limit", 0, CLI_INT, FIELD(train_limit), "N", "train on the first N images only", 1,
     1e9},
    {"score", 0, CLI_CHOICE, FIELD(score), "diff0|actdiff", "score of a position (default diff0)",
     0, 0},
    {"augment", 0, CLI_CHOICE, FIELD(augment), "none|augmix|corruptions", "augmented domain", 0, 0},
    {"teacher-epochs", 0, CLI_INT, FIELD(epochs[STAGE_TEACHER]), "N", "0 leaves the stage out", 0,
     1e6},
    {"mask-epochs", 0, CLI_INT, FIELD(epochs[STAGE_MASK]), "N", "0 leaves the stage out", 0, 1e6},
    {"finetune-epochs", 0, CLI_INT, FIELD(epochs[STAGE_FINETUNE]), "N", "0 leaves the stage out", 0,
     1e6},
    {"teacher-lr", 0, CLI_REAL, FIELD(lr[STAGE_TEACHER]), "X", "learning rate", 0, 100},
    {"mask-lr", 0, CLI_REAL, FIELD(lr[STAGE_MASK]), "X", "learning rate", 0, 100},
    {"finetune-lr", 0, CLI_REAL, FIELD(lr[STAGE_FINETUNE]), "X", "learning rate", 0, 100},
    {"batch", 0, CLI_INT, FIELD(batch), "N", "images an iteration (default 128)", 2, 65536},
    {"weight-decay", 0, CLI_REAL, FIELD(weight_decay), "X", "default 5e-4", 0, 1},
    {"attack-steps", 0, CLI_INT, FIELD(attack_steps), "N", "PGD steps in training", 1, 1000},
    {"attack-alpha", 0, CLI_REAL, FIELD(attack_alpha), "X", "PGD step size in training, 4/255 say",
     0, 1},
    {"attack-eps", 0, CLI_REAL, FIELD(attack_eps), "X", "PGD radius in training (default 8/255)", 0,
     1},
    {"adversarial-share", 0, CLI_REAL, FIELD(share), "X",
     "part of the adversarial pass in the loss; 0: as much as each other pass", 0, 1},
    {"gamma", 0, CLI_REAL, FIELD(gamma), "X", "weight of the cross-entropy in the student's loss",
     0, 1e3},
    {"alpha", 0, CLI_REAL, FIELD(alpha), "X", "weight of the distillation", 0, 1e3},
    {"tau", 0, CLI_REAL, FIELD(tau), "X", "temperature of the distillation (default 4)", 1e-3, 1e3},
    {"smoothing", 0, CLI_REAL, FIELD(smoothing), "X", "share of the old score kept each epoch", 0,
     1},
    {"eval-attack-images", 0, CLI_INT, FIELD(eval_attack_images), "N",
     "test images attacked in the final evaluation (default 2000)", 0, 1e9},
    {"eval-corrupt-images", 0, CLI_INT, FIELD(eval_corrupt_images), "N",
     "test images corrupted in the final evaluation (default 1000)", 0, 1e9},
    {"require-clean", 0, CLI_REAL, FIELD(require_clean), "P",
     "exit 6 if the result stays below P per cent", 0, 100},
    {"max-relus", 0, CLI_INT, FIELD(max_relus), "N", "exit 6 if more ReLUs are kept", 0, 1e12},
    {"stages", 0, CLI_TEXT, FIELD(stages), "S,S", "teacher,mask,finetune", 0, 0},
    {"teacher", 0, CLI_TEXT, FIELD(teacher), "FILE", "start from this robust teacher", 0, 0},
    {"masks", 0, CLI_TEXT, FIELD(masks), "FILE", "use these masks", 0, 0},
    {"layer-budgets", 0, CLI_TEXT, FIELD(budgets), "FILE", "ReLUs per layer", 0, 0},
    {"empty-cheapest", 0, CLI_INT, FIELD(empty_cheapest), "N", "empty the N cheapest layers first",
     0, 1e6},
    {0}};
static const struct cli_spec spec = {"MODEL",
                                     1,
                                     1,
                                     "Replaces most ReLUs by identities, trains the network to "
                                     "stay accurate and robust, and writes ONNX "
                                     "and a private-inference package.",
                                     "linnet linearize resnet20.onnx --data cifar10:DIR "
                                     "--normalize imagenet --relus 10% --preset quick -o out",
                                     options};

static int not_yet(const struct options *o)
{
    const char *name = o->stages           ? "stages"
                       : o->teacher        ? "teacher"
                       : o->masks          ? "masks"
                       : o->budgets        ? "layer-budgets"
                       : o->empty_cheapest ? "empty-cheapest"
                                           : NULL;

    if (name)
        return fail(ERR_ARG, "--%s: not in this version", name);
    if (o->recipe == RECIPE_SNL)
        return fail(ERR_ARG, "--recipe snl: not in this version; rlnet and senet are");
    return 0;
}

/* The preset with what the options change in it. */
static int make_recipe(const struct options *o, struct recipe *r)
{
    TRY(not_yet(o));
    *r = recipe_of((enum recipe_kind)o->recipe, (enum recipe_preset)o->preset);
    for (int s = 0; s < STAGE_COUNT; s++) {
        if (o->epochs[s] >= 0)
            r->stage[s].epochs = o->epochs[s];
        if (o->lr[s] >= 0)
            r->stage[s].lr = o->lr[s];
    }
    r->score = o->score >= 0 ? o->score : r->score;
    r->augment = o->augment >= 0 ? o->augment : r->augment;
    r->batch = o->batch > 0 ? o->batch : r->batch;
    r->weight_decay = o->weight_decay >= 0 ? o->weight_decay : r->weight_decay;
    r->attack.steps = o->attack_steps > 0 ? (int32_t)o->attack_steps : r->attack.steps;
    r->attack.alpha = o->attack_alpha > 0 ? o->attack_alpha : r->attack.alpha;
    r->attack.eps = o->attack_eps >= 0 ? o->attack_eps : r->attack.eps;
    r->adversarial_share = o->share >= 0 ? o->share : r->adversarial_share;
    r->gamma = o->gamma >= 0 ? o->gamma : r->gamma;
    r->alpha = o->alpha >= 0 ? o->alpha : r->alpha;
    r->tau = o->tau > 0 ? o->tau : r->tau;
    r->smoothing = o->smoothing >= 0 ? o->smoothing : r->smoothing;
    if (r->stage[STAGE_MASK].epochs + r->stage[STAGE_FINETUNE].epochs == 0 &&
        r->stage[STAGE_TEACHER].epochs > 0)
        return fail(
            ERR_ARG,
            "a teacher is trained, but no student: give --mask-epochs or --finetune-epochs");
    return 0;
}

/* ---- the job ------------------------------------------------------------------------------- */

struct job {
    const struct cli_common *c;
    const struct options *o;
    struct recipe r;
    struct model m; /* as the user gave it, then with batch norm and masks: the teacher */
    struct graph *student;
    struct dataset *train, *val, *test;
    struct mask_stage masks;
    int64_t total, budget;
    double *eta;
    int64_t *kept;
    struct summary column[SUMMARY_COLUMNS];
    json_t *stages; /* report: what each stage did */
    struct cli_progress progress;
    struct file_log metrics;
    bool choosing; /* the mask stage is running, and whether its last epoch selects too */
    int32_t last_selecting_epoch;
};

static int open_data(struct job *j)
{
    const struct graph *g = j->m.g;
    const struct shape *in = &g->value[g->input].shape;
    const uint64_t seed = (uint64_t)j->c->seed;
    struct dataset **set[] = {&j->train, &j->val, &j->test};
    static const enum data_split split[] = {DATA_TRAIN, DATA_VAL, DATA_TEST};

    for (int i = 0; i < 3; i++) {
        TRY(cli_as_data(data_open(j->o->data, split[i], seed, set[i])));
        TRY(data_check(*set[i], in->dim[1], in->dim[2], in->dim[3],
                       g->value[g->output].shape.dim[1]));
    }
    if (j->o->train_limit > 0)
        data_limit(j->train, j->o->train_limit);
    cli_note(j->c, "%s: %lld train, %lld validation, %lld test images", j->train->source,
             (long long)j->train->n, (long long)j->val->n, (long long)j->test->n);
    return 0;
}

/* Adds batch norm where it was folded away, the second bank, and masks of ones. */
static int prepare_structure(struct job *j)
{
    struct bn_report bn = {0};
    int64_t n = j->r.calib_images;
    float *x = NULL;
    int rc;

    if (j->r.preset != PRESET_NONE && pass_batchnorm_sites(j->m.g, NULL, 0) > 0) {
        if ((rc = output_calibration(j->train, &n, &x)) < 0 ||
            (rc = bn_insert(j->m.g, x, n, &bn)) < 0)
            goto out;
        j->m.form.bn_inserted = true;
        cli_note(j->c, "batch norm re-inserted at %d sites; logits moved by %.1e of the largest",
                 bn.sites, bn.max_rel_diff);
    }
    if (j->r.adversarial && (rc = pass_dual_bank(j->m.g)) < 0)
        goto out;
    if (j->r.adversarial && graph_banks(j->m.g) < 2) {
        rc = fail(ERR_UNSUPPORTED,
                  "the model has no place for batch norm, so it cannot have two branches");
        goto out;
    }
    j->m.form.banks = graph_banks(j->m.g);
    j->m.form.masked = true;
    rc = mask_insert(j->m.g);
out:
    mem_free(x);
    return rc;
}

static int plan_budget(struct job *j)
{
    struct relu_site *site = NULL;
    int64_t *total = NULL;
    int32_t n = 0;
    int rc;

    if ((rc = relu_sites(j->m.g, &site, &n)) < 0)
        goto out;
    total = mem_array((size_t)n + 1, sizeof *total);
    j->eta = mem_array((size_t)n + 1, sizeof *j->eta);
    j->kept = mem_array((size_t)n + 1, sizeof *j->kept);
    if (!total || !j->eta || !j->kept) {
        rc = ERR_NOMEM;
        goto out;
    }
    for (int32_t s = 0; s < n; s++)
        total[s] = site[s].total;
    if ((rc = budget_sensitivity(j->m.g, j->r.density, j->eta)) == 0)
        rc = budget_allocate(n, total, j->eta, j->budget, j->kept);
out:
    mem_free(site);
    mem_free(total);
    return rc;
}

/* ---- training ------------------------------------------------------------------------------ */

static int on_progress(void *ctx, const struct train_progress *p)
{
    struct job *j = ctx;

    cli_progress_at(&j->progress, (double)p->step / (double)p->steps,
                    "%s epoch %d/%d loss %.3f acc %.1f  %.0f img/s eta %02d:%02d:%02d", p->stage,
                    p->epoch + 1, p->epochs, p->loss, 100 * p->accuracy, p->images_per_s,
                    (int)p->seconds_left / 3600, (int)p->seconds_left / 60 % 60,
                    (int)p->seconds_left % 60);
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    struct job *j = ctx;

    cli_detail(j->c, "%s", json);
    return file_log_line(&j->metrics, json);
}

static bool on_interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

static int on_batch(void *ctx, const struct train_batch *b)
{
    struct job *j = ctx;

    return mask_stage_batch(&j->masks, b);
}

static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct job *j = ctx;

    if (val)
        cli_note(j->c, "epoch %d: validation clean %.2f %%", epoch + 1, 100 * val->clean);
    if (val && val->pgd >= 0)
        cli_note(j->c, "epoch %d: validation PGD %.2f %% (%lld images)", epoch + 1, 100 * val->pgd,
                 (long long)val->n_attack);
    if (!j->choosing || epoch > j->last_selecting_epoch)
        return 0;
    TRY(mask_stage_select(&j->masks));
    cli_note(j->c, "epoch %d: masks chosen again, normalised Hamming distance %.4f, turnover %.4f",
             epoch + 1, j->masks.state.nhd, j->masks.state.turnover);
    return 0;
}

/* config of the checkpoint: what rebuilds the network, and every setting. mem_free. */
static char *config_text(const struct job *j, const struct graph *g)
{
    json_t *root = json_pack("{s:o,s:o,s:I,s:I,s:s,s:I}", "network", model_form_json(&j->m.form, g),
                             "recipe", recipe_json(&j->r), "seed", (json_int_t)j->c->seed, "relus",
                             (json_int_t)j->budget, "data", j->train->source, "train-images",
                             (json_int_t)j->train->n);
    char *text = root ? json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT) : NULL;

    json_decref(root);
    return text;
}

/* Trains g through stage s with its state in `file`, from the state there if `resume`. */
static int run_stage(struct job *j, enum recipe_stage s, struct graph *g, struct graph *teacher,
                     const char *file, bool resume)
{
    struct train_config cfg = recipe_train_config(&j->r, s, (uint64_t)j->c->seed);
    struct train_hooks hooks = {.ctx = j,
                                .epoch_end = on_epoch_end,
                                .progress = on_progress,
                                .metrics = on_metrics,
                                .interrupted = on_interrupted};
    struct train_result result = {0};
    struct trainer *t = NULL;
    char *config = config_text(j, g);
    int rc = config ? 0 : fail(ERR_NOMEM, "no memory for the configuration");

    cfg.checkpoint = file;
    cfg.config_json = config;
    cfg.structure = j->m.file;
    cfg.structure_len = j->m.file_len;
    j->choosing = s == STAGE_MASK;
    if (j->choosing) {
        hooks.batch = on_batch;
        hooks.blobs = j->masks.blob;
        hooks.n_blobs = 3;
        cfg.student_taps = j->masks.student_tap;
        cfg.teacher_taps = j->masks.teacher_tap;
        cfg.n_student_taps = cfg.n_teacher_taps = j->masks.n_site;
        /* weights must end up with the mask they were trained under */
        j->last_selecting_epoch = cfg.epochs - (j->r.stage[STAGE_FINETUNE].epochs > 0 ? 1 : 2);
    }
    if (rc == 0)
        rc = trainer_new(&cfg, g, teacher, j->train, j->val, &hooks, &t);
    if (rc == 0 && resume)
        rc = trainer_resume(t);
    if (rc >= 0) {
        cli_progress_begin(&j->progress, j->c, cfg.stage);
        rc = trainer_run(t, &result);
        cli_progress_end(&j->progress);
    }
    if (rc == 0)
        rc = json_array_append_new(
                 j->stages, json_pack("{s:s,s:i,s:f,s:f,s:f}", "name", cfg.stage, "epochs",
                                      result.epochs, "seconds", result.seconds, "images_per_s",
                                      result.images_per_s, "loss", result.loss)) < 0
                 ? ERR_NOMEM
                 : 0;
    trainer_free(t);
    free(config);
    return rc;
}

static int train_teacher(struct job *j)
{
    char path[4096];

    if (j->r.stage[STAGE_TEACHER].epochs == 0)
        return 0;
    TRY(output_path(j->o->out, "teacher.safetensors", path, sizeof path));
    return run_stage(j, STAGE_TEACHER, j->m.g, NULL, path, j->o->resume);
}

/* A student's masks hold its budget: it cannot go on with another one. */
static int check_budget(const struct job *j, const struct checkpoint_file *f, const char *path)
{
    json_t *config = json_loads(checkpoint_config(f), 0, NULL);
    const json_t *relus = json_object_get(config, "relus");
    const long long had = json_is_integer(relus) ? json_integer_value(relus) : j->budget;

    json_decref(config);
    if (had != j->budget)
        return fail(ERR_ARG, "cannot continue from '%s': it keeps %lld ReLUs, now --relus is %lld",
                    path, had, (long long)j->budget);
    return 0;
}

/* The stage that DIR/checkpoint.safetensors is in, STAGE_MASK if there is none. */
static int student_stage(const struct job *j, const char *path, enum recipe_stage *out)
{
    struct checkpoint_file *f = NULL;
    int rc = 0;

    *out = STAGE_MASK;
    if (!j->o->resume || access(path, F_OK) < 0)
        return 0;
    TRY(checkpoint_open(path, &f));
    if (strcmp(checkpoint_stage(f), recipe_stage_name(STAGE_FINETUNE)) == 0)
        *out = STAGE_FINETUNE;
    if (j->r.stage[STAGE_MASK].epochs + j->r.stage[STAGE_FINETUNE].epochs > 0)
        rc = check_budget(j, f, path);
    checkpoint_close(f);
    return rc;
}

static int train_student(struct job *j)
{
    bool resume = j->o->resume;
    enum recipe_stage from;
    char path[4096];
    int rc;

    TRY(output_path(j->o->out, "checkpoint.safetensors", path, sizeof path));
    TRY(student_stage(j, path, &from));
    TRY(graph_clone(j->m.g, &j->student));
    TRY(mask_stage_init(&j->masks, j->student, j->m.g, j->kept, &j->r));
    TRY(mask_stage_first(&j->masks, j->train, j->r.score_images));
    cli_note(j->c, "first masks chosen from %lld images",
             (long long)(j->train->n < j->r.score_images ? j->train->n : j->r.score_images));
    for (int s = (int)from; s < STAGE_COUNT; s++) {
        if (j->r.stage[s].epochs == 0)
            continue;
        if ((rc = run_stage(j, (enum recipe_stage)s, j->student, j->m.g, path, resume)) < 0)
            return rc;
        resume = false; /* the file now holds the end of stage s */
    }
    if (j->r.stage[STAGE_MASK].epochs + j->r.stage[STAGE_FINETUNE].epochs == 0) {
        char *config = config_text(j, j->student);
        const struct checkpoint ck = {.stage = "cut",
                                      .done = true,
                                      .config = config,
                                      .graph = j->student,
                                      .structure = j->m.file,
                                      .structure_len = j->m.file_len};

        rc = config ? checkpoint_save(path, &ck) : ERR_NOMEM;
        free(config);
        return rc;
    }
    return 0;
}

/* ---- report -------------------------------------------------------------------------------- */

static json_t *budget_json(const struct job *j)
{
    json_t *layers = json_array();

    for (int32_t s = 0; s < j->masks.n_site; s++)
        json_array_append_new(layers, json_pack("{s:s,s:I,s:I,s:f}", "name",
                                                j->student->node[j->masks.site[s].node].name,
                                                "total", (json_int_t)j->masks.site[s].total, "kept",
                                                (json_int_t)j->kept[s], "sensitivity", j->eta[s]));
    return json_pack("{s:I,s:I,s:o}", "total", (json_int_t)j->total, "kept", (json_int_t)j->budget,
                     "layers", layers);
}

static int write_report(struct job *j)
{
    char path[4096], *config = config_text(j, j->student);
    struct cli_common to_file = *j->c;
    json_t *root = json_pack("{s:s,s:o,s:I,s:o,s:O}", "format", "linnet.report/1", "config",
                             json_loads(config ? config : "{}", 0, NULL), "seed",
                             (json_int_t)j->c->seed, "budget", budget_json(j), "stages", j->stages);
    int rc;

    free(config);
    if (root == NULL)
        return fail(ERR_NOMEM, "no memory for the report");
    const char *const model[SUMMARY_COLUMNS] = {j->c->arg[0], "teacher.safetensors", "model.onnx"};
    for (int i = 0; i < SUMMARY_COLUMNS; i++)
        json_object_set_new(root, summary_name(i), summary_json(model[i], &j->column[i]));
    if ((rc = output_path(j->o->out, "report.json", path, sizeof path)) == 0) {
        to_file.json = path;
        rc = cli_json_write(&to_file, json_incref(root));
    }
    if (rc == 0)
        return cli_json_write(j->c, root);
    json_decref(root);
    return rc;
}

static int export_all(struct job *j)
{
    static const char *const recipe[] = {"rlnet", "senet", "snl"};
    const struct output_facts facts = {
        .seed = j->c->seed, .budget = j->budget, .total = j->total, .recipe = recipe[j->r.kind]};
    int64_t n = j->r.calib_images;
    float *x = NULL;
    int rc;

    if ((rc = output_calibration(j->train, &n, &x)) == 0)
        rc = output_write_all(j->c, &j->m, j->student, &facts, x, n, j->o->out);
    mem_free(x);
    return rc;
}

static int measure(struct job *j, enum summary_column which, struct graph *g)
{
    const struct summary_job s = {.c = j->c,
                                  .test = j->test,
                                  .calib = j->train,
                                  .n_calib = j->r.calib_images,
                                  .n_attack = j->o->eval_attack_images,
                                  .n_corrupt = j->o->eval_corrupt_images};

    return summary_measure(&s, which, g, &j->column[which]);
}

static int check_goals(const struct job *j)
{
    const double clean = 100 * j->column[SUMMARY_RESULT].eval.branch[0].clean.accuracy;

    if (clean < j->o->require_clean)
        return fail(ERR_GOAL, "clean accuracy %.2f %% is below --require-clean %g", clean,
                    j->o->require_clean);
    if (j->o->max_relus >= 0 && j->budget > j->o->max_relus)
        return fail(ERR_GOAL, "%lld ReLUs kept, --max-relus %lld", (long long)j->budget,
                    (long long)j->o->max_relus);
    return 0;
}

static int finish(struct job *j)
{
    TRY(export_all(j));
    TRY(measure(j, SUMMARY_TEACHER, j->m.g));
    TRY(measure(j, SUMMARY_RESULT, j->student));
    TRY(write_report(j));
    summary_print(cli_out(j->c), j->column);
    return check_goals(j);
}

static void print_settings(const struct job *j)
{
    json_t *root = recipe_json(&j->r);
    char *text = root ? json_dumps(root, JSON_SORT_KEYS | JSON_INDENT(2)) : NULL;

    if (text)
        cli_note(j->c, "settings: %s", text);
    free(text);
    json_decref(root);
}

/* The ReLUs there are, and how many of them to keep. */
static int count_budget(struct job *j)
{
    struct relu_site *site = NULL;
    int32_t n = 0;

    TRY(relu_sites(j->m.g, &site, &n));
    for (int32_t s = 0; s < n; s++)
        j->total += site[s].total;
    mem_free(site);
    if (n == 0)
        return fail(ERR_UNSUPPORTED, "the model has no ReLU to remove");
    return budget_parse(j->o->relus, j->total, &j->budget);
}

/* Hours of training are not overwritten by a forgotten --resume. */
static int check_folder(const struct job *j)
{
    static const char *const state[] = {"teacher.safetensors", "checkpoint.safetensors"};
    char path[4096];

    for (int i = 0; i < 2 && !j->o->resume; i++) {
        TRY(output_path(j->o->out, state[i], path, sizeof path));
        if (access(path, F_OK) == 0)
            return fail(ERR_ARG,
                        "'%s' is the state of an earlier run; continue it with --resume, remove "
                        "it, or take another -o",
                        path);
    }
    return 0;
}

/* The scores need every ReLU of the network that is to be thinned out. */
static int refuse_masked(const struct graph *g)
{
    for (int32_t n = 0; n < g->n_node; n++)
        if (g->node[n].op == &op_masked_relu)
            return fail(ERR_UNSUPPORTED,
                        "node '%s' is a masked ReLU already; give the model that it was made from",
                        g->node[n].name);
    return 0;
}

static int linearize(struct job *j)
{
    char path[4096];

    TRY(make_recipe(j->o, &j->r));
    TRY(model_open(j->c, j->c->arg[0], j->o->normalize, &j->m));
    if (j->m.is_checkpoint)
        return fail(ERR_ARG, "'%s': linearize starts from an ONNX model", j->c->arg[0]);
    TRY(refuse_masked(j->m.g));
    TRY(count_budget(j));
    TRY(open_data(j));
    TRY(check_folder(j));
    TRY(output_folder(j->o->out));
    TRY(measure(j, SUMMARY_GIVEN, j->m.g));
    TRY(prepare_structure(j));
    print_settings(j);
    TRY(output_path(j->o->out, "metrics.jsonl", path, sizeof path));
    TRY(file_log_open(&j->metrics, path, j->o->resume));
    TRY(train_teacher(j));
    TRY(plan_budget(j));
    TRY(train_student(j));
    return finish(j);
}

static void job_release(struct job *j)
{
    file_log_close(&j->metrics);
    mask_stage_release(&j->masks);
    graph_free(j->student);
    model_close(&j->m);
    data_close(j->train);
    data_close(j->val);
    data_close(j->test);
    mem_free(j->eta);
    mem_free(j->kept);
    json_decref(j->stages);
}

int cmd_linearize(int argc, char **argv)
{
    struct options o = {.preset = PRESET_SHORT,
                        .score = -1,
                        .augment = -1,
                        .epochs = {-1, -1, -1},
                        .lr = {-1, -1, -1},
                        .attack_eps = -1,
                        .share = -1,
                        .gamma = -1,
                        .alpha = -1,
                        .tau = -1,
                        .smoothing = -1,
                        .weight_decay = -1,
                        .eval_attack_images = 2000,
                        .eval_corrupt_images = 1000,
                        .max_relus = -1};
    struct cli_common c;
    struct job *j = mem_array(1, sizeof *j);
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && j == NULL)
        rc = ERR_NOMEM;
    if (rc == 0 && (!o.data || !o.relus || !o.out))
        rc = fail(ERR_ARG, "give --data SRC, --relus N|P%% and -o DIR");
    if (rc == 0) {
        *j = (struct job){.c = &c, .o = &o, .stages = json_array()};
        cli_catch_signals();
        rc = linearize(j);
    }
    if (j)
        job_release(j);
    mem_free(j);
    cli_release(&c);
    return rc;
}
