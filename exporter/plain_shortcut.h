#ifndef EXPORTER_PLAIN_SHORTCUT_H
#define EXPORTER_PLAIN_SHORTCUT_H
/* Slice and Pad of shortcuts without parameters, for importers that do not read them. */
#include "core/graph/graph.h"

/* Replaces each chain of strided Slices and Pads of channels by one Conv. Exact. */
int plain_shortcuts(struct graph *g) MUST_CHECK;
#endif
