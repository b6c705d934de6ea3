/*
 * Rounds of preparation and their files (covert.h).
 *
 * Head of a file: "linnetPR", u16 version 1, u8 role (0 client), u8 1 if sealed, u8 lots, u8 opened, u8
 * images, u8 1 if done, u16 choice, u32 grace, zeros to 24, identity of the package (32), id (16), the client's identity
 * (32), u64 number, u64 deadline, u64 process. Then, sealed as a bundle is: session's id (32), seeds,
 * commitments, digests (COVERT_LOTS times 32 each).
 */
#include "runtime/party/covert.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "runtime/crypto/prg.h"
#include "runtime/crypto/seal.h"
#include "runtime/crypto/store.h"
#include "runtime/party/message.h"
#include "runtime/party/party.h"

#define HEAD 128
#define SECRET_BYTES (HASH_SID + COVERT_LOTS * (COVERT_SEED + SHA256_SIZE + COVERT_DIGEST))
#define PREFIX "round-"
#define RESERVED "making-" /* ids of a round that is being made */
static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'R'};

const struct covert_rules covert_default = {5, 1, 4, COVERT_WAIT, 600};

int covert_check(const struct covert_rules *r)
{
    if (r->lots < 2 || r->lots > COVERT_LOTS || r->opened < 1 || r->opened >= r->lots ||
        r->images < 1 || r->lots * r->images > PARTY_LOT)
        return fail(ERR_ARG, "a round of %d lots of %d images, %d of them opened, cannot be made",
                    r->lots, r->images, r->opened);
    return 0;
}

/* ---- bytes -------------------------------------------------------------------------------- */

static uint64_t lot_bytes(const struct schedule *s, const struct relu_backend *relu,
                          const struct linear_backend *linear, int64_t images, int from_client)
{
    uint64_t n =
        relu->open_bytes(from_client, true) + linear->bytes(s->plan, -1, images, from_client);

    for (int32_t i = 0; i < s->n; i++) {
        struct relu_batch b = s->event[i].batch;

        b.tagged = true;
        n += s->event[i].kind == EVENT_LINEAR
                 ? linear->bytes(s->plan, s->event[i].step, images, from_client)
                 : (uint64_t)images * relu->offline_bytes(&b, from_client);
    }
    return n;
}

uint64_t covert_bytes(const struct schedule *s, const struct relu_backend *relu,
                      const struct linear_backend *linear, const struct covert_rules *r,
                      int from_client)
{
    uint64_t lots = r->lots * lot_bytes(s, relu, linear, r->images, from_client);

    return from_client ? REQUEST_BYTES + (uint64_t)r->lots * SHA256_SIZE + lots +
                             (uint64_t)r->opened * COVERT_SEED
                       : ANSWER_BYTES + lots + COVERT_CHOICE + ANSWER_BYTES;
}

uint64_t covert_query_bytes(const struct schedule *s, const struct relu_backend *relu,
                            int from_client)
{
    uint64_t n = from_client ? REQUEST_BYTES + 8 * (uint64_t)s->plan->tensor[0].count
                             : ANSWER_BYTES + 8 * (uint64_t)s->results;

    for (int32_t i = 0; i < s->n; i++) {
        struct relu_batch b = s->event[i].batch;

        b.tagged = true;
        n += s->event[i].kind == EVENT_SELECT ? relu->online_bytes(&b, from_client) : 0;
    }
    return n;
}

/* ---- what follows from a round -------------------------------------------------------------- */

bool covert_is_opened(uint16_t choice, int lot)
{
    return (choice >> lot & 1) != 0;
}

bool covert_choice_fits(const struct covert_rules *r, uint16_t choice)
{
    int n = 0;

    for (int i = 0; i < COVERT_LOTS; i++)
        n += covert_is_opened(choice, i);
    return n == r->opened && choice >> (r->lots - 1) <= 1;
}

/* A number below n, each alike. */
static int draw_below(struct prg *rng, int n)
{
    uint8_t v;

    do
        prg_bytes(rng, &v, 1);
    while (v >= 256 / n * n);
    return v % n;
}

