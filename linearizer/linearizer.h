#ifndef LINEARIZER_LINEARIZER_H
#define LINEARIZER_LINEARIZER_H
/*
 * Which ReLUs stay: masks, scores, budgets (trainer/METHOD.md).
 *
 * A site is a Relu, Relu6 or MaskedRelu node; sites are numbered in node order. A site's positions are the
 * elements of one image at that node, [C,H,W] or [K].
 */
#include "core/graph/graph.h"
#include "core/exec/exec.h"

struct relu_site {
    int32_t node;   /* index of the Relu, Relu6 or MaskedRelu */
    value_id x, y;  /* its input and output */
    value_id mask;  /* NO_VALUE for a plain Relu */
    bool relu6;     /* min(max(x, 0), 6): one position costs two ReLU evaluations */
    int64_t total;  /* positions */
    int64_t kept;   /* mask > 0.5; all for a plain Relu */
    int64_t offset; /* of this site's positions among all positions */
};
/* Sites in node order. The array is owned by the caller (mem_free). */
int relu_sites(const struct graph *g, struct relu_site **out, int32_t *n) MUST_CHECK;

/* ReLU evaluations of a private inference that the kept positions cost. */
int64_t relu_evaluations(const struct relu_site *site);

/* Every Relu and Relu6 becomes a MaskedRelu with an all-one hard mask; existing ones stay. */
int mask_insert(struct graph *g) MUST_CHECK;
/* MaskedRelu with nothing kept disappears (with a line it becomes a Mul and an Add), with everything
 * kept becomes Relu or Relu6. */
int mask_simplify(struct graph *g) MUST_CHECK;

/* eta_l = 1 - density of the convolution (or Gemm) that produces the site's main input, after
 * one-shot global magnitude pruning of all Conv and Gemm weights to `density`. Main input: walk back
 * from the site's x through BatchNormalization, and at an Add through the operand whose producing
 * convolution is the block's own, that is the LAST Conv in node order among both operands that is not
 * 1x1 (1x1 shortcuts are skipped). eta [n_sites]. */
int budget_sensitivity(const struct graph *g, double density, double *eta) MUST_CHECK;
/* Capped proportional allocation of R kept ReLUs: sum k_l == R exactly, k_l <= total_l.
 * ERR_ARG if R < 0 or R > sum of totals. */
int budget_allocate(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                    int64_t *kept) MUST_CHECK;
/* The same where some layers are decided: pinned [n] is their ReLUs, or -1 for a layer that shares
 * what is left. ERR_ARG if the rest does not fit, or if all are pinned and do not add up. */
int budget_allocate_pinned(int32_t n, const int64_t *total, const double *eta, int64_t budget,
                           const int64_t *pinned, int64_t *kept) MUST_CHECK;
/* Pins the `count` least sensitive layers that are not pinned (ties: lower index) to no ReLU. ERR_ARG
 * if fewer are free. */
int budget_empty_cheapest(int32_t n, const double *eta, int64_t count, int64_t *pinned) MUST_CHECK;
/* "18841", or "10%" or "0.1" (floor) -> count. ERR_ARG with a hint. */
int budget_parse(const char *text, int64_t total, int64_t *out) MUST_CHECK;

/* Hard mask of a site := exactly k positions with the largest score (ties: lower index).
 * score [C,H,W] in ONNX order. */
int mask_select(struct graph *g, const struct relu_site *site, const double *score,
                int64_t k) MUST_CHECK;

/* The same over all sites together; ties: lower site, lower index. score [positions of all sites], or NULL:
 * by the values of the masks themselves (soft masks of SNL). */
int mask_select_pooled(struct graph *g, int32_t n, const struct relu_site *sites,
                       const double *score, int64_t k) MUST_CHECK;
/* First mask of the reference: one random map a site, the same for all its channels; a position is
 * kept where the map is among the k / total largest. Exactly k (ties: lower index). */
int mask_random(struct graph *g, int32_t n, const struct relu_site *sites, uint64_t seed,
                const int64_t *k) MUST_CHECK;

