/*
 * Accuracies: clean, under PGD, under corruptions.
 *
 * Images go through in batches; an attack works only on the images of a batch that are still
 * correct, gathered into a dense block. Starts are keyed by the image's index in the data set, so
 * neither the batch size nor the other images matter.
 */
#include "trainer/eval.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "trainer/loss.h"
#include "trainer/stats.h"

#define EVAL_BATCH 256

struct evaluator {
    struct graph *g;
    const struct dataset *d;
    const struct eval_options *opt;
    int64_t n, batch, elems, k;
    int64_t done, all; /* work, in forward passes of one image */
    struct exec *infer, *gradient;
    float *pixels, *chosen, *adv, *grad; /* [batch][elems] */
    float *logits;                       /* [batch][k] */
    int32_t *labels;                     /* [batch] of chosen */
    int64_t *sample;                     /* [batch] of chosen */
    bool *alive;                         /* [batch] still correct */
    bool *correct;                       /* [n] when clean, for the branch in work */
    enum corrupt_type types[CORRUPT_N];
    int32_t n_types, severities; /* bit s-1: severity s */
    uint8_t *bytes;              /* [batch][2][elems] */
    int *codes;                  /* [batch] what corrupt_apply returned */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t eval_count_correct(const float *logits, const int32_t *labels, int64_t n, int64_t classes)
{
    return loss_correct(logits, labels, n, classes);
}

static int fits(const struct graph *g, const struct dataset *d)
{
    const struct shape *in = &g->value[g->input].shape, *out = &g->value[g->output].shape;

    if (in->rank != 4)
        return fail(ERR_UNSUPPORTED, "the network's input has rank %d, expected [N,C,H,W]",
                    (int)in->rank);
    return data_check(d, in->dim[1], in->dim[2], in->dim[3], shape_elems(out));
}

static void load(const struct dataset *d, int64_t first, int64_t n, int64_t elems, float *pixels)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        data_image(d, first + i, pixels + i * elems);
}

static void score_finish(struct eval_score *s)
{
    s->accuracy = (double)s->correct / (double)s->n;
    stats_wilson(s->correct, s->n, &s->lo, &s->hi);
}

/* ---- the evaluator --------------------------------------------------------------------------- */

static void evaluator_release(struct evaluator *v)
{
    exec_free(v->infer);
    exec_free(v->gradient);
    mem_free(v->pixels);
    mem_free(v->chosen);
    mem_free(v->adv);
    mem_free(v->grad);
    mem_free(v->logits);
    mem_free(v->labels);
    mem_free(v->sample);
    mem_free(v->alive);
    mem_free(v->correct);
    mem_free(v->bytes);
    mem_free(v->codes);
}

static int64_t attack_cost(const struct pgd_params *p)
{
    return (int64_t)p->restarts * (2 * (int64_t)p->steps + 1);
}

static int64_t total_cost(const struct evaluator *v)
{
    const struct eval_options *opt = v->opt;
    int64_t cost = 1;

    for (int32_t a = 0; a < opt->n_attack; a++)
        cost += attack_cost(&opt->attack[a]);
    for (int s = 0; s < CORRUPT_SEVERITIES; s++)
        cost += (v->severities >> s & 1) * v->n_types;
    return cost * v->n * (opt->bank[0] + opt->bank[1]);
}

static int allocate(struct evaluator *v)
{
    const size_t batch = (size_t)v->batch, floats = batch * (size_t)v->elems;

    v->pixels = mem_aligned(floats, sizeof *v->pixels);
    v->logits = mem_aligned(batch * (size_t)v->k, sizeof *v->logits);
    v->correct = mem_array((size_t)v->n, sizeof *v->correct);
    if (!v->pixels || !v->logits || !v->correct)
        return ERR_NOMEM;
    TRY(exec_new(v->g, EXEC_INFER, v->batch, NULL, 0, &v->infer));
    if (v->n_types > 0) {
        v->bytes = mem_array(2 * floats, sizeof *v->bytes);
        v->codes = mem_array(batch, sizeof *v->codes);
        if (!v->bytes || !v->codes)
            return ERR_NOMEM;
    }
    if (v->opt->n_attack == 0)
        return 0;
    v->chosen = mem_aligned(floats, sizeof *v->chosen);
    v->adv = mem_aligned(floats, sizeof *v->adv);
    v->grad = mem_aligned(floats, sizeof *v->grad);
    v->labels = mem_array(batch, sizeof *v->labels);
    v->sample = mem_array(batch, sizeof *v->sample);
    v->alive = mem_array(batch, sizeof *v->alive);
    if (!v->chosen || !v->adv || !v->grad || !v->labels || !v->sample || !v->alive)
        return ERR_NOMEM;
    return exec_new(v->g, EXEC_INPUT_GRAD, v->batch, NULL, 0, &v->gradient);
}

