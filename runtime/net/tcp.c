/*
 * Sockets (tcp.h): non-blocking, one poll loop, deadlines on the monotonic clock. Nagle's delay is
 * off because messages leave in whole pieces already.
 *
 * While a send waits for room, what arrives goes to the inbox, from where the next read takes it. So two parties
 * that send at the same time do not wait for each other for ever, as long as one of them has room for what the
 * other sends before it listens; the kernel's buffers alone would promise a few KiB.
 */
#include "runtime/net/tcp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/cpu.h"
#include "core/base/mem.h"

#define OUT_BYTES ((size_t)1 << 16)
#define IN_BYTES ((size_t)1 << 16)
#define INBOX_FIRST ((size_t)1 << 16)
#define SLICE_MS 200 /* how late a stop may be noticed */
#define BACKLOG 256
#define PEER_TEXT (INET6_ADDRSTRLEN + 16)

struct inbox {
    uint8_t *bytes; /* NULL while nothing is held */
    size_t at, used, size;
};
struct tcp {
    int fd;
    double seconds; /* time-out */
    double waits;   /* seconds left of tcp_limit; below 0: no limit */
    size_t out_used, in_at, in_used;
    bool loopback, borrowed, heard, closed;
    bool ended; /* nothing more will arrive: seen while sending */
    struct inbox inbox;
    uint8_t source[TCP_SOURCE];
    char peer[PEER_TEXT];
    uint8_t out[OUT_BYTES], in[IN_BYTES];
};
struct tcp_listener {
    int fd, port;
};

/* ---- addresses ---------------------------------------------------------------------------- */

int tcp_address_parse(const char *text, struct tcp_address *out)
{
    const char *colon = strrchr(text, ':');
    size_t host = colon == NULL ? 0 : (size_t)(colon - text);
    char *end;
    long port;

    if (colon == NULL)
        return fail(ERR_ARG, "address '%s': expected HOST:PORT", text);
    port = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || *end != '\0' || port < 0 || port > 65535)
        return fail(ERR_ARG, "address '%s': '%s' is not a port (0 ... 65535)", text, colon + 1);
    if (host > 1 && text[0] == '[' && text[host - 1] == ']') {
        text++;
        host -= 2;
    }
    if (host >= sizeof out->host)
        return fail(ERR_ARG, "address: the host name is too long");
    memcpy(out->host, text, host);
    out->host[host] = '\0';
    snprintf(out->port, sizeof out->port, "%ld", port);
    return 0;
}

static bool is_loopback(const struct sockaddr *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->sa_family == AF_INET) {
        memcpy(&v4, a, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    if (a->sa_family != AF_INET6)
        return false;
    memcpy(&v6, a, sizeof v6);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
        return v6.sin6_addr.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

static int resolve(const struct tcp_address *a, bool passive, struct addrinfo **out)
{
    struct addrinfo hint = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = passive ? AI_PASSIVE : 0};
    int e = getaddrinfo(*a->host ? a->host : NULL, a->port, &hint, out);

    return e == 0 ? 0 : fail(ERR_NET, "address '%s:%s': %s", a->host, a->port, gai_strerror(e));
}

int tcp_address_is_loopback(const struct tcp_address *a, bool *loopback)
{
    struct addrinfo *list;

    *loopback = false;
    if (*a->host == '\0')
        return 0;
    TRY(resolve(a, false, &list));
    *loopback = true;
    for (const struct addrinfo *i = list; i != NULL; i = i->ai_next)
        *loopback = *loopback && is_loopback(i->ai_addr);
    freeaddrinfo(list);
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------ */

static int prepare_socket(int fd)
{
    int one = 1, flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return fail(ERR_NET, "socket: %s", strerror(errno));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return 0;
}

static void find_source(const struct sockaddr *a, uint8_t source[TCP_SOURCE])
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->sa_family == AF_INET) {
        memcpy(&v4, a, sizeof v4);
        source[10] = source[11] = 0xff; /* as IPv6 writes it */
        memcpy(source + 12, &v4.sin_addr, 4);
    } else if (a->sa_family == AF_INET6) {
        memcpy(&v6, a, sizeof v6);
        memcpy(source, &v6.sin6_addr, IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) ? 16 : 8);
    }
}

