#ifndef TRAINER_TRAIN_STATE_H
#define TRAINER_TRAIN_STATE_H
/*
 * The inside of a trainer: what train.c, step.c, average.c, config.c and state.c share.
 */
#include "trainer/train/batch.h"
#include "trainer/train/optim.h"
#include "trainer/train/trainer.h"

/* What a resumed run must know besides weights and momenta. Saved as it lies in memory, so every
 * member has 8 bytes and there is no padding. */
struct train_counters {
    int64_t step;    /* steps done */
    int64_t epoch;   /* epochs finished, their end included */
    double loss_sum; /* of this epoch so far */
    int64_t loss_steps, correct, counted;
    double last_loss; /* mean of the last finished epoch */
    double best;      /* value of the selection metric */
    struct train_validation best_val, last_val;
    struct soft_state soft;
};

struct trainer {
    struct train_config cfg;
    struct graph *g, *teacher;
    const struct dataset *train, *val;
    struct train_hooks hooks;
    char *fingerprint; /* everything that decides the result, as text */
    int64_t k, per_epoch, steps, warmup;
    struct exec *forward, *attack, *teach; /* student TRAIN, student INPUT_GRAD, teacher INFER */
    struct exec *signal[TRAIN_DOMAINS]; /* who gives the targets: often `teach`, or one of both */
    bool taps_apart; /* the hooks' activations are not those of the run that gives the targets */
    struct batch batch;
    struct arena *arena;              /* of all blocks below */
    uint32_t *order;                  /* [train->n] */
    float *adv, *adv_grad;            /* [images of the adversarial pass][C,H,W] */
    float *logits, *dlogits, *target; /* [batch][k]; target: the teacher's on clean images */
    float *at_logits;                 /* [batch][k] the teacher's where nobody asks for them */
    float *natural, *dnatural;        /* [batch][k] trades: of the images before the attack */
    double *at_work, *at_each;        /* of attention_loss */
    float *grad;                      /* [n_params], with soft masks [n_masks] after them */
    struct optim optim;
    struct train_counters at;
    float *best;    /* params, buffers, masks of the best epoch; NULL for SELECT_LAST */
    float *average; /* [n_params] moving average of the weights; NULL without */
    float *aside;   /* params and buffers while the average is in their place */
    bool done;      /* the checkpoint that was read was of a finished stage */
    double step_loss;
    double started, saved; /* seconds of cpu_seconds */
    int64_t images;        /* trained since trainer_run, */
    int64_t first_step;    /* which began with this one */
    double epoch_started;  /* or when trainer_run began within it */
    int64_t epoch_images;  /* trained since then */
};

/* config.c */
int train_config_check(const struct train_config *cfg, const struct graph *g,
                       const struct graph *teacher, const struct train_hooks *hooks,
                       bool have_val) MUST_CHECK;
/* Text of every option that decides the result, of the data and of the teacher's numbers. Images are
 * named by pixels where they are in memory, by their records where they are streamed; `other`: the other
 * way, which for a stream reads all of them. The caller frees it; NULL after fail(). */
char *train_fingerprint(const struct train_config *cfg, const struct graph *g,
                        const struct graph *teacher, const struct dataset *d, bool other);

/* state.c */
/* Bytes of the best-weights copy: params, buffers, masks. */
size_t train_weights_bytes(const struct graph *g);
void train_copy(float *to, const float *from, int64_t n); /* n may be 0, both NULL then */
void train_keep_best(struct trainer *t);                  /* graph -> t->best */
void train_restore_best(struct trainer *t);               /* t->best -> graph */
/* ERR_ARG where a rank has another model, other data or another state than the rest: their sums would be of
 * nothing. Collective. */
int train_same_start(const struct trainer *t) MUST_CHECK;
/* Writes cfg.checkpoint, if there is one. */
int train_save(struct trainer *t, bool done) MUST_CHECK;

/* step.c */
int train_iterate(struct trainer *t) MUST_CHECK;
/* The branch of adversarial images. */
int train_adv_branch(const struct trainer *t);
/* Targets of images [first, first + n) of the batch, of a domain (enum train_domain). */
int train_teach(struct trainer *t, int domain, int64_t first, int64_t n) MUST_CHECK;
/* The same images, attacked, into t->adv; of several ranks each has its share there. */
int train_attack(struct trainer *t, int64_t first, int64_t n, int64_t epoch) MUST_CHECK;

/* average.c: nothing happens where cfg.ema is 0. */
int average_begin(struct trainer *t) MUST_CHECK;
void average_add(struct trainer *t); /* after an update */
/* The average takes the place of the weights, with statistics of batch norm estimated anew on the
 * first images of that epoch. average_leave puts the weights back, also after a failure. */
int average_enter(struct trainer *t, int64_t epoch) MUST_CHECK;
void average_leave(struct trainer *t);
#endif
