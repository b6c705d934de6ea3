#ifndef RUNTIME_LINEAR_RLWE_PARTY_H
#define RUNTIME_LINEAR_RLWE_PARTY_H
/*
 * Linear backend "rlwe": the offline part of linear steps from lattice encryption, no third party.
 *
 *     struct linear_party linear = {0};
 *     if ((rc = linear_rlwe_server(plan, weights, t, rng, LINEAR_RLWE_CACHE, &linear)) < 0 ||
 *         (rc = linear.server(linear.ctx, step, s)) < 0)
 *         goto out;
 *     out:
 *         if (linear.close != NULL)
 *             linear.close(linear.ctx);
 *
 * Opening moves a nonce of the server and then the client's public key; every step is one round trip. All sizes
 * follow from the plan. Messages: PROTOCOL.md, "Linear: rlwe"; scheme and error: rlwe.c;
 * packing: rlwe_layout.c. Plan, weights, transport and rng are borrowed until close.
 */
#include <stddef.h>
#include <stdint.h>

#include "runtime/linear/linear.h"

#define LINEAR_RLWE_CACHE ((size_t)1 << 29) /* default of the memory for transformed weights */

/* u + s = W r + e, |e| at most rlwe_error (rlwe.h): 1,024 + 189 units.
 *
 * ERR_PEER (bad key), ERR_UNSUPPORTED (linear_rlwe_check; weights that could make a larger error), ERR_NET, ERR_NOMEM. cache: most bytes of
 * transformed weights to keep between images; 0 transforms anew each time, results are equal. */
int linear_rlwe_server(const struct plan *p, const struct plan_weights *w, struct transport *t,
                       struct prg *rng, size_t cache, struct linear_party *out) MUST_CHECK;
int linear_rlwe_client(const struct plan *p, struct transport *t, struct prg *rng,
                       struct linear_party *out) MUST_CHECK;

/* ERR_UNSUPPORTED names the first step that no layout fits. Both open functions call it. */
int linear_rlwe_check(const struct plan *p) MUST_CHECK;
/* What a step takes for a lot of this many images: polynomials the client encrypts, answers, products of the two (those that are
 * zero because of groups included), and different weights among them. ERR_UNSUPPORTED as above. */
struct linear_rlwe_count {
    int64_t uploads, answers, products, weights;
    int64_t transforms; /* of weights, by a server that keeps none */
};
int linear_rlwe_count(const struct plan *p, int32_t step, int64_t lot,
                      struct linear_rlwe_count *out) MUST_CHECK;
/* Bytes that one party sends for a linear step, exactly; step -1: the key, once a connection. */
uint64_t linear_rlwe_bytes(const struct plan *p, int32_t step, int from_client);
/* For a lot of this many images. */
uint64_t linear_rlwe_lot_bytes(const struct plan *p, int32_t step, int64_t lot, int from_client);
#endif