int covert_choose(const struct covert_rules *r, uint16_t *choice)
{
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prg_new_random(&rng));
    *choice = 0;
    for (int left = r->opened; left > 0;) {
        int lot = draw_below(rng, r->lots);
        left -= !covert_is_opened(*choice, lot);
        *choice |= (uint16_t)(1u << lot);
    }
    return 0;
}

uint64_t covert_number(const struct covert_round *r, int64_t i)
{
    return r->number + (uint64_t)i;
}

void covert_id(const struct covert_round *r, int64_t i, uint8_t id[BUNDLE_ID])
{
    lot_id(r->id, (uint32_t)i, id);
}

/* SHA-256 of a name, the session's id, the round's, the lot and maybe a seed. */
static int derive(const char *name, const struct covert_round *r, int lot, const uint8_t *seed,
                  uint8_t out[SHA256_SIZE])
{
    const uint8_t number = (uint8_t)lot;
    SCOPED(sha256_free_at) struct sha256 *h = NULL;

    TRY(sha256_new(&h));
    TRY(sha256_add(h, name, strlen(name)));
    TRY(sha256_add(h, r->sid, sizeof r->sid));
    TRY(sha256_add(h, r->id, sizeof r->id));
    TRY(sha256_add(h, &number, 1));
    if (seed != NULL)
        TRY(sha256_add(h, seed, COVERT_SEED));
    return sha256_end(h, out);
}

int covert_commit(const struct covert_round *r, int lot, const uint8_t seed[COVERT_SEED],
                  uint8_t out[SHA256_SIZE])
{
    return derive("linnet lot", r, lot, seed, out);
}

int covert_sid(const struct covert_round *r, int lot, uint8_t out[HASH_SID])
{
    return derive("linnet lot sid", r, lot, NULL, out);
}

/* ---- files -------------------------------------------------------------------------------- */

static void name_of(const char *prefix, const uint8_t id[BUNDLE_ID], const char *suffix,
                    char name[STORE_NAME])
{
    char hex[2 * BUNDLE_ID + 1];

    snprintf(name, STORE_NAME, "%s%s%s", prefix, hex_of(id, BUNDLE_ID, hex), suffix);
}

static const char *suffix_of(bool client)
{
    return client ? BUNDLE_CLIENT : BUNDLE_SERVER;
}

static void write_head(const struct covert_round *r, bool sealed, uint8_t head[HEAD])
{
    static const uint8_t zeros[2];
    struct buf_writer w = buf_writer_in(head, HEAD);

    memset(head, 0, HEAD);
    buf_put_bytes(&w, magic, sizeof magic);
    buf_put_u16(&w, 1);
    buf_put_u8(&w, !r->client);
    buf_put_u8(&w, sealed);
    buf_put_u8(&w, r->rules.lots);
    buf_put_u8(&w, r->rules.opened);
    buf_put_u8(&w, r->rules.images);
    buf_put_u8(&w, r->done);
    buf_put_u16(&w, r->choice);
    buf_put_u32(&w, r->rules.grace);
    buf_put_bytes(&w, zeros, sizeof zeros);
    buf_put_bytes(&w, r->model, sizeof r->model);
    buf_put_bytes(&w, r->id, sizeof r->id);
    buf_put_bytes(&w, r->identity, sizeof r->identity);
    buf_put_u64(&w, r->number);
    buf_put_u64(&w, (uint64_t)r->deadline);
    buf_put_u64(&w, (uint64_t)r->process);
}

static uint8_t take_u8(struct buf_reader *r)
{
    uint8_t v = 0;

    (void)!buf_get_u8(r, &v);
    return v;
}

static uint64_t take_u64(struct buf_reader *r)
{
    uint64_t v = 0;

    (void)!buf_get_u64(r, &v);
    return v;
}

