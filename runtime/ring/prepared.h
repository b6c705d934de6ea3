#ifndef RUNTIME_RING_PREPARED_H
#define RUNTIME_RING_PREPARED_H
/*
 * A plan made ready to run: weights as doubles, and a place in memory for every tensor.
 *
 * A tensor's slot is a piece of memory of 8 bytes an element that is free again after the tensor's
 * last reader. Whoever runs the plan brings `slots` words, then `scratch` words after them.
 * Without weights (a client, a dealer) the convolutions have their geometry only.
 */
#include "runtime/ring/ring.h"

struct prepared {
    const struct plan *plan;
    const struct plan_weights *weights; /* NULL without */
    struct ring_conv *conv;             /* one a step */
    double *numbers;       /* weights and real biases as doubles, secret; NULL without weights */
    int64_t *no_bias;      /* zeros, as many as the longest bias */
    int64_t *slot;         /* offset of a tensor, in 8-byte words */
    size_t slots, scratch; /* words: tensors, kernels */
};
/* Offsets of a relu_partial's lines, one a channel; NULL without lines or weights. */
static inline const int64_t *prepared_offset(const struct prepared *m, int32_t step)
{
    return m->weights != NULL && plan_has_lines(&m->plan->step[step])
               ? m->weights->matrix[step].bias
               : NULL;
}
/* w may be NULL. real: weights divided by their scale, for real_conv; else the integers. Borrows p
 * and w until prepared_free. */
int prepared_new(const struct plan *p, const struct plan_weights *w, bool real,
                 struct prepared **out) MUST_CHECK;
void prepared_free(struct prepared *m); /* wipes; NULL is fine */
FREE_AT(prepared_free, struct prepared)
/* y = W x of a linear step, without bias. scratch: m->scratch words. */
void prepared_product(const struct prepared *m, int32_t step, uint64_t *y, const uint64_t *x,
                      double *scratch);
#endif
