/*
 * Handshake and requests of a connection (party.h); the phases are in phases.c.
 *
 * Hello, 80 bytes each way, client first, integers little-endian:
 *     0 "linnetPI"  8 u16 version  10 u8 role (0 client, 1 server)  11 u8 ring bits
 *    12 u8 code of the linear backend  13 u8 code of the ReLU backend (client: 0)  14 u8 answer (1 logits,
 *    2 label; client: 0)  15 u8 flags (1: test seed, 2: emulated link, 4: tally)  16 identity of the package (32)
 *    48 u8 status (server: 0 accepted, else enum refusal)  49 zeros
 *    64 nonce (16)
 * The session's id, which keys all hashes, is SHA-256("linnet sid", client's hello, server's hello).
 * Request, 32 bytes: 0 u8 kind, 1 zeros (3), 4 u32 images of a lot (prepare, else 0), 8 u64 number of the
 * first, 16 its bundle's id (16). Answer, 8 bytes: 0 u8 status (0: go on), zeros.
 */
#include "runtime/party/party.h"

#include <string.h>

#include "core/base/sha256.h"
#include "runtime/party/phases.h"

#define HELLO 80
#define STATUS 48
#define NONCE 64
#define REQUEST 32
#define ANSWER 8
static const char magic[8] = {'l', 'i', 'n', 'n', 'e', 't', 'P', 'I'};

enum request { REQUEST_QUERY = 1, REQUEST_PREPARE, REQUEST_BUNDLE, REQUEST_BYE };
enum refusal {
    REFUSED_NOT = 0,
    REFUSED_VERSION,
    REFUSED_MODEL,
    REFUSED_RING,
    REFUSED_LINEAR,
    REFUSED_SEED,
    REFUSED_HELLO,
    REFUSED_BUNDLE,
    REFUSED_KIND,
    REFUSED_ROOM,
    REFUSED_LINK,
    REFUSED_TAKEN,
    REFUSALS
};
static const char *const refusals[REFUSALS] = {
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
    [REFUSED_ROOM] = "no room for another bundle (its --max-bundles); queries make room",
};

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v |= (uint64_t)from[i] << 8 * i;
    return v;
}

static uint32_t get_u32(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 |
           (uint32_t)from[3] << 24;
}

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> 8 * i);
}

/* ---- hello -------------------------------------------------------------------------------- */

enum { FLAG_SEED = 1, FLAG_LINK = 2, FLAG_TALLY = 4 };

static void make_hello(const struct party *p, uint8_t hello[HELLO])
{
    const struct party_options *o = p->o;

    memset(hello, 0, HELLO);
    memcpy(hello, magic, sizeof magic);
    hello[8] = PARTY_VERSION;
    hello[10] = !o->client;
    hello[11] = PLAN_RING_BITS;
    hello[12] = o->linear->code;
    hello[15] = (uint8_t)((o->test_seed >= 0 ? FLAG_SEED : 0) | (o->link != NULL ? FLAG_LINK : 0) |
                          (o->tally ? FLAG_TALLY : 0));
    memcpy(hello + 16, o->hash, 32);
    prg_bytes(p->rng, hello + NONCE, HELLO - NONCE);
    if (o->client)
        return;
    hello[13] = o->relu->code;
    hello[14] = o->label ? 2 : 1;
}

/* What both must agree on. */
static enum refusal compare_hello(const uint8_t mine[HELLO], const uint8_t theirs[HELLO])
{
    static const uint8_t zeros[NONCE - STATUS - 1];

    if (memcmp(theirs, magic, sizeof magic) != 0 || theirs[10] == mine[10])
        return REFUSED_HELLO;
    if (memcmp(mine + 8, theirs + 8, 2) != 0)
        return REFUSED_VERSION;
    if (memcmp(theirs + STATUS + 1, zeros, sizeof zeros) != 0)
        return REFUSED_HELLO;
    if (memcmp(mine + 16, theirs + 16, 32) != 0)
        return REFUSED_MODEL;
    if (mine[11] != theirs[11])
        return REFUSED_RING;
    if (mine[12] != theirs[12])
        return REFUSED_LINEAR;
    if ((mine[15] ^ theirs[15]) & FLAG_SEED)
        return REFUSED_SEED;
    if ((mine[15] ^ theirs[15]) & FLAG_LINK)
        return REFUSED_LINK;
    return mine[15] != theirs[15] ? REFUSED_HELLO : REFUSED_NOT;
}

