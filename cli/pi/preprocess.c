/* linnet-pi preprocess: the offline phase ahead of time, as a server (--listen) or a client
 * (--connect). Both keep their half of every bundle; serve and query use each once. */
#include "cli/commands.h"
#include "cli/pi/net.h"

static const struct cli_option options[] = {
    PI_NET_SERVER,
    PI_NET_CLIENT,
    PI_NET_OWN,
    {"count", 'n', CLI_INT, PI_NET_AT(count), "N", "client: bundles to make (default 1)", 1, 1e6},
    {"lot", 0, CLI_INT, PI_NET_AT(lot), "L",
     "client: bundles to make together, with fewer bytes each (default 1)", 1, PARTY_LOT},
    PI_NET_COMMON,
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Runs the offline phase of queries ahead of time. Both sides put their half of every bundle into the folder of --bundles; serve and query take them from there, each once.",
    "linnet-pi preprocess out/model.pi --connect 127.0.0.1:7000 --bundles mine --count 10",
    options};

int pi_cmd_preprocess(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    struct pi_choices words;
    const struct cli_spec with = pi_with_backends(&spec, &words);
    SCOPED(cli_release) struct cli_common c = {0};

    TRY(cli_parse(&with, argc, argv, &c, &o));
    if ((o.listen == NULL) == (o.connect == NULL))
        return fail(ERR_ARG, "give --listen HOST:PORT (server) or --connect HOST:PORT (client)");
    if (o.bundles == NULL)
        return fail(ERR_ARG, "give --bundles DIR, where the material goes");
    return o.listen != NULL ? pi_serve_run(&c, &o, true) : pi_query_run(&c, &o, true);
}
