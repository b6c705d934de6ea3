#ifndef RUNTIME_CRYPTO_NTT_H
#define RUNTIME_CRYPTO_NTT_H
/*
 * Negacyclic number-theoretic transform: products in Z_q[X] / (X^4096 + 1), q prime below 2^40.
 *
 * A transformed polynomial holds, at index i, its value at psi^(2 * bitreverse(i) + 1), psi a fixed
 * primitive 8192nd root of unity: products become elementwise. Results are residues in [0, q) and
 * the same bits on every path (plain C, AVX2, AVX-512 IFMA). No secret-dependent branch or index.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/mem.h"

#define NTT_LOG 12
#define NTT_N 4096
#define NTT_MAX_TERMS 4096 /* of one ntt_sum */

enum ntt_path { NTT_PLAIN, NTT_AVX2, NTT_IFMA };
/* Best path of this CPU below what LINNET_CPU asks for (core/base/cpu.h). */
enum ntt_path ntt_best_path(void);

struct ntt; /* tables of one prime */
/* ERR_ARG unless q is a prime below 2^40 with q = 1 mod 8192 and the CPU has the path. */
int ntt_new(uint64_t q, enum ntt_path path, struct ntt **out) MUST_CHECK;
void ntt_free(struct ntt *t); /* NULL is fine */
uint64_t ntt_prime(const struct ntt *t);

/* In place, x [NTT_N] of residues below q. */
void ntt_forward(const struct ntt *t, uint64_t *x);
void ntt_inverse(const struct ntt *t, uint64_t *x);

/* Residues, transformed, to what ntt_sum_add_pairs reads: in place, in a form of the path. */
void ntt_operand(const struct ntt *t, uint64_t *x);

/*
 * Weights are polynomials of small integers that ntt_sum_add_pairs multiplies by. What is known of them all
 * is where they can be other than zero, the taps. Where all places are multiples of 2^gap, the transform repeats
 * each value so many times, and only NTT_N >> gap words are kept.
 */
struct ntt_taps;
/* The largest gap of these places that the path makes use of. */
int ntt_gap(const struct ntt *t, const int32_t *place, int64_t n);
/* ERR_NOMEM. gap: that of these places, or a smaller one that it gave. */
int ntt_taps_new(const int32_t *place, int64_t n, int gap, struct ntt_taps **out) MUST_CHECK;
void ntt_taps_free(struct ntt_taps *taps); /* NULL is fine */
/* w [NTT_N >> gap] := transform of value[k] at place[k], in a form of the path. |value| < q. */
void ntt_weight(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                uint64_t *w);

/* A sum of elementwise products, reduced once at its end. All zeros is the empty sum. */
struct ntt_sum {
    uint64_t low[NTT_N], high[NTT_N]; /* meaning depends on the path */
};
/* sum += a * b, elementwise; a, b residues below q; at most NTT_MAX_TERMS times. */
void ntt_sum_add(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a, const uint64_t *b);
/* x += a[k] * w[k] and y += b[k] * w[k] for k < n <= NTT_BATCH; a and b operands, w weights of taps with this
 * gap. Counts as n times. */
#define NTT_BATCH 4
void ntt_sum_add_pairs(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                       const uint64_t *const *a, const uint64_t *const *b, const uint64_t *const *w,
                       int gap);
/* y := sum mod q. */
void ntt_sum_get(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum);

/* v mod q for |v| < q, without a branch. */
static inline uint64_t ntt_residue(int v, uint64_t q)
{
    return (uint64_t)(int64_t)v + (q & (0 - ((uint64_t)(int64_t)v >> 63)));
}
/* a * b mod q and a^n mod q for tables and constants (public numbers: not constant-time). */
uint64_t ntt_mul(uint64_t a, uint64_t b, uint64_t q);
uint64_t ntt_pow(uint64_t a, uint64_t n, uint64_t q);
#endif
