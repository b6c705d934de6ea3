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

#include "core/base/err.h"

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

/* A sum of elementwise products, reduced once at its end. All zeros is the empty sum. */
struct ntt_sum {
    uint64_t low[NTT_N], high[NTT_N]; /* meaning depends on the path */
};
/* sum += a * b, elementwise; a, b residues below q; at most NTT_MAX_TERMS times. */
void ntt_sum_add(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a, const uint64_t *b);
/* x += a[k] * w[k] and y += b[k] * w[k] for k < n <= NTT_BATCH: the same as one by one, and faster. */
#define NTT_BATCH 4
void ntt_sum_add_pairs(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                       const uint64_t *const *a, const uint64_t *const *b,
                       const uint64_t *const *w);
/* y := sum mod q. */
void ntt_sum_get(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum);

/* a * b mod q and a^n mod q for tables and constants (public numbers: not constant-time). */
uint64_t ntt_mul(uint64_t a, uint64_t b, uint64_t q);
uint64_t ntt_pow(uint64_t a, uint64_t n, uint64_t q);
#endif
