/*
 * Handshake and requests of a connection (party.h): messages are in message.c, the
 * phases in phases.c.
 *
 * The session's id, which keys all hashes, is SHA-256("linnet sid", client's hello, server's hello).
 */
#include "runtime/party/party.h"

#include <stdio.h>
#include <string.h>

#include "core/base/cpu.h"
#include "core/base/sha256.h"
#include "runtime/party/message.h"
#include "runtime/party/phases.h"

/* ---- hello -------------------------------------------------------------------------------- */

static struct hello my_hello(const struct party *p)
{
    const struct party_options *o = p->o;
    struct hello h = {
        .version = PARTY_VERSION,
        .server = !o->client,
        .ring = PLAN_RING_BITS,
        .linear = o->linear->code,
        .flags =
            (uint8_t)((o->test_seed >= 0 ? HELLO_SEED : 0) | (o->link != NULL ? HELLO_LINK : 0) |
                      (o->tally ? HELLO_TALLY : 0) | (o->covert != NULL ? HELLO_COVERT : 0))};

    memcpy(h.model, o->hash, sizeof h.model);
    prg_bytes(p->rng, h.nonce, sizeof h.nonce);
    if (o->client)
        return h;
    h.relu = o->relu->code;
    h.answer = o->label ? HELLO_LABEL : HELLO_LOGITS;
    return h;
}

static int refused(const char *who, uint8_t why, const struct hello *theirs)
{
    if (why != REFUSED_VERSION)
        return fail(ERR_PEER, "the %s has %s", who, refusal_text(why));
    return fail(ERR_PEER,
                "the %s has version %d of the protocol, this program %d; both sides need the same",
                who, theirs->version, PARTY_VERSION);
}