/* 128 bytes are there, so that nothing here can fail but what they say. */
static int read_head(const uint8_t head[HEAD], struct covert_round *out, bool *sealed)
{
    struct buf_reader r = buf_reader_on(head, HEAD, "head");
    const uint8_t *skipped;
    uint8_t again[HEAD];

    (void)!buf_get_view(&r, sizeof magic + 2, &skipped);
    out->client = take_u8(&r) == 0;
    *sealed = take_u8(&r) == 1;
    out->rules = (struct covert_rules){.lots = take_u8(&r)};
    out->rules.opened = take_u8(&r);
    out->rules.images = take_u8(&r);
    out->done = take_u8(&r) == 1;
    (void)!buf_get_u16(&r, &out->choice);
    (void)!buf_get_u32(&r, &out->rules.grace);
    (void)!buf_get_view(&r, 2, &skipped);
    (void)!buf_get_bytes(&r, out->model, sizeof out->model);
    (void)!buf_get_bytes(&r, out->id, sizeof out->id);
    (void)!buf_get_bytes(&r, out->identity, sizeof out->identity);
    out->number = take_u64(&r);
    out->deadline = (int64_t)take_u64(&r);
    out->process = (int64_t)take_u64(&r);
    write_head(out, *sealed, again);
    if (memcmp(head, again, HEAD) != 0 || covert_check(&out->rules) < 0)
        return fail(ERR_FORMAT, "no round of preparations of this version");
    return 0;
}

static void put_secret(const struct covert_round *r, uint8_t secret[SECRET_BYTES])
{
    struct buf_writer w = buf_writer_in(secret, SECRET_BYTES);

    buf_put_bytes(&w, r->sid, sizeof r->sid);
    buf_put_bytes(&w, r->seed, sizeof r->seed);
    buf_put_bytes(&w, r->commitment, sizeof r->commitment);
    buf_put_bytes(&w, r->digest, sizeof r->digest);
}

static void get_secret(struct covert_round *r, const uint8_t secret[SECRET_BYTES])
{
    struct buf_reader b = buf_reader_on(secret, SECRET_BYTES, "round");

    (void)!buf_get_bytes(&b, r->sid, sizeof r->sid);
    (void)!buf_get_bytes(&b, r->seed, sizeof r->seed);
    (void)!buf_get_bytes(&b, r->commitment, sizeof r->commitment);
    (void)!buf_get_bytes(&b, r->digest, sizeof r->digest);
}

#define SEALED (SEAL_SALT + SECRET_BYTES + SEAL_TAG)

/* secret -> what is stored of it. */
static int close_secret(const uint8_t *key, const uint8_t head[HEAD],
                        const uint8_t secret[SECRET_BYTES], uint8_t sealed[SEALED])
{
    SCOPED(prg_free_at) struct prg *rng = NULL;
    SCOPED(seal_free_at) struct seal *s = NULL;

    TRY(prg_new_random(&rng));
    prg_bytes(rng, sealed, SEAL_SALT);
    TRY(seal_new(key, sealed, head, HEAD, &s));
    return seal_close(s, 0, true, secret, SECRET_BYTES, sealed + SEAL_SALT);
}

static int open_secret(const uint8_t *key, const uint8_t head[HEAD], const uint8_t sealed[SEALED],
                       uint8_t secret[SECRET_BYTES])
{
    SCOPED(seal_free_at) struct seal *s = NULL;

    TRY(seal_new(key, sealed, head, HEAD, &s));
    return seal_open(s, 0, true, sealed + SEAL_SALT, SECRET_BYTES, secret);
}

int covert_save(const struct covert_round *r, const struct bundle_key *k, const char *dir)
{
    SCOPED(store_abort_at) struct store_writer *w = NULL;
    SECRET uint8_t *secret = secret_array(SECRET_BYTES, 1);
    uint8_t head[HEAD], bytes[SEALED];
    char name[STORE_NAME];

    if (secret == NULL)
        return ERR_NOMEM;
    write_head(r, k->seal != NULL, head);
    name_of(PREFIX, r->id, suffix_of(r->client), name);
    put_secret(r, secret);
    if (k->seal != NULL)
        TRY(close_secret(k->seal, head, secret, bytes));
    TRY(store_write(dir, name, &w));
    TRY(store_append(w, head, HEAD));
    TRY(k->seal != NULL ? store_append(w, bytes, SEALED) : store_append(w, secret, SECRET_BYTES));
    return store_commit(&w);
}

