/*
 * Processes that are killed (SIGKILL, from within, so that nothing is cleaned up): prepared material
 * is never used twice, whenever it happens.
 *
 * One party runs in a process of its own that dies at its k-th call of the transport, for every k
 * until it lives to the end: this includes the moment between taking a bundle and the first byte that
 * depends on it. The other party is as careless as can be, it restores its copies after every life, so
 * that only the files of the killed one protect. A third test kills at random times within a claim.
 */
#include "tests/two_parties.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "tests/plain_relu.h"
#include "runtime/crypto/store.h"
#include "runtime/net/tcp.h"

#define SECONDS 30
#define BUNDLES 64 /* more than there are moments to die at */

/* ---- dying at a call, keeping what arrives ------------------------------------------------ */

struct spy {
    struct transport inner;
    int64_t left; /* calls until death; below 0: none */
    uint8_t head[4][80];
    int heads; /* messages that arrived; the first ones are kept */
};

static void live_on(struct spy *s)
{
    if (s->left > 0 && --s->left == 0)
        kill(getpid(), SIGKILL);
}

static int spy_send(void *ctx, const void *bytes, size_t n)
{
    live_on(ctx);
    return transport_send(&((struct spy *)ctx)->inner, bytes, n);
}

static int spy_recv(void *ctx, void *bytes, size_t n)
{
    struct spy *s = ctx;

    live_on(s);
    TRY(transport_recv(&s->inner, bytes, n));
    if (s->heads < 3)
        memcpy(s->head[s->heads], bytes, n < sizeof *s->head ? n : sizeof *s->head);
    s->heads++;
    return 0;
}

static int spy_flush(void *ctx)
{
    live_on(ctx);
    return transport_flush(&((struct spy *)ctx)->inner);
}

static void spy_close(void *ctx)
{
    transport_close(&((struct spy *)ctx)->inner);
}

static void spy_wrap(struct spy *s, struct tcp *tcp, struct transport *out)
{
    tcp_transport(tcp, &s->inner);
    *out = (struct transport){spy_send, spy_recv, spy_flush, spy_close, NULL, s, {0}, 0, 0};
}

/* ---- copies of a folder ------------------------------------------------------------------- */

struct copies {
    int n;
    struct {
        char name[STORE_NAME];
        uint8_t *bytes;
        size_t len;
    } file[BUNDLES];
};

static void copies_take(struct copies *c, const char *dir)
{
    DIR *d = opendir(dir);
    char path[SCRATCH_TEXT];

    assert_non_null(d);
    for (const struct dirent *e; (e = readdir(d)) != NULL;) {
        if (*e->d_name == '.')
            continue;
        assert_true(c->n < BUNDLES);
        snprintf(c->file[c->n].name, STORE_NAME, "%.127s", e->d_name);
        assert_int_equal(file_read(scratch_path(dir, e->d_name, path), 1 << 20,
                                   &c->file[c->n].bytes, &c->file[c->n].len),
                         0);
        c->n++;
    }
    closedir(d);
}

static void copies_restore(const struct copies *c, int i, const char *dir)
{
    char path[SCRATCH_TEXT];

    scratch_write(scratch_path(dir, c->file[i].name, path), c->file[i].bytes, c->file[i].len);
}

static void copies_free(struct copies *c)
{
    for (int i = 0; i < c->n; i++)
        mem_free(c->file[i].bytes);
}

/* ---- two parties, one of them in a process ------------------------------------------------ */

struct play {
    struct parties b;
    struct tcp_address at;
    struct tcp_listener *listener;
    struct copies client, server;
};

static void prepare_bundles(struct play *t)
{
    struct served s = {.o = parties_options(&t->b, &plain_relu, false)};
    struct party_options o = parties_options(&t->b, &plain_relu, true);
    struct transport line;
    struct party *p = NULL;

    s.o.max_bundles = BUNDLES;
    s.o.bundles = t->b.bundles_server;
    o.bundles = t->b.bundles_client;
    assert_int_equal(transport_pair(&line, &s.t), 0);
    served_start(&s);
    assert_int_equal(party_open(&o, &line, &p), 0);
    for (int i = 0; i < BUNDLES; i++)
        assert_int_equal(party_prepare(p, 1), 0);
    party_close(p);
    transport_close(&line);
    served_join(&s);
    assert_int_equal(s.rc, 0);
}

