/* Options of linearize and sweep; see linearize_options.h. */
#include "pipeline/linearize_options.h"

#include <string.h>

#include "pipeline/precision.h"
#include "core/base/json.h"
#include "pipeline/tasks.h"

#define FIELD(f) offsetof(struct linearize_options, f)
#define MOST_RELUS ((int64_t)1 << 53) /* above that of any network */
#define SCHEDULES "step|cosine|constant|halves"
#define OPTIMIZERS "sgd|adam"

/* clang-format off */
/* The rows that every stage has, */
#define STAGE_ROWS(S, name)                                                                       \
    NUMBER(name "-epochs", 0, OPTION_INT, FIELD(r.stage[S].epochs), "N", "epochs; 0 skips the stage", 0, 1e6), \
    NUMBER(name "-min-steps", 0, OPTION_INT, FIELD(r.stage[S].min_steps), "N",                              \
     "least number of updates: more epochs are run on small data sets", 0, 1e12),               \
    NUMBER(name "-lr", 0, OPTION_REAL, FIELD(r.stage[S].lr), "X", "learning rate", 1e-9, 100),                 \
    NUMBER(name "-warmup", 0, OPTION_REAL, FIELD(r.stage[S].warmup), "N",                                   \
     "warm-up epochs", 0, 1e6),                                                    \
    OPTION(name "-schedule", 0, OPTION_CHOICE, FIELD(r.stage[S].schedule), SCHEDULES,                       \
     "step: x 0.1 at 62.5, 75, 87.5 %; halves: at 50, 75 %"),                                \
    NUMBER(name "-batch", 0, OPTION_INT, FIELD(r.stage[S].batch), "N", "images per update", 2, 65536),       \
    NUMBER(name "-weight-decay", 0, OPTION_REAL, FIELD(r.stage[S].weight_decay), "X",                       \
     "weight decay, of all parameters", 0, 1),                                                                   \
    OPTION(name "-optimizer", 0, OPTION_CHOICE, FIELD(r.stage[S].optimizer), OPTIMIZERS,                    \
     "adam: betas 0.9, 0.999")
/* and those of the two student stages. */
#define STUDENT_ROWS(S, name)                                                                     \
    OPTION(name "-loss", 0, OPTION_CHOICE, FIELD(r.stage[S].loss), RECIPE_LOSS_WORDS,                       \
     "CE: with labels; KL: to the teacher; AT: attention transfer on 1 to 3 domains"),       \
    NUMBER(name "-gamma", 0, OPTION_REAL, FIELD(r.stage[S].gamma), "X", "weight of CE beside KL", 0, 1e3),  \
    NUMBER(name "-alpha", 0, OPTION_REAL, FIELD(r.stage[S].alpha), "X", "weight of KL beside CE", 0, 1e3)
/* clang-format on */

