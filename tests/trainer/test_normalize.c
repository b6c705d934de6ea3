/* Presets, custom texts and what is refused. */
#include <string.h>

#include "trainer/data/normalize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct input_norm parsed(const char *text)
{
    struct input_norm norm;
    assert_int_equal(normalize_parse(text, &norm), 0);
    return norm;
}

static void test_presets_have_their_values(void **state)
{
    struct input_norm n = parsed("imagenet");

    (void)state;
    assert_int_equal(n.channels, 3);
    assert_true(n.mean[0] == .485f && n.mean[1] == .456f && n.mean[2] == .406f);
    assert_true(n.std[0] == .229f && n.std[1] == .224f && n.std[2] == .225f);
    n = parsed("cifar10");
    assert_true(n.mean[2] == .4465f && n.std[0] == .2023f && n.std[2] == .2010f);
    assert_true(parsed("cifar10-b").std[0] == .2471f);
    assert_true(parsed("cifar100").mean[0] == .5071f);
    assert_true(parsed("half").std[1] == .5f);
    n = parsed("255");
    assert_true(n.mean[0] == 0 && n.std[0] == 1 / 255.0f);
    assert_int_equal(parsed("none").channels, 0);
}

static void test_text_is_canonical(void **state)
{
    static const char *const same[] = {"cifar10", "cifar10-b", "cifar100", "half",     "imagenet",
                                       "none",    "255",       "0.5/0.25", "0,0.1/1,2"};
    char text[NORMALIZE_TEXT];
    struct input_norm n;

    (void)state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        n = parsed(same[i]);
        assert_string_equal(normalize_text(&n, text), same[i]);
    }
    n = parsed(".485,.4560,4.06e-1/.229,.224,.225");
    assert_string_equal(normalize_text(&n, text), "imagenet");
}

static void test_text_reads_back_exactly(void **state)
{
    struct input_norm n = {.channels = GRAPH_MAX_CHANNELS_NORM}, again;
    char text[NORMALIZE_TEXT];

    (void)state;
    for (int i = 0; i < n.channels; i++) {
        n.mean[i] = -1.2345678e-7f / (float)(i + 3);
        n.std[i] = 98765.43f / (float)(i + 7);
    }
    again = parsed(normalize_text(&n, text));
    assert_memory_equal(&n, &again, sizeof n);
    assert_true(strlen(text) < NORMALIZE_TEXT);
}

static void test_bad_texts_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "cifar",
        "auto",
        "0.5",
        "0.5/",
        "/0.5",
        "0.5/0",
        "0.5/-1",
        "0,0/1",
        "0/1,1",
        "0.5 /1",
        "0.5/1 ",
        "nan/1",
        "0/inf",
        "0/nan",
        "1e30/1",
        "a,b,c/1",
        "0,,0/1,1,1",
        "0,0,0/1,1,1,",
        "IMAGENET",
        "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0/1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1"};
    struct input_norm n;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (normalize_parse(bad[i], &n) != ERR_ARG)
            fail_msg("'%s' was taken", bad[i]);
        assert_non_null(strstr(err_message(), bad[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_have_their_values),
        cmocka_unit_test(test_text_is_canonical),
        cmocka_unit_test(test_text_reads_back_exactly),
        cmocka_unit_test(test_bad_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
