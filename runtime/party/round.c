/*
 * A round of preparations, both sides (covert.h; bytes: PROTOCOL.md, "Clients that may deviate").
 *
 *     client   request, number of the first image, id of the first bundle
 *     server   answer: lots, opened, images
 *     client   commitments, 32 bytes a lot
 *     both     lot after lot: set-up of both backends, then the offline phase of its images; bundles are
 *              stored as pending ones
 *     server   which lots, 2 bytes
 *     client   seeds of these lots, 32 bytes each
 *     server   checks (replay), then 8 bytes: 0, or that the client was caught
 *
 * A lot is a function of the two sides' seeds, the round's session id and numbers, and the package: whatever
 * the backends draw comes from streams under the seed, on either side. So the server can run it again, both
 * sides in this process, and compare SHA-256 of all that the client's side sends with what it kept of the
 * client. The client cannot have it wrong by accident: bytes that the line changed would have ended the lot
 * or, in plain mode, are what the comparison finds; so covert mode belongs on TLS.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/party/phases.h"

/* ---- a lot -------------------------------------------------------------------------------- */

/* The streams of a lot: all but those that decide results follow from its seed; so do these, unless the
 * test seed says what they are. */
static int lot_streams(const uint8_t seed[COVERT_SEED], struct share_rng *out)
{
    static const char name[] = "linnet lot streams";
    SECRET uint8_t *text = secret_array(sizeof name - 1 + COVERT_SEED, 1);

    if (text == NULL)
        return ERR_NOMEM;
    memcpy(text, name, sizeof name - 1);
    memcpy(text + sizeof name - 1, seed, COVERT_SEED);
    return sha256_bytes(text, sizeof name - 1 + COVERT_SEED, out->key);
}

static void close_lot(struct party *p)
{
    if (p->linear.close != NULL)
        p->linear.close(p->linear.ctx);
    if (p->relu != NULL)
        p->backend->close(p->relu);
    prg_free(p->linear_rng);
    prg_free(p->lot_rng);
    p->linear = (struct linear_party){0};
    p->relu = NULL;
    p->linear_rng = p->lot_rng = NULL;
    party_drop_lot(p);
}

static int open_lot(struct party *p, const struct covert_round *r, int lot,
                    const struct share_rng *streams, enum bundle_place where)
{
    uint8_t id[BUNDLE_ID];
    int64_t first = (int64_t)lot * r->rules.images;

    if (p->o->test_seed < 0)
        p->shares = *streams;
    TRY(covert_sid(r, lot, p->sid));
    TRY(share_rng_open(streams, SHARE_PROTOCOL, 0, p->o->client, &p->lot_rng));
    p->number = covert_number(r, first);
    covert_id(r, first, id);
    TRY(party_new_lot(p, r->rules.images, id));
    TRY(party_begin_lot(p, where));
    account_begin(&p->account);
    TRY(p->backend->open(p->o->client, p->sid, &p->ways, p->t, p->lot_rng, &p->relu));
    TRY(party_open_linear(p, streams));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    return 0;
}

/* Leaves the bundles of the lot in p. */
static int run_lot(struct party *p, const struct covert_round *r, int lot,
                   const uint8_t seed[COVERT_SEED], enum bundle_place where)
{
    SECRET struct share_rng *streams = secret_array(1, sizeof *streams);

    close_lot(p);
    if (streams == NULL)
        return ERR_NOMEM;
    TRY(lot_streams(seed, streams));
    TRY(open_lot(p, r, lot, streams, where));
    return p->o->client ? party_offline_client(p) : party_offline_server(p);
}

/* ---- running one again -------------------------------------------------------------------- */

struct replay {
    const struct covert_round *round;
    int lot;
    const uint8_t *seed; /* the client's */
    struct party_options so, co;
    struct party server, client;
    struct transport ends[2];
    struct tally *tally; /* of the server's end */
    int rc;              /* of the client's half */
    char why[256];
};

static int fill_half(const struct party *of, struct party *p, const struct party_options *o,
                     struct transport *t)
{
    *p = (struct party){.o = o,
                        .t = t,
                        .backend = of->backend,
                        .ways = of->ways,
                        .covert = true,
                        .schedule = of->schedule};
    TRY(share_rng_init(&p->shares, o->test_seed));
    if ((p->words = secret_array(steps_words(o->model, 1), sizeof *p->words)) == NULL)
        return ERR_NOMEM;
    return account_init(&p->account, t, p->schedule->n);
}

