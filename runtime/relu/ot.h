#ifndef RUNTIME_RELU_OT_H
#define RUNTIME_RELU_OT_H
/*
 * Inside backend "ot": sizes and the layout of its states, between ot.c (online), ot_prepare.c
 * (offline) and ot_form.c (the choice of digits).
 *
 * A state is an array of 8-byte words: the sections below one after another. "Row" means n bits in
 * whole words; [..][n] of words otherwise. Leaf words of a digit of b bits have 2^(b-2) bytes, two bits
 * for each of 2^b entries; those of the lowest digit have 2^(b-3), one bit.
 */
#include "runtime/relu/relu.h"
#include "runtime/relu/party.h"

#define OT_MOST_BITS 5 /* of a digit: 64 bits a leaf word */

struct ot_size {
    size_t n, m, p;
    size_t row;   /* words of n bits */
    size_t words; /* p * n */
    size_t digits, bits[RELU_MOST_DIGITS];
    int one_shot;
    int for_link; /* a form that was chosen for one, which parts keep busy */
    size_t ands;  /* of the tree; 0 one-shot */
    size_t terms; /* of oneshot.h; 0 for a tree */
    size_t
        uses; /* random transfers down, per comparison: 2 an AND, 1 a term, 1 for the multiplexer */
    size_t extra; /* rows of either state for the tree or the terms */
};
struct ot_server {
    uint8_t *leaf[RELU_MOST_DIGITS]; /* [n] leaf words: pads */
    uint64_t *lt, *eq;               /* [digits] rows: own shares of the leaves */
    uint64_t *
        extra; /* tree: [ands][a, b, c] rows; one-shot: [terms] rows of factors, row of own share */
    uint64_t *c2;       /* row: random bits with a2 + b2 = c2 * u */
    uint64_t *a2;       /* [p][n] */
    uint64_t *diff, *a; /* [p][n]: k0 - k1 and -k0 of the transfers of the multiplexer */
};
struct ot_client {
    uint64_t *u, *r;   /* [p][n], as given */
    uint64_t *lt, *eq; /* [digits] rows: pads of the chosen entries */
    uint64_t *extra;   /* tree: as above; one-shot: [terms] rows of choices, row of own share */
    uint64_t *c;       /* row: random bits */
    uint64_t *b2;      /* [p][n] */
    uint64_t *key;     /* [p][n]: k_c of the transfers of the multiplexer */
};

/* ERR_ARG unless the batch is one that the backend can do. */
int ot_check_batch(const struct relu_batch *b) MUST_CHECK;
struct ot_size ot_size_of(const struct relu_batch *b); /* of such a batch */
size_t ot_leaf_bytes(const struct ot_size *s, size_t digit);
size_t ot_state_rows(const struct ot_size *s); /* from lt on, of either state */
size_t ot_state_words(const struct ot_size *s, int is_client);
struct ot_server ot_server_in(const struct ot_size *s, uint64_t *at);
struct ot_client ot_client_in(const struct ot_size *s, uint64_t *at);

/* Receives a word y of every term and adds the sum of all factor & y to `sum` [row]. */
int ot_receive_products(const struct ot_size *s, const uint64_t *factor, uint64_t *sum,
                        struct transport *t) MUST_CHECK;

uint64_t ot_offline_bytes(const struct relu_batch *b, int from_client);
uint64_t ot_online_bytes(const struct relu_batch *b, int from_client);
uint64_t ot_silent_rows(const struct relu_batch *b, int up);
int32_t ot_online_messages(const struct relu_batch *b);
void ot_choose(struct relu_batch *b, uint64_t bits_per_second, uint64_t rtt_ns, bool ahead);

int ot_offline_server(struct relu_party *p, const struct relu_batch *b, struct tape *state);
int ot_offline_client(struct relu_party *p, const struct relu_batch *b, const uint64_t *u,
                      const uint64_t *r, struct tape *state);
#endif
