#ifndef PIPELINE_SOURCE_H
#define PIPELINE_SOURCE_H
/* Images for a model: opened, checked against its input and classes, as floats. */
#include "core/graph/graph.h"
#include "trainer/data/data.h"

/* Refusals of a data set are ERR_DATA, whatever made them. */
int source_refusal(int rc);
/* Do they fit the model? As data_check. */
int source_check(const struct dataset *d, const struct graph *g) MUST_CHECK;
/* Close with data_close, also after a failure. */
int source_open(const char *spec, enum data_split split, uint64_t seed, const struct graph *g,
                struct dataset **out) MUST_CHECK;
/* The first *n images of d as floats [n,C,H,W] (mem_free); *n is reduced to what there is. */
int source_floats(const struct dataset *d, int64_t *n, float **out) MUST_CHECK;
#endif
