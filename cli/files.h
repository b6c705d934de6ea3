#ifndef CLI_FILES_H
#define CLI_FILES_H
/*
 * What a command reads and what it writes, compared before it works. No command replaces a file that
 * it was told to read, by whatever name, and none finds out after hours that its result has no place.
 *
 * Files are compared by identity (device and inode), so links and other spellings do not hide one.
 * Whatever lies in a folder of images counts as read. Of a folder that is an argument (validate,
 * report) the files count that linnet writes into such folders, so that a page or a JSON file beside
 * them may be written again.
 *
 * Limit: a folder that is an output is compared as a folder; its commands compare the names that they
 * write into it.
 */
#include <stdint.h>

#include "cli/option.h"

struct cli_file {
    const char *what;   /* "--json", or "MODEL" for an argument */
    const char *path;   /* a source of images: as the option takes it */
    enum cli_kind kind; /* CLI_INPUT, CLI_OUTPUT, CLI_FOLDER or CLI_SOURCE; CLI_TEXT: an argument */
};
/* ERR_ARG names the output and the input that it would replace, or two outputs that are one file;
 * ERR_IO names an output that cannot be written. Leaves no trace. */
int cli_files_check(const struct cli_file *file, int32_t n) MUST_CHECK;
#endif
