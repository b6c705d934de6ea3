/* The network and the images of the training tests. */
#include "tests/tiny_net.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/op/op.h"
#include "core/graph/pass.h"
#include "core/graph/rng.h"

static void must(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "tiny_net: %s\n", err_message());
        abort();
    }
}

static value_id add_value(struct graph *g, const char *name, enum value_kind kind, struct shape s,
                          double std, double mean, uint64_t seed)
{
    struct rng r = rng_at(seed, RNG_TEST, 0, (uint64_t)g->n_value);
    value_id v;

    must(graph_add_value(g, name, kind, &s, NULL, &v));
    for (int64_t i = 0; i < shape_elems(&s); i++)
        g->value[v].data[i] = (float)(mean + std * (double)rng_normal(&r));
    return v;
}

static value_id add_input(struct graph *g)
{
    const struct shape s =
        shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)3, (int64_t)TINY_SIDE, (int64_t)TINY_SIDE);
    value_id v;

    must(graph_add_value(g, "input", VALUE_INPUT, &s, NULL, &v));
    return g->input = v;
}

static value_id add_op(struct graph *g, const struct op *op, const value_id *in, int32_t n,
                       const union op_params *p)
{
    char name[32], out_name[40];
    union op_params dflt = {0};
    value_id out;

    op_defaults(op, &dflt);
    snprintf(name, sizeof name, "%s_%d", op->type, (int)g->n_node);
    snprintf(out_name, sizeof out_name, "%s_out", name);
    must(graph_add_node(g, op, name, in, n, p != NULL ? p : &dflt, out_name, &out));
    return out;
}

static value_id add_bn(struct graph *g, value_id x, uint64_t seed)
{
    const struct shape c = shape_make(1, g->value[x].shape.dim[1]);
    const union op_params p = {.batchnorm = {.eps = 1e-5f, .momentum = 0.9f}};
    const value_id in[5] = {x, add_value(g, "gamma", VALUE_PARAM, c, 0.1, 1, seed),
                            add_value(g, "beta", VALUE_PARAM, c, 0.1, 0, seed),
                            add_value(g, "mean", VALUE_BUFFER, c, 0.1, 0, seed),
                            add_value(g, "var", VALUE_BUFFER, c, 0.05, 1, seed)};

    return add_op(g, &op_batchnorm, in, 5, &p);
}

static value_id add_conv(struct graph *g, value_id x, int64_t channels, int64_t stride,
                         unsigned flags, uint64_t seed)
{
    const int64_t fan = g->value[x].shape.dim[1];
    union op_params p = {0};
    value_id in[3] = {x};

    op_defaults(&op_conv, &p);
    for (int i = 0; i < 4; i++)
        p.conv.pad[i] = 1;
    p.conv.stride[0] = p.conv.stride[1] = stride;
    in[1] =
        add_value(g, "weight", VALUE_PARAM, shape_make(4, channels, fan, (int64_t)3, (int64_t)3),
                  sqrt(2.0 / (9.0 * (double)fan)), 0, seed);
    if (!(flags & TINY_BN))
        in[2] = add_value(g, "bias", VALUE_PARAM, shape_make(1, channels), 0.1, 0, seed);
    value_id y = add_op(g, &op_conv, in, flags & TINY_BN ? 2 : 3, &p);
    return flags & TINY_BN ? add_bn(g, y, seed) : y;
}

static value_id add_relu(struct graph *g, value_id x, unsigned flags, uint64_t seed)
{
    struct shape s = g->value[x].shape;

    if (!(flags & TINY_MASKED))
        return add_op(g, &op_relu, &x, 1, NULL);
    for (int i = 0; i < 3; i++)
        s.dim[i] = s.dim[i + 1];
    s.dim[--s.rank] = 0;
    const value_id in[2] = {x, add_value(g, "mask", VALUE_MASK, s, 1, 0, seed)};
    float *m = g->value[in[1]].data;
    for (int64_t i = 0; i < shape_elems(&s); i++)
        m[i] = m[i] > 0 ? 1 : 0;
    return add_op(g, &op_masked_relu, in, 2, NULL);
}

static value_id add_linear(struct graph *g, value_id x, uint64_t seed)
{
    const int64_t fan = g->value[x].shape.dim[1];
    const value_id in[3] = {
        x,
        add_value(g, "fc.weight", VALUE_PARAM, shape_make(2, (int64_t)TINY_CLASSES, fan),
                  1 / sqrt((double)fan), 0, seed),
        add_value(g, "fc.bias", VALUE_PARAM, shape_make(1, (int64_t)TINY_CLASSES), 0.1, 0, seed)};

    return add_op(g, &op_gemm, in, 3, NULL);
}

struct graph *tiny_net(unsigned flags, uint64_t seed)
{
    struct graph *g;

    must(graph_new(&g));
    value_id x = add_relu(g, add_conv(g, add_input(g), 6, 1, flags, seed), flags, seed);
    const value_id in[2] = {add_conv(g, x, 6, 1, flags, seed), x};
    x = add_relu(g, add_op(g, &op_add, in, 2, NULL), flags, seed);
    x = add_relu(g, add_conv(g, x, 8, 2, flags, seed), flags, seed);
    x = add_op(g, &op_global_average_pool, &x, 1, NULL);
    x = add_op(g, &op_flatten, &x, 1, NULL);
    g->output = add_linear(g, x, seed);
    if (flags & TINY_DUAL)
        must(pass_dual_branch(g));
    must(graph_verify(g));
    return g;
}

struct graph *tiny_linear(uint64_t seed)
{
    struct graph *g;

    must(graph_new(&g));
    value_id x = add_input(g);
    x = add_op(g, &op_flatten, &x, 1, NULL);
    g->output = add_linear(g, x, seed);
    must(graph_verify(g));
    return g;
}

static void draw(float *chw, int32_t label, struct rng *r)
{
    for (int i = 0; i < TINY_ELEMS; i++)
        chw[i] = 0.3f + 0.2f * rng_uniform(r);
    for (int y = 0; y < TINY_SIDE / 2; y++)
        for (int x = 0; x < TINY_SIDE / 2; x++)
            chw[(label * TINY_SIDE + y + 2) * TINY_SIDE + x + 2] += 0.3f;
}

struct dataset *tiny_data(int64_t n, uint64_t seed)
{
    struct dataset *d = mem_array(1, sizeof *d);
    float *pixels = mem_aligned((size_t)(n * TINY_ELEMS), sizeof *pixels);
    int32_t *labels = mem_array((size_t)n, sizeof *labels);

    if (d == NULL || pixels == NULL || labels == NULL)
        must(ERR_NOMEM);
    for (int64_t i = 0; i < n; i++) {
        struct rng r = rng_at(seed, RNG_TEST, 1, (uint64_t)i);
        labels[i] = (int32_t)rng_below(&r, TINY_CLASSES);
        draw(pixels + i * TINY_ELEMS, labels[i], &r);
    }
    *d = (struct dataset){.n = n,
                          .channels = 3,
                          .height = TINY_SIDE,
                          .width = TINY_SIDE,
                          .classes = TINY_CLASSES,
                          .floats = pixels,
                          .labels = labels,
                          .source = "tiny images",
                          .split = "test"};
    return d;
}

void tiny_free(struct dataset *d)
{
    if (d == NULL)
        return;
    mem_free((void *)(uintptr_t)d->floats);
    mem_free((void *)(uintptr_t)d->labels);
    mem_free(d);
}
