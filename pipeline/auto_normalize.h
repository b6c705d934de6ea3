#ifndef PIPELINE_AUTO_NORMALIZE_H
#define PIPELINE_AUTO_NORMALIZE_H
/* The normalisation of a model: set from a text, or, with "auto", the preset that it was trained
 * with, by its accuracy on training images. Both set g->norm and the metadata linnet.normalize. */
#include "core/graph/graph.h"
#include "pipeline/linnet.h"
#include "pipeline/source.h"

/* ERR_ARG for a bad text or a wrong channel count. */
int normalize_set(struct graph *g, const char *text) MUST_CHECK;
/* Tells the listener which preset won, and warns where none is much better than guessing. data and
 * images: source of the images. path: of the model, for messages. */
int normalize_auto(const struct linnet_listener *l, const char *path, const char *data,
                   const struct source_options *images, uint64_t seed, struct graph *g) MUST_CHECK;
#endif
