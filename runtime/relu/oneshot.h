#ifndef RUNTIME_RELU_ONESHOT_H
#define RUNTIME_RELU_ONESHOT_H
/*
 * "Less than" of two numbers from their digits in one message, where one party's shares of the digits'
 * results were drawn beforehand. Digit i (0 is the lowest) of q has shared bits lt_i and, but for the
 * lowest, eq_i: value = the client's bit ^ the server's. Then the result is
 *
 *     lt_(q-1) ^ eq_(q-1) (lt_(q-2) ^ eq_(q-2) (... lt_0))  =  sum over terms of M * L
 *
 * with M a product of client's bits and L a polynomial in the server's. A term whose M is 1 is the
 * server's alone, one whose L is 1 the client's; all others, oneshot_terms of them, take one random
 * transfer of the server each. (Multi-input gates on masked values are those of A. Patra et al.,
 * ABY2.0; here one side's mask is known before the other's value.)
 *
 * Rows of n bits, in words as in bits.h; terms in one order for both.
 */
#include <stddef.h>
#include <stdint.h>

#define ONESHOT_MOST_DIGITS 6 /* 88 terms */

size_t oneshot_terms(int digits);
/* lt, eq [digits][words] of the server -> factor [terms][words]: L of each term; alone [words]: its own
 * part. Row 0 of eq is not read. */
void oneshot_server(int digits, size_t words, const uint64_t *lt, const uint64_t *eq,
                    uint64_t *factor, uint64_t *alone);
/* The same of the client -> M of each term; its own part. */
void oneshot_client(int digits, size_t words, const uint64_t *lt, const uint64_t *eq,
                    uint64_t *factor, uint64_t *alone);
#endif