static const struct option_row rows[] = {
    DATA_ROW(DATA_HELP),
    TEST_ROW,
    VAL_ROW,
    IMAGE_ROWS,
    RANDOM_ROW,
    OPTION("relus", 'r', OPTION_TEXT, FIELD(relus), "N|P%",
           "ReLUs to keep: a count, or a share of all such as 10% or 0.1"),
    OPTION("output", 'o', OPTION_FOLDER, FIELD(out), "DIR",
           "folder for the results; created if missing"),
    OPTION("recipe", 0, OPTION_CHOICE, FIELD(r.kind), "linnet|rlnet|senet|snl",
           "method (default linnet; rlnet with the presets paper and none)"),
    OPTION("preset", 0, OPTION_CHOICE, FIELD(r.preset), "paper|short|quick|none",
           "schedule (default short)"),
    OPTION("as-published", 0, OPTION_FLAG, FIELD(r.as_published), NULL,
           "preset paper, with the defects of the published code, to compare with it"),
    OPEN_ROWS,
    PRECISION_ROW(FIELD(r.precision), "auto; the final evaluation is fp32"),
    NORMALIZE_ROW(NORMALIZE_AUTO_HELP),
    OPTION("resume", 0, OPTION_FLAG, FIELD(resume), NULL,
           "continue an interrupted run of the same command"),
    NUMBER("train-limit", 0, OPTION_INT, FIELD(train_limit), "N",
           "train on the first N images only", 1, 1e9),
    OPTION("stages", 0, OPTION_TEXT, FIELD(stages), "S,S",
           "stages to run, of teacher,mask,finetune"),
    OPTION("teacher", 0, OPTION_INPUT, FIELD(teacher), "FILE",
           "start from this trained teacher: .safetensors of linnet or ONNX"),
    OPTION(
        "deploy", 0, OPTION_TEXT, FIELD(r.deploy), "clean|adv|single",
        "which network is deployed: a branch of two (default clean), or one network with one branch for all images"),
    OPTION(
        "logit-teacher", 0, OPTION_INPUT, FIELD(logit_teacher), "FILE",
        "gives the targets of KL in the student's stages; any model with this input and these classes"),
    OPTION("clean-teacher", 0, OPTION_INPUT, FIELD(clean_teacher), "FILE",
           "the same for clean and augmented images alone"),
    OPTION("extra", 0, OPTION_SOURCE, FIELD(extra), "SRC",
           "labelled images that are trained on beside those of --data, generated ones say"),
    NUMBER("extra-share", 0, OPTION_REAL, FIELD(r.extra_share), "X",
           "--extra: their part of each batch (default 0.3)", 0.001, 0.999),
    OPTION(
        "masks", 0, OPTION_INPUT, FIELD(masks), "FILE",
        "take the masks of an ONNX file, a checkpoint, or a .safetensors file with one tensor per ReLU"),
    OPTION("layer-budgets", 0, OPTION_INPUT, FIELD(budgets), "FILE",
           "JSON list or object: ReLUs (3000), shares (0.05) or strings (\"5%\") per layer"),
    NUMBER("empty-cheapest", 0, OPTION_INT, FIELD(empty_cheapest), "N",
           "no ReLU in the N least sensitive layers", 0, 1e6),
    STAGE_ROWS(STAGE_TEACHER, "teacher"),
    STAGE_ROWS(STAGE_MASK, "mask"),
    STUDENT_ROWS(STAGE_MASK, "mask"),
    STAGE_ROWS(STAGE_FINETUNE, "finetune"),
    STUDENT_ROWS(STAGE_FINETUNE, "finetune"),
    NUMBER("batch", 0, OPTION_INT, FIELD(all_batch), "N", "images per update, in all stages", 2,
           65536),
    BN_SHARDS_ROW(FIELD(r.bn_shards)),
    NUMBER("weight-decay", 0, OPTION_REAL, FIELD(all_weight_decay), "X", "in all stages", 0, 1),
    NUMBER("gamma", 0, OPTION_REAL, FIELD(all_gamma), "X", "weight of CE in both student stages", 0,
           1e3),
    NUMBER("alpha", 0, OPTION_REAL, FIELD(all_alpha), "X", "weight of KL in both student stages", 0,
           1e3),
    NUMBER("beta", 0, OPTION_REAL, FIELD(r.beta), "X",
           "weight of attention transfer (default 1000)", 0, 1e9),
    NUMBER("tau", 0, OPTION_REAL, FIELD(r.tau), "X", "temperature of the distillation (default 4)",
           1e-3, 1e3),
    NUMBER("label-smoothing", 0, OPTION_REAL, FIELD(r.label_smoothing), "X",
           "share of a label's weight in CE that goes to all classes alike", 0, 0.999),
    NUMBER(
        "trades", 0, OPTION_REAL, FIELD(r.trades), "X",
        "weight of the divergence between an image's logits before and after the attack, which then maximises it",
        0, 1e3),
    OPTION(
        "ema", 0, OPTION_FLAG, FIELD(r.ema), NULL,
        "teacher and finetune: keep a moving average of the weights, its batch norm estimated anew"),
    NUMBER("momentum", 0, OPTION_REAL, FIELD(r.momentum), "X", "of SGD (default 0.9)", 0, 1),
    OPTION("augment", 0, OPTION_TEXT, FIELD(r.augment), "augmix|corruptions[:T,..]|none",
           "also train on augmented images"),
    OPTION("aligned", 0, OPTION_FLAG, FIELD(r.aligned), NULL,
           "use the same crop and flip for the clean and the augmented image"),
    OPTION(
        "adversarial", 0, OPTION_CHOICE, FIELD(r.adversarial), "off|on",
        "adversarial domain with its own batch norm (linnet, rlnet: on, but with the preset none)"),
    NUMBER("attack-steps", 0, OPTION_INT, FIELD(r.attack_steps), "N", "PGD steps in training", 1,
           1000),
    NUMBER("attack-alpha", 0, OPTION_REAL, FIELD(r.attack_alpha), "X",
           "PGD step size in training, 4/255 say", 0, 1),
    NUMBER("attack-eps", 0, OPTION_REAL, FIELD(r.attack_eps), "X",
           "PGD radius in training (default 8/255); not for the student of --deploy single", 0, 1),
    NUMBER("adversarial-share", 0, OPTION_REAL, FIELD(r.adversarial_share), "X",
           "weight of the adversarial pass in the loss; 0: the same as the other passes", 0, 1),
    NUMBER(
        "single-share", 0, OPTION_REAL, FIELD(r.single_share), "X",
        "--adversarial-share of the student of --deploy single (default 1: finetune on attacked images alone)",
        0, 1),
    NUMBER("single-eps", 0, OPTION_REAL, FIELD(r.single_eps), "X",
           "PGD radius for the student of --deploy single (default 6/255)", 0, 1),
    NUMBER("density", 0, OPTION_REAL, FIELD(r.density), "X",
           "share of weights kept while layer sensitivity is measured (default 0.1)", 1e-6, 1),
    OPTION("removed", 0, OPTION_CHOICE, FIELD(r.removed), REMOVED_WORDS,
           "what a removed ReLU becomes: z, z/2 + b, or s z + b with s and b per channel"),
    OPTION("publish-slopes", 0, OPTION_FLAG, FIELD(publish_slopes), NULL,
           "--removed line: allow the slopes in model.pi, which is public"),
    OPTION(
        "score", 0, OPTION_CHOICE, FIELD(r.score), "diff0|actdiff|taylor|residual",
        "score of a position; linnet: residual, which shares the budget among layers; others: diff0 (taylor: experimental)"),
    OPTION("first-mask", 0, OPTION_CHOICE, FIELD(r.first), "diff0|random",
           "masks of the first epoch; random: not with the score residual"),
    NUMBER("score-images", 0, OPTION_INT, FIELD(r.score_images), "N",
           "images for the first masks (default 10000); residual: for every choice", 1, 1e9),
    NUMBER("smoothing", 0, OPTION_REAL, FIELD(r.smoothing), "X",
           "share of the old score that is kept in each epoch; not with residual", 0, 1),
    OPTION(
        "freeze", 0, OPTION_CHOICE, FIELD(r.freeze), "nhd|turnover|none",
        "what freezes the masks: normalised Hamming distance, or the share replaced; residual: not before its last choice"),
    NUMBER("freeze-below", 0, OPTION_REAL, FIELD(r.freeze_below), "X",
           "threshold of that rule (default 0.05)", 0, 1),
    NUMBER("freeze-epoch", 0, OPTION_INT, FIELD(r.freeze_epoch), "N",
           "masks are frozen after N epochs at the latest (default 0: by the rule alone)", 0, 1e6),
    NUMBER("lambda", 0, OPTION_REAL, FIELD(r.lambda), "X", "snl: first weight of the L1 penalty", 0,
           1e3),
    OPTION(
        "mask-rule", 0, OPTION_CHOICE, FIELD(r.soft_rule), "penalty|plan",
        "snl: what drives masks to 0: the published L1 penalty, or an upper bound on their mean that falls to the budget"),
    NUMBER(
        "mask-travel", 0, OPTION_REAL, FIELD(r.mask_travel), "X",
        "snl: learning rate of the masks, as the distance that a mask can travel in the stage (1: from 1 to 0); 0: as published, that of the weights",
        0, 1e6),
    NUMBER("lambda-factor", 0, OPTION_REAL, FIELD(r.factor), "X",
           "snl: factor by which lambda rises", 1, 1e3),
    NUMBER("lambda-epoch", 0, OPTION_INT, FIELD(r.patience), "N",
           "snl: first epoch that may raise it", 0, 1e6),
    NUMBER("mask-threshold", 0, OPTION_REAL, FIELD(r.threshold), "X",
           "snl: soft masks above it count as ReLUs (default 0.01)", 0, 1),
    OPTION("select", 0, OPTION_CHOICE, FIELD(r.select), "last|clean|pgd|mean",
           "epoch of teacher and finetune to keep, by validation"),
    NUMBER(
        "calib", 0, OPTION_INT, FIELD(r.calib_images), "N",
        "calibration images: for batch norm that is put back, --removed half|line, fixed point (default 2000)",
        1, 1e9),
    NUMBER("val-attack-images", 0, OPTION_INT, FIELD(r.val_attack_images), "N",
           "validation images that are attacked (default 500)", 0, 1e9),
    NUMBER("eval-attack-images", 0, OPTION_INT, FIELD(eval_attack_images), "N",
           "test images attacked in the final evaluation (default 2000)", 0, 1e9),
    NUMBER(
        "eval-autoattack-images", 0, OPTION_INT, FIELD(eval_autoattack_images), "N",
        "test images under AutoAttack (fast) of the deployed file (default 200, at most those under PGD)",
        0, 1e9),
    NUMBER("eval-corrupt-images", 0, OPTION_INT, FIELD(eval_corrupt_images), "N",
           "test images corrupted in the final evaluation (default 1000)", 0, 1e9),
    NUMBER("require-clean", 0, OPTION_REAL, FIELD(require_clean), "P",
           "exit 6 if the result is less than P per cent accurate", 0, 100),
    NUMBER("max-relus", 0, OPTION_INT, FIELD(max_relus), "N",
           "exit 6 if more than N ReLUs are kept", 0, 1e12),
    OPTION_END};

