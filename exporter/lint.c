/*
 * Rules of three importers, on the file as it is (not on linnet's graph, which has one form only).
 *
 *   crypten    CrypTen 0.4.1, crypten/nn/onnx_converter.py and module.py: a node becomes the class
 *              of its name; initializers become parameters and are encrypted, so integer lists must
 *              be Constant nodes; Conv needs strides, pads and dilations and takes every second pad;
 *              pools take the first number of every list; Gemm unpacks three inputs
 *   ezpc       EzPC's OnnxBridge, LLAMA back end: 14 operators; pads[0] and kernel_shape[0] stand
 *              for all, batch norm has eps 1e-5 whatever the file says
 *   motion2nx  MOTION2NX's ONNX adapter: 8 operators, no Add, so no residual network
 *
 * All of them: opset 17 and IR 8 at most (they pin onnx 1.12 or older), float tensors, one input,
 * one output, a fixed batch.
 */
#include "exporter/lint.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/graph/nameset.h"
#include "core/base/wire.h"
#include "onnx.pb-c.h"

#define NEWEST_OPSET 17
#define NEWEST_IR 8

struct lint {
    enum export_target target;
    const Onnx__GraphProto *g;
    struct lint_report *r;
    struct nameset initializers, lists; /* all, and those that are no floats */
    int rc;
};
struct rules { /* operators that the tool knows, separated by spaces */
    enum export_target target;
    const char *name, *operators;
};
static const struct rules rules[] = {
    {EXPORT_ANY, "", ""},
    {EXPORT_CRYPTEN, "crypten",
     " Add AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv Div Dropout Equal Erf Exp Expand Flatten Gather Gemm GlobalAveragePool LogSoftmax MatMul MaxPool Mul Pad Pow Range ReduceMean ReduceSum Relu Reshape Shape Sigmoid Slice Softmax Sqrt Squeeze Sub Transpose Unsqueeze Where "},
    {EXPORT_EZPC, "ezpc",
     " Add AveragePool BatchNormalization Concat Conv ConvTranspose Flatten Gemm GlobalAveragePool LeakyRelu MaxPool Relu Softmax Transpose "},
    {EXPORT_MOTION2NX, "motion2nx", " AveragePool Conv Dropout Flatten Gemm MaxPool Mul Relu "},
};

const char *lint_target_name(enum export_target target)
{
    return rules[target].name;
}

/* ---- findings ------------------------------------------------------------------------------- */

static void find(struct lint *l, const Onnx__NodeProto *p, const char *hint, const char *fmt, ...)
    ERR_PRINTF(4, 5);

