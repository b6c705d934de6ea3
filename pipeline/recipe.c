/*
 * Recipes and presets.
 *
 * `paper` is the published schedule (METHOD.md). `short` and `quick` are ours:
 * pretrained weights need few epochs, so the rates fall along a cosine, the training attack takes 3
 * or 2 larger steps instead of 7, the adversarial pass counts 40 % of the loss, and the mask stage is
 * as long as the mask needs to settle. Right after a cut a full rate throws the weights far away in
 * the first updates, and few epochs do not bring them back: the student's rates rise over half an
 * epoch. Epochs are meant for some 50,000 images; with fewer, min_steps keeps the updates up.
 */
#include "core/base/ranks.h"
#include "pipeline/precision.h"
#include "pipeline/recipe.h"

#include <string.h>

#define EMA 0.999 /* of the weights, after each update; the trainer begins with less */

const char *recipe_stage_name(enum recipe_stage s)
{
    static const char *const name[STAGE_COUNT] = {"teacher", "mask", "finetune"};

    return name[s];
}

const char *recipe_kind_name(int32_t kind)
{
    static const char *const name[] = {"linnet", "rlnet", "senet", "snl"};

    return name[kind];
}

struct schedule { /* a row of the tables below; PRESET_NONE has none: no epochs */
    int64_t epochs;
    double lr;
    int32_t schedule;
    double warmup;
    int64_t min_steps;
};

/* rlnet, senet and linnet differ in domains, losses and scores, not in their schedules. */
static const struct schedule linear_table[PRESET_NONE + 1][STAGE_COUNT] = {
    [PRESET_PAPER] = {{240, 0.05, OPTIM_STEP, 0, 0},
                      {150, 0.05, OPTIM_CONSTANT, 0, 0},
                      {240, 0.01, OPTIM_STEP, 0, 0}},
    [PRESET_SHORT] = {{20, 0.05, OPTIM_COSINE, 0, 0},
                      {6, 0.02, OPTIM_CONSTANT, 0.5, 0},
                      {24, 0.05, OPTIM_COSINE, 0.5, 0}},
    [PRESET_QUICK] = {{5, 0.05, OPTIM_COSINE, 0, 0},
                      {1, 0.05, OPTIM_CONSTANT, 0.5, 0},
                      {4, 0.05, OPTIM_COSINE, 0.5, 700}},
};
/* snl: the mask stage ends by itself when the budget is reached; its epochs are the most. An update
 * moves a mask by some lr at most, so it takes a thousand of them to get from 1 to 0. */
static const struct schedule snl_table[PRESET_NONE + 1][STAGE_COUNT] = {
    [PRESET_PAPER] = {{160, 0.1, OPTIM_HALVES, 0, 0},
                      {2000, 1e-3, OPTIM_CONSTANT, 0, 0},
                      {100, 1e-3, OPTIM_COSINE, 0, 0}},
    [PRESET_SHORT] = {{20, 0.05, OPTIM_COSINE, 0, 0},
                      {16, 1e-3, OPTIM_CONSTANT, 0, 3000},
                      {24, 0.05, OPTIM_COSINE, 0.5, 0}},
    [PRESET_QUICK] = {{5, 0.05, OPTIM_COSINE, 0, 0},
                      {6, 1e-3, OPTIM_CONSTANT, 0, 2000},
                      {4, 0.05, OPTIM_COSINE, 0.5, 700}},
};

static void set_stages(struct recipe *r)
{
    const struct schedule *row =
        r->kind == RECIPE_SNL ? snl_table[r->preset] : linear_table[r->preset];

    for (int s = 0; s < STAGE_COUNT; s++)
        r->stage[s] = (struct recipe_stage_settings){.epochs = row[s].epochs,
                                                     .batch = 128,
                                                     .min_steps = row[s].min_steps,
                                                     .lr = row[s].lr,
                                                     .warmup = row[s].warmup,
                                                     .weight_decay = 5e-4,
                                                     .schedule = row[s].schedule,
                                                     .optimizer = OPTIM_SGD,
                                                     .loss = LOSS_KL_CE,
                                                     .gamma = 0.5,
                                                     .alpha = 0.5};
}

