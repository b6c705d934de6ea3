/* Fixed messages (message.h). All sizes fit, so that neither reader nor writer can fail. */
#include "runtime/party/message.h"

#include <string.h>

#include "core/base/buf.h"

static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'I'};
static const uint8_t zeros[16];

const char *refusal_text(uint8_t why)
{
    static const char *const texts[REFUSALS] = {
        [REFUSED_NOT] = "accepted",
        [REFUSED_VERSION] = "another version of the protocol",
        [REFUSED_MODEL] = "another model.pi",
        [REFUSED_RING] = "another ring",
        [REFUSED_LINEAR] = "another linear backend (one side runs with --dealer, one without)",
        [REFUSED_SEED] = "another setting of --test-seed (one side has a seed, one has none)",
        [REFUSED_HELLO] = "a malformed greeting",
        [REFUSED_BUNDLE] = "no such bundle: used before, or never made",
        [REFUSED_KIND] = "a kind of request it does not serve",
        [REFUSED_LINK] = "another setting of --link (one side emulates a link, one does not)",
        [REFUSED_TAKEN] = "a bundle of that id already",
        [REFUSED_BUSY] = "too many clients now; try again later",
        [REFUSED_SPENT] = "no budget left for this client today",
        [REFUSED_BANNED] = "banned this client",
        [REFUSED_OWES] =
            "a round of preparations of this client that was never opened: any command with the --bundles of that round opens it",
        [REFUSED_ROOM] = "no room for another bundle (its --max-bundles); queries make room",
    };

    return why < REFUSALS ? texts[why] : "a reason this version does not know";
}

/* ---- reading and writing that cannot fail -------------------------------------------------- */

static uint8_t take_u8(struct buf_reader *r)
{
    uint8_t v = 0;

    (void)!buf_get_u8(r, &v);
    return v;
}

static void take(struct buf_reader *r, void *to, size_t n)
{
    (void)!buf_get_bytes(r, to, n);
}

/* Whether the next n bytes, at most 16, are those of `want`. */
static bool take_equal(struct buf_reader *r, const void *want, size_t n)
{
    uint8_t got[sizeof zeros] = {0};

    take(r, got, n);
    return memcmp(got, want, n) == 0;
}

/* ---- hello -------------------------------------------------------------------------------- */

void hello_write(const struct hello *h, uint8_t bytes[HELLO_BYTES])
{
    struct buf_writer w = buf_writer_in(bytes, HELLO_BYTES);

    buf_put_bytes(&w, magic, sizeof magic);
    buf_put_u16(&w, h->version);
    buf_put_u8(&w, h->server);
    buf_put_u8(&w, h->ring);
    buf_put_u8(&w, h->linear);
    buf_put_u8(&w, h->relu);
    buf_put_u8(&w, h->answer);
    buf_put_u8(&w, h->flags);
    buf_put_bytes(&w, h->model, sizeof h->model);
    buf_put_u8(&w, h->status);
    buf_put_bytes(&w, zeros, 15);
    buf_put_bytes(&w, h->nonce, sizeof h->nonce);
}

void hello_read(const uint8_t bytes[HELLO_BYTES], struct hello *h)
{
    struct buf_reader r = buf_reader_on(bytes, HELLO_BYTES, "hello");

    *h = (struct hello){.magic = take_equal(&r, magic, sizeof magic)};
    (void)!buf_get_u16(&r, &h->version);
    h->server = take_u8(&r);
    h->ring = take_u8(&r);
    h->linear = take_u8(&r);
    h->relu = take_u8(&r);
    h->answer = take_u8(&r);
    h->flags = take_u8(&r);
    take(&r, h->model, sizeof h->model);
    h->status = take_u8(&r);
    h->zeros = take_equal(&r, zeros, 15);
    take(&r, h->nonce, sizeof h->nonce);
}

enum refusal hello_compare(const struct hello *mine, const struct hello *theirs)
{
    uint8_t differ = (mine->flags ^ theirs->flags) & (uint8_t)~HELLO_COVERT;

    if (!theirs->magic || theirs->server == mine->server ||
        (!theirs->server && (theirs->flags & HELLO_COVERT) != 0))
        return REFUSED_HELLO;
    if (mine->version != theirs->version)
        return REFUSED_VERSION;
    if (!theirs->zeros)
        return REFUSED_HELLO;
    if (memcmp(mine->model, theirs->model, sizeof mine->model) != 0)
        return REFUSED_MODEL;
    if (mine->ring != theirs->ring)
        return REFUSED_RING;
    if (mine->linear != theirs->linear)
        return REFUSED_LINEAR;
    if (differ & HELLO_SEED)
        return REFUSED_SEED;
    if (differ & HELLO_LINK)
        return REFUSED_LINK;
    return differ != 0 ? REFUSED_HELLO : REFUSED_NOT;
}

