/* Prepared material (bundle.h). */
#include "runtime/party/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/buf.h"
#include "runtime/crypto/prg.h"
#include "runtime/crypto/seal.h"
#include "runtime/crypto/store.h"

#define HEAD 128
#define VERSION 2
#define ALIGN 64
#define EVENT_BITS 20 /* events of a schedule: schedule.c */
static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'B'};

/* ---- layout ------------------------------------------------------------------------------- */

static int reserve(struct bundle *b, size_t n, size_t *offset)
{
    *offset = b->size;
    if (n > SIZE_MAX / 4 || b->size > SIZE_MAX / 4)
        return fail(ERR_LIMIT, "the prepared material of one image does not fit in memory");
    b->size += (n + ALIGN - 1) / ALIGN * ALIGN;
    return 0;
}

/* Offsets and size for the forms that ways bring. */
static int lay_out(struct bundle *b, const struct relu_ways *ways)
{
    const struct schedule *s = b->schedule;
    const size_t word = sizeof(uint64_t);

    b->ways = *ways;
    b->size = 0;
    for (int32_t i = 0; i < s->n; i++) {
        b->batch[i] = s->event[i].batch;
        if (s->event[i].kind == EVENT_SELECT)
            relu_shape(b->backend, ways, &b->batch[i]);
    }
    if (b->client) {
        TRY(reserve(b, (size_t)s->plan->tensor[0].count * word, &b->input));
        TRY(reserve(b, (size_t)s->results * word, &b->results));
    }
    for (int32_t i = 0; i < s->n; i++) {
        const struct event *e = &s->event[i];
        size_t n = b->client ? 0 : (size_t)e->outputs * word;
        if (e->kind == EVENT_SELECT)
            n = b->backend->state_size(&b->batch[i], b->client);
        TRY(reserve(b, n, &b->offset[i]));
    }
    return 0;
}

static int take_memory(struct bundle *b)
{
    secret_free(b->memory);
    b->memory = secret_array(b->size, 1);
    return b->memory == NULL ? ERR_NOMEM : 0;
}

int bundle_new(const struct schedule *s, const struct relu_backend *backend, bool client,
               const struct relu_ways *ways, struct bundle **out)
{
    struct bundle *b = mem_array(1, sizeof *b);
    int rc;

    if (b == NULL)
        return ERR_NOMEM;
    b->schedule = s;
    b->backend = backend;
    b->client = client;
    if ((b->offset = mem_array((size_t)s->n, sizeof *b->offset)) == NULL ||
        (b->batch = mem_array((size_t)s->n, sizeof *b->batch)) == NULL)
        rc = ERR_NOMEM;
    else if ((rc = lay_out(b, ways)) == 0)
        rc = take_memory(b);
    if (rc < 0) {
        bundle_free(b);
        return rc;
    }
    *out = b;
    return 0;
}

void bundle_free(struct bundle *b)
{
    if (b == NULL)
        return;
    secret_free(b->memory);
    mem_free(b->offset);
    mem_free(b->batch);
    mem_free(b);
}

static uint64_t *words_at(const struct bundle *b, size_t offset)
{
    return (uint64_t *)(void *)(b->memory + offset);
}

uint64_t *bundle_input(const struct bundle *b)
{
    return words_at(b, b->input);
}

uint64_t *bundle_results(const struct bundle *b)
{
    return words_at(b, b->results);
}

uint64_t *bundle_offset(const struct bundle *b, int32_t event)
{
    return words_at(b, b->offset[event]);
}

uint8_t *bundle_state(const struct bundle *b, int32_t event)
{
    return b->memory + b->offset[event];
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
    buf_put_u8(&w, (uint8_t)((b->ways.down != NULL) | (b->ways.up != NULL) << 1));
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

    for (int i = 0; i < BUNDLE_ID; i++)
        snprintf(hex + 2 * i, 3, "%02x", id[i]);
    if (client)
        snprintf(name, STORE_NAME, "%s%08" PRIu64 "-%s" BUNDLE_CLIENT, prefix, number, hex);
    else
        snprintf(name, STORE_NAME, "%s%s" BUNDLE_SERVER, prefix, hex);
}

static void file_name(const struct bundle *b, char name[STORE_NAME])
{
    name_of(BUNDLE_PREFIX, b->client, b->number, b->id, name);
}

/* Bytes behind the head. */
static size_t stored_size(const struct bundle *b, const struct bundle_key *k)
{
    return k->seal == NULL ? b->size : SEAL_SALT + seal_size(b->size);
}

static int append_pieces(const struct bundle *b, struct seal *s, struct store_writer *w,
                         uint8_t *piece)
{
    for (size_t at = 0, i = 0; at < b->size; at += SEAL_PIECE, i++) {
        size_t left = b->size - at, n = left < SEAL_PIECE ? left : SEAL_PIECE;
        TRY(seal_close(s, i, n == left, b->memory + at, n, piece));
        TRY(store_append(w, piece, n + SEAL_TAG));
    }
    return 0;
}

