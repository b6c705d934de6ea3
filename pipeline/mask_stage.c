/* Masks during training; see mask_stage.h. Method: METHOD.md, "Which ReLUs stay". */
#include "pipeline/mask_stage.h"

#include <math.h>
#include <string.h>

#include "core/base/ranks.h"
#include "linearizer/published.h"
#include "pipeline/listener.h"
#include "pipeline/mask_residual.h"
#include "trainer/eval/eval.h"

static int same_sites(const struct mask_stage *m, int32_t n_teacher)
{
    if (n_teacher != m->n_site)
        return fail(ERR_ARG, "teacher and student differ: %d and %d ReLU layers", n_teacher,
                    m->n_site);
    for (int32_t s = 0; s < m->n_site; s++)
        if (m->site[s].total != m->teacher_site[s].total)
            return fail(ERR_ARG,
                        "teacher and student differ in ReLU layer %d: %lld and %lld positions", s,
                        (long long)m->teacher_site[s].total, (long long)m->site[s].total);
    return 0;
}

static int allocate_taylor(struct mask_stage *m)
{
    double *sums = mem_array(4 * (size_t)m->positions + 1, sizeof *sums);

    if (sums == NULL)
        return ERR_NOMEM;
    m->taylor = (struct score_taylor){sums, sums + m->positions, sums + 2 * m->positions,
                                      sums + 3 * m->positions};
    return 0;
}

static int allocate_scores(struct mask_stage *m)
{
    const size_t n = (size_t)m->positions + 1;

    m->sum = mem_array(n, sizeof *m->sum);
    m->batch = mem_array(n, sizeof *m->batch);
    m->score = mem_array(n, sizeof *m->score);
    if (!m->sum || !m->batch || !m->score)
        return ERR_NOMEM;
    return m->r->score == SCORE_TAYLOR ? allocate_taylor(m) : 0;
}

static int allocate(struct mask_stage *m, const int64_t *kept)
{
    const size_t n = (size_t)m->n_site + 1;

    for (int32_t s = 0; s < m->n_site; s++)
        m->positions += m->site[s].total;
    m->kept = mem_array(n, sizeof *m->kept);
    m->student_tap = mem_array(2 * n, sizeof *m->student_tap);
    m->teacher_tap = mem_array(n, sizeof *m->teacher_tap);
    m->link = mem_array(n, sizeof *m->link);
    if (!m->kept || !m->student_tap || !m->teacher_tap || !m->link)
        return ERR_NOMEM;
    TRY(ranks_chain_new(&m->chain));
    memcpy(m->kept, kept, (n - 1) * sizeof *kept);
    if (m->r->score == SCORE_RESIDUAL) {
        m->residual = mem_array((size_t)m->positions * RESIDUAL_SUMS + 1, sizeof *m->residual);
        return m->residual ? 0 : ERR_NOMEM;
    }
    return allocate_scores(m);
}

static void set_taps(struct mask_stage *m)
{
    const bool taylor = m->r->score == SCORE_TAYLOR;

    if (m->r->score == SCORE_RESIDUAL) /* looks at nothing while training */
        return;
    for (int32_t s = 0; s < m->n_site; s++) {
        m->student_tap[s] = m->r->score == SCORE_ACTDIFF ? m->site[s].y : m->site[s].x;
        m->teacher_tap[s] = m->teacher_site[s].y;
        if (taylor)
            m->student_tap[m->n_site + s] = m->site[s].y;
    }
    m->n_student_tap = taylor ? 2 * m->n_site : m->n_site;
    m->n_teacher_tap = taylor ? 0 : m->n_site;
}

static void add_blob(struct mask_stage *m, const char *name, double *data)
{
    m->blob[m->n_blob++] = (struct train_blob){name, data, (size_t)m->positions * sizeof *data};
}

