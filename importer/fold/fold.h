#ifndef IMPORTER_FOLD_FOLD_H
#define IMPORTER_FOLD_FOLD_H
/*
 * What the files of constant folding share; nobody else includes this. A folding function is a
 * canon_fn whose inputs are constants (fold_can); fold_node has seen that those it must have are there.
 */
#include "importer/import.h"

/* Element k is the unknown size of the batch. */
bool fold_is_batch(const struct constant *c, int64_t k);
int fold_set_batch(struct import *im, struct constant *c, int64_t k) MUST_CHECK;
/* Report: the node needs the batch as a number; the operator says `what`. */
int fold_pins_batch(struct import *im) MUST_CHECK;
int fold_wrong(struct import *im, const char *what) MUST_CHECK;
/* to[j] = from[k], which have the same kind of numbers. */
int fold_copy_element(struct import *im, struct constant *to, int64_t j,
                      const struct constant *from, int64_t k) MUST_CHECK;
/* c is the node's result; or its output number k, if somebody reads that. */
int fold_finish(struct import *im, struct constant *c) MUST_CHECK;
void fold_finish_output(struct import *im, size_t k, struct constant *c);
/* Every multiplication pays, as every number does: constant_room. */
int fold_work(struct import *im, int64_t a, int64_t b, int64_t c) MUST_CHECK;
/* Elements behind axis k. */
int64_t fold_inner_size(const struct shape *s, int32_t k);
/* Input i as a shape. */
int fold_read_dims(struct import *im, int32_t i, struct shape *s) MUST_CHECK;
int fold_broadcast_shape(struct import *im, const struct shape *a, const struct shape *b,
                         struct shape *out) MUST_CHECK;
/* Input i, which must be of a floating type and hold something. */
int fold_floats(struct import *im, int32_t i, struct constant **out) MUST_CHECK;

/* fold_source.c */
canon_fn fold_constant, fold_constant_of_shape, fold_range, fold_shape, fold_size;
/* fold_move.c */
canon_fn fold_concat, fold_flatten, fold_gather, fold_identity, fold_pad, fold_reshape, fold_slice;
canon_fn fold_squeeze, fold_transpose, fold_unsqueeze;
/* fold_arith.c */
canon_fn fold_arith, fold_cast, fold_cast_like, fold_clip, fold_expand, fold_prelu, fold_unary;
canon_fn fold_where;
/* fold_math.c */
canon_fn fold_dropout, fold_gemm, fold_matmul, fold_reduce_mean, fold_softmax;
/* fold_pool.c */
canon_fn fold_pool;
#endif
