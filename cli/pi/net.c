/* Connections of the commands (pi_net.h). */
#include "cli/pi/net.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core/base/file.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) /* clang's way to say it */
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__ /* it looks for leaks as a debugger does */
#define DUMPABLE 1
#else
#define DUMPABLE 0
#endif

int pi_net_guard(const struct pi_net_options *o)
{
    const char *secret[] = {o->weights, o->tls_key, o->bundles,
                            o->dealer,  o->ledger,  o->bundle_key};
    const struct rlimit none = {0, 0};

    umask(077);
    if (prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return fail(ERR_IO, "core dumps cannot be switched off: %s", strerror(errno));
    for (size_t i = 0; i < sizeof secret / sizeof *secret && !o->permissions; i++)
        if (secret[i] != NULL && file_check_private(secret[i]) < 0)
            return fail(ERR_ARG, "%s; or --allow-permissions", err_message());
    return 0;
}

bool pi_net_tls(const struct pi_net_options *o)
{
    return o->listen != NULL ? o->tls_cert != NULL : o->tls_ca != NULL || o->pin != NULL;
}

int pi_net_files(const struct pi_net_options *o, uint8_t pin[SHA256_SIZE], struct tls_files *out)
{
    *out = (struct tls_files){.cert = o->tls_cert, .key = o->tls_key};
    out->ca = o->listen != NULL ? o->client_ca : o->tls_ca;
    if ((o->tls_cert == NULL) != (o->tls_key == NULL))
        return fail(ERR_ARG, "--tls-cert and --tls-key belong together");
    if (o->tls_cert == NULL && o->client_ca != NULL)
        return fail(ERR_ARG, "--client-ca needs TLS: give --tls-cert and --tls-key");
    if (o->listen == NULL && o->tls_cert != NULL && !pi_net_tls(o))
        return fail(ERR_ARG, "--tls-cert: how is the server known? Give --tls-ca, --pin or both");
    if (o->pin == NULL)
        return 0;
    if (o->listen != NULL)
        return fail(ERR_ARG, "--pin is for the side that connects");
    if (sha256_parse(o->pin, pin) < 0)
        return fail(ERR_ARG, "--pin '%s': expected SHA-256 in 64 hexadecimal digits", o->pin);
    out->pin = pin;
    return 0;
}

int pi_net_check(const struct pi_net_options *o, const char *address, struct tcp_address *out)
{
    bool loopback, tls = pi_net_tls(o);

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
    if (!tls && !o->plain)
        return fail(
            ERR_ARG,
            "'%s' is not this machine: without TLS anyone on the way may read and change bytes%s; give %s, or --insecure-plain on both sides",
            address, o->dealer != NULL ? ", and a dealer who listens learns the weights" : "",
            o->listen != NULL ? "--tls-cert and --tls-key" : "--tls-ca or --pin");
    if (o->listen != NULL && tls && o->client_ca == NULL && !o->anonymous)
        return fail(
            ERR_ARG,
            "'%s' is not this machine: anyone who reaches it could ask; give --client-ca, or --anonymous",
            address);
    if (!tls)
        fprintf(
            stderr,
            "warning: '%s' is not this machine and there is no TLS (--insecure-plain): anyone on the way may read and change bytes%s\n",
            address, o->dealer != NULL ? "; a dealer who listens learns the weights" : "");
    return 0;
}

int pi_net_check_peer(const struct pi_net_options *o, const struct tcp *s)
{
    bool tls = pi_net_tls(o);

    if (tcp_peer_is_loopback(s) || (o->test_seed < 0 && o->link == NULL && (tls || o->plain)))
        return 0;
    return fail(ERR_ARG, "'%s' now stands for %s, which is not this machine: %s", o->connect,
                tcp_peer(s),
                tls || o->plain ? "--test-seed and --link are for 127.0.0.1 only"
                                : "use TLS (--tls-ca) or --insecure-plain");
}

int pi_net_party(struct pi_net_options *o, const struct prepared *model, struct link *link,
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
    if (o->bundle_key != NULL) {
        TRY(seal_key_read(o->bundle_key, o->seal));
        out->bundle_key = o->seal;
    }
    if (o->link == NULL)
        return 0;
    out->link = link;
    return link_parse(o->link, link);
}

int pi_net_backend(int32_t relu, const struct plan *p, const struct link *link,
                   const struct cost_machine *machine, const struct relu_backend **out)
{
    const struct cost_case k = {
        .link = link, .expected = link == NULL ? link_loopback() : NULL, .machine = machine};

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
            if (*o->arg != '\0')
                add_word(c->linear, sizeof c->linear, c->linear_help, sizeof c->linear_help, o->arg,
                         o->help);
            o->arg = c->linear;
            o->help = c->linear_help;
        }
    }
    with.option = c->table;
    return with;
}

bool pi_net_ahead(const struct pi_net_options *o, bool prepares)
{
    enum { AUTO, TOTAL, ONLINE };

    return o->favour == ONLINE || (o->favour == AUTO && prepares);
}
