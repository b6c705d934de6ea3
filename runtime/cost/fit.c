/*
 * Measuring the constants of the cost model (fit.h).
 *
 * Comparisons: batches of two sizes, several in a row, so that a batch costs a + n b. Silent OT: rounds of the
 * smallest set. Linear steps:
 * convolutions with different shares of uploads, answers and products, with and without a cache of
 * transformed weights; least squares give the constants. Arithmetic: two convolutions whose products and
 * windows weigh differently. Everything is measured several times and counts with its median: two parties on one machine
 * share cores, and the best case is rare. Before each measurement both parties write to other memory, as the steps
 * between two of a kind do: caches are not warm in a run either. Keys, shares and weights are random.
 */
#include "runtime/cost/fit.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/version.h"
#include "runtime/linear/rlwe_party.h"
#include "runtime/relu/relu.h"
#include "runtime/ring/bits.h"
#include "runtime/ring/ring.h"
#include "runtime/crypto/cot.h"
#include "runtime/crypto/store.h"
#include "runtime/net/link.h"
#include "runtime/net/tcp.h"
#include "runtime/ring/word_conv.h"

enum { WEIGHT_MAX = 200 }; /* most magnitude, as weights of trained networks have */
enum { TIMES = 5, IN_A_ROW = 3, TIMEOUT = 60, SMALL = 512, LARGE = 8192 }; /* two sizes of layers */
enum { WORDS = 1 << 18 };       /* of random numbers; covers every tensor and batch */
#define MOVED ((size_t)4 << 20) /* bytes, to time sockets */
#define FRESH ((size_t)48 << 20)
#define PAGE ((size_t)4096)
#define OTHER ((size_t)8 << 20) /* bytes of other memory: more than a core's own caches */

/* 3x3 convolutions of padded squares: channels, outputs, side. */
enum { UPLOADS, NARROW, WIDE, PRODUCTS, STEPS };
static const int64_t shape[STEPS][3] = {[UPLOADS] = {96, 2, 32},
                                        [NARROW] = {6, 16, 32},
                                        [WIDE] = {128, 96, 8},
                                        [PRODUCTS] = {256, 256, 8}};

struct sample {
    double seconds[TIMES];
    int n;
};

/* Keeps them in order. */
static void add_sample(struct sample *s, double seconds)
{
    int k = s->n++;

    for (; k > 0 && s->seconds[k - 1] > seconds; k--)
        s->seconds[k] = s->seconds[k - 1];
    s->seconds[k] = seconds;
}

static double median(const struct sample *s)
{
    return s->seconds[s->n / 2];
}

/* ---- two parties -------------------------------------------------------------------------- */

struct fit; /* what both share */
struct side {
    struct fit *fit;
    bool client;
    struct transport t;
    struct prg *rng;
    struct relu_party *party;
    uint64_t *words; /* random */
    uint8_t *other;
    int rc;
    char why[256]; /* of a server that failed */
};
struct fit {
    struct side side[2]; /* server, client */
    struct tcp_listener *listener;
    struct plan plan;
    struct plan_tensor tensor[2 * STEPS];
    struct plan_step step[STEPS];
    struct plan_weights weights;
    struct plan_matrix matrix[STEPS];
    struct cost_machine *out;
};

/* Both wait for each other: what follows begins, or has ended, at the same time. */
static int meet(struct side *s)
{
    uint8_t b = 0;

    if (s->client) {
        TRY(transport_send(&s->t, &b, 1));
        return transport_recv(&s->t, &b, 1);
    }
    TRY(transport_recv(&s->t, &b, 1));
    TRY(transport_send(&s->t, &b, 1));
    return transport_flush(&s->t);
}

/* Other memory, then a meeting. */
static int come_cold(struct side *s)
{
    memset(s->other, (int)s->other[0] + 1, OTHER);
    return meet(s);
}

/* ---- comparisons -------------------------------------------------------------------------- */

static int offline(struct side *s, const struct relu_backend *k, const struct relu_batch *b,
                   struct tape *state)
{
    return s->client ? k->offline_client(s->party, b, s->words, s->words, state)
                     : k->offline_server(s->party, b, state);
}

