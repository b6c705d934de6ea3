#ifndef TRAINER_ATTACK_AUTOATTACK_H
#define TRAINER_ATTACK_AUTOATTACK_H
/*
 * Runs the stages of a specification over a data set (ROBUSTNESS.md, AutoAttack): each stage only on the
 * images that still stand, batches of consecutive images, every fall confirmed by the evaluation
 * pass; robust accuracy is a per-image worst case.
 *
 * Progress is a struct that the caller keeps: after every batch `save` is called, and a run that
 * starts from a saved struct ends with the same bits, because nothing depends on what ran before.
 */
#include "trainer/attack/attack.h"
#include "trainer/attack/spec.h"
#include "trainer/data/data.h"

struct attack_progress {
    int64_t n;                               /* images */
    int32_t stage;                           /* in work; n_stage: finished */
    int64_t next;                            /* first image that the stage has not tried */
    uint8_t *robust;                         /* [n] at the start: correct when clean */
    int64_t robust_after[ATTACK_MAX_STAGES]; /* images that stand, by finished stage */
};
struct attack_job {
    struct attack_model *m; /* its `batch` is the size of the batches */
    const struct dataset *d;
    uint64_t seed;
    const struct attack_spec *spec;
    void *ctx;
    /* May be NULL; a negative result stops. */
    int (*save)(void *ctx, const struct attack_progress *p);
};
/* Work space of batches of m: attack_work_release in every case. */
struct attack_work {
    struct arena *arena;
    float *pixels, *adv, *grad, *z;
    int32_t *label;
    int64_t *sample;
    uint8_t *broken;
};

int attack_work_init(struct attack_work *w, const struct attack_model *m) MUST_CHECK;
void attack_work_release(struct attack_work *w); /* a zeroed one is fine */

/* Continues at p->stage, p->next. ERR_NUMERIC if an attack returns an image outside its box. */
int autoattack_run(const struct attack_job *job, struct attack_progress *p) MUST_CHECK;

/* The signs of an evaluation that misleads (ROBUSTNESS.md, Flags), on the first images of d. */
struct attack_flags {
    bool randomised, probabilities;
    int64_t zero_gradients; /* of the correct ones of n, at APGD's start with DLR (CE below 3
                             * classes) */
    int64_t n;
    bool no_dlr, no_targeted_dlr; /* fewer than 3, fewer than 4 classes */
};
int autoattack_flags(struct attack_model *m, const struct dataset *d, int64_t limit, uint64_t seed,
                     struct attack_flags *out) MUST_CHECK;
/* Square lowered the robust share by more than 0.2 points below the stages before it. */
bool autoattack_square_gains(const struct attack_spec *spec, const struct attack_progress *p);
#endif
