/*
 * BatchNormalization with one or two branches: y = gamma (x - mean) / sqrt(var + eps) + beta.
 *
 * x is rows x C with C contiguous, for [N,C,H,W] (rows = n h w) and for [N,C] (rows = n).
 *
 * Evaluation mode uses the running statistics of the branch: y = scale x + shift per channel.
 * prepared: scale[C], shift[C].
 *
 * Training mode uses the statistics of the batch, M rows in all of its blocks together:
 *   stats       partial = { sum x [C], sum x^2 [C] } in double, one set a block
 *   stats_done  stats   = { mean [C], 1/sqrt(var + eps) [C], M }, var = population variance
 *   stats_move  running = momentum * running + (1 - momentum) * batch, where the batch variance is
 *               the sample variance, divided by M - 1 as in PyTorch
 *   gradient    xh = (x - mean) inv;  dgamma = sum dy xh;  dbeta = sum dy
 *               dx = gamma inv (dy - dbeta/M - xh dgamma/M), sums over the batch
 * The batch is all images of a pass, or each of its shards (core/exec/exec.h); stats_move always takes
 * all images.
 *
 * A node takes part in training if it is not frozen and all four of the branch's operands can move
 * (PARAM, PARAM, BUFFER, BUFFER); any other stays in evaluation mode, whatever the call says, and
 * its statistics are not touched.
 *
 * Limit: sum x^2 loses digits where mean^2 > 1e9 var.
 */
#include <math.h>

#include "core/op/image.h"

enum { GAMMA, BETA, MEAN, VAR, PER_BRANCH };

static int slot(int32_t branch, int what)
{
    return 1 + PER_BRANCH * branch + what;
}

static int check_operand(const struct graph *g, const struct node *node, int i, int64_t channels)
{
    const struct value *v = op_in(g, node, i);
    char text[SHAPE_TEXT];

    if (value_is_activation(v))
        return op_fail(node, "input %d '%s' is an activation, needs a constant", i, v->name);
    if (v->shape.rank != 1 || v->shape.dim[0] != channels)
        return op_fail(node, "input %d '%s' has shape %s, needs [%lld] for %lld channels", i,
                       v->name, shape_text(&v->shape, text), (long long)channels,
                       (long long)channels);
    return 0;
}

static int batchnorm_shape(const struct graph *g, const struct node *node, struct shape *out)
{
    TRY(op_need_image_or_row(g, node));
    if (node->n_in != slot(1, GAMMA) && node->n_in != slot(2, GAMMA))
        return op_fail(node, "has %d inputs, needs 5 (one branch) or 9 (two branches)", node->n_in);
    const struct shape *x = &op_in(g, node, 0)->shape;
    for (int i = 1; i < node->n_in; i++) {
        if (node->in[i] == NO_VALUE)
            return op_fail(node, "input %d is missing", i);
        TRY(check_operand(g, node, i, x->dim[1]));
    }
    *out = *x;
    return 0;
}

static bool trains(const struct graph *g, const struct node *node, int32_t branch)
{
    return !node->frozen && op_in(g, node, slot(branch, GAMMA))->kind == VALUE_PARAM &&
           op_in(g, node, slot(branch, BETA))->kind == VALUE_PARAM &&
           op_in(g, node, slot(branch, MEAN))->kind == VALUE_BUFFER &&
           op_in(g, node, slot(branch, VAR))->kind == VALUE_BUFFER;
}

static bool uses_batch(const struct op_call *k)
{
    return k->training && trains(k->g, k->node, k->branch);
}

static int64_t channels(const struct graph *g, const struct node *node)
{
    return op_in(g, node, 0)->shape.dim[1];
}

static int64_t rows_per_image(const struct graph *g, const struct node *node)
{
    struct image m = image_of(&op_in(g, node, 0)->shape);
    return m.h * m.w;
}

static const float *operand(const struct op_call *k, int what)
{
    return k->in[slot(k->branch, what)];
}

static float inv_std(float var, float eps)
{
    return (float)(1 / sqrt((double)var + (double)eps));
}

static size_t batchnorm_prepare_size(const struct graph *g, const struct node *node,
                                     const struct op_use *use)
{
    (void)use;
    return (size_t)(2 * channels(g, node));
}

