/*
 * Scores per position: accumulated difference between the teacher's ReLU output and the student's
 * activation at the same place. Work is split over positions, and each position
 * adds its images in order, so the sums do not depend on threads.
 */
#include <math.h>

#include "linearizer/line.h"

#define CHANNEL_CHUNK 64

/* Channels [c0, c1) of pixel p. */
static void score_pixel(int64_t n, int64_t channels, int64_t hw, int64_t p, int64_t c0, int64_t c1,
                        const float *t, const float *s, double *score)
{
    double sum[CHANNEL_CHUNK];

    for (int64_t c = c0; c < c1; c++)
        sum[c - c0] = score[c * hw + p];
    for (int64_t i = 0; i < n; i++) {
        const int64_t at = (i * hw + p) * channels;

        for (int64_t c = c0; c < c1; c++)
            sum[c - c0] += fabs((double)t[at + c] - s[at + c]);
    }
    for (int64_t c = c0; c < c1; c++)
        score[c * hw + p] = sum[c - c0];
}

void score_add(const struct graph *g, const struct relu_site *site, int64_t n, const float *t,
               const float *s, double *score)
{
    const int64_t channels = site_channels(g, site), hw = site->total / channels;

#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < hw; p++)
        for (int64_t c = 0; c < channels; c += CHANNEL_CHUNK)
            score_pixel(n, channels, hw, p, c,
                        c + CHANNEL_CHUNK < channels ? c + CHANNEL_CHUNK : channels, t, s, score);
}

void score_taylor_add(const struct graph *g, const struct relu_site *site, int64_t n,
                      const float *z, const float *grad, double scale, struct score_taylor *sums)
{
    const int64_t channels = site_channels(g, site), hw = site->total / channels;
    const double top = site->relu6 ? (double)RELU6_TOP : INFINITY;

#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < hw; p++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < channels; c++) {
                const int64_t from = (i * hw + p) * channels + c, to = site->offset + c * hw + p;
                const double v = z[from], slope = scale * grad[from];
                const double d = v < 0 ? -v : v > top ? top - v : 0;

                sums->first[to] += slope * d;
                sums->grad[to] += slope * slope;
                sums->square[to] += d * d;
                sums->negative[to] += v <= 0 || v >= top;
            }
}

void score_taylor_read(const struct score_taylor *sums, int64_t count, int64_t images,
                       double *score)
{
    const double n = images > 0 ? (double)images : 1;

    for (int64_t i = 0; i < count; i++)
        score[i] = (fabs(sums->first[i] / n) + sums->grad[i] / n * (sums->square[i] / n) / 2) *
                   (sums->negative[i] / n);
}
