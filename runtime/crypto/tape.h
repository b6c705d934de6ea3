#ifndef RUNTIME_CRYPTO_TAPE_H
#define RUNTIME_CRYPTO_TAPE_H
/*
 * What one phase leaves to a later one, a known number of bytes: put in order, taken from any place, once.
 *
 *     memory   for what is small; what was taken is wiped
 *     spool    a file without a name, for what would not fit in memory
 *     record   a named file, from its first byte to the commit
 *     open     such a file, later
 *     nowhere  for who needs no more than that it was made
 *
 * A tape in a file holds some pieces of SEAL_PIECE bytes in memory, however long it is: two while it is put,
 * those that a thread reads ahead while it is taken (pieces.h). Its bytes lie there sealed (seal.h), with a
 * salt before them, each piece with a tag of its own that is checked when the piece is read: nothing is
 * taken that was not put. A spool's key is random and dies with the process. Whoever
 * has no key for a record gives NULL: then it is 32 zeros, and the tags are checksums that hide nothing.
 */
#include "runtime/crypto/seal.h"

struct tape;

int tape_memory(uint64_t size, struct tape **out) MUST_CHECK;
/* dir: where such files may lie; NULL: $TMPDIR, or /var/tmp. */
int tape_spool(const char *dir, uint64_t size, struct tape **out) MUST_CHECK;
int tape_nowhere(uint64_t size, struct tape **out) MUST_CHECK;
/* head: n bytes before the rest, not sealed, but bound to it. */
struct tape_file {
    const char *dir, *name;
    const void *head;
    size_t n;
    const uint8_t *key; /* SEAL_KEY bytes or NULL */
};
int tape_record(const struct tape_file *f, uint64_t size, struct tape **out) MUST_CHECK;
/* Length of the file that it becomes. */
uint64_t tape_file_size(size_t head, uint64_t size);
/* fd: of the file, taken over, also by a failure; f->dir is not needed, f->name for messages. Small: read
 * into memory at once. ERR_FORMAT: another length. */
int tape_open(const struct tape_file *f, int fd, bool small, uint64_t size,
              struct tape **out) MUST_CHECK;
/* Of a record, which is there under its name from then on; *t is gone either way. Of another one, nothing
 * but that. Fails for what went wrong before, or where bytes are missing. */
int tape_commit(struct tape **t) MUST_CHECK;
void tape_free(struct tape *t); /* wipes; a record that was not committed never was. NULL is fine */
FREE_AT(tape_free, struct tape)

/* The next n bytes. What goes wrong is kept for tape_check, tape_take and tape_commit. */
void tape_put(struct tape *t, const void *bytes, size_t n);
int tape_check(const struct tape *t) MUST_CHECK;
/* n bytes at `at`; of a file once all is put. ERR_FORMAT: the file is damaged, was changed, or sealed under
 * another key. */
int tape_take(struct tape *t, uint64_t at, void *to, size_t n) MUST_CHECK;
/* The bytes of one in memory, for tests; NULL of another. */
uint8_t *tape_bytes(struct tape *t);
#endif
