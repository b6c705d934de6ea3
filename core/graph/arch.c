/*
 * Builds residual networks from a table of widths and block counts.
 *
 *   BASIC       conv3 - BN - relu - conv3 - BN - (+ skip) - relu            ResNet-8/18/20/32/34
 *   BOTTLENECK  conv1 - BN - relu - conv3 - BN - relu - conv1 - BN - (+ skip) - relu   ResNet-50
 *   PREACT      BN - relu - conv3 - BN - relu - conv3 - (+ skip)            wide residual networks
 *
 * The first block of every stage but the first has stride 2. The skip is the identity, or where the
 * shape changes a 1x1 convolution with BN; PREACT has no BN there and convolves the activated input
 * of the block. Head: global average pool, flatten, linear layer. Stem: 3x3 at stride 1; networks
 * of the ImageNet family take 7x7 at stride 2 and a 3x3/2 max-pool for sides above 64. Sources:
 * He et al. 2016 (CIFAR form with projections), Zagoruyko and Komodakis 2016.
 *
 * Weights: convolutions normal with variance 2 / (k^2 C_out), BN 1/0/0/1, linear layer uniform in
 * +-1/sqrt(fan_in) with zero bias. Each tensor has its own random stream, numbered in the order of
 * construction.
 */
#include "core/graph/arch.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/graph/rng.h"

#define ARCH_MAX_STAGES 4
#define ARCH_NAME_LENGTH 96
#define ARCH_LARGE_SIDE 64 /* above it the ImageNet family has its large stem */

enum block_kind { BLOCK_BASIC, BLOCK_BOTTLENECK, BLOCK_PREACT };

struct arch {
    const char *name;
    enum block_kind kind;
    bool imagenet; /* has a large stem for large images */
    int64_t stem;  /* channels after the first convolution */
    int32_t n_stages, blocks[ARCH_MAX_STAGES];
    int64_t width[ARCH_MAX_STAGES]; /* output channels of a stage; BOTTLENECK: of its inner conv */
};

static const struct arch archs[] = {
    {"resnet8", BLOCK_BASIC, false, 16, 3, {1, 1, 1}, {16, 32, 64}},
    {"resnet20", BLOCK_BASIC, false, 16, 3, {3, 3, 3}, {16, 32, 64}},
    {"resnet32", BLOCK_BASIC, false, 16, 3, {5, 5, 5}, {16, 32, 64}},
    {"resnet18", BLOCK_BASIC, true, 64, 4, {2, 2, 2, 2}, {64, 128, 256, 512}},
    {"resnet34", BLOCK_BASIC, true, 64, 4, {3, 4, 6, 3}, {64, 128, 256, 512}},
    {"resnet50", BLOCK_BOTTLENECK, true, 64, 4, {3, 4, 6, 3}, {64, 128, 256, 512}},
    {"wrn16_4", BLOCK_PREACT, false, 16, 3, {2, 2, 2}, {64, 128, 256}},
    {"wrn22_8", BLOCK_PREACT, false, 16, 3, {3, 3, 3}, {128, 256, 512}},
    {"wrn28_10", BLOCK_PREACT, false, 16, 3, {4, 4, 4}, {160, 320, 640}},
};
#define N_ARCHS ((int32_t)(sizeof archs / sizeof archs[0]))
#define BOTTLENECK_EXPANSION 4

/* The first failure stays in rc and every later step does nothing. */
struct builder {
    struct graph *g;
    uint64_t seed, n_tensors;
    int rc;
};

static ERR_PRINTF(2, 3) const char *name_of(char buf[ARCH_NAME_LENGTH], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(buf, ARCH_NAME_LENGTH, fmt, ap);
    va_end(ap);
    return buf;
}

static int64_t channels_of(const struct builder *b, value_id v)
{
    return b->rc < 0 ? 1 : b->g->value[v].shape.dim[1];
}

