#ifndef RUNTIME_RING_BITS_H
#define RUNTIME_RING_BITS_H
/*
 * Bit planes: `count` rows of n bits, each row at a multiple of `stride` bytes, bit k of a row at
 * byte k/8, position k%8. No branch or address depends on the bits.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"

/* 128 bits; on the wire 16 bytes, lo first, each little-endian. */
struct block {
    uint64_t lo, hi;
};
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blocks are sent as they lie in memory");
/* to ^= b & mask, in both words. */
static inline void block_add(struct block *to, struct block b, uint64_t mask)
{
    to->lo ^= b.lo & mask;
    to->hi ^= b.hi & mask;
}

/* Planes on the wire, without gaps: all whole bytes of row 0, of row 1, ...; then the n%8 last bits
 * of every row one after another, from the lowest position up; unused positions of the last byte
 * are zero. */
size_t bits_packed_size(size_t count, size_t n);
void bits_pack(uint8_t *out, const uint8_t *planes, size_t stride, size_t count, size_t n);
/* The padding positions of each row's last byte become zero. */
void bits_unpack(uint8_t *planes, size_t stride, size_t count, size_t n, const uint8_t *in);

/* Wide kernels; all planes at multiples of 64 bytes, strides too. `bytes` may be rounded up to 64, so
 * rows of memory have to be. */
/* rows[k] = bits k of 128 planes, plane 0 lowest; n a multiple of 128. */
void bits_transpose(enum cpu_path path, struct block *rows, const uint8_t *planes, size_t stride,
                    size_t n);
/* Of leaf [16]: sum = xor of all, digit [4], number b = xor of those whose index has bit b. */
void bits_weigh(enum cpu_path path, uint8_t *sum, uint8_t *digit, const uint8_t *leaf,
                size_t stride, size_t bytes);
/* to ^= from & mask, repeated. */
void bits_add_masked(enum cpu_path path, uint8_t *to, const uint8_t *from, uint64_t mask,
                     size_t bytes);

/* Single rows as words: bit k is bit k%64 of word k/64. */
size_t bits_words(size_t n); /* n bits take so many */
/* to [n] = from [at ... at + n); positions above n become 0. */
void bits_copy(uint64_t *to, const uint64_t *from, size_t at, size_t n);
/* to [n]: the lowest bit of each block. */
void bits_lowest(uint64_t *to, const struct block *from, size_t n);
/* to [count * n], row after row without gaps: bit first + i of v[k] is bit i * n + k. */
void bits_of_words(uint64_t *to, const uint64_t *v, size_t n, size_t first, size_t count);
/* All ones if bit k is set, else 0. */
static inline uint64_t bits_mask(const uint64_t *bits, size_t k)
{
    return (uint64_t)0 - (bits[k / 64] >> k % 64 & 1);
}
/* All ones if a = b, else 0; both below 2^63. */
static inline uint64_t equal_mask(uint64_t a, uint64_t b)
{
    return (uint64_t)0 - (((a ^ b) - 1) >> 63);
}
#endif
