/* linnet validate: a private-inference package against the float ONNX beside it. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "DIR", "Runs DIR/model.pi in the bundled runtime against DIR/model.onnx.",
    "linnet validate out --data cifar10:DIR", NULL};

int cmd_validate(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "validate", argc, argv);

    if (rc == 0)
        rc = cli_without_state(linnet_validate(f.c.arg[0], f.o, &f.listener, &r));
    return front_end(&f, rc, r);
}
