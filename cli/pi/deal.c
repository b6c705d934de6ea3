/* linnet-pi deal: the third party of stage A. It sees shapes, never weights, images or answers. */
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "core/base/json.h"
#include "runtime/report.h"

struct options {
    const char *client_out, *server_out;
    int64_t count, test_seed;
};
#define AT(field) offsetof(struct options, field)
static const struct cli_option options[] = {
    {"count", 'n', CLI_INT, AT(count), "N", "images to deal for", 1, 1e6},
    {"client-out", 0, CLI_FOLDER, AT(client_out), "DIR", "files for the client", 0, 0},
    {"server-out", 0, CLI_FOLDER, AT(server_out), "DIR", "files for the server", 0, 0},
    {"test-seed", 0, CLI_INT, AT(test_seed), "N", "reproducible correlations, for tests only", 0,
     1e15},
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Makes single-use correlations for linear layers, as files that you carry to each party. The dealer needs nothing but model.pi, which is public, and must collude with neither party: together with the server it would know the image, together with the client, or able to read their traffic, the weights. Without --dealer, serve and query need no third party.",
    "linnet-pi deal out/model.pi --count 100 --client-out for-client --server-out for-server",
    options};

struct bar {
    struct cli_progress p;
    int64_t count;
};

static void show(void *ctx, int64_t done)
{
    struct bar *b = ctx;

    cli_progress_at(&b->p, (double)done / (double)b->count, "%lld images", (long long)done);
}

static int deal(const struct cli_common *c, const struct options *o)
{
    struct bar b = {.count = o->count};
    SCOPED(plan_free_at) struct plan *p = NULL;
    int rc;

    TRY(plan_read(c->arg[0], &p));
    cli_progress_begin(&b.p, c, "deal");
    rc =
        dealer_deal(p, p->identity, o->count, o->test_seed, o->client_out, o->server_out, show, &b);
    cli_progress_end(&b.p);
    TRY(rc);
    fprintf(cli_out(c),
            "%lld correlations; carry '%s' to the client and '%s' to the server, keep neither\n",
            (long long)o->count, o->client_out, o->server_out);
    return 0;
}

/* Both halves in one folder would go to both parties: either would know the other's secrets. */
static int check_folders(const struct options *o)
{
    struct stat client, server;

    if (strcmp(o->client_out, o->server_out) == 0 ||
        (stat(o->client_out, &client) == 0 && stat(o->server_out, &server) == 0 &&
         client.st_dev == server.st_dev && client.st_ino == server.st_ino))
        return fail(
            ERR_ARG,
            "--client-out and --server-out are both '%s': each party may see its own files only, give two folders",
            o->client_out);
    return 0;
}

static int write_json(const struct cli_common *c, const struct options *o)
{
    if (c->json == NULL)
        return 0;
    return cli_json_write(c, json_pack("{s:s, s:o, s:I, s:o, s:o}", "format", "linnet.deal/1",
                                       "model", json_text(c->arg[0]), "n", (json_int_t)o->count,
                                       "client_out", json_text(o->client_out), "server_out",
                                       json_text(o->server_out)));
}

int pi_cmd_deal(int argc, char **argv)
{
    struct options o = {.count = 1, .test_seed = -1};
    SCOPED(cli_release) struct cli_common c = {0};

    TRY(cli_parse(&spec, argc, argv, &c, &o));
    if (o.client_out == NULL || o.server_out == NULL)
        return fail(ERR_ARG, "give --client-out DIR and --server-out DIR");
    TRY(check_folders(&o));
    TRY(deal(&c, &o));
    return write_json(&c, &o);
}
