/*
 * Clients that may deviate (party/covert.h): rounds of preparation, tags. The clients that cheat are the
 * product's own with one function changed; each succeeds against a server that trusts its clients, and is caught
 * here: offline at the rate of opened lots, online at once. LINNET_LONG=1 takes the full counts. Clients that
 * leave or come twice: test_covert_rounds.c.
 */
#include "runtime/party/party.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/covert_session.h"

static bool full_counts(void)
{
    const char *v = getenv("LINNET_LONG");

    return v != NULL && *v == '1';
}

static const struct covert_rules half = {2, 1, 1, 100, 10}, fifth = {5, 1, 1, 100, 10},
                                 three = {3, 1, 2, 100, 10};

/* ---- the choice --------------------------------------------------------------------------- */

static void test_choice_is_uniform(void **state)
{
    const struct covert_rules rules[] = {{5, 1, 4, 1, 1}, {5, 2, 1, 1, 1}, {16, 3, 4, 1, 1}};
    const int n = 20000;

    (void)state;
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++) {
        int times[COVERT_LOTS] = {0};
        double p = (double)rules[k].opened / rules[k].lots, sigma = sqrt(n * p * (1 - p));

        for (int i = 0; i < n; i++) {
            uint16_t choice;
            assert_int_equal(covert_choose(&rules[k], &choice), 0);
            assert_true(covert_choice_fits(&rules[k], choice));
            for (int lot = 0; lot < COVERT_LOTS; lot++)
                times[lot] += covert_is_opened(choice, lot);
        }
        for (int lot = 0; lot < rules[k].lots; lot++)
            assert_true(fabs(times[lot] - n * p) < 5 * sigma);
    }
    assert_false(covert_choice_fits(&fifth, 0));
    assert_false(covert_choice_fits(&fifth, 3));
    assert_false(covert_choice_fits(&fifth, 1 << 5));
    assert_true(covert_choice_fits(&fifth, 1 << 4));
}

static void test_rules_that_cannot_be(void **state)
{
    const struct covert_rules bad[] = {{1, 1, 1, 1, 1},  {2, 2, 1, 1, 1},  {2, 0, 1, 1, 1},
                                       {17, 1, 1, 1, 1}, {16, 1, 5, 1, 1}, {2, 1, 0, 1, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(covert_check(&bad[i]), ERR_ARG);
    assert_int_equal(covert_check(&covert_default), 0);
}

/* ---- honest clients ----------------------------------------------------------------------- */

/* Bundles of a round, used: exactly the logits of sim2pc; no file is left over but the note of the round. */
static void test_an_honest_round(void **state)
{
    struct covert_session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    covert_open(&s, &three, false);
    p = covert_connect(&s);
    assert_true(party_covert(p));
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(made, 4);
    assert_int_equal(covert_count(s.b.bundles_client, BUNDLE_PREFIX), 4);
    assert_int_equal(covert_count(s.b.bundles_server, BUNDLE_PREFIX), 4);
    assert_int_equal(covert_count(s.b.bundles_client, ""), 4 + 2); /* . and .. */
    for (int i = 0; i < 4; i++) {
        int number = covert_next_number(&s);
        assert_int_equal(covert_ask(p, number, y), 0);
        assert_memory_equal(y, s.expected[number], sizeof y);
    }
    assert_int_equal(covert_hang_up(&s, p), 0);
    assert_int_equal(covert_count(s.b.bundles_server, BUNDLE_PENDING), 0);
    assert_int_equal(covert_count(s.b.bundles_server, "evidence-"), 0);
    parties_close(&s.b);
}

/* The same with labels, whose comparisons have two payloads; over several connections. The label of a
 * server that trusts its clients. */
static void test_labels(void **state)
{
    struct covert_session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES], label;

    (void)state;
    covert_open(&s, &half, true);
    p = covert_connect(&s);
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(covert_hang_up(&s, p), 0);
    p = covert_connect(&s);
    assert_int_equal(covert_ask(p, 0, y), 0);
    assert_int_equal(covert_hang_up(&s, p), 0);
    label = y[0];
    s.server.o.covert = NULL;
    p = covert_connect(&s);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(covert_ask(p, 0, y), 0);
    assert_int_equal(covert_hang_up(&s, p), 0);
    assert_int_equal(label, y[0]);
    parties_close(&s.b);
}

/* Nobody is caught by mistake. Other shares than those of the test seed, and ring-LWE in one of them. */
static void test_honest_clients_are_not_caught(void **state)
{
    const bool full = full_counts(); /* 10,020 preparations: large lots, whose set-up costs most */
    const int rounds = full ? 167 : 6;
    struct covert_rules rules = {full ? 5 : 3, 1, full ? 12 : 4, 100, 10};
    struct covert_session s;
    struct party *p;
    int64_t made, all = 0;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    covert_open(&s, &rules, false);
    s.o.test_seed = s.server.o.test_seed = -1;
    for (int i = 0; i < rounds; i++) {
        s.o.linear = s.server.o.linear =
            i == 0 ? &linear_rlwe : parties_options(&s.b, NULL, true).linear;
        p = covert_connect(&s);
        assert_int_equal(party_round(p, &made), 0);
        assert_int_equal(covert_ask(p, 0, y), 0);
        for (int k = 0; k < PARTIES_CLASSES; k++) /* last bits are random */
            assert_true(llabs((int64_t)y[k] - s.expected[0][k]) < 64);
        assert_int_equal(covert_hang_up(&s, p), 0);
        all += rules.lots * rules.images;
        covert_forget_files(&s);
    }
    printf("%lld preparations, nobody caught\n", (long long)all);
    parties_close(&s.b);
}

/* Every byte of the connection belongs to a phase. */
static void check_account(const struct account *a, const struct transport_count *count)
{
    uint64_t sent = 0, received = 0;

    for (int i = 0; i < PHASES; i++) {
        sent += a->phase[i].sent;
        received += a->phase[i].received;
    }
    assert_int_equal(sent, count->sent);
    assert_int_equal(received, count->received);
}

/* What is sent is what the formula says, with the backend whose bytes are no test's. */
static void test_bytes(void **state)
{
    struct covert_session s;
    struct schedule *e = NULL;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];
    int64_t made;

    (void)state;
    covert_open(&s, &three, false);
    s.o.linear = s.server.o.linear = &linear_rlwe;
    assert_int_equal(schedule_new(s.b.plan, false, &e), 0);
    p = covert_connect(&s);
    struct transport_count before = s.t.count;
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(s.t.count.sent - before.sent,
                     covert_bytes(e, &relu_gc, &linear_rlwe, &s.rules, 1));
    assert_int_equal(s.t.count.received - before.received,
                     covert_bytes(e, &relu_gc, &linear_rlwe, &s.rules, 0));
    check_account(party_account(p), &s.t.count);
    before = s.t.count;
    assert_int_equal(covert_ask(p, 0, y), 0);
    assert_int_equal(s.t.count.sent - before.sent, covert_query_bytes(e, &relu_gc, 1));
    assert_int_equal(s.t.count.received - before.received, covert_query_bytes(e, &relu_gc, 0));
    assert_int_equal(covert_hang_up(&s, p), 0);
    schedule_free(e);
    parties_close(&s.b);
}

