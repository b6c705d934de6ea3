#ifndef TRAINER_DATA_TAR_H
#define TRAINER_DATA_TAR_H
/*
 * Where the members of an uncompressed tar file lie: POSIX ustar and pax (path, size), GNU long names and
 * base-256 sizes, old tar. Nothing is unpacked, names are never paths of this machine.
 *
 *     struct tar_walk w = {.file = &f};
 *     struct tar_member m;
 *     while ((rc = tar_next(&w, &m)) > 0)
 *         ...m.name, m.offset, m.size
 *
 * Every header's checksum is checked; a member that reaches beyond the end of the file, and a file without
 * the block of zeros that ends an archive, is an error: it was cut.
 */
#include <stdbool.h>

#include "core/base/file.h"

#define TAR_BLOCK 512
#define TAR_NAME 4096 /* bytes of a name, with its zero */
#define TAR_WINDOW 8192

enum tar_kind { TAR_FILE, TAR_FOLDER, TAR_LINK, TAR_OTHER };
struct tar_member {
    char name[TAR_NAME]; /* without a leading "./" */
    enum tar_kind kind;
    uint64_t offset, size; /* of its bytes in the file */
};
struct tar_walk { /* zeroed but for the file */
    const struct file_at *file;
    uint64_t at;    /* of the next header */
    uint64_t first; /* of the window: bytes of the file that are at hand, from a block on */
    size_t held;
    uint8_t window[TAR_WINDOW];
};
/* 1: *m is the next member; 0: the archive has ended. ERR_DATA names file and byte. */
int tar_next(struct tar_walk *w, struct tar_member *m) MUST_CHECK;
/* The first n bytes (n <= TAR_BLOCK) of the member that was found last; cheap. */
int tar_peek(struct tar_walk *w, const struct tar_member *m, void *out, size_t n) MUST_CHECK;
#endif
