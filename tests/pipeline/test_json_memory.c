/* Each allocation of a report's JSON fails once: the call fails too, and no report lacks an entry. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tests/tiny_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static long countdown, taken; /* of jansson's allocations: 0 = all succeed */

static void *allocate(size_t n)
{
    taken++;
    return countdown > 0 && --countdown == 0 ? NULL : malloc(n);
}

typedef int report_fn(const struct tiny_files *t, struct linnet_report **out);

static int evaluate(const struct tiny_files *t, struct linnet_report **out)
{
    struct linnet_options *o = tiny_options(
        "eval", (const char *const[]){"data", t->data, "limit", "2", "attack", "pgd:steps=1",
                                      "attack", "square:steps=2", "corruptions", "synth", "types",
                                      "contrast,brightness", "severities", "1,2", NULL});
    struct linnet_model *m = NULL;
    int rc = linnet_open(t->model, NULL, NULL, &m);

    if (rc == 0)
        rc = linnet_evaluate(m, o, NULL, out);
    linnet_close(m);
    linnet_options_free(o);
    return rc;
}

static int inspect(const struct tiny_files *t, struct linnet_report **out)
{
    return linnet_inspect(t->model, NULL, out);
}

static int describe(const struct tiny_files *t, struct linnet_report **out)
{
    struct linnet_data *d = NULL;
    int rc = linnet_data_open(t->data, NULL, &d);

    if (rc == 0)
        rc = linnet_data_report(d, out);
    linnet_data_close(d);
    return rc;
}

static void fail_everywhere(const struct tiny_files *t, report_fn *make)
{
    struct linnet_report *r = NULL;
    char *whole;
    long n, failures = 0;

    countdown = taken = 0;
    assert_int_equal(make(t, &r), 0);
    whole = strdup(linnet_report_json(r));
    linnet_report_free(r);
    n = taken;
    assert_true(n > 20);
    for (long k = 1; k <= n; k++) {
        r = NULL;
        countdown = k;
        const int rc = make(t, &r);
        countdown = 0;
        if (rc == 0 && strcmp(linnet_report_json(r), whole) != 0)
            fail_msg("allocation %ld of %ld: a report with holes", k, n);
        if (rc < 0 && rc != LINNET_NOMEM)
            fail_msg("allocation %ld of %ld: %s", k, n, linnet_message());
        failures += rc < 0;
        linnet_report_free(r);
    }
    assert_true(failures > n / 2);
    free(whole);
}

static void test_no_report_has_holes(void **state)
{
    struct tiny_files t;

    (void)state;
    json_set_alloc_funcs(allocate, free);
    tiny_files_open(&t, TINY_BN);
    fail_everywhere(&t, inspect);
    fail_everywhere(&t, describe);
    fail_everywhere(&t, evaluate);
    tiny_files_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_report_has_holes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
