/*
 * linnet-pi serve: answers queries, one client after another.
 *
 * A client that breaks the protocol or falls silent loses its connection, with a line on stderr; the
 * server goes on. Who has not sent anything waits in the lobby; a greeting that has begun must end
 * within GREETING seconds; between two requests a client keeps its place for --timeout seconds, but
 * only for PATIENCE while another one waits. SIGTERM and SIGINT let the request that is being answered
 * finish, then end the program with code 0.
 *
 * --json, at the end ("linnet.serve/1"): clients, queries, preparations, and phases in total.
 */
#include <string.h>
#include <sys/stat.h>

#include "cli/commands.h"
#include "cli/pi/net.h"
#include "cli/pi/report.h"
#include "core/base/cpu.h"
#include "runtime/model.h"
#include "runtime/serve/lobby.h"
#include "runtime/crypto/store.h"

#define GREETING 5
#define PATIENCE 5

static const struct cli_option options[] = {
    PI_NET_SERVER,
    {"max-queries", 0, CLI_INT, PI_NET_AT(max_queries), "N", "end after N answers", 1, 1e15},
    PI_NET_COMMON,
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    1,
    1,
    "Answers private queries: the client's image stays with the client, the weights stay here. Semi-honest security: both sides are trusted to follow the protocol. The program's shape, its scales and the positions of its ReLUs are public. With --dealer a third party must collude with neither side. One client is served at a time; one that says nothing for 5 seconds makes way for the next. --json: clients, queries, bytes and seconds of each phase, written at the end.",
    "linnet-pi serve out/model.pi -w out/model.pi.weights --listen 127.0.0.1:7000",
    options};

struct server {
    const struct cli_common *c;
    const struct pi_net_options *o;
    struct party_options party;
    struct tcp_listener *listener;
    struct lobby *lobby;
    struct tls_context *tls;
    struct link link;
    struct cost_count phase[PHASES]; /* of all connections */
    double start;
    int64_t queries, prepared, clients, failed;
};
struct connection {
    struct tcp *tcp;
    struct transport t, inner; /* inner: below an emulated link */
    bool tls, must_go;
    struct lobby *lobby;
    double idle_since;
};

static bool interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

/* Whether waiting for this client's next request has to end. */
static bool end_wait(void *ctx)
{
    struct connection *n = ctx;

    if (cli_interrupted())
        return true;
    if (cpu_seconds() - n->idle_since > PATIENCE)
        n->must_go = lobby_busy(n->lobby, &n->must_go) == 0 && n->must_go;
    return n->must_go;
}

static int wait_request(void *ctx)
{
    struct connection *n = ctx;
    int rc;

    n->idle_since = cpu_seconds();
    rc = n->tls ? tls_wait(&n->inner, end_wait, n) : tcp_wait(n->tcp, end_wait, n);
    return rc == ERR_INTERRUPTED && n->must_go
               ? fail(ERR_NET, "silent for %d s while another client waits", PATIENCE)
               : rc;
}

static bool enough(const struct server *s, const struct party *p)
{
    int64_t now = p == NULL ? 0 : party_account(p)->queries;

    return s->o->max_queries >= 0 && s->queries + now >= s->o->max_queries;
}

static void add_account(struct server *s, const struct account *a)
{
    s->queries += a->queries;
    s->prepared += a->prepared;
    for (int i = 0; i < PHASES; i++) {
        s->phase[i].sent += a->phase[i].sent;
        s->phase[i].received += a->phase[i].received;
        s->phase[i].flips += a->phase[i].flips;
        s->phase[i].seconds += a->phase[i].seconds;
    }
}

static int answer_all(struct server *s, struct connection *n)
{
    struct party *p = NULL;
    int rc;

    if ((rc = party_open(&s->party, &n->t, &p)) < 0)
        return rc;
    tcp_set_timeout(n->tcp, s->o->timeout);
    do
        rc = enough(s, p) ? 0 : party_answer(p, wait_request, n);
    while (rc > 0);
    add_account(s, party_account(p));
    party_close(p);
    return rc;
}

/* Takes tcp over. */
static int serve_client(struct server *s, struct tcp *tcp)
{
    struct connection n = {.tcp = tcp, .tls = s->tls != NULL, .lobby = s->lobby};
    int64_t before = s->queries + s->prepared;
    char peer[80];
    int rc;

    snprintf(peer, sizeof peer, "%s", tcp_peer(tcp));
    tcp_set_timeout(tcp, s->o->timeout < GREETING ? s->o->timeout : GREETING);
    if (!n.tls)
        tcp_transport(tcp, &n.t);
    else if ((rc = tls_transport(s->tls, tcp, NULL, &n.t)) < 0) {
        tcp_close(tcp);
        return fail_context(rc, "%s", peer);
    }
    n.inner = n.t;
    rc = answer_all(s, &n);
    transport_close(&n.t);
    cli_note(s->c, "%s: %lld answered", peer, (long long)(s->queries + s->prepared - before));
    return rc < 0 ? fail_context(rc, "%s", peer) : 0;
}

