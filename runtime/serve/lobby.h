#ifndef RUNTIME_SERVE_LOBBY_H
#define RUNTIME_SERVE_LOBBY_H
/*
 * Where clients are until somebody serves them.
 *
 * A connection sits here until its first message has arrived whole: a greeting, with TLS the record that
 * opens the handshake. It costs a descriptor and no process, and has LOBBY_GREETING seconds in all,
 * however its bytes trickle in. Its bytes are looked at, not taken: what they say is for whoever serves it.
 * One address (tcp_source) has LOBBY_SHARE seats for unfinished greetings and there are LOBBY_SEATS
 * altogether: beyond that the one that has been unfinished longest goes, of that address or of the one that
 * has most of them.
 *
 * Those who have greeted wait for lobby_next: first the address that has the fewest clients being served,
 * then the one that waited longest. Nobody who waits is sent away by others who come; beyond LOBBY_QUEUE
 * of them the door stays shut, and the system's own queue fills.
 */
#include <poll.h>

#include "runtime/net/tcp.h"

#define LOBBY_SEATS 64
#define LOBBY_SHARE 8
#define LOBBY_QUEUE 256
#define LOBBY_GREETING 5 /* seconds */

struct lobby;
/* Borrows l. tls: what a first message looks like. seconds: time-out of the endpoints. */
int lobby_open(struct tcp_listener *l, bool tls, double seconds, struct lobby **out) MUST_CHECK;
void lobby_close(struct lobby *b); /* and everybody in it; NULL is fine */
void lobby_shut(struct lobby *b);  /* lets nobody in from now on */

#define LOBBY_POLLS (LOBBY_SEATS + 1)
/* What to poll for; returns how many of LOBBY_POLLS. *ms: lowered to when lobby_look has work anyway. */
int lobby_polls(const struct lobby *b, struct pollfd p[LOBBY_POLLS], int *ms);
/* Lets in who is at the door, looks at all who have not finished their greeting. Does not wait. */
int lobby_look(struct lobby *b) MUST_CHECK;
int lobby_waiting(const struct lobby *b); /* how many have greeted */
/* Seconds that the one has waited who waits longest; 0 if nobody does. */
double lobby_longest(const struct lobby *b);
/* How many clients of that address are being served. */
typedef int lobby_served(void *ctx, const uint8_t source[TCP_SOURCE]);
/* Who is next; the endpoint is the caller's. NULL: nobody waits. */
struct tcp *lobby_next(struct lobby *b, lobby_served *served, void *ctx);
/* Who waits longest, whatever the address. NULL: nobody waits. */
struct tcp *lobby_oldest(struct lobby *b);
struct lobby_totals {
    int64_t clients; /* that greeted */
    int64_t silent;  /* that said nothing in time, or made way */
    int64_t shut;    /* times that descriptors or memory were short */
};
struct lobby_totals lobby_totals(const struct lobby *b);
#endif
