/*
 * Products in GF(2^128) (gf128.h).
 *
 * A product of two polynomials has degree 254 at most. With x^128 = x^7 + x^2 + x + 1 its upper
 * half folds onto the lower one, and the 7 bits that leave it at the top fold once more. A sum of
 * products is folded once, at its end.
 *
 * Plain C multiplies 64 by 64 bits without carries by integer products: an operand is cut into four
 * parts that hold every fourth bit, so a sum of at most 16 products leaves its carries in the three
 * empty bits above each place, where a mask drops them (the way of T. Pornin's BearSSL). That
 * gives the low 64 bits; the high ones are the low ones of the reversed operands, reversed.
 */
#include "runtime/crypto/gf128.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

struct product { /* 256 bits, lowest word first */
    uint64_t w[4];
};

static struct block fold(const struct product *p)
{
    uint64_t lo = p->w[2], hi = p->w[3], top = (hi >> 63) ^ (hi >> 62) ^ (hi >> 57);
    struct block out = {p->w[0], p->w[1]};

    lo ^= top; /* what leaves the upper half at its top comes in at its bottom */
    out.lo ^= lo ^ lo << 1 ^ lo << 2 ^ lo << 7;
    out.hi ^= hi ^ (hi << 1 | lo >> 63) ^ (hi << 2 | lo >> 62) ^ (hi << 7 | lo >> 57);
    return out;
}

/* ---- plain C ------------------------------------------------------------------------------ */

#define EVERY_FOURTH 0x1111111111111111u

static uint64_t low_half(uint64_t a, uint64_t b)
{
    uint64_t sum = 0;

    for (int s = 0; s < 4; s++) {
        uint64_t part = 0;

        for (int i = 0; i < 4; i++)
            part ^= (a & EVERY_FOURTH << i) * (b & EVERY_FOURTH << ((s - i) & 3));
        sum |= part & EVERY_FOURTH << s;
    }
    return sum;
}

static uint64_t swap_bits(uint64_t v, int by, uint64_t mask)
{
    return (v & mask) << by | (v >> by & mask);
}

static uint64_t reverse(uint64_t v)
{
    v = swap_bits(v, 1, 0x5555555555555555);
    v = swap_bits(v, 2, 0x3333333333333333);
    v = swap_bits(v, 4, 0x0f0f0f0f0f0f0f0f);
    return __builtin_bswap64(v);
}

static struct block times64(uint64_t a, uint64_t b)
{
    return (struct block){low_half(a, b), reverse(low_half(reverse(a), reverse(b))) >> 1};
}

/* Three products of halves instead of four (Karatsuba). */
static void add_product(struct product *sum, struct block a, struct block b)
{
    struct block low = times64(a.lo, b.lo), high = times64(a.hi, b.hi);
    struct block middle = times64(a.lo ^ a.hi, b.lo ^ b.hi);

    sum->w[0] ^= low.lo;
    sum->w[1] ^= low.hi ^ middle.lo ^ low.lo ^ high.lo;
    sum->w[2] ^= high.lo ^ middle.hi ^ low.hi ^ high.hi;
    sum->w[3] ^= high.hi;
}

static struct block dot_plain(const struct block *a, const struct block *b, size_t n)
{
    struct product sum = {{0}};

    for (size_t i = 0; i < n; i++)
        add_product(&sum, a[i], b[i]);
    return fold(&sum);
}

struct block gf128_mul(struct block a, struct block b)
{
    return dot_plain(&a, &b, 1);
}

/* ---- carry-less products of the CPU ----------------------------------------------------------- */

#if defined __x86_64__
__attribute__((target("pclmul,sse4.1"))) static struct block
dot_clmul(const struct block *a, const struct block *b, size_t n)
{
    __m128i low = _mm_setzero_si128(), middle = low, high = low;
    struct product sum;

    for (size_t i = 0; i < n; i++) {
        __m128i x = _mm_loadu_si128((const void *)&a[i]), y = _mm_loadu_si128((const void *)&b[i]);

        low = _mm_xor_si128(low, _mm_clmulepi64_si128(x, y, 0x00));
        high = _mm_xor_si128(high, _mm_clmulepi64_si128(x, y, 0x11));
        middle = _mm_xor_si128(middle, _mm_xor_si128(_mm_clmulepi64_si128(x, y, 0x01),
                                                     _mm_clmulepi64_si128(x, y, 0x10)));
    }
    low = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    high = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
    _mm_storeu_si128((void *)&sum.w[0], low);
    _mm_storeu_si128((void *)&sum.w[2], high);
    return fold(&sum);
}

