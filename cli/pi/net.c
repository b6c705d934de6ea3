/* Connections of the commands (pi_net.h). */
#include "cli/pi/net.h"

#include <string.h>

#include "runtime/cost/cost.h"

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

void pi_net_party(const struct pi_net_options *o, const struct prepared *model,
                  struct party_options *out)
{
    *out = (struct party_options){.model = model,
                                  .linear = linear_backend_with(o->dealer != NULL),
                                  .dealer = o->dealer,
                                  .bundles = o->bundles,
                                  .max_bundles = o->max_bundles,
                                  .test_seed = o->test_seed};
    memcpy(out->hash, model->plan->identity, sizeof out->hash);
}

int pi_net_backend(int32_t relu, const struct plan *p, const struct link *link,
                   const struct cost_machine *machine, const struct relu_backend **out)
{
    const struct cost_case k = {.link = link, .machine = machine};

    if (relu == 0)
        return cost_fastest_relu(p, &k, out);
    *out = relu_backends()[relu - 1];
    return 0;
}
