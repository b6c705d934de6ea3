/*
 * ONNX's own conformance cases (node_case.h) through the importer and the executor.
 *
 * They are single nodes of any rank, linnet takes classifiers, so each case is wrapped twice:
 *
 *   graph   img [N,...] -> reshaped to the first float input, whose dim 0 is the batch -> node(s),
 *           all other inputs as initializers -> flattened to [N,K]
 *   folded  every input an initializer, so that the importer computes the result itself, numbers and
 *           dims; both come out of  Flatten(img [N,1]) + Concat(readable(result), Shape(result))  for
 *           img = 0. No weight may be NaN or infinite, so  readable  writes them as numbers:
 *           Where(Equal(r, r), Clip(r, -1e30, 1e30), 2e30)
 *
 * A case passes if each of its outputs comes out of at least one way, and every way that is imported
 * gives the expected numbers. Cases count where each of their operators is one that linnet has. Every
 * case that does not pass must be in tests/vec/onnx_nodes.txt, a line "REASON NAME" each:
 *
 *     dtype   an input or output is no float32, float16, bfloat16, double, integer or bool: float8,
 *             int4 and smaller, strings
 *     opset   older than 7; newer releases may hold the case with a newer one, and pass
 *     rule    a rule of importer/ONNX.md says otherwise: Pad with mode wrap is refused;
 *             BatchNormalization and Dropout in training mode are taken in their inference form, with
 *             a warning
 *     scope   on constants alone, which no image classifier asks for (pools, Softmax, Gemm, Dropout's mask,
 *             padding that mirrors), or of ranks and axes that it has not
 *
 * A name may end in a '*', which stands for the rest of it.
 *
 * Of the cases without such a reason 95 % must pass.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "onnx.pb-c.h"

#include "core/exec/exec.h"
#include "core/base/mem.h"
#include "importer/importer.h"
#include "tests/node_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SEEN_INF 1e30 /* how the folded way writes what is no number */
#define SEEN_NAN 2e30

/* ---- wrapping ------------------------------------------------------------------------------- */

static void *take(size_t n, size_t size)
{
    static struct arena *arena;

    if (arena == NULL)
        assert_int_equal(arena_new(0, &arena), 0);
    void *p = arena_array(arena, n, size);
    assert_non_null(p);
    return p;
}

static char *text(const char *s)
{
    return strcpy(take(strlen(s) + 1, 1), s);
}

static Onnx__NodeProto *node(const char *type, const char *a, const char *b, const char *out)
{
    Onnx__NodeProto *p = take(1, sizeof *p);

    onnx__node_proto__init(p);
    p->op_type = text(type);
    p->input = take(2, sizeof(char *));
    p->input[p->n_input++] = text(a);
    if (b != NULL)
        p->input[p->n_input++] = text(b);
    p->output = take(1, sizeof(char *));
    p->output[p->n_output++] = text(out);
    return p;
}

static Onnx__TensorProto *integers(const char *name, const int64_t *v, size_t n)
{
    Onnx__TensorProto *t = take(1, sizeof *t);

    onnx__tensor_proto__init(t);
    t->name = text(name);
    t->data_type = TYPE(INT64);
    t->dims = take(1, sizeof *t->dims);
    t->dims[t->n_dims++] = (int64_t)n;
    t->int64_data = take(n, sizeof *v);
    memcpy(t->int64_data, v, n * sizeof *v);
    t->n_int64_data = n;
    return t;
}

static Onnx__ValueInfoProto *image(const char *name, int32_t type, size_t rank, const int64_t *dim)
{
    Onnx__ValueInfoProto *v = take(1, sizeof *v);
    Onnx__TypeProto *t = take(1, sizeof *t);
    Onnx__TypeProto__Tensor *x = take(1, sizeof *x);
    Onnx__TensorShapeProto *s = take(1, sizeof *s);

    onnx__value_info_proto__init(v);
    onnx__type_proto__init(t);
    onnx__type_proto__tensor__init(x);
    onnx__tensor_shape_proto__init(s);
    v->name = text(name);
    v->type = t;
    t->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    t->tensor_type = x;
    x->elem_type = type;
    x->shape = s;
    s->dim = take(rank, sizeof(void *));
    for (size_t k = 0; k < rank; k++) {
        Onnx__TensorShapeProto__Dimension *d = take(1, sizeof *d);

        onnx__tensor_shape_proto__dimension__init(d);
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        d->dim_value = dim[k];
        if (k == 0) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = text("N");
        }
        s->dim[s->n_dim++] = d;
    }
    return v;
}

