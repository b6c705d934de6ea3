#ifndef CLI_RECIPE_H
#define CLI_RECIPE_H
/*
 * The settings of `linnet linearize`: presets, what options change in them, and their JSON. A preset
 * is a full set of numbers; it knows nothing of the model's name or size.
 */
#include <jansson.h>

#include "linearizer/linearizer.h"
#include "trainer/trainer.h"

enum recipe_kind { RECIPE_RLNET, RECIPE_SENET, RECIPE_SNL };
enum recipe_preset { PRESET_PAPER, PRESET_SHORT, PRESET_QUICK, PRESET_NONE };
enum recipe_stage { STAGE_TEACHER, STAGE_MASK, STAGE_FINETUNE, STAGE_COUNT };

struct recipe_schedule {
    int64_t epochs; /* 0: the stage is left out */
    double lr;
    int32_t schedule; /* enum optim_schedule */
};
struct recipe {
    enum recipe_kind kind;
    enum recipe_preset preset;
    struct recipe_schedule stage[STAGE_COUNT];
    int64_t batch;
    double momentum, weight_decay;
    int32_t augment;          /* enum train_augment, for the augmented domain; NONE leaves it out */
    bool adversarial;         /* third domain, second batch-norm bank */
    struct pgd_params attack; /* of training */
    double adversarial_share; /* of the loss; 0: as much as each other pass */
    double gamma, alpha, tau; /* student stages: weights of CE and KL, temperature */
    double density;           /* proxy density of the sensitivity measure */
    double smoothing;         /* rho: score = rho score + (1 - rho) this epoch's */
    int32_t score;            /* enum score_kind */
    int64_t score_images;     /* for the first mask */
    int64_t calib_images;     /* for batch-norm re-insertion and fixed point */
    int64_t val_attack_images;
};
const char *recipe_stage_name(enum recipe_stage s);
struct recipe recipe_of(enum recipe_kind kind, enum recipe_preset preset);
/* Trainer settings of a stage. taps, hooks, files are the caller's to add. */
struct train_config recipe_train_config(const struct recipe *r, enum recipe_stage s, uint64_t seed);
/* New reference: every number above under its option's name. */
json_t *recipe_json(const struct recipe *r);
#endif
