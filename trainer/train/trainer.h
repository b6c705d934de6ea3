#ifndef TRAINER_TRAIN_TRAINER_H
#define TRAINER_TRAIN_TRAINER_H
/*
 * Training of a graph: plain, adversarial, distilled, with one or two batch-norm branches
 * (METHOD.md). Masks are constants here: whoever chooses them
 * uses the hooks, on activations that the trainer taps.
 *
 *     struct train_config c = train_defaults();
 *     c.epochs = 30, c.adversarial = true, c.augment = TRAIN_AUGMENT_AUGMIX;
 *     struct trainer *t = NULL;
 *     if ((rc = trainer_new(&c, graph, NULL, train_split, val_split, &hooks, &t)) < 0)
 *         goto out;
 *     if ((rc = trainer_resume(t)) < 0 || (rc = trainer_run(t, &result)) < 0)
 *         goto out;                       // ERR_INTERRUPTED: state is in c.checkpoint
 *     out: trainer_free(t);
 *
 * One iteration takes `batch` images. With the adversarial domain and another one, b =
 * floor(n / 2): images below b go through the clean and the augmented pass (branch 0), the others
 * through the adversarial pass (branch 1 where the graph has two branches, else 0). With only one kind
 * every image goes through every pass. The losses of the D passes are averaged, or weighted where
 * adversarial_share says how much the adversarial one counts:
 *
 *     L = 1/D sum over passes of [ gamma CE + alpha KL_tau(student, teacher on the clean image) ]
 *         + trades KL_1(student on clean, student on attacked)     in the adversarial pass
 *         + beta times the mean of AT over the first at_domains of (clean, augmented, adversarial)
 *         + lambda sum |mask|                                                 with soft masks
 *
 * and one optimizer step is made. Plain adversarial training is gamma 1 alpha 0; `kl+ce` is
 * gamma alpha 0.5; `kl` is gamma 0 alpha 1; SENet's clean recipe is clean alone. For AT the teacher
 * sees the same image as the student, through the branch of that domain; for KL always the clean
 * image.
 *
 * Everything random is keyed by (seed, stream, epoch, sample) and sums run in index order: threads,
 * interruptions and resume change no bit of the result.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/exec/exec.h"
#include "trainer/data/data.h"
#include "trainer/train/optim.h"
#include "trainer/attack/pgd.h"
#include "trainer/train/soft_mask.h"

enum train_augment { TRAIN_AUGMENT_NONE, TRAIN_AUGMENT_AUGMIX, TRAIN_AUGMENT_CORRUPT };
/* Who gives targets of KL: g NULL is the teacher. */
enum train_domain { TRAIN_CLEAN, TRAIN_ADVERSARIAL, TRAIN_DOMAINS };
struct train_signal {
    struct graph *g; /* borrowed; input and classes of the student, any shape between */
    int branch;
};
enum train_select { TRAIN_SELECT_LAST, TRAIN_SELECT_CLEAN, TRAIN_SELECT_PGD, TRAIN_SELECT_MEAN };

