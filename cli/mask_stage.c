/* Masks during training; see mask_stage.h. Method: method.md 7.2 and 7.3. */
#include "cli/mask_stage.h"

#include <string.h>

#include "trainer/eval.h"

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

static int allocate(struct mask_stage *m, const int64_t *kept, const struct recipe *r)
{
    const size_t n = (size_t)m->n_site + 1;

    for (int32_t s = 0; s < m->n_site; s++)
        m->positions += m->site[s].total;
    m->kept = mem_array(n, sizeof *m->kept);
    m->student_tap = mem_array(n, sizeof *m->student_tap);
    m->teacher_tap = mem_array(n, sizeof *m->teacher_tap);
    m->sum = mem_array((size_t)m->positions + 1, sizeof *m->sum);
    m->score = mem_array((size_t)m->positions + 1, sizeof *m->score);
    if (!m->kept || !m->student_tap || !m->teacher_tap || !m->sum || !m->score)
        return ERR_NOMEM;
    for (int32_t s = 0; s < m->n_site; s++) {
        m->kept[s] = kept[s];
        m->student_tap[s] = r->score == SCORE_DIFF0 ? m->site[s].x : m->site[s].y;
        m->teacher_tap[s] = m->teacher_site[s].y;
    }
    return 0;
}

int mask_stage_init(struct mask_stage *m, struct graph *student, const struct graph *teacher,
                    const int64_t *kept, const struct recipe *r)
{
    int32_t n_teacher;

    *m = (struct mask_stage){.student = student, .smoothing = r->smoothing};
    TRY(relu_sites(student, &m->site, &m->n_site));
    TRY(relu_sites(teacher, &m->teacher_site, &n_teacher));
    TRY(same_sites(m, n_teacher));
    TRY(allocate(m, kept, r));
    m->blob[0] = (struct train_blob){"mask_sum", m->sum, (size_t)m->positions * sizeof *m->sum};
    m->blob[1] =
        (struct train_blob){"mask_score", m->score, (size_t)m->positions * sizeof *m->score};
    m->blob[2] = (struct train_blob){"mask_state", &m->state, sizeof m->state};
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
    mem_free(m->score);
    *m = (struct mask_stage){0};
}

static int select_masks(struct mask_stage *m)
{
    for (int32_t s = 0; s < m->n_site; s++)
        TRY(mask_select(m->student, &m->site[s], m->score + m->site[s].offset, m->kept[s]));
    return 0;
}

/* ---- the first mask ------------------------------------------------------------------------ */

static int walk_batch(void *ctx, const struct exec *e, int64_t first, int64_t n,
                      const float *logits, const int32_t *labels)
{
    struct mask_stage *m = ctx;

    (void)first, (void)logits, (void)labels;
    for (int32_t s = 0; s < m->n_site; s++)
        score_accumulate(m->student, &m->site[s], n, exec_tap(e, m->site[s].y),
                         exec_tap(e, m->site[s].x), m->score + m->site[s].offset);
    m->state.images += n;
    return 0;
}

int mask_stage_first(struct mask_stage *m, const struct dataset *d, int64_t images)
{
    const int32_t n = m->n_site;
    value_id *taps = mem_array(2 * (size_t)n + 1, sizeof *taps);
    int rc;

    if (taps == NULL)
        return ERR_NOMEM;
    for (int32_t s = 0; s < n; s++) {
        taps[s] = m->site[s].x;
        taps[n + s] = m->site[s].y;
    }
    rc = eval_walk(m->student, d, images, 64, 0, taps, 2 * n, walk_batch, m);
    for (int64_t i = 0; rc == 0 && i < m->positions; i++)
        m->score[i] /= (double)m->state.images;
    m->state.images = 0;
    mem_free(taps);
    return rc < 0 ? rc : select_masks(m);
}

/* ---- while training ------------------------------------------------------------------------ */

int mask_stage_batch(struct mask_stage *m, const struct train_batch *b)
{
    for (int32_t s = 0; s < m->n_site; s++)
        score_accumulate(m->student, &m->site[s], b->n, exec_tap(b->teacher, m->teacher_tap[s]),
                         exec_tap(b->student, m->student_tap[s]), m->sum + m->site[s].offset);
    m->state.images += b->n;
    return 0;
}

int mask_stage_select(struct mask_stage *m)
{
    const size_t bytes = (size_t)m->student->n_masks * sizeof(float);
    float *before = mem_array(bytes, 1);
    int rc;

    if (before == NULL)
        return ERR_NOMEM;
    memcpy(before, m->student->masks, bytes);
    for (int64_t i = 0; i < m->positions && m->state.images > 0; i++) {
        m->score[i] =
            m->smoothing * m->score[i] + (1 - m->smoothing) * m->sum[i] / (double)m->state.images;
        m->sum[i] = 0;
    }
    if ((rc = select_masks(m)) == 0) {
        mask_distance(m->n_site, m->site, m->student, before, m->student->masks, &m->state.nhd,
                      &m->state.turnover);
        m->state.images = 0;
        m->state.selections++;
    }
    mem_free(before);
    return rc;
}
