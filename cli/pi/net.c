/* Connections of the commands (pi_net.h). */
#include "cli/pi/net.h"

#include <string.h>

#include "core/base/sha256.h"
#include "runtime/linear/rlwe_party.h"

int pi_net_check(const struct pi_net_options *o, const char *address, bool tls,
                 struct tcp_address *out)
{
    bool loopback;

    TRY(tcp_address_parse(address, out));
    TRY(tcp_address_is_loopback(out, &loopback));
    if (loopback)
        return 0;
    if (o->test_seed >= 0)
        return fail(
            ERR_ARG,
            "'%s' is not this machine: with --test-seed anyone who knows the seed knows every share, so it is for 127.0.0.1 only",
            address);
    if (o->link != NULL)
        return fail(ERR_ARG,
                    "'%s' is not this machine: --link emulates a line, use it on 127.0.0.1",
                    address);
    if (o->dealer != NULL && !tls && !o->plain)
        return fail(
            ERR_ARG,
            "'%s' is not this machine: a dealer that reads the traffic learns the weights, so --dealer needs TLS (%s), or --insecure-plain",
            address, o->listen != NULL ? "--tls-cert, --tls-key" : "--tls-ca");
    return 0;
}

static int open_rlwe(const struct party_options *o, struct transport *t, struct prg *rng,
                     struct linear_party *out)
{
    const struct pi_model *m = o->model;

    return o->client ? linear_rlwe_client(m->plan, t, rng, out)
                     : linear_rlwe_server(m->plan, m->weights, t, rng, LINEAR_RLWE_CACHE, out);
}

int pi_net_party(const struct pi_net_options *o, const char *plan_path,
                 const struct pi_model *model, struct party_options *out)
{
    *out = (struct party_options){.model = model,
                                  .dealer = o->dealer,
                                  .bundles = o->bundles,
                                  .max_bundles = o->max_bundles,
                                  .test_seed = o->test_seed};
    out->open_rlwe = open_rlwe;
    out->known[1] = relu_backend_find("gc");
    out->known[2] = relu_backend_find("ot");
    return sha256_file(plan_path, out->hash);
}

static double online_seconds(const struct plan *p, struct cost_case k, enum cost_backend b)
{
    struct plan_cost c;

    k.backend = b;
    cost_estimate(p, &k, &c);
    return c.online_seconds;
}

int pi_net_backend(int32_t relu, const struct plan *p, const struct cost_link *link,
                   const struct cost_machine *machine, const struct relu_backend **out)
{
    static const char *const names[] = {"auto", "gc", "ot"};
    const struct cost_case k = {.link = link != NULL ? link : cost_links(), .machine = machine};

    if (relu == 0) {
        relu = online_seconds(p, k, COST_OT) < online_seconds(p, k, COST_GC) ? 2 : 1;
        relu = relu_backend_find(names[relu]) != NULL ? relu : 3 - relu;
    }
    if ((*out = relu_backend_find(names[relu])) == NULL)
        return fail(ERR_ARG, "--relu %s: not in this version", names[relu]);
    return 0;
}
