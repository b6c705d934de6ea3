#ifndef TRAINER_EVAL_STATS_H
#define TRAINER_EVAL_STATS_H
/* Intervals and means for reports. */
#include <stdint.h>

#define STATS_Z95 1.959964 /* two-sided 95 % of the normal distribution */

/* Wilson interval of `hits` of n (0 <= hits <= n, n > 0) as fractions: lo <= hits/n <= hi. */
void stats_wilson(int64_t hits, int64_t n, double *lo, double *hi);
/* The same for a share p of n, for example the mean of several shares of the same n images: then it
 * is the widest that such images can give. */
void stats_wilson_share(double p, int64_t n, double *lo, double *hi);
/* Mean of v[0 ... n-1], n > 0. */
double stats_mean(const double *v, int64_t n);
/* Sample standard deviation (n - 1 below the root); 0 for n = 1. */
double stats_sd(const double *v, int64_t n);
#endif
