#ifndef PIPELINE_SUMMARY_H
#define PIPELINE_SUMMARY_H
/*
 * Before and after: the given model, its robust all-ReLU teacher, and the result, in one table:
 * ReLUs, clean, corrupted, attacked accuracy, fixed-point agreement, estimated cost; then the figures of
 * the one file that is deployed, AutoAttack among them. Test images.
 */
#include <jansson.h>

#include "core/graph/graph.h"
#include "pipeline/linnet.h"
#include "trainer/data/data.h"
#include "pipeline/model.h"
#include "trainer/eval/eval.h"

enum summary_column { SUMMARY_GIVEN, SUMMARY_TEACHER, SUMMARY_RESULT, SUMMARY_COLUMNS };
struct summary {
    int64_t relus;
    struct model_branches names; /* .deployed is an index of eval.branch, too */
    struct eval_result eval;     /* branches: clean on all images, the rest on the first few */
    int64_t n_fixed, agree;      /* fixed point against float, deployed branch */
    double online_s;             /* estimated, gc on a LAN; -1: the network cannot run privately */
};
struct summary_job {
    const struct linnet_listener *l;
    uint64_t seed;
    const struct dataset *test, *calib;
    int64_t n_calib, n_attack, n_corrupt;
    int64_t n_autoattack; /* images of the result's deployed branch under AutoAttack (fast) */
    int deployed;         /* branch */
};
int summary_measure(const struct summary_job *j, enum summary_column which, struct graph *g,
                    struct summary *out) MUST_CHECK;
const char *summary_name(int column); /* "given", "teacher", "result" */
/* linnet.eval/1 with the keys relus, agreement, pi_online_seconds added. New reference. */
json_t *summary_json(const char *model, const struct summary *s);
void summary_print(FILE *out, const struct summary column[SUMMARY_COLUMNS]);
#endif
