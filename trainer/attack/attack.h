#ifndef TRAINER_ATTACK_ATTACK_H
#define TRAINER_ATTACK_ATTACK_H
/*
 * The attacked function: logits and gradients of a loss with respect to the pixels, through one
 * batch-norm branch of a graph. All that an attack needs, ours or yours:
 *
 *     struct attack_model *m = NULL;
 *     TRY(attack_model_new(NULL, graph, 0, EXEC_FP32, 250, &m)); // branch 0, at most 250 images a call
 *     if ((rc = attack_logits(m, pixels, n, z)) < 0 ||     // z [n][classes]
 *         (rc = attack_loss_grad(m, ATTACK_CE, pixels, n, labels, NULL, loss, grad, z)) < 0)
 *         goto out;                                        // grad [n][C,H,W], loss [n]
 *     out: attack_model_free(m);
 *
 * Pixels are [n][C,H,W] in [0,1]; normalisation is part of the function. Every image stands for
 * itself: its loss is not divided by n, and neither batch nor threads change a bit of its result.
 * The graph may come from training or from onnx_import of an exported file (hard masks).
 *
 *     kind                   loss of logits z, label y, target t; pi sorts z downwards
 *     ATTACK_CE              cross-entropy
 *     ATTACK_DLR             -(z_y - max_{i != y} z_i) / (z_pi1 - z_pi3 + 1e-12)       3 classes
 *     ATTACK_DLR_TARGETED    -(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4)/2 + 1e-12)        4 classes
 *     ATTACK_DIFFERENCE      z_t - z_y
 *
 * Source: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
 * parameter-free attacks", ICML 2020.
 */
#include <stdbool.h>

#include "core/exec/exec.h"

enum attack_loss { ATTACK_CE, ATTACK_DLR, ATTACK_DLR_TARGETED, ATTACK_DIFFERENCE };
/* Called after each pass with its cost in forward passes of one image (a gradient counts 3). A
 * negative result ends the attack with that code. */
typedef int attack_tick_fn(void *ctx, int64_t forwards);

struct attack_model { /* read-only for the caller, except tick and ctx */
    struct graph *g;
    int branch;
    int64_t batch, elems; /* most images a call; C * H * W */
    int64_t classes;
    struct exec *infer, *gradient;
    int64_t forwards;                 /* spent so far */
    int64_t inferred, differentiated; /* images through the two executors */
    attack_tick_fn *tick;
    void *ctx;
};
/* The graph is borrowed; with: NULL, or whose working memory is used (exec_opts). ERR_UNSUPPORTED: a
 * node has no gradient; ERR_NOMEM. */
int attack_model_new(struct exec *with, struct graph *g, int branch, enum exec_precision precision,
                     int64_t batch, struct attack_model **out) MUST_CHECK;
void attack_model_free(struct attack_model *m); /* NULL is fine */
FREE_AT(attack_model_free, struct attack_model)
/* z [n][classes], n <= batch. */
int attack_logits(struct attack_model *m, const float *pixels, int64_t n, float *z) MUST_CHECK;
/* grad [n][C,H,W] = d loss[i] / d pixels[i]. target [n]: for the two targeted kinds, else NULL.
 * loss [n] and z [n][classes] may be NULL. ERR_ARG where there are too few classes for the kind. */
int attack_loss_grad(struct attack_model *m, enum attack_loss kind, const float *pixels, int64_t n,
                     const int32_t *label, const int32_t *target, double *loss, float *grad,
                     float *z) MUST_CHECK;
/* One row: the loss, and its gradient where dz [k] is not NULL. */
double attack_loss_row(enum attack_loss kind, const float *z, int64_t k, int32_t label,
                       int32_t target, float *dz);
/* Class that is the j-th largest of z [k], j from 0; of equal ones the lower index first. */
int32_t attack_rank(const float *z, int64_t k, int64_t j);
bool attack_is_wrong(const float *z, int64_t k, int32_t label); /* also where z holds a NaN */

/* What an attack works on. Images whose `broken` is set are left alone. */
struct attack_batch {
    int64_t n;
    const float *pixels;   /* [n][C,H,W] */
    const int32_t *label;  /* [n] */
    const int64_t *sample; /* [n] index in the data set: keys the random numbers */
    int64_t group;         /* keys what the images of a batch share (Square) */
    uint64_t seed;
    float *adv;      /* [n][C,H,W] out: where broken was set, an image that is misclassified */
    uint8_t *broken; /* [n] in and out */
};
/* X(NAME, name, word, stream): all attacks that users can name; spec.h says what a row stands for.
 * `stream` keys the random numbers of an attack, so it never changes; 5 is Square's second one. */
#define ATTACK_TABLE(X)                                                                            \
    X(PGD, pgd, "pgd", 0)                                                                          \
    X(APGD_CE, apgd_ce, "apgd-ce", 1)                                                              \
    X(APGD_DLR, apgd_dlr, "apgd-dlr", 6)                                                           \
    X(APGD_T, apgd_t, "apgd-t", 2)                                                                 \
    X(FAB_T, fab_t, "fab-t", 3)                                                                    \
    X(SQUARE, square, "square", 4)

/* Generator of one image in one run of an attack; `id` names the attack. */
enum attack_id {
#define ATTACK_ID(NAME, name, word, stream) ATTACK_ID_##NAME = stream,
    ATTACK_TABLE(ATTACK_ID) ATTACK_ID_SQUARE_DRAWS = 5
};
struct rng attack_rng(const struct attack_batch *b, enum attack_id id, int64_t key, int32_t run);

/* Row i of `to` := row j of `from`, rows of `elems` floats; they may be the same row. */
void attack_copy_row(float *to, int64_t i, const float *from, int64_t j, int64_t elems);
/* x [n] := x0 + reach u / max|u|, u uniform in [-1,1], clipped to [0,1]. */
void attack_start(struct rng *g, const float *x0, float reach, int64_t n, float *x);

/* Of so many target classes as there are beside the label's. */
static inline int32_t attack_targets(int32_t wanted, int64_t classes)
{
    return wanted < classes ? wanted : (int32_t)classes - 1;
}

static inline float attack_clip(float v, float lo, float hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}
#endif
