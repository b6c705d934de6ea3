#ifndef CORE_BASE_NPY_H
#define CORE_BASE_NPY_H
/*
 * numpy's .npy files, versions 1 to 3. What Python writes is read: every integer, truth value and
 * float up to 64 bits, either byte order, C or Fortran order. What the types below cannot hold as it
 * is comes as a copy that can: float16 as NPY_F32, small integers as NPY_I32, large ones as NPY_I64,
 * truth values as NPY_U8. Complex numbers, texts, objects and records are refused by name.
 *
 *     struct npy x;
 *     TRY(npy_open("x.npy", &x));         // x.type NPY_U8, x.rank 4, x.dim {100, 3, 32, 32}
 *     const uint8_t *pixels = x.data;
 *     npy_release(&x);
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/file.h"

#define NPY_MAX_RANK 8

enum npy_type { NPY_U8, NPY_I32, NPY_I64, NPY_F32, NPY_F64 };
const char *npy_type_name(enum npy_type t); /* numpy's: "|u1" "<i4" "<i8" "<f4" "<f8" */
size_t npy_type_size(enum npy_type t);

struct npy {
    enum npy_type type;
    int32_t rank; /* 0 ... NPY_MAX_RANK */
    int64_t dim[NPY_MAX_RANK];
    size_t count;        /* elements: 1 for rank 0, 0 if a dim is 0 */
    const void *data;    /* count elements in C order, aligned to the element size */
    struct file_map map; /* private: what npy_release gives back */
    void *copy;
};
/* Maps the file; see file_map_open about files that others shorten. */
int npy_open(const char *path, struct npy *out) MUST_CHECK;
/* A whole .npy file in memory (a member of an .npz); borrows `bytes` until release. */
int npy_from_bytes(const void *bytes, size_t len, const char *what, struct npy *out) MUST_CHECK;
void npy_release(struct npy *a); /* a zeroed one is fine */

/*
 * An array that stays in its file: rows, that is entries along the first dimension, are read by their
 * place, so nothing is mapped and a file that others shorten is an error, not a signal.
 *
 *     struct npy_rows *r = NULL;
 *     TRY(npy_rows_open("x.npy", &r));
 *     TRY(npy_rows_read(r, 5, 2, &x));     // x.dim {2, 3, 32, 32}: entries 5 and 6
 *     npy_release(&x);
 *     npy_rows_close(r);
 */
struct npy_rows;
/* ERR_UNSUPPORTED also for Fortran order of rank 2 and more, whose rows lie apart. */
int npy_rows_open(const char *path, struct npy_rows **out) MUST_CHECK;
/* Type, rank and dims of the whole; data is NULL. */
const struct npy *npy_rows_shape(const struct npy_rows *r);
/* Thread safe. 0 <= first, 1 <= n, first + n <= dim[0]. ERR_IO: the file is shorter than it was. */
int npy_rows_read(const struct npy_rows *r, int64_t first, int64_t n, struct npy *out) MUST_CHECK;
void npy_rows_close(struct npy_rows *r); /* NULL is fine */
FREE_AT(npy_rows_close, struct npy_rows)
/* One element as an integer or a double, whatever the type. npy_int: ERR_DATA for a float that is
 * no whole number or beyond int64. */
int npy_int(const struct npy *a, size_t i, int64_t *v) MUST_CHECK;
double npy_double(const struct npy *a, size_t i);
/* Version 1.0, header padded to 64 bytes as numpy does; atomic. */
int npy_write(const char *path, enum npy_type type, int32_t rank, const int64_t *dim,
              const void *data) MUST_CHECK;
#endif
