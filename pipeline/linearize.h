#ifndef PIPELINE_LINEARIZE_H
#define PIPELINE_LINEARIZE_H
/*
 * One conversion from start to end, as linnet_linearize and each budget of linnet_sweep run it.
 *
 *     model -> batch norm re-inserted, second branch, masks of ones                     teacher.h
 *           -> stage teacher: all-ReLU network made robust            DIR/teacher.safetensors
 *              or --teacher FILE in its place
 *           -> budget per layer                                                           quota.h
 *           -> first masks, stages mask and finetune on a copy        DIR/checkpoint.safetensors
 *              of the teacher                                                           student.h
 *           -> DIR/model.onnx, model.adv.onnx, model.pi, model.pi.weights, report.json
 *
 * Every step before a stage is deterministic and quick, so --resume runs the same path again and
 * each stage continues from its own file. With --resume a stage that --stages leaves out is taken
 * from the folder, if it was finished there.
 */
#include "pipeline/linearize_options.h"

struct linearize_job {
    const struct linnet_listener *l;
    const struct linearize_options *o;
    const char *path; /* of the model */
    uint64_t seed;
    bool part;  /* one of a sweep: no report comes back, goals are not looked at */
    bool brief; /* the result alone is measured, not the model and the teacher */
    const struct linearize_options *sweep; /* its own, where `later` is set */
    const char
        *later; /* of the first part that a sweep runs: the budgets after it, "A,B", else NULL */
};
int linearize_run(const struct linearize_job *job, struct linnet_report **out) MUST_CHECK;
#endif
