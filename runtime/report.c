/* What a run counted, by phase and by layer, and what was predicted (report.h). */
#include "runtime/report.h"

/* ---- copying ------------------------------------------------------------------------------ */

static struct cost_count share_of(struct cost_count c, int64_t images)
{
    uint64_t n = (uint64_t)images;

    return (struct cost_count){c.sent / n, c.received / n, c.flips / n, c.seconds / (double)images};
}

int pi_report_init(struct pi_report *r, const struct party *p, const struct plan *plan)
{
    const struct account *a = party_account(p);
    int64_t images = a->queries > a->prepared ? a->queries : a->prepared;
    size_t n = (size_t)a->events + 2;

    *r = (struct pi_report){.plan = plan,
                            .relu = party_relu(p),
                            .linear = party_linear(p),
                            .images = images < 1 ? 1 : images};
    r->online = mem_array(n, sizeof *r->online);
    r->offline = mem_array(n, sizeof *r->offline);
    if (r->online == NULL || r->offline == NULL ||
        schedule_new(plan, party_schedule(p)->label, &r->schedule) < 0) {
        pi_report_release(r);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        r->online[i] = share_of(a->online[i], r->images);
        r->offline[i] = share_of(a->offline[i], r->images);
    }
    r->phase[PHASE_SETUP] = a->phase[PHASE_SETUP];
    for (int i = PHASE_SETUP + 1; i < PHASES; i++)
        r->phase[i] = share_of(a->phase[i], r->images);
    return 0;
}

void pi_report_release(struct pi_report *r)
{
    mem_free(r->online);
    mem_free(r->offline);
    schedule_free(r->schedule);
    *r = (struct pi_report){0};
}

int pi_report_predict(struct pi_report *r, const struct link *link, enum relu_transfers transfers,
                      bool ahead, const struct cost_machine *machine)
{
    const struct cost_case k = {.relu = r->relu,
                                .linear = r->linear,
                                .link = link,
                                .transfers = transfers,
                                .ahead = ahead,
                                .machine = machine,
                                .images = r->images,
                                .label = r->schedule->label};

    TRY(cost_estimate(r->plan, &k, &r->predicted));
    r->has_prediction = true;
    return 0;
}

double pi_report_predicted(const struct pi_report *r, enum phase p)
{
    switch (p) {
    case PHASE_OFFLINE_LINEAR:
        return r->predicted.offline_linear_seconds;
    case PHASE_OFFLINE_RELU:
        return r->predicted.offline_relu_seconds;
    default:
        return r->predicted.online_seconds;
    }
}

/* ---- layers: events of one step put together ---------------------------------------------- */

static struct pi_layer layer_of(const struct pi_report *r, int32_t step)
{
    struct pi_layer l = {.name = "argmax"};

    if (step < r->plan->n_step) {
        const struct plan_step *s = &r->plan->step[step];
        l.name = s->name;
        l.kept = s->kind == PLAN_RELU ? s->u.relu.kept : 0;
        l.total = s->kind == PLAN_RELU ? s->u.relu.total : 0;
    }
    for (int32_t i = 0; i < r->schedule->n; i++)
        if (r->schedule->event[i].step == step) {
            l.width = r->schedule->event[i].batch.width;
            l.evaluations += r->schedule->event[i].batch.n;
            cost_add(&l.online, &r->online[i]);
            cost_add(&l.offline, &r->offline[i]);
        }
    return l;
}

void pi_report_each_layer(const struct pi_report *r, pi_layer_fn *visit, void *ctx)
{
    int32_t n = r->schedule->n, last = r->plan->n_step + r->schedule->label;
    struct pi_layer ends[2] = {{.name = "(input)", .online = r->online[n]},
                               {.name = "(result)", .online = r->online[n + 1]}};

    visit(ctx, &ends[0]);
    for (int32_t i = 0; i < last; i++) {
        struct pi_layer l = layer_of(r, i);
        enum plan_kind k = i < r->plan->n_step ? r->plan->step[i].kind : PLAN_MAX_POOL;
        if (k == PLAN_CONV || k == PLAN_GEMM || k == PLAN_RELU || k == PLAN_MAX_POOL)
            visit(ctx, &l);
    }
    visit(ctx, &ends[1]);
}

uint64_t pi_report_relu_bytes(const struct pi_report *r)
{
    uint64_t n = 0;

    for (int32_t i = 0; i < r->schedule->n; i++)
        if (r->schedule->event[i].kind == EVENT_SELECT)
            n += r->online[i].sent + r->online[i].received;
    return n;
}

/* ---- predictions -------------------------------------------------------------------------- */

int pi_each_cost(const struct plan *p, const struct cost_machine *m, pi_cost_fn *visit, void *ctx)
{
    for (const struct relu_backend *const *r = relu_backends(); *r != NULL; r++)
        for (const struct link *l = link_list(); l->name != NULL; l++) {
            struct cost c;
            TRY(cost_estimate(p, &(struct cost_case){.relu = *r, .link = l, .machine = m}, &c));
            visit(ctx, &c);
        }
    return 0;
}
