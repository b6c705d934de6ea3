/*
 * The client's walk, then the server's (sim2pc.h). The client leaves its share of every operand and
 * result of an event; the server's walk opens the operand, computes, and subtracts the client's
 * result share: exactly what the protocols arrange, because the two results add up to the plain one.
 * With ring-LWE they do not quite: the client's share of a linear step comes from that backend itself,
 * run on both sides (sim_linear.h), and the server's from its own formula.
 */
#include "runtime/party/sim2pc.h"

#include <string.h>

#include "runtime/crypto/share_rng.h"
#include "runtime/party/sim_linear.h"
#include "runtime/party/steps.h"

struct sim {
    const struct sim2pc *of;
    const struct share_rng *rng;
    uint64_t number; /* of the first image */
    int64_t images;
    uint64_t *at;   /* next record of an event: operand, then result, each of all images */
    uint64_t *open; /* an operand in the clear; rho of the dealer; exact products */
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

/* u = W r - s, and an error where the backend runs itself; with a dealer u = W rho - s, whatever r is
 * (dealer.h). What is recorded is all that the server's walk needs: u, or s where the backend runs. */
static int client_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct sim *s = ctx;
    const struct event *e = &s->of->schedule->event[event];
    const bool dealer = s->of->dealer, own = s->of->own != NULL;
    int64_t all = s->images * e->outputs;
    uint64_t *offset;

    record(s, x, s->images * e->inputs);
    offset = s->at;
    for (int64_t i = 0; i < s->images; i++) {
        const uint64_t *r = x + i * e->inputs;
        uint64_t number = s->number + (uint64_t)i;
        if (dealer) {
            TRY(share_rng_words(s->rng, DEAL_RHO, number, (uint32_t)event, s->open, e->inputs));
            r = s->open;
        }
        prepared_product(s->of->m, e->step, y + i * e->outputs, r, s->scratch);
        TRY(share_rng_words(s->rng, dealer ? DEAL_OFFSET : SHARE_SERVER, number, (uint32_t)event,
                            offset + i * e->outputs, e->outputs));
    }
    if (own) {
        memcpy(s->open, y, (size_t)all * sizeof *y);
        TRY(sim_linear_step(s->of->own, e->step, s->images, offset, x, s->open, y));
        s->at += all;
        return 0;
    }
    for (int64_t i = 0; i < all; i++)
        y[i] -= offset[i];
    record(s, y, all);
    return 0;
}

static int client_select(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z)
{
    struct sim *s = ctx;
    int64_t n = words_in(&s->of->schedule->event[event]);

    TRY(share_rng_words(s->rng, SHARE_CLIENT, s->number + (uint64_t)image, 1 + (uint32_t)event, z,
                        n));
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
    const bool own = s->of->own != NULL;
    int64_t all = s->images * e->outputs;

    if (own) /* y = W E + b + s, as the server itself has it */
        s->at += s->images * e->inputs;
    else
        open_operand(s, x, s->images * e->inputs);
    for (int64_t i = 0; i < s->images; i++)
        ring_conv(y + i * e->outputs, (own ? x : s->open) + i * e->inputs, &s->of->m->conv[e->step],
                  s->scratch);
    for (int64_t i = 0; own && i < all; i++)
        y[i] += s->at[i];
    if (own)
        s->at += all;
    else
        share_result(s, y, all);
    return 0;
}

/* The sign is bit width-1 of x, as in ring_relu and in the backends. */
static int server_select(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z)
{
    struct sim *s = ctx;
    const struct relu_batch *b = &s->of->schedule->event[event].batch;
    int64_t n = b->n * b->payloads;

    (void)image;
    open_operand(s, x, n);
    for (int64_t i = 0; i < n; i++)
        z[i] = s->open[i] & ((s->open[i % b->n] >> (b->width - 1) & 1) - 1);
    share_result(s, z, n);
    return 0;
}

/* ---- the images of a lot ------------------------------------------------------------------ */

size_t sim2pc_words(const struct prepared *m, const struct schedule *s, int64_t images)
{
    int64_t records, largest;

    sizes(s, &records, &largest);
    return steps_words(m, images) + (size_t)(images * (records + largest + s->results));
}

/* x - r where x is given, else r. */
static int share_inputs(const struct sim *s, uint64_t *share, const uint64_t *x)
{
    int64_t n = s->of->m->plan->tensor[0].count;

    for (int64_t i = 0; i < s->images; i++, share += n) {
        TRY(share_rng_words(s->rng, SHARE_CLIENT, s->number + (uint64_t)i, 0, share, n));
        for (int64_t k = 0; x != NULL && k < n; k++)
            share[k] = x[i * n + k] - share[k];
    }
    return 0;
}

int sim2pc_lot(const struct sim2pc *of, uint64_t number, int64_t images, const uint64_t *x,
               uint64_t *words, uint64_t *y)
{
    const struct prepared *m = of->m;
    const struct schedule *schedule = of->schedule;
    uint64_t *record_at = words + steps_words(m, images), *other;
    int64_t records, largest;
    struct share_rng rng;
    struct sim s = {.of = of,
                    .rng = &rng,
                    .number = number,
                    .images = images,
                    .at = record_at,
                    .scratch = steps_scratch(m, words, images)};
    struct steps client = {m,    schedule, true, images, words, client_linear, client_select,
                           NULL, &s};
    struct steps server = {m,    schedule, false, images, words, server_linear, server_select,
                           NULL, &s};

    sizes(schedule, &records, &largest);
    s.open = record_at + images * records;
    other = s.open + images * largest;
    TRY(share_rng_init(&rng, (int64_t)of->test_seed));
    TRY(share_inputs(&s, steps_tensor(&client, 0), NULL));
    TRY(steps_run(&client, other));
    TRY(share_inputs(&s, steps_tensor(&server, 0), x));
    s.at = record_at;
    TRY(steps_run(&server, y));
    for (int64_t i = 0; i < images * schedule->results; i++)
        y[i] += other[i];
    return 0;
}