struct wrap { /* a copy of the case's model that may be changed */
    Onnx__ModelProto model;
    Onnx__GraphProto graph;
};

/* The case's graph with all inputs but `skip` as initializers, and room for more rows. */
static void wrap_begin(const struct node_case *c, size_t skip, struct wrap *w)
{
    const Onnx__GraphProto *g = c->model->graph;

    w->model = *c->model;
    w->graph = *g;
    w->model.graph = &w->graph;
    w->graph.node = take(g->n_node + 16, sizeof(void *));
    w->graph.n_node = 0;
    w->graph.initializer = take(g->n_initializer + c->n_in + 8, sizeof(void *));
    for (size_t k = 0; k < g->n_initializer; k++)
        w->graph.initializer[k] = g->initializer[k];
    for (size_t k = 0; k < c->n_in; k++) {
        if (k == skip)
            continue;
        Onnx__TensorProto *t = take(1, sizeof *t);

        *t = *c->in[k];
        t->name = g->input[k]->name;
        w->graph.initializer[w->graph.n_initializer++] = t;
    }
    w->graph.input = take(1, sizeof(void *));
    w->graph.output = take(1, sizeof(void *));
    w->graph.n_input = w->graph.n_output = 1;
    w->graph.n_value_info = 0;
}

static void add_node(struct wrap *w, Onnx__NodeProto *p)
{
    w->graph.node[w->graph.n_node++] = p;
}

static void add_case_nodes(const struct node_case *c, struct wrap *w)
{
    for (size_t k = 0; k < c->model->graph->n_node; k++)
        add_node(w, c->model->graph->node[k]);
}

static void add_integers(struct wrap *w, const char *name, const int64_t *v, size_t n)
{
    w->graph.initializer[w->graph.n_initializer++] = integers(name, v, n);
}

static Onnx__AttributeProto *attribute(Onnx__NodeProto *p, const char *name, int32_t type)
{
    Onnx__AttributeProto *a = take(1, sizeof *a);

    onnx__attribute_proto__init(a);
    a->name = text(name);
    a->type = (Onnx__AttributeProto__AttributeType)type;
    if (p->n_attribute == 0)
        p->attribute = take(2, sizeof(void *));
    p->attribute[p->n_attribute++] = a;
    return a;
}

static void add_cast(struct wrap *w, const char *from, const char *out)
{
    Onnx__NodeProto *p = node("Cast", from, NULL, out);

    attribute(p, "to", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT)->i = TYPE(FLOAT);
    add_node(w, p);
}

/* wrap_seen = the numbers of `result` [1,count], NaN and infinity as numbers. */
static void add_readable(struct wrap *w, const char *result, int64_t count)
{
    const int64_t row[2] = {1, count};
    Onnx__NodeProto *clip = node("Clip", "wrap_cast", NULL, "wrap_clip"), *where;
    Onnx__TensorProto *nan = integers("wrap_nan", row, 0);

    nan->data_type = TYPE(FLOAT);
    nan->n_dims = 0;
    nan->float_data = take(1, sizeof(float));
    nan->float_data[nan->n_float_data++] = (float)SEEN_NAN;
    w->graph.initializer[w->graph.n_initializer++] = nan;
    add_cast(w, result, "wrap_cast");
    add_node(w, node("Equal", "wrap_cast", "wrap_cast", "wrap_same"));
    attribute(clip, "min", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT)->f = -(float)SEEN_INF;
    attribute(clip, "max", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT)->f = (float)SEEN_INF;
    add_node(w, clip);
    where = node("Where", "wrap_same", "wrap_clip", "wrap_finite");
    where->input = take(3, sizeof(char *));
    where->input[0] = text("wrap_same");
    where->input[1] = text("wrap_clip");
    where->input[2] = text("wrap_nan");
    where->n_input = 3;
    add_node(w, where);
    add_integers(w, "wrap_row", row, 2);
    add_node(w, node("Reshape", "wrap_finite", "wrap_row", "wrap_seen"));
}

