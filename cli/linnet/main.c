/*
 * linnet: the table of its commands, and its ranks (core/base/ranks.h).
 *
 * Only rank 0 speaks. A failure of all is told by it; what befell another rank alone is told by that one,
 * which waits a moment for rank 0. Whoever fails ends all the others; after an interruption all end
 * by themselves, together.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/base/ranks.h"
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

/* Standard output and error of a rank other than 0 lead nowhere. Returns where to speak if need be. */
static int fall_silent(void)
{
    int nowhere, speaks;

    if (ranks_index() == 0)
        return STDERR_FILENO;
    fflush(stdout);
    speaks = dup(STDERR_FILENO);
    nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0) {
        dup2(nowhere, STDOUT_FILENO);
        dup2(nowhere, STDERR_FILENO);
        close(nowhere);
    }
    return speaks;
}

static void end_all(int code, int rank, int speaks)
{
    const struct timespec moment = {.tv_sec = 1};

    if (rank > 0) {
        nanosleep(&moment, NULL);
        dprintf(speaks, "linnet: rank %d: %s\n", rank, err_message());
    }
    ranks_abort(code);
}

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
    if (ranks_begin() < 0) {
        fprintf(stderr, "linnet: %s\n", err_message());
        end_all(cli_exit_code(ERR_ARG), ranks_index(), STDERR_FILENO);
        return cli_exit_code(ERR_ARG);
    }
    const int rank = ranks_index(), speaks = fall_silent(), code = cli_main(&program, argc, argv);

    if (code != 0 && code != cli_exit_code(ERR_INTERRUPTED))
        end_all(code, rank, speaks);
    ranks_end();
    return code;
}
