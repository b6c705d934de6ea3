#ifndef RUNTIME_PARTY_PHASES_H
#define RUNTIME_PARTY_PHASES_H
/* Inside of a party: what requests (party.c) and phases (phases.c) share. */
#include "runtime/party/party.h"
#include "runtime/crypto/share_rng.h"
#include "runtime/net/tally.h"
#include "runtime/party/message.h"
#include "runtime/party/steps.h"

struct party {
    const struct party_options *o;
    struct transport *t;
    struct tally *tally; /* inside t; NULL: none */
    const struct relu_backend *backend;
    struct relu_ways ways;
    bool label, dead;
    bool covert;             /* the client may deviate (covert.h) */
    struct tally *lot_tally; /* server of such a client, inside t: what a lot carried */
    struct prg *lot_rng;     /* all that a lot draws but what decides results */
    uint8_t refused;         /* client: what the server refused last for */
    struct schedule *schedule;
    struct share_rng shares; /* decide results */
    struct prg *linear_rng;  /* of the linear backend, whose errors decide last bits too */
    struct prg *rng;         /* everything else */
    uint8_t sid[HASH_SID];   /* of the session: both greetings */
    struct relu_party *relu; /* opened by the first offline phase */
    struct linear_party linear;
    struct bundle *lot[PARTY_LOT]; /* bundles of the request being worked on */
    int64_t images;                /* how many; one unless a lot is prepared */
    int64_t shared;                /* images since the set-up of the ReLU backend */
    uint64_t number;               /* of the next image */
    uint64_t *words;               /* tensors and scratch, of one image */
    double *scratch;               /* for kernels, online */
    struct account account;
    struct transport *lane[PARTY_LOT]; /* of each image of a batch online */
};

/* Empty bundles for the next images. id: of the first one. */
int party_new_lot(struct party *p, int64_t images, const uint8_t id[BUNDLE_ID]) MUST_CHECK;
void party_drop_lot(struct party *p);
/* Before the offline phase, and after it where its bundles are files. */
int party_begin_lot(struct party *p, enum bundle_place where) MUST_CHECK;
int party_commit_lot(struct party *p) MUST_CHECK;
struct bundle_key party_key(const struct party *p);
int party_fresh_id(uint8_t id[BUNDLE_ID]) MUST_CHECK;
/* The linear backend, with its stream of these shares. */
int party_open_linear(struct party *p, const struct share_rng *streams) MUST_CHECK;
/* Client: asks, and takes what is not an answer 0 for an error. */
int party_ask(struct party *p, const struct request *q, uint8_t answer[ANSWER_BYTES]) MUST_CHECK;
/* Server. leave: whether a request for so many images may begin, who asks is told why not. */
int party_reply(struct party *p, const uint8_t answer[ANSWER_BYTES]) MUST_CHECK;
int party_leave(struct party *p, enum party_work work, int64_t images) MUST_CHECK;
/* The tally of an answer, where there is one. */
int party_send_tally(struct party *p, enum phase phase, int32_t event) MUST_CHECK;
int party_check_tally(struct party *p, enum phase phase, int32_t event) MUST_CHECK;
/* round.c: a request for a round, or for the rest of one. */
int party_serve_round(struct party *p, const struct request *q) MUST_CHECK;

/* Fill the bundles of the lot, together. */
int party_offline_client(struct party *p) MUST_CHECK;
int party_offline_server(struct party *p) MUST_CHECK;
/* Use them up, in one pass. x [images][inputs], y [images][results]. */
int party_online_client(struct party *p, const uint64_t *x, uint64_t *y) MUST_CHECK;
int party_online_server(struct party *p) MUST_CHECK;
#endif
