#ifndef CLI_MASK_STAGE_H
#define CLI_MASK_STAGE_H
/*
 * Choosing masks while training: joins linearizer (scores, selection) and trainer (hooks), which do
 * not know each other. Scores are means per image, so epochs and the first pass compare.
 */
#include "cli/recipe.h"
#include "linearizer/linearizer.h"
#include "trainer/data.h"
#include "trainer/trainer.h"

struct mask_state { /* part of the training state: saved and restored as a blob */
    int64_t images; /* in the running epoch's sum */
    int64_t selections;
    double nhd, turnover; /* of the last selection */
};
struct mask_stage {
    struct graph *student;
    struct relu_site *site; /* of the student; the teacher's are equal in number and size */
    int32_t n_site;
    struct relu_site *teacher_site;
    int64_t positions;
    int64_t *kept;                       /* [n_site] budget per layer */
    double *sum;                         /* [positions] this epoch */
    double *score;                       /* [positions] smoothed, mean per image */
    value_id *student_tap, *teacher_tap; /* [n_site] */
    double smoothing;
    struct mask_state state;
    struct train_blob blob[3];
};
/* kept [sites of student]. ERR_ARG if the two graphs have other sites. Release in every case. */
int mask_stage_init(struct mask_stage *m, struct graph *student, const struct graph *teacher,
                    const int64_t *kept, const struct recipe *r) MUST_CHECK;
void mask_stage_release(struct mask_stage *m);
/* First scores: |y - x| of the student itself over `images` images of d (diff0 of a copy of the
 * teacher), then the first masks. */
int mask_stage_first(struct mask_stage *m, const struct dataset *d, int64_t images) MUST_CHECK;
/* Trainer hook: adds the batch's differences. */
int mask_stage_batch(struct mask_stage *m, const struct train_batch *b) MUST_CHECK;
/* Ends an epoch: smooths the scores, chooses the masks anew, measures how far they moved. */
int mask_stage_select(struct mask_stage *m) MUST_CHECK;
#endif
