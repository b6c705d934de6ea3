#ifndef PIPELINE_REPORT_H
#define PIPELINE_REPORT_H
/* Reports (linnet.h): a JSON tree and the lines for people, made at once. */
#include <jansson.h>
#include <stdio.h>

#include "core/base/err.h"
#include "pipeline/linnet.h"

typedef void report_print_fn(FILE *out, const void *facts);
/* print may be NULL. Steals root; a NULL root is ERR_NOMEM. out may be NULL. */
int report_new(report_print_fn *print, const void *facts, json_t *root,
               struct linnet_report **out) MUST_CHECK;

struct shape;
/* The sizes of an image's values: without the batch. */
json_t *report_shape(const struct shape *s);
/* Writes root (stolen) to a file as linnet_report_json spells it; NULL root is ERR_NOMEM. */
int report_write(const char *path, json_t *root) MUST_CHECK;
#endif