static void set_blobs(struct mask_stage *m)
{
    m->n_blob = 0;
    m->blob[m->n_blob++] = (struct train_blob){"mask_state", &m->state, sizeof m->state};
    if (m->r->score == SCORE_RESIDUAL)
        return;
    add_blob(m, "mask_score", m->score);
    if (m->r->score != SCORE_TAYLOR) {
        add_blob(m, "mask_sum", m->sum);
        return;
    }
    add_blob(m, "taylor_first", m->taylor.first);
    add_blob(m, "taylor_grad", m->taylor.grad);
    add_blob(m, "taylor_square", m->taylor.square);
    add_blob(m, "taylor_negative", m->taylor.negative);
}

int mask_stage_init(struct mask_stage *m, struct graph *student, const struct graph *teacher,
                    const int64_t *kept, const struct recipe *r)
{
    int32_t n_teacher;

    *m = (struct mask_stage){.student = student, .r = r, .state = {.nhd = -1, .turnover = -1}};
    TRY(relu_sites(student, &m->site, &m->n_site));
    TRY(relu_sites(teacher, &m->teacher_site, &n_teacher));
    TRY(same_sites(m, n_teacher));
    TRY(allocate(m, kept));
    set_taps(m);
    set_blobs(m);
    return 0;
}

void mask_stage_release(struct mask_stage *m)
{
    mem_free(m->site);
    mem_free(m->teacher_site);
    mem_free(m->kept);
    mem_free(m->student_tap);
    mem_free(m->teacher_tap);
    mem_free(m->sum);
    mem_free(m->batch);
    mem_free(m->score);
    mem_free(m->residual);
    mem_free(m->link);
    mem_free(m->taylor.first);
    ranks_chain_free(m->chain);
    *m = (struct mask_stage){0};
}

/* What each layer keeps now: of c choices, number i from 0 leaves N (k / N)^((i + 1) / c) of N ReLUs. */
static void budgets_now(const struct mask_stage *m, int64_t *kept)
{
    const int64_t i = m->state.selections + m->chosen;
    const double x = i + 1 < m->choices ? (double)(i + 1) / (double)m->choices : 1;

    for (int32_t s = 0; s < m->n_site; s++) {
        const double n = (double)m->site[s].total, share = (double)m->kept[s] / n;

        kept[s] = x < 1 ? (int64_t)(n * pow(share, x) + 0.5) : m->kept[s];
    }
}

static int select_residual(struct mask_stage *m)
{
    const struct residual_measure how = {.g = m->student,
                                         .site = m->site,
                                         .n_site = m->n_site,
                                         .data = m->data,
                                         .images = m->r->score_images,
                                         .batch = m->r->stage[STAGE_MASK].batch,
                                         .seed = m->seed,
                                         .chain = m->chain};
    OWNED int64_t *kept = mem_array((size_t)m->n_site + 1, sizeof *kept);
    int64_t images;

    if (kept == NULL)
        return ERR_NOMEM;
    budgets_now(m, kept);
    TRY(residual_measure(&how, m->residual, &images));
    return residual_select(m->student, m->n_site, m->site, m->residual, images, kept, m->pooled);
}

static int select_masks(struct mask_stage *m)
{
    if (m->r->score == SCORE_RESIDUAL)
        return select_residual(m);
    for (int32_t s = 0; s < m->n_site; s++)
        TRY((m->r->as_published ? published_select : mask_select)(
            m->student, &m->site[s], m->score + m->site[s].offset, m->kept[s]));
    return 0;
}

/* ---- the first mask ------------------------------------------------------------------------ */

static int walk_batch(void *ctx, const struct exec *e, int64_t first, int64_t n,
                      const float *logits, const int32_t *labels)
{
    struct mask_stage *m = ctx;

    (void)first, (void)logits, (void)labels;
    memset(m->batch, 0, (size_t)m->positions * sizeof *m->batch);
    for (int32_t s = 0; s < m->n_site; s++)
        score_add(m->student, &m->site[s], n, exec_tap(e, m->site[s].y), exec_tap(e, m->site[s].x),
                  m->batch + m->site[s].offset);
    for (int64_t i = 0; i < m->positions; i++)
        m->score[i] += m->batch[i];
    m->state.images += n;
    return 0;
}

