/*
 * Reading ahead (pieces.h).
 *
 * The reader owns the piece that it has on each line; places of pieces ahead change hands under the lock: the
 * thread fills a place while it is `busy`, the reader takes a full one by exchanging its bytes for those that
 * it is done with. Piece i of a line has place i % PIECES_AHEAD. The thread is woken when half of a line is
 * missing, so that it does not fall asleep after every piece.
 */
#include "runtime/crypto/pieces.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"

#define SEALED (SEAL_PIECE + SEAL_TAG)
#define LINES 2
#define NONE UINT64_MAX

struct place {
    uint64_t piece; /* number or NONE */
    bool busy;      /* being opened by the thread */
    uint8_t *bytes;
};
struct line {
    struct place own; /* the reader's */
    uint64_t used;    /* when it was last asked for */
    /* under the lock: */
    uint64_t next, end; /* what the thread is to open */
    struct place ahead[PIECES_AHEAD];
};
struct opener { /* of one thread */
    struct seal *seal;
    uint8_t *closed; /* SEALED bytes */
};
struct pieces {
    struct pieces_file f;
    uint64_t n, clock;
    uint8_t *memory; /* of all places */
    struct opener reader, helper;
    struct line line[LINES];
    pthread_t thread;
    bool started, locks;
    pthread_mutex_t lock;
    pthread_cond_t work, done; /* a line wants pieces, or quit; a place is no longer busy */
    bool quit;
};

/* ---- one piece ---------------------------------------------------------------------------- */

