/*
 * TLS (tls.h). OpenSSL reads and writes through a BIO of ours on top of tcp_read and tcp_write, so
 * that deadlines and sockets stay in tcp.c.
 */
#include "runtime/net/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "core/base/mem.h"

#define OUT_BYTES ((size_t)1 << 16)

struct tls_context {
    SSL_CTX *ctx;
    BIO_METHOD *method;
    bool server, pinned;
    uint8_t pin[SHA256_SIZE];
};
struct tls {
    struct tcp *tcp;
    SSL *ssl;
    int net_rc; /* what the socket said under OpenSSL's feet */
    size_t out_used;
    uint8_t out[OUT_BYTES];
};

/* What an alert of the other side says about this side's certificate; NULL: it is about something else. */
static const char *own_refused(unsigned long e)
{
    switch (ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0) {
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "it wants one, and got none";
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
        return "no authority that it trusts has signed it";
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
        return "it has expired";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
        return "it cannot be used";
    default:
        return NULL;
    }
}

/* The oldest reason in OpenSSL's queue, which is then empty. */
static int fail_ssl(int code, const char *what)
{
    unsigned long e = ERR_get_error();
    const char *refused = own_refused(e);
    const char *reason = ERR_SYSTEM_ERROR(e) ? strerror(ERR_GET_REASON(e))
                         : e == 0            ? NULL
                                             : ERR_reason_error_string(e);

    ERR_clear_error();
    if (refused != NULL)
        return fail(code, "TLS: the other side refuses this side's certificate: %s", refused);
    return fail(code, "TLS: %s: %s", what, reason == NULL ? "refused" : reason);
}

/* ---- BIO over tcp ------------------------------------------------------------------------- */

static int bio_read(BIO *b, char *to, size_t max, size_t *n)
{
    struct tls *t = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    t->net_rc = tcp_read(t->tcp, to, max, n);
    if (t->net_rc == 0 && *n == 0)
        BIO_set_retry_read(b);
    return *n > 0;
}

static int bio_write(BIO *b, const char *from, size_t len, size_t *n)
{
    struct tls *t = BIO_get_data(b);

    BIO_clear_retry_flags(b);
    t->net_rc = tcp_write(t->tcp, from, len, n);
    if (t->net_rc == 0 && *n == 0)
        BIO_set_retry_write(b);
    return *n > 0;
}

static long bio_ctrl(BIO *b, int cmd, long number, void *pointer)
{
    (void)b;
    (void)number;
    (void)pointer;
    return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "linnet tcp");

    if (m != NULL && (!BIO_meth_set_read_ex(m, bio_read) || !BIO_meth_set_write_ex(m, bio_write) ||
                      !BIO_meth_set_ctrl(m, bio_ctrl))) {
        BIO_meth_free(m);
        return NULL;
    }
    return m;
}

/* ---- contexts ----------------------------------------------------------------------------- */

