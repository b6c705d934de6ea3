#ifndef RUNTIME_PARTY_COVERT_H
#define RUNTIME_PARTY_COVERT_H
/*
 * Clients that may deviate, but fear being caught: rounds of preparation (covert security with deterrence
 * rho = opened / lots; PROTOCOL.md, "Clients that may deviate").
 *
 * A round is `lots` lots of `images` preparations each. All that a lot's client draws follows from one seed,
 * to which it is bound before the lot begins; lots share no key, no delta, no alpha. When all lots are done and
 * stored the server draws which `opened` of them the client must open, takes their seeds, and runs these
 * lots again, both sides, from its own seed and the client's: where the client has sent something else than
 * its seed says, it is caught. Opened lots are thrown away; the bundles of the others become usable.
 *
 * What deviates online is caught by tags (relu/gc_tag.h).
 *
 * Files, beside the bundles: those of a round that is not decided yet are called "pending-..."; the round
 * itself is "round-ID.client" or ".server", ID that of its first bundle: 128 bytes of head, then seeds,
 * commitments and digests, sealed where bundles are. A client writes it before it binds itself to a seed, a server
 * before it tells its choice. So who loses the connection in between opens on another one (REQUEST_OPEN),
 * within COVERT_WAIT seconds; who does not is caught as well. Evidence of a client that was caught:
 * "evidence-ID.txt".
 */
#include "core/base/sha256.h"
#include "runtime/linear/linear.h"
#include "runtime/party/bundle.h"

#define COVERT_SEED 32
#define COVERT_CHOICE 2
#define COVERT_LOTS 16 /* most in a round */
#define COVERT_WAIT 3600
#define COVERT_KEEP (7 * 86400) /* a client keeps what a server that was away may still ask for */
#define COVERT_DIGEST 32

struct covert_rules {
    uint8_t lots, opened, images; /* images of a lot; lots * images at most PARTY_LOT */
    uint32_t wait, grace;         /* seconds for an opening, and more where one has begun in time */
};
/* 5 lots of 4, of which 1 is opened: rho = 1/5. An hour, and ten minutes. */
extern const struct covert_rules covert_default;
int covert_check(const struct covert_rules *r) MUST_CHECK; /* ERR_ARG says what cannot be */

struct covert_round {
    bool client,
        done; /* done: server, its openings were right; client, the server may have chosen */
    struct covert_rules rules;
    uint8_t model[32], id[BUNDLE_ID],
        identity[32];                       /* of the package, first bundle, client (server) */
    uint64_t number;                        /* of its first image */
    int64_t deadline;                       /* for opening, seconds since 1970 */
    int64_t process;                        /* that works on it */
    uint16_t choice;                        /* server: lots to open */
    uint8_t sid[HASH_SID];                  /* of the session that made it */
    uint8_t seed[COVERT_LOTS][COVERT_SEED]; /* of this side */
    uint8_t commitment[COVERT_LOTS][SHA256_SIZE], digest[COVERT_LOTS][COVERT_DIGEST]; /* server */
};
/* What one party sends in a round, exactly, with its request, its answer and without a tally; in a query with
 * a bundle of it, the same. */
uint64_t covert_bytes(const struct schedule *s, const struct relu_backend *relu,
                      const struct linear_backend *linear, const struct covert_rules *r,
                      int from_client);
uint64_t covert_query_bytes(const struct schedule *s, const struct relu_backend *relu,
                            int from_client);
/* lots of `rules` drawn from the system's randomness: every set of `opened` alike. */
int covert_choose(const struct covert_rules *r, uint16_t *choice) MUST_CHECK;
bool covert_is_opened(uint16_t choice, int lot);
/* Client's: a choice that the rules allow. */
bool covert_choice_fits(const struct covert_rules *r, uint16_t choice);
/* Number and id of image i of the round. */
uint64_t covert_number(const struct covert_round *r, int64_t i);
void covert_id(const struct covert_round *r, int64_t i, uint8_t id[BUNDLE_ID]);
/* What binds the client to the seed of a lot. */
int covert_commit(const struct covert_round *r, int lot, const uint8_t seed[COVERT_SEED],
                  uint8_t out[SHA256_SIZE]) MUST_CHECK;
/* The session id of a lot, which keys its hashes. */
int covert_sid(const struct covert_round *r, int lot, uint8_t out[HASH_SID]) MUST_CHECK;

/* k: model, seal. */
int covert_save(const struct covert_round *r, const struct bundle_key *k,
                const char *dir) MUST_CHECK;
/* r->client and r->id say which. ERR_DATA: there is none. */
int covert_load(struct covert_round *r, const struct bundle_key *k, const char *dir) MUST_CHECK;
/* The next round of a client that no living process but this one works on. 1: found, id written. */
int covert_left(const char *dir, uint8_t id[BUNDLE_ID]) MUST_CHECK;
/* Bundles of lots in `choice` go, those of the others become usable: *made of them. */
int covert_publish(const struct covert_round *r, const char *dir, int64_t *made) MUST_CHECK;
int covert_drop_lots(const struct covert_round *r, uint16_t choice, const char *dir) MUST_CHECK;
/* The round and all that is pending of it. */
int covert_drop(const struct covert_round *r, const char *dir) MUST_CHECK;
/* Server: the ids of a round are this connection's until covert_release. *taken: another one makes a round of
 * these ids now, or a file here has one of them. Two rounds that shared them would share names of pending bundles:
 * the openings of one could then vouch for the other's. */
int covert_reserve(const char *dir, const uint8_t id[BUNDLE_ID], bool *taken) MUST_CHECK;
int covert_release(const char *dir, const uint8_t id[BUNDLE_ID]) MUST_CHECK;
/* At start: what is pending of no round goes, and what is reserved. */
int covert_clean(const char *dir, bool client) MUST_CHECK;
/* why: one line. lot below 0: none in particular. */
int covert_accuse(const struct covert_round *r, const char *dir, const char *why, int lot,
                  const uint8_t *seed, const uint8_t *digest) MUST_CHECK;
/* Server: until when a round may be opened: for rules->wait seconds since it was made, and since the server began,
 * since nobody could open it before. */
int64_t covert_until(const struct covert_round *r, const struct covert_rules *rules, int64_t since);
/* Server: every round whose time and grace are over at `now` goes; those that were not opened are
 * evidence first, then `caught` is told whose they were. */
int covert_expire(const char *dir, const struct covert_rules *rules, int64_t since, int64_t now,
                  void (*caught)(void *ctx, const uint8_t identity[32]), void *ctx) MUST_CHECK;
/* Server: whether a client has a round here that is to be opened, and was not. */
int covert_owes(const char *dir, const uint8_t identity[32], bool *owes) MUST_CHECK;
#endif
