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
    struct arena *arena;   /* of all blocks */
    float *mean, *var;     /* [largest channels] */
    float *before, *after; /* logits [n][K] */
};

static int work_init(struct bn_work *w, const struct graph *g, int64_t n)
{
    const size_t logits = (size_t)(n * shape_elems(&g->value[g->output].shape));
    int64_t largest = 0;

    TRY(arena_new(0, &w->arena));
    w->nodes = arena_array(w->arena, (size_t)w->n_site, sizeof *w->nodes);
    w->taps = arena_array(w->arena, (size_t)w->n_site, sizeof *w->taps);
    w->site = arena_array(w->arena, (size_t)w->n_site, sizeof *w->site);
    w->before = arena_array(w->arena, logits, sizeof *w->before);
    w->after = arena_array(w->arena, logits, sizeof *w->after);
    if (!w->nodes || !w->taps || !w->site || !w->before || !w->after)
        return ERR_NOMEM;
    pass_batchnorm_sites(g, w->nodes, w->n_site);
    for (int32_t i = 0; i < w->n_site; i++) {
        struct bn_site *s = &w->site[i];
        s->node = w->nodes[i];
        s->out = w->taps[i] = g->node[s->node].out[0];
        const struct shape *shape = &g->value[s->out].shape;
        s->channels = shape->dim[1];
        s->positions = shape_elems(shape) / s->channels;
        s->sum = arena_array(w->arena, (size_t)s->channels, sizeof *s->sum);
        s->square = arena_array(w->arena, (size_t)s->channels, sizeof *s->square);
        if (!s->sum || !s->square)
            return ERR_NOMEM;
        largest = s->channels > largest ? s->channels : largest;
    }
    w->mean = arena_array(w->arena, (size_t)largest, sizeof *w->mean);
    w->var = arena_array(w->arena, (size_t)largest, sizeof *w->var);
    return w->mean && w->var ? 0 : ERR_NOMEM;
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
    struct exec *e = NULL;
    int rc;

    if ((rc = exec_new(g, EXEC_INFER, BN_BATCH, w->taps, w->n_site, &e)) < 0)
        goto out;
    for (int64_t i = 0; i < n; i += BN_BATCH) {
        const int64_t m = n - i < BN_BATCH ? n - i : BN_BATCH;
        if ((rc = exec_infer(e, pixels + i * elems, m, 0, w->before + i * k)) < 0)
            goto out;
#pragma omp parallel for schedule(static)
        for (int32_t s = 0; s < w->n_site; s++)
            site_add(&w->site[s], exec_tap(e, w->site[s].out), m);
    }
out:
    exec_free(e);
    return rc;
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
    struct exec *e = NULL;
    double diff = 0, largest = 0;
    int rc;

    if ((rc = exec_new(g, EXEC_INFER, BN_BATCH, NULL, 0, &e)) < 0 ||
        (rc = exec_infer(e, pixels, n, 0, w->after)) < 0)
        goto out;
    for (int64_t i = 0; i < count; i++) {
        double d = fabs((double)w->after[i] - w->before[i]), a = fabs(w->before[i]);
        diff = d > diff || isnan(d) ? d : diff;
        largest = a > largest ? a : largest;
    }
    *max_rel = diff > 0 ? diff / largest : diff;
    if (!(diff <= BN_TOLERANCE * largest))
        rc = fail(ERR_VERIFY,
                  "batch-norm re-insertion moved the logits by %g of %g (%" PRId64
                  " images), at most %g relative is allowed",
                  diff, largest, n, BN_TOLERANCE);
out:
    exec_free(e);
    return rc;
}

int bn_insert(struct graph *g, const float *pixels, int64_t n, struct bn_report *report)
{
    struct bn_work w = {.n_site = pass_batchnorm_sites(g, NULL, 0)};
    struct bn_report r = {.sites = w.n_site};
    int rc = 0;

    if (n < 1)
        return fail(ERR_ARG, "batch-norm re-insertion needs at least one image");
    if (w.n_site > 0 &&
        ((rc = work_init(&w, g, n)) < 0 || (rc = measure(g, pixels, n, &w)) < 0 ||
         (rc = insert(g, n, &w)) < 0 || (rc = compare(g, pixels, n, &w, &r.max_rel_diff)) < 0))
        goto out;
    if (report != NULL)
        *report = r;
out:
    arena_free(w.arena);
    return rc;
}