/* ---- clients that cheat offline ----------------------------------------------------------- */

enum cheat { CHOICES, INPUTS, OTHER_SEED, CHEATS };
static struct {
    enum cheat how;
    int lot, opened; /* the lot to cheat in, counted by set-ups */
    const struct linear_backend *linear;
    struct linear_party inner;
} evil;

static int evil_open(int is_client, const uint8_t sid[HASH_SID], const struct relu_ways *ways,
                     struct transport *t, struct prg *rng, struct relu_party **out)
{
    evil.opened++;
    return relu_gc.open(is_client, sid, ways, t, rng, out);
}

/* Choice bits, and f, of another u: one unit more in the first place. */
static int evil_offline(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                        const uint64_t *r, struct tape *state)
{
    uint64_t *other = mem_array((size_t)(b->n * b->payloads), sizeof *other);
    int rc;

    assert_non_null(other);
    memcpy(other, u, (size_t)(b->n * b->payloads) * sizeof *other);
    other[0] += evil.how == CHOICES && evil.opened == evil.lot + 1;
    rc = relu_gc.offline_client(p, b, other, r, state);
    mem_free(other);
    return rc;
}

/* Another ciphertext than that of r. */
static int evil_linear(void *ctx, int32_t step, int64_t images, const uint64_t *r, uint64_t *u)
{
    uint64_t word = *r, *first = (uint64_t *)(uintptr_t)r;
    int rc;

    *first += evil.how == INPUTS && evil.opened == evil.lot + 1;
    rc = evil.inner.client(ctx, step, images, r, u);
    *first = word;
    return rc;
}

static int evil_linear_open(const struct linear_setup *o, struct linear_party *out)
{
    TRY(evil.linear->open(o, out));
    evil.inner = *out;
    out->client = evil_linear;
    return 0;
}

static struct relu_backend evil_relu;
static struct linear_backend evil_linear_backend;

