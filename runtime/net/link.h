#ifndef RUNTIME_NET_LINK_H
#define RUNTIME_NET_LINK_H
/*
 * A slower line, emulated in user space around a fast one on the same machine: a token bucket for
 * the rate and a delay of half the round-trip time each way.
 *
 * Both ends wrap their transport. A piece of up to 32 KiB leaves at once, behind 12 bytes: when it
 * may be looked at (8, nanoseconds of the monotonic clock, which both ends share) and its length (4);
 * the receiver sleeps until then. The sender never sleeps, so both sides compute while bytes travel,
 * as on a real line. Counters see payload only.
 */
#include "runtime/cost/cost.h"
#include "runtime/net/transport.h"

/* "lan", "wan", "mobile", or "RATE,RTT" as in "100Mbit,20ms" (bit, kbit, Mbit, Gbit; us, ms, s).
 * ERR_ARG. `text` becomes the name and must live as long. */
int link_parse(const char *text, struct cost_link *out) MUST_CHECK;
/* Wraps *t in place; closing it closes the line inside. */
int link_wrap(struct transport *t, double bits_per_second, double rtt) MUST_CHECK;
#endif
