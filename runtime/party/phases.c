/*
 * The phases of one image (PROTOCOL.md).
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

/* ---- offline ------------------------------------------------------------------------------ */

static int client_linear(void *ctx, int32_t event, uint64_t *y, const uint64_t *x)
{
    struct party *p = ctx;

    TRY(p->linear.client(p->linear.ctx, p->schedule->event[event].step, 1, x, y));
    account_end(&p->account, PHASE_OFFLINE_LINEAR, event);
    return 0;
}

static int client_select(void *ctx, int32_t event, const uint64_t *x, uint64_t *z)
{
    struct party *p = ctx;
    struct relu_batch b = bundle_batch(p->bundle, event);

    TRY(share_rng_words(&p->shares, SHARE_CLIENT, p->bundle->number, 1 + (uint32_t)event, z,
                        b.n * b.payloads));
    TRY(p->backend->offline_client(p->relu, &b, x, z, bundle_state(p->bundle, event)));
    account_end(&p->account, PHASE_OFFLINE_RELU, event);
    return 0;
}

int party_offline_client(struct party *p)
{
    struct steps s = {p->o->model, p->schedule, true, p->words, client_linear, client_select, p};
    uint64_t *input = bundle_input(p->bundle);
    int64_t n = p->schedule->plan->tensor[0].count;

    account_begin(&p->account);
    TRY(share_rng_words(&p->shares, SHARE_CLIENT, p->bundle->number, 0, input, n));
    memcpy(p->words + p->o->model->slot[0], input, (size_t)n * sizeof *input);
    TRY(steps_run(&s, bundle_results(p->bundle)));
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_OFFLINE_RELU, ACCOUNT_NONE);
    return 0;
}

static int prepare_linear(struct party *p, int32_t event)
{
    const struct event *e = &p->schedule->event[event];
    uint64_t *s = bundle_offset(p->bundle, event);

    TRY(share_rng_words(&p->shares, SHARE_SERVER, p->bundle->number, (uint32_t)event, s,
                        e->outputs));
    TRY(p->linear.server(p->linear.ctx, e->step, 1, s));
    account_end(&p->account, PHASE_OFFLINE_LINEAR, event);
    return 0;
}

static int prepare_select(struct party *p, int32_t event)
{
    struct relu_batch b = bundle_batch(p->bundle, event);

    TRY(p->backend->offline_server(p->relu, &b, bundle_state(p->bundle, event)));
    account_end(&p->account, PHASE_OFFLINE_RELU, event);
    return 0;
}

int party_offline_server(struct party *p)
{
    account_begin(&p->account);
    for (int32_t i = 0; i < p->schedule->n; i++)
        TRY(p->schedule->event[i].kind == EVENT_LINEAR ? prepare_linear(p, i)
                                                       : prepare_select(p, i));
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
    const uint64_t *s = bundle_offset(p->bundle, event);

    ring_conv(y, x, &m->conv[e->step], (double *)(void *)(p->words + m->slots));
    for (int64_t i = 0; i < e->outputs; i++)
        y[i] += s[i];
    end_local(p);
    account_end(&p->account, PHASE_ONLINE, event);
    return 0;
}

static int server_select(void *ctx, int32_t event, const uint64_t *x, uint64_t *z)
{
    struct party *p = ctx;
    struct relu_batch b = bundle_batch(p->bundle, event);

    end_local(p);
    TRY(p->backend->online_server(p->t, &b, bundle_state(p->bundle, event), x, z));
    account_end(&p->account, PHASE_ONLINE, event);
    return 0;
}

int party_online_server(struct party *p)
{
    struct steps s = {p->o->model, p->schedule, false, p->words, server_linear, server_select, p};
    uint64_t *e = p->words + p->o->model->slot[0];
    size_t results = (size_t)p->schedule->results;
    uint64_t *y = secret_array(results, sizeof *y);
    int rc;

    if (y == NULL)
        return ERR_NOMEM;
    account_begin(&p->account);
    rc = transport_recv(p->t, e, (size_t)p->schedule->plan->tensor[0].count * sizeof *e);
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    if (rc == 0 && (rc = steps_run(&s, y)) == 0 &&
        (rc = transport_send(p->t, y, results * sizeof *y)) == 0)
        rc = transport_flush(p->t);
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    secret_free(y);
    return rc;
}

static int client_events(struct party *p)
{
    for (int32_t i = 0; i < p->schedule->n; i++) {
        struct relu_batch b = bundle_batch(p->bundle, i);
        if (p->schedule->event[i].kind != EVENT_SELECT)
            continue;
        TRY(p->backend->online_client(p->t, &b, bundle_state(p->bundle, i)));
        account_end(&p->account, PHASE_ONLINE, i);
    }
    return 0;
}

int party_online_client(struct party *p, const uint64_t *x, uint64_t *y)
{
    uint64_t *input = bundle_input(p->bundle), *results = bundle_results(p->bundle);
    int64_t n = p->schedule->plan->tensor[0].count, k = p->schedule->results;

    account_begin(&p->account);
    for (int64_t i = 0; i < n; i++)
        input[i] = x[i] - input[i];
    TRY(transport_send(p->t, input, (size_t)n * sizeof *input));
    TRY(transport_flush(p->t));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_INPUT(&p->account));
    TRY(client_events(p));
    TRY(transport_recv(p->t, y, (size_t)k * sizeof *y));
    account_end(&p->account, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
    for (int64_t i = 0; i < k; i++)
        y[i] += results[i];
    return 0;
}
