/*
 * Two parties over the in-memory pair against sim2pc: bit for bit, with the dealer, for logits and
 * labels, with bundles; what is counted; what is refused. Comparisons are open here (plain_relu.h);
 * tests of the real backends have their own files.
 */
#include "runtime/party/party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/plain_relu.h"
#include "tests/plan_sample.h"
#include "runtime/crypto/store.h"
#include "runtime/party/phases.h"
#include "runtime/relu/party.h"
#include "tests/two_parties.h"

struct session {
    struct served server;
    struct party_options o;
    struct transport t;
};

static struct session session_of(const struct parties *b)
{
    struct session s = {.server = {.o = parties_options(b, &plain_relu, false)},
                        .o = parties_options(b, &plain_relu, true)};

    return s;
}

static void session_start(struct session *s)
{
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    served_start(&s->server);
}

static void session_end(struct session *s)
{
    transport_close(&s->t);
    served_join(&s->server);
}

static void ask_all(struct party *p, int first, int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES],
                    bool label)
{
    for (int i = first; i < PARTIES_IMAGES; i++) {
        float image[PARTIES_INPUTS];
        uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];
        parties_image(i, image, x);
        assert_int_equal(party_query(p, x, y), 0);
        if (label)
            assert_int_equal(y[0], parties_best(expected[i]));
        else
            assert_memory_equal(y, expected[i], sizeof y);
    }
}

/* ---- a line that keeps what the client sends and changes one word that it receives ---------- */

struct tap {
    struct transport inner;
    uint8_t sent[1 << 16];
    size_t n;
    int received, change; /* messages so far; the one to change, -1 for none */
    uint64_t by;
};

static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *t = ctx;

    assert_true(t->n + n <= sizeof t->sent);
    memcpy(t->sent + t->n, bytes, n);
    if (n == 32) /* a request: the id is always random */
        memset(t->sent + t->n + 16, 0, 16);
    t->n += n;
    return transport_send(&t->inner, bytes, n);
}

static int tap_recv(void *ctx, void *bytes, size_t n)
{
    struct tap *t = ctx;
    uint64_t word;

    TRY(transport_recv(&t->inner, bytes, n));
    if (t->received++ == t->change) {
        assert_int_equal(n, sizeof word);
        memcpy(&word, bytes, sizeof word);
        word += t->by;
        memcpy(bytes, &word, sizeof word);
    }
    return 0;
}

static int tap_flush(void *ctx)
{
    return transport_flush(&((struct tap *)ctx)->inner);
}

static void tap_close(void *ctx)
{
    transport_close(&((struct tap *)ctx)->inner);
}

/* ---- tests -------------------------------------------------------------------------------- */

enum lines { NO_LINES, HALVES, SLOPES };
#define CAP (1 << 11) /* of a plan of scale 12: one half */

/* relu NULL: the usual backend. */
static void check_run_of(struct plan *plan, const struct relu_backend *relu, bool label, int deals)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct session s;
    struct party *p = NULL;

    parties_open_plan(&b, plan, deals, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    if (relu != NULL)
        s.o.relu = s.server.o.relu = relu;
    s.server.o.label = label;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    ask_all(p, 0, expected, label);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    parties_close(&b);
}

static void check_run(int kept, enum lines lines, bool label, int deals)
{
    struct plan *plan = plan_sample(kept);

    if (lines != NO_LINES)
        plan_sample_lines(plan, lines == SLOPES);
    check_run_of(plan, NULL, label, deals);
}

static void test_network_run_equals_simulation(void **state)
{
    (void)state;
    check_run(64, NO_LINES, false, PARTIES_IMAGES);
    check_run(1, NO_LINES, false, 0);
    check_run(16, HALVES, false, PARTIES_IMAGES);
    check_run(16, HALVES, false, 0);
    check_run(16, SLOPES, false, 0);
}

