/*
 * linnet train: plain or robust training of any importable model.
 *
 *     model -> batch norm re-inserted where it was folded away, second bank with --dual-bn
 *           -> training, state in Y.safetensors     (Y is the output without .onnx)
 *           -> Y.onnx, and Y.adv.onnx where there are two branches
 */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "pipeline/model.h"
#include "pipeline/outputs.h"
#include "pipeline/recipe.h"
#include "core/graph/pass.h"
#include "trainer/train/bn.h"
#include "trainer/train/trainer.h"

#define PATH_BYTES 4096
#define TRAIN_STEPS 7 /* PGD steps where --adversarial does not say */

struct options {
    const char *data, *out, *normalize, *adversarial, *augment;
    int64_t epochs, batch, train_limit, val_limit, val_attack_images;
    double lr, momentum, weight_decay, warmup;
    int32_t schedule, select;
    bool dual_bn, nesterov, no_crop, aligned, resume;
    struct model_source source;
};
#define FIELD(f) offsetof(struct options, f)
static const struct cli_option options[] = {
    {"data", 'd', CLI_TEXT, FIELD(data), "SRC", DATA_HELP, 0, 0},
    {"output", 'o', CLI_TEXT, FIELD(out), "Y.onnx",
     "trained model; its state goes to Y.safetensors", 0, 0},
    {"normalize", 0, CLI_TEXT, FIELD(normalize), "P", NORMALIZE_AUTO_HELP, 0, 0},
    {"adversarial", 0, CLI_TEXT, FIELD(adversarial), "SPEC",
     "adversarial domain: pgd:eps=8/255,alpha=2/255,steps=7", 0, 0},
    {"augment", 0, CLI_TEXT, FIELD(augment), "augmix|corruptions[:T,..]|none",
     "augmented domain (default none)", 0, 0},
    {"dual-bn", 0, CLI_FLAG, FIELD(dual_bn), NULL, "own batch norm for adversarial pictures", 0, 0},
    {"epochs", 0, CLI_INT, FIELD(epochs), "N", "default 30", 1, 1e6},
    {"lr", 0, CLI_REAL, FIELD(lr), "X", "learning rate (default 0.05)", 1e-9, 100},
    {"schedule", 0, CLI_CHOICE, FIELD(schedule), "step|cosine|constant",
     "step: x 0.1 at 62.5, 75, 87.5 % (default cosine)", 0, 0},
    {"warmup", 0, CLI_REAL, FIELD(warmup), "N", "epochs in which the rate rises (default 0)", 0,
     1e6},
    {"batch", 0, CLI_INT, FIELD(batch), "N", "images an iteration (default 128)", 1, 65536},
    {"momentum", 0, CLI_REAL, FIELD(momentum), "X", "default 0.9", 0, 1},
    {"nesterov", 0, CLI_FLAG, FIELD(nesterov), NULL, "Nesterov's form of the momentum", 0, 0},
    {"weight-decay", 0, CLI_REAL, FIELD(weight_decay), "X", "default 5e-4", 0, 1},
    {"no-crop", 0, CLI_FLAG, FIELD(no_crop), NULL, "no random crop and flip", 0, 0},
    {"aligned", 0, CLI_FLAG, FIELD(aligned), NULL, "clean and augmented picture share the crop", 0,
     0},
    {"select", 0, CLI_CHOICE, FIELD(select), "last|clean|pgd|mean",
     "which epoch is kept, by validation (default last)", 0, 0},
    {"train-limit", 0, CLI_INT, FIELD(train_limit), "N", "train on the first N images only", 1,
     1e9},
    {"val-limit", 0, CLI_INT, FIELD(val_limit), "N", "validate on the first N images only", 1, 1e9},
    {"val-attack-images", 0, CLI_INT, FIELD(val_attack_images), "N",
     "validation images that are attacked (default 500 with --adversarial)", 0, 1e9},
    {"resume", 0, CLI_FLAG, FIELD(resume), NULL, "continue an interrupted run of the same command",
     0, 0},
    MODEL_OPTIONS(struct options),
    {0}};
