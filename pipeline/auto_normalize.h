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
/* Where neither an option nor the file says it: the same on as many training images (test images where
 * there are no others) as take a few seconds. *found: a preset made the model better than guessing;
 * otherwise pixels go in as they are. sure: more images where two presets are close; ERR_ARG where nothing
 * was found, or another preset may be right instead and is not shown to be as good within a percent; without
 * it the listener hears that. */
int normalize_guess(const struct linnet_listener *l, const char *path, const char *data,
                    const struct source_options *images, uint64_t seed, bool sure, struct graph *g,
                    bool *found) MUST_CHECK;
/* Tells the listener, with what may be the cause, where an accuracy in [0,1] of n images is that of
 * guessing. */
void normalize_warn_chance(const struct linnet_listener *l, const char *path, double accuracy,
                           int64_t n, int64_t classes);
#endif
