#ifndef TRAINER_DATA_ARCHIVE_H
#define TRAINER_DATA_ARCHIVE_H
/*
 * Members of a tar, tar.gz, tar.xz or zip file (libarchive), read into memory by name. Names are
 * those of the archive ("a/b/c.png", a leading "./" dropped); they are never used as paths of this
 * machine. Only regular files and folders count.
 *
 *     struct archive_files *f = NULL;
 *     TRY(archive_files_read("cifar-10-binary.tar.gz", want, NULL, &f));
 *     const struct archive_file *m = archive_files_find(f, "test_batch.bin");   // NULL: not there
 *     archive_files_free(f);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define ARCHIVE_MOST_BYTES ((size_t)1 << 32) /* of all members that are wanted */
#define ARCHIVE_MOST_MEMBERS 5000000

struct archive_file {
    char *name; /* whole; a folder's ends with a slash */
    uint8_t *data;
    size_t len;
};
struct archive_files {
    struct archive_file *v;
    int32_t n;
    size_t cap;
};
/* Does the file name end so that an archive is meant? (.tar, .tar.gz, .tgz, .tar.xz, .zip) */
bool archive_is_name(const char *path);
/* The part of a name after its last slash. */
const char *archive_base(const char *name);
/* want says of a regular file's whole name whether it is read; NULL: names alone, of files and folders,
 * data is NULL. ERR_DATA. */
typedef bool archive_want_fn(const void *ctx, const char *name);
int archive_files_read(const char *path, archive_want_fn *want, const void *ctx,
                       struct archive_files **out) MUST_CHECK;
/* By the part after the last slash; the first one. */
const struct archive_file *archive_files_find(const struct archive_files *f, const char *base);
void archive_files_free(struct archive_files *f); /* NULL is fine */
FREE_AT(archive_files_free, struct archive_files)
#endif
