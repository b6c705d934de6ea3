/*
 * Reading ahead; see stream.h. A slot of the buffer goes
 *
 *     EMPTY -> BUSY (a thread decodes into it) -> READY -> TAKEN (being copied out) -> EMPTY
 *
 * Whoever wants an image that is neither in a slot nor on its way takes it off the list and decodes it
 * itself, so nobody waits for a free slot but the threads, and a full buffer stops only them. A failure is
 * forgotten: the one who asks for the image reads it again and has the message on its own thread.
 */
#include "trainer/data/stream.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"

#define GONE (-1) /* in the list: somebody took it */

enum slot_state { SLOT_EMPTY, SLOT_BUSY, SLOT_READY, SLOT_TAKEN };
struct slot {
    enum slot_state state;
    bool unwanted; /* BUSY: forget it when it is done */
    int64_t record;
    struct data_view view;
};
struct stream {
    struct stream_source source;
    size_t bytes; /* of an image */
    int64_t n_slot;
    struct slot *slot;
    uint8_t *data; /* [n_slot][bytes] */
    int threads, started;
    pthread_t *thread;
    bool has_lock;
    pthread_mutex_t lock; /* of all below, and of the slots */
    pthread_cond_t work, done;
    bool quit;
    struct data_view view; /* of the list */
    int64_t *want;         /* [n_slot] records to be decoded; GONE: not any more */
    int64_t n_want, next;
    int64_t held, most_held, hits;
};

static bool same_view(const struct data_view *a, const struct data_view *b)
{
    return a->random == b->random && (!a->random || (a->seed == b->seed && a->epoch == b->epoch));
}

static bool is_image(const struct slot *s, int64_t record, const struct data_view *view)
{
    return s->record == record && same_view(&s->view, view);
}

static uint8_t *slot_data(const struct stream *s, int64_t i)
{
    return s->data + (size_t)i * s->bytes;
}

static void empty(struct stream *s, struct slot *slot)
{
    slot->state = SLOT_EMPTY;
    s->held--;
    pthread_cond_signal(&s->work);
}

/* ---- the threads ----------------------------------------------------------------------------- */

/* A free slot for the next record of the list; NULL where there is nothing to do. Locked. */
static struct slot *next_job(struct stream *s)
{
    while (s->next < s->n_want && s->want[s->next] == GONE)
        s->next++;
    if (s->next == s->n_want)
        return NULL;
    for (int64_t i = 0; i < s->n_slot; i++) {
        struct slot *slot = &s->slot[i];
        if (slot->state != SLOT_EMPTY)
            continue;
        *slot = (struct slot){SLOT_BUSY, false, s->want[s->next++], s->view};
        s->held++;
        s->most_held = max_i64(s->held, s->most_held);
        return slot;
    }
    return NULL;
}

