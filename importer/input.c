/*
 * The one image input: element type, sizes, order of its dims.
 *
 * dim 0 is the batch whatever the file says; the other three must be fixed in the file or by
 * import_options.input_shape. A file of TensorFlow has [N,H,W,C] and turns it by a Transpose, at
 * once or after the preprocessing; that Transpose is what the order is known by. The graph has
 * [N,C,H,W] in any case (graph.channels_last), its entry says that the file sees it the other way.
 */
#include <string.h>

#include "onnx.pb-c.h"

#include "importer/steps.h"

#define MAX_FOLLOWED 16 /* values after the input that are searched for a Transpose */

/* A uint8 input takes pixels as they are stored, 0 to 255. The file says so where nothing else was said:
 * its input is float32 when it is written again. */
static int take_bytes(struct import *im, const char *name)
{
    TRY(report_warning(im, "input '%s' is uint8: it takes 0 to 255, normalisation '255'", name));
    return graph_set_meta(im->g, "linnet.normalize", "255");
}

static int check_type(struct import *im, const Onnx__ValueInfoProto *v)
{
    const Onnx__TypeProto *t = v->type;

    if (t == NULL || t->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE)
        return report_problem(im, "E1302", "", "input '%s' is not a tensor", v->name);
    switch (t->tensor_type->elem_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        return 0;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16:
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        return report_warning(im, "input '%s' becomes float32", v->name);
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT8:
        return take_bytes(im, v->name);
    default:
        return report_problem(im, "E1302", "float32, float16, bfloat16, double and uint8 are taken",
                              "input '%s' has element type %d, should be float", v->name,
                              (int)t->tensor_type->elem_type);
    }
}

/* ---- sizes ---------------------------------------------------------------------------------- */

static int read_batch(struct import *im, const Onnx__TensorShapeProto__Dimension *d)
{
    if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE) {
        im->batch = d->dim_value > 0 ? d->dim_value : 0;
    } else if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM &&
               d->dim_param[0] != '\0' && report_is_clean(d->dim_param, IMPORT_MAX_NAME)) {
        im->g->batch_name = arena_strdup(im->g->arena, d->dim_param);
        if (im->g->batch_name == NULL)
            return ERR_NOMEM;
    }
    return 0;
}

/* Size k of the image: the file's, or `asked` (0: nothing asked) where the file has none. */
static int read_size(struct import *im, const char *name, int32_t k,
                     const Onnx__TensorShapeProto__Dimension *d, int64_t asked, int64_t *out)
{
    const bool fixed =
        d != NULL && d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;

    if (!fixed && asked == 0)
        return report_problem(
            im, "E1303",
            "masks are per pixel: give --input-shape NAME:1,C,H,W, or export with a fixed image size",
            "dimension %d of input '%s' is not fixed", k, name);
    if (fixed && asked != 0 && asked != d->dim_value)
        return report_problem(
            im, "E1303", "only sizes that the file leaves open can be chosen",
            "dimension %d of input '%s' is %lld in the file, the input shape asked for has %lld", k,
            name, (long long)d->dim_value, (long long)asked);
    *out = fixed ? d->dim_value : asked;
    if (*out < 1 || *out > IMPORT_MAX_DIM)
        return report_problem(im, "E1303", "", "dimension %d of input '%s' is %lld", k, name,
                              (long long)*out);
    return 0;
}

