/* core/buf: round trips, every short input, limits. */
#include "core/base/buf.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static const uint8_t known[] = {
    0x12,                                           /* u8 */
    0x34, 0x12,                                     /* u16 0x1234 */
    0x78, 0x56, 0x34, 0x12,                         /* u32 */
    0xf0, 0xde, 0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12, /* u64 */
    'a',  'b',  'c',
};

static int read_all(struct buf_reader *r)
{
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    char text[3];

    TRY(buf_get_u8(r, &u8));
    TRY(buf_get_u16(r, &u16));
    TRY(buf_get_u32(r, &u32));
    TRY(buf_get_u64(r, &u64));
    TRY(buf_get_bytes(r, text, 3));
    assert_int_equal(u8, 0x12);
    assert_int_equal(u16, 0x1234);
    assert_int_equal(u32, 0x12345678);
    assert_int_equal(u64, 0x123456789abcdef0);
    assert_memory_equal(text, "abc", 3);
    return 0;
}

static void test_reader_gets_known_bytes(void **state)
{
    struct buf_reader r = buf_reader_on(known, sizeof known, "test");

    (void)state;
    assert_int_equal(read_all(&r), 0);
    assert_int_equal(buf_left(&r), 0);
}

static void test_reader_fails_at_every_cut(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof known; n++) {
        uint8_t *exact = mem_array(n, 1); /* the sanitizer sees a read behind it */
        memcpy(exact, known, n);
        struct buf_reader r = buf_reader_on(exact, n, "test");
        assert_int_equal(read_all(&r), ERR_FORMAT);
        assert_true(r.at <= n);
        mem_free(exact);
    }
    assert_string_equal(err_message(), "test: 3 bytes wanted at offset 15, 2 left");
}

static void test_reader_views_and_leftovers(void **state)
{
    struct buf_reader r = buf_reader_on(known, sizeof known, "test");
    const uint8_t *view = NULL;

    (void)state;
    assert_int_equal(buf_get_view(&r, SIZE_MAX, &view), ERR_FORMAT);
    assert_null(view);
    assert_int_equal(buf_get_view(&r, 3, &view), 0);
    assert_ptr_equal(view, known);
    assert_int_equal(buf_left(&r), 15);
    r = buf_reader_on(NULL, 0, "nothing");
    assert_int_equal(buf_get_bytes(&r, NULL, 0), 0);
    assert_int_equal(buf_left(&r), 0);
}

static void put_all(struct buf_writer *w)
{
    buf_put_u8(w, 0x12);
    buf_put_u16(w, 0x1234);
    buf_put_u32(w, 0x12345678);
    buf_put_u64(w, 0x123456789abcdef0);
    buf_put_bytes(w, "abc", 3);
    buf_put_bytes(w, NULL, 0);
}

static void test_writer_puts_known_bytes(void **state)
{
    struct buf_writer w = buf_writer_to(sizeof known);

    (void)state;
    put_all(&w);
    assert_int_equal(buf_status(&w), 0);
    assert_int_equal(w.len, sizeof known);
    assert_memory_equal(w.data, known, sizeof known);
    buf_release(&w);
}

static void test_writer_keeps_its_limit(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < sizeof known; limit++) {
        struct buf_writer w = buf_writer_to(limit);
        put_all(&w);
        assert_int_equal(buf_status(&w), ERR_LIMIT);
        assert_true(w.len <= limit && w.cap <= limit);
        size_t len = w.len;
        buf_put_u8(&w, 1); /* nothing goes in after an error */
        assert_int_equal(w.len, len);
        buf_release(&w);
    }
}

static void test_writer_in_the_callers_memory(void **state)
{
    uint8_t bytes[9] = {0, 0, 0, 0, 0, 0, 0, 0, 77};
    struct buf_writer w = buf_writer_in(bytes, 8);

    (void)state;
    buf_put_u32(&w, 0x04030201);
    buf_put_bytes(&w, "abcd", 4);
    assert_int_equal(buf_status(&w), 0);
    assert_memory_equal(bytes,
                        "\x01\x02\x03\x04"
                        "abcd",
                        8);
    buf_put_u8(&w, 1);
    assert_int_equal(buf_status(&w), ERR_LIMIT);
    assert_int_equal(bytes[8], 77);
}

static void test_writer_grows(void **state)
{
    struct buf_writer w = buf_writer_to(1000003);

    (void)state;
    for (uint32_t i = 0; i < 250000; i++)
        buf_put_u32(&w, i);
    buf_put_bytes(&w, "abc", 3);
    assert_int_equal(buf_status(&w), 0);
    buf_put_u8(&w, 0);
    assert_int_equal(buf_status(&w), ERR_LIMIT);
    struct buf_reader r = buf_reader_on(w.data, w.len, "test");
    for (uint32_t i = 0; i < 250000; i++) {
        uint32_t v = 0;
        assert_int_equal(buf_get_u32(&r, &v), 0);
        assert_int_equal(v, i);
    }
    buf_release(&w);
}

static void test_writer_survives_failed_allocations(void **state)
{
    struct buf_writer w = buf_writer_to(1000);
    uint8_t block[100] = {1};

    (void)state;
    buf_put_bytes(&w, block, 50);
    mem_fail_at(1);
    buf_put_bytes(&w, block, 100);
    mem_fail_at(0);
    assert_int_equal(buf_status(&w), ERR_NOMEM);
    assert_int_equal(w.len, 50);
    buf_release(&w);
    assert_null(w.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader_gets_known_bytes),
        cmocka_unit_test(test_reader_fails_at_every_cut),
        cmocka_unit_test(test_reader_views_and_leftovers),
        cmocka_unit_test(test_writer_puts_known_bytes),
        cmocka_unit_test(test_writer_keeps_its_limit),
        cmocka_unit_test(test_writer_in_the_callers_memory),
        cmocka_unit_test(test_writer_grows),
        cmocka_unit_test(test_writer_survives_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
