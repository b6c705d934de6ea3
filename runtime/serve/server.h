#ifndef RUNTIME_SERVE_SERVER_H
#define RUNTIME_SERVE_SERVER_H
/*
 * A server for one package.
 *
 * One process accepts, one more for each client serves it (worker.h). Who has not greeted waits in the
 * lobby (lobby.h) and costs a descriptor. Who has gets a process: SERVER_CROWD times `workers` of
 * them, most of which wait for their clients. `workers` images or lots are worked on at the same time; the
 * requests beyond that wait here, and the next one is of the client that has fewest in work, queries before
 * preparations, of which there are at most half as many. A client is its certificate, else its address.
 *
 * Where another client waits and all processes are taken, the one that has sent no request for longest makes
 * way: after SERVER_HASTE seconds if it never has, after SERVER_PATIENCE if it has. Who would wait longer
 * than SERVER_BUSY is told that the server is busy. One client never holds all the places: a quarter is for
 * the others.
 *
 * A process that is at work on a request for longer than `most` an image is stuck, whatever in; it is killed.
 *
 * Each client has a budget (ledger.h), charged before a request begins. What a client does wrong, or what kills
 * the process that serves it, is an event and no failure of the server. Once `stop` says so nobody is let in,
 * requests that are being answered get SERVER_FINISH seconds, preparations SERVER_FINISH_OFFLINE.
 */
#include "runtime/net/tls.h"
#include "runtime/party/party.h"
#include "runtime/serve/ledger.h"

#define SERVER_GREETING 5
#define SERVER_PATIENCE 5
#define SERVER_HASTE 1
#define SERVER_BUSY 15
#define SERVER_CROWD 4
#define SERVER_FINISH 30
#define SERVER_FINISH_OFFLINE 3

/* A line of the log. Never an image, a logit, a label or a key. */
struct server_event {
    const char *name;   /* "query", "prepare", "left", "failed", "refused", "crashed", "strike",
                         * "stopping" */
    const char *client; /* address, and who it is by its certificate */
    const char *text;   /* why, or "" */
    int64_t images;
    double seconds;
};
struct server_options {         /* all borrowed until server_close */
    struct party_options party; /* server_open creates and sweeps the folder of bundles */
    struct tcp_address address;
    int inherited;        /* a socket that listens already, instead of address; 0: none */
    struct tls_files tls; /* no certificate: plain, with a tally; ca: of clients */
    double seconds;       /* longest silence of a client */
    double
        most; /* seconds of an image of a request in all, waiting and work of its process: then that
                           * is killed; 0: no end */
    int64_t workers;     /* images or lots at a time */
    int64_t max_queries; /* of images begun, answered or not; below 0: no end */
    struct ledger_rules budget;
    const char *ledger;                /* its file; NULL: forgotten when the server ends */
    const struct tcp_address *metrics; /* where counters can be read (metrics.h); NULL: nowhere */
    bool (*stop)(void *ctx);
    void (*event)(void *ctx, const struct server_event *e);
    void *ctx;
};

/* Seconds of phases are also counted by how long they were: below 2^(i - SERVER_FAST) s for i = 0 ... */
#define SERVER_BUCKETS 16
#define SERVER_FAST 8
struct server_totals { /* of all connections */
    int64_t clients, failed, silent, crashed, queries, prepared, begun,
        lost;                             /* lost: not answered */
    int64_t busy, spent, banned, strikes; /* refusals */
    double seconds;
    struct cost_count phase[PHASES];
    int64_t spread[PHASES][SERVER_BUCKETS + 1]; /* last: longer */
    int64_t requests[PHASES];                   /* that had the phase */
};
struct server_state { /* now */
    int64_t lobby, greeting, idle, waiting, query, prepare;
};
struct server;
/* Listens. ERR_DATA: the folder of the dealer is not there. */
int server_open(const struct server_options *o, struct server **out) MUST_CHECK;
int server_port(const struct server *s);
int server_metrics_port(const struct server *s); /* 0: none */
/* What clients may pin; NULL without TLS. */
const struct tls_context *server_tls(const struct server *s);
/* Until max_queries or stop. Forks; the caller has run no parallel region before. What a client does
 * wrong is no failure; ERR_NET of the sockets that listen is. */
int server_run(struct server *s) MUST_CHECK;
struct server_totals server_totals(const struct server *s);
struct server_state server_state(const struct server *s);
void server_close(struct server *s); /* NULL is fine */
FREE_AT(server_close, struct server)
#endif