/* wrap_dims = the dims of `result` [1,rank]. */
static void add_dims(struct wrap *w, const char *result, int64_t rank)
{
    const int64_t row[2] = {1, rank};

    add_node(w, node("Shape", result, NULL, "wrap_shape"));
    add_cast(w, "wrap_shape", "wrap_shape_cast");
    add_integers(w, "wrap_rank", row, 2);
    add_node(w, node("Reshape", "wrap_shape_cast", "wrap_rank", "wrap_dims"));
}

static void wrap_folded(const struct node_case *c, struct wrap *w)
{
    const char *result = c->model->graph->output[c->at]->name, *seen;
    const int64_t count = (int64_t)c->want.count, rank = (int64_t)c->want.rank;
    const int64_t dim[4] = {0, 1, 1, 1}, row[2] = {1, count + rank};

    wrap_begin(c, MAX_IN, w);
    w->graph.input[0] = image("wrap_img", TYPE(FLOAT), 4, dim);
    add_case_nodes(c, w);
    if (count > 0)
        add_readable(w, result, count);
    if (rank > 0)
        add_dims(w, result, rank);
    seen = count == 0 ? "wrap_dims" : rank == 0 ? "wrap_seen" : "wrap_both";
    if (count > 0 && rank > 0) {
        Onnx__NodeProto *p = node("Concat", "wrap_seen", "wrap_dims", "wrap_both");

        attribute(p, "axis", ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT)->i = 1;
        add_node(w, p);
    }
    add_node(w, node("Flatten", "wrap_img", NULL, "wrap_zero"));
    add_node(w, node("Add", "wrap_zero", seen, "wrap_out"));
    w->graph.output[0] = image("wrap_out", TYPE(FLOAT), 2, row);
}

/* What the folded way should bring: numbers, then dims. */
static void expect_folded(struct node_case *c, double *v)
{
    for (size_t k = 0; k < c->want.count; k++) {
        const double x = c->want.v[k];

        v[k] = isnan(x) ? SEEN_NAN : x > SEEN_INF ? SEEN_INF : x < -SEEN_INF ? -SEEN_INF : x;
    }
    for (size_t k = 0; k < c->want.rank; k++)
        v[c->want.count + k] = (double)c->want.dim[k];
}

/* A sum of vectors is the same sum for each image. */
static bool is_elementwise(const struct node_case *c)
{
    return c->model->graph->n_node == 1 && strcmp(c->model->graph->node[0]->op_type, "Sum") == 0;
}

static bool is_float(int32_t type)
{
    return type == TYPE(FLOAT) || type == TYPE(DOUBLE) || type == TYPE(FLOAT16) ||
           type == TYPE(BFLOAT16);
}

/* Index of the input that becomes the activation, c->n_in if none can. */
static size_t activation_of(const struct node_case *c)
{
    for (size_t k = 0; k < c->n_in; k++) {
        const Onnx__TensorProto *t = c->in[k];

        if (is_float(t->data_type) && t->n_dims >= 2 && t->n_dims <= 6 && t->dims[0] > 0)
            return k;
        if (is_float(t->data_type) && t->n_dims == 1 && is_elementwise(c))
            return k;
    }
    return c->n_in;
}

