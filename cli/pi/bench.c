/*
 * linnet-pi bench: both parties as two processes over loopback.
 *
 * The parent is the client and counts; the child is the server and reports its local arithmetic and its
 * peak memory through a pipe. Shares come from a test seed, so that the logits must be those of
 * sim2pc, bit for bit. Images: the file of --input, else random bytes.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/pi/images.h"
#include "cli/pi/net.h"
#include "cli/pi/report.h"
#include "core/base/json.h"

struct options {
    const char *weights, *compare, *compare_weights, *link, *input, *save;
    int32_t relu, reveal, linear, ot, favour;
    int64_t queries, lot;
    double timeout;
};
#define AT(field) offsetof(struct options, field)
static const struct cli_option options[] = {
    {"weights", 'w', CLI_INPUT, AT(weights), "FILE", "model.pi.weights", 0, 0},
    {"compare", 0, CLI_INPUT, AT(compare), "OTHER.pi", "a second model, measured beside the first",
     0, 0},
    {"compare-weights", 0, CLI_INPUT, AT(compare_weights), "FILE", "its weights", 0, 0},
    {"link", 0, CLI_TEXT, AT(link), "L",
     "lan, wan, mobile or RATE,RTT (default: loopback as it is)", 0, 0},
    {"relu", 0, CLI_CHOICE, AT(relu), PI_RELU_WORDS},
    {"ot", 0, CLI_CHOICE, AT(ot), PI_OT_WORDS},
    {"favour", 0, CLI_CHOICE, AT(favour), "total|online",
     "which seconds the messages of ReLUs save on the link: of the whole query, or of its online phase at the cost of more bytes before it",
     0, 0},
    {"reveal", 0, CLI_CHOICE, AT(reveal), "logits|label", "what the client learns", 0, 0},
    {"linear", 0, CLI_CHOICE, AT(linear), PI_LINEAR_WORDS},
    {"input", 'i', CLI_INPUT, AT(input), "X.npy", "images (default: random ones)", 0, 0},
    {"queries", 'n', CLI_INT, AT(queries), "N", "images (default 1); figures are per image", 1,
     1e6},
    {"lot", 0, CLI_INT, AT(lot), "L",
     "also: L images whose offline phases are made together (preprocess --lot), and what one of them takes",
     1, PARTY_LOT},
    {"timeout", 0, CLI_REAL, AT(timeout), "S", "seconds to wait for the other side (default 300)",
     1, 86400},
    {"save", 0, CLI_OUTPUT, AT(save), "FILE",
     "write the fitted constants of the cost model; info and inspect use ~/.config/linnet/machine.txt",
     0, 0},
    {0}};
static const struct cli_spec spec = {
    "MODEL.pi",
    "Runs both parties over loopback and prints bytes, rounds and seconds of each phase, beside what the cost model predicts; layers with -v.",
    "linnet-pi bench all.pi -w all.pi.weights --compare cut.pi --compare-weights cut.pi.weights --link lan",
    options};

enum { TEMPORARY = 200 }; /* bytes of the path of a folder */

/* What the server's process tells. */
struct told {
    int rc;
    char message[512];
    double linear_seconds;
    long peak_kb;
};
/* One package being measured. */
struct trial {
    const char *path, *weights;
    struct plan *plan;
    struct plan_weights *w;
    struct bench_case run;
    int64_t images, lot;                              /* of a lot; 0: none */
    char folder[TEMPORARY], parts[2][TEMPORARY + 16]; /* of a dealer or a lot; "" without */
    struct pi_report report;
    struct told told;
    long peak_kb;
    int64_t *logits; /* [images][results] */
    pid_t server;    /* its process; 0: none */
    int go, tell;    /* pipes: one byte makes it listen; what it tells comes back */
    struct tcp_address at;
    bool equal, checked;
};
struct bench {
    const struct cli_common *c;
    const struct options *o;
    struct link link;
    bool has_link;
    struct cost_machine machine; /* fitted */
    uint8_t *images;
    enum pi_input kind;
    struct npy file;
};

/* ---- what a child process tells ----------------------------------------------------------- */