/* p NULL: about the file. */
static void find(struct lint *l, const Onnx__NodeProto *p, const char *hint, const char *fmt, ...)
{
    struct lint_report *r = l->r;
    char text[400];
    va_list ap;

    if (l->rc < 0 || r->n == LINT_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *name = p == NULL            ? ""
                       : p->name[0] != '\0' ? p->name
                       : p->n_output        ? p->output[0]
                                            : "";
    r->finding[r->n] = (struct lint_finding){
        .node = arena_printf(r->arena, "%.200s", name),
        .op = arena_printf(r->arena, "%.60s", p != NULL ? p->op_type : ""),
        .message = arena_strdup(r->arena, text),
        .hint = hint,
    };
    if (!r->finding[r->n].node || !r->finding[r->n].op || !r->finding[r->n].message)
        l->rc = ERR_NOMEM;
    else
        r->n++;
}

/* ---- what the file says ---------------------------------------------------------------------- */

static const Onnx__AttributeProto *attribute(const Onnx__NodeProto *p, const char *name)
{
    for (size_t k = 0; k < p->n_attribute; k++)
        if (strcmp(p->attribute[k]->name, name) == 0)
            return p->attribute[k];
    return NULL;
}

static bool has_input(const Onnx__NodeProto *p, size_t i)
{
    return i < p->n_input && p->input[i][0] != '\0';
}

static int enter_initializers(struct lint *l)
{
    for (size_t k = 0; k < l->g->n_initializer; k++) {
        const Onnx__TensorProto *t = l->g->initializer[k];

        TRY(nameset_add(&l->initializers, t->name));
        if (t->data_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
            TRY(nameset_add(&l->lists, t->name));
    }
    return 0;
}

static bool all_equal(const Onnx__AttributeProto *a)
{
    for (size_t k = 1; a != NULL && k < a->n_ints; k++)
        if (a->ints[k] != a->ints[0])
            return false;
    return true;
}

/* [top, left, bottom, right]: the first two equal the last two. */
static bool is_symmetric(const Onnx__AttributeProto *a)
{
    return a == NULL || a->n_ints != 4 || (a->ints[0] == a->ints[2] && a->ints[1] == a->ints[3]);
}

/* ---- rules of single operators --------------------------------------------------------------- */

#define LINNET_EXPORT "export it with linnet export --for"
#define LINNET_WRITES LINNET_EXPORT " crypten or ezpc"

static void need_attributes(struct lint *l, const Onnx__NodeProto *p, const char *const *names)
{
    for (; *names != NULL; names++)
        if (attribute(p, *names) == NULL)
            find(l, p, LINNET_WRITES, "needs the attribute '%s'", *names);
}

static void check_conv(struct lint *l, const Onnx__NodeProto *p)
{
    static const char *const names[] = {"kernel_shape", "strides", "pads",
                                        "dilations",    "group",   NULL};
    const Onnx__AttributeProto *pads = attribute(p, "pads"), *dilation = attribute(p, "dilations");

    need_attributes(l, p, names);
    if (attribute(p, "auto_pad") != NULL && attribute(p, "auto_pad")->s.len > 0 &&
        memcmp(attribute(p, "auto_pad")->s.data, "N", 1) != 0)
        find(l, p, LINNET_WRITES, "auto_pad is not read");
    if (!is_symmetric(pads))
        find(l, p, "pad the image by a layer of its own", "pads of both sides differ");
    else if (!all_equal(pads))
        find(l, p, "use the same padding for height and width",
             l->target == EXPORT_CRYPTEN
                 ? "takes every second pad: those of height and width differ"
                 : "takes the first pad for all");
    if (l->target != EXPORT_CRYPTEN && !all_equal(attribute(p, "kernel_shape")))
        find(l, p, "use square kernels", "takes the first side of the kernel for both");
    if (l->target != EXPORT_CRYPTEN && dilation != NULL && dilation->n_ints > 0 &&
        (dilation->ints[0] != 1 || !all_equal(dilation)))
        find(l, p, "use dilation 1", "dilation is not read");
}

static void check_pool(struct lint *l, const Onnx__NodeProto *p)
{
    static const char *const names[] = {"kernel_shape", "strides", "pads", NULL};
    static const char *const lists[] = {"kernel_shape", "strides", "pads", "dilations"};
    const Onnx__AttributeProto *dilation = attribute(p, "dilations");

    need_attributes(l, p, names);
    for (int k = 0; k < 4; k++)
        if (!all_equal(attribute(p, lists[k])))
            find(l, p, "use square windows", "takes the first number of '%s' for all", lists[k]);
    if (dilation != NULL && dilation->n_ints > 0 && dilation->ints[0] != 1)
        find(l, p, "use dilation 1", "dilation is not read");
    if (p->n_output > 1)
        find(l, p, "drop the indices", "has %zu outputs, 1 is read", p->n_output);
}

static void check_gemm(struct lint *l, const Onnx__NodeProto *p)
{
    static const char *const names[] = {"alpha", "beta", "transB", NULL};
    const Onnx__AttributeProto *a = attribute(p, "transA");

    need_attributes(l, p, names);
    if (!has_input(p, 2))
        find(l, p, LINNET_WRITES, "needs a bias as third input");
    if (a != NULL && a->i != 0)
        find(l, p, "transpose before", "transA is not read");
}

static void check_batchnorm(struct lint *l, const Onnx__NodeProto *p)
{
    const Onnx__AttributeProto *eps = attribute(p, "epsilon");

    if (l->target == EXPORT_CRYPTEN)
        find(l, p, LINNET_EXPORT " crypten, which folds it",
             "works, by an inverse square root on secret numbers");
    else if (eps != NULL && !(eps->f > 0.99e-5f && eps->f < 1.01e-5f))
        find(l, p, LINNET_EXPORT " ezpc, which folds it", "epsilon %g is read as 1e-5",
             (double)eps->f);
}

/* Lists of integers that an importer encrypts, or does not find among the parameters. */
static void check_lists(struct lint *l, const Onnx__NodeProto *p)
{
    for (size_t i = 1; i < p->n_input; i++) {
        if (nameset_has(&l->lists, p->input[i]))
            find(
                l, p, LINNET_EXPORT " crypten",
                "'%.100s' is an initializer that is no float: it would be encrypted; it must be a Constant node",
                p->input[i]);
    }
}

/* CrypTen hands the list to PyTorch, which has it in another order: last axis first. */
static void check_pad(struct lint *l, const Onnx__NodeProto *p)
{
    find(l, p, LINNET_EXPORT " crypten, which writes shortcuts as a Conv",
         "pads are read in another order");
}

static void check_slice(struct lint *l, const Onnx__NodeProto *p)
{
    check_lists(l, p);
    if (p->n_input > 4)
        find(l, p, LINNET_EXPORT " crypten, which writes shortcuts as a Conv",
             "steps other than 1 are not read");
}

/* Where by a mask that would be encrypted as a parameter is the same trap on input 0. */
static void check_where(struct lint *l, const Onnx__NodeProto *p)
{
    if (p->n_input > 0 && nameset_has(&l->initializers, p->input[0]))
        find(l, p, "use --masked-relu gather, which also saves ReLU evaluations",
             "the mask '%.100s' is an initializer: it would be encrypted as a parameter",
             p->input[0]);
}

static const struct {
    const char *type;
    void (*check)(struct lint *l, const Onnx__NodeProto *p);
} checks[] = {
    {"AveragePool", check_pool}, {"BatchNormalization", check_batchnorm},
    {"Conv", check_conv},        {"Gather", check_lists},
    {"Gemm", check_gemm},        {"MaxPool", check_pool},
    {"Pad", check_pad},          {"ReduceMean", check_lists},
    {"Reshape", check_lists},    {"Slice", check_slice},
    {"Where", check_where},
};

static bool knows(enum export_target target, const char *type)
{
    const char *list = rules[target].operators;
    const size_t n = strlen(type);

    if (n == 0 || strchr(type, ' ') != NULL)
        return false;
    for (const char *at = strstr(list, type); at != NULL; at = strstr(at + 1, type))
        if (at[-1] == ' ' && at[n] == ' ')
            return true;
    return false;
}

static const char *operator_hint(const struct lint *l, const char *type)
{
    if (strcmp(type, "Identity") == 0 || strcmp(type, "Dropout") == 0)
        return LINNET_WRITES ", which drops it";
    if (l->target == EXPORT_MOTION2NX && strcmp(type, "Add") == 0)
        return "no residual network can be read";
    if (strcmp(type, "Where") == 0 || strcmp(type, "PRelu") == 0 || strcmp(type, "Gather") == 0)
        return l->target == EXPORT_CRYPTEN ? "use --masked-relu gather"
               : l->target == EXPORT_EZPC
                   ? "use --masked-relu channel, with masks of whole channels"
                   : "no form of a masked ReLU can be read";
    return "";
}

static void check_node(struct lint *l, const Onnx__NodeProto *p)
{
    if (p->domain[0] != '\0' && strcmp(p->domain, "ai.onnx") != 0)
        find(l, p, "", "domain '%.60s' is not known", p->domain);
    else if (!knows(l->target, p->op_type))
        find(l, p, operator_hint(l, p->op_type), "operator '%.60s' is not known", p->op_type);
    for (size_t k = 0; k < sizeof checks / sizeof *checks; k++)
        if (strcmp(checks[k].type, p->op_type) == 0 && knows(l->target, p->op_type))
            checks[k].check(l, p);
}

/* ---- the file ------------------------------------------------------------------------------- */

static void check_versions(struct lint *l, const Onnx__ModelProto *m)
{
    for (size_t k = 0; k < m->n_opset_import; k++)
        if (m->opset_import[k]->domain[0] == '\0' && m->opset_import[k]->version > NEWEST_OPSET)
            find(l, NULL, "export with --opset 17", "opset %lld; %d is the newest that is read",
                 (long long)m->opset_import[k]->version, NEWEST_OPSET);
    if (m->ir_version > NEWEST_IR)
        find(l, NULL, "export with --opset 17", "IR version %lld; %d is the newest that is read",
             (long long)m->ir_version, NEWEST_IR);
}

static void check_tensors(struct lint *l)
{
    for (size_t k = 0; k < l->g->n_initializer; k++) {
        const Onnx__TensorProto *t = l->g->initializer[k];

        if (t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
            find(l, NULL, "write one file", "tensor '%.100s' lies in another file", t->name);
            return;
        }
    }
}

/* Dim 0 is a number. */
static bool has_fixed_batch(const Onnx__ValueInfoProto *v)
{
    const Onnx__TypeProto *t = v->type;
    const Onnx__TensorShapeProto *s =
        t != NULL && t->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE ? t->tensor_type->shape
                                                                          : NULL;

    return s != NULL && s->n_dim > 0 &&
           s->dim[0]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
}

static void check_interface(struct lint *l)
{
    size_t inputs = 0;

    for (size_t k = 0; k < l->g->n_input; k++) {
        if (nameset_has(&l->initializers, l->g->input[k]->name))
            continue;
        inputs++;
        if (!has_fixed_batch(l->g->input[k]))
            find(l, NULL, LINNET_WRITES, "input '%.100s' leaves the batch open",
                 l->g->input[k]->name);
    }
    if (inputs != 1)
        find(l, NULL, "", "%zu inputs that are no initializers, 1 is read", inputs);
    if (l->g->n_output != 1)
        find(l, NULL, "choose one by linnet export --output-name", "%zu outputs, 1 is read",
             l->g->n_output);
}

static int check_model(struct lint *l, const Onnx__ModelProto *m)
{
    if (m->graph == NULL)
        return fail(ERR_FORMAT, "the file holds no graph, so it is no ONNX model");
    l->g = m->graph;
    TRY(enter_initializers(l));
    check_versions(l, m);
    check_interface(l);
    check_tensors(l);
    for (size_t k = 0; k < l->g->n_node && l->r->n < LINT_MAX; k++)
        check_node(l, l->g->node[k]);
    return l->rc;
}

int lint_bytes(const uint8_t *bytes, size_t len, enum export_target target, struct lint_report *out)
{
    struct lint l = {.target = target, .r = out};
    SCOPED(wire_free_at) struct wire_message *message = NULL;

    *out = (struct lint_report){0};
    TRY(arena_new(0, &out->arena));
    if ((out->finding = arena_array(out->arena, LINT_MAX, sizeof *out->finding)) == NULL)
        return ERR_NOMEM;
    TRY(wire_unpack(&onnx__model_proto__descriptor, bytes, len, "the file", &message));
    const int rc = check_model(&l, wire_root(message));
    nameset_release(&l.initializers);
    nameset_release(&l.lists);
    return rc;
}

void lint_release(struct lint_report *r)
{
    arena_free(r->arena);
    *r = (struct lint_report){0};
}