static int evaluator_init(struct evaluator *v, struct graph *g, const struct dataset *d,
                          const struct eval_options *opt)
{
    TRY(fits(g, d));
    *v = (struct evaluator){.g = g, .d = d, .opt = opt};
    v->n = opt->limit > 0 ? min64(opt->limit, d->n) : d->n;
    v->batch = min64(opt->batch > 0 ? opt->batch : EVAL_BATCH, v->n);
    v->elems = shape_elems(&g->value[g->input].shape);
    v->k = shape_elems(&g->value[g->output].shape);
    if (opt->corruptions != NULL) {
        TRY(eval_corruption_types(opt->corruptions, v->types, &v->n_types));
        v->severities = opt->severities != 0 ? opt->severities : (1 << CORRUPT_SEVERITIES) - 1;
    }
    if (v->n_types > 0 && d->channels != 3)
        return fail(ERR_ARG, "corruptions work on 3 channels, %s has %d", d->source, d->channels);
    v->all = total_cost(v);
    return allocate(v);
}

static int report(struct evaluator *v, int64_t work)
{
    v->done += work;
    return v->opt->progress != NULL ? v->opt->progress(v->opt->ctx, v->done, v->all) : 0;
}

/* ---- clean and attacked ---------------------------------------------------------------------- */

static int run_clean(struct evaluator *v, struct eval_branch *b)
{
    b->clean.n = v->n;
    for (int64_t i = 0; i < v->n; i += v->batch) {
        const int64_t m = min64(v->batch, v->n - i);
        load(v->d, i, m, v->elems, v->pixels);
        TRY(exec_infer(v->infer, v->pixels, m, b->bank, v->logits));
        for (int64_t j = 0; j < m; j++) {
            v->correct[i + j] = loss_argmax(v->logits + j * v->k, v->k) == v->d->labels[i + j];
            b->clean.correct += v->correct[i + j];
        }
        TRY(report(v, m));
    }
    score_finish(&b->clean);
    return 0;
}

/* Copies the images of the batch that are alive to the front of `chosen`; returns how many. */
static int64_t gather(struct evaluator *v, int64_t first, int64_t m)
{
    int64_t n = 0;

    for (int64_t j = 0; j < m; j++) {
        if (!v->alive[j])
            continue;
        memcpy(v->chosen + n * v->elems, v->pixels + j * v->elems,
               (size_t)v->elems * sizeof(float));
        v->labels[n] = v->d->labels[first + j];
        v->sample[n++] = first + j;
    }
    return n;
}

/* One restart on the images [first, first + m); those that fall are no longer alive. */
static int attack_batch(struct evaluator *v, const struct pgd_params *p, uint32_t restart, int bank,
                        int64_t first, int64_t m)
{
    const int64_t n = gather(v, first, m);
    const struct pgd_target target = {.labels = v->labels};
    const struct pgd_key key = {v->opt->seed, RNG_ATTACK, 0, restart, v->sample};

    if (n == 0)
        return 0;
    TRY(pgd_attack(v->gradient, v->g, p, &target, &key, v->chosen, n, bank, v->grad, v->adv));
    TRY(exec_infer(v->infer, v->adv, n, bank, v->logits));
    for (int64_t j = 0; j < n; j++)
        v->alive[v->sample[j] - first] = loss_argmax(v->logits + j * v->k, v->k) == v->labels[j];
    return 0;
}

