/* Clients who wait: those whose greeting is whole are served, the address with the fewest first; nobody
 * keeps them out by saying little, or nothing. */
#include "runtime/serve/lobby.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "runtime/party/message.h"

#define SECONDS 10

struct house {
    struct tcp_address at;
    struct tcp_listener *listener;
    struct lobby *lobby;
    int served[256]; /* of 127.0.0.x */
};

static void open_house(struct house *h, bool tls)
{
    *h = (struct house){0};
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &h->at), 0);
    assert_int_equal(tcp_listen(&h->at, &h->listener), 0);
    snprintf(h->at.port, sizeof h->at.port, "%d", tcp_listener_port(h->listener));
    assert_int_equal(lobby_open(h->listener, tls, SECONDS, &h->lobby), 0);
}

static void close_house(struct house *h)
{
    lobby_close(h->lobby);
    tcp_listener_close(h->listener);
}

static struct tcp *come(const struct house *h)
{
    struct tcp *s = NULL;

    assert_int_equal(tcp_connect(&h->at, SECONDS, &s), 0);
    return s;
}

static void say(struct tcp *s, const void *bytes, size_t n)
{
    size_t put;

    assert_int_equal(tcp_write(s, bytes, n, &put), 0);
    assert_int_equal(put, n);
}

static void greet(struct tcp *s, char name)
{
    char bytes[HELLO_BYTES] = {name};

    say(s, bytes, sizeof bytes);
}

/* Until n clients have greeted, or the time is over. */
static void look(struct house *h, int n, double seconds)
{
    const double until = cpu_seconds() + seconds;

    do {
        struct pollfd p[LOBBY_POLLS];
        int ms = 20, polls = lobby_polls(h->lobby, p, &ms);
        assert_true(poll(p, (nfds_t)polls, ms) >= 0);
        assert_int_equal(lobby_look(h->lobby), 0);
    } while (lobby_waiting(h->lobby) < n && cpu_seconds() < until);
}

static int served(void *ctx, const uint8_t source[TCP_SOURCE])
{
    return ((struct house *)ctx)->served[source[TCP_SOURCE - 1]];
}

/* The first byte of who is next, 0: nobody. */
static char next(struct house *h)
{
    struct tcp *s = lobby_next(h->lobby, served, h);
    char what[HELLO_BYTES];
    size_t n;

    if (s == NULL)
        return 0;
    assert_int_equal(tcp_read(s, what, sizeof what, &n), 0);
    assert_int_equal(n, sizeof what); /* nothing of it was taken */
    tcp_close(s);
    return what[0];
}

static void test_a_whole_greeting_is_served(void **state)
{
    struct house h;
    struct tcp *client[4];
    char bytes[HELLO_BYTES] = {'b'};

    (void)state;
    open_house(&h, false);
    for (int i = 0; i < 4; i++)
        client[i] = come(&h);
    greet(client[2], 'c');
    say(client[1], bytes, HELLO_BYTES - 1);
    look(&h, 1, 5);
    look(&h, 2, 0.2);
    assert_int_equal(next(&h), 'c');
    assert_int_equal(next(&h), 0);
    say(client[1], bytes, 1); /* its last byte */
    look(&h, 1, 5);
    assert_int_equal(next(&h), 'b');
    for (int i = 0; i < 4; i++)
        tcp_close(client[i]);
    close_house(&h);
}

static void test_tls(void **state)
{
    const char record[] = {22, 3, 1, 0, 4, 1, 0, 0, 0};
    struct house h;
    struct tcp *a, *b, *c;

    (void)state;
    open_house(&h, true);
    say(a = come(&h), record, 5);
    say(b = come(&h), record, sizeof record);
    look(&h, 2, 0.3);
    assert_int_equal(lobby_waiting(h.lobby), 1);
    say(a, record + 5, 4);
    say(c = come(&h), "linnetPI", 8); /* no TLS: who serves it says so */
    look(&h, 3, 5);
    assert_int_equal(lobby_waiting(h.lobby), 3);
    tcp_close(a);
    tcp_close(b);
    tcp_close(c);
    close_house(&h);
}

/* A byte now and then does not make the time longer; and does not keep the server busy. */
static void test_a_slow_greeting_ends(void **state)
{
    struct house h;
    struct tcp *slow, *silent;
    double start = cpu_seconds();
    int looks = 0;

    (void)state;
    open_house(&h, false);
    slow = come(&h);
    silent = come(&h);
    while (lobby_totals(h.lobby).silent < 2 && cpu_seconds() - start < 3 * LOBBY_GREETING) {
        size_t put;
        if (looks++ % 10 == 0)
            (void)!tcp_write(slow, "l", 1, &put);
        look(&h, 1, 0);
    }
    assert_int_equal(lobby_totals(h.lobby).silent, 2);
    assert_true(cpu_seconds() - start >= LOBBY_GREETING);
    assert_true(cpu_seconds() - start < LOBBY_GREETING + 3);
    assert_true(looks < 1000); /* it sleeps between looks */
    tcp_close(slow);
    tcp_close(silent);
    close_house(&h);
}

static void test_silent_clients_keep_nobody_out(void **state)
{
    struct house h;
    struct tcp *silent[3 * LOBBY_SHARE], *client[3];

    (void)state;
    open_house(&h, false);
    for (int i = 0; i < 3 * LOBBY_SHARE; i++) {
        say(silent[i] = come(&h), "x", 1);
        look(&h, 1, 0);
    }
    for (int i = 0; i < 3; i++) {
        client[i] = come(&h);
        greet(client[i], (char)('a' + i));
        look(&h, i + 1, 5);
    }
    assert_true(lobby_totals(h.lobby).silent >= 2 * LOBBY_SHARE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(next(&h), 'a' + i); /* one address: in the order in which they came */
    for (int i = 0; i < 3 * LOBBY_SHARE; i++)
        tcp_close(silent[i]);
    for (int i = 0; i < 3; i++)
        tcp_close(client[i]);
    close_house(&h);
}

static void test_an_address_with_fewer_served_goes_first(void **state)
{
    struct house h;
    struct tcp *a, *b;

    (void)state;
    open_house(&h, false);
    h.served[1] = 3;
    greet(a = come(&h), 'a');
    greet(b = come(&h), 'b');
    look(&h, 2, 5);
    assert_true(lobby_longest(h.lobby) > 0);
    assert_int_equal(next(&h), 'a');
    tcp_close(lobby_oldest(h.lobby));
    assert_null(lobby_oldest(h.lobby));
    tcp_close(a);
    tcp_close(b);
    lobby_shut(h.lobby);
    a = come(&h);
    greet(a, 'c');
    look(&h, 1, 0.1);
    assert_int_equal(lobby_waiting(h.lobby), 0);
    tcp_close(a);
    close_house(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_whole_greeting_is_served),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_a_slow_greeting_ends),
        cmocka_unit_test(test_silent_clients_keep_nobody_out),
        cmocka_unit_test(test_an_address_with_fewer_served_goes_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