/* A tensor named `node`.`part` with every element `fill`. */
static value_id add_tensor(struct builder *b, enum value_kind kind, const char *node,
                           const char *part, struct shape shape, float fill)
{
    char name[ARCH_NAME_LENGTH];
    value_id id = NO_VALUE;
    int64_t n;

    if (b->rc < 0)
        return NO_VALUE;
    b->rc = graph_add_value(b->g, name_of(name, "%s.%s", node, part), kind, &shape, NULL, &id);
    if (b->rc < 0)
        return NO_VALUE;
    n = shape_elems(&shape);
    for (int64_t i = 0; i < n; i++)
        b->g->value[id].data[i] = fill;
    b->n_tensors++;
    return id;
}

static struct rng tensor_rng(const struct builder *b)
{
    return rng_at(b->seed, RNG_INIT, 0, b->n_tensors);
}

static void fill_normal(struct builder *b, value_id id, double std)
{
    struct rng r = tensor_rng(b);
    int64_t n = b->rc < 0 ? 0 : shape_elems(&b->g->value[id].shape);

    for (int64_t i = 0; i < n; i++)
        b->g->value[id].data[i] = (float)(std * (double)rng_normal(&r));
}

static void fill_uniform(struct builder *b, value_id id, double limit)
{
    struct rng r = tensor_rng(b);
    int64_t n = b->rc < 0 ? 0 : shape_elems(&b->g->value[id].shape);

    for (int64_t i = 0; i < n; i++)
        b->g->value[id].data[i] = rng_range(&r, (float)-limit, (float)limit);
}

static value_id add_node(struct builder *b, const struct op *op, const char *name,
                         const value_id *in, int32_t n_in, const union op_params *p)
{
    char out_name[ARCH_NAME_LENGTH];
    value_id out = NO_VALUE;

    name_of(out_name, "%s_out", name);
    if (b->rc == 0)
        b->rc = graph_add_node(b->g, op, name, in, n_in, p, out_name, &out);
    return out;
}

static value_id add_plain(struct builder *b, const struct op *op, const char *name, value_id x)
{
    union op_params p = {0};

    op_defaults(op, &p);
    return add_node(b, op, name, &x, 1, &p);
}

static value_id add_conv(struct builder *b, const char *name, value_id x, int64_t k, int64_t stride,
                         int64_t channels)
{
    struct shape shape = shape_make(4, channels, channels_of(b, x), k, k);
    value_id in[2] = {x, add_tensor(b, VALUE_PARAM, name, "weight", shape, 0)};
    union op_params p = {0};

    fill_normal(b, in[1], sqrt(2.0 / (double)(k * k * channels)));
    op_defaults(&op_conv, &p);
    for (int i = 0; i < 2; i++)
        p.conv.stride[i] = stride;
    for (int i = 0; i < 4; i++)
        p.conv.pad[i] = k / 2;
    return add_node(b, &op_conv, name, in, 2, &p);
}

static value_id add_batchnorm(struct builder *b, const char *name, value_id x)
{
    struct shape c = shape_make(1, channels_of(b, x));
    union op_params p = {0};
    value_id in[5] = {x};

    in[1] = add_tensor(b, VALUE_PARAM, name, "weight", c, 1);
    in[2] = add_tensor(b, VALUE_PARAM, name, "bias", c, 0);
    in[3] = add_tensor(b, VALUE_BUFFER, name, "running_mean", c, 0);
    in[4] = add_tensor(b, VALUE_BUFFER, name, "running_var", c, 1);
    p.batchnorm.eps = 1e-5f;
    p.batchnorm.momentum = 0.9f;
    return add_node(b, &op_batchnorm, name, in, 5, &p);
}

static value_id add_sum(struct builder *b, const char *name, value_id x, value_id y)
{
    value_id in[2] = {x, y};
    union op_params p = {0};

    return add_node(b, &op_add, name, in, 2, &p);
}

/* Convolution `i` of the block called `at`, with the BN after it: at.conv1, at.bn1. */
static value_id add_conv_bn(struct builder *b, const char *at, int i, value_id x, int64_t k,
                            int64_t stride, int64_t channels)
{
    char name[ARCH_NAME_LENGTH];

    x = add_conv(b, name_of(name, "%s.conv%d", at, i), x, k, stride, channels);
    return add_batchnorm(b, name_of(name, "%s.bn%d", at, i), x);
}

