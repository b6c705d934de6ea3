/*
 * Clients that may deviate (party/covert.h): rounds of preparation, their openings, tags. The clients that
 * cheat are the product's own with one function changed; each succeeds against a server that trusts its
 * clients, and is caught here: offline at the rate of opened lots, online at once. LINNET_LONG=1 takes the full
 * counts.
 */
#include "runtime/party/party.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/crypto/store.h"
#include "runtime/party/message.h"
#include "tests/plan_sample.h"
#include "tests/two_parties.h"

#define KEPT 4

static bool full_counts(void)
{
    const char *v = getenv("LINNET_LONG");

    return v != NULL && *v == '1';
}

struct session {
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct covert_rules rules;
    struct served server;
    struct party_options o;
    struct transport t;
    uint8_t identity[32];
};

/* images NULL: no server that wants rounds. */
static void session_open(struct session *s, const struct covert_rules *rules, bool label)
{
    memset(s, 0, sizeof *s);
    parties_open(&s->b, KEPT, 0, 3);
    parties_expect(&s->b, s->expected);
    memset(s->identity, 7, sizeof s->identity);
    s->server.o = parties_options(&s->b, &relu_gc, false);
    s->o = parties_options(&s->b, NULL, true);
    s->server.o.bundles = s->b.bundles_server;
    s->server.o.identity = s->identity;
    s->server.o.label = label;
    s->server.o.max_bundles = 64;
    s->o.bundles = s->b.bundles_client;
    if (rules != NULL) {
        s->rules = *rules;
        s->server.o.covert = &s->rules;
    }
}

static struct party *connect(struct session *s)
{
    struct party *p = NULL;

    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    transport_pair_patience(&s->t, 600);
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &p), 0);
    return p;
}

/* What ended the server's side. */
static int hang_up(struct session *s, struct party *p)
{
    party_close(p);
    transport_close(&s->t);
    served_join(&s->server);
    return s->server.rc;
}

static int64_t count(const char *dir, const char *prefix)
{
    int64_t n;

    assert_int_equal(store_count(dir, prefix, "", &n), 0);
    return n;
}

static void forget_files(struct session *s)
{
    const char *const dir[] = {s->b.bundles_client, s->b.bundles_server};

    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_remove(dir[i]), 0);
        assert_int_equal(store_folder(dir[i]), 0);
    }
}

/* Number of the bundle that the next query takes. */
static int next_number(struct session *s)
{
    char name[STORE_NAME];

    assert_int_equal(store_next(s->b.bundles_client, BUNDLE_PREFIX, BUNDLE_CLIENT, name), 1);
    return atoi(name + strlen(BUNDLE_PREFIX));
}

static int ask(struct party *p, int image, uint64_t y[PARTIES_CLASSES])
{
    float real[PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];

    parties_image(image, real, x);
    return party_query(p, x, y);
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
    struct session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    session_open(&s, &three, false);
    p = connect(&s);
    assert_true(party_covert(p));
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(made, 4);
    assert_int_equal(count(s.b.bundles_client, BUNDLE_PREFIX), 4);
    assert_int_equal(count(s.b.bundles_server, BUNDLE_PREFIX), 4);
    assert_int_equal(count(s.b.bundles_client, ""), 4 + 2); /* . and .. */
    for (int i = 0; i < 4; i++) {
        int number = next_number(&s);
        assert_int_equal(ask(p, number, y), 0);
        assert_memory_equal(y, s.expected[number], sizeof y);
    }
    assert_int_equal(hang_up(&s, p), 0);
    assert_int_equal(count(s.b.bundles_server, BUNDLE_PENDING), 0);
    assert_int_equal(count(s.b.bundles_server, "evidence-"), 0);
    parties_close(&s.b);
}

/* The same with labels, whose comparisons have two payloads; over several connections. The label of a
 * server that trusts its clients. */
static void test_labels(void **state)
{
    struct session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES], label;

    (void)state;
    session_open(&s, &half, true);
    p = connect(&s);
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(hang_up(&s, p), 0);
    p = connect(&s);
    assert_int_equal(ask(p, 0, y), 0);
    assert_int_equal(hang_up(&s, p), 0);
    label = y[0];
    s.server.o.covert = NULL;
    p = connect(&s);
    assert_int_equal(party_prepare(p, 1), 0);
    assert_int_equal(ask(p, 0, y), 0);
    assert_int_equal(hang_up(&s, p), 0);
    assert_int_equal(label, y[0]);
    parties_close(&s.b);
}

