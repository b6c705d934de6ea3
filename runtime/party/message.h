#ifndef RUNTIME_PARTY_MESSAGE_H
#define RUNTIME_PARTY_MESSAGE_H
/*
 * The fixed messages of a connection, between bytes and structs. Integers are little-endian.
 *
 * Hello, 80 bytes each way, client first:
 *     0 "linnetPI"  8 u16 version  10 u8 role (0 client, 1 server)  11 u8 ring bits
 *    12 u8 code of the linear backend  13 u8 code of the ReLU backend (client: 0)
 *    14 u8 answer (1 logits, 2 label; client: 0)  15 u8 flags  16 identity of the package (32)
 *    48 u8 status (server: 0 accepted, else enum refusal)  49 zeros (15)  64 nonce (16)
 * Ways, 32 bytes each way where the hello was accepted, client first:
 *     client  0 u64 images that it will ask for, 0: unknown  8 zeros
 *     server  0 set of silent OT for the transfers that it sends, 8 of those that the client sends: 8
 *             characters of its name and zeros, all zeros: none  16 u64 bits per second, 24 u64 round trip in
 *             ns, of the link that forms of batches are chosen for, 0: default forms
 * Request, 32 bytes:
 *     0 u8 kind  1 zeros (3)  4 u32 images of a lot, or of a batch (0: one)  8 u64 number of the first
 *    16 id of its bundle (16)
 * Answer, 8 bytes: 0 u8 status (0: go on), zeros; to a round: 1 u8 lots, 2 u8 of them to be opened, 3 u8
 *             images of each.
 */
#include <stdbool.h>
#include <stdint.h>

#include "runtime/party/bundle.h"

#define HELLO_BYTES 80
#define HELLO_NONCE 16
#define WAYS_BYTES 40
#define WAYS_NAME 8
#define REQUEST_BYTES 32
#define ANSWER_BYTES 8

enum refusal { /* 0: go on */
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
               REFUSED_BUSY,
               REFUSED_SPENT,
               REFUSED_BANNED,
               REFUSED_OWES,
               REFUSALS
};
/* "another model.pi": what the side that is refused has. */
const char *refusal_text(uint8_t why);

enum {
    HELLO_SEED = 1,
    HELLO_LINK = 2,
    HELLO_TALLY = 4,
    HELLO_COVERT = 8                        /* server alone */
};                                          /* flags: test seed, emulated link, tally, covert.h */
enum { HELLO_LOGITS = 1, HELLO_LABEL = 2 }; /* answers */
struct hello {
    bool magic,
        zeros; /* of one that was read: whether they are there; zeros depend on the version */
    uint16_t version;
    uint8_t server, ring, linear, relu, answer, flags, status;
    uint8_t model[32], nonce[HELLO_NONCE];
};
void hello_write(const struct hello *h, uint8_t bytes[HELLO_BYTES]);
void hello_read(const uint8_t bytes[HELLO_BYTES], struct hello *out);
/* What the other side's hello is refused for. */
enum refusal hello_compare(const struct hello *mine, const struct hello *theirs);

void wish_write(const struct relu_wish *w, uint8_t bytes[WAYS_BYTES]);
int wish_read(const uint8_t bytes[WAYS_BYTES], struct relu_wish *out) MUST_CHECK;
void ways_write(const struct relu_ways *w, uint8_t bytes[WAYS_BYTES]);
/* ERR_PEER for a set that is not there or was withdrawn, and for a link that cannot be. */
int ways_read(const uint8_t bytes[WAYS_BYTES], struct relu_ways *out) MUST_CHECK;

enum request_kind {
    REQUEST_QUERY = 1,
    REQUEST_PREPARE,
    REQUEST_BUNDLE,
    REQUEST_BYE,
    REQUEST_ROUND, /* of preparations, covert.h; id: of its first bundle */
    REQUEST_OPEN   /* the rest of a round of another connection */
};
struct request {
    bool well_formed;
    uint8_t kind;
    uint32_t images;
    uint64_t number;
    uint8_t id[BUNDLE_ID];
};
void request_write(const struct request *r, uint8_t bytes[REQUEST_BYTES]);
void request_read(const uint8_t bytes[REQUEST_BYTES], struct request *out);

/* Id of image i of a lot: that of the first, its last four bytes as a number plus i. */
void lot_id(const uint8_t first[BUNDLE_ID], uint32_t i, uint8_t out[BUNDLE_ID]);
#endif
