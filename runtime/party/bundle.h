#ifndef RUNTIME_PARTY_BUNDLE_H
#define RUNTIME_PARTY_BUNDLE_H
/*
 * What the offline phase leaves to one party for one image: single-use and secret.
 *
 *     client   its share of the input, its share of the results, a state a batch
 *     server   its offset s of every linear event, a state a batch
 *
 * One block of memory, laid out by the schedule; the same bytes are the file. Both parties' bundles
 * of an image carry the same 16-byte id, by which they find each other again.
 *
 * File: 128 bytes of head, the block, SHA-256 of both (store.h). Head: "linnetPB", u16 version 2, u8
 * role (0 client), u8 label, u8 linear backend name length and name (15 bytes), u8 ReLU backend name length and
 * name (15 bytes), u8 1 if made with a test seed, u8 silent transfers (1 down, 2 up),
 * u8 1 if sealed, u8 1 if tagged (relu.h), zeros to 48, identity of the package (32), id (16), u64 number, u64 block size,
 * u64 bits per second, u64 round trip in ns of the link that its forms were chosen for (ways.h).
 * Sealed: after the head a salt (16), then the block in sealed pieces (seal.h), head as stored.
 * Names: "bundle-NUMBER-ID.client", "bundle-ID.server".
 */
#include "runtime/relu/ways.h"
#include "runtime/plan/schedule.h"

#define BUNDLE_ID 16
#define BUNDLE_PREFIX "bundle-"
#define BUNDLE_PENDING "pending-" /* not to be used yet (covert.h) */
#define BUNDLE_CLIENT ".client"
#define BUNDLE_SERVER ".server"

struct bundle {
    const struct schedule *schedule;
    const struct relu_backend *backend;
    bool client;
    uint8_t id[BUNDLE_ID];
    uint64_t number; /* part of every tweak */
    uint8_t *memory;
    size_t size;
    size_t *offset;           /* of each event's part */
    struct relu_batch *batch; /* of each event, with the forms that this bundle has */
    struct relu_ways ways;    /* which they follow from; of the sets only whether there is one */
    size_t input, results;    /* offsets, client */
};
struct bundle_key { /* what a file must agree with */
    uint8_t model[32];
    const char *linear;  /* name of the backend */
    const uint8_t *seal; /* SEAL_KEY bytes: the file is encrypted (seal.h); NULL: it is not */
    bool test_seed; /* known shares: of no use to a run without a seed, which may be off loopback */
};

/* A zeroed block; ERR_LIMIT if it would not fit in memory. */
int bundle_new(const struct schedule *s, const struct relu_backend *b, bool client,
               const struct relu_ways *ways, struct bundle **out) MUST_CHECK;
void bundle_free(struct bundle *b); /* wipes; NULL is fine */
uint64_t *bundle_input(const struct bundle *b);
uint64_t *bundle_results(const struct bundle *b);
uint64_t *bundle_offset(const struct bundle *b, int32_t event); /* server: s */
uint8_t *bundle_state(const struct bundle *b, int32_t event);
/* The event's batch with the tweak that belongs to this bundle. */
struct relu_batch bundle_batch(const struct bundle *b, int32_t event);

int bundle_save(const struct bundle *b, const struct bundle_key *k, const char *dir) MUST_CHECK;
/* The same under a name that is not claimed. */
int bundle_save_pending(const struct bundle *b, const struct bundle_key *k,
                        const char *dir) MUST_CHECK;
/* A pending one of that number and id becomes usable, *found where it was there; or goes. */
int bundle_publish(const char *dir, bool client, uint64_t number, const uint8_t id[BUNDLE_ID],
                   bool *found) MUST_CHECK;
int bundle_drop_pending(const char *dir, bool client, uint64_t number,
                        const uint8_t id[BUNDLE_ID]) MUST_CHECK;
/* Client: the next one in the folder. Server: the one with b->id. Claimed (store.h) before it is
 * read. ERR_DATA: there is none. b comes from bundle_new; its forms become those of the file. */
int bundle_claim(struct bundle *b, const struct bundle_key *k, const char *dir) MUST_CHECK;
/* Right before the first byte that depends on it is sent: the id goes into the folder's list, for ever.
 * ERR_DATA: it was there. */
int bundle_use(const struct bundle *b, const char *dir) MUST_CHECK;
/* Server: whether the folder holds one with b->id. */
int bundle_exists(const struct bundle *b, const char *dir, bool *exists) MUST_CHECK;
/* Makes the folder where it is missing and removes what was claimed and not used up. */
int bundle_folder(const char *dir) MUST_CHECK;
int bundle_count(const char *dir, bool client, int64_t *n) MUST_CHECK;
int bundle_count_pending(const char *dir, bool client, int64_t *n) MUST_CHECK;
#endif
