/*
 * A masked ReLU of whole channels, called `site`, without any selection by position, so that the
 * importers of all private-inference tools understand it, see importer/ONNX.md.
 *
 * split: after a Conv or Gemm `layer` of its own whose kept channels come first
 *
 *     k = Conv(x, W[kept])     layer/Kept      W.kept, b.kept
 *     l = Conv(x, W[others])   layer/Linear    W.linear, b.linear
 *     y = Concat(Relu(k), l)   site/Relu, site/Concat
 *
 * select: anywhere else, for instance after a residual Add. S picks the kept channels.
 *
 *     s = Conv(x, S)                        site/Select    site.select   [K,C,1,1]
 *     t = Concat(Relu(s), s)                site/Relu, site/Both
 *     y = Add(x, Conv(t, [S^T, -S^T]))      site/Scatter, site/Add   site.scatter  [C,2K,1,1]
 *
 * Both are exact: every sum of select has one term that is not 0, and x + (0 - x) = 0. Where a layer
 * is followed by nothing but layers, channel_sort puts its kept channels in front and undoes the
 * order in the weights that follow.
 */
#include "exporter/channel_write.h"

#include <string.h>

#include "core/op/op.h"

static bool is_layer(const struct node *n)
{
    return !n->frozen && (n->op == &op_gemm || (n->op == &op_conv && n->p.conv.group == 1));
}

static int64_t positions(const struct value *mask)
{
    return shape_elems(&mask->shape) / mask->shape.dim[0];
}

static bool keeps(const struct value *mask, int64_t channel)
{
    return mask->data[channel * positions(mask)] > 0.5f;
}

static int64_t count_kept(const struct value *mask)
{
    int64_t n = 0;

    for (int64_t c = 0; c < mask->shape.dim[0]; c++)
        n += keeps(mask, c);
    return n;
}

static bool is_sorted(const struct value *mask)
{
    for (int64_t c = 1; c < mask->shape.dim[0]; c++)
        if (keeps(mask, c) && !keeps(mask, c - 1))
            return false;
    return true;
}

/* The layer that makes the site's input for nobody else, NULL if there is none. */
static const struct node *layer_of(const struct graph *g, const struct node *site)
{
    const struct node *n = graph_producer(g, site->in[0]);

    return n != NULL && is_layer(n) && graph_single_user(g, site->in[0]) >= 0 &&
                   graph_count_uses(g, site->in[0]) == 1
               ? n
               : NULL;
}

bool channel_is_split(const struct graph *g, const struct node *layer)
{
    const int32_t user = is_layer(layer) ? graph_single_user(g, layer->out[0]) : -1;

    return user >= 0 && g->node[user].op == &op_masked_relu &&
           layer_of(g, &g->node[user]) == layer && is_sorted(op_in(g, &g->node[user], 1));
}

/* ---- sorting ------------------------------------------------------------------------------- */

static bool owns(const struct graph *g, const struct node *n, int i)
{
    return graph_count_uses(g, n->in[i]) == 1;
}

/* Every reader of y is a layer with weights of its own. */
static bool order_can_be_undone(const struct graph *g, value_id y)
{
    if (g->output == y)
        return false;
    for (int32_t k = 0; k < g->n_node; k++)
        for (int32_t i = 0; i < g->node[k].n_in; i++)
            if (g->node[k].in[i] == y &&
                (i != 0 || !is_layer(&g->node[k]) || !owns(g, &g->node[k], 1)))
                return false;
    return true;
}

/* Blocks of `size` floats, `n` in a group: block k becomes what block order[k] was. */
static void permute(float *data, float *copy, int64_t groups, int64_t n, int64_t size,
                    const int64_t *order)
{
    memcpy(copy, data, (size_t)(groups * n * size) * sizeof *data);
    for (int64_t q = 0; q < groups; q++)
        for (int64_t k = 0; k < n; k++)
            memcpy(data + (q * n + k) * size, copy + (q * n + order[k]) * size,
                   (size_t)size * sizeof *data);
}