static void batchnorm_prepare(const struct graph *g, const struct node *node, int branch,
                              const struct op_use *use, float *prepared)
{
    const float *gamma = op_in(g, node, slot(branch, GAMMA))->data;
    const float *beta = op_in(g, node, slot(branch, BETA))->data;
    const float *mean = op_in(g, node, slot(branch, MEAN))->data;
    const float *var = op_in(g, node, slot(branch, VAR))->data;
    int64_t n = channels(g, node);
    double eps = (double)node->p.batchnorm.eps;

    (void)use;
    for (int64_t c = 0; c < n; c++) {
        double scale = (double)gamma[c] / sqrt((double)var[c] + eps);
        prepared[c] = (float)scale;
        prepared[n + c] = (float)((double)beta[c] - (double)mean[c] * scale);
    }
}

/* y = tail(scale x + shift), image by image: the mask starts again with each. */
static void affine(const struct op_call *k, const float *scale, const float *shift)
{
    const struct rows_kernels *rows = rows_kernels_of(cpu_best_path());
    int64_t n = channels(k->g, k->node), per_image = rows_per_image(k->g, k->node);
    struct rows_tail tail = k->tail;

    if (tail.mask == NULL) {
        rows->affine(k->out, k->in[0], scale, shift, k->n * per_image, n, &tail);
        return;
    }
    for (int64_t i = 0; i < k->n; i++) {
        int64_t at = i * per_image * n;

        if (k->tail.other != NULL)
            tail.other = k->tail.other + at;
        rows->affine(k->out + at, k->in[0] + at, scale, shift, per_image, n, &tail);
    }
}

/* The scale and shift of the batch's statistics. */
static void batch_affine(const struct op_call *k, float *scale, float *shift)
{
    int64_t n = channels(k->g, k->node);
    const float *gamma = operand(k, GAMMA), *beta = operand(k, BETA);
    const float *mean = k->stats, *inv = k->stats + n;

    for (int64_t c = 0; c < n; c++) {
        scale[c] = gamma[c] * inv[c];
        shift[c] = (float)((double)beta[c] - (double)mean[c] * (double)scale[c]);
    }
}

static void batchnorm_forward(const struct op_call *k)
{
    int64_t n = channels(k->g, k->node);
    float *scale = k->scratch, *shift = k->scratch + n;

    if (!uses_batch(k)) {
        affine(k, k->prepared, k->prepared + n);
        return;
    }
    batch_affine(k, scale, shift);
    affine(k, scale, shift);
}

static size_t batchnorm_scratch(const struct graph *g, const struct node *node, int64_t n)
{
    (void)n;
    return (size_t)(4 * channels(g, node));
}

static size_t batchnorm_stats_size(const struct graph *g, const struct node *node)
{
    return (size_t)(2 * channels(g, node));
}

static size_t batchnorm_stats_floats(const struct graph *g, const struct node *node)
{
    return (size_t)(2 * channels(g, node) + 1);
}

static void batchnorm_stats(const struct op_call *k, double *partial)
{
    int64_t n = channels(k->g, k->node), rows = k->n * rows_per_image(k->g, k->node);

    for (int64_t c = 0; c < 2 * n; c++)
        partial[c] = 0;
    rows_kernels_of(cpu_best_path())->stats(k->in[0], rows, n, partial, partial + n);
}

/* Mean and population variance of channel c, of `count` rows. */
struct moments {
    double mean, var;
};

static struct moments channel_moments(const double *partial, int32_t n_blocks, int64_t n, int64_t c,
                                      double count)
{
    double sum = 0, square = 0;

    for (int32_t i = 0; i < n_blocks; i++) {
        sum += partial[2 * n * i + c];
        square += partial[2 * n * i + n + c];
    }
    const double m = sum / count;

    return (struct moments){m, fmax(square / count - m * m, 0)};
}

static void batchnorm_stats_done(const struct graph *g, const struct node *node, int64_t n_total,
                                 const double *partial, int32_t n_blocks, float *stats)
{
    const int64_t n = channels(g, node);
    const double count = (double)(n_total * rows_per_image(g, node));

    for (int64_t c = 0; c < n; c++) {
        const struct moments m = channel_moments(partial, n_blocks, n, c, count);

        stats[c] = (float)m.mean;
        stats[n + c] = (float)(1 / sqrt(m.var + (double)node->p.batchnorm.eps));
    }
    stats[2 * n] = (float)count;
}

