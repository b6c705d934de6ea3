#ifndef IMPORTER_FOLD_FOLD_H
#define IMPORTER_FOLD_FOLD_H
/*
 * Constant folding. The walk asks fold_can and calls fold_node; the rest is what the files of this folder
 * share. A folding function's inputs are constants; fold_node has seen that those it must have are there.
 */
#include "importer/base/import.h"

/* True if the node can be computed now: all inputs constant, or Shape of anything. */
bool fold_can(const struct call *c);
bool fold_knows(const char *type); /* the operator can be folded at all */
int fold_node(struct import *im) MUST_CHECK;

typedef int fold_fn(struct import *im);
struct fold_rule {
    const char *type;
    int32_t n_in; /* at least this many inputs must be there */
    bool images;  /* takes constants of one image that stand for all (constant.images) */
    fold_fn *fn;
};

/* Element k is the unknown size of the batch. */
bool fold_is_batch(const struct constant *c, int64_t k);
int fold_set_batch(struct import *im, struct constant *c, int64_t k) MUST_CHECK;
/* to[j] = from[k], which have the same kind of numbers. */
int fold_copy_element(struct import *im, struct constant *to, int64_t j,
                      const struct constant *from, int64_t k) MUST_CHECK;
/* c is the node's result. */
int fold_finish(struct import *im, struct constant *c) MUST_CHECK;
/* Elements after axis k. */
int64_t fold_inner_size(const struct shape *s, int32_t k);
/* Input i as a shape; *images: its dim 0, 1 here, is the number of images. */
int fold_read_dims(struct import *im, int32_t i, struct shape *s, bool *images) MUST_CHECK;
/* Input i, which must be of a floating type and hold something. */
int fold_floats(struct import *im, int32_t i, struct constant **out) MUST_CHECK;

/* source.c */
fold_fn fold_constant, fold_constant_of_shape, fold_range, fold_shape, fold_size;
/* move.c */
fold_fn fold_concat, fold_flatten, fold_gather, fold_identity, fold_pad, fold_reshape, fold_slice;
fold_fn fold_squeeze, fold_transpose, fold_unsqueeze;
/* elements.c; fold_element_rule: of the operators in its tables, NULL if it has none */
fold_fn fold_cast, fold_cast_like, fold_clip, fold_expand, fold_where;
const struct fold_rule *fold_element_rule(const char *type);
/* reduce.c */
fold_fn fold_batchnorm, fold_matmul;
const struct fold_rule *fold_reduce_rule(const char *type);
#endif
