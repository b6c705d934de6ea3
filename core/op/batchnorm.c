/*
 * BatchNormalization with one or two banks: y = gamma (x - mean) / sqrt(var + eps) + beta.
 *
 * x is rows x C with C contiguous, for [N,C,H,W] (rows = n h w) and for [N,C] (rows = n).
 *
 * Evaluation mode uses the running statistics of the bank: y = scale x + shift per channel.
 * prepared: scale[C], shift[C].
 *
 * Training mode uses the statistics of the whole batch, M rows in all blocks together:
 *   stats       partial = { sum x [C], sum x^2 [C] } in double, one set a block
 *   stats_done  stats   = { mean [C], 1/sqrt(var + eps) [C], M }, var = population variance;
 *               running = momentum * running + (1 - momentum) * batch, where the batch variance is
 *               the sample variance, divided by M - 1 as in PyTorch
 *   gradient    xh = (x - mean) inv;  dgamma = sum dy xh;  dbeta = sum dy
 *               dx = gamma inv (dy - dbeta/M - xh dgamma/M), sums over the whole batch
 *
 * A node takes part in training if it is not frozen and all four of the bank's operands can move
 * (PARAM, PARAM, BUFFER, BUFFER); any other stays in evaluation mode, whatever the call says, and
 * its statistics are not touched.
 *
 * Limit: sum x^2 loses digits where mean^2 > 1e9 var.
 */
#include <math.h>

#include "core/op/image.h"

enum { GAMMA, BETA, MEAN, VAR, PER_BANK };

static int slot(int32_t bank, int what)
{
    return 1 + PER_BANK * bank + what;
}

static int32_t clamp_bank(const struct node *node, int bank)
{
    return bank > 0 && node->n_in > slot(1, GAMMA) ? 1 : 0;
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
    TRY(op_check_inputs(g, node));
    TRY(image_need(g, node, 0));
    if (node->n_in != slot(1, GAMMA) && node->n_in != slot(2, GAMMA))
        return op_fail(node, "has %d inputs, needs 5 (one bank) or 9 (two banks)", node->n_in);
    const struct shape *x = &op_in(g, node, 0)->shape;
    for (int i = 1; i < node->n_in; i++) {
        if (node->in[i] == NO_VALUE)
            return op_fail(node, "input %d is missing", i);
        TRY(check_operand(g, node, i, x->dim[1]));
    }
    *out = *x;
    return 0;
}

static bool trains(const struct graph *g, const struct node *node, int32_t bank)
{
    return !node->frozen && op_in(g, node, slot(bank, GAMMA))->kind == VALUE_PARAM &&
           op_in(g, node, slot(bank, BETA))->kind == VALUE_PARAM &&
           op_in(g, node, slot(bank, MEAN))->kind == VALUE_BUFFER &&
           op_in(g, node, slot(bank, VAR))->kind == VALUE_BUFFER;
}

static bool uses_batch(const struct op_call *k)
{
    return k->training && trains(k->g, k->node, k->bank);
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
    return k->in[slot(k->bank, what)];
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

static void batchnorm_prepare(const struct graph *g, const struct node *node, int bank,
                              const struct op_use *use, float *prepared)
{
    int32_t b = clamp_bank(node, bank);
    const float *gamma = op_in(g, node, slot(b, GAMMA))->data;
    const float *beta = op_in(g, node, slot(b, BETA))->data;
    const float *mean = op_in(g, node, slot(b, MEAN))->data;
    const float *var = op_in(g, node, slot(b, VAR))->data;
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

static void batchnorm_forward(const struct op_call *k)
{
    int64_t n = channels(k->g, k->node);
    float *scale = k->scratch, *shift = k->scratch + n;

    if (!uses_batch(k)) {
        affine(k, k->prepared, k->prepared + n);
        return;
    }
    const float *gamma = operand(k, GAMMA), *beta = operand(k, BETA);
    const float *mean = k->stats, *inv = k->stats + n;
    for (int64_t c = 0; c < n; c++) {
        scale[c] = gamma[c] * inv[c];
        shift[c] = (float)((double)beta[c] - (double)mean[c] * (double)scale[c]);
    }
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

static void move_running(float *running, double momentum, double batch)
{
    *running = (float)(momentum * (double)*running + (1 - momentum) * batch);
}

static void batchnorm_stats_done(struct graph *g, const struct node *node, int bank, bool update,
                                 int64_t n_total, const double *partial, int32_t n_blocks,
                                 float *stats)
{
    int32_t b = clamp_bank(node, bank);
    int64_t n = channels(g, node);
    double count = (double)(n_total * rows_per_image(g, node));
    double momentum = (double)node->p.batchnorm.momentum;
    float *mean = op_in(g, node, slot(b, MEAN))->data, *var = op_in(g, node, slot(b, VAR))->data;

    update = update && trains(g, node, b);
    for (int64_t c = 0; c < n; c++) {
        double sum = 0, square = 0;
        for (int32_t i = 0; i < n_blocks; i++) {
            sum += partial[2 * n * i + c];
            square += partial[2 * n * i + n + c];
        }
        double m = sum / count, v = fmax(square / count - m * m, 0);
        stats[c] = (float)m;
        stats[n + c] = (float)(1 / sqrt(v + (double)node->p.batchnorm.eps));
        if (update) {
            move_running(&mean[c], momentum, m);
            move_running(&var[c], momentum, count > 1 ? v * count / (count - 1) : v);
        }
    }
    stats[2 * n] = (float)count;
    if (update)
        graph_touch(g); /* evaluation mode has packed the old statistics */
}

static void batchnorm_grad_params(const struct op_call *k)
{
    int64_t n = channels(k->g, k->node), rows = k->n * rows_per_image(k->g, k->node);
    float *dgamma = k->din[slot(k->bank, GAMMA)], *dbeta = k->din[slot(k->bank, BETA)];
    double *sum = (double *)(void *)k->scratch;
    bool batch = uses_batch(k);
    const float *mean = batch ? k->stats : operand(k, MEAN);

    if (dgamma == NULL && dbeta == NULL)
        return;
    /* sum = { sum dy (x - mean), without inv; sum dy }, over rows, in double */
    for (int64_t c = 0; c < 2 * n; c++)
        sum[c] = 0;
    rows_kernels_of(cpu_best_path())->grad_stats(k->dout, k->in[0], mean, rows, n, sum + n, sum);
    for (int64_t c = 0; c < n && dgamma != NULL; c++) {
        float inv = batch ? k->stats[n + c] : inv_std(operand(k, VAR)[c], k->node->p.batchnorm.eps);
        dgamma[c] += (float)(sum[c] * (double)inv);
    }
    for (int64_t c = 0; c < n && dbeta != NULL; c++)
        dbeta[c] += (float)sum[n + c];
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
    const float *gamma = operand(k, GAMMA), *mean = k->stats, *inv = k->stats + n;
    const float *dgamma = k->din[slot(k->bank, GAMMA)], *dbeta = k->din[slot(k->bank, BETA)];
    float count = k->stats[2 * n];
    for (int64_t c = 0; c < n; c++) {
        float a = gamma[c] * inv[c];
        abd[c] = a;
        abd[n + c] = -a * inv[c] * dgamma[c] / count;
        abd[2 * n + c] = -a * dbeta[c] / count;
    }
    kernels->batch_grad(k->din[0], k->dout, k->in[0], mean, abd, abd + n, abd + 2 * n, rows, n,
                        k->add[0]);
}

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
        },
};
