#ifndef RUNTIME_NET_TCP_H
#define RUNTIME_NET_TCP_H
/*
 * TCP as a transport, and the addresses of the commands. The only file that opens sockets.
 *
 * Deadlines: a send or recv of n bytes fails with ERR_NET after the time-out plus n / TCP_MIN_RATE
 * seconds, however slowly bytes trickle; all of them together once they have waited as long as tcp_limit
 * allows. Small sends are collected; a recv or a flush lets them go. A send that waits for the peer to read keeps
 * up to TCP_INBOX bytes of what the peer sends meanwhile.
 * SIGPIPE is never raised.
 */
#include <stdbool.h>
#include <stddef.h>

#include "runtime/net/transport.h"

#define TCP_INBOX ((size_t)16 << 20)
#define TCP_MIN_RATE 65536 /* bytes a second that a peer must manage */

struct tcp_address {
    char host[256];
    char port[8];
};
/* "HOST:PORT", "[::1]:PORT", ":PORT" (all interfaces). ERR_ARG. */
int tcp_address_parse(const char *text, struct tcp_address *out) MUST_CHECK;
/* Whether every address that the host stands for is this machine alone. ERR_NET if it is unknown. */
int tcp_address_is_loopback(const struct tcp_address *a, bool *loopback) MUST_CHECK;

struct tcp_listener;
int tcp_listen(const struct tcp_address *a, struct tcp_listener **out) MUST_CHECK;
#define TCP_TEXT 80
/* Where a listening socket is bound, "127.0.0.1:7000", "[::1]:7000". ERR_NET. */
int tcp_bound(int fd, char text[TCP_TEXT]) MUST_CHECK;
/* A listening socket that somebody else opened (socket activation); closed with the listener. */
int tcp_listener_adopt(int fd, struct tcp_listener **out) MUST_CHECK;
int tcp_listener_port(const struct tcp_listener *l);
void tcp_listener_close(struct tcp_listener *l); /* NULL is fine */

/* An endpoint: the socket under a transport. stop may be NULL; where it turns true a wait for a
 * client or a request ends with ERR_INTERRUPTED, never a message that has begun. */
struct tcp;
typedef bool tcp_stop(void *ctx);
int tcp_accept(struct tcp_listener *l, double seconds, tcp_stop *stop, void *ctx,
               struct tcp **out) MUST_CHECK;
/* The same without waiting: *out is NULL where nobody is there. 1: somebody is, but this process or the
 * system has no descriptor or memory left for now. */
int tcp_accept_now(struct tcp_listener *l, double seconds, struct tcp **out) MUST_CHECK;
int tcp_connect(const struct tcp_address *a, double seconds, struct tcp **out) MUST_CHECK;
/* A connected stream socket of the caller, who closes it; its flags stay as they are. */
int tcp_borrow(int fd, double seconds, struct tcp **out) MUST_CHECK;
void tcp_close(struct tcp *s); /* NULL is fine */
bool tcp_peer_is_loopback(const struct tcp *s);
/* Where the peer is, for sharing out between peers: its address without the port, of IPv6 the network
 * of 64 bits. */
#define TCP_SOURCE 16
void tcp_source(const struct tcp *s, uint8_t source[TCP_SOURCE]);
/* Whether the peer has closed the connection; tls.c tells of its own kind of goodbye. */
bool tcp_closed(const struct tcp *s);
void tcp_note_closed(struct tcp *s);
bool tcp_heard(const struct tcp *s); /* whether the peer has sent anything that was read */
/* The first bytes that have arrived, which stay where they are: *n of at most max, 0: none yet.
 * ERR_PEER: it closed and nothing is there. */
int tcp_peek(struct tcp *s, void *bytes, size_t max, size_t *n) MUST_CHECK;
const char *tcp_peer(const struct tcp *s);           /* "127.0.0.1:4711" for messages */
void tcp_set_timeout(struct tcp *s, double seconds); /* from the next message on */
void tcp_limit(struct tcp *s, double seconds); /* transport_limit, also for the handshake of TLS */
/* For poll. */
int tcp_fd(const struct tcp *s);
int tcp_listener_fd(const struct tcp_listener *l);
/* The transport takes the endpoint over: closing one closes the other. */
void tcp_transport(struct tcp *s, struct transport *out);
/* Waits until the first byte of a message is there; ERR_PEER if the peer closed instead. */
int tcp_wait(struct tcp *s, tcp_stop *stop, void *ctx) MUST_CHECK;

/* For tls.c: one piece of work on the socket, without waiting. *n: what was moved, 0: would block.
 * tcp_read: ERR_PEER at the end of the stream. */
int tcp_read(struct tcp *s, void *bytes, size_t max, size_t *n) MUST_CHECK;
int tcp_write(struct tcp *s, const void *bytes, size_t max, size_t *n) MUST_CHECK;
/* Waits until readable or writable; ERR_NET once cpu_seconds() passes the deadline. */
int tcp_ready(struct tcp *s, bool to_write, double deadline) MUST_CHECK;
double tcp_deadline(const struct tcp *s, size_t n);
#endif