static int take_round(struct covert_round *r, const struct bundle_key *k, const uint8_t *bytes)
{
    SECRET uint8_t *secret = secret_array(SECRET_BYTES, 1);
    uint8_t id[BUNDLE_ID];
    const bool client = r->client;
    bool sealed;

    if (secret == NULL)
        return ERR_NOMEM;
    memcpy(id, r->id, sizeof id);
    TRY(read_head(bytes, r, &sealed));
    if (r->client != client || memcmp(id, r->id, sizeof id) != 0 ||
        memcmp(r->model, k->model, sizeof r->model) != 0)
        return fail(ERR_FORMAT, "renamed, or of another model.pi");
    if (k->seal == NULL)
        memcpy(secret, bytes + HEAD, SECRET_BYTES);
    else
        TRY(open_secret(k->seal, bytes, bytes + HEAD, secret));
    get_secret(r, secret);
    return 0;
}

int covert_load(struct covert_round *r, const struct bundle_key *k, const char *dir)
{
    char name[STORE_NAME];
    SECRET uint8_t *bytes = NULL;
    int rc;

    name_of(PREFIX, r->id, suffix_of(r->client), name);
    TRY(store_read(dir, name, HEAD + (k->seal != NULL ? SEALED : SECRET_BYTES), &bytes));
    rc = take_round(r, k, bytes);
    return rc < 0 ? fail_context(rc, "'%s'", name) : 0;
}

/* The head alone of the file of that name. */
static int head_of(const char *dir, const char *name, struct covert_round *r)
{
    uint8_t head[HEAD];
    bool sealed;

    TRY(store_head(dir, name, head, sizeof head));
    return read_head(head, r, &sealed);
}

/* ---- bundles of a round ------------------------------------------------------------------- */

int covert_drop_lots(const struct covert_round *r, uint16_t choice, const char *dir)
{
    uint8_t id[BUNDLE_ID];

    for (int lot = 0; lot < r->rules.lots; lot++)
        for (int i = 0; covert_is_opened(choice, lot) && i < r->rules.images; i++) {
            int64_t image = lot * r->rules.images + i;
            covert_id(r, image, id);
            TRY(bundle_drop_pending(dir, r->client, covert_number(r, image), id));
        }
    return 0;
}

int covert_publish(const struct covert_round *r, const char *dir, int64_t *made)
{
    uint8_t id[BUNDLE_ID];
    bool found;

    *made = 0;
    TRY(covert_drop_lots(r, r->choice, dir));
    for (int64_t i = 0; i < r->rules.lots * r->rules.images; i++) {
        covert_id(r, i, id);
        TRY(bundle_publish(dir, r->client, covert_number(r, i), id, &found));
        *made += found;
    }
    return 0;
}

int covert_drop(const struct covert_round *r, const char *dir)
{
    char name[STORE_NAME];

    TRY(covert_drop_lots(r, UINT16_MAX, dir));
    name_of(PREFIX, r->id, suffix_of(r->client), name);
    return store_drop(dir, name);
}

/* ---- what is left over -------------------------------------------------------------------- */

struct search {
    const char *dir;
    bool client, found;
    uint8_t id[BUNDLE_ID];
    const char *name; /* of a pending bundle */
};

static int look_left(void *ctx, const char *name)
{
    struct search *s = ctx;
    struct covert_round r;

    if (s->found || head_of(s->dir, name, &r) < 0)
        return 0;
    s->found = r.process == (int64_t)getpid() || (kill((pid_t)r.process, 0) < 0 && errno == ESRCH);
    memcpy(s->id, r.id, sizeof s->id);
    return 0;
}

