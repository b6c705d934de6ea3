#ifndef RUNTIME_PARTY_PARTY_H
#define RUNTIME_PARTY_PARTY_H
/*
 * One party of a two-party inference over a transport: handshake, offline and online phase.
 *
 *     client                                          server
 *     party_open(&o, &transport, &p)                  party_open(&o, &transport, &p)
 *     party_query(p, image, y)                        while ((rc = party_answer(p)) > 0) ;
 *     party_close(p)                                  party_close(p)
 *
 * Messages byte by byte: PROTOCOL.md. Every size follows from the plan, which both have, and from
 * nothing a peer says; what differs is ERR_PEER. The client has no weights.
 */
#include "runtime/party/account.h"
#include "runtime/party/covert.h"
#include "runtime/linear/linear.h"
#include "runtime/net/link.h"

#define PARTY_VERSION 3

/* How long a server waits for its client in all (transport_limit), in seconds: for the rest of a request
 * that has begun, each set-up, the offline phase of an image, the online phase. */
struct party_limits {
    double request, setup, offline, online;
};
/* Server: whether a request may begin. *why: 0, or what the client is told instead, REFUSED_BUSY,
 * _SPENT, _BANNED or _OWES (message.h). May wait. */
enum party_work { PARTY_QUERY, PARTY_PREPARE, PARTY_OPEN };
typedef int party_begin(void *ctx, enum party_work work, int64_t images, uint8_t *why);
struct party_options {
    const struct prepared *model; /* server: with weights */
    uint8_t hash[32];             /* identity of the package */
    bool client;
    const struct linear_backend *linear; /* both sides the same */
    const char *dealer;        /* folder of correlations, where the backend has a third party */
    const char *bundles;       /* folder of prepared material; NULL: none */
    const uint8_t *bundle_key; /* 32 bytes: its files are encrypted; NULL: they are not */
    uint64_t memory; /* most bytes of bundles in memory, those at work together; 0: bundle_memory */
    bool prepare_only;   /* server: refuses queries */
    int64_t max_bundles; /* server: prepares no more while its folder holds so many */
    int64_t test_seed;   /* below 0: random */
    bool tally; /* a connection without TLS: every answer is followed by SHA-256 of what was
                          * carried each way, and compared; both sides or neither */
    /* The server decides. A client takes what the registry has for the server's code, or, where relu
     * is given, that one and no other. */
    const struct relu_backend *relu;
    /* Where oblivious transfers come from: the server decides; a client with _SOFTSPOKEN takes no other. */
    enum relu_transfers transfers;
    struct relu_wish wish;   /* client: what it will ask for, for the server's choice */
    const uint8_t *identity; /* server: who the client is, 32 bytes; NULL: nobody knows (zeros) */
    uint8_t *refusal; /* client, may be NULL: set to what the server refused for (enum refusal) */
    const struct party_limits *limits; /* server; NULL: none */
    uint8_t refuse;                    /* server: what it refuses every client for; 0: nothing */
    party_begin *begin;                /* server; NULL: any request may */
    void *begin_ctx;
    /* server decides: */
    bool label;
    const struct covert_rules *covert; /* clients may deviate; NULL: they are trusted */
    int64_t since; /* when the server began, seconds since 1970: nobody could open rounds before */
    const struct link *expected; /* that forms of comparisons are chosen for; NULL: link */
    const struct link *link;     /* to emulate; both sides or neither. NULL: none */
};
struct party;
/* Handshake and set-up (base OTs, linear backend). Borrows o, its texts and t. A link to emulate wraps
 * *t. */
int party_open(const struct party_options *o, struct transport *t, struct party **out) MUST_CHECK;
void party_close(struct party *p); /* client: says goodbye. NULL is fine */
FREE_AT(party_close, struct party)
const struct account *party_account(const struct party *p);
const struct schedule *party_schedule(const struct party *p);
const struct relu_backend *party_relu(const struct party *p);
const struct relu_ways *party_ways(const struct party *p); /* what was agreed on */
const struct linear_backend *party_linear(const struct party *p);

/* Client. x: the image in fixed point (pi_input_fixed); y [schedule->results]: logits (signed, scale
 * f) or the label, which is what the peers' shares add up to: a class that does not exist comes from a
 * peer that deviates, and must not change what the client sends, or when: it would tell the server a bit
 * about the label. Takes a bundle from the folder where one is given, else runs both phases. */
int party_query(struct party *p, const uint64_t *x, uint64_t *y) MUST_CHECK;
/* The same for a batch of 1 ... PARTY_LOT images in one pass: as many bytes as one by one, but the messages of
 * one, and the same results. x [images][inputs], y [images][results]. Each takes a bundle of its own, or
 * all are prepared as a lot. */
int party_query_batch(struct party *p, int64_t images, const uint64_t *x, uint64_t *y) MUST_CHECK;
/* Client: the offline phase of a lot of 1 ... PARTY_LOT images, saved by both sides in their folders, a
 * bundle an image. A lot shares polynomials, so that an image costs less; it takes the
 * memory of all its images' tensors. Images of a dealer go one by one. */
#define PARTY_LOT 64
int party_prepare(struct party *p, int64_t images) MUST_CHECK;
/* Whether the server takes clients for such that may deviate: then bundles come by rounds alone. */
bool party_covert(const struct party *p);
/* Client of such a server: a round of preparations; *made bundles of it are in both folders, the others were
 * opened. Where it fails after the server's choice, party_open_rounds on another connection goes on. */
int party_round(struct party *p, int64_t *made) MUST_CHECK;
/* Opens what is left of rounds of other connections; who does not within an hour counts as caught. */
int party_open_rounds(struct party *p, int64_t *made) MUST_CHECK;
/* Server: answers one request. 1: done, 0: the client said goodbye. wait, before each, may be NULL. */
int party_answer(struct party *p, int (*wait)(void *ctx), void *ctx) MUST_CHECK;
#endif
