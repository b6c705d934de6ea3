/* linnet train: plain or robust training of any importable model. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "MODEL", "Trains a model, plainly or robustly, and writes ONNX again.",
    "linnet train resnet18.onnx --data cifar10:DIR --normalize cifar10 --adversarial pgd:steps=7 --augment augmix --dual-bn -o robust.onnx",
    NULL};

int cmd_train(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "train", argc, argv);

    if (rc == 0)
        rc = linnet_train(f.c.arg[0], f.o, &f.listener, &r);
    return front_end(&f, rc, r);
}