int covert_left(const char *dir, uint8_t id[BUNDLE_ID])
{
    struct search s = {.dir = dir};

    TRY(store_each(dir, PREFIX, BUNDLE_CLIENT, look_left, &s));
    memcpy(id, s.id, sizeof s.id);
    return s.found;
}

/* Digits of an id that all bundles of a round share: they differ in its last four bytes. */
#define SHARED_DIGITS 24

static int look_round(void *ctx, const char *name)
{
    struct search *s = ctx;
    const size_t n = strlen(s->name) - strlen(suffix_of(s->client)) - 2 * (size_t)BUNDLE_ID;

    s->found = s->found || memcmp(name + strlen(PREFIX), s->name + n, SHARED_DIGITS) == 0;
    return 0;
}

static int drop_orphan(void *ctx, const char *name)
{
    struct search *s = ctx;

    if (strlen(name) < strlen(suffix_of(s->client)) + 2 * (size_t)BUNDLE_ID)
        return 0;
    s->name = name;
    s->found = false;
    TRY(store_each(s->dir, PREFIX, suffix_of(s->client), look_round, s));
    return s->found ? 0 : store_drop(s->dir, name);
}

static int drop_reserved(void *ctx, const char *name)
{
    return store_drop(((const struct search *)ctx)->dir, name);
}

int covert_clean(const char *dir, bool client)
{
    struct search s = {.dir = dir, .client = client};

    TRY(store_each(dir, RESERVED, suffix_of(client), drop_reserved, &s));
    return store_each(dir, BUNDLE_PENDING, suffix_of(client), drop_orphan, &s);
}

struct taken {
    char digits[2 * BUNDLE_ID + 1];
    size_t prefix;
    bool found;
};

static int look_taken(void *ctx, const char *name)
{
    struct taken *t = ctx;

    t->found = t->found || memcmp(name + t->prefix, t->digits, SHARED_DIGITS) == 0;
    return 0;
}

static int look_for_files(const char *dir, const uint8_t id[BUNDLE_ID], bool *taken)
{
    static const char *const prefix[] = {PREFIX, BUNDLE_PENDING, BUNDLE_PREFIX};
    struct taken t = {.found = false};

    hex_of(id, BUNDLE_ID, t.digits);
    for (size_t i = 0; i < sizeof prefix / sizeof *prefix; i++) {
        t.prefix = strlen(prefix[i]);
        TRY(store_each(dir, prefix[i], BUNDLE_SERVER, look_taken, &t));
    }
    *taken = t.found;
    return 0;
}

/* All rounds that would share a name have this one. */
static void reserved_name(const uint8_t id[BUNDLE_ID], char name[STORE_NAME])
{
    uint8_t shared[BUNDLE_ID] = {0};

    memcpy(shared, id, SHARED_DIGITS / 2);
    name_of(RESERVED, shared, BUNDLE_SERVER, name);
}

int covert_reserve(const char *dir, const uint8_t id[BUNDLE_ID], bool *taken)
{
    char name[STORE_NAME];
    int rc;

    reserved_name(id, name);
    TRY(store_reserve(dir, name, taken));
    if (*taken)
        return 0;
    if ((rc = look_for_files(dir, id, taken)) < 0 || *taken)
        (void)!store_drop(dir, name);
    return rc;
}

int covert_release(const char *dir, const uint8_t id[BUNDLE_ID])
{
    char name[STORE_NAME];

    reserved_name(id, name);
    return store_drop(dir, name);
}

/* ---- evidence ----------------------------------------------------------------------------- */

static int append_hex(struct file_writer *w, const char *what, const uint8_t *bytes, size_t n)
{
    char line[32 + 2 * 64 + 2], hex[2 * 64 + 1];

    if (bytes == NULL)
        return 0;
    const int len = snprintf(line, sizeof line, "%s %s\n", what, hex_of(bytes, n, hex));
    return file_writer_append(w, line, (size_t)len);
}