/* Sends another seed than the one that it is bound to: the message after the server's choice. */
struct tap {
    struct transport inner;
    bool chosen;
};
static int tap_send(void *ctx, const void *bytes, size_t n)
{
    struct tap *t = ctx;
    uint8_t other[COVERT_SEED];

    if (!t->chosen || n != sizeof other)
        return transport_send(&t->inner, bytes, n);
    memcpy(other, bytes, sizeof other);
    other[31] ^= 1;
    return transport_send(&t->inner, other, sizeof other);
}
static int tap_recv(void *ctx, void *bytes, size_t n)
{
    struct tap *t = ctx;

    t->chosen = t->chosen || n == 2;
    return transport_recv(&t->inner, bytes, n);
}
static int tap_flush(void *ctx)
{
    return transport_flush(&((struct tap *)ctx)->inner);
}
static void tap_close(void *ctx)
{
    transport_close(&((struct tap *)ctx)->inner);
}

static void be_evil(struct covert_session *s, enum cheat how, int lot)
{
    memset(&evil, 0, sizeof evil);
    evil.how = how;
    evil.lot = lot;
    evil.linear = parties_options(&s->b, NULL, true).linear;
    evil_relu = relu_gc;
    evil_relu.open = evil_open;
    evil_relu.offline_client = evil_offline;
    evil_linear_backend = *evil.linear;
    evil_linear_backend.open = evil_linear_open;
    s->o.relu = &evil_relu;
    s->o.linear = &evil_linear_backend;
}

/* Before: whoever trusts its clients takes what they prepare, and answers. */
static void test_cheats_are_taken_where_clients_are_trusted(void **state)
{
    struct covert_session s;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    covert_open(&s, NULL, false);
    for (int how = CHOICES; how <= INPUTS; how++) {
        be_evil(&s, (enum cheat)how, 0);
        p = covert_connect(&s);
        assert_false(party_covert(p));
        assert_int_equal(party_prepare(p, 1), 0);
        assert_int_equal(covert_ask(p, 0, y), 0);
        assert_int_equal(covert_hang_up(&s, p), 0);
    }
    parties_close(&s.b);
}

/* Whether the client still has the bundle of a lot (rounds here have an image a lot). */
static bool has_bundle(struct covert_session *s, int lot)
{
    char prefix[32];

    snprintf(prefix, sizeof prefix, BUNDLE_PREFIX "%08d-", lot);
    return covert_count(s->b.bundles_client, prefix) == 1;
}

/* One round with a cheat in one lot: whether it was caught, which must be so if that lot was opened. */
static bool caught(struct covert_session *s, enum cheat how, int lot)
{
    struct tap tap = {.chosen = false};
    struct party *p = NULL;
    int64_t made;
    int rc, server;

    be_evil(s, how, lot);
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    transport_pair_patience(&s->t, 600);
    if (how == OTHER_SEED) {
        tap.inner = s->t;
        s->t = (struct transport){.send = tap_send,
                                  .recv = tap_recv,
                                  .flush = tap_flush,
                                  .close = tap_close,
                                  .ctx = &tap};
    }
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &p), 0);
    rc = party_round(p, &made);
    server = covert_hang_up(s, p);
    assert_true((rc == 0) == (server == 0));
    if (rc < 0) {
        assert_int_equal(server, ERR_PEER);
        assert_int_equal(covert_count(s->b.bundles_server, "evidence-"), 1);
        assert_int_equal(covert_count(s->b.bundles_server, BUNDLE_PREFIX), 0);
        assert_int_equal(covert_count(s->b.bundles_server, BUNDLE_PENDING), 0);
        assert_int_equal(covert_count(s->b.bundles_server, "round-"), 0);
    } else {
        assert_int_equal(made, (s->rules.lots - s->rules.opened) * s->rules.images);
        assert_true(how == CHEATS || has_bundle(s, lot));
        assert_int_equal(covert_count(s->b.bundles_server, "evidence-"), 0);
    }
    covert_forget_files(s);
    return rc < 0;
}

static void test_cheats_are_caught(void **state)
{
    const int n = full_counts() ? 200 : 12;
    struct covert_session s;

    (void)state;
    covert_open(&s, full_counts() ? &fifth : &half, false);
    const double rho = (double)s.rules.opened / s.rules.lots, sigma = sqrt(n * rho * (1 - rho));
    for (int how = CHOICES; how <= INPUTS; how++) {
        int times = 0;
        for (int i = 0; i < n; i++)
            times += caught(&s, (enum cheat)how, i % s.rules.lots);
        printf("cheat %d: caught %d of %d times, rho %.2f\n", how, times, n, rho);
        assert_true(fabs(times - n * rho) <= 3 * sigma);
    }
    assert_true(caught(&s, OTHER_SEED, 0));
    assert_false(caught(&s, CHEATS, 0));
    parties_close(&s.b);
}

/* argument: a pattern, for some of the tests (test_cheats*). */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice_is_uniform),
        cmocka_unit_test(test_rules_that_cannot_be),
        cmocka_unit_test(test_an_honest_round),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_honest_clients_are_not_caught),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_cheats_are_taken_where_clients_are_trusted),
        cmocka_unit_test(test_cheats_are_caught),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