static void set_rlnet(struct recipe *r)
{
    r->adversarial = r->preset != PRESET_NONE;
    r->augment = r->adversarial ? "augmix" : "none";
    if (r->preset == PRESET_PAPER)
        r->stage[STAGE_FINETUNE].loss = LOSS_KL_AT2_CE;
}

/* Trained as rlnet is; the ReLUs that stay, and how many of a layer, are chosen by what the logits lose. */
static void set_linnet(struct recipe *r)
{
    set_rlnet(r);
    r->score = SCORE_RESIDUAL;
}

static void set_senet(struct recipe *r)
{
    if (r->preset != PRESET_PAPER)
        return;
    r->stage[STAGE_FINETUNE].loss = LOSS_KL_AT_CE;
    r->stage[STAGE_FINETUNE].gamma = 0.1;
}

static void set_snl(struct recipe *r)
{
    r->stage[STAGE_MASK].optimizer = OPTIM_ADAM;
    r->stage[STAGE_MASK].weight_decay = 0;
    for (int s = STAGE_MASK; s <= STAGE_FINETUNE; s++)
        r->stage[s].gamma = r->stage[s].alpha = 1;
    if (r->preset == PRESET_PAPER) {
        r->stage[STAGE_TEACHER].batch = 256;
        return;
    }
    r->soft_rule = SOFT_PLAN;
    r->mask_travel = 100;
    r->stage[STAGE_MASK].schedule = OPTIM_COSINE;
}

struct recipe recipe_of(enum recipe_kind kind, enum recipe_preset preset)
{
    const struct soft_params soft = soft_defaults();
    struct recipe r = {
        .kind = (int32_t)kind,
        .preset = (int32_t)preset,
        .momentum = 0.9,
        .augment = "none",
        .attack_eps = 8.0 / 255,
        .attack_alpha = 2.0 / 255,
        .attack_steps = 7,
        .deploy = "clean",
        .single_share = 1,
        .single_eps = 6.0 / 255,
        .extra_share = 0.3,
        .beta = 1000,
        .tau = 4,
        .bn_shards = 1,
        .density = 0.1,
        .smoothing = 0.5,
        .removed = REMOVED_IDENTITY,
        .score = SCORE_DIFF0,
        .first = FIRST_DIFF0,
        .score_images = 10000,
        .freeze = FREEZE_NHD,
        .freeze_below = 0.05,
        .lambda = soft.lambda,
        .factor = soft.factor,
        .patience = soft.patience,
        .threshold = soft.threshold,
        .select = TRAIN_SELECT_CLEAN,
        .calib_images = 2000,
        .val_attack_images = 500,
    };

    set_stages(&r);
    if (preset != PRESET_PAPER) {
        r.attack_steps = preset == PRESET_SHORT ? 3 : 2;
        r.attack_alpha = (preset == PRESET_SHORT ? 4.0 : 8.0) / 255;
        r.adversarial_share = 0.4;
        r.freeze = FREEZE_TURNOVER;
        r.select = TRAIN_SELECT_LAST;
    }
    if (kind == RECIPE_RLNET)
        set_rlnet(&r);
    else if (kind == RECIPE_LINNET)
        set_linnet(&r);
    else if (kind == RECIPE_SENET)
        set_senet(&r);
    else
        set_snl(&r);
    return r;
}

enum recipe_kind recipe_default(enum recipe_preset preset)
{
    return preset == PRESET_SHORT || preset == PRESET_QUICK ? RECIPE_LINNET : RECIPE_RLNET;
}

void recipe_as_published(struct recipe *r)
{
    r->as_published = true;
    r->score = SCORE_ACTDIFF;
    r->first = FIRST_RANDOM;
    r->freeze = FREEZE_NONE;
    r->smoothing = 0;
}