static int online(struct side *s, const struct relu_backend *k, const struct relu_batch *b,
                  struct tape *state, uint64_t from)
{
    return s->client ? k->online_client(&s->t, b, state, from)
                     : k->online_server(&s->t, b, state, from, s->words, s->words);
}

struct phases {
    struct sample off, on;
};

/* One batch of a row, number b->tweak, in one phase; adds its seconds. */
static int time_batch(struct side *s, const struct relu_backend *k, const struct relu_batch *b,
                      struct tape *state, bool prepares, double *seconds)
{
    double start;

    TRY(come_cold(s));
    start = cpu_seconds();
    TRY(prepares ? offline(s, k, b, state)
                 : online(s, k, b, state, b->tweak * k->state_size(b, s->client)));
    TRY(meet(s));
    *seconds += cpu_seconds() - start;
    return 0;
}

/* Adds seconds of a batch: the mean of IN_A_ROW of them. */
static int time_batches(struct side *s, const struct relu_backend *k, int64_t n, struct phases *x)
{
    struct relu_batch b = {.n = n, .width = RELU_COST_WIDTH, .payloads = 1};
    SCOPED(tape_free_at) struct tape *state = NULL;
    double seconds[2] = {0, 0};

    TRY(tape_memory(IN_A_ROW * k->state_size(&b, s->client), &state));
    for (int online = 0; online < 2; online++)
        for (b.tweak = 0; b.tweak < IN_A_ROW; b.tweak++)
            TRY(time_batch(s, k, &b, state, !online, &seconds[online]));
    add_sample(&x->off, seconds[0] / IN_A_ROW);
    add_sample(&x->on, seconds[1] / IN_A_ROW);
    return 0;
}

static void line_through(const struct sample *small, const struct sample *large, double *batch,
                         double *each)
{
    *each = fmax(median(large) - median(small), 0) / (LARGE - SMALL);
    *batch = fmax(median(small) - SMALL * *each, 0);
}

static int fit_backend(struct side *s, const struct relu_backend *k, struct relu_seconds *out)
{
    static const uint8_t sid[HASH_SID] = "both sides are this process";
    struct phases small = {0}, large = {0};
    int rc = k->open(s->client, sid, NULL, &s->t, s->rng, &s->party);

    for (int i = 0; i < TIMES && rc == 0; i++)
        if ((rc = time_batches(s, k, SMALL, &small)) == 0)
            rc = time_batches(s, k, LARGE, &large);
    k->close(s->party);
    s->party = NULL;
    TRY(rc);
    line_through(&small.off, &large.off, &out->offline_batch, &out->offline);
    line_through(&small.on, &large.on, &out->online_batch, &out->online);
    return 0;
}

static int fit_relus(struct side *s)
{
    struct cost_machine own, *m = s->client ? s->fit->out : &own;

    for (int i = 0; relu_backends()[i] != NULL; i++)
        TRY(fit_backend(s, relu_backends()[i], &m->relu[i]));
    return 0;
}

/* ---- silent OT ---------------------------------------------------------------------------- */

struct transfers { /* of one side, from the server to the client */
    struct otext_sender *sender;
    struct otext_receiver *receiver;
    struct cot_sender give;
    struct cot_receiver take;
    struct block *rows;
    uint64_t *bits;
};

static int open_transfers(struct side *s, const struct ferret_set *set, size_t n,
                          struct transfers *x)
{
    static const struct ferret_id id = {.sid = "both sides are this process"};

    if ((x->rows = secret_array(n, sizeof *x->rows)) == NULL ||
        (x->bits = secret_array(bits_words(n), sizeof *x->bits)) == NULL)
        return ERR_NOMEM;
    if (s->client) {
        TRY(otext_receiver_new(&s->t, s->rng, &x->receiver));
        return cot_receiver_open(&x->take, x->receiver, set, &id);
    }
    TRY(otext_sender_new(&s->t, s->rng, &x->sender));
    return cot_sender_open(&x->give, x->sender, set, &id, s->rng);
}

static void close_transfers(struct transfers *x)
{
    cot_sender_close(&x->give);
    cot_receiver_close(&x->take);
    otext_sender_free(x->sender);
    otext_receiver_free(x->receiver);
    secret_free(x->rows);
    secret_free(x->bits);
}

