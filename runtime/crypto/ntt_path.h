#ifndef RUNTIME_CRYPTO_NTT_PATH_H
#define RUNTIME_CRYPTO_NTT_PATH_H
/*
 * Between ntt.c and its vector files. Tables are indexed like the heap of the butterflies: level
 * m = 1, 2, 4 ... uses entries m ... 2m-1. Beside each factor w stands a quotient that turns the
 * product by w into a few multiplications:
 *
 *     plain   w, floor(w * 2^64 / q)
 *     AVX2    doubles: w in (-q/2, q/2), w / q; from m = 4 on in an order of its own (ntt_avx2.c)
 *     IFMA    w, floor(w * 2^52 / q)
 */
#include <stdbool.h>

#include "runtime/crypto/ntt.h"

#define NTT_ROWS 16 /* into which the first four levels of AVX2 sort coefficients */

struct ntt_factor {
    uint64_t w, quotient;
};
struct ntt {
    uint64_t q;
    enum ntt_path path;
    uint64_t *w, *w_quotient;           /* [N] powers of psi in bit-reversed order */
    uint64_t *v, *v_quotient;           /* their inverses */
    struct ntt_factor one, scale, wrap; /* 1, 1/N, 2^64 (plain) or 2^52 (IFMA), mod q */
    struct ntt_factor last;             /* v[1] / N */
    double (*powers)[2 * NTT_ROWS]; /* AVX2, of row r: z_k^r (forward_taps), high parts, then low */
};

/* Public. For AVX2 sorted by columns: of n = 4096 >> gap coefficients, number row * n/16 + column. */
struct ntt_taps {
    int n, gap;
    int32_t place[NTT_N];
    bool many; /* too many for forward_taps: not sorted */
    int start[NTT_N / NTT_ROWS + 1];
    struct {
        int row, source; /* source: which value */
    } tap[NTT_N];
};

#if defined __x86_64__
#define NTT_VECTORS 1
void ntt_forward_avx2(const struct ntt *t, uint64_t *x);
void ntt_inverse_avx2(const struct ntt *t, uint64_t *x);
void ntt_sum_add_avx2(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a,
                      const uint64_t *b);
void ntt_sum_add_pairs_avx2(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                            const uint64_t *const *a, const uint64_t *const *b,
                            const uint64_t *const *w, int gap);
void ntt_operand_avx2(uint64_t *x);
void ntt_weight_avx2(const struct ntt *t, const struct ntt_taps *taps, const int16_t *value,
                     uint64_t *w);
void ntt_sum_get_avx2(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum);
void ntt_forward_ifma(const struct ntt *t, uint64_t *x);
void ntt_inverse_ifma(const struct ntt *t, uint64_t *x);
void ntt_sum_add_ifma(const struct ntt *t, struct ntt_sum *sum, const uint64_t *a,
                      const uint64_t *b);
void ntt_sum_add_pairs_ifma(const struct ntt *t, struct ntt_sum *x, struct ntt_sum *y, int n,
                            const uint64_t *const *a, const uint64_t *const *b,
                            const uint64_t *const *w);
void ntt_sum_get_ifma(const struct ntt *t, uint64_t *y, const struct ntt_sum *sum);
#else
#define NTT_VECTORS 0
#endif
#endif
