/* linnet init: a standard architecture with random weights as an ONNX file. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_option own[] = {
    {"output", 'o', CLI_OUTPUT, 0, "x.onnx", "the file to write", 0, 0}, {0}};
static const struct cli_spec spec = {
    "ARCH",
    1,
    1,
    "Writes a standard architecture with random weights. ARCH is one of resnet8 resnet20 resnet32 resnet18 resnet34 resnet50 wrn16_4 wrn22_8 wrn28_10.",
    "linnet init resnet20 -o start.onnx --classes 10 --size 32x32",
    own};

int cmd_init(int argc, char **argv)
{
    struct front f;
    int rc = front_begin(&f, &spec, "init", argc, argv);

    if (rc == 0 && front_text(&f, "output") == NULL)
        rc = fail(ERR_ARG, "give -o FILE.onnx");
    if (rc == 0)
        rc = linnet_init(f.c.arg[0], front_text(&f, "output"), f.o, &f.listener);
    return front_end(&f, rc, NULL);
}
