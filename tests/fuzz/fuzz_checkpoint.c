/* Checkpoints, read into a small network: it changes as a whole or not at all. */
#include "trainer/train/checkpoint.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "tests/fuzz/fuzz.h"
#include "tests/tiny_net.h"

/* The network is made again only where a checkpoint changed it: that costs more than all else. */
static void read_graph(const struct checkpoint_file *f)
{
    static struct graph *g;

    if (g == NULL)
        g = tiny_net(TINY_BN | TINY_DUAL | TINY_MASKED, 1);
    const float first = g->params[0];
    const uint64_t version = g->version;
    const bool accepted = checkpoint_read_graph(f, g) == 0;

    if (!accepted)
        fuzz_must(memcmp(&g->params[0], &first, sizeof first) == 0 && g->version == version,
                  "a refused checkpoint changed the network");
    for (int64_t k = 0; accepted && k < g->n_params; k++)
        fuzz_must(isfinite(g->params[k]), "a number that is not finite was accepted");
    fuzz_must(graph_verify(g) == 0, "the network is not valid");
    if (accepted) {
        graph_free(g);
        g = NULL;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint_file *f = NULL;
    uint8_t blob[24];
    size_t len = 0;

    if (checkpoint_open(fuzz_file(0, data, size), &f) < 0) {
        fuzz_must(err_message()[0] != '\0', "an error without a message");
        return 0;
    }
    fuzz_touch(checkpoint_info(f)->stage, strlen(checkpoint_info(f)->stage));
    fuzz_touch(checkpoint_info(f)->config, strlen(checkpoint_info(f)->config));
    fuzz_must(checkpoint_info(f)->epoch >= 0 && checkpoint_info(f)->step >= 0,
              "a negative epoch or step");
    const uint8_t *structure = checkpoint_structure(f, &len);
    if (structure != NULL)
        fuzz_touch(structure, len);
    const void *score = checkpoint_blob(f, "score", &len);
    if (score != NULL)
        fuzz_touch(score, len);
    if (checkpoint_read_blob(f, "score", blob, sizeof blob) == 0)
        fuzz_touch(blob, sizeof blob);
    read_graph(f);
    checkpoint_close(f);
    return 0;
}