static value_id add_relu(struct builder *b, const char *at, int i, value_id x)
{
    char name[ARCH_NAME_LENGTH];

    return add_plain(b, &op_relu, name_of(name, "%s.relu%d", at, i), x);
}

/* Adds the skip of a block that ends in y, and the ReLU `i` after it. */
static value_id add_skip(struct builder *b, const char *at, int i, value_id x, value_id y,
                         int64_t stride)
{
    char name[ARCH_NAME_LENGTH];
    int64_t channels = channels_of(b, y);

    if (stride != 1 || channels_of(b, x) != channels) {
        x = add_conv(b, name_of(name, "%s.downsample.0", at), x, 1, stride, channels);
        x = add_batchnorm(b, name_of(name, "%s.downsample.1", at), x);
    }
    y = add_sum(b, name_of(name, "%s.add", at), y, x);
    return add_relu(b, at, i, y);
}

static value_id add_basic(struct builder *b, const char *at, value_id x, int64_t stride,
                          int64_t width)
{
    value_id y = add_conv_bn(b, at, 1, x, 3, stride, width);

    y = add_relu(b, at, 1, y);
    y = add_conv_bn(b, at, 2, y, 3, 1, width);
    return add_skip(b, at, 2, x, y, stride);
}

static value_id add_bottleneck(struct builder *b, const char *at, value_id x, int64_t stride,
                               int64_t width)
{
    value_id y = add_conv_bn(b, at, 1, x, 1, 1, width);

    y = add_relu(b, at, 1, y);
    y = add_conv_bn(b, at, 2, y, 3, stride, width);
    y = add_relu(b, at, 2, y);
    y = add_conv_bn(b, at, 3, y, 1, 1, BOTTLENECK_EXPANSION * width);
    return add_skip(b, at, 3, x, y, stride);
}

static value_id add_preact(struct builder *b, const char *at, value_id x, int64_t stride,
                           int64_t width)
{
    char name[ARCH_NAME_LENGTH];
    value_id a = add_batchnorm(b, name_of(name, "%s.bn1", at), x);
    value_id y;

    a = add_relu(b, at, 1, a);
    y = add_conv(b, name_of(name, "%s.conv1", at), a, 3, stride, width);
    y = add_batchnorm(b, name_of(name, "%s.bn2", at), y);
    y = add_relu(b, at, 2, y);
    y = add_conv(b, name_of(name, "%s.conv2", at), y, 3, 1, width);
    if (channels_of(b, x) != width)
        x = add_conv(b, name_of(name, "%s.shortcut", at), a, 1, stride, width);
    return add_sum(b, name_of(name, "%s.add", at), y, x);
}

static value_id add_block(struct builder *b, enum block_kind kind, const char *at, value_id x,
                          int64_t stride, int64_t width)
{
    switch (kind) {
    case BLOCK_BOTTLENECK:
        return add_bottleneck(b, at, x, stride, width);
    case BLOCK_PREACT:
        return add_preact(b, at, x, stride, width);
    case BLOCK_BASIC:
        break;
    }
    return add_basic(b, at, x, stride, width);
}

static value_id add_stem(struct builder *b, const struct arch *a, bool large, value_id x)
{
    union op_params p = {0};

    x = add_conv(b, "conv1", x, large ? 7 : 3, large ? 2 : 1, a->stem);
    if (a->kind == BLOCK_PREACT)
        return x;
    x = add_plain(b, &op_relu, "relu", add_batchnorm(b, "bn1", x));
    if (!large)
        return x;
    op_defaults(&op_max_pool, &p);
    for (int i = 0; i < 2; i++) {
        p.pool.kernel[i] = 3;
        p.pool.stride[i] = 2;
        p.pool.pad[i] = p.pool.pad[i + 2] = 1;
    }
    return add_node(b, &op_max_pool, "maxpool", &x, 1, &p);
}