static void empty_half(struct party *p)
{
    if (p->o == NULL)
        return;
    close_lot(p);
    secret_free(p->words);
    wipe(&p->shares, sizeof p->shares);
    account_release(&p->account);
}

static void *client_half(void *arg)
{
    struct replay *y = arg;

    if ((y->rc = run_lot(&y->client, y->round, y->lot, y->seed, BUNDLE_NOWHERE)) < 0) {
        snprintf(y->why, sizeof y->why, "%s", err_message());
        transport_close(&y->ends[1]);
    }
    return NULL;
}

/* A failure of the other half is what closed the line. */
static int run_halves(struct replay *y)
{
    pthread_t thread;
    int rc;

    if (pthread_create(&thread, NULL, client_half, y) != 0)
        return fail(ERR_NOMEM, "no thread for the client's half of a lot");
    if ((rc = run_lot(&y->server, y->round, y->lot, y->round->seed[y->lot], BUNDLE_NOWHERE)) < 0)
        transport_close(&y->ends[0]);
    pthread_join(thread, NULL);
    if (y->rc < 0 && (rc == 0 || rc == ERR_PEER || rc == ERR_NET))
        return fail(y->rc, "%s", y->why);
    return rc;
}

/* What the client had to send in a lot, as tally_digests gives it. Fails only for want of memory, or
 * something like that: never with ERR_PEER. */
static int replay(const struct party *p, const struct covert_round *r, int lot,
                  const uint8_t seed[COVERT_SEED], uint8_t due[COVERT_DIGEST])
{
    struct replay y = {.round = r, .lot = lot, .seed = seed, .so = *p->o, .co = *p->o};
    uint8_t sid[HASH_SID], sent[SHA256_SIZE];
    int rc;

    y.so.limits = NULL;
    y.co.client = true;
    TRY(transport_pair(&y.ends[0], &y.ends[1]));
    transport_pair_patience(&y.ends[0], 0);
    if ((rc = covert_sid(r, lot, sid)) == 0 &&
        (rc = tally_wrap(&y.ends[0], sid, sizeof sid, &y.tally)) == 0 &&
        (rc = fill_half(p, &y.server, &y.so, &y.ends[0])) == 0 &&
        (rc = fill_half(p, &y.client, &y.co, &y.ends[1])) == 0 && (rc = run_halves(&y)) == 0)
        rc = tally_digests(y.tally, sent, due);
    empty_half(&y.server);
    empty_half(&y.client);
    transport_close(&y.ends[0]);
    transport_close(&y.ends[1]);
    return rc == ERR_PEER ? fail_context(ERR_VERIFY, "a lot could not be run again") : rc;
}

/* ---- client ------------------------------------------------------------------------------- */

static int64_t now(void)
{
    return (int64_t)time(NULL);
}

static int send_commitments(struct party *p, const struct covert_round *r)
{
    uint8_t commitment[SHA256_SIZE];

    account_begin(&p->account);
    for (int i = 0; i < r->rules.lots; i++) {
        TRY(covert_commit(r, i, r->seed[i], commitment));
        TRY(transport_send(p->t, commitment, sizeof commitment));
    }
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    return 0;
}

/* The server's first choice is the only one: it is on the disk before a seed leaves, so that nobody gets the
 * seeds of lots whose bundles may have been used by asking again. 0 is no choice. */
static int take_choice(struct party *p, struct covert_round *r)
{
    struct bundle_key k = party_key(p);
    const uint16_t before = r->choice;
    uint8_t bytes[COVERT_CHOICE];

    TRY(transport_recv(p->t, bytes, sizeof bytes));
    r->choice = (uint16_t)(bytes[0] | bytes[1] << 8);
    if (!covert_choice_fits(&r->rules, r->choice))
        return fail(ERR_PEER,
                    "the server opens lots that are not there, or another number of them");
    if (before != 0 && r->choice != before)
        return fail(ERR_PEER, "the server opens other lots of a round than it has opened before");
    return before != 0 ? 0 : covert_save(r, &k, p->o->bundles);
}

/* Lots that were opened are gone before their seeds leave: whatever else the server says later, none of
 * their bundles is used. */
static int open_chosen(struct party *p, struct covert_round *r)
{
    TRY(take_choice(p, r));
    TRY(covert_drop_lots(r, r->choice, p->o->bundles));
    for (int i = 0; i < r->rules.lots; i++)
        if (covert_is_opened(r->choice, i))
            TRY(transport_send(p->t, r->seed[i], COVERT_SEED));
    return transport_flush(p->t);
}

