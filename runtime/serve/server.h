#ifndef RUNTIME_SERVE_SERVER_H
#define RUNTIME_SERVE_SERVER_H
/*
 * A server for one package: answers one client after another.
 *
 * A client that breaks the protocol or falls silent loses its connection, and `note` hears of it; the
 * server goes on. Who has not sent anything waits in the lobby; a greeting that has begun must end
 * within SERVER_GREETING seconds; between two requests a client keeps its place for `seconds`, but only
 * for SERVER_PATIENCE while another one waits. Once `stop` says so the request that is being answered
 * is finished, then server_run returns.
 */
#include "runtime/net/tls.h"
#include "runtime/party/party.h"

#define SERVER_GREETING 5
#define SERVER_PATIENCE 5

struct server_options {         /* all borrowed until server_close */
    struct party_options party; /* server_open creates and sweeps the folder of bundles */
    struct tcp_address address;
    struct tls_files tls; /* no certificate: plain, with a tally; ca: of clients */
    double seconds;       /* longest silence of a client */
    int64_t max_queries;  /* of images begun, answered or not; below 0: no end */
    bool (*stop)(void *ctx);
    void (*note)(void *ctx, const char *text);
    void *ctx;
};
struct server_totals { /* of all connections */
    int64_t clients, failed, silent, queries, prepared, begun;
    double seconds;
    struct cost_count phase[PHASES];
};
struct server;
/* Listens. ERR_DATA: the folder of the dealer is not there. */
int server_open(const struct server_options *o, struct server **out) MUST_CHECK;
int server_port(const struct server *s);
/* What clients may pin; NULL without TLS. */
const struct tls_context *server_tls(const struct server *s);
/* Until max_queries or stop. What a client does wrong is no failure; ERR_NOMEM and ERR_IO are. */
int server_run(struct server *s) MUST_CHECK;
struct server_totals server_totals(const struct server *s);
void server_close(struct server *s); /* NULL is fine */
#endif
