/* The in-memory pair and the counters: order, bounds, closing, two threads at once. */
#include "runtime/net/transport.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_bytes_arrive_in_order_and_are_counted(void **state)
{
    struct transport a, b;
    uint8_t got[8] = {0};

    (void)state;
    assert_int_equal(transport_pair(&a, &b), 0);
    assert_int_equal(transport_send(&a, "abc", 3), 0);
    assert_int_equal(transport_send(&a, "defgh", 5), 0);
    assert_int_equal(transport_recv(&b, got, 2), 0);
    assert_int_equal(transport_recv(&b, got + 2, 6), 0);
    assert_memory_equal(got, "abcdefgh", 8);
    assert_int_equal(transport_send(&b, "x", 1), 0);
    assert_int_equal(transport_recv(&a, got, 1), 0);
    assert_int_equal(transport_send(&a, "y", 1), 0);
    assert_int_equal(a.count.sent, 9);
    assert_int_equal(a.count.received, 1);
    assert_int_equal(a.count.flips, 2);
    assert_int_equal(b.count.flips, 1);
    assert_int_equal(transport_send(&a, NULL, 0), 0);
    assert_int_equal(a.count.flips, 2);
    transport_close(&a);
    transport_close(&b);
    transport_close(&b);
}

static void test_closed_peer_is_err_peer_after_its_last_byte(void **state)
{
    struct transport a, b;
    uint8_t got[4];

    (void)state;
    assert_int_equal(transport_pair(&a, &b), 0);
    assert_int_equal(transport_send(&a, "abc", 3), 0);
    transport_close(&a);
    assert_int_equal(transport_recv(&b, got, 2), 0);
    assert_int_equal(transport_recv(&b, got, 2), ERR_PEER);
    assert_int_equal(transport_recv(&b, got, 1), ERR_NET);
    assert_int_equal(transport_send(&b, got, 1), ERR_NET);
    transport_close(&b);
    assert_int_equal(transport_send(&b, got, 1), ERR_NET);
}

/* More than a direction holds, both ways, in pieces of changing size. */
#define MANY ((size_t)5 << 20)
struct end {
    struct transport *t;
    int first;
    int rc;
};

static uint8_t pattern(size_t i, int first)
{
    return (uint8_t)(i * 7 + (i >> 9) + (size_t)first * 31);
}

static int send_many(struct transport *t, int first)
{
    uint8_t piece[7001];

    for (size_t at = 0, n; at < MANY; at += n) {
        n = 1 + at % sizeof piece;
        n = at + n > MANY ? MANY - at : n;
        for (size_t i = 0; i < n; i++)
            piece[i] = pattern(at + i, first);
        TRY(transport_send(t, piece, n));
    }
    return 0;
}

static int recv_many(struct transport *t, int first)
{
    uint8_t piece[6007];

    for (size_t at = 0, n; at < MANY; at += n) {
        n = 1 + (at * 3) % sizeof piece;
        n = at + n > MANY ? MANY - at : n;
        TRY(transport_recv(t, piece, n));
        for (size_t i = 0; i < n; i++)
            if (piece[i] != pattern(at + i, first))
                return ERR_VERIFY;
    }
    return 0;
}

static void *run_end(void *arg)
{
    struct end *e = arg;

    if (e->first)
        e->rc = send_many(e->t, 1);
    if (e->rc == 0)
        e->rc = recv_many(e->t, !e->first);
    if (e->rc == 0 && !e->first)
        e->rc = send_many(e->t, 0);
    return NULL;
}

static void test_two_threads_move_more_than_the_buffers_hold(void **state)
{
    struct transport a, b;
    struct end ends[2] = {{&a, 1, 0}, {&b, 0, 0}};
    pthread_t other;

    (void)state;
    assert_int_equal(transport_pair(&a, &b), 0);
    assert_int_equal(pthread_create(&other, NULL, run_end, &ends[1]), 0);
    run_end(&ends[0]);
    pthread_join(other, NULL);
    assert_int_equal(ends[0].rc, 0);
    assert_int_equal(ends[1].rc, 0);
    assert_int_equal(a.count.sent, MANY);
    assert_int_equal(a.count.received, MANY);
    assert_int_equal(a.count.flips, 1);
    transport_close(&a);
    transport_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order_and_are_counted),
        cmocka_unit_test(test_closed_peer_is_err_peer_after_its_last_byte),
        cmocka_unit_test(test_two_threads_move_more_than_the_buffers_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
