/* core/rng: known answers of Random123 and statistics that a wrong generator fails. */
#include "core/graph/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* philox4x32 with 10 rounds, from the kat_vectors file of Random123 1.14. */
static void test_known_answers(void **state)
{
    static const struct {
        uint32_t ctr[4], key[2], want[4];
    } kat[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        struct rng r = {0};
        memcpy(r.ctr, kat[i].ctr, sizeof r.ctr);
        memcpy(r.key, kat[i].key, sizeof r.key);
        for (int k = 0; k < 4; k++)
            assert_int_equal(rng_u32(&r), kat[i].want[k]);
    }
}

static void test_position_packs_into_the_counter(void **state)
{
    struct rng r = rng_at(0x1122334455667788, RNG_MASK, 0xabcdef, 0x99aabbccddeeff00);

    (void)state;
    assert_int_equal(r.key[0], 0x55667788);
    assert_int_equal(r.key[1], 0x11223344);
    assert_int_equal(r.ctr[0], 0);
    assert_int_equal(r.ctr[1], 0xddeeff00);
    assert_int_equal(r.ctr[2], 0x99aabbcc);
    assert_int_equal(r.ctr[3], 0x06abcdef);
}

static void test_streams_differ_and_repeat(void **state)
{
    struct rng a = rng_at(1, RNG_CROP, 0, 0), same = rng_at(1, RNG_CROP, 0, 0);
    struct rng other[] = {rng_at(2, RNG_CROP, 0, 0), rng_at(1, RNG_PGD, 0, 0),
                          rng_at(1, RNG_CROP, 1, 0), rng_at(1, RNG_CROP, 0, 1)};

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint32_t v = rng_u32(&a);
        assert_int_equal(v, rng_u32(&same));
        for (size_t k = 0; k < 4; k++)
            assert_int_not_equal(v, rng_u32(&other[k]));
    }
}

static void test_below_is_uniform(void **state)
{
    struct rng r = rng_at(7, RNG_TEST, 0, 0);
    int seen[7] = {0};
    const uint32_t large = 3u << 30; /* a plain remainder would favour the lower third */
    int low = 0;

    (void)state;
    for (int i = 0; i < 70000; i++)
        seen[rng_below(&r, 7)]++;
    for (int k = 0; k < 7; k++)
        assert_in_range(seen[k], 10000 - 500, 10000 + 500); /* 5 sigma */
    for (int i = 0; i < 30000; i++) {
        uint32_t v = rng_below(&r, large);
        assert_true(v < large);
        low += v < large / 3;
    }
    assert_in_range(low, 10000 - 410, 10000 + 410);
    for (int i = 0; i < 10; i++)
        assert_int_equal(rng_below(&r, 1), 0);
}

static void test_uniforms_stay_inside(void **state)
{
    struct rng r = rng_at(8, RNG_TEST, 0, 0);
    struct rng ones = {.out = {~0u, ~0u, ~0u, ~0u}, .left = 4};
    double sum = 0, sum_double = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        float f = rng_uniform(&r);
        double d = rng_uniform_double(&r);
        float g = rng_range(&r, -2.0f, 3.0f);
        assert_true(f >= 0 && f < 1 && d >= 0 && d < 1 && g >= -2 && g <= 3);
        sum += (double)f;
        sum_double += d;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.005);
    assert_true(fabs(sum_double / 100000 - 0.5) < 0.005);
    assert_true(rng_uniform(&ones) == 1 - 0x1p-24f); /* the largest words still give less than 1 */
    ones.left = 4;
    assert_true(rng_uniform_double(&ones) == 1 - 0x1p-53);
}

static void test_normal_moments(void **state)
{
    enum { N = 200000 };
    struct rng r = rng_at(9, RNG_TEST, 3, 4);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
    int beyond2 = 0;

    (void)state;
    for (int i = 0; i < N; i++) {
        double x = (double)rng_normal(&r);
        assert_true(isfinite(x));
        m1 += x;
        m2 += x * x;
        m3 += x * x * x;
        m4 += x * x * x * x;
        beyond2 += fabs(x) > 2;
    }
    assert_true(fabs(m1 / N) < 0.012 && fabs(m2 / N - 1) < 0.016);
    assert_true(fabs(m3 / N) < 0.045 && fabs(m4 / N - 3) < 0.12);
    assert_in_range(beyond2, (int)(0.0455 * N) - 500, (int)(0.0455 * N) + 500);
}

static void test_permutation_is_uniform(void **state)
{
    struct rng r = rng_at(10, RNG_TEST, 0, 0);
    uint32_t p[100];
    int seen[100] = {0}, order[27] = {0};

    (void)state;
    rng_permutation(&r, p, 100);
    for (int i = 0; i < 100; i++) {
        assert_true(p[i] < 100);
        seen[p[i]]++;
    }
    for (int i = 0; i < 100; i++)
        assert_int_equal(seen[i], 1);
    for (int i = 0; i < 60000; i++) {
        rng_permutation(&r, p, 3);
        order[9 * p[0] + 3 * p[1] + p[2]]++;
    }
    const int all[] = {9 * 0 + 3 * 1 + 2, 9 * 0 + 3 * 2 + 1, 9 * 1 + 3 * 0 + 2,
                       9 * 1 + 3 * 2 + 0, 9 * 2 + 3 * 0 + 1, 9 * 2 + 3 * 1 + 0};
    for (int i = 0; i < 6; i++)
        assert_in_range(order[all[i]], 10000 - 460, 10000 + 460);
    rng_permutation(&r, p, 0);
    rng_permutation(&r, p, 1);
    assert_int_equal(p[0], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_position_packs_into_the_counter),
        cmocka_unit_test(test_streams_differ_and_repeat),
        cmocka_unit_test(test_below_is_uniform),
        cmocka_unit_test(test_uniforms_stay_inside),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_permutation_is_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
