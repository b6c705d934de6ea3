#ifndef RUNTIME_MODEL_H
#define RUNTIME_MODEL_H
/*
 * A plan made ready to run: weights as doubles, and a place in memory for every tensor.
 *
 * A tensor's slot is a piece of memory of 8 bytes an element that is free again after the tensor's
 * last reader. Whoever runs the plan brings `slots` words, then `scratch` words behind them.
 * Without weights (a client) the convolutions have their geometry only.
 */
#include "runtime/pi.h"
#include "runtime/ring/ring.h"
#include "runtime/party/schedule.h"

struct pi_model {
    const struct plan *plan;
    const struct plan_weights *weights; /* NULL without */
    struct plan *own_plan;              /* pi_open */
    struct plan_weights *own_weights;
    enum pi_mode mode;
    struct ring_conv *conv; /* one a step */
    double *numbers;        /* weights and real biases as doubles; NULL without weights */
    size_t n_numbers;
    int64_t *no_bias;      /* zeros, as many as the longest bias */
    int64_t *slot;         /* offset of a tensor, in 8-byte words */
    size_t slots, scratch; /* words: tensors, kernels */
    /* PI_SIM2PC */
    struct schedule *schedule;
    uint64_t test_seed;
    enum pi_linear linear;
    struct sim_linear *rlwe; /* PI_LINEAR_RLWE: opened by the first image */
    int64_t images;          /* run so far: the next one's number */
};

/* w may be NULL. Borrows both until pi_close. */
int pi_model_new(const struct plan *p, const struct plan_weights *w, enum pi_mode mode,
                 struct pi_model **out) MUST_CHECK;
/* y = W x, without bias. */
void pi_model_product(const struct pi_model *m, int32_t step, uint64_t *y, const uint64_t *x,
                      double *scratch);
#endif
