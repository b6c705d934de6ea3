/* tar.c: members as libarchive finds them, in every format it writes; files that are cut or lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/base/mem.h"
#include "tests/scratch.h"
#include "tests/tar_make.h"
#include "trainer/data/tar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static char dir[SCRATCH_TEXT];

/* Walks the file; the number of members or the error, whose message holds `word`. */
static int walk(const char *path, const char *word)
{
    struct tar_walk *w = mem_array(1, sizeof *w);
    struct tar_member *m = mem_array(1, sizeof *m);
    struct file_at f = {0};
    int rc, n = 0;

    assert_int_equal(file_at_open(path, &f), 0);
    w->file = &f;
    while ((rc = tar_next(w, m)) > 0) {
        assert_true(m->offset + m->size <= f.len);
        n++;
    }
    if (rc < 0 && (word == NULL || strstr(err_message(), word) == NULL))
        fail_msg("'%s' without '%s'", err_message(), word != NULL ? word : "");
    file_at_close(&f);
    mem_free(w);
    mem_free(m);
    return rc < 0 ? rc : n;
}

static int walk_made(const struct tar_make *t, const char *word)
{
    char path[SCRATCH_TEXT];

    tar_write(t, scratch_path(dir, "made.tar", path));
    const int rc = walk(path, word);
    unlink(path);
    return rc;
}

/* ---- libarchive ------------------------------------------------------------------------------ */

static const char *long_name(char *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = i % 40 == 39 && i + 1 < n ? '/' : (char)('a' + i % 26);
    out[n] = '\0';
    return out;
}

static void write_with_libarchive(const char *path, int format)
{
    static const size_t lengths[] = {3, 99, 100, 101, 150, 254, 300, 1000};
    struct archive *a = archive_write_new();
    char name[1100], bytes[3000];

    assert_int_equal(archive_write_set_format(a, format), ARCHIVE_OK);
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct archive_entry *e = archive_entry_new();
        const size_t n = i * 401; /* 0, 401 ... so that some end at no block */

        archive_entry_set_pathname(e, long_name(name, format == ARCHIVE_FORMAT_TAR_USTAR
                                                          ? lengths[i] % 150 + 1
                                                          : lengths[i]));
        archive_entry_set_filetype(e, i == 5 ? AE_IFDIR : AE_IFREG);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, i == 5 ? 0 : (la_int64_t)n);
        archive_entry_set_mtime(e, 1700000000, 123456789); /* pax says that in an 'x' member */
        memset(bytes, 'A' + (int)i, sizeof bytes);
        assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
        if (i != 5)
            assert_int_equal(archive_write_data(a, bytes, n), (la_ssize_t)n);
        archive_entry_free(e);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

/* One member of libarchive's reading against the walk's. */
static void same_member(struct archive *a, struct archive_entry *e, const struct file_at *f,
                        const struct tar_member *m)
{
    const bool folder = archive_entry_filetype(e) == AE_IFDIR;
    uint8_t want[4096], got[4096];

    assert_string_equal(m->name, archive_entry_pathname(e));
    assert_int_equal(m->kind, folder ? TAR_FOLDER : TAR_FILE);
    assert_int_equal(m->size, archive_entry_size(e));
    const la_ssize_t n = archive_read_data(a, want, sizeof want);
    assert_int_equal(n, m->size);
    if (n > 0) {
        assert_int_equal(file_at_read(f, m->offset, got, (size_t)n), 0);
        assert_memory_equal(got, want, (size_t)n);
    }
}

static void test_libarchive(void **state)
{
    static const int formats[] = {ARCHIVE_FORMAT_TAR_USTAR, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE,
                                  ARCHIVE_FORMAT_TAR_PAX_RESTRICTED, ARCHIVE_FORMAT_TAR_GNUTAR};
    struct tar_walk *w = mem_array(1, sizeof *w);
    struct tar_member *m = mem_array(1, sizeof *m);
    char path[SCRATCH_TEXT];

    (void)state;
    scratch_path(dir, "a.tar", path);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        struct archive *a = archive_read_new();
        struct archive_entry *e;
        struct file_at f = {0};
        int n = 0;

        write_with_libarchive(path, formats[k]);
        archive_read_support_format_tar(a);
        assert_int_equal(archive_read_open_filename(a, path, 10240), ARCHIVE_OK);
        assert_int_equal(file_at_open(path, &f), 0);
        *w = (struct tar_walk){.file = &f};
        for (; archive_read_next_header(a, &e) == ARCHIVE_OK; n++) {
            assert_int_equal(tar_next(w, m), 1);
            same_member(a, e, &f, m);
        }
        assert_int_equal(tar_next(w, m), 0);
        assert_int_equal(n, 8);
        archive_read_free(a);
        file_at_close(&f);
        unlink(path);
    }
    mem_free(w);
    mem_free(m);
}

