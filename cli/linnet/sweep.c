/* linnet sweep: several ReLU budgets from one teacher. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL",
    "Linearizes a model to several ReLU budgets from one teacher and compares the results.",
    "linnet sweep resnet20.onnx --data cifar10:DIR --normalize imagenet --relus 50%,20%,10% --preset quick -o out",
    NULL};

int cmd_sweep(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "sweep", argc, argv);

    if (rc == 0)
        rc = linnet_sweep(f.c.arg[0], f.o, &f.listener, &r);
    if (rc == LINNET_INTERRUPTED && !front_has_state(front_text(&f, "output")))
        rc = cli_without_state(rc);
    return front_end(&f, rc, r);
}