static const struct linearize_options defaults = {0}; /* the recipe decides; see below */
const struct task linearize_task = {"linearize", rows, &defaults, sizeof defaults, NULL, true};
const struct task sweep_task = {"sweep", rows, &defaults, sizeof defaults, NULL, true};

/* ---- reading ------------------------------------------------------------------------------- */

static void set_defaults(struct linearize_options *o, enum recipe_kind kind,
                         enum recipe_preset preset)
{
    *o = (struct linearize_options){.eval_attack_images = 2000,
                                    .eval_corrupt_images = 1000,
                                    .eval_autoattack_images = -1,
                                    .max_relus = -1,
                                    .all_batch = -1,
                                    .all_weight_decay = -1,
                                    .all_gamma = -1,
                                    .all_alpha = -1,
                                    .r = recipe_of(kind, preset)};
}

/* Whoever names epochs means them: a preset's min_steps does not raise them. */
static void respect_epochs(struct recipe *r, const struct linearize_options *given)
{
    for (int s = 0; s < STAGE_COUNT; s++)
        if (given->r.stage[s].epochs >= 0)
            r->stage[s].min_steps = 0;
}

/* What the short forms say, before a stage's own options are read over it. */
static void spread(struct recipe *r, const struct linearize_options *given)
{
    for (int s = 0; s < STAGE_COUNT; s++) {
        struct recipe_stage_settings *x = &r->stage[s];

        x->batch = given->all_batch > 0 ? given->all_batch : x->batch;
        x->weight_decay = given->all_weight_decay >= 0 ? given->all_weight_decay : x->weight_decay;
        x->gamma = given->all_gamma >= 0 ? given->all_gamma : x->gamma;
        x->alpha = given->all_alpha >= 0 ? given->all_alpha : x->alpha;
    }
}

