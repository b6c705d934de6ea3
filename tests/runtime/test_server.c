/*
 * The whole server, in a process of its own, on sockets: many clients at once with exactly the logits of
 * sim2pc; connections whose bytes change on the way, below TLS and without it; memory and descriptors that
 * stay what they were. LINNET_LONG=1 takes the full counts; LINNET_SHARE=K/N of changed connections the K-th of N
 * shares (from 0), for N processes at once.
 */
#include "runtime/serve/server.h"

#include <dirent.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "core/graph/rng.h"
#include "runtime/party/message.h"
#include "tests/two_parties.h"

#define SECONDS 60 /* longest silence */
/* And where bytes go missing, so that somebody waits in vain; an honest connection must end within it. */
#if defined __SANITIZE_ADDRESS__
#define SHORT 6
#else
#define SHORT 4
#endif
#define KEPT 8 /* ReLUs */
#define CLIENTS_MOST 64
#define ABREAST 6 /* changed connections at once */

static bool full_counts(void)
{
    const char *v = getenv("LINNET_LONG");

    return v != NULL && *v == '1';
}

/* ---- the server --------------------------------------------------------------------------- */

static volatile sig_atomic_t told_to_stop;
static void on_term(int n)
{
    (void)n;
    told_to_stop = 1;
}
static bool stop(void *ctx)
{
    (void)ctx;
    return told_to_stop != 0;
}

struct site {
    struct parties b;
    int64_t expect[PARTIES_IMAGES][PARTIES_CLASSES];
    struct tcp_address at;
    struct party_limits limits;
    char cert[SCRATCH_TEXT], key[SCRATCH_TEXT];
    uint8_t pin[SHA256_SIZE];
    struct tls_context *tls; /* of clients; NULL: plain */
    pid_t pid;
    int totals;
    double seconds; /* longest silence */
};

static void make_certificate(struct site *s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *f;

    assert_true(key != NULL && cert != NULL);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_non_null(f = fopen(scratch_path(s->b.dir, "cert", s->cert), "w"));
    assert_int_equal(PEM_write_X509(f, cert), 1);
    fclose(f);
    assert_non_null(f = fopen(scratch_path(s->b.dir, "key", s->key), "w"));
    assert_int_equal(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void be_server(struct server *s, int totals)
{
    const struct sigaction a = {.sa_handler = on_term};
    struct server_totals t;

    (void)sigaction(SIGTERM, &a, NULL);
    if (server_run(s) < 0)
        _exit(1);
    t = server_totals(s);
    _exit(write(totals, &t, sizeof t) == (ssize_t)sizeof t ? 0 : 1);
}

static void open_site(struct site *s, bool tls, double seconds, int workers)
{
    struct server_options o = {
        .seconds = seconds, .workers = workers, .max_queries = -1, .stop = stop};
    struct server *server = NULL;
    int line[2];

    memset(s, 0, sizeof *s);
    s->seconds = seconds;
    parties_open(&s->b, KEPT, 0, 3);
    parties_expect(&s->b, s->expect);
    s->limits = (struct party_limits){seconds, seconds, seconds, seconds};
    o.party = parties_options(&s->b, relu_backend_find("gc"), false);
    o.party.limits = &s->limits;
    o.budget.per_day = -1;
    if (tls) {
        make_certificate(s);
        o.tls = (struct tls_files){.cert = s->cert, .key = s->key};
    }
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &o.address), 0);
    assert_int_equal(server_open(&o, &server), 0);
    s->at = o.address;
    snprintf(s->at.port, sizeof s->at.port, "%d", server_port(server));
    if (tls) {
        const struct tls_files files = {.pin = s->pin};
        assert_int_equal(tls_identity(server_tls(server), s->pin), 0);
        assert_int_equal(tls_client(&files, &s->tls), 0);
    }
    assert_int_equal(pipe(line), 0);
    if ((s->pid = fork()) == 0)
        be_server(server, line[1]);
    close(line[1]);
    s->totals = line[0];
    server_close(server); /* the child has its own */
}

static struct server_totals close_site(struct site *s)
{
    struct server_totals t = {0};
    int status;

    kill(s->pid, SIGTERM);
    assert_int_equal(read(s->totals, &t, sizeof t), sizeof t);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(s->totals);
    tls_context_free(s->tls);
    if (*s->cert != '\0') {
        remove(s->cert);
        remove(s->key);
    }
    parties_close(&s->b);
    return t;
}

/* ---- a client ------------------------------------------------------------------------------ */

struct ask {
    const struct site *site;
    int fd; /* connected, stays open */
    int64_t images;
    int rc;
    int64_t answered, wrong;
    uint8_t refusal;
};

