#ifndef RUNTIME_NET_TALLY_H
#define RUNTIME_NET_TALLY_H
/*
 * SHA-256 of what a transport has carried, each way, so that its two ends can compare. It finds bytes that
 * changed by accident, on a connection without TLS; whoever changes them on purpose can change the
 * comparison too.
 */
#include "core/base/sha256.h"
#include "runtime/net/transport.h"

struct tally;
/* Wraps *t in place; closing it closes the line inside and frees the tally. Both digests begin with the n
 * bytes of `start`. */
int tally_wrap(struct transport *t, const void *start, size_t n, struct tally **out) MUST_CHECK;
/* Both digests begin anew with n bytes of `start`; what passes after tally_stop is in none. */
int tally_restart(struct tally *y, const void *start, size_t n) MUST_CHECK;
void tally_stop(struct tally *y);
/* Of everything so far. */
int tally_digests(const struct tally *y, uint8_t sent[SHA256_SIZE],
                  uint8_t received[SHA256_SIZE]) MUST_CHECK;
#endif
