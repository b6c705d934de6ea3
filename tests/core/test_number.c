/* Numbers in options: what is read, where it ends, what is refused. */
#include "core/base/number.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_decimals_and_fractions(void **state)
{
    static const struct {
        const char *text;
        double value;
    } good[] = {
        {"20", 20},           {"0.03", 0.03},   {".5", 0.5},    {"-1.25", -1.25}, {"1e-4", 1e-4},
        {"8/255", 8.0 / 255}, {"1/3", 1.0 / 3}, {"+2E2/4", 50}, {"-1/-4", 0.25},  {"0/5", 0}};
    double v;

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!number_parse(good[i].text, &v) || v != good[i].value)
            fail_msg("'%s'", good[i].text);
    }
}

static void test_what_is_no_number(void **state)
{
    static const char *const bad[] = {
        "",        "e5",           "nan",    "inf",   "-inf", "0x10",  " 1",
        "1 ",      "8/",           "/255",   "8/0",   "8//2", "8/0x2", "1/nan",
        "1e99999", "1e300/1e-300", "8/255,", "1.2.3", "--1",  "1/2/3"};
    double v = 7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (number_parse(bad[i], &v))
            fail_msg("'%s' was taken as %g", bad[i], v);
    assert_true(v == 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decimals_and_fractions),
        cmocka_unit_test(test_what_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