static int refused(const char *who, enum refusal why, const uint8_t theirs[HELLO])
{
    if (why != REFUSED_VERSION)
        return fail(ERR_PEER, "the %s has %s", who, refusals[why]);
    return fail(ERR_PEER,
                "the %s has version %d of the protocol, this program %d; both sides need the same",
                who, theirs[8] | theirs[9] << 8, PARTY_VERSION);
}

static int make_sid(struct party *p, const uint8_t client[HELLO], const uint8_t server[HELLO])
{
    static const char name[] = "linnet sid";
    uint8_t text[sizeof name - 1 + 2 * HELLO];

    memcpy(text, name, sizeof name - 1);
    memcpy(text + sizeof name - 1, client, HELLO);
    memcpy(text + sizeof name - 1 + HELLO, server, HELLO);
    return sha256_bytes(text, sizeof text, p->sid);
}

/* What the rest of the connection goes through. */
static int wrap_transport(struct party *p)
{
    const struct link *l = p->o->link;

    if (l != NULL)
        TRY(link_wrap(p->t, l->bits_per_second, l->rtt));
    return p->o->tally ? tally_wrap(p->t, p->sid, sizeof p->sid, &p->tally) : 0;
}

static int server_hello(struct party *p)
{
    uint8_t mine[HELLO], theirs[HELLO];
    enum refusal why;

    make_hello(p, mine);
    TRY(transport_recv(p->t, theirs, HELLO));
    why = compare_hello(mine, theirs);
    mine[STATUS] = (uint8_t)why;
    TRY(transport_send(p->t, mine, HELLO));
    TRY(transport_flush(p->t));
    if (why != REFUSED_NOT)
        return refused("client", why, theirs);
    p->backend = p->o->relu;
    p->label = p->o->label;
    TRY(make_sid(p, theirs, mine));
    return wrap_transport(p);
}

static int client_hello(struct party *p)
{
    uint8_t mine[HELLO], theirs[HELLO];
    enum refusal why;
    int rc;

    make_hello(p, mine);
    TRY(transport_send(p->t, mine, HELLO));
    if ((rc = transport_recv(p->t, theirs, HELLO)) < 0)
        return rc != ERR_PEER ? rc : fail_context(rc, "no greeting (does only one side use TLS?)");
    why = compare_hello(mine, theirs);
    if (why == REFUSED_NOT && theirs[STATUS] > 0 && theirs[STATUS] < REFUSALS)
        why = (enum refusal)theirs[STATUS];
    if (why != REFUSED_NOT)
        return refused("server", why, theirs);
    if (theirs[13] < 1 || theirs[14] < 1 || theirs[14] > 2 || theirs[STATUS] != 0)
        return fail(ERR_PEER, "the server has a malformed greeting");
    p->backend = relu_backend_coded(theirs[13]);
    if (p->o->relu != NULL)
        p->backend = p->o->relu->code == theirs[13] ? p->o->relu : NULL;
    if (p->backend == NULL)
        return fail(ERR_PEER, "the server wants a ReLU backend that %s",
                    p->o->relu != NULL ? "this side refuses" : "this version does not have");
    p->label = theirs[14] == 2;
    TRY(make_sid(p, mine, theirs));
    return wrap_transport(p);
}

/* ---- opening ------------------------------------------------------------------------------ */

static int open_linear(struct party *p)
{
    const struct party_options *o = p->o;
    struct linear_setup setup = {.prepared = o->model,
                                 .schedule = p->schedule,
                                 .model = o->hash,
                                 .dealer = o->dealer,
                                 .client = o->client,
                                 .t = p->t};

    TRY(share_rng_open(&p->shares, SHARE_LINEAR, 0, o->client, &p->linear_rng));
    setup.rng = p->linear_rng;
    return o->linear->open(&setup, &p->linear);
}

/* What only an offline phase needs: opened by the first request that has one. Images share oblivious
 * transfers, the secret differences of gc's labels among them: those of one request, and no more than
 * PARTY_SHARED of several. */
static int open_offline(struct party *p)
{
    int rc = 0;

    p->shared += p->images;
    if (p->relu != NULL && p->shared <= PARTY_SHARED)
        return 0;
    p->shared = p->images;
    account_begin(&p->account);
    if (p->relu != NULL) {
        p->backend->close(p->relu);
        p->relu = NULL;
    }
    if ((rc = p->backend->open(p->o->client, p->sid, NULL, p->t, p->rng, &p->relu)) == 0 &&
        p->linear.close == NULL)
        rc = open_linear(p);
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    return rc;
}

