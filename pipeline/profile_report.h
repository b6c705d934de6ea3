#ifndef PIPELINE_PROFILE_REPORT_H
#define PIPELINE_PROFILE_REPORT_H
/* --profile: time by layer as a table and as JSON; milliseconds of one thread per 1,000 images. */
#include <jansson.h>
#include <stdio.h>

#include "core/exec/profile.h"

/* Nothing where no image went through. name: "inference". */
void profile_report_print(FILE *out, const char *name, const struct profile *p);
/* {"images","layers":[{"name","op","shape":[...],"ms","share","gflops"}]}: all directions together,
 * share in per cent, gflops null where none are counted. New reference. */
json_t *profile_report_json(const struct profile *p);
#endif
