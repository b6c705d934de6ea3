#ifndef EXPORTER_LOWER_LOWER_H
#define EXPORTER_LOWER_LOWER_H
/*
 * graph -> plan and weights for private inference (runtime/plan/plan.h): fold, quantise, schedule.
 *
 *     struct lower_options o = {.scale = LOWER_SCALE, .weight_scale = LOWER_WEIGHT_SCALE,
 *                               .pixels = calibration, .n_pixels = 1000, .normalize = "imagenet"};
 *     rc = lower(g, &o, &plan, &weights);              // ERR_UNSUPPORTED names node and hint
 *     rc = plan_write(plan, weights, "out/model.pi", "out/model.pi.weights");
 *     plan_weights_free(weights);
 *     plan_free(plan);
 */
#include "core/graph/graph.h"
#include "runtime/plan/plan.h"

#define LOWER_SCALE 12        /* f */
#define LOWER_WEIGHT_SCALE 14 /* f_w where the weights of a layer suit it */

#define LOWER_MAX_FAILURE (1.0 / 256) /* of one answer, unless the user says otherwise */

/* What became of the chance that an answer fails (plan_failure). */
struct lower_failure {
    double untrimmed, bound,
        calibrated;  /* before scales were lowered; after; by the largest values */
    int32_t trimmed; /* linear steps whose weights have fewer bits now */
};
struct lower_options {
    int32_t scale, weight_scale; /* 0: the defaults above */
    const float *pixels; /* calibration images in [0,1], [n,C,H,W]; NULL: what `read` gives */
    int64_t n_pixels;    /* at least 1 */
    /* Images first ... first + n - 1 of them into out [n,C,H,W], a few at a time. */
    int (*read)(const void *images, int64_t first, int64_t n, float *out);
    const void *images;
    const uint8_t *salt;     /* PLAN_SALT bytes; NULL: from the system's random numbers */
    const char *normalize;   /* how the user named the normalisation; NULL: "" */
    const char *preparation; /* resize or crop, in words; NULL: "" */
    const char
        *source_sha256; /* of the ONNX file, 64 digits; NULL: unknown. Goes to the secret file */
    const char *const *label; /* class names, n_label = 0 or the number of classes */
    int32_t n_label;
    const struct plan_claim *claim;
    int32_t n_claim;
    /* Removed ReLUs that are lines s x + b with any s: s becomes public. Without it they are refused;
     * x / 2 + b and layers that keep no ReLU publish nothing. */
    bool publish_slopes;
    /* Weights get fewer bits where truncations fail too often for this, down to LOWER_LEAST_BITS of the
     * largest; ERR_GOAL if that is not enough. 0: any chance will do. */
    double max_failure;
    struct lower_failure *failure; /* out; may be NULL */
};
#define LOWER_LEAST_BITS 8

/* g: one batch-norm branch, hard masks; its metadata "linnet.branch" name the branch. It is folded in place (lower_prepare),
 * for weights of a large network must not lie in memory twice. The caller owns *plan (plan_free) and *weights
 * (plan_weights_free). ERR_UNSUPPORTED: a node that cannot run privately, by name, with a hint.
 * ERR_ARG: options out of range, two branches, a soft mask. */
int lower(struct graph *g, const struct lower_options *o, struct plan **plan,
          struct plan_weights **weights) MUST_CHECK;

/* What lower() refuses for operators and attributes, without running anything: ERR_UNSUPPORTED names the
 * node. Any number of branches. What depends on shapes and numbers may still be refused. */
int lower_check(const struct graph *g) MUST_CHECK;

/* The pieces of lower(), for tests and tools. lower_prepare: takes off the Softmax tail; batch norm, and the line of a layer that keeps no ReLU, are folded where a Conv or Gemm precedes them. lower_calibrate: largest |value| of every
 * activation over the images of o, max_abs [g->n_value], 0 for values that are none. */
int lower_prepare(struct graph *g) MUST_CHECK;
int lower_calibrate(struct graph *g, const struct lower_options *o, double *max_abs) MUST_CHECK;
#endif
