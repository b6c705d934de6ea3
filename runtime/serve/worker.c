/* The child's side (worker.h). */
#include "runtime/serve/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "runtime/serve/server.h"

_Static_assert(sizeof(struct worker_says) <= 512, "a pipe takes so many bytes in one piece");

#define OFFLINE_NICE 10 /* below the server's own */

struct worker {
    const struct worker_job *job;
    struct party_options party;
    struct transport t, inner; /* inner: below an emulated link */
    struct worker_says says;
    struct account before; /* of the last request */
    bool leave, behind;    /* behind: works at a lower priority */
};

/* ---- the pipes ---------------------------------------------------------------------------- */

/* Without a server there is nobody to answer to. */
static void say(struct worker *w, enum worker_what what)
{
    struct worker_says all = w->says;

    all.what = (int32_t)what;
    if (write(w->job->says, &all, sizeof all) != (ssize_t)sizeof all)
        _exit(1);
}

static struct worker_told hear(struct worker *w)
{
    struct worker_told told;
    ssize_t got;

    while ((got = read(w->job->told, &told, sizeof told)) < 0 && errno == EINTR)
        ;
    if (got != (ssize_t)sizeof told)
        _exit(1);
    w->leave = w->leave || told.order == ORDER_LEAVE;
    return told;
}

/* The answer to a question; an order to leave may come before it. */
static struct worker_told wait_leave(struct worker *w)
{
    struct worker_told told;

    do
        told = hear(w);
    while (told.order != ORDER_GO);
    if (told.threads > 0)
        cpu_set_threads(told.threads);
    return told;
}

static bool should_leave(void *ctx)
{
    struct worker *w = ctx;
    struct pollfd p = {.fd = w->job->told, .events = POLLIN};

    while (!w->leave && poll(&p, 1, 0) > 0)
        (void)hear(w);
    return w->leave;
}

/* ---- requests ----------------------------------------------------------------------------- */

static int wait_request(void *ctx)
{
    struct worker *w = ctx;
    int rc;

    say(w, WORKER_IDLE);
    rc = w->job->tls != NULL ? tls_wait(&w->inner, should_leave, w)
                             : tcp_wait(w->job->tcp, should_leave, w);
    return rc == ERR_INTERRUPTED ? fail(rc, "made way for another client, or the server stops")
                                 : rc;
}

/* Queries of others go first. A process cannot take that back, so it holds for this client. */
static void step_back(struct worker *w)
{
    if (!w->behind)
        (void)setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + OFFLINE_NICE);
    w->behind = true;
}

static int begin(void *ctx, enum party_work work, int64_t images, uint8_t *why)
{
    struct worker *w = ctx;

    w->says.work = (uint8_t)work;
    w->says.images = images;
    say(w, WORKER_BEGINS);
    *why = wait_leave(w).why;
    if (work != PARTY_QUERY)
        step_back(w);
    return 0;
}

/* What the last request took; nothing if there was none. */
static void report(struct worker *w, const struct account *a, int rc)
{
    w->says.images = a->begun - w->before.begun;
    w->says.answered = a->queries - w->before.queries + a->prepared - w->before.prepared;
    w->says.opened = a->opened - w->before.opened;
    /* who closes may have its reasons; what it has sent before is judged all the same */
    w->says.rc = rc == ERR_PEER && w->t.dead && a->caught == w->before.caught ? ERR_NET : rc;
    for (int i = 0; i < PHASES; i++) {
        struct cost_count *now = &w->says.phase[i];
        const struct cost_count *old = &w->before.phase[i];
        *now = a->phase[i];
        now->sent -= old->sent;
        now->received -= old->received;
        now->flips -= old->flips;
        now->seconds -= old->seconds;
    }
    w->before = *a;
    if (w->says.images > 0)
        say(w, WORKER_DONE);
}

static int answer_all(struct worker *w)
{
    struct party *p = NULL;
    int rc;

    TRY(party_open(&w->party, &w->t, &p));
    transport_limit(&w->t, -1);
    do {
        rc = party_answer(p, wait_request, w);
        report(w, party_account(p), rc < 0 ? rc : 0);
    } while (rc > 0);
    party_close(p);
    return rc;
}

/* ---- one connection ------------------------------------------------------------------------ */

static int greet(struct worker *w)
{
    const struct worker_job *j = w->job;
    bool known = false;

    tcp_set_timeout(j->tcp, j->seconds);
    tcp_limit(j->tcp, SERVER_GREETING);
    if (j->tls == NULL)
        tcp_transport(j->tcp, &w->t);
    else {
        TRY(tls_transport(j->tls, j->tcp, NULL, &w->t));
        TRY(tls_peer(&w->t, w->says.id, &known));
    }
    w->inner = w->t;
    w->says.known = known;
    say(w, WORKER_GREETS);
    w->party.refuse = wait_leave(w).why;
    return answer_all(w);
}

_Noreturn void worker_serve(const struct worker_job *job)
{
    struct worker w = {.job = job, .party = *job->party};
    int rc;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    signal(SIGINT, SIG_IGN); /* the server's business; it says what it wants */
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    w.party.begin = begin;
    w.party.begin_ctx = &w;
    w.party.identity = w.says.id;
    rc = greet(&w);
    transport_close(&w.t);
    w.says.rc = rc;
    snprintf(w.says.text, sizeof w.says.text, "%s", rc < 0 ? err_message() : "");
    say(&w, WORKER_ENDS);
    _exit(0);
}
