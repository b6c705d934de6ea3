/*
 * Wilson's score interval (E. B. Wilson 1927), mean and deviation.
 */
#include "trainer/eval/stats.h"

#include <math.h>

void stats_wilson_share(double p, int64_t n, double *lo, double *hi)
{
    double count = (double)n;
    double z2 = STATS_Z95 * STATS_Z95, scale = 1 / (1 + z2 / count);
    double centre = (p + z2 / (2 * count)) * scale;
    double half = STATS_Z95 * scale * sqrt(p * (1 - p) / count + z2 / (4 * count * count));

    /* at the ends the bounds are exactly 0 and 1; rounding must not step over them */
    *lo = p <= 0 ? 0 : fmax(0, centre - half);
    *hi = p >= 1 ? 1 : fmin(1, centre + half);
}

void stats_wilson(int64_t hits, int64_t n, double *lo, double *hi)
{
    stats_wilson_share((double)hits / (double)n, n, lo, hi);
}

double stats_mean(const double *v, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += v[i];
    return sum / (double)n;
}

double stats_sd(const double *v, int64_t n)
{
    double mean = stats_mean(v, n), sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += (v[i] - mean) * (v[i] - mean);
    return n > 1 ? sqrt(sum / (double)(n - 1)) : 0;
}
