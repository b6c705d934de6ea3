/*
 * The client's walk, then the server's (sim2pc.h). The client leaves its share of every operand and
 * result of an event; the server's walk opens the operand, computes, and subtracts the client's
 * result share: exactly what the protocols arrange, because the two results add up to the plain one.
 * With rlwe they do not quite: the client's share of a linear step comes from that backend itself, run
 * on both sides (sim_linear.h), and the server's from its own formula.
 */
#include "runtime/party/sim2pc.h"

#include <string.h>

#include "runtime/crypto/share_rng.h"
#include "runtime/party/sim_linear.h"
#include "runtime/party/steps.h"

struct sim {
    const struct sim2pc *of;
    const struct share_rng *rng;
    uint64_t number;
    uint64_t *at;   /* next record of an event: operand, then result */
    uint64_t *open; /* an operand in the clear; rho of the dealer; an exact product */
    double *scratch;
};

/* Words of an event's operand and result. */
static int64_t words_in(const struct event *e)
{
    return e->kind == EVENT_LINEAR ? e->inputs : e->batch.n * e->batch.payloads;
}

static int64_t words_out(const struct event *e)
{
    return e->kind == EVENT_LINEAR ? e->outputs : e->batch.n * e->batch.payloads;
}

static void sizes(const struct schedule *s, int64_t *records, int64_t *largest)
{
    *records = *largest = 0;
    for (int32_t i = 0; i < s->n; i++) {
        int64_t in = words_in(&s->event[i]), out = words_out(&s->event[i]), n = in > out ? in : out;
        *records += in + out;
        *largest = n > *largest ? n : *largest;
    }
}

static void record(struct sim *s, const uint64_t *v, int64_t n)
{
    memcpy(s->at, v, (size_t)n * sizeof *v);
    s->at += n;
}

/* ---- client ------------------------------------------------------------------------------- */

/* u = W r - s, with rlwe and an error; with a dealer u = W rho - s, whatever r is (dealer.h). What is
 * recorded is all that the server's walk needs: u, with rlwe s. */
static int client_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct sim *s = ctx;
    const struct event *e = &s->of->schedule->event[event];
    bool dealer = s->of->linear == PI_LINEAR_DEALER;

    record(s, x, e->inputs);
    if (dealer) {
        TRY(share_rng_words(s->rng, DEAL_RHO, s->number, (uint32_t)event, s->open, e->inputs));
        x = s->open;
    }
    prepared_product(s->of->m, e->step, y, x, s->scratch);
    TRY(share_rng_words(s->rng, dealer ? DEAL_OFFSET : SHARE_SERVER, s->number, (uint32_t)event,
                        s->at, e->outputs));
    if (s->of->linear == PI_LINEAR_RLWE) {
        memcpy(s->open, y, (size_t)e->outputs * sizeof *y);
        TRY(sim_linear_step(s->of->rlwe, e->step, s->at, x, s->open, y));
        s->at += e->outputs;
        return 0;
    }
    for (int64_t i = 0; i < e->outputs; i++)
        y[i] -= s->at[i];
    record(s, y, e->outputs);
    return 0;
}

static int client_select(void *ctx, int32_t event, const uint64_t *x, uint64_t *z)
{
    struct sim *s = ctx;
    int64_t n = words_in(&s->of->schedule->event[event]);

    TRY(share_rng_words(s->rng, SHARE_CLIENT, s->number, 1 + (uint32_t)event, z, n));
    record(s, x, n);
    record(s, z, n);
    return 0;
}

/* ---- server ------------------------------------------------------------------------------- */

static void open_operand(struct sim *s, const uint64_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        s->open[i] = x[i] + s->at[i];
    s->at += n;
}

static void share_result(struct sim *s, uint64_t *y, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] -= s->at[i];
    s->at += n;
}

static int server_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct sim *s = ctx;
    const struct event *e = &s->of->schedule->event[event];

    if (s->of->linear == PI_LINEAR_RLWE) { /* y = W E + b + s, as the server itself has it */
        s->at += e->inputs;
        ring_conv(y, x, &s->of->m->conv[e->step], s->scratch);
        for (int64_t i = 0; i < e->outputs; i++)
            y[i] += s->at[i];
        s->at += e->outputs;
        return 0;
    }
    open_operand(s, x, e->inputs);
    ring_conv(y, s->open, &s->of->m->conv[e->step], s->scratch);
    share_result(s, y, e->outputs);
    return 0;
}

/* The sign is bit width-1 of x, as in ring_relu and in the backends. */
static int server_select(void *ctx, int32_t event, const uint64_t *x, uint64_t *z)
{
    struct sim *s = ctx;
    const struct relu_batch *b = &s->of->schedule->event[event].batch;
    int64_t n = b->n * b->payloads;

    open_operand(s, x, n);
    for (int64_t i = 0; i < n; i++)
        z[i] = s->open[i] & ((s->open[i % b->n] >> (b->width - 1) & 1) - 1);
    share_result(s, z, n);
    return 0;
}

/* ---- one image ---------------------------------------------------------------------------- */

size_t sim2pc_words(const struct prepared *m, const struct schedule *s)
{
    int64_t records, largest;

    sizes(s, &records, &largest);
    return steps_words(m) + (size_t)(records + largest + s->results);
}

int sim2pc_image(const struct sim2pc *of, uint64_t number, const uint64_t *x, uint64_t *words,
                 uint64_t *y)
{
    const struct prepared *m = of->m;
    const struct schedule *schedule = of->schedule;
    int64_t records, largest, inputs = m->plan->tensor[0].count;
    uint64_t *record_at = words + steps_words(m), *other;
    struct share_rng rng;
    struct sim s = {of, &rng, number, record_at, NULL, (double *)(void *)(words + m->slots)};
    struct steps client = {m, schedule, true, words, client_linear, client_select, &s};
    struct steps server = {m, schedule, false, words, server_linear, server_select, &s};
    uint64_t *share = words + m->slot[0];

    sizes(schedule, &records, &largest);
    s.open = record_at + records;
    other = s.open + largest;
    TRY(share_rng_init(&rng, (int64_t)of->test_seed));
    TRY(share_rng_words(&rng, SHARE_CLIENT, number, 0, share, inputs));
    TRY(steps_run(&client, other));
    TRY(share_rng_words(&rng, SHARE_CLIENT, number, 0, share, inputs));
    for (int64_t i = 0; i < inputs; i++)
        share[i] = x[i] - share[i];
    s.at = record_at;
    TRY(steps_run(&server, y));
    for (int64_t i = 0; i < schedule->results; i++)
        y[i] += other[i];
    return 0;
}
