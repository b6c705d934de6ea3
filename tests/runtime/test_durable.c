/*
 * What is written lies on the disk before anybody relies on it: fsync and fdatasync of this program note
 * what they are called for. A machine that stops cannot be had in a test; the order of calls can.
 *
 *     a file        its bytes while it has its temporary name, then the folder of the new name
 *     the ledger    each record that lets an image begin, strikes and bans; nothing else waits
 *     used list     the id, then its folder
 *
 * And what cannot be written whole is not there by half.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/mem.h"
#include "runtime/crypto/store.h"
#include "runtime/serve/ledger.h"
#include "tests/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* ---- the calls ------------------------------------------------------------------------------- */

static struct {
    int n, fail_at; /* calls; the one that fails, from 1 */
    struct stat seen[16];
    char watched[SCRATCH_TEXT]; /* what stood there at each call: inode, 0 for nothing */
    ino_t there[16];
} calls;

static int note(int fd)
{
    struct stat st;
    const int i = calls.n++;

    assert_true(i < 16 && fstat(fd, &calls.seen[i]) == 0);
    calls.there[i] = stat(calls.watched, &st) == 0 ? st.st_ino : 0;
    errno = EIO;
    return calls.n == calls.fail_at ? -1 : 0;
}

/* The C library's are replaced for the whole program. */
int fsync(int fd)
{
    return note(fd);
}

int fdatasync(int fd)
{
    return note(fd);
}

static void watch(const char *path)
{
    memset(&calls, 0, sizeof calls);
    snprintf(calls.watched, sizeof calls.watched, "%s", path);
}

static ino_t inode(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_ino;
}

/* ---- files ------------------------------------------------------------------------------------- */

static void test_a_file_is_synced_before_its_name(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    scratch_write(scratch_path(dir, "a", path), "old", 3);
    const ino_t old = inode(path);
    watch(path);
    assert_int_equal(file_write_atomic(path, FILE_PUBLIC, "new content", 11), 0);
    assert_int_equal(calls.n, 2);
    assert_true(S_ISREG(calls.seen[0].st_mode) && calls.seen[0].st_size == 11);
    assert_true(calls.seen[0].st_ino == inode(path) && calls.there[0] == old);
    assert_true(S_ISDIR(calls.seen[1].st_mode) && calls.seen[1].st_ino == inode(dir));
    assert_true(calls.there[1] == inode(path));
    watch(path);
    calls.fail_at = 1;
    assert_int_equal(file_write_atomic(path, FILE_PUBLIC, "lost", 4), ERR_IO);
    assert_true(scratch_holds(path, "new content", 11));
    assert_int_equal(scratch_entries(dir), 1);
    scratch_close(dir);
}

/* ---- the ledger -------------------------------------------------------------------------------- */

static const uint8_t ann[LEDGER_ID] = {1};

static struct ledger *open_ledger(const char *path)
{
    const struct ledger_rules rules = {10, 0, 5};
    struct ledger *l = NULL;

    assert_int_equal(ledger_open(path, &rules, 1e6, &l), 0);
    return l;
}

static int begin(struct ledger *l, int64_t images, enum ledger_verdict *v)
{
    double wait;

    return ledger_begin(l, ann, LEDGER_BEGIN_QUERY, images, 1e6, v, &wait);
}

static off_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void test_the_ledger_is_synced_before_an_image_begins(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    enum ledger_verdict v;

    (void)state;
    scratch_open(dir);
    struct ledger *l = open_ledger(scratch_path(dir, "ledger", path));
    watch(path);
    assert_int_equal(begin(l, 2, &v), 0);
    assert_int_equal(v, LEDGER_GO);
    assert_int_equal(calls.n, 1);
    assert_true(calls.seen[0].st_ino == inode(path) && calls.seen[0].st_size == size_of(path));
    assert_int_equal(ledger_add(l, ann, LEDGER_ANSWERED, 2, 1e6), 0);
    assert_int_equal(calls.n, 1);
    assert_int_equal(ledger_add(l, ann, LEDGER_STRIKE, 1, 1e6), 0);
    assert_int_equal(calls.n, 2);
    assert_true(calls.seen[1].st_size == size_of(path));
    calls.fail_at = 3; /* not on the disk: nobody is told to go on */
    assert_int_equal(begin(l, 2, &v), ERR_IO);
    ledger_close(l);
    scratch_close(dir);
}

/* A disk that is full in the middle of a record: the record is taken back, and later ones are whole. */
static void test_half_a_record_is_taken_back(void **state)
{
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
    struct rlimit whole, full;
    enum ledger_verdict v;

    (void)state;
    scratch_open(dir);
    struct ledger *l = open_ledger(scratch_path(dir, "ledger", path));
    watch(path);
    assert_int_equal(begin(l, 1, &v), 0);
    const off_t before = size_of(path);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &whole), 0);
    full = (struct rlimit){(rlim_t)before + 10, whole.rlim_max};
    void (*const old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    const int rc = begin(l, 2, &v);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &whole), 0);
    signal(SIGXFSZ, old);
    assert_int_equal(rc, ERR_IO);
    assert_int_equal(size_of(path), before);
    assert_int_equal(begin(l, 4, &v), 0);
    ledger_close(l);
    l = open_ledger(path);
    assert_int_equal(ledger_begun(l, ann, 1e6), 5);
    ledger_close(l);
    scratch_close(dir);
}

/* ---- used bundles ------------------------------------------------------------------------------ */

static void test_a_used_id_is_synced(void **state)
{
    static const uint8_t id[STORE_ID] = {7}, other[STORE_ID] = {8};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    watch(scratch_path(dir, STORE_LIST, path));
    assert_int_equal(store_mark_used(dir, id), 0);
    assert_int_equal(calls.n, 2);
    assert_true(calls.seen[0].st_ino == inode(path) && calls.seen[0].st_size == STORE_ID);
    assert_true(calls.seen[1].st_ino == inode(dir));
    watch(path);
    calls.fail_at = 1;
    assert_int_equal(store_mark_used(dir, other), ERR_IO);
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_synced_before_its_name),
        cmocka_unit_test(test_the_ledger_is_synced_before_an_image_begins),
        cmocka_unit_test(test_half_a_record_is_taken_back),
        cmocka_unit_test(test_a_used_id_is_synced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
