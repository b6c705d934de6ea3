#ifndef RUNTIME_NET_TLS_H
#define RUNTIME_NET_TLS_H
/*
 * TLS 1.3 over a TCP endpoint, by OpenSSL; nothing older is spoken. The client checks the server's
 * certificate against the given authorities and the host it asked for, or the server's key against a pin, or
 * both. A server with authorities for clients lets nobody in without a certificate of theirs.
 *
 * A party's identity is SHA-256 of its subject public key (DER): the certificate may be renewed, the
 * key stays.
 */
#include "core/base/sha256.h"
#include "runtime/net/tcp.h"

struct tls_context;
struct tls_files {          /* PEM; NULL: none */
    const char *cert, *key; /* own chain and its key: a server must have them */
    const char *ca;         /* trusted certificates for the other side */
    const uint8_t *pin;     /* client: what the server's identity must be (32 bytes) */
};
/* ERR_ARG names the file. A client needs ca or pin; with the pin alone host and dates do not matter. */
int tls_server(const struct tls_files *f, struct tls_context **out) MUST_CHECK;
int tls_client(const struct tls_files *f, struct tls_context **out) MUST_CHECK;
/* Of a context with a certificate: what others would pin. */
int tls_identity(const struct tls_context *c, uint8_t identity[SHA256_SIZE]) MUST_CHECK;
void tls_context_free(struct tls_context *c); /* NULL is fine */
FREE_AT(tls_context_free, struct tls_context)

/* Handshake. host: what the certificate must name, NULL on the server. On success the transport owns
 * the endpoint; on failure it is still the caller's. */
int tls_transport(struct tls_context *c, struct tcp *s, const char *host,
                  struct transport *out) MUST_CHECK;
/* Who is at the other end of a transport made here; *known is false where it showed no certificate. */
int tls_peer(const struct transport *t, uint8_t identity[SHA256_SIZE], bool *known) MUST_CHECK;
/* As tcp_wait, for a transport made here. */
int tls_wait(struct transport *t, tcp_stop *stop, void *ctx) MUST_CHECK;
#endif