static const struct cli_spec spec = {
    "MODEL",
    1,
    1,
    "Trains a model, plainly or robustly, and writes ONNX again.",
    "linnet train resnet18.onnx --data cifar10:DIR --normalize cifar10 --adversarial pgd:steps=7 --augment augmix --dual-bn -o robust.onnx",
    options};

struct job {
    const struct cli_common *c;
    const struct options *o;
    struct train_config cfg;
    struct model m;
    struct dataset *train, *val;
    struct cli_progress progress;
    struct train_result result;
    char stem[PATH_BYTES], checkpoint[PATH_BYTES]; /* Y, Y.safetensors */
    char *config;                                  /* JSON for the checkpoint; of jansson */
};

/* ---- options ------------------------------------------------------------------------------- */

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
    const struct options *o = j->o;
    struct train_config *c = &j->cfg;

    *c = train_defaults();
    c->seed = (uint64_t)j->c->seed;
    c->epochs = (int32_t)o->epochs;
    c->batch = (int32_t)o->batch;
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
    c->checkpoint = j->checkpoint;
    c->checkpoint_seconds = 120;
    return 0;
}

static int make_paths(struct job *j)
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
    TRY(output_is_new(out, (const char *[]){j->c->arg[0]}, 1));
    TRY(output_is_new(j->checkpoint, (const char *[]){j->c->arg[0]}, 1));
    snprintf(adv, sizeof adv, "%s.adv.onnx", j->stem);
    TRY(output_is_new(adv, (const char *[]){j->c->arg[0]}, 1));
    return output_writable(out);
}

/* ---- model and data ------------------------------------------------------------------------ */

static int open_data(struct job *j)
{
    const struct graph *g = j->m.g;
    const struct shape *in = &g->value[g->input].shape;
    struct dataset **set[] = {&j->train, &j->val};
    static const enum data_split split[] = {DATA_TRAIN, DATA_VAL};

    for (int i = 0; i < 2; i++) {
        TRY(cli_as_data(data_open(j->o->data, split[i], (uint64_t)j->c->seed, set[i])));
        TRY(data_check(*set[i], in->dim[1], in->dim[2], in->dim[3],
                       shape_elems(&g->value[g->output].shape)));
    }
    data_limit(j->train, j->o->train_limit);
    cli_note(j->c, "%s: %lld train, %lld validation images", j->train->source,
             (long long)j->train->n, (long long)j->val->n);
    return 0;
}

static int insert_bn(struct job *j)
{
    const struct dataset *d = j->train;
    const int64_t elems = (int64_t)d->channels * d->height * d->width;
    const int64_t n = d->n < BN_CALIBRATION ? d->n : BN_CALIBRATION;
    struct bn_report report;
    float *x = mem_aligned((size_t)(n * elems), sizeof *x);
    int rc = x != NULL ? 0 : ERR_NOMEM;

    for (int64_t i = 0; rc == 0 && i < n; i++)
        data_image(d, i, x + i * elems);
    if (rc == 0 && (rc = bn_insert(j->m.g, x, n, &report)) == 0)
        cli_note(j->c, "batch norm re-inserted at %d sites; logits moved by %.1e of the largest",
                 (int)report.sites, report.max_rel_diff);
    mem_free(x);
    return rc;
}

static int prepare_structure(struct job *j)
{
    struct model_form *form = &j->m.form;

    if (pass_batchnorm_sites(j->m.g, NULL, 0) > 0) {
        TRY(insert_bn(j));
        form->bn_inserted = true;
    }
    if (j->o->dual_bn) {
        TRY(pass_dual_bank(j->m.g));
        if (graph_banks(j->m.g) < 2)
            return fail(ERR_UNSUPPORTED, "--dual-bn: the model has no place for batch norm");
    }
    form->banks = graph_banks(j->m.g);
    return 0;
}