static void play_open(struct play *t)
{
    memset(t, 0, sizeof *t);
    cpu_set_threads(1); /* a fork takes no threads along */
    parties_open(&t->b, 16, 0, 3);
    prepare_bundles(t);
    copies_take(&t->client, t->b.bundles_client);
    copies_take(&t->server, t->b.bundles_server);
    assert_int_equal(t->client.n, BUNDLES);
    assert_int_equal(t->server.n, BUNDLES);
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &t->at), 0);
    assert_int_equal(tcp_listen(&t->at, &t->listener), 0);
    snprintf(t->at.port, sizeof t->at.port, "%d", tcp_listener_port(t->listener));
}

static void play_close(struct play *t)
{
    copies_free(&t->client);
    copies_free(&t->server);
    tcp_listener_close(t->listener);
    parties_close(&t->b);
}

/* One query over a connection of its own. No assertions: this may be the process that dies. */
static int ask_once(const struct play *t, struct spy *spy)
{
    struct party_options o = parties_options(&t->b, &plain_relu, true);
    uint64_t x[PARTIES_INPUTS] = {1, 2, 3}, y[PARTIES_CLASSES];
    struct tcp *tcp = NULL;
    struct transport line;
    struct party *p = NULL;
    int rc;

    o.bundles = t->b.bundles_client;
    TRY(tcp_connect(&t->at, SECONDS, &tcp));
    spy_wrap(spy, tcp, &line);
    if ((rc = party_open(&o, &line, &p)) == 0)
        rc = party_query(p, x, y);
    party_close(p);
    transport_close(&line);
    return rc;
}

static int serve_once(const struct play *t, struct spy *spy)
{
    struct party_options o = parties_options(&t->b, &plain_relu, false);
    struct tcp *tcp = NULL;
    struct transport line;
    struct party *p = NULL;
    int rc;

    o.bundles = t->b.bundles_server;
    TRY(tcp_accept(t->listener, SECONDS, NULL, NULL, &tcp));
    spy_wrap(spy, tcp, &line);
    if ((rc = party_open(&o, &line, &p)) == 0)
        while ((rc = party_answer(p, NULL, NULL)) > 0)
            ;
    party_close(p);
    transport_close(&line);
    return rc;
}

static pid_t start(const struct play *t, int (*part)(const struct play *, struct spy *),
                   int64_t calls)
{
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct spy spy = {.left = calls};
        _exit(part(t, &spy) == 0 ? 0 : 1);
    }
    return child;
}

