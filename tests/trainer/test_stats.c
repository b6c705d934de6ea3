/* Intervals against the half-widths of trainer/ROBUSTNESS.md, means against hand sums. */
#include <math.h>

#include "trainer/eval/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define assert_near(a, b, tolerance) assert_true(fabs((a) - (b)) <= (tolerance))

static void test_wilson_half_widths_at_one_half(void **state)
{
    const struct {
        int64_t n;
        double half;
    } want[] = {{10000, 0.0098}, {5000, 0.0139}, {1000, 0.0309}, {256, 0.0608}};
    double lo, hi;

    (void)state;
    for (int i = 0; i < 4; i++) {
        stats_wilson(want[i].n / 2, want[i].n, &lo, &hi);
        assert_near((hi - lo) / 2, want[i].half, 5e-5);
        assert_near((hi + lo) / 2, 0.5, 1e-12);
    }
}

static void test_wilson_known_values(void **state)
{
    double lo, hi;

    (void)state;
    stats_wilson(8, 10, &lo, &hi); /* textbook: .4902 to .9433 */
    assert_near(lo, 0.4902, 1e-4);
    assert_near(hi, 0.9433, 1e-4);
    stats_wilson(0, 10, &lo, &hi);
    assert_true(lo == 0);
    assert_near(hi, 0.2775, 1e-4);
    stats_wilson(10, 10, &lo, &hi);
    assert_true(hi == 1);
    assert_near(lo, 0.7225, 1e-4);
}

static void test_wilson_contains_the_share(void **state)
{
    double lo, hi;

    (void)state;
    for (int64_t n = 1; n < 40; n++)
        for (int64_t k = 0; k <= n; k++) {
            double p = (double)k / (double)n;
            stats_wilson(k, n, &lo, &hi);
            assert_true(lo >= 0 && lo <= p && p <= hi && hi <= 1 && lo < hi);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson_half_widths_at_one_half),
        cmocka_unit_test(test_wilson_known_values),
        cmocka_unit_test(test_wilson_contains_the_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
