/* Connections of the commands (pi_net.h). */
#include "cli/pi/net.h"

#include <string.h>

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

int pi_net_party(const struct pi_net_options *o, const struct prepared *model, struct link *link,
                 struct party_options *out)
{
    *out = (struct party_options){.model = model,
                                  .linear = linear_backend_with(o->dealer != NULL),
                                  .dealer = o->dealer,
                                  .bundles = o->bundles,
                                  .transfers = (enum relu_transfers)o->ot,
                                  .max_bundles = o->max_bundles,
                                  .test_seed = o->test_seed};
    memcpy(out->hash, model->plan->identity, sizeof out->hash);
    if (o->link == NULL)
        return 0;
    out->link = link;
    return link_parse(o->link, link);
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

/* ---- words of options --------------------------------------------------------------------- */

/* Appends "|gc" to the words and ", gc: garbled circuits" to the help. */
static void add_word(char *words, size_t n_words, char *help, size_t n_help, const char *name,
                     const char *text)
{
    size_t w = strlen(words), h = strlen(help);

    snprintf(words + w, n_words - w, "%s%s", w > 0 ? "|" : "", name);
    snprintf(help + h, n_help - h, "%s%s: %s", h > 0 ? "; " : "", name, text);
}

struct cli_spec pi_with_backends(const struct cli_spec *spec, struct pi_choices *c)
{
    struct cli_spec with = *spec;

    *c = (struct pi_choices){.relu = "auto", .relu_help = "auto: the fastest by prediction"};
    for (int i = 0; relu_backends()[i] != NULL; i++)
        add_word(c->relu, sizeof c->relu, c->relu_help, sizeof c->relu_help,
                 relu_backends()[i]->name, relu_backends()[i]->text);
    for (int i = 0; linear_backends()[i] != NULL; i++)
        add_word(c->linear, sizeof c->linear, c->linear_help, sizeof c->linear_help,
                 linear_backends()[i]->name, linear_backends()[i]->text);
    for (int i = 0; spec->option[i].name != NULL && i + 1 < PI_MAX_OPTIONS; i++) {
        struct cli_option *o = &c->table[i];
        *o = spec->option[i];
        if (o->kind == CLI_CHOICE && strcmp(o->name, "relu") == 0) {
            o->arg = c->relu;
            o->help = c->relu_help;
        } else if (o->kind == CLI_CHOICE && strcmp(o->name, "linear") == 0) {
            o->arg = c->linear;
            o->help = c->linear_help;
        }
    }
    with.option = c->table;
    return with;
}
