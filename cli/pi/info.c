/*
 * linnet-pi info: what a model.pi says, for people and as JSON ("linnet.piinfo/1").
 *
 * The JSON holds every part of the public file except the kept positions themselves.
 */
#include <math.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "core/base/json.h"
#include "core/base/sha256.h"
#include "runtime/report.h"

struct info_options {
    const char *weights;
};
static const struct cli_option options[] = {
    {"weights", 'w', CLI_INPUT, offsetof(struct info_options, weights), "FILE",
     "model.pi.weights, for the chance of a garbage answer by the largest calibrated values", 0, 0},
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi", "Shows what a model.pi says: input, numbers, steps, ReLUs, estimated cost.",
    "linnet-pi info out/model.pi -v", options};

/* ---- for people --------------------------------------------------------------------------- */

static void print_dims(FILE *f, const struct plan_tensor *t)
{
    for (int32_t i = 0; i < t->rank; i++)
        fprintf(f, "%s%lld", i == 0 ? "[" : ",", (long long)t->dim[i]);
    fputc(']', f);
}

/* The secret file's {"0":2.64,"1":17.5,...}, largest values by tensor. */
static int read_maxima(const struct plan *p, const struct plan_weights *w, double *max)
{
    json_t *o = json_loads(w->maxima, 0, NULL);
    int rc = 0;

    for (int32_t i = 0; i < p->n_tensor && rc == 0; i++) {
        char key[16];
        const json_t *v;
        snprintf(key, sizeof key, "%d", i);
        v = json_object_get(o, key);
        max[i] = json_number_value(v);
        if (!json_is_number(v) || !isfinite(max[i]) || max[i] < 0)
            rc = fail(ERR_FORMAT, "the weights name no largest value of tensor %d", i);
    }
    json_decref(o);
    return rc;
}

/* *chance: below 0 without the weights. */
static int find_calibrated(const struct plan *p, const char *weights, double *chance)
{
    *chance = -1;
    if (weights == NULL)
        return 0;
    SCOPED(plan_weights_free_at) struct plan_weights *w = NULL;
    SECRET double *max = secret_array((size_t)p->n_tensor, sizeof *max);
    if (max == NULL)
        return ERR_NOMEM;
    TRY(plan_weights_read(p, weights, &w));
    TRY(read_maxima(p, w, max));
    *chance = plan_failure(p, max);
    return 0;
}

/* What removed ReLUs are, and what of it is public. */
static void print_lines(FILE *f, const struct plan *p)
{
    int32_t lines = 0, slopes = 0;

    for (int32_t i = 0; i < p->n_step; i++) {
        lines += plan_has_lines(&p->step[i]);
        slopes += p->step[i].kind == PLAN_RELU && p->step[i].u.relu.n_slope > 0;
    }
    if (slopes > 0)
        fprintf(
            f,
            "removed    s x + b in %d layers; the slopes of %d layers are PUBLIC, a number a channel; b is secret\n",
            lines, slopes);
    else if (lines > 0)
        fprintf(f, "removed    x / 2 + b in %d layers; b is secret\n", lines);
}

