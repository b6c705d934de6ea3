/* core/file: reading, mapping, staying beneath a folder, writing that survives a full disk. */
#include "core/base/file.h"
#include "core/base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/scratch.h"

struct fixture {
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];
};

static int setup(void **state)
{
    static struct fixture f;

    scratch_open(f.dir);
    scratch_write(scratch_path(f.dir, "a", f.path), "old content", 11);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    scratch_close(((struct fixture *)*state)->dir);
    return 0;
}

/* ---- reading --------------------------------------------------------------------------------- */

static void test_read_whole_file(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = NULL;
    size_t len = 0;

    assert_int_equal(file_read(f->path, 11, &data, &len), 0);
    assert_int_equal(len, 11);
    assert_string_equal((char *)data, "old content"); /* a zero byte follows */
    mem_free(data);
    data = NULL;
    for (size_t limit = 0; limit < 11; limit++)
        assert_int_equal(file_read(f->path, limit, &data, &len), ERR_LIMIT);
    assert_non_null(strstr(err_message(), f->path));
    assert_null(data);
    assert_int_equal(file_read(f->dir, 100, &data, &len), ERR_IO);
    assert_int_equal(file_read("/nonexistent/x", 100, &data, &len), ERR_IO);
    assert_string_equal(err_message(), "cannot open /nonexistent/x: No such file or directory");
}

/* Nobody writes to the first, the second has no end. */
static void test_read_wants_a_regular_file(void **state)
{
    const struct fixture *f = *state;
    char fifo[SCRATCH_TEXT];
    uint8_t *data = NULL;
    size_t len = 0;

    assert_int_equal(mkfifo(scratch_path(f->dir, "fifo", fifo), 0600), 0);
    assert_int_equal(file_read(fifo, 100, &data, &len), ERR_IO);
    assert_non_null(strstr(err_message(), "fifo: not a regular file"));
    assert_int_equal(file_read("/dev/zero", 100, &data, &len), ERR_IO);
    assert_null(data);
}

static void test_read_failed_allocation(void **state)
{
    struct fixture *f = *state;
    uint8_t *data = NULL;
    size_t len = 0;

    mem_fail_at(1);
    assert_int_equal(file_read(f->path, 100, &data, &len), ERR_NOMEM);
    mem_fail_at(0);
    assert_null(data);
}

static void test_map(void **state)
{
    struct fixture *f = *state;
    struct file_map m = {0};

    assert_int_equal(file_map_open(f->path, &m), 0);
    assert_int_equal(m.len, 11);
    assert_memory_equal(m.data, "old content", 11);
    file_map_close(&m);
    file_map_close(&m);
    scratch_write(f->path, "", 0);
    assert_int_equal(file_map_open(f->path, &m), 0);
    assert_int_equal(m.len, 0);
    assert_non_null(m.data);
    file_map_close(&m);
    assert_int_equal(file_map_open(f->dir, &m), ERR_IO);
    assert_int_equal(file_map_open("/nonexistent/x", &m), ERR_IO);
    assert_int_equal(file_map_fd(-1, "bad", &m), ERR_IO);
    int fd = open(f->path, O_WRONLY);
    scratch_write(f->path, "x", 1);
    assert_int_equal(file_map_fd(fd, "write-only", &m), ERR_IO); /* mmap refuses it */
    close(fd);
}

/* ---- beneath a folder ------------------------------------------------------------------------ */

static int open_beneath(const char *folder, const char *relative, unsigned flags, int *fd)
{
    const int at = open(folder, O_RDONLY | O_DIRECTORY);

    assert_true(at >= 0);
    const int rc = file_open_beneath_fd(at, relative, flags, fd);
    close(at);
    return rc;
}

static void test_beneath_opens_plain_paths(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_TEXT], got[11];
    int fd = -1;

    assert_int_equal(open_beneath(f->dir, "a", FILE_SINGLE_LINK, &fd), 0);
    assert_int_equal(read(fd, got, 11), 11);
    assert_memory_equal(got, "old content", 11);
    close(fd);
    assert_int_equal(mkdir(scratch_path(f->dir, "sub", path), 0700), 0);
    scratch_write(scratch_path(f->dir, "sub/b", path), "b", 1);
    assert_int_equal(open_beneath(f->dir, "sub/b", 0, &fd), 0);
    close(fd);
    unlink(path);
}

