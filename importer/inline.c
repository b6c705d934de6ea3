/*
 * Calls of model-local functions -> the functions' nodes (dynamo exports of PyTorch 2.5 and 2.6
 * write every layer that way).
 *
 *     y = f(a, b)              y = the result of the copy named f's output
 *     f(p, q) -> r:            every other name of f becomes "y/name", and y is unique in the file,
 *         t = Conv(p, q)       so calls of the same function do not meet; attributes that refer to
 *         r = Relu(t)          one of the call get its value, f's default, or are left out
 *
 * Calls in functions are expanded in turn with an explicit stack. Functions may not be recursive:
 * the depth is limited, and so are the number of nodes that come out and the memory of the copies.
 * A function imports its own version of the operators, so every node carries one. The copies share
 * everything but names and attribute lists with the file's messages.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/steps.h"

#define MAX_DEPTH 16
#define MAX_FUNCTIONS 4096
/* Calls of calls multiply: 4 KB can ask for gigabytes. Real files (a layer a function, 200 layers)
 * need a hundredth of each. */
#define MAX_WORK ((size_t)50 * 1000 * 1000) /* name comparisons */
#define MAX_COPIES ((size_t)24 << 20)       /* bytes of copied nodes, names and attributes */

struct frame {                    /* a call that is being expanded; frame 0 is the graph itself */
    const Onnx__FunctionProto *f; /* NULL in frame 0 */
    const Onnx__NodeProto *call;  /* with its names in the graph */
    Onnx__NodeProto *const *node;
    size_t n_node, next;
    int64_t opset;
};
struct inliner {
    struct import *im;
    struct frame frame[MAX_DEPTH + 1];
    int32_t depth;
    Onnx__NodeProto **node;
    int64_t *opset;
    size_t n, cap, work, memory; /* memory: of the arena, at most */
};

static const Onnx__FunctionProto *function_of(const struct import *im, const Onnx__NodeProto *p)
{
    for (size_t k = 0; k < im->model->n_functions; k++) {
        const Onnx__FunctionProto *f = im->model->functions[k];

        if (strcmp(f->name, p->op_type) == 0 && strcmp(f->domain, p->domain) == 0 &&
            strcmp(f->overload, p->overload) == 0)
            return f;
    }
    return NULL;
}

static int64_t function_opset(const struct import *im, const Onnx__FunctionProto *f)
{
    for (size_t k = 0; k < f->n_opset_import; k++)
        if (header_is_standard(f->opset_import[k]->domain))
            return f->opset_import[k]->version;
    return im->opset;
}

/* ---- names ---------------------------------------------------------------------------------- */

static const char *first_output(const Onnx__NodeProto *p)
{
    for (size_t k = 0; k < p->n_output; k++)
        if (p->output[k][0] != '\0')
            return p->output[k];
    return p->name;
}

/* The name in the graph of a value of the frame's function; NULL without memory. */
static char *outer_name(struct inliner *in, const struct frame *fr, char *name)
{
    if (fr->f == NULL || name[0] == '\0')
        return name;
    for (size_t k = 0; k < fr->f->n_input; k++)
        if (strcmp(fr->f->input[k], name) == 0)
            return k < fr->call->n_input ? fr->call->input[k] : (char *)"";
    for (size_t k = 0; k < fr->f->n_output && k < fr->call->n_output; k++)
        if (strcmp(fr->f->output[k], name) == 0 && fr->call->output[k][0] != '\0')
            return fr->call->output[k];
    return arena_printf(in->im->arena, "%.*s/%s", IMPORT_MAX_NAME, first_output(fr->call), name);
}

static int outer_names(struct inliner *in, const struct frame *fr, char **names, size_t n,
                       char ***out)
{
    char **list = arena_array(in->im->arena, n + 1, sizeof *list);

    for (size_t k = 0; list != NULL && k < n; k++)
        if ((list[k] = outer_name(in, fr, names[k])) == NULL)
            return ERR_NOMEM;
    *out = list;
    return list != NULL ? 0 : ERR_NOMEM;
}

/* ---- attributes ----------------------------------------------------------------------------- */

static const Onnx__AttributeProto *find(Onnx__AttributeProto *const *a, size_t n, const char *name)
{
    for (size_t k = 0; k < n; k++)
        if (strcmp(a[k]->name, name) == 0)
            return a[k];
    return NULL;
}

/* What an attribute of a function's node is in this call; *out NULL: it is left out. */
static int outer_attribute(struct inliner *in, const struct frame *fr, Onnx__AttributeProto *a,
                           Onnx__AttributeProto **out)
{
    const Onnx__AttributeProto *v;

    *out = a;
    if (a->ref_attr_name[0] == '\0')
        return 0;
    v = find(fr->call->attribute, fr->call->n_attribute, a->ref_attr_name);
    if (v == NULL)
        v = find(fr->f->attribute_proto, fr->f->n_attribute_proto, a->ref_attr_name);
    *out = NULL;
    if (v == NULL)
        return 0;
    if ((*out = arena_array(in->im->arena, 1, sizeof **out)) == NULL)
        return ERR_NOMEM;
    **out = *v;
    (*out)->name = a->name;
    return 0;
}