static void move_running(float *running, double momentum, double batch)
{
    *running = (float)(momentum * (double)*running + (1 - momentum) * batch);
}

static void batchnorm_stats_move(struct graph *g, const struct node *node, int branch,
                                 int64_t n_total, const double *partial, int32_t n_blocks)
{
    const int64_t n = channels(g, node);
    const double count = (double)(n_total * rows_per_image(g, node));
    const double momentum = (double)node->p.batchnorm.momentum;
    float *mean = op_in(g, node, slot(branch, MEAN))->data,
          *var = op_in(g, node, slot(branch, VAR))->data;

    if (!trains(g, node, branch))
        return;
    for (int64_t c = 0; c < n; c++) {
        const struct moments m = channel_moments(partial, n_blocks, n, c, count);

        move_running(&mean[c], momentum, m.mean);
        move_running(&var[c], momentum, count > 1 ? m.var * count / (count - 1) : m.var);
    }
    graph_touch(g); /* evaluation mode has packed the old statistics */
}

/* sum = { sum dy (x - mean), without inv; sum dy }, over rows, in double */
static void give_sums(const struct op_call *k, const double *sum)
{
    int64_t n = channels(k->g, k->node);
    float *dgamma = k->din[slot(k->branch, GAMMA)], *dbeta = k->din[slot(k->branch, BETA)];
    bool batch = uses_batch(k);

    for (int64_t c = 0; c < n && dgamma != NULL; c++) {
        float inv = batch ? k->stats[n + c] : inv_std(operand(k, VAR)[c], k->node->p.batchnorm.eps);
        dgamma[c] += (float)(sum[c] * (double)inv);
    }
    for (int64_t c = 0; c < n && dbeta != NULL; c++)
        dbeta[c] += (float)sum[n + c];
}

static void batchnorm_grad_params(const struct op_call *k)
{
    int64_t n = channels(k->g, k->node), rows = k->n * rows_per_image(k->g, k->node);
    double *sum = (double *)(void *)k->scratch;
    const float *mean = uses_batch(k) ? k->stats : operand(k, MEAN);

    if (k->din[slot(k->branch, GAMMA)] == NULL && k->din[slot(k->branch, BETA)] == NULL)
        return;
    for (int64_t c = 0; c < 2 * n; c++)
        sum[c] = 0;
    rows_kernels_of(cpu_best_path())->grad_stats(k->dout, k->in[0], mean, rows, n, sum + n, sum);
    give_sums(k, sum);
}

/* dx = a dy + b (x - mean) + d: a, b and d of every channel, from the sums of the whole batch. */
static void batch_factors(const struct op_call *k, float *abd)
{
    int64_t n = channels(k->g, k->node);
    const float *gamma = operand(k, GAMMA), *inv = k->stats + n;
    const float *dgamma = k->din[slot(k->branch, GAMMA)], *dbeta = k->din[slot(k->branch, BETA)];
    float count = k->stats[2 * n];

    for (int64_t c = 0; c < n; c++) {
        float a = gamma[c] * inv[c];
        abd[c] = a;
        abd[n + c] = -a * inv[c] * dgamma[c] / count;
        abd[2 * n + c] = -a * dbeta[c] / count;
    }
}

static void batchnorm_grad_input(const struct op_call *k)
{
    int64_t n = channels(k->g, k->node), rows = k->n * rows_per_image(k->g, k->node);
    const struct rows_kernels *kernels = rows_kernels_of(cpu_best_path());
    float *abd = k->scratch;

    if (k->din[0] == NULL)
        return;
    if (!uses_batch(k)) {
        kernels->scale(k->din[0], k->dout, k->prepared, rows, n, k->add[0]);
        return;
    }
    batch_factors(k, abd);
    kernels->batch_grad(k->din[0], k->dout, k->in[0], k->stats, abd, abd + n, abd + 2 * n, rows, n,
                        k->add[0]);
}