static void test_beneath_refuses_ways_out(void **state)
{
    static const char *const bad[] = {"",         "/",     "..",          "../a",        "a/..",
                                      "sub/../a", "./a",   ".",           "/etc/passwd", "sub//b",
                                      "sub/",     "sub/.", "sub/x",       "a/b",         "link",
                                      "away/a",   "none",  "sub",         "fifo",        "a/",
                                      "//a",      "\x01x", "away/../../x"};
    struct fixture *f = *state;
    char path[SCRATCH_TEXT], longer[5000];
    int fd = -7;

    assert_int_equal(mkdir(scratch_path(f->dir, "sub", path), 0700), 0);
    assert_int_equal(symlink("a", scratch_path(f->dir, "link", path)), 0);
    assert_int_equal(symlink(f->dir, scratch_path(f->dir, "away", path)), 0);
    assert_int_equal(mkfifo(scratch_path(f->dir, "fifo", path), 0600), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (open_beneath(f->dir, bad[i], 0, &fd) != ERR_IO)
            fail_msg("'%s' was opened", bad[i]);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    assert_int_equal(open_beneath(f->dir, longer, 0, &fd), ERR_IO);
    assert_int_equal(file_open_beneath_fd(-1, "a", 0, &fd), ERR_IO);
    assert_int_equal(fd, -7);
}

static void test_beneath_counts_links(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_TEXT];
    int fd = -1;

    assert_int_equal(link(f->path, scratch_path(f->dir, "second", path)), 0);
    assert_int_equal(open_beneath(f->dir, "second", FILE_SINGLE_LINK, &fd), ERR_IO);
    assert_string_equal(err_message(),
                        "cannot open second: it has 2 hard links, only 1 is allowed");
    assert_int_equal(open_beneath(f->dir, "second", 0, &fd), 0);
    close(fd);
}

static void test_no_descriptor_leaks(void **state)
{
    struct fixture *f = *state;
    int fd = -1, first = dup(0);

    close(first);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(open_beneath(f->dir, "x/y/z", 0, &fd), ERR_IO);
        assert_int_equal(open_beneath(f->dir, "a/..", 0, &fd), ERR_IO);
        assert_int_equal(file_write_atomic("/nonexistent/x", FILE_PUBLIC, "", 0), ERR_IO);
    }
    int last = dup(0);
    close(last);
    assert_int_equal(first, last);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void test_write_replaces(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    assert_int_equal(file_write_atomic(f->path, FILE_PRIVATE, "new", 3), 0);
    assert_true(scratch_holds(f->path, "new", 3));
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    umask(022);
    assert_int_equal(file_write_atomic(f->path, FILE_PUBLIC, NULL, 0), 0);
    assert_true(scratch_holds(f->path, "", 0));
    assert_int_equal(stat(f->path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(scratch_entries(f->dir), 1);
}

static void test_write_many_sizes(void **state)
{
    static uint8_t data[900000];
    static const size_t steps[] = {1, 1000, 262143, 262144, 262145, 300000};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++) {
        struct file_writer *w = NULL;
        assert_int_equal(file_writer_open(f->path, FILE_PUBLIC, &w), 0);
        for (size_t at = 0; at < sizeof data; at += steps[s]) {
            size_t n = sizeof data - at < steps[s] ? sizeof data - at : steps[s];
            assert_int_equal(file_writer_append(w, data + at, n), 0);
        }
        assert_int_equal(file_writer_size(w), sizeof data);
        assert_int_equal(file_writer_commit(&w), 0);
        assert_null(w);
        assert_true(scratch_holds(f->path, data, sizeof data));
    }
}

static void test_abort_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct file_writer *w = NULL;

    assert_int_equal(file_writer_open(f->path, FILE_PUBLIC, &w), 0);
    assert_int_equal(file_writer_append(w, "half", 4), 0);
    assert_int_equal(scratch_entries(f->dir), 2);
    file_writer_abort(w);
    file_writer_abort(NULL);
    assert_int_equal(scratch_entries(f->dir), 1);
    assert_true(scratch_holds(f->path, "old content", 11));
}