static int finish_client(struct party *p, struct covert_round *r, int64_t *made)
{
    uint8_t answer[ANSWER_BYTES];

    account_begin(&p->account);
    TRY(open_chosen(p, r));
    TRY(transport_recv(p->t, answer, sizeof answer));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    TRY(party_check_tally(p, PHASE_SETUP, ACCOUNT_NONE));
    if (answer[0] != REFUSED_NOT)
        return fail(ERR_PEER, "the server says that a preparation was not as its seed says");
    TRY(covert_publish(r, p->o->bundles, made));
    p->account.prepared += *made;
    return covert_drop(r, p->o->bundles);
}

static int begin_client(struct party *p, struct covert_round *r)
{
    struct request q = {.kind = REQUEST_ROUND, .number = p->number};
    struct bundle_key k = party_key(p);
    uint8_t answer[ANSWER_BYTES];

    TRY(party_fresh_id(r->id));
    memcpy(q.id, r->id, BUNDLE_ID);
    TRY(party_ask(p, &q, answer));
    r->rules = (struct covert_rules){answer[1], answer[2], answer[3], COVERT_WAIT, 0};
    if (covert_check(&r->rules) < 0)
        return fail(ERR_PEER, "the server wants rounds that cannot be");
    r->client = true;
    r->number = p->number;
    r->process = (int64_t)getpid();
    r->deadline = now() + COVERT_KEEP;
    memcpy(r->model, p->o->hash, sizeof r->model);
    memcpy(r->sid, p->sid, sizeof r->sid);
    prg_bytes(p->rng, r->seed, sizeof r->seed);
    TRY(covert_save(r, &k, p->o->bundles));
    return send_commitments(p, r);
}

/* From its last lot on the server may have chosen. A round that ends before that is nothing to come back to. */
static int make_lots_client(struct party *p, struct covert_round *r)
{
    struct bundle_key k = party_key(p);

    for (int i = 0; i < r->rules.lots; i++) {
        if (i == r->rules.lots - 1) {
            r->done = true;
            TRY(covert_save(r, &k, p->o->bundles));
        }
        TRY(run_lot(p, r, i, r->seed[i], BUNDLE_WAITING));
        TRY(party_commit_lot(p));
    }
    return 0;
}

static int round_client(struct party *p, struct covert_round *r, int64_t *made)
{
    TRY(begin_client(p, r));
    TRY(make_lots_client(p, r));
    close_lot(p);
    p->number = covert_number(r, r->rules.lots * r->rules.images);
    return finish_client(p, r, made);
}

int party_round(struct party *p, int64_t *made)
{
    SECRET struct covert_round *r = secret_array(1, sizeof *r);
    uint8_t sid[HASH_SID];
    int rc;

    *made = 0;
    if (!p->covert || p->o->bundles == NULL)
        return fail(ERR_ARG, "rounds of preparation are for servers that want them, and a folder");
    if (r == NULL)
        return ERR_NOMEM;
    memcpy(sid, p->sid, sizeof sid);
    rc = round_client(p, r, made);
    close_lot(p);
    if (rc < 0 && r->client && !r->done)
        (void)!covert_drop(r, p->o->bundles);
    memcpy(p->sid, sid, sizeof sid);
    p->dead = p->dead || rc < 0;
    return rc;
}

/* Goes on with a round of another connection. One that the server does not know any more, or not yet, stays
 * until nobody can want it. */
static int open_round(struct party *p, struct covert_round *r, int64_t *made)
{
    struct request q = {.kind = REQUEST_OPEN};
    struct bundle_key k = party_key(p);
    uint8_t answer[ANSWER_BYTES];

    r->client = true;
    TRY(covert_load(r, &k, p->o->bundles));
    if (!r->done || now() > r->deadline)
        return covert_drop(r, p->o->bundles);
    memcpy(q.id, r->id, BUNDLE_ID);
    TRY(party_ask(p, &q, answer));
    return finish_client(p, r, made);
}

int party_open_rounds(struct party *p, int64_t *made)
{
    SECRET struct covert_round *r = secret_array(1, sizeof *r);
    int64_t some = 0;
    int rc, left;

    *made = 0;
    if (r == NULL)
        return ERR_NOMEM;
    while ((rc = left = covert_left(p->o->bundles, r->id)) > 0 &&
           (rc = open_round(p, r, &some)) == 0) {
        *made += some;
        some = 0;
    }
    p->dead = p->dead || rc < 0;
    return rc;
}

