#ifndef TRAINER_DATA_TREE_H
#define TRAINER_DATA_TREE_H
/*
 * A tree of files, in a folder or in an archive: sorted names, and the bytes of some of them.
 *
 *     struct tree t = {0};
 *     if ((rc = tree_open("dir-or-file.tar.gz", &t)) == 0 &&
 *         (rc = tree_load(&t, "train/")) == 0)          // archives read what is wanted into memory
 *         rc = tree_read(&t, "train/cat/1.png", &data, &len);
 *     mem_free(data);
 *     tree_release(&t);
 *
 * Names are relative to `root`, folders end with a slash. Hidden files, and what macOS adds to
 * archives, are not listed. In an archive the folders above the data are skipped: "set/train/cat" is
 * "train/cat".
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "trainer/data/archive.h"

/* A growing list of texts that it owns. */
struct name_list {
    char **v;
    size_t n, cap;
};
int name_list_add(struct name_list *s, const char *text, size_t len) MUST_CHECK;
void name_list_sort(struct name_list *s); /* by bytes */
int64_t name_list_find(const struct name_list *s,
                       const char *text); /* of a sorted list; -1: not there */
void name_list_release(struct name_list *s);

struct tree {
    char *root; /* path of the folder or archive */
    bool is_archive;
    char *above;                 /* archive: the folders that are skipped, "set/" or "" */
    struct name_list name;       /* sorted */
    struct archive_files *files; /* archive: what tree_load has read, sorted */
};
/* ERR_DATA: not there, not readable, or an image that is a FIFO or a device. */
int tree_open(const char *path, struct tree *t) MUST_CHECK;
void tree_release(struct tree *t); /* a zeroed one is fine */
bool tree_has(const struct tree *t, const char *name);
/* Archives: reads the files below the folder `under` ("" for all); folders: nothing to do. */
int tree_load(struct tree *t, const char *under) MUST_CHECK;
/* The bytes of one file, a copy of the caller's, with a zero after them. Thread safe. ERR_DATA names
 * the file. */
int tree_read(const struct tree *t, const char *name, uint8_t **data, size_t *len) MUST_CHECK;

/* .jpg, .jpeg or .png in any case; the same of what follows a dot. */
bool tree_is_picture(const char *name);
bool tree_is_picture_ending(const char *end);
#endif
