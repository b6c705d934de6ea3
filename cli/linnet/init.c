/* linnet init: a standard architecture with random weights as an ONNX file. */
#include <string.h>

#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_option own[] = {
    {"output", 'o', CLI_OUTPUT, 0, "x.onnx", "the file to write", 0, 0}, {0}};

/* "linnet.init/1": the file, and what a reader finds in it. */
static int write_json(const struct front *f, const char *path)
{
    struct linnet_model *m = NULL;
    json_t *files = json_array();
    int rc = front_add_file(&files, path);

    if (rc < 0 || (rc = linnet_open(path, NULL, NULL, &m)) < 0) {
        json_decref(files);
        return rc;
    }
    const struct linnet_info *i = linnet_model_info(m);
    rc = cli_json_write(
        &f->c,
        json_pack("{s:s,s:s,s:I,s:o,s:[I,I,I],s:I,s:I,s:I,s:I}", "format", "linnet.init/1",
                  "architecture", f->c.arg[0], "seed", (json_int_t)f->c.seed, "files", files,
                  "input", (json_int_t)i->channels, (json_int_t)i->height, (json_int_t)i->width,
                  "classes", (json_int_t)i->classes, "params", (json_int_t)i->parameters, "macs",
                  (json_int_t)i->macs, "relus_total", (json_int_t)i->relus_total));
    linnet_close(m);
    return rc;
}

static int init(const struct front *f)
{
    const char *path = front_text(f, "output");

    if (path == NULL)
        return fail(ERR_ARG, "give -o FILE.onnx");
    TRY(linnet_init(f->c.arg[0], path, f->o, &f->listener));
    return f->c.json != NULL ? write_json(f, path) : 0;
}

int cmd_init(int argc, char **argv)
{
    char doc[512] = "Writes a standard architecture with random weights. ARCH is one of";
    const struct cli_spec spec = {
        "ARCH", doc, "linnet init resnet20 -o start.onnx --classes 10 --size 32x32", own};
    struct front f;
    size_t used = strlen(doc);

    for (int i = 0; linnet_architecture(i) != NULL && used < sizeof doc; i++)
        used += (size_t)snprintf(doc + used, sizeof doc - used, "%s %s", i > 0 ? "," : "",
                                 linnet_architecture(i));
    int rc = front_begin(&f, &spec, "init", argc, argv);
    if (rc == 0)
        rc = init(&f);
    return front_end(&f, rc, NULL);
}
