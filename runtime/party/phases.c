/*
 * The phases of one image, or of a batch of them in one pass (PROTOCOL.md).
 *
 * Offline the client walks the whole program on its shares: every linear step and every batch is
 * prepared with the server, which only follows the schedule. Online the server walks; the client
 * follows. Between two events nothing is sent.
 *
 *     online   client -> server   x - r, 8 bytes an input element
 *              every batch of selections, as its backend has it
 *              server -> client   its share of the results, 8 bytes each
 */
#include "runtime/party/phases.h"

#include "core/base/cpu.h"
#include "runtime/net/lanes.h"

/* ---- offline ------------------------------------------------------------------------------ */

static int client_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct party *p = ctx;

    TRY(p->linear.client(p->linear.ctx, p->schedule->event[event].step, p->images, x, y));
    account_end(&p->account, PHASE_OFFLINE_LINEAR, event);
    return 0;
}

static int client_select(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z)
{
    struct party *p = ctx;
    const struct bundle *of = p->lot[image];
    struct relu_batch b = bundle_batch(of, event);

    TRY(share_rng_words(&p->shares, SHARE_CLIENT, of->number, 1 + (uint32_t)event, z,
                        b.n * b.payloads));
    TRY(p->backend->offline_client(p->relu, &b, x, z, of->tape));
    account_end(&p->account, PHASE_OFFLINE_RELU, event);
    return tape_check(of->tape);
}

/* Words of all steps: the party's for one image, more of its own for several. */
static uint64_t *walk_memory(const struct party *p, uint64_t **own)
{
    if (p->images == 1)
        return p->words;
    return *own = secret_array(steps_words(p->o->model, p->images), sizeof **own);
}

/* The shares of all inputs, and the walk. */
static int walk_client(struct party *p, const struct steps *s, uint64_t *results)
{
    int64_t n = p->schedule->plan->tensor[0].count, k = p->schedule->results;

    for (int64_t i = 0; i < p->images; i++) {
        uint64_t *input = steps_tensor(s, 0) + i * n;
        TRY(share_rng_words(&p->shares, SHARE_CLIENT, p->lot[i]->number, 0, input, n));
        tape_put(p->lot[i]->tape, input, (size_t)n * sizeof *input);
    }
    TRY(steps_run(s, results));
    for (int64_t i = 0; i < p->images; i++)
        tape_put(p->lot[i]->tape, results + i * k, (size_t)k * sizeof *results);
    return 0;
}

int party_offline_client(struct party *p)
{
    SECRET uint64_t *own = NULL;
    SECRET uint64_t *results =
        secret_array((size_t)(p->images * p->schedule->results), sizeof *results);
    struct steps s = {p->o->model,   p->schedule,   true, p->images, NULL,
                      client_linear, client_select, NULL, p};

    account_begin(&p->account);
    if (results == NULL || (s.words = walk_memory(p, &own)) == NULL)
        return ERR_NOMEM;
    TRY(walk_client(p, &s, results));
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_OFFLINE_RELU, ACCOUNT_NONE);
    return 0;
}

/* The offsets of all images, drawn, prepared and kept. all: memory for them. */
static int make_offsets(struct party *p, const struct event *e, int32_t event, uint64_t *all)
{
    for (int64_t i = 0; i < p->images; i++)
        TRY(share_rng_words(&p->shares, SHARE_SERVER, p->lot[i]->number, (uint32_t)event,
                            all + i * e->outputs, e->outputs));
    TRY(p->linear.server(p->linear.ctx, e->step, p->images, all));
    for (int64_t i = 0; i < p->images; i++)
        tape_put(p->lot[i]->tape, all + i * e->outputs, (size_t)e->outputs * sizeof *all);
    return 0;
}

static int prepare_linear(struct party *p, int32_t event)
{
    const struct event *e = &p->schedule->event[event];
    SECRET uint64_t *all = secret_array((size_t)(p->images * e->outputs), sizeof *all);

    if (all == NULL)
        return ERR_NOMEM;
    TRY(make_offsets(p, e, event, all));
    account_end(&p->account, PHASE_OFFLINE_LINEAR, event);
    return 0;
}

/* Selections of one step: events first ... end - 1, image after image. */
static int prepare_selects(struct party *p, int32_t first, int32_t end)
{
    for (int64_t i = 0; i < p->images; i++)
        for (int32_t event = first; event < end; event++) {
            struct relu_batch b = bundle_batch(p->lot[i], event);
            TRY(p->backend->offline_server(p->relu, &b, p->lot[i]->tape));
            account_end(&p->account, PHASE_OFFLINE_RELU, event);
        }
    return 0;
}

int party_offline_server(struct party *p)
{
    const struct event *e = p->schedule->event;
    int32_t end;

    account_begin(&p->account);
    for (int32_t i = 0; i < p->schedule->n; i = end) {
        for (end = i + 1; end < p->schedule->n && e[end].step == e[i].step;)
            end++;
        TRY(e[i].kind == EVENT_LINEAR ? prepare_linear(p, i) : prepare_selects(p, i, end));
    }
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_OFFLINE_RELU, ACCOUNT_NONE);
    return 0;
}

/* ---- online ------------------------------------------------------------------------------- */

/* What passed since the last event was arithmetic of our own: products, adds, truncation. */
static void end_local(struct party *p)
{
    p->account.linear_seconds += cpu_seconds() - p->account.time;
}