static void print_head(FILE *f, const struct plan *p, double calibrated)
{
    char hex[SHA256_HEX];
    const struct plan_tensor *out = &p->tensor[p->step[p->n_step - 1].out];

    fprintf(f, "model      %s (%s)\n", p->model_id, p->producer);
    fprintf(f, "identity   SHA-256 %s\n", sha256_hex(p->identity, hex));
    if (*p->branch != '\0')
        fprintf(f, "BN branch  %s\n", p->branch);
    fprintf(f, "weights    SHA-256 %s\n", sha256_hex(p->commitment, hex));
    fprintf(f, "input      '%s' ", p->input.name);
    print_dims(f, &p->tensor[0]);
    fprintf(f, ", uint8 %d ... %d, normalisation %s\n", p->input.low, p->input.high,
            *p->input.normalize ? p->input.normalize : "as listed in the file");
    fprintf(f, "output     %lld classes\n", (long long)out->count);
    fprintf(f, "numbers    ring 2^64, scale 2^-%d\n", p->scale);
    fprintf(f, "garbage    an answer is, with a chance of at most 1 in %.0f (bound, below 2^%d)",
            1 / plan_failure(p, NULL), p->failure_log2);
    if (calibrated >= 0)
        fprintf(f, ", about 1 in %.0f (largest calibrated values)", 1 / calibrated);
    fputc('\n', f);
    fprintf(
        f,
        "rounding   the last bits are random: asking N times about an image tells about log2 sqrt(N) more bits of each logit than once\n");
    fprintf(f, "program    %d steps, %d linear layers, %lld multiplications\n", p->n_step,
            p->linear_layers, (long long)p->macs);
    fprintf(f, "ReLUs      %lld of %lld kept, in %d layers", (long long)p->relus_kept,
            (long long)p->relus, p->relu_layers);
    if (plan_all_evaluations(p) != p->relus_kept)
        fprintf(f, "; a ReLU6 costs two ReLU evaluations: %lld",
                (long long)plan_all_evaluations(p));
    fputc('\n', f);
    print_lines(f, p);
    for (int32_t i = 0; i < p->n_claim; i++)
        fprintf(f, "claim      %s %.2f %% on %llu images of %s\n", p->claim[i].metric,
                p->claim[i].percent, (unsigned long long)p->claim[i].images, p->claim[i].data);
    for (int32_t i = 0; i < p->n_note; i++)
        fprintf(f, "note       %s\n", p->note[i]);
}

static void print_cost(void *ctx, const struct cost *c)
{
    fprintf(ctx, "%-10s %-6s %12llu %8d %9.3f %14llu %9.3f %14llu %9.3f\n", c->relu->name,
            c->link->name, (unsigned long long)c->online_bytes, c->online_messages,
            c->online_seconds, (unsigned long long)c->offline_relu_bytes, c->offline_relu_seconds,
            (unsigned long long)c->offline_linear_bytes, c->offline_linear_seconds);
}

/* Where transfers come from with --ot auto on a link, by set-ups of 1 and of 16 images. */
static int print_assumptions(FILE *f, const struct plan *p)
{
    SCOPED(schedule_free_at) struct schedule *s = NULL;

    TRY(schedule_new(p, false, &s));
    fprintf(
        f,
        "\nassumes    ring-LWE (linear layers); oblivious transfers of backend ot, --ot auto:\n");
    for (const struct link *l = link_list(); l->name != NULL; l++)
        for (int64_t images = 1; images <= 16; images += 15) {
            struct relu_ways w;

            relu_ways_choose(relu_backend_find("ot"), RELU_TRANSFERS_AUTO, l, s, images, false, &w);
            fprintf(f, "           %-6s %2lld images  %s%s\n", l->name, (long long)images,
                    w.down == NULL ? "OT extension, no further assumption"
                                   : "LPN, regular noise, set ",
                    w.down == NULL ? "" : w.down->name);
        }
    return 0;
}

static int print_costs(FILE *f, const struct plan *p, const struct cost_machine *m)
{
    fprintf(
        f,
        "\npredicted for one fresh image, messages as with serve --expect-link (bundles: those of --favour online), with constants of %s (%s%s%s)\n",
        m->name, m->cpu, *m->date != '\0' ? ", " : "", m->date);
    fprintf(f, "%-10s %-6s %12s %8s %9s %14s %9s %14s %9s\n", "ReLUs", "link", "online B",
            "messages", "online s", "off. ReLU B", "s", "off. linear B", "s");
    return pi_each_cost(p, m, print_cost, f);
}

/* --clients covert: what a bundle costs that may be used, and a query with it. */
static int print_covert(FILE *f, const struct plan *p)
{
    const struct relu_backend *relu = relu_backend_find("gc");
    const struct linear_backend *linear = linear_backend_with(false);
    const struct covert_rules *r = &covert_default;
    SCOPED(schedule_free_at) struct schedule *s = NULL;
    uint64_t round, query;

    if (linear->check(p) < 0)
        return 0;
    TRY(schedule_new(p, false, &s));
    round = covert_bytes(s, relu, linear, r, 0) + covert_bytes(s, relu, linear, r, 1);
    query = covert_query_bytes(s, relu, 0) + covert_query_bytes(s, relu, 1);
    fprintf(
        f,
        "\ncovert     --clients covert (gc): rounds of %d lots of %d preparations, %d lot opened: a client that cheats in one lot is caught with a chance of %d in %d, one that cheats online at once. Not covered: inputs that are no image; clients that get new certificates; a server that deviates, which reads signs of activations from what clients prove\n",
        r->lots, r->images, r->opened, r->opened, r->lots);
    fprintf(f, "           %.0f bytes a usable bundle, %llu a query\n",
            (double)round / ((r->lots - r->opened) * r->images), (unsigned long long)query);
    return 0;
}