static int ask_images(struct ask *a, struct party *p)
{
    float image[PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];
    int64_t y[PARTIES_CLASSES];

    for (int i = 0; i < a->images; i++) {
        parties_image(i, image, x);
        TRY(party_query(p, x, (uint64_t *)y));
        a->answered++;
        a->wrong += memcmp(y, a->site->expect[i], sizeof y) != 0;
    }
    return 0;
}

static void ask(struct ask *a)
{
    struct party_options o = parties_options(&a->site->b, NULL, true);
    struct transport t = {0};
    struct party *p = NULL;
    struct tcp *tcp = NULL;

    o.tally = a->site->tls == NULL;
    o.refusal = &a->refusal;
    assert_int_equal(tcp_borrow(a->fd, a->site->seconds, &tcp), 0);
    if (a->site->tls == NULL)
        tcp_transport(tcp, &t);
    else if ((a->rc = tls_transport(a->site->tls, tcp, "127.0.0.1", &t)) < 0) {
        tcp_close(tcp);
        return;
    }
    if ((a->rc = party_open(&o, &t, &p)) == 0)
        a->rc = ask_images(a, p);
    party_close(p);
    transport_close(&t);
}

static int reach(const struct site *s)
{
    struct tcp *tcp = NULL;
    int fd;

    assert_int_equal(tcp_connect(&s->at, SECONDS, &tcp), 0);
    fd = dup(tcp_fd(tcp));
    tcp_close(tcp);
    return fd;
}

static void assert_serves(const struct site *s)
{
    struct ask a = {.site = s, .fd = reach(s), .images = 2};

    ask(&a);
    close(a.fd);
    if (a.rc < 0)
        fail_msg("%s", err_message());
    assert_true(a.answered == 2 && a.wrong == 0);
}

/* ---- many clients --------------------------------------------------------------------------- */

struct visitor {
    const struct site *site;
    int64_t queries, answered, wrong, failed;
    pthread_t thread;
};

static void *visit(void *arg)
{
    struct visitor *v = arg;

    while (v->answered < v->queries && v->failed < 20) {
        struct ask a = {.site = v->site, .images = PARTIES_IMAGES};
        if (a.images > v->queries - v->answered)
            a.images = v->queries - v->answered;
        a.fd = reach(v->site);
        ask(&a);
        close(a.fd);
        v->answered += a.answered;
        v->wrong += a.wrong;
        v->failed +=
            a.rc < 0 && a.refusal != REFUSED_BUSY; /* then it comes again, as --retry does */
        if (a.rc < 0)
            nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    }
    return NULL;
}

/* A round of clients; all of them must be served. */
static void visit_all(const struct site *s, int clients, int64_t queries)
{
    struct visitor v[CLIENTS_MOST];

    for (int i = 0; i < clients; i++) {
        v[i] = (struct visitor){.site = s, .queries = queries};
        assert_int_equal(pthread_create(&v[i].thread, NULL, visit, &v[i]), 0);
    }
    for (int i = 0; i < clients; i++)
        pthread_join(v[i].thread, NULL);
    for (int i = 0; i < clients; i++)
        assert_true(v[i].answered == queries && v[i].wrong == 0 && v[i].failed == 0);
}

struct use {
    long kilobytes, descriptors;
};

/* Zeros: a process that is gone. */
static struct use use_of(pid_t pid)
{
    struct use u = {0};
    char path[64], line[256];
    FILE *f;
    DIR *d;

    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    if ((f = fopen(path, "r")) == NULL)
        return u;
    while (fgets(line, sizeof line, f) != NULL)
        (void)sscanf(line, "VmRSS: %ld kB", &u.kilobytes);
    fclose(f);
    snprintf(path, sizeof path, "/proc/%ld/fd", (long)pid);
    if ((d = opendir(path)) == NULL)
        return u;
    while (readdir(d) != NULL)
        u.descriptors++;
    closedir(d);
    return u;
}

/* The largest of each while the watch lasts: the accepting process, and those that serve a client. */
struct watch {
    pid_t pid;
    struct use server, worker;
    int workers;
    atomic_bool over;
    pthread_t thread;
};

static void keep_largest(struct use *most, struct use u)
{
    most->kilobytes = u.kilobytes > most->kilobytes ? u.kilobytes : most->kilobytes;
    most->descriptors = u.descriptors > most->descriptors ? u.descriptors : most->descriptors;
}

static void *watch(void *arg)
{
    struct watch *w = arg;
    char path[64];

    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)w->pid, (long)w->pid);
    while (!w->over) {
        FILE *f = fopen(path, "r");
        int workers = 0;
        long child;
        while (f != NULL && fscanf(f, "%ld", &child) == 1) {
            keep_largest(&w->worker, use_of((pid_t)child));
            workers++;
        }
        if (f != NULL)
            fclose(f);
        w->workers = workers > w->workers ? workers : w->workers;
        keep_largest(&w->server, use_of(w->pid));
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return NULL;
}

