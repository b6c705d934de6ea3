#ifndef TESTS_REF_DOUBLE_H
#define TESTS_REF_DOUBLE_H
/*
 * An independent interpreter of a graph: double precision, ONNX order [N,C,H,W] throughout, plain
 * nested loops written from the ONNX operator definitions. It shares no code with the kernels or
 * the executor. Memory failure aborts: tests only.
 *
 *     struct ref *r = ref_new(g, pixels, n);
 *     ref_forward(r, branch, training);          r->value[g->output] holds n*K logits
 *     ref_backward(r, dlogits);                r->dparams, r->dmasks, r->dpixels
 *     ref_free(r);
 *
 * params, buffers, masks and pixels are double copies that a test may change between two forward
 * passes (finite differences). The graph itself is never written.
 */
#include "core/op/op.h"

struct ref {
    const struct graph *g;
    int64_t n;
    int branch;
    bool training;
    double *params, *buffers, *masks, *pixels; /* inputs; [n_params], ..., [n,C,H,W] */
    double *moved;                             /* buffers after a training forward pass */
    double *dparams, *dmasks, *dpixels;        /* set by ref_backward */
    double **value, **grad;                    /* per value, ONNX order */
};

struct ref *ref_new(const struct graph *g, const float *pixels, int64_t n);
void ref_free(struct ref *r);
void ref_forward(struct ref *r, int branch, bool training);
/* All gradients of sum(dlogits * logits) for the last ref_forward. */
void ref_backward(struct ref *r, const double *dlogits);
#endif