static void print_steps(FILE *f, const struct plan *p)
{
    fprintf(f, "\nsteps\n");
    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        const struct plan_tensor *t = &p->tensor[s->out];
        fprintf(f, "%4d %-12s %-28s", i, plan_kind_name(s->kind), s->name);
        for (int32_t k = 0; k < s->n_in; k++)
            fprintf(f, " t%d", s->in[k]);
        fprintf(f, " -> t%d ", s->out);
        print_dims(f, t);
        fprintf(f, " scale %d, |x| <= 2^%d", t->scale, t->max_log2);
        if (s->kind == PLAN_RELU)
            fprintf(f, ", kept %lld of %lld, m %d", (long long)s->u.relu.kept,
                    (long long)s->u.relu.total, s->u.relu.width);
        if (s->kind == PLAN_RELU && s->u.relu.cap > 0)
            fprintf(f, ", at most %g", ldexp((double)s->u.relu.cap, -t->scale));
        if (plan_has_lines(s))
            fprintf(f, ", removed %s / 2^%d + b", s->u.relu.n_slope > 0 ? "public slope * x" : "x",
                    s->u.relu.line_shift);
        fputc('\n', f);
    }
}

static json_t *dims_json(const struct plan_tensor *t)
{
    json_t *a = json_array();

    for (int32_t i = 0; i < t->rank; i++)
        json_add(&a, json_integer(t->dim[i]));
    return a;
}

static json_t *reals_json(const double *v, int64_t n)
{
    json_t *a = json_array();

    for (int64_t i = 0; i < n; i++)
        json_add(&a, json_real(v[i]));
    return a;
}

static json_t *texts_json(const char *const *v, int32_t n)
{
    json_t *a = json_array();

    for (int32_t i = 0; i < n; i++)
        json_add(&a, json_string(v[i]));
    return a;
}

static json_t *input_json(const struct plan *p)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:[i,i]}", "name", p->input.name, "layout", "NCHW",
                          "normalize", p->input.normalize, "preparation", p->input.preparation,
                          "uint8_range", p->input.low, p->input.high);

    json_put(&o, "shape", dims_json(&p->tensor[0]));
    json_put(&o, "mean", reals_json(p->input.mean, p->tensor[0].dim[0]));
    json_put(&o, "std", reals_json(p->input.std, p->tensor[0].dim[0]));
    return o;
}

static json_t *steps_json(const struct plan *p)
{
    json_t *a = json_array();

    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        const struct plan_tensor *t = &p->tensor[s->out];
        json_t *in = json_array(),
               *o = json_pack("{s:s, s:s, s:i, s:i, s:i, s:i}", "name", s->name, "kind",
                              plan_kind_name(s->kind), "output", s->out, "shift", s->shift, "scale",
                              t->scale, "max_log2", t->max_log2);
        for (int32_t k = 0; k < s->n_in; k++)
            json_add(&in, json_integer(s->in[k]));
        json_put(&o, "inputs", in);
        json_put(&o, "shape", dims_json(t));
        if (s->kind == PLAN_CONV || s->kind == PLAN_GEMM)
            json_put(&o, "weight_scale", json_integer(s->u.linear.weight_scale));
        json_add(&a, o);
    }
    return a;
}

static json_t *relus_json(const struct plan *p)
{
    json_t *a = json_array();

    for (int32_t i = 0; i < p->n_step; i++) {
        const struct plan_step *s = &p->step[i];
        if (s->kind == PLAN_RELU)
            json_add(&a, json_pack("{s:s, s:I, s:I, s:I, s:i, s:i, s:b}", "name", s->name, "total",
                                   (json_int_t)s->u.relu.total, "kept", (json_int_t)s->u.relu.kept,
                                   "evaluations", (json_int_t)plan_evaluations(&s->u.relu), "width",
                                   s->u.relu.width, "line_shift", s->u.relu.line_shift,
                                   "public_slopes", s->u.relu.n_slope > 0));
    }
    return a;
}

