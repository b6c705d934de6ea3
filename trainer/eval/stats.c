/*
 * Wilson's score interval (E. B. Wilson 1927).
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
