#ifndef IMPORTER_IMPORTER_H
#define IMPORTER_IMPORTER_H
/*
 * ONNX file -> verified graph. All differences between exporters and opsets end here: the graph has
 * one form of every operator (core/graph/ops.def), float32 values, shapes, a symbolic batch.
 *
 * Every problem of a file is collected before anything is refused; the first one becomes the error
 * message, all of them are in the report.
 *
 * Memory: the unpacked file is bounded by core/base/wire.h. The numbers that nodes make or look at (weights,
 * masks, constants) have 16 MiB, 32 bytes for each byte of the file and of its external data, and 4,096
 * more for each byte of a small file, up to 256 MiB, because some have all their weights computed. A
 * file that wants more is refused (E1006); one of 1 KB has 20 MiB.
 */
#include "importer/base/public.h"

#define IMPORT_MAX_FILE ((size_t)2147483647) /* protobuf's own limit */

/* opt may be NULL. On success the caller owns *out. report may be NULL; otherwise it is filled in
 * both cases and must be released. ERR_FORMAT, ERR_LIMIT, ERR_UNSUPPORTED for refused files. */
int onnx_import(const char *path, const struct import_options *opt, struct import_report *report,
                struct graph **out) MUST_CHECK;
/* The same from bytes; dir_fd: folder for external data, -1 if there is none. */
int onnx_import_bytes(const uint8_t *bytes, size_t len, int dir_fd,
                      const struct import_options *opt, struct import_report *report,
                      struct graph **out) MUST_CHECK;
#endif