/* *s = the dims in the file's order. */
static int read_shape(struct import *im, const Onnx__ValueInfoProto *v, struct shape *s)
{
    const Onnx__TensorShapeProto *dims = v->type->tensor_type->shape;
    const struct import_options *o = im->opt;
    const bool asked = o != NULL && o->input_shape.rank == 4;
    const char *name = asked && o->input != NULL ? o->input : "";
    int rc = 0;

    if (name[0] != '\0' && strcmp(name, v->name) != 0)
        return report_problem(im, "E1504", "", "the input is '%s'; a shape was given for '%s'",
                              v->name, name);
    if (dims == NULL && !asked)
        return report_problem(im, "E1501", "give --input-shape NAME:1,C,H,W",
                              "input '%s' has no shape", v->name);
    if (dims != NULL && dims->n_dim != 4)
        return report_problem(im, "E1501", "linnet takes images: four dimensions, the batch first",
                              "input '%s' is no image [N,C,H,W]", v->name);
    *s = shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)0, (int64_t)0, (int64_t)0);
    if (dims != NULL)
        TRY(read_batch(im, dims->dim[0]));
    for (int32_t k = 1; k < 4 && rc == 0; k++)
        rc = read_size(im, v->name, k, dims != NULL ? dims->dim[k] : NULL,
                       asked ? o->input_shape.dim[k] : 0, &s->dim[k]);
    return rc;
}

/* ---- order ---------------------------------------------------------------------------------- */

static bool turns_channels_first(const Onnx__NodeProto *p)
{
    static const int64_t perm[4] = {0, 3, 1, 2};
    const Onnx__AttributeProto *a =
        p->n_attribute == 1 && strcmp(p->attribute[0]->name, "perm") == 0 ? p->attribute[0] : NULL;

    return strcmp(p->op_type, "Transpose") == 0 && a != NULL && a->n_ints == 4 &&
           memcmp(a->ints, perm, sizeof perm) == 0;
}

/* What may stand between the input and its Transpose: preprocessing, and channels in another order. */
static bool is_before_transpose(const char *type)
{
    static const char *const types[] = {"Add", "Cast", "Concat", "Div",   "Gather", "Identity",
                                        "Mul", "Pad",  "Slice",  "Split", "Sub",    "Unsqueeze"};

    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        if (strcmp(types[k], type) == 0)
            return true;
    return false;
}

static bool reads_one_of(const Onnx__NodeProto *p, const char *const *name, int32_t n)
{
    for (size_t i = 0; i < p->n_input; i++)
        for (int32_t k = 0; k < n; k++)
            if (strcmp(p->input[i], name[k]) == 0)
                return true;
    return false;
}

/* A Transpose to [N,C,H,W] reads the input, or what such nodes made of it. */
static bool is_transposed(const struct import *im, const char *input)
{
    const char *name[MAX_FOLLOWED] = {input};
    int32_t n = 1;

    for (size_t k = 0; k < im->file->n_node; k++) {
        const Onnx__NodeProto *p = im->file->node[k];

        if (!reads_one_of(p, name, n))
            continue;
        if (turns_channels_first(p))
            return true;
        for (size_t o = 0; is_before_transpose(p->op_type) && o < p->n_output && n < MAX_FOLLOWED;
             o++)
            name[n++] = p->output[o];
    }
    return false;
}

static bool has_channels_last(const struct import *im, const char *input)
{
    const enum import_layout layout = im->opt != NULL ? im->opt->layout : IMPORT_LAYOUT_AUTO;

    return layout == IMPORT_LAYOUT_NHWC ||
           (layout == IMPORT_LAYOUT_AUTO && is_transposed(im, input));
}

int input_enter(struct import *im, const Onnx__ValueInfoProto *v, struct entry *e)
{
    struct shape s, file;

    e->kind = ENTRY_BAD;
    TRY(check_type(im, v));
    TRY(read_shape(im, v, &file));
    s = file;
    im->g->channels_last = has_channels_last(im, v->name);
    if (im->g->channels_last) {
        s = shape_make(4, (int64_t)SHAPE_BATCH, file.dim[3], file.dim[1], file.dim[2]);
        e->order = ORDER_LAST;
    }
    TRY(graph_add_value(im->g, e->name, VALUE_INPUT, &s, NULL, &e->act));
    e->kind = ENTRY_ACT;
    im->g->input = e->act;
    im->g->file_input = file;
    if (im->batch > 0)
        im->g->file_input.dim[0] = im->batch;
    return 0;
}