struct train_config {  /* train_defaults() fills it; trainer_new checks it */
    const char *stage; /* name in messages, metrics and checkpoint: "teacher" ("train") */
    uint64_t seed;     /* 0 */
    enum exec_precision
        precision;             /* EXEC_FP32: of student, attack and teacher; validation is fp32 */
    int32_t epochs;            /* 240 */
    int32_t batch;             /* 128 images an iteration */
    int32_t bn_shards;         /* 1: parts of a pass for batch norm (exec.h) */
    double lr;                 /* 0.05 */
    double momentum;           /* 0.9, no Nesterov */
    double weight_decay;       /* 5e-4, on all parameters */
    bool nesterov;             /* false */
    bool decay_norm;           /* true: gamma, beta and biases decay too, as published */
    enum optim_kind optimizer; /* OPTIM_SGD */
    enum optim_schedule schedule; /* OPTIM_STEP: x 0.1 after 62.5, 75 and 87.5 % of the steps */
    double warmup_epochs;         /* 0: lr rises linearly from 0 over this many epochs */
    /* Domains. */
    bool clean;                 /* true */
    enum train_augment augment; /* NONE */
    const char *corruptions;  /* CORRUPT: comma-separated types, NULL for all that need no files */
    bool adversarial;         /* false */
    struct pgd_params attack; /* pgd_defaults(7) */
    bool crop;                /* true: random crop from zero padding, then flip */
    int32_t crop_pad;         /* 4 */
    bool aligned;             /* false: the augmented image has its own crop and flip */
    /* Losses. */
    double gamma;                              /* 1: weight of the cross-entropy */
    double alpha;                              /* 0: weight of KL; needs a teacher */
    double tau;                                /* 4 */
    struct train_signal signal[TRAIN_DOMAINS]; /* of clean and augmented, of adversarial images */
    int tap_branch; /* 0: branch of the teacher that taps and attention transfer look into */
    double label_smoothing; /* 0: share of the labels' weight that goes to all classes alike */
    double trades; /* 0: weight of KL_1 between an adversarial image's logits before and after
                             * the attack, which then maximises it; the supervised loss takes those
                             * before (Zhang et al. 2019) */
    double adversarial_share; /* 0: every pass counts alike; else the adversarial pass's part of
                               * the loss, and the other passes share the rest */
    double beta;              /* 0: weight of attention transfer; needs a teacher */
    int32_t at_domains;       /* 2: passes with it, of clean, augmented, adversarial, in this order
                               * and as far as they are on */
    const value_id *at_student, *at_teacher; /* [n_at] maps to compare (attention_groups) */
    int32_t n_at;
    struct soft_params soft; /* off; on: every MaskedRelu is soft, its mask is trained */
    /* Activations that the hooks want to read after the clean pass. */
    const value_id *student_taps, *teacher_taps;
    int32_t n_student_taps, n_teacher_taps;
    double ema; /* 0: off; else validated and kept is a moving average of the weights: after step
                 * t (from 0) it keeps min(ema, (1 + t) / (10 + t)) of itself */
    /* More images beside the training split: so large a share of each batch. An epoch still sees
     * every training image once. */
    const struct dataset *extra; /* NULL: none */
    double extra_share;
    /* Validation on the val split. */
    int32_t val_every;            /* every N epochs, and after the last; 0: never */
    int64_t val_limit;            /* 0: all of the split */
    int64_t val_attack_limit;     /* 0: no attack; else the first N images */
    struct pgd_params val_attack; /* pgd_defaults(7) */
    enum train_select select;     /* LAST: result is the last epoch, else the best validated one */
    /* Checkpoints. NULL checkpoint: none. */
    const char *checkpoint;
    int64_t checkpoint_steps;  /* 0: not by steps */
    double checkpoint_seconds; /* 600: at most so long between two; 0: not by time */
    const char *config_json;   /* text the checkpoint carries for the caller, NULL: "{}" */
    const char *options;       /* words "a=1 b=2" of the caller's settings that decide the result: a
                                * run with others is not continued. NULL: none */
    const uint8_t *structure;  /* bytes the checkpoint carries so that the caller can rebuild the */
    size_t structure_len;      /* graph (its ONNX file); may be NULL */
};
struct train_config train_defaults(void);
/* ERR_ARG where a pass of c's, in precision p, has too few images for its bn_shards. A shorter one, the rest of
 * an epoch, is cut into fewer. */
int train_check_shards(const struct train_config *c, enum exec_precision p) MUST_CHECK;

