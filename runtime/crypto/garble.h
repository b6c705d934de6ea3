#ifndef RUNTIME_CRYPTO_GARBLE_H
#define RUNTIME_CRYPTO_GARBLE_H
/*
 * A garbled comparison: the sign of a sum. For n independent pairs a, b of m bits the output bit is
 * bit m-1 of a + b (mod 2^m), by m-1 AND gates.
 *
 * A wire has two labels, zero and zero ^ delta; the lowest bit of delta is 1, so the lowest bit of a
 * label (its colour) says nothing about its value alone. The garbler works on zero labels, the
 * evaluator on the one label of each wire that it holds:
 *
 *     garble_sign           zero labels a [m][n], b [m][n] -> tables [m-1][2][n], zero labels out [n]
 *     garble_evaluate_gate  held labels of bit i, table [2][n] of gate i, carry [n] -> carry
 *     garble_output         held labels of bit m-1, carry -> held labels out
 *
 * Two labels may travel as one: a pair's word W = L1 ^ sigma(L0), L0 and L1 the held labels of two bits, sigma(x) =
 * (x.lo ^ x.hi, x.lo). W takes four values, one for each value of the bits, and a table of three rows made
 * beforehand gives L0 for it; L1 follows. So 16 bytes instead of 32 are sent once the bits are known, for 48 sent
 * before:
 *
 *     garble_pair           words for two zeros [n] -> zero labels a [2][n], table [3][n]
 *     garble_pair_word      the word for two bits from that for zeros
 *     garble_open_pair      word [n], table [3][n] -> held labels a [2][n]
 *
 * Output label ^ garbler's zero label is delta times the sign. Work goes gate by gate over many
 * comparisons, so that AES runs on long buffers; n of about GARBLE_BLOCK is best. The evaluator takes
 * one bit at a time: it works while the labels of the next bit are on their way.
 */
#include "runtime/crypto/prg.h"

#define GARBLE_BLOCK ((size_t)1024)

/* The tweak of element k at a use `slot` (below 2^16) is {slot << 48 | k, batch}; k below 2^48.
 * Comparisons use slots 0 ... 2(m-1) - 1, pairs GARBLE_SLOT_PAIR and up, and elements first ... first + n - 1. */
#define GARBLE_SLOT_PAIR 256
struct block garble_tweak(uint64_t batch, uint64_t slot, uint64_t k);

/* Blocks of scratch for garble_sign and garble_evaluate_gate. */
size_t garble_scratch(size_t n);
void garble_sign(struct hasher *h, size_t n, int m, struct block delta, uint64_t batch,
                 uint64_t first, const struct block *a, const struct block *b, struct block *tables,
                 struct block *out, struct block *scratch);
/* Gate i = 0 ... m-2 of comparisons first ... first + n - 1; carry is zero before gate 0. */
void garble_evaluate_gate(struct hasher *h, size_t n, int i, uint64_t batch, uint64_t first,
                          const struct block *a, const struct block *b, const struct block *table,
                          struct block *carry, struct block *scratch);
/* Pair number `pair` of comparisons first ... first + n - 1. a [2][n]: the words for zeros lie in a[n ... 2n - 1].
 * Scratch as for the gates. */
void garble_pair(struct hasher *h, size_t n, int pair, struct block delta, uint64_t batch,
                 uint64_t first, struct block *a, struct block *table, struct block *scratch);
/* word ^= what the bits 0 and 1 of `bits` change. */
void garble_pair_word(struct block *word, uint64_t bits, struct block delta);
/* a [2][n]: the words lie in a[n ... 2n - 1]. */
void garble_open_pair(struct hasher *h, size_t n, int pair, uint64_t batch, uint64_t first,
                      struct block *a, const struct block *table, struct block *scratch);
void garble_output(size_t n, const struct block *a, const struct block *b, struct block *carry);
#endif
