/* linnet inspect: what a model file holds, what it costs, and every reason to refuse it. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL",
    "Prints what an ONNX file holds: interface, operators, ReLUs per layer, memory, the cost of private inference, and every reason to refuse it.",
    "linnet inspect resnet20.onnx --json report.json", NULL};

int cmd_inspect(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "inspect", argc, argv);

    if (rc == 0)
        rc = linnet_inspect(f.c.arg[0], f.o, &r);
    return front_end(&f, rc, r);
}
