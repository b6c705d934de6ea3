/*
 * The attacked function and its losses.
 *
 * Losses are computed row by row in double from single-precision logits. The denominators of the DLR
 * losses carry gradient too, as they do under automatic differentiation:
 *
 *     L = -N/D        dL/dz = -dN/dz / D + N/D^2 dD/dz
 *
 * Run r of image s draws from (seed, RNG_ATTACK, attack, s + r 2^48).
 */
#include "trainer/attack/attack.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/graph/rng.h"
#include "trainer/loss.h"

#define RUN_SHIFT 48
#define GRADIENT_COST 3 /* a forward pass and about twice its work back */
#define TINY 1e-12

int attack_model_new(struct exec *with, struct graph *g, int branch, enum exec_precision precision,
                     int64_t batch, struct attack_model **out)
{
    SCOPED(attack_model_free_at) struct attack_model *m = mem_array(1, sizeof *m);
    const struct exec_opts o = {
        .precision = precision, .held = min_i64(batch, EXEC_BATCH), .beside = with};

    if (m == NULL)
        return ERR_NOMEM;
    *m = (struct attack_model){.g = g, .branch = branch, .batch = batch};
    m->elems = shape_elems(&g->value[g->input].shape);
    m->classes = shape_elems(&g->value[g->output].shape);
    TRY(exec_new(g, EXEC_INFER, EXEC_BATCH, &o, &m->infer));
    TRY(exec_new(g, EXEC_INPUT_GRAD, EXEC_BATCH, &o, &m->gradient));
    *out = mem_hand_on(&m);
    return 0;
}

void attack_model_free(struct attack_model *m)
{
    if (m == NULL)
        return;
    exec_free(m->infer);
    exec_free(m->gradient);
    mem_free(m);
}

static int spend(struct attack_model *m, int64_t forwards)
{
    m->forwards += forwards;
    return m->tick != NULL ? m->tick(m->ctx, forwards) : 0;
}

int attack_logits(struct attack_model *m, const float *pixels, int64_t n, float *z)
{
    TRY(exec_infer(m->infer, pixels, n, m->branch, z));
    m->inferred += n;
    return spend(m, n);
}

int32_t attack_rank(const float *z, int64_t k, int64_t j)
{
    for (int64_t i = 0; i < k; i++) {
        int64_t before = 0;
        for (int64_t o = 0; o < k; o++)
            before += z[o] > z[i] || (z[o] == z[i] && o < i);
        if (before == j)
            return (int32_t)i;
    }
    return 0; /* rows with a NaN have no order */
}

bool attack_is_wrong(const float *z, int64_t k, int32_t label)
{
    return loss_argmax(z, k) != label;
}

struct rng attack_rng(const struct attack_batch *b, enum attack_id id, int64_t key, int32_t run)
{
    return rng_at(b->seed, RNG_ATTACK, (uint32_t)id,
                  (uint64_t)key + ((uint64_t)(uint32_t)run << RUN_SHIFT));
}

void attack_copy_row(float *to, int64_t i, const float *from, int64_t j, int64_t elems)
{
    if (to + i * elems != from + j * elems)
        memcpy(to + i * elems, from + j * elems, (size_t)elems * sizeof *to);
}

void attack_start(struct rng *g, const float *x0, float reach, int64_t n, float *x)
{
    float most = 0;

    for (int64_t j = 0; j < n; j++) {
        x[j] = rng_range(g, -1, 1);
        most = fmaxf(most, fabsf(x[j]));
    }
    for (int64_t j = 0; j < n; j++)
        x[j] = attack_clip(x0[j] + reach * (most > 0 ? x[j] / most : 0), 0, 1);
}

/* ---- losses ---------------------------------------------------------------------------------- */

/* The ratio -N/D with N = z_a - z_b and D = z_first - sum of weights; its gradient is added. */
struct ratio {
    double n, d;
};

static void add_ratio(struct ratio r, int32_t up, int32_t down, float *dz)
{
    dz[up] -= (float)(1 / r.d);
    dz[down] += (float)(1 / r.d);
}

static double dlr(const float *z, int64_t k, int32_t y, float *dz)
{
    const int32_t first = attack_rank(z, k, 0), second = attack_rank(z, k, 1);
    const int32_t third = attack_rank(z, k, 2), other = first == y ? second : first;
    const struct ratio r = {(double)z[y] - (double)z[other],
                            (double)z[first] - (double)z[third] + TINY};

    if (dz != NULL) {
        add_ratio(r, y, other, dz);
        dz[first] += (float)(r.n / (r.d * r.d));
        dz[third] -= (float)(r.n / (r.d * r.d));
    }
    return -r.n / r.d;
}

static double dlr_targeted(const float *z, int64_t k, int32_t y, int32_t t, float *dz)
{
    const int32_t first = attack_rank(z, k, 0);
    const int32_t third = attack_rank(z, k, 2), fourth = attack_rank(z, k, 3);
    const struct ratio r = {(double)z[y] - (double)z[t],
                            (double)z[first] - ((double)z[third] + (double)z[fourth]) / 2 + TINY};

    if (dz != NULL) {
        const double back = r.n / (r.d * r.d);
        add_ratio(r, y, t, dz);
        dz[first] += (float)back;
        dz[third] -= (float)(back / 2);
        dz[fourth] -= (float)(back / 2);
    }
    return -r.n / r.d;
}

double attack_loss_row(enum attack_loss kind, const float *z, int64_t k, int32_t label,
                       int32_t target, float *dz)
{
    if (dz != NULL)
        memset(dz, 0, (size_t)k * sizeof *dz);
    switch (kind) {
    case ATTACK_CE:
        return loss_ce(z, &label, 1, k, 1, 1, dz);
    case ATTACK_DLR:
        return dlr(z, k, label, dz);
    case ATTACK_DLR_TARGETED:
        return dlr_targeted(z, k, label, target, dz);
    case ATTACK_DIFFERENCE:
        if (dz != NULL) {
            dz[target] += 1;
            dz[label] -= 1;
        }
        return (double)z[target] - (double)z[label];
    }
    return 0;
}

struct loss_context {
    enum attack_loss kind;
    const int32_t *label, *target;
    double *loss;
    int64_t k;
};

static void block_loss(void *ctx, int64_t first, int64_t count, const float *logits, float *dlogits)
{
    const struct loss_context *c = ctx;

    for (int64_t i = 0; i < count; i++) {
        const int32_t target = c->target != NULL ? c->target[first + i] : 0;
        const double v = attack_loss_row(c->kind, logits + i * c->k, c->k, c->label[first + i],
                                         target, dlogits + i * c->k);
        if (c->loss != NULL)
            c->loss[first + i] = v;
    }
}

static int check_classes(enum attack_loss kind, int64_t classes)
{
    const int64_t least = kind == ATTACK_DLR ? 3 : kind == ATTACK_DLR_TARGETED ? 4 : 2;

    if (classes < least)
        return fail(ERR_ARG, "attack: this loss needs %d classes, the network has %d", (int)least,
                    (int)classes);
    return 0;
}

int attack_loss_grad(struct attack_model *m, enum attack_loss kind, const float *pixels, int64_t n,
                     const int32_t *label, const int32_t *target, double *loss, float *grad,
                     float *z)
{
    struct loss_context c = {kind, label, target, loss, m->classes};

    TRY(check_classes(kind, m->classes));
    TRY(exec_input_grad(m->gradient, pixels, n, m->branch, block_loss, &c, grad, z));
    m->differentiated += n;
    return spend(m, GRADIENT_COST * n);
}
