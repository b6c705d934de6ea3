#ifndef EXPORTER_LOWER_LOWERING_H
#define EXPORTER_LOWER_LOWERING_H
/*
 * What the files of lowering share (lower.c tells what is where); nobody else includes this.
 *
 * A value of the graph is a tensor and a factor in the plan: real = integer / 2^scale * factor.
 */
#include "core/op/op.h"
#include "runtime/plan/plan.h"

struct lower_options;

struct lowered { /* a value of the graph in the plan; tensor -1: not made yet */
    int32_t tensor;
    double factor;
};
struct
    draft { /* real weights of a step until they are rounded: `from` times `factor`, or `weight` */
    const float *from; /* of the graph, which keeps them */
    double factor;
    double *weight, *bias; /* in the plan's arena */
};
static inline double draft_weight(const struct draft *d, int64_t i)
{
    return d->from != NULL ? (double)d->from[i] * d->factor : d->weight[i];
}
struct lowering {
    const struct graph *g;
    const struct lower_options *o;
    const double *max_abs; /* per value of g */
    struct plan *p;
    struct lowered *of;  /* per value of g */
    struct draft *draft; /* per step */
    double *tensor_max;  /* per tensor: exact maximum of the real value */
    bool *peeled;        /* per node of g: taken into the input's normalisation */
};

/* lowering.c */
/* ERR_UNSUPPORTED: the node cannot run privately, and why. */
int lowering_refuse(const struct node *n, const char *hint) MUST_CHECK;
/* A new tensor; max: largest |real value| / factor. */
int32_t lowering_add_tensor(struct lowering *s, int32_t rank, const int64_t dim[3], int32_t scale,
                            double max);
/* Appends a step with one operand and result tensor `out`; NULL after fail(). */
struct plan_step *lowering_add_step(struct lowering *s, enum plan_kind kind, const char *name,
                                    int32_t in, int32_t out);
/* Shape of a graph value in the plan; ERR_UNSUPPORTED for ranks the plan has no form for. */
int lowering_shape(const struct lowering *s, const struct node *n, value_id v, int32_t *rank,
                   int64_t dim[3]) MUST_CHECK;
/* The step of node n on its input 0; its result has the given scale and factor. */
int lowering_step(struct lowering *s, const struct node *n, enum plan_kind kind, int32_t scale,
                  double factor, struct plan_step **step) MUST_CHECK;
/* Node n's result is this tensor with this factor. */
void lowering_set(struct lowering *s, const struct node *n, int32_t tensor, double factor);
struct lowered lowering_operand(const struct lowering *s, const struct node *n, int i);

/* linear.c */
/* Of the first n weights the largest |w|; NaN if one is. */
double lowering_largest(const struct draft *d, int64_t n);
/* Channels of an activation: dim 1. Two rows of doubles, a = 1 and b = 0. */
int lowering_new_affine(struct lowering *s, value_id v, int64_t *c, double **a,
                        double **b) MUST_CHECK;
/* y = x op constant or constant op x, as a factor and an offset per channel. */
int lowering_constant(struct lowering *s, const struct node *n, int x, double *a, double *b,
                      int64_t c) MUST_CHECK;
/* A value with factor 1: itself, or through one more step. */
int lowering_plain(struct lowering *s, const struct node *n, value_id v,
                   struct lowered *out) MUST_CHECK;
typedef int lower_node_fn(struct lowering *s, const struct node *n);
lower_node_fn lower_add, lower_batchnorm, lower_constant, lower_conv, lower_gemm;
/* relu.c */
lower_node_fn lower_average_pool, lower_max_pool, lower_relu;
/* move.c */
lower_node_fn lower_pad, lower_reshape, lower_slice;
/* input.c */
int lower_input(struct lowering *s) MUST_CHECK;
/* trim.c */
int lower_trim(struct lowering *s) MUST_CHECK;
/* package.c */
int lower_texts(struct plan *p, const struct lower_options *o, const char *branch,
                bool softmax) MUST_CHECK;
int lower_weights(struct lowering *s, struct plan_weights **out) MUST_CHECK;
#endif
