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
    struct model logits, clean_logits; /* --logit-teacher, --clean-teacher; .g NULL without */
    struct dataset *extra;             /* --extra */
};
/* Opens what the options name besides model and data, against the model. */
int conversion_open(struct conversion *c) MUST_CHECK;
void conversion_release(struct conversion *c);
/* The branch that is deployed, of a network with that many. */
int conversion_deployed(const struct conversion *c, const struct graph *g);
/* The config of checkpoints and report: "network", options, seed, data. mem_free; NULL without memory. */
char *conversion_config(const struct conversion *c, const struct model_form *form,
                        const struct graph *g);
/* Settings of stage `which` with its state in `file`; config is borrowed. */
int conversion_stage(const struct conversion *c, enum recipe_stage which, const char *file,
                     const char *config, struct stage *out) MUST_CHECK;
/* Numbers and masks of a finished stage that this run leaves out. */
int conversion_take_finished(const struct conversion *c, const char *path,
                             struct graph *g) MUST_CHECK;
#endif
