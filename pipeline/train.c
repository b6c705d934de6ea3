/*
 * Task "train": plain or robust training of any importable model, a run with one stage.
 *
 *     model -> batch norm re-inserted where it was folded away, second branch with --dual-bn
 *           -> training, state in Y.safetensors     (Y is the output without .onnx)
 *           -> Y.onnx, and Y.adv.onnx where there are two branches
 */
#include <string.h>
#include <unistd.h>

#include "core/graph/pass.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "pipeline/listener.h"
#include "pipeline/outputs.h"
#include "pipeline/precision.h"
#include "pipeline/recipe.h"
#include "pipeline/report.h"
#include "pipeline/stage.h"
#include "pipeline/tasks.h"
#include "trainer/eval/eval.h"
#include "trainer/train/bn.h"

#define PATH_BYTES 4096
#define TRAIN_STEPS 7 /* PGD steps where --adversarial does not say */

struct train_settings {
    struct open_options open;
    const char *out, *adversarial, *augment;
    int64_t epochs, batch, bn_shards, train_limit, val_limit, val_attack_images;
    double lr, momentum, weight_decay, warmup, label_smoothing, trades;
    int32_t schedule, select;
    bool dual_bn, nesterov, no_crop, aligned, resume;
};
#define FIELD(f) offsetof(struct train_settings, f)
static const struct option_row rows[] = {
    DATA_ROW(DATA_HELP),
    TEST_ROW,
    VAL_ROW,
    IMAGE_ROWS,
    RANDOM_ROW,
    OPTION("output", 'o', OPTION_OUTPUT, FIELD(out), "Y.onnx",
           "trained model; its state goes to Y.safetensors"),
    NORMALIZE_ROW(NORMALIZE_AUTO_HELP),
    OPTION("adversarial", 0, OPTION_TEXT, FIELD(adversarial), "SPEC",
           "also train on adversarial images: pgd:eps=8/255,alpha=2/255,steps=7"),
    OPTION("augment", 0, OPTION_TEXT, FIELD(augment), "augmix|corruptions[:T,..]|none",
           "also train on augmented images (default none)"),
    OPTION("dual-bn", 0, OPTION_FLAG, FIELD(dual_bn), NULL,
           "separate BN branch for adversarial images"),
    NUMBER("epochs", 0, OPTION_INT, FIELD(epochs), "N", "default 30", 1, 1e6),
    NUMBER("lr", 0, OPTION_REAL, FIELD(lr), "X", "learning rate (default 0.05)", 1e-9, 100),
    OPTION("schedule", 0, OPTION_CHOICE, FIELD(schedule), "step|cosine|constant",
           "step: times 0.1 at 62.5, 75, 87.5 % of training (default cosine)"),
    NUMBER("warmup", 0, OPTION_REAL, FIELD(warmup), "N", "warm-up epochs (default 0)", 0, 1e6),
    NUMBER("batch", 0, OPTION_INT, FIELD(batch), "N", "images per iteration (default 128)", 1,
           65536),
    BN_SHARDS_ROW(FIELD(bn_shards)),
    NUMBER("momentum", 0, OPTION_REAL, FIELD(momentum), "X", "default 0.9", 0, 1),
    OPTION("nesterov", 0, OPTION_FLAG, FIELD(nesterov), NULL, "Nesterov's form of the momentum"),
    NUMBER("weight-decay", 0, OPTION_REAL, FIELD(weight_decay), "X", "default 5e-4", 0, 1),
    NUMBER("label-smoothing", 0, OPTION_REAL, FIELD(label_smoothing), "X",
           "share of a label's weight that goes to all classes alike", 0, 0.999),
    NUMBER(
        "trades", 0, OPTION_REAL, FIELD(trades), "X",
        "--adversarial: weight of the divergence between an image's logits before and after the attack, which then maximises it",
        0, 1e3),
    OPTION("no-crop", 0, OPTION_FLAG, FIELD(no_crop), NULL, "no random crop and flip"),
    OPTION("aligned", 0, OPTION_FLAG, FIELD(aligned), NULL,
           "use the same crop and flip for the clean and the augmented image"),
    OPTION("select", 0, OPTION_CHOICE, FIELD(select), "last|clean|pgd|mean",
           "epoch to keep, by validation (default last)"),
    NUMBER("train-limit", 0, OPTION_INT, FIELD(train_limit), "N",
           "train on the first N images only", 1, 1e9),
    NUMBER("val-limit", 0, OPTION_INT, FIELD(val_limit), "N", "validate on the first N images only",
           1, 1e9),
    NUMBER("val-attack-images", 0, OPTION_INT, FIELD(val_attack_images), "N",
           "validation images that are attacked (default 500 with --adversarial)", 0, 1e9),
    OPTION("resume", 0, OPTION_FLAG, FIELD(resume), NULL,
           "continue an interrupted run of the same command"),
    OPEN_ROWS,
    PRECISION_ROW(FIELD(open.precision), "auto; validation is fp32"),
    OPTION_END};
