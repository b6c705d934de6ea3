/*
 * Tapes: what was put comes back, from memory, a spool or a file, in any order, and nothing else does: not
 * from a file that was cut, extended or changed in any place, nor under another key. A full disk is told.
 */
#define _GNU_SOURCE /* memmem */
#include "runtime/crypto/tape.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "tests/scratch.h"

#define MOST (3 * SEAL_PIECE + 100)
static const uint64_t sizes[] = {
    0, 1, 100, SEAL_PIECE - 1, SEAL_PIECE, SEAL_PIECE + 1, 2 * SEAL_PIECE, MOST};
#define SIZES (sizeof sizes / sizeof *sizes)
static const uint8_t head[20] = "this is the head", key[SEAL_KEY] = {7};

static uint8_t value(uint64_t i)
{
    return (uint8_t)(i * 13 ^ i >> 8 ^ i >> 16);
}

/* Steps of all lengths. */
static void put_all(struct tape *t, uint64_t size)
{
    static uint8_t bytes[MOST];

    for (uint64_t i = 0; i < size; i++)
        bytes[i] = value(i);
    for (uint64_t at = 0, n = 1; at < size; at += n, n = n * 3 + 1) {
        n = n < size - at ? n : size - at;
        tape_put(t, bytes + at, (size_t)n);
    }
}

static int take(struct tape *t, uint64_t at, size_t n)
{
    static uint8_t bytes[MOST];

    TRY(tape_take(t, at, bytes, n));
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != value(at + i))
            return ERR_VERIFY;
    return 0;
}

/* Two readers, from the middle and from the beginning. */
static void take_all(struct tape *t, uint64_t size)
{
    uint64_t half = size / 2;

    for (uint64_t i = 0, n = 1; i < half; i += n, n = n * 2 + 1) {
        n = n < half - i ? n : half - i;
        assert_int_equal(take(t, half + i, (size_t)n), 0);
        assert_int_equal(take(t, i, (size_t)n), 0);
    }
    assert_int_equal(take(t, 2 * half, (size_t)(size - 2 * half)), 0);
    assert_int_equal(take(t, size, 0), 0);
    assert_int_equal(take(t, size, 1), ERR_ARG);
    assert_int_equal(take(t, UINT64_MAX, 2), ERR_ARG);
}

static struct tape_file file_in(const char *dir, const uint8_t *of)
{
    return (struct tape_file){dir, "tape", head, sizeof head, of};
}

static void write_file(const char *dir, const uint8_t *of, uint64_t size)
{
    struct tape_file f = file_in(dir, of);
    struct tape *t = NULL;
    char path[SCRATCH_TEXT];

    assert_int_equal(tape_record(&f, size, &t), 0);
    put_all(t, size);
    assert_int_equal(access(scratch_path(dir, "tape", path), F_OK),
                     -1); /* not before it is all there */
    assert_int_equal(tape_commit(&t), 0);
    assert_null(t);
}

static int open_file(const char *dir, const uint8_t *of, bool small, uint64_t size,
                     struct tape **out)
{
    struct tape_file f = file_in(NULL, of);
    char path[SCRATCH_TEXT];
    int fd = open(scratch_path(dir, "tape", path), O_RDONLY);

    assert_true(fd >= 0);
    return tape_open(&f, fd, small, size, out);
}

static void test_it_comes_back(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct tape *t = NULL;

    (void)state;
    scratch_open(dir);
    for (size_t i = 0; i < SIZES; i++) {
        struct stat st;

        assert_int_equal(tape_memory(sizes[i], &t), 0);
        put_all(t, sizes[i]);
        take_all(t, sizes[i]);
        for (uint64_t k = 0; k < sizes[i]; k++)
            assert_int_equal(tape_bytes(t)[k], 0); /* once */
        tape_free(t);
        assert_int_equal(tape_spool(dir, sizes[i], &t), 0);
        put_all(t, sizes[i]);
        take_all(t, sizes[i]);
        tape_free(t);
        for (int k = 0; k < 4; k++) {
            const uint8_t *of = k & 1 ? key : NULL;

            write_file(dir, of, sizes[i]);
            assert_int_equal(stat(scratch_path(dir, "tape", path), &st), 0);
            assert_int_equal(st.st_size, tape_file_size(sizeof head, sizes[i]));
            assert_int_equal(st.st_mode & 077, 0);
            assert_int_equal(open_file(dir, of, k & 2, sizes[i], &t), 0);
            take_all(t, sizes[i]);
            tape_free(t);
            remove(path);
        }
    }
    scratch_close(dir);
}

/* Reads all of the file; 0 where it is as it was. */
static int read_through(const char *dir, const uint8_t *of, uint64_t size)
{
    struct tape *t = NULL;
    int rc = 0;

    TRY(open_file(dir, of, false, size, &t));
    for (uint64_t at = 0; at < size && rc == 0; at += SEAL_PIECE)
        rc = take(t, at, (size_t)(size - at < SEAL_PIECE ? size - at : SEAL_PIECE));
    tape_free(t);
    return rc;
}