/* What eval and export need to open the checkpoint, and the options for people. */
static int make_config_text(struct job *j)
{
    const struct options *o = j->o;
    json_t *root = json_pack("{s:o,s:I,s:s,s:s,s:s,s:b,s:I,s:f}", "network",
                             model_form_json(&j->m.form, j->m.g), "seed", (json_int_t)j->c->seed,
                             "data", j->train->source, "adversarial",
                             o->adversarial ? o->adversarial : "none", "augment", o->augment,
                             "dual-bn", o->dual_bn, "epochs", (json_int_t)o->epochs, "lr", o->lr);

    j->config = root ? json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(root);
    if (j->config == NULL)
        return fail(ERR_NOMEM, "no memory for the configuration");
    j->cfg.config_json = j->config;
    j->cfg.structure = j->m.file;
    j->cfg.structure_len = j->m.file_len;
    return 0;
}

/* ---- training ------------------------------------------------------------------------------ */

static int on_progress(void *ctx, const struct train_progress *p)
{
    struct job *j = ctx;

    cli_progress_at(&j->progress, (double)p->step / (double)p->steps,
                    "epoch %d/%d loss %.3f acc %.1f  %.0f img/s eta %02d:%02d:%02d", p->epoch + 1,
                    p->epochs, p->loss, 100 * p->accuracy, p->images_per_s,
                    (int)p->seconds_left / 3600, (int)p->seconds_left / 60 % 60,
                    (int)p->seconds_left % 60);
    return 0;
}

static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct job *j = ctx;

    if (val && val->pgd >= 0)
        cli_note(j->c, "epoch %d: validation clean %.2f %%, PGD %.2f %% (%lld images)", epoch + 1,
                 100 * val->clean, 100 * val->pgd, (long long)val->n_attack);
    else if (val)
        cli_note(j->c, "epoch %d: validation clean %.2f %%", epoch + 1, 100 * val->clean);
    return 0;
}

static int on_metrics(void *ctx, const char *json)
{
    struct job *j = ctx;

    cli_detail(j->c, "%s", json);
    return 0;
}

static bool on_interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

static int run_training(struct job *j)
{
    const struct train_hooks hooks = {.ctx = j,
                                      .epoch_end = on_epoch_end,
                                      .progress = on_progress,
                                      .metrics = on_metrics,
                                      .interrupted = on_interrupted};
    struct dataset *val = j->val->n > 0 ? j->val : NULL;
    struct trainer *t = NULL;
    int rc;

    if (val == NULL)
        j->cfg.val_every = 0;
    if ((rc = trainer_new(&j->cfg, j->m.g, NULL, j->train, val, &hooks, &t)) < 0)
        return rc;
    if (j->o->resume && (rc = trainer_resume(t)) < 0)
        goto out;
    if (j->o->resume && rc == 0)
        cli_note(j->c, "no state in '%s': training starts from the beginning", j->checkpoint);
    cli_progress_begin(&j->progress, j->c, "train");
    rc = trainer_run(t, &j->result);
    cli_progress_end(&j->progress);
out:
    trainer_free(t);
    return rc;
}

/* ---- results ------------------------------------------------------------------------------- */

/* The attack of the validation goes through the adversarial branch, where there is one. */
static struct output_facts facts_of(const struct job *j, int banks)
{
    const struct train_validation *v = &j->result.val;
    struct output_facts f = {.seed = j->c->seed,
                             .data = j->train,
                             .eps = j->cfg.adversarial ? j->cfg.attack.eps : 0,
                             .split = "val"};

    if (v->n > 0)
        f.accuracy[0] = (struct output_accuracy){.clean = v->clean, .n = v->n};
    if (v->n > 0 && v->clean_adv >= 0)
        f.accuracy[1] = (struct output_accuracy){.clean = v->clean_adv, .n = v->n};
    if (v->n_attack > 0 && v->pgd >= 0) {
        f.accuracy[banks - 1].attacked = v->pgd;
        f.accuracy[banks - 1].n_attack = v->n_attack;
    }
    return f;
}

