#ifndef RUNTIME_NET_TLS_H
#define RUNTIME_NET_TLS_H
/*
 * TLS 1.3 over a TCP endpoint, by OpenSSL; nothing older is spoken. The client checks the server's
 * certificate against the given authorities and the host it asked for; clients have none.
 */
#include "runtime/net/tcp.h"

struct tls_context;
/* PEM files: certificate chain and its key. ERR_ARG names the file. */
int tls_server(const char *cert, const char *key, struct tls_context **out) MUST_CHECK;
/* PEM file of trusted certificates. */
int tls_client(const char *ca, struct tls_context **out) MUST_CHECK;
void tls_context_free(struct tls_context *c); /* NULL is fine */

/* Handshake. host: what the certificate must name, NULL on the server. On success the transport owns
 * the endpoint; on failure it is still the caller's. */
int tls_transport(struct tls_context *c, struct tcp *s, const char *host,
                  struct transport *out) MUST_CHECK;
/* As tcp_wait, for a transport made here. */
int tls_wait(struct transport *t, tcp_stop *stop, void *ctx) MUST_CHECK;
#endif
