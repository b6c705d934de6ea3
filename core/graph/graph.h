#ifndef CORE_GRAPH_GRAPH_H
#define CORE_GRAPH_GRAPH_H
/*
 * The graph: what the importer makes, the stages change and the exporter writes.
 *
 * Values and nodes are rows of two tables and know each other by index, never by pointer: a clone
 * is a copy, a checkpoint names values, a bad file cannot make a wild pointer. Nodes are kept in
 * topological order. Everything that changes during training lives in three flat blocks:
 *
 *     params   weights, biases, gamma, beta        (kind PARAM)   gradients have the same layout
 *     buffers  running mean and variance           (kind BUFFER)
 *     masks    ReLU masks, one float a position    (kind MASK)
 *
 * and the data of such a value is a slice of its block. CONST data belong to the arena and never
 * change. Files, masks and blocks hold tensors in ONNX order ([C,H,W], [O,I,KH,KW]); only the
 * executor stores activations differently (exec.h).
 *
 * Two BN branches: a BatchNormalization node has inputs X, then (gamma, beta, mean, var) once
 * or twice. Branch 0 is clean, branch 1 adversarial: the BN branches of trainer/METHOD.md.
 */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/mem.h"
#include "core/graph/nameset.h"
#include "core/graph/operator.h"
#include "core/graph/tensor.h"

typedef int32_t value_id; /* index into g->value */
#define NO_VALUE (-1)     /* an absent optional input */
#define NODE_MAX_IN 9
#define NODE_MAX_OUT 1
#define GRAPH_MAX_CHANNELS_NORM 16
#define RELU6_TOP 6.0F

enum value_kind { VALUE_INPUT, VALUE_PARAM, VALUE_BUFFER, VALUE_MASK, VALUE_CONST, VALUE_TEMP };

struct value {
    const char *name;   /* unique, never NULL, owned by the graph */
    struct shape shape; /* activations: dim 0 is SHAPE_BATCH */
    enum value_kind kind;
    float *data;      /* PARAM, BUFFER, MASK: slice of the block; CONST: arena; else NULL */
    int64_t offset;   /* of that slice, in floats; -1 where there is none */
    int32_t producer; /* node index, -1 where no node makes it */
};

/* Attributes, one struct an operator, filled through op->attrs. All spatial lists are [H,W]. */
struct conv_params {
    int64_t stride[2], pad[4] /* top, left, bottom, right */, dilation[2], group;
};
struct pool_params {
    int64_t kernel[2], stride[2], pad[4], dilation[2], ceil_mode, count_include_pad;
};
struct batchnorm_params {
    float eps, momentum; /* ONNX momentum: running = momentum * running + (1 - momentum) * batch */
};
struct masked_relu_params {
    int64_t soft;  /* 1: mask in [0,1], y = m f(x) + (1-m) x; 0: mask is 0/1, y = m ? f(x) : x */
    int64_t relu6; /* f: 1: min(max(x, 0), 6); 0: max(x, 0) */
};
struct pad_params {
    int64_t begin[4], end[4]; /* for [N,C,H,W]; the N entries are 0 */
    float value;
};
struct slice_params {
    int64_t start[4], end[4], step[4]; /* resolved: 0 <= start < end <= dim, step >= 1; N whole */
};
struct reshape_params {
    struct shape target; /* dim 0 = SHAPE_BATCH */
};
struct softmax_params {
    int64_t axis;
};
union op_params {
    struct conv_params conv;
    struct pool_params pool;
    struct batchnorm_params batchnorm;
    struct masked_relu_params masked_relu;
    struct pad_params pad;
    struct slice_params slice;
    struct reshape_params reshape;
    struct softmax_params softmax;
};

struct node {
    const struct op *op;
    const char *name; /* unique, never NULL */
    value_id in[NODE_MAX_IN], out[NODE_MAX_OUT];
    int32_t n_in;
    bool frozen; /* preprocessing that came with the file: never trained */
    union op_params p;
};

/* What is done to pixels in [0,1] before they enter the graph, because the file does not hold it:
 * x' = (x - mean[c]) / std[c]. Not a node: the exported graph stays what the user gave us. */
struct input_norm {
    int32_t channels; /* 0: identity */
    float mean[GRAPH_MAX_CHANNELS_NORM], std[GRAPH_MAX_CHANNELS_NORM];
};

/* What the file does to the logits at its end. No node: training, attacks and private inference work
 * on the logits, the exporter writes it again. */
enum graph_tail { TAIL_NONE, TAIL_SOFTMAX, TAIL_LOG_SOFTMAX };

struct graph_meta { /* model metadata carried through, linnet.* only, sorted by key */
    const char *key, *text;
};

