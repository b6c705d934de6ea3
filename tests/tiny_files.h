#ifndef TESTS_TINY_FILES_H
#define TESTS_TINY_FILES_H
/* The network and the images of tiny_net.h as files in a scratch folder, and options for them: what
 * tests of the C API begin with. With cmocka assertions inside. */
#include "pipeline/linnet.h"
#include "tests/scratch.h"
#include "tests/tiny_net.h"

enum { TINY_IMAGES = 60 };
struct tiny_files {
    char dir[SCRATCH_TEXT], model[SCRATCH_TEXT];
    char data[2 * SCRATCH_TEXT + 8]; /* "npy:DIR/x.npy,DIR/y.npy": one set without parts */
    struct dataset *d;               /* the same images */
};
/* flags: enum tiny_flags. */
void tiny_files_open(struct tiny_files *t, unsigned flags);
void tiny_files_close(struct tiny_files *t);
/* Options of a task; set: names and values in turn, NULL ends them. A value "" sets a flag. */
struct linnet_options *tiny_options(const char *task, const char *const *set);
/* The number at a path of a report. */
double tiny_number(const struct linnet_report *r, const char *path);
#endif
