/*
 * bf16 kernels (bf16.h) for the code paths; the bodies of the passes are in bf16.inc, here is the
 * product of tiles of each. Emulation widens both operands to fp32, the weights split into even and odd
 * numbers, and multiplies rows of a (broadcast) with lanes of b: as fast as fp32 multiply-adds go, 32
 * of them and three sums for 32 products.
 */
#include "core/kernel/bf16.h"

#include "core/base/minmax.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

static void begin_flush(void)
{
#if defined __x86_64__
    _mm_setcsr(_mm_getcsr() | 0x8000u | 0x40u); /* FTZ, DAZ */
#endif
}

static void end_nothing(void)
{
}

#if defined __x86_64__
/* a, rows first to first + n, in fp32; b split: even[k][lane], odd[k][lane]. */
typedef float wide_rows[BF16_IMAGES][BF16_CHANNELS];
typedef float wide_lanes[16][16];

#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma")))
#define PATH(name) name##_avx512
static inline __attribute__((always_inline)) TARGET void widen_avx512(wide_rows to, const bf16 *a,
                                                                      int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        for (int i = 0; i < BF16_CHANNELS; i += 16) {
            const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(a + 32 * r + i));
            const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16);

            _mm512_storeu_ps(&to[r][i], _mm512_castsi512_ps(wide));
        }
}

static inline __attribute__((always_inline)) TARGET void split_avx512(wide_lanes even,
                                                                      wide_lanes odd, const bf16 *b)
{
    for (int k = 0; k < 16; k++) {
        const __m512i v = _mm512_loadu_si512(b + (size_t)32 * (size_t)k);
        const __m512i high = _mm512_and_si512(v, _mm512_set1_epi32((int)0xffff0000u));

        _mm512_storeu_ps(even[k], _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)));
        _mm512_storeu_ps(odd[k], _mm512_castsi512_ps(high));
    }
}

/* 16 x 16 numbers of 32 bits: neighbours in rows trade places at distance 1, 2, 4 and 8. */
static inline __attribute__((always_inline)) TARGET void transpose_words(__m512i v[16])
{
    __m512i t[16];

#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) { /* v[i + k]: column 4 q + k of rows i to i + 3 in quarter q */
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* quarters */
        const __m512i a = _mm512_shuffle_i32x4(v[k], v[k + 4], 0x88);
        const __m512i b = _mm512_shuffle_i32x4(v[k], v[k + 4], 0xdd);
        const __m512i c = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0x88);
        const __m512i d = _mm512_shuffle_i32x4(v[k + 8], v[k + 12], 0xdd);

        t[k] = _mm512_shuffle_i32x4(a, c, 0x88);
        t[k + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        t[k + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        t[k + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    memcpy(v, t, sizeof t);
}

/* Pairs of images make words of 32 bits, then 16 pairs x 16 channels are turned twice. */
static TARGET void transpose_avx512(bf16 *to, const bf16 *from, int64_t rows)
{
    for (int h = 0; h < 2; h++) {
        __m512i v[16];

#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            const bf16 *at = from + 64 * i + 16 * h;
            const __m256i none = _mm256_setzero_si256();
            const __m256i a =
                2 * i < rows ? _mm256_loadu_si256((const __m256i *)(const void *)at) : none;
            const __m256i b = 2 * i + 1 < rows
                                  ? _mm256_loadu_si256((const __m256i *)(const void *)(at + 32))
                                  : none;

            v[i] = _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                                   _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
        }
        transpose_words(v);
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++)
            _mm512_storeu_si512(to + (16 * h + i) * BF16_IMAGES, v[i]);
    }
}

#define ROWS_AVX512 8
static inline __attribute__((always_inline)) TARGET void
rows_avx512(float (*sums)[16], float (*a)[BF16_CHANNELS], wide_lanes even, wide_lanes odd)
{
    __m512 e[ROWS_AVX512], o[ROWS_AVX512];

#pragma GCC unroll 8
    for (int r = 0; r < ROWS_AVX512; r++)
        e[r] = o[r] = _mm512_setzero_ps();
    for (int k = 0; k < 16; k++) {
        const __m512 be = _mm512_loadu_ps(even[k]), bo = _mm512_loadu_ps(odd[k]);

#pragma GCC unroll 8
        for (int r = 0; r < ROWS_AVX512; r++) {
            e[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[r][2 * k]), be, e[r]);
            o[r] = _mm512_fmadd_ps(_mm512_set1_ps(a[r][2 * k + 1]), bo, o[r]);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS_AVX512; r++)
        _mm512_storeu_ps(sums[r],
                         _mm512_add_ps(_mm512_loadu_ps(sums[r]), _mm512_add_ps(e[r], o[r])));
}