static void cost_json(void *ctx, const struct cost *c)
{
    json_t **a = ctx;

    json_add(a, json_pack("{s:s, s:s, s:s, s:I, s:i, s:f, s:I, s:f, s:I, s:f}", "backend",
                          c->relu->name, "linear_backend", c->linear->name, "link", c->link->name,
                          "online_bytes", (json_int_t)c->online_bytes, "online_flips",
                          c->online_messages, "online_seconds", c->online_seconds,
                          "offline_relu_bytes", (json_int_t)c->offline_relu_bytes,
                          "offline_relu_seconds", c->offline_relu_seconds, "offline_linear_bytes",
                          (json_int_t)c->offline_linear_bytes, "offline_linear_seconds",
                          c->offline_linear_seconds));
}

static json_t *costs_json(const struct plan *p, const struct cost_machine *m)
{
    json_t *a = json_array();

    if (pi_each_cost(p, m, cost_json, &a) < 0) {
        json_decref(a);
        return NULL;
    }
    return a;
}

static json_t *machine_json(const struct cost_machine *m)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "name", m->name, "date", m->date, "cpu", m->cpu,
                     "revision", m->revision);
}

static json_t *claims_json(const struct plan *p)
{
    json_t *a = json_array();

    for (int32_t i = 0; i < p->n_claim; i++)
        json_add(&a, json_pack("{s:s, s:s, s:f, s:I}", "metric", p->claim[i].metric, "data",
                               p->claim[i].data, "percent", p->claim[i].percent, "images",
                               (json_int_t)p->claim[i].images));
    return a;
}

static json_t *info_json(const struct plan *p, const struct cost_machine *m, double calibrated)
{
    char hex[SHA256_HEX], identity[SHA256_HEX];
    json_t *o = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "format",
                          "linnet.piinfo/1", "version", PLAN_VERSION, "identity",
                          sha256_hex(p->identity, identity), "model_id", p->model_id, "branch",
                          p->branch, "producer", p->producer, "commitment",
                          sha256_hex(p->commitment, hex), "ring_bits", PLAN_RING_BITS, "scale",
                          p->scale, "failure_log2", p->failure_log2, "truncation", "local");

    json_put(&o, "failure_bound", json_real(plan_failure(p, NULL)));
    json_put(&o, "failure_calibrated", calibrated < 0 ? json_null() : json_real(calibrated));
    json_put(&o, "input", input_json(p));
    json_put(&o, "classes", json_integer(p->tensor[p->step[p->n_step - 1].out].count));
    json_put(&o, "labels", texts_json(p->label, p->n_label));
    json_put(&o, "notes", texts_json(p->note, p->n_note));
    json_put(&o, "macs", json_integer(p->macs));
    json_put(&o, "linear_layers", json_integer(p->linear_layers));
    json_put(&o, "relus_total", json_integer(p->relus));
    json_put(&o, "relus_kept", json_integer(p->relus_kept));
    json_put(&o, "relu_evaluations", json_integer(plan_all_evaluations(p)));
    json_put(&o, "relu_layers", relus_json(p));
    json_put(&o, "steps", steps_json(p));
    json_put(&o, "machine", machine_json(m));
    json_put(&o, "costs", costs_json(p, m));
    json_put(&o, "claims", claims_json(p));
    return o;
}

int pi_cmd_info(int argc, char **argv)
{
    struct info_options o = {0};
    SCOPED(cli_release) struct cli_common c = {0};
    SCOPED(plan_free_at) struct plan *p = NULL;
    struct cost_machine m;
    double calibrated;

    TRY(cli_parse(&spec, argc, argv, &c, &o));
    TRY(plan_read(c.arg[0], &p));
    TRY(find_calibrated(p, o.weights, &calibrated));
    TRY(cost_machine_find(&m));
    print_head(cli_out(&c), p, calibrated);
    TRY(print_assumptions(cli_out(&c), p));
    TRY(print_costs(cli_out(&c), p, &m));
    TRY(print_covert(cli_out(&c), p));
    if (c.verbose > 0)
        print_steps(cli_out(&c), p);
    return c.json == NULL ? 0 : cli_json_write(&c, info_json(p, &m, calibrated));
}
