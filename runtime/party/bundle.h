#ifndef RUNTIME_PARTY_BUNDLE_H
#define RUNTIME_PARTY_BUNDLE_H
/*
 * What the offline phase leaves to one party for one image: single-use and secret.
 *
 *     client   its share of the input, a state a batch, its share of the results
 *     server   its offset s of every linear event and a state a batch, in the schedule's order
 *
 * These parts lie one after another on a tape (tape.h): they are put as they are made, and taken as the
 * online phase comes to them. No more than bundle_memory bytes of those at work are in memory at once:
 * what is larger goes through a spool, or is read piece by piece, with some pieces read ahead (pieces.h). Both
 * parties' bundles of an image carry the same 16-byte id, by which they find each other again.
 *
 * File: 128 bytes of head, a salt (16), the parts in pieces of 64 KiB, each with a tag of 16 bytes (seal.h;
 * key: the user's, or 32 zeros, which makes checksums of the tags). Head: "linnetPB", u16 version 4, u8
 * role (0 client), u8 label, u8 linear backend name length and name (15 bytes), u8 ReLU backend name length and
 * name (15 bytes), u8 1 if made with a test seed, u8 silent transfers (1 down, 2 up), 4 more if forms save time online alone,
 * u8 1 if sealed, u8 1 if tagged (relu.h), zeros to 48, identity of the package (32), id (16), u64 number, u64 bytes
 * of the parts, u64 bits per second, u64 round trip in ns of the link that its forms were chosen for (ways.h).
 * Names: "bundle-NUMBER-ID.client", "bundle-ID.server".
 */
#include "runtime/crypto/store.h"
#include "runtime/crypto/tape.h"
#include "runtime/plan/schedule.h"
#include "runtime/relu/ways.h"

#define BUNDLE_ID 16
#define BUNDLE_PREFIX "bundle-"
#define BUNDLE_PENDING "pending-" /* not to be used yet (covert.h) */
#define BUNDLE_MEMORY ((uint64_t)128 << 20)
#define BUNDLE_MEMORY_MOST ((uint64_t)1 << 30)
#define BUNDLE_CLIENT ".client"
#define BUNDLE_SERVER ".server"

struct bundle {
    const struct schedule *schedule;
    const struct relu_backend *backend;
    bool client;
    uint8_t id[BUNDLE_ID];
    uint64_t number;          /* part of every tweak */
    struct tape *tape;        /* NULL until one is begun or claimed */
    uint64_t size, *offset;   /* of all parts; where each event's lies */
    struct relu_batch *batch; /* of each event, with the forms that this bundle has */
    struct relu_ways ways;    /* which they follow from; of the sets only whether there is one */
    char claimed[STORE_NAME]; /* the file that it was claimed from, while that can be put back */
    const char *dir;          /* of that */
};
struct bundle_key { /* what a file must agree with */
    uint8_t model[32];
    const char *linear;  /* name of the backend */
    const uint8_t *seal; /* SEAL_KEY bytes: the file is encrypted (seal.h); NULL: it is not */
    bool test_seed; /* known shares: of no use to a run without a seed, which may be off loopback */
};

/* Where what is made goes. */
enum bundle_place {
    BUNDLE_HERE,    /* for this process alone */
    BUNDLE_SAVED,   /* a file of the folder, once it is committed */
    BUNDLE_WAITING, /* the same under a name that is not claimed */
    BUNDLE_NOWHERE, /* a lot that is run again */
};

/* Bytes that the bundles at work may take in memory: BUNDLE_MEMORY; of a client whose ReLU backend would wait for
 * a file, a quarter of what the system has (available), at least that and at most BUNDLE_MEMORY_MOST. A server
 * has many clients, and its half is a small one. */
uint64_t bundle_memory(const struct relu_backend *b, bool client, uint64_t available);
int bundle_new(const struct schedule *s, const struct relu_backend *b, bool client,
               const struct relu_ways *ways, struct bundle **out) MUST_CHECK;
void bundle_free(struct bundle *b); /* wipes, drops a claimed file; NULL is fine */
FREE_AT(bundle_free, struct bundle)
/* Before anything is put. Its id and number stay from now on. room: bytes that it may take in memory;
 * dir: may be NULL for one that no file holds. */
int bundle_begin(struct bundle *b, enum bundle_place where, uint64_t room,
                 const struct bundle_key *k, const char *dir) MUST_CHECK;
/* All parts have been put: a file is there from now on. */
int bundle_commit(struct bundle *b) MUST_CHECK;
/* Words of the share of the input are at 0, of the results here; client. */
uint64_t bundle_results(const struct bundle *b);
/* The event's batch with the tweak that belongs to this bundle. */
struct relu_batch bundle_batch(const struct bundle *b, int32_t event);

/* A pending one of that number and id becomes usable, *found where it was there; or goes. */
int bundle_publish(const char *dir, bool client, uint64_t number, const uint8_t id[BUNDLE_ID],
                   bool *found) MUST_CHECK;
int bundle_drop_pending(const char *dir, bool client, uint64_t number,
                        const uint8_t id[BUNDLE_ID]) MUST_CHECK;
/* Client: the next one in the folder. Server: the one with b->id. Claimed (store.h) before it is
 * read. ERR_DATA: there is none. b comes from bundle_new; its forms become those of the file. room: as
 * above. dir is borrowed until it is used. */
int bundle_claim(struct bundle *b, uint64_t room, const struct bundle_key *k,
                 const char *dir) MUST_CHECK;
/* A claimed one goes back into its folder: nothing that depends on it has left. */
int bundle_unclaim(struct bundle *b) MUST_CHECK;
/* Right before the first byte that depends on it is sent: the id goes into the folder's list, for ever, and
 * the file's name goes. ERR_DATA: it was in the list. */
int bundle_use(struct bundle *b) MUST_CHECK;
/* Server: whether the folder holds one with b->id. */
int bundle_exists(const struct bundle *b, const char *dir, bool *exists) MUST_CHECK;
/* Makes the folder where it is missing and removes what was claimed and not used up. */
int bundle_folder(const char *dir) MUST_CHECK;
int bundle_count(const char *dir, bool client, int64_t *n) MUST_CHECK;
int bundle_count_pending(const char *dir, bool client, int64_t *n) MUST_CHECK;
#endif
