/*
 * TLS: who gets through the handshake, and who does not. The certificates are made here: two authorities,
 * and leaves that are right, expired, for another host, or of the wrong authority.
 */
#include "runtime/net/tls.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "tests/scratch.h"

#define DAY 86400L

struct paper { /* a certificate, its key, and their files */
    X509 *cert;
    EVP_PKEY *key;
    char cert_file[2 * SCRATCH_TEXT], key_file[2 * SCRATCH_TEXT];
};
struct office {
    char dir[SCRATCH_TEXT];
    struct paper ca, other_ca, server, expired, elsewhere, strange, client, strange_client;
};

static void extend(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(e);
    assert_int_equal(X509_add_ext(cert, e, -1), 1);
    X509_EXTENSION_free(e);
}

static void save(const struct office *o, struct paper *p, const char *name)
{
    FILE *f;

    snprintf(p->cert_file, sizeof p->cert_file, "%s/%s.pem", o->dir, name);
    snprintf(p->key_file, sizeof p->key_file, "%s/%s.key", o->dir, name);
    assert_non_null(f = fopen(p->cert_file, "w"));
    assert_int_equal(PEM_write_X509(f, p->cert), 1);
    fclose(f);
    assert_non_null(f = fopen(p->key_file, "w"));
    assert_int_equal(PEM_write_PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
}

/* by NULL: signs itself, an authority. host: subject alternative name, NULL for clients. */
static void issue(const struct office *o, struct paper *p, const char *name, const struct paper *by,
                  const char *host, long from, long until)
{
    X509_NAME *subject;
    X509 *cert = X509_new();

    assert_non_null(cert);
    assert_non_null(p->key = EVP_EC_gen("P-256"));
    assert_int_equal(X509_set_version(cert, 2), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), (long)strlen(name));
    X509_gmtime_adj(X509_getm_notBefore(cert), from);
    X509_gmtime_adj(X509_getm_notAfter(cert), until);
    subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0);
    X509_set_issuer_name(cert, by == NULL ? subject : X509_get_subject_name(by->cert));
    X509_set_pubkey(cert, p->key);
    extend(cert, NID_basic_constraints, by == NULL ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (host != NULL)
        extend(cert, NID_subject_alt_name, host);
    assert_true(X509_sign(cert, by == NULL ? p->key : by->key, EVP_sha256()) > 0);
    p->cert = cert;
    save(o, p, name);
}

static int open_office(void **state)
{
    static struct office o;

    scratch_open(o.dir);
    issue(&o, &o.ca, "ca", NULL, NULL, -DAY, DAY);
    issue(&o, &o.other_ca, "other-ca", NULL, NULL, -DAY, DAY);
    issue(&o, &o.server, "server", &o.ca, "IP:127.0.0.1", -DAY, DAY);
    issue(&o, &o.expired, "expired", &o.ca, "IP:127.0.0.1", -2 * DAY, -DAY);
    issue(&o, &o.elsewhere, "elsewhere", &o.ca, "DNS:elsewhere", -DAY, DAY);
    issue(&o, &o.strange, "strange", &o.other_ca, "IP:127.0.0.1", -DAY, DAY);
    issue(&o, &o.client, "client", &o.ca, NULL, -DAY, DAY);
    issue(&o, &o.strange_client, "strange-client", &o.other_ca, NULL, -DAY, DAY);
    *state = &o;
    return 0;
}

static int close_office(void **state)
{
    struct office *o = *state;
    struct paper *all[] = {&o->ca,        &o->other_ca, &o->server, &o->expired,
                           &o->elsewhere, &o->strange,  &o->client, &o->strange_client};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        X509_free(all[i]->cert);
        EVP_PKEY_free(all[i]->key);
    }
    scratch_close(o->dir);
    return 0;
}

/* ---- one connection ------------------------------------------------------------------------- */

struct end {
    const struct tls_files *files;
    struct tcp_listener *listener;
    int rc;
    char why[256]; /* its message */
    uint8_t got, identity[SHA256_SIZE];
    bool known;
};

/* Accepts one client, and answers its byte with the next one. */
static bool shouts; /* both sides send all they have before they listen */

#define SHOUT ((size_t)12 << 20)

