#ifndef RUNTIME_CRYPTO_FERRET_H
#define RUNTIME_CRYPTO_FERRET_H
/*
 * Silent OT extension: random correlated oblivious transfers at a fraction of a bit each, out of a
 * few that OT extension (otext.h) gives, under the assumption that learning parity with noise is
 * hard (K. Yang et al., "Ferret: Fast Extension for Correlated OT with Small Communication", CCS
 * 2020, with regular noise and the correlated trees of cggm.h).
 *
 * Rows as in otext.h, q = t ^ b * delta, with one thing more: the lowest bit of the sender's row is 0
 * and that of the receiver's row is the choice bit b, which comes out at random.
 *
 * Rows come in an order that does not depend on how many a call takes. Both parties take the same
 * number in the same order.
 */
#include "runtime/crypto/otext.h"

/* LPN with regular noise: k secret bits, `trees` blocks of 2^depth rows with one error each. */
struct ferret_set {
    const char *name;
    int32_t k, trees, depth; /* k a power of 2 */
    const char *source;      /* of the numbers, with its date */
    double bits;             /* the least of the estimates beside the table */
    const char *withdrawn;   /* why it must not be used; NULL: it may */
    double row_ns;           /* a row takes so long, both parties on two cores; grows with k */
};
#define FERRET_SETS 4 /* that may be used, the one with the smallest rounds first */
const struct ferret_set *ferret_set(int i);
/* ERR_ARG for a name that is not there or was withdrawn. */
int ferret_set_find(const char *name, const struct ferret_set **out) MUST_CHECK;
/* How many rows of an instance a round of the set gives, not counting those for the next one. */
uint64_t ferret_round_rows(const struct ferret_set *set);

/* What one party sends for the first `rows` rows of an instance, base transfers included. */
uint64_t ferret_bytes(const struct ferret_set *set, uint64_t rows, int from_sender);

#define FERRET_SID 32
struct ferret_id { /* what makes an instance unlike all others; public, the same on both sides */
    uint8_t sid[FERRET_SID];
    uint64_t instance;
};
struct ferret;
/* All borrowed until ferret_free. rng: for seeds of trees. */
int ferret_sender_new(const struct ferret_id *id, const struct ferret_set *set,
                      struct otext_sender *base, struct prg *rng, struct ferret **out) MUST_CHECK;
int ferret_receiver_new(const struct ferret_id *id, const struct ferret_set *set,
                        struct otext_receiver *base, struct ferret **out) MUST_CHECK;
void ferret_free(struct ferret *); /* wipes; NULL is fine */
FREE_AT(ferret_free, struct ferret)
/* The next n rows. ERR_PEER where the sender's trees do not agree with what the receiver holds; no
 * row of a round is handed out before that is known. */
int ferret_rows(struct ferret *f, struct transport *t, size_t n, struct block *rows) MUST_CHECK;
#endif
