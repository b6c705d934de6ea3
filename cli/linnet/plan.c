/* What is left of a plan; see plan.h. */
#include "cli/linnet/plan.h"

#include <string.h>

#include "core/base/cpu.h"

void plan_begin(struct plan_view *v, const struct cli_common *c, const struct linnet_stage *stage,
                int n)
{
    *v = (struct plan_view){.at = -1, .begun = -1, .start = cpu_seconds()};
    cli_note(c, "plan:");
    for (int i = 0; i < n; i++) {
        cli_note(c, "  %d/%d %-10s %s", i + 1, n, stage[i].task, stage[i].text);
        if (i >= PLAN_MOST)
            continue;
        snprintf(v->task[i], PLAN_LABEL, "%s", stage[i].task);
        v->work[i] = stage[i].work;
        v->n = i + 1;
    }
}

/* The next task of that name, -1 if there is none. */
static int find(const struct plan_view *v, const char *task, int from)
{
    for (int i = from < 0 ? 0 : from; i < v->n; i++)
        if (strcmp(v->task[i], task) == 0)
            return i;
    return -1;
}

const char *plan_task(struct plan_view *v, const char *task)
{
    const int i = find(v, task, v->at + 1);

    if (i < 0)
        return task;
    if (v->at >= 0 && v->begun >= 0)
        v->performed += v->work[v->at] * (1 - v->begun);
    v->at = i;
    v->begun = -1;
    v->done = 0;
    snprintf(v->label, sizeof v->label, "%d/%d %s", i + 1, v->n, task);
    return v->label;
}

double plan_left(struct plan_view *v, const char *task, double done, bool begins)
{
    double left = 0, performed = v->performed;

    if (v->at < 0 || strcmp(v->task[v->at], task) != 0 || begins)
        return -1;
    if (v->begun < 0)
        v->begun = done;
    v->done = done;
    performed += v->work[v->at] * (done - v->begun);
    left = v->work[v->at] * (1 - done);
    for (int i = v->at + 1; i < v->n; i++)
        left += v->work[i];
    return performed > 0 ? (cpu_seconds() - v->start) * left / performed : -1;
}
