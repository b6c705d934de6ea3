/*
 * Products by bytes (byte_product.h). Four rows of weights and one panel keep 24 sums in registers; a
 * step is 5 loads of digits and 40 products, so the multipliers are the limit and not the loads.
 */
#include "runtime/ring/byte_product.h"

#include <string.h>

#include "core/base/cpu.h"

#if defined __x86_64__
#include <immintrin.h>
#endif

bool byte_digits(int16_t w, int8_t *low, int8_t *high)
{
    int rest = ((w & 0xff) ^ 0x80) - 0x80, above = (w - rest) / 256;

    *low = (int8_t)rest;
    *high = (int8_t)(above < 128 ? above : 127);
    return above < 128;
}

void byte_product_plain(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                        const int8_t *weights, size_t apart, int rows, size_t steps)
{
    memset(classes, 0, (size_t)rows * sizeof *classes);
    for (int r = 0; r < rows; r++)
        for (size_t s = 0; s < steps; s++)
            for (int d = 0; d < BYTE_DIGITS; d++)
                for (int column = 0; column < BYTE_COLUMNS; column++)
                    for (int t = 0; t < BYTE_TERMS; t++) {
                        int x = panel[s * BYTE_PANEL_STEP +
                                      (size_t)((d * BYTE_COLUMNS + column) * BYTE_TERMS + t)];
                        const int8_t *w = weights + (size_t)r * apart + s * BYTE_ROW_STEP + t;

                        classes[r][d][column] += x * w[0];
                        classes[r][d + 1][column] += x * w[BYTE_TERMS];
                    }
}

#if defined __x86_64__
#define VNNI __attribute__((target("avx512f,avx512bw,avx512vnni")))

/* Four terms of one digit of a weight, in all columns. */
VNNI static inline __m512i spread(const int8_t *w)
{
    int32_t four;

    memcpy(&four, w, sizeof four);
    return _mm512_set1_epi32(four);
}

/* The sums are named variables: an array of them would live in memory. */
#define ROW_SUMS(r)                                                                                \
    __m512i r##0 = zero, r##1 = zero, r##2 = zero, r##3 = zero, r##4 = zero, r##5 = zero
#define ROW_STEP(r, from)                                                                          \
    low = spread(from);                                                                            \
    high = spread((from) + BYTE_TERMS);                                                            \
    r##0 = _mm512_dpbusd_epi32(r##0, x0, low);                                                     \
    r##1 = _mm512_dpbusd_epi32(r##1, x1, low);                                                     \
    r##2 = _mm512_dpbusd_epi32(r##2, x2, low);                                                     \
    r##3 = _mm512_dpbusd_epi32(r##3, x3, low);                                                     \
    r##4 = _mm512_dpbusd_epi32(r##4, x4, low);                                                     \
    r##1 = _mm512_dpbusd_epi32(r##1, x0, high);                                                    \
    r##2 = _mm512_dpbusd_epi32(r##2, x1, high);                                                    \
    r##3 = _mm512_dpbusd_epi32(r##3, x2, high);                                                    \
    r##4 = _mm512_dpbusd_epi32(r##4, x3, high);                                                    \
    r##5 = _mm512_dpbusd_epi32(r##5, x4, high)
#define ROW_STORE(r, to)                                                                           \
    _mm512_storeu_si512((to)[0], r##0);                                                            \
    _mm512_storeu_si512((to)[1], r##1);                                                            \
    _mm512_storeu_si512((to)[2], r##2);                                                            \
    _mm512_storeu_si512((to)[3], r##3);                                                            \
    _mm512_storeu_si512((to)[4], r##4);                                                            \
    _mm512_storeu_si512((to)[5], r##5)
#define PANEL_LOADS                                                                                \
    __m512i low, high, x0 = _mm512_loadu_si512(panel), x1 = _mm512_loadu_si512(panel + 64),        \
                       x2 = _mm512_loadu_si512(panel + 128), x3 = _mm512_loadu_si512(panel + 192), \
                       x4 = _mm512_loadu_si512(panel + 256)

VNNI static void four_rows(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                           const int8_t *w, size_t apart, size_t steps)
{
    const __m512i zero = _mm512_setzero_si512();
    ROW_SUMS(a);
    ROW_SUMS(b);
    ROW_SUMS(c);
    ROW_SUMS(d);

    for (; steps > 0; steps--, panel += BYTE_PANEL_STEP, w += BYTE_ROW_STEP) {
        PANEL_LOADS;
        ROW_STEP(a, w);
        ROW_STEP(b, w + apart);
        ROW_STEP(c, w + 2 * apart);
        ROW_STEP(d, w + 3 * apart);
    }
    ROW_STORE(a, classes[0]);
    ROW_STORE(b, classes[1]);
    ROW_STORE(c, classes[2]);
    ROW_STORE(d, classes[3]);
}

VNNI static void one_row(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                         const int8_t *w, size_t steps)
{
    const __m512i zero = _mm512_setzero_si512();
    ROW_SUMS(a);

    for (; steps > 0; steps--, panel += BYTE_PANEL_STEP, w += BYTE_ROW_STEP) {
        PANEL_LOADS;
        ROW_STEP(a, w);
    }
    ROW_STORE(a, classes[0]);
}
#endif

bool byte_product_fast(void)
{
    return cpu_has_vnni() && cpu_best_path() == CPU_AVX512;
}

void byte_product(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                  const int8_t *weights, size_t apart, int rows, size_t steps)
{
#if defined __x86_64__
    if (byte_product_fast()) {
        if (rows == BYTE_ROWS)
            four_rows(classes, panel, weights, apart, steps);
        for (int r = 0; r < rows && rows < BYTE_ROWS; r++)
            one_row(classes + r, panel, weights + (size_t)r * apart, steps);
        return;
    }
#endif
    byte_product_plain(classes, panel, weights, apart, rows, steps);
}
