#ifndef RUNTIME_CRYPTO_STORE_H
#define RUNTIME_CRYPTO_STORE_H
/*
 * Folders of single-use files: prepared material that must never serve twice.
 *
 * A file is claimed by renaming it to NAME.used and syncing the folder; only then it is read, checked
 * (its last 32 bytes are the SHA-256 of what lies before) and removed. Whatever happens after the
 * rename, a crash included, the name is gone: the material is lost, never reused. Left-over .used
 * files, and those that a process which is gone was writing, are removed by the next store_sweep. Two processes cannot both claim a file.
 * A large file is not read at once (store_begin): it keeps the name NAME.used, and a lock that store_sweep
 * heeds, until it is certain whether it is used.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/file.h"
#include "core/base/mem.h"

#define STORE_NAME 128

struct store_writer;
int store_write(const char *dir, const char *name, struct store_writer **out) MUST_CHECK;
int store_append(struct store_writer *w, const void *bytes, size_t n) MUST_CHECK;
int store_commit(struct store_writer **w) MUST_CHECK; /* adds the hash; *w is gone either way */
void store_abort(struct store_writer *w);             /* NULL is fine */
FREE_AT(store_abort, struct store_writer)

/* First name of the form PREFIX...SUFFIX in order. 1: found, 0: none. */
int store_next(const char *dir, const char *prefix, const char *suffix,
               char name[STORE_NAME]) MUST_CHECK;
int store_count(const char *dir, const char *prefix, const char *suffix, int64_t *n) MUST_CHECK;
/* Calls visit for every name of that form, in no order; below 0 ends it. */
int store_each(const char *dir, const char *prefix, const char *suffix,
               int (*visit)(void *ctx, const char *name), void *ctx) MUST_CHECK;
/* *found: whether there was one of the old name. */
int store_rename(const char *dir, const char *from, const char *to, bool *found) MUST_CHECK;
int store_drop(const char *dir, const char *name) MUST_CHECK; /* one that is not there is fine */
/* An empty file of that name; *taken: there was one. Of two processes one alone makes it. */
int store_reserve(const char *dir, const char *name, bool *taken) MUST_CHECK;
/* size: exact length without the hash. *bytes: secret memory, secret_free. ERR_DATA: there is none of
 * that name (used before, or never made); ERR_FORMAT: damaged. */
int store_claim(const char *dir, const char *name, size_t size, uint8_t **bytes) MUST_CHECK;
/* The same without reading: the claimed file, open, from its first byte; then, once, either it goes back under
 * its name (nothing that depends on it has left), or its name goes. */
int store_begin(const char *dir, const char *name, int *fd) MUST_CHECK;
int store_return(const char *dir, const char *name) MUST_CHECK;
void store_finish(const char *dir, const char *name);
/* Writes the id into the folder's list of those that were used, which stays for ever (STORE_LIST, 16 bytes
 * each), and syncs it. ERR_DATA: it stands there already, so the file came back from a copy. */
#define STORE_ID 16
#define STORE_LIST "used-ids"
int store_mark_used(const char *dir, const uint8_t id[STORE_ID]) MUST_CHECK;
/* Its first n bytes, without claiming or checking it. ERR_DATA as store_claim; ERR_FORMAT: shorter. */
int store_head(const char *dir, const char *name, void *bytes, size_t n) MUST_CHECK;
/* The same for a file that may serve many times: neither renamed nor removed. */
int store_read(const char *dir, const char *name, size_t size, uint8_t **bytes) MUST_CHECK;
/* Makes the folder where it is missing (0700). */
int store_folder(const char *dir) MUST_CHECK;
int store_sweep(const char *dir) MUST_CHECK;
/* Removes the folder and the files in it. */
int store_remove(const char *dir) MUST_CHECK;
#endif
