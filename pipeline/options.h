#ifndef PIPELINE_OPTIONS_H
#define PIPELINE_OPTIONS_H
/*
 * Options of a task: one table says their names, kinds, ranges and help; linnet_options_set checks a
 * text against its row and stores the value in the task's own struct, at the row's offset.
 *
 *     struct lint_options { int32_t target; };
 *     static const struct option_row rows[] = {
 *         OPTION("for", 0, OPTION_CHOICE, offsetof(struct lint_options, target), "crypten|ezpc",
 *                "the tool that shall read the file"),
 *         OPTION_END};
 *     static const struct lint_options defaults = {.target = -1};
 *     const struct task lint_task = {"lint", rows, &defaults, sizeof defaults, check, false};
 *
 * and the task's name goes into tasks.c. What was given is kept as a list too, for a task whose
 * defaults depend on options (linearize: the preset).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/value.h"
#include "pipeline/linnet.h"

enum option_kind {
    OPTION_FLAG,  /* bool; no value */
    OPTION_INT,   /* int64_t */
    OPTION_REAL,  /* double; "8/255" is understood */
    OPTION_TEXT,  /* const char *, owned by the options */
    OPTION_INPUT, /* the same, in the roles of enum linnet_role */
    OPTION_SOURCE,
    OPTION_OUTPUT,
    OPTION_FOLDER,
    OPTION_TEXTS,  /* struct value_texts: may be given several times */
    OPTION_CHOICE, /* int32_t: index of the word among those of `value`, "where|prelu|gather" */
};
struct option_row {
    struct linnet_option is;
    enum option_kind kind;
    size_t offset; /* of the field in the task's struct */
    double lo, hi; /* OPTION_INT, OPTION_REAL: allowed range; both 0 = any */
};
#define OPTION_ROLE(kind)                                                                          \
    ((kind) >= OPTION_INPUT && (kind) <= OPTION_FOLDER ? (enum linnet_role)((kind)-OPTION_TEXT)    \
                                                       : LINNET_ROLE_NONE)
/* A row for a number in a range, and for anything else. */
#define NUMBER(name, letter, kind, offset, value, help, lo, hi)                                    \
    {                                                                                              \
        {name, letter, value, help, (kind) == OPTION_TEXTS, OPTION_ROLE(kind)}, kind, offset, lo,  \
            hi                                                                                     \
    }
#define OPTION(name, letter, kind, offset, value, help)                                            \
    NUMBER(name, letter, kind, offset, value, help, 0, 0)
#define OPTION_END                                                                                 \
    {                                                                                              \
        .is = {.name = NULL }                                                                      \
    }

struct task {
    const char *name;
    const struct option_row *row; /* OPTION_END ends it */
    const void *defaults;         /* of its struct */
    size_t size;
    /* May be NULL: rules between options, asked before any file is read. */
    int (*check)(const struct linnet_options *o);
    bool opens; /* its struct begins with a struct open_options (model.h) */
};

/* ERR_NOMEM. */
int options_new(const struct task *task, struct linnet_options **out) MUST_CHECK;
/* The task's struct as it was set; its defaults for o NULL, which the functions below take too. ERR_ARG
 * for options of another task, those that do not pass the check, and NULL where there is one. */
int options_read(const struct linnet_options *o, const struct task *task,
                 const void **values) MUST_CHECK;
/* The struct, unchecked, of whatever task it is. */
const void *options_values(const struct linnet_options *o);
const struct task *options_task(const struct linnet_options *o);
uint64_t options_seed(const struct linnet_options *o);
/* Writes all that was set into another struct of the task; its texts live as long as o. */
int options_fill(const struct linnet_options *o, void *values) MUST_CHECK;
#endif
