/*
 * linnet-pi query: asks a server about images. Opens no file with weights: the public description
 * is all that the client has. Where an image fails or a signal ends the run, the answers before it
 * are written all the same.
 */
#include <math.h>
#include <time.h>

#include "core/base/json.h"
#include "cli/commands.h"
#include "cli/pi/images.h"
#include "cli/pi/net.h"
#include "cli/pi/report.h"

static const struct cli_option options[] = {
    PI_NET_CLIENT,
    PI_NET_OWN,
    {"input", 'i', CLI_INPUT, PI_NET_AT(input), "X.npy", "images", 0, 0},
    PI_INPUT_KIND_ROW(PI_NET_AT(floats)),
    {"batch", 0, CLI_INT, PI_NET_AT(batch), "B",
     "ask about B images at a time, in the messages of one (default 1)", 1, PARTY_LOT},
    {"output", 'o', CLI_OUTPUT, PI_NET_AT(output), "Z.npy", "write the logits or labels", 0, 0},
    PI_NET_COMMON,
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Asks a server about images without showing them: it learns neither image nor answer. Semi-honest security: both sides are trusted to follow the protocol. With --dealer a third party must collude with neither side.",
    "linnet-pi query out/model.pi --connect 127.0.0.1:7000 -i x.npy -o logits.npy", options};

struct client {
    const struct cli_common *c;
    struct pi_net_options *o;
    struct tcp_address address;
    struct party_options party;
    struct link link;
    struct plan *plan;
    struct prepared *model;
    struct npy images;
    enum pi_input kind;
    struct tls_context *tls;
    struct transport t;
    struct party *p;
    struct prg *jitter;
    uint8_t refusal; /* what the server refused last for */
    bool silent;   /* it ended the last connection before it had said anything, or was not there */
    bool opened;   /* has tried to open rounds of earlier connections */
    int64_t tries; /* that failed in a row */
    bool label;
    int64_t full;     /* keep: bundles to have again */
    int64_t n, width; /* images, numbers per answer */
    int64_t done;     /* images answered, bundles made */
    float *logits;
    int64_t *labels;
};

/* ---- connection --------------------------------------------------------------------------- */

static void hang_up(struct client *q)
{
    party_close(q->p);
    transport_close(&q->t);
    q->p = NULL;
}

static int greet(struct client *q)
{
    TRY(party_open(&q->party, &q->t, &q->p));
    q->label = party_schedule(q->p)->label;
    q->width = party_schedule(q->p)->results;
    return 0;
}

static int connect_once(struct client *q)
{
    struct tcp *tcp = NULL;
    int rc;

    q->silent = true;
    q->refusal = 0;
    TRY(tcp_connect(&q->address, q->o->timeout, &tcp));
    if ((rc = pi_net_check_peer(q->o, tcp)) < 0) {
        q->silent = false;
        tcp_close(tcp);
        return rc;
    }
    if (q->tls == NULL)
        tcp_transport(tcp, &q->t);
    else if ((rc = tls_transport(q->tls, tcp, q->address.host, &q->t)) < 0) {
        q->silent = !tcp_heard(tcp);
        tcp_close(tcp);
        return rc;
    }
    rc = greet(q);
    q->silent = rc < 0 && !tcp_heard(tcp);
    if (rc < 0)
        hang_up(q);
    return rc;
}

/* Between two steps; a second signal ends the program at once. */
static int check_stop(void)
{
    return cli_interrupted() ? fail(ERR_INTERRUPTED, "stopped by a signal") : 0;
}

