/*
 * The file under construction: a ModelProto whose messages lie in an arena until they are packed.
 *
 * Above 1.9 GB, or on request, tensors of 1 KiB or more go into a second file <name>.data, which is
 * written first; each begins at a multiple of 64 bytes (ONNX external data).
 *
 * Bytes depend on the graph and the options only: the order is that of the nodes, metadata are
 * sorted by key, doc strings and types of inner values are left out. Derived names come from node
 * names, so that a file that is read and written again is the same file. Conv, Gemm and pools
 * always spell out their attributes, because many importers do not know the defaults.
 *
 * The tree points at the floats of the clone, and dies with the arena: never free_unpacked, which
 * would free strings that are not its own. raw_data is little-endian, as is every machine linnet
 * runs on.
 */
#include "exporter/onnx_write.h"

#include <limits.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "core/base/file.h"
#include "core/graph/nameset.h"
#include "core/op/op.h"
#include "core/base/version.h"
#include "onnx.pb-c.h"

#define OPSET_POOL_DILATIONS 19 /* AveragePool has none before */
/* The most that one node of the graph becomes, a MaskedRelu as gathers; and its own tensors. */
#define NODES_PER_NODE 11
#define TENSORS_PER_NODE 6
#define MAX_FILE ((size_t)1900000000) /* readers refuse 2 GiB */
#define EXTERNAL_MIN 1024             /* bytes of a tensor that goes into the second file */
#define EXTERNAL_ALIGN 64

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "raw_data is copied as it lies in memory");

struct onnx_writer {
    int rc; /* first failure; everything after it does nothing */
    struct arena *arena;
    const struct graph *g;
    const struct export_options *opt;
    const char *input; /* of the file; the graph's is after a Transpose where they differ */
    int64_t opset;
    bool static_batch, constant_nodes;
    struct nameset value_names, node_names; /* of the file */
    bool *written;                          /* per value: it is an initializer already */
    Onnx__NodeProto **node;
    Onnx__TensorProto **tensor;
    size_t n_node, n_tensor;
};

/* ---- memory and names -------------------------------------------------------------------- */

void *onnx_write_array(struct onnx_writer *w, size_t n, size_t size)
{
    void *p = w->rc < 0 ? NULL : arena_array(w->arena, n, size);

    if (p == NULL && w->rc == 0)
        w->rc = ERR_NOMEM;
    return p;
}

static const char *unique_name(struct onnx_writer *w, struct nameset *taken, const char *stem,
                               const char *suffix)
{
    const char *name = w->rc < 0 ? NULL : arena_printf(w->arena, "%s%s", stem, suffix);

    for (int i = 1; name != NULL && nameset_has(taken, name); i++)
        name = arena_printf(w->arena, "%s%s_%d", stem, suffix, i);
    if (name == NULL) {
        w->rc = w->rc < 0 ? w->rc : ERR_NOMEM;
        return "";
    }
    w->rc = nameset_add(taken, name);
    return name;
}

const char *onnx_write_value_name(struct onnx_writer *w, const char *stem, const char *suffix)
{
    return unique_name(w, &w->value_names, stem, suffix);
}

const char *onnx_write_node_name(struct onnx_writer *w, const char *stem, const char *suffix)
{
    return unique_name(w, &w->node_names, stem, suffix);
}

/* protobuf-c has char * everywhere; packing only reads. */
static char *text(const char *s)
{
    return (char *)s;
}

/* ---- tensors ----------------------------------------------------------------------------- */

static Onnx__TensorProto *new_tensor(struct onnx_writer *w, const char *name, int32_t type,
                                     const struct shape *shape, const void *data, size_t size)
{
    Onnx__TensorProto *t = onnx_write_array(w, 1, sizeof *t);
    int64_t *dims = onnx_write_array(w, (size_t)shape->rank, sizeof *dims);

    if (t == NULL || dims == NULL)
        return NULL;
    onnx__tensor_proto__init(t);
    memcpy(dims, shape->dim, (size_t)shape->rank * sizeof *dims);
    t->name = text(name);
    t->data_type = type;
    t->n_dims = (size_t)shape->rank;
    t->dims = dims;
    t->raw_data.len = (size_t)shape_elems(shape) * size;
    t->raw_data.data = (uint8_t *)(uintptr_t)data;
    return t;
}

