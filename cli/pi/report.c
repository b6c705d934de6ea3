/* Accounts for people and machines (cli/pi/report.h). */
#include "cli/pi/report.h"

#include "core/base/json.h"

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
            fprintf(f, "  %9.3f", pi_report_predicted(r, (enum phase)i));
        fputc('\n', f);
    }
}

static void print_layer(void *ctx, const struct pi_layer *l)
{
    fprintf(ctx, "%-32s %9lld %9lld %9lld %12llu %7g %9.4f %12llu %9.4f\n", l->name,
            (long long)l->kept, (long long)l->total, (long long)l->evaluations,
            (unsigned long long)(l->online.sent + l->online.received), (double)l->online.flips / 2,
            l->online.seconds, (unsigned long long)(l->offline.sent + l->offline.received),
            l->offline.seconds);
}

void pi_report_layers(FILE *f, const struct pi_report *r)
{
    fprintf(f, "%-32s %9s %9s %9s %12s %7s %9s %12s %9s\n", "layer", "kept", "of", "compared",
            "online B", "rounds", "seconds", "offline B", "seconds");
    pi_report_each_layer(r, print_layer, f);
}

/* ---- JSON --------------------------------------------------------------------------------- */

json_t *pi_report_phases_json(const struct pi_report *r)
{
    json_t *a = json_array();

    for (int i = PHASE_OFFLINE_LINEAR; i < PHASES; i++) {
        const struct cost_count *c = &r->phase[i];
        json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", phase_name((enum phase)i),
                              "bytes_sent_client", (json_int_t)c->sent, "bytes_sent_server",
                              (json_int_t)c->received, "rounds", (double)c->flips / 2, "seconds",
                              c->seconds);
        if (r->has_prediction)
            json_put(&o, "predicted_seconds", json_finite(pi_report_predicted(r, (enum phase)i)));
        json_add(&a, o);
    }
    return a;
}

static void layer_json(void *ctx, const struct pi_layer *l)
{
    json_add(ctx,
             json_pack("{s:s, s:I, s:I, s:I, s:i, s:I, s:f, s:f, s:I, s:f}", "name", l->name,
                       "relus_kept", (json_int_t)l->kept, "relus_total", (json_int_t)l->total,
                       "evaluations", (json_int_t)l->evaluations, "width", l->width, "online_bytes",
                       (json_int_t)(l->online.sent + l->online.received), "online_rounds",
                       (double)l->online.flips / 2, "online_seconds", l->online.seconds,
                       "offline_bytes", (json_int_t)(l->offline.sent + l->offline.received),
                       "offline_seconds", l->offline.seconds));
}

json_t *pi_report_totals_json(const struct cost_count phase[PHASES])
{
    json_t *a = json_array();

    for (int i = 0; i < PHASES; i++) {
        const struct cost_count *c = &phase[i];
        json_add(&a, json_pack("{s:s, s:I, s:I, s:f, s:f}", "name", phase_name((enum phase)i),
                               "bytes_sent_client", (json_int_t)c->received, "bytes_sent_server",
                               (json_int_t)c->sent, "rounds", (double)c->flips / 2, "seconds",
                               c->seconds));
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

    pi_report_each_layer(r, layer_json, &a);
    return a;
}
