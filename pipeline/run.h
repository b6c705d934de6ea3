#ifndef PIPELINE_RUN_H
#define PIPELINE_RUN_H
/*
 * What every training task has in common: who listens, the network that is trained, its images, and
 * metrics.jsonl where there is a folder for it. Stages get it beside what they alone need.
 */
#include "pipeline/linnet.h"
#include "pipeline/metrics.h"
#include "pipeline/model.h"
#include "trainer/data/data.h"

struct run {
    const struct linnet_listener *l;
    uint64_t seed;
    bool resume;
    struct model m;                     /* as it was given, then as training changes it */
    struct dataset *train, *val, *test; /* test: NULL where nobody reads it */
    struct metrics metrics;             /* closed: metrics only go to the listener */
};
/* The splits of o->data, checked against the model and against each other; train_limit 0: all. */
int run_open_data(struct run *r, const struct open_options *o, int64_t train_limit,
                  bool test) MUST_CHECK;
/* Batch norm where it was folded away, with the statistics of that many training images. */
int run_insert_batchnorm(struct run *r, int64_t images) MUST_CHECK;
void run_release(struct run *r);
#endif
