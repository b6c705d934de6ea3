#ifndef PIPELINE_MASK_FILE_H
#define PIPELINE_MASK_FILE_H
/*
 * --masks FILE: which ReLUs stay, taken from
 *
 *     *.onnx           a network with masked ReLUs: layers are matched by the name of their node; a
 *                      plain ReLU keeps everything, a layer that is not in the file keeps nothing
 *     *.safetensors    a checkpoint of linnet, or tensors named as the ReLU nodes (or with ".mask"
 *                      after), F32 or U8, one value a position, above 0.5 = kept; all layers
 */
#include "core/graph/graph.h"
#include "pipeline/linnet.h"

/* Sets every mask of g, whose ReLUs are all MaskedRelu. ERR_ARG if file and network do not match. */
int mask_file_read(const struct linnet_listener *l, const char *path, struct graph *g) MUST_CHECK;
/* How many ReLUs the file keeps in a network like g, whose ReLUs may be plain; as mask_file_read. */
int mask_file_count(const char *path, const struct graph *g, int64_t *kept) MUST_CHECK;
#endif
