#ifndef CORE_BASE_FILE_H
#define CORE_BASE_FILE_H
/*
 * Files: read whole, map, open beneath a folder, write so that a crash or a full disk never
 * leaves half a file. Messages name the path; ERR_IO for what the system refused.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

/* The whole file, mem_free(*data). ERR_LIMIT beyond `limit` bytes. One zero byte follows the
 * content, so a text file is a string. A regular file: a FIFO or a device may have no end. */
int file_read(const char *path, size_t limit, uint8_t **data, size_t *len) MUST_CHECK;

/* ERR_ARG if `path` is the same file as one of the n inputs (NULL: none), which it would replace. */
int file_is_new(const char *path, const char *const *input, int n) MUST_CHECK;

/* Can `path` be created or replaced? Makes and removes a temporary beside it. ERR_IO says why not. */
int file_can_write(const char *path) MUST_CHECK;

/* Whether `path`, a file or a folder, is ours and nobody else may read or write it: ERR_ARG says what it
 * is instead, and how to change it. What does not exist is private. */
int file_check_private(const char *path) MUST_CHECK;

struct file_map { /* read-only bytes of a regular file; data is never NULL while open */
    const uint8_t *data;
    size_t len;
};
/* Another program that shortens the file while it is mapped kills this one (SIGBUS); replacing it
 * by rename, as file_writer does, is harmless. */
int file_map_open(const char *path, struct file_map *out) MUST_CHECK;
/* The same from a descriptor, which stays the caller's; `name` for messages. */
int file_map_fd(int fd, const char *name, struct file_map *out) MUST_CHECK;
void file_map_close(struct file_map *m); /* a zeroed or closed map is fine */

/* A regular file that is read by places: nothing is mapped, so one that others shorten is an error. */
struct file_at {
    char *path;
    int fd; /* -1: opened anew for each reading */
    uint64_t len;
};
int file_at_open(const char *path, struct file_at *out) MUST_CHECK;
/* Gives the descriptor back; readings open the file themselves from now on. */
void file_at_rest(struct file_at *f);
/* Exactly the n bytes from `offset` on. Thread safe. ERR_IO: the file ends before. */
int file_at_read(const struct file_at *f, uint64_t offset, void *out, size_t n) MUST_CHECK;
void file_at_close(struct file_at *f); /* a zeroed or closed one is fine */

#define FILE_SINGLE_LINK 1u /* refuse a file with further hard links */
/* Opens the regular file `relative` in a folder, given by its descriptor (which stays the caller's),
 * for reading. No component may be "..", absolute or a symbolic link, whoever wins a race; the folder
 * itself is trusted. The caller closes *fd. */
int file_open_beneath_fd(int folder, const char *relative, unsigned flags, int *fd) MUST_CHECK;

enum file_access {
    FILE_PUBLIC,  /* 0666 less the umask */
    FILE_PRIVATE, /* 0600: secrets */
};
/*
 * Writes a temporary file beside `path` and renames it over `path` at commit, after fsync. Until
 * then, and after any failure, an old file at `path` is what it was. A symbolic link at `path` is
 * replaced, not followed. Of several ranks (ranks.h) only the first writes; the others are told that they did.
 *
 *     SCOPED(file_writer_abort_at) struct file_writer *w = NULL;
 *     TRY(file_writer_open(path, FILE_PUBLIC, &w));
 *     TRY(file_writer_append(w, data, len));
 *     return file_writer_commit(&w);
 */
struct file_writer;
/* Whether `name` is a temporary of a file_writer whose process is gone; of a process in another
 * container, which cannot be seen from here, it would say so too. */
bool file_is_abandoned(const char *name);
int file_writer_open(const char *path, enum file_access access,
                     struct file_writer **out) MUST_CHECK;
/* Keeps the first error: later appends and the commit return it again. */
int file_writer_append(struct file_writer *w, const void *data, size_t len) MUST_CHECK;
uint64_t file_writer_size(const struct file_writer *w); /* bytes appended */
/* Success or not, *w is gone and NULL afterwards. */
int file_writer_commit(struct file_writer **w) MUST_CHECK;
void file_writer_abort(struct file_writer *w); /* removes the temporary; NULL is fine */
FREE_AT(file_writer_abort, struct file_writer)
int file_write_atomic(const char *path, enum file_access access, const void *data,
                      size_t len) MUST_CHECK;
#endif