static void name_peer(struct tcp *s, const struct sockaddr *a, socklen_t len)
{
    char host[INET6_ADDRSTRLEN] = "?", port[8] = "?";

    (void)getnameinfo(a, len, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(s->peer, sizeof s->peer, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    s->loopback = is_loopback(a);
    find_source(a, s->source);
}

static int endpoint_new(int fd, double seconds, struct tcp **out)
{
    struct tcp *s = mem_array(1, sizeof *s);

    if (s == NULL)
        return ERR_NOMEM;
    s->fd = fd;
    s->seconds = seconds;
    s->waits = -1;
    *out = s;
    return 0;
}

static int listen_at(const struct addrinfo *i, int *out)
{
    int one = 1, fd = socket(i->ai_family, i->ai_socktype, i->ai_protocol);

    if (fd < 0)
        return -errno;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, i->ai_addr, i->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0 ||
        prepare_socket(fd) < 0) {
        int e = errno;
        close(fd);
        return -e;
    }
    *out = fd;
    return 0;
}

int tcp_bound(int fd, char text[TCP_TEXT])
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    char host[INET6_ADDRSTRLEN + 16], port[8];

    if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 ||
        getnameinfo((struct sockaddr *)&a, len, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return fail(ERR_NET, "descriptor %d is no socket that is bound to an address", fd);
    snprintf(text, TCP_TEXT, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}

static int listener_new(int fd, struct tcp_listener **out)
{
    struct tcp_listener *l = mem_array(1, sizeof *l);
    char text[TCP_TEXT];

    if (l == NULL) {
        close(fd);
        return ERR_NOMEM;
    }
    *l = (struct tcp_listener){.fd = fd};
    if (tcp_bound(fd, text) == 0)
        l->port = atoi(strrchr(text, ':') + 1);
    *out = l;
    return 0;
}

int tcp_listener_adopt(int fd, struct tcp_listener **out)
{
    int listening = 0;
    socklen_t len = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 || !listening)
        return fail(ERR_NET, "descriptor %d is no socket that listens", fd);
    TRY(prepare_socket(fd));
    return listener_new(fd, out);
}

int tcp_listen(const struct tcp_address *a, struct tcp_listener **out)
{
    struct addrinfo *list;
    int fd = -1, e = 0;

    TRY(resolve(a, true, &list));
    for (const struct addrinfo *i = list; i != NULL && fd < 0; i = i->ai_next)
        e = listen_at(i, &fd);
    freeaddrinfo(list);
    if (fd < 0)
        return fail(ERR_NET, "listen on '%s:%s': %s", a->host, a->port, strerror(-e));
    return listener_new(fd, out);
}

int tcp_listener_port(const struct tcp_listener *l)
{
    return l->port;
}

int tcp_listener_fd(const struct tcp_listener *l)
{
    return l->fd;
}

void tcp_listener_close(struct tcp_listener *l)
{
    if (l == NULL)
        return;
    close(l->fd);
    mem_free(l);
}

/* Polls in slices so that a stop raised between two of them is seen. deadline < 0: none. */
static int poll_until(int fd, short what, double deadline, tcp_stop *stop, void *ctx)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = what};
        double left = deadline < 0 ? SLICE_MS : (deadline - cpu_seconds()) * 1e3;
        int n;
        if (stop != NULL && stop(ctx))
            return fail(ERR_INTERRUPTED, "stopped while waiting");
        if (left <= 0)
            return fail(ERR_NET, "time-out");
        n = poll(&p, 1, left > SLICE_MS ? SLICE_MS : (int)left + 1);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return fail(ERR_NET, "poll: %s", strerror(errno));
    }
}