/* ReLU6: two selections a kept position, in both backends, with lines and without. */
static void test_capped_relus_equal_the_simulation(void **state)
{
    (void)state;
    for (const struct relu_backend *const *relu = relu_backends(); *relu != NULL; relu++)
        for (int kept = 1; kept <= 64; kept *= 8) {
            struct plan *p = plan_sample(kept);

            plan_sample_lines(p, kept == 8);
            if (kept != 8)
                p->step[RELU].u.relu.line_shift = 0;
            plan_sample_cap(p, CAP);
            check_run_of(p, *relu, false, kept == 64 ? 0 : PARTIES_IMAGES);
        }
}

/* A cap sends what twice as many ReLUs send, in the same messages. */
static void test_a_cap_costs_a_second_evaluation(void **state)
{
    struct cost_count count[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct plan *plan = plan_sample(i == 2 ? 64 : 32);
        int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
        struct party *p = NULL;
        struct parties b;

        if (i == 1)
            plan_sample_cap(plan, CAP);
        parties_open_plan(&b, plan, PARTIES_IMAGES, 3);
        parties_expect(&b, expected);
        struct session s = session_of(&b);
        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        ask_all(p, 0, expected, false);
        count[i] = party_account(p)->phase[PHASE_ONLINE];
        count[i].seconds = 0;
        party_close(p);
        session_end(&s);
        parties_close(&b);
    }
    assert_true(count[1].sent > count[0].sent);
    assert_memory_equal(&count[1], &count[2], sizeof count[1]);
}

static void logits_of(const struct plan *p, const struct plan_weights *w, enum pi_mode mode,
                      int64_t y[PARTIES_IMAGES][PARTIES_CLASSES])
{
    float image[PARTIES_IMAGES][PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];
    struct pi_model *m = NULL;

    for (int i = 0; i < PARTIES_IMAGES; i++)
        parties_image(i, image[i], x);
    assert_int_equal(pi_prepare(p, w, mode, &m), 0);
    if (mode == PI_SIM2PC)
        pi_simulate(m, PARTIES_SEED, NULL, 1);
    assert_int_equal(pi_run_fixed(m, PI_NORMALIZED, image, PARTIES_IMAGES, *y), 0);
    pi_close(m);
}

/* Both parties' parts of a line add up to it: logits of the shares are those of one process, but for
 * the roundings of the layers. Small weights, so that no value leaves its range. */
static void test_lines_are_those_of_one_process(void **state)
{
    (void)state;
    for (int lines = NO_LINES; lines <= SLOPES + 1; lines++) {
        struct plan *p = plan_sample(16);
        int64_t shares[PARTIES_IMAGES][PARTIES_CLASSES], whole[PARTIES_IMAGES][PARTIES_CLASSES];

        if (lines > SLOPES)
            plan_sample_cap(p, CAP);
        else if (lines != NO_LINES)
            plan_sample_lines(p, lines == SLOPES);
        struct plan_weights *w = plan_sample_weights(p, 3);
        for (int32_t i = 0; i < p->n_step; i++) {
            const struct plan_matrix *m = &w->matrix[i];

            for (int64_t k = 0; k < m->rows * m->columns; k++)
                m->weight[k] /= 4;
            for (int64_t k = 0; k < m->rows && m->columns > 0; k++)
                m->bias[k] /= 64;
        }
        logits_of(p, w, PI_SIM2PC, shares);
        logits_of(p, w, PI_FIXED, whole);
        for (int i = 0; i < PARTIES_IMAGES; i++)
            for (int k = 0; k < PARTIES_CLASSES; k++)
                assert_in_range(shares[i][k] - whole[i][k] + 40, 0, 80);
        plan_weights_free(w);
        plan_free(p);
    }
}