static int make_sid(struct party *p, const uint8_t client[HELLO_BYTES],
                    const uint8_t server[HELLO_BYTES])
{
    static const char name[] = "linnet sid";
    uint8_t text[sizeof name - 1 + 2 * HELLO_BYTES];

    memcpy(text, name, sizeof name - 1);
    memcpy(text + sizeof name - 1, client, HELLO_BYTES);
    memcpy(text + sizeof name - 1 + HELLO_BYTES, server, HELLO_BYTES);
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

/* Server: decides from what the client will ask for, and says so. */
static int offer_ways(struct party *p)
{
    const struct link *link = p->o->expected != NULL ? p->o->expected : p->o->link;
    uint8_t bytes[WAYS_BYTES];
    struct relu_wish wish;

    TRY(transport_recv(p->t, bytes, sizeof bytes));
    TRY(wish_read(bytes, &wish));
    relu_ways_offer(p->backend, p->o->transfers, link, p->schedule, &wish, p->covert, &p->ways);
    ways_write(&p->ways, bytes);
    TRY(transport_send(p->t, bytes, sizeof bytes));
    return transport_flush(p->t);
}

/* Client: what the server decided. */
static int take_ways(struct party *p)
{
    uint8_t bytes[WAYS_BYTES];

    TRY(transport_recv(p->t, bytes, sizeof bytes));
    TRY(ways_read(bytes, &p->ways));
    p->ways.tagged = p->covert;
    if (p->o->transfers == RELU_TRANSFERS_SOFTSPOKEN &&
        (p->ways.down != NULL || p->ways.up != NULL))
        return fail(
            ERR_PEER,
            "the server wants silent OT, which assumes LPN; this side refuses it (--ot softspoken)");
    return 0;
}

static int server_hello(struct party *p)
{
    struct hello mine = my_hello(p), theirs;
    uint8_t sent[HELLO_BYTES], received[HELLO_BYTES];

    TRY(transport_recv(p->t, received, sizeof received));
    hello_read(received, &theirs);
    mine.status = (uint8_t)hello_compare(&mine, &theirs);
    if (mine.status == REFUSED_NOT)
        mine.status = p->o->refuse;
    hello_write(&mine, sent);
    TRY(transport_send(p->t, sent, sizeof sent));
    TRY(transport_flush(p->t));
    if (mine.status != REFUSED_NOT && mine.status == p->o->refuse)
        return fail(ERR_NET, "refused: it has %s", refusal_text(mine.status));
    if (mine.status != REFUSED_NOT)
        return refused("client", mine.status, &theirs);
    p->backend = p->o->relu;
    p->label = p->o->label;
    p->covert = p->o->covert != NULL;
    TRY(offer_ways(p));
    TRY(make_sid(p, received, sent));
    TRY(wrap_transport(p));
    if (!p->covert)
        return 0;
    TRY(tally_wrap(p->t, p->sid, sizeof p->sid, &p->lot_tally));
    tally_stop(p->lot_tally);
    return 0;
}

/* Client: for whoever decides whether to try again. */
static void note_refusal(struct party *p, uint8_t why)
{
    p->refused = why;
    if (p->o->refusal != NULL)
        *p->o->refusal = why;
}

static int take_server_hello(struct party *p, const struct hello *mine, const struct hello *theirs)
{
    uint8_t why = (uint8_t)hello_compare(mine, theirs);

    if (why == REFUSED_NOT && theirs->status < REFUSALS)
        why = theirs->status;
    note_refusal(p, why);
    if (why != REFUSED_NOT)
        return refused("server", why, theirs);
    if (theirs->relu == 0 || theirs->status != REFUSED_NOT ||
        (theirs->answer != HELLO_LOGITS && theirs->answer != HELLO_LABEL))
        return fail(ERR_PEER, "the server has a malformed greeting");
    p->backend = relu_backend_coded(theirs->relu);
    if (p->o->relu != NULL)
        p->backend = p->o->relu->code == theirs->relu ? p->o->relu : NULL;
    if (p->backend == NULL)
        return fail(ERR_PEER, "the server wants a ReLU backend that %s",
                    p->o->relu != NULL ? "this side refuses" : "this version does not have");
    p->label = theirs->answer == HELLO_LABEL;
    p->covert = (theirs->flags & HELLO_COVERT) != 0;
    if (p->covert && (!p->backend->can_tag || p->o->linear->third_party))
        return fail(
            ERR_PEER,
            "the server takes clients for such that may deviate, for which ReLU backend '%s' and linear backend '%s' are no use",
            p->backend->name, p->o->linear->name);
    return 0;
}

static int client_hello(struct party *p)
{
    struct hello mine = my_hello(p), theirs;
    uint8_t sent[HELLO_BYTES], received[HELLO_BYTES], wish[WAYS_BYTES];
    int rc;

    hello_write(&mine, sent);
    wish_write(&p->o->wish, wish);
    TRY(transport_send(p->t, sent, sizeof sent));
    TRY(transport_send(p->t, wish, sizeof wish));
    if ((rc = transport_recv(p->t, received, sizeof received)) < 0)
        return rc != ERR_PEER
                   ? rc
                   : fail_context(rc, "no greeting (%s)",
                                  p->o->tally ? "does only one side use TLS?"
                                              : "does the server refuse this side's certificate?");
    hello_read(received, &theirs);
    TRY(take_server_hello(p, &mine, &theirs));
    TRY(take_ways(p));
    TRY(make_sid(p, sent, received));
    return wrap_transport(p);
}

/* ---- opening ------------------------------------------------------------------------------ */

int party_open_linear(struct party *p, const struct share_rng *streams)
{
    const struct party_options *o = p->o;
    struct linear_setup setup = {.prepared = o->model,
                                 .schedule = p->schedule,
                                 .model = o->hash,
                                 .dealer = o->dealer,
                                 .client = o->client,
                                 .t = p->t};

    TRY(share_rng_open(streams, SHARE_LINEAR, 0, o->client, &p->linear_rng));
    setup.rng = p->linear_rng;
    return o->linear->open(&setup, &p->linear);
}

/* What only an offline phase needs: opened by the first request that has one. Images share oblivious
 * transfers, the secret differences of gc's labels among them: those of one request, and no more than
 * RELU_SHARED of several. */
static int open_offline(struct party *p)
{
    const struct party_limits *l = p->o->limits;
    int rc = 0;

    p->shared += p->images;
    if (p->relu != NULL && p->shared <= RELU_SHARED)
        return 0;
    p->shared = p->images;
    if (l != NULL)
        transport_limit(p->t, l->setup);
    account_begin(&p->account);
    if (p->relu != NULL) {
        p->backend->close(p->relu);
        p->relu = NULL;
        p->ways.lot++;
    }
    if ((rc = p->backend->open(p->o->client, p->sid, &p->ways, p->t, p->rng, &p->relu)) == 0 &&
        p->linear.close == NULL)
        rc = party_open_linear(p, &p->shares);
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    return rc;
}

static void shape_schedule(struct party *p)
{
    for (int32_t i = 0; i < p->schedule->n; i++)
        if (p->schedule->event[i].kind == EVENT_SELECT)
            relu_shape(p->backend, &p->ways, &p->schedule->event[i].batch);
}

static int open_all(struct party *p)
{
    TRY(share_rng_init(&p->shares, p->o->test_seed));
    TRY(share_rng_open(&p->shares, SHARE_PROTOCOL, 0, p->o->client, &p->rng));
    if (p->o->client) {
        TRY(client_hello(p));
        TRY(schedule_new(p->o->model->plan, p->label, &p->schedule));
    } else {
        TRY(schedule_new(p->o->model->plan, p->o->label, &p->schedule));
        TRY(server_hello(p));
    }
    shape_schedule(p);
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
    SCOPED(party_close_at) struct party *p = mem_array(1, sizeof *p);

    if (p == NULL)
        return ERR_NOMEM;
    p->o = o;
    p->t = t;
    p->dead = true; /* nobody to say goodbye to */
    TRY(open_all(p));
    p->dead = false;
    *out = mem_hand_on(&p);
    return 0;
}

void party_drop_lot(struct party *p)
{
    for (int64_t i = 0; i < p->images; i++)
        bundle_free(p->lot[i]);
    p->images = 0;
}

void party_close(struct party *p)
{
    uint8_t request[REQUEST_BYTES];

    if (p == NULL)
        return;
    request_write(&(struct request){.kind = REQUEST_BYE}, request);
    if (p->o->client && !p->dead && transport_send(p->t, request, sizeof request) == 0)
        (void)!transport_flush(p->t);
    if (p->linear.close != NULL)
        p->linear.close(p->linear.ctx);
    if (p->relu != NULL)
        p->backend->close(p->relu);
    party_drop_lot(p);
    prg_free(p->linear_rng);
    prg_free(p->lot_rng);
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

const struct relu_ways *party_ways(const struct party *p)
{
    return &p->ways;
}

bool party_covert(const struct party *p)
{
    return p->covert;
}

const struct linear_backend *party_linear(const struct party *p)
{
    return p->o->linear;
}

/* ---- comparison of what was carried ------------------------------------------------------- */

#define TALLY (2 * SHA256_SIZE)

/* The last message of an answer: what the server has sent, and received, before it. */
int party_send_tally(struct party *p, enum phase phase, int32_t event)
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

int party_check_tally(struct party *p, enum phase phase, int32_t event)
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

struct bundle_key party_key(const struct party *p)
{
    struct bundle_key k = {
        .linear = p->o->linear->name, .seal = p->o->bundle_key, .test_seed = p->o->test_seed >= 0};

    memcpy(k.model, p->o->hash, sizeof k.model);
    return k;
}

int party_new_lot(struct party *p, int64_t images, const uint8_t id[BUNDLE_ID])
{
    party_drop_lot(p);
    for (int64_t i = 0; i < images; i++) {
        struct bundle *b = NULL;
        TRY(bundle_new(p->schedule, p->backend, p->o->client, &p->ways, &b));
        p->lot[p->images++] = b;
        b->number = p->number + (uint64_t)i;
        lot_id(id, (uint32_t)i, b->id);
    }
    return 0;
}

/* Memory for each bundle of the lot. */
static uint64_t room(const struct party *p)
{
    uint64_t all =
        p->o->memory > 0 ? p->o->memory : bundle_memory(p->backend, p->o->client, cpu_memory());

    return all / (uint64_t)p->images;
}

int party_begin_lot(struct party *p, enum bundle_place where)
{
    struct bundle_key k = party_key(p);
    uint64_t each = room(p);

    for (int64_t i = 0; i < p->images; i++)
        TRY(bundle_begin(p->lot[i], where, each, &k, p->o->bundles));
    return 0;
}

int party_commit_lot(struct party *p)
{
    for (int64_t i = 0; i < p->images; i++)
        TRY(bundle_commit(p->lot[i]));
    return 0;
}

static int take_answer(struct party *p, uint8_t answer[ANSWER_BYTES])
{
    int rc = transport_recv(p->t, answer, ANSWER_BYTES);

    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    TRY(rc);
    note_refusal(p, answer[0]);
    if (answer[0] != REFUSED_NOT)
        return fail(ERR_PEER, "the server refused: it has %s", refusal_text(answer[0]));
    return 0;
}

int party_ask(struct party *p, const struct request *q, uint8_t answer[ANSWER_BYTES])
{
    uint8_t request[REQUEST_BYTES];

    request_write(q, request);
    account_begin(&p->account);
    TRY(transport_send(p->t, request, sizeof request));
    return take_answer(p, answer);
}

static int ask(struct party *p, enum request_kind kind, uint64_t number)
{
    struct request q = {.kind = (uint8_t)kind, .number = number};
    uint8_t answer[ANSWER_BYTES];

    q.images = kind == REQUEST_PREPARE || p->images > 1 ? (uint32_t)p->images : 0;
    memcpy(q.id, p->lot[0]->id, BUNDLE_ID);
    return party_ask(p, &q, answer);
}

int party_fresh_id(uint8_t id[BUNDLE_ID])
{
    SCOPED(prg_free_at) struct prg *rng = NULL;

    TRY(prg_new_random(&rng));
    prg_bytes(rng, id, BUNDLE_ID);
    return 0;
}

/* The first n of the lot go back into the folder: nothing that depends on them has left. */
static int put_back(struct party *p, int64_t n, int rc)
{
    char why[256];

    snprintf(why, sizeof why, "%s", err_message());
    for (int64_t i = 0; i < n; i++)
        if (bundle_unclaim(p->lot[i]) < 0)
            return fail_context(rc, "a bundle is lost");
    return fail(rc, "%s", why);
}

static int claim_lot(struct party *p)
{
    struct bundle_key k = party_key(p);
    uint64_t each = room(p);
    int rc;

    for (int64_t i = 0; i < p->images; i++)
        if ((rc = bundle_claim(p->lot[i], each, &k, p->o->bundles)) < 0)
            return put_back(p, i, rc);
    return 0;
}

/* The request names the first bundle; the others follow it. */
static int ask_bundles(struct party *p)
{
    struct request q = {.kind = REQUEST_BUNDLE, .number = p->lot[0]->number};
    uint8_t answer[ANSWER_BYTES], request[REQUEST_BYTES];

    q.images = p->images > 1 ? (uint32_t)p->images : 0;
    memcpy(q.id, p->lot[0]->id, BUNDLE_ID);
    if (p->images == 1)
        return party_ask(p, &q, answer);
    request_write(&q, request);
    account_begin(&p->account);
    TRY(transport_send(p->t, request, sizeof request));
    for (int64_t i = 1; i < p->images; i++)
        TRY(transport_send(p->t, p->lot[i]->id, BUNDLE_ID));
    return take_answer(p, answer);
}

/* A server that is busy has not touched its half. */
static int query_bundles(struct party *p, const uint64_t *x, uint64_t *y)
{
    int rc;

    TRY(claim_lot(p));
    if ((rc = ask_bundles(p)) < 0)
        return p->refused == REFUSED_BUSY || p->refused == REFUSED_SPENT
                   ? put_back(p, p->images, rc)
                   : rc;
    for (int64_t i = 0; i < p->images; i++)
        TRY(bundle_use(p->lot[i]));
    TRY(party_online_client(p, x, y));
    return party_check_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

static int query_whole(struct party *p, const uint64_t *x, uint64_t *y)
{
    if (p->covert)
        return fail(
            ERR_ARG,
            "the server takes its clients for such that may deviate: make bundles first (linnet-pi preprocess), and give --bundles");
    TRY(ask(p, REQUEST_QUERY, p->number));
    p->number += (uint64_t)p->images;
    TRY(party_begin_lot(p, BUNDLE_HERE));
    TRY(open_offline(p));
    TRY(party_offline_client(p));
    TRY(party_online_client(p, x, y));
    return party_check_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

int party_query_batch(struct party *p, int64_t images, const uint64_t *x, uint64_t *y)
{
    uint8_t id[BUNDLE_ID];
    int rc;

    if (images < 1 || images > PARTY_LOT || (images > 1 && p->o->linear->third_party))
        return fail(ERR_ARG, "a batch of %lld images: 1 to %d, with a dealer 1", (long long)images,
                    PARTY_LOT);
    if ((rc = party_fresh_id(id)) == 0 && (rc = party_new_lot(p, images, id)) == 0)
        rc = p->o->bundles != NULL ? query_bundles(p, x, y) : query_whole(p, x, y);
    party_drop_lot(p);
    p->dead = p->dead || rc < 0;
    p->account.queries += rc == 0 ? images : 0;
    return rc;
}

int party_query(struct party *p, const uint64_t *x, uint64_t *y)
{
    return party_query_batch(p, 1, x, y);
}

static int prepare(struct party *p)
{
    uint8_t done[ANSWER_BYTES];

    TRY(ask(p, REQUEST_PREPARE, p->number));
    p->number += (uint64_t)p->images;
    TRY(party_begin_lot(p, BUNDLE_SAVED));
    TRY(open_offline(p));
    TRY(party_offline_client(p));
    account_begin(&p->account);
    TRY(transport_recv(p->t, done, sizeof done)); /* the server has saved its half */
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    TRY(party_check_tally(p, PHASE_SETUP, ACCOUNT_NONE));
    return done[0] == 0 ? party_commit_lot(p)
                        : fail(ERR_PEER, "the server could not save its half");
}

int party_prepare(struct party *p, int64_t images)
{
    uint8_t id[BUNDLE_ID];
    int rc;

    if (p->covert)
        return fail(ERR_ARG, "the server takes its clients for such that may deviate: by rounds");
    if (images < 1 || images > PARTY_LOT || (images > 1 && p->o->linear->third_party))
        return fail(ERR_ARG, "a lot of %lld images: 1 to %d, with a dealer 1", (long long)images,
                    PARTY_LOT);
    if ((rc = party_fresh_id(id)) == 0 && (rc = party_new_lot(p, images, id)) == 0)
        rc = prepare(p);
    party_drop_lot(p);
    p->dead = p->dead || rc < 0;
    p->account.prepared += rc == 0 ? images : 0;
    return rc;
}

/* ---- the server's side of them ------------------------------------------------------------ */

int party_reply(struct party *p, const uint8_t bytes[ANSWER_BYTES])
{
    TRY(transport_send(p->t, bytes, ANSWER_BYTES));
    return transport_flush(p->t);
}

static int answer(struct party *p, enum refusal why)
{
    const uint8_t bytes[ANSWER_BYTES] = {(uint8_t)why};

    return party_reply(p, bytes);
}

static bool is_round(uint8_t kind)
{
    return kind == REQUEST_ROUND || kind == REQUEST_OPEN;
}

static enum refusal judge(const struct party *p, const struct request *q)
{
    int64_t images = q->images, most = p->o->linear->third_party ? 1 : PARTY_LOT, least = 0;

    if (q->kind == REQUEST_PREPARE)
        least = 1;
    else if (is_round(q->kind))
        most = 0;
    if (!q->well_formed || images < least || images > most)
        return REFUSED_HELLO;
    if ((q->kind == REQUEST_QUERY || q->kind == REQUEST_PREPARE || q->kind == REQUEST_ROUND) &&
        q->number != p->number)
        return REFUSED_HELLO;
    if (q->kind != REQUEST_BUNDLE && is_round(q->kind) != p->covert)
        return REFUSED_KIND;
    if (is_round(q->kind))
        return p->o->bundles == NULL ? REFUSED_KIND : REFUSED_NOT;
    if (q->kind == REQUEST_PREPARE || q->kind == REQUEST_BUNDLE)
        return p->o->bundles == NULL || (q->kind == REQUEST_BUNDLE && p->o->prepare_only)
                   ? REFUSED_KIND
                   : REFUSED_NOT;
    return q->kind == REQUEST_QUERY && !p->o->prepare_only ? REFUSED_NOT : REFUSED_KIND;
}

/* Anyone may ask for bundles, so that their number has to end somewhere. */
static int judge_room(const struct party *p, const struct request *q, enum refusal *why)
{
    int64_t have, pending, images = q->images;

    if ((q->kind != REQUEST_PREPARE && q->kind != REQUEST_ROUND) || *why != REFUSED_NOT)
        return 0;
    TRY(bundle_count(p->o->bundles, false, &have));
    TRY(bundle_count_pending(p->o->bundles, false, &pending));
    if (q->kind == REQUEST_ROUND)
        images = p->o->covert->lots * p->o->covert->images;
    if (have + pending + images > p->o->max_bundles)
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

static int serve_offline(struct party *p, enum bundle_place where)
{
    p->number += (uint64_t)p->images;
    TRY(party_begin_lot(p, where));
    TRY(answer(p, REFUSED_NOT));
    TRY(open_offline(p));
    if (p->o->limits != NULL)
        transport_limit(p->t, p->o->limits->offline * (double)p->images);
    return party_offline_server(p);
}

static int serve_online(struct party *p)
{
    if (p->o->limits != NULL)
        transport_limit(p->t, p->o->limits->online * (double)p->images);
    return party_online_server(p);
}

static int serve_prepare(struct party *p)
{
    int rc;

    TRY(serve_offline(p, BUNDLE_SAVED));
    rc = party_commit_lot(p);
    TRY(answer(p, rc < 0 ? REFUSED_KIND : REFUSED_NOT));
    TRY(party_send_tally(p, PHASE_SETUP, ACCOUNT_NONE));
    p->account.prepared += rc == 0 ? p->images : 0;
    return rc;
}

static int serve_bundle(struct party *p)
{
    struct bundle_key k = party_key(p);
    uint64_t each = room(p);
    int rc = 0;

    for (int64_t i = 0; i < p->images && rc == 0; i++)
        if ((rc = bundle_claim(p->lot[i], each, &k, p->o->bundles)) == 0)
            rc = bundle_use(p->lot[i]);
    TRY(answer(p, rc < 0 ? REFUSED_BUNDLE : REFUSED_NOT));
    if (rc < 0)
        return rc == ERR_DATA ? fail(ERR_PEER, "client asked for a bundle that is not there") : rc;
    return serve_online(p);
}

/* An id names one bundle: a second preparation under it would replace the first, another client's. */
static int judge_ids(struct party *p, uint8_t kind)
{
    bool taken = false;

    for (int64_t i = 0; i < p->images && kind == REQUEST_PREPARE && !taken; i++)
        TRY(bundle_exists(p->lot[i], p->o->bundles, &taken));
    if (!taken)
        return 0;
    TRY(answer(p, REFUSED_TAKEN));
    return fail(ERR_PEER, "the client asked for a bundle under the id of one that is there");
}

int party_leave(struct party *p, enum party_work work, int64_t images)
{
    uint8_t why = REFUSED_NOT;

    if (p->o->begin == NULL)
        return 0;
    TRY(p->o->begin(p->o->begin_ctx, work, images, &why));
    if (why == REFUSED_NOT)
        return 0;
    TRY(answer(p, why));
    return fail(ERR_NET, "refused: it has %s", refusal_text(why));
}

/* Counted before the first byte of an answer: who leaves half-way has had what it came for. */
static int serve_request(struct party *p, uint8_t kind)
{
    p->account.begun += p->images;
    if (kind == REQUEST_PREPARE)
        return serve_prepare(p);
    if (kind == REQUEST_BUNDLE) {
        TRY(serve_bundle(p));
    } else {
        TRY(serve_offline(p, BUNDLE_HERE));
        TRY(serve_online(p));
    }
    p->account.queries += p->images;
    return party_send_tally(p, PHASE_ONLINE, ACCOUNT_RESULT(&p->account));
}

/* The other bundles of a batch. */
static int take_ids(struct party *p, uint8_t kind)
{
    for (int64_t i = 1; i < p->images && kind == REQUEST_BUNDLE; i++)
        TRY(transport_recv(p->t, p->lot[i]->id, BUNDLE_ID));
    return 0;
}

int party_answer(struct party *p, int (*wait)(void *ctx), void *ctx)
{
    uint8_t bytes[REQUEST_BYTES];
    struct request q;
    enum refusal why;
    int rc;

    if (wait != NULL)
        TRY(wait(ctx));
    if (p->o->limits != NULL)
        transport_limit(p->t, p->o->limits->request);
    account_begin(&p->account);
    TRY(transport_recv(p->t, bytes, sizeof bytes));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    request_read(bytes, &q);
    if (q.kind == REQUEST_BYE)
        return 0;
    why = judge(p, &q);
    TRY(judge_room(p, &q, &why));
    if (why != REFUSED_NOT)
        return refuse(p, why);
    if (is_round(q.kind))
        rc = party_serve_round(p, &q);
    else if ((rc = party_new_lot(p, q.images > 1 ? q.images : 1, q.id)) == 0 &&
             (rc = take_ids(p, q.kind)) == 0 && (rc = judge_ids(p, q.kind)) == 0 &&
             (rc = party_leave(p, q.kind == REQUEST_PREPARE ? PARTY_PREPARE : PARTY_QUERY,
                               p->images)) == 0)
        rc = serve_request(p, q.kind);
    party_drop_lot(p);
    transport_limit(p->t, -1);
    return rc < 0 ? rc : 1;
}
