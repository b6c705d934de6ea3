/*
 * Flatten (axis 1) and Reshape. Both keep the ONNX order of an image's elements; storage of rank 4
 * is channels-last, so the elements move unless there is one position or one channel on each side.
 *
 * Any of the two shapes may have rank 4. Element e of an image in ONNX order sits at
 * storage(e) = (e mod hw) c + e / hw for rank 4, at e otherwise.
 */
#include "core/op/image.h"

static int check_source(const struct graph *g, const struct node *node)
{
    char text[SHAPE_TEXT];

    const struct value *x = op_in(g, node, 0);
    if (!value_is_activation(x) || !shape_has_batch(&x->shape) || x->shape.rank < 2)
        return op_fail(node, "input 0 '%s' has shape %s, needs an activation of rank 2 or more",
                       x->name, shape_text(&x->shape, text));
    return 0;
}

static int flatten_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    TRY(check_source(g, node));
    *out = shape_make(2, (int64_t)SHAPE_BATCH, shape_elems(&op_in(g, node, 0)->shape));
    return 0;
}

static int reshape_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    const struct shape *to = &node->p.reshape.target;
    char from_text[SHAPE_TEXT], to_text[SHAPE_TEXT];
    int64_t count;

    TRY(check_source(g, node));
    const struct shape *from = &op_in(g, node, 0)->shape;
    shape_text(from, from_text);
    shape_text(to, to_text);
    if (to->rank < 2 || to->rank > 4 || !shape_has_batch(to))
        return op_fail(node, "target %s, needs [N,...] of rank 2 to 4", to_text);
    TRY(shape_count(to, &count));
    if (count != shape_elems(from))
        return op_fail(node, "input %s has %lld elements an image, target %s has %lld", from_text,
                       (long long)shape_elems(from), to_text, (long long)count);
    *out = *to;
    return 0;
}

/* How many positions and channels the storage of s has; 1 channel where it is in ONNX order. */
static void layout(const struct shape *s, int64_t *c, int64_t *hw)
{
    *c = s->rank == 4 ? s->dim[1] : 1;
    *hw = s->rank == 4 ? s->dim[2] * s->dim[3] : shape_elems(s);
}

/* One image from storage of shape a to storage of shape b. */
static void move_image(const struct shape *a, const struct shape *b, const float *from, float *to,
                       bool add)
{
    int64_t ca, pa, cb, pb, n = shape_elems(a);

    layout(a, &ca, &pa);
    layout(b, &cb, &pb);
    if ((ca == 1 || pa == 1 || (ca == cb && pa == pb)) &&
        (cb == 1 || pb == 1 || (ca == cb && pa == pb))) {
        floats_put(to, from, n, add);
        return;
    }
    for (int64_t e = 0; e < n; e++) {
        float v = from[e % pa * ca + e / pa];
        float *t = &to[e % pb * cb + e / pb];
        *t = add ? *t + v : v;
    }
}

static void reshape_forward(const struct op_call *k)
{
    const struct shape *x = &op_in(k->g, k->node, 0)->shape;
    const struct shape *y = &k->g->value[k->node->out[0]].shape;
    int64_t n = shape_elems(x);

    for (int64_t b = 0; b < k->n; b++)
        move_image(x, y, k->in[0] + b * n, k->out + b * n, false);
}

static void reshape_grad_input(const struct op_call *k)
{
    const struct shape *x = &op_in(k->g, k->node, 0)->shape;
    const struct shape *y = &k->g->value[k->node->out[0]].shape;
    int64_t n = shape_elems(x);

    for (int64_t b = 0; b < k->n && k->din[0] != NULL; b++)
        move_image(y, x, k->dout + b * n, k->din[0] + b * n, k->add[0]);
}

static const struct op_hooks hooks = {
    .forward = reshape_forward,
    .grad_input = reshape_grad_input,
};

const struct op op_flatten = {
    .type = "Flatten",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_LINEAR,
    .shape = flatten_shape,
    .hooks = &hooks,
};

const struct op op_reshape = {
    .type = "Reshape",
    .in_min = 1,
    .in_max = 1,
    .flags = OP_LINEAR,
    .shape = reshape_shape,
    .hooks = &hooks,
};
