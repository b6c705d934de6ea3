/*
 * linnet-pi serve: answers queries, one client after another (runtime/serve/server.h). SIGTERM and
 * SIGINT let the request that is being answered finish, then end the program with code 0.
 *
 * --json, at the end ("linnet.serve/1"): clients, queries, preparations, and phases in total.
 */
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
    1,
    1,
    "Answers private queries: the client's image stays with the client, the weights stay here. Semi-honest security: both sides are trusted to follow the protocol. The program's shape, its scales and the positions of its ReLUs are public. With --dealer a third party must collude with neither side. One client is served at a time; one that says nothing for 5 seconds makes way for the next. --json: clients, queries, bytes and seconds of each phase, written at the end.",
    "linnet-pi serve out/model.pi -w out/model.pi.weights --listen 127.0.0.1:7000",
    options};

static bool interrupted(void *ctx)
{
    (void)ctx;
    return cli_interrupted();
}

static void show_note(void *ctx, const char *text)
{
    cli_note(ctx, "%s", text);
}

static int check_options(const struct pi_net_options *o)
{
    if (o->weights == NULL || o->listen == NULL)
        return fail(ERR_ARG, "give --%s", o->weights == NULL ? "weights FILE" : "listen HOST:PORT");
    return 0;
}

static json_t *report_json(const struct cli_common *c, const struct server_options *o,
                           const struct server_totals *t)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "format",
                     "linnet.serve/1", "model", c->arg[0], "relu_backend", o->party.relu->name,
                     "linear_backend", o->party.linear->name, "tls", o->tls.cert != NULL, "reveal",
                     o->party.label ? "label" : "logits", "clients", (json_int_t)t->clients,
                     "clients_failed", (json_int_t)t->failed, "clients_silent",
                     (json_int_t)t->silent, "queries", (json_int_t)t->queries, "prepared",
                     (json_int_t)t->prepared, "seconds", t->seconds, "phases",
                     pi_report_totals_json(t->phase));
}

/* What an honest client on a slow line needs, and not much more: five times its predicted work, the bytes
 * at --min-rate, and a second for every message online. */
static int find_limits(const struct pi_net_options *o, const struct plan *p,
                       const struct party_options *party, struct party_limits *out)
{
    const struct cost_case k = {.relu = party->relu, .linear = party->linear};
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

static int fill_options(const struct cli_common *c, const struct pi_net_options *o,
                        const struct pi_model *model, struct link link[2],
                        struct party_limits *limits, struct server_options *out)
{
    *out = (struct server_options){.seconds = o->timeout,
                                   .max_queries = o->max_queries,
                                   .stop = interrupted,
                                   .note = show_note,
                                   .ctx = (void *)(uintptr_t)c};
    TRY(pi_net_files(o, NULL, &out->tls));
    TRY(pi_net_check(o, o->listen, &out->address));
    TRY(pi_net_party(o, model->prepared, &link[0], &out->party));
    if (o->expected != NULL) {
        TRY(link_parse(o->expected, &link[1]));
        out->party.expected = &link[1];
    }
    out->party.label = o->reveal == 1;
    TRY(pi_net_backend(o->relu, model->plan, out->party.link, NULL, &out->party.relu));
    out->party.limits = limits;
    return find_limits(o, model->plan, &out->party, limits);
}

static int serve(const struct cli_common *c, const struct server_options *o, struct server *s)
{
    struct server_totals t;
    uint8_t identity[SHA256_SIZE];
    char hex[SHA256_HEX];

    fprintf(cli_out(c), "listening on %s:%d (%s, comparisons %s, linear layers %s)\n",
            o->address.host, server_port(s), o->tls.cert != NULL ? "TLS 1.3" : "plain",
            o->party.relu->name, o->party.linear->name);
    if (server_tls(s) != NULL) {
        TRY(tls_identity(server_tls(s), identity));
        fprintf(cli_out(c), "key for --pin: %s\n", sha256_hex(identity, hex));
    }
    fflush(cli_out(c));
    cli_catch_signals();
    TRY(server_run(s));
    t = server_totals(s);
    cli_note(c, "%lld queries, %lld prepared, %lld clients", (long long)t.queries,
             (long long)t.prepared, (long long)t.clients);
    return c->json != NULL ? cli_json_write(c, report_json(c, o, &t)) : 0;
}

int pi_serve_run(const struct cli_common *c, const struct pi_net_options *o, bool prepare_only)
{
    struct server_options how;
    struct server *s = NULL;
    struct pi_model *model = NULL;
    struct link link[2]; /* emulated, expected */
    struct party_limits limits;
    int rc;

    if ((rc = check_options(o)) < 0 || (rc = pi_net_guard(o)) < 0 ||
        (rc = pi_open(c->arg[0], o->weights, PI_FIXED, &model)) < 0 ||
        (rc = fill_options(c, o, model, link, &limits, &how)) < 0)
        goto out;
    how.party.prepare_only = prepare_only;
    if ((rc = server_open(&how, &s)) == 0)
        rc = serve(c, &how, s);
out:
    server_close(s);
    pi_close(model);
    return rc;
}

int pi_cmd_serve(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    struct pi_choices words;
    const struct cli_spec with = pi_with_backends(&spec, &words);
    struct cli_common c;
    int rc = cli_parse(&with, argc, argv, &c, &o);

    if (rc == 0)
        rc = pi_serve_run(&c, &o, false);
    cli_release(&c);
    return rc;
}