/* Nobody there, or a client that is gone already or was cut off on its way. */
static bool nobody(int e)
{
    return e == EAGAIN || e == EWOULDBLOCK || e == EINTR || e == ECONNABORTED || e == EPROTO ||
           e == ENETDOWN || e == ENETUNREACH || e == EHOSTUNREACH;
}

static bool exhausted(int e)
{
    return e == EMFILE || e == ENFILE || e == ENOBUFS || e == ENOMEM;
}

int tcp_accept_now(struct tcp_listener *l, double seconds, struct tcp **out)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    int fd = accept(l->fd, (struct sockaddr *)&a, &len), rc;

    *out = NULL;
    if (fd < 0 && exhausted(errno))
        return 1;
    if (fd < 0)
        return nobody(errno) ? 0 : fail(ERR_NET, "accept: %s", strerror(errno));
    if ((rc = prepare_socket(fd)) < 0 || (rc = endpoint_new(fd, seconds, out)) < 0) {
        close(fd);
        return rc;
    }
    name_peer(*out, (struct sockaddr *)&a, len);
    return 0;
}

int tcp_accept(struct tcp_listener *l, double seconds, tcp_stop *stop, void *ctx, struct tcp **out)
{
    do {
        int rc;
        TRY(poll_until(l->fd, POLLIN, -1, stop, ctx));
        TRY(rc = tcp_accept_now(l, seconds, out));
        if (rc > 0)
            return fail(ERR_NET, "accept: no descriptor or memory left");
    } while (*out == NULL);
    return 0;
}

static int connect_at(const struct addrinfo *i, double deadline, int *out)
{
    int fd = socket(i->ai_family, i->ai_socktype, i->ai_protocol), e = 0;
    socklen_t len = sizeof e;

    if (fd < 0)
        return fail(ERR_NET, "socket: %s", strerror(errno));
    if (prepare_socket(fd) < 0 ||
        (connect(fd, i->ai_addr, i->ai_addrlen) < 0 && errno != EINPROGRESS))
        fail(ERR_NET, "%s", strerror(errno));
    else if (poll_until(fd, POLLOUT, deadline, NULL, NULL) == 0 &&
             getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) == 0) {
        if (e == 0) {
            *out = fd;
            return 0;
        }
        fail(ERR_NET, "%s", strerror(e));
    }
    close(fd);
    return ERR_NET;
}

int tcp_connect(const struct tcp_address *a, double seconds, struct tcp **out)
{
    double deadline = cpu_seconds() + seconds;
    struct addrinfo *list;
    int rc = ERR_NET;

    TRY(resolve(a, false, &list));
    for (const struct addrinfo *i = list; i != NULL && rc < 0; i = i->ai_next) {
        int fd = -1;
        if ((rc = connect_at(i, deadline, &fd)) < 0)
            continue;
        if ((rc = endpoint_new(fd, seconds, out)) < 0) {
            close(fd);
            break;
        }
        name_peer(*out, i->ai_addr, i->ai_addrlen);
    }
    freeaddrinfo(list);
    return rc < 0 ? fail_context(rc, "connect to '%s:%s'", a->host, a->port) : 0;
}

void tcp_close(struct tcp *s)
{
    if (s == NULL)
        return;
    if (!s->borrowed)
        close(s->fd);
    mem_free(s->inbox.bytes);
    mem_free(s);
}

int tcp_borrow(int fd, double seconds, struct tcp **out)
{
    TRY(endpoint_new(fd, seconds, out));
    (*out)->borrowed = true;
    snprintf((*out)->peer, sizeof(*out)->peer, "the peer");
    return 0;
}

bool tcp_peer_is_loopback(const struct tcp *s)
{
    return s->loopback;
}

bool tcp_closed(const struct tcp *s)
{
    return s->closed;
}

void tcp_note_closed(struct tcp *s)
{
    s->closed = true;
}

bool tcp_heard(const struct tcp *s)
{
    return s->heard;
}

void tcp_source(const struct tcp *s, uint8_t source[TCP_SOURCE])
{
    memcpy(source, s->source, TCP_SOURCE);
}

