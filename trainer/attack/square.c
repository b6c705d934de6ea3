/*
 * Square attack in the L-infinity box: Andriushchenko, Croce, Flammarion and Hein, "Square attack: a
 * query-efficient black-box adversarial attack via random search", ECCV 2020, as AutoAttack runs it.
 *
 *     start     every column of every channel by +eps or -eps (vertical stripes)
 *     query i   a square of side sqrt(p_i h w) at a random place: there each channel of the best point
 *               moves by +-2 eps and is projected onto the box and onto [0,1]; elsewhere nothing moves
 *     accept    where the margin z_y - max other has become smaller
 *
 * p_i is p_init halved after queries 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000, whatever the
 * number of queries. A move of 2 eps reaches the other border of the box from either one, and all
 * points that are proposed lie on borders (or at 0 or 1).
 *
 * Invariants: best point and margin are kept per image and the margin never rises; an image whose
 * margin is not positive is broken and leaves. Rows 0 ... n-1 are those in work; one that leaves is
 * overwritten by the last, so loops that may drop rows run from the back.
 *
 * Quirks of the published code that are kept: square and signs are drawn once a query for the whole
 * batch (per_image draws them for each image, then results do not depend on the batch), and the last
 * place of a square is never drawn: rows are uniform in 0 ... H - side - 1.
 */
#include "trainer/attack/square.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/graph/rng.h"
#include "trainer/attack/spec.h"

#define MOST_CHANNELS GRAPH_MAX_CHANNELS_NORM

static struct square_params params_of(const struct attack_stage *s)
{
    return (struct square_params){.eps = s->eps,
                                  .queries = attack_stage_count(s, "steps"),
                                  .restarts = attack_stage_count(s, "restarts"),
                                  .p_init = attack_stage_get(s, "p_init"),
                                  .per_image = attack_stage_get(s, "draws") != 0};
}

int32_t square_side(double p_init, int32_t i, int64_t h, int64_t w)
{
    static const int32_t threshold[] = {10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000};
    const int64_t most = h < w ? h : w;
    double p = p_init;
    int64_t side;

    for (size_t t = 0; t < sizeof threshold / sizeof threshold[0]; t++)
        if (i > threshold[t])
            p /= 2;
    side = (int64_t)nearbyint(sqrt(p * (double)(h * w)));
    side = side < 1 ? 1 : side;
    return (int32_t)(side < most ? side : most);
}

struct search { /* rows 0 ... n-1 of every block are in work */
    struct attack_model *m;
    struct attack_batch *b;
    const struct square_params *p;
    int64_t n, c, h, w, elems;
    float *clean, *best, *candidate; /* [n][elems] */
    float *z;                        /* [n][k] */
    double *margin;                  /* [n] */
    int32_t *label;                  /* [n] */
    int64_t *image;                  /* [n] row -> image of b */
    struct rng *draws;               /* [n] with per_image */
    struct rng shared;
};

struct patch {
    int64_t side, row, column;
    float by[MOST_CHANNELS]; /* +-2 eps */
};

static int search_init(struct search *s, struct arena *a, struct attack_model *m,
                       const struct square_params *p, struct attack_batch *b)
{
    const struct shape *in = &m->g->value[m->g->input].shape;
    const size_t n = (size_t)b->n, pixels = n * (size_t)m->elems;

    *s = (struct search){.m = m, .b = b, .p = p, .elems = m->elems};
    s->c = in->dim[1], s->h = in->dim[2], s->w = in->dim[3];
    if (s->c > MOST_CHANNELS)
        return fail(ERR_UNSUPPORTED, "square: %d channels, at most %d", (int)s->c, MOST_CHANNELS);
    s->clean = arena_array(a, pixels, sizeof(float));
    s->best = arena_array(a, pixels, sizeof(float));
    s->candidate = arena_array(a, pixels, sizeof(float));
    s->z = arena_array(a, n * (size_t)m->classes, sizeof(float));
    s->margin = arena_array(a, n, sizeof *s->margin);
    s->label = arena_array(a, n, sizeof *s->label);
    s->image = arena_array(a, n, sizeof *s->image);
    s->draws = arena_array(a, n, sizeof *s->draws);
    return arena_status(a);
}

static void gather(struct search *s, int32_t run)
{
    s->n = 0;
    s->shared = attack_rng(s->b, ATTACK_ID_SQUARE_DRAWS, s->b->group, run);
    for (int64_t i = 0; i < s->b->n; i++) {
        if (s->b->broken[i])
            continue;
        attack_copy_row(s->clean, s->n, s->b->pixels, i, s->elems);
        s->label[s->n] = s->b->label[i];
        s->draws[s->n] = attack_rng(s->b, ATTACK_ID_SQUARE, s->b->sample[i], run);
        s->image[s->n++] = i;
    }
}

static double margin_of(const float *z, int64_t k, int32_t label)
{
    double other = -INFINITY;

    for (int64_t i = 0; i < k; i++)
        if (i != label && (double)z[i] > other)
            other = (double)z[i];
    return (double)z[label] - other;
}

