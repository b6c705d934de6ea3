/*
 * What two parties agree on in their greetings: where oblivious transfers come from and which link the forms
 * of comparisons are chosen for. Answers are those of the simulation for every agreement, bundles keep
 * the forms that they were made with, and bytes are those that follow from the plan.
 */
#include "tests/two_parties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/cost/cost.h"

static const struct link wan = {"wan", 400e6, 0.04}, narrow = {"narrow", 1e5, 0.0001};

struct session {
    struct served server;
    struct party_options o;
    struct transport t;
    struct party *p;
};

static void session_open(struct session *s, const struct parties *b,
                         const struct relu_backend *relu, enum relu_transfers transfers,
                         const struct link *expected)
{
    *s = (struct session){.server.o = parties_options(b, relu, false),
                          .o = parties_options(b, relu, true)};
    s->server.o.transfers = transfers;
    s->server.o.expected = expected;
}

static void session_start(struct session *s)
{
    assert_int_equal(transport_pair(&s->t, &s->server.t), 0);
    served_start(&s->server);
}

static void session_end(struct session *s)
{
    party_close(s->p);
    s->p = NULL;
    transport_close(&s->t);
    served_join(&s->server);
}

static void ask(struct session *s, int first, int count,
                int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES])
{
    for (int i = first; i < first + count; i++) {
        float image[PARTIES_INPUTS];
        uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];

        parties_image(i, image, x);
        assert_int_equal(party_query(s->p, x, y), 0);
        for (int k = 0; k < PARTIES_CLASSES; k++)
            assert_int_equal((int64_t)y[k], expected[i][k]);
    }
}

/* Bytes of ReLUs offline of both parties, as they follow from the forms and the sets. */
static uint64_t stated_bytes(const struct party *p, uint64_t images)
{
    const struct schedule *s = party_schedule(p);
    const struct relu_ways *w = party_ways(p);
    uint64_t bytes = 0, rows[2] = {0, 0};

    for (int32_t i = 0; i < s->n; i++) {
        const struct relu_batch *b = &s->event[i].batch;

        if (s->event[i].kind != EVENT_SELECT)
            continue;
        for (int who = 0; who < 2; who++) {
            bytes += images * party_relu(p)->offline_bytes(b, who);
            if (party_relu(p)->silent_rows != NULL)
                rows[who] += images * party_relu(p)->silent_rows(b, who);
        }
    }
    for (int who = 0; who < 2; who++) {
        bytes += w->down != NULL ? ferret_bytes(w->down, rows[0], who) : 0;
        bytes += w->up != NULL ? ferret_bytes(w->up, rows[1], who) : 0;
    }
    return bytes;
}

/* The cost model finds the same agreement, so bytes and messages are those that were sent; online without the
 * image, which goes the way of the last message before it, and the result. */
static void check_prediction(const struct parties *b, const struct party *p,
                             enum relu_transfers transfers, const struct link *expected, bool ahead)
{
    const struct account *a = party_account(p);
    const struct cost_count *on = &a->phase[PHASE_ONLINE], *off = &a->phase[PHASE_OFFLINE_RELU];
    const uint64_t images = (uint64_t)a->queries;
    const struct cost_case k = {.relu = party_relu(p),
                                .expected = expected != NULL ? expected : link_loopback(),
                                .transfers = transfers,
                                .images = a->queries,
                                .ahead = ahead};
    struct cost c;

    assert_int_equal(cost_estimate(b->plan, &k, &c), 0);
    assert_int_equal(images * (c.online_bytes + 8 * (PARTIES_INPUTS + PARTIES_CLASSES)),
                     on->sent + on->received);
    assert_int_equal(images * (uint64_t)(c.online_messages + 1), on->flips);
    assert_true(off->sent + off->received - images * c.offline_relu_bytes < images);
}

static void check_agreement(const struct relu_backend *relu, enum relu_transfers transfers,
                            const struct link *link, bool ahead)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct session s;
    const struct relu_ways *w;

    parties_open(&b, 64, PARTIES_IMAGES, 3);
    parties_expect(&b, expected);
    session_open(&s, &b, relu, transfers, link);
    s.o.wish = (struct relu_wish){3, ahead};
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &s.p), 0);
    w = party_ways(s.p);
    assert_int_equal(w->bits_per_second, link == NULL ? 0 : (uint64_t)link->bits_per_second);
    assert_int_equal(w->ahead, ahead);
    assert_int_equal(w->down != NULL, relu == &relu_ot && transfers == RELU_TRANSFERS_FERRET);
    assert_null(w->up); /* of so few, OT extension sends less */
    ask(&s, 0, 3, expected);
    const struct cost_count *c = &party_account(s.p)->phase[PHASE_OFFLINE_RELU];
    assert_int_equal(c->sent + c->received, stated_bytes(s.p, 3));
    check_prediction(&b, s.p, transfers, link, ahead);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    parties_close(&b);
}

