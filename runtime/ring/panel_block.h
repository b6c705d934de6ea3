#ifndef RUNTIME_RING_PANEL_BLOCK_H
#define RUNTIME_RING_PANEL_BLOCK_H
/*
 * The inner loop of the exact products, for doubles (ring_product.c) and for 64-bit words (word_conv.c):
 * 8 rows of A times a panel of 16 columns of B that lie row after row, all 128 sums in registers of
 * AVX-512. For those two files only.
 */
#define PANEL_ROWS 8
#define PANEL_COLUMNS 16

#if defined(__x86_64__)
#include <immintrin.h>

#define PANEL_EACH_ROW(X)                                                                          \
    X(0);                                                                                          \
    X(1);                                                                                          \
    X(2);                                                                                          \
    X(3);                                                                                          \
    X(4);                                                                                          \
    X(5);                                                                                          \
    X(6);                                                                                          \
    X(7)
#define PANEL_STEP(r)                                                                              \
    x = PANEL_SET1(a[(r)*k + t]);                                                                  \
    low##r = PANEL_ADD_PRODUCT(low##r, x, b0);                                                     \
    high##r = PANEL_ADD_PRODUCT(high##r, x, b1)
#define PANEL_STORE_ROW(r)                                                                         \
    PANEL_STORE(sum[r], low##r);                                                                   \
    PANEL_STORE(sum[r] + 8, high##r)

/* Body of void f(element sum[PANEL_ROWS][PANEL_COLUMNS], const element *a, int64_t k, const element
 * *panel, int64_t depth): rows of a are k apart. The including file says what a vector and what
 * PANEL_SET1, PANEL_LOAD, PANEL_STORE, PANEL_ADD_PRODUCT are. */
#define PANEL_BLOCK_BODY(vector, zero)                                                             \
    vector low0 = zero, low1 = zero, low2 = zero, low3 = zero, low4 = zero, low5 = zero,           \
           low6 = zero, low7 = zero, high0 = zero, high1 = zero, high2 = zero, high3 = zero,       \
           high4 = zero, high5 = zero, high6 = zero, high7 = zero;                                 \
                                                                                                   \
    for (int64_t t = 0; t < depth; t++) {                                                          \
        vector b0 = PANEL_LOAD(panel + t * PANEL_COLUMNS);                                         \
        vector b1 = PANEL_LOAD(panel + t * PANEL_COLUMNS + 8), x;                                  \
        PANEL_EACH_ROW(PANEL_STEP);                                                                \
    }                                                                                              \
    PANEL_EACH_ROW(PANEL_STORE_ROW)
#endif
#endif
