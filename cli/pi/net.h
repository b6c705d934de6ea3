#ifndef CLI_PI_NET_H
#define CLI_PI_NET_H
/* What serve, query, preprocess and bench share: options, rules about addresses, connections. */
#include "cli/cli.h"
#include "runtime/report.h"

/* Options whose words are those of the registries: rows of a table end with these and are completed
 * by pi_with_backends. */
#define PI_RELU_WORDS "auto", "ReLU backend", 0, 0
#define PI_LINEAR_WORDS "", "linear backend", 0, 0
#define PI_OT_WORDS "auto|softspoken|ferret", "oblivious transfers; ferret assumes LPN", 0, 0
#define PI_MAX_OPTIONS 64
struct pi_choices {
    char relu[64], linear[64], relu_help[192], linear_help[192];
    struct cli_option table[PI_MAX_OPTIONS];
};
/* The same command, with every backend in the words and the help of --relu and --linear. words must
 * live as long. */
struct cli_spec pi_with_backends(const struct cli_spec *spec, struct pi_choices *words);

struct pi_net_options {
    const char *weights, *listen, *connect, *tls_cert, *tls_key, *tls_ca, *pin, *client_ca, *dealer,
        *bundles, *link, *bundle_key;
    const char *input, *output, *budget, *rate, *ledger, *metrics;
    bool plain, anonymous, permissions;
    const char *expected;
    int32_t relu, reveal, floats, ot, favour, log, clients;
    uint8_t seal[SEAL_KEY]; /* of bundle_key */
    int64_t below, max_queries, max_bundles, count, lot, batch, test_seed, workers, strikes, retry;
    double timeout, min_rate;
};
#define PI_NET_DEFAULTS                                                                            \
    {                                                                                              \
        .max_queries = -1, .max_bundles = 100, .count = 1, .lot = 1, .batch = 1, .test_seed = -1,  \
        .timeout = 60, .min_rate = 262144, .strikes = -1, .retry = 5                               \
    }
#define PI_NET_AT(field) offsetof(struct pi_net_options, field)
/* Lines of option tables. */
#define PI_ROW(name, letter, kind, field, ...)                                                     \
    {                                                                                              \
        name, letter, kind, PI_NET_AT(field), __VA_ARGS__                                          \
    }
#define PI_NET_OWN                                                                                 \
    PI_ROW("tls-cert", 0, CLI_INPUT, tls_cert, "FILE", "own certificate chain, PEM", 0, 0),        \
        PI_ROW("tls-key", 0, CLI_INPUT, tls_key, "FILE", "its private key, PEM", 0, 0)
#define PI_NET_COMMON                                                                              \
    PI_ROW("dealer", 0, CLI_TEXT, dealer, "DIR",                                                   \
           "correlations of a third party (linnet-pi deal); default: no third party", 0, 0),       \
        PI_ROW("bundles", 0, CLI_TEXT, bundles, "DIR", "prepared material (preprocess)", 0, 0),    \
        PI_ROW("bundle-key", 0, CLI_INPUT, bundle_key, "FILE",                                     \
               "32 bytes or 64 digits: bundles are encrypted on the disk", 0, 0),                  \
        PI_ROW("insecure-plain", 0, CLI_FLAG, plain, NULL,                                         \
               "no TLS although the address is not this machine; both sides", 0, 0),               \
        PI_ROW("allow-permissions", 0, CLI_FLAG, permissions, NULL,                                \
               "secret files and folders may be others' or open to others", 0, 0),                 \
        PI_ROW("test-seed", 0, CLI_INT, test_seed, "N",                                            \
               "shares that eval --mode sim2pc predicts; insecure, this machine only", 0, 1e15),   \
        PI_ROW("ot", 0, CLI_CHOICE, ot, PI_OT_WORDS),                                              \
        PI_ROW("link", 0, CLI_TEXT, link, "L",                                                     \
               "emulated link: lan, wan, mobile or RATE,RTT; both sides, this machine only", 0,    \
               0),                                                                                 \
        PI_ROW("timeout", 0, CLI_REAL, timeout, "S",                                               \
               "longest silence of the other side (default 60)", 0.1, 86400)