static int run_attack(struct evaluator *v, int bank, struct eval_attack *a)
{
    a->score.n = v->n;
    for (int64_t i = 0; i < v->n; i += v->batch) {
        const int64_t m = min64(v->batch, v->n - i);
        load(v->d, i, m, v->elems, v->pixels);
        memcpy(v->alive, v->correct + i, (size_t)m * sizeof *v->alive);
        for (int32_t r = 0; r < a->pgd.restarts; r++)
            TRY(attack_batch(v, &a->pgd, (uint32_t)r, bank, i, m));
        for (int64_t j = 0; j < m; j++)
            a->score.correct += v->alive[j];
        TRY(report(v, m * attack_cost(&a->pgd)));
    }
    score_finish(&a->score);
    return 0;
}

/* ---- corruptions ----------------------------------------------------------------------------- */

static int parse_types(char *list, enum corrupt_type types[CORRUPT_N], int32_t *n)
{
    for (char *next, *word = list; word != NULL; word = next) {
        if ((next = strchr(word, ',')) != NULL)
            *next++ = '\0';
        if (*n == CORRUPT_N)
            return fail(ERR_ARG, "corruptions: more than %d in the list", CORRUPT_N);
        TRY(corrupt_parse(word, &types[*n]));
        if (!corrupt_is_supported(types[*n]))
            return fail(ERR_ARG, "corruptions: '%s' is not in this version", word);
        ++*n;
    }
    return 0;
}

int eval_corruption_types(const char *list, enum corrupt_type types[CORRUPT_N], int32_t *n)
{
    *n = 0;
    if (list != NULL && strcmp(list, "all") != 0) {
        char *copy = mem_strdup(list);
        int rc = copy != NULL ? parse_types(copy, types, n) : ERR_NOMEM;
        mem_free(copy);
        return rc;
    }
    for (int t = 0; t < CORRUPT_N_STANDARD; t++)
        if (corrupt_is_supported((enum corrupt_type)t))
            types[(*n)++] = (enum corrupt_type)t;
    return 0;
}

static int corrupt_image(struct evaluator *v, enum corrupt_type type, int severity, int64_t first,
                         int64_t j)
{
    const uint32_t kind = (uint32_t)type * 8 + (uint32_t)severity;
    struct rng r = rng_at(v->opt->seed, RNG_CORRUPT, kind, (uint64_t)(first + j));
    uint8_t *from = v->bytes + 2 * j * v->elems, *to = from + v->elems;
    float *pixels = v->pixels + j * v->elems;

    data_image_u8(v->d, first + j, from);
    TRY(corrupt_apply(type, severity, from, v->d->height, v->d->width, &r, to));
    for (int64_t i = 0; i < v->elems; i++)
        pixels[i] = (float)to[i] / 255;
    return 0;
}

static int run_severity(struct evaluator *v, int bank, enum corrupt_type type, int severity,
                        struct eval_score *s)
{
    s->n = v->n;
    for (int64_t i = 0; i < v->n; i += v->batch) {
        const int64_t m = min64(v->batch, v->n - i);
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < m; j++)
            v->codes[j] = corrupt_image(v, type, severity, i, j);
        for (int64_t j = 0; j < m; j++)
            if (v->codes[j] < 0)
                return fail(v->codes[j], "corruption '%s' refused an image of %dx%d pixels",
                            corrupt_name(type), v->d->width, v->d->height);
        TRY(exec_infer(v->infer, v->pixels, m, bank, v->logits));
        s->correct += loss_correct(v->logits, v->d->labels + i, m, v->k);
        TRY(report(v, m));
    }
    score_finish(s);
    return 0;
}

static int run_corruptions(struct evaluator *v, struct eval_branch *b)
{
    int64_t runs = 0;
    double sum = 0;

    for (int32_t t = 0; t < v->n_types; t++) {
        struct eval_corruption *c = &b->corruption[b->n_corruption++];
        c->type = corrupt_name(v->types[t]);
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++) {
            if (!(v->severities >> (s - 1) & 1))
                continue;
            TRY(run_severity(v, b->bank, v->types[t], s, &c->score[s - 1]));
            sum += c->score[s - 1].accuracy;
            runs++;
        }
    }
    b->corruption_mean = runs > 0 ? sum / (double)runs : 0;
    return 0;
}

