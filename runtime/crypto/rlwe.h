#ifndef RUNTIME_CRYPTO_RLWE_H
#define RUNTIME_CRYPTO_RLWE_H
/*
 * Encryption of 8192 numbers mod 2^64 that a holder of small integer polynomials can multiply by
 * them, without seeing the numbers and without showing the polynomials. Scheme, parameters and noise
 * budget: rlwe.c. No networking, no packing of tensors.
 *
 *     client  rlwe_secret_new; rlwe_encrypt of 0 is the public key
 *     client  rlwe_encrypt(m_t), t = 1 ... n                            -> server
 *     server  rlwe_work_start; for each prime: rlwe_work_add for each t, rlwe_work_close;
 *             rlwe_answer: sum of m_t * w_t - mask at the wanted places -> client
 *     client  rlwe_open
 *
 * A polynomial of four residues is uint64_t [RLWE_PRIMES][RLWE_N], transformed (ntt.h). The random
 * half of a ciphertext is rlwe_random of a public seed and never sent by the client.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/crypto/ntt.h"
#include "runtime/crypto/prg.h"

#define RLWE_N NTT_N
#define RLWE_PRIMES 4
#define RLWE_RESIDUE_BYTES 5
#define RLWE_POLY_WORDS ((size_t)RLWE_PRIMES * RLWE_N)
#define RLWE_POLY_BYTES (RLWE_POLY_WORDS * RLWE_RESIDUE_BYTES) /* of an upload: 163,840 */
#define RLWE_ANSWER_BYTES 12                                   /* a number mod 2^96 */
#define RLWE_HALF_BYTES ((size_t)RLWE_N * RLWE_ANSWER_BYTES) /* random half of an answer: 98,304 */

/* What the budget depends on; rlwe_parameters() are ours. */
struct rlwe_parameters {
    int32_t n, modulus_bits; /* ring degree, log2 Q */
    int32_t error_bound;     /* |e| <= this: centred binomial of 2 * error_bound bits */
    int32_t answer_bits;     /* log2 of the answer's modulus */
    int32_t margin_bits;     /* the noise stays this far below half a unit of the result */
};
struct rlwe_parameters rlwe_parameters(void);
/* ERR_UNSUPPORTED, with the rule: fewer than 128 bits of security, or a window of `window` int16
 * weights (sum of magnitudes up to window * 2^15) is not covered. */
int rlwe_parameters_check(const struct rlwe_parameters *p, int64_t window) MUST_CHECK;
/* log2 of the largest noise of a product with such a window, before the switch. */
double rlwe_product_noise_bits(const struct rlwe_parameters *p, int64_t window);

struct rlwe; /* tables, public */
int rlwe_new(enum ntt_path path, struct rlwe **out) MUST_CHECK;
void rlwe_free(struct rlwe *r); /* NULL is fine */
const struct ntt *rlwe_prime(const struct rlwe *r, int i);

/* Uniform residues from a public stream. */
void rlwe_random(const struct rlwe *r, struct prg *stream, uint64_t *a);
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
/* u[k] := message at place[k] of an answer, n places, off by one with a chance of 2^-28 (rlwe.c).
 * noise [n] or NULL: signed distance from the exact multiple of 2^32, the server's eps in it. */
int rlwe_open(const struct rlwe *r, const struct rlwe_secret *s, const uint8_t *half,
              const uint8_t *values, const int32_t *place, int64_t n, uint64_t *u,
              int64_t *noise) MUST_CHECK;

/* ---- server ------------------------------------------------------------------------------- */

/* w := transform of the coefficients [RLWE_N] modulo prime i. */
void rlwe_weight(const struct rlwe *r, int i, const int16_t *coefficient, uint64_t *w);
struct rlwe_work; /* memory of one thread for one answer at a time */
int rlwe_work_new(struct rlwe_work **out) MUST_CHECK;
void rlwe_work_free(struct rlwe_work *k); /* wipes; NULL is fine */
/* Draws what re-randomises the answer. */
void rlwe_work_start(struct rlwe_work *k, struct prg *rng);
/* Modulo prime i: adds (c, a) * w, each [RLWE_N] of that prime. */
void rlwe_work_add(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                   const uint64_t *a, const uint64_t *w);
/* Ends prime i: adds an encryption of 0 under the public key (c, a of that prime). */
void rlwe_work_close(struct rlwe_work *k, const struct rlwe *r, int i, const uint64_t *c,
                     const uint64_t *a);
/* After all primes: switches to 2^96 and masks all 96 bits at place[k], n <= RLWE_N: with mask[k], which
 * must be uniform and used once, and 32 bits of rng. half: RLWE_HALF_BYTES, values: n *
 * RLWE_ANSWER_BYTES. */
void rlwe_answer(struct rlwe_work *k, const struct rlwe *r, struct prg *rng, const int32_t *place,
                 const uint64_t *mask, int64_t n, uint8_t *half, uint8_t *values);
#endif
