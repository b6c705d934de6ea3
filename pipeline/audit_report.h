#ifndef PIPELINE_AUDIT_REPORT_H
#define PIPELINE_AUDIT_REPORT_H
/* The gradient-masking audit as JSON and as a table for people. */
#include <jansson.h>
#include <stdio.h>

#include "trainer/attack/audit.h"

json_t *audit_report_json(const struct audit_result *r); /* new reference */
void audit_report_print(FILE *out, const char *branch, const struct audit_result *r);
#endif