__attribute__((target("avx512f,avx512dq"))) static __m128i sum_of_lanes(__m512i v)
{
    return _mm_xor_si128(
        _mm_xor_si128(_mm512_extracti64x2_epi64(v, 0), _mm512_extracti64x2_epi64(v, 1)),
        _mm_xor_si128(_mm512_extracti64x2_epi64(v, 2), _mm512_extracti64x2_epi64(v, 3)));
}

__attribute__((target("avx2"))) static __m128i sum_of_halves(__m256i v)
{
    return _mm_xor_si128(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
}

/* Four products at once, each three of halves (Karatsuba), the middle ones of two blocks side by side; what
 * is left over of n goes the other way. */
__attribute__((target("vpclmulqdq,avx2"))) static struct block
dot_avx2(const struct block *a, const struct block *b, size_t n)
{
    __m256i low = _mm256_setzero_si256(), middle = low, high = low;
    size_t wide = n & ~(size_t)3;
    struct block all = dot_clmul(a + wide, b + wide, n - wide);
    struct product sum;
    __m128i l, m, h;

    for (size_t i = 0; i < wide; i += 4) {
        __m256i x = _mm256_loadu_si256((const void *)&a[i]);
        __m256i u = _mm256_loadu_si256((const void *)&a[i + 2]);
        __m256i y = _mm256_loadu_si256((const void *)&b[i]);
        __m256i v = _mm256_loadu_si256((const void *)&b[i + 2]);
        __m256i s = _mm256_unpacklo_epi64(x, u) ^ _mm256_unpackhi_epi64(x, u);
        __m256i t = _mm256_unpacklo_epi64(y, v) ^ _mm256_unpackhi_epi64(y, v);

        low ^= _mm256_clmulepi64_epi128(x, y, 0x00) ^ _mm256_clmulepi64_epi128(u, v, 0x00);
        high ^= _mm256_clmulepi64_epi128(x, y, 0x11) ^ _mm256_clmulepi64_epi128(u, v, 0x11);
        middle ^= _mm256_clmulepi64_epi128(s, t, 0x00) ^ _mm256_clmulepi64_epi128(s, t, 0x11);
    }
    l = sum_of_halves(low);
    h = sum_of_halves(high);
    m = sum_of_halves(middle) ^ l ^ h;
    _mm_storeu_si128((void *)&sum.w[0], _mm_xor_si128(l, _mm_slli_si128(m, 8)));
    _mm_storeu_si128((void *)&sum.w[2], _mm_xor_si128(h, _mm_srli_si128(m, 8)));
    block_add(&all, fold(&sum), UINT64_MAX);
    return all;
}

/* Four products at once; what is left over of n goes the other way. */
__attribute__((target("vpclmulqdq,avx512f,avx512dq"))) static struct block
dot_avx512(const struct block *a, const struct block *b, size_t n)
{
    __m512i low = _mm512_setzero_si512(), middle = low, high = low;
    size_t wide = n & ~(size_t)3;
    struct block all = dot_clmul(a + wide, b + wide, n - wide);
    struct product sum;
    __m128i m;

    for (size_t i = 0; i < wide; i += 4) {
        __m512i x = _mm512_loadu_si512(&a[i]), y = _mm512_loadu_si512(&b[i]);

        low = _mm512_xor_si512(low, _mm512_clmulepi64_epi128(x, y, 0x00));
        high = _mm512_xor_si512(high, _mm512_clmulepi64_epi128(x, y, 0x11));
        middle = _mm512_ternarylogic_epi64(middle, _mm512_clmulepi64_epi128(x, y, 0x01),
                                           _mm512_clmulepi64_epi128(x, y, 0x10), 0x96);
    }
    m = sum_of_lanes(middle);
    _mm_storeu_si128((void *)&sum.w[0], _mm_xor_si128(sum_of_lanes(low), _mm_slli_si128(m, 8)));
    _mm_storeu_si128((void *)&sum.w[2], _mm_xor_si128(sum_of_lanes(high), _mm_srli_si128(m, 8)));
    block_add(&all, fold(&sum), UINT64_MAX);
    return all;
}
#endif

struct block gf128_dot(enum cpu_path path, const struct block *a, const struct block *b, size_t n)
{
#if defined __x86_64__
    if (path >= CPU_AVX512 && cpu_has_wide_clmul(CPU_AVX512))
        return dot_avx512(a, b, n);
    if (path >= CPU_AVX2 && cpu_has_wide_clmul(CPU_AVX2))
        return dot_avx2(a, b, n);
    if (path != CPU_GENERIC && cpu_has_clmul())
        return dot_clmul(a, b, n);
#endif
    (void)path;
    return dot_plain(a, b, n);
}
