/* The process that accepts (server.h). */
#include "runtime/serve/server.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "runtime/party/message.h"
#include "runtime/serve/lobby.h"
#include "runtime/serve/metrics.h"
#include "runtime/serve/worker.h"

#define LOOK_MS 200    /* how late a stop may be noticed */
#define BUSY_MOST 4    /* processes beyond all others that say "busy" */
#define ROUNDS_EVERY 2 /* seconds between two looks at rounds that were to be opened */
#define CLIENT_TEXT 112

enum place { GREETING, IDLE, WAITING, QUERY, PREPARE };
struct worker {
    pid_t pid;
    int says, told; /* pipes: read, written */
    enum place place;
    double since; /* in this place */
    uint8_t source[TCP_SOURCE];
    char client[CLIENT_TEXT];
    bool known, proven, leaving; /* proven: has begun something */
    uint8_t id[LEDGER_ID];
    int64_t images;      /* of the request it waits for, or works on */
    double not_before;   /* rate */
    bool prepare, opens; /* what the request is: opens what an earlier one left */
};
struct server {
    struct server_options o;
    struct tcp_listener *listener;
    struct lobby *lobby;
    struct tls_context *tls;
    struct ledger *ledger;
    struct metrics *metrics;
    struct worker *worker;
    struct pollfd *polls;
    int n, most;            /* processes, and how many there may be */
    double start, stopped;  /* stopped: since when, 0: not */
    double rounds_at;       /* when rounds are looked at next */
    bool ending;            /* nobody is let in any more */
    struct sigaction pipes; /* what a broken pipe did before */
    struct server_totals totals;
};

static void event(struct server *s, const struct worker *w, const char *name, int64_t images,
                  const char *text)
{
    const struct server_event e = {name, w == NULL ? "" : w->client, text, images,
                                   w == NULL ? 0 : cpu_seconds() - w->since};

    if (s->o.event != NULL)
        s->o.event(s->o.ctx, &e);
}