/* Rank 4: the input itself; else an image with as many numbers, reshaped. */
static void wrap_graph(const struct node_case *c, size_t a, struct wrap *w)
{
    const Onnx__TensorProto *x = c->in[a];
    const char *name = c->model->graph->input[a]->name, *out = c->model->graph->output[c->at]->name;
    int64_t dim[4] = {x->dims[0], 1, 1, 1}, shape[8], flat[2] = {-1, 1};

    wrap_begin(c, a, w);
    if (x->n_dims == 1)
        dim[1] = x->dims[0];
    for (size_t k = 1; k < x->n_dims; k++)
        dim[k < 4 ? k : 3] *= x->dims[k];
    w->graph.input[0] = image(x->n_dims == 4 ? name : "wrap_img", x->data_type, 4, dim);
    if (x->n_dims == 1) {
        flat[1] = x->dims[0];
        add_integers(w, "wrap_shape", flat, 2);
        add_node(w, node("Reshape", "wrap_img", "wrap_shape", name));
    } else if (x->n_dims != 4) {
        memcpy(shape, x->dims, x->n_dims * sizeof *shape);
        shape[0] = -1;
        add_integers(w, "wrap_shape", shape, x->n_dims);
        add_node(w, node("Reshape", "wrap_img", "wrap_shape", name));
    }
    add_case_nodes(c, w);
    for (size_t k = 1; k < c->want.rank; k++)
        flat[1] *= c->want.dim[k];
    add_integers(w, "wrap_flat", flat, 2);
    if (c->want.rank > 2)
        add_node(w, node("Reshape", out, "wrap_flat", "wrap_out"));
    w->graph.output[0] = image(c->want.rank > 2 ? "wrap_out" : out, TYPE(FLOAT), 2, flat);
}

/* ---- running -------------------------------------------------------------------------------- */

enum outcome { REFUSED, DIFFERS, EQUAL };

struct expected { /* what a network should bring */
    const double *v;
    size_t n;
    double relative; /* error that is none */
};

/* Numbers of the case agree as ONNX's own runner asks: relative 1e-3, absolute 1e-7, and a bit of
 * float32 rounding where sums cancel. */
static bool agrees(struct node_case *c, const struct expected *e, const float *have)
{
    for (size_t k = 0; k < e->n; k++) {
        const double want = e->v[k], error = fabs((double)have[k] - want);

        if ((isnan(want) && isnan(have[k])) || want == (double)have[k])
            continue;
        if (!(error <= e->relative * fabs(want) + 1e-6)) {
            snprintf(c->why, TEXT, "element %zu of %zu is %g, expected %g", k, e->n,
                     (double)have[k], want);
            return false;
        }
    }
    return true;
}

/* A Softmax or LogSoftmax at the end is no part of the graph: it is trained on the logits. */
static void apply_tail(const struct graph *g, float *logits, int64_t rows)
{
    const int64_t k = shape_elems(&g->value[g->output].shape);

    for (int64_t r = 0; g->tail != TAIL_NONE && r < rows; r++) {
        float *z = logits + r * k, high = z[0];
        double sum = 0;

        for (int64_t i = 0; i < k; i++)
            high = z[i] > high ? z[i] : high;
        for (int64_t i = 0; i < k; i++)
            sum += exp((double)(z[i] - high));
        for (int64_t i = 0; i < k; i++)
            z[i] = (float)(g->tail == TAIL_SOFTMAX ? exp((double)(z[i] - high)) / sum
                                                   : (double)(z[i] - high) - log(sum));
    }
}

static enum outcome run_graph(struct node_case *c, struct graph *g, const struct expected *want,
                              const double *in, int64_t n)
{
    const int64_t n_in = n * shape_elems(&g->value[g->input].shape);
    const int64_t n_out = n * shape_elems(&g->value[g->output].shape);
    float *pixels = mem_array((size_t)n_in, sizeof *pixels);
    float *logits = mem_array((size_t)n_out, sizeof *logits);
    struct exec *e = NULL;
    enum outcome r = DIFFERS;

    assert_true(pixels != NULL && logits != NULL);
    for (int64_t k = 0; in != NULL && k < n_in; k++)
        pixels[k] = (float)in[k];
    assert_int_equal(exec_new(g, EXEC_INFER, n, NULL, &e), 0);
    assert_int_equal(exec_infer(e, pixels, n, 0, logits), 0);
    apply_tail(g, logits, n);
    if (n_out != (int64_t)want->n)
        snprintf(c->why, TEXT, "%lld numbers, expected %zu", (long long)n_out, want->n);
    else if (agrees(c, want, logits))
        r = EQUAL;
    exec_free(e);
    mem_free(pixels);
    mem_free(logits);
    return r;
}