/* Stages that --stages does not name are left out. */
static int choose_stages(struct linearize_options *o)
{
    bool named[STAGE_COUNT] = {false};

    for (const char *word = o->stages; word != NULL;) {
        const size_t n = strcspn(word, ",");
        int s = 0;

        while (s < STAGE_COUNT && (strlen(recipe_stage_name((enum recipe_stage)s)) != n ||
                                   memcmp(recipe_stage_name((enum recipe_stage)s), word, n) != 0))
            s++;
        if (s == STAGE_COUNT)
            return fail(ERR_ARG, "--stages: '%.*s' is not one of teacher, mask, finetune", (int)n,
                        word);
        if (o->r.stage[s].epochs == 0)
            return fail(ERR_ARG, "--stages names '%.*s', but it has no epochs; give --%.*s-epochs",
                        (int)n, word, (int)n, word);
        named[s] = true;
        word = word[n] == ',' ? word + n + 1 : NULL;
    }
    if (o->teacher && named[STAGE_TEACHER])
        return fail(ERR_ARG, "--teacher replaces the stage 'teacher' that --stages names");
    for (int s = 0; s < STAGE_COUNT; s++)
        if (o->stages && !named[s])
            o->r.stage[s].epochs = 0;
    if (o->teacher)
        o->r.stage[STAGE_TEACHER].epochs = 0;
    if (o->masks && !o->stages) /* they are chosen already */
        o->r.stage[STAGE_MASK].epochs = 0;
    return 0;
}

int linearize_check_relus(const char *text)
{
    int64_t any;

    return budget_parse(text, MOST_RELUS, &any);
}

/* Of every stage: the last one's batch shows before the first one's hours. */
static int check_shards(const struct recipe *r)
{
    struct train_config c;

    TRY(recipe_check_shards(r->bn_shards));
    for (int s = 0; s < STAGE_COUNT; s++) {
        TRY(recipe_train_config(r, (enum recipe_stage)s, 0, 1, &c));
        if (r->stage[s].epochs > 0)
            TRY(train_check_shards(&c, c.precision));
    }
    return 0;
}