const char *tcp_peer(const struct tcp *s)
{
    return s->peer;
}

void tcp_set_timeout(struct tcp *s, double seconds)
{
    s->seconds = seconds;
}

static void limit_waits(void *ctx, double seconds)
{
    tcp_limit(ctx, seconds);
}

void tcp_limit(struct tcp *s, double seconds)
{
    s->waits = seconds;
}

int tcp_fd(const struct tcp *s)
{
    return s->fd;
}

/* ---- bytes -------------------------------------------------------------------------------- */

double tcp_deadline(const struct tcp *s, size_t n)
{
    return cpu_seconds() + s->seconds + (double)n / TCP_MIN_RATE;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Room for more in the inbox, where need be that of bytes which were taken: false where it is full, or memory
 * is. */
static bool inbox_grow(struct inbox *b)
{
    size_t size = b->size == 0 ? INBOX_FIRST : 2 * b->size;
    uint8_t *bytes;

    if (b->used < b->size)
        return true;
    if (b->at > 0 && (b->at >= b->size / 2 || size > TCP_INBOX)) {
        b->used -= b->at;
        memmove(b->bytes, b->bytes + b->at, b->used);
        b->at = 0;
        return true;
    }
    if (size > TCP_INBOX || (bytes = mem_array(size, 1)) == NULL)
        return false;
    if (b->used > 0)
        memcpy(bytes, b->bytes, b->used);
    mem_free(b->bytes);
    b->bytes = bytes;
    b->size = size;
    return true;
}

/* What has arrived, without waiting. An end of the stream is for the next read to report. */
static void fill_inbox(struct tcp *s)
{
    struct inbox *b = &s->inbox;
    ssize_t got = 1;

    while (got > 0 && inbox_grow(b)) {
        got = recv(s->fd, b->bytes + b->used, b->size - b->used, MSG_DONTWAIT);
        if (got > 0)
            b->used += (size_t)got;
        else
            s->ended = got == 0 || !would_block();
    }
}

static size_t take_inbox(struct inbox *b, void *to, size_t most)
{
    size_t take = most < b->used - b->at ? most : b->used - b->at;

    if (take > 0)
        memcpy(to, b->bytes + b->at, take);
    b->at += take;
    if (b->at == b->used) {
        mem_free(b->bytes);
        *b = (struct inbox){0};
    }
    return take;
}

int tcp_ready(struct tcp *s, bool to_write, double deadline)
{
    const double start = cpu_seconds();
    const bool last = s->waits >= 0 && start + s->waits < deadline;
    const bool beside = to_write && !s->ended && inbox_grow(&s->inbox);
    int rc = poll_until(s->fd, (short)(to_write ? POLLOUT | (beside ? POLLIN : 0) : POLLIN),
                        last ? start + s->waits : deadline, NULL, NULL);

    if (s->waits >= 0)
        s->waits = fmax(0, s->waits - (cpu_seconds() - start));
    if (rc == 0 && beside)
        fill_inbox(s);
    if (rc < 0 && last)
        return fail(rc, "%s: too slow: the time for this phase is used up", s->peer);
    return rc < 0 ? fail(rc, "%s: no %s within the time-out of %g s", s->peer,
                         to_write ? "reader" : "answer", s->seconds)
                  : 0;
}

static int fail_closed(struct tcp *s)
{
    s->closed = true;
    return fail(ERR_PEER, "%s closed the connection", s->peer);
}

int tcp_read(struct tcp *s, void *bytes, size_t max, size_t *n)
{
    ssize_t got;

    if ((*n = take_inbox(&s->inbox, bytes, max)) > 0) {
        s->heard = true;
        return 0;
    }
    got = recv(s->fd, bytes, max, MSG_DONTWAIT);
    *n = got > 0 ? (size_t)got : 0;
    s->heard = s->heard || got > 0;
    if (got > 0 || (got < 0 && would_block()))
        return 0;
    if (got == 0 || errno == ECONNRESET)
        return fail_closed(s);
    return fail(ERR_NET, "%s: %s", s->peer, strerror(errno));
}

int tcp_peek(struct tcp *s, void *bytes, size_t max, size_t *n)
{
    ssize_t got = recv(s->fd, bytes, max, MSG_DONTWAIT | MSG_PEEK);

    *n = got > 0 ? (size_t)got : 0;
    if (got > 0 || (got < 0 && would_block()))
        return 0;
    return fail_closed(s);
}

int tcp_write(struct tcp *s, const void *bytes, size_t max, size_t *n)
{
    ssize_t put = send(s->fd, bytes, max, MSG_NOSIGNAL | MSG_DONTWAIT);

    *n = put > 0 ? (size_t)put : 0;
    if (put >= 0 || would_block())
        return 0;
    if (errno == EPIPE || errno == ECONNRESET)
        return fail_closed(s);
    return fail(ERR_NET, "%s: %s", s->peer, strerror(errno));
}

static int write_all(struct tcp *s, const uint8_t *bytes, size_t n)
{
    double deadline = tcp_deadline(s, n);

    while (n > 0) {
        size_t put;
        TRY(tcp_write(s, bytes, n, &put));
        if (put == 0)
            TRY(tcp_ready(s, true, deadline));
        bytes += put;
        n -= put;
    }
    return 0;
}

static int tcp_flush(void *ctx)
{
    struct tcp *s = ctx;
    size_t n = s->out_used;

    s->out_used = 0;
    return n == 0 ? 0 : write_all(s, s->out, n);
}

static int tcp_send(void *ctx, const void *bytes, size_t n)
{
    struct tcp *s = ctx;

    if (n > OUT_BYTES - s->out_used)
        TRY(tcp_flush(s));
    if (n >= OUT_BYTES)
        return write_all(s, bytes, n);
    memcpy(s->out + s->out_used, bytes, n);
    s->out_used += n;
    return 0;
}

static size_t take_buffered(struct tcp *s, uint8_t *to, size_t n)
{
    size_t take = n < s->in_used ? n : s->in_used;

    memcpy(to, s->in + s->in_at, take);
    s->in_at += take;
    s->in_used -= take;
    return take;
}

/* Large pieces go straight to their place, small ones through the buffer. */
static int tcp_recv(void *ctx, void *bytes, size_t n)
{
    struct tcp *s = ctx;
    uint8_t *to = bytes;
    double deadline = tcp_deadline(s, n);

    for (;;) {
        size_t got = take_buffered(s, to, n);
        to += got;
        n -= got;
        if (n == 0)
            return 0;
        if (n >= IN_BYTES) {
            TRY(tcp_read(s, to, n, &got));
            to += got;
            n -= got;
        } else {
            TRY(tcp_read(s, s->in, IN_BYTES, &got));
            s->in_at = 0;
            s->in_used = got;
        }
        if (got == 0)
            TRY(tcp_ready(s, false, deadline));
    }
}

static void tcp_close_transport(void *ctx)
{
    tcp_close(ctx);
}

void tcp_transport(struct tcp *s, struct transport *out)
{
    *out = (struct transport){.send = tcp_send,
                              .recv = tcp_recv,
                              .flush = tcp_flush,
                              .close = tcp_close_transport,
                              .limit = limit_waits,
                              .ctx = s};
}

int tcp_wait(struct tcp *s, tcp_stop *stop, void *ctx)
{
    int rc;
    uint8_t byte;

    TRY(tcp_flush(s));
    if (s->in_used > 0 || s->inbox.used > 0)
        return 0;
    if ((rc = poll_until(s->fd, POLLIN, cpu_seconds() + s->seconds, stop, ctx)) < 0)
        return rc == ERR_NET
                   ? fail(rc, "%s: no request within the time-out of %g s", s->peer, s->seconds)
                   : rc;
    ssize_t got = recv(s->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno == ECONNRESET))
        return fail_closed(s);
    return 0;
}
