/* Prepared material (bundle.h). */
#include "runtime/party/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/base/sha256.h"

#define HEAD 128
#define VERSION 4
#define EVENT_BITS 20 /* events of a schedule: schedule.c */
static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'B'};

/* ---- layout ------------------------------------------------------------------------------- */

static int reserve(struct bundle *b, uint64_t n, uint64_t *offset)
{
    *offset = b->size;
    if (n > INT64_MAX / 4 || b->size > INT64_MAX / 4)
        return fail(ERR_LIMIT, "the prepared material of one image is too large");
    b->size += n;
    return 0;
}

/* Offsets and size for the forms that ways bring. */
static int lay_out(struct bundle *b, const struct relu_ways *ways)
{
    const struct schedule *s = b->schedule;
    const uint64_t word = sizeof(uint64_t);
    uint64_t ends;

    b->ways = *ways;
    b->size = b->client ? (uint64_t)s->plan->tensor[0].count * word : 0;
    for (int32_t i = 0; i < s->n; i++) {
        const struct event *e = &s->event[i];
        uint64_t n = b->client ? 0 : (uint64_t)e->outputs * word;
        b->batch[i] = e->batch;
        if (e->kind == EVENT_SELECT) {
            relu_shape(b->backend, ways, &b->batch[i]);
            n = b->backend->state_size(&b->batch[i], b->client);
        }
        TRY(reserve(b, n, &b->offset[i]));
    }
    return b->client ? reserve(b, (uint64_t)s->results * word, &ends) : 0;
}

int bundle_new(const struct schedule *s, const struct relu_backend *backend, bool client,
               const struct relu_ways *ways, struct bundle **out)
{
    SCOPED(bundle_free_at) struct bundle *b = mem_array(1, sizeof *b);

    if (b == NULL)
        return ERR_NOMEM;
    b->schedule = s;
    b->backend = backend;
    b->client = client;
    if ((b->offset = mem_array((size_t)s->n, sizeof *b->offset)) == NULL ||
        (b->batch = mem_array((size_t)s->n, sizeof *b->batch)) == NULL)
        return ERR_NOMEM;
    TRY(lay_out(b, ways));
    *out = mem_hand_on(&b);
    return 0;
}

void bundle_free(struct bundle *b)
{
    if (b == NULL)
        return;
    tape_free(b->tape);
    if (b->claimed[0] != '\0')
        store_finish(b->dir, b->claimed);
    mem_free(b->offset);
    mem_free(b->batch);
    mem_free(b);
}

uint64_t bundle_memory(const struct relu_backend *b, bool client, uint64_t available)
{
    uint64_t share = client && b->reads_fast ? available / 4 : 0;

    if (share < BUNDLE_MEMORY)
        return BUNDLE_MEMORY;
    return share < BUNDLE_MEMORY_MOST ? share : BUNDLE_MEMORY_MOST;
}

uint64_t bundle_results(const struct bundle *b)
{
    return b->size - (uint64_t)b->schedule->results * sizeof(uint64_t);
}

struct relu_batch bundle_batch(const struct bundle *b, int32_t event)
{
    struct relu_batch batch = b->batch[event];

    batch.tweak = b->number << EVENT_BITS | (uint64_t)event;
    return batch;
}

/* ---- files -------------------------------------------------------------------------------- */

/* Length and at most 15 bytes, in 16. */
static void put_name(struct buf_writer *w, const char *name)
{
    char field[16] = {0};
    size_t n = strlen(name) < 15 ? strlen(name) : 15;

    field[0] = (char)n;
    memcpy(field + 1, name, n);
    buf_put_bytes(w, field, sizeof field);
}

static void make_head(const struct bundle *b, const struct bundle_key *k, uint8_t head[HEAD])
{
    struct buf_writer w = buf_writer_in(head, HEAD);

    memset(head, 0, HEAD);
    buf_put_bytes(&w, magic, sizeof magic);
    buf_put_u16(&w, VERSION);
    buf_put_u8(&w, !b->client);
    buf_put_u8(&w, b->schedule->label);
    put_name(&w, k->linear);
    put_name(&w, b->backend->name);
    buf_put_u8(&w, k->test_seed);
    buf_put_u8(&w,
               (uint8_t)((b->ways.down != NULL) | (b->ways.up != NULL) << 1 | b->ways.ahead << 2));
    buf_put_u8(&w, k->seal != NULL);
    buf_put_u8(&w, b->ways.tagged);
    buf_put_bytes(&w, k->model, sizeof k->model);
    buf_put_bytes(&w, b->id, BUNDLE_ID);
    buf_put_u64(&w, b->number);
    buf_put_u64(&w, b->size);
    buf_put_u64(&w, b->ways.bits_per_second);
    buf_put_u64(&w, b->ways.rtt_ns);
}

