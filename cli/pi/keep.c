/* linnet-pi keep: refills a client's folder of bundles in the background, so that queries find some. A server
 * works on preparations where no query wants its place; who is turned away comes again later. */
#include "cli/commands.h"
#include "cli/pi/net.h"

static const struct cli_option options[] = {
    PI_NET_CLIENT,
    PI_NET_OWN,
    {"below", 0, CLI_INT, PI_NET_AT(below), "N", "refill where fewer are left (default 4)", 1, 1e6},
    {"count", 'n', CLI_INT, PI_NET_AT(count), "N", "up to so many (default 16)", 1, 1e6},
    {"lot", 0, CLI_INT, PI_NET_AT(lot), "L",
     "bundles to make together, with fewer bytes each (default 16)", 1, PARTY_LOT},
    PI_NET_COMMON,
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Keeps the folder of --bundles filled until a signal ends it: whenever fewer than --below bundles are left it prepares new ones, up to --count.",
    "linnet-pi keep out/model.pi --connect 127.0.0.1:7000 --bundles mine --below 4 --count 16",
    options};

int pi_cmd_keep(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    SCOPED(cli_release) struct cli_common c = {0};

    o.below = 4;
    o.count = 16;
    o.lot = 16;
    TRY(cli_parse(&spec, argc, argv, &c, &o));
    if (o.bundles == NULL)
        return fail(ERR_ARG, "give --bundles DIR, the folder to keep filled");
    if (o.below > o.count)
        return fail(ERR_ARG, "option '--below': %lld is more than --count %lld", (long long)o.below,
                    (long long)o.count);
    if (o.dealer != NULL)
        o.lot = 1; /* its images go one by one */
    return pi_keep_run(&c, &o);
}