static int shout(struct transport *t)
{
    uint8_t *bytes = mem_array(SHOUT, 1);
    int rc = bytes == NULL ? ERR_NOMEM : 0;

    if (rc == 0) {
        memset(bytes, 42, SHOUT);
        if ((rc = transport_send(t, bytes, SHOUT)) == 0) {
            memset(bytes, 0, SHOUT);
            rc = transport_recv(t, bytes, SHOUT);
        }
    }
    for (size_t i = 0; i < SHOUT && rc == 0; i++)
        rc = bytes[i] == 42 ? 0 : ERR_VERIFY;
    mem_free(bytes);
    return rc;
}

static void *serve(void *arg)
{
    struct end *e = arg;
    struct tls_context *c = NULL;
    struct tcp *s = NULL;
    struct transport t = {0};

    if ((e->rc = tls_server(e->files, &c)) == 0 &&
        (e->rc = tcp_accept(e->listener, 5, NULL, NULL, &s)) == 0) {
        if ((e->rc = tls_transport(c, s, NULL, &t)) < 0)
            tcp_close(s);
        else if (shouts)
            e->rc = shout(&t);
        else if ((e->rc = tls_peer(&t, e->identity, &e->known)) == 0 &&
                 (e->rc = transport_recv(&t, &e->got, 1)) == 0) {
            uint8_t next = (uint8_t)(e->got + 1);
            if ((e->rc = transport_send(&t, &next, 1)) == 0)
                e->rc = transport_flush(&t);
        }
    }
    snprintf(e->why, sizeof e->why, "%s", e->rc < 0 ? err_message() : "");
    transport_close(&t);
    tls_context_free(c);
    return NULL;
}

/* Writes until it is told not to. */
static int write_on(struct transport *t)
{
    const uint8_t byte = 41;
    int rc = 0;

    for (int i = 0; i < 500 && rc == 0; i++) {
        if ((rc = transport_send(t, &byte, 1)) == 0)
            rc = transport_flush(t);
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return rc;
}

static bool writes_on;

static int ask(struct tls_context *c, const struct tcp_address *at)
{
    struct transport t = {0};
    struct tcp *s = NULL;
    uint8_t byte = 41;
    int rc;

    if ((rc = tcp_connect(at, 5, &s)) < 0)
        return rc;
    if ((rc = tls_transport(c, s, at->host, &t)) < 0) {
        tcp_close(s);
        return rc;
    }
    if (writes_on)
        rc = write_on(&t);
    else if (shouts)
        rc = shout(&t);
    else if ((rc = transport_send(&t, &byte, 1)) == 0 && (rc = transport_recv(&t, &byte, 1)) == 0)
        assert_int_equal(byte, 42);
    transport_close(&t);
    return rc;
}

/* The client's result; its message is err_message() of this thread. */
static int meet(const struct tls_files *server, const struct tls_files *client, struct end *e)
{
    struct tcp_address at;
    struct tls_context *c = NULL;
    pthread_t thread;
    int rc;

    *e = (struct end){.files = server};
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    assert_int_equal(tcp_listen(&at, &e->listener), 0);
    snprintf(at.port, sizeof at.port, "%d", tcp_listener_port(e->listener));
    assert_int_equal(tls_client(client, &c), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, e), 0);
    rc = ask(c, &at);
    assert_int_equal(pthread_join(thread, NULL), 0);
    tcp_listener_close(e->listener);
    tls_context_free(c);
    return rc;
}

static struct tls_files own(const struct paper *p)
{
    return (struct tls_files){.cert = p->cert_file, .key = p->key_file};
}

/* The client, in its own words; with TLS 1.3 it has the server's alert after its handshake. */
static void hears_why(const char *why)
{
    if (strstr(err_message(), "refuses this side's certificate") == NULL ||
        strstr(err_message(), why) == NULL)
        fail_msg("'%s' does not say '%s'", err_message(), why);
}

/* A server that refuses says why. */
static void refused(const struct tls_files *server, const struct tls_files *client, const char *why)
{
    struct end e;

    assert_int_equal(meet(server, client, &e), ERR_PEER);
    assert_true(e.rc < 0);
    if (strstr(server->ca == NULL ? err_message() : e.why, why) == NULL)
        fail_msg("neither '%s' nor '%s' says '%s'", err_message(), e.why, why);
    assert_int_equal(e.got, 0); /* not a byte of a client that refused or was refused */
}

