/*
 * A peer that lies: bytes of one side are flipped, inserted, dropped, or the connection ends in the
 * middle, at places drawn from a fixed seed. Whatever happens, both sides end within their time-outs
 * with an answer or with ERR_PEER or ERR_NET, free what they hold, and say nothing that is secret.
 */
#include "tests/two_parties.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "tests/plain_relu.h"
#include "runtime/crypto/store.h"
#include "runtime/net/tcp.h"

#define SECONDS 0.15 /* time-out */
#define HANG 120     /* a machine may be slow */

enum lie { LIE_FLIP, LIE_CLOSE, LIE_INSERT, LIE_DROP, LIES };
struct liar {
    struct transport inner;
    uint64_t sent, at; /* the lie is told at this byte */
    enum lie lie;
    uint8_t mask;
};

static int liar_send(void *ctx, const void *bytes, size_t n)
{
    struct liar *l = ctx;
    uint8_t copy[1 << 14];
    size_t here;

    if (l->at < l->sent || l->at >= l->sent + n || n > sizeof copy) {
        l->sent += n;
        return transport_send(&l->inner, bytes, n);
    }
    here = (size_t)(l->at - l->sent);
    l->sent += n;
    memcpy(copy, bytes, n);
    switch (l->lie) {
    case LIE_FLIP:
        copy[here] ^= l->mask;
        return transport_send(&l->inner, copy, n);
    case LIE_INSERT:
        TRY(transport_send(&l->inner, copy, here));
        TRY(transport_send(&l->inner, &l->mask, 1));
        return transport_send(&l->inner, copy + here, n - here);
    case LIE_DROP:
        return here == 0 ? 0 : transport_send(&l->inner, copy, here);
    default:
        TRY(transport_send(&l->inner, copy, here));
        (void)!transport_flush(&l->inner);
        return ERR_NET; /* and the caller closes */
    }
}

static int liar_recv(void *ctx, void *bytes, size_t n)
{
    return transport_recv(&((struct liar *)ctx)->inner, bytes, n);
}

static int liar_flush(void *ctx)
{
    return transport_flush(&((struct liar *)ctx)->inner);
}

static void liar_close(void *ctx)
{
    transport_close(&((struct liar *)ctx)->inner);
}

static void liar_wrap(struct liar *l, struct transport *t)
{
    l->inner = *t;
    *t = (struct transport){liar_send, liar_recv, liar_flush, liar_close, NULL, l, {0}, 0, 0};
}

static void open_line(struct transport *a, struct transport *b)
{
    struct tcp_address at;
    struct tcp_listener *l = NULL;
    struct tcp *x = NULL, *y = NULL;

    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    assert_int_equal(tcp_listen(&at, &l), 0);
    snprintf(at.port, sizeof at.port, "%d", tcp_listener_port(l));
    assert_int_equal(tcp_connect(&at, SECONDS, &x), 0);
    assert_int_equal(tcp_accept(l, SECONDS, NULL, NULL, &y), 0);
    tcp_listener_close(l);
    tcp_transport(x, a);
    tcp_transport(y, b);
}

/* Fresh correlations for every run: a claimed one is gone. */
static int run_client(struct party_options *o, struct transport *t)
{
    struct party *p = NULL;
    uint64_t x[PARTIES_INPUTS] = {1, 2, 3}, y[PARTIES_CLASSES];
    int rc = party_open(o, t, &p);

    if (rc == 0)
        rc = party_query(p, x, y);
    party_close(p);
    transport_close(t);
    return rc;
}

static bool is_expected(int rc)
{
    return rc == 0 || rc == ERR_PEER || rc == ERR_NET || rc == ERR_DATA;
}

/* No number of more than 5 digits, which a share would be, in a message. */
static bool is_discreet(const char *message)
{
    int digits = 0;

    for (const char *c = message; *c != '\0' && digits < 6; c++)
        digits = *c >= '0' && *c <= '9' ? digits + 1 : 0;
    return digits < 6;
}

static void lie_once(struct parties *b, const struct relu_backend *relu, bool client_lies,
                     uint64_t at, enum lie lie, bool label)
{
    struct liar liar = {.at = at, .lie = lie, .mask = (uint8_t)(1 + at % 255)};
    struct served s = {.o = parties_options(b, relu, false)};
    struct party_options o = parties_options(b, relu, true);
    struct transport t;
    double start = cpu_seconds();
    int rc;

    s.o.label = label;
    open_line(&t, &s.t);
    liar_wrap(&liar, client_lies ? &t : &s.t);
    served_start(&s);
    rc = run_client(&o, &t);
    if (!is_expected(rc) || (rc < 0 && !is_discreet(err_message())))
        fail_msg("client: %d %s (lie %d at %llu)", rc, err_message(), lie, (unsigned long long)at);
    served_join(&s);
    if (!is_expected(s.rc) || !is_discreet(s.message))
        fail_msg("server: %d %s (lie %d at %llu)", s.rc, s.message, lie, (unsigned long long)at);
    assert_true(cpu_seconds() - start < HANG);
}