/* No file of this process may grow beyond `bytes`, as on a full disk. */
static void set_file_limit(rlim_t bytes)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void test_full_disk_keeps_the_old_file(void **state)
{
    static uint8_t data[700000];
    struct fixture *f = *state;
    struct file_writer *w = NULL;

    for (rlim_t room = 0; room < sizeof data; room += 69999) {
        set_file_limit(room);
        int rc = file_write_atomic(f->path, FILE_PUBLIC, data, sizeof data);
        int opened = file_writer_open(f->path, FILE_PUBLIC, &w), appended = 0;
        for (size_t i = 0; opened == 0 && appended == 0 && i < sizeof data / 100; i++)
            appended = file_writer_append(w, data, 100);
        int again = appended < 0 ? file_writer_append(w, data, 1) : ERR_IO;
        int committed = file_writer_commit(&w);
        set_file_limit(RLIM_INFINITY);
        assert_int_equal(rc, ERR_IO);
        assert_int_equal(opened, 0);
        assert_int_equal(again, ERR_IO);
        assert_int_equal(committed, ERR_IO);
        assert_non_null(strstr(err_message(), f->path));
        assert_int_equal(scratch_entries(f->dir), 1);
        assert_true(scratch_holds(f->path, "old content", 11));
    }
}

static void test_full_disk_at_the_last_flush(void **state)
{
    struct fixture *f = *state;

    set_file_limit(2);
    int rc = file_write_atomic(f->path, FILE_PUBLIC, "abc", 3);
    set_file_limit(RLIM_INFINITY);
    assert_int_equal(rc, ERR_IO);
    assert_true(scratch_holds(f->path, "old content", 11));
    assert_int_equal(scratch_entries(f->dir), 1);
}

static void test_write_refuses_odd_targets(void **state)
{
    struct fixture *f = *state;
    struct file_writer *w = NULL;
    char path[SCRATCH_TEXT];

    assert_int_equal(file_write_atomic(f->dir, FILE_PUBLIC, "", 0), ERR_IO);
    assert_int_equal(file_write_atomic("/dev/full", FILE_PUBLIC, "", 0), ERR_IO);
    assert_string_equal(err_message(),
                        "cannot write /dev/full: it exists and is not a regular file");
    assert_int_equal(file_write_atomic("/nonexistent/x", FILE_PUBLIC, "", 0), ERR_IO);
    scratch_path(f->dir, "b", path);
    assert_int_equal(file_writer_open(path, FILE_PUBLIC, &w), 0);
    assert_int_equal(mkdir(path, 0700), 0); /* something moved in meanwhile */
    assert_int_equal(file_writer_commit(&w), ERR_IO);
    assert_int_equal(scratch_entries(f->dir), 2);
}

static void test_write_replaces_a_link_not_its_target(void **state)
{
    struct fixture *f = *state;
    char path[SCRATCH_TEXT];
    struct stat st;

    assert_int_equal(symlink("a", scratch_path(f->dir, "link", path)), 0);
    assert_int_equal(file_write_atomic(path, FILE_PUBLIC, "new", 3), 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_true(scratch_holds(f->path, "old content", 11));
}

static void test_temporary_names_do_not_collide(void **state)
{
    struct fixture *f = *state;
    struct file_writer *first = NULL, *second = NULL;

    assert_int_equal(file_writer_open(f->path, FILE_PUBLIC, &first), 0);
    assert_int_equal(file_writer_open(f->path, FILE_PUBLIC, &second), 0);
    assert_int_equal(file_writer_append(first, "1", 1), 0);
    assert_int_equal(file_writer_append(second, "22", 2), 0);
    assert_int_equal(file_writer_commit(&second), 0);
    assert_true(scratch_holds(f->path, "22", 2));
    assert_int_equal(file_writer_commit(&first), 0);
    assert_true(scratch_holds(f->path, "1", 1));
    assert_int_equal(scratch_entries(f->dir), 1);
}

static void test_secrets_must_be_private(void **state)
{
    static const struct {
        mode_t mode;
        int rc;
    } t[] = {{0600, 0},       {0400, 0},       {0711, 0},      {0640, ERR_ARG},
             {0604, ERR_ARG}, {0620, ERR_ARG}, {0602, ERR_ARG}};
    char dir[SCRATCH_TEXT], path[SCRATCH_TEXT];

    (void)state;
    scratch_open(dir);
    scratch_write(scratch_path(dir, "secret", path), "x", 1);
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        assert_int_equal(chmod(path, t[i].mode), 0);
        assert_int_equal(file_check_private(path), t[i].rc);
    }
    assert_int_equal(chmod(path, 0600), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 1, (gid_t)-1), 0);
        assert_int_equal(file_check_private(path), ERR_ARG);
    }
    assert_int_equal(chmod(dir, 0700), 0);
    assert_int_equal(file_check_private(dir), 0);
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(file_check_private(dir), ERR_ARG);
    assert_int_equal(file_check_private(scratch_path(dir, "nothing", path)), 0);
    scratch_close(dir);
}

