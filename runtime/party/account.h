#ifndef RUNTIME_PARTY_ACCOUNT_H
#define RUNTIME_PARTY_ACCOUNT_H
/*
 * What a run costs: bytes each way, one-way messages, seconds, by phase and by event of the schedule.
 *
 * The transport's counters are read between pieces of work; what they moved since the last look
 * belongs to the piece that ends. A flip is a message in the other direction than the one before;
 * rounds are flips / 2: one round = there and back.
 */
#include "runtime/plan/schedule.h"
#include "runtime/net/transport.h"

enum phase { PHASE_SETUP, PHASE_OFFLINE_LINEAR, PHASE_OFFLINE_RELU, PHASE_ONLINE, PHASES };
const char *phase_name(enum phase p); /* "offline_linear" */

struct cost_count {
    uint64_t sent, received;
    uint64_t flips;
    double seconds;
};
void cost_add(struct cost_count *to, const struct cost_count *n);
struct account {
    struct transport *t;
    int32_t events;
    struct cost_count phase[PHASES];
    struct cost_count *online, *offline; /* [events + 2]: then input, results */
    struct transport_count seen;
    double time, linear_seconds; /* of the last look; local arithmetic online (server) */
    int64_t queries, prepared;
    int64_t opened; /* server: images begun that were opened and so are no bundles (covert.h) */
    int64_t caught; /* server: rounds in which the client was caught */
    int64_t begun;  /* server: images of requests that it accepted, answered or not */
};
#define ACCOUNT_INPUT(a) ((a)->events)
#define ACCOUNT_RESULT(a) ((a)->events + 1)
#define ACCOUNT_NONE (-1)

int account_init(struct account *a, struct transport *t, int32_t events) MUST_CHECK;
void account_release(struct account *a);
/* Starts a piece of work: what happened before belongs to nobody. */
void account_begin(struct account *a);
/* Ends it, for a phase and an event (or ACCOUNT_...). */
void account_end(struct account *a, enum phase p, int32_t event);
#endif
