/*
 * A whole server, in a process of its own, and clients that cheat, leave or refuse to open (red case R7 and
 * the online half of R5, R6): what they are charged, what is a strike, who is banned.
 */
#include "runtime/serve/server.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/cpu.h"
#include "runtime/crypto/store.h"
#include "runtime/party/message.h"
#include "tests/two_parties.h"

#define KEPT 4
#define SECONDS 60
#if defined __SANITIZE_ADDRESS__
#define STUCK 20 /* honest work must end within it, also where it takes many times as long */
#else
#define STUCK 8
#endif
#define CHARGED 2 /* images of a round here: two lots of one */

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
    int64_t expected[PARTIES_IMAGES][PARTIES_CLASSES];
    struct covert_rules rules;
    struct party_limits limits;
    struct tcp_address at;
    char ledger[SCRATCH_TEXT];
    pid_t pid;
    uint8_t refusal;
    double most; /* these three before open_site; else 0 */
    bool label;
    int64_t per_day; /* 0: any number */
};

static void open_site_for(struct site *s, bool covert, uint32_t wait, int workers)
{
    const struct sigaction a = {.sa_handler = on_term};
    struct server_options o = {
        .seconds = SECONDS, .workers = workers, .max_queries = -1, .stop = stop};
    struct server *server = NULL;

    const double most = s->most;
    const bool label = s->label;
    const int64_t per_day = s->per_day == 0 ? -1 : s->per_day;

    memset(s, 0, sizeof *s);
    parties_open(&s->b, KEPT, 0, 3);
    parties_expect(&s->b, s->expected);
    s->rules = (struct covert_rules){2, 1, 1, wait, 0};
    s->limits = (struct party_limits){SECONDS, SECONDS, SECONDS, SECONDS};
    o.party = parties_options(&s->b, &relu_gc, false);
    o.party.limits = &s->limits;
    o.party.bundles = s->b.bundles_server;
    o.party.max_bundles = 64;
    o.party.covert = covert ? &s->rules : NULL;
    o.party.label = label;
    o.budget = (struct ledger_rules){per_day, 0, 1};
    o.most = most;
    o.ledger = scratch_path(s->b.dir, "ledger", s->ledger);
    assert_int_equal(tcp_address_parse("127.0.0.1:0", &o.address), 0);
    assert_int_equal(server_open(&o, &server), 0);
    s->at = o.address;
    snprintf(s->at.port, sizeof s->at.port, "%d", server_port(server));
    if ((s->pid = fork()) == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no server behind */
        (void)sigaction(SIGTERM, &a, NULL);
        _exit(server_run(server) < 0 ? 1 : 0);
    }
    server_close(server);
}

static void open_site(struct site *s, bool covert, uint32_t wait)
{
    open_site_for(s, covert, wait, 2);
}

/* What the ledger says of clients without a certificate. */
static struct ledger *end_site(struct site *s)
{
    const struct ledger_rules rules = {-1, 0, 1};
    struct ledger *l = NULL;
    int status;

    kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(ledger_open(s->ledger, &rules, (double)time(NULL), &l), 0);
    return l;
}

static void check_site(struct site *s, int64_t begun, int64_t strikes)
{
    static const uint8_t nobody[LEDGER_ID];
    struct ledger *l = end_site(s);

    assert_int_equal(ledger_begun(l, nobody, (double)time(NULL)), begun);
    assert_int_equal(ledger_strikes(l, nobody), strikes);
    assert_int_equal(ledger_banned(l, nobody), strikes > 0);
    ledger_close(l);
    remove(s->ledger);
    parties_close(&s->b);
}

/* ---- clients ------------------------------------------------------------------------------ */

/* Ends the line when the server has sent so many messages; -1: never. */
struct cut {
    struct transport inner;
    int left;
    size_t n;    /* counts messages of this length alone; 0: all */
    bool slams;  /* closes at once, without goodbye, when its seeds are sent */
    bool chosen; /* the server's choice is there */
    struct tcp *tcp;
    void (*arrive)(void); /* called at each message; NULL: nothing */
};