static int first_scores(struct mask_stage *m, const struct dataset *d)
{
    const int32_t n = m->n_site;

    if (m->r->score == SCORE_RESIDUAL)
        return 0;
    OWNED value_id *taps = mem_array(2 * (size_t)n + 1, sizeof *taps);

    if (taps == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < n; s++) {
        taps[s] = m->site[s].x;
        taps[n + s] = m->site[s].y;
    }
    TRY(eval_walk(m->student, d, m->r->score_images, 64, 0, taps, 2 * n, walk_batch, m));
    for (int64_t i = 0; i < m->positions; i++)
        m->score[i] /= (double)m->state.images;
    m->state.images = 0;
    return 0;
}

/* ---- lines --------------------------------------------------------------------------------- */

struct line_walk {
    const struct mask_stage *m;
    struct line_fit *fit;
};

static int line_batch(void *ctx, const struct exec *e, int64_t first, int64_t n,
                      const float *logits, const int32_t *labels)
{
    const struct line_walk *w = ctx;

    (void)first, (void)logits, (void)labels;
    for (int32_t s = 0; s < w->m->n_site; s++)
        line_fit_add(w->fit, s, n, exec_tap(e, w->m->site[s].x));
    return 0;
}

static int walk_lines(struct mask_stage *m, struct line_fit *fit)
{
    OWNED value_id *taps = mem_array((size_t)m->n_site + 1, sizeof *taps);
    struct line_walk w = {m, fit};

    if (taps == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < m->n_site; s++)
        taps[s] = m->site[s].x;
    return eval_walk(m->student, m->data, m->r->calib_images, 64, 0, taps, m->n_site, line_batch,
                     &w);
}

/* The masks have just been chosen. Activations are those under `before`, the masks until then. */
static int fit_lines(struct mask_stage *m, const float *before)
{
    struct graph *g = m->student;
    const size_t bytes = (size_t)g->n_masks * sizeof(float);
    struct line_fit *fit = NULL;
    int rc;

    if (m->r->removed == REMOVED_IDENTITY)
        return 0;
    OWNED float *after = mem_array(bytes, 1);
    if (after == NULL)
        return ERR_NOMEM;
    memcpy(after, g->masks, bytes);
    memcpy(g->masks, before, bytes);
    graph_touch(g);
    if ((rc = line_fit_new(g, m->n_site, m->site, before, after, &fit)) == 0)
        rc = walk_lines(m, fit);
    memcpy(g->masks, after, bytes);
    if (rc == 0)
        line_fit_finish(fit);
    graph_touch(g);
    line_fit_free(fit);
    return rc;
}

/* The same where all ReLUs were there. */
static int first_lines(struct mask_stage *m)
{
    OWNED float *ones = mem_array((size_t)m->student->n_masks, sizeof *ones);

    if (ones == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < m->student->n_masks; i++)
        ones[i] = 1;
    return fit_lines(m, ones);
}

int mask_stage_first(struct mask_stage *m, const struct dataset *d, uint64_t seed)
{
    m->data = d;
    m->seed = seed;
    m->choices = 1 + recipe_epochs(m->r, STAGE_MASK, d->n) -
                 (m->r->stage[STAGE_FINETUNE].epochs > 0 ? 0 : 1);
    TRY(first_scores(m, d));
    if (m->r->as_published) {
        published_first_masks(m->student, m->n_site, m->site, seed, m->kept);
        return 0;
    }
    TRY(m->r->first == FIRST_RANDOM ? mask_random(m->student, m->n_site, m->site, seed, m->kept)
                                    : select_masks(m));
    m->chosen = true;
    return first_lines(m);
}