/* After the clean forward of an iteration, before its backward; or after that. */
struct train_batch {
    int32_t epoch;                                /* from 0 */
    int64_t step;                                 /* from 0, over all epochs */
    int64_t n;                                    /* images in the clean pass */
    int64_t here;                                 /* of them those that taps hold: exec_share */
    double share;                                 /* of the clean pass in the loss */
    struct exec *student;                         /* exec_tap of the configured taps */
    const struct exec *teacher;                   /* the same; may be NULL */
    const float *student_logits, *teacher_logits; /* [n][K] */
    const int32_t *labels;                        /* [n] */
};
struct train_validation { /* shares in [0,1]; -1 where not measured */
    int64_t epoch, n, n_attack;
    double clean, clean_adv; /* through branch 0, through branch 1 (-1 with one branch) */
    double pgd;              /* through the adversarial branch */
};
struct train_progress {
    const char *stage;
    int32_t epoch, epochs; /* epoch being trained, from 0 */
    int64_t step, steps;   /* done, all */
    double loss;           /* mean since the epoch's start */
    double accuracy;       /* of the clean pass (else of the only one), since the epoch's start */
    double images_per_s;   /* since trainer_run */
    double seconds_left;
};
/* Memory of the caller that belongs to the training state: saved with every checkpoint, read back by
 * trainer_resume. The memory stays the caller's and must live as long as the trainer. */
struct train_blob {
    const char *name; /* unique */
    void *data;
    size_t bytes;
};
struct train_hooks { /* each may be NULL; a negative result stops the training with that code */
    void *ctx;
    const struct train_blob *blobs;
    int32_t n_blobs;
    int (*batch)(void *ctx, const struct train_batch *b);
    /* After the clean backward: exec_tap_grad(b->student, tap) is d loss / d tap, where the loss is
     * share times the mean over the n images. */
    int (*gradients)(void *ctx, const struct train_batch *b);
    /* After the epoch's validation, before its checkpoint. May change masks (then graph_touch). val:
     * NULL where nothing was validated. */
    int (*epoch_end)(void *ctx, int32_t epoch, const struct train_validation *val);
    int (*progress)(void *ctx, const struct train_progress *p); /* after each step */
    int (*metrics)(void *ctx, const char *json); /* one JSON object without newline, per epoch */
    bool (*interrupted)(void *ctx);              /* asked after each step */
};
struct train_result {
    int32_t epochs, best_epoch; /* done; the one whose weights the graph now holds, from 0 */
    int64_t steps;
    int64_t steps_here; /* of this run, not of resumed parts; so are */
    double seconds, images_per_s;
    double loss;                   /* mean of the last epoch */
    struct train_validation val;   /* of best_epoch; .n = 0 if nothing was validated */
    struct soft_state soft;        /* with soft masks */
    enum exec_precision precision; /* what the student was trained in */
};
struct trainer;

/* student is trained in place; teacher (NULL where alpha is 0 and no hook wants it) is only read.
 * val may be NULL if val_every is 0 and select is LAST. All of them are borrowed. ERR_ARG names the
 * options that contradict each other; ERR_DATA for data that do not fit the graph. */
int trainer_new(const struct train_config *cfg, struct graph *student, struct graph *teacher,
                const struct dataset *train, const struct dataset *val,
                const struct train_hooks *hooks, struct trainer **out) MUST_CHECK;
void trainer_free(struct trainer *t); /* NULL is fine */
FREE_AT(trainer_free, struct trainer)
/* Continues from cfg->checkpoint if that file exists (returns 1; 0 if it does not). ERR_FORMAT for a
 * damaged file, ERR_ARG if it belongs to another stage, configuration, teacher or network. */
int trainer_resume(struct trainer *t) MUST_CHECK;
/* Epochs finished; after trainer_resume those of the state that was read. */
int32_t trainer_epochs_done(const struct trainer *t);
/* Trains to the end. ERR_INTERRUPTED: state saved; ERR_NUMERIC: the loss is not a number, the
 * message names step and node. result may be NULL. */
int trainer_run(struct trainer *t, struct train_result *result) MUST_CHECK;
#endif