/* Lines send nothing: the same bytes each way, phase by phase, as with the identity. */
static void test_lines_cost_no_byte_and_no_message(void **state)
{
    struct cost_count count[3][PHASES];

    (void)state;
    for (int lines = NO_LINES; lines <= SLOPES; lines++) {
        struct plan *plan = plan_sample(16);
        struct parties b;
        int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
        struct party *p = NULL;

        if (lines != NO_LINES)
            plan_sample_lines(plan, lines == SLOPES);
        parties_open_plan(&b, plan, PARTIES_IMAGES, 3);
        parties_expect(&b, expected);
        struct session s = session_of(&b);
        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        ask_all(p, 0, expected, false);
        memcpy(count[lines], party_account(p)->phase, sizeof count[lines]);
        for (int i = 0; i < PHASES; i++)
            count[lines][i].seconds = 0;
        party_close(p);
        session_end(&s);
        parties_close(&b);
    }
    assert_true(count[NO_LINES][PHASE_ONLINE].sent > 0);
    assert_memory_equal(count[HALVES], count[NO_LINES], sizeof count[0]);
    assert_memory_equal(count[SLOPES], count[NO_LINES], sizeof count[0]);
}

static void test_label_is_the_argmax(void **state)
{
    (void)state;
    check_run(16, NO_LINES, true, 0);
}

/* The 16 images of a lot share delta, the next ones do not. */
static void test_lots_have_deltas_of_their_own(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES], setup = 0, now;
    struct block delta = {0, 0};

    (void)state;
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.o.relu = s.server.o.relu = &relu_ot;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    for (int i = 0; i < 2 * PARTY_SHARED + 2; i++) {
        struct block d;

        assert_int_equal(party_query(p, x, y), 0);
        now = party_account(p)->phase[PHASE_SETUP].sent;
        d = otext_delta(p->relu->sender);
        assert_int_equal(d.lo != delta.lo || d.hi != delta.hi, i % PARTY_SHARED == 0);
        if (i > 0) /* a request, and base transfers with trees */
            assert_int_equal(now - setup,
                             32 + (i % PARTY_SHARED == 0 ? relu_ot.open_bytes(1, false) : 0));
        setup = now;
        delta = d;
    }
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    parties_close(&b);
}

/* Two queries for labels and the goodbye; the answer of the first one is moved by d. Returns the number of
 * the message that it is. */
static int two_labels(struct tap *t, int change, uint64_t d, uint64_t *label)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {1, 2, 3}, y[PARTIES_CLASSES];
    int last;

    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.server.o.label = true;
    session_start(&s);
    *t = (struct tap){.inner = s.t, .change = change, .by = d};
    s.t = (struct transport){tap_send, tap_recv, tap_flush, tap_close, NULL, t, {0}, 0, 0};
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), 0);
    *label = y[0];
    last = t->received - 1;
    assert_int_equal(party_query(p, x, y), 0);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    parties_close(&b);
    return last;
}

/* A server that moves its answer by d learns from a client that complains whether label + d is a class. */
static void test_no_label_changes_what_the_server_sees(void **state)
{
    static struct tap honest, evil;
    uint64_t label, moved;
    int last = two_labels(&honest, -1, 0, &label);

    (void)state;
    assert_true(label < PARTIES_CLASSES);
    for (uint64_t d = 1; d < 3; d++) {
        (void)two_labels(&evil, last, d << 40, &moved);
        assert_true(moved == label + (d << 40));
        assert_int_equal(evil.n, honest.n);
        assert_memory_equal(evil.sent, honest.sent, honest.n);
    }
}

