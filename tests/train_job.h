#ifndef TESTS_TRAIN_JOB_H
#define TESTS_TRAIN_JOB_H
/*
 * A training of the tiny network (tiny_net.h) with everything on, which can be stopped or killed at a step: what the
 * tests of the training loop share.
 */
#include "tests/tiny_net.h"
#include "trainer/train/trainer.h"

enum { JOB_IMAGES = 100, JOB_BATCH = 16 };
/* Besides the flags of tiny_net: masks that are trained, by Adam, as in SNL's mask stage. */
#define JOB_SOFT (1u << 16)
/* And what came later: averaged weights, trades, smoothed labels, extra images, other teachers. */
#define JOB_MORE (1u << 17)

/* What a run needs, and where it may be stopped. */
struct train_job {
    struct train_config cfg;
    struct graph *student, *teacher, *other;
    struct dataset *train, *val, *extra;
    double score[4]; /* stands for the linearizer's sums: a blob of the hooks */
    int64_t batches, epoch_ends;
    int64_t stop_at, kill_at; /* step, 0: never */
    double first_loss, last_loss;
    char line[1024]; /* last metrics line */
    value_id student_tap, teacher_tap;
};

/* Everything on: three domains, distillation, two branches, hooks, choice of the best epoch. */
void train_job_init(struct train_job *j, unsigned flags);
void train_job_release(struct train_job *j);
/* Resumes from cfg's checkpoint where there is one; below 0: the error. */
int train_job_run(struct train_job *j, struct train_result *result);
#endif
