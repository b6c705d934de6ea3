/* linnet: the table of its commands. */
#include "cli/cli.h"
#include "cli/commands.h"

static const struct command commands[] = {
    {"inspect", "what a model holds, and every reason to refuse it", cmd_inspect},
    {"init", "a standard architecture with random weights", cmd_init},
    {"run", "logits of a model for images in a .npy file", cmd_run},
    {"train", "plain or robust training", cmd_train},
    {"linearize", "remove most ReLUs: the whole conversion", cmd_linearize},
    {"sweep", "several ReLU budgets from one teacher", cmd_sweep},
    {"eval", "accuracy: clean, under attack, under corruption", cmd_eval},
    {"export", "write ONNX, and a private-inference package with --pi", cmd_export},
    {"validate", "compare a private-inference package with its float model", cmd_validate},
    {"report", "one HTML page about the results of linearize or sweep", cmd_report},
    {"corrupt", "write a CIFAR-10-C style folder", cmd_corrupt},
    {"data", "what a data source holds; conversion to .npy", cmd_data},
    {"lint", "nodes that a downstream importer would refuse", cmd_lint},
    {0},
};

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        "linnet",
        "Reads an ONNX classifier, removes most of its ReLUs, keeps it accurate and robust.",
        commands};

    /* Some microseconds: enough for most gaps between layers (without any, training of ResNet-20 takes 1.15 times
     * as long), and beside other work it does no harm: with the default of libgomp, a short linearize on a
     * busy machine took 24 s of CPU, 22 of them spinning, with this 2.6. */
    cli_wait_policy("GOMP_SPINCOUNT", "5000", argv);
    return cli_main(&program, argc, argv);
}
