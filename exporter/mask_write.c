/*
 * One MaskedRelu(x, m) called `site`, written in standard operators (importer/ONNX.md).
 *
 *   where    r = Relu(x)                   site/Relu
 *            y = Where(m, r, x)            site/Where     site.mask BOOL [1,C,H,W]
 *
 *            with a line s x + b at removed positions, which the other forms cannot say:
 *            p = Mul(x, s)                 site/Mul       FLOAT [C,1,1], named as in the graph
 *            l = Add(p, b)                 site/Add       FLOAT [C,1,1]
 *            y = Where(m, r, l)            site/Where
 *
 *   prelu    y = PRelu(x, 1 - m)           site/PRelu     site.slope FLOAT [C,H,W]
 *
 *   gather   f = Flatten(x, axis=1)        site/Flatten
 *            k = Relu(Gather(f, keep, 1))  site/Keep, site/Relu
 *            l = Gather(f, linear, 1)      site/Linear
 *            c = Concat(k, l, axis=1)      site/Concat
 *            p = Gather(c, inverse, 1)     site/Order
 *            y = Reshape(p, [1,C,H,W])     site/Reshape   index lists are Constant nodes
 *
 *   channel  whole channels, see channel_write.c
 *
 * Of a ReLU6 r and k are Clip(x, 0, 6), bounds site.low and site.high; only where and gather say that.
 *
 * where and gather select and are exact; prelu gives -0.0 for kept negative positions and NaN for
 * -inf. Only gather saves work in a downstream private inference, as the ReLU is evaluated at the
 * kept positions alone. For [N,K] the shapes are [1,K], [K] and [1,K].
 */
#include "exporter/mask_write.h"

#include "core/op/op.h"
#include "exporter/channel_write.h"

static const struct value *mask_of(const struct graph *g, const struct node *site)
{
    return op_in(g, site, 1);
}

static bool is_kept(const struct value *mask, int64_t i)
{
    return mask->data[i] > 0.5f;
}

/* The channel of the first position that differs from the others of its channel, -1 if none. */
static int64_t mixed_channel(const struct value *mask)
{
    int64_t n = shape_elems(&mask->shape), per_channel = n / mask->shape.dim[0];

    for (int64_t i = 0; i < n; i++)
        if (is_kept(mask, i) != is_kept(mask, i - i % per_channel))
            return i / per_channel;
    return -1;
}

/* A ReLU6 that keeps a part of its positions. */
static int check_relu6(const struct graph *g, enum mask_form form)
{
    for (int32_t i = 0; i < g->n_node && (form == MASK_PRELU || form == MASK_CHANNEL); i++)
        if (g->node[i].op == &op_masked_relu && g->node[i].p.masked_relu.relu6)
            return fail(
                ERR_ARG,
                "node '%s': it is a ReLU6 with a mask, which only the forms where and gather can say. Hint: use one of these, or --relu6 as-relu and train again",
                g->node[i].name);
    return 0;
}

static int check_lines(const struct graph *g, enum mask_form form)
{
    for (int32_t i = 0; i < g->n_node && form != MASK_WHERE; i++)
        if (g->node[i].op == &op_masked_relu && g->node[i].n_in > 2)
            return fail(
                ERR_ARG,
                "node '%s': its removed ReLUs are lines s x + b, which only the form where can say. Hint: use where, or linearize with --removed identity",
                g->node[i].name);
    return 0;
}

int mask_check_form(const struct graph *g, enum mask_form form)
{
    TRY(check_lines(g, form));
    TRY(check_relu6(g, form));
    for (int32_t i = 0; i < g->n_node && form == MASK_CHANNEL; i++) {
        const struct node *n = &g->node[i];
        int64_t channel = n->op == &op_masked_relu ? mixed_channel(mask_of(g, n)) : -1;

        if (channel >= 0)
            return fail(
                ERR_ARG,
                "node '%s': its mask keeps a part of channel %lld, the channel form keeps whole channels. Hint: use where, prelu or gather; EzPC reads no other masks than those of whole channels",
                n->name, (long long)channel);
    }
    return 0;
}

/* The mask's shape with a 1 in front. */
static struct shape batched(const struct shape *s)
{
    struct shape b = {.rank = s->rank + 1, .dim = {1}};

    for (int32_t i = 0; i < s->rank; i++)
        b.dim[i + 1] = s->dim[i];
    return b;
}

/* out = op(x, v), v of one number a channel. */
static const char *write_channels(struct onnx_writer *w, const struct node *site, const char *op,
                                  const char *node, const char *what_out, const char *x,
                                  const struct value *v, int32_t rank)
{
    const struct shape s =
        rank == 4 ? shape_make(3, v->shape.dim[0], (int64_t)1, (int64_t)1) : v->shape;
    const char *in[2] = {x, v->name}, *out = onnx_write_value_name(w, site->name, what_out);

    onnx_write_floats(w, in[1], &s, v->data);
    onnx_write_node(w, op, onnx_write_node_name(w, site->name, node), in, 2, out);
    return out;
}

/* What stands at removed positions. */
static const char *write_line(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const struct value *x = op_in(g, site, 0);

    if (site->n_in == 2)
        return x->name;
    const char *scaled = write_channels(w, site, "Mul", "/Mul", "/Mul_out", x->name,
                                        op_in(g, site, 2), x->shape.rank);

    return write_channels(w, site, "Add", "/Add", "/Add_out", scaled, op_in(g, site, 3),
                          x->shape.rank);
}