static const struct train_settings defaults = {.augment = "none",
                                               .epochs = 30,
                                               .batch = 128,
                                               .bn_shards = 1,
                                               .lr = 0.05,
                                               .momentum = 0.9,
                                               .weight_decay = 5e-4,
                                               .schedule = 1,
                                               .val_attack_images = -1};

static int check(const struct linnet_options *o)
{
    const struct train_settings *s = options_values(o);

    return s->open.data && s->out ? 0 : fail(ERR_ARG, "give --data SRC and -o Y.onnx");
}
const struct task train_task = {"train", rows, &defaults, sizeof defaults, check, true};

struct job {
    const struct train_settings *o;
    struct run run;
    struct stage stage;
    struct lock *lock;
    char stem[PATH_BYTES], checkpoint[PATH_BYTES]; /* Y, Y.safetensors */
    struct eval_result *test; /* with --test-data: clean accuracies of the branches, else NULL */
    char *config;             /* JSON for the checkpoint */
};

/* ---- settings ------------------------------------------------------------------------------ */

static int parse_adversarial(const char *text, struct train_config *cfg)
{
    if (text == NULL)
        return 0;
    cfg->adversarial = true;
    TRY(pgd_parse(text, &cfg->attack));
    if (strstr(text, "steps=") == NULL)
        cfg->attack.steps = TRAIN_STEPS;
    if (cfg->attack.restarts != 1)
        return fail(ERR_ARG, "--adversarial %s: restarts are for evaluation", text);
    return 0;
}

static int make_config(struct job *j)
{
    static const enum optim_schedule schedule[] = {OPTIM_STEP, OPTIM_COSINE, OPTIM_CONSTANT};
    const struct train_settings *o = j->o;
    struct train_config *c = &j->stage.cfg;

    *c = train_defaults();
    c->seed = j->run.seed;
    c->precision = precision_of(o->open.precision, true);
    c->epochs = (int32_t)o->epochs;
    c->batch = (int32_t)o->batch;
    c->bn_shards = (int32_t)o->bn_shards;
    c->lr = o->lr;
    c->momentum = o->momentum;
    c->weight_decay = o->weight_decay;
    c->nesterov = o->nesterov;
    c->schedule = schedule[o->schedule];
    c->warmup_epochs = o->warmup;
    c->crop = !o->no_crop;
    c->aligned = o->aligned;
    c->select = (enum train_select)o->select;
    c->val_limit = o->val_limit;
    TRY(recipe_augment(o->augment, &c->augment, &c->corruptions));
    TRY(parse_adversarial(o->adversarial, c));
    if (o->dual_bn && !c->adversarial)
        return fail(ERR_ARG, "--dual-bn: needs --adversarial, which trains the second branch");
    c->val_attack_limit = o->val_attack_images >= 0 ? o->val_attack_images
                          : c->adversarial          ? 500
                                                    : 0;
    c->label_smoothing = o->label_smoothing;
    c->trades = o->trades;
    if (o->trades > 0 && !c->adversarial)
        return fail(ERR_ARG, "--trades: needs --adversarial");
    c->checkpoint = j->checkpoint;
    c->checkpoint_seconds = 120;
    TRY(recipe_check_shards(o->bn_shards));
    return train_check_shards(c, c->precision);
}

static int make_paths(struct job *j, const char *input)
{
    const char *out = j->o->out;
    const size_t n = strlen(out), tail = strlen(".onnx");
    char adv[PATH_BYTES + 16];

    if (n <= tail || strcmp(out + n - tail, ".onnx") != 0)
        return fail(ERR_ARG, "-o %s: the output is a file NAME.onnx", out);
    if (n + 16 > PATH_BYTES)
        return fail(ERR_LIMIT, "-o: the path is longer than %d bytes", PATH_BYTES - 16);
    snprintf(j->stem, sizeof j->stem, "%.*s", (int)(n - tail), out);
    snprintf(j->checkpoint, sizeof j->checkpoint, "%.*s.safetensors", (int)(n - tail), out);
    TRY(file_is_new(out, (const char *[]){input}, 1));
    TRY(file_is_new(j->checkpoint, (const char *[]){input}, 1));
    snprintf(adv, sizeof adv, "%s.adv.onnx", j->stem);
    TRY(file_is_new(adv, (const char *[]){input}, 1));
    return output_writable(out);
}

/* ---- the network ---------------------------------------------------------------------------- */

