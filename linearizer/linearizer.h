#ifndef LINEARIZER_LINEARIZER_H
#define LINEARIZER_LINEARIZER_H
/*
 * Which ReLUs stay: masks, scores, budgets (method.md sections 2, 7, 9).
 *
 * A site is a Relu or MaskedRelu node; sites are numbered in node order. A site's positions are the
 * elements of one image at that node, [C,H,W] or [K].
 */
#include "core/graph.h"
#include "core/exec.h"

struct relu_site {
    int32_t node;   /* index of the Relu or MaskedRelu */
    value_id x, y;  /* its input and output */
    value_id mask;  /* NO_VALUE for a plain Relu */
    int64_t total;  /* positions */
    int64_t kept;   /* mask > 0.5; all for a plain Relu */
    int64_t offset; /* of this site's positions among all positions */
};
/* Sites in node order. The array is owned by the caller (mem_free). */
int relu_sites(const struct graph *g, struct relu_site **out, int32_t *n) MUST_CHECK;

/* Every Relu becomes a MaskedRelu with an all-one hard mask; existing ones stay. */
int mask_insert(struct graph *g) MUST_CHECK;
/* MaskedRelu with nothing kept disappears, with everything kept becomes Relu. */
int mask_simplify(struct graph *g) MUST_CHECK;

/* eta_l = 1 - density of the convolution (or Gemm) that produces the site's main input, after
 * one-shot global magnitude pruning of all Conv and Gemm weights to `density`. Main input: walk back
 * from the site's x through BatchNormalization, and at an Add through the operand whose producing
 * convolution is the block's own, that is the LAST Conv in node order among both operands that is not
 * 1x1 (1x1 shortcuts are skipped, method.md 9.1). eta [n_sites]. */
int budget_sensitivity(const struct graph *g, double density, double *eta) MUST_CHECK;
/* Capped proportional allocation of R kept ReLUs: sum k_l == R exactly, k_l <= total_l.
 * ERR_ARG if R < 0 or R > sum of totals. */
int budget_allocate(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                    int64_t *kept) MUST_CHECK;
/* "18841" or "10%" (floor) -> count. ERR_ARG with a hint. */
int budget_parse(const char *text, int64_t total, int64_t *out) MUST_CHECK;

/* Hard mask of a site := exactly k positions with the largest score (ties: lower index).
 * score [C,H,W] in ONNX order. */
int mask_select(struct graph *g, const struct relu_site *site, const double *score,
                int64_t k) MUST_CHECK;

enum score_kind { SCORE_DIFF0, SCORE_ACTDIFF };
/* Adds sum over images of |teacher post-activation - student pre- (DIFF0) or post-activation
 * (ACTDIFF)| to score [positions of the site, ONNX order]. t and s: [n][h][w][c] as exec_tap gives. */
void score_accumulate(const struct graph *g, const struct relu_site *site, int64_t n,
                      const float *t, const float *s, double *score);
/* Normalised Hamming distance and mean turnover between two mask blocks (method.md 7.3). */
void mask_distance(int32_t n, const struct relu_site *sites, const struct graph *g,
                   const float *before, const float *after, double *nhd, double *turnover);
#endif
