/* Counters as text (metrics.h). */
#include "runtime/serve/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"
#include "core/base/version.h"
#include "runtime/serve/server.h"

#define READERS (METRICS_POLLS - 1)
#define ASKED 1024 /* longest request */
#define TEXT (1 << 14)

struct reader {
    struct tcp *s;
    double since;
    size_t asked, left, at;
    char request[ASKED + 1];
    char text[TEXT];
};
struct metrics {
    struct tcp_listener *listener;
    int n;
    struct reader *reader[READERS]; /* in the order of arrival */
};

/* ---- the text ----------------------------------------------------------------------------- */

struct page {
    char *text;
    size_t n, room;
};

static void put(struct page *p, const char *fmt, ...) ERR_PRINTF(2, 3);
static void put(struct page *p, const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(p->text + p->n, p->room - p->n, fmt, ap);
    va_end(ap);
    if (n > 0)
        p->n += (size_t)n < p->room - p->n ? (size_t)n : p->room - p->n - 1;
}

static void head(struct page *p, const char *name, const char *type, const char *help)
{
    put(p, "# HELP linnet_%s %s\n# TYPE linnet_%s %s\n", name, help, name, type);
}

static void put_counter(struct page *p, const char *name, const char *help, int64_t v)
{
    head(p, name, "counter", help);
    put(p, "linnet_%s %" PRId64 "\n", name, v);
}

static void put_phases(struct page *p, const struct server_totals *t)
{
    head(p, "bytes_total", "counter", "Bytes of answered requests, without TCP and TLS.");
    for (int i = 0; i < PHASES; i++)
        put(p,
            "linnet_bytes_total{phase=\"%s\",direction=\"sent\"} %" PRIu64
            "\nlinnet_bytes_total{phase=\"%s\",direction=\"received\"} %" PRIu64 "\n",
            phase_name((enum phase)i), t->phase[i].sent, phase_name((enum phase)i),
            t->phase[i].received);
    head(p, "phase_seconds", "histogram", "Seconds of a request in a phase.");
    for (int i = 0; i < PHASES; i++) {
        const char *name = phase_name((enum phase)i);
        int64_t sum = 0;
        for (int k = 0; k < SERVER_BUCKETS; k++) {
            sum += t->spread[i][k];
            put(p, "linnet_phase_seconds_bucket{phase=\"%s\",le=\"%g\"} %" PRId64 "\n", name,
                ldexp(1, k - SERVER_FAST), sum);
        }
        put(p, "linnet_phase_seconds_bucket{phase=\"%s\",le=\"+Inf\"} %" PRId64 "\n", name,
            t->requests[i]);
        put(p, "linnet_phase_seconds_sum{phase=\"%s\"} %.6f\n", name, t->phase[i].seconds);
        put(p, "linnet_phase_seconds_count{phase=\"%s\"} %" PRId64 "\n", name, t->requests[i]);
    }
}

static void put_state(struct page *p, const struct server_state *now)
{
    head(p, "workers", "gauge", "Processes that serve a client.");
    put(p,
        "linnet_workers{state=\"greeting\"} %" PRId64 "\nlinnet_workers{state=\"idle\"} %" PRId64
        "\nlinnet_workers{state=\"waiting\"} %" PRId64 "\nlinnet_workers{state=\"query\"} %" PRId64
        "\nlinnet_workers{state=\"prepare\"} %" PRId64 "\n",
        now->greeting, now->idle, now->waiting, now->query, now->prepare);
    head(p, "queue", "gauge", "Clients that have greeted and have no process yet.");
    put(p, "linnet_queue %" PRId64 "\n", now->lobby);
}

static void put_all(struct page *p, const struct server *s)
{
    const struct server_totals t = server_totals(s);
    const struct server_state now = server_state(s);

    head(p, "build_info", "gauge", "Version of the program.");
    put(p, "linnet_build_info{version=\"%s\"} 1\n", LINNET_VERSION);
    head(p, "connections_total", "counter", "Connections by how they ended.");
    put(p,
        "linnet_connections_total{result=\"greeted\"} %" PRId64
        "\nlinnet_connections_total{result=\"silent\"} %" PRId64
        "\nlinnet_connections_total{result=\"failed\"} %" PRId64
        "\nlinnet_connections_total{result=\"crashed\"} %" PRId64 "\n",
        t.clients, t.silent, t.failed, t.crashed);
    put_counter(p, "begun_total", "Images begun, of queries and preparations.", t.begun);
    put_counter(p, "answers_total", "Images answered.", t.queries);
    put_counter(p, "preparations_total", "Bundles made.", t.prepared);
    put_counter(p, "lost_total", "Images begun and not answered.", t.lost);
    put_counter(p, "strikes_total", "Messages that no honest client sends.", t.strikes);
    head(p, "refusals_total", "counter", "Requests and greetings that were refused.");
    put(p,
        "linnet_refusals_total{reason=\"busy\"} %" PRId64
        "\nlinnet_refusals_total{reason=\"spent\"} %" PRId64
        "\nlinnet_refusals_total{reason=\"banned\"} %" PRId64 "\n",
        t.busy, t.spent, t.banned);
    put_state(p, &now);
    put_phases(p, &t);
}