static int context_new(bool server, struct tls_context **out)
{
    SCOPED(tls_context_free_at) struct tls_context *c = mem_array(1, sizeof *c);

    if (c == NULL)
        return ERR_NOMEM;
    c->server = server;
    c->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    c->method = bio_method();
    if (c->ctx == NULL || c->method == NULL ||
        !SSL_CTX_set_min_proto_version(c->ctx, TLS1_3_VERSION))
        return fail_ssl(ERR_NOMEM, "context");
    SSL_CTX_set_mode(c->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_num_tickets(c->ctx, 0); /* no resumption: every connection has fresh keys */
    *out = mem_hand_on(&c);
    return 0;
}

static int load_own(struct tls_context *c, const struct tls_files *f)
{
    if (SSL_CTX_use_certificate_chain_file(c->ctx, f->cert) != 1)
        return fail_context(fail_ssl(ERR_ARG, "certificate"), "'%s'", f->cert);
    if (SSL_CTX_use_PrivateKey_file(c->ctx, f->key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(c->ctx) != 1)
        return fail_context(fail_ssl(ERR_ARG, "private key"), "'%s'", f->key);
    return 0;
}

static int load_trusted(struct tls_context *c, const struct tls_files *f)
{
    int mode = SSL_VERIFY_PEER | (c->server ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    STACK_OF(X509_NAME) *names = NULL;

    if (SSL_CTX_load_verify_locations(c->ctx, f->ca, NULL) != 1 ||
        (c->server && (names = SSL_load_client_CA_file(f->ca)) == NULL))
        return fail_context(fail_ssl(ERR_ARG, "trusted certificates"), "'%s'", f->ca);
    SSL_CTX_set_client_CA_list(c->ctx, names); /* takes them over */
    SSL_CTX_set_verify(c->ctx, mode, NULL);
    return 0;
}

static int context_load(bool server, const struct tls_files *f, struct tls_context **out)
{
    SCOPED(tls_context_free_at) struct tls_context *c = NULL;

    TRY(context_new(server, &c));
    if (f->cert != NULL)
        TRY(load_own(c, f));
    if (f->ca != NULL)
        TRY(load_trusted(c, f));
    if ((c->pinned = f->pin != NULL))
        memcpy(c->pin, f->pin, sizeof c->pin);
    *out = mem_hand_on(&c);
    return 0;
}

int tls_server(const struct tls_files *f, struct tls_context **out)
{
    return context_load(true, f, out);
}

int tls_client(const struct tls_files *f, struct tls_context **out)
{
    if (f->ca == NULL && f->pin == NULL)
        return fail(ERR_ARG, "TLS: nothing to know the server by");
    return context_load(false, f, out);
}

/* SHA-256 of the subject public key, in DER. */
static int key_hash(const X509 *cert, uint8_t identity[SHA256_SIZE])
{
    uint8_t *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der), rc;

    if (n <= 0)
        return fail_ssl(ERR_PEER, "public key");
    rc = sha256_bytes(der, (size_t)n, identity);
    OPENSSL_free(der);
    return rc;
}

int tls_identity(const struct tls_context *c, uint8_t identity[SHA256_SIZE])
{
    const X509 *own = SSL_CTX_get0_certificate(c->ctx);

    return own == NULL ? fail(ERR_ARG, "TLS: no certificate") : key_hash(own, identity);
}

void tls_context_free(struct tls_context *c)
{
    if (c == NULL)
        return;
    SSL_CTX_free(c->ctx);
    BIO_meth_free(c->method);
    mem_free(c);
}

/* ---- bytes -------------------------------------------------------------------------------- */

/* After an operation that moved nothing: waits for the socket, or says why there is no hope. */
static int wait_or_fail(struct tls *t, int result, double deadline, const char *what)
{
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return tcp_ready(t->tcp, false, deadline);
    case SSL_ERROR_WANT_WRITE:
        return tcp_ready(t->tcp, true, deadline);
    case SSL_ERROR_ZERO_RETURN:
        tcp_note_closed(t->tcp);
        return fail(ERR_PEER, "%s closed the connection", tcp_peer(t->tcp));
    default:
        if (t->net_rc == 0)
            return fail_ssl(ERR_PEER, what);
        ERR_clear_error();
        return t->net_rc;
    }
}

/* Who is gone may have said why: with TLS 1.3 a server looks at its client's certificate when the client already
 * writes. */
static int fail_write(struct tls *t, int rc)
{
    uint8_t byte;
    size_t got;

    if (!tcp_closed(t->tcp) || SSL_peek_ex(t->ssl, &byte, 1, &got) ||
        own_refused(ERR_peek_error()) == NULL) {
        ERR_clear_error();
        return rc;
    }
    return fail_ssl(rc, "write");
}

static int tls_write_all(struct tls *t, const uint8_t *bytes, size_t n)
{
    double deadline = tcp_deadline(t->tcp, n);

    while (n > 0) {
        size_t put = 0;
        int ok = SSL_write_ex(t->ssl, bytes, n, &put), rc;
        if (!ok && (rc = wait_or_fail(t, ok, deadline, "write")) < 0)
            return fail_write(t, rc);
        bytes += put;
        n -= put;
    }
    return 0;
}

static int tls_flush(void *ctx)
{
    struct tls *t = ctx;
    size_t n = t->out_used;

    t->out_used = 0;
    return n == 0 ? 0 : tls_write_all(t, t->out, n);
}

static int tls_send(void *ctx, const void *bytes, size_t n)
{
    struct tls *t = ctx;

    if (n > OUT_BYTES - t->out_used)
        TRY(tls_flush(t));
    if (n >= OUT_BYTES)
        return tls_write_all(t, bytes, n);
    memcpy(t->out + t->out_used, bytes, n);
    t->out_used += n;
    return 0;
}

static int tls_recv(void *ctx, void *bytes, size_t n)
{
    struct tls *t = ctx;
    uint8_t *to = bytes;
    double deadline = tcp_deadline(t->tcp, n);

    while (n > 0) {
        size_t got = 0;
        int ok = SSL_read_ex(t->ssl, to, n, &got);
        if (!ok)
            TRY(wait_or_fail(t, ok, deadline, "read"));
        to += got;
        n -= got;
    }
    return 0;
}

static void tls_close(void *ctx)
{
    struct tls *t = ctx;

    (void)SSL_shutdown(t->ssl); /* says goodbye if it can without waiting */
    ERR_clear_error();
    SSL_free(t->ssl);
    tcp_close(t->tcp);
    mem_free(t);
}

static void tls_limit(void *ctx, double seconds)
{
    tcp_limit(((struct tls *)ctx)->tcp, seconds);
}

int tls_wait(struct transport *transport, tcp_stop *stop, void *ctx)
{
    struct tls *t = transport->ctx;

    TRY(transport_flush(transport));
    return SSL_has_pending(t->ssl) ? 0 : tcp_wait(t->tcp, stop, ctx);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int expect_host(SSL *ssl, const char *host)
{
    X509_VERIFY_PARAM *p = SSL_get0_param(ssl);

    if (X509_VERIFY_PARAM_set1_ip_asc(p, host) == 1)
        return 0;
    ERR_clear_error();
    if (X509_VERIFY_PARAM_set1_host(p, host, 0) != 1 || SSL_set_tlsext_host_name(ssl, host) != 1)
        return fail_ssl(ERR_ARG, "host name");
    return 0;
}

/* Two cases whose cause OpenSSL's own words hide. */
static int fail_handshake(const struct tls_context *c, const struct tls *t)
{
    int reason = ERR_GET_REASON(ERR_peek_error());
    long verified = SSL_get_verify_result(t->ssl);

    if (verified == X509_V_OK && reason != SSL_R_WRONG_VERSION_NUMBER)
        return fail_ssl(ERR_PEER, "handshake");
    ERR_clear_error();
    if (verified == X509_V_OK)
        return fail(ERR_PEER, "TLS: handshake: the other side does not speak TLS");
    return fail(ERR_PEER, "TLS: the %s's certificate is refused: %s",
                c->server ? "client" : "server", X509_verify_cert_error_string(verified));
}

static int handshake(const struct tls_context *c, struct tls *t)
{
    double deadline = tcp_deadline(t->tcp, 0);

    for (;;) {
        int ok = SSL_do_handshake(t->ssl), e;
        if (ok == 1)
            return 0;
        e = SSL_get_error(t->ssl, ok);
        if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE && t->net_rc == 0)
            return fail_handshake(c, t);
        TRY(wait_or_fail(t, ok, deadline, "handshake"));
    }
}

static int peer_of(SSL *ssl, uint8_t identity[SHA256_SIZE], bool *known)
{
    X509 *cert = SSL_get1_peer_certificate(ssl);
    int rc;

    if (!(*known = cert != NULL))
        return 0;
    rc = key_hash(cert, identity);
    X509_free(cert);
    return rc;
}

int tls_peer(const struct transport *transport, uint8_t identity[SHA256_SIZE], bool *known)
{
    return peer_of(((struct tls *)transport->ctx)->ssl, identity, known);
}

/* Before anything but the handshake has been sent. */
static int check_pin(const struct tls_context *c, SSL *ssl)
{
    uint8_t identity[SHA256_SIZE];
    char hex[SHA256_HEX];
    bool known;

    if (!c->pinned)
        return 0;
    TRY(peer_of(ssl, identity, &known));
    if (known && memcmp(identity, c->pin, sizeof identity) == 0)
        return 0;
    return fail(ERR_PEER, "TLS: the server's key is not the pinned one but %s",
                known ? sha256_hex(identity, hex) : "none");
}

static void session_free(struct tls *t)
{
    if (t != NULL)
        SSL_free(t->ssl);
    mem_free(t);
}
FREE_AT(session_free, struct tls)

static int session_new(struct tls_context *c, struct tcp *s, struct tls **out)
{
    SCOPED(session_free_at) struct tls *t = mem_array(1, sizeof *t);
    BIO *bio;

    if (t == NULL)
        return ERR_NOMEM;
    t->tcp = s;
    t->ssl = SSL_new(c->ctx);
    bio = t->ssl == NULL ? NULL : BIO_new(c->method);
    if (bio == NULL)
        return fail_ssl(ERR_NOMEM, "session");
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    *out = mem_hand_on(&t);
    return 0;
}

int tls_transport(struct tls_context *c, struct tcp *s, const char *host, struct transport *out)
{
    SCOPED(session_free_at) struct tls *t = NULL;

    TRY(session_new(c, s, &t));
    if (c->server) {
        SSL_set_accept_state(t->ssl);
    } else {
        SSL_set_connect_state(t->ssl);
        TRY(expect_host(t->ssl, host));
    }
    TRY(handshake(c, t));
    TRY(check_pin(c, t->ssl));
    *out = (struct transport){.send = tls_send,
                              .recv = tls_recv,
                              .flush = tls_flush,
                              .close = tls_close,
                              .limit = tls_limit,
                              .ctx = mem_hand_on(&t)};
    return 0;
}
