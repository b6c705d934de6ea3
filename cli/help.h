#ifndef CLI_HELP_H
#define CLI_HELP_H
#include "cli/option.h"

/* Prints the help of command `name` to stdout, its own options, then the common ones, or its usage
 * alone. Texts live in the arena. 0 or ERR_NOMEM. */
int cli_help(const struct cli_spec *spec, const struct cli_option *common, struct arena *arena,
             const char *name, bool usage) MUST_CHECK;
#endif
