#ifndef TRAINER_CORRUPT_JOB_H
#define TRAINER_CORRUPT_JOB_H
/*
 * Between corrupt.c and the files that hold the operations; nobody else includes this.
 *
 * An operation works on job.x, [3][h][w] in [0,1], in double precision as the published script.
 * corrupt_apply clips the result to [0,1] and truncates 255 times it to 8 bits. The failures
 * of an operation are ERR_NOMEM and what frost says about its photos.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/graph/rng.h"
#include "trainer/corrupt/corrupt.h"

struct corrupt_job {
    const uint8_t *in; /* [3][h][w] */
    int32_t h, w;
    int severity; /* 0 ... 4: a column of the parameter tables */
    bool large;   /* the table for 64x64, not that for 32x32 */
    struct rng *r;
    double *x;                           /* the image, to be changed in place */
    double *work;                        /* another [3][h][w] of scratch */
    const struct corrupt_photos *photos; /* of frost; may be NULL */
};

#define CORRUPT_OPERATION(NAME, name, set, how)                                                    \
    int corrupt_##name(struct corrupt_job *j) MUST_CHECK;
CORRUPT_TABLE(CORRUPT_OPERATION)
#endif
