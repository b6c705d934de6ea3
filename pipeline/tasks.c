/* The list of tasks; what of the API belongs to no task. */
#include "pipeline/tasks.h"

#include <string.h>

#include "core/base/version.h"

/* The numbers of linnet.h are those of core/base/err.h. */
_Static_assert((int)LINNET_NOMEM == (int)ERR_NOMEM, "linnet_error");
_Static_assert((int)LINNET_IO == (int)ERR_IO, "linnet_error");
_Static_assert((int)LINNET_FORMAT == (int)ERR_FORMAT, "linnet_error");
_Static_assert((int)LINNET_LIMIT == (int)ERR_LIMIT, "linnet_error");
_Static_assert((int)LINNET_UNSUPPORTED == (int)ERR_UNSUPPORTED, "linnet_error");
_Static_assert((int)LINNET_ARG == (int)ERR_ARG, "linnet_error");
_Static_assert((int)LINNET_DATA == (int)ERR_DATA, "linnet_error");
_Static_assert((int)LINNET_NET == (int)ERR_NET, "linnet_error");
_Static_assert((int)LINNET_PEER == (int)ERR_PEER, "linnet_error");
_Static_assert((int)LINNET_NUMERIC == (int)ERR_NUMERIC, "linnet_error");
_Static_assert((int)LINNET_VERIFY == (int)ERR_VERIFY, "linnet_error");
_Static_assert((int)LINNET_GOAL == (int)ERR_GOAL, "linnet_error");
_Static_assert((int)LINNET_INTERRUPTED == (int)ERR_INTERRUPTED, "linnet_error");

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