struct graph { /* graph_verify() checks every invariant above */
    struct arena *arena;
    const char *name;
    struct value *value;
    int32_t n_value;
    struct node *node;
    int32_t n_node;
    value_id input, output;          /* one image input [N,C,H,W], one output [N,K] */
    const char *batch_name;          /* dim_param of the batch in the file, "N" if it had none */
    float *params, *buffers, *masks; /* 64-byte aligned */
    int64_t n_params, n_buffers, n_masks;
    int64_t cap_params, cap_buffers, cap_masks;
    size_t cap_value, cap_node, cap_meta;
    uint64_t version; /* raised by graph_touch(): cached weight transforms are stale */
    struct input_norm norm;
    bool channels_last; /* the file's input is [N,H,W,C]; the graph's is [N,C,H,W] in any case */
    enum graph_tail tail;
    const char *tail_node, *tail_output; /* its names in the file, NULL without a tail */
    struct graph_meta *meta;
    int32_t n_meta;
    int64_t ir_version, opset; /* of the file that was read; 0 if made here */
    const char *producer;
    struct shape file_input, file_output;   /* as in the file: a fixed batch shows here */
    struct nameset value_names, node_names; /* names that are taken */
};

int graph_new(struct graph **out) MUST_CHECK;
void graph_free(struct graph *g); /* NULL is fine */
FREE_AT(graph_free, struct graph)
/* A deep copy: equal ids, own blocks. */
int graph_clone(const struct graph *g, struct graph **out) MUST_CHECK;

/* Room for n more floats of PARAM values, so that adding them moves nothing. */
int graph_reserve_params(struct graph *g, int64_t n) MUST_CHECK;
/* Adds a value; `name` is made unique by a suffix if taken. For PARAM, BUFFER, MASK, CONST the data
 * are zeroed, or copied from `data` if not NULL. INVALIDATES pointers into the blocks, which may
 * move; g->value[].data are updated. */
int graph_add_value(struct graph *g, const char *name, enum value_kind kind,
                    const struct shape *shape, const float *data, value_id *out) MUST_CHECK;
/* Appends a node with one TEMP output named `out_name`; runs op->shape to set the output's shape.
 * in[] may hold NO_VALUE. p may be NULL (zeros). */
int graph_add_node(struct graph *g, const struct op *op, const char *name, const value_id *in,
                   int32_t n_in, const union op_params *p, const char *out_name,
                   value_id *out) MUST_CHECK;
/* The same but placed directly after node `after` (-1: first); later indices move up by one. */
int graph_insert_node(struct graph *g, int32_t after, const struct op *op, const char *name,
                      const value_id *in, int32_t n_in, const union op_params *p,
                      const char *out_name, value_id *out) MUST_CHECK;
/* Every use of `from` (node inputs except of node `except`, and the graph output) becomes `to`. */
void graph_replace_uses(struct graph *g, value_id from, value_id to, int32_t except);
/* Removes a node whose output nobody uses; later indices move down by one. */
void graph_remove_node(struct graph *g, int32_t node);
/* Drops values nobody refers to and compacts the blocks in place; ids CHANGE. 0, or ERR_NOMEM and g as
 * it was. */
int graph_compact(struct graph *g) MUST_CHECK;
/* Checks every invariant; a violation is ERR_FORMAT that names node or value. */
int graph_verify(const struct graph *g) MUST_CHECK;
value_id graph_find_value(const struct graph *g, const char *name); /* NO_VALUE if none */
int32_t graph_find_node(const struct graph *g, const char *name);   /* -1 if none */
/* Number of uses of v by node inputs plus the graph output. */
int32_t graph_count_uses(const struct graph *g, value_id v);
/* The only node that reads v, -1 if none or several. */
int32_t graph_single_user(const struct graph *g, value_id v);
/* Call after any change of params, buffers or masks: kernels repack their weights. */
void graph_touch(struct graph *g);
/* Sets or replaces metadata; text NULL removes. */
int graph_set_meta(struct graph *g, const char *key, const char *text) MUST_CHECK;
const char *graph_get_meta(const struct graph *g, const char *key); /* NULL if none */
/* Positions of a mask that are kept, those above 1/2. */
int64_t graph_mask_kept(const struct value *mask);
/* Batch-norm branches in the graph: 0 (no BN), 1 or 2. */
int graph_branches(const struct graph *g);
/* Multiply-accumulates of one image (Conv and Gemm). */
int64_t graph_macs(const struct graph *g);

/* Input i of a node; it must be there. */
static inline const struct value *op_in(const struct graph *g, const struct node *node, int i)
{
    return &g->value[node->in[i]];
}
static inline bool node_has(const struct node *node, int i)
{
    return i < node->n_in && node->in[i] != NO_VALUE;
}

/* The node that makes v, NULL if none does. */
static inline const struct node *graph_producer(const struct graph *g, value_id v)
{
    return g->value[v].producer >= 0 ? &g->node[g->value[v].producer] : NULL;
}

static inline bool value_is_activation(const struct value *v)
{
    return v->kind == VALUE_INPUT || v->kind == VALUE_TEMP;
}
#endif