/* The kernel then answers what still comes with a reset. */
static int slam(struct cut *c)
{
    const struct linger hard = {.l_onoff = 1, .l_linger = 0};

    TRY(transport_flush(&c->inner));
    assert_int_equal(setsockopt(tcp_fd(c->tcp), SOL_SOCKET, SO_LINGER, &hard, sizeof hard), 0);
    return ERR_NET;
}

static int cut_send(void *ctx, const void *bytes, size_t n)
{
    struct cut *c = ctx;

    TRY(transport_send(&c->inner, bytes, n));
    return c->slams && c->chosen && n == COVERT_SEED ? slam(c) : 0;
}
static int cut_recv(void *ctx, void *bytes, size_t n)
{
    struct cut *c = ctx;

    if ((c->n == 0 || n == c->n) && c->left >= 0 && c->left-- == 0)
        return ERR_NET;
    if (c->arrive != NULL)
        c->arrive();
    c->chosen = c->chosen || n == COVERT_CHOICE;
    return transport_recv(&c->inner, bytes, n);
}
static int cut_flush(void *ctx)
{
    return transport_flush(&((struct cut *)ctx)->inner);
}
static void cut_close(void *ctx)
{
    transport_close(&((struct cut *)ctx)->inner);
}

struct visit {
    struct party_options o;
    struct cut cut;
    struct transport t;
    struct party *p;
};

static int visit(struct site *s, struct visit *v, const struct relu_backend *relu)
{
    struct tcp *tcp = NULL;

    v->o = parties_options(&s->b, relu, true);
    v->o.bundles = s->b.bundles_client;
    v->o.tally = true;
    v->o.refusal = &s->refusal;
    v->p = NULL;
    assert_int_equal(tcp_connect(&s->at, SECONDS, &tcp), 0);
    tcp_transport(tcp, &v->cut.inner);
    v->cut.tcp = tcp;
    v->t = (struct transport){
        .send = cut_send, .recv = cut_recv, .flush = cut_flush, .close = cut_close, .ctx = &v->cut};
    return party_open(&v->o, &v->t, &v->p);
}

static void end(struct visit *v)
{
    party_close(v->p);
    transport_close(&v->t);
}

static int ask(struct visit *v, int image, uint64_t y[PARTIES_CLASSES])
{
    float real[PARTIES_INPUTS];
    uint64_t x[PARTIES_INPUTS];

    parties_image(image, real, x);
    return party_query(v->p, x, y);
}

static bool is_banned(struct site *s)
{
    struct visit v = {.cut.left = -1};
    int rc = visit(s, &v, NULL);

    end(&v);
    return rc < 0 && s->refusal == REFUSED_BANNED;
}