static void test_counters_follow_from_the_plan(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES], up = 8 * PARTIES_INPUTS,
             down = 8 * PARTIES_CLASSES;
    const struct account *a;

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), 0);
    a = party_account(p);
    for (int32_t i = 0; i < party_schedule(p)->n; i++) {
        const struct event *e = &party_schedule(p)->event[i];
        uint64_t claim = i == 0 ? 8 : 0;
        if (e->kind == EVENT_LINEAR) {
            assert_int_equal(a->online[i].sent + a->online[i].received + a->online[i].flips, 0);
            assert_int_equal(a->offline[i].sent, 8 * (uint64_t)e->inputs + claim);
            assert_int_equal(a->offline[i].received, claim);
        } else {
            assert_int_equal(a->online[i].sent, plain_relu.online_bytes(&e->batch, 1));
            assert_int_equal(a->online[i].received, plain_relu.online_bytes(&e->batch, 0));
            assert_int_equal(a->online[i].flips, 2);
            up += a->online[i].sent;
            down += a->online[i].received;
        }
    }
    assert_int_equal(a->phase[PHASE_ONLINE].sent, up);
    assert_int_equal(a->phase[PHASE_ONLINE].received, down);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.phase[PHASE_ONLINE].sent, down);
    assert_int_equal(s.server.phase[PHASE_ONLINE].received, up);
    parties_close(&b);
}

/* Files of the folder, without its list of ids. */
static int64_t bundles_in(const char *dir)
{
    int64_t n, lists;

    assert_int_equal(store_count(dir, STORE_LIST, "", &lists), 0);
    n = (int64_t)scratch_entries(dir);
    return n - lists;
}

static void test_bundles_serve_once(void **state)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES], n;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    for (int i = 0; i < PARTIES_IMAGES; i++)
        assert_int_equal(party_prepare(p, 1), 0);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
    assert_int_equal(n, PARTIES_IMAGES);

    /* another connection, another process: the answers are those of the prepared shares */
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    ask_all(p, 0, expected, false);
    assert_int_equal(party_query(p, x, y), ERR_DATA);
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

/* Prepared together or one by one: each image gets its own shares, so the same answers. */
static void test_a_lot_is_its_bundles(void **state)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES], n;
    struct session s;
    struct party *p = NULL;

    (void)state;
    parties_open(&b, 16, 0, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 0), ERR_ARG);
    assert_int_equal(party_prepare(p, PARTY_LOT + 1), ERR_ARG);
    assert_int_equal(party_prepare(p, PARTIES_IMAGES - 1), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
    assert_int_equal(n, PARTIES_IMAGES);
    ask_all(p, 0, expected, false);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

static void change_middle(const char *dir, const char *name)
{
    char path[SCRATCH_TEXT];
    FILE *f = fopen(scratch_path(dir, name, path), "r+b");
    int byte;

    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    assert_int_equal(fseek(f, ftell(f) / 2, SEEK_SET), 0);
    byte = fgetc(f);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    fputc(byte ^ 1, f);
    assert_int_equal(fclose(f), 0);
}

/* Nothing of what is prepared stays in memory, on either side: through spools, and through files that are
 * read piece by piece, in a lot and a batch. The answers are the same; and a changed byte in the middle of
 * a file is found when it is its turn. */
static void run_from_files(const struct relu_backend *relu)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    uint64_t x[2 * PARTIES_INPUTS], y[2 * PARTIES_CLASSES];
    float image[PARTIES_INPUTS];
    struct session s;
    struct party *p = NULL;
    char name[STORE_NAME];

    parties_open(&b, 16, 0, 3);
    parties_expect(&b, expected);
    s = session_of(&b);
    s.o.relu = s.server.o.relu = relu;
    s.o.memory = s.server.o.memory = 1;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    ask_all(p, 0, expected, false);
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);

    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, PARTIES_IMAGES), 0);
    for (int i = 0; i < 2; i++)
        parties_image(i, image, x + (size_t)i * PARTIES_INPUTS);
    assert_int_equal(party_query_batch(p, 2, x, y), 0);
    assert_memory_equal(y, expected, sizeof y);
    ask_all(p, 2, expected, false);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_client, BUNDLE_PREFIX, BUNDLE_CLIENT, name), 1);
    change_middle(b.bundles_client, name);
    assert_int_equal(party_query(p, x, y), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "damaged"));
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_client), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);
}

static void test_from_files(void **state)
{
    (void)state;
    run_from_files(&relu_gc);
    run_from_files(&relu_ot);
}

/* One that is given back is there again, and its place in memory or in the file does not matter; a sweep of
 * another process leaves one that is claimed. */