int recipe_check_published(const struct recipe *r)
{
    if (!r->as_published)
        return 0;
    if (r->kind != RECIPE_RLNET || r->preset != PRESET_PAPER)
        return fail(ERR_ARG, "--as-published: belongs to --recipe rlnet --preset paper");
    if (strcmp(r->deploy, "clean") != 0)
        return fail(
            ERR_ARG,
            "--as-published: the reference deploys its clean branch; leave --deploy out, or leave it out");
    if (r->removed != REMOVED_IDENTITY)
        return fail(
            ERR_ARG,
            "--as-published: the reference's removed ReLUs are the identity; leave --removed out, or leave it out");
    if (r->score != SCORE_ACTDIFF || r->first != FIRST_RANDOM || r->freeze != FREEZE_NONE ||
        r->freeze_epoch > 0 || r->smoothing > 0)
        return fail(
            ERR_ARG,
            "--as-published: sets --score, --first-mask, --freeze, --freeze-epoch and --smoothing itself; leave them out, or leave it out");
    return 0;
}

int recipe_check_shards(int64_t shards)
{
    const int ranks = ranks_count();

    if (EXEC_SHARDS_MOST % shards != 0)
        return fail(
            ERR_ARG,
            "--bn-shards %lld: must divide the %d blocks that a batch is cut into. Hint: take 1, 2, 4, 8 or 16",
            (long long)shards, EXEC_SHARDS_MOST);
    if (shards == 1 || shards % ranks == 0)
        return 0;
    if (EXEC_SHARDS_MOST % ranks != 0)
        return fail(
            ERR_ARG,
            "--bn-shards %lld with %d ranks: a shard must lie in one rank, so the ranks divide the shards. Hint: start 1, 2, 4, 8 or 16 ranks",
            (long long)shards, ranks);
    return fail(
        ERR_ARG,
        "--bn-shards %lld with %d ranks: a shard must lie in one rank, so the ranks divide the shards. Hint: --bn-shards %d, or fewer ranks",
        (long long)shards, ranks, ranks);
}

int recipe_augment(const char *text, enum train_augment *augment, const char **list)
{
    static const char corruptions[] = "corruptions";
    const size_t n = sizeof corruptions - 1;

    *list = NULL;
    *augment = TRAIN_AUGMENT_NONE;
    if (strcmp(text, "none") == 0)
        return 0;
    *augment = TRAIN_AUGMENT_AUGMIX;
    if (strcmp(text, "augmix") == 0)
        return 0;
    *augment = TRAIN_AUGMENT_CORRUPT;
    if (strncmp(text, corruptions, n) != 0 || (text[n] != ':' && text[n] != '\0'))
        return fail(ERR_ARG, "--augment %s: is none, augmix, corruptions or corruptions:T,T", text);
    *list = text[n] == ':' ? text + n + 1 : NULL;
    return 0;
}

int recipe_deploy(const char *text, int32_t *deploy)
{
    for (*deploy = 0; *deploy < DEPLOYS; ++*deploy)
        if (strcmp(text, model_deploy_name(*deploy)) == 0)
            return 0;
    return fail(ERR_ARG, "--deploy %s: is clean, adv or single", text);
}

int64_t recipe_epochs(const struct recipe *r, enum recipe_stage s, int64_t images)
{
    const struct recipe_stage_settings *x = &r->stage[s];
    const int64_t steps = images / x->batch > 0 ? images / x->batch : 1;
    const int64_t needed = (x->min_steps + steps - 1) / steps;

    return x->epochs > 0 && needed > x->epochs ? needed : x->epochs;
}

/* ---- losses -------------------------------------------------------------------------------- */

static const struct {
    bool ce, kl;
    int32_t at; /* domains with attention transfer */
} loss_terms[] = {
    [LOSS_PGD_AT] = {true, false, 0},   [LOSS_KL] = {false, true, 0},
    [LOSS_KL_CE] = {true, true, 0},     [LOSS_KL_AT] = {false, true, 1},
    [LOSS_KL_AT2] = {false, true, 2},   [LOSS_KL_AT3] = {false, true, 3},
    [LOSS_KL_AT_CE] = {true, true, 1},  [LOSS_KL_AT2_CE] = {true, true, 2},
    [LOSS_KL_AT3_CE] = {true, true, 3},
};