/* A round at a time; the first one, with what comes once, does not count. */
static int time_rounds(struct side *s, size_t n, struct transfers *x, struct sample *out)
{
    for (int i = 0; i <= TIMES; i++) {
        double start;
        TRY(meet(s));
        start = cpu_seconds();
        TRY(s->client ? cot_receive_random(&x->take, &s->t, n, x->bits, x->rows)
                      : cot_send(&x->give, &s->t, n, 0, x->rows));
        TRY(meet(s));
        if (i > 0)
            add_sample(out, cpu_seconds() - start);
    }
    return 0;
}

/* Set beside what the formula of cot.h says of the machine that its constants come from. */
static int fit_silent(struct side *s)
{
    const struct ferret_set *set = ferret_set(0);
    size_t n = (size_t)ferret_round_rows(set) - 1;
    struct sample round = {{0}, 0};
    SCOPED(close_transfers) struct transfers x = {0};

    TRY(open_transfers(s, set, n, &x));
    TRY(time_rounds(s, n, &x, &round));
    if (s->client)
        s->fit->out->silent_row = 1e-9 * set->row_ns * median(&round) /
                                  cot_seconds(set, n, link_loopback()->bits_per_second, 0);
    return 0;
}

/* ---- linear steps ------------------------------------------------------------------------- */

static void add_conv(struct fit *f, int64_t in, int64_t out, int64_t size)
{
    int32_t i = f->plan.n_step++, t = 2 * i;

    f->tensor[t] =
        (struct plan_tensor){.rank = 3, .dim = {in, size, size}, .count = in * size * size};
    f->tensor[t + 1] =
        (struct plan_tensor){.rank = 3, .dim = {out, size, size}, .count = out * size * size};
    f->step[i] =
        (struct plan_step){.kind = PLAN_CONV, .name = "conv", .in = {t}, .n_in = 1, .out = t + 1};
    f->step[i].u.linear = (struct plan_linear){
        .kernel = {3, 3}, .stride = {1, 1}, .pad = {1, 1, 1, 1}, .dilation = {1, 1}, .group = 1};
}

static int make_plan(struct fit *f, struct prg *rng)
{
    f->plan = (struct plan){.tensor = f->tensor, .n_tensor = 2 * STEPS, .step = f->step};
    f->weights = (struct plan_weights){.matrix = f->matrix, .n_matrix = STEPS};
    for (int i = 0; i < STEPS; i++) {
        struct plan_matrix *m = &f->matrix[i];
        add_conv(f, shape[i][0], shape[i][1], shape[i][2]);
        plan_matrix_size(&f->plan, &f->step[i], &m->rows, &m->columns);
        m->weight = mem_array((size_t)(m->rows * m->columns), sizeof *m->weight);
        if (m->weight == NULL)
            return ERR_NOMEM;
        prg_bytes(rng, m->weight, (size_t)(m->rows * m->columns) * sizeof *m->weight);
        for (int64_t k = 0; k < m->rows * m->columns; k++)
            m->weight[k] = (int16_t)(m->weight[k] % WEIGHT_MAX);
    }
    return 0;
}

static int run_step(struct side *s, const struct linear_party *l, int32_t step, double *seconds)
{
    double start;

    TRY(come_cold(s));
    start = cpu_seconds();
    TRY(s->client ? l->client(l->ctx, step, 1, s->words, s->words)
                  : l->server(l->ctx, step, 1, s->words));
    *seconds = cpu_seconds() - start;
    return 0;
}

/* All steps, TIMES times, by a linear backend with this much cache; the first image, which fills it, does not
 * count. */
static int time_steps(struct side *s, size_t cache, struct sample out[STEPS])
{
    const struct fit *f = s->fit;
    struct linear_party l = {0};
    double seconds;
    int rc = s->client ? linear_rlwe_client(&f->plan, &s->t, s->rng, &l)
                       : linear_rlwe_server(&f->plan, &f->weights, &s->t, s->rng, cache, &l);

    for (int image = 0; image <= TIMES && rc == 0; image++)
        for (int32_t i = 0; i < STEPS && rc == 0; i++)
            if ((rc = run_step(s, &l, i, &seconds)) == 0 && image > 0)
                add_sample(&out[i], seconds);
    if (l.close != NULL)
        l.close(l.ctx);
    return rc;
}

