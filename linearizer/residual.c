/*
 * The score `residual` (METHOD.md, "Which ReLUs stay"): mean (r - s z - b)^2 x mean g^2.
 *
 * The line of a channel depends on which of its positions are removed, and what is removed on the score, so
 * the two are found in turn: lines for the removed positions of the last choice, then the choice under those
 * lines. ROUNDS is enough for the lines to rest (the third round moves under 1 % of the choice).
 * A channel of which nothing is removed is judged by the line of all its positions.
 *
 * Sums of a position lie together: z, z^2, r, r^2, z r, g^2. Any line's residual follows from them without a
 * second look at the images. Work is split over pixels and each position adds its images in order, so the sums
 * do not depend on threads.
 */
#include <math.h>
#include <string.h>

#include "core/op/op.h"
#include "linearizer/line.h"

#define ROUNDS 4

enum { Z, ZZ, R, RR, ZR, GG };

void residual_add(const struct graph *g, const struct relu_site *site, int64_t n, const float *z,
                  const float *grad, double scale, double *sums)
{
    const int64_t channels = site_channels(g, site), hw = site->total / channels;
    const double top = site->relu6 ? (double)RELU6_TOP : INFINITY;

#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < hw; p++)
        for (int64_t i = 0; i < n; i++)
            for (int64_t c = 0; c < channels; c++) {
                const int64_t from = (i * hw + p) * channels + c;
                double *to = sums + (site->offset + c * hw + p) * RESIDUAL_SUMS;
                const double v = z[from], slope = scale * grad[from];
                const double r = v > top ? top : v > 0 ? v : 0;

                to[Z] += v;
                to[ZZ] += v * v;
                to[R] += r;
                to[RR] += r * r;
                to[ZR] += v * r;
                to[GG] += slope * slope;
            }
}

static void add_position(struct line_sums *s, const double *sums, double images)
{
    s->n += images;
    s->z += sums[Z];
    s->zz += sums[ZZ];
    s->r += sums[R];
    s->zr += sums[ZR];
}

struct choice { /* the running search */
    struct graph *g;
    const double *sums;
    double images;
    const float *before; /* [g->n_masks] */
    double *score;       /* [positions of all sites] */
};

/* Sums of channel c over its removed positions: of the masks before, and of those chosen last (of none:
 * of all). first: of the channel in the block of masks. */
static struct line_channel channel_sums(const struct choice *x, const double *sums, int64_t first,
                                        int64_t hw)
{
    struct line_channel l = {.before.n = 0};

    for (int64_t p = 0; p < hw; p++) {
        if (x->before[first + p] <= 0.5f)
            add_position(&l.before, sums + p * RESIDUAL_SUMS, x->images);
        if (x->g->masks[first + p] <= 0.5f)
            add_position(&l.after, sums + p * RESIDUAL_SUMS, x->images);
    }
    const bool none = l.after.n == 0;

    for (int64_t p = 0; none && p < hw; p++)
        add_position(&l.after, sums + p * RESIDUAL_SUMS, x->images);
    return l;
}

/* The line that channel c of a site would have. */
static void channel_line(const struct choice *x, const struct node *node,
                         const struct line_channel *l, int64_t c, double *slope, double *offset)
{
    *slope = 1;
    *offset = 0;
    if (node->n_in < 4)
        return;
    *slope = (double)op_in(x->g, node, 2)->data[c];
    *offset = (double)op_in(x->g, node, 3)->data[c];
    line_move(l, op_in(x->g, node, 2)->kind == VALUE_CONST, slope, offset);
}

static void score_site(const struct choice *x, const struct relu_site *site)
{
    const int64_t channels = site_channels(x->g, site), hw = site->total / channels;
    const int64_t at = x->g->value[site->mask].offset;

#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++) {
        const double *sums = x->sums + (site->offset + c * hw) * RESIDUAL_SUMS;
        const struct line_channel l = channel_sums(x, sums, at + c * hw, hw);
        double s, b;

        channel_line(x, &x->g->node[site->node], &l, c, &s, &b);
        for (int64_t p = 0; p < hw; p++) {
            const double *m = sums + p * RESIDUAL_SUMS;
            const double all = m[RR] - 2 * s * m[ZR] - 2 * b * m[R] + s * s * m[ZZ] +
                               2 * s * b * m[Z] + x->images * b * b;

            /* never negative but by rounding */
            x->score[site->offset + c * hw + p] = fmax(all / x->images, 0) * (m[GG] / x->images);
        }
    }
}

static int choose(const struct choice *x, int32_t n, const struct relu_site *sites,
                  const int64_t *kept, bool pooled)
{
    int64_t sum = 0;

    for (int32_t s = 0; s < n; s++)
        sum += kept[s];
    if (pooled)
        return mask_select_pooled(x->g, n, sites, x->score, sum);
    for (int32_t s = 0; s < n; s++)
        TRY(mask_select(x->g, &sites[s], x->score + sites[s].offset, kept[s]));
    return 0;
}

int residual_select(struct graph *g, int32_t n, const struct relu_site *sites, const double *sums,
                    int64_t images, const int64_t *kept, bool pooled)
{
    const size_t bytes = (size_t)g->n_masks * sizeof(float);
    OWNED float *before = mem_array(bytes + 1, 1);
    int64_t positions = 0;

    for (int32_t s = 0; s < n; s++)
        positions += sites[s].total;
    OWNED double *score = mem_array((size_t)positions + 1, sizeof *score);
    if (before == NULL || score == NULL)
        return ERR_NOMEM;
    memcpy(before, g->masks, bytes);
    const struct choice x = {g, sums, images > 0 ? (double)images : 1, before, score};
    for (int round = 0; round < ROUNDS; round++) {
        for (int32_t s = 0; s < n; s++)
            score_site(&x, &sites[s]);
        TRY(choose(&x, n, sites, kept, pooled));
    }
    return 0;
}
