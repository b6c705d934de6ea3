#ifndef RUNTIME_CRYPTO_LPN_H
#define RUNTIME_CRYPTO_LPN_H
/*
 * The public matrix of learning parity with noise: a local linear code. Row i of the matrix has ones
 * at 10 places out of k, a power of 2, drawn from a public stream, so that a product with a vector of
 * blocks adds 10 of them up. Places may coincide (and then cancel).
 *
 * Row i owns bytes 32 i ... 32 i + 31 of the stream AES-128-CTR(key): four little-endian words; its
 * place number j is bits 21 (j%3) ... of word j/3, modulo k. Rows can be had in any order and by any
 * number of threads.
 */
#include "runtime/crypto/prg.h"

#define LPN_WEIGHT 10
#define LPN_MOST_K (1 << 21)

struct lpn; /* one a thread */
int lpn_new(struct lpn **out) MUST_CHECK;
void lpn_free(struct lpn *); /* NULL is fine */
FREE_AT(lpn_free, struct lpn)
/* Another matrix; needed before the first lpn_add. k: a power of 2 up to LPN_MOST_K. */
void lpn_key(struct lpn *, const uint8_t key[PRG_SEED], uint32_t k);
/* rows [n] = from [n], which may be rows, ^ rows first ... first + n - 1 of the matrix times secret [k]. */
void lpn_add(struct lpn *, const struct block *secret, uint64_t first, const struct block *from,
             struct block *rows, size_t n);
#endif
