/* linnet-pi: the table of its commands. */
#include "cli/cli.h"
#include "cli/commands.h"

static const struct command commands[] = {
    {"info", "what a model.pi says, for people or as JSON", pi_cmd_info},
    {"eval", "run a model.pi in one process", pi_cmd_eval},
    {"deal", "make single-use correlations for both parties", pi_cmd_deal},
    {"preprocess", "run the offline phase ahead of time", pi_cmd_preprocess},
    {"keep", "refill a folder of bundles in the background", pi_cmd_keep},
    {"serve", "answer queries; owns the weights", pi_cmd_serve},
    {"query", "ask a server; owns the image", pi_cmd_query},
    {"bench", "both parties over loopback: bytes, rounds, seconds", pi_cmd_bench},
    {0},
};

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        "linnet-pi", "Private inference with a model.pi made by linnet.", commands};

    /* A party waits for the other one more than it computes, and where both share a machine, or a server has
     * several processes, threads that spin take the cores that the others need (ResNet-18 with silent OT: a
     * quarter of all samples of a profile). */
    cli_wait_policy("OMP_WAIT_POLICY", "passive", argv);
    return cli_main(&program, argc, argv);
}