static void test_every_agreement_gives_the_same_answers(void **state)
{
    (void)state;
    check_agreement(&relu_ot, RELU_TRANSFERS_AUTO, NULL, false);
    check_agreement(&relu_ot, RELU_TRANSFERS_SOFTSPOKEN, &wan, false);
    check_agreement(&relu_ot, RELU_TRANSFERS_FERRET, NULL, true);
    check_agreement(&relu_ot, RELU_TRANSFERS_FERRET, &wan, false);
    check_agreement(&relu_ot, RELU_TRANSFERS_FERRET, &narrow, true);
    check_agreement(&relu_gc, RELU_TRANSFERS_AUTO, NULL, true);
    check_agreement(&relu_gc, RELU_TRANSFERS_AUTO, &wan, false);
    check_agreement(&relu_gc, RELU_TRANSFERS_AUTO, &wan, true);
}

static void test_a_client_refuses_the_assumption(void **state)
{
    (void)state;
    struct parties b;
    struct session s;

    parties_open(&b, 64, PARTIES_IMAGES, 3);
    session_open(&s, &b, &relu_ot, RELU_TRANSFERS_FERRET, NULL);
    s.o.transfers = RELU_TRANSFERS_SOFTSPOKEN;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &s.p), ERR_PEER);
    assert_non_null(strstr(err_message(), "LPN"));
    session_end(&s);
    parties_close(&b);
}

/* Prepared for one link, used under another agreement: the forms are those of the file. */
static void check_bundles(const struct relu_backend *relu)
{
    struct parties b;
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES], left;
    struct session s;

    parties_open(&b, 64, PARTIES_IMAGES, 3);
    parties_expect(&b, expected);
    session_open(&s, &b, relu, RELU_TRANSFERS_FERRET, &wan);
    s.o.wish.ahead = true;
    s.o.bundles = b.bundles_client;
    s.server.o.bundles = b.bundles_server;
    session_start(&s);
    assert_int_equal(party_open(&s.o, &s.t, &s.p), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(party_prepare(s.p, 1), 0);
    session_end(&s);
    assert_int_equal(s.server.rc, 0);
    for (int i = 0; i < 3; i++) {
        s.server.o.transfers = i == 0 ? RELU_TRANSFERS_SOFTSPOKEN : RELU_TRANSFERS_AUTO;
        s.server.o.expected = i == 2 ? &narrow : NULL;
        s.o.wish.ahead = false;
        session_start(&s);
        assert_int_equal(party_open(&s.o, &s.t, &s.p), 0);
        ask(&s, i, 1, expected);
        session_end(&s);
        assert_int_equal(s.server.rc, 0);
    }
    assert_int_equal(bundle_count(b.bundles_client, true, &left), 0);
    assert_int_equal(left, 0);
    parties_close(&b);
}

static void test_bundles_keep_their_forms(void **state)
{
    (void)state;
    check_bundles(&relu_ot);
    check_bundles(&relu_gc);
}

/* By link and count: the formula decides, and a server may be told. */
static void test_choice_by_link_and_count(void **state)
{
    (void)state;
    struct parties b;
    struct schedule *s = NULL;
    struct relu_ways w;
    const struct relu_wish many = {.images = 1000000};
    const struct link fast = {"fast", 1e11, 1e-5};

    parties_open(&b, 64, 0, 3);
    assert_int_equal(schedule_new(b.plan, false, &s), 0);
    relu_ways_choose(&relu_ot, RELU_TRANSFERS_AUTO, &wan, s, 1, false, &w);
    assert_null(w.down); /* too few */
    relu_ways_choose(&relu_ot, RELU_TRANSFERS_AUTO, &wan, s, 1000000, false, &w);
    assert_non_null(w.down);
    assert_non_null(w.up);
    assert_true(w.down->k > ferret_set(0)->k);
    relu_ways_choose(&relu_ot, RELU_TRANSFERS_AUTO, &fast, s, 1000000, false, &w);
    assert_null(w.down); /* computing costs more than sending */
    relu_ways_choose(&relu_ot, RELU_TRANSFERS_FERRET, &fast, s, 1, false, &w);
    assert_non_null(w.down);
    relu_ways_choose(&relu_ot, RELU_TRANSFERS_AUTO, link_loopback(), s, 1, false, &w);
    assert_int_equal(w.bits_per_second, 0); /* default forms: that rate is no line's */
    relu_ways_choose(&relu_gc, RELU_TRANSFERS_FERRET, &wan, s, 1000000, false, &w);
    assert_null(w.down); /* labels come from OT extension */
    relu_ways_offer(&relu_ot, RELU_TRANSFERS_AUTO, &wan, s, &many, true, &w);
    assert_null(w.down); /* no more than RELU_SHARED of them share a set-up */
    assert_true(w.tagged);
    schedule_free(s);
    parties_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_agreement_gives_the_same_answers),
        cmocka_unit_test(test_a_client_refuses_the_assumption),
        cmocka_unit_test(test_bundles_keep_their_forms),
        cmocka_unit_test(test_choice_by_link_and_count),
    };

    return cmocka_run_group_tests_name("ways", tests, NULL, NULL);
}
