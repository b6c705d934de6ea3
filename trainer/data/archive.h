#ifndef TRAINER_DATA_ARCHIVE_H
#define TRAINER_DATA_ARCHIVE_H
/*
 * Members of a tar, tar.gz, tar.xz or zip file (libarchive), read into memory by name.
 *
 *     struct archive_files *f = NULL;
 *     TRY(archive_files_read("cifar-10-binary.tar.gz", want, ctx, &f));
 *     const struct archive_file *m = archive_files_find(f, "test_batch.bin");   // NULL: not there
 *     archive_files_free(f);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define ARCHIVE_MOST_BYTES ((size_t)1 << 32) /* of all members that are wanted */
#define ARCHIVE_MOST_MEMBERS 1000000

struct archive_file {
    char *name; /* behind the last slash */
    uint8_t *data;
    size_t len;
};
struct archive_files {
    struct archive_file *v;
    int32_t n, cap;
};
/* want says by the name behind the last slash which members are read; regular files only. ERR_DATA. */
int archive_files_read(const char *path, bool (*want)(const char *name),
                       struct archive_files **out) MUST_CHECK;
const struct archive_file *archive_files_find(const struct archive_files *f, const char *name);
void archive_files_free(struct archive_files *f); /* NULL is fine */
#endif
