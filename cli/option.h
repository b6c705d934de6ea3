#ifndef CLI_OPTION_H
#define CLI_OPTION_H
/* Option tables: what a command takes, and how the text of a value becomes one. cli.h shows one. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/value.h"

enum cli_kind {
    CLI_FLAG,  /* bool, set to true; no value */
    CLI_COUNT, /* int32_t, raised by each use; no value */
    CLI_INT,   /* int64_t */
    CLI_REAL,  /* double; "8/255" is understood */
    CLI_TEXT,  /* const char * */
    /* The same, and files.h compares them before the command begins: */
    CLI_INPUT,  /* a file, or a folder with files, that is read */
    CLI_SOURCE, /* images: "cifar10:DIR", "npy:X,Y" */
    CLI_OUTPUT, /* a file that is written; "-" is stdout */
    CLI_FOLDER, /* a folder that files are written into */
    CLI_TEXTS,  /* struct value_texts: may be given several times */
    CLI_CHOICE, /* int32_t: index of the word among those in `arg`, "where|prelu|gather" */
};
struct cli_option {
    const char *name; /* long name; NULL ends a table */
    char letter;      /* short name, 0 for none */
    enum cli_kind kind;
    size_t offset;   /* of the field in the command's struct */
    const char *arg; /* what --help calls the value; the words of a CLI_CHOICE */
    const char *help;
    double lo, hi; /* CLI_INT, CLI_REAL: allowed range; both 0 = any */
};
struct cli_spec {
    /* Positional arguments as --help shows them: "" none, "MODEL" one, "DIR..." several. */
    const char *args;
    const char *doc;                 /* one paragraph for --help */
    const char *example;             /* a command line that works */
    const struct cli_option *option; /* may be NULL */
};

/* Rows of a table before its end; 0 for NULL. */
int32_t cli_option_rows(const struct cli_option *table);
bool cli_option_takes_value(const struct cli_option *o);
/* Stores one value in the field at base + o->offset; text is NULL for options without one. ERR_ARG
 * names option, value and rule. */
int cli_option_set(const struct cli_option *o, void *base, struct arena *arena,
                   const char *text) MUST_CHECK;
#endif
