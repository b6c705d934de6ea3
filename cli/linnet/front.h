#ifndef CLI_LINNET_FRONT_H
#define CLI_LINNET_FRONT_H
/*
 * What the commands of linnet share: options in, library call, text out.
 *
 *     static const struct cli_spec spec = {"MODEL", "Accuracies.", "linnet eval m.onnx ...",
 *                                          NULL};
 *     int cmd_eval(int argc, char **argv)
 *     {
 *         struct front f;
 *         struct linnet_report *r = NULL;
 *         int rc = front_begin(&f, &spec, "eval", argc, argv);
 *
 *         if (rc == 0)
 *             rc = linnet_something(f.c.arg[0], f.o, &f.listener, &r);
 *         return front_end(&f, rc, r);
 *     }
 *
 * Options are those of the library's task, --seed goes there too. A command's own ones stand in its
 * spec as CLI_FLAG or one of the texts, without a field: front_flag and front_text ask for them.
 */
#include "cli/cli.h"
#include "cli/linnet/plan.h"
#include "pipeline/linnet.h"

struct front_value; /* what the command line said of one option */
struct front {
    struct cli_common c;
    struct linnet_options *o;
    struct linnet_listener listener; /* messages and progress to stderr, signals */
    struct cli_progress progress;
    bool in_progress;
    struct plan_view plan;
    struct cli_option *row; /* the command's own, then the task's */
    struct front_value *value;
};
int front_begin(struct front *f, const struct cli_spec *spec, const char *task, int argc,
                char **argv) MUST_CHECK;
const char *front_text(const struct front *f, const char *name); /* NULL where it is not given */
bool front_flag(const struct front *f, const char *name);
/* Does an output folder, or one in it, hold the state of a training? */
bool front_has_state(const char *folder);
/* Adds {"path","bytes","sha256"} of a file that was written to a list of them. */
int front_add_file(json_t **list, const char *path) MUST_CHECK;
/* Prints the report (may be NULL), writes --json, frees all. Returns rc, or the failure of that. */
int front_end(struct front *f, int rc, struct linnet_report *report) MUST_CHECK;
#endif
