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
#include "runtime/net/transport.h"

/* What a line can do; also what predictions assume (cost.h). */
struct link {
    const char *name;
    double bits_per_second, rtt; /* rtt: seconds there and back */
};
/* lan (3 Gbit/s, 0.3 ms), wan (400 Mbit/s, 40 ms), mobile (50 Mbit/s, 50 ms). A NULL-named row ends
 * the list. */
const struct link *link_list(void);
/* Both parties on one machine: no rate, no delay. */
const struct link *link_loopback(void);
/* A name of the list, or "RATE,RTT" as in "100Mbit,20ms" (bit, kbit, Mbit, Gbit; us, ms, s).
 * ERR_ARG. `text` becomes the name and must live as long. */
int link_parse(const char *text, struct link *out) MUST_CHECK;
/* Wraps *t in place; closing it closes the line inside. */
int link_wrap(struct transport *t, double bits_per_second, double rtt) MUST_CHECK;
#endif