static int append_block(const struct bundle *b, const struct bundle_key *k,
                        const uint8_t head[HEAD], struct store_writer *w)
{
    uint8_t salt[SEAL_SALT], *piece;
    struct prg *rng = NULL;
    struct seal *s = NULL;
    int rc;

    if (k->seal == NULL)
        return store_append(w, b->memory, b->size);
    TRY(prg_new_random(&rng));
    prg_bytes(rng, salt, sizeof salt);
    prg_free(rng);
    if ((piece = mem_array(SEAL_PIECE + SEAL_TAG, 1)) == NULL)
        return ERR_NOMEM;
    if ((rc = store_append(w, salt, sizeof salt)) == 0 &&
        (rc = seal_new(k->seal, salt, head, HEAD, &s)) == 0)
        rc = append_pieces(b, s, w, piece);
    seal_free(s);
    mem_free(piece);
    return rc;
}

static int take_block(struct bundle *b, const struct bundle_key *k, const uint8_t *bytes)
{
    const uint8_t *from = bytes + HEAD + SEAL_SALT;
    struct seal *s = NULL;
    int rc;

    if (k->seal == NULL) {
        memcpy(b->memory, bytes + HEAD, b->size);
        return 0;
    }
    rc = seal_new(k->seal, bytes + HEAD, bytes, HEAD, &s);
    for (size_t at = 0, i = 0; at < b->size && rc == 0; at += SEAL_PIECE, i++) {
        size_t left = b->size - at, n = left < SEAL_PIECE ? left : SEAL_PIECE;
        rc = seal_open(s, i, n == left, from, n, b->memory + at);
        from += n + SEAL_TAG;
    }
    seal_free(s);
    return rc;
}

static int save_as(const struct bundle *b, const struct bundle_key *k, const char *dir,
                   const char *name)
{
    struct store_writer *w = NULL;
    uint8_t head[HEAD];
    int rc;

    make_head(b, k, head);
    if ((rc = store_write(dir, name, &w)) == 0 && (rc = store_append(w, head, HEAD)) == 0 &&
        (rc = append_block(b, k, head, w)) == 0)
        rc = store_commit(&w);
    store_abort(w);
    return rc;
}

int bundle_save(const struct bundle *b, const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];

    file_name(b, name);
    return save_as(b, k, dir, name);
}

int bundle_save_pending(const struct bundle *b, const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];

    name_of(BUNDLE_PENDING, b->client, b->number, b->id, name);
    return save_as(b, k, dir, name);
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

/* The claimed bytes of the file of that name. */
static int take_file(struct bundle *b, const struct bundle_key *k, const uint8_t *bytes,
                     const char *name)
{
    struct head h = read_head(bytes);
    uint8_t wanted[BUNDLE_ID];

    memcpy(wanted, b->id, BUNDLE_ID);
    memcpy(b->id, h.id, BUNDLE_ID);
    b->number = h.number;
    TRY(check_head(b, k, &h, bytes, name));
    if (!b->client && memcmp(wanted, h.id, BUNDLE_ID) != 0)
        return fail(ERR_FORMAT, "'%s': renamed", name);
    if (take_block(b, k, bytes) < 0)
        return fail_context(ERR_FORMAT, "'%s'", name);
    return 0;
}

/* The forms that the file was made with, which may be others than this connection's. */
static int take_forms(struct bundle *b, const char *dir, const char *name)
{
    uint8_t bytes[HEAD];
    struct head h;
    int rc = store_head(dir, name, bytes, sizeof bytes);

    if (rc == ERR_FORMAT)
        return 0; /* claiming says what is wrong with it */
    TRY(rc);
    h = read_head(bytes);
    if (h.ways.bits_per_second > RELU_MOST_RATE || h.ways.rtt_ns > RELU_MOST_RTT)
        return 0;
    TRY(lay_out(b, &h.ways));
    return take_memory(b);
}

int bundle_claim(struct bundle *b, const struct bundle_key *k, const char *dir)
{
    const bool tagged = b->ways.tagged;
    char name[STORE_NAME];
    uint8_t *bytes = NULL;
    int rc;

    file_name(b, name);
    if (b->client) {
        TRY(rc = store_next(dir, BUNDLE_PREFIX, BUNDLE_CLIENT, name));
        if (rc == 0)
            return fail(ERR_DATA, "'%s' holds no bundle; make some with linnet-pi preprocess", dir);
    }
    TRY(take_forms(b, dir, name));
    TRY(store_claim(dir, name, HEAD + stored_size(b, k), &bytes));
    rc = take_file(b, k, bytes, name);
    secret_free(bytes);
    if (rc == 0 && b->ways.tagged != tagged)
        return fail(ERR_FORMAT, "'%s': made for a server with --clients %s", name,
                    tagged ? "trusted" : "covert");
    return rc;
}

int bundle_use(const struct bundle *b, const char *dir)
{
    return store_mark_used(dir, b->id);
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