int mask_stage_adopt(struct mask_stage *m, const struct dataset *d, uint64_t seed)
{
    const struct graph *g = m->student;
    const size_t bytes = (size_t)g->n_masks * sizeof(float);
    OWNED float *masks = mem_array(bytes, 1);
    int rc;

    if (masks == NULL)
        return ERR_NOMEM;
    m->data = d;
    m->seed = seed; /* no choices: the masks keep the budget already */
    memcpy(masks, g->masks, bytes);
    for (int64_t i = 0; i < g->n_masks; i++) /* scores are those of the network with all ReLUs */
        g->masks[i] = 1;
    graph_touch(m->student);
    rc = first_scores(m, d);
    memcpy(g->masks, masks, bytes);
    graph_touch(m->student);
    return rc == 0 ? first_lines(m) : rc;
}

/* ---- while training ------------------------------------------------------------------------ */

/* Site s of this rank's images, after those of lower ranks. */
static void add_site(void *ctx, void *sum)
{
    const struct mask_link *l = ctx;
    const struct mask_stage *m = l->m;
    const struct train_batch *b = m->now;

    score_add(m->student, &m->site[l->s], b->here, exec_tap(b->teacher, m->teacher_tap[l->s]),
              exec_tap(b->student, m->student_tap[l->s]), sum);
}

static int on_batch(void *ctx, const struct train_batch *b)
{
    struct mask_stage *m = ctx;

    if (m->state.frozen_epoch > 0)
        return 0;
    m->state.images += b->n;
    if (m->r->score == SCORE_TAYLOR || m->r->score == SCORE_RESIDUAL)
        return 0;
    m->now = b;
    memset(m->batch, 0, (size_t)m->positions * sizeof *m->batch);
    for (int32_t s = 0; s < m->n_site; s++) {
        m->link[s] = (struct mask_link){m, s};
        TRY(ranks_chain_put(m->chain, m->batch + m->site[s].offset,
                            (size_t)m->site[s].total * sizeof *m->batch, add_site, &m->link[s]));
        ranks_chain_poll(m->chain);
    }
    ranks_chain_finish(m->chain);
    for (int64_t i = 0; i < m->positions; i++)
        m->sum[i] += m->batch[i];
    return 0;
}

static void add_taylor(void *ctx, void *sums)
{
    struct mask_stage *m = ctx;
    const struct train_batch *b = m->now;

    (void)sums; /* m->taylor */
    for (int32_t s = 0; s < m->n_site; s++)
        score_taylor_add(m->student, &m->site[s], b->here, exec_tap(b->student, m->site[s].x),
                         exec_tap_grad(b->student, m->site[s].y), (double)b->n / b->share,
                         &m->taylor);
}

static int on_gradients(void *ctx, const struct train_batch *b)
{
    struct mask_stage *m = ctx;

    if (m->state.frozen_epoch > 0)
        return 0;
    m->now = b;
    TRY(ranks_chain_put(m->chain, m->taylor.first,
                        4 * (size_t)m->positions * sizeof *m->taylor.first, add_taylor, m));
    ranks_chain_finish(m->chain);
    return 0;
}

static int on_epoch_end(void *ctx, int32_t epoch, const struct train_validation *val)
{
    struct mask_stage *m = ctx;
    const struct mask_state *s = &m->state;
    const struct linnet_listener *l = m->run->l;
    char line[256];

    (void)val;
    if (s->frozen_epoch > 0 || epoch > m->last_selecting_epoch)
        return 0;
    TRY(mask_stage_select(m, epoch));
    const bool frozen = s->frozen_epoch > 0;
    listener_note(l,
                  "epoch %d: masks chosen again, normalised Hamming distance %.4f, turnover %.4f%s",
                  epoch + 1, s->nhd, s->turnover, frozen ? ": frozen" : "");
    snprintf(
        line, sizeof line,
        "{\"event\":\"masks\",\"stage\":\"mask\",\"epoch\":%d,\"nhd\":%.9g,\"turnover\":%.9g,\"frozen\":%s}",
        epoch + 1, s->nhd, s->turnover, frozen ? "true" : "false");
    listener_detail(l, "%s", line);
    return m->run->metrics.file ? metrics_add(&m->run->metrics, line) : 0;
}

