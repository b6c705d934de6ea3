#ifndef RUNTIME_NET_LANES_H
#define RUNTIME_NET_LANES_H
/*
 * Several runs of one protocol over one connection in the messages of one: what all of them send between two
 * turns of the line travels together, so that rounds are those of a single run.
 *
 * Each run has a lane, a transport of its own over the shared one. Lanes are coroutines: one works at a time, from
 * the first to the last; where it wants to send after it has received, or the other way round, the next one goes
 * on, and after the last one the first. So a message is the first lane's, then the second's, and so on; both
 * sides must give their lanes the same order, and all lanes of a side must turn alike, as runs of one
 * protocol with public message sizes do.
 *
 * In a stream a lane answers at once: the next one goes on only where a lane wants to receive after it has sent. The
 * bytes of either direction are the same in the same order, but both sides may send at the same time, so what a lane
 * sends between two turns, all lanes together, must fit what a transport keeps while it sends (TCP_INBOX).
 *
 * Lanes do not nest: what runs in one asks lanes_in before it starts its own.
 */
#include <stdbool.h>

#include "runtime/net/transport.h"

/* Calls run(arg, lane, transport of the lane) for lane = 0 ... lanes - 1; the first failure ends all of them and is
 * returned. With one lane run works on t itself. Turns of t are counted as those of one lane. */
int lanes_run(struct transport *t, int64_t lanes, bool stream,
              int (*run)(void *arg, int64_t lane, struct transport *), void *arg) MUST_CHECK;
/* Whether t is a lane. */
bool lanes_in(const struct transport *t);
#endif
