#ifndef TRAINER_DATA_MD5_H
#define TRAINER_DATA_MD5_H
/* MD5 (RFC 1321) of files: only to recognise published archives, which name theirs by it. */
#include <stddef.h>

#include "core/base/err.h"

#define MD5_TEXT 33
/* 32 lower-case digits. ERR_IO names the file. */
int md5_file(const char *path, char text[MD5_TEXT]) MUST_CHECK;
/* The published MD5 of a file of that name (behind the last slash), NULL if none is known. */
const char *md5_published(const char *path);
#endif
