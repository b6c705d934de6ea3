/* Clients who wait: only those who speak are served, in the order in which they came. */
#include "runtime/serve/lobby.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECONDS 10

struct house {
    struct tcp_address at;
    struct tcp_listener *listener;
    struct lobby *lobby;
};

static void open_house(struct house *h)
{
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &h->at), 0);
    assert_int_equal(tcp_listen(&h->at, &h->listener), 0);
    snprintf(h->at.port, sizeof h->at.port, "%d", tcp_listener_port(h->listener));
    assert_int_equal(lobby_open(h->listener, SECONDS, &h->lobby), 0);
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

static void say(struct tcp *s, char what)
{
    size_t n;

    assert_int_equal(tcp_write(s, &what, 1, &n), 0);
    assert_int_equal(n, 1);
}

/* The next client's first byte. */
static char next(struct house *h)
{
    struct tcp *s = NULL;
    char what;
    size_t n;

    assert_int_equal(lobby_next(h->lobby, NULL, NULL, &s), 0);
    assert_int_equal(tcp_read(s, &what, 1, &n), 0);
    assert_int_equal(n, 1);
    tcp_close(s);
    return what;
}

static bool is_busy(struct house *h)
{
    bool busy;

    assert_int_equal(lobby_busy(h->lobby, &busy), 0);
    return busy;
}

static bool stopped(void *ctx)
{
    return *(const bool *)ctx;
}

static void test_who_speaks_is_served(void **state)
{
    struct house h;
    struct tcp *client[4], *none = NULL;
    bool stop = true;

    (void)state;
    open_house(&h);
    for (int i = 0; i < 4; i++)
        client[i] = come(&h);
    assert_false(is_busy(&h));
    assert_int_equal(lobby_next(h.lobby, stopped, &stop, &none), ERR_INTERRUPTED);
    assert_null(none);
    say(client[2], 'c');
    assert_int_equal(next(&h), 'c');
    say(client[3], 'd');
    say(client[1], 'b');
    while (!is_busy(&h))
        ;
    assert_int_equal(next(&h), 'b');
    assert_int_equal(next(&h), 'd');
    assert_false(is_busy(&h));
    assert_int_equal(lobby_sent_away(h.lobby), 0);
    for (int i = 0; i < 4; i++)
        tcp_close(client[i]);
    close_house(&h);
}

/* Silent clients take all seats: those who speak find one all the same, the silent ones that were
 * there longest pay with theirs. */
static void test_silent_clients_keep_nobody_out(void **state)
{
    struct house h;
    struct tcp *silent[2 * LOBBY_SEATS], *client;

    (void)state;
    open_house(&h);
    for (int i = 0; i < 2 * LOBBY_SEATS; i++) {
        silent[i] = come(&h);
        assert_false(is_busy(&h));
    }
    for (int i = 0; i < 3; i++) {
        client = come(&h);
        say(client, (char)('x' + i));
        assert_int_equal(next(&h), 'x' + i);
        tcp_close(client);
    }
    assert_true(lobby_sent_away(h.lobby) >= LOBBY_SEATS);
    say(silent[2 * LOBBY_SEATS - 1], 'z');
    assert_int_equal(next(&h), 'z');
    for (int i = 0; i < 2 * LOBBY_SEATS; i++)
        tcp_close(silent[i]);
    close_house(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_speaks_is_served),
        cmocka_unit_test(test_silent_clients_keep_nobody_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