static void *decode_ahead(void *arg)
{
    struct stream *s = arg;
    struct slot *slot;

    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        if ((slot = next_job(s)) == NULL) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        const int rc =
            s->source.read(s->source.ctx, slot->record, &slot->view, slot_data(s, slot - s->slot));
        pthread_mutex_lock(&s->lock);
        slot->state = SLOT_READY;
        if (rc < 0 || slot->unwanted)
            empty(s, slot);
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Threads that cannot be started are done without. Signals are for the program's own thread. Locked. */
static void start(struct stream *s)
{
    sigset_t all, before;

    if (s->started > 0)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (s->started < s->threads &&
           pthread_create(&s->thread[s->started], NULL, decode_ahead, s) == 0)
        s->started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- construction ---------------------------------------------------------------------------- */

static int init(struct stream *s, size_t memory, int threads)
{
    s->n_slot =
        (int64_t)(memory / s->bytes < DATA_AHEAD_MOST ? memory / s->bytes : DATA_AHEAD_MOST);
    s->threads = s->n_slot > 0 ? threads : 0;
    s->slot = mem_array((size_t)s->n_slot, sizeof *s->slot);
    s->want = mem_array((size_t)s->n_slot, sizeof *s->want);
    s->data = mem_aligned((size_t)s->n_slot, s->bytes);
    s->thread = mem_array((size_t)s->threads, sizeof *s->thread);
    if (s->slot == NULL || s->want == NULL || s->data == NULL || s->thread == NULL)
        return ERR_NOMEM;
    if (pthread_mutex_init(&s->lock, NULL) != 0)
        return fail(ERR_NOMEM, "out of memory");
    if (pthread_cond_init(&s->work, NULL) != 0) {
        pthread_mutex_destroy(&s->lock);
        return fail(ERR_NOMEM, "out of memory");
    }
    if (pthread_cond_init(&s->done, NULL) != 0) {
        pthread_cond_destroy(&s->work);
        pthread_mutex_destroy(&s->lock);
        return fail(ERR_NOMEM, "out of memory");
    }
    s->has_lock = true;
    return 0;
}

int stream_new(const struct stream_source *source, size_t image_bytes, size_t memory, int threads,
               struct stream **out)
{
    struct stream *s = mem_array(1, sizeof *s);
    int rc;

    if (s == NULL) {
        source->release(source->ctx);
        return ERR_NOMEM;
    }
    s->source = *source;
    s->bytes = image_bytes;
    rc = init(s, memory, threads);
    if (rc < 0)
        stream_free(s);
    else
        *out = s;
    return rc;
}

void stream_free(struct stream *s)
{
    if (s == NULL)
        return;
    if (s->has_lock) {
        pthread_mutex_lock(&s->lock);
        s->quit = true;
        pthread_cond_broadcast(&s->work);
        pthread_mutex_unlock(&s->lock);
        for (int i = 0; i < s->started; i++)
            pthread_join(s->thread[i], NULL);
        pthread_cond_destroy(&s->done);
        pthread_cond_destroy(&s->work);
        pthread_mutex_destroy(&s->lock);
    }
    s->source.release(s->source.ctx);
    mem_free(s->slot);
    mem_free(s->want);
    mem_free(s->data);
    mem_free(s->thread);
    mem_free(s);
}

int64_t stream_capacity(const struct stream *s)
{
    return s->n_slot;
}

/* ---- hints ----------------------------------------------------------------------------------- */

/* Is the image in a slot, or on its way to one? Then it stays there. Locked. */
static bool keep(struct stream *s, int64_t record, const struct data_view *view)
{
    for (int64_t i = 0; i < s->n_slot; i++) {
        struct slot *slot = &s->slot[i];
        if ((slot->state == SLOT_BUSY || slot->state == SLOT_READY) &&
            is_image(slot, record, view)) {
            slot->unwanted = false;
            return true;
        }
    }
    return false;
}

void stream_ahead(struct stream *s, const struct data_view *view, const int64_t *record, int64_t n)
{
    n = min_i64(n, s->n_slot);
    if (n <= 0)
        return;
    pthread_mutex_lock(&s->lock);
    for (int64_t i = 0; i < s->n_slot; i++)
        s->slot[i].unwanted = true;
    s->view = *view;
    s->n_want = s->next = 0;
    for (int64_t i = 0; i < n; i++)
        if (!keep(s, record[i], view))
            s->want[s->n_want++] = record[i];
    for (int64_t i = 0; i < s->n_slot; i++)
        if (s->slot[i].state == SLOT_READY && s->slot[i].unwanted)
            empty(s, &s->slot[i]);
    start(s);
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The slot of the image once it is ready; NULL where nobody decodes it, and nobody will. Locked. */
static struct slot *find_ready(struct stream *s, int64_t record, const struct data_view *view)
{
    for (int64_t i = 0; i < s->n_slot;) {
        struct slot *slot = &s->slot[i];
        const bool mine = is_image(slot, record, view);

        if (mine && slot->state == SLOT_READY)
            return slot;
        if (mine && slot->state == SLOT_BUSY && !slot->unwanted) {
            pthread_cond_wait(&s->done, &s->lock);
            i = 0; /* it may be ready, failed, or somebody else's */
        } else {
            i++;
        }
    }
    for (int64_t i = s->next; i < s->n_want && same_view(&s->view, view); i++)
        if (s->want[i] == record) {
            s->want[i] = GONE;
            break;
        }
    return NULL;
}

int stream_read(struct stream *s, int64_t record, const struct data_view *view, void *out)
{
    pthread_mutex_lock(&s->lock);
    struct slot *slot = find_ready(s, record, view);
    if (slot != NULL) {
        slot->state = SLOT_TAKEN;
        s->hits++;
    }
    pthread_mutex_unlock(&s->lock);
    if (slot == NULL)
        return s->source.read(s->source.ctx, record, view, out);
    memcpy(out, slot_data(s, slot - s->slot), s->bytes);
    pthread_mutex_lock(&s->lock);
    empty(s, slot);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

size_t stream_most_held(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    const int64_t n = s->most_held;
    pthread_mutex_unlock(&s->lock);
    return (size_t)n * s->bytes;
}

int64_t stream_hits(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    const int64_t n = s->hits;
    pthread_mutex_unlock(&s->lock);
    return n;
}