static double now_utc(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int64_t count(const struct server *s, enum place place)
{
    int64_t n = 0;

    for (int i = 0; i < s->n; i++)
        n += s->worker[i].place == place;
    return n;
}

struct server_state server_state(const struct server *s)
{
    return (struct server_state){lobby_waiting(s->lobby), count(s, GREETING), count(s, IDLE),
                                 count(s, WAITING),       count(s, QUERY),    count(s, PREPARE)};
}

static bool same_client(const struct worker *a, const struct worker *b)
{
    if (a->known || b->known)
        return a->known && b->known && memcmp(a->id, b->id, LEDGER_ID) == 0;
    return memcmp(a->source, b->source, TCP_SOURCE) == 0;
}

static bool working(const struct worker *w)
{
    return w->place == QUERY || w->place == PREPARE;
}

static void move_to(struct worker *w, enum place place)
{
    w->place = place;
    w->since = cpu_seconds();
}

/* A child that is gone or does not read is found out elsewhere. */
static void tell(const struct worker *w, enum worker_order order, uint8_t why, int threads)
{
    const struct worker_told told = {(uint8_t)order, why, (uint8_t)(threads < 255 ? threads : 255)};

    (void)!write(w->told, &told, sizeof told);
}

/* ---- children ----------------------------------------------------------------------------- */

/* What a child must not keep open of its parent's, so that closing there closes. */
static void leave_parent(struct server *s)
{
    for (int i = 0; i < s->n; i++) {
        close(s->worker[i].says);
        close(s->worker[i].told);
    }
    lobby_close(s->lobby);
    tcp_listener_close(s->listener);
    metrics_close(s->metrics);
    ledger_close(s->ledger);
}

static void be_child(struct server *s, struct tcp *tcp, int says, int told)
{
    const struct worker_job job = {&s->o.party, s->tls, s->o.seconds, tcp, says, told};

    leave_parent(s);
    worker_serve(&job);
}

static void name_client(struct worker *w)
{
    char hex[SHA256_HEX];
    size_t n = strlen(w->client);

    if (w->known)
        snprintf(w->client + n, sizeof w->client - n, " key %.16s", sha256_hex(w->id, hex));
}

static int start_worker(struct server *s, struct tcp *tcp)
{
    int up[2] = {-1, -1}, down[2] = {-1, -1};
    struct worker *w = &s->worker[s->n];
    pid_t pid;

    if (pipe(up) < 0 || pipe(down) < 0 || (fflush(NULL), pid = fork()) < 0) {
        int e = errno;
        for (int i = 0; i < 2 && up[0] >= 0; i++)
            close(up[i]);
        for (int i = 0; i < 2 && down[0] >= 0; i++)
            close(down[i]);
        return fail(ERR_IO, "no process for a client: %s", strerror(e));
    }
    if (pid == 0) {
        close(up[0]);
        close(down[1]);
        be_child(s, tcp, up[1], down[0]);
    }
    close(up[1]);
    close(down[0]);
    *w = (struct worker){.pid = pid, .says = up[0], .told = down[1]};
    move_to(w, GREETING);
    tcp_source(tcp, w->source);
    snprintf(w->client, sizeof w->client, "%s", tcp_peer(tcp));
    s->n++;
    return 0;
}

/* Waits for the child, which is ending or is made to. */
static int bury(const struct worker *w)
{
    int status = 0;

    kill(w->pid, SIGKILL); /* no harm to one that has ended */
    while (waitpid(w->pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static void remove_worker(struct server *s, int i)
{
    close(s->worker[i].says);
    close(s->worker[i].told);
    s->worker[i] = s->worker[--s->n];
}

/* ---- budgets ------------------------------------------------------------------------------ */

static bool enough(const struct server *s)
{
    return s->o.max_queries >= 0 && s->totals.begun >= s->o.max_queries;
}

/* The server goes on without what it could not write down; who wants to begin something does not. */
static void book(struct server *s, const struct worker *w, enum ledger_event what, int64_t n)
{
    if (n > 0 && ledger_add(s->ledger, w->id, what, n, now_utc()) < 0)
        event(s, w, "ledger", n, err_message());
}

/* A lost request, and whether an honest client could have done it. */
static void accuse(struct server *s, struct worker *w, int rc, int64_t lost)
{
    s->totals.lost += lost;
    book(s, w, LEDGER_ABORTED, lost);
    if (rc != ERR_PEER || lost == 0)
        return;
    s->totals.strikes++;
    event(s, w, "strike", lost, "");
    book(s, w, LEDGER_STRIKE, 1);
}

/* A client that was to open a round and has not (party/covert.h). */
static void hear_caught(void *ctx, const uint8_t identity[LEDGER_ID])
{
    struct server *s = ctx;
    char hex[SHA256_HEX];

    s->totals.strikes++;
    event(s, NULL, "strike", 0, sha256_hex(identity, hex));
    if (ledger_add(s->ledger, identity, LEDGER_STRIKE, 1, now_utc()) < 0)
        event(s, NULL, "ledger", 1, err_message());
}

static void look_at_rounds(struct server *s)
{
    const double now = cpu_seconds();

    if (s->o.party.covert == NULL || now < s->rounds_at)
        return;
    s->rounds_at = now + ROUNDS_EVERY;
    if (covert_expire(s->o.party.bundles, s->o.party.covert, s->o.party.since, (int64_t)now_utc(),
                      hear_caught, s) < 0)
        event(s, NULL, "failed", 0, err_message());
}

static void count_refusal(struct server *s, uint8_t why)
{
    s->totals.busy += why == REFUSED_BUSY;
    s->totals.spent += why == REFUSED_SPENT;
    s->totals.banned += why == REFUSED_BANNED;
}

static void refuse(struct server *s, struct worker *w, uint8_t why)
{
    tell(w, ORDER_GO, why, 0);
    count_refusal(s, why);
    event(s, w, "refused", w->images, refusal_text(why));
    move_to(w, IDLE); /* it says itself that it ends */
}

/* ---- what children say --------------------------------------------------------------------- */

static void add_phases(struct server_totals *t, const struct worker_says *says)
{
    for (int i = 0; i < PHASES; i++) {
        const struct cost_count *n = &says->phase[i];
        int bucket = 0;

        if (n->sent + n->received == 0)
            continue;
        cost_add(&t->phase[i], n);
        while (bucket < SERVER_BUCKETS && n->seconds > ldexp(1, bucket - SERVER_FAST))
            bucket++;
        t->spread[i][bucket]++;
        t->requests[i]++;
    }
}

static void hear_done(struct server *s, struct worker *w, const struct worker_says *says)
{
    int64_t done = says->answered, lost;

    if (!working(w))
        return;
    done = done < 0 ? 0 : done > PARTY_LOT ? PARTY_LOT : done;
    lost = w->images - done - says->opened;
    lost = lost < 0 ? 0 : lost > w->images ? w->images : lost;
    add_phases(&s->totals, says);
    if (w->prepare)
        s->totals.prepared += done;
    else
        s->totals.queries += done;
    book(s, w, w->prepare ? LEDGER_USABLE : LEDGER_ANSWERED, done);
    if (lost == 0)
        event(s, w, w->prepare ? "prepare" : "query", done, "");
    accuse(s, w, says->rc, lost);
    w->images = 0;
    move_to(w, IDLE);
}

static void hear_end(struct server *s, const struct worker *w, const struct worker_says *says)
{
    char text[WORKER_TEXT];

    memcpy(text, says->text, sizeof text);
    text[sizeof text - 1] = '\0';
    err_plain(text);
    if (says->rc < 0 && says->rc != ERR_INTERRUPTED)
        s->totals.failed++;
    event(s, w, says->rc < 0 ? "failed" : "left", 0, text);
}

static void hear_greeting(struct server *s, struct worker *w, const struct worker_says *says)
{
    w->known = says->known != 0;
    memcpy(w->id, says->id, sizeof w->id);
    if (!w->known)
        memset(w->id, 0, sizeof w->id);
    name_client(w);
    if (w->leaving || ledger_banned(s->ledger, w->id))
        refuse(s, w, w->leaving ? REFUSED_BUSY : REFUSED_BANNED);
    else
        tell(w, ORDER_GO, REFUSED_NOT, 0);
    w->place = GREETING;
}

/* false: it is gone, or says what cannot be. */
static bool hear(struct server *s, struct worker *w)
{
    struct worker_says says;
    ssize_t got = read(w->says, &says, sizeof says);

    if (got < 0 && errno == EINTR)
        return true;
    if (got != (ssize_t)sizeof says)
        return false;
    switch (says.what) {
    case WORKER_GREETS:
        hear_greeting(s, w, &says);
        return true;
    case WORKER_IDLE:
        if (w->place != IDLE)
            move_to(w, IDLE);
        return true;
    case WORKER_BEGINS:
        if (w->place != IDLE || says.images < 1 || says.images > PARTY_LOT)
            return false;
        w->prepare = says.work != PARTY_QUERY;
        w->opens = says.work == PARTY_OPEN;
        w->images = says.images;
        w->not_before = 0;
        move_to(w, WAITING);
        return true;
    case WORKER_DONE:
        hear_done(s, w, &says);
        return true;
    case WORKER_ENDS:
        hear_end(s, w, &says);
        return false;
    default:
        return false;
    }
}

/* A child that ends without a word has crashed, or we have killed it. */
static void end_worker(struct server *s, int i)
{
    struct worker *w = &s->worker[i];
    int status = bury(w);

    if (working(w))
        accuse(s, w, 0, w->images);
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL) {
        char text[64];
        snprintf(text, sizeof text, "the process that served it ended by signal %d",
                 WTERMSIG(status));
        s->totals.crashed++;
        event(s, w, "crashed", 0, text);
    }
    remove_worker(s, i);
}

static void cut_off(struct server *s, int i, const char *why)
{
    s->totals.failed += !s->ending;
    event(s, &s->worker[i], s->ending ? "left" : "failed", 0, why);
    end_worker(s, i);
}

/* Deadlines of the transport end what waits for a client; this ends what does not come back at all. */
static void end_stuck(struct server *s)
{
    const double now = cpu_seconds();

    for (int i = s->n - 1; i >= 0 && s->o.most > 0; i--) {
        const struct worker *w = &s->worker[i];
        if (working(w) && now - w->since > s->o.most * (double)w->images)
            cut_off(s, i, "its process was at work for longer than any request takes");
    }
}

/* ---- who may begin ------------------------------------------------------------------------- */

static int64_t shares_of(const struct server *s, const struct worker *w)
{
    int64_t n = 0;

    for (int i = 0; i < s->n; i++)
        n += working(&s->worker[i]) && same_client(&s->worker[i], w);
    return n;
}

/* A client that may deviate makes one round at a time: the next one begins when it is known whether the one
 * before was right. */
static bool must_wait_its_turn(const struct server *s, const struct worker *w)
{
    for (int i = 0; i < s->n && w->prepare && s->o.party.covert != NULL; i++)
        if (s->worker[i].place == PREPARE && same_client(&s->worker[i], w))
            return true;
    return false;
}

static bool has_room(const struct server *s, const struct worker *w)
{
    const int64_t most = s->o.workers, queries = count(s, QUERY), prepares = count(s, PREPARE);

    if (queries + prepares >= most || shares_of(s, w) >= most - most / 4 ||
        must_wait_its_turn(s, w))
        return false;
    return !w->prepare || prepares < (most + 1) / 2;
}

/* Whether a goes before b. */
static bool before(const struct server *s, const struct worker *a, const struct worker *b)
{
    int64_t n = shares_of(s, a), m = shares_of(s, b);

    if (a->prepare != b->prepare)
        return b->prepare;
    return n != m ? n < m : a->since < b->since;
}

static struct worker *next_to_begin(const struct server *s)
{
    struct worker *best = NULL;
    double now = cpu_seconds();

    for (int i = 0; i < s->n; i++) {
        struct worker *w = &s->worker[i];
        if (w->place == WAITING && w->not_before <= now && has_room(s, w) &&
            (best == NULL || before(s, w, best)))
            best = w;
    }
    return best;
}

static void let_begin(struct server *s, struct worker *w)
{
    /* a preparation steps back where a query works: that one need not leave it threads */
    int64_t busy = 1 + count(s, QUERY) + (w->prepare ? count(s, PREPARE) : 0);
    int threads = cpu_threads() / (int)busy;

    s->totals.begun += w->opens ? 0 : w->images;
    move_to(w, w->prepare ? PREPARE : QUERY);
    w->proven = true;
    tell(w, ORDER_GO, REFUSED_NOT, threads < 1 ? 1 : threads);
}

/* A round of this client that is not opened stands before the next one. */
static bool owes(struct server *s, struct worker *w)
{
    bool found = false;

    if (s->o.party.covert != NULL && w->prepare && !w->opens &&
        covert_owes(s->o.party.bundles, w->id, &found) < 0) {
        event(s, w, "failed", w->images, err_message());
        found = true;
    }
    return found;
}

/* The images of an opening were charged with its round; who has used up its budget may open all the same. */
static void charge(struct server *s, struct worker *w)
{
    const enum ledger_event what = w->prepare ? LEDGER_BEGIN_PREPARE : LEDGER_BEGIN_QUERY;
    enum ledger_verdict verdict;
    double wait;

    if (ledger_begin(s->ledger, w->id, what, w->images, now_utc(), &verdict, &wait) < 0) {
        event(s, w, "ledger", w->images, err_message());
        refuse(s, w, REFUSED_BUSY);
    } else if (verdict == LEDGER_GO) {
        let_begin(s, w);
    } else if (verdict == LEDGER_WAIT) {
        w->not_before = cpu_seconds() + wait;
    } else {
        refuse(s, w, verdict == LEDGER_SPENT ? REFUSED_SPENT : REFUSED_BANNED);
    }
}

static void decide(struct server *s, struct worker *w)
{
    if (ledger_banned(s->ledger, w->id))
        refuse(s, w, REFUSED_BANNED);
    else if (w->opens)
        let_begin(s, w);
    else if (owes(s, w))
        refuse(s, w, REFUSED_OWES);
    else
        charge(s, w);
}

static void let_all_begin(struct server *s)
{
    struct worker *w;
    double now = cpu_seconds();

    while (!enough(s) && !s->ending && (w = next_to_begin(s)) != NULL)
        decide(s, w);
    for (int i = 0; i < s->n; i++)
        if (s->worker[i].place == WAITING && (now - s->worker[i].since > SERVER_BUSY || s->ending))
            refuse(s, &s->worker[i], REFUSED_BUSY);
}

/* ---- who gets a process -------------------------------------------------------------------- */

static int served(void *ctx, const uint8_t source[TCP_SOURCE])
{
    const struct server *s = ctx;
    int n = 0;

    for (int i = 0; i < s->n; i++)
        n += memcmp(s->worker[i].source, source, TCP_SOURCE) == 0;
    return n;
}

/* The one that has sent no request for longest, once it has had its time; -1: none. */
static int longest_idle(const struct server *s)
{
    double now = cpu_seconds();
    int best = -1;

    for (int i = 0; i < s->n; i++) {
        const struct worker *w = &s->worker[i];
        if ((w->place == GREETING || w->place == IDLE) && !w->leaving &&
            now - w->since > (w->proven ? SERVER_PATIENCE : SERVER_HASTE) &&
            (best < 0 || w->since < s->worker[best].since))
            best = i;
    }
    return best;
}

static void give_process(struct server *s, struct tcp *tcp, bool busy)
{
    int rc = tcp == NULL ? 0 : start_worker(s, tcp);

    tcp_close(tcp);
    if (rc < 0)
        event(s, NULL, "failed", 0, err_message());
    else if (busy && tcp != NULL)
        s->worker[s->n - 1].leaving = true;
}

static void let_in(struct server *s)
{
    int idle;

    while (s->n < s->most && lobby_waiting(s->lobby) > 0)
        give_process(s, lobby_next(s->lobby, served, s), false);
    if (lobby_waiting(s->lobby) == 0)
        return;
    if ((idle = longest_idle(s)) >= 0) {
        cut_off(s, idle, "silent while another client waits");
        give_process(s, lobby_next(s->lobby, served, s), false);
    } else if (s->n < s->most + BUSY_MOST && lobby_longest(s->lobby) > SERVER_BUSY) {
        give_process(s, lobby_oldest(s->lobby), true);
    }
}

/* ---- the loop ----------------------------------------------------------------------------- */

static bool stopped(const struct server *s)
{
    return s->o.stop != NULL && s->o.stop(s->o.ctx);
}

/* Nobody new; those who do nothing leave now, the others when they are done, or when their time is over. */
static void end_all(struct server *s)
{
    double now = cpu_seconds(), since;

    if (!s->ending)
        event(s, NULL, "stopping", 0, stopped(s) ? "" : "--max-queries");
    lobby_shut(s->lobby);
    s->ending = true;
    if (s->stopped == 0 && stopped(s))
        s->stopped = now;
    since = s->stopped > 0 ? now - s->stopped : 0;
    for (int i = s->n - 1; i >= 0; i--) {
        struct worker *w = &s->worker[i];
        if (w->place == IDLE && !w->leaving) {
            w->leaving = true;
            tell(w, ORDER_LEAVE, 0, 0);
        }
        if (since > SERVER_FINISH || w->place == GREETING ||
            (w->place == IDLE && now - w->since > 1) ||
            (w->place == PREPARE && since > SERVER_FINISH_OFFLINE))
            cut_off(s, i, "the server stops");
    }
}

/* When something falls due that no descriptor tells of. */
static int wait_ms(const struct server *s)
{
    double now = cpu_seconds();
    int ms = LOOK_MS;

    for (int i = 0; i < s->n; i++) {
        double left = s->worker[i].not_before - now;
        if (s->worker[i].place == WAITING && left > 0 && left * 1e3 < ms)
            ms = (int)(left * 1e3) + 1;
    }
    return ms;
}

static int look(struct server *s)
{
    int ms = wait_ms(s), n = s->n, polls;

    for (int i = 0; i < n; i++)
        s->polls[i] = (struct pollfd){.fd = s->worker[i].says, .events = POLLIN};
    polls = n + lobby_polls(s->lobby, s->polls + n, &ms);
    polls += metrics_polls(s->metrics, s->polls + polls);
    if (poll(s->polls, (nfds_t)polls, ms) < 0) {
        if (errno != EINTR)
            return fail(ERR_NET, "poll: %s", strerror(errno));
        return 0;
    }
    for (int i = n - 1; i >= 0; i--)
        if (s->polls[i].revents != 0 && !hear(s, &s->worker[i]))
            end_worker(s, i);
    return 0;
}

int server_run(struct server *s)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};

    (void)sigaction(SIGPIPE, &ignore,
                    &s->pipes); /* children may be gone when they are told something */
    while (!s->ending || s->n > 0) {
        TRY(look(s));
        TRY(lobby_look(s->lobby));
        if (s->ending || stopped(s) || enough(s))
            end_all(s);
        end_stuck(s);
        let_all_begin(s);
        if (!s->ending)
            let_in(s);
        metrics_look(s->metrics, s);
        look_at_rounds(s);
    }
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------ */

struct server_totals server_totals(const struct server *s)
{
    struct server_totals t = s->totals;
    struct lobby_totals l = lobby_totals(s->lobby);

    t.clients = l.clients;
    t.silent = l.silent;
    t.seconds = cpu_seconds() - s->start;
    return t;
}

int server_port(const struct server *s)
{
    return tcp_listener_port(s->listener);
}

int server_metrics_port(const struct server *s)
{
    return metrics_port(s->metrics);
}

const struct tls_context *server_tls(const struct server *s)
{
    return s->tls;
}

/* More may be carried here while the server runs, but the folder is there. */
static int check_dealer(const char *dir)
{
    struct stat st;

    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
        return 0;
    return fail(ERR_DATA, "--dealer '%s': no such folder; linnet-pi deal makes it (--server-out)",
                dir);
}

static int start(struct server *s)
{
    const struct server_options *o = &s->o;

    if (o->party.bundles != NULL)
        TRY(bundle_folder(o->party.bundles));
    if (o->party.covert != NULL)
        TRY(covert_clean(o->party.bundles, false));
    if (o->party.dealer != NULL)
        TRY(check_dealer(o->party.dealer));
    if (o->tls.cert != NULL)
        TRY(tls_server(&o->tls, &s->tls));
    TRY(ledger_open(o->ledger, &o->budget, now_utc(), &s->ledger));
    if (o->metrics != NULL)
        TRY(metrics_open(o->metrics, &s->metrics));
    if (o->inherited > 0)
        TRY(tcp_listener_adopt(o->inherited, &s->listener));
    else
        TRY(tcp_listen(&o->address, &s->listener));
    return lobby_open(s->listener, o->tls.cert != NULL, o->seconds, &s->lobby);
}

int server_open(const struct server_options *o, struct server **out)
{
    SCOPED(server_close_at) struct server *s = mem_array(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->o = *o;
    s->o.party.tally = o->tls.cert == NULL;
    s->o.party.since = (int64_t)now_utc();
    s->start = cpu_seconds();
    (void)sigaction(SIGPIPE, NULL, &s->pipes);
    s->most = SERVER_CROWD * (int)o->workers;
    s->worker = mem_array((size_t)s->most + BUSY_MOST, sizeof *s->worker);
    s->polls =
        mem_array((size_t)s->most + BUSY_MOST + LOBBY_POLLS + METRICS_POLLS, sizeof *s->polls);
    if (s->worker == NULL || s->polls == NULL)
        return ERR_NOMEM;
    TRY(start(s));
    *out = mem_hand_on(&s);
    return 0;
}

void server_close(struct server *s)
{
    if (s == NULL)
        return;
    (void)sigaction(SIGPIPE, &s->pipes, NULL);
    for (int i = 0; i < s->n; i++)
        (void)bury(&s->worker[i]);
    lobby_close(s->lobby);
    metrics_close(s->metrics);
    tcp_listener_close(s->listener);
    tls_context_free(s->tls);
    ledger_close(s->ledger);
    mem_free(s->worker);
    mem_free(s->polls);
    mem_free(s);
}