static int prepare_structure(struct job *j)
{
    struct model *m = &j->run.m;

    TRY(run_insert_batchnorm(&j->run, BN_CALIBRATION));
    if (j->o->dual_bn) {
        TRY(pass_dual_branch(m->g));
        if (graph_branches(m->g) < 2)
            return fail(ERR_UNSUPPORTED, "--dual-bn: the model has no place for batch norm");
    }
    m->form.branches = graph_branches(m->g);
    return 0;
}

/* What eval and export need to open the checkpoint, and the options for people. */
static int make_config_text(struct job *j)
{
    const struct train_settings *o = j->o;
    json_t *root = json_pack(
        "{s:o,s:I,s:o,s:s,s:s,s:b,s:I,s:f}", "network", model_form_json(&j->run.m.form, j->run.m.g),
        "seed", (json_int_t)j->run.seed, "data", json_text(j->run.train->source), "adversarial",
        o->adversarial ? o->adversarial : "none", "augment", o->augment, "dual-bn", o->dual_bn,
        "epochs", (json_int_t)o->epochs, "lr", o->lr);

    if (o->bn_shards > 1)
        json_put(&root, "bn-shards", json_integer(o->bn_shards));
    j->config = json_spell(root, JSON_SORT_KEYS | JSON_COMPACT);
    json_decref(root);
    if (j->config == NULL)
        return fail(ERR_NOMEM, "no memory for the configuration");
    j->stage.cfg.config_json = j->config;
    j->stage.cfg.structure = j->run.m.file;
    j->stage.cfg.structure_len = j->run.m.file_len;
    return 0;
}

/* ---- results ------------------------------------------------------------------------------- */

/* The attack of the validation goes through the adversarial branch, where there is one. */
static struct output_facts facts_of(const struct job *j, int branches)
{
    const struct train_validation *v = &j->stage.result.val;
    struct output_facts f = {.seed = (int64_t)j->run.seed,
                             .data = j->run.train,
                             .eps = j->stage.cfg.adversarial ? j->stage.cfg.attack.eps : 0,
                             .split = "val"};

    if (v->n > 0)
        f.accuracy[0] = (struct output_accuracy){.clean = v->clean, .n = v->n};
    if (v->n > 0 && v->clean_adv >= 0)
        f.accuracy[1] = (struct output_accuracy){.clean = v->clean_adv, .n = v->n};
    if (v->n_attack > 0 && v->pgd >= 0) {
        f.accuracy[branches - 1].attacked = v->pgd;
        f.accuracy[branches - 1].n_attack = v->n_attack;
    }
    return f;
}

static json_t *percent_or_null(double share)
{
    return share >= 0 ? json_real(100 * share) : json_null();
}

/* null where nobody named test images. */
static json_t *test_json(const struct job *j)
{
    if (j->test == NULL)
        return json_null();
    json_t *o = json_object();
    json_put(&o, "n", json_integer((json_int_t)j->test->n));
    for (int32_t b = 0; b < j->test->n_branch; b++)
        json_put(&o, j->test->branch[b].branch == 1 ? "clean_adv" : "clean",
                 json_real(100 * j->test->branch[b].clean.accuracy));
    return o;
}

static json_t *result_json(const struct job *j)
{
    const struct train_result *r = &j->stage.result;
    const struct train_validation *v = &r->val;
    json_t *root = json_pack(
        "{s:s,s:s,s:o,s:o,s:I,s:I,s:I,s:f,s:f,s:f,s:{s:I,s:o,s:o,s:I,s:o},s:o}", "format",
        "linnet.train/1", "precision", exec_precision_name(r->precision), "model",
        json_text(j->o->out), "config", json_loads(j->config, 0, NULL), "epochs",
        (json_int_t)r->epochs, "kept_epoch", (json_int_t)r->best_epoch + 1, "steps",
        (json_int_t)r->steps, "loss", r->loss, "seconds", r->seconds, "images_per_s",
        r->images_per_s, "validation", "n", (json_int_t)v->n, "clean",
        percent_or_null(v->n > 0 ? v->clean : -1), "clean_adv",
        percent_or_null(v->n > 0 ? v->clean_adv : -1), "n_attack", (json_int_t)v->n_attack, "pgd",
        percent_or_null(v->n_attack > 0 ? v->pgd : -1), "test", test_json(j));

    if (j->o->bn_shards > 1)
        json_put(&root, "bn_shards", json_integer(j->o->bn_shards));
    return root;
}

