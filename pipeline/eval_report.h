#ifndef PIPELINE_EVAL_REPORT_H
#define PIPELINE_EVAL_REPORT_H
/* An evaluation as JSON (linnet.eval/1) and as a table for people; shared by eval, linearize,
 * validate. All accuracies in percent with their 95 % Wilson interval and n. */
#include <jansson.h>
#include <stdio.h>

#include "pipeline/model.h"
#include "trainer/eval/eval.h"

/* New reference, NULL if out of memory. */
json_t *eval_report_json(const char *model, const char *split, const struct model_branches *names,
                         const struct eval_result *r);
void eval_report_print(FILE *out, const char *model, const char *split,
                       const struct model_branches *names, const struct eval_result *r);
#endif
