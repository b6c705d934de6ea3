/* TCP and emulated lines: bytes arrive, deadlines hold, closing is noticed, names are understood. */
#include "runtime/net/tcp.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "runtime/net/link.h"

#define MANY ((size_t)3 << 20)
#define SHOUT ((size_t)14 << 20)

static bool stopped(void *ctx)
{
    (void)ctx;
    return true;
}

static void open_pair(struct tcp **a, struct tcp **b, double seconds)
{
    struct tcp_address at;
    struct tcp_listener *l = NULL;

    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    assert_int_equal(tcp_listen(&at, &l), 0);
    snprintf(at.port, sizeof at.port, "%d", tcp_listener_port(l));
    assert_int_equal(tcp_connect(&at, seconds, a), 0);
    assert_int_equal(tcp_accept(l, seconds, NULL, NULL, b), 0);
    tcp_listener_close(l);
}

struct echo {
    struct transport t;
    size_t n;
    int rc;
};

/* Sends back what it gets, in pieces. */
static void *echo(void *arg)
{
    struct echo *e = arg;
    uint8_t piece[70001];

    for (size_t at = 0, n; at < e->n && e->rc == 0; at += n) {
        n = e->n - at < sizeof piece ? e->n - at : sizeof piece;
        if ((e->rc = transport_recv(&e->t, piece, n)) == 0)
            e->rc = transport_send(&e->t, piece, n);
    }
    if (e->rc == 0)
        e->rc = transport_flush(&e->t);
    return NULL;
}

/* ---- both send at once -------------------------------------------------------------------- */

struct shout {
    struct transport t;
    uint8_t first;
    int rc;
    bool right;
};

/* Everything out before anything in. */
static void *shout(void *arg)
{
    struct shout *s = arg;
    uint8_t *bytes = mem_array(SHOUT, 1);

    s->rc = bytes == NULL ? ERR_NOMEM : 0;
    for (size_t i = 0; i < SHOUT && s->rc == 0; i++)
        bytes[i] = (uint8_t)(s->first + i * 2654435761u / 8192);
    if (s->rc == 0)
        s->rc = transport_send(&s->t, bytes, SHOUT);
    for (size_t at = 0, n; at < SHOUT && s->rc == 0; at += n) { /* small and large pieces */
        n = at < 100000 ? 777 : SHOUT - at;
        s->rc = transport_recv(&s->t, bytes + at, n);
    }
    s->right = s->rc == 0;
    for (size_t i = 0; i < SHOUT && s->right; i++)
        s->right = bytes[i] == (uint8_t)((s->first ^ 1) + i * 2654435761u / 8192);
    mem_free(bytes);
    return NULL;
}

static void check_shout(struct transport *a, struct transport *b)
{
    struct shout s[2] = {{.t = *a}, {.t = *b, .first = 1}};
    pthread_t other;

    assert_int_equal(pthread_create(&other, NULL, shout, &s[1]), 0);
    shout(&s[0]);
    pthread_join(other, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(s[i].rc, 0);
        assert_true(s[i].right);
        transport_close(&s[i].t);
    }
}

/* Far more than the kernel holds, both ways: no side waits for the other to read first. */
static void test_both_sides_may_send_at_once(void **state)
{
    struct tcp *a, *b;
    struct transport ta, tb;

    (void)state;
    open_pair(&a, &b, 10);
    tcp_transport(a, &ta);
    tcp_transport(b, &tb);
    check_shout(&ta, &tb);
    assert_int_equal(transport_pair(&ta, &tb), 0);
    check_shout(&ta, &tb);
}

/* So many MiB of the peer, kept while this side could write. */
static void keep(struct tcp *s, int peer, size_t mib)
{
    static const uint8_t piece[1 << 15];

    for (size_t at = 0; at < mib << 20; at += sizeof piece) {
        assert_int_equal(send(peer, piece, sizeof piece, MSG_DONTWAIT), sizeof piece);
        assert_int_equal(tcp_ready(s, true, cpu_seconds() + 5), 0);
    }
}

/* Room in the inbox comes back as its bytes are read, not only once it is empty: 10 + 14 - 9 fit 16. */
static void test_read_bytes_make_room(void **state)
{
    uint8_t *bytes = mem_array((size_t)15 << 20, 1);
    size_t n = 0, left = (size_t)15 << 20;
    struct tcp *s;
    int fd[2];

    (void)state;
    assert_non_null(bytes);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    assert_int_equal(tcp_borrow(fd[0], 5, &s), 0);
    keep(s, fd[1], 10);
    assert_int_equal(tcp_read(s, bytes, (size_t)9 << 20, &n), 0);
    assert_int_equal(n, (size_t)9 << 20);
    keep(s, fd[1], 14);
    for (; left > 0; left -= n) {
        assert_int_equal(tcp_read(s, bytes, left, &n), 0);
        assert_true(n > 0);
    }
    tcp_close(s);
    close(fd[0]);
    close(fd[1]);
    mem_free(bytes);
}

