#ifndef RUNTIME_CRYPTO_SEAL_H
#define RUNTIME_CRYPTO_SEAL_H
/*
 * Secrets at rest: AES-256-GCM in pieces of SEAL_PIECE bytes, each with its own tag, so that a large file
 * needs no second copy in memory.
 *
 * The key of a file is SHA-256("linnet seal", key, salt, head): a salt from the system's randomness for every
 * file, so that no key seals two texts; a head that was changed gives another key, and no piece opens.
 * The nonce of a piece is its number and whether it is the last one: pieces cannot be swapped, dropped or
 * cut off.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define SEAL_KEY 32
#define SEAL_SALT 16
#define SEAL_TAG 16
#define SEAL_PIECE ((size_t)1 << 16)

struct seal;
int seal_new(const uint8_t key[SEAL_KEY], const uint8_t salt[SEAL_SALT], const void *head, size_t n,
             struct seal **out) MUST_CHECK;
/* Another one under the same key: for another thread. */
int seal_copy(const struct seal *s, struct seal **out) MUST_CHECK;
void seal_free(struct seal *s); /* wipes; NULL is fine */
FREE_AT(seal_free, struct seal)
/* Bytes that n bytes become. */
size_t seal_size(size_t n);
/* Of a text of that size: bytes of its piece i, and whether it is the last one. */
size_t seal_piece_bytes(uint64_t size, uint64_t i);
bool seal_is_last(uint64_t size, uint64_t i);
/* Piece number i of n <= SEAL_PIECE bytes; out has SEAL_TAG more. */
int seal_close(struct seal *s, uint64_t i, bool last, const uint8_t *in, size_t n,
               uint8_t *out) MUST_CHECK;
/* The reverse: n bytes come out, n + SEAL_TAG went in. ERR_FORMAT: wrong key, or changed. */
int seal_open(struct seal *s, uint64_t i, bool last, const uint8_t *in, size_t n,
              uint8_t *out) MUST_CHECK;
/* 32 bytes, or 64 hexadecimal digits and maybe a line end. ERR_FORMAT. */
int seal_key_read(const char *path, uint8_t key[SEAL_KEY]) MUST_CHECK;
#endif
