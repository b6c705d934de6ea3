#ifndef CORE_BASE_SAFETENSORS_H
#define CORE_BASE_SAFETENSORS_H
/*
 * The safetensors format, strictly: named arrays plus a map of strings, no code, no holes.
 *
 *     struct st_writer *w = NULL;
 *     rc = st_writer_new(&w);
 *     rc = st_writer_add(w, "conv1.weight", ST_F32, 4, dims, weights);  // borrows weights
 *     rc = st_writer_meta(w, "format", "linnet.checkpoint/1");
 *     rc = st_writer_save(w, path, FILE_PUBLIC);                        // atomic
 *     st_writer_free(w);
 *
 *     struct st_reader *r = NULL;
 *     const void *data;
 *     rc = st_reader_open(path, &r);
 *     rc = st_need(r, "conv1.weight", ST_F32, 4, dims, &data);          // valid until close
 *     st_reader_close(r);
 *
 * Values are not looked at: NaN is the caller's business. Names and metadata are UTF-8; names hold
 * no control characters.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#define ST_MAX_RANK 8
#define ST_MAX_HEADER ((size_t)100 * 1000 * 1000)
#define ST_MAX_TENSORS (1 << 16)

#define ST_DTYPES(X) /* name, bytes */                                                             \
    X(F64, 8)                                                                                      \
    X(I64, 8)                                                                                      \
    X(U64, 8)                                                                                      \
    X(F32, 4)                                                                                      \
    X(I32, 4)                                                                                      \
    X(U32, 4)                                                                                      \
    X(I16, 2)                                                                                      \
    X(U16, 2)                                                                                      \
    X(I8, 1)                                                                                       \
    X(U8, 1)                                                                                       \
    X(BOOL, 1)
enum st_dtype {
#define X(name, bytes) ST_##name,
    ST_DTYPES(X)
#undef X
        ST_DTYPE_COUNT
};
const char *st_dtype_name(enum st_dtype t); /* "F32" */

struct st_tensor {
    const char *name;
    enum st_dtype dtype;
    int32_t rank;
    int64_t dim[ST_MAX_RANK];
    size_t count, bytes; /* elements (1 for rank 0, 0 if a dim is 0); count * element size */
    const void *data;    /* aligned to the element size */
};

struct st_reader;
/* Maps the file; see file_map_open about files that others shorten. */
int st_reader_open(const char *path, struct st_reader **out) MUST_CHECK;
/* Borrows `data` until close; `what` for messages. */
int st_reader_bytes(const void *data, size_t len, const char *what,
                    struct st_reader **out) MUST_CHECK;
void st_reader_close(struct st_reader *r); /* NULL is fine */
FREE_AT(st_reader_close, struct st_reader)
size_t st_count(const struct st_reader *r);
const struct st_tensor *st_at(const struct st_reader *r, size_t i);           /* sorted by name */
const struct st_tensor *st_find(const struct st_reader *r, const char *name); /* NULL: none */
/* The data of a tensor that must be there with this type and shape, else ERR_FORMAT. */
int st_need(const struct st_reader *r, const char *name, enum st_dtype dtype, int32_t rank,
            const int64_t *dim, const void **data) MUST_CHECK;
const char *st_meta(const struct st_reader *r, const char *key); /* NULL: none */

struct st_writer;
int st_writer_new(struct st_writer **out) MUST_CHECK;
void st_writer_free(struct st_writer *w); /* NULL is fine */
FREE_AT(st_writer_free, struct st_writer)
/* Copies name and dim, borrows data until save. ERR_ARG for a bad name, rank or dim. */
int st_writer_add(struct st_writer *w, const char *name, enum st_dtype dtype, int32_t rank,
                  const int64_t *dim, const void *data) MUST_CHECK;
int st_writer_meta(struct st_writer *w, const char *key, const char *value) MUST_CHECK;
/* The same tensors and metadata give the same bytes in whatever order they were added. ERR_ARG if
 * a name or key was given twice. */
int st_writer_save(const struct st_writer *w, const char *path, enum file_access access) MUST_CHECK;
#endif