static void write_where(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const struct value *mask = mask_of(g, site);
    const char *x = op_in(g, site, 0)->name;
    const char *relu = onnx_write_value_name(w, site->name, "/Relu_out");
    const char *in[3] = {onnx_write_value_name(w, site->name, ".mask"), relu, NULL};
    struct shape shape = batched(&mask->shape);
    int64_t n = shape_elems(&mask->shape);
    uint8_t *bits = onnx_write_array(w, (size_t)n, sizeof *bits);

    for (int64_t i = 0; bits != NULL && i < n; i++)
        bits[i] = is_kept(mask, i);
    onnx_write_bools(w, in[0], &shape, bits);
    onnx_write_relu(w, site->name, onnx_write_node_name(w, site->name, "/Relu"),
                    site->p.masked_relu.relu6, x, relu);
    in[2] = write_line(w, g, site);
    onnx_write_node(w, "Where", onnx_write_node_name(w, site->name, "/Where"), in, 3,
                    g->value[site->out[0]].name);
}

static void write_prelu(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const struct value *mask = mask_of(g, site);
    const char *in[2] = {op_in(g, site, 0)->name, onnx_write_value_name(w, site->name, ".slope")};
    int64_t n = shape_elems(&mask->shape);
    float *slope = onnx_write_array(w, (size_t)n, sizeof *slope);

    for (int64_t i = 0; slope != NULL && i < n; i++)
        slope[i] = is_kept(mask, i) ? 0 : 1;
    onnx_write_floats(w, in[1], &mask->shape, slope);
    onnx_write_node(w, "PRelu", onnx_write_node_name(w, site->name, "/PRelu"), in, 2,
                    g->value[site->out[0]].name);
}

struct selection { /* a permutation of the positions, kept ones first, and its inverse */
    int64_t *forward, *inverse, kept, total;
};

static struct selection select_kept(struct onnx_writer *w, const struct graph *g,
                                    const struct node *site)
{
    const struct value *mask = mask_of(g, site);
    struct selection s = {0};
    int64_t next[2];

    s.kept = graph_mask_kept(mask);
    s.total = shape_elems(&mask->shape);
    s.forward = onnx_write_array(w, (size_t)s.total, sizeof *s.forward);
    s.inverse = onnx_write_array(w, (size_t)s.total, sizeof *s.inverse);
    if (s.forward == NULL || s.inverse == NULL)
        return s;
    next[0] = s.kept, next[1] = 0; /* where the next removed and the next kept position go */
    for (int64_t i = 0; i < s.total; i++) {
        int64_t at = next[is_kept(mask, i)]++;
        s.forward[at] = i;
        s.inverse[i] = at;
    }
    return s;
}

/* out = Gather(x, index, axis=1). list, what and what_out are suffixes of the site's name. */
static const char *write_gather(struct onnx_writer *w, const char *site, const char *list,
                                const char *what, const char *what_out, const char *x,
                                const int64_t *index, int64_t n)
{
    const char *in[2] = {x, onnx_write_value_name(w, site, list)};
    const char *out = onnx_write_value_name(w, site, what_out);

    onnx_write_ints(w, in[1], index, n);
    onnx_write_node(w, "Gather", onnx_write_node_name(w, site, what), in, 2, out);
    onnx_write_attr(w, "axis", 1);
    return out;
}

static void write_gathers(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const char *name = site->name, *x = op_in(g, site, 0)->name;
    struct shape shape = batched(&mask_of(g, site)->shape);
    struct selection s = select_kept(w, g, site);
    const char *flat = onnx_write_value_name(w, name, "/Flatten_out");
    const char *relu = onnx_write_value_name(w, name, "/Relu_out");
    const char *both = onnx_write_value_name(w, name, "/Concat_out");
    const char *keep, *parts[2], *in[2];

    if (s.forward == NULL || s.inverse == NULL)
        return;
    onnx_write_node(w, "Flatten", onnx_write_node_name(w, name, "/Flatten"), &x, 1, flat);
    onnx_write_attr(w, "axis", 1);
    keep = write_gather(w, name, ".keep", "/Keep", "/Keep_out", flat, s.forward, s.kept);
    onnx_write_relu(w, name, onnx_write_node_name(w, name, "/Relu"), site->p.masked_relu.relu6,
                    keep, relu);
    parts[0] = relu;
    parts[1] = write_gather(w, name, ".linear", "/Linear", "/Linear_out", flat, s.forward + s.kept,
                            s.total - s.kept);
    onnx_write_node(w, "Concat", onnx_write_node_name(w, name, "/Concat"), parts, 2, both);
    onnx_write_attr(w, "axis", 1);
    in[0] = write_gather(w, name, ".inverse", "/Order", "/Order_out", both, s.inverse, s.total);
    in[1] = onnx_write_value_name(w, name, ".shape");
    onnx_write_ints(w, in[1], shape.dim, shape.rank);
    onnx_write_node(w, "Reshape", onnx_write_node_name(w, name, "/Reshape"), in, 2,
                    g->value[site->out[0]].name);
}

void mask_write(struct onnx_writer *w, const struct graph *g, const struct node *site,
                enum mask_form form)
{
    switch (form) {
    case MASK_WHERE:
        write_where(w, g, site);
        return;
    case MASK_PRELU:
        write_prelu(w, g, site);
        return;
    case MASK_CHANNEL:
        channel_write(w, g, site);
        return;
    case MASK_GATHER:
        break;
    }
    write_gathers(w, g, site);
}
