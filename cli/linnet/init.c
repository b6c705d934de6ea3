/* linnet init: a standard architecture with random weights as an ONNX file. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "core/graph/arch.h"
#include "core/op/op.h"
#include "exporter/exporter.h"

struct options {
    const char *output, *size;
    int64_t classes;
};
static const struct cli_option options[] = {
    {"output", 'o', CLI_TEXT, offsetof(struct options, output), "x.onnx", "the file to write", 0,
     0},
    {"classes", 0, CLI_INT, offsetof(struct options, classes), "K", "outputs (default 10)", 2,
     ARCH_MAX_CLASSES},
    {"size", 0, CLI_TEXT, offsetof(struct options, size), "HxW", "of an image (default 32x32)", 0,
     0},
    {0}};
static const struct cli_spec spec = {
    "ARCH",
    1,
    1,
    "Writes a standard architecture with random weights. ARCH is one of resnet8 resnet20 resnet32 resnet18 resnet34 resnet50 wrn16_4 wrn22_8 wrn28_10.",
    "linnet init resnet20 -o start.onnx --classes 10 --size 32x32",
    options};

/* Digits at *s, which moves behind them; 0 if there are none or too many. */
static int64_t read_side(const char **s)
{
    int64_t v = 0;

    for (; **s >= '0' && **s <= '9' && v < 100000; (*s)++)
        v = 10 * v + (**s - '0');
    return v;
}

/* "48x32", or "32" for a square. */
static int parse_size(const char *text, int64_t *height, int64_t *width)
{
    const char *s = text;

    *height = *width = read_side(&s);
    if (*s == 'x') {
        s++;
        *width = read_side(&s);
    }
    if (*s != '\0' || *height < 1 || *width < 1)
        return fail(ERR_ARG, "--size %s: is not HxW, for example 32x32", text);
    return 0;
}

static int64_t count_relus(const struct graph *g)
{
    int64_t relus = 0;

    for (int32_t i = 0; i < g->n_node; i++)
        if (g->node[i].op->flags & OP_RELU)
            relus += shape_elems(&g->value[g->node[i].out[0]].shape);
    return relus;
}

static int write_graph(const struct cli_common *c, const char *path, struct graph *g)
{
    struct export_options opt = {.form = MASK_WHERE};
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, c->seed);
    TRY(graph_set_meta(g, "linnet.arch", g->name));
    TRY(graph_set_meta(g, "linnet.seed", text));
    TRY(graph_set_meta(g, "linnet.version", LINNET_VERSION));
    TRY(onnx_export(g, &opt, path));
    cli_note(c, "%s: %s, %" PRId64 " parameters, %" PRId64 " ReLUs, seed %" PRId64, path, g->name,
             g->n_params, count_relus(g), c->seed);
    return 0;
}

int cmd_init(int argc, char **argv)
{
    struct options o = {.size = "32x32", .classes = 10};
    struct cli_common c;
    struct graph *g = NULL;
    int64_t height, width;
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && o.output == NULL)
        rc = fail(ERR_ARG, "give -o FILE.onnx");
    if (rc == 0 && (rc = parse_size(o.size, &height, &width)) == 0 &&
        (rc = arch_build(c.arg[0], o.classes, height, width, (uint64_t)c.seed, &g)) == 0)
        rc = write_graph(&c, o.output, g);
    graph_free(g);
    cli_release(&c);
    return rc;
}