static void check_echo(struct transport *a, struct transport *b, size_t n)
{
    static uint8_t out[MANY], in[MANY];
    struct echo e = {.t = *b, .n = n};
    pthread_t other;
    size_t piece = 70001;

    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(i * 2654435761u >> 13);
    assert_int_equal(pthread_create(&other, NULL, echo, &e), 0);
    for (size_t at = 0; at < n; at += piece) {
        piece = n - at < piece ? n - at : piece;
        assert_int_equal(transport_send(a, out + at, piece), 0);
        assert_int_equal(transport_recv(a, in + at, piece), 0);
    }
    pthread_join(other, NULL);
    assert_int_equal(e.rc, 0);
    assert_memory_equal(in, out, n);
    transport_close(a);
    transport_close(&e.t);
}

static void test_bytes_cross_a_socket(void **state)
{
    struct tcp *a, *b;
    struct transport ta, tb;

    (void)state;
    open_pair(&a, &b, 10);
    tcp_transport(a, &ta);
    tcp_transport(b, &tb);
    check_echo(&ta, &tb, MANY);
}

static void test_emulated_line_delays_and_limits(void **state)
{
    struct tcp *a, *b;
    struct transport ta, tb;
    double start, took;
    size_t n = 200000;

    (void)state;
    open_pair(&a, &b, 10);
    tcp_transport(a, &ta);
    tcp_transport(b, &tb);
    assert_int_equal(link_wrap(&ta, 40e6, 0.02), 0);
    assert_int_equal(link_wrap(&tb, 40e6, 0.02), 0);
    start = cpu_seconds();
    check_echo(&ta, &tb, n); /* 3 round trips of 20 ms; 40 ms of bytes each way */
    took = cpu_seconds() - start;
    assert_true(took > 0.135);
    assert_true(took < 5);
}

/* A peer that makes pieces due in 100 seconds does not hold this side for so long. */
static void test_a_late_piece_is_refused(void **state)
{
    struct tcp *a, *b;
    struct transport ta, tb;
    uint8_t head[12 + 1] = {0}, byte;
    double start = cpu_seconds();
    struct timespec now;
    uint64_t due;

    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &now);
    due = ((uint64_t)now.tv_sec + 100) * 1000000000u;
    memcpy(head, &due, sizeof due);
    head[8] = 1; /* one byte follows */
    open_pair(&a, &b, 10);
    tcp_transport(a, &ta);
    tcp_transport(b, &tb);
    assert_int_equal(link_wrap(&ta, 40e6, 0.02), 0);
    assert_int_equal(transport_send(&tb, head, sizeof head), 0);
    assert_int_equal(transport_flush(&tb), 0);
    assert_int_equal(transport_recv(&ta, &byte, 1), ERR_PEER);
    assert_non_null(strstr(err_message(), "later than this side's --link"));
    assert_true(cpu_seconds() - start < 5);
    transport_close(&ta);
    transport_close(&tb);
}

static void test_silence_ends_at_the_deadline(void **state)
{
    struct tcp *a, *b;
    struct transport ta;
    uint8_t byte;
    double start = cpu_seconds();

    (void)state;
    open_pair(&a, &b, 0.2);
    tcp_transport(a, &ta);
    assert_int_equal(transport_recv(&ta, &byte, 1), ERR_NET);
    assert_true(cpu_seconds() - start < 2);
    transport_close(&ta);
    tcp_close(b);
}

struct trickle {
    struct tcp *s;
    int pieces;
};

