#ifndef PIPELINE_RECIPE_H
#define PIPELINE_RECIPE_H
/*
 * The settings of the tasks "linearize" and "sweep": recipes, presets, and what they make of the
 * trainer. A preset is a full set of numbers; it knows nothing of the model's name or size. Members
 * are of the types that options.h writes, so that an option's row points at one.
 */
#include "linearizer/linearizer.h"
#include "pipeline/model.h"
#include "trainer/train/trainer.h"

enum recipe_kind { RECIPE_LINNET, RECIPE_RLNET, RECIPE_SENET, RECIPE_SNL };
enum recipe_preset { PRESET_PAPER, PRESET_SHORT, PRESET_QUICK, PRESET_NONE };
enum recipe_stage { STAGE_TEACHER, STAGE_MASK, STAGE_FINETUNE, STAGE_COUNT };
enum recipe_freeze { FREEZE_NHD, FREEZE_TURNOVER, FREEZE_NONE };
enum recipe_first { FIRST_DIFF0, FIRST_RANDOM };
/* kl+at+ce is SENet's, with beta on the clean domain alone. */
enum recipe_loss {
    LOSS_PGD_AT,
    LOSS_KL,
    LOSS_KL_CE,
    LOSS_KL_AT,
    LOSS_KL_AT2,
    LOSS_KL_AT3,
    LOSS_KL_AT_CE,
    LOSS_KL_AT2_CE,
    LOSS_KL_AT3_CE,
};
#define RECIPE_LOSS_WORDS "pgd-at|kl|kl+ce|kl+at|kl+at2|kl+at3|kl+at+ce|kl+at2+ce|kl+at3+ce"

struct recipe_stage_settings {
    int64_t epochs, batch; /* epochs 0: the stage is left out */
    int64_t min_steps;     /* more epochs where the data set is so small that these are fewer */
    double lr, weight_decay;
    double warmup;               /* epochs in which the rate rises */
    int32_t schedule, optimizer; /* enum optim_schedule, enum optim_kind */
    int32_t loss;                /* enum recipe_loss; the teacher's is the cross-entropy */
    double gamma, alpha;         /* weights of CE and KL in the losses that have both */
};
struct recipe {
    int32_t kind, preset; /* enum recipe_kind, enum recipe_preset */
    bool as_published;    /* with the reference's defects (linearizer/published.h) */
    struct recipe_stage_settings stage[STAGE_COUNT];
    double momentum;
    int32_t precision;   /* enum precision_choice, of training */
    const char *augment; /* none, augmix, corruptions[:T,T] */
    bool aligned;        /* clean and augmented image share the crop */
    int32_t adversarial; /* 1: third domain, second batch-norm branch */
    double attack_eps, attack_alpha;
    int64_t attack_steps;
    double adversarial_share; /* of the loss; 0: as much as each other pass */
    double single_share;      /* the same for the student of --deploy single */
    double single_eps;        /* radius of the attack on it; the steps shrink alike */
    double label_smoothing;   /* of CE, in all stages */
    int64_t bn_shards;        /* parts of a pass for batch norm (exec.h) */
    double trades;        /* weight of the divergence between clean and attacked images; 0: none */
    bool ema;             /* teacher and fine-tuned network: a moving average of the weights */
    double extra_share;   /* of a batch, where there are extra images */
    const char *deploy;   /* word of enum model_deploy */
    double beta, tau;     /* weight of attention transfer; temperature of KL */
    double density;       /* proxy density of the sensitivity measure */
    double smoothing;     /* rho: score = rho score + (1 - rho) this epoch's */
    int32_t removed;      /* enum removed_kind: what a removed ReLU becomes */
    int32_t score, first; /* enum score_kind, enum recipe_first */
    int64_t score_images; /* for the first masks; residual: for every choice */
    int32_t freeze;       /* enum recipe_freeze */
    double freeze_below;
    int64_t freeze_epoch; /* 0: by the rule alone */
    int32_t soft_rule;    /* snl: enum soft_rule */
    double mask_travel;   /* rate of the masks: way that one could go in the stage at the full rate,
                            * 1 is from 1 to 0; 0: the rate of the weights, as published */
    double lambda, factor; /* weight of the L1 penalty, what moves it */
    int64_t patience;
    double threshold;
    int32_t select;       /* enum train_select, of the teacher and the fine-tuned network */
    int64_t calib_images; /* for batch-norm re-insertion, lines and fixed point */
    int64_t val_attack_images;
};
const char *recipe_stage_name(enum recipe_stage s);
const char *recipe_kind_name(int32_t kind);
struct recipe recipe_of(enum recipe_kind kind, enum recipe_preset preset);
/* The recipe where none is named: ours for the short schedules, rlnet where the preset is the published one or
 * removes ReLUs without training (identities at 50 %: the score is behind there, trainer/RESULTS.md). */
enum recipe_kind recipe_default(enum recipe_preset preset);
/* Sets --as-published and the score, first masks and freezing that belong to it. */
void recipe_as_published(struct recipe *r);
/* ERR_ARG where it is set beside another recipe, preset, score, first mask or freezing. */
int recipe_check_published(const struct recipe *r) MUST_CHECK;
/* "none", "augmix", "corruptions[:T,T]" -> augmentation and its list (into text, or NULL). */
int recipe_augment(const char *text, enum train_augment *augment, const char **list) MUST_CHECK;
#define BN_SHARDS_ROW(field)                                                                               \
    NUMBER(                                                                                                \
        "bn-shards", 0, OPTION_INT, field, "N",                                                            \
        "batch norm takes its statistics from each of N parts of a batch: 2, 4, 8, 16 (default 1: whole)", \
        1, 16)
/* Do they divide a batch, and each lie in one rank? */
int recipe_check_shards(int64_t shards) MUST_CHECK;
/* "clean", "adv", "single" -> enum model_deploy. */
int recipe_deploy(const char *text, int32_t *deploy) MUST_CHECK;
/* Epochs of a stage on so many images: its own, or more to reach min_steps. */
int64_t recipe_epochs(const struct recipe *r, enum recipe_stage s, int64_t images);
/* Radius of the attack in a stage, pixels in [0,1]: --attack-eps, or --single-eps for that student. */
double recipe_eps(const struct recipe *r, enum recipe_stage s);
/* Does the stage attack all images of a batch, with no clean and no augmented pass? So does a student of --deploy
 * single with --single-share 1, but not in stage mask, whose scores (all but residual) are read in the clean pass, nor with attention
 * transfer, which needs that pass. */
bool recipe_attacked_alone(const struct recipe *r, enum recipe_stage s);
/* Trainer settings of a stage. taps, hooks, files, soft budget are the caller's to add. */
int recipe_train_config(const struct recipe *r, enum recipe_stage s, uint64_t seed, int64_t images,
                        struct train_config *out) MUST_CHECK;
#endif