/* What a removed ReLU becomes: z; z / 2 + b[c]; s[c] z + b[c] (line.c). */
enum removed_kind { REMOVED_IDENTITY, REMOVED_HALF, REMOVED_LINE };
#define REMOVED_WORDS "identity|half|line"
const char *removed_name(enum removed_kind kind);
/* Gives every MaskedRelu without a line one, slope 1 (half: the constant 1/2) and offset 0; identity
 * changes nothing. Values are named <node>.removed_slope and .removed_offset. */
int line_insert(struct graph *g, enum removed_kind kind) MUST_CHECK;
/* Fits the lines of all sites to the activations that are added, for the removed positions of the
 * masks `after`; lines in use at the removed positions of `before` are moved, not replaced (line.c).
 * before, after: [g->n_masks]; both and sites are borrowed. Only *_finish changes g. */
struct line_fit;
int line_fit_new(struct graph *g, int32_t n, const struct relu_site *sites, const float *before,
                 const float *after, struct line_fit **out) MUST_CHECK;
/* z: what enters site s, [n][h][w][c] as exec_tap gives. */
void line_fit_add(struct line_fit *f, int32_t s, int64_t n, const float *z);
void line_fit_finish(struct line_fit *f);
void line_fit_free(struct line_fit *f); /* NULL is fine */
FREE_AT(line_fit_free, struct line_fit)

enum score_kind { SCORE_DIFF0, SCORE_ACTDIFF, SCORE_TAYLOR, SCORE_RESIDUAL };
/* Adds |teacher post-activation - student pre- (DIFF0) or post-activation (ACTDIFF)| of one image after
 * the other to score [positions of the site, ONNX order]. t and s: [n][h][w][c] as exec_tap gives. */
void score_add(const struct graph *g, const struct relu_site *site, int64_t n, const float *t,
               const float *s, double *score);
/*
 * Taylor score (experimental: the paper leaves signs and norms open). With z the
 * pre-activation, d = max(z, 0) - z, a the activation, g = dL/da of one image's loss:
 *
 *     I = ( |mean g d| + mean g^2 mean d^2 / 2 ) x share of images with z <= 0
 *
 * (of a ReLU6 d = min(max(z, 0), 6) - z, and the share is that of z <= 0 or z >= 6)
 * what the loss changes to second order if the position becomes linear or a ReLU.
 */
struct score_taylor { /* sums over images, [positions of all sites] each, ONNX order */
    double *first, *grad, *square, *negative;
};
/* z, grad: [n][h][w][c]; scale: what makes grad that of one image's loss. */
void score_taylor_add(const struct graph *g, const struct relu_site *site, int64_t n,
                      const float *z, const float *grad, double scale, struct score_taylor *sums);
/* I of `count` positions from the sums over `images`. */
void score_taylor_read(const struct score_taylor *sums, int64_t count, int64_t images,
                       double *score);
/*
 * Residual score (ours; residual.c, METHOD.md): what the logits lose where a position is a line, in units that
 * compare between layers. With r what the ReLU makes of z, the line of the position's channel (identity: s 1, b 0),
 * and g the gradient of v . logits with respect to the position's activation, v standard normal:
 *
 *     I = mean (r - s z - b)^2 x mean g^2
 */
#define RESIDUAL_SUMS 6 /* doubles a position */
/* Adds n images to the sums of a site, sums [positions of all sites][RESIDUAL_SUMS]. z, grad: [n][h][w][c];
 * scale: what makes grad that of one image. */
void residual_add(const struct graph *g, const struct relu_site *site, int64_t n, const float *z,
                  const float *grad, double scale, double *sums);
/* Chooses kept[s] positions in each site, or, `pooled`, as many as those together wherever the score is
 * largest (ties: lower index). The graph has the masks and lines of before; masks change, lines do not: the
 * score is that under the lines that line_fit_finish would make of the choice, found in a few rounds. */
int residual_select(struct graph *g, int32_t n, const struct relu_site *sites, const double *sums,
                    int64_t images, const int64_t *kept, bool pooled) MUST_CHECK;
/* Normalised Hamming distance and mean turnover between two mask blocks. */
void mask_distance(int32_t n, const struct relu_site *sites, const struct graph *g,
                   const float *before, const float *after, double *nhd, double *turnover);
#endif
