#ifndef TRAINER_EVAL_STATS_H
#define TRAINER_EVAL_STATS_H
/* Intervals for reports. */
#include <stdint.h>

#define STATS_Z95 1.959964 /* two-sided 95 % of the normal distribution */

/* Wilson interval of `hits` of n (0 <= hits <= n, n > 0) as fractions: lo <= hits/n <= hi. */
void stats_wilson(int64_t hits, int64_t n, double *lo, double *hi);
/* The same for a share p of n, for example the mean of several shares of the same n images: then it
 * is the widest that such images can give. */
void stats_wilson_share(double p, int64_t n, double *lo, double *hi);
#endif