/* What a client does wrong is its own business; what we lack ends the program. */
static bool is_fatal(int rc)
{
    return rc == ERR_NOMEM || rc == ERR_IO;
}

static int serve_loop(struct server *s)
{
    while (!cli_interrupted() && !enough(s, NULL)) {
        struct tcp *tcp = NULL;
        int rc = lobby_next(s->lobby, interrupted, NULL, &tcp);
        if (rc == ERR_INTERRUPTED)
            break;
        TRY(rc);
        s->clients++;
        rc = serve_client(s, tcp);
        s->failed += rc < 0 && rc != ERR_INTERRUPTED;
        if (rc < 0 && is_fatal(rc))
            return rc;
        if (rc < 0 && rc != ERR_INTERRUPTED)
            cli_note(s->c, "%s", err_message());
    }
    cli_note(s->c, "%lld queries, %lld prepared, %lld clients", (long long)s->queries,
             (long long)s->prepared, (long long)s->clients);
    return 0;
}

/* More may be carried here while the server runs, but the folder is there. */
static int check_dealer(const char *dir)
{
    struct stat st;

    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return fail(ERR_DATA, "--dealer '%s': no such folder; linnet-pi deal makes it (--server-out)",
                dir);
}

static int start(struct server *s, const struct pi_model *model)
{
    const struct pi_net_options *o = s->o;
    struct tcp_address address;

    TRY(pi_net_check(o, o->listen, o->tls_cert != NULL, &address));
    pi_net_party(o, model->prepared, &s->party);
    if (o->link != NULL) {
        TRY(link_parse(o->link, &s->link));
        s->party.link = &s->link;
    }
    TRY(pi_net_backend(o->relu, model->plan, s->party.link, NULL, &s->party.relu));
    s->party.label = o->reveal == 1;
    s->party.tally = o->tls_cert == NULL;
    if (o->bundles != NULL) {
        TRY(store_folder(o->bundles));
        TRY(store_sweep(o->bundles));
    }
    if (o->dealer != NULL)
        TRY(check_dealer(o->dealer));
    if (o->tls_cert != NULL)
        TRY(tls_server(o->tls_cert, o->tls_key, &s->tls));
    TRY(tcp_listen(&address, &s->listener));
    TRY(lobby_open(s->listener, o->timeout, &s->lobby));
    fprintf(cli_out(s->c), "listening on %s:%d (%s, comparisons %s, linear layers %s)\n",
            address.host, tcp_listener_port(s->listener), s->tls != NULL ? "TLS 1.3" : "plain",
            s->party.relu->name, s->party.linear->name);
    fflush(cli_out(s->c));
    return 0;
}

static int check_options(const struct pi_net_options *o)
{
    if (o->weights == NULL || o->listen == NULL)
        return fail(ERR_ARG, "give --%s", o->weights == NULL ? "weights FILE" : "listen HOST:PORT");
    if ((o->tls_cert == NULL) != (o->tls_key == NULL))
        return fail(ERR_ARG, "--tls-cert and --tls-key belong together");
    return 0;
}

static json_t *report_json(const struct server *s)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "format",
                     "linnet.serve/1", "model", s->c->arg[0], "relu_backend", s->party.relu->name,
                     "linear_backend", s->party.linear->name, "tls", s->tls != NULL, "reveal",
                     s->party.label ? "label" : "logits", "clients", (json_int_t)s->clients,
                     "clients_failed", (json_int_t)s->failed, "clients_silent",
                     (json_int_t)lobby_sent_away(s->lobby), "queries", (json_int_t)s->queries,
                     "prepared", (json_int_t)s->prepared, "seconds", cpu_seconds() - s->start,
                     "phases", pi_report_totals_json(s->phase));
}

int pi_serve_run(const struct cli_common *c, const struct pi_net_options *o, bool prepare_only)
{
    struct server s = {.c = c, .o = o};
    struct pi_model *model = NULL;
    int rc;

    if ((rc = check_options(o)) < 0 ||
        (rc = pi_open(c->arg[0], o->weights, PI_FIXED, &model)) < 0 || (rc = start(&s, model)) < 0)
        goto out;
    s.party.prepare_only = prepare_only;
    cli_catch_signals();
    s.start = cpu_seconds();
    if ((rc = serve_loop(&s)) == 0 && c->json != NULL)
        rc = cli_json_write(c, report_json(&s));
out:
    lobby_close(s.lobby);
    tcp_listener_close(s.listener);
    tls_context_free(s.tls);
    pi_close(model);
    return rc;
}

int pi_cmd_serve(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    struct cli_common c;
    int rc = cli_parse(&spec, argc, argv, &c, &o);

    if (rc == 0)
        rc = pi_serve_run(&c, &o, false);
    cli_release(&c);
    return rc;
}