static double determinant(double m[3][3])
{
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
           m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
           m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

/* x[column] of m x = y by Cramer's rule; no constant is negative. */
static double solve(double m[3][3], const double y[3], int column)
{
    double replaced[3][3];

    memcpy(replaced, m, sizeof replaced);
    for (int i = 0; i < 3; i++)
        replaced[i][column] = y[i];
    return fmax(determinant(replaced) / determinant(m), 0);
}

/* Normal equations of counts [STEPS][3] x = seconds [STEPS]. */
static void least_squares(double counts[STEPS][3], const struct sample *seconds, double x[3])
{
    double square[3][3] = {{0}}, side[3] = {0};

    for (int i = 0; i < STEPS; i++)
        for (int a = 0; a < 3; a++) {
            side[a] += counts[i][a] * median(&seconds[i]);
            for (int b = 0; b < 3; b++)
                square[a][b] += counts[i][a] * counts[i][b];
        }
    for (int a = 0; a < 3; a++)
        x[a] = solve(square, side, a);
}

static int fit_counts(const struct fit *f, const struct sample fresh[STEPS],
                      const struct sample cached[STEPS], struct cost_machine *m)
{
    double counts[STEPS][3], x[3], saved = 0, transforms = 0, transform;

    for (int i = 0; i < STEPS; i++) {
        struct linear_rlwe_count n;
        TRY(linear_rlwe_count(&f->plan, i, 1, &n));
        counts[i][0] = (double)n.uploads;
        counts[i][1] = (double)n.answers;
        counts[i][2] = (double)n.products;
        saved += median(&fresh[i]) - median(&cached[i]);
        transforms += (double)n.transforms;
    }
    least_squares(counts, fresh, x);
    transform = fmax(fmin(saved / transforms, x[2]), 0);
    *cost_machine_constant(m, "rlwe.upload") = x[0];
    *cost_machine_constant(m, "rlwe.answer") = x[1];
    *cost_machine_constant(m, "rlwe.transform") = transform;
    *cost_machine_constant(m, "rlwe.product") = x[2] - transform;
    return 0;
}

static int fit_linear(struct side *s)
{
    struct sample fresh[STEPS] = {{{0}, 0}}, cached[STEPS] = {{{0}, 0}};

    TRY(time_steps(s, 0, fresh));
    TRY(time_steps(s, LINEAR_RLWE_CACHE, cached));
    return s->client ? fit_counts(s->fit, fresh, cached, s->fit->out) : 0;
}

/* ---- sockets and memory ------------------------------------------------------------------- */

/* Pieces that are held together, so that none is memory which another one gave back. */
static int fit_memory(struct cost_machine *m)
{
    struct sample touched = {0};
    uint8_t *piece[TIMES] = {NULL};
    int rc = 0;

    for (int i = 0; i < TIMES && rc == 0; i++) {
        double start = cpu_seconds();
        if ((piece[i] = mem_array(FRESH, 1)) == NULL)
            rc = ERR_NOMEM;
        for (size_t at = 0; at < FRESH && rc == 0; at += PAGE)
            piece[i][at] = 1;
        add_sample(&touched, cpu_seconds() - start);
    }
    for (int i = 0; i < TIMES; i++)
        mem_free(piece[i]);
    *cost_machine_constant(m, "rlwe.fresh_byte") = median(&touched) / FRESH;
    return rc;
}

static int fit_sockets(struct side *s)
{
    uint8_t *bytes = (uint8_t *)s->words;
    struct sample moved = {0};

    for (int i = 0; i < TIMES; i++) {
        double start;
        TRY(meet(s));
        start = cpu_seconds();
        for (size_t at = 0; at < MOVED; at += WORDS)
            TRY(s->client ? transport_send(&s->t, bytes, WORDS)
                          : transport_recv(&s->t, bytes, WORDS));
        TRY(meet(s));
        add_sample(&moved, cpu_seconds() - start);
    }
    if (s->client)
        s->fit->out->byte = median(&moved) / (double)MOVED;
    return 0;
}

/* ---- arithmetic, one thread --------------------------------------------------------------- */

/* Convolutions of shares: by small weights (online), and of words by words (dealer). */
struct conv_time {
    struct sample ring, word;
    double macs, cells;
};

static int time_conv(const struct fit *f, int32_t step, uint64_t *x, struct conv_time *out)
{
    struct ring_conv c = ring_conv_of(&f->plan, &f->step[step]);
    size_t n = (size_t)(c.out[0] * c.columns);
    size_t scratch = ring_conv_scratch(&c), other = word_conv_scratch(&c);
    OWNED double *weight = mem_array(n, sizeof *weight);
    OWNED double *memory = mem_array(scratch > other ? scratch : other, sizeof *memory);
    OWNED int64_t *bias = mem_array((size_t)c.out[0], sizeof *bias);

    if (weight == NULL || memory == NULL || bias == NULL)
        return ERR_NOMEM;
    for (size_t i = 0; i < n; i++)
        weight[i] = f->matrix[step].weight[i];
    c.weight = weight;
    c.bias = bias;
    c.row_l1 = (double)c.columns * WEIGHT_MAX;
    for (int i = 0; i < TIMES; i++) {
        double start = cpu_seconds();
        ring_conv(x + WORDS / 2, x, &c, memory);
        add_sample(&out->ring, cpu_seconds() - start);
        start = cpu_seconds();
        word_conv(x + WORDS / 2, x, x, &c, (uint64_t *)(void *)memory);
        add_sample(&out->word, cpu_seconds() - start);
    }
    out->macs = (double)n * (double)(c.out[1] * c.out[2]);
    out->cells = out->macs / (double)c.out[0];
    return 0;
}

/* p, q >= 0 of a[i] p + b[i] q = y[i]. */
static void solve_pair(const double a[2], const double b[2], const double y[2], double *p,
                       double *q)
{
    double d = a[0] * b[1] - a[1] * b[0];

    *p = fmax((y[0] * b[1] - y[1] * b[0]) / d, 0);
    *q = fmax((a[0] * y[1] - a[1] * y[0]) / d, 0);
}

static int fit_arithmetic(const struct fit *f, uint64_t *x, struct cost_machine *m)
{
    struct conv_time narrow = {0}, wide = {0};
    struct sample local = {0};

    TRY(fit_memory(m));
    TRY(time_conv(f, NARROW, x, &narrow));
    TRY(time_conv(f, WIDE, x, &wide));
    solve_pair((double[]){narrow.macs, wide.macs}, (double[]){narrow.cells, wide.cells},
               (double[]){median(&narrow.ring), median(&wide.ring)}, &m->mac, &m->window_entry);
    *cost_machine_constant(m, "dealer.word_mac") = median(&wide.word) / wide.macs;
    for (int i = 0; i < TIMES; i++) {
        double start = cpu_seconds();
        ring_truncate(x, WORDS / 2, 12);
        ring_add(x, x, 12, x + WORDS / 2, 0, WORDS / 2);
        add_sample(&local, cpu_seconds() - start);
    }
    m->element = median(&local) / (WORDS / 2);
    return 0;
}

/* ---- files of a dealer -------------------------------------------------------------------- */

/* Claiming a file of n words. */
static int time_claim(const char *dir, const uint64_t *words, size_t n, struct sample *out)
{
    static const char name[] = "correlation";
    SCOPED(store_abort_at) struct store_writer *w = NULL;
    SECRET uint8_t *bytes = NULL;

    TRY(store_write(dir, name, &w));
    TRY(store_append(w, words, n * sizeof *words));
    TRY(store_commit(&w));
    const double start = cpu_seconds();
    TRY(store_claim(dir, name, n * sizeof *words, &bytes));
    add_sample(out, cpu_seconds() - start);
    return 0;
}

static int fit_files(const char *dir, const uint64_t *words, struct cost_machine *m)
{
    struct sample small = {0}, large = {0};

    for (int i = 0; i < TIMES; i++) {
        TRY(time_claim(dir, words, 1, &small));
        TRY(time_claim(dir, words, WORDS, &large));
    }
    *cost_machine_constant(m, "dealer.claim") = median(&small);
    *cost_machine_constant(m, "dealer.file_byte") =
        fmax(median(&large) - median(&small), 0) / (WORDS * sizeof *words);
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------- */

static int run_side(struct side *s)
{
    TRY(fit_sockets(s));
    TRY(fit_relus(s));
    TRY(fit_silent(s));
    return fit_linear(s);
}

static void *server_thread(void *arg)
{
    struct side *s = arg;
    struct tcp *tcp = NULL;

    if ((s->rc = tcp_accept(s->fit->listener, TIMEOUT, NULL, NULL, &tcp)) == 0) {
        tcp_transport(tcp, &s->t);
        s->rc = run_side(s);
        transport_close(&s->t);
    }
    if (s->rc < 0)
        snprintf(s->why, sizeof s->why, "%s", err_message());
    return NULL;
}

static int client_side(struct side *s, const struct tcp_address *a)
{
    struct tcp *tcp = NULL;
    int rc;

    TRY(tcp_connect(a, TIMEOUT, &tcp));
    tcp_transport(tcp, &s->t);
    rc = run_side(s);
    transport_close(&s->t);
    return rc;
}

static int run_both(struct fit *f)
{
    struct side *server = &f->side[0], *client = &f->side[1];
    struct tcp_address a;
    pthread_t thread;

    TRY(tcp_address_parse("127.0.0.1:0", &a));
    TRY(tcp_listen(&a, &f->listener));
    snprintf(a.port, sizeof a.port, "%d", tcp_listener_port(f->listener));
    if (pthread_create(&thread, NULL, server_thread, server) != 0)
        return fail(ERR_NOMEM, "cost model: no thread for the other party");
    client->rc = client_side(client, &a);
    pthread_join(thread, NULL);
    if (server->rc < 0 && (client->rc == 0 || client->rc == ERR_PEER))
        return fail(server->rc, "cost model: %s", server->why);
    return client->rc;
}

static int open_side(struct fit *f, int who)
{
    struct side *s = &f->side[who];

    s->fit = f;
    s->client = who == 1;
    TRY(prg_new_random(&s->rng));
    if ((s->words = mem_array(WORDS, sizeof *s->words)) == NULL ||
        (s->other = mem_array(OTHER, 1)) == NULL)
        return ERR_NOMEM;
    prg_bytes(s->rng, s->words, WORDS * sizeof *s->words);
    return 0;
}

static void release(struct fit *f)
{
    for (int who = 0; who < 2; who++) {
        prg_free(f->side[who].rng);
        mem_free(f->side[who].words);
        mem_free(f->side[who].other);
    }
    for (int i = 0; i < STEPS; i++)
        mem_free(f->matrix[i].weight);
    tcp_listener_close(f->listener);
}

/* "model name : AMD EPYC 9124" of the first CPU; "" where the system does not say. */
static void name_cpu(char *out, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];

    out[0] = '\0';
    while (f != NULL && out[0] == '\0' && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (colon != NULL && strncmp(line, "model name", 10) == 0)
            snprintf(out, size, "%s", colon + 1 + strspn(colon + 1, " "));
    }
    if (f != NULL)
        fclose(f);
}

static void describe(struct cost_machine *m)
{
    time_t now = time(NULL);
    struct tm day;

    if (gethostname(m->name, sizeof m->name) != 0)
        snprintf(m->name, sizeof m->name, "this machine");
    m->name[sizeof m->name - 1] = m->date[0] = '\0';
    if (gmtime_r(&now, &day) != NULL)
        strftime(m->date, sizeof m->date, "%Y-%m-%d", &day);
    name_cpu(m->cpu, sizeof m->cpu);
    snprintf(m->revision, sizeof m->revision, "linnet %s", LINNET_VERSION);
}

int cost_fit(const char *folder, struct cost_machine *out)
{
    SCOPED(release) struct fit f = {.out = out};

    *out = cost_machine_default();
    describe(out);
    TRY(open_side(&f, 0));
    TRY(open_side(&f, 1));
    TRY(make_plan(&f, f.side[0].rng));
    TRY(fit_files(folder, f.side[1].words, out));
    TRY(fit_arithmetic(&f, f.side[1].words, out));
    return run_both(&f);
}
