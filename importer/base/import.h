#ifndef IMPORTER_BASE_IMPORT_H
#define IMPORTER_BASE_IMPORT_H
/*
 * What the files of the importer share: the state of an import, and the functions of this folder on it.
 * Folding (importer/fold) and rewriting (importer/canon) stand on it, the walk (importer.c) on top of
 * all. Private: include "onnx.pb-c.h" first.
 *
 * One forward walk over the file's nodes builds the graph in its final form. Every value name of
 * the file has an entry, which is one of
 *
 *     CONSTANT   known numbers: initializers, Constant nodes, folded shape arithmetic
 *     ACT        a value of the graph
 *     SELECTION  columns of a [N,K] value, some through a Relu (gather form of a masked ReLU)
 *     PRODUCT    a MatMul that waits for the Add of its bias
 *     TEST       a comparison of a value with 0
 *     CHANNELS   channels of the input, in an order of their own
 *     BAD        something that was reported; nodes that read it are passed over in silence
 *
 * so constants are folded, aliases (Identity, Dropout, no-op Reshape) resolved and forms recognised
 * before a node is made, and all problems of a file are found in one pass.
 *
 * Functions return 0 or a negative code; after a code other than ERR_NOMEM a problem was recorded
 * or err_message() says what failed (the walk makes a problem of it).
 */
#include "core/op/op.h"
#include "importer/base/public.h"

#define IMPORT_MAX_NODES 20000             /* a ResNet-1202 with its constants has about 15 000 */
#define IMPORT_MAX_NAME 1024               /* bytes of a name */
#define IMPORT_MAX_PROBLEMS 200            /* kinds of them that a report keeps */
#define IMPORT_CONSTANTS ((size_t)6 << 30) /* bytes of constants: a file of 2 GiB of float16 */
/* Bytes of numbers that nodes may make or look at (constant_room): so many for any file, and for each
 * of its bytes; the second factor up to a bound, for files whose weights are all computed. An import
 * takes no more memory than this room beside what the file itself holds: all of it is there once. */
#define IMPORT_ROOM ((int64_t)16 << 20)
#define IMPORT_ROOM_FACTOR 32
#define IMPORT_ROOM_COMPUTED 4096
#define IMPORT_ROOM_COMPUTED_MAX ((int64_t)256 << 20)
#define IMPORT_MAX_DIM ((int64_t)1 << 20) /* of an activation or an attribute */

struct import;

struct constant {
    const char *name;
    int32_t type;       /* ONNX__TENSOR_PROTO__DATA_TYPE__* of the file */
    struct shape shape; /* rank 0 for a scalar; dims >= 0 */
    int64_t count;
    float *f;       /* floating types */
    int64_t *i;     /* integer types; bool as 0 and 1 */
    uint8_t *batch; /* NULL, or a flag per element of i: it is the size of the batch */
    bool images;    /* dim 0, which is 1 here, is the number of images: all of them are this one */
    const Onnx__TensorProto *unread; /* its numbers are still there; NULL once f or i are set */
};

/* column k of the value is column[k] of `base`, through a Relu where relu[k] is 1, a ReLU6 where 2 */
struct selection {
    value_id base; /* [N,K] */
    int64_t n;
    int64_t *column;
    uint8_t *relu;
    const char *node; /* name of the node that made it */
};

struct product { /* x [N,I] times weight [I,O] */
    value_id x;
    struct constant *weight;
    const char *node;
};

enum entry_kind {
    ENTRY_NONE, /* not computed yet */
    ENTRY_CONSTANT,
    ENTRY_ACT,
    ENTRY_SELECTION,
    ENTRY_PRODUCT,
    ENTRY_TEST,
    ENTRY_CHANNELS,
    ENTRY_BAD,
};
enum entry_order { /* how the file's value lies relative to the graph's, which is [N,C,H,W] */
                   ORDER_SAME,
                   ORDER_LAST, /* file: [N,H,W,C] */
                   ORDER_FLAT_LAST, /* file: [N,H*W*C], a Flatten of the former; the graph's is not flattened yet */
};
struct entry {
    const char *name;
    enum entry_kind kind;
    int32_t producer; /* node of the file, -1 for initializers and inputs */
    int32_t uses;     /* by live nodes, and by the output */
    bool is_initializer;
    bool is_read; /* by any node; known of inputs */
    struct constant *constant;
    value_id act;           /* of an ACT; what a TEST compares; whose CHANNELS they are */
    enum entry_order order; /* of that */
    bool positive;          /* a TEST is true of positive numbers, else of negative ones */
    struct selection *selection;
    struct product *product;
    const struct channels *channels;
    /* Makes an ACT of a SELECTION, PRODUCT, TEST or CHANNELS, or refuses it; whoever makes one of those sets
     * it. NULL otherwise. */
    int (*settle)(struct import *im, struct entry *e);
};