/* Dim `dim` (0 or 1) of a weight, bias or mask gets the order. */
static int reorder(struct graph *g, value_id v, int dim, const int64_t *order)
{
    const struct value *x = &g->value[v];
    const int64_t total = shape_elems(&x->shape), n = x->shape.dim[dim];
    const int64_t groups = dim == 0 ? 1 : x->shape.dim[0];
    OWNED float *copy = mem_array((size_t)total, sizeof *copy);

    if (copy == NULL)
        return ERR_NOMEM;
    permute(x->data, copy, groups, n, total / (groups * n), order);
    return 0;
}

static int sort_site(struct graph *g, const struct node *site, const struct node *layer,
                     const int64_t *order)
{
    TRY(reorder(g, layer->in[1], 0, order));
    if (node_has(layer, 2))
        TRY(reorder(g, layer->in[2], 0, order));
    TRY(reorder(g, site->in[1], 0, order));
    for (int32_t k = 0; k < g->n_node; k++)
        if (g->node[k].n_in > 0 && g->node[k].in[0] == site->out[0])
            TRY(reorder(g, g->node[k].in[1], 1, order));
    return 0;
}

/* Kept channels first, else as they were. NULL without memory. */
static int64_t *kept_first(const struct value *mask)
{
    const int64_t n = mask->shape.dim[0];
    int64_t *order = mem_array((size_t)n, sizeof *order), at = 0;

    for (int pass = 0; order != NULL && pass < 2; pass++)
        for (int64_t c = 0; c < n; c++)
            if (keeps(mask, c) == (pass == 0))
                order[at++] = c;
    return order;
}

