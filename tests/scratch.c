/* Temporary folders for tests. */
#include "tests/scratch.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void scratch_open(char dir[SCRATCH_TEXT])
{
    const char *base = getenv("TMPDIR");

    snprintf(dir, SCRATCH_TEXT, "%s/linnet-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
}

const char *scratch_path(const char *dir, const char *name, char out[SCRATCH_TEXT])
{
    int n = snprintf(out, SCRATCH_TEXT, "%s/%s", dir, name);

    assert_in_range(n, 1, SCRATCH_TEXT - 1);
    return out;
}

void scratch_write(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "wb");

    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

int scratch_holds(const char *path, const void *data, size_t len)
{
    FILE *f = fopen(path, "rb");
    char *got = malloc(len + 1);

    if (f == NULL || got == NULL)
        fail_msg("cannot read %s", path);
    size_t n = fread(got, 1, len + 1, f);
    int same = n == len && memcmp(got, data, len) == 0;
    free(got);
    fclose(f);
    return same;
}

static int is_dots(const struct dirent *e)
{
    return strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
}

size_t scratch_entries(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        n += !is_dots(e);
    closedir(d);
    return n;
}

void scratch_close(const char *dir)
{
    char path[SCRATCH_TEXT];
    DIR *d = opendir(dir);

    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d))
        if (!is_dots(e))
            assert_int_equal(remove(scratch_path(dir, e->d_name, path)), 0);
    closedir(d);
    assert_int_equal(rmdir(dir), 0);
}

const char *scratch_shared(const char *name, char out[SCRATCH_TEXT])
{
    const char *shared = getenv("LINNET_SHARED");
    struct stat st;

    if (shared == NULL)
        shared = "../shared";
    if (stat(shared, &st) != 0)
        return NULL;
    return scratch_path(shared, name, out);
}