/* Nobody is caught by mistake. Other shares than those of the test seed, and ring-LWE in one of them. */
static void test_honest_clients_are_not_caught(void **state)
{
    const bool full = full_counts(); /* 10,020 preparations: large lots, whose set-up costs most */
    const int rounds = full ? 167 : 6;
    struct covert_rules rules = {full ? 5 : 3, 1, full ? 12 : 4, 100, 10};
    struct session s;
    struct party *p;
    int64_t made, all = 0;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    session_open(&s, &rules, false);
    s.o.test_seed = s.server.o.test_seed = -1;
    for (int i = 0; i < rounds; i++) {
        s.o.linear = s.server.o.linear =
            i == 0 ? &linear_rlwe : parties_options(&s.b, NULL, true).linear;
        p = connect(&s);
        assert_int_equal(party_round(p, &made), 0);
        assert_int_equal(ask(p, 0, y), 0);
        for (int k = 0; k < PARTIES_CLASSES; k++) /* last bits are random */
            assert_true(llabs((int64_t)y[k] - s.expected[0][k]) < 64);
        assert_int_equal(hang_up(&s, p), 0);
        all += rules.lots * rules.images;
        forget_files(&s);
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
    struct session s;
    struct schedule *e = NULL;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];
    int64_t made;

    (void)state;
    session_open(&s, &three, false);
    s.o.linear = s.server.o.linear = &linear_rlwe;
    assert_int_equal(schedule_new(s.b.plan, false, &e), 0);
    p = connect(&s);
    struct transport_count before = s.t.count;
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(s.t.count.sent - before.sent,
                     covert_bytes(e, &relu_gc, &linear_rlwe, &s.rules, 1));
    assert_int_equal(s.t.count.received - before.received,
                     covert_bytes(e, &relu_gc, &linear_rlwe, &s.rules, 0));
    check_account(party_account(p), &s.t.count);
    before = s.t.count;
    assert_int_equal(ask(p, 0, y), 0);
    assert_int_equal(s.t.count.sent - before.sent, covert_query_bytes(e, &relu_gc, 1));
    assert_int_equal(s.t.count.received - before.received, covert_query_bytes(e, &relu_gc, 0));
    assert_int_equal(hang_up(&s, p), 0);
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

static void be_evil(struct session *s, enum cheat how, int lot)
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
    struct session s;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    session_open(&s, NULL, false);
    for (int how = CHOICES; how <= INPUTS; how++) {
        be_evil(&s, (enum cheat)how, 0);
        p = connect(&s);
        assert_false(party_covert(p));
        assert_int_equal(party_prepare(p, 1), 0);
        assert_int_equal(ask(p, 0, y), 0);
        assert_int_equal(hang_up(&s, p), 0);
    }
    parties_close(&s.b);
}

/* Whether the client still has the bundle of a lot (rounds here have an image a lot). */
static bool has_bundle(struct session *s, int lot)
{
    char prefix[32];

    snprintf(prefix, sizeof prefix, BUNDLE_PREFIX "%08d-", lot);
    return count(s->b.bundles_client, prefix) == 1;
}

/* One round with a cheat in one lot: whether it was caught, which must be so if that lot was opened. */
static bool caught(struct session *s, enum cheat how, int lot)
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
    server = hang_up(s, p);
    assert_true((rc == 0) == (server == 0));
    if (rc < 0) {
        assert_int_equal(server, ERR_PEER);
        assert_int_equal(count(s->b.bundles_server, "evidence-"), 1);
        assert_int_equal(count(s->b.bundles_server, BUNDLE_PREFIX), 0);
        assert_int_equal(count(s->b.bundles_server, BUNDLE_PENDING), 0);
        assert_int_equal(count(s->b.bundles_server, "round-"), 0);
    } else {
        assert_int_equal(made, (s->rules.lots - s->rules.opened) * s->rules.images);
        assert_true(how == CHEATS || has_bundle(s, lot));
        assert_int_equal(count(s->b.bundles_server, "evidence-"), 0);
    }
    forget_files(s);
    return rc < 0;
}

