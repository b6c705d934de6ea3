/* --help and --usage of a command: its option table and the common one, laid out by argp. */
#define _GNU_SOURCE /* argp, stpcpy */
#include "cli/help.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>

#define MOST_WORDS 48 /* characters of a choice that --help shows in its first column */

static int count_bars(const char *words)
{
    int n = 0;

    for (; *words != '\0'; words++)
        n += *words == '|';
    return n;
}

/* A list of words that is too long for argp's column moves into the text, with blanks to break at. */
static const char *word_list(struct arena *arena, const struct cli_option *o)
{
    const size_t n = strlen(o->arg), bars = (size_t)count_bars(o->arg);
    char *list = arena_array(arena, n + bars + 1, 1), *to = list;

    for (const char *from = o->arg; list != NULL && *from != '\0'; from++)
        if (*from == '|')
            to = stpcpy(to, ", ");
        else
            *to++ = *from;
    return list != NULL ? arena_printf(arena, "%s; %s", list, o->help) : o->help;
}

static void fill_argp_options(struct arena *arena, struct argp_option *to,
                              const struct cli_option *from, int group)
{
    for (int i = 0; from != NULL && from->name != NULL; from++, to++, i++) {
        const bool is_long = from->arg != NULL && strlen(from->arg) > MOST_WORDS;

        to->name = from->name;
        to->key = from->letter ? from->letter : 0x100 * group + i;
        to->arg = is_long ? "WORD" : from->arg;
        to->doc = is_long ? word_list(arena, from) : from->help;
        to->group = group;
    }
}

int cli_help(const struct cli_spec *spec, const struct cli_option *common, struct arena *arena,
             const char *name, bool usage)
{
    const int32_t n = cli_option_rows(spec->option), m = cli_option_rows(common);
    OWNED struct argp_option *options = mem_array((size_t)(n + m + 1), sizeof *options);
    size_t room = strlen(spec->doc) + strlen(spec->example) + 32;
    OWNED char *doc = mem_array(room, 1), *prog = mem_strdup(name);
    struct argp argp = {.options = options, .args_doc = spec->args, .doc = doc};

    if (options == NULL || doc == NULL || prog == NULL)
        return ERR_NOMEM;
    fill_argp_options(arena, options, spec->option, 1);
    fill_argp_options(arena, options + n, common, 2);
    snprintf(doc, room, "%s\vExample:\n  %s", spec->doc, spec->example);
    argp_help(&argp, stdout,
              usage ? ARGP_HELP_USAGE : ARGP_HELP_SHORT_USAGE | ARGP_HELP_LONG | ARGP_HELP_DOC,
              prog);
    return 0;
}