/* ---- server ------------------------------------------------------------------------------- */

static void limit(struct party *p, double seconds)
{
    if (p->o->limits != NULL)
        transport_limit(p->t, seconds);
}

/* ERR_PEER: the client was caught, and there is evidence. */
static int check_opening(struct party *p, const struct covert_round *r, int lot,
                         const uint8_t seed[COVERT_SEED])
{
    uint8_t due[COVERT_DIGEST];

    TRY(covert_commit(r, lot, seed, due));
    if (memcmp(due, r->commitment[lot], sizeof due) != 0) {
        TRY(covert_accuse(r, p->o->bundles, "the seed is not the one it was bound to", lot, seed,
                          NULL));
        return fail(ERR_PEER, "opened lot %d: another seed than the client was bound to", lot);
    }
    TRY(replay(p, r, lot, seed, due));
    if (memcmp(due, r->digest[lot], sizeof due) == 0)
        return 0;
    TRY(covert_accuse(r, p->o->bundles, "what it sent is not what its seed says", lot, seed, due));
    return fail(ERR_PEER, "opened lot %d: the client has sent what its seed does not say", lot);
}

static int check_openings(struct party *p, const struct covert_round *r,
                          uint8_t seed[COVERT_LOTS][COVERT_SEED])
{
    for (int i = 0; i < r->rules.lots && !r->done; i++)
        if (covert_is_opened(r->choice, i))
            TRY(check_opening(p, r, i, seed[i]));
    return 0;
}

/* The bundles first, then the note that they are there: who asks again in between is checked again. */
static int publish_server(struct party *p, struct covert_round *r, int64_t *made)
{
    struct bundle_key k = party_key(p);

    TRY(covert_publish(r, p->o->bundles, made));
    r->done = true;
    return covert_save(r, &k, p->o->bundles);
}

/* The client was caught, and err_message says how. It counts whether the client waits for our word or not. */
static int condemn(struct party *p, const struct covert_round *r)
{
    const uint8_t answer[ANSWER_BYTES] = {REFUSED_BANNED};
    char why[256];

    snprintf(why, sizeof why, "%s", err_message());
    p->account.caught++;
    if (covert_drop(r, p->o->bundles) == 0)
        (void)!party_reply(p, answer);
    return fail(ERR_PEER, "round of preparations: %s", why);
}

/* images: of this request. */
static int finish_server(struct party *p, struct covert_round *r, int64_t images)
{
    const uint8_t choice[COVERT_CHOICE] = {(uint8_t)r->choice, (uint8_t)(r->choice >> 8)};
    uint8_t answer[ANSWER_BYTES] = {REFUSED_NOT}, seed[COVERT_LOTS][COVERT_SEED];
    int64_t made = 0;
    int rc;

    account_begin(&p->account);
    TRY(transport_send(p->t, choice, sizeof choice));
    limit(p, p->o->limits == NULL ? 0 : p->o->limits->setup);
    for (int i = 0; i < r->rules.lots; i++)
        if (covert_is_opened(r->choice, i))
            TRY(transport_recv(p->t, seed[i], COVERT_SEED));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    if ((rc = check_openings(p, r, seed)) == 0 && !r->done)
        rc = publish_server(p, r, &made);
    if (rc < 0) /* what we could not do is no fault of the client: it may open again */
        return rc == ERR_PEER ? condemn(p, r) : fail_context(rc, "round of preparations");
    p->account.prepared += made;
    p->account.opened += images - made;
    TRY(party_reply(p, answer));
    return party_send_tally(p, PHASE_SETUP, ACCOUNT_NONE);
}

/* One lot, its digest, its bundles. */
static int serve_lot(struct party *p, struct covert_round *r, int lot)
{
    uint8_t sid[HASH_SID], sent[SHA256_SIZE];

    if (p->o->limits != NULL)
        transport_limit(p->t, p->o->limits->setup + p->o->limits->offline * r->rules.images);
    TRY(covert_sid(r, lot, sid));
    TRY(tally_restart(p->lot_tally, sid, sizeof sid));
    TRY(run_lot(p, r, lot, r->seed[lot], BUNDLE_WAITING));
    TRY(tally_digests(p->lot_tally, sent, r->digest[lot]));
    tally_stop(p->lot_tally);
    return party_commit_lot(p);
}

