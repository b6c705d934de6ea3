#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H
/* A temporary folder of one test (flat, under TMPDIR or /tmp), with cmocka assertions inside. */
#include <stddef.h>
#include <stdint.h>

#define SCRATCH_TEXT 512

void scratch_open(char dir[SCRATCH_TEXT]);
/* dir/name; returns out. */
const char *scratch_path(const char *dir, const char *name, char out[SCRATCH_TEXT]);
void scratch_write(const char *path, const void *data, size_t len);
/* Whether the file holds exactly these bytes. */
int scratch_holds(const char *path, const void *data, size_t len);
size_t scratch_entries(const char *dir); /* files and folders in it */
void scratch_close(const char *dir);     /* removes it with its files and empty folders */
/* LINNET_SHARED or ../shared, then /name; NULL if the shared folder does not exist. */
const char *scratch_shared(const char *name, char out[SCRATCH_TEXT]);
#endif