static void test_a_claim_is_given_back(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    struct bundle *own = NULL;
    struct schedule *schedule = NULL;
    struct bundle_key k;
    static const struct relu_ways none;
    int64_t n;

    (void)state;
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    k = party_key(p);
    assert_int_equal(schedule_new(s.o.model->plan, false, &schedule), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(bundle_new(schedule, &plain_relu, true, &none, &own), 0);
        assert_int_equal(bundle_begin(own, BUNDLE_HERE, i & 1 ? BUNDLE_MEMORY : 0, &k, b.dir), 0);
        assert_true((tape_bytes(own->tape) != NULL) == (i & 1)); /* only where there is room */
        tape_free(own->tape);
        assert_int_equal(bundle_claim(own, i & 1 ? BUNDLE_MEMORY : 0, &k, b.bundles_client), 0);
        assert_true((tape_bytes(own->tape) != NULL) == (i & 1));
        assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(store_sweep(b.bundles_client), 0);
        if (i < 2)
            assert_int_equal(bundle_unclaim(own), 0);
        bundle_free(own);
        assert_int_equal(bundle_count(b.bundles_client, true, &n), 0);
        assert_int_equal(n, i < 2);
    } /* the last one neither given back nor used: lost */
    assert_int_equal(bundles_in(b.bundles_client), 0);
    schedule_free(schedule);
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

/* Room is that of the whole lot; a dealer's correlations are for one image. */
static void test_lots_that_are_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;

    (void)state;
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    s.server.o.max_bundles = 2;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 3), ERR_PEER);
    assert_non_null(strstr(err_message(), "no room for another bundle"));
    party_close(p);
    session_end(&s);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    parties_close(&b);

    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 2), ERR_ARG);
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

/* Whatever a client asks for, the server's folder has an end; queries make room again. */
static void test_bundles_have_a_limit(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    s.server.o.max_bundles = 2;
    for (int i = 0; i < 2; i++) { /* full, one used, full again */
        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        while (bundles_in(b.bundles_server) < 2)
            assert_int_equal(party_prepare(p, 1), 0);
        assert_int_equal(party_prepare(p, 1), ERR_PEER);
        assert_non_null(strstr(err_message(), "no room for another bundle"));
        party_close(p);
        session_end(&s);
        assert_int_equal(s.server.rc, ERR_PEER);
        assert_non_null(strstr(s.server.message, "holds at most 2 (--max-bundles)"));
        assert_int_equal(bundles_in(b.bundles_server), 2);
        assert_int_equal(bundles_in(b.bundles_client), 2);

        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &p), 0);
        assert_int_equal(party_query(p, x, y), 0);
        party_close(p);
        session_end(&s);
    }
    parties_close(&b);
}

/* A client that knows the id of another one's bundle cannot replace it. */
static void test_a_taken_id_is_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint8_t request[32] = {2, 0, 0, 0, 1},
            answer[8]; /* prepare one, number 1, the id of the bundle that is there */
    char name[STORE_NAME], path[SCRATCH_TEXT];
    uint8_t *before, *after;
    size_t len[2];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_server, "bundle-", ".server", name), 1);
    for (int i = 0; i < 16; i++) {
        unsigned byte;

        assert_int_equal(sscanf(name + 7 + 2 * i, "%2x", &byte), 1);
        request[16 + i] = (uint8_t)byte;
    }
    request[8] = 1;
    scratch_path(b.bundles_server, name, path);
    assert_int_equal(file_read(path, 1 << 20, &before, &len[0]), 0);
    assert_int_equal(transport_send(&s.t, request, sizeof request), 0);
    assert_int_equal(transport_recv(&s.t, answer, sizeof answer), 0);
    assert_int_equal(answer[0], 11);
    transport_close(&s.t);
    party_close(p);
    served_join(&s.server);
    assert_int_equal(s.server.rc, ERR_PEER);
    assert_int_equal(file_read(path, 1 << 20, &after, &len[1]), 0);
    assert_int_equal(len[0], len[1]);
    assert_memory_equal(before, after, len[0]);
    mem_free(before);
    mem_free(after);
    parties_close(&b);
}