#define PI_NET_SERVER                                                                               \
    PI_ROW("weights", 'w', CLI_INPUT, weights, "FILE", "model.pi.weights", 0, 0),                   \
        PI_ROW("listen", 0, CLI_TEXT, listen, "HOST:PORT", "where; port 0: any free one", 0, 0),    \
        PI_ROW("expect-link", 0, CLI_TEXT, expected, "L",                                           \
               "link that messages are chosen for (default: --link)", 0, 0),                        \
        PI_ROW("min-rate", 0, CLI_REAL, min_rate, "B",                                              \
               "bytes a second that clients must manage (default 262144)", TCP_MIN_RATE, 1e12),     \
        PI_ROW("client-ca", 0, CLI_INPUT, client_ca, "FILE",                                        \
               "let in only clients with a certificate of these authorities, PEM", 0, 0),           \
        PI_ROW("anonymous", 0, CLI_FLAG, anonymous, NULL,                                           \
               "off this machine: let in clients without a certificate", 0, 0),                     \
        PI_ROW(                                                                                     \
            "clients", 0, CLI_CHOICE, clients, "trusted|covert",                                    \
            "covert: who deviates is found out (a fifth of all preparations is opened) and banned", \
            0, 0),                                                                                  \
        PI_ROW("relu", 0, CLI_CHOICE, relu, PI_RELU_WORDS),                                         \
        PI_ROW("reveal", 0, CLI_CHOICE, reveal, "logits|label", "what the client learns", 0, 0),    \
        PI_ROW("workers", 0, CLI_INT, workers, "N",                                                 \
               "images or lots in work at a time (default 4 a core)", 1, 4096),                     \
        PI_ROW("budget", 0, CLI_TEXT, budget, "N/day",                                              \
               "images that one client may begin a day, answered or not", 0, 0),                    \
        PI_ROW("rate", 0, CLI_TEXT, rate, "N/s", "and a second, on average", 0, 0),                 \
        PI_ROW("strikes", 0, CLI_INT, strikes, "N",                                                 \
               "ban who has broken the protocol N times (default 5, covert 1; 0: none)", 0, 1e9),   \
        PI_ROW("ledger", 0, CLI_TEXT, ledger, "FILE",                                               \
               "where budgets, strikes and bans outlive the server", 0, 0),                         \
        PI_ROW("metrics", 0, CLI_TEXT, metrics, "HOST:PORT",                                        \
               "counters for a monitoring system, HTTP", 0, 0),                                     \
        PI_ROW("log", 0, CLI_CHOICE, log, "text|json", "a line an event, on stderr", 0, 0),         \
        PI_ROW("max-bundles", 0, CLI_INT, max_bundles, "N",                                         \
               "refuse to prepare more while --bundles holds N (default 100)", 0, 1e9)
#define PI_NET_CLIENT                                                                                                                                                                                        \
    PI_ROW(                                                                                                                                                                                                  \
        "favour", 0, CLI_CHOICE, favour, "auto|total|online",                                                                                                                                                \
        "which seconds the messages of ReLUs save on the link that the server expects: of the whole query, or of its online phase at the cost of more bytes before it (auto: that, where bundles are made)", \
        0, 0),                                                                                                                                                                                               \
        PI_ROW("connect", 0, CLI_TEXT, connect, "HOST:PORT", "the server", 0, 0),                                                                                                                            \
        PI_ROW("tls-ca", 0, CLI_INPUT, tls_ca, "FILE",                                                                                                                                                       \
               "use TLS; trusted certificates of the server, PEM", 0, 0),                                                                                                                                    \
        PI_ROW("retry", 0, CLI_INT, retry, "N",                                                                                                                                                              \
               "try again N times if the server is busy or not there (default 5)", 0, 1000),                                                                                                                 \
        PI_ROW("pin", 0, CLI_TEXT, pin, "SHA256",                                                                                                                                                            \
               "use TLS; the server's public key must have this SHA-256, which serve prints", 0,                                                                                                             \
               0)

/* The rules of --tls-..., --insecure-plain, --test-seed, --link for an address. ERR_ARG. Without TLS off
 * this machine a warning on stderr, also with -q. */
int pi_net_check(const struct pi_net_options *o, const char *address,
                 struct tcp_address *out) MUST_CHECK;
/* For a process that holds secrets: new files are for this user alone, no core dump, no debugger of
 * another process; and, unless --allow-permissions, weights, keys and folders that others may read or write
 * are refused with ERR_ARG. */
int pi_net_guard(const struct pi_net_options *o) MUST_CHECK;
/* Whether the options ask for TLS. */
bool pi_net_tls(const struct pi_net_options *o);
/* The files of TLS; pin: room for the one of --pin. */
int pi_net_files(const struct pi_net_options *o, uint8_t pin[SHA256_SIZE],
                 struct tls_files *out) MUST_CHECK;
/* The same for who was reached: a name may stand for another address a moment later. */
int pi_net_check_peer(const struct pi_net_options *o, const struct tcp *s) MUST_CHECK;
/* Fills in what every party needs, and o->seal; the rest is the caller's. link: room for the one of --link. */
int pi_net_party(struct pi_net_options *o, const struct prepared *model, struct link *link,
                 struct party_options *out) MUST_CHECK;
/* --relu for a plan and the link that forms are chosen for (NULL: default forms on lan); machine as in struct
 * cost_case. */
int pi_net_backend(int32_t relu, const struct plan *p, const struct link *link,
                   const struct cost_machine *machine, const struct relu_backend **out) MUST_CHECK;

/* preprocess is one of these two. */
int pi_serve_run(const struct cli_common *c, const struct pi_net_options *o,
                 bool prepare_only) MUST_CHECK;
int pi_query_run(const struct cli_common *c, struct pi_net_options *o,
                 bool prepare_only) MUST_CHECK;
/* Until a signal ends it. */
int pi_keep_run(const struct cli_common *c, struct pi_net_options *o) MUST_CHECK;
/* Whether what this client asks for is prepared before anyone waits (struct relu_wish). */
bool pi_net_ahead(const struct pi_net_options *o, bool prepares);
#endif
