#ifndef RUNTIME_CRYPTO_SHARE_RNG_H
#define RUNTIME_CRYPTO_SHARE_RNG_H
/*
 * Named streams of randomness: which of them decide a result, and which do not.
 *
 * A result of a two-party run depends, in its last bits, on the client's shares (truncation is local)
 * and, with ring-LWE, on the small errors of its linear steps. Both follow from these streams alone,
 * never from OTs or garbling:
 *
 *     SHARE_CLIENT, number, 0        the client's share of the input          8 bytes an element
 *     SHARE_CLIENT, number, 1 + e    its result shares r' of select event e   [payloads][n]
 *     SHARE_SERVER, number, e        the server's offset s of linear event e  8 bytes an output
 *     DEAL_RHO,     number, e        rho of the dealer                        8 bytes an input
 *     DEAL_OFFSET,  number, e        its s, in place of SHARE_SERVER
 *     SHARE_LINEAR, 0, client?       all that the server (0) or client (1) of the rlwe linear backend
 *                                    draws: keys, errors, what hides answers
 *
 * number counts the images of a connection, e the events of the schedule. A stream is AES-128-CTR
 * under the first 16 bytes of SHA-256("linnet share" key kind number index), integers little-endian,
 * 1, 8 and 4 bytes. Keys are 32 random bytes, one a party and connection; with a test seed N both are
 * SHA-256("linnet test seed" N), so that whoever knows N knows every share: for tests on one
 * machine.
 */
#include <stdint.h>

#include "runtime/crypto/prg.h"

#define SHARE_KEY 32
enum share_kind {
    SHARE_CLIENT = 1,
    SHARE_SERVER,
    SHARE_PROTOCOL,
    DEAL_MODEL,
    DEAL_RHO,
    DEAL_OFFSET,
    SHARE_LINEAR
};

struct share_rng {
    uint8_t key[SHARE_KEY];
};
/* test_seed < 0: a random key. */
int share_rng_init(struct share_rng *s, int64_t test_seed) MUST_CHECK;
/* The seed of a stream, for whom may know that stream alone. */
int share_rng_seed(const struct share_rng *s, enum share_kind kind, uint64_t number, uint32_t index,
                   uint8_t seed[PRG_SEED]) MUST_CHECK;
int share_rng_open(const struct share_rng *s, enum share_kind kind, uint64_t number, uint32_t index,
                   struct prg **out) MUST_CHECK;
/* The first n words of a stream. */
int share_rng_words(const struct share_rng *s, enum share_kind kind, uint64_t number,
                    uint32_t index, uint64_t *out, int64_t n) MUST_CHECK;
#endif
