/*
 * linnet-pi serve: answers queries (runtime/serve/server.h). SIGTERM and SIGINT let requests that are being
 * answered finish, then end the program with code 0; a second one ends it at once.
 *
 * Log, a line an event on stderr: time, event, address and the first digits of the client's key, images,
 * seconds, and why. --json, at the end ("linnet.serve/1"): clients, queries, preparations, and phases in
 * total.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/json.h"
#include "cli/commands.h"
#include "cli/pi/net.h"
#include "cli/pi/report.h"

static const struct cli_option options[] = {
    PI_NET_SERVER,
    PI_NET_OWN,
    {"max-queries", 0, CLI_INT, PI_NET_AT(max_queries), "N",
     "end after N images begun, of queries and of preparations, answered or not", 1, 1e15},
    PI_NET_COMMON,
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Answers private queries: the client's image stays with the client, the weights stay here. Semi-honest security: both sides are trusted to follow the protocol, unless --clients covert is given. The program's shape, its scales and the positions of its ReLUs are public. With --dealer a third party must collude with neither side. Clients are served side by side, each in a process of its own; --workers bounds how many images are in work. --json: clients, queries, bytes and seconds of each phase, written at the end.",
    "linnet-pi serve out/model.pi -w out/model.pi.weights --listen 127.0.0.1:7000", options};

struct serve {
    const struct cli_common *c;
    struct pi_net_options *o;
    const char *branch;  /* of batch norm, "" where there is one only */
    struct link link[2]; /* emulated, expected */
    struct party_limits limits;
    struct tcp_address metrics;
    int inherited; /* a socket that listens, 0: none */
    char bound[TCP_TEXT];
    struct server_options how;
};

static bool interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

/* "2026-11-28T17:40:01.123Z", UTC. */
static void time_now(char text[32])
{
    struct timespec t;
    struct tm utc;
    size_t n;

    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &utc);
    n = strftime(text, 32, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, 32 - n, ".%03ldZ", t.tv_nsec / 1000000);
}

static void log_text(const char *time, const struct server_event *e)
{
    fprintf(stderr, "%s %s", time, e->name);
    if (*e->client != '\0')
        fprintf(stderr, " %s", e->client);
    if (e->images > 0)
        fprintf(stderr, " images %lld", (long long)e->images);
    fprintf(stderr, " %.3f s%s%s\n", e->seconds, *e->text != '\0' ? ": " : "", e->text);
}

static void log_json(const struct serve *s, const char *time, const struct server_event *e)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:f, s:s}", "time", time, "event", e->name,
                          "branch", s->branch, "client", e->client, "images", (json_int_t)e->images,
                          "seconds", e->seconds, "text", e->text);

    if (o != NULL &&
        json_dumpf(o, stderr, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6)) == 0)
        fputc('\n', stderr);
    json_decref(o);
}

static void log_event(void *ctx, const struct server_event *e)
{
    const struct serve *s = ctx;
    char time[32];

    if (strcmp(e->name, "stopping") == 0)
        system_notify("STOPPING=1");
    time_now(time);
    if (s->o->log == 1)
        log_json(s, time, e);
    else if (!s->c->quiet)
        log_text(time, e);
}

static int check_options(const struct pi_net_options *o, int inherited)
{
    if (o->weights == NULL)
        return fail(ERR_ARG, "give --weights FILE");
    if (o->listen == NULL && inherited == 0)
        return fail(ERR_ARG, "give --listen HOST:PORT");
    if (o->listen != NULL && inherited > 0)
        return fail(ERR_ARG, "--listen: a socket that listens was inherited (LISTEN_FDS)");
    return 0;
}

static json_t *report_json(const struct serve *s, const struct server_totals *t)
{
    const struct server_options *o = &s->how;

    return json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:b, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "format",
        "linnet.serve/1", "model", json_text(s->c->arg[0]), "branch", s->branch, "relu_backend",
        o->party.relu->name, "linear_backend", o->party.linear->name, "tls", o->tls.cert != NULL,
        "reveal", o->party.label ? "label" : "logits", "threat",
        o->party.covert != NULL ? "covert" : "trusted", "clients", (json_int_t)t->clients,
        "clients_failed", (json_int_t)t->failed, "clients_silent", (json_int_t)t->silent, "queries",
        (json_int_t)t->queries, "prepared", (json_int_t)t->prepared, "seconds", t->seconds,
        "phases", pi_report_totals_json(t->phase));
}

