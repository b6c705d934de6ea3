/* JSON without holes, and texts that are no UTF-8. */
#include "core/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_a_failure_stays(void **state)
{
    json_t *o = json_object(), *list = json_array();

    (void)state;
    json_put(&o, "a", json_integer(1));
    json_add(&list, json_true());
    assert_int_equal(json_integer_value(json_object_get(o, "a")), 1);
    assert_true(json_is_true(json_array_get(list, 0)));
    json_add(&list, NULL);
    assert_null(list);
    json_add(&list, json_true());
    assert_null(list);
    json_put(&o, "list", list);
    assert_null(o);
    json_put(&o, "b", json_integer(2));
    assert_null(o);
}

static void expect_text(const char *text, const char *want)
{
    json_t *s = json_text(text);

    assert_non_null(s);
    assert_string_equal(json_string_value(s), want);
    json_decref(s);
}

static void test_bytes_that_are_no_text(void **state)
{
    (void)state;
    expect_text("", "");
    expect_text("plain", "plain");
    expect_text("caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80");
    expect_text("caf\xe9.onnx", "caf\\xe9.onnx");
    expect_text("\xff\xc3\xa9\xc3", "\\xff\xc3\xa9\\xc3"); /* a whole one between two halves */
    expect_text("\xed\xa0\x80\xc0\x80",
                "\\xed\\xa0\\x80\\xc0\\x80"); /* surrogate, long form of 0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_failure_stays),
        cmocka_unit_test(test_bytes_that_are_no_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
