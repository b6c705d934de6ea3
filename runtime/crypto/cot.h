#ifndef RUNTIME_CRYPTO_COT_H
#define RUNTIME_CRYPTO_COT_H
/*
 * Correlated oblivious transfers for those who use them: rows q = t ^ b * delta as in otext.h, made
 * by OT extension (31 or 32 bits sent a transfer) or by silent OT (ferret.h: a fraction of a bit, and
 * one bit to fix a choice), which callers need not tell apart. Both parties make the same calls in
 * the same order.
 *
 * Where silent OT begins a round, messages go both ways within a call (ferret.c); so nothing of this
 * party's may still have to be read for the peer to reach its call.
 */
#include "runtime/crypto/ferret.h"

struct cot_sender {
    struct otext_sender *base; /* borrowed */
    struct ferret *silent;     /* NULL: rows come from base */
};
struct cot_receiver {
    struct otext_receiver *base;
    struct ferret *silent;
};
/* set NULL: OT extension alone. id, base, rng as in ferret.h. Close what was opened. */
int cot_sender_open(struct cot_sender *s, struct otext_sender *base, const struct ferret_set *set,
                    const struct ferret_id *id, struct prg *rng) MUST_CHECK;
int cot_receiver_open(struct cot_receiver *r, struct otext_receiver *base,
                      const struct ferret_set *set, const struct ferret_id *id) MUST_CHECK;
void cot_sender_close(struct cot_sender *s); /* a zeroed one is fine */
void cot_receiver_close(struct cot_receiver *r);

/* What the receiver sends for n transfers of one call, without rounds of silent OT (ferret_bytes), and
 * for a check. */
uint64_t cot_bytes(const struct ferret_set *set, size_t n, int chosen);
uint64_t cot_check_bytes(const struct ferret_set *set);

/* Rounds of silent OT that rows take: a round trip down and one up each. */
double cot_rounds(const struct ferret_set *set, uint64_t rows);
/* Seconds that rows take, of both parties at once: computing and line overlap in OT extension, but not
 * in the rounds of silent OT. */
double cot_seconds(const struct ferret_set *set, uint64_t rows, double bits_per_second, double rtt);
/* The set of silent OT that takes the fewest seconds for so many rows. */
const struct ferret_set *cot_set(uint64_t rows, double bits_per_second, double rtt);

/* The calls of otext.h. */
int cot_send(struct cot_sender *s, struct transport *t, size_t n, int chosen,
             struct block *q) MUST_CHECK;
int cot_receive_chosen(struct cot_receiver *r, struct transport *t, size_t n, const uint64_t *bits,
                       struct block *rows) MUST_CHECK;
int cot_receive_random(struct cot_receiver *r, struct transport *t, size_t n, uint64_t *bits,
                       struct block *rows) MUST_CHECK;
/* With silent OT there is nothing left to prove: rounds are checked when they begin, and another
 * choice than the one meant is only that. */
int cot_prove(struct cot_receiver *r, struct transport *t) MUST_CHECK;
int cot_verify(struct cot_sender *s, struct transport *t) MUST_CHECK;
#endif