struct head { /* what a reader needs of one */
    bool magic;
    uint16_t version;
    uint8_t model[32], id[BUNDLE_ID];
    uint64_t number;
    struct relu_ways ways; /* of the sets only whether there is one */
};
static struct head read_head(const uint8_t bytes[HEAD])
{
    struct buf_reader r = buf_reader_on(bytes, HEAD, "head");
    const uint8_t *skipped;
    struct head h = {0};
    uint64_t size;
    uint8_t silent = 0, tagged = 0;

    /* 128 bytes are there, so that nothing here can fail */
    h.magic =
        buf_get_view(&r, sizeof magic, &skipped) == 0 && memcmp(skipped, magic, sizeof magic) == 0;
    (void)!buf_get_u16(&r, &h.version);
    (void)!buf_get_view(&r, 2 + 2 * 16 + 1, &skipped);
    (void)!buf_get_u8(&r, &silent);
    h.ways.down = silent & 1 ? ferret_set(0) : NULL;
    h.ways.up = silent & 2 ? ferret_set(0) : NULL;
    h.ways.ahead = (silent & 4) != 0;
    (void)!buf_get_view(&r, 1, &skipped);
    (void)!buf_get_u8(&r, &tagged);
    h.ways.tagged = tagged == 1;
    (void)!buf_get_bytes(&r, h.model, sizeof h.model);
    (void)!buf_get_bytes(&r, h.id, sizeof h.id);
    (void)!buf_get_u64(&r, &h.number);
    (void)!buf_get_u64(&r, &size);
    (void)!buf_get_u64(&r, &h.ways.bits_per_second);
    (void)!buf_get_u64(&r, &h.ways.rtt_ns);
    return h;
}

static void name_of(const char *prefix, bool client, uint64_t number, const uint8_t id[BUNDLE_ID],
                    char name[STORE_NAME])
{
    char hex[2 * BUNDLE_ID + 1];

    hex_of(id, BUNDLE_ID, hex);
    if (client)
        snprintf(name, STORE_NAME, "%s%08" PRIu64 "-%s" BUNDLE_CLIENT, prefix, number, hex);
    else
        snprintf(name, STORE_NAME, "%s%s" BUNDLE_SERVER, prefix, hex);
}

static void file_name(const struct bundle *b, char name[STORE_NAME])
{
    name_of(BUNDLE_PREFIX, b->client, b->number, b->id, name);
}

int bundle_begin(struct bundle *b, enum bundle_place where, uint64_t room,
                 const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];
    uint8_t head[HEAD];
    const struct tape_file f = {dir, name, head, HEAD, k->seal};

    if (where == BUNDLE_NOWHERE)
        return tape_nowhere(b->size, &b->tape);
    if (where == BUNDLE_HERE)
        return b->size <= room ? tape_memory(b->size, &b->tape)
                               : tape_spool(dir, b->size, &b->tape);
    make_head(b, k, head);
    name_of(where == BUNDLE_SAVED ? BUNDLE_PREFIX : BUNDLE_PENDING, b->client, b->number, b->id,
            name);
    return tape_record(&f, b->size, &b->tape);
}

int bundle_commit(struct bundle *b)
{
    return tape_commit(&b->tape);
}

int bundle_publish(const char *dir, bool client, uint64_t number, const uint8_t id[BUNDLE_ID],
                   bool *found)
{
    char from[STORE_NAME], to[STORE_NAME];

    name_of(BUNDLE_PENDING, client, number, id, from);
    name_of(BUNDLE_PREFIX, client, number, id, to);
    return store_rename(dir, from, to, found);
}

int bundle_drop_pending(const char *dir, bool client, uint64_t number, const uint8_t id[BUNDLE_ID])
{
    char name[STORE_NAME];

    name_of(BUNDLE_PENDING, client, number, id, name);
    return store_drop(dir, name);
}

