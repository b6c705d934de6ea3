#ifndef RUNTIME_CRYPTO_BASEOT_H
#define RUNTIME_CRYPTO_BASEOT_H
/*
 * n random oblivious transfers on the curve P-256: the sender gets two random keys each, the
 * receiver the one it chose. Semi-honest; points of the peer are checked (ERR_PEER).
 * Tens of milliseconds for 128, so only once a connection: otext.h makes many out of these.
 */
#include <stdint.h>

#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

#define BASEOT_KEY 16

/* What one side sends, exactly. */
uint64_t baseot_bytes(int32_t n, int from_sender);
/* keys [n], written. */
int baseot_send(struct transport *t, struct prg *rng, int32_t n,
                uint8_t (*keys)[2][BASEOT_KEY]) MUST_CHECK;
/* choice [n], 0 or 1; keys [n], written: the sender's keys[i][choice[i]]. */
int baseot_receive(struct transport *t, struct prg *rng, int32_t n, const uint8_t *choice,
                   uint8_t (*keys)[BASEOT_KEY]) MUST_CHECK;
#endif
