#ifndef RUNTIME_NET_TRANSPORT_H
#define RUNTIME_NET_TRANSPORT_H
/*
 * A reliable, ordered stream of bytes to the other party, with counters. Implementations: an
 * in-memory pair (here), TCP (tcp.h), TLS (tls.h), and an emulated link around any of them (link.h).
 *
 * send may keep bytes back; recv flushes first, so a protocol never waits for bytes it holds itself.
 * All calls return 0, ERR_NET (connection, time-out) or ERR_PEER (peer closed within a message).
 * After an error the transport is dead: every further call fails.
 */
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct transport_count {
    uint64_t sent, received; /* payload bytes, without TCP and TLS framing */
    uint32_t flips;          /* times this side went from receiving to sending or back */
};
struct transport {
    int (*send)(void *ctx, const void *bytes, size_t n);
    int (*recv)(void *ctx, void *bytes, size_t n); /* exactly n */
    /* NULL where there is nothing to do: */
    int (*flush)(void *ctx);
    void (*close)(void *ctx);
    void (*limit)(void *ctx, double seconds);
    void *ctx;
    struct transport_count count;
    int8_t last; /* +1 sent, -1 received, 0 nothing yet */
    int8_t dead; /* a call failed */
};

/* The only way protocols call a transport; these keep the counters. n == 0 does nothing. */
int transport_send(struct transport *t, const void *bytes, size_t n) MUST_CHECK;
int transport_recv(struct transport *t, void *bytes, size_t n) MUST_CHECK;
int transport_flush(struct transport *t) MUST_CHECK;
/* From now on all calls together may wait for the other side for `seconds`, however many messages and
 * bytes arrive meanwhile; then they fail with ERR_NET. Below 0: no such limit. Our own work between the
 * calls is not counted. */
void transport_limit(struct transport *t, double seconds);
/* Closes and clears; a cleared transport may be closed again. */
void transport_close(struct transport *t);
/* Two ends in one process, for two threads. Each is closed on its own; a recv at a closed peer is
 * ERR_PEER once what it sent is read. A direction holds 1 MiB, then send waits for the reader; up to
 * 16 MiB where both ends wait so. */
int transport_pair(struct transport *a, struct transport *b) MUST_CHECK;
/* How long either end of a pair waits for the other, in seconds; 0: as long as that computes. */
void transport_pair_patience(struct transport *end, int seconds);
#endif
