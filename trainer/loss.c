/*
 * Losses on logits and their gradients.
 *
 * Every row goes through a log-softmax in double whose maximum is subtracted first, so that no
 * exponential overflows; a row with a NaN gives NaN and is noticed by the caller in the sum.
 *
 *     d CE / d z_k = (softmax(z)_k - [k = y]) / count
 *     d KL / d zS_k = tau (q_k - p_k) / count
 *     d KL / d zT_k = tau p_k (log p_k - log q_k - sum_j p_j (log p_j - log q_j)) / count
 */
#include "trainer/loss.h"

#include <math.h>
#include <stddef.h>

/* max and log of the sum of exp(z/tau - max). */
struct row_norm {
    double max, log_sum;
};

static struct row_norm row_normalise(const float *z, int64_t k, double tau)
{
    struct row_norm r = {z[0] / tau, 0};
    double sum = 0;

    for (int64_t i = 1; i < k; i++)
        r.max = z[i] / tau > r.max ? z[i] / tau : r.max;
    for (int64_t i = 0; i < k; i++)
        sum += exp(z[i] / tau - r.max);
    r.log_sum = log(sum);
    return r;
}

static double log_softmax(const float *z, int64_t i, double tau, struct row_norm r)
{
    return z[i] / tau - r.max - r.log_sum;
}

double loss_ce(const float *z, const int32_t *y, int64_t n, int64_t k, int64_t count, double weight,
               float *dz)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        const float *row = z + i * k;
        struct row_norm r = row_normalise(row, k, 1);
        sum -= log_softmax(row, y[i], 1, r);
        for (int64_t j = 0; dz != NULL && j < k; j++) {
            double p = exp(log_softmax(row, j, 1, r)) - (j == y[i] ? 1 : 0);
            dz[i * k + j] += (float)(weight * p / (double)count);
        }
    }
    return sum / (double)count;
}

double loss_kl(const float *zs, const float *zt, int64_t n, int64_t k, double tau, int64_t count,
               double weight, float *dzs)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        const float *s = zs + i * k, *t = zt + i * k;
        struct row_norm rs = row_normalise(s, k, tau), rt = row_normalise(t, k, tau);
        for (int64_t j = 0; j < k; j++) {
            double log_p = log_softmax(t, j, tau, rt), log_q = log_softmax(s, j, tau, rs);
            double p = exp(log_p);
            sum += p * (log_p - log_q);
            if (dzs != NULL)
                dzs[i * k + j] += (float)(weight * tau * (exp(log_q) - p) / (double)count);
        }
    }
    return tau * tau * sum / (double)count;
}

double loss_ce_smooth(const float *z, const int32_t *y, int64_t n, int64_t k, double smoothing,
                      int64_t count, double weight, float *dz)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++) {
        const float *row = z + i * k;
        const struct row_norm r = row_normalise(row, k, 1);
        for (int64_t j = 0; j < k; j++) {
            const double target = smoothing / (double)k + (j == y[i] ? 1 - smoothing : 0);
            const double log_p = log_softmax(row, j, 1, r);
            sum -= target * log_p;
            if (dz != NULL)
                dz[i * k + j] += (float)(weight * (exp(log_p) - target) / (double)count);
        }
    }
    return sum / (double)count;
}

double loss_kl_both(const float *zs, const float *zt, int64_t n, int64_t k, double tau,
                    int64_t count, double weight, float *dzs, float *dzt)
{
    const double scale = weight * tau / (double)count;

    for (int64_t i = 0; i < n; i++) {
        const float *s = zs + i * k, *t = zt + i * k;
        const struct row_norm rs = row_normalise(s, k, tau), rt = row_normalise(t, k, tau);
        double row = 0;

        for (int64_t j = 0; j < k; j++) {
            const double log_p = log_softmax(t, j, tau, rt);
            row += exp(log_p) * (log_p - log_softmax(s, j, tau, rs));
        }
        for (int64_t j = 0; j < k; j++) {
            const double log_p = log_softmax(t, j, tau, rt);
            const double gap = log_p - log_softmax(s, j, tau, rs) - row;
            dzt[i * k + j] += (float)(scale * exp(log_p) * gap);
        }
    }
    return loss_kl(zs, zt, n, k, tau, count, weight, dzs);
}

int64_t loss_argmax(const float *z, int64_t k)
{
    int64_t best = 0;

    for (int64_t i = 0; i < k; i++) {
        if (isnan(z[i]))
            return -1;
        if (z[i] > z[best])
            best = i;
    }
    return best;
}

int64_t loss_correct(const float *z, const int32_t *y, int64_t n, int64_t k)
{
    int64_t correct = 0;

    for (int64_t i = 0; i < n; i++)
        correct += loss_argmax(z + i * k, k) == y[i];
    return correct;
}