struct call { /* the node at hand */
    const Onnx__NodeProto *proto;
    const char *type, *name;
    struct entry **in; /* NULL where absent */
    int32_t n_in;
    struct entry *out;
};

struct lost_file { /* external data that was reported already */
    const char *location;
    struct lost_file *next;
};

struct import {
    const Onnx__ModelProto *model;
    const Onnx__GraphProto *file; /* functions inlined */
    const int64_t *node_opset;    /* per node; NULL: im->opset for all */
    const struct import_options *opt;
    struct import_report *report;
    int32_t n_found; /* problems found, also those that have no row */
    bool reported;   /* a problem of the node at hand was recorded, now or at another node */
    int dir_fd;
    struct arena *arena; /* constants and tables; ends with the import */
    struct graph *g;
    struct entry *entry;
    int32_t n_entry, cap_entry;
    int32_t *slot; /* hash table of entries, -1 is free */
    uint32_t n_slot;
    bool *live; /* per node of the file: the output depends on it */
    int64_t opset;
    int64_t batch;           /* the file's fixed batch, 0 if it is symbolic */
    const char *at;          /* "(node 'x', opset 17)", "" outside of nodes */
    const struct call *call; /* NULL outside of nodes */
    struct entry *output;
    struct lost_file *lost;
    bool no_memory;           /* report_text had none: the import ends with ERR_NOMEM */
    int64_t room;             /* bytes of numbers that may still be made or looked at */
    int32_t n_half, n_double; /* tensors that were converted to float32 */
    int32_t n_relu6;          /* taken for Relu */
    int32_t n_cast; /* Casts of activations to other floating types, which were left out */
};

/* ---- names.c: the values of the file -------------------------------------------------------- */

/* Room for all names of im->file. */
int names_init(struct import *im) MUST_CHECK;
/* NULL if there is none. */
struct entry *names_find(const struct import *im, const char *name);
/* *out = NULL if the name was refused (reported): control bytes, or given before. */
int names_enter(struct import *im, const char *name, int32_t producer,
                struct entry **out) MUST_CHECK;
/* Names go to terminals, JSON and file names. what: "node", "value". */
int names_check(struct import *im, const char *what, const char *name);

/* ---- report.c: everything that is wrong with a file ----------------------------------------- */

int report_init(struct import_report *r) MUST_CHECK;
/* Records a problem of the node at hand; returns the error code of its class, or ERR_NOMEM. hint
 * may be "". The message should contain im->at. */
int report_problem(struct import *im, const char *code, const char *hint, const char *fmt, ...)
    ERR_PRINTF(4, 5);
int report_warning(struct import *im, const char *fmt, ...) ERR_PRINTF(2, 3) MUST_CHECK;
/* UTF-8 without control characters, at most `max` bytes. */
bool report_is_clean(const char *s, size_t max);
/* Clean text in the report's memory; "" and im->no_memory if there is none. */
const char *report_text(struct import *im, const char *fmt, ...) ERR_PRINTF(2, 3);
int report_facts(struct import *im) MUST_CHECK;
/* E1306: the operator of the node at hand, then `what`. */
int report_wrong(struct import *im, const char *what) MUST_CHECK;
/* E1304: the node at hand needs the batch as a number. */
int report_pins_batch(struct import *im) MUST_CHECK;
/* When all problems are in: messages say how many they stand for. */
int report_close(struct import *im) MUST_CHECK;
/* Fails with the first problem as the message. Call only where there is one. */
int report_fail(const struct import_report *r, int32_t n_found);

/* ---- tensor_proto.c and external.c: the numbers of a file ----------------------------------- */

/* Checks type and dims; the numbers are read by constant_read. */
int constant_of_proto(struct import *im, const Onnx__TensorProto *t, const char *name,
                      struct constant **out) MUST_CHECK;
int constant_read(struct import *im, struct constant *c) MUST_CHECK;
/* Weights go from the file to the graph without a copy in between: constant_check is true of what dims
 * promise, then constant_copy writes c's floats to `to`. For floating types only. */
int constant_check(struct import *im, const struct constant *c) MUST_CHECK;
int constant_copy(struct import *im, const struct constant *c, float *to) MUST_CHECK;
/* Floats that an unread constant will bring, 0 if it is another type or is not all there. */
int64_t constant_stored(const struct import *im, const struct constant *c);
/* Every node pays for the numbers that it makes or looks at, so that neither memory nor time exceeds
 * what the file's own size explains. A problem when the room is used up. */
