/*
 * Presets. `paper` is the published schedule (method.md sections 6 to 8). `short` and `quick` are
 * ours: pretrained weights need few epochs, so the rates fall along a cosine, the training attack
 * takes 3 or 2 larger steps instead of 7, the adversarial pass counts 40 % of the loss, and the mask
 * stage is as long as the mask needs to settle.
 */
#include "cli/recipe.h"

const char *recipe_stage_name(enum recipe_stage s)
{
    static const char *const name[STAGE_COUNT] = {"teacher", "mask", "finetune"};

    return name[s];
}

static const char *const kind_name[] = {"rlnet", "senet", "snl"};
static const char *const preset_name[] = {"paper", "short", "quick", "none"};
static const char *const schedule_name[] = {"step", "cosine", "constant"};
static const char *const score_name[] = {"diff0", "actdiff"};
static const char *const augment_name[] = {"none", "augmix", "corruptions"};

static void set_schedules(struct recipe *r)
{
    static const struct recipe_schedule table[][STAGE_COUNT] = {
        [PRESET_PAPER] = {{240, 0.05, OPTIM_STEP},
                          {150, 0.05, OPTIM_CONSTANT},
                          {240, 0.01, OPTIM_STEP}},
        [PRESET_SHORT] = {{20, 0.05, OPTIM_COSINE},
                          {6, 0.02, OPTIM_CONSTANT},
                          {24, 0.05, OPTIM_COSINE}},
        [PRESET_QUICK] = {{5, 0.05, OPTIM_COSINE},
                          {1, 0.05, OPTIM_CONSTANT},
                          {4, 0.05, OPTIM_COSINE}},
        [PRESET_NONE] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}},
    };

    for (int s = 0; s < STAGE_COUNT; s++)
        r->stage[s] = table[r->preset][s];
}

struct recipe recipe_of(enum recipe_kind kind, enum recipe_preset preset)
{
    struct recipe r = {
        .kind = kind,
        .preset = preset,
        .batch = 128,
        .momentum = 0.9,
        .weight_decay = 5e-4,
        .attack = pgd_defaults(7),
        .gamma = 0.5,
        .alpha = 0.5,
        .tau = 4,
        .density = 0.1,
        .smoothing = 0.5,
        .score = SCORE_DIFF0,
        .score_images = 10000,
        .calib_images = 2000,
        .val_attack_images = 500,
    };

    set_schedules(&r);
    if (preset != PRESET_PAPER) {
        r.attack.steps = preset == PRESET_SHORT ? 3 : 2;
        r.attack.alpha = (preset == PRESET_SHORT ? 4.0 : 8.0) / 255;
        r.adversarial_share = 0.4;
    }
    if (preset == PRESET_NONE)
        return r;
    if (kind == RECIPE_RLNET) {
        r.adversarial = true;
        r.augment = TRAIN_AUGMENT_AUGMIX;
    }
    return r;
}

struct train_config recipe_train_config(const struct recipe *r, enum recipe_stage s, uint64_t seed)
{
    struct train_config c = train_defaults();

    c.stage = recipe_stage_name(s);
    c.seed = seed;
    c.epochs = (int32_t)r->stage[s].epochs;
    c.batch = (int32_t)r->batch;
    c.lr = r->stage[s].lr;
    c.schedule = (enum optim_schedule)r->stage[s].schedule;
    c.momentum = r->momentum;
    c.weight_decay = r->weight_decay;
    c.augment = (enum train_augment)r->augment;
    c.adversarial = r->adversarial;
    c.attack = r->attack;
    c.adversarial_share = r->adversarial_share;
    c.gamma = s == STAGE_TEACHER ? 1 : r->gamma;
    c.alpha = s == STAGE_TEACHER ? 0 : r->alpha;
    c.tau = r->tau;
    c.val_attack_limit = r->adversarial ? r->val_attack_images : 0;
    c.checkpoint_seconds = 120;
    return c;
}

static json_t *schedule_json(const struct recipe_schedule *s)
{
    return json_pack("{s:I,s:f,s:s}", "epochs", (json_int_t)s->epochs, "lr", s->lr, "schedule",
                     schedule_name[s->schedule]);
}

json_t *recipe_json(const struct recipe *r)
{
    json_t *stages = json_object();

    for (int s = 0; s < STAGE_COUNT; s++)
        json_object_set_new(stages, recipe_stage_name((enum recipe_stage)s),
                            schedule_json(&r->stage[s]));
    return json_pack(
        "{s:s,s:s,s:o,s:I,s:f,s:f,s:s,s:b,s:f,s:{s:f,s:f,s:i},s:f,s:f,s:f,s:f,s:f,s:s,s:I,s:I}",
        "recipe", kind_name[r->kind], "preset", preset_name[r->preset], "stages", stages, "batch",
        (json_int_t)r->batch, "momentum", r->momentum, "weight-decay", r->weight_decay, "augment",
        augment_name[r->augment], "adversarial", r->adversarial, "adversarial-share",
        r->adversarial_share, "attack", "eps", r->attack.eps, "alpha", r->attack.alpha, "steps",
        (int)r->attack.steps, "gamma", r->gamma, "alpha", r->alpha, "tau", r->tau, "density",
        r->density, "smoothing", r->smoothing, "score", score_name[r->score], "score-images",
        (json_int_t)r->score_images, "calib", (json_int_t)r->calib_images);
}
