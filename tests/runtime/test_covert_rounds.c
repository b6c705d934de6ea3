/*
 * Rounds of clients that may deviate (party/covert.h) which do not end as they began: the client leaves and comes
 * back in time, too late or not at all, the server was away, two connections make a round under one id, kinds of
 * bundles meet. Who cheats within a round: test_covert.c.
 */
#include "runtime/party/party.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "runtime/crypto/store.h"
#include "runtime/party/message.h"
#include "tests/covert_session.h"

static const struct covert_rules half = {2, 1, 1, 100, 10}, three = {3, 1, 2, 100, 10};

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
static void leave(struct covert_session *s, size_t message, int skip)
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
    (void)covert_hang_up(s, p);
}

static int accused;
static void note_caught(void *ctx, const uint8_t identity[32])
{
    const struct covert_session *s = ctx;

    assert_memory_equal(identity, s->identity, 32);
    accused++;
}

static void test_who_comes_back_in_time_opens(void **state)
{
    struct covert_session s;
    struct party *p;
    int64_t made;
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    covert_open(&s, &three, false);
    for (int last = 0; last < 2; last++) {
        leave(&s, last ? ANSWER_BYTES : 2, last ? 1 : 0);
        assert_int_equal(covert_count(s.b.bundles_client, "round-"), 1);
        assert_int_equal(covert_count(s.b.bundles_server, "round-"), 1 + last);
        accused = 0;
        assert_int_equal(
            covert_expire(s.b.bundles_server, &s.rules, 0, time(NULL), note_caught, &s), 0);
        p = covert_connect(&s);
        assert_int_equal(party_open_rounds(p, &made), 0);
        assert_int_equal(made, 4);
        assert_int_equal(party_open_rounds(p, &made), 0);
        assert_int_equal(made, 0);
        int number = covert_next_number(&s);
        assert_int_equal(covert_ask(p, number, y), 0);
        assert_memory_equal(y, s.expected[number], sizeof y);
        assert_int_equal(covert_hang_up(&s, p), 0);
        assert_int_equal(covert_count(s.b.bundles_client, "round-"), 0);
        assert_int_equal(covert_count(s.b.bundles_client, BUNDLE_PENDING), 0);
        assert_int_equal(accused, 0);
        while (covert_count(s.b.bundles_client, BUNDLE_PREFIX) > 0) {
            p = covert_connect(&s);
            assert_int_equal(covert_ask(p, covert_next_number(&s), y), 0);
            assert_int_equal(covert_hang_up(&s, p), 0);
        }
    }
    parties_close(&s.b);
}

/* Seconds from now: the server's beginning, the look. */
static void expire(struct covert_session *s, int since, int at, int caught_by_then)
{
    const int64_t now = time(NULL);

    assert_int_equal(covert_expire(s->b.bundles_server, &s->rules, since == 0 ? 0 : now + since,
                                   now + at, note_caught, s),
                     0);
    assert_int_equal(accused, caught_by_then);
}

static void test_who_does_not_come_back_is_caught(void **state)
{
    struct covert_session s;
    struct party *p;
    int64_t made;

    (void)state;
    covert_open(&s, &half, false);
    accused = 0;
    leave(&s, 2, 0);
    expire(&s, 0, 109, 0);
    expire(&s, 50, 112, 0); /* a server that began later: before, nobody could come */
    expire(&s, 50, 159, 0);
    expire(&s, 0, 112, 1);
    expire(&s, 0, 112, 1);
    assert_int_equal(covert_count(s.b.bundles_server, "evidence-"), 1);
    assert_int_equal(covert_count(s.b.bundles_server, BUNDLE_PENDING), 0);
    p = covert_connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER); /* too late */
    (void)covert_hang_up(&s, p);
    covert_forget_files(&s);
    parties_close(&s.b);
}

