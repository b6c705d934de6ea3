/* linnet linearize: the whole conversion in one command. */
#include "cli/commands.h"
#include "pipeline/linearize.h"

static const struct cli_spec spec = {
    "MODEL",
    1,
    1,
    "Replaces most ReLUs by identities, trains the network to stay accurate and robust, and writes ONNX and a private-inference package.",
    "linnet linearize resnet20.onnx --data cifar10:DIR --normalize imagenet --relus 10% --preset quick -o out",
    linearize_table};

int cmd_linearize(int argc, char **argv)
{
    struct linearize_options o;
    struct cli_common c = {0};
    struct linearize *l = mem_array(1, sizeof *l);
    int rc = linearize_parse(&spec, argc, argv, &c, &o);

    if (rc == 0 && l == NULL)
        rc = ERR_NOMEM;
    if (rc == 0) {
        l->c = &c;
        l->o = &o;
        l->model = c.arg[0];
        cli_catch_signals();
        rc = linearize_run(l);
    }
    if (l)
        linearize_release(l);
    mem_free(l);
    cli_release(&c);
    return rc;
}
