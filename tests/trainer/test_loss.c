/* Losses against closed forms, against plain double loops, and gradients by central differences. */
#include <math.h>

#include "core/graph/rng.h"
#include "trainer/loss.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { N = 5, K = 7 };

static void fill(float *z, int n, uint64_t key, float scale)
{
    struct rng r = rng_at(1, RNG_TEST, 0, key);

    for (int i = 0; i < n; i++)
        z[i] = scale * rng_normal(&r);
}

/* The definition, without any care for overflow. */
static void softmax_plain(const float *z, double tau, double *p)
{
    double sum = 0;

    for (int k = 0; k < K; k++)
        sum += exp(z[k] / tau);
    for (int k = 0; k < K; k++)
        p[k] = exp(z[k] / tau) / sum;
}

static double kl_plain(const float *zs, const float *zt, double tau)
{
    double p[K], q[K], sum = 0;

    for (int i = 0; i < N; i++) {
        softmax_plain(zt + i * K, tau, p);
        softmax_plain(zs + i * K, tau, q);
        for (int k = 0; k < K; k++)
            sum += p[k] * log(p[k] / q[k]);
    }
    return tau * tau / N * sum;
}

static void test_ce_of_equal_logits_is_log_k(void **state)
{
    const float z[2 * K] = {0};
    const int32_t y[2] = {0, 6};

    (void)state;
    assert_near(loss_ce(z, y, 2, K, 2, 1, NULL), log(K), 1e-15);
}

static void test_ce_equals_definition(void **state)
{
    const int32_t y[N] = {0, 6, 3, 3, 1};
    float z[N * K];
    double p[K], sum = 0;

    (void)state;
    fill(z, N * K, 1, 2);
    for (int i = 0; i < N; i++) {
        softmax_plain(z + i * K, 1, p);
        sum -= log(p[y[i]]);
    }
    assert_near(loss_ce(z, y, N, K, N, 3, NULL), sum / N, 1e-12);
}

static void test_ce_survives_huge_logits(void **state)
{
    const float z[3] = {3e38f, -3e38f, 0};
    const int32_t y[1] = {0};
    float dz[3] = {0};

    (void)state;
    assert_near(loss_ce(z, y, 1, 3, 1, 1, dz), 0, 1e-12);
    for (int k = 0; k < 3; k++)
        assert_true(dz[k] == 0);
    const float bad[3] = {1, NAN, 0};
    assert_true(isnan(loss_ce(bad, y, 1, 3, 1, 1, NULL)));
}

static void test_kl_equals_definition(void **state)
{
    float zs[N * K], zt[N * K];

    (void)state;
    fill(zs, N * K, 2, 2);
    fill(zt, N * K, 3, 2);
    assert_near(loss_kl(zs, zt, N, K, 4, N, 1, NULL), kl_plain(zs, zt, 4), 1e-12);
    assert_near(loss_kl(zt, zt, N, K, 4, N, 1, NULL), 0, 1e-14);
}

/* (loss(z + h) - loss(z - h)) / 2h against dz for every logit. */
static void test_gradients_match_differences(void **state)
{
    const int32_t y[N] = {0, 6, 3, 3, 1};
    const float h = 1.0f / 512;
    float z[N * K], zt[N * K], ce[N * K] = {0}, kl[N * K] = {0};

    (void)state;
    fill(z, N * K, 4, 1);
    fill(zt, N * K, 5, 1);
    loss_ce(z, y, N, K, N, 1, ce);
    loss_kl(z, zt, N, K, 4, N, 1, kl);
    for (int i = 0; i < N * K; i++) {
        const float old = z[i];
        z[i] = old + h;
        double ce1 = loss_ce(z, y, N, K, N, 1, NULL), kl1 = kl_plain(z, zt, 4);
        z[i] = old - h;
        double ce0 = loss_ce(z, y, N, K, N, 1, NULL), kl0 = kl_plain(z, zt, 4);
        z[i] = old;
        assert_near(ce[i], (ce1 - ce0) / (2.0 * (double)h), 2e-6);
        assert_near(kl[i], (kl1 - kl0) / (2.0 * (double)h), 2e-6);
    }
}