static void add_initializer(struct onnx_writer *w, Onnx__TensorProto *t)
{
    if (w->rc == 0)
        w->tensor[w->n_tensor++] = t;
}

void onnx_write_floats(struct onnx_writer *w, const char *name, const struct shape *shape,
                       const float *data)
{
    add_initializer(
        w, new_tensor(w, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, shape, data, sizeof *data));
}

void onnx_write_bools(struct onnx_writer *w, const char *name, const struct shape *shape,
                      const uint8_t *data)
{
    add_initializer(
        w, new_tensor(w, name, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, shape, data, sizeof *data));
}

/* ---- nodes and attributes ---------------------------------------------------------------- */

void onnx_write_node(struct onnx_writer *w, const char *type, const char *name,
                     const char *const *in, int32_t n_in, const char *out)
{
    Onnx__NodeProto *n = onnx_write_array(w, 1, sizeof *n);
    char **names = onnx_write_array(w, (size_t)n_in + 1, sizeof *names);

    if (n == NULL || names == NULL)
        return;
    onnx__node_proto__init(n);
    for (int32_t i = 0; i < n_in; i++)
        names[i] = text(in[i]);
    names[n_in] = text(out);
    n->op_type = text(type);
    n->name = text(name);
    n->n_input = (size_t)n_in;
    n->input = names;
    n->n_output = 1;
    n->output = names + n_in;
    w->node[w->n_node++] = n;
}

static Onnx__AttributeProto *add_attr(struct onnx_writer *w, const char *name,
                                      Onnx__AttributeProto__AttributeType type)
{
    Onnx__AttributeProto *a = onnx_write_array(w, 1, sizeof *a);
    Onnx__NodeProto *n = w->rc < 0 ? NULL : w->node[w->n_node - 1];
    Onnx__AttributeProto **list = onnx_write_array(w, n ? n->n_attribute + 1 : 1, sizeof *list);

    if (a == NULL || n == NULL || list == NULL)
        return NULL;
    onnx__attribute_proto__init(a);
    a->name = text(name);
    a->type = type;
    if (n->n_attribute > 0)
        memcpy(list, n->attribute, n->n_attribute * sizeof *list);
    list[n->n_attribute++] = a;
    n->attribute = list;
    return a;
}

void onnx_write_attr(struct onnx_writer *w, const char *name, int64_t v)
{
    Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);

    if (a != NULL)
        a->i = v;
}

void onnx_write_attr_float(struct onnx_writer *w, const char *name, float v)
{
    Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);

    if (a != NULL)
        a->f = v;
}

