#ifndef EXPORTER_WRITTEN_H
#define EXPORTER_WRITTEN_H
/* What the exporter does to a graph before it writes it. */
#include "core/graph/graph.h"
#include "exporter/options.h"

/* The form is for importers of private-inference tools: BN folded, batch 1, constants as nodes. */
bool written_is_private(const struct export_options *opt);
/* A clone of g in the shape of the file. ERR_ARG if the form cannot say the masks. */
int written_graph(const struct graph *g, const struct export_options *opt,
                  struct graph **out) MUST_CHECK;
#endif
