#ifndef TRAINER_DATA_PUBLISHED_H
#define TRAINER_DATA_PUBLISHED_H
/* Is a file of a well-known name the one that its publisher gave a sum for? */
#include "core/base/err.h"

enum published {
    PUBLISHED_UNKNOWN, /* no sum is known for a file of that name */
    PUBLISHED_SAME,
    PUBLISHED_OTHER,
};
/* note: " (MD5 as published)", " (WARNING: ...)" or "". ERR_IO names the file. */
#define PUBLISHED_NOTE 128
int published_check(const char *path, enum published *verdict,
                    char note[PUBLISHED_NOTE]) MUST_CHECK;
#endif
