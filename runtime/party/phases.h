#ifndef RUNTIME_PARTY_PHASES_H
#define RUNTIME_PARTY_PHASES_H
/* Inside of a party: what requests (party.c) and phases (phases.c) share. */
#include "runtime/party/party.h"
#include "runtime/crypto/share_rng.h"
#include "runtime/net/tally.h"
#include "runtime/party/steps.h"

struct party {
    const struct party_options *o;
    struct transport *t;
    struct tally *tally; /* inside t; NULL: none */
    const struct relu_backend *backend;
    struct relu_ways ways;
    bool label, dead;
    uint8_t refused; /* client: what the server refused last for */
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
    struct account account;
};

/* Fill the bundles of the lot, together. */
int party_offline_client(struct party *p) MUST_CHECK;
int party_offline_server(struct party *p) MUST_CHECK;
/* Use the only one up. */
int party_online_client(struct party *p, const uint64_t *x, uint64_t *y) MUST_CHECK;
int party_online_server(struct party *p) MUST_CHECK;
#endif