/* Within some seconds: a server looks at its rounds every now and then. */
static bool becomes_banned(struct site *s)
{
    for (int i = 0; i < 600; i++) {
        if (is_banned(s))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    return false;
}

static int prepare(struct site *s, int left, size_t n)
{
    struct visit v = {.cut = {.left = left, .n = n}};
    int64_t made;
    int rc = visit(s, &v, NULL);

    if (rc == 0)
        rc = party_round(v.p, &made);
    end(&v);
    return rc;
}

static void test_an_honest_client(void **state)
{
    struct site s = {.most = 0};
    struct visit v = {.cut.left = -1};
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    open_site(&s, true, 100);
    for (int i = 0; i < 3; i++)
        assert_int_equal(prepare(&s, -1, 0), 0);
    assert_int_equal(visit(&s, &v, NULL), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ask(&v, i, y), 0);
    end(&v);
    assert_false(is_banned(&s));
    check_site(&s, 3 * CHARGED + 3, 0);
}

/* Up to the choice nobody can tell it from a lost line: charged, no strike. */
static void test_leaving_before_the_choice_is_charged(void **state)
{
    struct site s = {.most = 0};
    int64_t charged = 0;

    (void)state;
    open_site(&s, true, 100);
    for (int i = 3; i < 60; i += 8) { /* after greeting, ways and answer */
        int64_t kept;
        assert_true(prepare(&s, i, 0) < 0);
        assert_int_equal(store_count(s.b.bundles_client, "round-", "", &kept), 0);
        assert_true(kept == 0 || i > 3); /* nobody will ask for a first lot that was cut off */
        charged += CHARGED;
    }
    assert_int_equal(prepare(&s, -1, 0), 0);
    check_site(&s, charged + CHARGED, 0);
}

static void test_who_does_not_open_is_banned(void **state)
{
    struct site s = {.most = 0};
    int64_t n;

    (void)state;
    open_site(&s, true, 1);
    assert_true(prepare(&s, 0, 2) < 0); /* does not read the choice */
    assert_true(becomes_banned(&s));
    assert_int_equal(store_count(s.b.bundles_server, "evidence-", "", &n), 0);
    assert_int_equal(n, 1);
    check_site(&s, CHARGED, 1);
}

/* Before anything else is prepared. It costs nothing: a budget that is used up does not keep anybody from it. */
static void test_what_is_not_opened_stands_first(void **state)
{
    struct site s = {.per_day = 2 * CHARGED};
    struct visit v = {.cut.left = -1};
    int64_t made;

    (void)state;
    open_site(&s, true, 100);
    assert_int_equal(prepare(&s, -1, 0), 0);
    assert_true(prepare(&s, 0, 2) < 0); /* does not read the choice */
    assert_true(prepare(&s, -1, 0) < 0);
    assert_int_equal(s.refusal, REFUSED_OWES);
    assert_int_equal(visit(&s, &v, NULL), 0);
    assert_int_equal(party_open_rounds(v.p, &made), 0);
    assert_int_equal(made, 1);
    end(&v);
    assert_true(prepare(&s, -1, 0) < 0);
    assert_int_equal(s.refusal, REFUSED_SPENT);
    check_site(&s, 2 * CHARGED, 0);
}

static struct {
    pthread_mutex_t lock;
    bool other_done;
    _Atomic int messages;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool other_is_done(void)
{
    pthread_mutex_lock(&held.lock);
    bool done = held.other_done;
    pthread_mutex_unlock(&held.lock);
    return done;
}

/* In the middle of a lot, until the other one is done, or for long enough for that. */
static void hold(void)
{
    if (++held.messages != 12)
        return;
    for (int i = 0; i < 150 && !other_is_done(); i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    held.messages += other_is_done() ? 1000 : 0;
}

static void *make_another(void *arg)
{
    struct site *s = arg;
    int rc;

    while (held.messages < 8)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    rc = prepare(s, -1, 0);
    pthread_mutex_lock(&held.lock);
    held.other_done = true;
    pthread_mutex_unlock(&held.lock);
    return rc == 0 ? s : NULL;
}

/* Rounds at the same time would all be chosen from before the first cheat is punished. */
static void test_one_round_at_a_time(void **state)
{
    struct site s = {.most = 0}, other;
    struct visit v = {.cut = {.left = -1, .arrive = hold}};
    pthread_t thread;
    int64_t made;
    void *well = NULL;

    (void)state;
    open_site_for(&s, true, 100, 4);
    other = s;
    assert_int_equal(pthread_create(&thread, NULL, make_another, &other), 0);
    assert_int_equal(visit(&s, &v, NULL), 0);
    assert_int_equal(party_round(v.p, &made), 0);
    assert_true(held.messages < 1000);
    end(&v);
    pthread_join(thread, &well);
    assert_non_null(well);
    check_site(&s, 2 * CHARGED, 0);
}

/* Choice bits, and f, of another u in every lot. */
static int evil_offline(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                        const uint64_t *r, struct tape *state)
{
    const size_t n = (size_t)(b->n * b->payloads);
    uint64_t *other = mem_array(n, sizeof *other);
    int rc;

    assert_non_null(other);
    memcpy(other, u, n * sizeof *other);
    other[0]++;
    rc = relu_gc.offline_client(p, b, other, r, state);
    mem_free(other);
    return rc;
}

/* Who is caught is banned, whether it waits to hear it or is gone. */
static void caught_in_round(bool slams)
{
    struct relu_backend evil = relu_gc;
    struct site s = {.most = 0};
    struct visit v = {.cut = {.left = -1, .slams = slams}};
    int64_t made;

    evil.offline_client = evil_offline;
    open_site(&s, true, 100);
    assert_int_equal(visit(&s, &v, &evil), 0);
    assert_true(party_round(v.p, &made) < 0);
    end(&v);
    assert_true(becomes_banned(&s));
    check_site(&s, CHARGED, 1);
}

static void test_who_is_caught_is_banned(void **state)
{
    (void)state;
    caught_in_round(false);
    caught_in_round(true);
}

/* ---- errors online ------------------------------------------------------------------------- */

/* The client's result of one place becomes larger by d, in the event `at`: what MUSE-like extraction does. */
static struct {
    uint64_t event, d;
    int64_t place;
} error;

static pid_t stuck; /* the server whose process is stopped within a query; 0: none */
static pid_t child_of(pid_t parent);

static int stopping_online(struct transport *t, const struct relu_batch *b, struct tape *state,
                           uint64_t at)
{
    if (stuck != 0)
        kill(child_of(stuck), SIGSTOP);
    stuck = 0;
    return relu_gc.online_client(t, b, state, at);
}

static int evil_online(struct transport *t, const struct relu_batch *b, struct tape *state,
                       uint64_t at)
{
    const size_t n = (size_t)b->n, m = (size_t)b->width;
    uint8_t *share =
        tape_bytes(state) + at + n * 16 * (m + 2 * (m - 1)) + (2 * n + (size_t)error.place) * 8;
    uint64_t r;

    if ((b->tweak & 0xfffff) == error.event) {
        memcpy(&r, share, sizeof r);
        r -= error.d;
        memcpy(share, &r, sizeof r);
    }
    return relu_gc.online_client(t, b, state, at);
}

static struct relu_backend evil_gc(void)
{
    struct relu_backend k = relu_gc;

    k.online_client = evil_online;
    return k;
}

/* The last batch before the linear layer that is read out: the second level of the max pool. */
static uint64_t last_batch(const struct site *s)
{
    struct schedule *e = NULL;
    uint64_t last = 0;

    assert_int_equal(schedule_new(s->b.plan, false, &e), 0);
    for (int32_t i = 0; i < e->n; i++)
        if (e->event[i].kind == EVENT_SELECT)
            last = (uint64_t)i;
    schedule_free(e);
    return last;
}

#define CHANNELS 4
#define PLACES 16 /* a channel has 4 of the max pool, summed up */

/* y of image 0 with an error; *rc of the query. */
static int with_error(struct site *s, struct visit *v, int channel, uint64_t d,
                      uint64_t y[PARTIES_CLASSES])
{
    error.event = last_batch(s);
    error.place = channel * (PLACES / CHANNELS);
    error.d = d;
    return ask(v, 0, y);
}

/* Where clients are trusted, the last layer's weights come out of five queries. */
static void test_extraction_where_clients_are_trusted(void **state)
{
    const struct relu_backend evil = evil_gc();
    const uint64_t d = UINT64_C(1) << 24;
    struct site s = {.most = 0};
    struct visit v = {.cut.left = -1};
    uint64_t plain[PARTIES_CLASSES], y[PARTIES_CLASSES];
    int right = 0;

    (void)state;
    open_site(&s, false, 100);
    assert_int_equal(visit(&s, &v, &evil), 0);
    assert_int_equal(party_prepare(v.p, 1 + CHANNELS), 0);
    assert_int_equal(with_error(&s, &v, 0, 0, plain), 0);
    for (int c = 0; c < CHANNELS; c++) {
        assert_int_equal(with_error(&s, &v, c, d, y), 0);
        for (int k = 0; k < PARTIES_CLASSES; k++) {
            const struct plan_matrix *m = &s.b.weights->matrix[s.b.plan->n_step - 1];
            int64_t found = ((int64_t)(y[k] - plain[k]) + 2048) >> 12; /* d / 2^12 */
            right += found == m->weight[k * m->columns + c];
        }
    }
    end(&v);
    printf("%d of %d weights\n", right, CHANNELS * PARTIES_CLASSES);
    assert_int_equal(right, CHANNELS * PARTIES_CLASSES);
    check_site(&s, 2 * (1 + CHANNELS), 0);
}

/* In covert mode the first error ends the query in its layer, and the client is banned: nothing came out.
 * It does not help to close the line at once. */
static void test_extraction_is_stopped(void **state)
{
    const struct relu_backend evil = evil_gc();
    struct site s = {.most = 0};
    struct visit v = {.cut.left = -1};
    uint64_t y[PARTIES_CLASSES] = {0};

    (void)state;
    open_site(&s, true, 100);
    assert_int_equal(prepare(&s, -1, 0), 0);
    assert_int_equal(visit(&s, &v, &evil), 0);
    v.cut = (struct cut){.inner = v.cut.inner, .left = 0, .n = PARTIES_CLASSES * 8};
    assert_true(with_error(&s, &v, 1, 1, y) < 0);
    assert_int_equal(y[0] | y[1] | y[2], 0);
    end(&v);
    assert_true(becomes_banned(&s));
    check_site(&s, CHARGED + 1, 1);
}

/* ---- the same of a server that reveals no more than labels ------------------------------------ */

#define LOT 16 /* bundles that are made when there is none left */
#define LEAST 12
#define MOST 26 /* errors, powers of 2; the last digits of logits are noise below them */

struct oracle {
    struct site *s;
    struct visit *v;
    int left, asked;
};

/* Of image 0, with error d in a channel. */
static int label_with(struct oracle *o, int channel, int64_t d)
{
    uint64_t y[PARTIES_CLASSES] = {0};

    if (o->left == 0) {
        assert_int_equal(party_prepare(o->v->p, LOT), 0);
        o->left = LOT;
        o->asked += LOT;
    }
    o->left--;
    o->asked++;
    assert_int_equal(with_error(o->s, o->v, channel, (uint64_t)d, y), 0);
    return (int)y[0];
}

/* The error of that sign at which the label changes, to the class *to; 0: none is small enough. */
static int64_t flip_at(struct oracle *o, int first, int channel, int sign, int *to)
{
    int64_t low, high = (int64_t)1 << LEAST;

    while ((*to = label_with(o, channel, sign * high)) == first)
        if ((high *= 2) > (int64_t)1 << MOST)
            return 0;
    for (low = high / 2; high - low > high / 128;) {
        int64_t middle = (low + high) / 2;
        int label = label_with(o, channel, sign * middle);
        if (label == first) {
            low = middle;
        } else {
            high = middle;
            *to = label;
        }
    }
    return sign * high;
}

/* The smaller of the errors of either sign: the other one may be where a comparison leaves its width. */
static int64_t nearest_flip(struct oracle *o, int first, int channel, int *to)
{
    int below, above;
    int64_t down = flip_at(o, first, channel, -1, &below);
    int64_t up = flip_at(o, first, channel, 1, &above);
    bool is_up = down == 0 || (up != 0 && up < -down);

    *to = is_up ? above : below;
    return is_up ? up : down;
}

/* Labels flip from class A to B where (w_B - w_A) d is the distance of their logits: so the differences of the
 * last layer's weights come out, up to a factor a pair of classes. */
static void test_label_extraction_where_clients_are_trusted(void **state)
{
    const struct relu_backend evil = evil_gc();
    struct site s = {.label = true};
    struct visit v = {.cut.left = -1};
    struct oracle o = {.s = &s, .v = &v};
    double factor[PARTIES_CLASSES] = {0};
    int compared = 0, right = 0, first, to;

    (void)state;
    open_site(&s, false, 100);
    assert_int_equal(visit(&s, &v, &evil), 0);
    const struct plan_matrix *m = &s.b.weights->matrix[s.b.plan->n_step - 1];
    first = label_with(&o, 0, 0);
    for (int c = 0; c < CHANNELS; c++) {
        int64_t d = nearest_flip(&o, first, c, &to);
        double truth = m->weight[to * m->columns + c] - m->weight[first * m->columns + c];

        assert_true(d != 0);
        if (factor[to] == 0) { /* the scale of the pair */
            factor[to] = truth * (double)d;
            continue;
        }
        compared++;
        right += fabs(factor[to] / (double)d - truth) < 0.02 * fabs(truth);
    }
    end(&v);
    printf("%d of %d differences of weights within 2 %%, from %d requests\n", right, compared,
           o.asked);
    assert_true(compared >= 2);
    assert_int_equal(right, compared);
    check_site(&s, o.asked, 0);
}

/* In covert mode the first question ends in its layer; the label does not come, the client is banned. */
static void test_label_extraction_is_stopped(void **state)
{
    const struct relu_backend evil = evil_gc();
    struct site s = {.label = true};
    struct visit v = {.cut.left = -1};
    uint64_t y[PARTIES_CLASSES] = {77, 77, 77};

    (void)state;
    open_site(&s, true, 100);
    assert_int_equal(prepare(&s, -1, 0), 0);
    assert_int_equal(visit(&s, &v, &evil), 0);
    assert_true(with_error(&s, &v, 1, 1 << LEAST, y) < 0);
    assert_int_equal(y[0], 77);
    end(&v);
    assert_true(becomes_banned(&s));
    check_site(&s, CHARGED + 1, 1);
}

/* ---- a process that does not come back ----------------------------------------------------- */

/* The newest child of the server: the process of the client that has just begun. */
static pid_t child_of(pid_t parent)
{
    char path[64];
    long pid = 0, last = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)parent, (long)parent);
    assert_non_null(f = fopen(path, "r"));
    while (fscanf(f, "%ld", &pid) == 1)
        last = pid;
    fclose(f);
    return (pid_t)last;
}

/* The line ends when the child dies, and that may be before the server has waited for it. */
static bool becomes_childless(pid_t parent)
{
    for (int i = 0; i < 600 && child_of(parent) != 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    return child_of(parent) == 0;
}

/* Stopped where it works, as one that never ends: killed when its time is over, charged, no strike; the next
 * client is served. Without that time (most = 0) it holds its place for ever. */
static void test_a_stuck_process_is_killed(void **state)
{
    struct site s = {.most = STUCK};
    struct relu_backend stopping = relu_gc;
    struct visit v = {.cut.left = -1};
    uint64_t y[PARTIES_CLASSES];

    (void)state;
    stopping.online_client = stopping_online;
    open_site(&s, true, 100);
    assert_int_equal(prepare(&s, -1, 0), 0);
    assert_int_equal(visit(&s, &v, &stopping), 0);
    stuck = s.pid;
    assert_true(ask(&v, 0, y) < 0);
    end(&v);
    assert_true(becomes_childless(s.pid));
    assert_int_equal(prepare(&s, -1, 0), 0);
    check_site(&s, 2 * CHARGED + 1, 0);
}

/* argument: a pattern, for some of the tests (test_label*). */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_honest_client),
        cmocka_unit_test(test_leaving_before_the_choice_is_charged),
        cmocka_unit_test(test_who_does_not_open_is_banned),
        cmocka_unit_test(test_what_is_not_opened_stands_first),
        cmocka_unit_test(test_one_round_at_a_time),
        cmocka_unit_test(test_who_is_caught_is_banned),
        cmocka_unit_test(test_extraction_where_clients_are_trusted),
        cmocka_unit_test(test_extraction_is_stopped),
        cmocka_unit_test(test_label_extraction_where_clients_are_trusted),
        cmocka_unit_test(test_label_extraction_is_stopped),
        cmocka_unit_test(test_a_stuck_process_is_killed),
    };
    cpu_set_threads(1); /* server_run forks: nothing may have run in parallel before */
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
