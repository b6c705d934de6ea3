#ifndef CLI_CLI_H
#define CLI_CLI_H
/*
 * What every command of both programs shares: option tables, the common options, exit codes,
 * messages, progress line, signals, JSON results.
 *
 * A command is one file of cli/pi (of cli/linnet, where front.h does most of it), one declaration in
 * cli/commands.h and one line in the program's table:
 *
 *     struct options { const char *data; int64_t limit; bool audit; };
 *     static const struct cli_option options[] = {
 *         {"data", 'd', CLI_TEXT, offsetof(struct options, data), "SRC", "images", 0, 0},
 *         {"limit", 0, CLI_INT, offsetof(struct options, limit), "N", "first N images", 1, 1e9},
 *         {"audit", 0, CLI_FLAG, offsetof(struct options, audit), NULL, "check gradients", 0, 0},
 *         {0}};
 *     static const struct cli_spec spec = {"MODEL", "Accuracy of a model.",
 *                                          "linnet eval m.onnx --data cifar10:DIR", options};
 *     int cmd_eval(int argc, char **argv)
 *     {
 *         struct options o = {.limit = -1};             // defaults: what is not given stays
 *         struct cli_common c;
 *         int rc = cli_parse(&spec, argc, argv, &c, &o);
 *         if (rc == 0)
 *             rc = evaluate(c.arg[0], &o, &c);          // 0 or a negative ERR_*
 *         cli_release(&c);
 *         return rc;                                    // cli_main prints the message
 *     }
 *
 * Results go to cli_out() (stdout), messages and progress to stderr. An error is returned, never
 * printed by the command: cli_main writes "program: command: message" and maps the code.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "cli/option.h"
#include "core/base/mem.h"
#include "core/base/version.h"

#define CLI_MAX_ARGS 16
#define CLI_DEFAULT_SEED 1

struct command {
    const char *name, *help;           /* one line of help */
    int (*run)(int argc, char **argv); /* NULL: "not in this version", exit 2 */
};
struct cli_program {
    const char *name, *doc;
    const struct command *command; /* ends with name NULL */
};

/* How threads wait for the next parallel region: sets the variable of the environment and loads the
 * program again, since OpenMP reads it only then; where that cannot be, or the user has set
 * OMP_WAIT_POLICY or GOMP_SPINCOUNT, the program runs as it is. The first thing in main. */
void cli_wait_policy(const char *variable, const char *value, char **argv);

enum cli_progress_mode {
    CLI_PROGRESS_AUTO,
    CLI_PROGRESS_BAR,
    CLI_PROGRESS_PLAIN,
    CLI_PROGRESS_NONE
};
/* Result of the shared parser. */
struct cli_common {
    const char *arg[CLI_MAX_ARGS]; /* positional arguments */
    int32_t n_arg;
    int32_t verbose;
    bool quiet, help, usage, version;
    int64_t seed;     /* CLI_DEFAULT_SEED unless given */
    int64_t threads;  /* 0: default; cli_parse has called cpu_set_threads */
    const char *json; /* FILE of --json, "-" = stdout, NULL = not wanted */
    const char *config;
    int32_t progress;    /* enum cli_progress_mode */
    struct arena *arena; /* texts read from --config live here */
};

/* Reads argv[1..] into *c and the command's struct. --help, --usage and --version print and leave.
 * Errors (ERR_ARG) name the option, the rule, and a similar name where there is one.
 * The command line wins over --config. Call cli_release in every case. */
int cli_parse(const struct cli_spec *spec, int argc, char **argv, struct cli_common *c,
              void *options) MUST_CHECK;
void cli_release(struct cli_common *c);

/* Finds and runs the command; returns the exit code of the process. */
int cli_main(const struct cli_program *program, int argc, char **argv);
/* The exit code for a negative ERR_*, 0 for 0. */
int cli_exit_code(int rc);
/* Around calls that read data sets: FORMAT, LIMIT and UNSUPPORTED become ERR_DATA (exit 4). */
int cli_as_data(int rc);

/* Where results go: stdout, or stderr if --json - has taken stdout. */
FILE *cli_out(const struct cli_common *c);
/* A line on stderr: note unless -q, detail only with -v. */
void cli_note(const struct cli_common *c, const char *fmt, ...) ERR_PRINTF(2, 3);
void cli_detail(const struct cli_common *c, const char *fmt, ...) ERR_PRINTF(2, 3);

/* SIGINT, SIGTERM and SIGHUP from now on raise a flag and say so; a second one ends the process. Before
 * that each ends it: a command that is still reading has nothing to save. */
void cli_catch_signals(void);
/* Was one of them sent? The first question catches them, so that whoever asks can stop. */
bool cli_interrupted(void);
/* For commands without a state to go on from: ERR_INTERRUPTED (exit 75) becomes ERR_IO (exit 1). */
int cli_without_state(int rc);

/* Does standard error take colours? NO_COLOR (no-color.org) says no. */
bool cli_has_colour(void);
/* One line about a long job: a bar that is rewritten on a terminal, else a line every 10 s. */
struct cli_progress {
    enum cli_progress_mode mode;
    const char *label;
    double start, last;
    double left; /* seconds, -1: those of this job at the speed so far */
    bool drawn;
};
void cli_progress_begin(struct cli_progress *p, const struct cli_common *c, const char *label);
/* Seconds that the next lines tell as left: this job is a part of a longer one. -1: not known. */
void cli_progress_left(struct cli_progress *p, double seconds);
/* done in [0,1]; the text ("loss 0.41") may be "". Cheap: draws at most ten times a second. */
void cli_progress_at(struct cli_progress *p, double done, const char *fmt, ...) ERR_PRINTF(3, 4);
void cli_progress_end(struct cli_progress *p); /* clears the bar */

/* Writes the result where --json says (nothing if not given) with sorted keys and 17 digits; files
 * atomically. Steals the reference to `root`; NULL root is ERR_NOMEM. */
int cli_json_write(const struct cli_common *c, json_t *root) MUST_CHECK;
/* The same for a text that is JSON already. */
int cli_json_text(const struct cli_common *c, const char *text) MUST_CHECK;
#endif
