/*
 * Add, Sub, Mul, Div with numpy broadcasting. At least one operand is an activation; the other is
 * an activation or a PARAM / CONST that is the same for all images.
 *
 * Walk: output positions (n, outer, middle) and a row of `inner` floats. For rank 4 these are
 * h, w, c: the storage order. Every operand has one stride for each, 0 where it is broadcast. The
 * strides also turn a constant in ONNX order [C,H,W] into channels-last, so nothing is prepared.
 *
 * Gradients, summed over broadcast dims by the same walk (stride 0 adds on one place):
 *   Add  da = dy    db = dy          Mul  da = dy b    db = dy a
 *   Sub  da = dy    db = -dy         Div  da = dy / b  db = -dy a / b^2
 */
#include "core/op/image.h"

enum kind { ADD, SUB, MUL, DIV };

struct operand {
    const float *at;
    int64_t image, outer, middle, inner; /* strides in floats */
};
struct walk {
    int64_t outer, middle, inner; /* per image */
    struct operand in[2];
};

/* ---- shapes -------------------------------------------------------------------------------- */

static int binary_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    char ta[SHAPE_TEXT], tb[SHAPE_TEXT];

    const struct value *a = op_in(g, node, 0), *b = op_in(g, node, 1);
    bool dynamic_a = value_is_activation(a), dynamic_b = value_is_activation(b);
    shape_text(&a->shape, ta);
    shape_text(&b->shape, tb);
    if (!dynamic_a && !dynamic_b)
        return op_fail(node, "both inputs are constants ('%s', '%s')", a->name, b->name);
    if (dynamic_a && dynamic_b && a->shape.rank != b->shape.rank)
        return op_fail(node, "inputs %s and %s differ in rank", ta, tb);
    struct shape s;
    if (shape_broadcast(&a->shape, &b->shape, &s) < 0)
        return op_fail(node, "shapes %s and %s do not broadcast", ta, tb);
    if (!shape_has_batch(&s) || s.rank < 2 || s.rank > 4 ||
        s.rank != (dynamic_a ? a : b)->shape.rank)
        return op_fail(node, "result of %s and %s is no activation of rank 2 to 4", ta, tb);
    *out = s;
    return 0;
}

/* Strides of an operand of shape s in an output of shape y. order: dims of y, outer to inner. */
static struct operand operand_of(const struct value *v, const struct shape *y, const int order[3])
{
    bool activation = value_is_activation(v), channels_last = activation && v->shape.rank == 4;
    int64_t dim[4] = {1, 1, 1, 1}, stride[4] = {0, 0, 0, 0}, size = 1;
    const int onnx[3] = {1, 2, 3}, last[3] = {2, 3, 1};

    for (int32_t i = 0; i < v->shape.rank; i++) {
        int32_t d = i + y->rank - v->shape.rank;
        dim[d] = d == 0 ? 1 : v->shape.dim[i];
    }
    for (int i = 2; i >= 0; i--) {
        int d = channels_last ? last[i] : onnx[i];
        stride[d] = dim[d] > 1 ? size : 0;
        size *= dim[d];
    }
    return (struct operand){NULL, activation ? size : 0, stride[order[0]], stride[order[1]],
                            stride[order[2]]};
}

/* One row of everything where nothing is broadcast and the orders agree. */
static void join_rows(struct walk *w)
{
    bool same = true;

    for (int i = 0; i < 2; i++) {
        const struct operand *o = &w->in[i];
        same = same && (o->inner == 1 || w->inner == 1) &&
               (o->middle == w->inner || w->middle == 1) &&
               (o->outer == w->inner * w->middle || w->outer == 1);
    }
    if (!same)
        return;
    w->inner *= w->middle * w->outer;
    w->middle = w->outer = 1;
    for (int i = 0; i < 2; i++)
        w->in[i].inner = 1;
}

static struct walk walk_of(const struct op_call *k)
{
    const struct shape *y = &k->g->value[k->node->out[0]].shape;
    static const int image_order[3] = {2, 3, 1}, plain_order[3] = {1, 2, 3};
    const int *order = y->rank == 4 ? image_order : plain_order;
    int64_t dim[4] = {1, 1, 1, 1};
    struct walk w;

    for (int32_t i = 1; i < y->rank; i++)
        dim[i] = y->dim[i];
    w.outer = dim[order[0]];
    w.middle = dim[order[1]];
    w.inner = dim[order[2]];
    for (int i = 0; i < 2; i++) {
        w.in[i] = operand_of(op_in(k->g, k->node, i), y, order);
        w.in[i].at = k->in[i];
    }
    join_rows(&w);
    return w;
}

static int64_t place(const struct operand *o, int64_t image, int64_t outer, int64_t middle)
{
    return image * o->image + outer * o->outer + middle * o->middle;
}

/* ---- forward ------------------------------------------------------------------------------- */

static inline float apply(enum kind kind, float a, float b)
{
    return kind == ADD ? a + b : kind == SUB ? a - b : kind == MUL ? a * b : a / b;
}

/* Inlined with constant kind and, in the two common cases, constant strides. */
static inline __attribute__((always_inline)) void
rows(enum kind kind, float *y, const float *a, const float *b, int64_t sa, int64_t sb, int64_t n)
{
    if (sa == 1 && sb == 1) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            y[i] = apply(kind, a[i], b[i]);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        y[i] = apply(kind, a[i * sa], b[i * sb]);
}

