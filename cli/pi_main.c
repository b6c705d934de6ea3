/* linnet-pi: the table of its commands. */
#include "cli/cli.h"
#include "cli/commands.h"

static const struct command commands[] = {
    {"info", "a private-inference description, for people or as JSON", pi_cmd_info},
    {"eval", "run the description in one process", pi_cmd_eval},
    {"deal", "make single-use correlations for both parties", NULL},
    {"preprocess", "run the offline phase ahead", NULL},
    {"serve", "answer queries; owns the weights", NULL},
    {"query", "ask a server; owns the image", NULL},
    {"bench", "both parties over loopback: bytes, rounds, seconds", NULL},
    {0},
};

int main(int argc, char **argv)
{
    static const struct cli_program program = {
        "linnet-pi", "Private inference with a description made by linnet.", commands};

    return cli_main(&program, argc, argv);
}
