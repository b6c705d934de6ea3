#ifndef PIPELINE_PAGE_RUN_H
#define PIPELINE_PAGE_RUN_H
/* One folder of linearize, as the page reads it. */
#include <jansson.h>
#include <stdint.h>

#include "core/base/safetensors.h"

#define REPORT_LIMIT ((size_t)64 << 20) /* bytes of a file of it */

struct page_run {
    char folder[4096];
    const char *name; /* last part of folder */
    json_t *report;   /* report.json */
    json_t *metrics;  /* array of the lines of metrics.jsonl; empty where there is none */
    struct st_reader *checkpoint; /* NULL where there is none */
};
/* Opens DIR; ERR_FORMAT where report.json is none of ours. page_run_close in every case. */
int page_run_open(const char *folder, struct page_run *out) MUST_CHECK;
void page_run_close(struct page_run *r);
/* *out: DIR/sweep.json, NULL where the folder has none. */
int page_sweep_open(const char *folder, json_t **out) MUST_CHECK;
/* The member named `branch` of an evaluation's "branches", NULL if there is none. */
const json_t *page_branch(const json_t *eval, const char *branch);
/* A number, NaN where it is none; one of an object; a text of an object, NULL where it is none. */
double page_value(const json_t *v);
double page_number(const json_t *o, const char *key);
const char *page_text(const json_t *o, const char *key);
#endif
