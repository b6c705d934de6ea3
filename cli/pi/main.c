/* linnet-pi: the table of its commands. */
#include "cli/cli.h"
#include "cli/commands.h"

static const struct command commands[] = {
    {"info", "what a model.pi says, for people or as JSON", pi_cmd_info},
    {"eval", "run a model.pi in one process", pi_cmd_eval},
    {"deal", "make single-use correlations for both parties", pi_cmd_deal},
    {"preprocess", "run the offline phase ahead of time", pi_cmd_preprocess},
    {"serve", "answer queries; owns the weights", pi_cmd_serve},
    {"query", "ask a server; owns the image", pi_cmd_query},
    {"bench", "both parties over loopback: bytes, rounds, seconds", pi_cmd_bench},
    {0},
};

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        "linnet-pi", "Private inference with a model.pi made by linnet.", commands};

    return cli_main(&program, argc, argv);
}
