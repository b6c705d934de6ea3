#ifndef PIPELINE_MASK_STAGE_H
#define PIPELINE_MASK_STAGE_H
/*
 * Choosing masks while training: joins linearizer (scores, selection) and trainer (hooks), which do
 * not know each other. Scores are means per image, so epochs and the first pass compare.
 *
 * Where removed ReLUs become lines (--removed), each choice is followed by a least-squares fit of the
 * lines on calib_images training images, on the activations of the network as it was before the
 * choice, through its clean branch (linearizer/line.c); both branches share the lines.
 *
 * The score `residual` is measured anew for every choice (mask_residual.h) and not smoothed; where nothing
 * else decides a layer's budget (pooled) it does so, too. It removes ReLUs step by step, the same share of those
 * that are left at every choice, so that what a choice removes is measured on a network that has recovered from
 * the one before; the last choice reaches the budget, and masks do not freeze before.
 *
 * Masks are chosen again after each epoch until they freeze: when the distance that the recipe names
 * falls below its bound, or after freeze_epoch epochs. In distances, d_l is the number of positions of
 * layer l that changed:
 *
 *     nhd       mean over layers of d_l / N_l          (at most 2 min(k_l/N_l, 1 - k_l/N_l): with a
 *                                                       small budget it is small from the start)
 *     turnover  mean over layers of d_l / (2 k_l)      share of the kept ReLUs that were replaced
 */
#include "pipeline/recipe.h"
#include "pipeline/stage.h"
#include "linearizer/linearizer.h"

#define MASK_STAGE_BLOBS 7
struct ranks_chain;

struct mask_state { /* part of the training state: saved and restored as a blob */
    int64_t images; /* in the running epoch's sum */
    int64_t selections;
    double nhd, turnover; /* of the last selection; -1 before the first */
    int64_t frozen_epoch; /* epochs after which the masks were frozen, 0: not yet */
};
struct mask_link { /* of the chain: a site */
    struct mask_stage *m;
    int32_t s;
};
struct mask_stage {
    const struct recipe *r;
    struct graph *student;
    struct relu_site *site; /* of the student; the teacher's are equal in number and size */
    int32_t n_site;
    struct relu_site *teacher_site;
    const struct dataset *data; /* what lines are fitted on */
    int64_t positions;
    int64_t *kept;              /* [n_site] budget per layer */
    double *sum;                /* [positions] this epoch */
    double *batch;              /* [positions] this batch, of all ranks */
    double *score;              /* [positions] smoothed, mean per image. Taylor scores are
                                          * of another size than the first: no smoothing with those.
                                          * None of the three with the score residual */
    double *residual;           /* [positions][RESIDUAL_SUMS], with that score */
    bool pooled;                /* with that score: kept[] only adds up */
    uint64_t seed;              /* of what it draws */
    int64_t choices;            /* of masks, the first included, where nothing freezes */
    bool chosen;                /* the first masks are */
    struct score_taylor taylor; /* with that score: sums of this epoch, one block */
    struct ranks_chain *chain;
    struct mask_link *link;              /* [n_site] */
    const struct train_batch *now;       /* what its links add */
    value_id *student_tap, *teacher_tap; /* [n_site]; taylor: 2 n_site and none */
    int32_t n_student_tap, n_teacher_tap;
    struct mask_state state;
    struct train_blob blob[MASK_STAGE_BLOBS];
    int32_t n_blob;
    struct run *run;              /* hears of every choice; set by mask_stage_hook */
    int32_t last_selecting_epoch; /* from 0: masks stay what they are after later ones */
};
/* kept [sites of student]. ERR_ARG if the two graphs have other sites. r is borrowed. Release in every
 * case. */
int mask_stage_init(struct mask_stage *m, struct graph *student, const struct graph *teacher,
                    const int64_t *kept, const struct recipe *r) MUST_CHECK;
void mask_stage_release(struct mask_stage *m);
/* The first masks: by the scores |y - x| of the student itself over images of d (diff0 of a copy of
 * the teacher), or random; the recipe says which. With the score residual by that one, the first of its steps. */
int mask_stage_first(struct mask_stage *m, const struct dataset *d, uint64_t seed) MUST_CHECK;
/* First scores where the masks came from elsewhere and stay; later choices keep their number, with the score
 * residual too. */
int mask_stage_adopt(struct mask_stage *m, const struct dataset *d, uint64_t seed) MUST_CHECK;
/* Sets hooks and taps of the stage s in which the masks of m move. `finetunes`: a stage follows that
 * trains under the last masks; otherwise they are not chosen after the last epoch. */
void mask_stage_hook(struct mask_stage *m, struct run *run, bool finetunes, struct stage *s);
/* Ends epoch `epoch` (from 0) of a stage in which masks are not frozen: smooths the scores, chooses
 * the masks anew, measures how far they moved, and freezes them where the rule says so. */
int mask_stage_select(struct mask_stage *m, int32_t epoch) MUST_CHECK;
#endif