/* Warns once of a budget so small that the Hamming distance says nothing. */
static void warn_of_freezing(const struct mask_stage *m)
{
    double most = 0;

    if (m->r->score == SCORE_RESIDUAL) /* does not freeze before the last choice */
        return;
    for (int32_t s = 0; s < m->n_site; s++) {
        const double share = (double)m->kept[s] / (double)m->site[s].total;

        most += 2 * (share < 0.5 ? share : 1 - share) / m->n_site;
    }
    if (m->r->freeze == FREEZE_NHD && most < 4 * m->r->freeze_below)
        listener_note(
            m->run->l,
            "warning: with this budget the normalised Hamming distance is at most %.3f, so the masks may freeze early; --freeze turnover looks at the kept ReLUs alone",
            most);
}

void mask_stage_hook(struct mask_stage *m, struct run *run, bool finetunes, struct stage *s)
{
    m->run = run;
    m->last_selecting_epoch = s->cfg.epochs - (finetunes ? 1 : 2);
    s->hooks = (struct train_hooks){.ctx = m,
                                    .blobs = m->blob,
                                    .n_blobs = m->n_blob,
                                    .batch = on_batch,
                                    .gradients = m->r->score == SCORE_TAYLOR ? on_gradients : NULL,
                                    .epoch_end = on_epoch_end};
    s->cfg.student_taps = m->student_tap;
    s->cfg.teacher_taps = m->teacher_tap;
    s->cfg.n_student_taps = m->n_student_tap;
    s->cfg.n_teacher_taps = m->n_teacher_tap;
    warn_of_freezing(m);
}

/* This epoch's mean score, into sum. */
static void epoch_score(struct mask_stage *m)
{
    if (m->r->score != SCORE_TAYLOR) {
        for (int64_t i = 0; i < m->positions; i++)
            m->sum[i] /= (double)m->state.images;
        return;
    }
    const size_t bytes = (size_t)m->positions * sizeof(double);
    score_taylor_read(&m->taylor, m->positions, m->state.images, m->sum);
    memset(m->taylor.first, 0, bytes);
    memset(m->taylor.grad, 0, bytes);
    memset(m->taylor.square, 0, bytes);
    memset(m->taylor.negative, 0, bytes);
}

static void smooth(struct mask_stage *m)
{
    const bool fresh = m->r->score == SCORE_TAYLOR && m->state.selections == 0;
    const double rho = fresh ? 0 : m->r->smoothing;

    if (m->r->score == SCORE_RESIDUAL)
        m->state.images = 0;
    if (m->state.images == 0)
        return;
    epoch_score(m);
    for (int64_t i = 0; i < m->positions; i++) {
        m->score[i] = rho * m->score[i] + (1 - rho) * m->sum[i];
        m->sum[i] = 0;
    }
    m->state.images = 0;
}

static bool freezes(const struct mask_stage *m, int32_t epoch)
{
    const struct recipe *r = m->r;

    if (r->score == SCORE_RESIDUAL && m->state.selections + 1 < m->choices)
        return false;
    return (r->freeze == FREEZE_NHD && m->state.nhd < r->freeze_below) ||
           (r->freeze == FREEZE_TURNOVER && m->state.turnover < r->freeze_below) ||
           (r->freeze_epoch > 0 && epoch + 1 >= r->freeze_epoch);
}

int mask_stage_select(struct mask_stage *m, int32_t epoch)
{
    const size_t bytes = (size_t)m->student->n_masks * sizeof(float);
    OWNED float *before = mem_array(bytes, 1);

    if (before == NULL)
        return ERR_NOMEM;
    memcpy(before, m->student->masks, bytes);
    smooth(m);
    TRY(select_masks(m));
    mask_distance(m->n_site, m->site, m->student, before, m->student->masks, &m->state.nhd,
                  &m->state.turnover);
    m->state.selections++;
    if (freezes(m, epoch))
        m->state.frozen_epoch = epoch + 1;
    return fit_lines(m, before);
}
