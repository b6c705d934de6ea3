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

int corrupt_gaussian_noise(struct corrupt_job *j) MUST_CHECK;
int corrupt_shot_noise(struct corrupt_job *j) MUST_CHECK;
int corrupt_impulse_noise(struct corrupt_job *j) MUST_CHECK;
int corrupt_speckle_noise(struct corrupt_job *j) MUST_CHECK;
int corrupt_defocus_blur(struct corrupt_job *j) MUST_CHECK;
int corrupt_gaussian_blur(struct corrupt_job *j) MUST_CHECK;
int corrupt_glass_blur(struct corrupt_job *j) MUST_CHECK;
int corrupt_motion_blur(struct corrupt_job *j) MUST_CHECK;
int corrupt_zoom_blur(struct corrupt_job *j) MUST_CHECK;
int corrupt_pixelate(struct corrupt_job *j) MUST_CHECK;
int corrupt_jpeg_compression(struct corrupt_job *j) MUST_CHECK;
int corrupt_elastic_transform(struct corrupt_job *j) MUST_CHECK;
int corrupt_snow(struct corrupt_job *j) MUST_CHECK;
int corrupt_frost(struct corrupt_job *j) MUST_CHECK;
int corrupt_spatter(struct corrupt_job *j) MUST_CHECK;
int corrupt_fog(struct corrupt_job *j) MUST_CHECK;
int corrupt_brightness(struct corrupt_job *j) MUST_CHECK;
int corrupt_contrast(struct corrupt_job *j) MUST_CHECK;
int corrupt_saturate(struct corrupt_job *j) MUST_CHECK;
#endif
