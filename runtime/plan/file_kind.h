#ifndef RUNTIME_PLAN_FILE_KIND_H
#define RUNTIME_PLAN_FILE_KIND_H
/* What a file is that is not what was asked for, by its first bytes: for messages only. */

/* "a NumPy array (.npy)"; NULL: cannot be read, or nothing known. */
const char *file_kind(const char *path);
#endif