static void print(FILE *out, const void *facts)
{
    const struct job *j = facts;
    const struct train_result *r = &j->stage.result;

    fprintf(out, "%s: %s", j->o->out, exec_precision_name(r->precision));
    if (j->o->bn_shards > 1)
        fprintf(out, ", batch norm in %lld shards", (long long)j->o->bn_shards);
    fprintf(out, ", epoch %d of %d kept, last loss %.4f", r->best_epoch + 1, r->epochs, r->loss);
    if (r->val.n > 0)
        fprintf(out, ", validation clean %.2f %% (%lld images)", 100 * r->val.clean,
                (long long)r->val.n);
    if (r->val.n_attack > 0)
        fprintf(out, ", PGD-%d %.2f %% (%lld images)", (int)j->stage.cfg.val_attack.steps,
                100 * r->val.pgd, (long long)r->val.n_attack);
    for (int32_t b = 0; j->test != NULL && b < j->test->n_branch; b++)
        fprintf(out, ", test%s %.2f %% (%lld images)",
                j->test->branch[b].branch == 1 ? " of the adversarial branch" : "",
                100 * j->test->branch[b].clean.accuracy, (long long)j->test->n);
    fprintf(out, "\n");
}

static int on_test(void *ctx, int64_t done, int64_t all)
{
    const struct job *j = ctx;

    listener_progress(j->run.l, "test", (double)done / (double)(all > 0 ? all : 1), "%lld/%lld",
                      (long long)done, (long long)all);
    return listener_stops(j->run.l) ? fail(ERR_INTERRUPTED, "stopped; --resume tests again") : 0;
}

static int measure_test(struct job *j)
{
    struct eval_options e = {.seed = j->run.seed, .ctx = j, .progress = on_test};
    int rc;

    if (j->run.test == NULL)
        return 0;
    if ((j->test = mem_array(1, sizeof *j->test)) == NULL)
        return ERR_NOMEM;
    e.branch[0] = true;
    e.branch[1] = graph_branches(j->run.m.g) == 2;
    listener_begin(j->run.l, "test");
    rc = eval_run(j->run.m.g, j->run.test, &e, j->test);
    listener_end(j->run.l, "test");
    return rc;
}

static void tell_plan(const struct job *j)
{
    const struct train_config *c = &j->stage.cfg;
    const struct dataset *test = j->run.test;
    char text[2][96];
    struct linnet_stage stage[2] = {{"train", text[0], 1}, {"test", text[1], 0}};

    snprintf(text[0], sizeof text[0], "%d epoch%s of %lld images%s", (int)c->epochs,
             c->epochs == 1 ? "" : "s", (long long)j->run.train->n,
             c->adversarial ? ", with attacked ones" : "");
    if (test != NULL) { /* passes: 3 to train an image, 2 a step of its attack */
        const double image = 3 + (c->adversarial ? 3 + 2 * (double)c->attack.steps : 0);

        stage[1].work = (double)test->n / (image * c->epochs * (double)j->run.train->n);
        snprintf(text[1], sizeof text[1], "accuracy on %lld test images", (long long)test->n);
    }
    listener_plan(j->run.l, stage, test != NULL ? 2 : 1);
}

static int train(struct job *j, const char *path, struct linnet_report **out)
{
    struct open_options how = j->o->open;
    struct run *r = &j->run;

    how.guess = GUESS_SURE;
    TRY(make_paths(j, path));
    TRY(make_config(j));
    precision_note(r->l, j->stage.cfg.precision);
    TRY(output_claim_stem(j->stem, &j->lock));
    TRY(model_open(r->l, path, &how, r->seed, &r->m));
    if (r->m.is_checkpoint)
        return fail(ERR_ARG, "'%s': train starts from an ONNX model; --resume continues a run",
                    path);
    TRY(run_open_data(r, &j->o->open, j->o->train_limit, j->o->open.images.test != NULL));
    TRY(prepare_structure(j));
    TRY(make_config_text(j));
    if (r->resume && access(j->checkpoint, F_OK) < 0)
        listener_note(r->l, "no state in '%s': training starts from the beginning", j->checkpoint);
    tell_plan(j);
    TRY(stage_run(r, &j->stage, r->m.g, NULL));
    const struct output_facts facts = facts_of(j, graph_branches(r->m.g) == 2 ? 2 : 1);
    TRY(output_branches(&r->m, r->m.g, &facts, j->stem, 0));
    TRY(measure_test(j));
    return report_new(print, j, result_json(j), out);
}

int linnet_train(const char *path, const struct linnet_options *o, const struct linnet_listener *l,
                 struct linnet_report **out)
{
    struct job j = {.run = {.l = l}};
    int rc;

    if (out != NULL)
        *out = NULL;
    TRY(options_read(o, &train_task, (const void **)&j.o));
    j.run.seed = options_seed(o);
    j.run.resume = j.o->resume;
    rc = train(&j, path, out);
    mem_free(j.config);
    mem_free(j.test);
    lock_release(j.lock);
    run_release(&j.run);
    return rc;
}
