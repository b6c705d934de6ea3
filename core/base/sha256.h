#ifndef CORE_BASE_SHA256_H
#define CORE_BASE_SHA256_H
/* SHA-256 (FIPS 180-4) of bytes and files. */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define SHA256_SIZE 32
#define SHA256_HEX (2 * SHA256_SIZE + 1)

int sha256_bytes(const void *data, size_t len, uint8_t out[SHA256_SIZE]) MUST_CHECK;
int sha256_file(const char *path, uint8_t out[SHA256_SIZE]) MUST_CHECK;

/* Piece by piece: new, add ..., end, free. peek: of what was added so far; more may follow. restart: as a
 * new one, at a tenth of the time. */
struct sha256;
int sha256_new(struct sha256 **out) MUST_CHECK;
int sha256_restart(struct sha256 *h) MUST_CHECK;
int sha256_add(struct sha256 *h, const void *data, size_t len) MUST_CHECK;
int sha256_peek(const struct sha256 *h, uint8_t out[SHA256_SIZE]) MUST_CHECK;
int sha256_end(struct sha256 *h,
               uint8_t out[SHA256_SIZE]) MUST_CHECK; /* once, nothing but restart after */
void sha256_free(struct sha256 *h);                  /* NULL is fine */
FREE_AT(sha256_free, struct sha256)

/* 64 lower-case digits; returns text. */
const char *sha256_hex(const uint8_t digest[SHA256_SIZE], char text[SHA256_HEX]);
/* The same of n bytes; text has 2 n + 1. */
const char *hex_of(const uint8_t *bytes, size_t n, char *text);
/* ERR_FORMAT unless text is exactly 64 hexadecimal digits. */
int sha256_parse(const char *text, uint8_t out[SHA256_SIZE]) MUST_CHECK;
#endif