/* A round of clients under watch, and the server when the last of them is gone. */
static struct use visit_watched(const struct site *s, int clients, int64_t queries, int round,
                                struct watch *w)
{
    const double start = cpu_seconds();

    *w = (struct watch){.pid = s->pid};
    assert_int_equal(pthread_create(&w->thread, NULL, watch, w), 0);
    visit_all(s, clients, queries);
    w->over = true;
    pthread_join(w->thread, NULL);
    nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL); /* the last children end */
    struct use after = use_of(s->pid);
    printf(
        "after %lld queries (%.0f s): server %ld kB, %ld descriptors (at most %ld, %ld); of at most %d workers the largest %ld kB, %ld descriptors\n",
        (long long)((round + 1) * clients * queries), cpu_seconds() - start, after.kilobytes,
        after.descriptors, w->server.kilobytes, w->server.descriptors, w->workers,
        w->worker.kilobytes, w->worker.descriptors);
    fflush(stdout);
    return after;
}

static void test_many_clients(void **state)
{
    const int clients = full_counts() ? 40 : 8;
    const int64_t queries = full_counts() ? 50 : 6;
    const int rounds = full_counts() ? 10 : 2;
    struct site s;
    struct watch early, late;
    struct use first, last;
    struct server_totals t;

    (void)state;
    open_site(&s, false, full_counts() ? 600 : SECONDS, 4); /* at the lowest priority */
    first = visit_watched(&s, clients, queries, 0, &early);
    for (int i = 1; i < rounds; i++)
        last = visit_watched(&s, clients, queries, i, &late);
    t = close_site(&s);
    printf("%lld queries of %d clients: %ld -> %ld kB, %ld -> %ld descriptors\n",
           (long long)t.queries, clients, first.kilobytes, last.kilobytes, first.descriptors,
           last.descriptors);
    assert_int_equal(t.queries, clients * queries * rounds);
    assert_int_equal(t.crashed + t.lost + t.strikes, 0);
    assert_true(last.kilobytes <= first.kilobytes + 1024);
    assert_int_equal(last.descriptors, first.descriptors);
    assert_true(late.worker.kilobytes <= early.worker.kilobytes + 2048);
    assert_true(late.worker.descriptors <= early.worker.descriptors + CLIENTS_MOST);
}

/* ---- bytes that change on the way ----------------------------------------------------------- */

enum change { FLIP, DROP, INSERT, CUT, CHANGES };
struct line {
    int end[2], server; /* the client has end[0] */
    int direction;      /* 0: of the client */
    int64_t at, carried[2];
    enum change change;
    uint8_t mask;
    bool changed, stop;
    pthread_t thread;
};

/* false: the line is cut. */
static bool change(struct line *l, uint8_t *bytes, size_t *n)
{
    size_t i = (size_t)(l->at - l->carried[l->direction]);

    l->changed = true;
    if (l->change == FLIP)
        bytes[i] ^= l->mask;
    if (l->change == DROP)
        memmove(bytes + i, bytes + i + 1, *n - i - 1);
    if (l->change == INSERT)
        memmove(bytes + i + 1, bytes + i, *n - i);
    *n = *n + (l->change == INSERT) - (l->change == DROP);
    return l->change != CUT;
}

static bool put_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t put = send(fd, bytes, n, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        bytes += put;
        n -= (size_t)put;
    }
    return true;
}

static bool carry(struct line *l, int direction, int from, int to)
{
    uint8_t bytes[16385];
    ssize_t got = recv(from, bytes, sizeof bytes - 1, 0);
    size_t n = got > 0 ? (size_t)got : 0;

    if (got <= 0)
        return false;
    if (direction == l->direction && !l->changed && l->at < l->carried[direction] + got &&
        !change(l, bytes, &n))
        return false;
    l->carried[direction] += got;
    return put_all(to, bytes, n);
}

static void *pump(void *arg)
{
    struct line *l = arg;
    bool open = true;

    while (open) {
        struct pollfd p[2] = {{l->end[1], POLLIN, 0}, {l->server, POLLIN, 0}};
        if (poll(p, 2, -1) < 0)
            break;
        if (p[0].revents != 0)
            open = carry(l, 0, l->end[1], l->server);
        if (open && p[1].revents != 0)
            open = carry(l, 1, l->server, l->end[1]);
    }
    shutdown(l->end[1], SHUT_RDWR);
    close(l->server);
    return NULL;
}

