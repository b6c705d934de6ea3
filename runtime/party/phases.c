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

#include <string.h>

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
    TRY(p->backend->offline_client(p->relu, &b, x, z, bundle_state(of, event)));
    account_end(&p->account, PHASE_OFFLINE_RELU, event);
    return 0;
}

/* The shares of all inputs, and the walk. */
static int walk_client(struct party *p, const struct steps *s, uint64_t *results)
{
    int64_t n = p->schedule->plan->tensor[0].count, k = p->schedule->results;

    for (int64_t i = 0; i < p->images; i++) {
        uint64_t *input = bundle_input(p->lot[i]);
        TRY(share_rng_words(&p->shares, SHARE_CLIENT, p->lot[i]->number, 0, input, n));
        memcpy(steps_tensor(s, 0) + i * n, input, (size_t)n * sizeof *input);
    }
    TRY(steps_run(s, results));
    for (int64_t i = 0; i < p->images; i++)
        memcpy(bundle_results(p->lot[i]), results + i * k, (size_t)k * sizeof *results);
    return 0;
}

int party_offline_client(struct party *p)
{
    size_t words = steps_words(p->o->model, p->images);
    uint64_t *own = p->images > 1 ? secret_array(words, sizeof *own) : NULL;
    uint64_t *results = secret_array((size_t)(p->images * p->schedule->results), sizeof *results);
    struct steps s = {p->o->model,   p->schedule,   true, p->images, own != NULL ? own : p->words,
                      client_linear, client_select, NULL, p};
    int rc = ERR_NOMEM;

    account_begin(&p->account);
    if (results != NULL && (own != NULL || p->images == 1) &&
        (rc = walk_client(p, &s, results)) == 0)
        rc = transport_flush(p->t);
    account_end(&p->account, PHASE_OFFLINE_RELU, ACCOUNT_NONE);
    secret_free(own);
    secret_free(results);
    return rc;
}

/* Offsets of a lot lie in its bundles one by one, the linear backend takes them in one piece. */
static int prepare_lot(struct party *p, const struct event *e, int32_t event)
{
    uint64_t *all = secret_array((size_t)(p->images * e->outputs), sizeof *all);
    size_t size = (size_t)e->outputs * sizeof *all;
    int rc;

    if (all == NULL)
        return ERR_NOMEM;
    for (int64_t i = 0; i < p->images; i++)
        memcpy(all + i * e->outputs, bundle_offset(p->lot[i], event), size);
    rc = p->linear.server(p->linear.ctx, e->step, p->images, all);
    for (int64_t i = 0; i < p->images; i++)
        memcpy(bundle_offset(p->lot[i], event), all + i * e->outputs, size);
    secret_free(all);
    return rc;
}

static int prepare_linear(struct party *p, int32_t event)
{
    const struct event *e = &p->schedule->event[event];

    for (int64_t i = 0; i < p->images; i++)
        TRY(share_rng_words(&p->shares, SHARE_SERVER, p->lot[i]->number, (uint32_t)event,
                            bundle_offset(p->lot[i], event), e->outputs));
    if (p->images > 1)
        TRY(prepare_lot(p, e, event));
    else
        TRY(p->linear.server(p->linear.ctx, e->step, 1, bundle_offset(p->lot[0], event)));
    account_end(&p->account, PHASE_OFFLINE_LINEAR, event);
    return 0;
}

/* Selections of one step: events first ... end - 1, image after image. */
static int prepare_selects(struct party *p, int32_t first, int32_t end)
{
    for (int64_t i = 0; i < p->images; i++)
        for (int32_t event = first; event < end; event++) {
            struct relu_batch b = bundle_batch(p->lot[i], event);
            TRY(p->backend->offline_server(p->relu, &b, bundle_state(p->lot[i], event)));
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

/* y = W E + b + s. */
static int server_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct party *p = ctx;
    const struct prepared *m = p->o->model;
    const struct event *e = &p->schedule->event[event];

    for (int64_t k = 0; k < p->images; k++, y += e->outputs, x += e->inputs) {
        const uint64_t *s = bundle_offset(p->lot[k], event);
        ring_conv(y, x, &m->conv[e->step], p->scratch);
        for (int64_t i = 0; i < e->outputs; i++)
            y[i] += s[i];
    }
    end_local(p);
    account_end(&p->account, PHASE_ONLINE, event);
    return 0;
}

static int server_select(void *ctx, int32_t event, int64_t image, const uint64_t *x, uint64_t *z)
{
    struct party *p = ctx;
    struct relu_batch b = bundle_batch(p->lot[image], event);

    end_local(p);
    TRY(p->backend->online_server(p->lane[image], &b, bundle_state(p->lot[image], event), x, z));
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

    return lanes_run(m.p->t, images, run_lane, &m);
}

int party_online_server(struct party *p)
{
    size_t words = steps_words(p->o->model, p->images), n = (size_t)p->images;
    size_t inputs = n * (size_t)p->schedule->plan->tensor[0].count;
    size_t results = n * (size_t)p->schedule->results;
    uint64_t *own = n > 1 ? secret_array(words, sizeof *own) : NULL;
    uint64_t *y = secret_array(results, sizeof *y);
    struct steps s = {
        p->o->model,   p->schedule,   false,    p->images, own != NULL ? own : p->words,
        server_linear, server_select, together, p};
    int rc = ERR_NOMEM;

    p->lane[0] = p->t;
    p->scratch = steps_scratch(p->o->model, s.words, p->images);
    account_begin(&p->account);
    if (y != NULL && (own != NULL || n == 1))
        rc = transport_recv(p->t, steps_tensor(&s, 0), inputs * sizeof *y);
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    if (rc == 0 && (rc = steps_run(&s, y)) == 0 &&
        (rc = transport_send(p->t, y, results * sizeof *y)) == 0)
        rc = transport_flush(p->t);
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    secret_free(own);
    secret_free(y);
    return rc;
}

static int client_lane(void *arg, int64_t lane, struct transport *t)
{
    const struct images *m = arg;
    struct party *p = m->p;

    for (int32_t i = m->first; i < m->end; i++) {
        struct relu_batch b = bundle_batch(p->lot[lane], i);
        TRY(p->backend->online_client(t, &b, bundle_state(p->lot[lane], i)));
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
            TRY(lanes_run(p->t, p->images, client_lane, &m));
    }
    return 0;
}

int party_online_client(struct party *p, const uint64_t *x, uint64_t *y)
{
    int64_t n = p->schedule->plan->tensor[0].count, k = p->schedule->results;

    account_begin(&p->account);
    for (int64_t image = 0; image < p->images; image++) {
        uint64_t *input = bundle_input(p->lot[image]);
        for (int64_t i = 0; i < n; i++)
            input[i] = x[image * n + i] - input[i];
        TRY(transport_send(p->t, input, (size_t)n * sizeof *input));
    }
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    TRY(client_events(p));
    TRY(transport_recv(p->t, y, (size_t)(p->images * k) * sizeof *y));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    for (int64_t image = 0; image < p->images; image++)
        for (int64_t i = 0; i < k; i++)
            y[image * k + i] += bundle_results(p->lot[image])[i];
    return 0;
}