/* ---- on bf16 storage: vectors of channels in the order of tiles, [blocks][32] (image_spread) */

static struct bf16_map map_of(const struct graph *g, const struct node *node)
{
    return image_map(image_of(&op_in(g, node, 0)->shape));
}

static int64_t tile_channels(const struct graph *g, const struct node *node)
{
    return map_of(g, node).blocks * BF16_CHANNELS;
}

static size_t bf16_prepare_size(const struct graph *g, const struct node *node,
                                const struct op_use *use)
{
    (void)use;
    return (size_t)(4 * tile_channels(g, node));
}

/* prepared: scale, shift; behind them both in the order of channels. */
static void bf16_prepare(const struct graph *g, const struct node *node, int branch,
                         const struct op_use *use, float *prepared)
{
    const struct bf16_map m = map_of(g, node);
    const int64_t n = tile_channels(g, node);
    float *plain = prepared + 2 * n;

    batchnorm_prepare(g, node, branch, use, plain);
    image_spread(&m, plain, prepared);
    image_spread(&m, plain + m.c, prepared + n);
}

static void bf16_affine(const struct op_call *k, const float *scale, const float *shift)
{
    const struct bf16_map m = map_of(k->g, k->node);
    const struct bf16_state s = bf16_begin();

    for (int64_t i = 0; i < image_pieces(&m, k->n); i++) {
        const struct image_piece p = image_piece(&m, k->n, i);
        struct bf16_tail tail = k->bf16_tail;

        if (tail.other != NULL)
            tail.other += p.at;
        if (tail.mask != NULL)
            tail.mask += p.b * p.tiles;
        s.k->affine(op_bf16(k->out) + p.at, op_bf16_in(k->in[0]) + p.at,
                    scale + p.b * BF16_CHANNELS, shift + p.b * BF16_CHANNELS, p.tiles, &tail);
    }
    bf16_end(s);
}

static void bf16_forward(const struct op_call *k)
{
    const struct bf16_map m = map_of(k->g, k->node);
    const int64_t n = tile_channels(k->g, k->node);
    float *scale = k->scratch, *shift = scale + n, *plain = shift + n;

    if (!uses_batch(k)) {
        bf16_affine(k, k->prepared, k->prepared + n);
        return;
    }
    batch_affine(k, plain, plain + m.c);
    image_spread(&m, plain, scale);
    image_spread(&m, plain + m.c, shift);
    bf16_affine(k, scale, shift);
}

static size_t bf16_scratch(const struct graph *g, const struct node *node, int64_t n)
{
    (void)n;
    return (size_t)(8 * tile_channels(g, node));
}

/* Adds sums of tile numbers to those of channels. */
static void gather(const struct bf16_map *m, const double *tile, double *sum)
{
    for (int64_t i = 0; i < m->blocks * BF16_CHANNELS; i++) {
        const int64_t c = bf16_channel(m, i / BF16_CHANNELS, i % BF16_CHANNELS);

        if (c < m->c)
            sum[c] += tile[i];
    }
}

static void bf16_stats(const struct op_call *k, double *partial)
{
    const struct bf16_map m = map_of(k->g, k->node);
    const int64_t n = tile_channels(k->g, k->node);
    double *sum = (double *)(void *)k->scratch;
    const struct bf16_state s = bf16_begin();

    for (int64_t i = 0; i < 2 * n; i++)
        sum[i] = 0;
    for (int64_t i = 0; i < image_pieces(&m, k->n); i++) {
        const struct image_piece p = image_piece(&m, k->n, i);
        double *to = sum + p.b * BF16_CHANNELS;

        s.k->stats(op_bf16_in(k->in[0]) + p.at, p.tiles, p.rows, to, to + n);
    }
    bf16_end(s);
    for (int64_t c = 0; c < 2 * m.c; c++)
        partial[c] = 0;
    gather(&m, sum, partial);
    gather(&m, sum + n, partial + m.c);
}

