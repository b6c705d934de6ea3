#ifndef RUNTIME_CRYPTO_OTEXT_H
#define RUNTIME_CRYPTO_OTEXT_H
/*
 * OT extension: after one set-up, any number of correlated oblivious transfers at 4 bytes each.
 *
 * The sender holds delta (128 bits, the lowest is 1, fixed for its life). For transfer k with the
 * receiver's bit b_k the parties get rows of 128 bits
 *
 *     q_k = t_k ^ b_k * delta        sender: q_k       receiver: t_k
 *
 * so the sender's q_k and q_k ^ delta are two labels of which the receiver holds the one that b_k
 * chooses, and hashes of them are two random keys. Bits are either given by the receiver (32 bits sent
 * a transfer) or come out at random (31 bits).
 *
 * Both parties must make the same calls in the same order. After the transfers of a batch the receiver
 * proves that it used one b throughout, and the sender verifies that BEFORE anything that depends on its
 * rows leaves it: a receiver that deviates reads delta off what is sent otherwise. After a failed check,
 * ERR_PEER, the instance is dead and the connection must end.
 */
#include "runtime/crypto/prg.h"
#include "runtime/net/transport.h"

struct otext_sender;
struct otext_receiver;
/* Set-up, one party each. The sender of the extension receives base OTs. */
int otext_sender_new(struct transport *t, struct prg *rng, struct otext_sender **out) MUST_CHECK;
int otext_receiver_new(struct transport *t, struct prg *rng,
                       struct otext_receiver **out) MUST_CHECK;
void otext_sender_free(struct otext_sender *s); /* wipes; NULL is fine */
FREE_AT(otext_sender_free, struct otext_sender)
void otext_receiver_free(struct otext_receiver *r);
FREE_AT(otext_receiver_free, struct otext_receiver)
/* What one party sends in set-up. */
uint64_t otext_setup_bytes(int from_sender);
struct block otext_delta(const struct otext_sender *s);

/* What the receiver sends for n transfers in one call; the sender sends nothing. */
uint64_t otext_bytes(size_t n, int chosen);
/* q [n], written; not verified yet. */
int otext_send(struct otext_sender *s, struct transport *t, size_t n, int chosen,
               struct block *q) MUST_CHECK;
/* The second half of otext_send for a message [otext_bytes] that the caller has received. Together
 * with other calls that makes one message of the receiver, n is a multiple of 8. */
int otext_expand(struct otext_sender *s, const uint8_t *message, size_t n, int chosen,
                 struct block *q) MUST_CHECK;
/* t_k into rows [n]. bits [n/64 rounded up]: bit k%64 of word k/64 is b_k. */
int otext_receive_chosen(struct otext_receiver *r, struct transport *t, size_t n,
                         const uint64_t *bits, struct block *rows) MUST_CHECK;
/* The same with bits drawn here; bits above n become 0. */
int otext_receive_random(struct otext_receiver *r, struct transport *t, size_t n, uint64_t *bits,
                         struct block *rows) MUST_CHECK;

/* Check of all transfers since the one before: one message of the receiver. */
#define OTEXT_CHECK 528
int otext_prove(struct otext_receiver *r, struct transport *t) MUST_CHECK;
int otext_verify(struct otext_sender *s, struct transport *t) MUST_CHECK;
/* The second half of otext_verify, for a message that the caller has received. */
int otext_verify_message(struct otext_sender *s, const uint8_t message[OTEXT_CHECK]) MUST_CHECK;
#endif
