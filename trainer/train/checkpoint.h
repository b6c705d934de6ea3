#ifndef TRAINER_TRAIN_CHECKPOINT_H
#define TRAINER_TRAIN_CHECKPOINT_H
/*
 * Training state, and trained networks with both batch-norm branches, as one safetensors file.
 *
 *     tensor                 dtype  what
 *     param:NAME             F32    weights, one tensor a value, in its own shape
 *     buffer:NAME            F32    running statistics
 *     mask:NAME              F32    masks
 *     state:NAME             U8     bytes of whoever saved it (momenta, scores, best weights)
 *     structure              U8     the ONNX file from which the caller rebuilds the graph
 *     metadata: format, stage, epoch, step, done, config, normalize (texts)
 *
 * Written to a temporary file, flushed, renamed: a kill leaves the old file or the new one. Nothing
 * in it depends on time, threads or the machine. The reader believes nothing: names, shapes and
 * lengths are compared with the graph, a difference is ERR_FORMAT.
 *
 *     struct checkpoint_file *f = NULL;
 *     TRY(checkpoint_open("DIR/checkpoint.safetensors", &f));
 *     bytes = checkpoint_structure(f, &len);          // import, insert BN and masks again
 *     if ((rc = checkpoint_read_graph(f, graph)) < 0)
 *         goto out;
 *     out: checkpoint_close(f);
 */
#include <stdbool.h>

#include "core/graph/graph.h"

struct checkpoint_blob {
    const char *name;
    const void *data;
    size_t bytes;
};
struct checkpoint {     /* what is written; all borrowed */
    const char *stage;  /* "" if none */
    int32_t epoch;      /* epochs finished */
    int64_t step;       /* steps finished */
    bool done;          /* the stage is over */
    const char *config; /* JSON text for the caller, "{}" if none */
    const struct graph *graph;
    const uint8_t *structure;
    size_t structure_len;
    const struct checkpoint_blob *blob; /* -> state:NAME */
    int32_t n_blob;
};
int checkpoint_save(const char *path, const struct checkpoint *c) MUST_CHECK;

struct checkpoint_file;
int checkpoint_open(const char *path, struct checkpoint_file **out) MUST_CHECK;
void checkpoint_close(struct checkpoint_file *f); /* NULL is fine */
FREE_AT(checkpoint_close, struct checkpoint_file)
/* What was written with it, as in struct checkpoint; lives as long as f. */
struct checkpoint_info {
    const char *stage, *config;
    int64_t epoch, step, done; /* done: 0 or 1 */
};
const struct checkpoint_info *checkpoint_info(const struct checkpoint_file *f);
/* The embedded file, NULL and 0 if there is none. Lives as long as f. */
const uint8_t *checkpoint_structure(const struct checkpoint_file *f, size_t *len);
/* Fills params, buffers and masks of g, value by value; nothing is changed on failure. ERR_FORMAT if
 * a value of g is missing, has another shape, is not finite, or the file holds one that g lacks. */
int checkpoint_read_graph(const struct checkpoint_file *f, struct graph *g) MUST_CHECK;
/* Bytes of state:NAME, NULL if there is none. Lives as long as f. */
const void *checkpoint_blob(const struct checkpoint_file *f, const char *name, size_t *bytes);
/* Copies state:NAME; ERR_FORMAT if it is missing or has another length. */
int checkpoint_read_blob(const struct checkpoint_file *f, const char *name, void *data,
                         size_t bytes) MUST_CHECK;
#endif