/* Another client may not open it, nor may anyone after its time. */
static void test_whose_round_it_is(void **state)
{
    struct covert_session s;
    struct party *p;
    int64_t made;

    (void)state;
    covert_open(&s, &half, false);
    leave(&s, 2, 0);
    s.identity[0] ^= 1;
    p = covert_connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    assert_int_equal(covert_hang_up(&s, p), ERR_PEER);
    s.identity[0] ^= 1;
    p = covert_connect(&s);
    assert_int_equal(party_open_rounds(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(covert_hang_up(&s, p), 0);
    parties_close(&s.b);
}

/* The server's note of the only round there is. */
static struct covert_round load_round(struct covert_session *s, struct bundle_key *k)
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
    struct covert_session s;
    struct bundle_key k;
    struct party *p;
    int64_t made;

    (void)state;
    covert_open(&s, &half, false);
    leave(&s, 2, 0);
    struct covert_round r = load_round(&s, &k);
    r.deadline = time(NULL) - 1000;
    assert_int_equal(covert_save(&r, &k, s.b.bundles_server), 0);
    p = covert_connect(&s);
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    (void)covert_hang_up(&s, p);
    s.server.o.since = time(NULL);
    p = covert_connect(&s);
    assert_int_equal(party_open_rounds(p, &made), 0);
    assert_int_equal(made, 1);
    assert_int_equal(covert_hang_up(&s, p), 0);
    wipe(&r, sizeof r);
    parties_close(&s.b);
}

/* A server that asks again, for the seeds of lots whose bundles the client may have used, gets none: it would read
 * the images. */
static void test_the_first_choice_binds(void **state)
{
    struct covert_session s;
    struct bundle_key k;
    struct party *p;
    int64_t made;

    (void)state;
    covert_open(&s, &half, false);
    leave(&s, ANSWER_BYTES, 1); /* its seed is out, the last word is lost */
    struct covert_round r = load_round(&s, &k);
    r.choice ^= 3;
    r.done = false;
    assert_int_equal(covert_save(&r, &k, s.b.bundles_server), 0);
    p = covert_connect(&s);
    const uint64_t before = s.t.count.sent;
    assert_int_equal(party_open_rounds(p, &made), ERR_PEER);
    assert_int_equal(s.t.count.sent - before, REQUEST_BYTES);
    (void)covert_hang_up(&s, p);
    wipe(&r, sizeof r);
    covert_forget_files(&s);
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
    struct covert_session s; /* parties are the first one's */
    struct attendant wire;
    uint8_t refusal;
    pthread_t thread;
};

static struct party *attend(struct covert_session *s, struct attendant *a)
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
    (void)covert_hang_up(&b->s, p);
    reach_stage(SECOND_OVER);
    return NULL;
}

static void test_two_rounds_of_one_id(void **state)
{
    struct relu_backend stopping = relu_gc;
    struct covert_session s;
    int64_t slipped = 0;
    int refused = 0;

    (void)state;
    stopping.open = stop_in_second_lot;
    covert_open(&s, &half, false);
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
        assert_int_equal(covert_hang_up(&s, p), 0);
        covert_forget_files(&s);
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
    struct covert_session s;
    struct party *p;
    uint64_t y[PARTIES_CLASSES];
    int64_t made;

    (void)state;
    covert_open(&s, &half, false);
    p = covert_connect(&s);
    assert_int_equal(party_prepare(p, 1), ERR_ARG);
    (void)covert_hang_up(&s, p);
    s.o.bundles = NULL;
    p = covert_connect(&s);
    assert_int_equal(covert_ask(p, 0, y), ERR_ARG);
    (void)covert_hang_up(&s, p);
    s.o.bundles = s.b.bundles_client;
    p = covert_connect(&s);
    assert_int_equal(party_round(p, &made), 0);
    assert_int_equal(covert_hang_up(&s, p), 0);
    s.server.o.covert = NULL;
    p = covert_connect(&s);
    assert_int_equal(party_round(p, &made), ERR_ARG);
    (void)covert_hang_up(&s, p);
    p = covert_connect(&s);
    assert_int_equal(covert_ask(p, 0, y), ERR_FORMAT);
    (void)covert_hang_up(&s, p);
    covert_forget_files(&s);
    parties_close(&s.b);
}

/* A process that died between its lots leaves pending bundles of no round. */
static void test_left_over_bundles_go(void **state)
{
    struct covert_session s;

    (void)state;
    covert_open(&s, &half, false);
    leave(&s, 2, 0);
    assert_int_equal(covert_clean(s.b.bundles_server, false), 0);
    assert_int_equal(covert_clean(s.b.bundles_client, true), 0);
    assert_int_equal(covert_count(s.b.bundles_server, BUNDLE_PENDING), 2);
    assert_int_equal(covert_count(s.b.bundles_client, BUNDLE_PENDING), 2);
    char name[STORE_NAME];
    assert_int_equal(store_next(s.b.bundles_server, "round-", "", name), 1);
    assert_int_equal(store_drop(s.b.bundles_server, name), 0);
    assert_int_equal(covert_clean(s.b.bundles_server, false), 0);
    assert_int_equal(covert_count(s.b.bundles_server, BUNDLE_PENDING), 0);
    covert_forget_files(&s);
    parties_close(&s.b);
}

/* argument: a pattern, for some of the tests (test_who*). */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
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