static int run_branch(struct evaluator *v, struct eval_branch *b)
{
    TRY(run_clean(v, b));
    for (int32_t i = 0; i < v->opt->n_attack; i++) {
        struct eval_attack *a = &b->attack[b->n_attack++];
        a->pgd = v->opt->attack[i];
        snprintf(a->name, sizeof a->name, "pgd-%d", (int)a->pgd.steps);
        TRY(run_attack(v, b->bank, a));
    }
    return run_corruptions(v, b);
}

static int check_options(const struct graph *g, const struct dataset *d,
                         const struct eval_options *opt)
{
    if (d->n < 1)
        return fail(ERR_DATA, "%s: no images in the split '%s'", d->source, d->split);
    if (!opt->bank[0] && !opt->bank[1])
        return fail(ERR_ARG, "evaluation: no branch was asked for");
    if (opt->bank[1] && graph_banks(g) < 2)
        return fail(ERR_ARG,
                    "evaluation: branch 'adv' was asked for, but the network has %d "
                    "batch-norm branch(es)",
                    graph_banks(g));
    if (opt->n_attack > EVAL_MAX_ATTACKS)
        return fail(ERR_ARG, "evaluation: %d attacks, at most %d", (int)opt->n_attack,
                    EVAL_MAX_ATTACKS);
    return 0;
}

int eval_run(struct graph *g, const struct dataset *d, const struct eval_options *opt,
             struct eval_result *out)
{
    struct evaluator v = {0};
    int rc;

    TRY(check_options(g, d, opt));
    memset(out, 0, sizeof *out);
    if ((rc = evaluator_init(&v, g, d, opt)) < 0)
        goto out;
    out->n = v.n;
    for (int bank = 0; bank < 2; bank++) {
        if (!opt->bank[bank])
            continue;
        struct eval_branch *b = &out->branch[out->n_branch++];
        b->bank = bank;
        if ((rc = run_branch(&v, b)) < 0)
            goto out;
    }
out:
    evaluator_release(&v);
    return rc;
}

/* ---- logits and walks ------------------------------------------------------------------------ */

int eval_walk(struct graph *g, const struct dataset *d, int64_t limit, int64_t batch, int bank,
              const value_id *taps, int32_t n_taps, eval_walk_fn *fn, void *ctx)
{
    const int64_t elems = shape_elems(&g->value[g->input].shape);
    const int64_t k = shape_elems(&g->value[g->output].shape);
    const int64_t n = limit > 0 ? min64(limit, d->n) : d->n;
    struct exec *e = NULL;
    float *pixels = NULL, *logits = NULL;
    int rc;

    if ((rc = fits(g, d)) < 0 || (rc = exec_new(g, EXEC_INFER, batch, taps, n_taps, &e)) < 0)
        goto out;
    pixels = mem_aligned((size_t)(batch * elems), sizeof *pixels);
    logits = mem_aligned((size_t)(batch * k), sizeof *logits);
    if (pixels == NULL || logits == NULL) {
        rc = ERR_NOMEM;
        goto out;
    }
    for (int64_t i = 0; i < n; i += batch) {
        const int64_t m = min64(batch, n - i);
        load(d, i, m, elems, pixels);
        if ((rc = exec_infer(e, pixels, m, bank, logits)) < 0 ||
            (rc = fn(ctx, e, i, m, logits, d->labels + i)) < 0)
            goto out;
    }
out:
    exec_free(e);
    mem_free(pixels);
    mem_free(logits);
    return rc;
}

struct logits_context {
    float *to;
    int64_t k;
};

static int copy_logits(void *ctx, const struct exec *e, int64_t first, int64_t n,
                       const float *logits, const int32_t *labels)
{
    const struct logits_context *c = ctx;

    (void)e;
    (void)labels;
    memcpy(c->to + first * c->k, logits, (size_t)(n * c->k) * sizeof *logits);
    return 0;
}

int eval_logits(struct graph *g, const struct dataset *d, int64_t n, int bank, float *logits)
{
    struct logits_context c = {logits, shape_elems(&g->value[g->output].shape)};

    if (n < 1 || n > d->n)
        return fail(ERR_ARG, "logits of %" PRId64 " images, the set has %" PRId64, n, d->n);
    return eval_walk(g, d, n, min64(n, EVAL_BATCH), bank, NULL, 0, copy_logits, &c);
}
