/*
 * Batch-norm re-insertion.
 *
 * One pass over the data taps every site: insertion leaves the function unchanged, so the numbers
 * of one site do not depend on the others. Mean and (population) variance per channel come from
 * sums in double over images, rows and columns in index order.
 */
#include "trainer/train/bn.h"

#include <inttypes.h>
#include <math.h>

#include "core/exec/exec.h"
#include "core/graph/pass.h"

#define BN_BATCH 32 /* images an executor call: what the taps of all sites have to hold */
#define BN_TOLERANCE 1e-4

struct bn_site {
    int32_t node;
    value_id out;
    int64_t channels, positions; /* positions: rows x columns */
    double *sum, *square;        /* [channels] */
};

struct bn_work {
    struct bn_site *site;
    int32_t n_site;
    int32_t *nodes;        /* [n_site], increasing */
    value_id *taps;        /* [n_site] */
    float *mean, *var;     /* [largest channels] */
    float *before, *after; /* logits [n][K] */
};

static int work_init(struct bn_work *w, struct arena *a, const struct graph *g, int64_t n)
{
    const size_t logits = (size_t)(n * shape_elems(&g->value[g->output].shape));
    int64_t largest = 0;

    w->nodes = arena_array(a, (size_t)w->n_site, sizeof *w->nodes);
    w->taps = arena_array(a, (size_t)w->n_site, sizeof *w->taps);
    w->site = arena_array(a, (size_t)w->n_site, sizeof *w->site);
    w->before = arena_array(a, logits, sizeof *w->before);
    w->after = arena_array(a, logits, sizeof *w->after);
    TRY(arena_status(a));
    pass_batchnorm_sites(g, w->nodes, w->n_site);
    for (int32_t i = 0; i < w->n_site; i++) {
        struct bn_site *s = &w->site[i];
        s->node = w->nodes[i];
        s->out = w->taps[i] = g->node[s->node].out[0];
        const struct shape *shape = &g->value[s->out].shape;
        s->channels = shape->dim[1];
        s->positions = shape_elems(shape) / s->channels;
        s->sum = arena_array(a, (size_t)s->channels, sizeof *s->sum);
        s->square = arena_array(a, (size_t)s->channels, sizeof *s->square);
        largest = s->channels > largest ? s->channels : largest;
    }
    w->mean = arena_array(a, (size_t)largest, sizeof *w->mean);
    w->var = arena_array(a, (size_t)largest, sizeof *w->var);
    return arena_status(a);
}

/* x [n][h][w][c] */
static void site_add(struct bn_site *s, const float *x, int64_t n)
{
    for (int64_t p = 0; p < n * s->positions; p++)
        for (int64_t c = 0; c < s->channels; c++) {
            double v = x[p * s->channels + c];
            s->sum[c] += v;
            s->square[c] += v * v;
        }
}

static int measure(struct graph *g, const float *pixels, int64_t n, struct bn_work *w)
{
    const int64_t elems = shape_elems(&g->value[g->input].shape);
    const int64_t k = shape_elems(&g->value[g->output].shape);
    const struct exec_opts o = {.taps = w->taps, .n_taps = w->n_site};
    SCOPED(exec_free_at) struct exec *e = NULL;

    TRY(exec_new(g, EXEC_INFER, BN_BATCH, &o, &e));
    for (int64_t i = 0; i < n; i += BN_BATCH) {
        const int64_t m = n - i < BN_BATCH ? n - i : BN_BATCH;

        TRY(exec_infer(e, pixels + i * elems, m, 0, w->before + i * k));
#pragma omp parallel for schedule(static)
        for (int32_t s = 0; s < w->n_site; s++)
            site_add(&w->site[s], exec_tap(e, w->site[s].out), m);
    }
    return 0;
}

/* From the last site to the first: insertion moves only the nodes after it. */
static int insert(struct graph *g, int64_t n, struct bn_work *w)
{
    for (int32_t i = w->n_site - 1; i >= 0; i--) {
        const struct bn_site *s = &w->site[i];
        const double count = (double)(n * s->positions);
        for (int64_t c = 0; c < s->channels; c++) {
            double mean = s->sum[c] / count, var = s->square[c] / count - mean * mean;
            w->mean[c] = (float)mean;
            w->var[c] = (float)(var > 0 ? var : 0);
        }
        TRY(pass_insert_batchnorm(g, s->node, w->mean, w->var));
    }
    return 0;
}

static int compare(struct graph *g, const float *pixels, int64_t n, struct bn_work *w,
                   double *max_rel)
{
    const int64_t count = n * shape_elems(&g->value[g->output].shape);
    SCOPED(exec_free_at) struct exec *e = NULL;
    double diff = 0, largest = 0;

    TRY(exec_new(g, EXEC_INFER, BN_BATCH, NULL, &e));
    TRY(exec_infer(e, pixels, n, 0, w->after));
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)w->after[i] - w->before[i]), a = fabs(w->before[i]);
        diff = d > diff || isnan(d) ? d : diff;
        largest = a > largest ? a : largest;
    }
    *max_rel = diff > 0 ? diff / largest : diff;
    if (!(diff <= BN_TOLERANCE * largest))
        return fail(ERR_VERIFY,
                    "batch-norm re-insertion moved the logits by %g of %g (%" PRId64
                    " images), at most %g relative is allowed",
                    diff, largest, n, BN_TOLERANCE);
    return 0;
}

int bn_insert(struct graph *g, const float *pixels, int64_t n, struct bn_report *report)
{
    SCOPED(arena_free_at) struct arena *arena = NULL;
    struct bn_work w = {.n_site = pass_batchnorm_sites(g, NULL, 0)};
    struct bn_report r = {.sites = w.n_site};

    if (n < 1)
        return fail(ERR_ARG, "batch-norm re-insertion needs at least one image");
    if (w.n_site > 0) {
        TRY(arena_new(0, &arena));
        TRY(work_init(&w, arena, g, n));
        TRY(measure(g, pixels, n, &w));
        TRY(insert(g, n, &w));
        TRY(compare(g, pixels, n, &w, &r.max_rel_diff));
    }
    if (report != NULL)
        *report = r;
    return 0;
}
