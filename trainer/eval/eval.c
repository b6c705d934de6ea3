/*
 * Accuracies: clean, under attack, under corruptions. Several ranks (core/base/ranks.h) take batches in turn
 * and count together; an image has the same bits in every batch and rank, among however many others (EXEC_BATCH).
 *
 * Images go through in batches. Attacks are run by autoattack.c on the images that are correct when
 * clean; their random numbers are keyed by the image's index in the data set. Work is counted in
 * forward passes of one image; an attack that ends early jumps to where it was planned to end.
 */
#include "trainer/eval/eval.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/minmax.h"
#include "core/base/ranks.h"
#include "trainer/corrupt/set.h"
#include "trainer/loss.h"
#include "trainer/eval/stats.h"

#define ATTACK_BATCH 250 /* as in the published driver */

struct evaluator {
    struct graph *g;
    const struct dataset *d;
    const struct eval_options *opt;
    int64_t n, batch, elems, k;
    int64_t done, all; /* work, in forward passes of one image */
    int64_t planned;   /* where `done` may be at most before the next batch of an attack */
    struct exec *infer;
    int64_t inferred; /* images through it */
    float *pixels;    /* [batch][elems] */
    float *logits;    /* [batch][k] */
    uint8_t *correct; /* [n] when clean, for the branch in work */
    uint8_t *robust;  /* [n] under the attack in work */
    struct attack_model *model;
    enum corrupt_type types[CORRUPT_N];
    int32_t n_types, severities[CORRUPT_N]; /* of a type, bit s-1: severity s */
    struct arena *arena;                    /* of the blocks */
    uint8_t *bytes;                         /* [batch][2][elems] */
    int *codes;                             /* [batch] what corrupt_apply returned */
};

static int fits(const struct graph *g, const struct dataset *d)
{
    const struct shape *in = &g->value[g->input].shape, *out = &g->value[g->output].shape;

    if (in->rank != 4)
        return fail(ERR_UNSUPPORTED, "the network's input has rank %d, expected [N,C,H,W]",
                    (int)in->rank);
    return data_check(d, in->dim[1], in->dim[2], in->dim[3], shape_elems(out));
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
    attack_model_free(v->model);
    arena_free(v->arena);
}

static int32_t count_attacks(const struct eval_options *opt)
{
    return opt->n_attack + opt->n_specs;
}

static struct attack_spec spec_of(const struct eval_options *opt, int32_t attack)
{
    return attack < opt->n_attack ? attack_spec_pgd(&opt->attack[attack])
                                  : opt->specs[attack - opt->n_attack];
}

static int64_t attack_cost(const struct evaluator *v, int32_t attack)
{
    const struct attack_spec spec = spec_of(v->opt, attack);
    int64_t cost = 0;

    for (int32_t s = 0; s < spec.n_stage; s++)
        cost += attack_stage_cost(&spec.stage[s], v->k);
    return cost;
}

static int64_t total_cost(const struct evaluator *v)
{
    const struct eval_options *opt = v->opt;
    int64_t cost = 1;

    for (int32_t a = 0; a < count_attacks(opt); a++)
        cost += attack_cost(v, a);
    for (int32_t t = 0; t < v->n_types; t++)
        for (int s = 0; s < CORRUPT_SEVERITIES; s++)
            cost += v->severities[t] >> s & 1;
    return cost * v->n * (opt->branch[0] + opt->branch[1]);
}

static int allocate(struct evaluator *v)
{
    const size_t batch = (size_t)v->batch, floats = batch * (size_t)v->elems;

    TRY(arena_new(0, &v->arena));
    v->pixels = arena_array(v->arena, floats, sizeof *v->pixels);
    v->logits = arena_array(v->arena, batch * (size_t)v->k, sizeof *v->logits);
    v->correct = arena_array(v->arena, (size_t)v->n, sizeof *v->correct);
    v->robust = arena_array(v->arena, (size_t)v->n, sizeof *v->robust);
    v->bytes = arena_array(v->arena, v->n_types > 0 ? 2 * floats : 0, sizeof *v->bytes);
    v->codes = arena_array(v->arena, v->n_types > 0 ? batch : 0, sizeof *v->codes);
    TRY(arena_status(v->arena));
    const struct exec_opts o = {.precision = v->opt->precision,
                                .held = min_i64(v->batch, EXEC_BATCH),
                                .beside = v->opt->beside};

    return exec_new(v->g, EXEC_INFER, EXEC_BATCH, &o, &v->infer);
}