static void test_cheats_are_caught(void **state)
{
    const int n = full_counts() ? 200 : 12;
    struct session s;

    (void)state;
    session_open(&s, full_counts() ? &fifth : &half, false);
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

/* ---- clients that leave ------------------------------------------------------------------- */

/* Ends the line at the client's end when so many messages of the server have come. */
struct cut {
    struct transport inner;
    size_t n; /* of this length */
    int left, *cut;
};
static int cut_send(void *ctx, const void *bytes, size_t n)
{
    return transport_send(&((struct cut *)ctx)->inner, bytes, n);
}
static int cut_recv(void *ctx, void *bytes, size_t n)
{
    struct cut *c = ctx;

    TRY(transport_recv(&c->inner, bytes, n));
    return n == c->n && --c->left < 0 ? ERR_NET : 0;
}
static int cut_flush(void *ctx)
{
    return transport_flush(&((struct cut *)ctx)->inner);
}
static void cut_close(void *ctx)
{
    transport_close(&((struct cut *)ctx)->inner);
}

/* A round whose client is gone once the server's choice is there (2 bytes), or its last word (8). */
static void leave(struct session *s, size_t message, int skip)
{
    struct cut cut = {.n = message, .left = skip};
    struct party *p = NULL;
    int64_t made;

    assert_int_equal(transport_pair(&cut.inner, &s->server.t), 0);
    transport_pair_patience(&cut.inner, 600);
    s->t = (struct transport){
        .send = cut_send, .recv = cut_recv, .flush = cut_flush, .close = cut_close, .ctx = &cut};
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &p), 0);
    assert_true(party_round(p, &made) < 0);
    (void)hang_up(s, p);
}

static int accused;
static void note_caught(void *ctx, const uint8_t identity[32])
{
    const struct session *s = ctx;

    assert_memory_equal(identity, s->identity, 32);
    accused++;
}

static void test_who_comes_back_in_time_opens(void **state)
{
    struct session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    session_open(&s, &three, false);
    for (int last = 0; last < 2; last++) {
        leave(&s, last ? ANSWER_BYTES : 2, last ? 1 : 0);
        assert_int_equal(count(s.b.bundles_client, "round-"), 1);
        assert_int_equal(count(s.b.bundles_server, "round-"), 1 + last);
        accused = 0;
        assert_int_equal(
            covert_expire(s.b.bundles_server, &s.rules, 0, time(NULL), note_caught, &s), 0);
        p = connect(&s);
        assert_int_equal(party_open_rounds(p, &made), 0);
        assert_int_equal(made, 4);
        assert_int_equal(party_open_rounds(p, &made), 0);
        assert_int_equal(made, 0);
        int number = next_number(&s);
        assert_int_equal(ask(p, number, y), 0);
        assert_memory_equal(y, s.expected[number], sizeof y);
        assert_int_equal(hang_up(&s, p), 0);
        assert_int_equal(count(s.b.bundles_client, "round-"), 0);
        assert_int_equal(count(s.b.bundles_client, BUNDLE_PENDING), 0);
        assert_int_equal(accused, 0);
        while (count(s.b.bundles_client, BUNDLE_PREFIX) > 0) {
            p = connect(&s);
            assert_int_equal(ask(p, next_number(&s), y), 0);
            assert_int_equal(hang_up(&s, p), 0);
        }
    }
    parties_close(&s.b);
}

/* Seconds from now: the server's beginning, the look. */
static void expire(struct session *s, int since, int at, int caught_by_then)
{
    const int64_t now = time(NULL);

    assert_int_equal(covert_expire(s->b.bundles_server, &s->rules, since == 0 ? 0 : now + since,
                                   now + at, note_caught, s),
                     0);
    assert_int_equal(accused, caught_by_then);
}