/* ---- wrong files ----------------------------------------------------------------------------- */

static void two_members(struct tar_make *t)
{
    *t = (struct tar_make){0};
    tar_put(t, "a.txt", '0', "hello", 5);
    tar_put(t, "b.txt", '0', "world", 5);
    tar_end(t);
}

static void test_cut_anywhere(void **state)
{
    struct tar_make t;

    (void)state;
    two_members(&t);
    const size_t whole = t.n;
    assert_int_equal(walk_made(&t, NULL), 2);
    for (size_t n = 0; n < whole - 512; n += n % 512 == 0 ? 1 : n % 512 == 511 ? 1 : 255) {
        t.n = n;
        assert_int_equal(walk_made(&t, "cut"), ERR_DATA);
    }
    t.n = whole - 512; /* one block of zeros is enough */
    assert_int_equal(walk_made(&t, NULL), 2);
    tar_release(&t);
}

/* The first header with this text in its size field. */
static int with_size(const void *size, const char *word)
{
    struct tar_make t;

    two_members(&t);
    memcpy(t.v + 124, size, 12);
    tar_sum(&t, 0);
    const int rc = walk_made(&t, word);
    tar_release(&t);
    return rc;
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(with_size("00000000005", NULL), 2);
    assert_int_equal(with_size("          5 ", NULL), 2);
    assert_int_equal(with_size("\x80\0\0\0\0\0\0\0\0\0\0\5", NULL), 2);
    assert_int_equal(with_size("77777777777", "the size is wrong"), ERR_DATA);
    assert_int_equal(with_size("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "the size is wrong"),
                     ERR_DATA);
    assert_int_equal(with_size("\x80\0\0\1\0\0\0\0\0\0\0\0", "no number"), ERR_DATA);
    assert_int_equal(with_size("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "no number"),
                     ERR_DATA);
    assert_int_equal(with_size("9999\0\0\0\0\0\0\0\0", "no number"), ERR_DATA);
    assert_int_equal(with_size("\0\0\0\0\0\0\0\0\0\0\0\0", "no number"), ERR_DATA);
    assert_int_equal(with_size("777777777777", "the size is wrong"), ERR_DATA);
}

static void test_checksum(void **state)
{
    struct tar_make t;

    (void)state;
    for (size_t i = 0; i < 512; i += 37) {
        two_members(&t);
        t.v[i] ^= 1;
        if (i < 148 || i >= 156)
            assert_int_equal(walk_made(&t, "checksum"), ERR_DATA);
        tar_release(&t);
    }
    t = (struct tar_make){0};
    tar_put(&t, "a.txt", '0', NULL, 0);
    memset(t.v, 'x', 512); /* not a tar file */
    assert_int_equal(walk_made(&t, "not a tar file"), ERR_DATA);
    tar_release(&t);
}

static int pax(const char *text, const char *word)
{
    struct tar_make t = {0};

    tar_put(&t, "pax", 'x', text, strlen(text));
    tar_put(&t, "a.txt", '0', "hello", 5);
    tar_end(&t);
    const int rc = walk_made(&t, word);
    tar_release(&t);
    return rc;
}

static void test_pax(void **state)
{
    (void)state;
    assert_int_equal(pax("12 path=b.c\n", NULL), 1);
    assert_int_equal(pax("10 size=5\n11 other=x\n", NULL), 1);
    assert_int_equal(pax("", NULL), 1);
    assert_int_equal(pax("12 path=b.c", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("13 path=b.c\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("999999999999 path=b.c\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("0 \n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("8 path=\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("29 size=99999999999999999999\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("11 size=-5\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("13 size=99999\n", "cannot be read"), ERR_DATA);
    assert_int_equal(pax("14 size=99999\n", "the size is wrong"), ERR_DATA);
}

static void test_long_names(void **state)
{
    struct tar_make t = {0};
    char *name = mem_array(5000, 1);

    (void)state;
    memset(name, 'n', 4999);
    tar_put(&t, "long", 'L', name, 4095);
    tar_put(&t, "a.txt", '0', "hello", 5);
    tar_end(&t);
    assert_int_equal(walk_made(&t, NULL), 1);
    tar_release(&t);
    tar_put(&t, "long", 'L', name, 4096);
    tar_put(&t, "a.txt", '0', "hello", 5);
    tar_end(&t);
    assert_int_equal(walk_made(&t, "longer than 4,095"), ERR_DATA);
    tar_release(&t);
    mem_free(name);
}

static int begin(void **state)
{
    (void)state;
    scratch_open(dir);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_close(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_libarchive), cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_sizes),      cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_pax),        cmocka_unit_test(test_long_names),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
