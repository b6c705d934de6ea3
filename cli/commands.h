#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H
/* The commands of both programs; each returns 0 or a negative ERR_* (cli.h shows how to write one).
 * argv[0] is "program command". */

/* linnet: cli/linnet */
int cmd_inspect(int argc, char **argv);
int cmd_init(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_linearize(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_validate(int argc, char **argv);
int cmd_data(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_corrupt(int argc, char **argv);
int cmd_lint(int argc, char **argv);

/* linnet-pi: cli/pi */
int pi_cmd_info(int argc, char **argv);
int pi_cmd_eval(int argc, char **argv);
int pi_cmd_deal(int argc, char **argv);
int pi_cmd_preprocess(int argc, char **argv);
int pi_cmd_keep(int argc, char **argv);
int pi_cmd_serve(int argc, char **argv);
int pi_cmd_query(int argc, char **argv);
int pi_cmd_bench(int argc, char **argv);
#endif
