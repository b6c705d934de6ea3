/* core/tensor: counts without overflow, text, broadcasting. */
#include "core/graph/tensor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_make_and_equal(void **state)
{
    struct shape a = shape_make(4, SHAPE_BATCH, (int64_t)3, 32L, 32), b = a;

    (void)state;
    assert_int_equal(a.rank, 4);
    assert_int_equal(a.dim[0], SHAPE_BATCH);
    assert_int_equal(a.dim[3], 32);
    assert_int_equal(a.dim[4], 0);
    assert_true(shape_equal(&a, &b));
    b.dim[2] = 31;
    assert_false(shape_equal(&a, &b));
    b = shape_make(3, SHAPE_BATCH, 3, 32);
    assert_false(shape_equal(&a, &b));
    assert_true(shape_has_batch(&a));
    b = shape_make(0);
    assert_false(shape_has_batch(&b));
    b = shape_make(2, 5, 4);
    assert_false(shape_has_batch(&b));
}

static void expect_count(struct shape s, int64_t want)
{
    int64_t n = -1;

    assert_int_equal(shape_count(&s, &n), 0);
    assert_int_equal(n, want);
    assert_int_equal(shape_elems(&s), want);
}

static void test_count(void **state)
{
    (void)state;
    expect_count(shape_make(0), 1);
    expect_count(shape_make(4, SHAPE_BATCH, 3, 32, 32), 3072);
    expect_count(shape_make(2, 10, 64), 640);
    expect_count(shape_make(3, 2, 0, 5), 0);
    expect_count(shape_make(1, SHAPE_BATCH), 1);
    expect_count(shape_make(2, SHAPE_MAX_COUNT / 2, 2), SHAPE_MAX_COUNT);
}

static void expect_count_error(struct shape s, int code, const char *message)
{
    int64_t n = -7;

    assert_int_equal(shape_count(&s, &n), code);
    assert_int_equal(n, -7);
    assert_string_equal(err_message(), message);
}

static void test_count_refuses(void **state)
{
    (void)state;
    expect_count_error(shape_make(2, 3, -1), ERR_FORMAT, "shape [3,-1]: dimension 1 is negative");
    expect_count_error(shape_make(1, -2), ERR_FORMAT, "shape [-2]: dimension 0 is negative");
    expect_count_error(shape_make(2, SHAPE_MAX_COUNT, 2), ERR_LIMIT,
                       "shape [1099511627776,2]: more than 1099511627776 elements");
    expect_count_error(shape_make(1, INT64_MAX), ERR_LIMIT,
                       "shape [9223372036854775807]: more than 1099511627776 elements");
    expect_count_error(shape_make(2, (int64_t)1 << 32, (int64_t)1 << 32), ERR_LIMIT,
                       "shape [4294967296,4294967296]: more than 1099511627776 elements");
    struct shape wild = {.rank = 9};
    expect_count_error(wild, ERR_LIMIT, "shape of rank 9, at most 8");
    wild.rank = -1;
    expect_count_error(wild, ERR_LIMIT, "shape of rank -1, at most 8");
}

static void test_text_never_overruns(void **state)
{
    char text[SHAPE_TEXT + 1];
    struct shape s = {.rank = SHAPE_MAX_RANK};

    (void)state;
    text[SHAPE_TEXT] = 77;
    for (int i = 0; i < SHAPE_MAX_RANK; i++)
        s.dim[i] = INT64_MIN;
    shape_text(&s, text);
    assert_in_range(strlen(text), 100, SHAPE_TEXT - 1);
    assert_int_equal(text[strlen(text) - 1], ']');
    assert_int_equal(text[SHAPE_TEXT], 77);
    s.rank = 1000; /* hostile: only the dims that exist are printed */
    shape_text(&s, text);
    assert_int_equal(text[SHAPE_TEXT], 77);
    s = shape_make(0);
    assert_string_equal(shape_text(&s, text), "[]");
    s = shape_make(3, SHAPE_BATCH, 16, 1);
    assert_string_equal(shape_text(&s, text), "[N,16,1]");
}

static void expect_broadcast(struct shape a, struct shape b, const char *want)
{
    struct shape out, back;
    char text[SHAPE_TEXT];

    assert_int_equal(shape_broadcast(&a, &b, &out), 0);
    assert_string_equal(shape_text(&out, text), want);
    assert_int_equal(shape_broadcast(&b, &a, &back), 0);
    assert_true(shape_equal(&out, &back));
}

static void test_broadcast(void **state)
{
    (void)state;
    expect_broadcast(shape_make(4, SHAPE_BATCH, 3, 4, 5), shape_make(3, 3, 1, 1), "[N,3,4,5]");
    expect_broadcast(shape_make(4, SHAPE_BATCH, 3, 4, 5), shape_make(4, 1, 3, 4, 5), "[N,3,4,5]");
    expect_broadcast(shape_make(2, SHAPE_BATCH, 1), shape_make(2, SHAPE_BATCH, 10), "[N,10]");
    expect_broadcast(shape_make(0), shape_make(1, 7), "[7]");
    expect_broadcast(shape_make(2, 1, 0), shape_make(2, 4, 1), "[4,0]");
    expect_broadcast(shape_make(0), shape_make(0), "[]");
}

static void test_broadcast_refuses(void **state)
{
    const struct shape bad[][2] = {
        {shape_make(2, 3, 4), shape_make(2, 3, 5)},
        {shape_make(1, 3), shape_make(2, 3, 4)},
        {shape_make(2, SHAPE_BATCH, 4), shape_make(2, 8, 4)},    /* batch against a number */
        {shape_make(2, SHAPE_BATCH, 4), shape_make(3, 2, 1, 4)}, /* batch not in front */
        {shape_make(1, SHAPE_BATCH), shape_make(2, SHAPE_BATCH, 4)},
    };
    struct shape out;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(shape_broadcast(&bad[i][0], &bad[i][1], &out), ERR_FORMAT);
        assert_int_equal(shape_broadcast(&bad[i][1], &bad[i][0], &out), ERR_FORMAT);
    }
    assert_string_equal(err_message(), "shapes [N,4] and [N] cannot be broadcast");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make_and_equal), cmocka_unit_test(test_count),
        cmocka_unit_test(test_count_refuses),  cmocka_unit_test(test_text_never_overruns),
        cmocka_unit_test(test_broadcast),      cmocka_unit_test(test_broadcast_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
