/*
 * Runs a plan in one process, on real numbers or in Z_2^64 (pi.h).
 *
 * Preparation turns weights into doubles once and gives every tensor a slot: a piece of memory of 8
 * bytes an element that is free again after the tensor's last reader. A worker owns a set of slots
 * and a scratch; an image goes through the whole program before the next one starts, so that its
 * activations stay in cache. Work is cut by image, and images do not meet: the number of threads
 * cannot change a bit.
 */
#include <math.h>
#include <string.h>

#include "core/cpu.h"
#include "runtime/pi.h"
#include "runtime/pi_input.h"
#include "runtime/ring.h"

struct pi_model {
    const struct plan *plan;
    struct plan *own_plan; /* pi_open */
    struct plan_weights *own_weights;
    enum pi_mode mode;
    struct ring_conv *conv; /* one a step */
    double *numbers;        /* weights and real biases as doubles */
    size_t n_numbers;
    int64_t *slot;         /* offset of a tensor in a worker's memory, in 8-byte words */
    size_t slots, scratch; /* words of a worker: tensors, kernels */
};

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

static void assign(const struct plan *p, struct pi_model *m, bool *lives, const int32_t *last)
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
}

static int assign_slots(struct pi_model *m)
{
    const struct plan *p = m->plan;
    bool *lives = mem_array((size_t)p->n_tensor, sizeof *lives);
    int32_t *last = mem_array((size_t)p->n_tensor, sizeof *last);
    int rc = 0;

    m->slot = mem_array((size_t)p->n_tensor, sizeof *m->slot);
    if (lives == NULL || last == NULL || m->slot == NULL) {
        rc = ERR_NOMEM;
    } else {
        last_readers(p, last);
        assign(p, m, lives, last);
    }
    mem_free(lives);
    mem_free(last);
    return rc;
}

/* ---- weights ------------------------------------------------------------------------------ */

static void fill_matrix(struct ring_conv *c, const struct plan_matrix *w, enum pi_mode mode,
                        int32_t in_scale, double *to)
{
    int32_t ws = mode == PI_FLOAT ? c->linear.weight_scale : 0;
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

static int prepare_weights(struct pi_model *m, const struct plan_weights *w)
{
    const struct plan *p = m->plan;
    size_t at = 0;

    for (int32_t i = 0; i < p->n_step; i++)
        m->n_numbers += (size_t)(w->matrix[i].rows * (w->matrix[i].columns + 1));
    if ((m->numbers = mem_aligned(m->n_numbers, sizeof *m->numbers)) == NULL ||
        (m->conv = mem_array((size_t)p->n_step, sizeof *m->conv)) == NULL)
        return ERR_NOMEM;
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        if (s->kind != PLAN_CONV && s->kind != PLAN_GEMM)
            continue;
        m->conv[i] = ring_conv_of(p, s);
        fill_matrix(&m->conv[i], &w->matrix[i], m->mode, p->tensor[s->in[0]].scale,
                    m->numbers + at);
        at += (size_t)(w->matrix[i].rows * (w->matrix[i].columns + 1));
        if (m->scratch < ring_conv_scratch(&m->conv[i]))
            m->scratch = ring_conv_scratch(&m->conv[i]);
    }
    return 0;
}

/* ---- life cycle --------------------------------------------------------------------------- */

int pi_prepare(const struct plan *p, const struct plan_weights *w, enum pi_mode mode,
               struct pi_model **out)
{
    struct pi_model *m = mem_array(1, sizeof *m);
    int rc;