static void test_temporaries_of_the_dead(void **state)
{
    char name[64];
    pid_t dead = fork();

    (void)state;
    if (dead == 0)
        _exit(0);
    assert_true(dead > 0 && waitpid(dead, NULL, 0) == dead);
    snprintf(name, sizeof name, "a.tmp-%ld-3", (long)dead);
    assert_true(file_is_abandoned(name));
    snprintf(name, sizeof name, "a.tmp-1-0.tmp-%ld-0", (long)dead);
    assert_true(file_is_abandoned(name));
    snprintf(name, sizeof name, "a.tmp-%ld-0x", (long)dead);
    assert_false(file_is_abandoned(name));
    snprintf(name, sizeof name, "a.tmp-%ld", (long)dead);
    assert_false(file_is_abandoned(name));
    snprintf(name, sizeof name, "a.tmp--%ld-0", (long)dead);
    assert_false(file_is_abandoned(name));
    snprintf(name, sizeof name, "a.tmp-%ld-0", (long)getpid());
    assert_false(file_is_abandoned(name));
    assert_false(file_is_abandoned("model.pi"));
}

static void test_relative_path(void **state)
{
    struct fixture *f = *state;
    char before[4096];

    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(file_write_atomic("a", FILE_PUBLIC, "new", 3), 0);
    assert_int_equal(chdir(before), 0);
    assert_true(scratch_holds(f->path, "new", 3));
}

static void test_write_failed_allocations(void **state)
{
    struct fixture *f = *state;
    int rc = ERR_NOMEM;

    for (long n = 1; rc == ERR_NOMEM; n++) {
        mem_fail_at(n);
        rc = file_write_atomic(f->path, FILE_PUBLIC, "new", 3);
        mem_fail_at(0);
        assert_true(scratch_holds(f->path, rc == 0 ? "new" : "old content", rc == 0 ? 3 : 11));
        assert_int_equal(scratch_entries(f->dir), 1);
        assert_in_range(n, 1, 10);
    }
    assert_int_equal(rc, 0);
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(test_read_whole_file),
        WITH_FOLDER(test_read_wants_a_regular_file),
        WITH_FOLDER(test_read_failed_allocation),
        WITH_FOLDER(test_map),
        WITH_FOLDER(test_beneath_opens_plain_paths),
        WITH_FOLDER(test_beneath_refuses_ways_out),
        WITH_FOLDER(test_beneath_counts_links),
        WITH_FOLDER(test_no_descriptor_leaks),
        WITH_FOLDER(test_write_replaces),
        WITH_FOLDER(test_write_many_sizes),
        WITH_FOLDER(test_abort_changes_nothing),
        WITH_FOLDER(test_full_disk_keeps_the_old_file),
        WITH_FOLDER(test_full_disk_at_the_last_flush),
        WITH_FOLDER(test_write_refuses_odd_targets),
        WITH_FOLDER(test_write_replaces_a_link_not_its_target),
        WITH_FOLDER(test_temporary_names_do_not_collide),
        WITH_FOLDER(test_secrets_must_be_private),
        WITH_FOLDER(test_temporaries_of_the_dead),
        WITH_FOLDER(test_relative_path),
        WITH_FOLDER(test_write_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