static int export_branches(struct job *j)
{
    const struct export_options opt = {.form = MASK_WHERE};
    const int banks = graph_banks(j->m.g) == 2 ? 2 : 1;
    const struct output_facts facts = facts_of(j, banks);
    char path[PATH_BYTES + 16];
    int rc = 0;

    for (int bank = 0; bank < banks && rc == 0; bank++) {
        struct graph *b = NULL;

        snprintf(path, sizeof path, "%s%s.onnx", j->stem, bank == 1 ? ".adv" : "");
        if ((rc = output_branch(&j->m, j->m.g, bank, &facts, &b)) == 0)
            rc = onnx_export(b, &opt, path);
        graph_free(b);
    }
    return rc;
}

static json_t *percent_or_null(double share)
{
    return share >= 0 ? json_real(100 * share) : json_null();
}

static json_t *result_json(const struct job *j)
{
    const struct train_result *r = &j->result;
    const struct train_validation *v = &r->val;

    return json_pack("{s:s,s:s,s:o,s:I,s:I,s:I,s:f,s:f,s:f,s:{s:I,s:o,s:o,s:I,s:o}}", "format",
                     "linnet.train/1", "model", j->o->out, "config", json_loads(j->config, 0, NULL),
                     "epochs", (json_int_t)r->epochs, "kept_epoch", (json_int_t)r->best_epoch + 1,
                     "steps", (json_int_t)r->steps, "loss", r->loss, "seconds", r->seconds,
                     "images_per_s", r->images_per_s, "validation", "n", (json_int_t)v->n, "clean",
                     percent_or_null(v->n > 0 ? v->clean : -1), "clean_adv",
                     percent_or_null(v->n > 0 ? v->clean_adv : -1), "n_attack",
                     (json_int_t)v->n_attack, "pgd",
                     percent_or_null(v->n_attack > 0 ? v->pgd : -1));
}

static int finish(struct job *j)
{
    const struct train_result *r = &j->result;

    TRY(export_branches(j));
    fprintf(cli_out(j->c), "%s: epoch %d of %d kept, last loss %.4f", j->o->out, r->best_epoch + 1,
            r->epochs, r->loss);
    if (r->val.n > 0)
        fprintf(cli_out(j->c), ", validation clean %.2f %% (%lld images)", 100 * r->val.clean,
                (long long)r->val.n);
    if (r->val.n_attack > 0)
        fprintf(cli_out(j->c), ", PGD-%d %.2f %% (%lld images)", (int)j->cfg.val_attack.steps,
                100 * r->val.pgd, (long long)r->val.n_attack);
    fprintf(cli_out(j->c), "\n");
    return cli_json_write(j->c, result_json(j));
}

static int train(struct job *j)
{
    TRY(make_paths(j));
    TRY(make_config(j));
    TRY(model_open_from(j->c, j->c->arg[0], &j->o->source, j->o->normalize, j->o->data, &j->m));
    if (j->m.is_checkpoint)
        return fail(ERR_ARG, "'%s': train starts from an ONNX model; --resume continues a run",
                    j->c->arg[0]);
    TRY(open_data(j));
    TRY(prepare_structure(j));
    TRY(make_config_text(j));
    TRY(run_training(j));
    return finish(j);
}

int cmd_train(int argc, char **argv)
{
    struct options o = {.augment = "none",
                        .epochs = 30,
                        .batch = 128,
                        .lr = 0.05,
                        .momentum = 0.9,
                        .weight_decay = 5e-4,
                        .schedule = 1,
                        .val_attack_images = -1};
    struct cli_common c;
    struct job j = {.c = &c, .o = &o};
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && (!o.data || !o.out))
        rc = fail(ERR_ARG, "give --data SRC and -o Y.onnx");
    if (rc == 0) {
        cli_catch_signals();
        rc = train(&j);
    }
    free(j.config);
    data_close(j.train);
    data_close(j.val);
    model_close(&j.m);
    cli_release(&c);
    return rc;
}