    if (m == NULL)
        return ERR_NOMEM;
    m->plan = p;
    m->mode = mode;
    if ((rc = plan_weights_check(p, w)) < 0 || (rc = prepare_weights(m, w)) < 0 ||
        (rc = assign_slots(m)) < 0) {
        pi_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int pi_open(const char *plan_path, const char *weights_path, enum pi_mode mode,
            struct pi_model **out)
{
    struct plan *p = NULL;
    struct plan_weights *w = NULL;
    struct pi_model *m = NULL;
    int rc;

    if ((rc = plan_read(plan_path, &p)) < 0 || (rc = plan_weights_read(p, weights_path, &w)) < 0 ||
        (rc = pi_prepare(p, w, mode, &m)) < 0)
        goto out;
    m->own_plan = p;
    m->own_weights = w;
    p = NULL;
    w = NULL;
    *out = m;
out:
    plan_weights_free(w);
    plan_free(p);
    return rc;
}

void pi_close(struct pi_model *m)
{
    volatile double *v;

    if (m == NULL)
        return;
    v = m->numbers;
    for (size_t i = 0; v != NULL && i < m->n_numbers; i++)
        v[i] = 0;
    plan_weights_free(m->own_weights);
    plan_free(m->own_plan);
    mem_free(m->numbers);
    mem_free(m->conv);
    mem_free(m->slot);
    mem_free(m);
}

const struct plan *pi_plan(const struct pi_model *m)
{
    return m->plan;
}

int64_t pi_classes(const struct pi_model *m)
{
    return m->plan->tensor[m->plan->step[m->plan->n_step - 1].out].count;
}

/* ---- the step loop ------------------------------------------------------------------------ */

/* A step's operands and result in a worker's memory. */
struct operands {
    const struct plan_tensor *in, *out;
    const void *x[2];
    void *y;
};

static struct operands operands_of(const struct pi_model *m, const struct plan_step *s,
                                   uint64_t *words)
{
    const struct plan *p = m->plan;

    return (struct operands){&p->tensor[s->in[0]],
                             &p->tensor[s->out],
                             {words + m->slot[s->in[0]], words + m->slot[s->in[s->n_in - 1]]},
                             words + m->slot[s->out]};
}

/* Steps that only move 8-byte words. */
static void move_words(const struct plan_step *s, const struct operands *o)
{
    if (s->kind == PLAN_PAD)
        word_pad(o->y, o->x[0], &s->u.pad, o->in->dim, o->out->dim);
    else if (s->kind == PLAN_SLICE)
        word_slice(o->y, o->x[0], &s->u.slice, o->in->dim, o->out->dim);
    else
        memcpy(o->y, o->x[0], (size_t)o->out->count * sizeof(uint64_t));
}

static void fixed_step(const struct plan_step *s, const struct ring_conv *c,
                       const struct operands *o, double *scratch)
{
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        ring_conv(o->y, o->x[0], c, scratch);
        break;
    case PLAN_ADD:
        ring_add(o->y, o->x[0], s->input_shift[0], o->x[1], s->input_shift[1], o->out->count);
        break;
    case PLAN_RELU:
        move_words(s, o);
        ring_relu(o->y, &s->u.relu);
        break;
    case PLAN_SUM_POOL:
        ring_sum_pool(o->y, o->x[0], &s->u.pool, o->in->dim, o->out->dim);
        break;
    case PLAN_MAX_POOL:
        ring_max_pool(o->y, o->x[0], &s->u.pool, o->in->dim, o->out->dim);
        break;
    case PLAN_PAD:
    case PLAN_SLICE:
    case PLAN_FLATTEN:
        move_words(s, o);
        break;
    }
    if (s->shift > 0)
        ring_truncate(o->y, o->out->count, s->shift);
}

static void real_step(const struct plan_step *s, const struct ring_conv *c,
                      const struct operands *o, double *scratch)
{
    switch (s->kind) {
    case PLAN_CONV:
    case PLAN_GEMM:
        real_conv(o->y, o->x[0], c, scratch);
        break;
    case PLAN_ADD:
        real_add(o->y, o->x[0], o->x[1], o->out->count);
        break;
    case PLAN_RELU:
        move_words(s, o);
        real_relu(o->y, &s->u.relu);
        break;
    case PLAN_SUM_POOL:
        real_sum_pool(o->y, o->x[0], &s->u.pool, o->in->dim, o->out->dim);
        break;
    case PLAN_MAX_POOL:
        real_max_pool(o->y, o->x[0], &s->u.pool, o->in->dim, o->out->dim);
        break;
    case PLAN_PAD:
    case PLAN_SLICE:
    case PLAN_FLATTEN:
        move_words(s, o);
        break;
    }
}

/* One image. words: slots, then scratch. The output stays in its slot. */
static int run_image(const struct pi_model *m, enum pi_input kind, const void *image,
                     uint64_t *words)
{
    const struct plan *p = m->plan;
    double *scratch = (double *)(void *)(words + m->slots);

    if (m->mode == PI_FLOAT) {
        TRY(pi_input_real(p, kind, image, (double *)(void *)words));
    } else {
        TRY(pi_input_real(p, kind, image, scratch));
        pi_input_fixed(p, scratch, words);
    }
    for (int32_t i = 0; i < p->n_step; i++) {
        struct operands o = operands_of(m, &p->step[i], words);
        if (m->mode == PI_FLOAT)
            real_step(&p->step[i], &m->conv[i], &o, scratch);
        else
            fixed_step(&p->step[i], &m->conv[i], &o, scratch);
    }
    return 0;
}

/* ---- many images -------------------------------------------------------------------------- */

/* Where results go: one of the two. */
struct sink {
    float *real;
    int64_t *fixed;
};

static void store(const struct pi_model *m, const uint64_t *words, int64_t image,
                  const struct sink *to)
{
    int32_t out = m->plan->step[m->plan->n_step - 1].out;
    int64_t n = m->plan->tensor[out].count;
    const void *y = words + m->slot[out];

    for (int64_t k = 0; k < n; k++) {
        if (m->mode == PI_FLOAT)
            to->real[image * n + k] = (float)((const double *)y)[k];
        else if (to->fixed != NULL)
            to->fixed[image * n + k] = ((const int64_t *)y)[k];
        else
            to->real[image * n + k] =
                (float)ldexp((double)((const int64_t *)y)[k], -m->plan->scale);
    }
}

/* Images [first, last) on one thread; the error names the image. */
static int run_range(const struct pi_model *m, enum pi_input kind, const void *images,
                     int64_t first, int64_t last, uint64_t *words, const struct sink *to)
{
    size_t size = pi_input_size(m->plan, kind);

    for (int64_t i = first; i < last; i++) {
        int rc = run_image(m, kind, (const uint8_t *)images + (size_t)i * size, words);
        if (rc < 0)
            return fail_context(rc, "image %lld", (long long)i);
        store(m, words, i, to);
    }
    return 0;
}

static int run_all(const struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
                   const struct sink *to)
{
    int threads = cpu_threads();
    size_t scratch = m->scratch > (size_t)m->plan->tensor[0].count
                         ? m->scratch
                         : (size_t)m->plan->tensor[0].count;
    size_t words = (m->slots + scratch + 7) / 8 * 8;
    int64_t bad = -1;
    uint64_t *memory;

    threads = n < threads ? (int)n : threads;
    if (threads < 1)
        return 0;
    if ((memory = mem_aligned((size_t)threads * words, sizeof *memory)) == NULL)
        return ERR_NOMEM;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; t++) {
        int64_t first = n * t / threads, last = n * (t + 1) / threads;
        if (run_range(m, kind, images, first, last, memory + (size_t)t * words, to) < 0) {
#pragma omp critical
            bad = bad < 0 || first < bad ? first : bad;
        }
    }
    /* The message belongs to another thread: the refused block says it again on this one. */
    int rc = bad < 0 ? 0 : run_range(m, kind, images, bad, n, memory, to);
    mem_free(memory);
    return rc;
}

int pi_run(struct pi_model *m, enum pi_input kind, const void *images, int64_t n, float *logits)
{
    return run_all(m, kind, images, n, &(struct sink){logits, NULL});
}

int pi_run_fixed(struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
                 int64_t *logits)
{
    if (m->mode != PI_FIXED)
        return fail(ERR_ARG, "integers exist in fixed mode only");
    return run_all(m, kind, images, n, &(struct sink){NULL, logits});
}
