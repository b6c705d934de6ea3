/* linnet corrupt: a data set under the common corruptions, as a CIFAR-10-C style folder. */
#include "cli/commands.h"
#include "cli/linnet/front.h"

static const struct cli_spec spec = {
    "",
    "Writes TYPE.npy (uint8, severities one after the other, images [H,W,3]) and labels.npy. This is a re-implementation; figures for CIFAR-10-C itself come from the published files. The same --seed gives the same bytes, for any number of threads.",
    "linnet corrupt --data cifar10:DIR -o cifar10-generated --types fog,contrast --severity 1-5",
    NULL};

int cmd_corrupt(int argc, char **argv)
{
    struct front f;
    struct linnet_report *r = NULL;
    int rc = front_begin(&f, &spec, "corrupt", argc, argv);

    if (rc == 0)
        rc = cli_without_state(linnet_corrupt(f.o, &f.listener, &r));
    return front_end(&f, rc, r);
}
