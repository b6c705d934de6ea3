#ifndef PIPELINE_AUTO_NORMALIZE_H
#define PIPELINE_AUTO_NORMALIZE_H
/* --normalize auto: which preset a model was trained with, by its accuracy on training images. */
#include "cli/cli.h"
#include "core/graph/graph.h"

/* Sets g->norm and the metadata linnet.normalize to the best preset; says on stderr which, and warns
 * where no preset is much better than guessing. data: SRC of --data. */
int auto_normalize(const struct cli_common *c, const char *path, const char *data,
                   struct graph *g) MUST_CHECK;
#endif
