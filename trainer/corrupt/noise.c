/*
 * Noise: Gaussian, shot (Poisson), impulse, speckle.
 *
 * Poisson numbers: multiplication of uniforms below a mean of 10, transformed rejection above
 * (W. Hoermann, "The transformed rejection method for generating Poisson random variables", 1993,
 * algorithm PTRS).
 */
#include <math.h>

#include "trainer/corrupt/job.h"

static const double gaussian_sigma[2][5] = {{.04, .06, .08, .09, .10}, {.04, .08, .12, .15, .18}};
static const double shot_scale[2][5] = {{500, 250, 100, 75, 50}, {250, 100, 50, 30, 15}};
static const double impulse_amount[2][5] = {{.01, .02, .03, .05, .07}, {.01, .02, .05, .08, .14}};
static const double speckle_sigma[2][5] = {{.06, .1, .12, .16, .2}, {.15, .2, .25, .3, .35}};

static int32_t elements(const struct corrupt_job *j)
{
    return 3 * j->h * j->w;
}

int corrupt_gaussian_noise(struct corrupt_job *j)
{
    double sigma = gaussian_sigma[j->large][j->severity];

    for (int32_t i = 0; i < elements(j); i++)
        j->x[i] += sigma * (double)rng_normal(j->r);
    return 0;
}

int corrupt_speckle_noise(struct corrupt_job *j)
{
    double sigma = speckle_sigma[j->large][j->severity];

    for (int32_t i = 0; i < elements(j); i++)
        j->x[i] += j->x[i] * sigma * (double)rng_normal(j->r);
    return 0;
}

/* Each element by itself: replaced with probability `amount`, by 1 or 0 alike. */
int corrupt_impulse_noise(struct corrupt_job *j)
{
    float amount = (float)impulse_amount[j->large][j->severity];

    for (int32_t i = 0; i < elements(j); i++)
        if (rng_uniform(j->r) < amount)
            j->x[i] = (double)rng_below(j->r, 2);
    return 0;
}

/* log(k!) by Stirling's series, relative error below 1e-9 from k = 0 on (shifted by 8). */
static double log_factorial(double k)
{
    double shift = 1, x = k + 1, x2;

    for (; x < 9; x++)
        shift *= x;
    x2 = x * x;
    return (x - 0.5) * log(x) - x + 0.91893853320467274178 +
           (1 / 12.0 - (1 / 360.0 - 1 / (1260.0 * x2)) / x2) / x - log(shift);
}

static double poisson_small(struct rng *r, double mean)
{
    double limit = exp(-mean), product = 1;

    for (int k = 0;; k++) {
        product *= rng_uniform_double(r);
        if (product <= limit)
            return k;
    }
}

static double poisson_large(struct rng *r, double mean)
{
    double b = 0.931 + 2.53 * sqrt(mean), a = -0.059 + 0.02483 * b;
    double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4), v_r = 0.9277 - 3.6224 / (b - 2);

    for (;;) {
        double u = rng_uniform_double(r) - 0.5, v = rng_uniform_double(r), us = 0.5 - fabs(u);
        double k = floor((2 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && v <= v_r)
            return k;
        if (k < 0 || (us < 0.013 && v > us))
            continue;
        if (log(v * inverse_alpha / (a / (us * us) + b)) <= k * log(mean) - mean - log_factorial(k))
            return k;
    }
}

int corrupt_shot_noise(struct corrupt_job *j)
{
    double scale = shot_scale[j->large][j->severity];

    for (int32_t i = 0; i < elements(j); i++) {
        double mean = j->x[i] * scale;
        j->x[i] = (mean < 10 ? poisson_small(j->r, mean) : poisson_large(j->r, mean)) / scale;
    }
    return 0;
}
