#ifndef PIPELINE_METRICS_H
#define PIPELINE_METRICS_H
/*
 * metrics.jsonl: one JSON object a line, written as training goes. It survives a kill: a resumed run
 * reads the lines that are there, drops those of epochs that are trained again, and appends.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/err.h"

struct metrics {
    char *path;
    FILE *file;
    struct metrics_line {
        char *text;
        json_t *root;
    } * line;
    int32_t n;
    size_t cap;
};
/* Of several ranks only the first opens a file. keep: start with the lines of an earlier run, if there are any. metrics_close in every case. */
int metrics_open(struct metrics *m, const char *path, bool keep) MUST_CHECK;
void metrics_close(struct metrics *m);
int metrics_add(struct metrics *m, const char *json) MUST_CHECK;
/* Drops the lines of `stage` whose epoch (from 1) is above `epochs`. */
int metrics_rewind(struct metrics *m, const char *stage, int32_t epochs) MUST_CHECK;
/* metrics.csv beside it: a row an epoch, with every number of its line; an object's keys become "val.clean". */
int metrics_write_csv(const struct metrics *m) MUST_CHECK;
/* New reference: of every stage that has epochs here, in order, {name, epochs, seconds,
 * images_per_s, loss}. Work that a kill threw away is not in it. */
json_t *metrics_stages(const struct metrics *m);
/* New reference: the lines with "event": event, without that key. */
json_t *metrics_events(const struct metrics *m, const char *event);
#endif
