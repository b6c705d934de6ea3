#ifndef PIPELINE_LINEARIZE_REPORT_H
#define PIPELINE_LINEARIZE_REPORT_H
/* The report of a conversion: linnet.report/1 and the table for people. */
#include "pipeline/conversion.h"
#include "pipeline/summary.h"

struct linearize_facts {
    const char *path; /* of the model that was given */
    const struct conversion *c;
    const struct summary *column; /* [SUMMARY_COLUMNS] */
    const bool *measured;
};
json_t *linearize_report_json(const struct linearize_facts *f); /* new reference */
void linearize_report_print(FILE *out, const void *facts);
#endif
