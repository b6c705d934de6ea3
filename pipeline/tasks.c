/* The list of tasks; what of the API belongs to no task. */
#include "pipeline/tasks.h"

#include <string.h>

#include "core/base/version.h"

/* The numbers of linnet.h are those of core/base/err.h. */
#define X(name, text) _Static_assert((int)LINNET_##name == (int)ERR_##name, "linnet_error");
ERR_LIST(X)
#undef X

static const struct task *const tasks[] = {
    &open_task, &inspect_task,   &init_task,  &data_task,   &eval_task,     &train_task,
    &lint_task, &linearize_task, &sweep_task, &export_task, &validate_task, &corrupt_task,
};
#define N_TASKS (sizeof tasks / sizeof tasks[0])

static const struct task *find(const char *name)
{
    for (size_t i = 0; i < N_TASKS; i++)
        if (strcmp(tasks[i]->name, name) == 0)
            return tasks[i];
    return NULL;
}

int linnet_options_new(const char *task, struct linnet_options **out)
{
    const struct task *t = find(task);

    *out = NULL;
    if (t == NULL)
        return fail(ERR_ARG, "there is no task '%s'; tasks are named as the commands of linnet",
                    task);
    return options_new(t, out);
}

const struct linnet_option *linnet_option_at(const char *task, int index)
{
    const struct task *t = find(task);

    for (const struct option_row *r = t != NULL ? t->row : NULL; r != NULL && r->is.name; r++)
        if (index-- == 0)
            return &r->is;
    return NULL;
}

const char *linnet_message(void)
{
    return err_message();
}

const char *linnet_error_name(int code)
{
    return err_name(code);
}

const char *linnet_version(void)
{
    return LINNET_VERSION;
}
