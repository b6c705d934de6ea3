/* runtime/party/message: bytes at the places that PROTOCOL.md says, and every difference refused. */
#include "runtime/party/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct hello sample(uint8_t server)
{
    struct hello h = {.version = 0x0102,
                      .server = server,
                      .ring = 64,
                      .linear = 2,
                      .relu = 1,
                      .answer = HELLO_LABEL,
                      .flags = HELLO_SEED,
                      .status = 7};

    memset(h.model, 0x5a, sizeof h.model);
    memset(h.nonce, 0xa5, sizeof h.nonce);
    return h;
}

static void test_hello_bytes(void **state)
{
    struct hello h = sample(1), back;
    uint8_t bytes[HELLO_BYTES], zeros[15] = {0};

    (void)state;
    hello_write(&h, bytes);
    assert_memory_equal(bytes, "linnetPI\x02\x01\x01\x40\x02\x01\x02\x01", 16);
    assert_memory_equal(bytes + 16, h.model, 32);
    assert_int_equal(bytes[48], 7);
    assert_memory_equal(bytes + 49, zeros, 15);
    assert_memory_equal(bytes + 64, h.nonce, 16);
    hello_read(bytes, &back);
    assert_true(back.magic && back.zeros);
    assert_int_equal(back.version, h.version);
    assert_int_equal(back.status, 7);
    assert_memory_equal(back.nonce, h.nonce, sizeof h.nonce);
    bytes[60] = 1;
    hello_read(bytes, &back);
    assert_true(back.magic && !back.zeros);
    bytes[0] = 'L';
    hello_read(bytes, &back);
    assert_false(back.magic);
}

#define REFUSED(why, change)                                                                       \
    {                                                                                              \
        struct hello theirs = sample(1);                                                           \
        theirs.magic = theirs.zeros = true;                                                        \
        change;                                                                                    \
        assert_int_equal(hello_compare(&mine, &theirs), why);                                      \
    }
static void test_hello_differences(void **state)
{
    const struct hello mine = sample(0);

    (void)state;
    REFUSED(REFUSED_NOT, theirs.nonce[0] ^= 1)
    REFUSED(REFUSED_NOT, theirs.relu = 9)
    REFUSED(REFUSED_HELLO, theirs.magic = false)
    REFUSED(REFUSED_HELLO, theirs.zeros = false)
    REFUSED(REFUSED_HELLO, theirs.server = 0)
    REFUSED(REFUSED_VERSION, theirs.version++)
    REFUSED(REFUSED_VERSION, theirs.version++; theirs.zeros = false; theirs.model[0] = 0)
    REFUSED(REFUSED_MODEL, theirs.model[31] ^= 1)
    REFUSED(REFUSED_RING, theirs.ring = 32)
    REFUSED(REFUSED_LINEAR, theirs.linear = 1)
    REFUSED(REFUSED_SEED, theirs.flags = 0)
    REFUSED(REFUSED_LINK, theirs.flags |= HELLO_LINK)
    REFUSED(REFUSED_HELLO, theirs.flags |= HELLO_TALLY)
    for (int i = 0; i < REFUSALS; i++)
        assert_non_null(refusal_text((uint8_t)i));
    assert_non_null(strstr(refusal_text(200), "does not know"));
}

static void test_request_bytes(void **state)
{
    struct request q = {.kind = REQUEST_PREPARE, .images = 3, .number = 0x0102030405060708}, back;
    uint8_t bytes[REQUEST_BYTES];

    (void)state;
    memset(q.id, 0x77, sizeof q.id);
    request_write(&q, bytes);
    assert_memory_equal(bytes, "\x02\0\0\0\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01", 16);
    assert_memory_equal(bytes + 16, q.id, 16);
    request_read(bytes, &back);
    assert_true(back.well_formed && back.kind == q.kind && back.images == 3);
    assert_true(back.number == q.number);
    bytes[2] = 1;
    request_read(bytes, &back);
    assert_false(back.well_formed);
}

static void test_ids_of_a_lot(void **state)
{
    uint8_t first[BUNDLE_ID] = {1, 2}, id[BUNDLE_ID];

    (void)state;
    memset(first + 12, 0xff, 4);
    lot_id(first, 0, id);
    assert_memory_equal(id, first, sizeof id);
    lot_id(first, 2, id);
    assert_memory_equal(id, first, 12);
    assert_memory_equal(id + 12, "\x01\0\0\0", 4);
}

/* A wish is 8 bytes of number, 0 or 1, zeros. */
static void test_wishes(void **state)
{
    struct relu_wish wish = {.images = 5, .ahead = true}, back;
    uint8_t bytes[WAYS_BYTES];

    (void)state;
    wish_write(&wish, bytes);
    assert_int_equal(wish_read(bytes, &back), 0);
    assert_int_equal(back.images, 5);
    assert_true(back.ahead);
    for (int at = 8; at < WAYS_BYTES; at++) {
        bytes[at] ^= 2;
        assert_int_equal(wish_read(bytes, &back), ERR_PEER);
        bytes[at] ^= 2;
    }
    memset(bytes, 0xff, 8);
    assert_int_equal(wish_read(bytes, &back), 0);
    assert_true(back.images > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wishes),
        cmocka_unit_test(test_hello_bytes),
        cmocka_unit_test(test_hello_differences),
        cmocka_unit_test(test_request_bytes),
        cmocka_unit_test(test_ids_of_a_lot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
