/*
 * Runs a plan in one process: on real numbers, in Z_2^64, or on the shares of two parties (model.h).
 *
 * A worker owns a set of tensor slots and a scratch; an image goes through the whole program before
 * the next one starts, so that its activations stay in cache. Work is cut by image, and images do not
 * meet: the number of threads cannot change a bit.
 */
#include <math.h>
#include <string.h>

#include "core/base/cpu.h"
#include "runtime/model.h"
#include "runtime/party/sim2pc.h"
#include "runtime/party/sim_linear.h"
#include "runtime/party/steps.h"

/* ---- the step loop ------------------------------------------------------------------------ */

/* A step's operands and result in a worker's memory. */
struct operands {
    const struct plan_tensor *in, *out;
    const void *x[2];
    void *y;
    const int64_t *offset; /* of lines */
};

static struct operands operands_of(const struct pi_model *m, const struct plan_step *s,
                                   uint64_t *words)
{
    const struct plan *p = m->plan;

    return (struct operands){
        &p->tensor[s->in[0]],
        &p->tensor[s->out],
        {words + m->prepared->slot[s->in[0]], words + m->prepared->slot[s->in[s->n_in - 1]]},
        words + m->prepared->slot[s->out],
        prepared_offset(m->prepared, (int32_t)(s - p->step))};
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
        ring_line(o->y, &s->u.relu, o->out->dim[0], o->offset, RING_WHOLE);
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
        real_line(o->y, &s->u.relu, o->out->dim[0], o->offset, o->out->scale);
        real_relu(o->y, &s->u.relu, o->out->scale);
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

/* Does the linear backend itself run? */
static bool runs_backend(const struct pi_model *m)
{
    return m->mode == PI_SIM2PC && m->linear != NULL && !m->linear->third_party;
}

static int64_t lot_of(const struct pi_model *m)
{
    return runs_backend(m) ? m->lot : 1;
}

/* Words of a worker: slots and scratch; for shares then images and results of a lot. */
static size_t worker_words(const struct pi_model *m)
{
    size_t n = m->prepared->slots + m->prepared->scratch;

    if (m->mode == PI_SIM2PC)
        n = sim2pc_words(m->prepared, m->schedule, lot_of(m)) +
            (size_t)(lot_of(m) * (m->plan->tensor[0].count + pi_classes(m)));
    return (n + 7) / 8 * 8;
}

/* One image. words: slots, then scratch. The output stays in its slot. */
static int run_image(const struct pi_model *m, enum pi_input kind, const void *image,
                     uint64_t *words)
{
    const struct plan *p = m->plan;
    double *scratch = (double *)(void *)(words + m->prepared->slots);

    if (m->mode == PI_FLOAT) {
        TRY(pi_input_real(p, kind, image, (double *)(void *)words));
    } else {
        TRY(pi_input_real(p, kind, image, scratch));
        pi_input_fixed(p, scratch, words);
    }
    for (int32_t i = 0; i < p->n_step; i++) {
        struct operands o = operands_of(m, &p->step[i], words);
        if (m->mode == PI_FLOAT)
            real_step(&p->step[i], &m->prepared->conv[i], &o, scratch);
        else
            fixed_step(&p->step[i], &m->prepared->conv[i], &o, scratch);
    }
    return 0;
}

/* ---- many images -------------------------------------------------------------------------- */

/* Where results go: one of the two. */
struct sink {
    float *real;
    int64_t *fixed;
};

/* y: results of this image. */
static void store(const struct pi_model *m, const void *y, int64_t image, const struct sink *to)
{
    int64_t n = pi_classes(m);

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

/* Images first ... first + n - 1 on shares, together. */
static int run_shares(const struct pi_model *m, enum pi_input kind, const uint8_t *images,
                      int64_t first, int64_t n, uint64_t *words, const struct sink *to)
{
    size_t size = pi_input_size(m->plan, kind);
    uint64_t *x = words + sim2pc_words(m->prepared, m->schedule, lot_of(m));
    uint64_t *y = x + lot_of(m) * m->plan->tensor[0].count;
    const struct sim2pc s = {m->prepared, m->schedule, m->test_seed,
                             m->linear != NULL && m->linear->third_party, m->own};

    for (int64_t i = 0; i < n; i++) {
        double *real = steps_scratch(m->prepared, words, lot_of(m));
        TRY(pi_input_real(m->plan, kind, images + (size_t)(first + i) * size, real));
        pi_input_fixed(m->plan, real, x + i * m->plan->tensor[0].count);
    }
    TRY(sim2pc_lot(&s, (uint64_t)(m->images + first), n, x, words, y));
    for (int64_t i = 0; i < n; i++)
        store(m, y + i * pi_classes(m), first + i, to);
    return 0;
}

/* Images [first, last) on one thread; the error names the image. */
static int run_range(const struct pi_model *m, enum pi_input kind, const void *images,
                     int64_t first, int64_t last, uint64_t *words, const struct sink *to)
{
    size_t size = pi_input_size(m->plan, kind);
    int32_t out = m->plan->step[m->plan->n_step - 1].out;
    int64_t lot = lot_of(m);

    for (int64_t i = first; i < last; i += lot) {
        int64_t n = last - i < lot ? last - i : lot;
        int rc;
        if (m->mode == PI_SIM2PC)
            rc = run_shares(m, kind, images, i, n, words, to);
        else if ((rc = run_image(m, kind, (const uint8_t *)images + (size_t)i * size, words)) == 0)
            store(m, words + m->prepared->slot[out], i, to);
        if (rc < 0)
            return fail_context(rc, "image %lld", (long long)i);
    }
    return 0;
}

static int run_all(const struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
                   const struct sink *to)
{
    int threads = m->own != NULL ? 1 : cpu_threads(); /* its errors depend on the order */
    size_t words = worker_words(m);
    int64_t bad = -1;

    threads = n < threads ? (int)n : threads;
    if (threads < 1)
        return 0;
    OWNED uint64_t *memory = mem_aligned((size_t)threads * words, sizeof *memory);
    if (memory == NULL)
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
    return bad < 0 ? 0 : run_range(m, kind, images, bad, n, memory, to);
}

static int open_backend(struct pi_model *m)
{
    struct share_rng shares;
    int rc;

    if (!runs_backend(m) || m->own != NULL)
        return 0;
    if ((rc = share_rng_init(&shares, (int64_t)m->test_seed)) == 0)
        rc = sim_linear_open(m->linear, m->prepared, &shares, &m->own);
    wipe(&shares, sizeof shares);
    return rc;
}

int pi_run(struct pi_model *m, enum pi_input kind, const void *images, int64_t n, float *logits)
{
    int rc = open_backend(m);

    if (rc == 0)
        rc = run_all(m, kind, images, n, &(struct sink){logits, NULL});

    m->images += n;
    return rc;
}

int pi_run_fixed(struct pi_model *m, enum pi_input kind, const void *images, int64_t n,
                 int64_t *logits)
{
    int rc;

    if (m->mode == PI_FLOAT)
        return fail(ERR_ARG, "float mode has no integers");
    if ((rc = open_backend(m)) == 0)
        rc = run_all(m, kind, images, n, &(struct sink){NULL, logits});
    m->images += n;
    return rc;
}