int channel_sort(struct graph *g)
{
    for (int32_t i = 0; i < g->n_node; i++) {
        const struct node *site = &g->node[i], *layer;
        OWNED int64_t *order = NULL;

        if (site->op != &op_masked_relu || (layer = layer_of(g, site)) == NULL ||
            is_sorted(op_in(g, site, 1)) || !owns(g, site, 1) || !owns(g, layer, 1) ||
            (node_has(layer, 2) && !owns(g, layer, 2)) || !order_can_be_undone(g, site->out[0]))
            continue;
        if ((order = kept_first(op_in(g, site, 1))) == NULL)
            return ERR_NOMEM;
        TRY(sort_site(g, site, layer, order));
    }
    graph_touch(g);
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------- */

/* Rows [from, to) of operand i of the layer, as a tensor of its own. */
static const char *write_rows(struct onnx_writer *w, const struct value *v, const char *suffix,
                              int64_t from, int64_t to)
{
    const char *name = onnx_write_value_name(w, v->name, suffix);
    const int64_t row = shape_elems(&v->shape) / v->shape.dim[0];
    struct shape s = v->shape;

    s.dim[0] = to - from;
    onnx_write_check_finite(w, v);
    onnx_write_floats(w, name, &s, v->data + from * row);
    return name;
}

/* The channels [from, to) of a layer. what: "Kept" or "Linear"; list: ".kept" or ".linear". */
static const char *write_half(struct onnx_writer *w, const struct graph *g,
                              const struct node *layer, const char *node_suffix,
                              const char *out_suffix, const char *list, int64_t from, int64_t to)
{
    const char *in[3] = {op_in(g, layer, 0)->name, NULL, NULL};
    const char *out = onnx_write_value_name(w, g->value[layer->out[0]].name, out_suffix);

    in[1] = write_rows(w, op_in(g, layer, 1), list, from, to);
    if (node_has(layer, 2))
        in[2] = write_rows(w, op_in(g, layer, 2), list, from, to);
    onnx_write_node(w, layer->op->type, onnx_write_node_name(w, layer->name, node_suffix), in,
                    node_has(layer, 2) ? 3 : 2, out);
    onnx_write_attributes(w, layer);
    return out;
}

/* y = Concat(Relu(a), b), by two nodes of the site; both: the name of the second. */
static void write_concat(struct onnx_writer *w, const struct node *site, const char *a,
                         const char *b, const char *both, const char *y)
{
    const char *in[2] = {onnx_write_value_name(w, site->name, "/Relu_out"), b};

    onnx_write_node(w, "Relu", onnx_write_node_name(w, site->name, "/Relu"), &a, 1, in[0]);
    onnx_write_node(w, "Concat", onnx_write_node_name(w, site->name, both), in, 2, y);
    onnx_write_attr(w, "axis", 1);
}

static void write_split(struct onnx_writer *w, const struct graph *g, const struct node *site,
                        const struct node *layer)
{
    const struct value *mask = op_in(g, site, 1);
    const int64_t kept = count_kept(mask), all = mask->shape.dim[0];
    const char *k = write_half(w, g, layer, "/Kept", "/Kept_out", ".kept", 0, kept);
    const char *l = write_half(w, g, layer, "/Linear", "/Linear_out", ".linear", kept, all);

    write_concat(w, site, k, l, "/Concat", g->value[site->out[0]].name);
}

/* A Conv 1x1 or a Gemm that mixes channels by `weight` [rows, cols]. */
static const char *write_mixing(struct onnx_writer *w, const struct node *site, bool image,
                                const char *x, const char *node_suffix, const char *list,
                                const float *weight, int64_t rows, int64_t cols)
{
    static const int64_t ones[2] = {1, 1}, zeros[4] = {0};
    const struct shape s = {.rank = image ? 4 : 2, .dim = {rows, cols, 1, 1}};
    const struct shape b = {.rank = 1, .dim = {rows}};
    const char *in[3] = {x, onnx_write_value_name(w, site->name, list), NULL};
    const char *name = onnx_write_node_name(w, site->name, node_suffix);
    const char *out = onnx_write_value_name(w, name, "_out");

    onnx_write_floats(w, in[1], &s, weight);
    if (image) {
        onnx_write_node(w, "Conv", name, in, 2, out);
        onnx_write_attr_ints(w, "kernel_shape", ones, 2);
        onnx_write_attr_ints(w, "strides", ones, 2);
        onnx_write_attr_ints(w, "pads", zeros, 4);
        onnx_write_attr_ints(w, "dilations", ones, 2);
        onnx_write_attr(w, "group", 1);
        return out;
    }
    in[2] = onnx_write_value_name(w, in[1], ".bias");
    onnx_write_floats(w, in[2], &b, onnx_write_array(w, (size_t)rows, sizeof(float)));
    onnx_write_node(w, "Gemm", name, in, 3, out);
    onnx_write_attr_float(w, "alpha", 1);
    onnx_write_attr_float(w, "beta", 1);
    onnx_write_attr(w, "transB", 1);
    return out;
}

static void write_select(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const struct value *mask = op_in(g, site, 1);
    const int64_t channels = mask->shape.dim[0], kept = count_kept(mask);
    const bool image = mask->shape.rank == 3;
    float *select = onnx_write_array(w, (size_t)(kept * channels), sizeof *select);
    float *scatter = onnx_write_array(w, (size_t)(2 * kept * channels), sizeof *scatter);
    const char *x = op_in(g, site, 0)->name, *in[2] = {x, NULL};
    int64_t row = 0;

    if (select == NULL || scatter == NULL)
        return;
    for (int64_t c = 0; c < channels; c++) {
        if (!keeps(mask, c))
            continue;
        select[row * channels + c] = 1;
        scatter[c * 2 * kept + row] = 1;
        scatter[c * 2 * kept + kept + row] = -1;
        row++;
    }
    const char *s = write_mixing(w, site, image, x, "/Select", ".select", select, kept, channels);
    const char *t = onnx_write_value_name(w, site->name, "/Both_out");
    write_concat(w, site, s, s, "/Both", t);
    in[1] = write_mixing(w, site, image, t, "/Scatter", ".scatter", scatter, channels, 2 * kept);
    onnx_write_node(w, "Add", onnx_write_node_name(w, site->name, "/Add"), in, 2,
                    g->value[site->out[0]].name);
}

void channel_write(struct onnx_writer *w, const struct graph *g, const struct node *site)
{
    const struct node *layer = layer_of(g, site);

    if (layer != NULL && is_sorted(op_in(g, site, 1)))
        write_split(w, g, site, layer);
    else
        write_select(w, g, site);
}