/* ---- readers ------------------------------------------------------------------------------ */

int metrics_open(const struct tcp_address *at, struct metrics **out)
{
    struct metrics *m = mem_array(1, sizeof *m);
    int rc;

    if (m == NULL)
        return ERR_NOMEM;
    if ((rc = tcp_listen(at, &m->listener)) < 0) {
        mem_free(m);
        return fail_context(rc, "metrics");
    }
    *out = m;
    return 0;
}

static void drop(struct metrics *m, int i)
{
    tcp_close(m->reader[i]->s);
    mem_free(m->reader[i]);
    m->n--;
    memmove(m->reader + i, m->reader + i + 1, (size_t)(m->n - i) * sizeof *m->reader);
}

void metrics_close(struct metrics *m)
{
    if (m == NULL)
        return;
    while (m->n > 0)
        drop(m, 0);
    tcp_listener_close(m->listener);
    mem_free(m);
}

int metrics_port(const struct metrics *m)
{
    return m == NULL ? 0 : tcp_listener_port(m->listener);
}

int metrics_polls(const struct metrics *m, struct pollfd p[METRICS_POLLS])
{
    if (m == NULL)
        return 0;
    for (int i = 0; i < m->n; i++)
        p[i] = (struct pollfd){.fd = tcp_fd(m->reader[i]->s),
                               .events = m->reader[i]->left > 0 ? POLLOUT : POLLIN};
    p[m->n] = (struct pollfd){.fd = tcp_listener_fd(m->listener), .events = POLLIN};
    return m->n + 1;
}

static void let_in(struct metrics *m)
{
    struct tcp *s = NULL;
    struct reader *r;

    if (tcp_accept_now(m->listener, METRICS_SECONDS, &s) != 0 || s == NULL)
        return;
    if ((r = mem_array(1, sizeof *r)) == NULL) {
        tcp_close(s);
        return;
    }
    if (m->n == READERS)
        drop(m, 0);
    r->s = s;
    r->since = cpu_seconds();
    m->reader[m->n++] = r;
}

static void answer(struct reader *r, const struct server *s)
{
    static const char *const status[] = {"200 OK", "404 Not Found", "405 Method Not Allowed"};
    int which =
        strncmp(r->request, "GET ", 4) != 0                                                     ? 2
        : strncmp(r->request + 4, "/metrics ", 9) == 0 || strncmp(r->request + 4, "/ ", 2) == 0 ? 0
                                                                                                : 1;
    struct page p = {r->text, 0, sizeof r->text};

    put(&p, "HTTP/1.0 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\r\n",
        status[which]);
    if (which == 0)
        put_all(&p, s);
    r->left = p.n;
}

/* false: done with, one way or the other. */
static bool go_on(struct reader *r, const struct server *s)
{
    size_t n = 0;

    if (cpu_seconds() - r->since > METRICS_SECONDS)
        return false;
    if (r->left == 0) {
        if (r->asked == ASKED || tcp_read(r->s, r->request + r->asked, ASKED - r->asked, &n) < 0)
            return false;
        r->asked += n;
        r->request[r->asked] = '\0';
        if (strstr(r->request, "\r\n\r\n") == NULL && strstr(r->request, "\n\n") == NULL)
            return true;
        answer(r, s);
    }
    if (tcp_write(r->s, r->text + r->at, r->left, &n) < 0)
        return false;
    r->at += n;
    r->left -= n;
    return r->left > 0;
}

void metrics_look(struct metrics *m, const struct server *s)
{
    if (m == NULL)
        return;
    let_in(m);
    for (int i = m->n - 1; i >= 0; i--)
        if (!go_on(m->reader[i], s))
            drop(m, i);
}
