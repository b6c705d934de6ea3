#ifndef PIPELINE_LINEARIZE_OPTIONS_H
#define PIPELINE_LINEARIZE_OPTIONS_H
/*
 * Options of the tasks "linearize" and "sweep". The preset decides the default recipe, both decide the defaults of the others,
 * so what was set is read twice: first for those two (and for the short forms that set several stages
 * at once), then over the preset's numbers.
 */
#include <jansson.h>

#include "pipeline/model.h"
#include "pipeline/recipe.h"

struct linearize_options {
    struct open_options open;
    const char *relus, *out, *stages, *teacher, *masks, *budgets;
    const char *logit_teacher, *clean_teacher, *extra;
    int32_t deploy;                 /* enum model_deploy, of r.deploy */
    int64_t eval_autoattack_images; /* -1: 200, or as many as are attacked otherwise */
    int64_t empty_cheapest, train_limit, eval_attack_images, eval_corrupt_images, max_relus;
    double require_clean;
    bool resume, publish_slopes;
    /* One number for all stages, -1 where not given; a stage's own option wins. */
    int64_t all_batch;
    double all_weight_decay, all_gamma, all_alpha;
    struct recipe r;
};
/* Reads what was set, checks what can be checked without a model. Texts live as long as o. */
int linearize_options_read(const struct linnet_options *o,
                           struct linearize_options *out) MUST_CHECK;
/* Is the text a count or a share? The network is not known yet. */
int linearize_check_relus(const char *text) MUST_CHECK;
/* New reference: every option of the recipe under its long name, as a config.json has them. */
json_t *linearize_recipe_json(const struct recipe *r);
#endif