/* Everything but id and number, which b has from the file, must be as we would write it. */
static int check_head(const struct bundle *b, const struct bundle_key *k, const struct head *h,
                      const uint8_t *bytes, const char *name)
{
    uint8_t mine[HEAD];

    make_head(b, k, mine);
    if (memcmp(mine, bytes, HEAD) == 0)
        return 0;
    if (h->magic && h->version != VERSION)
        return fail(
            ERR_FORMAT,
            "'%s': made by version %d of this program's bundles, now %d; make new ones with linnet-pi preprocess",
            name, h->version, VERSION);
    return fail(
        ERR_FORMAT, "'%s': %s", name,
        memcmp(k->model, h->model, sizeof h->model) == 0
            ? "made for another ReLU or linear backend, kind of answer, with --test-seed or another --bundle-key"
            : "made for another model.pi");
}

/* Lays b out as the file says, and compares. */
static int check_file(struct bundle *b, const struct bundle_key *k, const uint8_t bytes[HEAD],
                      const char *name)
{
    const bool tagged = b->ways.tagged;
    struct head h = read_head(bytes);
    uint8_t wanted[BUNDLE_ID];

    memcpy(wanted, b->id, BUNDLE_ID);
    memcpy(b->id, h.id, BUNDLE_ID);
    b->number = h.number;
    /* the forms that it was made with may be others than this connection's */
    if (h.ways.bits_per_second > RELU_MOST_RATE || h.ways.rtt_ns > RELU_MOST_RTT)
        return fail(ERR_FORMAT, "'%s': damaged", name);
    TRY(lay_out(b, &h.ways));
    TRY(check_head(b, k, &h, bytes, name));
    if (!b->client && memcmp(wanted, h.id, BUNDLE_ID) != 0)
        return fail(ERR_FORMAT, "'%s': renamed", name);
    if (h.ways.tagged != tagged)
        return fail(ERR_FORMAT, "'%s': made for a server with --clients %s", name,
                    tagged ? "trusted" : "covert");
    return 0;
}

/* The claimed file of that name. */
static int take_file(struct bundle *b, uint64_t room, const struct bundle_key *k, const char *name,
                     int fd)
{
    uint8_t bytes[HEAD];
    const struct tape_file f = {NULL, name, bytes, HEAD, k->seal};
    int rc = pread(fd, bytes, HEAD, 0) == HEAD ? check_file(b, k, bytes, name)
                                               : fail(ERR_FORMAT, "'%s': damaged", name);

    if (rc < 0) {
        close(fd);
        return rc;
    }
    return tape_open(&f, fd, b->size <= room, b->size, &b->tape);
}

int bundle_claim(struct bundle *b, uint64_t room, const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];
    int fd, rc;

    file_name(b, name);
    if (b->client) {
        TRY(rc = store_next(dir, BUNDLE_PREFIX, BUNDLE_CLIENT, name));
        if (rc == 0)
            return fail(ERR_DATA, "'%s' holds no bundle; make some with linnet-pi preprocess", dir);
    }
    TRY(store_begin(dir, name, &fd));
    b->dir = dir;
    memcpy(b->claimed, name, sizeof b->claimed);
    return take_file(b, room, k, name, fd);
}

int bundle_unclaim(struct bundle *b)
{
    int rc = store_return(b->dir, b->claimed);

    b->claimed[0] = '\0';
    tape_free(b->tape); /* and its lock */
    b->tape = NULL;
    return rc;
}

int bundle_use(struct bundle *b)
{
    int rc = store_mark_used(b->dir, b->id);

    store_finish(b->dir, b->claimed);
    b->claimed[0] = '\0';
    return rc;
}

int bundle_exists(const struct bundle *b, const char *dir, bool *exists)
{
    char name[STORE_NAME];
    int64_t n;

    file_name(b, name);
    TRY(store_count(dir, name, "", &n));
    *exists = n > 0;
    return 0;
}

int bundle_count(const char *dir, bool client, int64_t *n)
{
    return store_count(dir, BUNDLE_PREFIX, client ? BUNDLE_CLIENT : BUNDLE_SERVER, n);
}

int bundle_count_pending(const char *dir, bool client, int64_t *n)
{
    return store_count(dir, BUNDLE_PENDING, client ? BUNDLE_CLIENT : BUNDLE_SERVER, n);
}

int bundle_folder(const char *dir)
{
    TRY(store_folder(dir));
    return store_sweep(dir);
}