static void test_who_does_not_come_back_is_caught(void **state)
{
    struct session s;
    struct party *p;
    int64_t made;

    (void)state;
    session_open(&s, &half, false);
    accused = 0;
    leave(&s, 2, 0);
    expire(&s, 0, 109, 0);
    expire(&s, 50, 112, 0); /* a server that began later: before, nobody could come */
    expire(&s, 50, 159, 0);
    expire(&s, 0, 112, 1);
    expire(&s, 0, 112, 1);
    assert_int_equal(count(s.b.bundles_server, "evidence-"), 1);
    assert_int_equal(count(s.b.bundles_server, BUNDLE_PENDING), 0);
    p = connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER); /* too late */
    (void)hang_up(&s, p);
    forget_files(&s);
    parties_close(&s.b);
}

/* Another client may not open it, nor may anyone after its time. */
static void test_whose_round_it_is(void **state)
{
    struct session s;
    struct party *p;
    int64_t made;

    (void)state;
    session_open(&s, &half, false);
    leave(&s, 2, 0);
    s.identity[0] ^= 1;
    p = connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    assert_int_equal(hang_up(&s, p), ERR_PEER);
    s.identity[0] ^= 1;
    p = connect(&s);
    assert_int_equal(party_open_rounds(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(hang_up(&s, p), 0);
    parties_close(&s.b);
}

/* The server's note of the only round there is. */
static struct covert_round load_round(struct session *s, struct bundle_key *k)
{
    struct covert_round r = {.client = false};
    char name[STORE_NAME];

    *k = (struct bundle_key){.linear = "plain", .test_seed = true};
    memcpy(k->model, s->b.hash, sizeof k->model);
    assert_int_equal(store_next(s->b.bundles_server, "round-", "", name), 1);
    for (int i = 0; i < BUNDLE_ID; i++)
        assert_int_equal(sscanf(name + strlen("round-") + 2 * i, "%2hhx", &r.id[i]), 1);
    assert_int_equal(covert_load(&r, k, s->b.bundles_server), 0);
    return r;
}

/* Nobody can come to a server that is away: the time for an opening begins anew with it. */
static void test_a_server_that_was_away(void **state)
{
    struct session s;
    struct bundle_key k;
    struct party *p;
    int64_t made;

    (void)state;
    session_open(&s, &half, false);
    leave(&s, 2, 0);
    struct covert_round r = load_round(&s, &k);
    r.deadline = time(NULL) - 1000;
    assert_int_equal(covert_save(&r, &k, s.b.bundles_server), 0);
    p = connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    (void)hang_up(&s, p);
    s.server.o.since = time(NULL);
    p = connect(&s);
    assert_int_equal(party_open_rounds(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(hang_up(&s, p), 0);
    wipe(&r, sizeof r);
    parties_close(&s.b);
}

/* A server that asks again, for the seeds of lots whose bundles the client may have used, gets none: it would read
 * the images. */
static void test_the_first_choice_binds(void **state)
{
    struct session s;
    struct bundle_key k;
    struct party *p;
    int64_t made;

    (void)state;
    session_open(&s, &half, false);
    leave(&s, ANSWER_BYTES, 1); /* its seed is out, the last word is lost */
    struct covert_round r = load_round(&s, &k);
    r.choice ^= 3;
    r.done = false;
    assert_int_equal(covert_save(&r, &k, s.b.bundles_server), 0);
    p = connect(&s);
    const uint64_t before = s.t.count.sent;
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    assert_int_equal(s.t.count.sent - before, REQUEST_BYTES);
    (void)hang_up(&s, p);
    wipe(&r, sizeof r);
    forget_files(&s);
    parties_close(&s.b);
}

/* ---- two rounds of one id ----------------------------------------------------------------- */

/*
 * The first connection makes an honest round, a second one makes another at the same time under the same ids. Its
 * first lot is ready after that of the first connection and takes the place of it; then the first connection opens
 * what it made. If the server let both begin, a lot that nobody can open any more would become usable.
 */
enum { ASKED, TAKEN_IN, READY, FIRST_OVER, SECOND_OVER, STAGES };
static struct {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool at[STAGES];
    uint8_t id[BUNDLE_ID];
    int lots;
    const char *dir;
} meeting = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};

static void reach_stage(int stage)
{
    pthread_mutex_lock(&meeting.lock);
    meeting.at[stage] = true;
    pthread_cond_broadcast(&meeting.moved);
    pthread_mutex_unlock(&meeting.lock);
}

static void await(int stage)
{
    pthread_mutex_lock(&meeting.lock);
    while (!meeting.at[stage] && !meeting.at[SECOND_OVER])
        pthread_cond_wait(&meeting.moved, &meeting.lock);
    pthread_mutex_unlock(&meeting.lock);
}

#define NUMBER_AT 96 /* in the head of a bundle */

/* How many server's files of that prefix are of the second connection, whose numbers begin with 0. */
static int64_t of_second(const char *prefix)
{
    uint8_t head[NUMBER_AT + 8];
    char name[STORE_NAME], all[STORE_NAME];
    int64_t n = 0;

    for (int lot = 0; lot < 2; lot++) {
        uint8_t id[BUNDLE_ID];
        lot_id(meeting.id, (uint32_t)lot, id);
        int at = snprintf(all, sizeof all, "%s", prefix);
        for (int i = 0; i < BUNDLE_ID; i++)
            at += snprintf(all + at, sizeof all - (size_t)at, "%02x", id[i]);
        assert_true(store_next(meeting.dir, all, BUNDLE_SERVER, name) >= 0);
        if (*name != '\0' && store_head(meeting.dir, name, head, sizeof head) == 0)
            n += head[NUMBER_AT] < 2;
    }
    return n;
}

struct attendant {
    struct transport inner;
    bool first, asked, answered, chosen;
};

static int attendant_send(void *ctx, const void *bytes, size_t n)
{
    struct attendant *a = ctx;
    uint8_t request[REQUEST_BYTES];

    if (!a->asked && n == REQUEST_BYTES && *(const uint8_t *)bytes == REQUEST_ROUND) {
        a->asked = true;
        memcpy(request, bytes, n);
        if (a->first)
            memcpy(meeting.id, request + 16, BUNDLE_ID);
        else
            memcpy(request + 16, meeting.id, BUNDLE_ID);
        return transport_send(&a->inner, request, n);
    }
    if (a->first && a->chosen) { /* its seed */
        await(READY);
        for (int i = 0; i < 5000 && meeting.at[READY] && of_second(BUNDLE_PENDING) == 0; i++)
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        a->chosen = false;
    }
    return transport_send(&a->inner, bytes, n);
}

static int attendant_recv(void *ctx, void *bytes, size_t n)
{
    struct attendant *a = ctx;

    TRY(transport_recv(&a->inner, bytes, n));
    a->chosen = a->chosen || n == COVERT_CHOICE;
    if (a->asked && !a->answered && n == ANSWER_BYTES) {
        a->answered = true;
        reach_stage(a->first ? ASKED : TAKEN_IN);
        if (a->first)
            await(TAKEN_IN);
    }
    return 0;
}

static int attendant_flush(void *ctx)
{
    return transport_flush(&((struct attendant *)ctx)->inner);
}

static void attendant_close(void *ctx)
{
    transport_close(&((struct attendant *)ctx)->inner);
}

static int stop_in_second_lot(int is_client, const uint8_t sid[HASH_SID],
                              const struct relu_ways *ways, struct transport *t, struct prg *rng,
                              struct relu_party **out)
{
    if (++meeting.lots < 2)
        return relu_gc.open(is_client, sid, ways, t, rng, out);
    reach_stage(READY);
    await(FIRST_OVER);
    return ERR_NET;
}

struct second {
    struct session s; /* parties are the first one's */
    struct attendant wire;
    uint8_t refusal;
    pthread_t thread;
};

static struct party *attend(struct session *s, struct attendant *a)
{
    struct party *p = NULL;

    assert_int_equal(transport_pair(&a->inner, &s->server.t), 0);
    transport_pair_patience(&a->inner, 600);
    s->t = (struct transport){.send = attendant_send,
                              .recv = attendant_recv,
                              .flush = attendant_flush,
                              .close = attendant_close,
                              .ctx = a};
    served_start(&s->server);
    assert_int_equal(party_open(&s->o, &s->t, &p), 0);
    return p;
}

static void *be_second(void *arg)
{
    struct second *b = arg;
    struct party *p = attend(&b->s, &b->wire);
    int64_t made;

    await(ASKED);
    assert_true(party_round(p, &made) < 0);
    (void)hang_up(&b->s, p);
    reach_stage(SECOND_OVER);
    return NULL;
}

static void test_two_rounds_of_one_id(void **state)
{
    struct relu_backend stopping = relu_gc;
    struct session s;
    int64_t slipped = 0;
    int refused = 0;

    (void)state;
    stopping.open = stop_in_second_lot;
    session_open(&s, &half, false);
    meeting.dir = s.b.bundles_server;
    for (int i = 0; i < 8; i++) { /* the first lot is not opened in half of them */
        struct second b = {.s = s};
        struct attendant wire = {.first = true};
        int64_t made;

        memset(meeting.at, 0, sizeof meeting.at);
        meeting.lots = 0;
        b.s.o.relu = &stopping;
        b.s.o.refusal = &b.refusal;
        struct party *p = attend(&s, &wire);
        wire.asked = true; /* its first round, so that numbers differ, is not watched */
        wire.answered = true;
        meeting.at[SECOND_OVER] = true;
        assert_int_equal(party_round(p, &made), 0);
        wire = (struct attendant){.inner = wire.inner, .first = true};
        memset(meeting.at, 0, sizeof meeting.at);
        assert_int_equal(pthread_create(&b.thread, NULL, be_second, &b), 0);
        assert_int_equal(party_round(p, &made), 0);
        slipped += of_second(BUNDLE_PREFIX);
        reach_stage(FIRST_OVER);
        pthread_join(b.thread, NULL);
        refused += b.refusal == REFUSED_TAKEN;
        assert_int_equal(hang_up(&s, p), 0);
        forget_files(&s);
    }
    printf("%d of 8 second rounds refused, %lld lots that nobody could open became usable\n",
           refused, (long long)slipped);
    assert_int_equal(slipped, 0);
    assert_int_equal(refused, 8);
    parties_close(&s.b);
}

/* Bundles of one kind of server are of no use at the other; nor are its requests. */
static void test_kinds_do_not_mix(void **state)
{
    struct session s;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];
    int64_t made;

    (void)state;
    session_open(&s, &half, false);
    p = connect(&s);
    assert_int_equal(party_prepare(p, 1), ERR_ARG);
    (void)hang_up(&s, p);
    s.o.bundles = NULL;
    p = connect(&s);
    assert_int_equal(ask(p, 0, y), ERR_ARG);
    (void)hang_up(&s, p);
    s.o.bundles = s.b.bundles_client;
    p = connect(&s);
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(hang_up(&s, p), 0);
    s.server.o.covert = NULL;
    p = connect(&s);
    assert_int_equal(party_round(p, &made), ERR_ARG);
    (void)hang_up(&s, p);
    p = connect(&s);
    assert_int_equal(ask(p, 0, y), ERR_FORMAT);
    (void)hang_up(&s, p);
    forget_files(&s);
    parties_close(&s.b);
}

/* A process that died between its lots leaves pending bundles of no round. */
static void test_left_over_bundles_go(void **state)
{
    struct session s;

    (void)state;
    session_open(&s, &half, false);
    leave(&s, 2, 0);
    assert_int_equal(covert_clean(s.b.bundles_server, false), 0);
    assert_int_equal(covert_clean(s.b.bundles_client, true), 0);
    assert_int_equal(count(s.b.bundles_server, BUNDLE_PENDING), 2);
    assert_int_equal(count(s.b.bundles_client, BUNDLE_PENDING), 2);
    char name[STORE_NAME];
    assert_int_equal(store_next(s.b.bundles_server, "round-", "", name), 1);
    assert_int_equal(store_drop(s.b.bundles_server, name), 0);
    assert_int_equal(covert_clean(s.b.bundles_server, false), 0);
    assert_int_equal(count(s.b.bundles_server, BUNDLE_PENDING), 0);
    forget_files(&s);
    parties_close(&s.b);
}

/* argument: a pattern, for some of the tests (test_changed*). */
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
        cmocka_unit_test(test_who_comes_back_in_time_opens),
        cmocka_unit_test(test_who_does_not_come_back_is_caught),
        cmocka_unit_test(test_whose_round_it_is),
        cmocka_unit_test(test_a_server_that_was_away),
        cmocka_unit_test(test_the_first_choice_binds),
        cmocka_unit_test(test_two_rounds_of_one_id),
        cmocka_unit_test(test_kinds_do_not_mix),
        cmocka_unit_test(test_left_over_bundles_go),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
