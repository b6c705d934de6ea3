/* Options of the C API: every task describes itself, values are checked when they are set. */
#include <string.h>

#include "core/base/mem.h"
#include "pipeline/linnet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char *const tasks[] = {"open",    "inspect",   "init",  "data",   "eval",
                                    "train",   "lint",      "sweep", "export", "validate",
                                    "corrupt", "linearize", NULL};

/* A value that some option of this description takes. */
static const char *a_value(const struct linnet_option *o, char word[64])
{
    const size_t n = o->value != NULL ? strcspn(o->value, "|") : 0;

    if (o->value == NULL)
        return NULL;
    if (strcmp(o->value, "N") == 0)
        return strcmp(o->name, "opset") == 0 ? "17" : "5";
    if (strcmp(o->value, "X") == 0)
        return strcmp(o->name, "lambda-factor") == 0 ? "2" : "1/2";
    if (strcmp(o->value, "P") == 0)
        return "50";
    if (strcmp(o->value, "K") == 0)
        return "7";
    assert_true(n < 64);
    memcpy(word, o->value, n);
    word[n] = '\0';
    return word;
}

static void test_every_task_describes_its_options(void **state)
{
    (void)state;
    for (int t = 0; tasks[t] != NULL; t++) {
        const struct linnet_option *o;
        struct linnet_options *set;
        char word[64];
        int n = 0;

        assert_int_equal(linnet_options_new(tasks[t], &set), 0);
        for (; (o = linnet_option_at(tasks[t], n)) != NULL; n++) {
            assert_true(strlen(o->help) > 5);
            for (int k = 0; k < n; k++)
                assert_string_not_equal(o->name, linnet_option_at(tasks[t], k)->name);
            if (linnet_options_set(set, o->name, a_value(o, word)) < 0)
                fail_msg("%s --%s: %s", tasks[t], o->name, linnet_message());
        }
        assert_true(n > 0);
        assert_int_equal(linnet_options_set(set, "seed", "7"), 0);
        linnet_options_free(set);
    }
    assert_null(linnet_option_at("no such task", 0));
}

static void refused(const char *task, const char *name, const char *value, const char *message)
{
    struct linnet_options *o;

    assert_int_equal(linnet_options_new(task, &o), 0);
    assert_int_equal(linnet_options_set(o, name, value), LINNET_ARG);
    if (strstr(linnet_message(), message) == NULL)
        fail_msg("--%s %s: '%s'", name, value != NULL ? value : "", linnet_message());
    linnet_options_free(o);
}

static void test_wrong_values_are_named(void **state)
{
    struct linnet_options *o = (void *)1;

    (void)state;
    refused("eval", "no-such", "1", "task 'eval' has no option 'no-such'");
    refused("eval", "limit", "x", "'--limit': 'x' is not a whole number");
    refused("eval", "limit", "0", "'--limit': 0 is outside 1 ... 1000000000");
    refused("eval", "limit", NULL, "'--limit' needs a value (N)");
    refused("eval", "audit", "yes", "'--audit' takes no value");
    refused("eval", "seed", "-1", "'--seed': -1 is outside");
    refused("export", "masked-relu", "wher", "not one of where|prelu|gather|channel");
    refused("linearize", "teacher-lr", "1/0", "'--teacher-lr': '1/0' is not a number");
    assert_int_equal(linnet_options_new("evaluate", &o), LINNET_ARG);
    assert_null(o);
    assert_non_null(strstr(linnet_message(), "there is no task 'evaluate'"));
}

static void test_options_belong_to_their_task(void **state)
{
    struct linnet_options *o;
    struct linnet_report *r = (void *)1;

    (void)state;
    assert_int_equal(linnet_options_new("train", &o), 0);
    assert_int_equal(linnet_inspect("x.onnx", o, &r), LINNET_ARG);
    assert_string_equal(linnet_message(), "options of task 'inspect' are needed here");
    assert_null(r);
    assert_int_equal(linnet_train("x.onnx", NULL, NULL, &r), LINNET_ARG);
    assert_string_equal(linnet_message(), "options of task 'train' are needed here");
    assert_int_equal(linnet_sweep("x.onnx", NULL, NULL, &r), LINNET_ARG);
    assert_string_equal(linnet_message(), "give --data SRC and -o DIR");
    assert_int_equal(linnet_inspect("no such file", NULL, &r), LINNET_IO); /* defaults */
    linnet_options_free(o);
    linnet_options_free(NULL);
}

static void test_contradictions_show_before_any_file_is_read(void **state)
{
    struct linnet_options *o;
    struct linnet_model *m = (void *)1;

    (void)state;
    assert_int_equal(linnet_options_new("eval", &o), 0);
    assert_int_equal(linnet_open("no such file", o, NULL, &m), LINNET_ARG);
    assert_non_null(strstr(linnet_message(), "give --data"));
    assert_null(m);
    assert_int_equal(linnet_options_set(o, "data", "synth:50"), 0);
    assert_int_equal(linnet_open("no such file", o, NULL, &m), LINNET_IO);
    linnet_options_free(o);
}

static void test_memory_may_run_out(void **state)
{
    struct linnet_options *o = NULL;
    int rc = LINNET_NOMEM;

    (void)state;
    for (long n = 1; rc == LINNET_NOMEM; n++) {
        mem_fail_at(n);
        rc = linnet_options_new("linearize", &o);
        for (int k = 0; rc == 0 && k < 50; k++)
            rc = linnet_options_set(o, "data", "a source with a rather long name, as paths are");
        mem_fail_at(0);
        assert_true(rc == 0 || rc == LINNET_NOMEM);
        linnet_options_free(o);
        assert_true(n < 1000);
    }
}

static void test_versions_and_codes_have_names(void **state)
{
    (void)state;
    assert_true(strlen(linnet_version()) >= 3);
    assert_string_equal(linnet_error_name(LINNET_NOMEM), "out of memory");
    assert_string_equal(linnet_error_name(LINNET_INTERRUPTED), "interrupted");
    assert_string_equal(linnet_error_name(-99), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_task_describes_its_options),
        cmocka_unit_test(test_wrong_values_are_named),
        cmocka_unit_test(test_options_belong_to_their_task),
        cmocka_unit_test(test_contradictions_show_before_any_file_is_read),
        cmocka_unit_test(test_memory_may_run_out),
        cmocka_unit_test(test_versions_and_codes_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
