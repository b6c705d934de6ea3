/*
 * Tapes: what was put comes back, from memory, a spool or a file, in any order, and nothing else does: not
 * from a file that was cut, extended or changed in any place, nor under another key. A full disk is told, and
 * a file system that has no files without a name will do.
 */
#define _GNU_SOURCE /* memmem, O_TMPFILE */
#include "runtime/crypto/tape.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* ---- spools ------------------------------------------------------------------------------- */

/* A descriptor of its own for the spool in the folder, which has no name. */
static int spool_file(const char *dir)
{
    char link[SCRATCH_TEXT], target[SCRATCH_TEXT + 64];
    DIR *fds = opendir("/proc/self/fd");
    int found = -1;

    assert_non_null(fds);
    for (struct dirent *e; found < 0 && (e = readdir(fds)) != NULL;) {
        snprintf(link, sizeof link, "/proc/self/fd/%.20s", e->d_name);
        ssize_t n = readlink(link, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (n > 0 && strncmp(target, dir, strlen(dir)) == 0 && strstr(target, "(deleted)") != NULL)
            found = open(link, O_RDWR);
    }
    closedir(fds);
    assert_true(found >= 0);
    return found;
}

#define LONG (9 * SEAL_PIECE + 5) /* long enough for pieces to be read ahead */
enum { BAD = 6 };                 /* a piece */

static struct tape *long_spool(const char *dir)
{
    static uint8_t bytes[SEAL_PIECE];
    struct tape *t = NULL;

    assert_int_equal(tape_spool(dir, LONG, &t), 0);
    for (uint64_t at = 0; at < LONG; at += SEAL_PIECE) {
        for (uint64_t i = 0; i < SEAL_PIECE; i++)
            bytes[i] = value(at + i);
        tape_put(t, bytes, LONG - at < SEAL_PIECE ? (size_t)(LONG - at) : SEAL_PIECE);
    }
    assert_int_equal(tape_check(t), 0);
    return t;
}

/* What comes before is taken, also across two pieces at a time; that piece is not. */
static void take_to_the_bad_one(struct tape *t, const char *why)
{
    const uint64_t bad = BAD * SEAL_PIECE;

    assert_int_equal(take(t, 10, 20), 0);
    for (uint64_t at = 30; at < bad; at += SEAL_PIECE - 1)
        assert_int_equal(take(t, at, (size_t)(bad - at < SEAL_PIECE ? bad - at : SEAL_PIECE)), 0);
    assert_int_equal(take(t, bad - 1, 2), ERR_FORMAT);
    assert_non_null(strstr(err_message(), why));
    assert_int_equal(take(t, 0, SEAL_PIECE), 0);
    tape_free(t);
}

static void test_a_spool_that_was_changed(void **state)
{
    const off_t at = BAD * (off_t)(SEAL_PIECE + SEAL_TAG);
    char dir[SCRATCH_TEXT];
    struct tape *t;
    int fd;

    (void)state;
    scratch_open(dir);
    t = long_spool(dir);
    fd = spool_file(dir);
    assert_int_equal(pwrite(fd, "changed", 7, at + 500), 7);
    take_to_the_bad_one(t, "changed");
    close(fd);
    t = long_spool(dir);
    fd = spool_file(dir);
    assert_int_equal(ftruncate(fd, at + 500), 0);
    take_to_the_bad_one(t, "shorter");
    close(fd);
    scratch_close(dir);
    assert_int_equal(secret_alive(), 0);
}

/* From now on this process cannot open files without a name, as on NFS. false: the system does not let
 * us filter its calls. */
static bool refuse_unnamed(void)
{
#define LOAD(field)                                                                                \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
    struct sock_filter code[] = {
        LOAD(nr),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
        LOAD(args[2]), /* flags: the low half of the word */
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

enum { DONE = 40, NOT_FILTERED, WRONG }; /* not what a failed assertion ends with */
static int use_named_spool(const char *dir)
{
    struct tape *t = NULL;
    struct stat st;
    int fd, rc;

    if (!refuse_unnamed())
        return NOT_FILTERED;
    if (open(dir, O_TMPFILE | O_RDWR, 0600) >= 0 || errno != EOPNOTSUPP)
        return WRONG; /* the filter does not work */
    if (tape_spool("/nowhere/at/all", 10, &t) != ERR_IO || tape_spool(dir, MOST, &t) != 0)
        return WRONG;
    fd = spool_file(dir);
    rc = fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600 && st.st_nlink == 0 &&
                 scratch_entries(dir) == 0
             ? DONE
             : WRONG;
    close(fd);
    put_all(t, MOST);
    take_all(t, MOST);
    tape_free(t);
    return rc;
}

/* A file with a name, which goes at once. */
static void test_no_files_without_a_name(void **state)
{
    char dir[SCRATCH_TEXT];
    pid_t child;
    int status;

    (void)state;
    scratch_open(dir);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(use_named_spool(dir));
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    scratch_close(dir); /* fails where the file is left */
    if (WEXITSTATUS(status) == NOT_FILTERED) {
        print_message("skipped: this kernel lets no process filter its calls (seccomp)\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), DONE);
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
    assert_int_equal(tape_spool(dir, MOST, &t), 0);
    put_all(t, SEAL_PIECE);
    assert_int_equal(take(t, 0, 1), ERR_ARG); /* not all is put */
    tape_free(t);
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_comes_back),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_a_key_hides),
        cmocka_unit_test(test_a_full_disk),
        cmocka_unit_test(test_a_spool_that_was_changed),
        cmocka_unit_test(test_no_files_without_a_name),
        cmocka_unit_test(test_wrong_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