static void lie_often(int runs, const struct relu_backend *relu, bool label, bool deals,
                      uint64_t seed)
{
    struct parties b;
    struct rng r = rng_at(seed, RNG_TEST, 0, 0);

    parties_open(&b, 16, deals ? runs : 0, 3);
    for (int i = 0; i < runs; i++) {
        /* most lies in the first messages, where the decisions are */
        uint64_t span = i % 2 == 0 ? 200 : 30000;
        enum lie lie = (enum lie)(i % 8 == 7 ? LIE_DROP : rng_u32(&r) % LIE_DROP);
        lie_once(&b, relu, i % 3 != 0, rng_u32(&r) % span, lie, label);
    }
    parties_close(&b);
}

static void test_lies_end_in_an_error_or_an_answer(void **state)
{
    (void)state;
    lie_often(16, &plain_relu, false, true, 1);
    lie_often(48, &plain_relu, true, false, 2);
    lie_often(24, &relu_gc, false, false, 3);
    lie_often(24, &relu_ot, true, false, 4);
}

/* One query on a connection that flips a bit; whether the client takes the answer, and it is right. */
static bool accepted(struct parties *b, bool tally, bool client_lies, uint64_t at,
                     const int64_t *want, bool *right)
{
    struct liar liar = {.at = at, .lie = LIE_FLIP, .mask = (uint8_t)(1u << at % 8)};
    struct served s = {.o = parties_options(b, &plain_relu, false)};
    struct party_options o = parties_options(b, &plain_relu, true);
    uint64_t x[PARTIES_INPUTS], y[PARTIES_CLASSES];
    float image[PARTIES_INPUTS];
    struct party *p = NULL;
    struct transport t;
    int rc;

    s.o.tally = o.tally = tally;
    parties_image(0, image, x);
    open_line(&t, &s.t);
    liar_wrap(&liar, client_lies ? &t : &s.t);
    served_start(&s);
    if ((rc = party_open(&o, &t, &p)) == 0)
        rc = party_query(p, x, y);
    party_close(p);
    transport_close(&t);
    served_join(&s);
    *right = rc == 0 && memcmp(y, want, sizeof y) == 0;
    return rc == 0;
}

/* Without TLS: what is accepted is right. Without the comparison it is not. */
static void test_accidents_do_not_make_answers(void **state)
{
    int64_t want[PARTIES_IMAGES][PARTIES_CLASSES];
    struct parties b;
    struct rng r = rng_at(5, RNG_TEST, 0, 0);
    int wrong[2] = {0, 0}, all = 200;

    (void)state;
    parties_open(&b, 16, 0, 3);
    parties_expect(&b, want);
    for (int i = 0; i < all; i++) {
        uint64_t at =
            rng_u32(&r) % (i % 2 == 0 ? 2600 : 3200); /* all that is sent, a little more */
        for (int tally = 0; tally < 2; tally++) {
            bool right;
            wrong[tally] += accepted(&b, tally == 1, i % 2 == 0, at, want[0], &right) && !right;
        }
    }
    print_message("%d flipped bits: %d wrong answers without, %d with comparison\n", all, wrong[0],
                  wrong[1]);
    assert_true(wrong[0] > all / 8);
    assert_int_equal(wrong[1], 0);
    parties_close(&b);
}

static void test_garbage_instead_of_a_greeting(void **state)
{
    struct parties b;
    struct rng r = rng_at(3, RNG_TEST, 0, 0);

    (void)state;
    parties_open(&b, 16, 0, 3);
    for (int i = 0; i < 40; i++) {
        struct served s = {.o = parties_options(&b, &plain_relu, false)};
        struct transport t;
        uint8_t bytes[200];
        size_t n = 1 + rng_u32(&r) % sizeof bytes;
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)rng_u32(&r);
        open_line(&t, &s.t);
        served_start(&s);
        assert_int_equal(transport_send(&t, bytes, n), 0);
        assert_int_equal(transport_flush(&t), 0);
        transport_close(&t);
        served_join(&s);
        assert_int_equal(s.rc, ERR_PEER);
    }
    parties_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lies_end_in_an_error_or_an_answer),
        cmocka_unit_test(test_accidents_do_not_make_answers),
        cmocka_unit_test(test_garbage_instead_of_a_greeting),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