static inline __attribute__((always_inline)) void forward(const struct op_call *k, enum kind kind)
{
    struct walk w = walk_of(k);
    float *y = k->out;

    for (int64_t n = 0; n < k->n; n++) {
        for (int64_t o = 0; o < w.outer; o++) {
            for (int64_t m = 0; m < w.middle; m++, y += w.inner)
                rows(kind, y, w.in[0].at + place(&w.in[0], n, o, m),
                     w.in[1].at + place(&w.in[1], n, o, m), w.in[0].inner, w.in[1].inner, w.inner);
        }
    }
}

/* ---- gradients ----------------------------------------------------------------------------- */

/* What operand `side` gets from one element. */
static inline float share(enum kind kind, int side, float dy, float a, float b)
{
    switch (kind) {
    case ADD:
        return dy;
    case SUB:
        return side == 0 ? dy : -dy;
    case MUL:
        return side == 0 ? dy * b : dy * a;
    default:
        return side == 0 ? dy / b : -dy * a / (b * b);
    }
}

static inline bool reads_inputs(enum kind kind)
{
    return kind == MUL || kind == DIV;
}

/* d += share over a row; a and b are read only where the kind needs them (else NULL is fine). */
static inline __attribute__((always_inline)) void grad_rows(enum kind kind, int side, float *d,
                                                            int64_t sd, const float *dy,
                                                            const float *a, int64_t sa,
                                                            const float *b, int64_t sb, int64_t n)
{
    if (!reads_inputs(kind) && sd == 1) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            d[i] += share(kind, side, dy[i], 0, 0);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        float va = reads_inputs(kind) ? a[i * sa] : 0, vb = reads_inputs(kind) ? b[i * sb] : 0;
        d[i * sd] += share(kind, side, dy[i], va, vb);
    }
}

static inline __attribute__((always_inline)) void grad_operand(const struct op_call *k,
                                                               enum kind kind, int side)
{
    struct walk w = walk_of(k);
    const struct operand *a = &w.in[0], *b = &w.in[1], *d = &w.in[side];
    bool read = reads_inputs(kind);
    const float *dy = k->dout;

    for (int64_t n = 0; n < k->n; n++) {
        for (int64_t o = 0; o < w.outer; o++) {
            for (int64_t m = 0; m < w.middle; m++, dy += w.inner)
                grad_rows(kind, side, k->din[side] + place(d, n, o, m), d->inner, dy,
                          read ? a->at + place(a, n, o, m) : NULL, a->inner,
                          read ? b->at + place(b, n, o, m) : NULL, b->inner, w.inner);
        }
    }
}

/* A gradient that is just dy, in one pass. */
static bool copy_grad(const struct op_call *k, enum kind kind, int side)
{
    const struct shape *y = &k->g->value[k->node->out[0]].shape;

    if (reads_inputs(kind) || !shape_equal(&op_in(k->g, k->node, side)->shape, y))
        return false;
    int64_t n = k->n * shape_elems(y);
    if (kind == ADD || side == 0) {
        floats_put(k->din[side], k->dout, n, k->add[side]);
        return true;
    }
    float *d = k->din[side];
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        d[i] = (k->add[side] ? d[i] : 0) - k->dout[i];
    return true;
}

static inline __attribute__((always_inline)) void grad_input(const struct op_call *k,
                                                             enum kind kind)
{
    for (int side = 0; side < 2; side++) {
        const struct value *v = op_in(k->g, k->node, side);
        if (k->din[side] == NULL || !value_is_activation(v) || copy_grad(k, kind, side))
            continue;
        if (!k->add[side])
            floats_fill(k->din[side], k->n * shape_elems(&v->shape), 0);
        grad_operand(k, kind, side);
    }
}

static inline __attribute__((always_inline)) void grad_params(const struct op_call *k,
                                                              enum kind kind)
{
    for (int side = 0; side < 2; side++) {
        if (k->din[side] != NULL && !value_is_activation(op_in(k->g, k->node, side)))
            grad_operand(k, kind, side);
    }
}

/* ---- table --------------------------------------------------------------------------------- */

#define BINARY(name, type_name, kind, op_flags)                                                    \
    static void name##_forward(const struct op_call *k)                                            \
    {                                                                                              \
        forward(k, kind);                                                                          \
    }                                                                                              \
    static void name##_grad_input(const struct op_call *k)                                         \
    {                                                                                              \
        grad_input(k, kind);                                                                       \
    }                                                                                              \
    static void name##_grad_params(const struct op_call *k)                                        \
    {                                                                                              \
        grad_params(k, kind);                                                                      \
    }                                                                                              \
    const struct op op_##name = {                                                                  \
        .type = (type_name),                                                                       \
        .in_min = 2,                                                                               \
        .in_max = 2,                                                                               \
        .flags = (op_flags),                                                                       \
        .shape = binary_shape,                                                                     \
        .hooks =                                                                                   \
            &(const struct op_hooks){                                                              \
                .forward = name##_forward,                                                         \
                .grad_input = name##_grad_input,                                                   \
                .grad_params = name##_grad_params,                                                 \
            },                                                                                     \
    };

BINARY(add, "Add", ADD, OP_LINEAR | OP_ELEMENTWISE)
BINARY(sub, "Sub", SUB, OP_LINEAR | OP_ELEMENTWISE)
BINARY(mul, "Mul", MUL, OP_ELEMENTWISE | OP_KEEP_X)
BINARY(div, "Div", DIV, OP_ELEMENTWISE | OP_KEEP_X)
