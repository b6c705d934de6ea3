/* Prepared material (bundle.h). */
#include "runtime/party/bundle.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/crypto/store.h"

#define HEAD 128
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

static int lay_out(struct bundle *b)
{
    const struct schedule *s = b->schedule;
    const size_t word = sizeof(uint64_t);

    if (b->client) {
        TRY(reserve(b, (size_t)s->plan->tensor[0].count * word, &b->input));
        TRY(reserve(b, (size_t)s->results * word, &b->results));
    }
    for (int32_t i = 0; i < s->n; i++) {
        const struct event *e = &s->event[i];
        size_t n = b->client ? 0 : (size_t)e->outputs * word;
        if (e->kind == EVENT_SELECT)
            n = b->backend->state_size(&e->batch, b->client);
        TRY(reserve(b, n, &b->offset[i]));
    }
    return 0;
}

int bundle_new(const struct schedule *s, const struct relu_backend *backend, bool client,
               struct bundle **out)
{
    struct bundle *b = mem_array(1, sizeof *b);
    int rc;

    if (b == NULL)
        return ERR_NOMEM;
    b->schedule = s;
    b->backend = backend;
    b->client = client;
    if ((b->offset = mem_array((size_t)s->n, sizeof *b->offset)) == NULL)
        rc = ERR_NOMEM;
    else if ((rc = lay_out(b)) == 0 && (b->memory = secret_array(b->size, 1)) == NULL)
        rc = ERR_NOMEM;
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
    struct relu_batch batch = b->schedule->event[event].batch;

    batch.tweak = b->number << EVENT_BITS | (uint64_t)event;
    return batch;
}

/* ---- files -------------------------------------------------------------------------------- */

static void put_name(uint8_t *to, const char *name)
{
    size_t n = strlen(name);

    to[0] = (uint8_t)(n < 15 ? n : 15);
    memcpy(to + 1, name, to[0]);
}

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static void make_head(const struct bundle *b, const struct bundle_key *k, uint8_t head[HEAD])
{
    memset(head, 0, HEAD);
    memcpy(head, magic, sizeof magic);
    head[8] = 2;
    head[10] = !b->client;
    head[11] = b->schedule->label;
    head[44] = k->test_seed;
    put_name(head + 12, k->linear);
    put_name(head + 28, b->backend->name);
    memcpy(head + 48, k->model, 32);
    memcpy(head + 80, b->id, BUNDLE_ID);
    put_u64(head + 96, b->number);
    put_u64(head + 104, b->size);
}

static void file_name(const struct bundle *b, char name[STORE_NAME])
{
    char hex[2 * BUNDLE_ID + 1];

    for (int i = 0; i < BUNDLE_ID; i++)
        snprintf(hex + 2 * i, 3, "%02x", b->id[i]);
    if (b->client)
        snprintf(name, STORE_NAME, BUNDLE_PREFIX "%08" PRIu64 "-%s" BUNDLE_CLIENT, b->number, hex);
    else
        snprintf(name, STORE_NAME, BUNDLE_PREFIX "%s" BUNDLE_SERVER, hex);
}

int bundle_save(const struct bundle *b, const struct bundle_key *k, const char *dir)
{
    struct store_writer *w = NULL;
    uint8_t head[HEAD];
    char name[STORE_NAME];
    int rc;

    file_name(b, name);
    make_head(b, k, head);
    if ((rc = store_write(dir, name, &w)) == 0 && (rc = store_append(w, head, HEAD)) == 0 &&
        (rc = store_append(w, b->memory, b->size)) == 0)
        rc = store_commit(&w);
    store_abort(w);
    return rc;
}

/* Everything but id and number must be as we would write it. */
static int check_head(const struct bundle *b, const struct bundle_key *k, const uint8_t *head,
                      const char *name)
{
    uint8_t mine[HEAD];

    make_head(b, k, mine);
    memcpy(mine + 80, head + 80, 24);
    if (memcmp(mine, head, HEAD) == 0)
        return 0;
    if (memcmp(mine, head, 8) == 0 && memcmp(mine + 8, head + 8, 2) != 0)
        return fail(
            ERR_FORMAT,
            "'%s': made by version %d of this program's bundles, now %d; make new ones with linnet-pi preprocess",
            name, head[8] | head[9] << 8, mine[8]);
    return fail(ERR_FORMAT, "'%s': %s", name,
                memcmp(mine + 48, head + 48, 32) == 0
                    ? "made for another ReLU or linear backend, kind of answer or with --test-seed"
                    : "made for another model.pi");
}

int bundle_claim(struct bundle *b, const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];
    uint8_t *bytes = NULL;
    int rc;

    file_name(b, name);
    if (b->client) {
        TRY(rc = store_next(dir, BUNDLE_PREFIX, BUNDLE_CLIENT, name));
        if (rc == 0)
            return fail(ERR_DATA, "'%s' holds no bundle; make some with linnet-pi preprocess", dir);
    }
    TRY(store_claim(dir, name, HEAD + b->size, &bytes));
    if ((rc = check_head(b, k, bytes, name)) == 0) {
        if (!b->client && memcmp(b->id, bytes + 80, BUNDLE_ID) != 0)
            rc = fail(ERR_FORMAT, "'%s': renamed", name);
        memcpy(b->id, bytes + 80, BUNDLE_ID);
        b->number = 0;
        for (int i = 0; i < 8; i++)
            b->number |= (uint64_t)bytes[96 + i] << 8 * i;
        memcpy(b->memory, bytes + HEAD, b->size);
    }
    secret_free(bytes);
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

int bundle_folder(const char *dir)
{
    TRY(store_folder(dir));
    return store_sweep(dir);
}
