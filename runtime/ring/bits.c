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
#include "runtime/ring/bits.h"

#include <string.h>

#if defined __SSE2__
#include <emmintrin.h>
#endif

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

/* ---- wide kernels -------------------------------------------------------------------------- */

#define MOST_WIDTH 64
struct bits_scratch {
    _Alignas(MOST_WIDTH) uint8_t bytes[8 * 16 * MOST_WIDTH];
};

/* Exchanges the bits of a under mask << shift with those of b under mask. */
#define SWAP(type, a, b, shift, mask)                                                              \
    do {                                                                                           \
        type t_ = (((a) >> (shift)) ^ (b)) & (mask);                                               \
        (b) ^= t_;                                                                                 \
        (a) ^= t_ << (shift);                                                                      \
    } while (0)

/* Eight pairs from byte b of two vectors of w bytes. */
#define PAIRS(b, w)                                                                                \
    (b), (w) + (b), (b) + 1, (w) + (b) + 1, (b) + 2, (w) + (b) + 2, (b) + 3, (w) + (b) + 3,        \
        (b) + 4, (w) + (b) + 4, (b) + 5, (w) + (b) + 5, (b) + 6, (w) + (b) + 6, (b) + 7,           \
        (w) + (b) + 7

#define WIDTH 16
#define PATH(name) name##_generic
#define TARGET
#define LOW PAIRS(0, 16)
#define HIGH PAIRS(8, 16)
#include "runtime/ring/bits_kernel.inc"

#if defined __x86_64__
#define WIDTH 32
#define PATH(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define LOW PAIRS(0, 32), PAIRS(16, 32)
#define HIGH PAIRS(8, 32), PAIRS(24, 32)
#include "runtime/ring/bits_kernel.inc"

#define WIDTH 64
#define PATH(name) name##_avx512
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#define LOW PAIRS(0, 64), PAIRS(16, 64), PAIRS(32, 64), PAIRS(48, 64)
#define HIGH PAIRS(8, 64), PAIRS(24, 64), PAIRS(40, 64), PAIRS(56, 64)
#include "runtime/ring/bits_kernel.inc"
#endif

typedef void transpose_function(struct block *, const uint8_t *, size_t, struct bits_scratch *);
static const struct {
    size_t width;
    transpose_function *transpose;
    void (*weigh)(uint8_t *, uint8_t *, const uint8_t *, size_t, size_t);
    void (*add_masked)(uint8_t *, const uint8_t *, uint64_t, size_t);
} kernels[] = {
    [CPU_GENERIC] = {16, transpose_generic, weigh_generic, add_masked_generic},
#if defined __x86_64__
    [CPU_AVX2] = {32, transpose_avx2, weigh_avx2, add_masked_avx2},
    [CPU_AVX512] = {64, transpose_avx512, weigh_avx512, add_masked_avx512},
#endif
};

void bits_transpose(enum cpu_path path, struct block *rows, const uint8_t *planes, size_t stride,
                    size_t n)
{
    struct bits_scratch scratch;
    size_t at = 0, step = 8 * kernels[path].width;

    for (; at + step <= n; at += step)
        kernels[path].transpose(rows + at, planes + at / 8, stride, &scratch);
    for (; at < n; at += 128)
        transpose_generic(rows + at, planes + at / 8, stride, &scratch);
    wipe(&scratch, sizeof scratch);
}

void bits_weigh(enum cpu_path path, uint8_t *sum, uint8_t *digit, const uint8_t *leaf,
                size_t stride, size_t bytes)
{
    kernels[path].weigh(sum, digit, leaf, stride, bytes);
}

void bits_add_masked(enum cpu_path path, uint8_t *to, const uint8_t *from, uint64_t mask,
                     size_t bytes)
{
    kernels[path].add_masked(to, from, mask, bytes);
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

/* Of the 16 blocks from `from`. */
static uint64_t lowest16(const struct block *from)
{
#if defined __SSE2__
    typedef uint32_t words __attribute__((vector_size(16)));
    words quarter[4];

    for (int i = 0; i < 4; i++) {
        words v[4];

        memcpy(v, from + 4 * i, sizeof v);
        v[0] = __builtin_shufflevector(v[0], v[1], 0, 4, 0, 4);
        v[2] = __builtin_shufflevector(v[2], v[3], 0, 4, 0, 4);
        quarter[i] = __builtin_shufflevector(v[0], v[2], 0, 1, 4, 5) << 31;
    }
    return (uint64_t)_mm_movemask_epi8(
        _mm_packs_epi16(_mm_packs_epi32((__m128i)quarter[0], (__m128i)quarter[1]),
                        _mm_packs_epi32((__m128i)quarter[2], (__m128i)quarter[3])));
#else
    uint64_t word = 0;

    for (size_t k = 0; k < 16; k++)
        word |= (from[k].lo & 1) << k;
    return word;
#endif
}

void bits_lowest(uint64_t *to, const struct block *from, size_t n)
{
    size_t at = 0;

    for (; at + 64 <= n; at += 64)
        to[at / 64] = lowest16(from + at) | lowest16(from + at + 16) << 16 |
                      lowest16(from + at + 32) << 32 | lowest16(from + at + 48) << 48;
    if (at < n)
        to[at / 64] = 0;
    for (; at < n; at++)
        to[at / 64] |= (from[at].lo & 1) << at % 64;
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