/* The link that forms are chosen for. */
static const struct link *forms_of(const struct party_options *p)
{
    if (p->expected != NULL)
        return p->expected;
    return p->link != NULL ? p->link : link_loopback();
}

/* What an honest client on a slow line needs, and not much more: five times its predicted work, the bytes
 * at --min-rate, and a second for every message online. */
static int find_limits(const struct pi_net_options *o, const struct plan *p,
                       const struct party_options *party, struct party_limits *out)
{
    const struct cost_case k = {.relu = party->relu,
                                .linear = party->linear,
                                .expected = forms_of(party),
                                .transfers = party->transfers,
                                .tagged = party->covert != NULL,
                                .label = party->label};
    struct cost c;

    TRY(cost_estimate(p, &k, &c));
    *out = (struct party_limits){
        .request = 5,
        .setup = 20,
        .offline = 20 + (double)(c.offline_linear_bytes + c.offline_relu_bytes) / o->min_rate +
                   5 * (c.offline_linear_seconds + c.offline_relu_seconds),
        .online =
            10 + (double)c.online_bytes / o->min_rate + c.online_messages + 5 * c.online_seconds};
    return 0;
}

/* "1000/day", "2.5/s": a number and that unit. Not given: `none`. */
static int parse_per(const char *option, const char *text, const char *unit, double none,
                     double *out)
{
    char *end;

    *out = none;
    if (text == NULL)
        return 0;
    *out = strtod(text, &end);
    if (end == text || strcmp(end, unit) != 0 || !(*out >= 0) || *out > 1e15)
        return fail(ERR_ARG, "option '--%s': '%s' is not a number and '%s'", option, text, unit);
    return 0;
}

static int fill_budget(const struct pi_net_options *o, struct server_options *out)
{
    const int64_t strikes = o->strikes >= 0 ? o->strikes : o->clients == 1 ? 1 : 5;
    double budget, rate;

    TRY(parse_per("budget", o->budget, "/day", -1, &budget));
    TRY(parse_per("rate", o->rate, "/s", 0, &rate));
    if (o->rate != NULL && rate == 0)
        return fail(ERR_ARG, "option '--rate': 0 would let nobody begin");
    out->budget = (struct ledger_rules){(int64_t)budget, rate, strikes};
    out->ledger = o->ledger;
    return 0;
}

static int fill_metrics(struct serve *s)
{
    bool loopback;

    if (s->o->metrics == NULL)
        return 0;
    TRY(tcp_address_parse(s->o->metrics, &s->metrics));
    TRY(tcp_address_is_loopback(&s->metrics, &loopback));
    if (!loopback)
        cli_note(s->c, "warning: whoever reaches '%s' can read the counters of --metrics",
                 s->o->metrics);
    s->how.metrics = &s->metrics;
    return 0;
}

/* --clients covert: a ban needs a name, openings need a folder, tags need a backend that makes them. */
static int fill_clients(struct serve *s)
{
    struct party_options *p = &s->how.party;
    bool loopback;

    if (s->o->clients == 0)
        return 0;
    TRY(tcp_address_is_loopback(&s->how.address, &loopback));
    if (s->o->client_ca == NULL && !loopback)
        return fail(ERR_ARG,
                    "--clients covert: give --client-ca; who has no certificate cannot be banned");
    if (p->bundles == NULL)
        return fail(ERR_ARG,
                    "--clients covert: give --bundles DIR; every query takes a prepared bundle");
    if (p->dealer != NULL)
        return fail(ERR_ARG,
                    "--clients covert: not with --dealer, whose correlations nobody can open");
    if (s->o->relu == 0)
        p->relu = relu_backend_find("gc");
    if (!p->relu->can_tag)
        return fail(ERR_ARG, "--clients covert: --relu %s has no tags; --relu gc has",
                    p->relu->name);
    if (s->o->client_ca == NULL)
        cli_note(s->c, "warning: without --client-ca a ban hits everybody who has no certificate");
    if (s->o->ledger == NULL)
        cli_note(s->c, "warning: without --ledger bans end with this server");
    p->covert = &covert_default;
    return 0;
}