static enum outcome run_wrapped(struct node_case *c, struct wrap *w, const struct expected *want,
                                const double *in, int64_t n)
{
    const size_t len = onnx__model_proto__get_packed_size(&w->model);
    uint8_t *bytes = take(len + 1, 1);
    struct graph *g = NULL;
    enum outcome r = REFUSED;

    onnx__model_proto__pack(&w->model, bytes);
    if (onnx_import_bytes(bytes, len, -1, NULL, NULL, &g) == 0)
        r = run_graph(c, g, want, in, n);
    else
        snprintf(c->why, TEXT, "%s", err_message());
    graph_free(g);
    return r;
}

/* Activations stay float32 where the file has bfloat16, constants are rounded to the nearest one, ONNX
 * 1.12 cuts the bits off: at most one unit in the last of 8 digits between any two of them. */
static double tolerance(const struct node_case *c)
{
    return c->want_type == TYPE(BFLOAT16) ? 0x1p-7 : 1e-3;
}

static enum outcome run_as_graph(struct node_case *c)
{
    const struct expected want = {c->want.v, c->want.count, tolerance(c)};
    const size_t a = activation_of(c);
    struct numbers x;
    struct wrap w;

    if (a == c->n_in || c->want.rank < 1 || c->want.dim[0] != c->in[a]->dims[0] ||
        c->want.count == 0 || !numbers_read(c->in[a], &x))
        return REFUSED;
    wrap_graph(c, a, &w);
    const int64_t images = x.rank == 1 ? 1 : x.dim[0];
    const enum outcome r = x.count > 0 ? run_wrapped(c, &w, &want, x.v, images) : REFUSED;
    mem_free(x.v);
    return r;
}

static enum outcome run_folded(struct node_case *c)
{
    const size_t n = c->want.count + c->want.rank;
    double *v = take(n + 1, sizeof *v);
    struct wrap w;

    wrap_folded(c, &w);
    expect_folded(c, v);
    return run_wrapped(c, &w, &(struct expected){v, n, tolerance(c)}, NULL, 1);
}

/* How one output came out: as part of a graph, and computed by the importer. */
static bool passes_output(struct node_case *c, bool *as_graph)
{
    char why[TEXT];

    const enum outcome graph = run_as_graph(c);
    *as_graph = *as_graph && graph == EQUAL;
    if (graph == DIFFERS)
        return false;
    memcpy(why, c->why, TEXT);
    const enum outcome folded = run_folded(c);
    if (folded == REFUSED && why[0] != '\0')
        memcpy(c->why, why, TEXT);
    return folded != DIFFERS && (graph == EQUAL || folded == EQUAL);
}

static bool passes(struct node_case *c, bool *as_graph)
{
    bool ok = true;

    *as_graph = true;
    for (c->at = 0; ok && c->at < c->n_out; c->at++) {
        c->want_type = c->out[c->at]->data_type;
        if ((ok = numbers_read(c->out[c->at], &c->want)))
            ok = passes_output(c, as_graph);
        else
            snprintf(c->why, TEXT, "output %zu holds no numbers that are read here", c->at);
        mem_free(c->want.v);
    }
    return ok;
}

/* ---- cases that may be missing --------------------------------------------------------------- */

enum { MAX_LISTED = 400, REASON_BYTES = 16 };
struct listed {
    char reason[REASON_BYTES], name[200];
};

static const struct listed *find_listed(const char *name)
{
    static struct listed row[MAX_LISTED];
    static int n;

    if (n == 0) {
        FILE *f = fopen("tests/vec/onnx_nodes.txt", "r");

        assert_non_null(f);
        while (n < MAX_LISTED && fscanf(f, "%15s %199s", row[n].reason, row[n].name) == 2)
            n++;
        assert_true(feof(f));
        fclose(f);
    }
    for (int k = 0; k < n; k++)
        if (fnmatch(row[k].name, name, 0) == 0)
            return &row[k];
    return NULL;
}

enum { DTYPE, OPSET, RULE, SCOPE, N_REASON }; /* all there may be */
static const char *const reasons[N_REASON] = {"dtype", "opset", "rule", "scope"};

