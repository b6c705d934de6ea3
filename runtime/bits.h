#ifndef RUNTIME_BITS_H
#define RUNTIME_BITS_H
/*
 * Bit planes: `count` rows of n bits, each row at a multiple of `stride` bytes, bit k of a row at
 * byte k/8, position k%8. No branch or address depends on the bits.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/prg.h"

/* Planes on the wire, without gaps: all whole bytes of row 0, of row 1, ...; then the n%8 last bits
 * of every row one after another, from the lowest position up; unused positions of the last byte
 * are zero. */
size_t bits_packed_size(size_t count, size_t n);
void bits_pack(uint8_t *out, const uint8_t *planes, size_t stride, size_t count, size_t n);
/* The padding positions of each row's last byte become zero. */
void bits_unpack(uint8_t *planes, size_t stride, size_t count, size_t n, const uint8_t *in);

/* rows[k] = bits k of 128 planes, plane 0 lowest; n a multiple of 128, planes 16-byte aligned. */
void bits_transpose(struct block *rows, const uint8_t *planes, size_t stride, size_t n);

/* 8 bytes, little-endian, at any address. */
uint64_t bits_word(const uint8_t *at);
void bits_set_word(uint8_t *at, uint64_t v);
#endif