/* (loss(z + h) - loss(z - h)) / 2h of smoothed labels, and of a divergence by its two sides. */
static void test_later_gradients_match_differences(void **state)
{
    const int32_t y[N] = {0, 6, 3, 3, 1};
    const float h = 1.0f / 512;
    float z[2][N * K], smooth[N * K] = {0}, dz[2][N * K] = {{0}}, plain[N * K] = {0};

    (void)state;
    fill(z[0], N * K, 4, 1);
    fill(z[1], N * K, 5, 1);
    loss_ce_smooth(z[0], y, N, K, 0.1, N, 1, smooth);
    assert_near(loss_kl_both(z[0], z[1], N, K, 2, N, 1, dz[0], dz[1]), kl_plain(z[0], z[1], 2),
                1e-12);
    for (int i = 0; i < 2 * N * K; i++) {
        float *at = &z[i / (N * K)][i % (N * K)];
        const float old = *at;
        *at = old + h;
        const double kl1 = kl_plain(z[0], z[1], 2),
                     ce1 = loss_ce_smooth(z[0], y, N, K, 0.1, N, 1, NULL);
        *at = old - h;
        const double kl0 = kl_plain(z[0], z[1], 2),
                     ce0 = loss_ce_smooth(z[0], y, N, K, 0.1, N, 1, NULL);
        *at = old;
        assert_near(dz[i / (N * K)][i % (N * K)], (kl1 - kl0) / (2.0 * (double)h), 2e-6);
        if (i < N * K)
            assert_near(smooth[i], (ce1 - ce0) / (2.0 * (double)h), 2e-6);
    }
    const double all = loss_ce_smooth(z[0], y, N, K, 0, N, 1, plain);
    assert_near(all, loss_ce(z[0], y, N, K, N, 1, NULL), 1e-14);
}

/* Blocks with the batch's count add up to the whole; gradients are added, times the weight. */
static void test_blocks_and_weights_add_up(void **state)
{
    const int32_t y[N] = {0, 6, 3, 3, 1};
    float z[N * K], whole[N * K] = {0}, parts[N * K] = {0};

    (void)state;
    fill(z, N * K, 6, 1);
    double all = loss_ce(z, y, N, K, N, 2, whole);
    double two =
        loss_ce(z, y, 2, K, N, 1, parts) + loss_ce(z + 2 * K, y + 2, N - 2, K, N, 1, parts + 2 * K);
    loss_ce(z, y, N, K, N, 1, parts);
    assert_near(all, two, 1e-14);
    for (int i = 0; i < N * K; i++)
        assert_near(whole[i], parts[i], 1e-7);
}

static void test_argmax_takes_the_first_and_refuses_nan(void **state)
{
    const float tie[4] = {1, 2, 2, 0}, bad[3] = {0, NAN, 1};
    const float rows[6] = {1, 0, 0, 0, 0, 1};
    const int32_t y[2] = {0, 1};

    (void)state;
    assert_int_equal(loss_argmax(tie, 4), 1);
    assert_int_equal(loss_argmax(bad, 3), -1);
    assert_int_equal(loss_correct(rows, y, 2, 3), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ce_of_equal_logits_is_log_k),
        cmocka_unit_test(test_ce_equals_definition),
        cmocka_unit_test(test_ce_survives_huge_logits),
        cmocka_unit_test(test_kl_equals_definition),
        cmocka_unit_test(test_gradients_match_differences),
        cmocka_unit_test(test_later_gradients_match_differences),
        cmocka_unit_test(test_blocks_and_weights_add_up),
        cmocka_unit_test(test_argmax_takes_the_first_and_refuses_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
