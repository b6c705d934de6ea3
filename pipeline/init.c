/* Task "init": a standard architecture with random weights as an ONNX file. */
#include <inttypes.h>
#include <stdio.h>

#include "core/base/version.h"
#include "core/graph/arch.h"
#include "core/op/op.h"
#include "exporter/exporter.h"
#include "pipeline/listener.h"
#include "pipeline/model.h"
#include "pipeline/tasks.h"

struct init_settings {
    const char *size;
    int64_t classes;
};
#define FIELD(f) offsetof(struct init_settings, f)
static const struct option_row rows[] = {
    NUMBER("classes", 0, OPTION_INT, FIELD(classes), "K", "outputs (default 10)", 2,
           ARCH_MAX_CLASSES),
    OPTION("size", 0, OPTION_TEXT, FIELD(size), "HxW", "of an image (default 32x32)"), OPTION_END};
static const struct init_settings defaults = {.size = "32x32", .classes = 10};
const struct task init_task = {"init", rows, &defaults, sizeof defaults, NULL, false};

/* Digits at *s, which moves after them; 0 if there are none or too many. */
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

static int write_graph(const struct linnet_listener *l, uint64_t seed, const char *path,
                       struct graph *g)
{
    struct export_options opt = {.form = MASK_WHERE};
    char text[32];

    snprintf(text, sizeof text, "%" PRIu64, seed);
    TRY(graph_set_meta(g, "linnet.arch", g->name));
    TRY(graph_set_meta(g, "linnet.seed", text));
    TRY(graph_set_meta(g, "linnet.version", LINNET_VERSION));
    TRY(onnx_export(g, &opt, path));
    listener_note(l, "%s: %s, %" PRId64 " parameters, %" PRId64 " ReLUs, seed %" PRIu64, path,
                  g->name, g->n_params, count_relus(g), seed);
    return 0;
}

const char *linnet_architecture(int index)
{
    return arch_name(index);
}

int linnet_init(const char *architecture, const char *path, const struct linnet_options *o,
                const struct linnet_listener *l)
{
    const struct init_settings *s;
    SCOPED(graph_free_at) struct graph *g = NULL;
    int64_t height, width;

    TRY(options_read(o, &init_task, (const void **)&s));
    TRY(parse_size(s->size, &height, &width));
    const uint64_t seed = options_seed(o);
    TRY(arch_build(architecture, s->classes, height, width, seed, &g));
    return write_graph(l, seed, path, g);
}
