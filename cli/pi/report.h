#ifndef CLI_PI_REPORT_H
#define CLI_PI_REPORT_H
/* Bytes, rounds and seconds of a run, as the client counted them: table and JSON. */
#include "cli/cli.h"
#include "runtime/report.h"

void pi_report_phases(FILE *f, const struct pi_report *r);
void pi_report_layers(FILE *f, const struct pi_report *r);
/* The arrays of linnet.pibench/1; NULL: out of memory. */
json_t *pi_report_phases_json(const struct pi_report *r);
json_t *pi_report_layers_json(const struct pi_report *r);
json_t *pi_report_setup_json(const struct pi_report *r); /* of the whole connection */
/* Totals that a server counted, its account per phase. */
json_t *pi_report_totals_json(const struct cost_count phase[PHASES]);
#endif