static value_id add_stages(struct builder *b, const struct arch *a, value_id x)
{
    char at[ARCH_NAME_LENGTH];

    for (int32_t s = 0; s < a->n_stages; s++) {
        for (int32_t i = 0; i < a->blocks[s]; i++) {
            name_of(at, "layer%d.%d", s + 1, i);
            x = add_block(b, a->kind, at, x, s > 0 && i == 0 ? 2 : 1, a->width[s]);
        }
    }
    if (a->kind == BLOCK_PREACT)
        x = add_plain(b, &op_relu, "relu", add_batchnorm(b, "bn", x));
    return x;
}

static value_id add_head(struct builder *b, value_id x, int64_t classes)
{
    int64_t fan_in = channels_of(b, x);
    value_id in[3], out = NO_VALUE;
    union op_params p = {0};

    x = add_plain(b, &op_global_average_pool, "avgpool", x);
    in[0] = add_plain(b, &op_flatten, "flatten", x);
    in[1] = add_tensor(b, VALUE_PARAM, "fc", "weight", shape_make(2, classes, fan_in), 0);
    fill_uniform(b, in[1], 1 / sqrt((double)fan_in));
    in[2] = add_tensor(b, VALUE_PARAM, "fc", "bias", shape_make(1, classes), 0);
    op_defaults(&op_gemm, &p);
    if (b->rc == 0)
        b->rc = graph_add_node(b->g, &op_gemm, "fc", in, 3, &p, "logits", &out);
    return out;
}

static int build(struct builder *b, const struct arch *a, int64_t classes, int64_t height,
                 int64_t width)
{
    struct shape shape = shape_make(4, (int64_t)SHAPE_BATCH, (int64_t)3, height, width);
    bool large = a->imagenet && (height > ARCH_LARGE_SIDE || width > ARCH_LARGE_SIDE);
    value_id x = NO_VALUE;

    b->g->name = a->name;
    b->g->batch_name = "N";
    b->rc = graph_add_value(b->g, "input", VALUE_INPUT, &shape, NULL, &x);
    b->g->input = x;
    x = add_stem(b, a, large, x);
    x = add_stages(b, a, x);
    b->g->output = add_head(b, x, classes);
    return b->rc < 0 ? b->rc : graph_verify(b->g);
}

const char *arch_name(int32_t index)
{
    return index >= 0 && index < N_ARCHS ? archs[index].name : NULL;
}

static const struct arch *find_arch(const char *name)
{
    for (int32_t i = 0; i < N_ARCHS; i++)
        if (strcmp(archs[i].name, name) == 0)
            return &archs[i];
    return NULL;
}

static int fail_unknown(const char *name)
{
    char list[256] = "";
    size_t used = 0;

    for (int32_t i = 0; i < N_ARCHS && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, " %s", archs[i].name);
    return fail(ERR_ARG, "no architecture '%s'; there are:%s", name, list);
}

int arch_build(const char *name, int64_t classes, int64_t height, int64_t width, uint64_t seed,
               struct graph **out)
{
    const struct arch *a = find_arch(name);
    SCOPED(graph_free_at) struct graph *g = NULL;

    if (a == NULL)
        return fail_unknown(name);
    if (classes < 2 || classes > ARCH_MAX_CLASSES)
        return fail(ERR_ARG, "%s: %lld classes, must be 2 ... %d", name, (long long)classes,
                    ARCH_MAX_CLASSES);
    if (height < 1 || width < 1 || height > ARCH_MAX_SIDE || width > ARCH_MAX_SIDE)
        return fail(ERR_ARG, "%s: images of %lldx%lld, sides must be 1 ... %d", name,
                    (long long)height, (long long)width, ARCH_MAX_SIDE);
    TRY(graph_new(&g));
    struct builder b = {.g = g, .seed = seed};
    TRY(build(&b, a, classes, height, width));
    *out = mem_hand_on(&g);
    return 0;
}
