#ifndef RUNTIME_LINEAR_RLWE_DIRECT_H
#define RUNTIME_LINEAR_RLWE_DIRECT_H
/*
 * Products of uploads and weights without transforms of the weights, for steps whose weight polynomials
 * have few coefficients: 1x1 windows, and 3x3 ones where images of a lot fill the polynomials. Residues
 * are the same as those by transforms, so nothing on the wire tells which way the server took.
 */
#include "runtime/crypto/rlwe.h"
#include "runtime/linear/rlwe_layout.h"

struct rlwe_direct; /* a step's weights */
/* *out = NULL where transforms are faster, or the CPU or the weights do not suit. */
int rlwe_direct_new(const struct rlwe *r, const struct rlwe_layout *l, const int16_t *weight,
                    struct rlwe_direct **out) MUST_CHECK;
void rlwe_direct_free(struct rlwe_direct *d); /* wipes; NULL is fine */
size_t rlwe_direct_weight_bytes(const struct rlwe_direct *d);

/* A band's uploads as digits: so many bytes, filled group by group, in any order. c, a: all uploads of
 * the band, coefficients (not transformed), [in_polys][RLWE_PRIMES][RLWE_N]. */
size_t rlwe_direct_bytes(const struct rlwe_direct *d);
int64_t rlwe_direct_groups(const struct rlwe_direct *d);
void rlwe_direct_load(const struct rlwe_direct *d, const struct rlwe *r, int64_t group,
                      const uint64_t *c, const uint64_t *a, uint8_t *digits);

/* sum [n][2][RLWE_PRIMES][RLWE_N] := sums of c * weight and of a * weight of answers first ... first + n -
 * 1, by so many threads. panel: rlwe_direct_panel_bytes for each thread, one behind the other. */
size_t rlwe_direct_panel_bytes(const struct rlwe_direct *d);
void rlwe_direct_products(const struct rlwe_direct *d, const struct rlwe *r, const uint8_t *digits,
                          int64_t first, int64_t n, int threads, uint8_t *panel, uint64_t *sum);
#endif