/* Until the server has made its choice and stored it. */
static int make_lots(struct party *p, struct covert_round *r)
{
    struct bundle_key k = party_key(p);

    limit(p, p->o->limits == NULL ? 0 : p->o->limits->request);
    account_begin(&p->account);
    TRY(transport_recv(p->t, r->commitment, (size_t)r->rules.lots * SHA256_SIZE));
    account_end(&p->account, PHASE_SETUP, ACCOUNT_NONE);
    prg_bytes(p->rng, r->seed, sizeof r->seed);
    for (int i = 0; i < r->rules.lots; i++)
        TRY(serve_lot(p, r, i));
    close_lot(p);
    p->number = covert_number(r, r->rules.lots * r->rules.images);
    TRY(covert_choose(&r->rules, &r->choice));
    r->deadline = now() + (int64_t)r->rules.wait;
    return covert_save(r, &k, p->o->bundles);
}

static int refuse_round(struct party *p, enum refusal why, const char *text)
{
    const uint8_t bytes[ANSWER_BYTES] = {(uint8_t)why};

    TRY(party_reply(p, bytes));
    return fail(ERR_PEER, "the client asked for %s", text);
}

/* Whose ids are nobody else's. */
static int run_round(struct party *p, struct covert_round *r)
{
    const struct covert_rules *rules = &r->rules;
    const uint8_t answer[ANSWER_BYTES] = {REFUSED_NOT, rules->lots, rules->opened, rules->images};
    const int64_t images = rules->lots * rules->images;
    int rc;

    TRY(party_leave(p, PARTY_PREPARE, images));
    p->account.begun += images;
    TRY(party_reply(p, answer));
    if ((rc = make_lots(p, r)) < 0) {
        (void)!covert_drop(r, p->o->bundles);
        return rc;
    }
    return finish_server(p, r, images);
}

static int serve_round(struct party *p, const struct request *q, struct covert_round *r)
{
    bool taken;
    int rc;

    r->rules = *p->o->covert;
    r->number = q->number;
    memcpy(r->id, q->id, sizeof r->id);
    memcpy(r->model, p->o->hash, sizeof r->model);
    memcpy(r->sid, p->sid, sizeof r->sid);
    if (p->o->identity != NULL)
        memcpy(r->identity, p->o->identity, sizeof r->identity);
    TRY(covert_reserve(p->o->bundles, r->id, &taken));
    if (taken)
        return refuse_round(p, REFUSED_TAKEN, "bundles under ids that are there");
    rc = run_round(p, r);
    (void)!covert_release(p->o->bundles, r->id);
    return rc;
}

static bool may_open(const struct party *p, const struct covert_round *r)
{
    static const uint8_t nobody[32];
    const uint8_t *who = p->o->identity != NULL ? p->o->identity : nobody;

    return memcmp(r->identity, who, sizeof r->identity) == 0 &&
           now() <= covert_until(r, p->o->covert, p->o->since);
}

static int serve_open(struct party *p, const struct request *q, struct covert_round *r)
{
    const uint8_t answer[ANSWER_BYTES] = {REFUSED_NOT};
    const int64_t images = p->o->covert->opened * p->o->covert->images;
    struct bundle_key k = party_key(p);
    int rc;

    /* before the round is looked for: another process of this client may be about to write it */
    TRY(party_leave(p, PARTY_OPEN, images));
    p->account.begun += images;
    memcpy(r->id, q->id, sizeof r->id);
    if ((rc = covert_load(r, &k, p->o->bundles)) < 0 && rc != ERR_DATA)
        return rc;
    if (rc == ERR_DATA || !may_open(p, r)) {
        p->account.opened += images; /* none is lost */
        return refuse_round(p, REFUSED_BUNDLE, "a round that is not there to be opened");
    }
    TRY(party_reply(p, answer));
    return finish_server(p, r, images);
}

int party_serve_round(struct party *p, const struct request *q)
{
    SECRET struct covert_round *r = secret_array(1, sizeof *r);
    uint8_t sid[HASH_SID];
    int rc;

    if (r == NULL)
        return ERR_NOMEM;
    memcpy(sid, p->sid, sizeof sid);
    rc = q->kind == REQUEST_ROUND ? serve_round(p, q, r) : serve_open(p, q, r);
    close_lot(p);
    tally_stop(p->lot_tally);
    memcpy(p->sid, sid, sizeof sid);
    return rc;
}
