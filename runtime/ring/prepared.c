/* Preparation of a plan (prepared.h). */
#include "runtime/ring/prepared.h"

#include <math.h>

/* ---- slots -------------------------------------------------------------------------------- */

/* Last step that reads each tensor; the output lives to the end. */
static void last_readers(const struct plan *p, int32_t *last)
{
    for (int32_t i = 0; i < p->n_step; i++)
        for (int32_t k = 0; k < p->step[i].n_in; k++)
            last[p->step[i].in[k]] = i;
    last[p->step[p->n_step - 1].out] = p->n_step;
}

/* Lowest place for tensor t beside the tensors that live at the same time as it. */
static int64_t place(const struct plan *p, const int64_t *slot, const bool *lives, int32_t t)
{
    int64_t at = 0, size = p->tensor[t].count;
    bool moved = true;

    while (moved) {
        moved = false;
        for (int32_t i = 0; i < p->n_tensor; i++)
            if (lives[i] && at < slot[i] + p->tensor[i].count && slot[i] < at + size) {
                at = slot[i] + p->tensor[i].count;
                moved = true;
            }
    }
    return at;
}

static void assign(const struct plan *p, struct prepared *m, bool *lives, const int32_t *last)
{
    lives[0] = true;
    m->slots = (size_t)p->tensor[0].count;
    for (int32_t i = 0; i < p->n_step; i++) {
        int32_t t = p->step[i].out;
        m->slot[t] = place(p, m->slot, lives, t);
        lives[t] = true;
        if (m->slots < (size_t)(m->slot[t] + p->tensor[t].count))
            m->slots = (size_t)(m->slot[t] + p->tensor[t].count);
        for (int32_t k = 0; k < p->step[i].n_in; k++)
            if (last[p->step[i].in[k]] == i)
                lives[p->step[i].in[k]] = false;
    }
    m->slots = (m->slots + 7) / 8 * 8;
}

static int assign_slots(struct prepared *m)
{
    const struct plan *p = m->plan;
    OWNED bool *lives = mem_array((size_t)p->n_tensor, sizeof *lives);
    OWNED int32_t *last = mem_array((size_t)p->n_tensor, sizeof *last);

    m->slot = mem_array((size_t)p->n_tensor, sizeof *m->slot);
    if (lives == NULL || last == NULL || m->slot == NULL)
        return ERR_NOMEM;
    last_readers(p, last);
    assign(p, m, lives, last);
    return 0;
}

/* ---- weights ------------------------------------------------------------------------------ */

static void fill_matrix(struct ring_conv *c, const struct plan_matrix *w, bool real,
                        int32_t in_scale, double *to)
{
    int32_t ws = real ? c->linear.weight_scale : 0;
    double *bias = to + w->rows * w->columns;

    for (int64_t r = 0; r < w->rows; r++) {
        double l1 = 0;
        for (int64_t k = 0; k < w->columns; k++) {
            double v = ldexp((double)w->weight[r * w->columns + k], -ws);
            to[r * w->columns + k] = v;
            l1 += fabs(v);
        }
        bias[r] = ldexp((double)w->bias[r], -(c->linear.weight_scale + in_scale));
        c->row_l1 = l1 > c->row_l1 ? l1 : c->row_l1;
    }
    c->weight = to;
    c->real_bias = bias;
    c->bias = w->bias;
}

static int prepare_weights(struct prepared *m, bool real)
{
    const struct plan *p = m->plan;
    const struct plan_weights *w = m->weights;
    size_t n = 0, at = 0;

    for (int32_t i = 0; i < p->n_step; i++)
        n += (size_t)(w->matrix[i].rows * (w->matrix[i].columns + 1));
    if ((m->numbers = secret_array(n, sizeof *m->numbers)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < p->n_step; i++) {
        if (!plan_is_linear(&p->step[i]))
            continue;
        fill_matrix(&m->conv[i], &w->matrix[i], real, p->tensor[p->step[i].in[0]].scale,
                    m->numbers + at);
        at += (size_t)(w->matrix[i].rows * (w->matrix[i].columns + 1));
    }
    return 0;
}

static int prepare_convolutions(struct prepared *m)
{
    const struct plan *p = m->plan;
    int64_t longest = 0;

    m->scratch = (size_t)p->tensor[0].count;
    if ((m->conv = mem_array((size_t)p->n_step, sizeof *m->conv)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < p->n_step; i++) {
        size_t need;
        if (!plan_is_linear(&p->step[i]))
            continue;
        m->conv[i] = ring_conv_of(p, &p->step[i]);
        need = ring_conv_scratch(&m->conv[i]);
        m->scratch = m->scratch < need ? need : m->scratch;
        longest = longest < m->conv[i].out[0] ? m->conv[i].out[0] : longest;
    }
    m->scratch = (m->scratch + 7) / 8 * 8;
    m->no_bias = mem_array((size_t)longest, sizeof *m->no_bias);
    return m->no_bias == NULL ? ERR_NOMEM : 0;
}

void prepared_product(const struct prepared *m, int32_t step, uint64_t *y, const uint64_t *x,
                      double *scratch)
{
    struct ring_conv c = m->conv[step];

    c.bias = m->no_bias;
    ring_conv(y, x, &c, scratch);
}

/* ---- life cycle --------------------------------------------------------------------------- */

int prepared_new(const struct plan *p, const struct plan_weights *w, bool real,
                 struct prepared **out)
{
    SCOPED(prepared_free_at) struct prepared *m = mem_array(1, sizeof *m);

    if (m == NULL)
        return ERR_NOMEM;
    m->plan = p;
    m->weights = w;
    if (w != NULL)
        TRY(plan_weights_check(p, w));
    TRY(prepare_convolutions(m));
    if (w != NULL)
        TRY(prepare_weights(m, real));
    TRY(assign_slots(m));
    *out = mem_hand_on(&m);
    return 0;
}

void prepared_free(struct prepared *m)
{
    if (m == NULL)
        return;
    secret_free(m->numbers);
    mem_free(m->conv);
    mem_free(m->no_bias);
    mem_free(m->slot);
    mem_free(m);
}
