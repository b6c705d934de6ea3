/*
 * Scores per position: accumulated difference between the teacher's ReLU output and the student's
 * activation at the same place (method.md 7.2, 7.3). Work is split over positions, and each position
 * adds its images in order, so the sums do not depend on threads.
 */
#include <math.h>

#include "linearizer/linearizer.h"

#define CHANNEL_CHUNK 64

/* Channels [c0, c1) of pixel p. */
static void score_pixel(int64_t n, int64_t channels, int64_t hw, int64_t p, int64_t c0, int64_t c1,
                        const float *t, const float *s, double *score)
{
    double sum[CHANNEL_CHUNK] = {0};

    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (i * hw + p) * channels;

        for (int64_t c = c0; c < c1; c++)
            sum[c - c0] += fabs((double)t[at + c] - s[at + c]);
    }
    for (int64_t c = c0; c < c1; c++)
        score[c * hw + p] += sum[c - c0];
}

void score_accumulate(const struct graph *g, const struct relu_site *site, int64_t n,
                      const float *t, const float *s, double *score)
{
    const struct shape *shape = &g->value[site->y].shape;
    const bool image = shape->rank == 4;
    const int64_t channels = image ? shape->dim[1] : site->total;
    const int64_t hw = image ? shape->dim[2] * shape->dim[3] : 1;

#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < hw; p++)
        for (int64_t c = 0; c < channels; c += CHANNEL_CHUNK)
            score_pixel(n, channels, hw, p, c,
                        c + CHANNEL_CHUNK < channels ? c + CHANNEL_CHUNK : channels, t, s, score);
}
