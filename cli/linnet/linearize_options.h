#ifndef CLI_LINNET_LINEARIZE_OPTIONS_H
#define CLI_LINNET_LINEARIZE_OPTIONS_H
/*
 * Options of `linnet linearize` and `linnet sweep`. Recipe and preset decide the defaults of the
 * others, so the command line is read twice: first for those two (and for the short forms that set
 * several stages at once), then over the preset's numbers.
 */
#include "pipeline/model.h"
#include "cli/cli.h"
#include "pipeline/recipe.h"

struct linearize_options {
    const char *data, *relus, *out, *normalize, *stages, *teacher, *masks, *budgets;
    int64_t empty_cheapest, train_limit, eval_attack_images, eval_corrupt_images, max_relus;
    double require_clean;
    bool resume;
    /* One number for all stages, -1 where not given; a stage's own option wins. */
    int64_t all_batch;
    double all_weight_decay, all_gamma, all_alpha;
    struct recipe r;
    struct model_source source;
};
/* Reads argv, checks what can be checked without a model. cli_release(c) in every case. */
int linearize_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_common *c,
                    struct linearize_options *o) MUST_CHECK;
extern const struct cli_option linearize_table[];
/* Is the text a count or a share? The network is not known yet. */
int linearize_check_relus(const char *text) MUST_CHECK;
/* New reference: every option of the recipe under its long name, ready for --config. */
json_t *linearize_recipe_json(const struct recipe *r);
#endif
