/* linnet export: a model or a checkpoint as standard ONNX, and as a private-inference package. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL|CHECKPOINT",
    1,
    1,
    "Writes standard ONNX and a private-inference package.",
    "linnet export out/checkpoint.safetensors --branch adv -o robust.onnx",
    NULL};

int cmd_export(int argc, char **argv)
{
    struct front f;
    struct linnet_model *m = NULL;
    int rc = front_begin(&f, &spec, "export", argc, argv);

    if (rc == 0 && (rc = linnet_open(f.c.arg[0], f.o, &f.listener, &m)) == 0)
        rc = linnet_export(m, f.o, &f.listener);
    linnet_close(m);
    return front_end(&f, rc, NULL);
}
