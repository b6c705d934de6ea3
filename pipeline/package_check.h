#ifndef PIPELINE_PACKAGE_CHECK_H
#define PIPELINE_PACKAGE_CHECK_H
/* The float network and its private-inference program on the same images. */
#include "core/exec/exec.h"
#include "pipeline/linnet.h"
#include "runtime/model.h"
#include "trainer/data/data.h"

struct package_check {
    enum exec_precision precision;                  /* of the float network */
    int64_t n, float_correct, fixed_correct, agree; /* agree: equal labels */
    double max_abs_diff, max_abs_logit;             /* of logits */
};
/* First `limit` images of d, through a batch-norm branch of g. ERR_INTERRUPTED if the listener says so. */
int package_check_run(const struct linnet_listener *l, struct graph *g, int branch,
                      enum exec_precision precision, struct pi_model *pi, const struct dataset *d,
                      int64_t limit, struct package_check *out) MUST_CHECK;
#endif