static int outer_attributes(struct inliner *in, const struct frame *fr, Onnx__NodeProto *p)
{
    Onnx__AttributeProto **list = arena_array(in->im->arena, p->n_attribute + 1, sizeof *list), *a;
    size_t n = 0;

    if (list == NULL)
        return ERR_NOMEM;
    for (size_t k = 0; k < p->n_attribute; k++) {
        TRY(outer_attribute(in, fr, p->attribute[k], &a));
        if (a != NULL)
            list[n++] = a;
    }
    p->attribute = list;
    p->n_attribute = n;
    return 0;
}

/* ---- expansion ------------------------------------------------------------------------------ */

/* *out = a node of the frame with names and attributes as in the graph. */
static int outer_node(struct inliner *in, const struct frame *fr, Onnx__NodeProto *from,
                      Onnx__NodeProto **out)
{
    Onnx__NodeProto *p;

    *out = from;
    if (fr->f == NULL)
        return 0;
    if ((p = arena_array(in->im->arena, 1, sizeof *p)) == NULL)
        return ERR_NOMEM;
    *p = *from;
    TRY(outer_names(in, fr, from->input, from->n_input, &p->input));
    TRY(outer_names(in, fr, from->output, from->n_output, &p->output));
    TRY(outer_attributes(in, fr, p));
    if (from->name[0] != '\0') {
        const char *call = fr->call->name[0] != '\0' ? fr->call->name : first_output(fr->call);

        p->name = arena_printf(in->im->arena, "%.*s/%s", IMPORT_MAX_NAME, call, from->name);
        if (p->name == NULL)
            return ERR_NOMEM;
    }
    *out = p;
    return 0;
}

static int append(struct inliner *in, Onnx__NodeProto *p, int64_t opset)
{
    if (in->n == in->cap)
        return report_problem(in->im, "E1006", "", "with its functions the file has over %d nodes",
                              IMPORT_MAX_NODES);
    in->opset[in->n] = opset;
    in->node[in->n++] = p;
    return 0;
}

static int enter_call(struct inliner *in, const Onnx__NodeProto *call, const Onnx__FunctionProto *f)
{
    if (in->depth == MAX_DEPTH)
        return report_problem(in->im, "E1208", "export with inlined functions, or run onnx.inliner",
                              "functions call each other more than %d deep, here '%s'", MAX_DEPTH,
                              f->name);
    in->frame[++in->depth] = (struct frame){.f = f,
                                            .call = call,
                                            .node = f->node,
                                            .n_node = f->n_node,
                                            .opset = function_opset(in->im, f)};
    return 0;
}

/* Counts what a node costs, so that a small file cannot ask for hours. */
static int spend(struct inliner *in, const struct frame *fr, const Onnx__NodeProto *p)
{
    const size_t names = p->n_input + p->n_output + p->n_attribute + 1;
    const size_t searched = fr->f != NULL ? fr->f->n_input + fr->f->n_output + 1 : 1;
    size_t cost;

    if (__builtin_mul_overflow(names, searched, &cost) || cost > MAX_WORK)
        cost = MAX_WORK;
    in->work += cost + in->im->model->n_functions;
    if (in->work < MAX_WORK && arena_used(in->im->arena) < in->memory)
        return 0;
    return report_problem(in->im, "E1006", "", "the file's functions are too large when inlined");
}

static int expand(struct inliner *in)
{
    while (in->depth >= 0) {
        struct frame *fr = &in->frame[in->depth];
        const Onnx__FunctionProto *f;
        Onnx__NodeProto *p;

        if (fr->next == fr->n_node) {
            in->depth--;
            continue;
        }
        TRY(spend(in, fr, fr->node[fr->next]));
        TRY(outer_node(in, fr, fr->node[fr->next++], &p));
        f = function_of(in->im, p);
        if (f != NULL)
            TRY(enter_call(in, p, f));
        else
            TRY(append(in, p, fr->opset));
    }
    return 0;
}

int inline_functions(struct import *im)
{
    const Onnx__GraphProto *g = im->model->graph;
    struct inliner in = {.im = im, .cap = IMPORT_MAX_NODES};
    Onnx__GraphProto *flat;

    if (im->model->n_functions == 0)
        return 0;
    if (im->model->n_functions > MAX_FUNCTIONS)
        return report_problem(im, "E1006", "", "the file has %zu functions, at most %d",
                              im->model->n_functions, MAX_FUNCTIONS);
    flat = arena_array(im->arena, 1, sizeof *flat);
    in.node = arena_array(im->arena, in.cap, sizeof *in.node);
    in.opset = arena_array(im->arena, in.cap, sizeof *in.opset);
    TRY(arena_status(im->arena));
    in.memory = arena_used(im->arena) + MAX_COPIES;
    in.frame[0] = (struct frame){.node = g->node, .n_node = g->n_node, .opset = im->opset};
    TRY(expand(&in));
    *flat = *g;
    flat->node = in.node;
    flat->n_node = in.n;
    im->file = flat;
    im->node_opset = in.opset;
    return 0;
}
