/*
 * Lines at removed positions, y = s[c] z + b[c], and their least-squares fit.
 *
 * Over the removed positions of channel c and the images that were added, with r = max(z, 0), or
 * min(max(z, 0), 6) of a ReLU6:
 *
 *     s = cov(z, r) / var(z)      (1/2 where the slope is a constant)      b = mean r - s mean z
 *
 * are the minimum of sum (r - s z - b)^2. A line that was trained since its last fit is not thrown
 * away when masks are chosen again: it moves by what the fit itself moves between the old and the new
 * set of removed positions, on the same activations. A channel that had no removed position before
 * takes the fit as it is.
 *
 * Work is split over channels and each channel adds its positions in order, so the sums do not depend
 * on threads.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/op/op.h"
#include "linearizer/line.h"

const char *removed_name(enum removed_kind kind)
{
    static const char *const name[] = {"identity", "half", "line"};

    return name[kind];
}

static int add_vector(struct graph *g, int32_t node, const char *suffix, enum value_kind kind,
                      float fill, value_id *out)
{
    const struct shape s = shape_make(1, op_in(g, &g->node[node], 1)->shape.dim[0]);
    char name[512];

    snprintf(name, sizeof name, "%.500s%s", g->node[node].name, suffix);
    TRY(graph_add_value(g, name, kind, &s, NULL, out));
    for (int64_t c = 0; c < s.dim[0]; c++)
        g->value[*out].data[c] = fill;
    return 0;
}

int line_insert(struct graph *g, enum removed_kind kind)
{
    const enum value_kind slope = kind == REMOVED_HALF ? VALUE_CONST : VALUE_PARAM;

    for (int32_t n = 0; n < g->n_node && kind != REMOVED_IDENTITY; n++) {
        value_id s, b;

        if (g->node[n].op != &op_masked_relu || g->node[n].n_in > 2)
            continue;
        TRY(add_vector(g, n, ".removed_slope", slope, kind == REMOVED_HALF ? 0.5f : 1, &s));
        TRY(add_vector(g, n, ".removed_offset", VALUE_PARAM, 0, &b));
        g->node[n].in[2] = s;
        g->node[n].in[3] = b;
        g->node[n].n_in = 4;
    }
    graph_touch(g);
    return 0;
}

struct line_fit {
    struct graph *g;
    const struct relu_site *site;
    int32_t n_site;
    const float *before, *after; /* [g->n_masks] */
    struct line_channel **sums;  /* per site, [channels] */
    struct arena *arena;         /* sums */
};

int line_fit_new(struct graph *g, int32_t n, const struct relu_site *sites, const float *before,
                 const float *after, struct line_fit **out)
{
    SCOPED(line_fit_free_at) struct line_fit *f = mem_array(1, sizeof *f);

    if (f == NULL)
        return ERR_NOMEM;
    *f = (struct line_fit){g, sites, n, before, after, NULL, NULL};
    TRY(arena_new(0, &f->arena));
    if ((f->sums = arena_array(f->arena, (size_t)n, sizeof *f->sums)) == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < n; s++)
        f->sums[s] = arena_array(f->arena, (size_t)site_channels(g, &sites[s]), sizeof **f->sums);
    TRY(arena_status(f->arena));
    *out = mem_hand_on(&f);
    return 0;
}

void line_fit_free(struct line_fit *f)
{
    if (f != NULL)
        arena_free(f->arena);
    mem_free(f);
}

static void add_value(struct line_sums *s, double z, double top)
{
    const double r = z > top ? top : z > 0 ? z : 0;

    s->n++;
    s->z += z;
    s->zz += z * z;
    s->r += r;
    s->zr += z * r;
}

void line_fit_add(struct line_fit *f, int32_t s, int64_t n, const float *z)
{
    const int64_t channels = site_channels(f->g, &f->site[s]), hw = f->site[s].total / channels;
    const int64_t at = f->g->value[f->site[s].mask].offset;
    const double top = f->site[s].relu6 ? (double)RELU6_TOP : INFINITY;

#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < channels; c++)
        for (int64_t p = 0; p < hw; p++) {
            const bool before = f->before[at + c * hw + p] <= 0.5f;
            const bool after = f->after[at + c * hw + p] <= 0.5f;
            struct line_channel *sums = &f->sums[s][c];

            for (int64_t i = 0; i < n && (before || after); i++) {
                const double v = z[(i * hw + p) * channels + c];

                if (before)
                    add_value(&sums->before, v, top);
                if (after)
                    add_value(&sums->after, v, top);
            }
        }
}

/* The fit over some positions; fixed: the slope is given. A channel that never varies takes no slope. */
static void solve(const struct line_sums *s, bool fixed, double *slope, double *offset)
{
    const double mean = s->z / s->n, var = s->zz / s->n - mean * mean;

    if (!fixed)
        *slope = var > 1e-12 * (1 + s->zz / s->n) ? (s->zr / s->n - mean * s->r / s->n) / var : 0;
    *offset = s->r / s->n - *slope * mean;
}

void line_move(const struct line_channel *x, bool fixed, double *slope, double *offset)
{
    double s = *slope, b, s_old = *slope, b_old;

    if (x->after.n == 0)
        return;
    solve(&x->after, fixed, &s, &b);
    if (x->before.n > 0) {
        solve(&x->before, fixed, &s_old, &b_old);
        s = fixed ? s : *slope + (s - s_old);
        b = *offset + (b - b_old);
    }
    if (!fixed)
        *slope = s;
    *offset = b;
}

void line_fit_finish(struct line_fit *f)
{
    for (int32_t s = 0; s < f->n_site; s++) {
        const struct node *x = &f->g->node[f->site[s].node];

        if (x->op != &op_masked_relu || x->n_in < 4)
            continue;
        const bool fixed = op_in(f->g, x, 2)->kind == VALUE_CONST;

        for (int64_t c = 0; c < site_channels(f->g, &f->site[s]); c++) {
            float *slope = &op_in(f->g, x, 2)->data[c], *offset = &op_in(f->g, x, 3)->data[c];
            double s_new = (double)*slope, b_new = (double)*offset;

            line_move(&f->sums[s][c], fixed, &s_new, &b_new);
            *slope = (float)s_new;
            *offset = (float)b_new;
        }
    }
    graph_touch(f->g);
}
