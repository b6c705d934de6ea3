/*
 * Bytes of the linear layers of known networks, by the layout alone (nothing runs): what README and
 * RESULTS quote. The polynomials of ResNet-50, 224x224, one by one: 536 MB; in a lot of 16: 328 MB.
 */
#include "runtime/linear/rlwe_party.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/resnet_plan.h"

/* Bytes of one image in a lot, all linear steps, both ways. */
static uint64_t bytes_of(int depth, int64_t lot)
{
    struct resnet_plan *n = resnet_plan(depth);
    uint64_t sum = 0;

    assert_non_null(n);
    for (int32_t i = 0; i < n->plan.n_step; i++)
        for (int up = 0; up < 2; up++)
            sum += linear_rlwe_lot_bytes(&n->plan, i, lot, up);
    resnet_free(n);
    return sum / (uint64_t)lot;
}

static void check(int depth, int64_t lot, uint64_t bytes)
{
    uint64_t got = bytes_of(depth, lot);

    print_message("ResNet-%d, lot of %lld: %llu bytes an image\n", depth, (long long)lot,
                  (unsigned long long)got);
    assert_int_equal(got, bytes);
}

static void test_resnet18(void **state)
{
    (void)state;
    check(18, 1, 59982240);
    check(18, 4, 36796580);
    check(18, 16, 26040933);
    check(18, 64, 20909397);
}

static void test_resnet50(void **state)
{
    (void)state;
    check(50, 1, 536318624);
    check(50, 4, 384600088);
    check(50, 16, 327546742);
    check(50, 64, 305005389);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resnet18),
        cmocka_unit_test(test_resnet50),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
