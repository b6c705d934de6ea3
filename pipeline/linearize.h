#ifndef PIPELINE_LINEARIZE_H
#define PIPELINE_LINEARIZE_H
/*
 * One conversion from start to end, as `linnet linearize` and each budget of `linnet sweep` run it.
 *
 *     model -> batch norm re-inserted, second bank, masks of ones
 *           -> stage teacher: all-ReLU network made robust            DIR/teacher.safetensors
 *              or --teacher FILE in its place
 *           -> budget per layer, first masks
 *           -> stages mask and finetune on a copy of the teacher      DIR/checkpoint.safetensors
 *           -> DIR/model.onnx, model.adv.onnx, model.pi, model.pi.weights, report.json
 *
 * Every step before a stage is deterministic and quick, so --resume runs the same path again and
 * each stage continues from its own file. With --resume a stage that --stages leaves out is taken
 * from the folder, if it was finished there.
 */
#include "cli/linnet/linearize_options.h"
#include "pipeline/mask_stage.h"
#include "pipeline/metrics.h"
#include "pipeline/model.h"
#include "cli/linnet/summary.h"
#include "trainer/train/attention.h"

struct linearize {
    const struct cli_common *c;
    const struct linearize_options *o;
    const char *model;     /* path */
    bool part;             /* one of a sweep: no table is printed, goals are not looked at */
    bool brief;            /* the result alone is measured, not the model and the teacher */
    struct model m;        /* as the user gave it, then with batch norm and masks: the teacher */
    struct graph *student; /* NULL where only a teacher is trained */
    struct model_form student_form;
    struct dataset *train, *val, *test;
    struct relu_site *site; /* of m.g; the student's have the same numbers */
    int32_t n_site;
    struct mask_stage masks;
    int64_t total, budget;
    double *eta;
    int64_t *kept; /* [n_site] */
    value_id group[ATTENTION_MAX_GROUPS], student_group[ATTENTION_MAX_GROUPS];
    int32_t n_group;
    char *options; /* words that decide the result, for the student's checkpoints */
    struct summary column[SUMMARY_COLUMNS];
    bool measured[SUMMARY_COLUMNS];
    struct cli_progress progress;
    struct metrics metrics;
    bool choosing; /* the mask stage is running, and whether its last epoch selects too */
    int32_t last_selecting_epoch;
    bool soft_masks;        /* snl's mask stage is still to come or running */
    struct soft_state soft; /* at its end */
};
/* Runs all of it. l is zeroed but for c, o, model, part, brief; linearize_release in every case. */
int linearize_run(struct linearize *l) MUST_CHECK;
void linearize_release(struct linearize *l);

/* linearize_report.c */
/* "network", options, seed, data: the config of checkpoints and report; free(). */
char *linearize_config(const struct linearize *l, const struct graph *g);
/* DIR/config.json: what --config needs to repeat the run. */
int linearize_write_config(const struct linearize *l) MUST_CHECK;
int linearize_measure(struct linearize *l, enum summary_column which, struct graph *g) MUST_CHECK;
/* Models, package, report.json, the table; the goals that the options name. */
int linearize_finish(struct linearize *l) MUST_CHECK;
#endif