static int open_all(struct party *p)
{
    TRY(share_rng_init(&p->shares, p->o->test_seed));
    TRY(share_rng_open(&p->shares, SHARE_PROTOCOL, 0, p->o->client, &p->rng));
    TRY(p->o->client ? client_hello(p) : server_hello(p));
    TRY(schedule_new(p->o->model->plan, p->label, &p->schedule));
    p->words = secret_array(steps_words(p->o->model, 1), sizeof *p->words);
    if (p->words == NULL)
        return ERR_NOMEM;
    TRY(account_init(&p->account, p->t, p->schedule->n));
    p->account.seen = (struct transport_count){0}; /* the greetings count */
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    return 0;
}

int party_open(const struct party_options *o, struct transport *t, struct party **out)
{
    struct party *p = mem_array(1, sizeof *p);
    int rc;

    if (p == NULL)
        return ERR_NOMEM;
    p->o = o;
    p->t = t;
    if ((rc = open_all(p)) < 0) {
        p->dead = true;
        party_close(p);
        return rc;
    }
    *out = p;
    return 0;
}

static void drop_lot(struct party *p)
{
    for (int64_t i = 0; i < p->images; i++)
        bundle_free(p->lot[i]);
    p->images = 0;
}

void party_close(struct party *p)
{
    uint8_t request[REQUEST] = {REQUEST_BYE};

    if (p == NULL)
        return;
    if (p->o->client && !p->dead && transport_send(p->t, request, REQUEST) == 0)
        (void)!transport_flush(p->t);
    if (p->linear.close != NULL)
        p->linear.close(p->linear.ctx);
    if (p->relu != NULL)
        p->backend->close(p->relu);
    drop_lot(p);
    prg_free(p->linear_rng);
    prg_free(p->rng);
    secret_free(p->words);
    wipe(&p->shares, sizeof p->shares);
    account_release(&p->account);
    schedule_free(p->schedule);
    mem_free(p);
}

const struct account *party_account(const struct party *p)
{
    return &p->account;
}

const struct schedule *party_schedule(const struct party *p)
{
    return p->schedule;
}

const struct relu_backend *party_relu(const struct party *p)
{
    return p->backend;
}

const struct linear_backend *party_linear(const struct party *p)
{
    return p->o->linear;
}

/* ---- comparison of what was carried ------------------------------------------------------- */

#define TALLY (2 * SHA256_SIZE)

/* The last message of an answer: what the server has sent, and received, before it. */
static int send_tally(struct party *p, enum phase phase, int32_t event)
{
    uint8_t mine[TALLY];

    if (p->tally == NULL)
        return 0;
    account_begin(&p->account);
    TRY(tally_digests(p->tally, mine, mine + SHA256_SIZE));
    TRY(transport_send(p->t, mine, sizeof mine));
    TRY(transport_flush(p->t));
    account_end(&p->account, phase, event);
    return 0;
}

static int check_tally(struct party *p, enum phase phase, int32_t event)
{
    uint8_t mine[TALLY], theirs[TALLY];

    if (p->tally == NULL)
        return 0;
    account_begin(&p->account);
    TRY(tally_digests(p->tally, mine + SHA256_SIZE, mine));
    TRY(transport_recv(p->t, theirs, sizeof theirs));
    account_end(&p->account, phase, event);
    return memcmp(mine, theirs, sizeof mine) == 0
               ? 0
               : fail(
                     ERR_NET,
                     "the connection changed bytes on the way: SHA-256 of what one side sent and the other received differ; use TLS");
}

/* ---- requests ----------------------------------------------------------------------------- */

static struct bundle_key key_of(const struct party *p)
{
    struct bundle_key k = {.linear = p->o->linear->name, .test_seed = p->o->test_seed >= 0};

    memcpy(k.model, p->o->hash, sizeof k.model);
    return k;
}

/* Empty bundles for the next images; the id of the first one is that of the request, those after it
 * have their place in the lot added to its last four bytes. */
static int new_lot(struct party *p, int64_t images, const uint8_t id[BUNDLE_ID])
{
    drop_lot(p);
    for (int64_t i = 0; i < images; i++) {
        struct bundle *b = NULL;
        TRY(bundle_new(p->schedule, p->backend, p->o->client, &b));
        p->lot[p->images++] = b;
        b->number = p->number + (uint64_t)i;
        memcpy(b->id, id, BUNDLE_ID);
        put_u32(b->id + BUNDLE_ID - 4, get_u32(id + BUNDLE_ID - 4) + (uint32_t)i);
    }
    return 0;
}

