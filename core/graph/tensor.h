#ifndef CORE_GRAPH_TENSOR_H
#define CORE_GRAPH_TENSOR_H
/*
 * Shapes. Tensors of the graph are float32; a shape's dims are positive, except that dim 0 of an
 * activation is SHAPE_BATCH, the one symbolic dimension that linnet knows.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define SHAPE_MAX_RANK 8
#define SHAPE_BATCH (-1)
#define SHAPE_MAX_COUNT                                                                            \
    ((int64_t)1 << 40) /* elements; keeps every product inside int64 and size_t */

struct shape {
    int32_t rank;                /* 0 ... SHAPE_MAX_RANK */
    int64_t dim[SHAPE_MAX_RANK]; /* [N,C,H,W]; dims beyond rank are 0 */
};

/* shape_make(rank, dims...): dims of any integer type. shape_make(0) is the scalar. */
#define shape_make(...) shape_list((const int64_t[]){__VA_ARGS__})
struct shape shape_list(const int64_t *rank_and_dims); /* {rank, dim 0, ...} */
bool shape_equal(const struct shape *a, const struct shape *b);
bool shape_has_batch(const struct shape *s); /* rank > 0 and dim[0] == SHAPE_BATCH */
/* Product of the dims (the batch counts as 1), so for an activation: elements per image.
 * ERR_LIMIT beyond SHAPE_MAX_COUNT, ERR_FORMAT for a dim < 0 that is not the batch. */
int shape_count(const struct shape *s, int64_t *count) MUST_CHECK;
/* The same for shapes that shape_count has accepted before. */
int64_t shape_elems(const struct shape *s);
/* "[N,16,32,32]"; returns buf. */
#define SHAPE_TEXT 160
const char *shape_text(const struct shape *s, char buf[SHAPE_TEXT]);
/* numpy broadcasting of a and b (the batch matches the batch or 1). ERR_FORMAT if impossible. */
int shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out) MUST_CHECK;
#endif
