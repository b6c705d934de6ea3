#ifndef PIPELINE_WORK_PLAN_H
#define PIPELINE_WORK_PLAN_H
/*
 * What linearize and sweep are going to do, for the listener: tasks in their order, with the work of each
 * in passes of one image through the network (there 1, there and back to the input 2, to the weights 3).
 */
#include "pipeline/linearize_options.h"

#define WORK_PLAN_MOST 256
#define WORK_PLAN_TEXT 160

struct work_images { /* of the splits */
    int64_t train, val, test;
};
struct work_plan {
    struct linnet_stage stage[WORK_PLAN_MOST];
    char text[WORK_PLAN_MOST][WORK_PLAN_TEXT];
    int n; /* further ones are left out */
};
/* One conversion with these options. brief: as of linearize.h. prefix: "budget 10 %: ", or "". */
void work_plan_add(struct work_plan *p, const struct linearize_options *o,
                   const struct work_images *images, bool brief, const char *prefix);
/* The parts of a sweep: a student of the same teacher for each of "A,B,C". */
void work_plan_add_budgets(struct work_plan *p, const struct linearize_options *o,
                           const struct work_images *images, const char *list);
#endif
