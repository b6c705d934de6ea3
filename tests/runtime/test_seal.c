/* Secrets at rest: what was sealed comes back under the same key, salt, head and place, and under no other. */
#include "runtime/crypto/seal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "runtime/crypto/store.h"
#include "tests/scratch.h"

#define N 1000

struct box {
    uint8_t key[SEAL_KEY], salt[SEAL_SALT], head[20], text[N], sealed[N + SEAL_TAG], back[N];
};

static int close_box(struct box *b, uint64_t i, bool last, size_t n)
{
    struct seal *s = NULL;
    int rc;

    assert_int_equal(seal_new(b->key, b->salt, b->head, sizeof b->head, &s), 0);
    rc = seal_close(s, i, last, b->text, n, b->sealed);
    seal_free(s);
    return rc;
}

static int open_box(struct box *b, uint64_t i, bool last, size_t n)
{
    struct seal *s = NULL;
    int rc;

    assert_int_equal(seal_new(b->key, b->salt, b->head, sizeof b->head, &s), 0);
    rc = seal_open(s, i, last, b->sealed, n, b->back);
    seal_free(s);
    return rc;
}

static void test_only_the_same_opens(void **state)
{
    struct box b = {.key = {1}, .salt = {2}, .head = {3}};
    uint8_t *parts[] = {b.key, b.salt, b.head, b.sealed};

    (void)state;
    for (int i = 0; i < N; i++)
        b.text[i] = (uint8_t)(i * 7);
    assert_int_equal(close_box(&b, 5, false, N), 0);
    assert_int_equal(open_box(&b, 5, false, N), 0);
    assert_memory_equal(b.back, b.text, N);
    assert_int_equal(open_box(&b, 5, true, N), ERR_FORMAT);
    assert_int_equal(open_box(&b, 4, false, N), ERR_FORMAT);
    assert_int_equal(open_box(&b, 5, false, N - 1), ERR_FORMAT);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        parts[i][9] ^= 0x10;
        assert_int_equal(open_box(&b, 5, false, N), ERR_FORMAT);
        parts[i][9] ^= 0x10;
    }
    b.sealed[N + 3] ^= 1; /* its tag */
    assert_int_equal(open_box(&b, 5, false, N), ERR_FORMAT);
    b.sealed[N + 3] ^= 1;
    assert_int_equal(open_box(&b, 5, false, N), 0);
    assert_int_equal(seal_size(0), 0);
    assert_int_equal(seal_size(SEAL_PIECE), SEAL_PIECE + SEAL_TAG);
    assert_int_equal(seal_size(SEAL_PIECE + 1), SEAL_PIECE + 1 + 2 * SEAL_TAG);
}

static void test_keys(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT], digits[66];
    uint8_t key[SEAL_KEY], raw[SEAL_KEY] = {0xab, 0xab, 0xab};

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "key", path);
    memset(digits, '0', sizeof digits);
    memcpy(digits, "ababab", 6);
    digits[64] = '\n';
    for (size_t n = 0; n < 70; n++) {
        scratch_write(path, n == SEAL_KEY ? (const void *)raw : digits, n < 66 ? n : 66);
        if (n == SEAL_KEY || n == 64 || n == 65) {
            assert_int_equal(seal_key_read(path, key), 0);
            assert_memory_equal(key, raw, sizeof key);
        } else if (n < 64) {
            assert_int_equal(seal_key_read(path, key), ERR_FORMAT);
        }
    }
    scratch_close(dir);
}

static void test_the_list_of_used_ids(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    uint8_t id[STORE_ID] = {7};

    (void)state;
    scratch_open(dir);
    for (int i = 0; i < 600; i++) { /* more than one look at the file */
        memcpy(id + 1, &i, sizeof i);
        assert_int_equal(store_mark_used(dir, id), 0);
    }
    for (int i = 0; i < 600; i += 37) {
        memcpy(id + 1, &i, sizeof i);
        assert_int_equal(store_mark_used(dir, id), ERR_DATA);
    }
    /* half of an id that a machine was writing when it stopped counts for nothing */
    uint8_t *bytes;
    size_t n;
    assert_int_equal(file_read(scratch_path(dir, STORE_LIST, path), 1 << 20, &bytes, &n), 0);
    assert_int_equal(n, 600 * STORE_ID);
    scratch_write(path, bytes, 599 * STORE_ID + 5);
    mem_free(bytes);
    id[0] = 8;
    assert_int_equal(store_mark_used(dir, id), 0);
    assert_int_equal(store_mark_used(dir, id), ERR_DATA);
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_same_opens),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_the_list_of_used_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