void onnx_write_attr_ints(struct onnx_writer *w, const char *name, const int64_t *v, int32_t n)
{
    Onnx__AttributeProto *a = add_attr(w, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = onnx_write_array(w, (size_t)n, sizeof *copy);

    if (a == NULL || copy == NULL)
        return;
    memcpy(copy, v, (size_t)n * sizeof *copy);
    a->ints = copy;
    a->n_ints = (size_t)n;
}

void onnx_write_ints(struct onnx_writer *w, const char *name, const int64_t *v, int64_t n)
{
    struct shape shape = shape_make(1, n);
    int64_t *copy = onnx_write_array(w, (size_t)n, sizeof *copy);
    Onnx__AttributeProto *a;
    Onnx__TensorProto *t;

    if (copy == NULL)
        return;
    memcpy(copy, v, (size_t)n * sizeof *copy);
    t = new_tensor(w, w->constant_nodes ? "" : name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, &shape,
                   copy, sizeof *copy);
    if (!w->constant_nodes) {
        add_initializer(w, t);
        return;
    }
    onnx_write_node(w, "Constant", onnx_write_node_name(w, name, ""), NULL, 0, name);
    if ((a = add_attr(w, "value", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR)) != NULL)
        a->t = t;
}

/* ---- a node of the graph ----------------------------------------------------------------- */

void onnx_write_check_finite(struct onnx_writer *w, const struct value *v)
{
    int64_t n = shape_elems(&v->shape);

    for (int64_t i = 0; i < n; i++)
        if (!isfinite(v->data[i])) {
            w->rc = fail(ERR_NUMERIC,
                         "tensor '%s': element %lld is %g; only finite weights are written",
                         v->name, (long long)i, (double)v->data[i]);
            return;
        }
}

/* The constants that a node reads become initializers once. */
static void write_operands(struct onnx_writer *w, const struct node *n)
{
    for (int32_t i = 0; i < n->n_in && w->rc == 0; i++) {
        const struct value *v = n->in[i] == NO_VALUE ? NULL : op_in(w->g, n, i);

        if (v == NULL || value_is_activation(v) || v->kind == VALUE_MASK || w->written[n->in[i]])
            continue;
        w->written[n->in[i]] = true;
        onnx_write_check_finite(w, v);
        onnx_write_floats(w, v->name, &v->shape, v->data);
    }
}

/* An attribute that the operator of the file does not have, or that its opset does not have yet. */
static bool skips_attr(struct onnx_writer *w, const struct node *n, const struct attr *a,
                       const int64_t *v)
{
    /* A 0 takes no byte in proto3; CrypTen asks for the field and refuses what is not there. */
    if (w->constant_nodes && a->kind == ATTR_INT && !a->required && a->dflt == 0 && v[0] == 0)
        return true;
    if (n->op != &op_average_pool || strcmp(a->name, "dilations") != 0 ||
        w->opset >= OPSET_POOL_DILATIONS)
        return false;
    if (v[0] != 1 || v[1] != 1)
        w->rc = fail(
            ERR_ARG,
            "node '%s' (AveragePool): dilations need opset %d, asked for %lld. Hint: --opset %d",
            n->name, OPSET_POOL_DILATIONS, (long long)w->opset, OPSET_POOL_DILATIONS);
    return true;
}

/* What the operator's own table lists. */
static void write_table(struct onnx_writer *w, const struct node *n)
{
    for (const struct attr *a = n->op->attrs; a != NULL && a->name != NULL && w->rc == 0; a++) {
        const void *field = (const char *)&n->p + a->offset;

        if (a->kind == ATTR_FLOAT)
            onnx_write_attr_float(w, a->name, *(const float *)field);
        else if (skips_attr(w, n, a, field))
            continue;
        else if (a->kind == ATTR_INT)
            onnx_write_attr(w, a->name, *(const int64_t *)field);
        else
            onnx_write_attr_ints(w, a->name, field, a->count);
    }
}

/* What the table does not hold because the graph has one form of it only. */
static void write_derived(struct onnx_writer *w, const struct node *n)
{
    if (n->op == &op_conv) {
        onnx_write_attr_ints(w, "kernel_shape", op_in(w->g, n, 1)->shape.dim + 2, 2);
    } else if (n->op == &op_gemm) {
        onnx_write_attr_float(w, "alpha", 1);
        onnx_write_attr_float(w, "beta", 1);
        onnx_write_attr(w, "transB", 1);
    } else if (n->op == &op_flatten) {
        onnx_write_attr(w, "axis", 1);
    }
}

/* in[1...] of a Reshape, Pad or Slice, which the file has as inputs. Returns how many. */
static int32_t write_reshape_inputs(struct onnx_writer *w, const struct node *n, const char **in)
{
    struct shape target = n->p.reshape.target;

    target.dim[0] = w->static_batch ? 1 : -1;
    in[0] = onnx_write_value_name(w, n->name, ".shape");
    onnx_write_ints(w, in[0], target.dim, target.rank);
    return 1;
}

static int32_t write_pad_inputs(struct onnx_writer *w, const struct node *n, const char **in)
{
    const struct pad_params *p = &n->p.pad;
    struct shape scalar = {0};
    int64_t pads[8];

    memcpy(pads, p->begin, sizeof p->begin);
    memcpy(pads + 4, p->end, sizeof p->end);
    in[0] = onnx_write_value_name(w, n->name, ".pads");
    onnx_write_ints(w, in[0], pads, 8);
    if (p->value == 0)
        return 1;
    in[1] = onnx_write_value_name(w, n->name, ".value");
    onnx_write_floats(w, in[1], &scalar, &p->value);
    return 2;
}

static int32_t write_slice_inputs(struct onnx_writer *w, const struct node *n, const char **in)
{
    static const int64_t axes[3] = {1, 2, 3};
    const struct slice_params *p = &n->p.slice;
    int32_t rank = op_in(w->g, n, 0)->shape.rank - 1;

    in[0] = onnx_write_value_name(w, n->name, ".starts");
    in[1] = onnx_write_value_name(w, n->name, ".ends");
    in[2] = onnx_write_value_name(w, n->name, ".axes");
    in[3] = onnx_write_value_name(w, n->name, ".steps");
    onnx_write_ints(w, in[0], p->start + 1, rank);
    onnx_write_ints(w, in[1], p->end + 1, rank);
    onnx_write_ints(w, in[2], axes, rank);
    onnx_write_ints(w, in[3], p->step + 1, rank);
    return 4;
}

static int32_t write_list_inputs(struct onnx_writer *w, const struct node *n, const char **in)
{
    if (n->op == &op_reshape)
        return write_reshape_inputs(w, n, in);
    if (n->op == &op_pad)
        return write_pad_inputs(w, n, in);
    if (n->op == &op_slice)
        return write_slice_inputs(w, n, in);
    return 0;
}

/* True where attributes of the graph's node are inputs of the file's. */
static bool has_list_inputs(const struct op *op)
{
    return op == &op_reshape || op == &op_pad || op == &op_slice;
}

void onnx_write_attributes(struct onnx_writer *w, const struct node *n)
{
    write_derived(w, n);
    write_table(w, n);
}

void onnx_write_relu(struct onnx_writer *w, const char *site, const char *node, bool relu6,
                     const char *x, const char *out)
{
    static const float low = 0, high = RELU6_TOP;
    static const struct shape scalar = {0};
    const char *in[3] = {x, NULL, NULL};

    if (relu6) {
        in[1] = onnx_write_value_name(w, site, ".low");
        in[2] = onnx_write_value_name(w, site, ".high");
        onnx_write_floats(w, in[1], &scalar, &low);
        onnx_write_floats(w, in[2], &scalar, &high);
    }
    onnx_write_node(w, relu6 ? "Clip" : "Relu", node, in, relu6 ? 3 : 1, out);
}

void onnx_write_graph_node(struct onnx_writer *w, const struct node *n)
{
    const char *in[NODE_MAX_IN + 4];
    int32_t n_in = 0;

    if (n->op == &op_relu6) {
        onnx_write_relu(w, n->name, n->name, true, op_in(w->g, n, 0)->name,
                        w->g->value[n->out[0]].name);
        return;
    }
    for (int32_t i = 0; i < n->n_in; i++) {
        in[i] = n->in[i] == NO_VALUE ? "" : op_in(w->g, n, i)->name;
        if (n->in[i] != NO_VALUE)
            n_in = i + 1;
    }
    write_operands(w, n);
    n_in += write_list_inputs(w, n, in + n_in);
    onnx_write_node(w, n->op->type, n->name, in, n_in, w->g->value[n->out[0]].name);
    if (!has_list_inputs(n->op))
        onnx_write_attributes(w, n);
}

/* [N,H,W,C] of the file -> the graph's [N,C,H,W] */
void onnx_write_input(struct onnx_writer *w)
{
    static const int64_t perm[4] = {0, 3, 1, 2};

    if (!w->g->channels_last)
        return;
    onnx_write_node(w, "Transpose", onnx_write_node_name(w, w->input, "/Transpose"), &w->input, 1,
                    w->g->value[w->g->input].name);
    onnx_write_attr_ints(w, "perm", perm, 4);
}

static bool writes_tail(const struct onnx_writer *w)
{
    return w->g->tail != TAIL_NONE && !w->opt->strip_softmax;
}

void onnx_write_output(struct onnx_writer *w)
{
    const char *x = w->g->value[w->g->output].name;

    if (!writes_tail(w))
        return;
    onnx_write_node(w, w->g->tail == TAIL_SOFTMAX ? "Softmax" : "LogSoftmax",
                    onnx_write_node_name(w, w->g->tail_node, ""), &x, 1, w->g->tail_output);
    onnx_write_attr(w, "axis", 1);
}

/* ---- the model around the nodes ------------------------------------------------------------ */

static Onnx__TensorShapeProto *new_shape(struct onnx_writer *w, const struct shape *shape)
{
    Onnx__TensorShapeProto *s = onnx_write_array(w, 1, sizeof *s);
    Onnx__TensorShapeProto__Dimension *d = onnx_write_array(w, (size_t)shape->rank, sizeof *d);
    Onnx__TensorShapeProto__Dimension **list =
        onnx_write_array(w, (size_t)shape->rank, sizeof *list);

    if (s == NULL || d == NULL || list == NULL)
        return NULL;
    onnx__tensor_shape_proto__init(s);
    for (int32_t i = 0; i < shape->rank; i++) {
        onnx__tensor_shape_proto__dimension__init(&d[i]);
        list[i] = &d[i];
        d[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d[i].dim_value = i == 0 ? 1 : shape->dim[i];
        if (i > 0 || w->static_batch)
            continue;
        d[i].value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d[i].dim_param = text(w->g->batch_name[0] != '\0' ? w->g->batch_name : "N");
    }
    s->n_dim = (size_t)shape->rank;
    s->dim = list;
    return s;
}

/* A list of one: the graph has one input and one output. */
static Onnx__ValueInfoProto **new_info(struct onnx_writer *w, const char *name,
                                       const struct shape *shape)
{
    Onnx__ValueInfoProto **list = onnx_write_array(w, 1, sizeof *list);
    Onnx__ValueInfoProto *info = onnx_write_array(w, 1, sizeof *info);
    Onnx__TypeProto *type = onnx_write_array(w, 1, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = onnx_write_array(w, 1, sizeof *tensor);

    if (list == NULL || info == NULL || type == NULL || tensor == NULL)
        return NULL;
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = new_shape(w, shape);
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    info->name = text(name);
    info->type = type;
    list[0] = info;
    return list;
}

static Onnx__GraphProto *new_graph(struct onnx_writer *w)
{
    const struct value *x = &w->g->value[w->g->input], *y = &w->g->value[w->g->output];
    const struct shape *s = &x->shape;
    struct shape in =
        w->g->channels_last ? shape_make(4, s->dim[0], s->dim[2], s->dim[3], s->dim[1]) : *s;
    Onnx__GraphProto *p = onnx_write_array(w, 1, sizeof *p);

    if (p == NULL)
        return NULL;
    onnx__graph_proto__init(p);
    p->name = text(w->g->name[0] != '\0' ? w->g->name : "linnet");
    p->n_node = w->n_node;
    p->node = w->node;
    p->n_initializer = w->n_tensor;
    p->initializer = w->tensor;
    p->n_input = p->n_output = 1;
    p->input = new_info(w, w->input, &in);
    p->output = new_info(w, writes_tail(w) ? w->g->tail_output : y->name, &y->shape);
    return p;
}

static void add_meta(struct onnx_writer *w, Onnx__ModelProto *m)
{
    size_t n = (size_t)w->g->n_meta;
    Onnx__StringStringEntryProto *e = onnx_write_array(w, n, sizeof *e);
    Onnx__StringStringEntryProto **list = onnx_write_array(w, n, sizeof *list);

    if (e == NULL || list == NULL)
        return;
    for (size_t i = 0; i < n; i++) {
        onnx__string_string_entry_proto__init(&e[i]);
        e[i].key = text(w->g->meta[i].key);
        e[i].value = text(w->g->meta[i].text);
        list[i] = &e[i];
    }
    m->n_metadata_props = n;
    m->metadata_props = list;
}

static int64_t ir_of_opset(int64_t opset)
{
    return opset <= 18 ? 8 : opset <= 20 ? 9 : 10;
}

static Onnx__ModelProto *new_model(struct onnx_writer *w)
{
    Onnx__ModelProto *m = onnx_write_array(w, 1, sizeof *m);
    Onnx__OperatorSetIdProto *set = onnx_write_array(w, 1, sizeof *set);
    Onnx__OperatorSetIdProto **list = onnx_write_array(w, 1, sizeof *list);

    if (m == NULL || set == NULL || list == NULL)
        return NULL;
    onnx__model_proto__init(m);
    onnx__operator_set_id_proto__init(set);
    set->version = w->opset;
    list[0] = set;
    m->ir_version = ir_of_opset(w->opset);
    m->n_opset_import = 1;
    m->opset_import = list;
    m->producer_name = text("linnet");
    m->producer_version = text(LINNET_VERSION);
    m->graph = new_graph(w);
    add_meta(w, m);
    return m;
}

/* ---- packing ------------------------------------------------------------------------------- */

/* The names that stand in the file whatever is derived: masks do not. */
static void take_names(struct onnx_writer *w)
{
    for (value_id v = 0; v < w->g->n_value && w->rc == 0; v++)
        if (w->g->value[v].kind != VALUE_MASK)
            w->rc = nameset_add(&w->value_names, w->g->value[v].name);
    for (int32_t i = 0; i < w->g->n_node && w->rc == 0; i++)
        if (w->g->node[i].op != &op_masked_relu)
            w->rc = nameset_add(&w->node_names, w->g->node[i].name);
    if (writes_tail(w) && w->rc == 0)
        w->rc = nameset_add(&w->value_names, w->g->tail_output);
    if (w->g->channels_last && w->rc == 0)
        w->rc = nameset_add(&w->value_names, w->input);
}

static int pack(const Onnx__ModelProto *m, size_t size, uint8_t **out, size_t *len)
{
    uint8_t *bytes = mem_array(size, 1);

    if (bytes == NULL)
        return ERR_NOMEM;
    *len = onnx__model_proto__pack(m, bytes);
    *out = bytes;
    return 0;
}

/* ---- external data ------------------------------------------------------------------------- */

/* Key and decimal text of an external_data entry. */
static void put_entry(struct onnx_writer *w, Onnx__StringStringEntryProto *e, const char *key,
                      const char *value)
{
    onnx__string_string_entry_proto__init(e);
    e->key = text(key);
    e->value = text(value != NULL ? value : "");
    if (value == NULL && w->rc == 0)
        w->rc = ERR_NOMEM;
}

static void point_outside(struct onnx_writer *w, Onnx__TensorProto *t, const char *file,
                          uint64_t offset)
{
    Onnx__StringStringEntryProto *e = onnx_write_array(w, 3, sizeof *e);
    Onnx__StringStringEntryProto **list = onnx_write_array(w, 3, sizeof *list);

    if (e == NULL || list == NULL)
        return;
    put_entry(w, &e[0], "location", file);
    put_entry(w, &e[1], "offset", arena_printf(w->arena, "%" PRIu64, offset));
    put_entry(w, &e[2], "length", arena_printf(w->arena, "%zu", t->raw_data.len));
    for (int k = 0; k < 3; k++)
        list[k] = &e[k];
    t->external_data = list;
    t->n_external_data = 3;
    t->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    t->raw_data.len = 0;
    t->raw_data.data = NULL;
}

/* Moves the large tensors into the file `path`, called `file` in the model. */
static int write_data(struct onnx_writer *w, const char *path, const char *file)
{
    static const uint8_t zeros[EXTERNAL_ALIGN] = {0};
    SCOPED(file_writer_abort_at) struct file_writer *f = NULL;

    TRY(file_writer_open(path, FILE_PUBLIC, &f));
    for (size_t k = 0; k < w->n_tensor; k++) {
        Onnx__TensorProto *t = w->tensor[k];
        const size_t over = (size_t)(file_writer_size(f) % EXTERNAL_ALIGN);

        if (t->raw_data.len < EXTERNAL_MIN)
            continue;
        if (over > 0)
            TRY(file_writer_append(f, zeros, EXTERNAL_ALIGN - over));
        TRY(file_writer_append(f, t->raw_data.data, t->raw_data.len));
        point_outside(w, t, file, file_writer_size(f) - t->raw_data.len);
        TRY(w->rc);
    }
    return file_writer_commit(&f);
}

static bool has_large(const struct onnx_writer *w)
{
    for (size_t k = 0; k < w->n_tensor; k++)
        if (w->tensor[k]->raw_data.len >= EXTERNAL_MIN)
            return true;
    return false;
}

/* path NULL: the bytes stay in memory, so everything must fit into one file. */
static int place_data(struct onnx_writer *w, const Onnx__ModelProto *m, const char *path,
                      size_t *size)
{
    const size_t most = w->opt->max_file != 0 ? w->opt->max_file : MAX_FILE;
    const char *data, *slash;

    *size = onnx__model_proto__get_packed_size(m);
    if (path != NULL && (w->opt->external_data || *size > most) && has_large(w)) {
        if ((data = arena_printf(w->arena, "%s.data", path)) == NULL)
            return ERR_NOMEM;
        slash = strrchr(data, '/');
        TRY(write_data(w, data, slash != NULL ? slash + 1 : data));
        *size = onnx__model_proto__get_packed_size(m);
    }
    if (*size > most)
        return fail(ERR_LIMIT, "graph '%s': the file would have %zu bytes, at most %zu", w->g->name,
                    *size, most);
    return 0;
}

/* ---- the whole ----------------------------------------------------------------------------- */

int onnx_write_new(const struct graph *g, const struct export_options *opt, const char *input,
                   int64_t opset, bool private, struct onnx_writer **out)
{
    const size_t n_node = (size_t)g->n_node, n_value = (size_t)g->n_value;
    struct onnx_writer *w = mem_array(1, sizeof *w);

    if (w == NULL)
        return ERR_NOMEM;
    *w = (struct onnx_writer){.g = g,
                              .opt = opt,
                              .input = input,
                              .opset = opset,
                              .static_batch = private,
                              .constant_nodes = private};
    w->rc = arena_new(0, &w->arena);
    w->written = onnx_write_array(w, n_value, sizeof *w->written);
    w->node = onnx_write_array(w, NODES_PER_NODE * n_node + 2, sizeof *w->node);
    w->tensor = onnx_write_array(w, n_value + TENSORS_PER_NODE * n_node, sizeof *w->tensor);
    take_names(w);
    *out = w;
    return 0;
}

int onnx_write_finish(struct onnx_writer *w, const char *path, uint8_t **out, size_t *len)
{
    Onnx__ModelProto *m = new_model(w);
    size_t size = 0;

    if (w->rc == 0)
        w->rc = place_data(w, m, path, &size);
    return w->rc < 0 ? w->rc : pack(m, size, out, len);
}

void onnx_write_free(struct onnx_writer *w)
{
    if (w == NULL)
        return;
    nameset_release(&w->value_names);
    nameset_release(&w->node_names);
    arena_free(w->arena);
    mem_free(w);
}