static void rewrite(const char *path, const uint8_t *bytes, size_t n)
{
    assert_int_equal(file_write_atomic(path, FILE_PRIVATE, bytes, n), 0);
}

static void test_damage(void **state)
{
    static const uint8_t other[SEAL_KEY] = {8};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    const uint64_t size = 2 * SEAL_PIECE + 50;

    (void)state;
    scratch_open(dir);
    scratch_path(dir, "tape", path);
    for (int k = 0; k < 2; k++) {
        const uint8_t *of = k ? key : NULL;
        uint8_t *bytes = NULL, *piece;
        struct tape *t = NULL;
        size_t n;

        write_file(dir, of, size);
        assert_int_equal(file_read(path, 1 << 20, &bytes, &n), 0);
        piece = bytes + sizeof head + SEAL_SALT;
        assert_int_equal(read_through(dir, of, size), 0);
        assert_int_equal(read_through(dir, k ? other : key, size), ERR_FORMAT);
        for (size_t at = sizeof head; at < n; at += at < n - 70 ? 4099 : 1) {
            bytes[at] ^= 4;
            rewrite(path, bytes, n);
            assert_int_equal(read_through(dir, of, size), ERR_FORMAT);
            assert_int_equal(open_file(dir, of, true, size, &t), ERR_FORMAT);
            bytes[at] ^= 4;
        }
        rewrite(path, bytes, n - 1);
        assert_int_equal(read_through(dir, of, size), ERR_FORMAT);
        assert_int_equal(read_through(dir, of, size - 1),
                         ERR_FORMAT); /* cut, and its length changed */
        /* the last piece is gone, and its length changed */
        rewrite(path, bytes, tape_file_size(sizeof head, size - 50));
        assert_int_equal(read_through(dir, of, size - 50), ERR_FORMAT);
        /* one piece twice */
        memcpy(piece + SEAL_PIECE + SEAL_TAG, piece, SEAL_PIECE + SEAL_TAG);
        rewrite(path, bytes, n);
        assert_int_equal(read_through(dir, of, size), ERR_FORMAT);
        mem_free(bytes);
        remove(path);
    }
    scratch_close(dir);
}

static void test_a_key_hides(void **state)
{
    uint8_t text[64], *bytes = NULL;
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    size_t n;

    (void)state;
    scratch_open(dir);
    write_file(dir, key, MOST);
    assert_int_equal(file_read(scratch_path(dir, "tape", path), 1 << 20, &bytes, &n), 0);
    for (uint64_t at = 0; at < MOST; at += 1000) {
        for (uint64_t i = 0; i < sizeof text; i++)
            text[i] = value(at + i);
        assert_null(memmem(bytes, n, text, at + sizeof text > MOST ? MOST - at : sizeof text));
    }
    mem_free(bytes);
    remove(path);
    scratch_close(dir);
}

/* The rest is put, and told at the end; no file is left. */
static void test_a_full_disk(void **state)
{
    struct rlimit old, low = {SEAL_PIECE, SEAL_PIECE};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct tape *spool = NULL, *record = NULL;
    struct tape_file f;

    (void)state;
    scratch_open(dir);
    f = file_in(dir, key);
    assert_int_equal(tape_spool(dir, MOST, &spool), 0);
    assert_int_equal(tape_record(&f, MOST, &record), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low.rlim_max = old.rlim_max;
    setrlimit(RLIMIT_FSIZE, &low);
    put_all(spool, MOST);
    put_all(record, MOST);
    assert_int_equal(tape_check(spool), ERR_IO);
    assert_non_null(strstr(err_message(), "TMPDIR"));
    assert_int_equal(take(spool, 0, 10), ERR_IO);
    assert_int_equal(tape_commit(&record), ERR_IO);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(access(scratch_path(dir, "tape", path), F_OK), -1);
    tape_free(spool);
    scratch_close(dir); /* fails where a temporary is left */
}

static void test_wrong_numbers(void **state)
{
    char dir[SCRATCH_TEXT];
    struct tape_file f;
    struct tape *t = NULL;

    (void)state;
    scratch_open(dir);
    f = file_in(dir, NULL);
    assert_int_equal(tape_record(&f, 100, &t), 0);
    put_all(t, 99);
    assert_int_equal(tape_commit(&t), ERR_IO); /* a byte is missing */
    assert_int_equal(tape_record(&f, 100, &t), 0);
    put_all(t, 101);
    assert_int_equal(tape_commit(&t), ERR_ARG);
    assert_int_equal(tape_memory(UINT64_MAX, &t), ERR_LIMIT);
    assert_int_equal(tape_nowhere(1000, &t), 0);
    put_all(t, 1000);
    assert_int_equal(tape_check(t), 0);
    assert_int_equal(take(t, 0, 1), ERR_ARG);
    tape_free(t);
    assert_int_equal(tape_spool("/nowhere/at/all", 10, &t), ERR_IO);
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_comes_back), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_a_key_hides),   cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_wrong_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