/* y += s; s: memory for it. */
static int add_offset(const struct bundle *b, int32_t event, int64_t n, uint64_t *s, uint64_t *y)
{
    TRY(tape_take(b->tape, b->offset[event], s, (size_t)n * sizeof *s));
    for (int64_t i = 0; i < n; i++)
        y[i] += s[i];
    return 0;
}

/* y = W E + b + s. */
static int server_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct party *p = ctx;
    const struct prepared *m = p->o->model;
    const struct event *e = &p->schedule->event[event];
    SECRET uint64_t *s = secret_array((size_t)e->outputs, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    for (int64_t k = 0; k < p->images; k++, y += e->outputs, x += e->inputs) {
        ring_conv(y, x, &m->conv[e->step], p->scratch);
        TRY(add_offset(p->lot[k], event, e->outputs, s, y));
    }
    end_local(p);
    account_end(&p->account, PHASE_ONLINE, event);
    return 0;
}

static int server_select(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z)
{
    struct party *p = ctx;
    const struct bundle *of = p->lot[image];
    struct relu_batch b = bundle_batch(of, event);

    end_local(p);
    TRY(p->backend->online_server(p->lane[image], &b, of->tape, of->offset[event], x, z));
    account_end(&p->account, PHASE_ONLINE, event);
    return 0;
}

/* A lane an image. */
struct images {
    struct party *p;
    int (*one)(void *arg, int64_t image);
    void *arg;
    int32_t first, end; /* events of a step, client */
};

static int run_lane(void *arg, int64_t lane, struct transport *t)
{
    const struct images *m = arg;

    m->p->lane[lane] = t;
    return m->one(m->arg, lane);
}

static int together(void *ctx, int64_t images, int (*one)(void *arg, int64_t image), void *arg)
{
    struct images m = {.p = ctx, .one = one, .arg = arg};

    return lanes_run(m.p->t, images, false, run_lane, &m);
}

int party_online_server(struct party *p)
{
    size_t n = (size_t)p->images, inputs = n * (size_t)p->schedule->plan->tensor[0].count;
    size_t results = n * (size_t)p->schedule->results;
    SECRET uint64_t *own = NULL;
    SECRET uint64_t *y = secret_array(results, sizeof *y);
    struct steps s = {p->o->model,   p->schedule,   false,    p->images, NULL,
                      server_linear, server_select, together, p};

    if (y == NULL || (s.words = walk_memory(p, &own)) == NULL)
        return ERR_NOMEM;
    p->lane[0] = p->t;
    p->scratch = steps_scratch(p->o->model, s.words, p->images);
    account_begin(&p->account);
    TRY(transport_recv(p->t, steps_tensor(&s, 0), inputs * sizeof *y));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    TRY(steps_run(&s, y));
    TRY(transport_send(p->t, y, results * sizeof *y));
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    return 0;
}

static int client_lane(void *arg, int64_t lane, struct transport *t)
{
    const struct images *m = arg;
    struct party *p = m->p;

    for (int32_t i = m->first; i < m->end; i++) {
        const struct bundle *of = p->lot[lane];
        struct relu_batch b = bundle_batch(of, i);
        TRY(p->backend->online_client(t, &b, of->tape, of->offset[i]));
        account_end(&p->account, PHASE_ONLINE, i);
    }
    return 0;
}

/* Step by step, as the server. */
static int client_events(struct party *p)
{
    const struct event *e = p->schedule->event;
    struct images m = {.p = p};

    for (; m.first < p->schedule->n; m.first = m.end) {
        for (m.end = m.first + 1; m.end < p->schedule->n && e[m.end].step == e[m.first].step;)
            m.end++;
        if (e[m.first].kind == EVENT_SELECT)
            TRY(lanes_run(p->t, p->images, false, client_lane, &m));
    }
    return 0;
}

/* x - r of an image; masked: memory for it. */
static int send_input(struct party *p, int64_t image, const uint64_t *x, uint64_t *masked)
{
    int64_t n = p->schedule->plan->tensor[0].count;

    TRY(tape_take(p->lot[image]->tape, 0, masked, (size_t)n * sizeof *masked));
    for (int64_t i = 0; i < n; i++)
        masked[i] = x[image * n + i] - masked[i];
    return transport_send(p->t, masked, (size_t)n * sizeof *masked);
}

static int send_inputs(struct party *p, const uint64_t *x)
{
    size_t n = (size_t)p->schedule->plan->tensor[0].count;
    SECRET uint64_t *masked = secret_array(n, sizeof *masked);

    if (masked == NULL)
        return ERR_NOMEM;
    for (int64_t image = 0; image < p->images; image++)
        TRY(send_input(p, image, x, masked));
    return transport_flush(p->t);
}

static int take_results(struct party *p, uint64_t *y)
{
    int64_t k = p->schedule->results;
    SECRET uint64_t *own = secret_array((size_t)k, sizeof *own);

    if (own == NULL)
        return ERR_NOMEM;
    for (int64_t image = 0; image < p->images; image++, y += k) {
        const struct bundle *b = p->lot[image];
        TRY(tape_take(b->tape, bundle_results(b), own, (size_t)k * sizeof *own));
        for (int64_t i = 0; i < k; i++)
            y[i] += own[i];
    }
    return 0;
}

int party_online_client(struct party *p, const uint64_t *x, uint64_t *y)
{
    account_begin(&p->account);
    TRY(send_inputs(p, x));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    TRY(client_events(p));
    TRY(transport_recv(p->t, y, (size_t)(p->images * p->schedule->results) * sizeof *y));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    return take_results(p, y);
}
