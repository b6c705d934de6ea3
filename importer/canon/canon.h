#ifndef IMPORTER_CANON_CANON_H
#define IMPORTER_CANON_CANON_H
/*
 * Rewriting: an operator on activations, in whatever form the file has it, becomes nodes of the one form
 * that the graph knows. The walk asks canon_find; the rest is what the files of this folder share.
 */
#include "importer/base/import.h"

typedef int canon_fn(struct import *im);
struct canon_row {
    const char *type;
    canon_fn *fn;
};
/* NULL if there is none. */
canon_fn *canon_find(const char *type);
/* Reports an operator that linnet does not have. */
int canon_unsupported(struct import *im) MUST_CHECK;

extern const struct canon_row canon_layers[], canon_shapes[],
    canon_relus[]; /* end with a NULL type */

/* The result of the node at hand is in this order. */
void canon_set_order(struct import *im, enum entry_order order);
/* *out = c, which broadcasts against [N,H,W,C] of the file, against [N,C,H,W]. */
int canon_channels_first(struct import *im, struct constant *c, struct constant **out) MUST_CHECK;
/* A value of the graph made of a constant of floats. Checks for NaN and infinity. */
int canon_value(struct import *im, struct constant *c, enum value_kind kind,
                value_id *out) MUST_CHECK;
/* The node's result: a new graph node of its name. */
int canon_emit(struct import *im, const struct op *op, const value_id *in, int32_t n_in,
               const union op_params *p) MUST_CHECK;
/* The same with another node name. */
int canon_emit_named(struct import *im, const char *name, const struct op *op, const value_id *in,
                     int32_t n_in, const union op_params *p) MUST_CHECK;
/* The same as input 0, which becomes an activation if it is pending. */
int canon_pass(struct import *im) MUST_CHECK;
/* A MatMul and the constant that is added to it -> Gemm. *found false: it is not a bias. */
int canon_product_bias(struct import *im, struct entry *product, struct constant *bias,
                       bool *found) MUST_CHECK;
/* Marks the node made last as preprocessing. */
void canon_freeze(struct import *im);
/* x is the input or came out of preprocessing. */
bool canon_at_input(const struct import *im, value_id x);

/* ---- zero_channels.c ------------------------------------------------------------------------ */

/* Concat with channels of zeros -> Pad. */
int zero_concat(struct import *im, bool *found) MUST_CHECK;

/* ---- channel_forms.c ------------------------------------------------------------------------ */

/* Concat of Conv results and Relus of them -> one Conv, and a MaskedRelu of whole channels. */
int channel_concat(struct import *im, bool *found) MUST_CHECK;
/* x + S^T (Relu(S x) - S x) -> MaskedRelu of whole channels. */
int channel_sum(struct import *im, value_id a, value_id b, bool *found) MUST_CHECK;

/* ---- mask_forms.c --------------------------------------------------------------------------- */

int mask_where(struct import *im) MUST_CHECK;
int mask_prelu(struct import *im) MUST_CHECK;
/* m * Relu(x) + (1 - m) * x. *found false: nothing was done. */
int mask_sum(struct import *im, value_id a, value_id b, bool *found) MUST_CHECK;
int mask_gather(struct import *im) MUST_CHECK;
/* Concat, Relu or ReLU6, and Reshape of selections; the caller has seen that an input is one. */
int mask_concat(struct import *im) MUST_CHECK;
int mask_relu(struct import *im, const struct selection *from, bool relu6) MUST_CHECK;
/* target: shape of the result. *found false: make it an activation and reshape that. */
int mask_reshape(struct import *im, const struct shape *target, bool *found) MUST_CHECK;
/* Makes the node at hand, or another, a MaskedRelu. mask: elements of x per image, 0 or 1. */
int mask_emit(struct import *im, value_id x, const float *mask, bool relu6) MUST_CHECK;
/* node `r` is Relu(x) or ReLU6(x) */
bool mask_is_relu_of(const struct graph *g, value_id r, value_id x);

/* ---- relu_forms.c --------------------------------------------------------------------------- */

/* The node at hand is the Relu of its input i. */
int canon_relu_of(struct import *im, int32_t i) MUST_CHECK;
/* All numbers are v. */
bool canon_is_all(const struct constant *c, float v);
/* Where whose condition is a comparison with 0; x * (x > 0). *found false: nothing was done. */
int relu_where(struct import *im, bool *found) MUST_CHECK;
int relu_product(struct import *im, bool *found) MUST_CHECK;

/* ---- input_channels.c ----------------------------------------------------------------------- */

/* The node at hand takes channels of the input, or joins such. *found false: nothing was done. */
int input_channels_gather(struct import *im, bool *found) MUST_CHECK;
int input_channels_slice(struct import *im, bool *found) MUST_CHECK;
int input_channels_unsqueeze(struct import *im, bool *found) MUST_CHECK;
int input_channels_concat(struct import *im, bool *found) MUST_CHECK;
int input_channels_split(struct import *im) MUST_CHECK;
/* The node at hand was made of from's value; its result has the channels that `from` has. */
void input_channels_keep(struct import *im, const struct entry *from);
int input_channels_binary(struct import *im, const struct op *op, bool *found) MUST_CHECK;
/* A Conv of such channels: *x is the graph's value, *w the weight for it. */
int input_channels_conv(struct import *im, int64_t group, struct constant **w, value_id *x,
                        bool *found) MUST_CHECK;
#endif
