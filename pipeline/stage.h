#ifndef PIPELINE_STAGE_H
#define PIPELINE_STAGE_H
/*
 * One stage of training with its state in a file: `linnet train` has one, a conversion up to three.
 *
 *     struct stage s = {.cfg = train_defaults()};
 *     s.cfg.checkpoint = "DIR/teacher.safetensors";
 *     TRY(stage_run(&run, &s, graph, NULL));       // s.result
 */
#include "pipeline/run.h"
#include "trainer/train/trainer.h"

struct stage {
    struct train_config cfg;
    struct train_hooks hooks; /* the stage's own: ctx, blobs, batch, gradients, epoch_end */
    bool from_start; /* whatever run->resume says: the state in the file is another stage's */
    struct train_result result;
};
/* Trains g. Validation, progress and metrics go to the run. */
int stage_run(struct run *r, struct stage *s, struct graph *g, struct graph *teacher) MUST_CHECK;
#endif
