/* Accounts for people and machines (pi_report.h). */
#include "cli/pi/report.h"

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

int pi_report_predict(struct pi_report *r, const struct link *link,
                      const struct cost_machine *machine)
{
    const struct cost_case k = {.relu = r->relu,
                                .linear = r->linear,
                                .link = link,
                                .machine = machine,
                                .images = r->images};

    TRY(cost_estimate(r->plan, &k, &r->predicted));
    r->has_prediction = true;
    return 0;
}

static double predicted(const struct pi_report *r, enum phase p)
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

struct layer {
    const char *name;
    int64_t kept, total;
    int32_t width; /* of comparisons, 0: none */
    struct cost_count online, offline;
};

static void add(struct cost_count *to, const struct cost_count *c)
{
    to->sent += c->sent;
    to->received += c->received;
    to->flips += c->flips;
    to->seconds += c->seconds;
}

static struct layer layer_of(const struct pi_report *r, int32_t step)
{
    struct layer l = {.name = "argmax"};

    if (step < r->plan->n_step) {
        const struct plan_step *s = &r->plan->step[step];
        l.name = s->name;
        l.kept = s->kind == PLAN_RELU ? s->u.relu.kept : 0;
        l.total = s->kind == PLAN_RELU ? s->u.relu.total : 0;
    }
    for (int32_t i = 0; i < r->schedule->n; i++)
        if (r->schedule->event[i].step == step) {
            l.width = r->schedule->event[i].batch.width;
            add(&l.online, &r->online[i]);
            add(&l.offline, &r->offline[i]);
        }
    return l;
}

/* Input, every step that may interact, argmax, result. */
typedef void layer_fn(void *ctx, const struct layer *l);

static void each_layer(const struct pi_report *r, layer_fn *visit, void *ctx)
{
    int32_t n = r->schedule->n, last = r->plan->n_step + r->schedule->label;
    struct layer ends[2] = {{.name = "(input)", .online = r->online[n]},
                            {.name = "(result)", .online = r->online[n + 1]}};

    visit(ctx, &ends[0]);
    for (int32_t i = 0; i < last; i++) {
        struct layer l = layer_of(r, i);
        enum plan_kind k = i < r->plan->n_step ? r->plan->step[i].kind : PLAN_MAX_POOL;
        if (k == PLAN_CONV || k == PLAN_GEMM || k == PLAN_RELU || k == PLAN_MAX_POOL)
            visit(ctx, &l);
    }
    visit(ctx, &ends[1]);
}

/* ---- for people --------------------------------------------------------------------------- */

void pi_report_phases(FILE *f, const struct pi_report *r)
{
    fprintf(f, "%-15s %14s %14s %7s %9s%s\n", "phase", "client sends", "server sends", "rounds",
            "seconds", r->has_prediction ? "  predicted" : "");
    for (int i = 0; i < PHASES; i++) {
        const struct cost_count *c = &r->phase[i];
        fprintf(f, "%-15s %14llu %14llu %7g %9.3f", phase_name((enum phase)i),
                (unsigned long long)c->sent, (unsigned long long)c->received, (double)c->flips / 2,
                c->seconds);
        if (r->has_prediction && i != PHASE_SETUP)
            fprintf(f, "  %9.3f", predicted(r, (enum phase)i));
        fputc('\n', f);
    }
}

static void print_layer(void *ctx, const struct layer *l)
{
    fprintf(ctx, "%-32s %9lld %9lld %12llu %7g %9.4f %12llu %9.4f\n", l->name, (long long)l->kept,
            (long long)l->total, (unsigned long long)(l->online.sent + l->online.received),
            (double)l->online.flips / 2, l->online.seconds,
            (unsigned long long)(l->offline.sent + l->offline.received), l->offline.seconds);
}

void pi_report_layers(FILE *f, const struct pi_report *r)
{
    fprintf(f, "%-32s %9s %9s %12s %7s %9s %12s %9s\n", "layer", "kept", "of", "online B", "rounds",
            "seconds", "offline B", "seconds");
    each_layer(r, print_layer, f);
}

/* ---- JSON --------------------------------------------------------------------------------- */

json_t *pi_report_phases_json(const struct pi_report *r)
{
    json_t *a = json_array();

    for (int i = PHASE_OFFLINE_LINEAR; i < PHASES && a != NULL; i++) {
        const struct cost_count *c = &r->phase[i];
        json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", phase_name((enum phase)i),
                              "bytes_sent_client", (json_int_t)c->sent, "bytes_sent_server",
                              (json_int_t)c->received, "rounds", (double)c->flips / 2, "seconds",
                              c->seconds);
        if (r->has_prediction && o != NULL)
            json_object_set_new(o, "predicted_seconds", cli_json_real(predicted(r, (enum phase)i)));
        json_array_append_new(a, o);
    }
    return a;
}

static void layer_json(void *ctx, const struct layer *l)
{
    json_array_append_new(ctx, json_pack("{s:s, s:I, s:I, s:i, s:I, s:f, s:f, s:I, s:f}", "name",
                                         l->name, "relus_kept", (json_int_t)l->kept, "relus_total",
                                         (json_int_t)l->total, "width", l->width, "online_bytes",
                                         (json_int_t)(l->online.sent + l->online.received),
                                         "online_rounds", (double)l->online.flips / 2,
                                         "online_seconds", l->online.seconds, "offline_bytes",
                                         (json_int_t)(l->offline.sent + l->offline.received),
                                         "offline_seconds", l->offline.seconds));
}

json_t *pi_report_totals_json(const struct cost_count phase[PHASES])
{
    json_t *a = json_array();

    for (int i = 0; i < PHASES && a != NULL; i++) {
        const struct cost_count *c = &phase[i];
        json_array_append_new(a, json_pack("{s:s, s:I, s:I, s:f, s:f}", "name",
                                           phase_name((enum phase)i), "bytes_sent_client",
                                           (json_int_t)c->received, "bytes_sent_server",
                                           (json_int_t)c->sent, "rounds", (double)c->flips / 2,
                                           "seconds", c->seconds));
    }
    return a;
}

json_t *pi_report_setup_json(const struct pi_report *r)
{
    const struct cost_count *c = &r->phase[PHASE_SETUP];

    return json_pack("{s:I, s:I, s:f}", "bytes_sent_client", (json_int_t)c->sent,
                     "bytes_sent_server", (json_int_t)c->received, "seconds", c->seconds);
}

json_t *pi_report_layers_json(const struct pi_report *r)
{
    json_t *a = json_array();

    if (a != NULL)
        each_layer(r, layer_json, a);
    return a;
}

uint64_t pi_report_relu_bytes(const struct pi_report *r)
{
    uint64_t n = 0;

    for (int32_t i = 0; i < r->schedule->n; i++)
        if (r->schedule->event[i].kind == EVENT_SELECT)
            n += r->online[i].sent + r->online[i].received;
    return n;
}