int constant_room(struct import *im, int64_t bytes) MUST_CHECK;
/* Zeroed. dims >= 0; takes its room. */
int constant_new(struct import *im, int32_t type, const struct shape *shape,
                 struct constant **out) MUST_CHECK;
bool constant_is_float(const struct constant *c);
/* Maps the file that t points to; *data: its `bytes` bytes. Close *map afterwards. */
struct file_map;
int external_map(struct import *im, const Onnx__TensorProto *t, size_t bytes, struct file_map *map,
                 const uint8_t **data) MUST_CHECK;
/* Bytes of the file that t points to, 0 if there is none. A hint: it is opened only later. */
size_t external_size(const struct import *im, const Onnx__TensorProto *t);

/* ---- attrs.c: attributes of the node at hand ------------------------------------------------ */

const Onnx__AttributeProto *attrs_find(const struct call *c, const char *name);
int attrs_int(struct import *im, const char *name, int64_t dflt, int64_t *out) MUST_CHECK;
int attrs_float(struct import *im, const char *name, float dflt, float *out) MUST_CHECK;
/* *n = -1 if absent; more than `cap` values are a problem. */
int attrs_ints(struct import *im, const char *name, int64_t *out, int32_t cap,
               int32_t *n) MUST_CHECK;
/* `dflt` if absent. The text lives in the import's arena. */
int attrs_text(struct import *im, const char *name, const char *dflt, const char **out) MUST_CHECK;
/* Fills p by op->attrs; reports attributes that are neither there nor in `known` ("a,b"). */
int attrs_fill(struct import *im, const struct op *op, const char *known,
               union op_params *p) MUST_CHECK;
/* Reports attributes that are not in `known`. */
int attrs_only(struct import *im, const char *known) MUST_CHECK;

/* ---- operand.c: inputs of the node at hand -------------------------------------------------- */

bool operand_has(const struct call *c, int32_t i); /* input i is there */
bool operand_is(const struct call *c, int32_t i, enum entry_kind kind);
int operand_missing(struct import *im, int32_t i); /* reports that it is not */
/* Input i as a graph value; pending selections and products become nodes. A problem if the file has it
 * in another order than the graph. */
int operand_act(struct import *im, int32_t i, value_id *out) MUST_CHECK;
/* The same for operators that work in any order of the dims. */
int operand_act_any(struct import *im, int32_t i, value_id *out,
                    enum entry_order *order) MUST_CHECK;
/* The same for an entry. */
int entry_act(struct import *im, struct entry *e, value_id *out) MUST_CHECK;
int entry_act_any(struct import *im, struct entry *e, value_id *out) MUST_CHECK;
/* Input i as a constant that has been read. */
int operand_constant(struct import *im, int32_t i, struct constant **out) MUST_CHECK;
/* The same, but its numbers may still be unread. */
int operand_weight(struct import *im, int32_t i, struct constant **out) MUST_CHECK;
/* Input i as integers; a batch-sized element is a problem unless `batch` [cap] takes the flags. */
int operand_ints(struct import *im, int32_t i, int64_t *out, uint8_t *batch, int32_t cap,
                 int32_t *n) MUST_CHECK;
/* The result of the node at hand is the same as e. */
int result_alias(struct import *im, const struct entry *e) MUST_CHECK;

/* ---- axes.c --------------------------------------------------------------------------------- */

/* The shape of a value as the file sees it. */
struct shape file_shape(const struct import *im, value_id v, enum entry_order order);
/* *out = axis in [0, rank); axis may count from the end. */
int axis_resolve(struct import *im, int64_t axis, int32_t rank, int32_t *out) MUST_CHECK;
/* Attribute `axes`, or input i in newer opsets. *n = -1 if neither is there. */
int axes_read(struct import *im, int32_t i, int64_t axes[SHAPE_MAX_RANK], int32_t *n) MUST_CHECK;
struct slicing { /* what a Slice takes: element k of axis d is first + k * step */
    int64_t first[SHAPE_MAX_RANK], step[SHAPE_MAX_RANK];
    struct shape to;
};
/* Slice of the node at hand, from attributes or inputs, applied to shape s. */
int slicing_read(struct import *im, const struct shape *s, struct slicing *z) MUST_CHECK;
int broadcast_shape(struct import *im, const struct shape *a, const struct shape *b,
                    struct shape *out) MUST_CHECK;
/* Where element k of a tensor of shape `to` comes from in a constant of shape s, broadcast to it. */
int64_t broadcast_index(const struct shape *to, int64_t k, const struct shape *s);
#endif
