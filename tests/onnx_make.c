/* The text form of onnx_make.h, read by one hand-written scanner; everything lives in an arena. */
#include "tests/onnx_make.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

struct scan {
    struct onnx_make *mk;
    const char *at, *line;
};

static void *must(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

void *onnx_make_alloc(struct onnx_make *mk, size_t n, size_t size)
{
    return must(arena_array(mk->arena, n, size));
}

char *onnx_make_text(struct onnx_make *mk, const char *s)
{
    return must(arena_strdup(mk->arena, s));
}

static void mistake(const struct scan *s, const char *what)
{
    fprintf(stderr, "onnx_make: %s: %.*s\n", what, (int)strcspn(s->line, "\n"), s->line);
    abort();
}

static void skip_blanks(struct scan *s)
{
    while (*s->at == ' ')
        s->at++;
}

static int take(struct scan *s, char c)
{
    skip_blanks(s);
    if (*s->at != c)
        return 0;
    s->at++;
    return 1;
}

static void need(struct scan *s, char c)
{
    if (!take(s, c))
        mistake(s, "unexpected character");
}

/* Letters, digits and ._/: but no ':' at the end; may be empty. */
static char *word(struct scan *s)
{
    size_t n = 0;

    skip_blanks(s);
    while (isalnum((unsigned char)s->at[n]) || (s->at[n] != '\0' && strchr("._/-?", s->at[n])))
        n++;
    char *w = onnx_make_alloc(s->mk, n + 1, 1);
    memcpy(w, s->at, n);
    s->at += n;
    return w;
}

static int at_number(struct scan *s)
{
    skip_blanks(s);
    return isdigit((unsigned char)*s->at) || *s->at == '-' || *s->at == '+' ||
           strncmp(s->at, "inf", 3) == 0 || strncmp(s->at, "nan", 3) == 0;
}

static double number(struct scan *s)
{
    char *end;
    double v = strtod(s->at, &end);

    if (end == s->at)
        mistake(s, "number expected");
    s->at = end;
    return v;
}

static int64_t integer(struct scan *s)
{
    char *end;
    int64_t v = strtoll(s->at, &end, 10);

    if (end == s->at)
        mistake(s, "integer expected");
    s->at = end;
    return v;
}

/* ---- tensors -------------------------------------------------------------------------------- */

static size_t dims(struct scan *s, int64_t *out)
{
    size_t n = 0;

    need(s, '[');
    while (!take(s, ']')) {
        out[n++] = integer(s);
        take(s, ',');
    }
    return n;
}

static Onnx__TensorProto *new_tensor(struct onnx_make *mk, char *name, int32_t type, size_t rank,
                                     const int64_t *dim)
{
    Onnx__TensorProto *t = onnx_make_alloc(mk, 1, sizeof *t);

    onnx__tensor_proto__init(t);
    t->name = name;
    t->data_type = type;
    t->n_dims = rank;
    t->dims = onnx_make_alloc(mk, rank + 1, sizeof *t->dims);
    for (size_t k = 0; k < rank; k++)
        t->dims[k] = dim[k];
    return t;
}

static size_t elements(const Onnx__TensorProto *t)
{
    size_t n = 1;

    for (size_t k = 0; k < t->n_dims; k++)
        n *= (size_t)t->dims[k];
    return n;
}

/* Made-up numbers in [-1,1], the same on every machine. */
static float made_up(size_t k)
{
    uint32_t h = (uint32_t)k * 2654435761u + 12345u;

    h ^= h >> 15;
    h *= 2246822519u;
    h ^= h >> 13;
    return (float)(h >> 8) / 8388608.0f - 1.0f;
}

static void fill_floats(struct scan *s, Onnx__TensorProto *t)
{
    size_t n = elements(t), given = 0;

    t->float_data = onnx_make_alloc(s->mk, n + 64, sizeof *t->float_data);
    t->n_float_data = n;
    while (at_number(s) && given < n + 64)
        t->float_data[given++] = (float)number(s);
    for (size_t k = given; k < n; k++)
        t->float_data[k] = given > 0 ? t->float_data[k % given] : made_up(k + s->mk->len);
    s->mk->len += n; /* only a seed until the model is packed */
}

static void fill_ints(struct scan *s, Onnx__TensorProto *t)
{
    size_t n = elements(t), given = 0;

    t->int64_data = onnx_make_alloc(s->mk, n + 64, sizeof *t->int64_data);
    t->n_int64_data = n;
    while (at_number(s) && given < n + 64)
        t->int64_data[given++] = integer(s);
    for (size_t k = given; k < n; k++)
        t->int64_data[k] = given > 0 ? t->int64_data[k % given] : (int64_t)k;
}

static void fill_bools(struct scan *s, Onnx__TensorProto *t)
{
    fill_ints(s, t);
    t->raw_data.len = t->n_int64_data;
    t->raw_data.data = onnx_make_alloc(s->mk, t->raw_data.len + 1, 1);
    for (size_t k = 0; k < t->raw_data.len; k++)
        t->raw_data.data[k] = (uint8_t)t->int64_data[k];
    t->n_int64_data = 0;
}

static void initializer(struct scan *s, int32_t type)
{
    int64_t dim[16];
    char *name = word(s);
    size_t rank = dims(s, dim);
    Onnx__TensorProto *t = new_tensor(s->mk, name, type, rank, dim);

    if (type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT)
        fill_floats(s, t);
    else if (type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL)
        fill_bools(s, t);
    else
        fill_ints(s, t);
    s->mk->graph.initializer[s->mk->graph.n_initializer++] = t;
}

/* {1,2}, {=3}, f{0.5} */
static Onnx__TensorProto *inline_tensor(struct scan *s)
{
    const int is_float = take(s, 'f');
    const int32_t type =
        is_float ? ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT : ONNX__TENSOR_PROTO__DATA_TYPE__INT64;
    Onnx__TensorProto *t = new_tensor(s->mk, onnx_make_text(s->mk, ""), type, 1, (int64_t[]){0});
    size_t n = 0;

    need(s, '{');
    if (take(s, '='))
        t->n_dims = 0;
    t->float_data = onnx_make_alloc(s->mk, 256, sizeof *t->float_data);
    t->int64_data = onnx_make_alloc(s->mk, 256, sizeof *t->int64_data);
    for (; !take(s, '}') && n < 256; n++) {
        if (is_float)
            t->float_data[n] = (float)number(s);
        else
            t->int64_data[n] = integer(s);
        take(s, ',');
    }
    t->dims[0] = (int64_t)n;
    t->n_float_data = is_float ? n : 0;
    t->n_int64_data = is_float ? 0 : n;
    return t;
}

/* ---- inputs, outputs ------------------------------------------------------------------------ */

static Onnx__TensorShapeProto__Dimension *dimension(struct scan *s)
{
    Onnx__TensorShapeProto__Dimension *d = onnx_make_alloc(s->mk, 1, sizeof *d);

    onnx__tensor_shape_proto__dimension__init(d);
    if (at_number(s)) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = integer(s);
    } else if (!take(s, '?')) {
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d->dim_param = word(s);
    }
    return d;
}

