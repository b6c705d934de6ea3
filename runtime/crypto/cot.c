/*
 * Correlated transfers from either extension (cot.h). Silent rows have choices b' in the lowest bit of
 * t; to make them b the receiver sends b ^ b', and the sender adds delta to q where that is 1. Message:
 * packed bits of one call.
 */
#include "runtime/crypto/cot.h"

#include "runtime/ring/bits.h"

#define PIECE ((size_t)8192) /* bits in flight */
#define EXTENSION_ROW 6e-9   /* seconds a row, one thread a party, Sapphire Rapids */
#define ROUND 5e-3           /* of silent OT, in which the parties wait for each other */
#define LEAF 3e-9 /* growing and checking one leaf of a round, also of one that nobody takes */

int cot_sender_open(struct cot_sender *s, struct otext_sender *base, const struct ferret_set *set,
                    const struct ferret_id *id, struct prg *rng)
{
    *s = (struct cot_sender){.base = base};
    return set == NULL ? 0 : ferret_sender_new(id, set, base, rng, &s->silent);
}

int cot_receiver_open(struct cot_receiver *r, struct otext_receiver *base,
                      const struct ferret_set *set, const struct ferret_id *id)
{
    *r = (struct cot_receiver){.base = base};
    return set == NULL ? 0 : ferret_receiver_new(id, set, base, &r->silent);
}

void cot_sender_close(struct cot_sender *s)
{
    ferret_free(s->silent);
    *s = (struct cot_sender){0};
}

void cot_receiver_close(struct cot_receiver *r)
{
    ferret_free(r->silent);
    *r = (struct cot_receiver){0};
}

uint64_t cot_bytes(const struct ferret_set *set, size_t n, int chosen)
{
    if (set == NULL)
        return otext_bytes(n, chosen);
    return chosen ? bits_packed_size(1, n) : 0;
}

uint64_t cot_check_bytes(const struct ferret_set *set)
{
    return set == NULL ? OTEXT_CHECK : 0;
}

double cot_rounds(const struct ferret_set *set, uint64_t rows)
{
    return 1 + (double)(rows / ferret_round_rows(set));
}

double cot_seconds(const struct ferret_set *set, uint64_t rows, double bits_per_second, double rtt)
{
    double sent, computed, rounds;

    if (set == NULL) {
        sent = 8 * (double)otext_bytes(rows, 0) / bits_per_second;
        computed = (double)rows * EXTENSION_ROW;
        return sent > computed ? sent : computed;
    }
    rounds = cot_rounds(set, rows);
    sent = 8 * (double)(ferret_bytes(set, rows, 0) + ferret_bytes(set, rows, 1)) / bits_per_second;
    computed =
        (double)rows * (1e-9 * set->row_ns - LEAF) + rounds * (double)ferret_round_rows(set) * LEAF;
    return sent + computed + (2 * rtt + ROUND) * rounds;
}

const struct ferret_set *cot_set(uint64_t rows, double bits_per_second, double rtt)
{
    const struct ferret_set *best = ferret_set(0);

    for (int i = 1; i < FERRET_SETS; i++)
        if (cot_seconds(ferret_set(i), rows, bits_per_second, rtt) <
            cot_seconds(best, rows, bits_per_second, rtt))
            best = ferret_set(i);
    return best;
}

/* Where a row's bit is to be another one, the sender's label for 0 is the other one. */
static int take_fixes(struct transport *t, size_t n, struct block delta, struct block *q)
{
    uint64_t fix[PIECE / 64];

    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        TRY(transport_recv(t, fix, bits_packed_size(1, piece)));
        for (size_t k = 0; k < piece; k++)
            block_add(&q[at + k], delta, bits_mask(fix, k));
    }
    return 0;
}

static int give_fixes(struct transport *t, size_t n, const uint64_t *bits, const struct block *rows)
{
    uint64_t fix[PIECE / 64];

    for (size_t at = 0; at < n; at += PIECE) {
        size_t piece = n - at < PIECE ? n - at : PIECE;

        bits_lowest(fix, rows + at, piece);
        for (size_t k = 0; k < bits_words(piece); k++)
            fix[k] ^= bits[at / 64 + k];
        if (piece % 64 != 0)
            fix[piece / 64] &= ((uint64_t)1 << piece % 64) - 1;
        TRY(transport_send(t, fix, bits_packed_size(1, piece)));
    }
    return 0;
}

int cot_send(struct cot_sender *s, struct transport *t, size_t n, int chosen, struct block *q)
{
    if (s->silent == NULL)
        return otext_send(s->base, t, n, chosen, q);
    TRY(ferret_rows(s->silent, t, n, q));
    return chosen ? take_fixes(t, n, otext_delta(s->base), q) : 0;
}

int cot_receive_chosen(struct cot_receiver *r, struct transport *t, size_t n, const uint64_t *bits,
                       struct block *rows)
{
    if (r->silent == NULL)
        return otext_receive_chosen(r->base, t, n, bits, rows);
    TRY(ferret_rows(r->silent, t, n, rows));
    return give_fixes(t, n, bits, rows);
}

int cot_receive_random(struct cot_receiver *r, struct transport *t, size_t n, uint64_t *bits,
                       struct block *rows)
{
    if (r->silent == NULL)
        return otext_receive_random(r->base, t, n, bits, rows);
    TRY(ferret_rows(r->silent, t, n, rows));
    bits_lowest(bits, rows, n);
    return 0;
}

int cot_prove(struct cot_receiver *r, struct transport *t)
{
    return r->silent == NULL ? otext_prove(r->base, t) : 0;
}

int cot_verify(struct cot_sender *s, struct transport *t)
{
    return s->silent == NULL ? otext_verify(s->base, t) : 0;
}