struct tally {
    int total, passed, in_graph; /* in_graph: passed as part of a network */
    int missing[N_REASON], wrong;
};

static int reason_of(const char *reason)
{
    for (int k = 0; k < N_REASON; k++)
        if (strcmp(reasons[k], reason) == 0)
            return k;
    fail_msg("tests/vec/onnx_nodes.txt: unknown reason '%s'", reason);
    return 0;
}

static bool has_other_types(const struct node_case *c)
{
    for (size_t k = 0; k < c->n_in; k++)
        if (numbers_type_bytes(c->in[k]->data_type) == 0)
            return true;
    for (size_t k = 0; k < c->n_out; k++)
        if (numbers_type_bytes(c->out[k]->data_type) == 0)
            return true;
    return false;
}

static int64_t opset_of(const struct node_case *c)
{
    for (size_t k = 0; k < c->model->n_opset_import; k++)
        if (c->model->opset_import[k]->domain[0] == '\0')
            return c->model->opset_import[k]->version;
    return 0;
}

/* What the list says of a case that does not pass is what its file shows. */
static bool is_reason(const struct node_case *c, int reason)
{
    return reason == DTYPE   ? has_other_types(c)
           : reason == OPSET ? opset_of(c) < 7
                             : !has_other_types(c) && opset_of(c) >= 7;
}

static void count_case(struct tally *t, const struct node_case *c, bool ok, bool as_graph)
{
    const struct listed *l = find_listed(c->name);

    t->total++;
    t->passed += ok;
    t->in_graph += ok && as_graph;
    if (!ok && l != NULL) {
        const int reason = reason_of(l->reason);

        t->missing[reason]++;
        printf("  %s %s\n", l->reason, c->name);
        if (!is_reason(c, reason)) {
            printf("  %s: that is not why: %s\n", c->name, c->why);
            t->wrong++;
        }
    }
    if (ok && l != NULL && strcmp(l->reason, "opset") != 0) {
        printf("  %s passes: take it off the list\n", c->name);
        t->wrong++;
    }
    if (!ok && l == NULL) {
        printf("  %s does not pass, without a reason: %s\n", c->name, c->why);
        t->wrong++;
    }
}

static bool is_enough(const struct tally *t)
{
    int counted = t->total;

    for (int k = 0; k < N_REASON; k++)
        counted -= t->missing[k];
    printf(
        "  %d of %d cases of linnet's operators passed: %d as part of a network, %d as constants only\n",
        t->passed, t->total, t->in_graph, t->passed - t->in_graph);
    for (int k = 0; k < N_REASON; k++)
        printf("  did not pass, reason %s: %d\n", reasons[k], t->missing[k]);
    printf("  %d of the %d cases without a reason passed, %.1f %%\n", t->passed, counted,
           100.0 * t->passed / counted);
    return t->passed > 100 && t->passed >= 0.95 * counted;
}

static bool run_folder(const char *folder)
{
    struct dirent **entry;
    struct tally t = {0};
    int n = scandir(folder, &entry, NULL, alphasort);

    assert_true(n >= 0);
    printf("%s:\n", folder);
    for (int k = 0; k < n; k++) {
        struct node_case c = {.folder = folder, .name = entry[k]->d_name};

        if (c.name[0] != '.' && node_case_read(&c)) {
            bool as_graph, ok = passes(&c, &as_graph);

            count_case(&t, &c, ok, as_graph);
        }
        node_case_release(&c);
        free(entry[k]);
    }
    free(entry);
    return is_enough(&t) && t.wrong == 0;
}

static void test_node_cases(void **state)
{
    static const char *const places[] = {
        "/usr/share/libonnx-testdata/data/node",
        "build/venv/lib/python3*/site-packages/onnx/backend/test/data/node"};

    bool ok = true;

    (void)state;
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        glob_t found;

        if (glob(places[k], 0, NULL, &found) == 0)
            ok = run_folder(found.gl_pathv[0]) && ok;
        else
            printf("skipped: no cases in %s\n", places[k]);
        globfree(&found);
    }
    assert_true(ok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_node_cases)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