static void test_certificates_of_servers(void **state)
{
    struct office *o = *state;
    struct tls_files trust = {.ca = o->ca.cert_file}, server = own(&o->server);
    struct end e;

    assert_int_equal(meet(&server, &trust, &e), 0);
    assert_true(e.rc == 0 && e.got == 41 && !e.known);
    server = own(&o->expired);
    refused(&server, &trust, "expired");
    server = own(&o->elsewhere);
    refused(&server, &trust, "IP address mismatch");
    server = own(&o->strange);
    refused(&server, &trust, "local issuer");
}

static void identity_of(const struct paper *p, uint8_t identity[SHA256_SIZE])
{
    struct tls_files f = own(p);
    struct tls_context *c = NULL;

    assert_int_equal(tls_server(&f, &c), 0);
    assert_int_equal(tls_identity(c, identity), 0);
    tls_context_free(c);
}

/* The same number by another way: the key, not the certificate. */
static void test_identity_is_that_of_the_key(void **state)
{
    struct office *o = *state;
    uint8_t identity[SHA256_SIZE], expected[SHA256_SIZE], *der = NULL;
    int n = i2d_PUBKEY(o->server.key, &der);

    assert_true(n > 0);
    assert_int_equal(sha256_bytes(der, (size_t)n, expected), 0);
    OPENSSL_free(der);
    identity_of(&o->server, identity);
    assert_memory_equal(identity, expected, SHA256_SIZE);
}

static void test_pins(void **state)
{
    struct office *o = *state;
    struct tls_files server = own(&o->server), strange = own(&o->strange);
    uint8_t right[SHA256_SIZE], wrong[SHA256_SIZE];
    struct tls_files both = {.ca = o->ca.cert_file, .pin = right}, pin = {.pin = right};
    struct tls_files none = {0};
    struct tls_context *c = NULL;
    struct end e;

    identity_of(&o->server, right);
    memcpy(wrong, right, sizeof wrong);
    wrong[31] ^= 1;
    assert_int_equal(meet(&server, &both, &e), 0);
    assert_int_equal(meet(&server, &pin, &e), 0);
    both.pin = pin.pin = wrong;
    refused(&server, &both, "not the pinned one");
    refused(&server, &pin, "not the pinned one");
    refused(&strange, &pin, "not the pinned one");
    identity_of(&o->strange, right); /* the pin fits, the authority does not: both must */
    both.pin = right;
    refused(&strange, &both, "local issuer");
    assert_int_equal(tls_client(&none, &c), ERR_ARG);
}

static void test_both_sides_may_send_at_once(void **state)
{
    const struct office *o = *state;
    struct tls_files server = own(&o->server), client = {.ca = o->ca.cert_file};
    struct end e;

    shouts = true;
    assert_int_equal(meet(&server, &client, &e), 0);
    assert_int_equal(e.rc, 0);
    shouts = false;
}

static void test_certificates_of_clients(void **state)
{
    struct office *o = *state;
    struct tls_files server = own(&o->server), client = own(&o->client);
    struct end e;
    uint8_t expected[SHA256_SIZE];

    server.ca = o->ca.cert_file;
    client.ca = o->ca.cert_file;
    assert_int_equal(meet(&server, &client, &e), 0);
    identity_of(&o->client, expected);
    assert_true(e.known);
    assert_memory_equal(e.identity, expected, SHA256_SIZE);
    client.cert = client.key = NULL;
    refused(&server, &client, "did not return a certificate");
    hears_why("it wants one");
    client.cert = o->strange_client.cert_file;
    client.key = o->strange_client.key_file;
    refused(&server, &client, "local issuer");
    hears_why("no authority that it trusts");
    writes_on = true; /* its own writes fail before it reads anything */
    refused(&server, &client, "local issuer");
    hears_why("no authority that it trusts");
    writes_on = false;
    client.cert = o->expired.cert_file;
    client.key = o->expired.key_file;
    refused(&server, &client, "client's certificate is refused: certificate has expired");
    hears_why("it has expired");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_certificates_of_servers),
        cmocka_unit_test(test_identity_is_that_of_the_key),
        cmocka_unit_test(test_pins),
        cmocka_unit_test(test_both_sides_may_send_at_once),
        cmocka_unit_test(test_certificates_of_clients),
    };

    return cmocka_run_group_tests(tests, open_office, close_office);
}
