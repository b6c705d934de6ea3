#ifndef RUNTIME_CRYPTO_PIECES_H
#define RUNTIME_CRYPTO_PIECES_H
/*
 * The sealed pieces of a file (seal.h), for a reader that goes forward through it, along one section or two
 * at a time: a thread reads, checks and opens the pieces that come next while the reader computes or waits
 * for the network.
 *
 *     line 0   [piece the reader has] [PIECES_AHEAD pieces after it, opened or being opened]
 *     line 1   the same
 *
 * So much secret memory is taken, however long the file is; a file of two pieces or less has no thread. Who
 * asks for a piece goes on along the line whose piece comes before it, else on the one that was left alone
 * longer. What the thread has not opened yet, or could not, the reader opens itself: so an error is met
 * where the piece is asked for, and a system that gives no thread costs time alone.
 */
#include "runtime/crypto/seal.h"

#define PIECES_AHEAD 16 /* 1 MiB a line */

struct pieces;
struct pieces_file { /* all borrowed until pieces_close */
    int fd;
    uint64_t origin, size; /* where the first piece begins; bytes that were sealed */
    const struct seal *seal;
    bool check; /* no key: tags are checksums */
    const char *name;
};
int pieces_open(const struct pieces_file *f, struct pieces **out) MUST_CHECK;
void pieces_close(struct pieces *p); /* wipes; NULL is fine */
FREE_AT(pieces_close, struct pieces)
/* The bytes of piece i, there until two other pieces were asked for. ERR_FORMAT: damaged, changed, or sealed
 * under another key. For one thread at a time. */
int pieces_at(struct pieces *p, uint64_t i, const uint8_t **bytes) MUST_CHECK;
/* The n bytes of a file from `at` on. ERR_FORMAT: it ends before. */
int pieces_read(int fd, const char *name, uint64_t at, uint8_t *to, size_t n) MUST_CHECK;
/* Test hook: whether the thread has opened piece i, and the reader has not taken it; -1: there is no thread. */
int pieces_ahead(struct pieces *p, uint64_t i);
#endif
