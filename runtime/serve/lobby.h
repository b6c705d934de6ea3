#ifndef RUNTIME_SERVE_LOBBY_H
#define RUNTIME_SERVE_LOBBY_H
/*
 * Where clients wait for a server that serves one at a time.
 *
 * Only a client that has sent something is served: one that connects and stays silent takes a seat,
 * not the server. Seats are LOBBY_SEATS; a silent client loses its own after LOBBY_SILENCE seconds, or
 * when all are taken and another client comes. Clients of all our protocols speak first, TLS included.
 */
#include "runtime/net/tcp.h"

#define LOBBY_SEATS 16
#define LOBBY_SILENCE 10 /* seconds */

struct lobby;
/* Borrows l. seconds: time-out of the endpoints. */
int lobby_open(struct tcp_listener *l, double seconds, struct lobby **out) MUST_CHECK;
void lobby_close(struct lobby *b); /* and everybody in it; NULL is fine */
/* Waits for the next client that has spoken, first come first served; the endpoint is the caller's.
 * ERR_INTERRUPTED once stop (may be NULL) says so. */
int lobby_next(struct lobby *b, tcp_stop *stop, void *ctx, struct tcp **out) MUST_CHECK;
/* Whether somebody who has spoken waits now. */
int lobby_busy(struct lobby *b, bool *busy) MUST_CHECK;
int64_t lobby_sent_away(const struct lobby *b); /* clients that never spoke */
#endif
