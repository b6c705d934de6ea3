/* Measuring for the score `residual`; see mask_residual.h. */
#include "pipeline/mask_residual.h"

#include <string.h>

#include "core/base/ranks.h"
#include "core/exec/exec.h"
#include "core/graph/rng.h"

#define STREAM 1 /* of RNG_MASK; 0 are random first masks */

struct pass { /* what is held while images go through */
    const struct residual_measure *m;
    struct exec *e;
    value_id *tap; /* [2 n_site]: what enters the sites, what they give */
    float *pixels, *logits, *v;
    double *sums;
    int64_t n; /* images of the running pass */
};

static void pass_close(struct pass *p)
{
    exec_free(p->e);
    mem_free(p->tap);
    mem_free(p->pixels);
    mem_free(p->logits);
    mem_free(p->v);
}

static int pass_open(struct pass *p, int64_t batch)
{
    const struct residual_measure *m = p->m;
    const struct graph *g = m->g;
    const size_t k = (size_t)shape_elems(&g->value[g->output].shape);
    const size_t n = (size_t)m->n_site;

    p->tap = mem_array(2 * n + 1, sizeof *p->tap);
    p->pixels =
        mem_aligned((size_t)(batch * shape_elems(&g->value[g->input].shape)), sizeof *p->pixels);
    p->logits = mem_aligned((size_t)batch * k, sizeof *p->logits);
    p->v = mem_aligned((size_t)batch * k, sizeof *p->v);
    if (!p->tap || !p->pixels || !p->logits || !p->v)
        return ERR_NOMEM;
    for (size_t s = 0; s < n; s++) {
        p->tap[s] = m->site[s].x;
        p->tap[n + s] = m->site[s].y;
    }
    const struct exec_opts o = {.taps = p->tap, .n_taps = 2 * m->n_site};
    return exec_new(m->g, EXEC_TRAIN, batch, &o, &p->e);
}

/* This rank's images, after those of lower ranks. */
static void add_sites(void *ctx, void *sums)
{
    const struct pass *p = ctx;
    const struct residual_measure *m = p->m;
    int64_t first, here;

    exec_share(p->e, p->n, &first, &here);
    for (int32_t s = 0; s < m->n_site; s++)
        residual_add(m->g, &m->site[s], here, exec_tap(p->e, m->site[s].x),
                     exec_tap_grad(p->e, m->site[s].y), 1, sums);
}

/* A standard normal number for every logit of images [first, first + n). */
static void draw(const struct residual_measure *m, int64_t first, int64_t n, float *v)
{
    const int64_t k = shape_elems(&m->g->value[m->g->output].shape);

    for (int64_t i = 0; i < n; i++) {
        struct rng r = rng_at(m->seed, RNG_MASK, STREAM, (uint64_t)(first + i));

        for (int64_t j = 0; j < k; j++)
            v[i * k + j] = rng_normal(&r);
    }
}

static int run_pass(struct pass *p, int64_t first, int64_t n, size_t bytes)
{
    const struct residual_measure *m = p->m;

    p->n = n;
    TRY(data_images(m->data, first, n, first + n, p->pixels));
    TRY(exec_train_forward(p->e, p->pixels, n, 0, false, p->logits));
    draw(m, first, n, p->v);
    TRY(exec_train_backward(p->e, p->v, NULL, NULL, NULL));
    TRY(ranks_chain_put(m->chain, p->sums, bytes, add_sites, p));
    ranks_chain_finish(m->chain);
    return 0;
}

int residual_measure(const struct residual_measure *m, double *sums, int64_t *images)
{
    const int64_t n = m->images < m->data->n ? m->images : m->data->n;
    const int64_t batch = m->batch < n ? m->batch : n;
    SCOPED(pass_close) struct pass p = {.m = m, .sums = sums};
    size_t positions = 0;

    for (int32_t s = 0; s < m->n_site; s++)
        positions += (size_t)m->site[s].total;
    const size_t bytes = positions * RESIDUAL_SUMS * sizeof *sums;
    memset(sums, 0, bytes);
    TRY(pass_open(&p, batch));
    for (int64_t i = 0; i < n; i += batch)
        TRY(run_pass(&p, i, batch < n - i ? batch : n - i, bytes));
    *images = n;
    return 0;
}
