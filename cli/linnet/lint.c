/* linnet lint: what the importer of a private-inference tool would refuse in an ONNX file. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL",
    "Lists the nodes of an ONNX file that a private-inference tool would refuse or misread. Exit status 3 if there are any. SPU and MP-SPDZ read no ONNX.",
    "linnet lint y.onnx --for crypten", NULL};

int cmd_lint(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "lint", argc, argv);

    if (rc == 0)
        rc = linnet_lint(f.c.arg[0], f.o, &r);
    return front_end(&f, rc, r);
}