static int ask(struct party *p, enum request kind, uint64_t number)
{
    uint8_t request[REQUEST] = {(uint8_t)kind}, answer[ANSWER];
    int rc;

    put_u32(request + 4, kind == REQUEST_PREPARE ? (uint32_t)p->images : 0);
    put_u64(request + 8, number);
    memcpy(request + 16, p->lot[0]->id, BUNDLE_ID);
    account_begin(&p->account);
    if ((rc = transport_send(p->t, request, REQUEST)) == 0)
        rc = transport_recv(p->t, answer, ANSWER);
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    TRY(rc);
    if (answer[0] != 0)
        return fail(ERR_PEER, "the server refused: it has %s",
                    answer[0] < REFUSALS ? refusals[answer[0]]
                                         : "a reason this version does not know");
    return 0;
}

static int fresh_id(uint8_t id[BUNDLE_ID])
{
    struct prg *rng = NULL;

    TRY(prg_new_random(&rng));
    prg_bytes(rng, id, BUNDLE_ID);
    prg_free(rng);
    return 0;
}

static int query_bundle(struct party *p, const uint64_t *x, uint64_t *y)
{
    struct bundle_key k = key_of(p);

    TRY(bundle_claim(p->lot[0], &k, p->o->bundles));
    TRY(ask(p, REQUEST_BUNDLE, p->lot[0]->number));
    TRY(party_online_client(p, x, y));
    return check_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

static int query_whole(struct party *p, const uint64_t *x, uint64_t *y)
{
    TRY(ask(p, REQUEST_QUERY, p->number++));
    TRY(open_offline(p));
    TRY(party_offline_client(p));
    TRY(party_online_client(p, x, y));
    return check_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

int party_query(struct party *p, const uint64_t *x, uint64_t *y)
{
    uint8_t id[BUNDLE_ID];
    int rc;

    if ((rc = fresh_id(id)) == 0 && (rc = new_lot(p, 1, id)) == 0)
        rc = p->o->bundles != NULL ? query_bundle(p, x, y) : query_whole(p, x, y);
    drop_lot(p);
    p->dead = p->dead || rc < 0;
    p->account.queries += rc == 0;
    return rc;
}

static int save_lot(const struct party *p)
{
    struct bundle_key k = key_of(p);

    for (int64_t i = 0; i < p->images; i++)
        TRY(bundle_save(p->lot[i], &k, p->o->bundles));
    return 0;
}

static int prepare(struct party *p)
{
    uint8_t done[ANSWER];

    TRY(ask(p, REQUEST_PREPARE, p->number));
    p->number += (uint64_t)p->images;
    TRY(open_offline(p));
    TRY(party_offline_client(p));
    account_begin(&p->account);
    TRY(transport_recv(p->t, done, ANSWER)); /* the server has saved its half */
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    TRY(check_tally(p, PHASE_SETUP, ACCOUNT_NONE));
    return done[0] == 0 ? save_lot(p) : fail(ERR_PEER, "the server could not save its half");
}

int party_prepare(struct party *p, int64_t images)
{
    uint8_t id[BUNDLE_ID];
    int rc;

    if (images < 1 || images > PARTY_LOT || (images > 1 && p->o->linear->third_party))
        return fail(ERR_ARG, "a lot of %lld images: 1 to %d, with a dealer 1", (long long)images,
                    PARTY_LOT);
    if ((rc = fresh_id(id)) == 0 && (rc = new_lot(p, images, id)) == 0)
        rc = prepare(p);
    drop_lot(p);
    p->dead = p->dead || rc < 0;
    p->account.prepared += rc == 0 ? images : 0;
    return rc;
}

/* ---- the server's side of them ------------------------------------------------------------ */

static int answer(struct party *p, enum refusal why)
{
    uint8_t bytes[ANSWER] = {(uint8_t)why};

    TRY(transport_send(p->t, bytes, ANSWER));
    return transport_flush(p->t);
}

static enum refusal judge(const struct party *p, const uint8_t request[REQUEST])
{
    static const uint8_t zeros[3];
    enum request kind = (enum request)request[0];
    int64_t images = get_u32(request + 4);
    int64_t most = p->o->linear->third_party ? 1 : PARTY_LOT;

    if (memcmp(request + 1, zeros, sizeof zeros) != 0 ||
        (kind == REQUEST_PREPARE ? images < 1 || images > most : images != 0))
        return REFUSED_HELLO;
    if ((kind == REQUEST_QUERY || kind == REQUEST_PREPARE) && get_u64(request + 8) != p->number)
        return REFUSED_HELLO;
    if (kind == REQUEST_PREPARE || kind == REQUEST_BUNDLE)
        return p->o->bundles == NULL || (kind == REQUEST_BUNDLE && p->o->prepare_only)
                   ? REFUSED_KIND
                   : REFUSED_NOT;
    return kind == REQUEST_QUERY && !p->o->prepare_only ? REFUSED_NOT : REFUSED_KIND;
}

/* Anyone may ask for bundles, so that their number has to end somewhere. */
static int judge_room(const struct party *p, const uint8_t request[REQUEST], enum refusal *why)
{
    int64_t have;

    if (request[0] != REQUEST_PREPARE || *why != REFUSED_NOT)
        return 0;
    TRY(bundle_count(p->o->bundles, false, &have));
    if (have + (int64_t)get_u32(request + 4) > p->o->max_bundles)
        *why = REFUSED_ROOM;
    return 0;
}

static int refuse(struct party *p, enum refusal why)
{
    TRY(answer(p, why));
    if (why == REFUSED_ROOM)
        return fail(
            ERR_PEER,
            "the client asked for more bundles than there is room for: '%s' holds at most %lld (--max-bundles)",
            p->o->bundles, (long long)p->o->max_bundles);
    return fail(ERR_PEER, "the client sent %s",
                why == REFUSED_KIND ? "a request that is not served here" : "a malformed request");
}

static int serve_offline(struct party *p)
{
    p->number += (uint64_t)p->images;
    TRY(answer(p, REFUSED_NOT));
    TRY(open_offline(p));
    return party_offline_server(p);
}

static int serve_prepare(struct party *p)
{
    int rc;

    TRY(serve_offline(p));
    rc = save_lot(p);
    TRY(answer(p, rc < 0 ? REFUSED_KIND : REFUSED_NOT));
    TRY(send_tally(p, PHASE_SETUP, ACCOUNT_NONE));
    p->account.prepared += rc == 0 ? p->images : 0;
    return rc;
}

static int serve_bundle(struct party *p)
{
    struct bundle_key k = key_of(p);
    int rc = bundle_claim(p->lot[0], &k, p->o->bundles);

    TRY(answer(p, rc < 0 ? REFUSED_BUNDLE : REFUSED_NOT));
    if (rc < 0)
        return rc == ERR_DATA ? fail(ERR_PEER, "client asked for a bundle that is not there") : rc;
    return party_online_server(p);
}

/* An id names one bundle: a second preparation under it would replace the first, another client's. */
static int judge_ids(struct party *p, enum request kind)
{
    bool taken = false;

    for (int64_t i = 0; i < p->images && kind == REQUEST_PREPARE && !taken; i++)
        TRY(bundle_exists(p->lot[i], p->o->bundles, &taken));
    if (!taken)
        return 0;
    TRY(answer(p, REFUSED_TAKEN));
    return fail(ERR_PEER, "the client asked for a bundle under the id of one that is there");
}

static int serve_request(struct party *p, enum request kind)
{
    if (kind == REQUEST_PREPARE)
        return serve_prepare(p);
    if (kind == REQUEST_BUNDLE) {
        TRY(serve_bundle(p));
    } else {
        TRY(serve_offline(p));
        TRY(party_online_server(p));
    }
    p->account.queries++;
    return send_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

int party_answer(struct party *p, int (*wait)(void *ctx), void *ctx)
{
    uint8_t request[REQUEST];
    enum refusal why;
    int64_t images;
    int rc;

    if (wait != NULL)
        TRY(wait(ctx));
    account_begin(&p->account);
    TRY(transport_recv(p->t, request, REQUEST));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    if (request[0] == REQUEST_BYE)
        return 0;
    why = judge(p, request);
    TRY(judge_room(p, request, &why));
    if (why != REFUSED_NOT)
        return refuse(p, why);
    images = request[0] == REQUEST_PREPARE ? get_u32(request + 4) : 1;
    if ((rc = new_lot(p, images, request + 16)) == 0 &&
        (rc = judge_ids(p, (enum request)request[0])) == 0)
        rc = serve_request(p, (enum request)request[0]);
    drop_lot(p);
    return rc < 0 ? rc : 1;
}