static Onnx__ValueInfoProto *value_info(struct scan *s)
{
    Onnx__ValueInfoProto *v = onnx_make_alloc(s->mk, 1, sizeof *v);
    Onnx__TypeProto *t = onnx_make_alloc(s->mk, 1, sizeof *t);
    Onnx__TypeProto__Tensor *tensor = onnx_make_alloc(s->mk, 1, sizeof *tensor);
    Onnx__TensorShapeProto *shape = onnx_make_alloc(s->mk, 1, sizeof *shape);

    onnx__value_info_proto__init(v);
    onnx__type_proto__init(t);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    v->name = word(s);
    v->type = t;
    t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    t->tensor_type = tensor;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    shape->dim = onnx_make_alloc(s->mk, 16, sizeof(void *));
    if (take(s, '[')) {
        tensor->shape = shape;
        while (!take(s, ']')) {
            shape->dim[shape->n_dim++] = dimension(s);
            take(s, ',');
        }
    }
    return v;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static void attribute_value(struct scan *s, Onnx__AttributeProto *a)
{
    skip_blanks(s);
    if (*s->at == '[') {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
        a->ints = onnx_make_alloc(s->mk, 64, sizeof *a->ints);
        a->n_ints = dims(s, a->ints);
    } else if (*s->at == '\'') {
        size_t n = strcspn(++s->at, "'\n");

        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING;
        a->s.len = n;
        a->s.data = onnx_make_alloc(s->mk, n + 1, 1);
        memcpy(a->s.data, s->at, n);
        s->at += n;
        need(s, '\'');
    } else if (*s->at == '{' || *s->at == 'f') {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR;
        a->t = inline_tensor(s);
    } else if (strcspn(s->at, ".ei") < strcspn(s->at, " \n")) {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
        a->f = (float)number(s);
    } else {
        a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
        a->i = integer(s);
    }
}

static void attributes(struct scan *s, Onnx__NodeProto *p)
{
    p->attribute = onnx_make_alloc(s->mk, 16, sizeof(void *));
    for (;;) {
        skip_blanks(s);
        if (*s->at == '\n' || *s->at == '\0')
            return;
        Onnx__AttributeProto *a = onnx_make_alloc(s->mk, 1, sizeof *a);

        onnx__attribute_proto__init(a);
        a->name = word(s);
        need(s, '=');
        attribute_value(s, a);
        p->attribute[p->n_attribute++] = a;
    }
}

static void node(struct scan *s, char *first)
{
    Onnx__NodeProto *p = onnx_make_alloc(s->mk, 1, sizeof *p);

    onnx__node_proto__init(p);
    p->input = onnx_make_alloc(s->mk, 64, sizeof(char *));
    p->output = onnx_make_alloc(s->mk, 16, sizeof(char *));
    if (take(s, ':')) {
        p->name = first;
        first = word(s);
    }
    p->output[p->n_output++] = first;
    while (take(s, ','))
        p->output[p->n_output++] = word(s);
    need(s, '=');
    p->op_type = word(s);
    need(s, '(');
    if (!take(s, ')')) {
        do
            p->input[p->n_input++] = word(s);
        while (take(s, ','));
        need(s, ')');
    }
    attributes(s, p);
    s->mk->graph.node[s->mk->graph.n_node++] = p;
}

static void statement(struct scan *s)
{
    Onnx__GraphProto *g = &s->mk->graph;
    char *first = word(s);

    if (strcmp(first, "input") == 0)
        g->input[g->n_input++] = value_info(s);
    else if (strcmp(first, "output") == 0)
        g->output[g->n_output++] = value_info(s);
    else if (strcmp(first, "float") == 0)
        initializer(s, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    else if (strcmp(first, "int") == 0)
        initializer(s, ONNX__TENSOR_PROTO__DATA_TYPE__INT64);
    else if (strcmp(first, "bool") == 0)
        initializer(s, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL);
    else
        node(s, first);
    skip_blanks(s);
    if (*s->at != '\n' && *s->at != '\0')
        mistake(s, "something is left over");
}

void onnx_make_add(struct onnx_make *mk, const char *text)
{
    struct scan s = {.mk = mk, .at = text};

    for (;;) {
        while (*s.at == '\n' || *s.at == ' ')
            s.at++;
        if (*s.at == '\0')
            return;
        s.line = s.at;
        statement(&s);
    }
}

/* ---- the model ------------------------------------------------------------------------------ */

struct onnx_make *onnx_make_new(int64_t opset, const char *text)
{
    struct onnx_make *mk = must(mem_array(1, sizeof *mk));

    if (arena_new(0, &mk->arena) < 0)
        abort();
    onnx__model_proto__init(&mk->model);
    onnx__graph_proto__init(&mk->graph);
    onnx__operator_set_id_proto__init(&mk->opset);
    mk->opset.version = opset;
    mk->model.ir_version = 8;
    mk->model.graph = &mk->graph;
    mk->model.opset_import = onnx_make_alloc(mk, 4, sizeof(void *));
    mk->model.opset_import[mk->model.n_opset_import++] = &mk->opset;
    mk->graph.name = onnx_make_text(mk, "made");
    mk->graph.node = onnx_make_alloc(mk, ONNX_MAKE_MAX, sizeof(void *));
    mk->graph.input = onnx_make_alloc(mk, ONNX_MAKE_MAX, sizeof(void *));
    mk->graph.output = onnx_make_alloc(mk, ONNX_MAKE_MAX, sizeof(void *));
    mk->graph.initializer = onnx_make_alloc(mk, ONNX_MAKE_MAX, sizeof(void *));
    onnx_make_add(mk, text);
    onnx_make_pack(mk);
    return mk;
}

void onnx_make_free(struct onnx_make *mk)
{
    arena_free(mk->arena);
    mem_free(mk);
}

void onnx_make_pack(struct onnx_make *mk)
{
    mk->len = onnx__model_proto__get_packed_size(&mk->model);
    mk->bytes = onnx_make_alloc(mk, mk->len + 1, 1);
    onnx__model_proto__pack(&mk->model, mk->bytes);
}

Onnx__TensorProto *onnx_make_tensor(struct onnx_make *mk, const char *name)
{
    for (size_t k = 0; k < mk->graph.n_initializer; k++)
        if (strcmp(mk->graph.initializer[k]->name, name) == 0)
            return mk->graph.initializer[k];
    abort();
}

Onnx__NodeProto *onnx_make_node(struct onnx_make *mk, const char *name)
{
    for (size_t k = 0; k < mk->graph.n_node; k++)
        if (strcmp(mk->graph.node[k]->name, name) == 0 ||
            strcmp(mk->graph.node[k]->output[0], name) == 0)
            return mk->graph.node[k];
    abort();
}
