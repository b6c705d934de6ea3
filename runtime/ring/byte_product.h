#ifndef RUNTIME_RING_BYTE_PRODUCT_H
#define RUNTIME_RING_BYTE_PRODUCT_H
/*
 * Exact products of numbers below 2^40 and 16-bit weights, by bytes: the vector units multiply 64 pairs
 * of bytes at a time and add them in 32 bits (AVX512-VNNI).
 *
 * A number is 5 unsigned digits, a weight 2 signed ones (low, high). A class is what has one power of
 * 256: product of digits i and j goes to class i + j, so a sum of K terms is
 *
 *     sum over c < 6 of 256^c class_c,     |class_c| <= 2 * 255 * 128 * K < 2^31 for K <= 32,896
 *
 * Operands: a panel holds 16 columns, [steps][5 digits][16 columns][4 terms] bytes; a row of weights
 * [steps][2 digits][4 terms]. Constant time: no branch or address depends on an operand.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTE_DIGITS 5
#define BYTE_CLASSES 6
#define BYTE_COLUMNS 16
#define BYTE_TERMS 4         /* of a step */
#define BYTE_ROWS 4          /* of weights at a time, at most */
#define BYTE_MOST_STEPS 8224 /* 32,896 terms */

#define BYTE_PANEL_STEP (BYTE_DIGITS * BYTE_COLUMNS * BYTE_TERMS)
#define BYTE_ROW_STEP (2 * BYTE_TERMS)

/* Whether the CPU has a fast path. The slow one gives the same numbers and is for tests. */
bool byte_product_fast(void);
/* The two digits of a weight; false where the high one would be 128 (w >= 32,640). */
bool byte_digits(int16_t w, int8_t *low, int8_t *high);
/* classes [rows][6][16] := rows of weights, apart bytes from one to the next, times a panel. */
void byte_product(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                  const int8_t *weights, size_t apart, int rows, size_t steps);
/* The same in plain C. */
void byte_product_plain(int32_t (*classes)[BYTE_CLASSES][BYTE_COLUMNS], const uint8_t *panel,
                        const int8_t *weights, size_t apart, int rows, size_t steps);
#endif