static int fill_options(struct serve *s, const struct pi_model *model)
{
    struct pi_net_options *o = s->o;
    struct server_options *out = &s->how;

    *out = (struct server_options){.seconds = o->timeout,
                                   .inherited = s->inherited,
                                   .workers = o->workers > 0 ? o->workers : 4 * cpu_threads(),
                                   .max_queries = o->max_queries,
                                   .stop = interrupted,
                                   .event = log_event,
                                   .ctx = s};
    TRY(pi_net_files(o, NULL, &out->tls));
    TRY(pi_net_check(o, o->listen, &out->address));
    TRY(pi_net_party(o, model->prepared, &s->link[0], &out->party));
    if (o->expected != NULL) {
        TRY(link_parse(o->expected, &s->link[1]));
        out->party.expected = &s->link[1];
    }
    out->party.label = o->reveal == 1;
    TRY(pi_net_backend(o->relu, model->plan,
                       out->party.expected != NULL ? out->party.expected : out->party.link, NULL,
                       &out->party.relu));
    TRY(fill_clients(s));
    out->party.limits = &s->limits;
    TRY(fill_budget(o, out));
    TRY(fill_metrics(s));
    TRY(find_limits(o, model->plan, &out->party, &s->limits));
    /* what it may wait for its client, twice that for its own work, and a machine that is busy */
    out->most = 3 * (s->limits.setup + s->limits.offline + s->limits.online) + 600;
    return 0;
}

static int serve(const struct serve *how, struct server *s)
{
    const struct cli_common *c = how->c;
    const struct server_options *o = &how->how;
    struct server_totals t;
    uint8_t identity[SHA256_SIZE];
    char hex[SHA256_HEX];

    if (server_metrics_port(s) > 0)
        fprintf(cli_out(c), "counters on %s:%d\n", o->metrics->host, server_metrics_port(s));
    if (server_tls(s) != NULL) {
        TRY(tls_identity(server_tls(s), identity));
        fprintf(cli_out(c), "key for --pin: %s\n", sha256_hex(identity, hex));
    }
    fprintf(cli_out(c), "listening on %s:%d (%s, comparisons %s, linear layers %s%s%s%s)\n",
            o->address.host, server_port(s), o->tls.cert != NULL ? "TLS 1.3" : "plain",
            o->party.relu->name, o->party.linear->name,
            o->party.covert != NULL ? ", clients covert" : "",
            *how->branch != '\0' ? ", branch " : "", how->branch);
    fflush(cli_out(c));
    cli_catch_signals();
    if (secret_unlocked() > 0)
        cli_note(
            c,
            "%ld bytes of secrets could not be locked into memory (ulimit -l): swap may see them",
            secret_unlocked());
    system_notify("READY=1\nSTATUS=answers queries");
    TRY(server_run(s));
    t = server_totals(s);
    cli_note(c, "%lld queries, %lld prepared, %lld clients", (long long)t.queries,
             (long long)t.prepared, (long long)t.clients);
    return c->json != NULL ? cli_json_write(c, report_json(how, &t)) : 0;
}

/* Where the socket is bound decides what is allowed, whoever opened it. */
static int find_socket(struct serve *s, struct pi_net_options *o)
{
    TRY(system_listen_fd(&s->inherited));
    TRY(check_options(o, s->inherited));
    if (s->inherited == 0)
        return 0;
    TRY(tcp_bound(s->inherited, s->bound));
    o->listen = s->bound;
    return 0;
}

int pi_serve_run(const struct cli_common *c, const struct pi_net_options *given, bool prepare_only)
{
    struct pi_net_options o = *given;
    struct serve s = {.c = c, .o = &o};
    SCOPED(pi_close_at) struct pi_model *model = NULL;
    SCOPED(server_close_at) struct server *server = NULL;

    TRY(find_socket(&s, &o));
    TRY(pi_net_guard(&o));
    TRY(pi_open(c->arg[0], o.weights, PI_FIXED, &model));
    TRY(fill_options(&s, model));
    s.branch = model->plan->branch;
    s.how.party.prepare_only = prepare_only;
    TRY(server_open(&s.how, &server));
    return serve(&s, server);
}

int pi_cmd_serve(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    struct pi_choices words;
    const struct cli_spec with = pi_with_backends(&spec, &words);
    SCOPED(cli_release) struct cli_common c = {0};

    TRY(cli_parse(&with, argc, argv, &c, &o));
    return pi_serve_run(&c, &o, false);
}