static int check(const struct linearize_options *o)
{
    enum train_augment augment;
    const char *list;

    TRY(recipe_augment(o->r.augment, &augment, &list));
    TRY(check_shards(&o->r));
    TRY(recipe_check_published(&o->r));
    if (o->deploy != DEPLOY_CLEAN && !o->r.adversarial)
        return fail(ERR_ARG,
                    "--deploy %s: needs adversarial training, as --recipe linnet and rlnet have it",
                    o->r.deploy);
    if (o->r.trades > 0 && !o->r.adversarial)
        return fail(ERR_ARG,
                    "--trades: needs adversarial training, as --recipe linnet and rlnet have it");
    if (o->masks && o->budgets)
        return fail(ERR_ARG, "--masks and --layer-budgets both say how many ReLUs a layer keeps");
    if (o->r.score == SCORE_RESIDUAL && o->r.first == FIRST_RANDOM)
        return fail(
            ERR_ARG,
            "--first-mask random: the score residual, which recipe linnet has by default, makes first masks of its own, of more ReLUs than the budget. Hint: leave --first-mask out, or take --score diff0");
    if (o->r.kind == RECIPE_SNL && o->budgets)
        return fail(ERR_ARG, "--layer-budgets: recipe snl has no budgets per layer");
    if (o->r.kind == RECIPE_SNL && !o->masks && o->r.removed != REMOVED_IDENTITY)
        return fail(
            ERR_ARG,
            "--removed %s: recipe snl learns its masks beside the identity. Hint: take --recipe linnet, rlnet or senet, or give --masks FILE",
            removed_name((enum removed_kind)o->r.removed));
    if (o->r.kind == RECIPE_SNL && o->empty_cheapest > 0)
        return fail(ERR_ARG, "--empty-cheapest: recipe snl has no budgets per layer");
    return 0;
}

int linearize_options_read(const struct linnet_options *o, struct linearize_options *out)
{
    struct linearize_options given;

    set_defaults(&given, RECIPE_LINNET, PRESET_SHORT);
    given.r.kind = -1; /* none named */
    for (int s = 0; s < STAGE_COUNT; s++)
        given.r.stage[s].epochs = -1;
    TRY(options_fill(o, &given));
    if (given.r.kind < 0)
        given.r.kind = (int32_t)recipe_default((enum recipe_preset)given.r.preset);
    set_defaults(out, (enum recipe_kind)given.r.kind, (enum recipe_preset)given.r.preset);
    if (given.r.as_published)
        recipe_as_published(&out->r);
    spread(&out->r, &given);
    respect_epochs(&out->r, &given);
    TRY(options_fill(o, out));
    if (!out->open.data || !out->out)
        return fail(ERR_ARG, "give --data SRC and -o DIR");
    TRY(choose_stages(out));
    TRY(recipe_deploy(out->r.deploy, &out->deploy));
    return check(out);
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Word number `index` of "a|b|c". */
static json_t *word_json(const char *words, int32_t index)
{
    while (index-- > 0)
        words += strcspn(words, "|") + 1;
    return json_stringn(words, strcspn(words, "|"));
}

static json_t *value_json(const struct option_row *r, const void *field)
{
    switch (r->kind) {
    case OPTION_FLAG:
        return json_boolean(*(const bool *)field);
    case OPTION_INT:
        return json_integer(*(const int64_t *)field);
    case OPTION_REAL:
        return json_real(*(const double *)field);
    case OPTION_TEXT:
    case OPTION_INPUT:
    case OPTION_SOURCE:
    case OPTION_OUTPUT:
    case OPTION_FOLDER:
        return json_string(*(const char *const *)field);
    case OPTION_CHOICE:
        return word_json(r->is.value, *(const int32_t *)field);
    case OPTION_TEXTS:
        break;
    }
    return json_null();
}

/* An option that came later is named only where it is on, so that older states can be continued. */
static bool is_named(const struct recipe *r, size_t offset)
{
    return offset != FIELD(r.bn_shards) || r->bn_shards > 1;
}

json_t *linearize_recipe_json(const struct recipe *r)
{
    const size_t first = FIELD(r), last = first + sizeof *r;
    json_t *root = json_object();

    for (const struct option_row *o = rows; root && o->is.name != NULL; o++)
        if (o->offset >= first && o->offset < last && is_named(r, o->offset))
            json_put(&root, o->is.name, value_json(o, (const char *)r + (o->offset - first)));
    return root;
}