/* Standard types where none are named: of a folder those that it holds. */
static int choose_types(struct evaluator *v)
{
    const struct eval_options *opt = v->opt;
    int32_t n = 0;

    TRY(corrupt_types(opt->corruptions, opt->photos != NULL, opt->folder == NULL, v->types,
                      &v->n_types));
    if (opt->folder == NULL)
        return 0;
    for (int32_t t = 0; t < v->n_types; t++)
        if (corrupt_folder_has(opt->folder, v->types[t]))
            v->types[n++] = v->types[t];
    v->n_types = n;
    return n > 0 ? 0
                 : fail(ERR_DATA, "'%s': holds no corruption that was asked for, such as fog.npy",
                        opt->folder);
}

/* What was asked for, else all five, or those that the folder holds. */
static int choose_severities(struct evaluator *v)
{
    const struct eval_options *opt = v->opt;

    for (int32_t t = 0; t < v->n_types; t++) {
        v->severities[t] = opt->severities != 0 ? opt->severities : (1 << CORRUPT_SEVERITIES) - 1;
        if (opt->severities == 0 && opt->folder != NULL)
            TRY(corrupt_folder_severities(opt->folder, v->types[t], &v->severities[t]));
    }
    return 0;
}

static int evaluator_init(struct evaluator *v, struct graph *g, const struct dataset *d,
                          const struct eval_options *opt)
{
    TRY(fits(g, d));
    *v = (struct evaluator){.g = g, .d = d, .opt = opt};
    v->n = opt->limit > 0 ? min_i64(opt->limit, d->n) : d->n;
    v->batch = min_i64(opt->batch > 0 ? opt->batch : EXEC_BATCH, v->n);
    v->elems = shape_elems(&g->value[g->input].shape);
    v->k = shape_elems(&g->value[g->output].shape);
    if (opt->corruptions != NULL) {
        TRY(choose_types(v));
        TRY(choose_severities(v));
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

/* Logits of v->pixels. */
static int infer(struct evaluator *v, int64_t n, int branch)
{
    v->inferred += n;
    return exec_infer(v->infer, v->pixels, n, branch, v->logits);
}

static void add_profile(struct profile *p, const struct exec *e, int64_t images)
{
    if (p != NULL)
        profile_add(p, e, images);
}

/* ---- clean and attacked ---------------------------------------------------------------------- */

/* Does this rank work on the batch that begins with image i? */
static bool is_mine(const struct evaluator *v, int64_t i)
{
    return i / v->batch % ranks_count() == ranks_index();
}

/* Images that go through in the time of this rank's m. */
static int64_t all_ranks(const struct evaluator *v, int64_t i, int64_t m)
{
    return min_i64(m * ranks_count(), v->n - i);
}

static int classify_own(struct evaluator *v, int branch)
{
    memset(v->correct, 0, (size_t)v->n);
    for (int64_t i = 0; i < v->n; i += v->batch) {
        const int64_t m = min_i64(v->batch, v->n - i);

        if (!is_mine(v, i))
            continue;
        TRY(data_images(v->d, i, m, i + m * ranks_count(), v->pixels));
        TRY(infer(v, m, branch));
        for (int64_t j = 0; j < m; j++)
            v->correct[i + j] = loss_argmax(v->logits + j * v->k, v->k) == v->d->labels[i + j];
        TRY(report(v, all_ranks(v, i, m)));
    }
    return 0;
}

static int run_clean(struct evaluator *v, struct eval_branch *b)
{
    TRY(ranks_agree(classify_own(v, b->branch)));
    ranks_most(v->correct, (size_t)v->n);
    b->clean.n = v->n;
    b->n_class = v->k <= EVAL_MAX_CLASSES ? (int32_t)v->k : 0;
    for (int64_t i = 0; i < v->n; i++) {
        b->clean.correct += v->correct[i];
        if (b->n_class > 0) {
            b->class_n[v->d->labels[i]]++;
            b->class_correct[v->d->labels[i]] += v->correct[i];
        }
    }
    score_finish(&b->clean);
    return 0;
}

static int on_tick(void *ctx, int64_t forwards)
{
    struct evaluator *v = ctx;

    return report(v, min_i64(forwards * ranks_count(), v->planned - v->done));
}

struct save_context {
    struct evaluator *v;
    int branch;
    int32_t attack;
    int64_t before; /* v->done when the attack began */
    const struct attack_spec *spec;
};

/* Progress: where the plan is after what p says is done, and one more batch. */
static void move_plan(const struct save_context *c, const struct attack_progress *p)
{
    struct evaluator *v = c->v;
    int64_t done = 0;

    for (int32_t s = 0; s < p->stage; s++)
        done += attack_stage_cost(&c->spec->stage[s], v->k) * p->n;
    v->planned = v->done = c->before + done;
    if (p->stage < c->spec->n_stage) {
        const int64_t cost = attack_stage_cost(&c->spec->stage[p->stage], v->k);
        v->done += cost * p->next;
        v->planned = v->done + cost * min_i64(v->model->batch * ranks_count(), p->n - p->next);
    }
}

static int on_save(void *ctx, const struct attack_progress *p)
{
    const struct save_context *c = ctx;
    const struct eval_options *opt = c->v->opt;

    move_plan(c, p);
    if (opt->attack_save != NULL)
        TRY(opt->attack_save(opt->ctx, c->branch, c->attack, p));
    return report(c->v, 0);
}

static int run_attack(struct evaluator *v, int branch, int32_t attack, struct eval_attack *a)
{
    struct attack_progress p = {.n = v->n, .robust = v->robust};
    struct save_context c = {.v = v, .branch = branch, .attack = attack, .before = v->done};
    const struct attack_job job = {v->model, v->d, v->opt->seed, &a->spec, &c, on_save};

    a->spec = spec_of(v->opt, attack);
    c.spec = &a->spec;
    memcpy(v->robust, v->correct, (size_t)v->n);
    if (v->opt->attack_load != NULL)
        TRY(v->opt->attack_load(v->opt->ctx, branch, attack, &p));
    move_plan(&c, &p);
    TRY(autoattack_run(&job, &p));
    a->score.n = v->n;
    for (int64_t i = 0; i < v->n; i++)
        a->score.correct += v->robust[i];
    memcpy(a->robust_after, p.robust_after, sizeof a->robust_after);
    a->square_gains = autoattack_square_gains(&a->spec, &p);
    score_finish(&a->score);
    return 0;
}

static int run_attacks(struct evaluator *v, struct eval_branch *b)
{
    const int64_t batch = v->opt->batch > 0 ? v->opt->batch : ATTACK_BATCH;

    if (count_attacks(v->opt) == 0 && !v->opt->flags)
        return 0;
    TRY(attack_model_new(v->opt->beside, v->g, b->branch, v->opt->attacks, min_i64(batch, v->n),
                         &v->model));
    if (v->opt->flags)
        TRY(autoattack_flags(v->model, v->d, v->n, v->opt->seed, &b->flags));
    v->model->tick = on_tick;
    v->model->ctx = v;
    for (int32_t i = 0; i < count_attacks(v->opt); i++)
        TRY(run_attack(v, b->branch, i, &b->attack[b->n_attack++]));
    add_profile(v->opt->infer_profile, v->model->infer, v->model->inferred);
    add_profile(v->opt->gradient_profile, v->model->gradient, v->model->differentiated);
    attack_model_free(v->model);
    v->model = NULL;
    return 0;
}

/* ---- corruptions ----------------------------------------------------------------------------- */

static int corrupt_image(struct evaluator *v, enum corrupt_type type, int severity, int64_t first,
                         int64_t j)
{
    const struct corrupt_set set = {v->d, v->opt->photos, v->opt->seed};
    uint8_t *work = v->bytes + 2 * j * v->elems, *to = work + v->elems;
    float *pixels = v->pixels + j * v->elems;

    TRY(corrupt_set_image(&set, type, severity, first + j, work, to));
    for (int64_t i = 0; i < v->elems; i++)
        pixels[i] = (float)to[i] / 255;
    return 0;
}

static int draw(struct evaluator *v, enum corrupt_type type, int severity, int64_t first, int64_t n)
{
#pragma omp parallel for schedule(dynamic, 8)
    for (int64_t j = 0; j < n; j++)
        v->codes[j] = corrupt_image(v, type, severity, first, j);
    for (int64_t j = 0; j < n; j++)
        if (v->codes[j] < 0)
            return fail(v->codes[j], "corruption '%s' refused an image of %dx%d pixels",
                        corrupt_name(type), v->d->width, v->d->height);
    return 0;
}

/* The images in v->pixels through every branch: what number `c` of its corruptions gains. */
static int count_branches(struct evaluator *v, struct eval_result *r, int32_t c, int severity,
                          const int32_t *labels, int64_t n)
{
    for (int32_t b = 0; b < r->n_branch; b++) {
        struct eval_score *s = &r->branch[b].corruption[c].score[severity - 1];

        TRY(infer(v, n, r->branch[b].branch));
        s->n += n;
        s->correct += loss_correct(v->logits, labels, n, v->k);
        TRY(report(v, min_i64(n * ranks_count(), v->all - v->done)));
    }
    return 0;
}

static int run_drawn(struct evaluator *v, struct eval_result *r, int32_t c, int severity)
{
    for (int64_t i = 0; i < v->n; i += v->batch) {
        const int64_t m = min_i64(v->batch, v->n - i);

        if (!is_mine(v, i))
            continue;
        TRY(draw(v, v->types[c], severity, i, m));
        TRY(count_branches(v, r, c, severity, v->d->labels + i, m));
    }
    return 0;
}

/* One severity from files: their images and labels, whatever the data set holds. */
static int run_files(struct evaluator *v, struct eval_result *r, int32_t c, int severity)
{
    SCOPED(data_close_at) struct dataset *d = NULL;

    TRY(corrupt_folder_open(v->opt->folder, v->types[c], severity, &d));
    TRY(fits(v->g, d));
    const int64_t n = min_i64(v->n, d->n);
    for (int64_t i = 0; i < n; i += v->batch) {
        const int64_t m = min_i64(v->batch, n - i);

        if (!is_mine(v, i))
            continue;
        TRY(data_images(d, i, m, i + m * ranks_count(), v->pixels));
        TRY(count_branches(v, r, c, severity, d->labels + i, m));
    }
    return 0;
}

/* Mean over what was run. Its interval is that of its n images: the runs of one image are not
 * independent, so more runs make no more images. */
static void finish_corruptions(struct evaluator *v, struct eval_branch *b)
{
    int64_t runs = 0, n = v->n;
    double sum = 0;

    for (int32_t c = 0; c < b->n_corruption; c++)
        for (int s = 0; s < CORRUPT_SEVERITIES; s++) {
            struct eval_score *score = &b->corruption[c].score[s];

            if (score->n == 0)
                continue;
            score_finish(score);
            sum += score->accuracy;
            n = min_i64(n, score->n);
            runs++;
        }
    if (runs == 0)
        return;
    b->corruption_files = v->opt->folder != NULL;
    b->corruption_mean.n = n;
    b->corruption_mean.accuracy = sum / (double)runs;
    stats_wilson_share(b->corruption_mean.accuracy, n, &b->corruption_mean.lo,
                       &b->corruption_mean.hi);
}

/* One severity, by all ranks. */
static int run_severity(struct evaluator *v, struct eval_result *r, int32_t c, int severity)
{
    TRY(ranks_agree(v->opt->folder != NULL ? run_files(v, r, c, severity)
                                           : run_drawn(v, r, c, severity)));
    for (int32_t b = 0; b < r->n_branch; b++) {
        struct eval_score *s = &r->branch[b].corruption[c].score[severity - 1];
        int64_t count[] = {s->n, s->correct};

        ranks_sum(count, 2);
        s->n = count[0];
        s->correct = count[1];
    }
    return 0;
}

/* Each image is drawn once, for all branches. */
static int run_corruptions(struct evaluator *v, struct eval_result *r)
{
    for (int32_t c = 0; c < v->n_types; c++) {
        for (int32_t b = 0; b < r->n_branch; b++)
            r->branch[b].corruption[r->branch[b].n_corruption++].type = corrupt_name(v->types[c]);
        for (int s = 1; s <= CORRUPT_SEVERITIES; s++)
            if (v->severities[c] >> (s - 1) & 1)
                TRY(run_severity(v, r, c, s));
    }
    for (int32_t b = 0; b < r->n_branch; b++)
        finish_corruptions(v, &r->branch[b]);
    return 0;
}

static int run_all(struct evaluator *v, struct eval_result *r)
{
    for (int branch = 0; branch < 2; branch++) {
        if (!v->opt->branch[branch])
            continue;
        struct eval_branch *b = &r->branch[r->n_branch++];
        b->branch = branch;
        TRY(run_clean(v, b));
        TRY(run_attacks(v, b));
    }
    return run_corruptions(v, r);
}

static int check_options(const struct graph *g, const struct dataset *d,
                         const struct eval_options *opt)
{
    if (d->n < 1)
        return fail(ERR_DATA, "%s: no images in the split '%s'", d->source, d->split);
    if (!opt->branch[0] && !opt->branch[1])
        return fail(ERR_ARG, "evaluation: no branch was asked for");
    if (opt->branch[1] && graph_branches(g) < 2)
        return fail(
            ERR_ARG,
            "evaluation: branch 'adv' was asked for, but the network has %d batch-norm branch(es)",
            graph_branches(g));
    if (count_attacks(opt) > EVAL_MAX_ATTACKS)
        return fail(ERR_ARG, "evaluation: %d attacks, at most %d", (int)count_attacks(opt),
                    EVAL_MAX_ATTACKS);
    return 0;
}

int eval_run(struct graph *g, const struct dataset *d, const struct eval_options *opt,
             struct eval_result *out)
{
    SCOPED(evaluator_release) struct evaluator v = {0};

    TRY(check_options(g, d, opt));
    memset(out, 0, sizeof *out);
    TRY(evaluator_init(&v, g, d, opt));
    out->n = v.n;
    out->precision = exec_precision_of(v.infer);
    out->attacks = out->precision == opt->precision ? opt->attacks : EXEC_FP32;
    const int rc = run_all(&v, out);
    add_profile(opt->infer_profile, v.infer, v.inferred);
    return rc;
}

/* ---- logits and walks ------------------------------------------------------------------------ */

int eval_walk(struct graph *g, const struct dataset *d, int64_t limit, int64_t batch, int branch,
              const value_id *taps, int32_t n_taps, eval_walk_fn *fn, void *ctx)
{
    const int64_t elems = shape_elems(&g->value[g->input].shape);
    const int64_t k = shape_elems(&g->value[g->output].shape);
    const int64_t n = limit > 0 ? min_i64(limit, d->n) : d->n;
    const int64_t held = max_i64(1, min_i64(batch, n));
    const struct exec_opts o = {.held = held, .taps = taps, .n_taps = n_taps};
    SCOPED(exec_free_at) struct exec *e = NULL;

    TRY(fits(g, d));
    TRY(exec_new(g, EXEC_INFER, batch, &o, &e));
    OWNED float *pixels = mem_aligned((size_t)(held * elems), sizeof *pixels);
    OWNED float *logits = mem_aligned((size_t)(held * k), sizeof *logits);
    if (pixels == NULL || logits == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < n; i += batch) {
        const int64_t m = min_i64(batch, n - i);

        TRY(data_images(d, i, m, i + m, pixels));
        TRY(exec_infer(e, pixels, m, branch, logits));
        TRY(fn(ctx, e, i, m, logits, d->labels + i));
    }
    return 0;
}