static TARGET void product_avx512(bf16_sums sums, const struct bf16_product *list, int64_t count,
                                  int64_t rows, bool fresh)
{
    wide_rows a;
    wide_lanes even, odd;
    const int64_t all = (rows + ROWS_AVX512 - 1) / ROWS_AVX512 * ROWS_AVX512;

    if (fresh)
        memset(sums, 0, sizeof(bf16_sums));
    for (int64_t i = 0; i < count; i++) {
        widen_avx512(a, list[i].a, all);
        for (int h = 0; h < 2; h++) {
            if ((list[i].halves >> h & 1) == 0)
                continue;
            split_avx512(even, odd, list[i].b + h * (BF16_TILE / 2));
            for (int64_t r = 0; r < all; r += ROWS_AVX512)
                rows_avx512(sums[h] + r, a + r, even, odd);
        }
    }
}

#define TRANSPOSE transpose_avx512
#define PRODUCT product_avx512
#include "core/kernel/bf16.inc"

/*
 * AVX512-BF16. vdpbf16ps adds two products to a lane, one after the other and each rounded: that of the high
 * numbers of a pair, then that of the low ones. So two numbers of ONE chain share an instruction, (4j, 4j + 2)
 * of e and (4j + 1, 4j + 3) of o, and it makes the bits of the emulation with half of its multiply-adds.
 * It flushes denormals by itself. A half of the weights in this order stays in registers.
 */
#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx512bf16,fma")))
#define PATH(name) name##_avx512bf16
#define QUADS 8 /* of numbers in a row */
typedef uint32_t dot_rows[BF16_IMAGES][2 * QUADS];

/* Every four numbers 0 1 2 3 of a row become the pairs (2, 0) and (3, 1). */
static inline __attribute__((always_inline)) TARGET void order_rows(dot_rows to, const bf16 *a,
                                                                    int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        const __m512i v = _mm512_loadu_si512(a + 32 * r);
        const __m512i low = _mm512_shufflelo_epi16(v, 0x72);

        _mm512_storeu_si512(to[r], _mm512_shufflehi_epi16(low, 0x72));
    }
}