static void set_loss(const struct recipe *r, enum recipe_stage s, struct train_config *c)
{
    const struct recipe_stage_settings *x = &r->stage[s];
    const int32_t loss = s == STAGE_TEACHER ? LOSS_PGD_AT : x->loss;
    const bool both = loss_terms[loss].ce && loss_terms[loss].kl;

    c->gamma = !loss_terms[loss].ce ? 0 : both ? x->gamma : 1;
    c->alpha = !loss_terms[loss].kl ? 0 : both ? x->alpha : 1;
    c->tau = r->tau;
    c->beta = loss_terms[loss].at > 0 ? r->beta : 0;
    c->at_domains = loss_terms[loss].at > 0 ? loss_terms[loss].at : 1;
}

/* The masks' rate is given by how far they can travel, so that it fits a stage of any length. */
static void set_soft(const struct recipe *r, int64_t images, struct train_config *c)
{
    const int64_t per_epoch = images / c->batch > 0 ? images / c->batch : 1;
    const double rate = r->mask_travel / ((double)per_epoch * c->epochs * c->lr);

    c->soft = (struct soft_params){.on = true,
                                   .rule = (enum soft_rule)r->soft_rule,
                                   .rate = r->mask_travel > 0 ? rate : 1,
                                   .lambda = r->lambda,
                                   .factor = r->factor,
                                   .threshold = r->threshold,
                                   .patience = r->patience};
}

static bool is_single(const struct recipe *r, enum recipe_stage s)
{
    return s != STAGE_TEACHER && strcmp(r->deploy, "single") == 0;
}

double recipe_eps(const struct recipe *r, enum recipe_stage s)
{
    return is_single(r, s) ? r->single_eps : r->attack_eps;
}

static void set_attack(const struct recipe *r, enum recipe_stage s, struct pgd_params *p)
{
    p->eps = recipe_eps(r, s);
    p->alpha = r->attack_alpha;
    p->steps = (int32_t)r->attack_steps;
    if (is_single(r, s) && r->attack_eps > 0) /* a step keeps its share of the radius */
        p->alpha *= p->eps / r->attack_eps;
}

bool recipe_attacked_alone(const struct recipe *r, enum recipe_stage s)
{
    if (!is_single(r, s) || s != STAGE_FINETUNE || r->single_share < 1)
        return false;
    return loss_terms[r->stage[s].loss].at == 0 || r->beta <= 0;
}

int recipe_train_config(const struct recipe *r, enum recipe_stage s, uint64_t seed, int64_t images,
                        struct train_config *out)
{
    const struct recipe_stage_settings *x = &r->stage[s];
    struct train_config c = train_defaults();

    c.stage = recipe_stage_name(s);
    c.seed = seed;
    c.precision = precision_of(r->precision, true);
    c.epochs = (int32_t)recipe_epochs(r, s, images);
    c.batch = (int32_t)x->batch;
    c.lr = x->lr;
    c.warmup_epochs = x->warmup < (double)c.epochs ? x->warmup : (double)c.epochs;
    c.schedule = (enum optim_schedule)x->schedule;
    c.optimizer = (enum optim_kind)x->optimizer;
    c.momentum = r->momentum;
    c.weight_decay = x->weight_decay;
    TRY(recipe_augment(r->augment, &c.augment, &c.corruptions));
    c.aligned = r->aligned;
    c.adversarial = r->adversarial;
    set_attack(r, s, &c.attack);
    c.adversarial_share = is_single(r, s) ? r->single_share : r->adversarial_share;
    set_loss(r, s, &c);
    if (recipe_attacked_alone(r, s)) {
        c.clean = false;
        c.augment = TRAIN_AUGMENT_NONE;
    }
    c.label_smoothing = r->label_smoothing;
    c.bn_shards = (int32_t)r->bn_shards;
    c.trades = r->adversarial ? r->trades : 0;
    c.ema = r->ema && s != STAGE_MASK ? EMA : 0;
    c.select = s == STAGE_MASK ? TRAIN_SELECT_LAST : (enum train_select)r->select;
    c.val_attack_limit = r->adversarial ? r->val_attack_images : 0;
    c.checkpoint_seconds = 120;
    if (r->kind == RECIPE_SNL && s == STAGE_MASK)
        set_soft(r, images, &c);
    *out = c;
    return 0;
}
