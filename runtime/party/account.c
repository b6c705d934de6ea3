/* Counting (account.h). */
#include "runtime/party/account.h"

#include "core/base/cpu.h"

const char *phase_name(enum phase p)
{
    static const char *const names[PHASES] = {"setup", "offline_linear", "offline_relu", "online"};

    return names[p];
}

int account_init(struct account *a, struct transport *t, int32_t events)
{
    *a = (struct account){.t = t, .events = events};
    a->online = mem_array((size_t)events + 2, sizeof *a->online);
    a->offline = mem_array((size_t)events + 2, sizeof *a->offline);
    if (a->online == NULL || a->offline == NULL) {
        account_release(a);
        return ERR_NOMEM;
    }
    account_begin(a);
    return 0;
}

void account_release(struct account *a)
{
    mem_free(a->online);
    mem_free(a->offline);
    a->online = a->offline = NULL;
}

void account_begin(struct account *a)
{
    a->seen = a->t->count;
    a->time = cpu_seconds();
}

void cost_add(struct cost_count *to, const struct cost_count *n)
{
    to->sent += n->sent;
    to->received += n->received;
    to->flips += n->flips;
    to->seconds += n->seconds;
}

void account_end(struct account *a, enum phase p, int32_t event)
{
    const struct transport_count *now = &a->t->count;
    double time = cpu_seconds();
    struct cost_count n = {now->sent - a->seen.sent, now->received - a->seen.received,
                           now->flips - a->seen.flips, time - a->time};

    cost_add(&a->phase[p], &n);
    if (event != ACCOUNT_NONE)
        cost_add(p == PHASE_ONLINE ? &a->online[event] : &a->offline[event], &n);
    a->seen = *now;
    a->time = time;
}