static void copy_file(const char *from_dir, const char *from, const char *to_dir, const char *to)
{
    char a[SCRATCH_TEXT], z[SCRATCH_TEXT];
    uint8_t *bytes;
    size_t len;

    assert_int_equal(file_read(scratch_path(from_dir, from, a), 1 << 20, &bytes, &len), 0);
    scratch_write(scratch_path(to_dir, to, z), bytes, len);
    mem_free(bytes);
}

/* A client that keeps a copy of its half and plays it again is refused, and so is one whose server
 * died between claiming its half and the first byte. */
static void test_a_replayed_bundle_is_refused(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];
    char name[STORE_NAME], other[STORE_NAME], path[SCRATCH_TEXT], used[SCRATCH_TEXT];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(store_next(b.bundles_client, "bundle-", ".client", name), 1);
    copy_file(b.bundles_client, name, b.dir, "copy");
    assert_int_equal(party_query(p, x, y), 0);
    copy_file(b.dir, "copy", b.bundles_client, name);
    assert_int_equal(party_query(p, x, y), ERR_PEER);
    assert_non_null(strstr(err_message(), "used before"));
    party_close(p);
    session_end(&s);
    assert_int_equal(s.server.rc, ERR_PEER);

    assert_int_equal(store_next(b.bundles_server, "bundle-", ".server", other), 1);
    scratch_path(b.bundles_server, other, path);
    snprintf(used, sizeof used, "%.500s.used", path);
    assert_int_equal(rename(path, used), 0);
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_PEER);
    party_close(p);
    session_end(&s);
    assert_int_equal(store_sweep(b.bundles_server), 0);
    assert_int_equal(bundles_in(b.bundles_server), 0);
    remove(scratch_path(b.dir, "copy", path));
    parties_close(&b);
}

static void check_refused(const char *part, void (*change)(struct session *))
{
    struct parties b;
    struct session s;
    struct party *p = NULL;

    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    change(&s);
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), ERR_PEER);
    assert_non_null(strstr(err_message(), part));
    session_end(&s);
    assert_int_equal(s.server.rc, ERR_PEER);
    assert_non_null(strstr(s.server.message, part));
    parties_close(&b);
}

static void change_hash(struct session *s)
{
    s->o.hash[5] ^= 1;
}
static void change_linear(struct session *s)
{
    s->o.linear = &linear_dealer;
}
static void change_seed(struct session *s)
{
    s->server.o.test_seed = -1;
}

/* Shares of a test seed are known to anyone: such bundles stay with runs that have a seed. */
static void test_a_seeded_bundle_needs_a_seed(void **state)
{
    struct parties b;
    struct session s;
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {0}, y[PARTIES_CLASSES];

    (void)state;
    parties_open(&b, 16, PARTIES_IMAGES, 3);
    s = session_of(&b);
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_prepare(p, 1), 0);
    party_close(p);
    session_end(&s);
    s.o.test_seed = s.server.o.test_seed = -1;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &p), 0);
    assert_int_equal(party_query(p, x, y), ERR_FORMAT);
    assert_non_null(strstr(err_message(), "--test-seed"));
    party_close(p);
    session_end(&s);
    parties_close(&b);
}

static void change_link(struct session *s)
{
    static const struct link lan = {.name = "lan", .bits_per_second = 1e9};

    s->server.o.link = &lan;
}

/* What a server answers to these 80 bytes: 48 is its status. */
static void answer_to(const uint8_t hello[80], uint8_t reply[80], char *message, size_t size)
{
    struct parties b;
    struct session s;

    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    session_start(&s);
    assert_int_equal(transport_send(&s.t, hello, 80), 0);
    assert_int_equal(transport_recv(&s.t, reply, 80), 0);
    session_end(&s);
    assert_int_equal(s.server.rc, ERR_PEER);
    snprintf(message, size, "%s", s.server.message);
    parties_close(&b);
}

