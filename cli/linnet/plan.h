#ifndef CLI_LINNET_PLAN_H
#define CLI_LINNET_PLAN_H
/*
 * The plan of a call of several tasks (linnet.h): printed once, then one time for all that is left, from the
 * speed so far. Work that a resumed run finds done, and tasks that it leaves out, do not count.
 */
#include "cli/cli.h"
#include "pipeline/linnet.h"

#define PLAN_MOST 64 /* tasks that are followed; more are printed */
#define PLAN_LABEL 64

struct plan_view {
    char task[PLAN_MOST][PLAN_LABEL];
    double work[PLAN_MOST];
    int n, at;          /* at: the task that runs, -1: none yet */
    double begun, done; /* of it, in [0,1]: when it was first heard of, now */
    double performed;   /* work of the tasks before it */
    double start;       /* time */
    char label[PLAN_LABEL + 16];
};
void plan_begin(struct plan_view *v, const struct cli_common *c, const struct linnet_stage *stage,
                int n);
/* "2/5 teacher", or the task's own name where it is not in the plan. */
const char *plan_task(struct plan_view *v, const char *task);
/* Seconds for all that is left, -1 where that is not known. The first call of a task, with done 0 and no
 * text, says nothing of where a resumed one begins. */
double plan_left(struct plan_view *v, const char *task, double done, bool begins);
#endif
