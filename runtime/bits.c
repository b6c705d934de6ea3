/*
 * Bit planes (bits.h).
 *
 * Transposition of 128 x 128 bits, all in 16-byte vectors:
 *
 *     planes 8g ... 8g+7    8 x 8 bits inside each byte column: three rounds of delta swaps, after
 *                           which byte c of vector k holds row 8c+k of those eight planes
 *     vectors k of all g    16 x 16 bytes: four rounds of interleaving
 *
 * The delta swap is in H. Warren, "Hacker's Delight", chapter 7.
 */
#include "runtime/bits.h"

#include <string.h>

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t words2 __attribute__((vector_size(16)));

/* ---- packing ------------------------------------------------------------------------------ */

size_t bits_packed_size(size_t count, size_t n)
{
    return count * (n / 8) + (count * (n % 8) + 7) / 8;
}

void bits_pack(uint8_t *out, const uint8_t *planes, size_t stride, size_t count, size_t n)
{
    size_t whole = n / 8, rest = n % 8, at = 0;
    uint8_t *tail = out + count * whole;

    for (size_t i = 0; i < count; i++)
        memcpy(out + i * whole, planes + i * stride, whole);
    memset(tail, 0, (count * rest + 7) / 8);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < rest; k++, at++)
            tail[at / 8] |= (uint8_t)((planes[i * stride + whole] >> k & 1) << at % 8);
}

void bits_unpack(uint8_t *planes, size_t stride, size_t count, size_t n, const uint8_t *in)
{
    size_t whole = n / 8, rest = n % 8, at = 0;
    const uint8_t *tail = in + count * whole;

    for (size_t i = 0; i < count; i++) {
        memcpy(planes + i * stride, in + i * whole, whole);
        if (rest == 0)
            continue;
        planes[i * stride + whole] = 0;
        for (size_t k = 0; k < rest; k++, at++)
            planes[i * stride + whole] |= (uint8_t)((tail[at / 8] >> at % 8 & 1) << k);
    }
}

/* ---- transposition ------------------------------------------------------------------------- */

/* Exchanges the bits of a under mask << shift with those of b under mask. */
#define SWAP(a, b, shift, mask)                                                                    \
    do {                                                                                           \
        words2 t_ = (((a) >> (shift)) ^ (b)) & (mask);                                             \
        (b) ^= t_;                                                                                 \
        (a) ^= t_ << (shift);                                                                      \
    } while (0)

/* Byte c of v[k], bit i  <->  byte c of v[i], bit k. */
static inline void swap_bits(words2 v[8])
{
    const words2 nibble = {0x0f0f0f0f0f0f0f0f, 0x0f0f0f0f0f0f0f0f};
    const words2 pair = {0x3333333333333333, 0x3333333333333333};
    const words2 single = {0x5555555555555555, 0x5555555555555555};

    for (int i = 0; i < 4; i++)
        SWAP(v[i], v[i + 4], 4, nibble);
    for (int i = 0; i < 8; i += i % 4 == 1 ? 3 : 1)
        SWAP(v[i], v[i + 2], 2, pair);
    for (int i = 0; i < 8; i += 2)
        SWAP(v[i], v[i + 1], 1, single);
}

static inline bytes16 low_halves(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

static inline bytes16 high_halves(bytes16 a, bytes16 b)
{
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
}

/* One round of the perfect shuffle of 256 bytes: out[2i], out[2i+1] interleave in[i], in[i+8]. */
static inline void shuffle(bytes16 out[16], const bytes16 in[16])
{
    for (int i = 0; i < 8; i++) {
        out[2 * i] = low_halves(in[i], in[i + 8]);
        out[2 * i + 1] = high_halves(in[i], in[i + 8]);
    }
}

struct transpose {
    bytes16 part[8][16], other[16];
    words2 v[8];
};

static void transpose_128(struct block *rows, const uint8_t *planes, size_t stride,
                          struct transpose *s)
{
    for (size_t g = 0; g < 16; g++) {
        for (size_t k = 0; k < 8; k++)
            memcpy(&s->v[k], planes + (8 * g + k) * stride, sizeof s->v[k]);
        swap_bits(s->v);
        for (size_t k = 0; k < 8; k++)
            memcpy(&s->part[k][g], &s->v[k], sizeof s->v[k]);
    }
    for (size_t k = 0; k < 8; k++) {
        shuffle(s->other, s->part[k]);
        shuffle(s->part[k], s->other);
        shuffle(s->other, s->part[k]);
        shuffle(s->part[k], s->other);
        for (size_t c = 0; c < 16; c++)
            memcpy(&rows[8 * c + k], &s->part[k][c], sizeof *rows);
    }
}

void bits_transpose(struct block *rows, const uint8_t *planes, size_t stride, size_t n)
{
    struct transpose scratch;

    for (size_t at = 0; at < n; at += 128)
        transpose_128(rows + at, planes + at / 8, stride, &scratch);
    wipe(&scratch, sizeof scratch);
}

/* ---- rows of words ------------------------------------------------------------------------- */

size_t bits_words(size_t n)
{
    return (n + 63) / 64;
}

void bits_copy(uint64_t *to, const uint64_t *from, size_t at, size_t n)
{
    size_t shift = at % 64, last = bits_words(at + n);

    from += at / 64;
    last -= at / 64; /* words of from that exist */
    for (size_t i = 0; i < bits_words(n); i++) {
        to[i] = from[i] >> shift;
        if (shift > 0 && i + 1 < last)
            to[i] |= from[i + 1] << (64 - shift);
    }
    if (n % 64 != 0)
        to[n / 64] &= ((uint64_t)1 << n % 64) - 1;
}

void bits_lowest(uint64_t *to, const struct block *from, size_t n)
{
    for (size_t at = 0; at < n; at += 64) {
        size_t count = n - at < 64 ? n - at : 64;
        uint64_t word = 0;

        for (size_t k = 0; k < count; k++)
            word |= (from[at + k].lo & 1) << k;
        to[at / 64] = word;
    }
}

void bits_of_words(uint64_t *to, const uint64_t *v, size_t n, size_t first, size_t count)
{
    uint64_t word = 0;
    size_t at = 0;

    for (size_t i = first; i < first + count; i++)
        for (size_t k = 0; k < n; k++) {
            word |= (v[k] >> i & 1) << at % 64;
            if (++at % 64 == 0) {
                to[at / 64 - 1] = word;
                word = 0;
            }
        }
    if (at % 64 != 0)
        to[at / 64] = word;
}
