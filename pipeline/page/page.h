#ifndef PIPELINE_PAGE_PAGE_H
#define PIPELINE_PAGE_PAGE_H
/*
 * The report page: one HTML file out of the folders that linearize or sweep wrote. It needs no network
 * and no scripts, holds the report's JSON, and depends on nothing but these folders: same folders, same
 * bytes.
 *
 *     DIR/report.json               accuracies, budget, stages             required, or sweep.json
 *     DIR/sweep.json                then the page shows its budgets' folders and their Pareto curve
 *     DIR/metrics.jsonl             training curves                        left out where missing
 *     DIR/checkpoint.safetensors    maps of kept positions                 left out where missing
 *     DIR/model.pi                  bytes and predicted seconds            left out where missing
 */
#include <stdint.h>

#include "core/base/err.h"

#define PAGE_MAX_FOLDERS 64

/* ERR_IO, ERR_FORMAT name the file that is missing or damaged. */
int page_write(const char *const *folder, int32_t n, const char *path) MUST_CHECK;
#endif