static int sleep_watching(double seconds)
{
    const double until = cpu_seconds() + seconds;

    while (cpu_seconds() < until) {
        TRY(check_stop());
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return check_stop();
}

/* Clients that were turned away together must not come back together: 1/8 s, doubled each time up to 8 s,
 * times 1 to 3. */
static int sleep_a_while(struct client *q)
{
    double seconds = ldexp(0.125, q->tries < 6 ? (int)q->tries : 6);
    uint8_t r = 0;

    if (q->jitter == NULL)
        TRY(prg_new_random(&q->jitter));
    prg_bytes(q->jitter, &r, 1);
    return sleep_watching(seconds * (1 + r / 128.0));
}

/* Whether a failure is one that goes by, and there are tries left: then it has waited. rc otherwise. */
static int wait_again(struct client *q, int rc)
{
    const bool passes = q->refusal == REFUSED_BUSY || q->silent;

    if (!passes || q->tries >= q->o->retry || rc == ERR_INTERRUPTED)
        return rc;
    cli_note(q->c, "%s; trying again (%lld of %lld)", err_message(), (long long)q->tries + 1,
             (long long)q->o->retry);
    TRY(sleep_a_while(q));
    q->tries++;
    return 0;
}

static int connect_again(struct client *q)
{
    int rc;

    while ((rc = connect_once(q)) < 0)
        TRY(wait_again(q, rc));
    return 0;
}

/* Opens what an earlier connection could not: the server takes silence for a confession. It ends the
 * connection where it knows nothing of such a round. */
static int open_rounds(struct client *q)
{
    int64_t made;

    if (q->opened || !party_covert(q->p) || q->o->bundles == NULL)
        return 0;
    q->opened = true;
    if (party_open_rounds(q->p, &made) == 0) {
        if (made > 0)
            cli_note(q->c, "%lld bundles of a round that was cut off", (long long)made);
        return 0;
    }
    cli_note(q->c, "a round of preparations of an earlier connection: %s", err_message());
    hang_up(q);
    return connect_again(q);
}

static int connect_server(struct client *q)
{
    TRY(connect_again(q));
    return open_rounds(q);
}

static int open_tls(struct client *q)
{
    struct tls_files files;
    uint8_t pin[SHA256_SIZE];

    TRY(pi_net_files(q->o, pin, &files));
    return pi_net_tls(q->o) ? tls_client(&files, &q->tls) : 0;
}

static int prepare_model(struct client *q)
{
    TRY(plan_read(q->c->arg[0], &q->plan));
    TRY(prepared_new(q->plan, NULL, false, &q->model));
    TRY(pi_net_party(q->o, q->model, &q->link, &q->party));
    q->party.client = true;
    q->party.refusal = &q->refusal;
    q->party.tally = !pi_net_tls(q->o);
    if (q->o->bundles == NULL)
        return 0;
    TRY(bundle_folder(q->o->bundles));
    return covert_clean(q->o->bundles, true);
}

/* ---- images ------------------------------------------------------------------------------- */

static void take_answer(struct client *q, int64_t i, const uint64_t *y)
{
    for (int64_t k = 0; k < q->width; k++)
        if (q->label) /* what is no class: -1, and no word of it before the goodbye */
            q->labels[i] = y[k] < (uint64_t)plan_classes(q->plan) ? (int64_t)y[k] : -1;
        else
            q->logits[i * q->width + k] = (float)ldexp((double)(int64_t)y[k], -q->plan->scale);
    if (!q->label)
        q->labels[i] = pi_best(q->logits + i * q->width, q->width);
}

/* Images first ... first + n - 1, in one pass. x, y: of all of them. */
static int ask_some(struct client *q, int64_t first, int64_t n, double *real, uint64_t *x,
                    uint64_t *y)
{
    const size_t size = pi_input_size(q->plan, q->kind);
    const uint8_t *image = (const uint8_t *)q->images.data + (size_t)first * size;

    for (int64_t i = 0; i < n; i++) {
        TRY(pi_input_real(q->plan, q->kind, image + (size_t)i * size, real));
        pi_input_fixed(q->plan, real, x + i * q->plan->tensor[0].count);
    }
    TRY(party_query_batch(q->p, n, x, y));
    for (int64_t i = 0; i < n; i++)
        take_answer(q, first + i, y + i * q->width);
    return 0;
}

/* A server that is busy ends the connection: another one, later. */
static int turned_away(struct client *q, int rc)
{
    q->silent = false;
    TRY(wait_again(q, rc));
    hang_up(q);
    return connect_server(q);
}

static int ask_all(struct client *q)
{
    size_t inputs = (size_t)q->plan->tensor[0].count, batch = (size_t)q->o->batch;
    SECRET double *real = secret_array(inputs, sizeof *real);
    SECRET uint64_t *x = secret_array(batch * inputs, sizeof *x);
    SECRET uint64_t *y = secret_array(batch * (size_t)q->width, sizeof *y);
    struct cli_progress p;
    int rc = 0;

    q->logits = mem_array((size_t)(q->n * q->width), sizeof *q->logits);
    q->labels = mem_array((size_t)q->n, sizeof *q->labels);
    if (real == NULL || x == NULL || y == NULL || q->logits == NULL || q->labels == NULL)
        return ERR_NOMEM;
    cli_progress_begin(&p, q->c, "query");
    while (rc == 0 && q->done < q->n) {
        int64_t left = q->n - q->done, n = left < q->o->batch ? left : q->o->batch;
        if ((rc = check_stop()) < 0)
            break;
        if ((rc = ask_some(q, q->done, n, real, x, y)) < 0) {
            rc = turned_away(q, rc);
            continue;
        }
        q->done += n;
        q->tries = 0;
        cli_progress_at(&p, (double)q->done / (double)q->n, "%lld images", (long long)q->done);
    }
    cli_progress_end(&p);
    return rc;
}

/* A lot, or a round of which the server says how many bundles it gives. */
static int prepare_some(struct client *q, int64_t *made)
{
    int64_t left = q->o->count - q->done;

    if (party_covert(q->p))
        return party_round(q->p, made);
    *made = left < q->o->lot ? left : q->o->lot;
    return party_prepare(q->p, *made);
}

static int prepare_all(struct client *q)
{
    int64_t made;
    int rc = 0;

    while (q->done < q->o->count && rc == 0) {
        if ((rc = check_stop()) < 0)
            break;
        if ((rc = prepare_some(q, &made)) < 0) {
            rc = turned_away(q, rc);
            continue;
        }
        q->done += made;
        q->tries = 0;
    }
    if (q->done > 0)
        fprintf(cli_out(q->c), "%lld bundles in '%s'\n", (long long)q->done, q->o->bundles);
    return rc < 0 ? fail_context(rc, "bundle %lld of %lld", (long long)q->done + 1,
                                 (long long)q->o->count)
                  : 0;
}

/* ---- results ------------------------------------------------------------------------------ */

static int write_output(const struct client *q)
{
    int64_t dims[2] = {q->done, q->width};

    if (q->o->output == NULL)
        return 0;
    return q->label ? npy_write(q->o->output, NPY_I64, 1, dims, q->labels)
                    : npy_write(q->o->output, NPY_F32, 2, dims, q->logits);
}

static json_t *result_json(const struct client *q, const struct pi_report *r)
{
    json_t *labels = json_array();

    for (int64_t i = 0; i < q->done && labels != NULL && q->labels != NULL; i++)
        json_add(&labels, json_integer(q->labels[i]));
    return json_pack("{s:s, s:o, s:s, s:I, s:I, s:s, s:s, s:b, s:b, s:s, s:o, s:o, s:o, s:o}",
                     "format", "linnet.query/1", "model", json_text(q->c->arg[0]), "branch",
                     q->plan->branch, "n", (json_int_t)q->done, "asked", (json_int_t)q->n,
                     "relu_backend", r->relu->name, "linear_backend", r->linear->name, "dealer",
                     q->o->dealer != NULL, "tls", q->tls != NULL, "reveal",
                     q->label ? "label" : "logits", "labels", labels, "phases",
                     pi_report_phases_json(r), "setup", pi_report_setup_json(r), "layers",
                     pi_report_layers_json(r));
}

static void print_labels(const struct client *q)
{
    for (int64_t i = 0; i < q->done; i++) {
        int64_t k = q->labels[i];
        bool named = k >= 0 && k < q->plan->n_label;
        fprintf(cli_out(q->c), "image %lld: class %lld%s%s\n", (long long)i, (long long)k,
                named ? ", " : "", named ? q->plan->label[k] : "");
    }
}

static int report(struct client *q)
{
    struct pi_report r;
    int rc;

    TRY(pi_report_init(&r, q->p, q->plan));
    if (q->o->input != NULL && (q->n <= 20 || q->c->verbose > 0))
        print_labels(q);
    fprintf(cli_out(q->c), "per image, ReLUs by %s, linear layers by %s%s\n", r.relu->name,
            r.linear->name,
            q->o->dealer != NULL ? " (a third party that must collude with neither side)" : "");
    pi_report_phases(cli_out(q->c), &r);
    if (q->c->verbose > 0)
        pi_report_layers(cli_out(q->c), &r);
    rc = write_output(q);
    if (rc == 0 && q->c->json != NULL)
        rc = cli_json_write(q->c, result_json(q, &r));
    pi_report_release(&r);
    return rc;
}

/* rc: what ended the run. The answers that are there are worth keeping. */
static int keep_answers(struct client *q, int rc)
{
    char why[512];

    fail_context(rc, "image %lld", (long long)q->done);
    if (q->done == 0)
        return rc;
    snprintf(why, sizeof why, "%s", err_message());
    if (report(q) < 0)
        return fail_context(rc, "%s; the answers before it are lost as well", why);
    return fail(rc, "%s; %lld of %lld answers are kept%s%s", why, (long long)q->done,
                (long long)q->n, q->o->output != NULL ? " in " : "",
                q->o->output != NULL ? q->o->output : "");
}

/* Better now than after half of the images. */
static int check_supply(const struct client *q, bool prepare_only)
{
    int64_t have = 0, need = prepare_only ? q->o->count : q->n;
    const char *dir = prepare_only || q->o->bundles == NULL ? q->o->dealer : q->o->bundles;

    if (dir == NULL)
        return 0;
    TRY(dir == q->o->bundles ? bundle_count(dir, true, &have) : dealer_count(dir, &have));
    if (have >= need)
        return 0;
    return fail(ERR_DATA, "'%s' holds %lld %s, %lld are needed; %s makes more", dir,
                (long long)have, dir == q->o->bundles ? "bundles" : "correlations", (long long)need,
                dir == q->o->bundles ? "linnet-pi preprocess" : "linnet-pi deal");
}

static int run(struct client *q, bool prepare_only)
{
    int rc;

    TRY(pi_net_check(q->o, q->o->connect, &q->address));
    TRY(prepare_model(q));
    if (!prepare_only) {
        TRY(pi_images_open(q->o->input, q->plan, (enum pi_floats)q->o->floats, &q->images,
                           &q->kind));
        q->n = q->images.dim[0];
    }
    TRY(check_supply(q, prepare_only));
    q->party.wish = (struct relu_wish){.images = prepare_only ? q->o->count : q->n,
                                       .ahead = pi_net_ahead(q->o, prepare_only)};
    TRY(open_tls(q));
    cli_catch_signals();
    TRY(connect_server(q));
    if (prepare_only)
        TRY(prepare_all(q));
    else if ((rc = ask_all(q)) < 0)
        return keep_answers(q, cli_without_state(rc));
    return report(q);
}

static int check_options(const struct pi_net_options *o, bool prepare_only)
{
    if (o->batch > 1 && o->dealer != NULL)
        return fail(ERR_ARG, "option '--batch': with a dealer images go one by one");
    if (o->lot > 1 && o->dealer != NULL)
        return fail(ERR_ARG, "option '--lot': with a dealer images go one by one");
    if (o->connect == NULL)
        return fail(ERR_ARG, "give --connect HOST:PORT");
    return !prepare_only && o->input == NULL ? fail(ERR_ARG, "give --input X.npy") : 0;
}

/* After the goodbye: the server must not see that its answer was no class. */
static int check_labels(const struct client *q)
{
    int64_t wrong = 0;

    for (int64_t i = 0; q->labels != NULL && i < q->done; i++)
        wrong += q->labels[i] < 0;
    return wrong == 0
               ? 0
               : fail(
                     ERR_PEER,
                     "%lld of %lld answers name a class that does not exist (-1): the server deviates, or the connection changed bytes",
                     (long long)wrong, (long long)q->done);
}

static void release(struct client *q)
{
    prg_free(q->jitter);
    tls_context_free(q->tls);
    npy_release(&q->images);
    prepared_free(q->model);
    plan_free(q->plan);
    mem_free(q->logits);
    mem_free(q->labels);
}

int pi_query_run(const struct cli_common *c, struct pi_net_options *o, bool prepare_only)
{
    SCOPED(release) struct client q = {.c = c, .o = o};
    int rc;

    TRY(check_options(o, prepare_only));
    TRY(pi_net_guard(o));
    rc = run(&q, prepare_only);
    hang_up(&q);
    return rc < 0 ? rc : check_labels(&q);
}

/* ---- keeping a folder filled ----------------------------------------------------------------- */

/* One connection that makes as many bundles as are missing. */
static int refill(struct client *q, int64_t have)
{
    int rc;

    q->done = q->tries = 0;
    q->opened = false;
    q->o->count = q->full - have;
    q->party.wish = (struct relu_wish){.images = q->o->count, .ahead = pi_net_ahead(q->o, true)};
    if ((rc = connect_server(q)) == 0)
        rc = prepare_all(q);
    hang_up(q);
    return rc;
}

/* What goes wrong goes by, perhaps: from 1 s to a minute between two tries. */
static int keep_filled(struct client *q)
{
    double pause = 1;
    int64_t have;
    int rc;

    for (;;) {
        TRY(check_stop());
        TRY(bundle_count(q->o->bundles, true, &have));
        if (have >= q->o->below) {
            TRY(sleep_watching(1));
            continue;
        }
        rc = refill(q, have);
        if (rc == ERR_INTERRUPTED)
            return rc;
        if (rc < 0)
            cli_note(q->c, "%s; again in %g s", err_message(), pause);
        TRY(sleep_watching(rc < 0 ? pause : 0));
        pause = rc < 0 ? fmin(2 * pause, 60) : 1;
    }
}

static int keep(struct client *q)
{
    int rc;

    TRY(pi_net_check(q->o, q->o->connect, &q->address));
    TRY(prepare_model(q));
    TRY(open_tls(q));
    cli_catch_signals();
    rc = keep_filled(q);
    return rc == ERR_INTERRUPTED ? 0 : rc; /* that is how it ends */
}

int pi_keep_run(const struct cli_common *c, struct pi_net_options *o)
{
    SCOPED(release) struct client q = {.c = c, .o = o, .full = o->count};

    TRY(check_options(o, true));
    TRY(pi_net_guard(o));
    return keep(&q);
}

int pi_cmd_query(int argc, char **argv)
{
    struct pi_net_options o = PI_NET_DEFAULTS;
    SCOPED(cli_release) struct cli_common c = {0};

    TRY(cli_parse(&spec, argc, argv, &c, &o));
    return pi_query_run(&c, &o, false);
}
