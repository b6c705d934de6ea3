#ifndef EXPORTER_EXPORTER_H
#define EXPORTER_EXPORTER_H
/* graph -> standard ONNX file. The plan of a private inference is made by exporter/lower. */
#include "core/graph/graph.h"
#include "exporter/options.h"

/* Writes atomically; deterministic bytes. g must have one BN branch (pass_select_branch). */
int onnx_export(const struct graph *g, const struct export_options *opt,
                const char *path) MUST_CHECK;
/* The same into memory (mem_free). */
int onnx_export_bytes(const struct graph *g, const struct export_options *opt, uint8_t **out,
                      size_t *len) MUST_CHECK;
#endif