/* Whether it was killed. */
static bool join(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static int64_t bundles_of(const char *dir, bool client)
{
    int64_t n;

    assert_int_equal(bundle_count(dir, client, &n), 0);
    return n;
}

/* ---- tests -------------------------------------------------------------------------------- */

/* The id that a client asked for; false: it did not come so far. */
static bool id_asked(const struct spy *s, uint8_t id[BUNDLE_ID])
{
    if (s->heads < 3) /* greeting, what it wishes, request */
        return false;
    assert_int_equal(s->head[2][0], 3);
    memcpy(id, s->head[2] + 16, BUNDLE_ID);
    return true;
}

/* The server has every bundle again before every life of the client. */
static void test_a_killed_client_asks_for_no_bundle_twice(void **state)
{
    struct play t;
    uint8_t seen[BUNDLES][BUNDLE_ID];
    int n = 0, lost = 0;
    bool killed = true;

    (void)state;
    play_open(&t);
    for (int64_t k = 1; killed; k++) {
        int64_t before = bundles_of(t.b.bundles_client, true);
        struct spy spy = {.left = -1};
        pid_t child;
        bool asked;
        for (int i = 0; i < t.server.n; i++)
            copies_restore(&t.server, i, t.b.bundles_server);
        child = start(&t, ask_once, k);
        (void)!serve_once(&t, &spy);
        killed = join(child);
        asked = id_asked(&spy, seen[n]);
        for (int i = 0; asked && i < n; i++)
            assert_memory_not_equal(seen[i], seen[n], BUNDLE_ID);
        n += asked;
        lost += !asked && bundles_of(t.b.bundles_client, true) < before;
        assert_int_equal(store_sweep(t.b.bundles_client), 0);
    }
    print_message("%d bundles taken, %d asked for, each once; %d lost in between\n",
                  BUNDLES - (int)bundles_of(t.b.bundles_client, true), n, lost);
    assert_true(n > 1 && lost > 0);
    play_close(&t);
}

/* The client plays the same bundle to the next server as well. */
static void test_a_killed_server_uses_no_bundle_twice(void **state)
{
    struct play t;
    bool killed = true;
    int used = 0, refused = 0, lost = 0;

    (void)state;
    play_open(&t);
    for (int i = 0; i < t.client.n; i++) {
        char path[SCRATCH_TEXT];
        remove(scratch_path(t.b.bundles_client, t.client.file[i].name, path));
    }
    for (int k = 1; killed; k++) {
        int64_t before = bundles_of(t.b.bundles_server, false);
        struct spy first = {.left = -1}, second = {.left = -1};
        bool in_first, in_second;
        pid_t child;
        assert_true(k <= t.client.n);
        child = start(&t, serve_once, k);
        copies_restore(&t.client, k - 1, t.b.bundles_client);
        (void)!ask_once(&t, &first);
        killed = join(child);
        in_first = first.heads >= 3 && first.head[2][0] == 0;
        lost += !in_first && bundles_of(t.b.bundles_server, false) < before;
        assert_int_equal(store_sweep(t.b.bundles_server), 0);

        child = start(&t, serve_once, -1);
        copies_restore(&t.client, k - 1, t.b.bundles_client);
        (void)!ask_once(&t, &second);
        assert_false(join(child));
        in_second = second.heads >= 3 && second.head[2][0] == 0;
        assert_false(in_first && in_second);
        assert_int_equal(bundles_of(t.b.bundles_server, false), before - 1);
        used += in_first;
        refused += !in_second;
    }
    print_message(
        "%d bundles answered by a server that died, %d lost before; %d refused afterwards\n", used,
        lost, refused);
    assert_true(used > 1 && lost > 0);
    assert_int_equal(refused, used + lost);
    play_close(&t);
}

#define FILES 60
static void claim_all(const char *dir, int out)
{
    char name[STORE_NAME];
    uint8_t *bytes;
    int rc;

    while ((rc = store_next(dir, "f", ".x", name)) == 1) {
        if (store_claim(dir, name, 4, &bytes) < 0)
            continue; /* the other one has it */
        if (write(out, name, 4) != 4)
            _exit(1);
        secret_free(bytes);
    }
    _exit(rc == 0 ? 0 : 1);
}

/* Two processes at once, killed at any time, and their successors. */
static void test_killed_claims(void **state)
{
    struct rng r = rng_at(7, RNG_TEST, 0, 0);
    char dir[SCRATCH_TEXT], name[16];
    bool seen[FILES] = {false};
    int fds[2], lives = 0, used = 0;
    int64_t left = FILES;

    (void)state;
    scratch_open(dir);
    for (int i = 0; i < FILES; i++) {
        struct store_writer *w = NULL;
        snprintf(name, sizeof name, "f%02d.x", i);
        assert_int_equal(store_write(dir, name, &w), 0);
        assert_int_equal(store_append(w, name, 4), 0);
        assert_int_equal(store_commit(&w), 0);
    }
    assert_int_equal(pipe(fds), 0);
    for (; left > 0; lives++) {
        struct timespec pause = {0, (long)(rng_u32(&r) % 30000000)};
        pid_t child[2];
        for (int i = 0; i < 2; i++)
            if ((child[i] = fork()) == 0)
                claim_all(dir, fds[1]);
        nanosleep(&pause, NULL);
        for (int i = 0; i < 2; i++) {
            kill(child[i], SIGKILL);
            (void)join(child[i]);
        }
        assert_int_equal(store_sweep(dir), 0);
        assert_int_equal(store_count(dir, "f", ".x", &left), 0);
    }
    close(fds[1]);
    for (char text[5] = {0}; read(fds[0], text, 4) == 4; used++) {
        int i = (text[1] - '0') * 10 + text[2] - '0';
        assert_in_range(i, 0, FILES - 1);
        assert_false(seen[i]);
        seen[i] = true;
    }
    close(fds[0]);
    print_message("%d lives of two, %d of %d files used, each once\n", lives, used, FILES);
    scratch_close(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_killed_client_asks_for_no_bundle_twice),
        cmocka_unit_test(test_a_killed_server_uses_no_bundle_twice),
        cmocka_unit_test(test_killed_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
