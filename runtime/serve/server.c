/* One client after another (server.h). */
#include "runtime/serve/server.h"

#include <stdio.h>
#include <sys/stat.h>

#include "core/base/cpu.h"
#include "runtime/serve/lobby.h"

struct server {
    struct server_options o;
    struct tcp_listener *listener;
    struct lobby *lobby;
    struct tls_context *tls;
    double start;
    struct server_totals totals;
};
struct connection {
    struct server *server;
    struct tcp *tcp;
    struct transport t, inner; /* inner: below an emulated link */
    bool must_go;
    double idle_since;
};

static void note(const struct server *s, const char *text)
{
    if (s->o.note != NULL)
        s->o.note(s->o.ctx, text);
}

static bool stopped(void *ctx)
{
    const struct server *s = ctx;

    return s->o.stop != NULL && s->o.stop(s->o.ctx);
}

/* ---- one client --------------------------------------------------------------------------- */

/* Whether waiting for this client's next request has to end. */
static bool end_wait(void *ctx)
{
    struct connection *n = ctx;

    if (stopped(n->server))
        return true;
    if (cpu_seconds() - n->idle_since > SERVER_PATIENCE)
        n->must_go = lobby_busy(n->server->lobby, &n->must_go) == 0 && n->must_go;
    return n->must_go;
}

static int wait_request(void *ctx)
{
    struct connection *n = ctx;
    int rc;

    n->idle_since = cpu_seconds();
    rc = n->server->tls != NULL ? tls_wait(&n->inner, end_wait, n) : tcp_wait(n->tcp, end_wait, n);
    return rc == ERR_INTERRUPTED && n->must_go
               ? fail(ERR_NET, "silent for %d s while another client waits", SERVER_PATIENCE)
               : rc;
}

static bool enough(const struct server *s, const struct party *p)
{
    int64_t now = p == NULL ? 0 : party_account(p)->begun;

    return s->o.max_queries >= 0 && s->totals.begun + now >= s->o.max_queries;
}

static void add_account(struct server_totals *t, const struct account *a)
{
    t->begun += a->begun;
    t->queries += a->queries;
    t->prepared += a->prepared;
    for (int i = 0; i < PHASES; i++) {
        t->phase[i].sent += a->phase[i].sent;
        t->phase[i].received += a->phase[i].received;
        t->phase[i].flips += a->phase[i].flips;
        t->phase[i].seconds += a->phase[i].seconds;
    }
}

static int answer_all(struct server *s, struct connection *n)
{
    struct party *p = NULL;
    int rc;

    TRY(party_open(&s->o.party, &n->t, &p));
    transport_limit(&n->t, -1);
    do
        rc = enough(s, p) ? 0 : party_answer(p, wait_request, n);
    while (rc > 0);
    add_account(&s->totals, party_account(p));
    party_close(p);
    return rc;
}

/* Takes tcp over. */
static int serve_client(struct server *s, struct tcp *tcp)
{
    struct connection n = {.server = s, .tcp = tcp};
    int64_t before = s->totals.queries + s->totals.prepared;
    char peer[80], text[160];
    int rc;

    snprintf(peer, sizeof peer, "%s", tcp_peer(tcp));
    tcp_set_timeout(tcp, s->o.seconds);
    tcp_limit(tcp, SERVER_GREETING);
    if (s->tls == NULL)
        tcp_transport(tcp, &n.t);
    else if ((rc = tls_transport(s->tls, tcp, NULL, &n.t)) < 0) {
        tcp_close(tcp);
        return fail_context(rc, "%s", peer);
    }
    n.inner = n.t;
    rc = answer_all(s, &n);
    transport_close(&n.t);
    snprintf(text, sizeof text, "%s: %lld answered", peer,
             (long long)(s->totals.queries + s->totals.prepared - before));
    note(s, text);
    return rc < 0 ? fail_context(rc, "%s", peer) : 0;
}

/* ---- all of them -------------------------------------------------------------------------- */

/* What a client does wrong is its own business; what we lack ends the server. */
static bool is_fatal(int rc)
{
    return rc == ERR_NOMEM || rc == ERR_IO;
}

int server_run(struct server *s)
{
    while (!stopped(s) && !enough(s, NULL)) {
        struct tcp *tcp = NULL;
        int rc = lobby_next(s->lobby, stopped, s, &tcp);
        if (rc == ERR_INTERRUPTED)
            break;
        TRY(rc);
        s->totals.clients++;
        rc = serve_client(s, tcp);
        s->totals.failed += rc < 0 && rc != ERR_INTERRUPTED;
        if (rc < 0 && is_fatal(rc))
            return rc;
        if (rc < 0 && rc != ERR_INTERRUPTED)
            note(s, err_message());
    }
    return 0;
}

struct server_totals server_totals(const struct server *s)
{
    struct server_totals t = s->totals;

    t.silent = lobby_sent_away(s->lobby);
    t.seconds = cpu_seconds() - s->start;
    return t;
}

int server_port(const struct server *s)
{
    return tcp_listener_port(s->listener);
}

const struct tls_context *server_tls(const struct server *s)
{
    return s->tls;
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

static int start(struct server *s)
{
    const struct server_options *o = &s->o;

    if (o->party.bundles != NULL)
        TRY(bundle_folder(o->party.bundles));
    if (o->party.dealer != NULL)
        TRY(check_dealer(o->party.dealer));
    if (o->tls.cert != NULL)
        TRY(tls_server(&o->tls, &s->tls));
    TRY(tcp_listen(&o->address, &s->listener));
    return lobby_open(s->listener, o->seconds, &s->lobby);
}

int server_open(const struct server_options *o, struct server **out)
{
    struct server *s = mem_array(1, sizeof *s);
    int rc;

    if (s == NULL)
        return ERR_NOMEM;
    s->o = *o;
    s->o.party.tally = o->tls.cert == NULL;
    s->start = cpu_seconds();
    if ((rc = start(s)) < 0) {
        server_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

void server_close(struct server *s)
{
    if (s == NULL)
        return;
    lobby_close(s->lobby);
    tcp_listener_close(s->listener);
    tls_context_free(s->tls);
    mem_free(s);
}
