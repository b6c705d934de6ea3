#ifndef TRAINER_CORRUPT_FILTER_H
#define TRAINER_CORRUPT_FILTER_H
/*
 * Filters that several corruptions share, on planes [h][w] of doubles; nobody else includes this.
 * They follow scipy.ndimage and, for motion, ImageMagick.
 */
#include <stdint.h>

#include "core/base/err.h"

enum filter_border {
    FILTER_NEAREST,    /* -1 -> 0 */
    FILTER_REFLECT,    /* -1 -> 0, -2 -> 1: the edge pixel counts twice */
    FILTER_REFLECT_101 /* -1 -> 1 */
};
/* Index of a place outside 0 ... n-1. */
int32_t filter_index(enum filter_border border, int32_t i, int32_t n);
/* Gaussian in place, radius floor(truncate sigma + 1/2); work [h][w]. sigma >= 0. */
int filter_gaussian(double *plane, double *work, int32_t h, int32_t w, double sigma,
                    double truncate, enum filter_border border) MUST_CHECK;
/* The central ceil(n / factor) pixels of each axis stretched to n again; bilinear, first and last
 * pixel stay first and last. factor >= 1; out may not be in. */
int filter_zoom(double *out, const double *in, int32_t h, int32_t w, double factor) MUST_CHECK;
/* Bilinear value at (y, x), any place. */
double filter_sample(const double *plane, int32_t h, int32_t w, double y, double x,
                     enum filter_border border);
/* ImageMagick's motion blur of 8-bit values, byte for byte, angle in degrees; edge pixels repeat, results are
 * rounded to 16 bits and truncated to 8. out may not be in. */
void filter_motion(uint8_t *out, const uint8_t *in, int32_t h, int32_t w, double radius,
                   double sigma, double angle);
#endif