/* The row has been misclassified at `at`. */
static void fall(struct search *s, int64_t i, const float *at)
{
    const int64_t j = s->n - 1, image = s->image[i];

    attack_copy_row(s->b->adv, image, at, i, s->elems);
    s->b->broken[image] = 1;
    attack_copy_row(s->clean, i, s->clean, j, s->elems);
    attack_copy_row(s->best, i, s->best, j, s->elems);
    s->margin[i] = s->margin[j];
    s->label[i] = s->label[j];
    s->image[i] = s->image[j];
    s->draws[i] = s->draws[j];
    s->n = j;
}

/* Signs per channel and column. */
static void stripes(struct search *s, int64_t i)
{
    const float *clean = s->clean + i * s->elems, eps = (float)s->p->eps;
    float *x = s->candidate + i * s->elems;

    for (int64_t c = 0; c < s->c; c++)
        for (int64_t col = 0; col < s->w; col++) {
            const float by = rng_below(&s->draws[i], 2) ? eps : -eps;
            for (int64_t row = 0; row < s->h; row++) {
                const int64_t j = (c * s->h + row) * s->w + col;
                x[j] = attack_clip(clean[j] + by, 0, 1);
            }
        }
}

static void draw_patch(const struct search *s, int32_t query, struct rng *r, struct patch *t)
{
    t->side = square_side(s->p->p_init, query, s->h, s->w);
    t->row = s->h > t->side ? rng_below(r, (uint32_t)(s->h - t->side)) : 0;
    t->column = s->w > t->side ? rng_below(r, (uint32_t)(s->w - t->side)) : 0;
    for (int64_t c = 0; c < s->c; c++)
        t->by[c] = (rng_below(r, 2) ? 2 : -2) * (float)s->p->eps;
}

static void paint(struct search *s, const struct patch *t, int64_t i)
{
    const float *clean = s->clean + i * s->elems, eps = (float)s->p->eps;
    float *x = s->candidate + i * s->elems;

    attack_copy_row(s->candidate, i, s->best, i, s->elems);
    for (int64_t c = 0; c < s->c; c++)
        for (int64_t row = t->row; row < t->row + t->side; row++)
            for (int64_t col = t->column; col < t->column + t->side; col++) {
                const int64_t j = (c * s->h + row) * s->w + col;
                const float v = attack_clip(x[j] + t->by[c], clean[j] - eps, clean[j] + eps);
                x[j] = attack_clip(v, 0, 1);
            }
}

static void propose(struct search *s, int32_t query)
{
    struct patch shared = {0};

    if (!s->p->per_image)
        draw_patch(s, query, &s->shared, &shared);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->n; i++) {
        struct patch own = shared;
        if (s->p->per_image)
            draw_patch(s, query, &s->draws[i], &own);
        paint(s, &own, i);
    }
}

/* Takes the candidates that are better (all of them where `always`). */
static int accept(struct search *s, bool always)
{
    const int64_t k = s->m->classes;

    TRY(attack_logits(s->m, s->candidate, s->n, s->z));
    for (int64_t i = s->n - 1; i >= 0; i--) { /* from the back: a row that falls is replaced */
        const double margin = margin_of(s->z + i * k, k, s->label[i]);
        if (attack_is_wrong(s->z + i * k, k, s->label[i])) {
            fall(s, i, s->candidate);
            continue;
        }
        if (always || margin < s->margin[i] || margin <= 0) {
            attack_copy_row(s->best, i, s->candidate, i, s->elems);
            s->margin[i] = margin;
        }
    }
    return 0;
}

static int search_run(struct search *s, int32_t run)
{
    gather(s, run);
    if (s->n == 0)
        return 0;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < s->n; i++)
        stripes(s, i);
    TRY(accept(s, true));
    for (int32_t q = 0; q < s->p->queries && s->n > 0; q++) {
        propose(s, q);
        TRY(accept(s, false));
    }
    return 0;
}

int square_attack(struct attack_model *m, const struct square_params *p, struct attack_batch *b)
{
    SCOPED(arena_free_at) struct arena *arena = NULL;
    struct search s;

    TRY(arena_new(0, &arena));
    TRY(search_init(&s, arena, m, p, b));
    for (int32_t run = 0; run < p->restarts; run++)
        TRY(search_run(&s, run));
    return 0;
}

/* ---- as an attack with a name ---------------------------------------------------------------- */

static int run_type(struct attack_model *m, const struct attack_stage *s, int32_t restart,
                    struct attack_batch *b, float *grad)
{
    const struct square_params p = params_of(s);

    (void)restart, (void)grad;
    return square_attack(m, &p, b);
}

static int64_t cost(const struct attack_stage *s, int64_t classes)
{
    const struct square_params p = params_of(s);

    (void)classes;
    return p.restarts * ((int64_t)p.queries + 1) + 1;
}

const struct attack_type attack_type_square = {
    .key = {{"steps", ATTACK_COUNT, 5000, 1, SQUARE_MAX_QUERIES, {0}},
            {"restarts", ATTACK_COUNT, 1, 1, 1000, {0}},
            {"p_init", ATTACK_REAL, 0.8, 0.001, 1, {0}},
            {"draws", ATTACK_CHOICE, 0, 0, 1, {"shared", "image"}},
            {0}},
    .run = run_type,
    .cost = cost,
};
