#ifndef RUNTIME_LINEAR_DEALER_H
#define RUNTIME_LINEAR_DEALER_H
/*
 * Linear backend "dealer": correlations from a third party that sees shapes only, carried
 * to each party as files. The dealer must collude with neither party, and must not read their traffic:
 * with F = W - A and A it would know the weights.
 *
 * Dealer, once: a matrix A for every linear step. Per image and step: rho, s, c = A rho - s.
 *     client gets rho (seed) and c            server gets A (seed) and s (seed)
 * Server to client, once: F = W - A. Per image and step: client to server, delta = r - rho.
 *     client   u  = F rho + c = W rho - s
 *     server   s' = s + W delta          so that u + s' = W r
 *
 * Files (store.h seals them; integers little-endian; E linear events in program order):
 *     deal-ID.server               head, E seeds of A
 *     correlation-ID-INDEX.server  head, E seeds of s           single use
 *     correlation-ID-INDEX.client  head, E seeds of rho, c      single use
 *     masked-ID.client             head, F                      the client's own copy of what it received
 * Head, 80 bytes: "linnetDC", u16 version 1, zeros to 16, identity of the package, id (16), u64 index,
 * zeros. ID: 16 random bytes of this deal, as hexadecimal digits.
 */
#include "runtime/linear/linear.h"

/* Opening (linear_dealer.open) moves F where the client has none yet. ERR_DATA: no correlations in the
 * folder (client); ERR_PEER: the other side has none of the same deal. */

/* Makes `count` correlations, numbered from 0. test_seed < 0: random. progress may be NULL. */
int dealer_deal(const struct plan *p, const uint8_t model[32], int64_t count, int64_t test_seed,
                const char *client_dir, const char *server_dir,
                void (*progress)(void *ctx, int64_t done), void *ctx) MUST_CHECK;

/* Correlations that a client's folder holds. */
int dealer_count(const char *dir, int64_t *n) MUST_CHECK;
#endif
