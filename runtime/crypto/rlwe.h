#ifndef RUNTIME_CRYPTO_RLWE_H
#define RUNTIME_CRYPTO_RLWE_H
/*
 * Encryption of 4096 numbers mod 2^64 that a holder of small integer polynomials can multiply by
 * them, without seeing the numbers and without showing the polynomials. Results are exact but for a
 * small error. Scheme, parameters, error: rlwe.c. No networking, no packing of tensors.
 *
 *     client  rlwe_secret_new; rlwe_encrypt of 0 is the public key
 *     client  rlwe_encrypt(m_t), t = 1 ... n                            -> server
 *     server  rlwe_work_start; for each prime: rlwe_work_add of all t, rlwe_work_close;
 *             rlwe_answer: sum of m_t * w_t - mask at the wanted places -> client
 *     client  rlwe_open
 *
 * A polynomial of two residues is uint64_t [RLWE_PRIMES][RLWE_N], transformed (ntt.h). The random
 * half of a ciphertext is rlwe_random of a public seed and never sent by the client.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/crypto/ntt.h"
#include "runtime/crypto/prg.h"

#define RLWE_N NTT_N
#define RLWE_PRIMES 2
#define RLWE_SEED 32
#define RLWE_RESIDUE_BYTES 5
#define RLWE_POLY_WORDS ((size_t)RLWE_PRIMES * RLWE_N)
#define RLWE_POLY_BYTES (RLWE_POLY_WORDS * RLWE_RESIDUE_BYTES) /* of an upload: 40,960 */
#define RLWE_ANSWER_BYTES 8                                    /* a number mod 2^64 */
#define RLWE_HALF_BYTES ((size_t)RLWE_N * RLWE_ANSWER_BYTES) /* random half of an answer: 32,768 */
#define RLWE_MOST_TERMS (NTT_MAX_TERMS - 1)                  /* products in one answer */

/* What security depends on; rlwe_parameters() are ours. */
struct rlwe_parameters {
    int32_t n, modulus_bits; /* ring degree, log2 Q */
    int32_t error_bound;     /* |e| <= this: centred binomial of 2 * error_bound bits */
};
struct rlwe_parameters rlwe_parameters(void);
/* ERR_UNSUPPORTED, with the rule: fewer than 128 bits of security. */
int rlwe_parameters_check(const struct rlwe_parameters *p) MUST_CHECK;

/* Error of an opened sum with weights of these L1 and L2 norms: what the product adds, then all that
 * is added. Exceeded with a chance below 2^-71 a sum. */
double rlwe_product_error(double l1, double l2);
double rlwe_error(double l1, double l2);
#define RLWE_ERROR_LIMIT 1024 /* most that a product may add: a quarter of an ulp (rlwe.c) */

struct rlwe; /* tables, public */
int rlwe_new(enum ntt_path path, struct rlwe **out) MUST_CHECK;
void rlwe_free(struct rlwe *r); /* NULL is fine */
FREE_AT(rlwe_free, struct rlwe)
const struct ntt *rlwe_prime(const struct rlwe *r, int i);

/* Uniform residues, a [RLWE_POLY_WORDS], a public function of seed and place: polynomial `poly` of the
 * connection's call number `call`. Each place has streams of its own, so order does not matter. */
int rlwe_random(const struct rlwe *r, const uint8_t seed[RLWE_SEED], uint64_t call, uint32_t poly,
                uint64_t *a) MUST_CHECK;
/* Bytes of a polynomial: RLWE_POLY_BYTES, little-endian residues of 40 bits. */
void rlwe_pack(uint8_t *to, const uint64_t *c);
/* ERR_PEER for a residue outside its prime. */
int rlwe_unpack(const struct rlwe *r, uint64_t *c, const uint8_t *from) MUST_CHECK;
/* Residues first ... first + n - 1 of a polynomial alone: c [n] from their bytes. */
int rlwe_unpack_part(const struct rlwe *r, size_t first, size_t n, uint64_t *c,
                     const uint8_t *from) MUST_CHECK;

/* ---- client ------------------------------------------------------------------------------- */

struct rlwe_secret;
int rlwe_secret_new(const struct rlwe *r, struct prg *rng, struct rlwe_secret **out) MUST_CHECK;
void rlwe_secret_free(struct rlwe_secret *s); /* wipes; NULL is fine */
/* c := -a * secret + e + round(Q/2^64 * m); m [RLWE_N] or NULL for zeros. */
int rlwe_encrypt(const struct rlwe *r, const struct rlwe_secret *s, const uint64_t *a,
                 const uint64_t *m, struct prg *rng, uint64_t *c) MUST_CHECK;
/* u[k] := message at place[k] of an answer, n places, within rlwe_error of the exact one. */
int rlwe_open(const struct rlwe *r, const struct rlwe_secret *s, const uint8_t *half,
              const uint8_t *values, const int32_t *place, int64_t n, uint64_t *u) MUST_CHECK;

/* ---- server ------------------------------------------------------------------------------- */

struct rlwe_work; /* memory of one thread for one answer at a time */
int rlwe_work_new(struct rlwe_work **out) MUST_CHECK;
void rlwe_work_free(struct rlwe_work *k); /* wipes; NULL is fine */
/* Draws what re-randomises the answer. */
void rlwe_work_start(struct rlwe_work *k, struct prg *rng);
/* Modulo prime i: adds (c[k], a[k]) * w[k] for k < n <= NTT_BATCH; c and a operands, w weights of taps with
 * this gap (ntt.h), of that prime. */
void rlwe_work_add(struct rlwe_work *k, const struct rlwe *r, int i, int n,
                   const uint64_t *const *c, const uint64_t *const *a, const uint64_t *const *w,
                   int gap);
/* Ends prime i: adds an encryption of 0 under the public key (c, a of that prime). */
void rlwe_work_close(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                     const uint64_t *a);
/* After that: adds sums of products that were made in the coefficients, c and a residues of prime i. */
void rlwe_work_plus(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                    const uint64_t *a);
/* After all primes: switches to 2^64 and subtracts mask[k], which must be uniform and used once, at
 * place[k], n <= RLWE_N. half: RLWE_HALF_BYTES, values: n * RLWE_ANSWER_BYTES. */
void rlwe_answer(struct rlwe_work *k, const struct rlwe *r, const int32_t *place,
                 const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values);
#endif