static void *trickle(void *arg)
{
    struct trickle *t = arg;
    struct timespec pause = {0, 50 * 1000 * 1000};
    size_t n;

    for (int i = 0; i < t->pieces; i++) {
        if (tcp_write(t->s, "x", 1, &n) < 0)
            break;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* A byte now and then does not keep a message alive. */
static void test_trickling_bytes_end_at_the_deadline(void **state)
{
    struct tcp *a, *b;
    struct transport ta;
    struct trickle t = {.pieces = 30};
    uint8_t bytes[1000];
    pthread_t other;
    double start = cpu_seconds();

    (void)state;
    open_pair(&a, &b, 0.3);
    t.s = b;
    tcp_transport(a, &ta);
    assert_int_equal(pthread_create(&other, NULL, trickle, &t), 0);
    assert_int_equal(transport_recv(&ta, bytes, sizeof bytes), ERR_NET);
    assert_true(cpu_seconds() - start < 1.2);
    transport_close(&ta);
    pthread_join(other, NULL);
    tcp_close(b);
}

/* A byte now and then never meets the deadline of a short message; all messages together meet theirs. */
static void test_trickling_messages_end_at_the_limit(void **state)
{
    struct tcp *a, *b;
    struct transport ta;
    struct trickle t = {.pieces = 40};
    uint8_t byte;
    pthread_t other;
    double start;
    int rc = 0, got = 0;

    (void)state;
    open_pair(&a, &b, 1);
    t.s = b;
    tcp_transport(a, &ta);
    transport_limit(&ta, 0.5);
    start = cpu_seconds();
    assert_int_equal(pthread_create(&other, NULL, trickle, &t), 0);
    while (rc == 0 && got < t.pieces)
        got += (rc = transport_recv(&ta, &byte, 1)) == 0;
    assert_int_equal(rc, ERR_NET);
    assert_non_null(strstr(err_message(), "the time for this phase is used up"));
    assert_true(cpu_seconds() - start > 0.4 && cpu_seconds() - start < 1.5);
    assert_true(got > 0 && got < 20);
    transport_close(&ta);
    pthread_join(other, NULL);
    tcp_close(b);
}

static void test_closing_is_noticed(void **state)
{
    struct tcp *a, *b;
    struct transport ta;
    uint8_t bytes[10];
    size_t n;

    (void)state;
    open_pair(&a, &b, 5);
    tcp_transport(a, &ta);
    assert_int_equal(tcp_write(b, "abc", 3, &n), 0);
    assert_int_equal(tcp_wait(a, NULL, NULL), 0);
    tcp_close(b);
    assert_int_equal(transport_recv(&ta, bytes, 3), 0);
    assert_int_equal(tcp_wait(a, NULL, NULL), ERR_PEER);
    assert_int_equal(transport_recv(&ta, bytes, 1), ERR_PEER);
    transport_close(&ta);
}

static void test_a_stop_ends_waiting(void **state)
{
    struct tcp_address at;
    struct tcp_listener *l = NULL;
    struct tcp *a, *b, *none = NULL;

    (void)state;
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &at), 0);
    assert_int_equal(tcp_listen(&at, &l), 0);
    assert_int_equal(tcp_accept(l, 1, stopped, NULL, &none), ERR_INTERRUPTED);
    assert_null(none);
    tcp_listener_close(l);
    open_pair(&a, &b, 5);
    assert_int_equal(tcp_wait(a, stopped, NULL), ERR_INTERRUPTED);
    tcp_close(a);
    tcp_close(b);
}

static void test_names_of_addresses_and_lines(void **state)
{
    struct tcp_address a;
    struct link l;
    bool loopback;

    (void)state;
    assert_int_equal(tcp_address_parse("[::1]:70", &a), 0);
    assert_string_equal(a.host, "::1");
    assert_string_equal(a.port, "70");
    assert_int_equal(tcp_address_parse("localhost", &a), ERR_ARG);
    assert_int_equal(tcp_address_parse("localhost:99999", &a), ERR_ARG);
    assert_int_equal(tcp_address_parse("localhost:x", &a), ERR_ARG);
    assert_int_equal(tcp_address_parse("127.1.2.3:1", &a), 0);
    assert_int_equal(tcp_address_is_loopback(&a, &loopback), 0);
    assert_true(loopback);
    assert_int_equal(tcp_address_parse("192.0.2.1:1", &a), 0);
    assert_int_equal(tcp_address_is_loopback(&a, &loopback), 0);
    assert_false(loopback);
    assert_int_equal(tcp_address_parse(":1", &a), 0);
    assert_int_equal(tcp_address_is_loopback(&a, &loopback), 0);
    assert_false(loopback);
    assert_int_equal(link_parse("100Mbit,20ms", &l), 0);
    assert_true(l.bits_per_second == 100e6 && l.rtt == 20e-3);
    assert_int_equal(link_parse("wan", &l), 0);
    assert_true(l.bits_per_second == 400e6 && l.rtt == 40e-3);
    assert_int_equal(link_parse("100,20", &l), ERR_ARG);
    assert_int_equal(link_parse("-1Mbit,20ms", &l), ERR_ARG);
    assert_int_equal(link_parse("moon", &l), ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_cross_a_socket),
        cmocka_unit_test(test_both_sides_may_send_at_once),
        cmocka_unit_test(test_read_bytes_make_room),
        cmocka_unit_test(test_emulated_line_delays_and_limits),
        cmocka_unit_test(test_a_late_piece_is_refused),
        cmocka_unit_test(test_silence_ends_at_the_deadline),
        cmocka_unit_test(test_trickling_bytes_end_at_the_deadline),
        cmocka_unit_test(test_trickling_messages_end_at_the_limit),
        cmocka_unit_test(test_closing_is_noticed),
        cmocka_unit_test(test_a_stop_ends_waiting),
        cmocka_unit_test(test_names_of_addresses_and_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
