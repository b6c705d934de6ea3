#ifndef PIPELINE_PACKAGE_CHECK_H
#define PIPELINE_PACKAGE_CHECK_H
/* The float network and its private-inference program on the same images. */
#include "cli/cli.h"
#include "core/graph/graph.h"
#include "runtime/pi.h"
#include "trainer/data/data.h"

struct package_check {
    int64_t n, float_correct, fixed_correct, agree; /* agree: equal labels */
    double max_abs_diff, max_abs_logit;             /* of logits */
};
/* First `limit` images of d. g has one batch-norm branch. ERR_INTERRUPTED on a signal. */
int package_check_run(const struct cli_common *c, struct graph *g, struct pi_model *pi,
                      const struct dataset *d, int64_t limit, struct package_check *out) MUST_CHECK;
#endif
