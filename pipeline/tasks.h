#ifndef PIPELINE_TASKS_H
#define PIPELINE_TASKS_H
/* The tasks that linnet_options_new knows; each stands in its own file. */
#include "pipeline/options.h"

extern const struct task open_task, inspect_task, init_task, data_task, eval_task, train_task,
    linearize_task, sweep_task, export_task, validate_task, corrupt_task, lint_task;
#endif