static int read_all(int fd, void *out, size_t n)
{
    uint8_t *to = out;

    while (n > 0) {
        ssize_t got = read(fd, to, n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(ERR_NET, "the other process ended without a word");
        to += got;
        n -= (size_t)got;
    }
    return 0;
}

/* ---- the server's process ----------------------------------------------------------------- */

static long peak_kb(void)
{
    struct rusage u;

    return getrusage(RUSAGE_SELF, &u) == 0 ? u.ru_maxrss : 0;
}

/* It is made before there are threads, and waits until its client starts. */
static void server_process(const struct trial *t, struct tcp_listener *l, int go, int tell)
{
    struct told told = {0};
    char begin;

    if ((told.rc = read_all(go, &begin, 1)) == 0)
        told.rc = bench_serve(&t->run, l, &told.linear_seconds);
    told.peak_kb = peak_kb();
    snprintf(told.message, sizeof told.message, "%s", told.rc < 0 ? err_message() : "");
    _exit(write(tell, &told, sizeof told) == (ssize_t)sizeof told ? 0 : 1);
}

static int read_told(int fd, struct told *told)
{
    TRY(read_all(fd, told, sizeof *told));
    return told->rc < 0 ? fail(told->rc, "server: %s", told->message) : 0;
}

/* ---- one package -------------------------------------------------------------------------- */

static int temporary_folder(char dir[TEMPORARY])
{
    const char *tmp = getenv("TMPDIR");

    if (snprintf(dir, TEMPORARY, "%s/linnet-bench-XXXXXX", tmp != NULL ? tmp : "/tmp") >= TEMPORARY)
        return fail(ERR_ARG, "TMPDIR '%s' has over %d bytes", tmp, TEMPORARY);
    return mkdtemp(dir) != NULL ? 0 : fail(ERR_IO, "'%s': %s", dir, strerror(errno));
}

static int make_folders(struct trial *t)
{
    static const char *const side[2] = {"client", "server"};

    TRY(temporary_folder(t->folder));
    for (int i = 0; i < 2; i++) {
        snprintf(t->parts[i], sizeof t->parts[i], "%s/%s", t->folder, side[i]);
        t->run.folder[i] = t->parts[i];
    }
    return t->lot > 0 ? bench_folders(&t->run) : bench_deal(&t->run);
}

static int prepare_trial(struct trial *t, const struct bench *b)
{
    TRY(plan_read(t->path, &t->plan));
    TRY(plan_weights_read(t->plan, t->weights, &t->w));
    t->run = (struct bench_case){.plan = t->plan,
                                 .weights = t->w,
                                 .linear = linear_backends()[b->o->linear],
                                 .link = b->has_link ? &b->link : NULL,
                                 .label = b->o->reveal == 1,
                                 .transfers = (enum relu_transfers)b->o->ot,
                                 .ahead = b->o->favour == 1,
                                 .queries = t->images,
                                 .lot = t->lot,
                                 .seed = b->c->seed,
                                 .seconds = b->o->timeout,
                                 .kind = b->kind,
                                 .images = b->images};
    TRY(pi_net_backend(b->o->relu, t->plan, b->has_link ? &b->link : link_loopback(), &b->machine,
                       &t->run.relu));
    return t->run.linear->third_party || t->lot > 0 ? make_folders(t) : 0;
}

static int start_server(struct trial *t)
{
    struct tcp_listener *l = NULL;
    int go[2], tell[2];

    TRY(tcp_address_parse("127.0.0.1:0", &t->at));
    TRY(tcp_listen(&t->at, &l));
    snprintf(t->at.port, sizeof t->at.port, "%d", tcp_listener_port(l));
    fflush(NULL);
    if (pipe(go) < 0 || pipe(tell) < 0 || (t->server = fork()) < 0) {
        tcp_listener_close(l);
        return fail(ERR_IO, "fork: %s", strerror(errno));
    }
    if (t->server == 0) {
        close(go[1]);
        close(tell[0]);
        server_process(t, l, go[0], tell[1]);
    }
    tcp_listener_close(l);
    close(go[0]);
    close(tell[1]);
    t->go = go[1];
    t->tell = tell[0];
    return 0;
}

static int prepare(struct trial *t, const struct bench *b)
{
    TRY(prepare_trial(t, b));
    t->logits = mem_array((size_t)(t->images * plan_classes(t->plan)), sizeof *t->logits);
    return t->logits == NULL ? ERR_NOMEM : start_server(t);
}

static int measure(struct trial *t, const struct bench *b)
{
    int rc, told;

    if (write(t->go, "", 1) != 1)
        return fail(ERR_IO, "the server's process: %s", strerror(errno));
    rc = bench_ask(&t->run, &t->at, t->logits, &t->report);
    t->peak_kb = peak_kb();
    told = read_told(t->tell, &t->told);
    if (rc < 0 || told < 0)
        return rc < 0 && told < 0 && rc == ERR_PEER ? told : rc < 0 ? rc : told;
    return pi_report_predict(&t->report, b->has_link ? &b->link : link_loopback(), t->run.transfers,
                             t->run.ahead, &b->machine);
}

/* ---- results ------------------------------------------------------------------------------ */

static void print_constant(void *ctx, const char *key, double *seconds)
{
    fprintf(ctx, "  %-20s %12.6g us\n", key, 1e6 * *seconds);
}

static void constant_json(void *ctx, const char *key, double *seconds)
{
    json_put(ctx, key, json_real(*seconds));
}

static json_t *machine_json(struct bench *b)
{
    json_t *o = json_object();

    cost_machine_each(&b->machine, constant_json, &o);
    return o;
}

static void print_trial(const struct trial *t, const struct bench *b)
{
    FILE *f = cli_out(b->c);

    fprintf(
        f, "%s: %lld of %lld ReLUs by %s, linear layers by %s%s, link %s, per image of %lld%s\n",
        t->path, (long long)t->plan->relus_kept, (long long)t->plan->relus, t->report.relu->name,
        t->report.linear->name, t->run.linear->third_party ? " (third party)" : "",
        b->has_link ? b->link.name : "loopback", (long long)t->images,
        t->lot > 0 ? ", prepared together" : "");
    pi_report_phases(f, &t->report);
    fprintf(f,
            "of which server's own arithmetic %.3f s; peak memory client %ld MB, server %ld MB\n",
            t->told.linear_seconds, t->peak_kb / 1024, t->told.peak_kb / 1024);
    if (t->checked)
        fprintf(f, "logits %s those of sim2pc\n", t->equal ? "equal" : "DIFFER from");
    if (b->c->verbose > 0)
        pi_report_layers(f, &t->report);
}

static double online(const struct trial *t)
{
    return t->report.phase[PHASE_ONLINE].seconds;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

static uint64_t phase_bytes(const struct trial *t, enum phase p)
{
    return t->report.phase[p].sent + t->report.phase[p].received;
}

static void print_ratio(const struct trial *a, const struct trial *z, FILE *f)
{
    fprintf(f, "\n%-34s %16s %16s %9s %11s\n", "ratio", "first", "second", "measured", "predicted");
    fprintf(f, "%-34s %16lld %16lld %9.3f\n", "ReLUs kept", (long long)a->plan->relus_kept,
            (long long)z->plan->relus_kept,
            ratio((double)a->plan->relus_kept, (double)z->plan->relus_kept));
    fprintf(
        f, "%-34s %16llu %16llu %9.3f\n", "online bytes of ReLUs",
        (unsigned long long)pi_report_relu_bytes(&a->report),
        (unsigned long long)pi_report_relu_bytes(&z->report),
        ratio((double)pi_report_relu_bytes(&a->report), (double)pi_report_relu_bytes(&z->report)));
    fprintf(f, "%-34s %16llu %16llu %9.3f\n", "offline bytes of ReLUs",
            (unsigned long long)phase_bytes(a, PHASE_OFFLINE_RELU),
            (unsigned long long)phase_bytes(z, PHASE_OFFLINE_RELU),
            ratio((double)phase_bytes(a, PHASE_OFFLINE_RELU),
                  (double)phase_bytes(z, PHASE_OFFLINE_RELU)));
    fprintf(f, "%-34s %16.3f %16.3f %9.3f %11.3f\n", "online seconds", online(a), online(z),
            ratio(online(a), online(z)),
            ratio(a->report.predicted.online_seconds, z->report.predicted.online_seconds));
    fprintf(f, "%-34s %16.3f %16.3f %9.3f\n", "online seconds without arithmetic",
            online(a) - a->told.linear_seconds, online(z) - z->told.linear_seconds,
            ratio(online(a) - a->told.linear_seconds, online(z) - z->told.linear_seconds));
}

static json_t *trial_json(const struct trial *t, const struct bench *b)
{
    json_t *o = json_pack(
        "{s:s, s:o, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:o, s:f, s:I, s:I}", "format",
        "linnet.pibench/1", "model", json_text(t->path), "relu_backend", t->report.relu->name,
        "linear_backend", t->report.linear->name, "link", b->has_link ? b->link.name : "loopback",
        "dealer", t->run.linear->third_party, "images", (json_int_t)t->images, "relus_kept",
        (json_int_t)t->plan->relus_kept, "relus_total", (json_int_t)t->plan->relus, "phases",
        pi_report_phases_json(&t->report), "layers", pi_report_layers_json(&t->report),
        "online_linear_seconds", t->told.linear_seconds, "peak_rss_client_kb",
        (json_int_t)t->peak_kb, "peak_rss_server_kb", (json_int_t)t->told.peak_kb);

    json_put(&o, "branch", json_string(t->plan->branch));
    json_put(&o, "setup", pi_report_setup_json(&t->report));
    json_put(&o, "logits_equal_sim2pc", t->checked ? json_boolean(t->equal) : json_null());
    return o;
}

/* ---- totals: fresh, in a lot, online ------------------------------------------------------- */

enum { FRESH, IN_LOT, TRIALS, PACKAGES = 2 }; /* trials of one package, packages */

/* What one image takes from the first word of a connection on; the set-up is shared by its images. */
static double total_seconds(const struct trial *t)
{
    double sum = t->report.phase[PHASE_SETUP].seconds / (double)t->images;

    for (int i = PHASE_SETUP + 1; i < PHASES; i++)
        sum += t->report.phase[i].seconds;
    return sum;
}

static double total_mb(const struct trial *t)
{
    double sum = (double)phase_bytes(t, PHASE_SETUP) / (double)t->images;

    for (int i = PHASE_SETUP + 1; i < PHASES; i++)
        sum += (double)phase_bytes(t, (enum phase)i);
    return 1e-6 * sum;
}

static double online_mb(const struct trial *t)
{
    return 1e-6 * (double)phase_bytes(t, PHASE_ONLINE);
}

static void total_row(FILE *f, const char *name, const struct trial *of)
{
    const int last = of[IN_LOT].path != NULL ? IN_LOT : FRESH;

    fprintf(f, "%-24s", name);
    for (int i = FRESH; i <= last; i++)
        fprintf(f, " %9.2f %9.3f", total_mb(&of[i]), total_seconds(&of[i]));
    fprintf(f, " %9.2f %9.3f\n", online_mb(&of[last]), online(&of[last]));
}

static void total_ratios(FILE *f, const struct trial *a, const struct trial *z)
{
    const int last = a[IN_LOT].path != NULL ? IN_LOT : FRESH;

    fprintf(f, "%-24s", "first / second");
    for (int i = FRESH; i <= last; i++)
        fprintf(f, " %9.2f %9.2f", ratio(total_mb(&a[i]), total_mb(&z[i])),
                ratio(total_seconds(&a[i]), total_seconds(&z[i])));
    fprintf(f, " %9.2f %9.2f\n", ratio(online_mb(&a[last]), online_mb(&z[last])),
            ratio(online(&a[last]), online(&z[last])));
}

/* z->path NULL: one package. */
static void print_totals(const struct trial *a, const struct trial *z, FILE *f)
{
    char lot[24];

    fprintf(f, "\n%-24s %19s", "one image", "fresh");
    if (a[IN_LOT].path != NULL) {
        snprintf(lot, sizeof lot, "in a lot of %lld", (long long)a[IN_LOT].lot);
        fprintf(f, " %19s", lot);
    }
    fprintf(f, " %19s\n%-24s %9s %9s", "online", "", "MB", "seconds");
    if (a[IN_LOT].path != NULL)
        fprintf(f, " %9s %9s", "MB", "seconds");
    fprintf(f, " %9s %9s\n", "MB", "seconds");
    total_row(f, z->path != NULL ? "first" : "total", a);
    if (z->path == NULL)
        return;
    total_row(f, "second", z);
    total_ratios(f, a, z);
}

static json_t *totals_json(const struct trial *of)
{
    json_t *o = json_pack("{s:{s:f, s:f}, s:{s:f, s:f}}", "fresh", "mb", total_mb(of), "seconds",
                          total_seconds(of), "online", "mb", online_mb(of), "seconds", online(of));

    if (of[IN_LOT].path != NULL)
        json_put(&o, "lot",
                 json_pack("{s:I, s:f, s:f, s:f}", "images", (json_int_t)of[IN_LOT].lot, "mb",
                           total_mb(&of[IN_LOT]), "seconds", total_seconds(&of[IN_LOT]),
                           "online_seconds", online(&of[IN_LOT])));
    return o;
}

/* One package with its totals and, where there is one, its lot. */
static json_t *package_json(const struct trial *of, const struct bench *b)
{
    json_t *o = trial_json(of, b);

    json_put(&o, "totals", totals_json(of));
    if (of[IN_LOT].path != NULL)
        json_put(&o, "lot", trial_json(&of[IN_LOT], b));
    return o;
}

static json_t *ratio_json(const struct trial *a, const struct trial *z)
{
    return json_pack(
        "{s:f, s:f, s:f, s:f, s:f}", "relus",
        ratio((double)a->plan->relus_kept, (double)z->plan->relus_kept), "online_relu_bytes",
        ratio((double)pi_report_relu_bytes(&a->report), (double)pi_report_relu_bytes(&z->report)),
        "online_seconds", ratio(online(a), online(z)), "online_seconds_without_linear",
        ratio(online(a) - a->told.linear_seconds, online(z) - z->told.linear_seconds),
        "predicted_online_seconds",
        ratio(a->report.predicted.online_seconds, z->report.predicted.online_seconds));
}

static bool all_equal(const struct trial *t, int n)
{
    for (int i = 0; i < n; i++)
        if (t[i].checked && !t[i].equal)
            return false;
    return true;
}

static void print_all(struct bench *b, const struct trial *a, const struct trial *z)
{
    FILE *f = cli_out(b->c);

    if (b->c->verbose > 0) {
        fprintf(f, "constants of the cost model, fitted on this machine\n");
        cost_machine_each(&b->machine, print_constant, f);
    }
    for (const struct trial *t = a; t < a + (size_t)(PACKAGES * TRIALS); t++) {
        if (t->path == NULL)
            continue;
        if (t != a)
            fputc('\n', f);
        print_trial(t, b);
    }
    if (z->path != NULL)
        print_ratio(a, z, f);
    print_totals(a, z, f);
    fprintf(
        f,
        "published, other hardware (Delphi, ResNet-18 with 557,056 ReLUs): online 14.8 s and 1,193 B a ReLU, offline 332 s and 19,088 B a ReLU\n");
}

/* a, z: the first and second package's trials. */
static int report(struct bench *b, const struct trial *a, const struct trial *z)
{
    print_all(b, a, z);
    if (b->c->json != NULL) {
        json_t *root = package_json(a, b);
        json_put(&root, "machine", machine_json(b));
        if (z->path != NULL) {
            json_put(&root, "compare", package_json(z, b));
            json_put(&root, "ratio", ratio_json(a, z));
        }
        TRY(cli_json_write(b->c, root));
    }
    return all_equal(a, PACKAGES * TRIALS)
               ? 0
               : fail(ERR_VERIFY, "logits of the two-party run differ from sim2pc");
}

/* ---- the command -------------------------------------------------------------------------- */

/* Images of --input, or random bytes in the shape of the first program. */
static int open_images(struct bench *b, const struct plan *p)
{
    int64_t images = b->o->lot > b->o->queries ? b->o->lot : b->o->queries;
    size_t n = (size_t)(images * p->tensor[0].count);

    if (b->o->input != NULL) {
        TRY(pi_images_open(b->o->input, p, PI_FLOATS_PIXELS, &b->file, &b->kind));
        b->images = (uint8_t *)(uintptr_t)b->file.data;
        return b->file.dim[0] >= images
                   ? 0
                   : fail(ERR_DATA, "'%s' holds %lld images, --%s asks for %lld", b->o->input,
                          (long long)b->file.dim[0], images > b->o->queries ? "lot" : "queries",
                          (long long)images);
    }
    if ((b->images = mem_array(n, 1)) == NULL)
        return ERR_NOMEM;
    return bench_random((uint8_t)b->c->seed, b->images, n);
}

struct fitted {
    int rc;
    char message[512];
    struct cost_machine machine;
};

static void fit_process(const char *dir, int to_parent)
{
    struct fitted f = {0};

    f.rc = cost_fit(dir, &f.machine);
    snprintf(f.message, sizeof f.message, "%s", f.rc < 0 ? err_message() : "");
    _exit(write(to_parent, &f, sizeof f) != (ssize_t)sizeof f);
}

/* In a process of its own, whose memory does not count as the client's. */
static int fit_in(const char *dir, struct cost_machine *out)
{
    struct fitted f;
    int fds[2], status, rc;
    pid_t child;

    fflush(NULL);
    if (pipe(fds) < 0 || (child = fork()) < 0)
        return fail(ERR_IO, "fork: %s", strerror(errno));
    if (child == 0)
        fit_process(dir, fds[1]);
    close(fds[1]);
    rc = read_all(fds[0], &f, sizeof f);
    close(fds[0]);
    waitpid(child, &status, 0);
    TRY(rc);
    *out = f.machine;
    return f.rc < 0 ? fail(f.rc, "cost model: %s", f.message) : 0;
}

static int fit_machine(struct bench *b)
{
    char dir[TEMPORARY];
    int rc;

    TRY(temporary_folder(dir));
    rc = fit_in(dir, &b->machine);
    (void)rmdir(dir);
    return rc;
}

static int run(struct bench *b, struct trial *all)
{
    struct plan *p = NULL;
    int rc;

    if (b->o->link != NULL) {
        TRY(link_parse(b->o->link, &b->link));
        b->has_link = true;
    }
    TRY(plan_read(all->path, &p));
    if ((rc = open_images(b, p)) == 0)
        rc = fit_machine(b);
    plan_free(p);
    TRY(rc);
    if (b->o->save != NULL)
        TRY(cost_machine_write(&b->machine, b->o->save));
    /* All processes are made before this one has parallel regions, whose threads a fork would lose. */
    for (int i = 0; i < PACKAGES * TRIALS; i++)
        if (all[i].path != NULL)
            TRY(prepare(&all[i], b));
    for (int i = 0; i < PACKAGES * TRIALS; i++)
        if (all[i].path != NULL)
            TRY(measure(&all[i], b));
    for (int i = 0; i < PACKAGES * TRIALS && b->o->reveal != 1; i++) {
        if (all[i].path == NULL)
            continue;
        TRY(bench_check(&all[i].run, all[i].logits, &all[i].equal));
        all[i].checked = true;
    }
    return report(b, all, all + TRIALS);
}

static void trial_release(struct trial *t)
{
    if (t->server > 0) {
        close(t->go); /* one that still waits ends */
        close(t->tell);
        waitpid(t->server, NULL, 0);
    }
    if (*t->folder != '\0') {
        bench_remove_folders(&t->run);
        (void)rmdir(t->folder);
    }
    pi_report_release(&t->report);
    mem_free(t->logits);
    plan_weights_free(t->w);
    plan_free(t->plan);
}

static int check_options(const struct options *o)
{
    if (o->weights == NULL)
        return fail(ERR_ARG, "give --weights FILE");
    if ((o->compare == NULL) != (o->compare_weights == NULL))
        return fail(ERR_ARG, "--compare and --compare-weights belong together");
    if (o->lot > 1 && linear_backends()[o->linear]->third_party)
        return fail(ERR_ARG, "--lot: correlations of a dealer are made for each image alone");
    return 0;
}

/* A package's trials: its images one by one and, with --lot, a lot. */
static void plan_trials(struct trial t[TRIALS], const char *path, const char *weights,
                        const struct options *o)
{
    t[FRESH] = (struct trial){.path = path, .weights = weights, .images = o->queries};
    if (path != NULL && o->lot > 0)
        t[IN_LOT] =
            (struct trial){.path = path, .weights = weights, .images = o->lot, .lot = o->lot};
}

int pi_cmd_bench(int argc, char **argv)
{
    struct options o = {.queries = 1, .timeout = 300};
    struct cli_common c;
    struct bench b = {.c = &c, .o = &o, .kind = PI_U8_NCHW};
    struct trial all[PACKAGES * TRIALS] = {0};
    struct pi_choices words;
    const struct cli_spec with = pi_with_backends(&spec, &words);
    int rc;

    if ((rc = cli_parse(&with, argc, argv, &c, &o)) == 0 && (rc = check_options(&o)) == 0) {
        plan_trials(all, c.arg[0], o.weights, &o);
        plan_trials(all + TRIALS, o.compare, o.compare_weights, &o);
        rc = run(&b, all);
    }
    for (int i = 0; i < PACKAGES * TRIALS; i++)
        trial_release(&all[i]);
    if (o.input == NULL)
        mem_free(b.images);
    npy_release(&b.file);
    cli_release(&c);
    return rc;
}
