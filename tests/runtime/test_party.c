/*
 * Two parties over the in-memory pair against sim2pc: bit for bit, with the dealer, for logits and labels; what is
 * counted; what is refused in a greeting. Comparisons are open here (plain_relu.h); tests of the real backends have
 * their own files, bundles are in test_party_bundles.c.
 */
#include "runtime/party/party.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/party_session.h"
#include "tests/plain_relu.h"
#include "tests/plan_sample.h"
#include "runtime/party/phases.h"
#include "runtime/relu/party.h"

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
    session_ask_all(p, 0, expected, label);
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
        session_ask_all(p, 0, expected, false);
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
        session_ask_all(p, 0, expected, false);
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
    for (int i = 0; i < 2 * RELU_SHARED + 2; i++) {
        struct block d;

        assert_int_equal(party_query(p, x, y), 0);
        now = party_account(p)->phase[PHASE_SETUP].sent;
        d = otext_delta(p->relu->sender);
        assert_int_equal(d.lo != delta.lo || d.hi != delta.hi, i % RELU_SHARED == 0);
        if (i > 0) /* a request, and base transfers with trees */
            assert_int_equal(now - setup,
                             32 + (i % RELU_SHARED == 0 ? relu_ot.open_bytes(1, false) : 0));
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
    assert_int_equal(reply[8], PARTY_VERSION);
    assert_non_null(strstr(message, "the client has version 1 of the protocol, this program 3"));
    hello[8] = PARTY_VERSION;
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
        cmocka_unit_test(test_disagreement_is_named_on_both_sides),
        cmocka_unit_test(test_hostile_greetings_are_answered),
        cmocka_unit_test(test_a_client_refuses_a_server_of_version_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
