/* linnet linearize: the whole conversion in one command. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL",
    "Replaces most ReLUs by identities, trains the network to stay accurate and robust, and writes ONNX and a private-inference package.",
    "linnet linearize resnet20.onnx --data cifar10:DIR --normalize imagenet --relus 10% --preset quick -o out",
    NULL};

int cmd_linearize(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "linearize", argc, argv);

    if (rc == 0)
        rc = linnet_linearize(f.c.arg[0], f.o, &f.listener, &r);
    if (rc == LINNET_INTERRUPTED && !front_has_state(front_text(&f, "output")))
        rc = cli_without_state(rc);
    return front_end(&f, rc, r);
}
