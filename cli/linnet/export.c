/* linnet export: a model or a checkpoint as standard ONNX, and as a private-inference package. */
#include "cli/commands.h"
#include "cli/linnet/front.h"
#include "core/base/json.h"

static const struct cli_spec spec = {
    "MODEL|CHECKPOINT", "Writes standard ONNX and a private-inference package.",
    "linnet export out/checkpoint.safetensors --branch adv -o robust.onnx", NULL};

/* "linnet.export/1": what was written. */
static int write_json(const struct front *f)
{
    static const char *const part[] = {"model.pi", "model.pi.weights"};
    const char *onnx = front_text(f, "output"), *pi = front_text(f, "pi");
    json_t *files = json_array();
    char path[4096];
    int rc = onnx != NULL ? front_add_file(&files, onnx) : 0;

    for (int i = 0; i < 2 && pi != NULL && rc == 0; i++)
        if ((size_t)snprintf(path, sizeof path, "%s/%s", pi, part[i]) < sizeof path)
            rc = front_add_file(&files, path);
    if (rc < 0) {
        json_decref(files);
        return rc;
    }
    return cli_json_write(&f->c, json_pack("{s:s,s:o,s:o}", "format", "linnet.export/1", "model",
                                           json_text(f->c.arg[0]), "files", files));
}

int cmd_export(int argc, char **argv)
{
    struct front f;
    struct linnet_model *m = NULL;
    int rc = front_begin(&f, &spec, "export", argc, argv);

    if (rc == 0 && (rc = linnet_open(f.c.arg[0], f.o, &f.listener, &m)) == 0)
        rc = linnet_export(m, f.o, &f.listener);
    if (rc == 0 && f.c.json != NULL)
        rc = write_json(&f);
    linnet_close(m);
    return front_end(&f, rc, NULL);
}
