/* linnet report: the page of one or more output folders. */
#include "cli/cli.h"
#include "cli/commands.h"
#include "pipeline/linnet.h"

struct report_options {
    const char *output;
};

static const struct cli_option report_option[] = {
    {"output", 'o', CLI_OUTPUT, offsetof(struct report_options, output), "FILE",
     "the page (default report.html in the first folder)", 0, 0},
    {0}};

static const struct cli_spec spec = {
    "DIR...",
    "Writes one self-contained HTML file about the folders that linearize or sweep wrote: accuracies of every file, ReLUs per layer, maps of kept positions, training curves, predicted private inference, and how to repeat the run.",
    "linnet report out -o report.html", report_option};

static int report(const struct cli_common *c, const struct report_options *o)
{
    char path[4096];

    if (o->output != NULL)
        return linnet_page(c->arg, c->n_arg, o->output);
    if ((size_t)snprintf(path, sizeof path, "%s/report.html", c->arg[0]) >= sizeof path)
        return fail(ERR_ARG, "'%s': the path is too long", c->arg[0]);
    TRY(linnet_page(c->arg, c->n_arg, path));
    cli_note(c, "page: %s", path);
    return 0;
}

int cmd_report(int argc, char **argv)
{
    struct report_options o = {0};
    SCOPED(cli_release) struct cli_common c = {0};

    TRY(cli_parse(&spec, argc, argv, &c, &o));
    return report(&c, &o);
}