/* One image over a line. */
static struct ask over(const struct site *s, struct line *l)
{
    struct ask a = {.site = s, .images = 1};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, l->end), 0);
    l->server = reach(s);
    assert_int_equal(fcntl(l->server, F_SETFL, fcntl(l->server, F_GETFL) & ~O_NONBLOCK), 0);
    assert_int_equal(pthread_create(&l->thread, NULL, pump, l), 0);
    a.fd = l->end[0];
    ask(&a);
    shutdown(l->end[0], SHUT_RDWR);
    pthread_join(l->thread, NULL);
    close(l->end[0]);
    close(l->end[1]);
    return a;
}

/* Connections first ... *end - 1 of n are this process's. */
static int share_of(int n, int *end)
{
    const char *v = getenv("LINNET_SHARE");
    int k = 0, of = 1;

    if (v != NULL && (sscanf(v, "%d/%d", &k, &of) != 2 || of < 1 || k < 0 || k >= of))
        fail_msg("LINNET_SHARE=%s", v);
    *end = n * (k + 1) / of;
    return n * k / of;
}

/* One changed connection; several are under way at once, because many wait in vain for bytes that are gone. */
struct trip {
    const struct site *site;
    struct line line;
    struct ask ask;
    double seconds;
    pthread_t thread;
};

static void *travel(void *arg)
{
    struct trip *t = arg;
    const double start = cpu_seconds();

    t->ask = over(t->site, &t->line);
    t->seconds = cpu_seconds() - start;
    return NULL;
}

/* Change number i. carried: bytes of either direction that count. Half of the changes lie in the first
 * kilobytes, where the greetings are. */
static struct line draw_line(bool tls, int i, const int64_t carried[2])
{
    struct rng r = rng_at(5, RNG_TEST, tls, (uint64_t)i);
    struct line l = {.direction = (int)rng_below(&r, 2),
                     .change = (enum change)rng_below(&r, CHANGES),
                     .mask = (uint8_t)(1u << rng_below(&r, 8))};
    const int64_t most = carried[l.direction];

    l.at = rng_below(&r, (uint32_t)(rng_below(&r, 2) && most > 2048 ? 2048 : most));
    return l;
}

static void check_changes(bool tls)
{
    int end, first = share_of(full_counts() ? 500 : 24, &end);
    const int n = end - first;
    struct line clean = {.direction = -1};
    struct trip trip[ABREAST];
    struct site s;
    struct server_totals t;
    int accepted = 0, wrong = 0, changed = 0;
    double longest = 0;

    open_site(&s, tls, SHORT, ABREAST);
    struct ask a = over(&s, &clean);
    assert_true(a.rc == 0 && a.answered == 1 && a.wrong == 0);
    /* what comes after the answer (goodbye; TLS says it too) changes nothing */
    clean.carried[0] -= 32 + (tls ? 200 : 0);
    for (int i = first; i < end; i += ABREAST) {
        const int abreast = end - i < ABREAST ? end - i : ABREAST;
        for (int k = 0; k < abreast; k++) {
            trip[k] = (struct trip){.site = &s, .line = draw_line(tls, i + k, clean.carried)};
            assert_int_equal(pthread_create(&trip[k].thread, NULL, travel, &trip[k]), 0);
        }
        for (int k = 0; k < abreast; k++) {
            const struct trip *p = &trip[k];
            pthread_join(trip[k].thread, NULL);
            longest = p->seconds > longest ? p->seconds : longest;
            changed += p->line.changed;
            accepted += p->line.changed && p->ask.rc == 0;
            wrong += p->ask.wrong > 0;
        }
    }
    assert_serves(&s);
    t = close_site(&s);
    printf(
        "%s: %d of %d connections changed, %d answers accepted, %d of them wrong, %lld crashed, longest %.1f s\n",
        tls ? "TLS" : "plain", changed, n, accepted, wrong, (long long)t.crashed, longest);
    assert_int_equal(wrong, 0);
    assert_int_equal(t.crashed, 0);
    assert_true(changed > n * 3 / 4);
    assert_true(longest < 2 * SECONDS + 10);
    if (tls) /* without it a changed byte that decides nothing is no reason to refuse a right answer */
        assert_int_equal(accepted, 0);
}

static void test_changed_bytes_in_tls(void **state)
{
    (void)state;
    check_changes(true);
}

static void test_changed_bytes_without(void **state)
{
    (void)state;
    check_changes(false);
}

/* argument: a pattern, for some of the tests (test_changed*). */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_clients),
        cmocka_unit_test(test_changed_bytes_in_tls),
        cmocka_unit_test(test_changed_bytes_without),
    };
    cpu_set_threads(1); /* server_run forks: nothing may have run in parallel before */
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
