/* linnet eval: clean, attacked and corrupted accuracy of a model or a checkpoint. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL|CHECKPOINT", "Accuracies with 95 % Wilson intervals.",
    "linnet eval resnet20.onnx --data cifar10:DIR --normalize imagenet --attack pgd:steps=20",
    NULL};

int cmd_eval(int argc, char **argv)
{
    struct front f;
    struct linnet_model *m = NULL;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "eval", argc, argv);

    if (rc == 0 && (rc = linnet_open(f.c.arg[0], f.o, &f.listener, &m)) == 0)
        rc = linnet_evaluate(m, f.o, &f.listener, &r);
    if (rc == LINNET_INTERRUPTED && front_text(&f, "state") == NULL)
        rc = cli_without_state(rc);
    linnet_close(m);
    return front_end(&f, rc, r);
}
