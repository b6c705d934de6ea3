#ifndef CLI_PI_REPORT_H
#define CLI_PI_REPORT_H
/* Bytes, rounds and seconds of a run, as the client counted them: table and JSON. */
#include "cli/cli.h"
#include "runtime/cost/cost.h"
#include "runtime/party/party.h"

/* A copy of what a party counted, so that it outlives it. Figures are per image. */
struct pi_report {
    const struct plan *plan;
    const struct relu_backend *relu;
    const struct linear_backend *linear;
    struct schedule *schedule;
    int64_t images;
    struct cost_count phase[PHASES];
    struct cost_count *online, *offline; /* [events + 2] */
    struct cost predicted;
    bool has_prediction;
};
/* Divides by the number of images; only setup stays a total. */
int pi_report_init(struct pi_report *r, const struct party *p, const struct plan *plan) MUST_CHECK;
void pi_report_release(struct pi_report *r);
/* What the cost model says for the report's own backends. */
int pi_report_predict(struct pi_report *r, const struct link *link,
                      const struct cost_machine *machine) MUST_CHECK;
void pi_report_phases(FILE *f, const struct pi_report *r);
void pi_report_layers(FILE *f, const struct pi_report *r);
/* The arrays of linnet.pibench/1; NULL: out of memory. */
json_t *pi_report_phases_json(const struct pi_report *r);
json_t *pi_report_layers_json(const struct pi_report *r);
json_t *pi_report_setup_json(const struct pi_report *r); /* of the whole connection */
/* Totals that a server counted, its account per phase. */
json_t *pi_report_totals_json(const struct cost_count phase[PHASES]);
/* Online bytes of comparisons, both directions. */
uint64_t pi_report_relu_bytes(const struct pi_report *r);
#endif
