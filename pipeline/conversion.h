#ifndef PIPELINE_CONVERSION_H
#define PIPELINE_CONVERSION_H
/* What the stages of a conversion share, and what they do alike. */
#include "pipeline/linearize_options.h"
#include "pipeline/quota.h"
#include "pipeline/stage.h"
#include "trainer/train/attention.h"

struct conversion {
    struct run
        run; /* run.m: the model as it was given, then with batch norm and masks: the teacher */
    const struct linearize_options *o;
    struct quota quota;
    value_id group[ATTENTION_MAX_GROUPS]; /* maps of the teacher for attention transfer */
    int32_t n_group;
};
/* The config of checkpoints and report: "network", options, seed, data. free(); NULL without memory. */
char *conversion_config(const struct conversion *c, const struct model_form *form,
                        const struct graph *g);
/* Settings of stage `which` with its state in `file`; config is borrowed. */
int conversion_stage(const struct conversion *c, enum recipe_stage which, const char *file,
                     const char *config, struct stage *out) MUST_CHECK;
/* Numbers and masks of a finished stage that this run leaves out. */
int conversion_take_finished(const struct conversion *c, const char *path,
                             struct graph *g) MUST_CHECK;
#endif