/* ---- ways --------------------------------------------------------------------------------- */

void wish_write(const struct relu_wish *wish, uint8_t bytes[WAYS_BYTES])
{
    struct buf_writer w = buf_writer_in(bytes, WAYS_BYTES);

    memset(bytes, 0, WAYS_BYTES);
    buf_put_u64(&w, (uint64_t)wish->images);
    buf_put_u8(&w, wish->ahead);
}

int wish_read(const uint8_t bytes[WAYS_BYTES], struct relu_wish *out)
{
    struct buf_reader r = buf_reader_on(bytes, WAYS_BYTES, "greeting");
    uint64_t images = 0;
    uint8_t ahead;

    (void)!buf_get_u64(&r, &images);
    out->images = images < INT64_MAX ? (int64_t)images : INT64_MAX;
    ahead = take_u8(&r);
    out->ahead = ahead == 1;
    if (ahead > 1 || !take_equal(&r, zeros, 15) || !take_equal(&r, zeros, 16))
        return fail(ERR_PEER, "the client has a malformed greeting");
    return 0;
}

static void put_set(struct buf_writer *w, const struct ferret_set *set)
{
    char field[WAYS_NAME] = {0};

    if (set != NULL)
        memcpy(field, set->name, strlen(set->name));
    buf_put_bytes(w, field, sizeof field);
}

void ways_write(const struct relu_ways *ways, uint8_t bytes[WAYS_BYTES])
{
    struct buf_writer w = buf_writer_in(bytes, WAYS_BYTES);

    put_set(&w, ways->down);
    put_set(&w, ways->up);
    buf_put_u64(&w, ways->bits_per_second);
    buf_put_u64(&w, ways->rtt_ns);
    buf_put_u64(&w, ways->ahead);
}

static int get_set(struct buf_reader *r, const struct ferret_set **out)
{
    char name[WAYS_NAME + 1] = {0};

    TRY(buf_get_bytes(r, name, WAYS_NAME));
    *out = NULL;
    if (*name != '\0' && ferret_set_find(name, out) < 0)
        return fail_context(ERR_PEER, "the server's silent OT");
    return 0;
}

int ways_read(const uint8_t bytes[WAYS_BYTES], struct relu_ways *out)
{
    struct buf_reader r = buf_reader_on(bytes, WAYS_BYTES, "greeting");
    uint64_t ahead = 0;

    *out = (struct relu_ways){0};
    TRY(get_set(&r, &out->down));
    TRY(get_set(&r, &out->up));
    TRY(buf_get_u64(&r, &out->bits_per_second));
    TRY(buf_get_u64(&r, &out->rtt_ns));
    TRY(buf_get_u64(&r, &ahead));
    out->ahead = ahead == 1;
    if (out->bits_per_second > RELU_MOST_RATE || out->rtt_ns > RELU_MOST_RTT || ahead > 1)
        return fail(ERR_PEER, "the server has a malformed greeting");
    return 0;
}

/* ---- requests ----------------------------------------------------------------------------- */

void request_write(const struct request *q, uint8_t bytes[REQUEST_BYTES])
{
    struct buf_writer w = buf_writer_in(bytes, REQUEST_BYTES);

    buf_put_u8(&w, q->kind);
    buf_put_bytes(&w, zeros, 3);
    buf_put_u32(&w, q->images);
    buf_put_u64(&w, q->number);
    buf_put_bytes(&w, q->id, sizeof q->id);
}

void request_read(const uint8_t bytes[REQUEST_BYTES], struct request *q)
{
    struct buf_reader r = buf_reader_on(bytes, REQUEST_BYTES, "request");

    *q = (struct request){.kind = take_u8(&r)};
    q->well_formed = take_equal(&r, zeros, 3);
    (void)!buf_get_u32(&r, &q->images);
    (void)!buf_get_u64(&r, &q->number);
    take(&r, q->id, sizeof q->id);
}

void lot_id(const uint8_t first[BUNDLE_ID], uint32_t i, uint8_t out[BUNDLE_ID])
{
    struct buf_reader r = buf_reader_on(first + BUNDLE_ID - 4, 4, "id");
    struct buf_writer w = buf_writer_in(out + BUNDLE_ID - 4, 4);
    uint32_t last = 0;

    (void)!buf_get_u32(&r, &last);
    memcpy(out, first, BUNDLE_ID - 4);
    buf_put_u32(&w, last + i);
}