int pieces_read(int fd, const char *name, uint64_t at, uint8_t *to, size_t n)
{
    while (n > 0) {
        ssize_t got = pread(fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail(ERR_IO, "'%s': %s", name, strerror(errno));
        if (got == 0)
            return fail(ERR_FORMAT, "'%s': shorter than it must be", name);
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int open_piece(const struct pieces_file *f, const struct opener *o, uint64_t i, uint8_t *out)
{
    size_t n = seal_piece_bytes(f->size, i);
    int rc;

    TRY(pieces_read(f->fd, f->name, f->origin + i * SEALED, o->closed, n + SEAL_TAG));
    rc = seal_open(o->seal, i, seal_is_last(f->size, i), o->closed, n, out);
    if (rc == ERR_FORMAT && f->check)
        return fail(ERR_FORMAT, "'%s': damaged: wrong checksum", f->name);
    return rc < 0 ? fail_context(rc, "'%s'", f->name) : 0;
}

/* ---- the thread --------------------------------------------------------------------------- */

/* The line that misses most. Locked. */
static struct line *next_job(struct pieces *p)
{
    struct line *most = NULL;

    for (int k = 0; k < LINES; k++) {
        struct line *l = &p->line[k];
        if (l->next < l->end && (most == NULL || l->end - l->next > most->end - most->next))
            most = l;
    }
    return most;
}

/* A piece that cannot be opened is left to the reader. Locked, but for the work itself. */
static void open_next(struct pieces *p, struct line *l)
{
    uint64_t i = l->next++;
    struct place *to = &l->ahead[i % PIECES_AHEAD];
    int rc;

    if (to->piece == i)
        return;
    to->piece = i;
    to->busy = true;
    pthread_mutex_unlock(&p->lock);
    rc = open_piece(&p->f, &p->helper, i, to->bytes);
    pthread_mutex_lock(&p->lock);
    to->busy = false;
    if (rc < 0)
        to->piece = NONE;
    pthread_cond_signal(&p->done);
}

static void *open_ahead(void *arg)
{
    struct pieces *p = arg;
    struct line *l;

    pthread_mutex_lock(&p->lock);
    while (!p->quit)
        if ((l = next_job(p)) != NULL)
            open_next(p, l);
        else
            pthread_cond_wait(&p->work, &p->lock);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- the reader --------------------------------------------------------------------------- */

/* The line that has piece i, or goes there. */
static struct line *line_for(struct pieces *p, uint64_t i)
{
    struct line *l = p->line;

    for (int k = 0; k < LINES; k++)
        if (p->line[k].own.piece == i)
            return &p->line[k];
    for (int k = 0; k < LINES; k++)
        if (p->line[k].own.piece != NONE && p->line[k].own.piece + 1 == i)
            return &p->line[k];
    for (int k = 1; k < LINES; k++)
        if (p->line[k].used < l->used)
            l = &p->line[k];
    return l;
}

/* Where the thread has opened piece i or is about to; NULL: nowhere. Locked. */
static struct place *find(struct pieces *p, uint64_t i)
{
    for (int k = 0; k < LINES; k++)
        if (p->line[k].ahead[i % PIECES_AHEAD].piece == i)
            return &p->line[k].ahead[i % PIECES_AHEAD];
    return NULL;
}

/* What the thread is to open now that the reader is at i. Locked. */
static void look_ahead(struct pieces *p, struct line *l, uint64_t i)
{
    uint64_t most = i + 1 + PIECES_AHEAD;

    if (l->next <= i || l->next > most)
        l->next = i + 1;
    l->end = most < p->n ? most : p->n;
    if (l->next < l->end && (l->end - l->next >= PIECES_AHEAD / 2 || l->end == p->n))
        pthread_cond_signal(&p->work);
}

/* Whether the thread had piece i, or has it soon; then it is the line's own. */
static bool take_opened(struct pieces *p, struct line *l, uint64_t i)
{
    uint8_t *before = l->own.bytes;
    struct place *from;
    bool found;

    pthread_mutex_lock(&p->lock);
    look_ahead(p, l, i);
    from = find(p, i);
    while (from != NULL && from->busy)
        pthread_cond_wait(&p->done, &p->lock);
    found = from != NULL && from->piece == i;
    if (found) {
        l->own = *from;
        *from = (struct place){.piece = NONE, .bytes = before};
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

int pieces_at(struct pieces *p, uint64_t i, const uint8_t **bytes)
{
    struct line *l = line_for(p, i);

    if (l->own.piece != i && !(p->started && take_opened(p, l, i))) {
        l->own.piece = NONE;
        TRY(open_piece(&p->f, &p->reader, i, l->own.bytes));
        l->own.piece = i;
    }
    l->used = ++p->clock;
    *bytes = l->own.bytes;
    return 0;
}

/* ---- both --------------------------------------------------------------------------------- */

static int opener_new(const struct seal *of, struct opener *out)
{
    if ((out->closed = mem_array(SEALED, 1)) == NULL)
        return ERR_NOMEM;
    return seal_copy(of, &out->seal);
}

static void opener_free(struct opener *o)
{
    seal_free(o->seal);
    mem_free(o->closed);
}

static int make_places(struct pieces *p, size_t ahead)
{
    uint8_t *at = p->memory = secret_array(LINES * (1 + ahead), SEAL_PIECE);

    if (at == NULL)
        return ERR_NOMEM;
    for (int k = 0; k < LINES; k++) {
        p->line[k].own = (struct place){.piece = NONE, .bytes = at};
        at += SEAL_PIECE;
        for (size_t i = 0; i < ahead; i++, at += SEAL_PIECE)
            p->line[k].ahead[i] = (struct place){.piece = NONE, .bytes = at};
    }
    return 0;
}

/* A thread that the system does not give is done without. Signals are for the program's own. */
static int start(struct pieces *p)
{
    sigset_t all, before;

    if (pthread_mutex_init(&p->lock, NULL) != 0 || pthread_cond_init(&p->work, NULL) != 0 ||
        pthread_cond_init(&p->done, NULL) != 0)
        return fail(ERR_NOMEM, "'%s': out of memory", p->f.name);
    p->locks = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    p->started = pthread_create(&p->thread, NULL, open_ahead, p) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return 0;
}

int pieces_open(const struct pieces_file *f, struct pieces **out)
{
    SCOPED(pieces_close_at) struct pieces *p = mem_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    p->f = *f;
    p->n = (f->size + SEAL_PIECE - 1) / SEAL_PIECE;
    const bool ahead = p->n > LINES;
    TRY(make_places(p, ahead ? PIECES_AHEAD : 0));
    TRY(opener_new(f->seal, &p->reader));
    if (ahead) {
        TRY(opener_new(f->seal, &p->helper));
        TRY(start(p));
    }
    *out = mem_hand_on(&p);
    return 0;
}

static void stop(struct pieces *p)
{
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
}

void pieces_close(struct pieces *p)
{
    if (p == NULL)
        return;
    if (p->started)
        stop(p);
    if (p->locks) {
        pthread_cond_destroy(&p->done);
        pthread_cond_destroy(&p->work);
        pthread_mutex_destroy(&p->lock);
    }
    opener_free(&p->reader);
    opener_free(&p->helper);
    secret_free(p->memory);
    mem_free(p);
}

int pieces_ahead(struct pieces *p, uint64_t i)
{
    const struct place *at;
    int ahead;

    if (!p->started)
        return -1;
    pthread_mutex_lock(&p->lock);
    at = find(p, i);
    ahead = at != NULL && !at->busy;
    pthread_mutex_unlock(&p->lock);
    return ahead;
}