static int write_evidence(struct file_writer *w, const struct covert_round *r, const char *why,
                          int lot, const uint8_t *seed, const uint8_t *digest)
{
    char line[320];
    int n = snprintf(
        line, sizeof line,
        "linnet evidence 1\ntime %lld\nwhy %s\nrules %d lots of %d, %d opened, choice %u\n",
        (long long)time(NULL), why, r->rules.lots, r->rules.images, r->rules.opened, r->choice);

    TRY(file_writer_append(w, line, (size_t)n));
    TRY(append_hex(w, "client", r->identity, sizeof r->identity));
    TRY(append_hex(w, "model", r->model, sizeof r->model));
    TRY(append_hex(w, "round", r->id, sizeof r->id));
    if (lot < 0)
        return 0;
    n = snprintf(line, sizeof line, "lot %d\nnumber %" PRIu64 "\n", lot,
                 covert_number(r, lot * r->rules.images));
    TRY(file_writer_append(w, line, (size_t)n));
    TRY(append_hex(w, "session", r->sid, sizeof r->sid));
    TRY(append_hex(w, "commitment", r->commitment[lot], SHA256_SIZE));
    TRY(append_hex(w, "client-seed", seed, COVERT_SEED));
    TRY(append_hex(w, "server-seed", r->seed[lot], COVERT_SEED));
    TRY(append_hex(w, "sent", r->digest[lot], COVERT_DIGEST));
    return append_hex(w, "due", digest, COVERT_DIGEST);
}

int covert_accuse(const struct covert_round *r, const char *dir, const char *why, int lot,
                  const uint8_t *seed, const uint8_t *digest)
{
    char name[STORE_NAME], path[4096];
    SCOPED(file_writer_abort_at) struct file_writer *w = NULL;

    name_of("evidence-", r->id, ".txt", name);
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return fail(ERR_LIMIT, "path '%s' is too long", dir);
    TRY(file_writer_open(path, FILE_PRIVATE, &w));
    TRY(write_evidence(w, r, why, lot, seed, digest));
    return file_writer_commit(&w);
}

int64_t covert_until(const struct covert_round *r, const struct covert_rules *rules, int64_t since)
{
    const int64_t at_least = since + (int64_t)rules->wait;

    return r->deadline > at_least ? r->deadline : at_least;
}

struct expiry {
    const char *dir;
    const struct covert_rules *rules;
    int64_t since, now;
    void (*caught)(void *ctx, const uint8_t identity[32]);
    void *ctx;
};

static int expire_one(void *ctx, const char *name)
{
    const struct expiry *e = ctx;
    struct covert_round r = {0};

    if (head_of(e->dir, name, &r) < 0) /* another process has just removed it, or it is damaged */
        return 0;
    if (e->now <= covert_until(&r, e->rules, e->since) + (r.done ? 0 : (int64_t)r.rules.grace))
        return 0;
    if (!r.done) {
        TRY(covert_accuse(&r, e->dir, "the seeds of the chosen lots never came", -1, NULL, NULL));
        e->caught(e->ctx, r.identity);
    }
    return covert_drop(&r, e->dir);
}

int covert_expire(const char *dir, const struct covert_rules *rules, int64_t since, int64_t now,
                  void (*caught)(void *ctx, const uint8_t identity[32]), void *ctx)
{
    struct expiry e = {dir, rules, since, now, caught, ctx};

    return store_each(dir, PREFIX, BUNDLE_SERVER, expire_one, &e);
}

struct debts {
    const char *dir;
    const uint8_t *identity;
    bool *owes;
};

static int look_owed(void *ctx, const char *name)
{
    const struct debts *d = ctx;
    struct covert_round r = {0};

    if (head_of(d->dir, name, &r) == 0 && !r.done &&
        memcmp(r.identity, d->identity, sizeof r.identity) == 0)
        *d->owes = true;
    return 0;
}

int covert_owes(const char *dir, const uint8_t identity[32], bool *owes)
{
    struct debts d = {dir, identity, owes};

    *owes = false;
    return store_each(dir, PREFIX, BUNDLE_SERVER, look_owed, &d);
}