#define ROWS_DOT 4
/* Adds the products of `rows` rows and a half of the weights, [16 pairs][16 lanes][2]. */
static inline __attribute__((always_inline)) TARGET void half_dot(float (*sums)[16], dot_rows a,
                                                                  const bf16 *b, int64_t rows)
{
    __m512bh be[QUADS], bo[QUADS];

#pragma GCC unroll 8
    for (int j = 0; j < QUADS; j++) {
        const __m512i p = _mm512_loadu_si512(b + 64 * j), q = _mm512_loadu_si512(b + 64 * j + 32);

        be[j] = (__m512bh)_mm512_mask_blend_epi16(0x55555555, _mm512_slli_epi32(p, 16), q);
        bo[j] = (__m512bh)_mm512_mask_blend_epi16(0x55555555, p, _mm512_srli_epi32(q, 16));
    }
    for (int64_t r0 = 0; r0 < rows; r0 += ROWS_DOT) {
        __m512 e[ROWS_DOT], o[ROWS_DOT];

#pragma GCC unroll 4
        for (int r = 0; r < ROWS_DOT; r++)
            e[r] = o[r] = _mm512_setzero_ps();
#pragma GCC unroll 8
        for (int j = 0; j < QUADS; j++) {
            const uint32_t *at = a[r0] + 2 * j;

#pragma GCC unroll 4
            for (int r = 0; r < ROWS_DOT; r++, at += 2 * QUADS) {
                e[r] = _mm512_dpbf16_ps(e[r], (__m512bh)_mm512_set1_epi32((int)at[0]), be[j]);
                o[r] = _mm512_dpbf16_ps(o[r], (__m512bh)_mm512_set1_epi32((int)at[1]), bo[j]);
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < ROWS_DOT; r++) {
            float *sum = sums[r0 + r];

            _mm512_storeu_ps(sum, _mm512_add_ps(_mm512_loadu_ps(sum), _mm512_add_ps(e[r], o[r])));
        }
    }
}

static TARGET void product_avx512bf16(bf16_sums sums, const struct bf16_product *list,
                                      int64_t count, int64_t rows, bool fresh)
{
    dot_rows a;
    const int64_t all = (rows + ROWS_DOT - 1) / ROWS_DOT * ROWS_DOT;

    if (fresh)
        memset(sums, 0, sizeof(bf16_sums));
    for (int64_t i = 0; i < count; i++) {
        order_rows(a, list[i].a, all);
        for (int h = 0; h < 2; h++)
            if (list[i].halves >> h & 1)
                half_dot(sums[h], a, list[i].b + h * (BF16_TILE / 2), all);
    }
}
#define TRANSPOSE transpose_avx512
#define PRODUCT product_avx512bf16
#include "core/kernel/bf16.inc"

#define TARGET __attribute__((target("avx2,fma")))
#define PATH(name) name##_avx2
#define ROWS_AVX2 4
/* Eight lanes from `lane` on of a half. */
static inline __attribute__((always_inline)) TARGET void rows_avx2(float (*sums)[16], const bf16 *a,
                                                                   const bf16 *b, int lane)
{
    __m256 e[ROWS_AVX2], o[ROWS_AVX2];

#pragma GCC unroll 4
    for (int r = 0; r < ROWS_AVX2; r++)
        e[r] = o[r] = _mm256_setzero_ps();
    for (int k = 0; k < 16; k++) {
        const __m256i v =
            _mm256_loadu_si256((const __m256i *)(const void *)(b + 32 * k + 2 * lane));
        const __m256 be = _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
        const __m256 bo =
            _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32((int)0xffff0000u)));

#pragma GCC unroll 4
        for (int r = 0; r < ROWS_AVX2; r++) {
            e[r] = _mm256_fmadd_ps(_mm256_set1_ps(bf16_float(a[32 * r + 2 * k])), be, e[r]);
            o[r] = _mm256_fmadd_ps(_mm256_set1_ps(bf16_float(a[32 * r + 2 * k + 1])), bo, o[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < ROWS_AVX2; r++)
        _mm256_storeu_ps(sums[r] + lane,
                         _mm256_add_ps(_mm256_loadu_ps(sums[r] + lane), _mm256_add_ps(e[r], o[r])));
}

static TARGET void product_avx2(bf16_sums sums, const struct bf16_product *list, int64_t count,
                                int64_t rows, bool fresh)
{
    if (fresh)
        memset(sums, 0, sizeof(bf16_sums));
    for (int64_t i = 0; i < count; i++)
        for (int h = 0; h < 2; h++)
            for (int64_t r = 0; r < rows && (list[i].halves >> h & 1); r += ROWS_AVX2)
                for (int lane = 0; lane < 16; lane += 8)
                    rows_avx2(sums[h] + r, list[i].a + 32 * r, list[i].b + h * (BF16_TILE / 2),
                              lane);
}
#define PRODUCT product_avx2
#include "core/kernel/bf16.inc"

#define TARGET __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,fma,amx-tile,amx-bf16")))
#define PATH(name) name##_amx
#define BEGIN_FLUSH begin_flush
#include "core/kernel/bf16_amx.inc"
#define BEGIN begin_amx
#define END end_amx
#define TRANSPOSE transpose_avx512
#define PRODUCT product_amx
#include "core/kernel/bf16.inc"
#endif

#define TARGET
#define PATH(name) name##_generic
#define MIN_NORMAL 0x1p-126F
static inline float flush(float v)
{
    return (v < 0 ? -v : v) < MIN_NORMAL ? 0 : v;
}

/* e + o of one row and one lane. */
static float pair_sum(const bf16 *a, const bf16 *b)
{
    float e = 0, o = 0;

    for (int k = 0; k < 16; k++) {
        const bf16 *lane = b + (ptrdiff_t)32 * k;

        e = flush(__builtin_fmaf(flush(bf16_float(a[2 * k])), flush(bf16_float(lane[0])), e));
        o = flush(__builtin_fmaf(flush(bf16_float(a[2 * k + 1])), flush(bf16_float(lane[1])), o));
    }
    return flush(e + o);
}

static void product_generic(bf16_sums sums, const struct bf16_product *list, int64_t count,
                            int64_t rows, bool fresh)
{
    if (fresh)
        memset(sums, 0, sizeof(bf16_sums));
    for (int64_t i = 0; i < count; i++)
        for (int h = 0; h < 2; h++)
            for (int64_t r = 0; r < rows && (list[i].halves >> h & 1); r++)
                for (int lane = 0; lane < 16; lane++)
                    sums[h][r][lane] =
                        flush(sums[h][r][lane] +
                              pair_sum(list[i].a + 32 * r,
                                       list[i].b + h * (BF16_TILE / 2) + (ptrdiff_t)2 * lane));
}
#define PRODUCT product_generic
#include "core/kernel/bf16.inc"

const struct bf16_kernels *bf16_kernels_of(enum cpu_path level)
{
#if defined __x86_64__
    switch (level) {
    case CPU_AMX:
        return &kernels_amx;
    case CPU_AVX512BF16:
        return cpu_has_fast_bf16() ? &kernels_avx512bf16 : &kernels_avx512;
    case CPU_AVX512:
        return &kernels_avx512;
    case CPU_AVX2:
        return &kernels_avx2;
    case CPU_GENERIC:
        break;
    }
#else
    (void)level;
#endif
    return &kernels_generic;
}