/* Also to a client of version 1, whose greeting has the same length, and zeros, or a link, for the nonce. */
static void test_hostile_greetings_are_answered(void **state)
{
    uint8_t hello[80] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'I', 2, 0, 0, 64, 2, 0, 0, 1},
            reply[80];
    char message[256];

    (void)state;
    memset(hello + 16, 0x5a, 32);
    hello[8] = 1;
    answer_to(hello, reply, message, sizeof message);
    assert_int_equal(reply[48], 1);
    assert_int_equal(reply[8], 2);
    assert_non_null(strstr(message, "the client has version 1 of the protocol, this program 2"));
    hello[8] = 2;
    for (int at = 49; at < 64; at++) { /* what is not used is zero */
        hello[at] = 1;
        answer_to(hello, reply, message, sizeof message);
        assert_int_equal(reply[48], 6);
        hello[at] = 0;
    }
    hello[15] = 128 | 1;
    answer_to(hello, reply, message, sizeof message);
    assert_int_equal(reply[48], 6);
    hello[15] = 2 | 1; /* a link that the server was not told to emulate */
    answer_to(hello, reply, message, sizeof message);
    assert_int_equal(reply[48], 10);
}

/* The same for a server's: nothing in it makes a client wait or emulate anything. */
static void test_a_client_refuses_a_server_of_version_1(void **state)
{
    uint8_t hello[80] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'I', 1, 0, 1, 64, 2, 1, 1, 1};
    struct parties b;
    struct session s;
    struct party *p = NULL;

    (void)state;
    memset(hello + 16, 0x5a, 32);
    hello[64] = 1; /* one bit a second */
    parties_open(&b, 16, 0, 3);
    s = session_of(&b);
    assert_int_equal(transport_pair(&s.t, &s.server.t), 0);
    assert_int_equal(transport_send(&s.server.t, hello, sizeof hello), 0);
    assert_int_equal(party_open(&s.o, &s.t, &p), ERR_PEER);
    assert_non_null(strstr(err_message(), "the server has version 1 of the protocol"));
    transport_close(&s.t);
    transport_close(&s.server.t);
    parties_close(&b);
}

static void test_disagreement_is_named_on_both_sides(void **state)
{
    (void)state;
    check_refused("another model.pi", change_hash);
    check_refused("another linear backend", change_linear);
    check_refused("another setting of --test-seed", change_seed);
    check_refused("another setting of --link", change_link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_run_equals_simulation),
        cmocka_unit_test(test_capped_relus_equal_the_simulation),
        cmocka_unit_test(test_a_cap_costs_a_second_evaluation),
        cmocka_unit_test(test_lines_are_those_of_one_process),
        cmocka_unit_test(test_lines_cost_no_byte_and_no_message),
        cmocka_unit_test(test_label_is_the_argmax),
        cmocka_unit_test(test_no_label_changes_what_the_server_sees),
        cmocka_unit_test(test_lots_have_deltas_of_their_own),
        cmocka_unit_test(test_counters_follow_from_the_plan),
        cmocka_unit_test(test_bundles_serve_once),
        cmocka_unit_test(test_a_lot_is_its_bundles),
        cmocka_unit_test(test_from_files),
        cmocka_unit_test(test_a_claim_is_given_back),
        cmocka_unit_test(test_lots_that_are_refused),
        cmocka_unit_test(test_bundles_have_a_limit),
        cmocka_unit_test(test_a_replayed_bundle_is_refused),
        cmocka_unit_test(test_a_taken_id_is_refused),
        cmocka_unit_test(test_a_seeded_bundle_needs_a_seed),
        cmocka_unit_test(test_disagreement_is_named_on_both_sides),
        cmocka_unit_test(test_hostile_greetings_are_answered),
        cmocka_unit_test(test_a_client_refuses_a_server_of_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