static void bf16_grad_params(const struct op_call *k)
{
    const struct bf16_map m = map_of(k->g, k->node);
    const int64_t n = tile_channels(k->g, k->node);
    double *sum = (double *)(void *)k->scratch, *channel = sum + 2 * n;
    float *mean = (float *)(void *)(sum + 2 * n); /* read before channel is written */

    if (k->din[slot(k->branch, GAMMA)] == NULL && k->din[slot(k->branch, BETA)] == NULL)
        return;
    image_spread(&m, uses_batch(k) ? k->stats : operand(k, MEAN), mean);
    for (int64_t i = 0; i < 2 * n; i++)
        sum[i] = 0;
    const struct bf16_state s = bf16_begin();

    for (int64_t i = 0; i < image_pieces(&m, k->n); i++) {
        const struct image_piece p = image_piece(&m, k->n, i);
        double *to = sum + p.b * BF16_CHANNELS;

        s.k->grad_stats(op_bf16_in(k->dout) + p.at, op_bf16_in(k->in[0]) + p.at,
                        mean + p.b * BF16_CHANNELS, p.tiles, p.rows, to + n, to);
    }
    bf16_end(s);
    for (int64_t c = 0; c < 2 * m.c; c++)
        channel[c] = 0;
    gather(&m, sum, channel);
    gather(&m, sum + n, channel + m.c);
    give_sums(k, channel);
}

static void bf16_grad_input(const struct op_call *k)
{
    const struct bf16_map m = map_of(k->g, k->node);
    const int64_t n = tile_channels(k->g, k->node);
    const bool batch = uses_batch(k);
    float *mean = k->scratch, *abd = mean + n, *plain = abd + 3 * n;

    if (k->din[0] == NULL)
        return;
    if (batch) {
        batch_factors(k, plain);
        image_spread(&m, k->stats, mean);
        for (int i = 0; i < 3; i++)
            image_spread(&m, plain + i * m.c, abd + i * n);
    }
    const struct bf16_state s = bf16_begin();

    for (int64_t i = 0; i < image_pieces(&m, k->n); i++) {
        const struct image_piece p = image_piece(&m, k->n, i);
        const int64_t c = p.b * BF16_CHANNELS;
        bf16 *dx = op_bf16(k->din[0]) + p.at;
        const bf16 *dy = op_bf16_in(k->dout) + p.at;

        if (batch)
            s.k->batch_grad(dx, dy, op_bf16_in(k->in[0]) + p.at, mean + c, abd + c, abd + n + c,
                            abd + 2 * n + c, p.tiles, k->add[0]);
        else
            s.k->scale(dx, dy, k->prepared + c, p.tiles, k->add[0]);
    }
    bf16_end(s);
}

static const struct op_hooks bf16_hooks = {
    .prepare_size = bf16_prepare_size,
    .prepare = bf16_prepare,
    .scratch_size = bf16_scratch,
    .forward = bf16_forward,
    .grad_input = bf16_grad_input,
    .grad_params = bf16_grad_params,
    .stats_size = batchnorm_stats_size,
    .stats_floats = batchnorm_stats_floats,
    .stats = bf16_stats,
    .stats_done = batchnorm_stats_done,
    .stats_move = batchnorm_stats_move,
};

static const struct attr attrs[] = {
    {"epsilon", ATTR_FLOAT, offsetof(union op_params, batchnorm.eps), 1, false, 1e-5, 0, 1},
    {"momentum", ATTR_FLOAT, offsetof(union op_params, batchnorm.momentum), 1, false, 0.9, 0, 1},
    {0},
};

const struct op op_batchnorm = {
    .type = "BatchNormalization",
    .in_min = 5,
    .in_max = 9,
    .attrs = attrs,
    .flags = OP_LINEAR | OP_ELEMENTWISE | OP_KEEP_X_TRAIN | OP_BATCH_STATS | OP_TAIL,
    .shape = batchnorm_shape,
    .hooks =
        &(const struct op_hooks){
            .prepare_size = batchnorm_prepare_size,
            .prepare = batchnorm_prepare,
            .scratch_size = batchnorm_scratch,
            .forward = batchnorm_forward,
            .grad_input = batchnorm_grad_input,
            .grad_params = batchnorm_grad_params,
            .stats_size = batchnorm_stats_size,
            .stats_floats = batchnorm_stats_floats,
            .stats = batchnorm_stats,
            .stats_done = batchnorm_stats_done,
            .stats_move = batchnorm_stats_move,
            .bf16 = &bf16_hooks,
        },
};
