/* core/sha256: the examples of FIPS 180 (NIST), pieces, files, text. */
#include "core/base/sha256.h"
#include "core/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/scratch.h"

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define LONG56 "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"

static const struct {
    const char *text, *want;
} kat[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", ABC},
    {LONG56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void test_known_answers(void **state)
{
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_HEX];

    (void)state;
    for (size_t i = 0; i < sizeof kat / sizeof kat[0]; i++) {
        assert_int_equal(sha256_bytes(kat[i].text, strlen(kat[i].text), digest), 0);
        assert_string_equal(sha256_hex(digest, text), kat[i].want);
    }
}

static void test_million_in_uneven_pieces(void **state)
{
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_HEX], as[1000];
    struct sha256 *h = NULL;

    (void)state;
    memset(as, 'a', sizeof as);
    assert_int_equal(sha256_new(&h), 0);
    for (int turn = 0; turn < 3; turn++) { /* restarted after the end, and in the middle */
        for (size_t left = 1000000, step = 1; left > 0; left -= step, step = step % 997 + 1) {
            step = step < left ? step : left;
            assert_int_equal(sha256_add(h, as, step), 0);
        }
        assert_int_equal(sha256_end(h, digest), 0);
        assert_string_equal(sha256_hex(digest, text),
                            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        assert_int_equal(sha256_restart(h), 0);
        if (turn == 1) {
            assert_int_equal(sha256_add(h, as, 7), 0);
            assert_int_equal(sha256_restart(h), 0);
        }
    }
    sha256_free(h);
    sha256_free(NULL);
}

static void test_file(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], text[SHA256_HEX];
    uint8_t digest[SHA256_SIZE];

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "abc", path);
    scratch_write(path, "abc", 3);
    assert_int_equal(sha256_file(path, digest), 0);
    assert_string_equal(sha256_hex(digest, text), ABC);
    assert_int_equal(sha256_file(scratch_path(dir, "none", path), digest), ERR_IO);
    scratch_close(dir);
}

static void test_parse(void **state)
{
    uint8_t digest[SHA256_SIZE], back[SHA256_SIZE];
    char text[SHA256_HEX + 1];

    (void)state;
    assert_int_equal(sha256_bytes("abc", 3, digest), 0);
    assert_int_equal(sha256_parse(ABC, back), 0);
    assert_memory_equal(digest, back, SHA256_SIZE);
    assert_int_equal(
        sha256_parse("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", back), 0);
    assert_memory_equal(digest, back, SHA256_SIZE);
    for (size_t i = 0; i < 64; i++) { /* a wrong digit or an early end anywhere */
        strcpy(text, ABC);
        text[i] = i % 2 == 0 ? 'g' : '/';
        assert_int_equal(sha256_parse(text, back), ERR_FORMAT);
        text[i] = '\0';
        assert_int_equal(sha256_parse(text, back), ERR_FORMAT);
    }
    assert_int_equal(sha256_parse(ABC "0", back), ERR_FORMAT);
}

static void test_failed_allocation(void **state)
{
    struct sha256 *h = NULL;

    (void)state;
    mem_fail_at(1);
    assert_int_equal(sha256_new(&h), ERR_NOMEM);
    mem_fail_at(0);
    assert_null(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_million_in_uneven_pieces),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
